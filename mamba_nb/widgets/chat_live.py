"""The conversation behind a `ChatView`: turns, the run that is under way, and what of it is shown when.

Handlers and verbs change the list of turns under the lock; the I/O loop writes into the live turn; the painter's thread
reads it ten times a second. What grows travels as deltas, all else as the whole state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mamba_nb._bridge import Run
from mamba_nb.display.text import count, one_line, storable, visible
from mamba_nb.errors import BadInput
from mamba_nb.records import Generation, Message, Request, text_of
from mamba_nb.widgets import _painter
from mamba_nb.widgets._base import MambaWidget, script, sheet
from mamba_nb.widgets.chat_asking import Answerer
from mamba_nb.widgets.chat_copy import copy_html
from mamba_nb.widgets.chat_messages import calls_of, cut
from mamba_nb.widgets.chat_turns import Turn

__all__ = ["LiveChat", "prompt_text", "turns_text"]

MOST_UNDO = 20


class LiveChat(MambaWidget):
    """A conversation that is shown while it grows.

    Args:
        answerer: A backend, an Agent, or a model's name.
        system: The system prompt, or None.
        messages: The conversation to go on with.
        params: Request parameters for every question.
    """

    _esm = script("chat")
    _css = sheet("chat")

    def __init__(
        self, answerer: Any, system: str | None, messages: Sequence[Message] | None, params: Mapping[str, Any]
    ) -> None:
        self._answerer = Answerer(answerer, params)
        found, given = cut(messages)
        if system is not None and not isinstance(system, str):
            raise BadInput(f"system must be text; this is {type(system).__name__}.")
        self._system = prompt_text(system if system is not None else found)
        self._numbers = 0
        self._turns: list[Turn] = []
        self._undo: list[tuple[str, list[Turn]]] = []
        self._live: Turn | None = None
        self._run: Run[Any, Any] | None = None
        self._asking: Run[Any, Any] | None = None
        self._learning: Run[Any, Any] | None = None
        self._turns = [self._given(each) for each in given]
        self._shape: tuple[int, ...] = ()
        self._closed = False
        super().__init__(run=str(time.time_ns()), error=None, heard=None, **self._shown())
        self._learn()

    def stop(self) -> None:
        """Stop the answer under way; what has come stays."""
        run = self._run
        if run is not None:
            run.cancel()

    def close(self) -> None:
        """Stop what is under way and take the widget away; a backend made from a name is closed."""
        if hasattr(self, "_closed") and not self._closed:  # a constructor that refused has not come so far
            self._closed = True
            self.stop()
            answerer = self._answerer
            if self._learning is not None:
                self._learning.cancel()
            if answerer.name is not None and answerer.backend is not None and not answerer.backend.closed:
                Run(lambda _run: answerer.close(), name="close chat")
        super().close()

    def _stop_all(self) -> None:
        self.stop()

    # the turns

    def _given(self, messages: Sequence[Message]) -> Turn:
        """A turn of the conversation that was given."""
        asked = messages[0] if messages[0]["role"] == "user" else None
        turn = self._new(None if asked is None else asked["content"])
        text = "\n\n".join(
            text for message in messages if message["role"] == "assistant" and (text := text_of(message.get("content")))
        )
        step = turn.steps[0]
        model = self._answerer.model
        step.end(Generation(request=Request(model=model, messages=()), base_url="", server="", model=model, text=text))
        step.calls, step.given = calls_of(messages), True
        turn.messages = list(messages) if len(messages) > 1 or asked is None else []
        turn.status = "done"
        return turn

    def _new(self, content: str | Sequence[Any] | None) -> Turn:
        self._numbers += 1
        label = visible(self._answerer.model)
        return Turn(
            self._numbers, content, label=label, model=self._answerer.model, server=visible(self._answerer.server)
        )

    def _place(self, number: Any) -> int:
        for place, turn in enumerate(self._turns):
            if turn.number == number and turn.content is not None:
                return place
        raise BadInput("This question is no longer part of the conversation.")

    def _edit(self, place: int, text: str) -> Run[Any, Any]:
        was = self._turns[place].content
        content: str | list[Any] = text
        if not isinstance(was, str) and isinstance(text, str) and text.strip():
            images = [part for part in was or () if not (isinstance(part, dict) and part.get("type") == "text")]
            content = [{"type": "text", "text": text}, *images]
        return self._ask(place, content, f"bring back {turns_text(len(self._turns) - place)}")

    def _ask(self, place: int, content: Any, undo: str | None = None) -> Run[Any, Any]:
        """Put a question at a place of the conversation; what stands there and after it goes."""
        _, cut_turns = cut([{"role": "user", "content": _stored(content)}])
        asked = cut_turns[0][0]["content"]
        if not text_of(asked).strip() and isinstance(asked, str):
            raise BadInput("The question is empty.")
        with self._lock:
            if self._live is not None and not self._live.ended:
                raise BadInput("An answer is under way.", hint="Stop it first: chat.stop().")
            if undo is not None:
                self._keep(undo)
            earlier = self._turns[:place]
            turn = self._live = self._new(asked)
            self._turns = [*earlier, turn]
            self._asking = None
            system = self._system

            async def work(run: Run[Any, Any]) -> Any:
                return await self._answerer.answer(turn, earlier, system, run.emit, self._on_run)

            self._run = Run(
                work,
                name=f"chat {one_line(self._answerer.model, 60)}",
                partial=lambda: turn.generations[-1] if turn.generations else None,
            )
            self._sync(error=None)
            _painter.painter.add(self._painting(turn, self._run))
            return self._run

    def _on_run(self, run: Run[Any, Any]) -> None:
        self._asking = run

    def _keep(self, undo: str) -> None:
        self._undo = [*self._undo, (undo, self._turns)][-MOST_UNDO:]

    # what is shown

    def show(self, **changes: Any) -> None:
        """Change what is shown; the panels go with it, since the deltas count from them."""
        with self._lock:
            self._shape = tuple(len(turn.steps) for turn in self._turns)
            super().show(**{**self._shown(), "n": self.state["n"] + 1, **changes})

    def _sync(self, **changes: Any) -> None:
        self.show(**changes)

    def _shown(self) -> dict[str, Any]:
        panels = [shown for turn in self._turns for shown in turn.snapshot()]
        answerer = self._answerer
        last = self._turns[-1] if self._turns else None
        return {
            "panels": panels,
            "running": last is not None and not last.ended,
            "again": _again(last),
            "chat": {
                "label": visible(answerer.model),
                "server": visible(answerer.server),
                "tools": answerer.tools,
                "agent": answerer.agent is not None,
            },
            "system": self._system or "",
            "undo": self._undo[-1][0] if self._undo else None,
            "used": self._used(),
        }

    def _used(self) -> dict[str, Any]:
        """Tokens of the conversation in the context in force."""
        window = self._answerer.window
        replies = [generation for turn in self._turns for generation in turn.generations]
        usage = replies[-1].usage if replies else None
        known = [n for n in (usage.prompt_tokens, usage.completion_tokens) if n is not None] if usage else []
        used = sum(known) if usage is not None and usage.prompt_tokens is not None else None
        return {
            "used": None if used is None else count(used),
            "window": None if window is None else count(window),
            "why": "no answer yet" if not replies else "the server did not count the tokens of the last answer",
            "share": None if used is None or not window else min(1.0, used / window),
        }

    def _painting(self, turn: Turn, run: Run[Any, Any]) -> Callable[[], bool]:
        """What the painter calls ten times a second until this turn has ended."""

        def paint() -> bool:
            with self._lock:
                if run.done() and not turn.ended and run.cancelled():
                    turn.stopped(None, self._answerer.server)  # cancelled before its work began
                if self._live is not turn:
                    return False  # undone, or cleared
                if turn.ended:
                    self._live = None
                    self._sync()
                else:
                    self._paint(turn)
                    return True
            self._fold()
            self._learn()
            return False

        return paint

    def _paint(self, turn: Turn) -> None:
        if self._asking is not None:
            turn.steps[-1].say(self._asking.state)
        if tuple(len(each.steps) for each in self._turns) != self._shape or any(step.due for step in turn.steps):
            self._sync()
            return
        first = sum(len(each.snapshot()) for each in self._turns[:-1])
        if change := turn.delta():
            n = self.state["n"] + 1
            panels = {str(first + place): each for place, each in change.items()}
            # In place, so that it is not sent: whoever asks for the state in mid-stream goes on from here.
            self.state.update(n=n, panels=[told for each in self._turns for told in each.told()])
            MambaWidget.send(self, {"kind": "delta", "n": n, "run": self.state["run"], "panels": panels})

    def _learn(self) -> None:
        """Find out how much context is in force, in the background."""

        async def learn(_run: Run[Any, Any]) -> None:
            before = self._answerer.window, self._answerer.server
            await self._answerer.learn()
            if (self._answerer.window, self._answerer.server) != before:
                _painter.painter.add(self._paint_once)

        if self._answerer.backend is not None and not self._closed:
            self._learning = Run(learn, name=f"context of {one_line(self._answerer.model, 60)}")

    def _paint_once(self) -> bool:
        self._sync()
        return False

    def _fold(self) -> None:
        with self._lock:
            turns, system = list(self._turns), self._system
        self.fold(
            copy_html(turns, system) if turns else "", "The conversation as plain HTML, for readers without a kernel"
        )


def _again(turn: Turn | None) -> str | None:
    """What the button says that puts the last question again; None where there is none."""
    if turn is None or not turn.ended or turn.content is None:
        return None
    return "Retry" if turn.status == "failed" else "Ask again"


def turns_text(turns: int) -> str:
    """So many turns, in words."""
    return "1 question and its answer" if turns == 1 else f"{count(turns)} questions and their answers"


def prompt_text(system: str | None) -> str | None:
    """A system prompt as it is kept: one of blanks alone is none."""
    return storable(system) if system and system.strip() else None


def _stored(content: Any) -> Any:
    """The text with what no file can store replaced, so that it can be sent."""
    if isinstance(content, str):
        return storable(content)
    if isinstance(content, Sequence) and not isinstance(content, bytes):
        return [storable(part) if isinstance(part, str) else part for part in content]
    return content
