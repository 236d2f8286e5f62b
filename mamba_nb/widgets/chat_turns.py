"""The turns of a chat: a question, and the answer to it in one step or, of an agent, in several.

In: events of a Run, on the thread that reads them. Out: JSON for the front end (a snapshot, then what is new), and the
turn's part of the conversation in OpenAI's form. A turn that came to no text is left out of that: it is not sent
again, since many chat templates refuse two questions in a row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mamba_nb._agent.conversation import STOPPED, closed
from mamba_nb.agent import AgentResult, StepStarted, ToolCalled, ToolReturned
from mamba_nb.display.text import storable, visible
from mamba_nb.errors import MambaError
from mamba_nb.records import Generation, Message, Request, Status, text_of
from mamba_nb.widgets._base import told
from mamba_nb.widgets.chat_step import Step

__all__ = ["Turn"]


class Turn:
    """A question and its answer.

    Args:
        number: What tells it from all others of this chat.
        content: The question: text, or a list of OpenAI's content parts; None for what was said before any question.
        label: The model's name for reading.
        model: Its name on the wire.
        server: The kind of server.

    Attributes:
        status: `running`, then `done`, `failed` or `stopped`.
        generations: The model's replies, once the turn has ended.
        messages: What it adds to the conversation; empty where it came to nothing.
        history: The same as pydantic-ai's messages, where an agent answered; None where they are not known.
    """

    def __init__(
        self, number: int, content: str | Sequence[Any] | None, *, label: str, model: str, server: str = ""
    ) -> None:
        self.number = number
        self.content = content
        self.status: Status | str = "running"
        self.generations: tuple[Generation, ...] = ()
        self.messages: list[Message] = []
        self.history: list[Any] | None = None
        self._about = (label, model, server)
        self.steps: list[Step] = []
        self.begin_step()
        self._kept: list[dict[str, Any]] | None = None

    @property
    def ended(self) -> bool:
        """Whether the answer has ended."""
        return self.status != "running"

    @property
    def question(self) -> Message | None:
        """The question as a message."""
        return None if self.content is None else {"role": "user", "content": self.content}

    # what the Run's reader calls

    def feed(self, event: Any) -> None:
        """Take in one event of a backend's answer, or of an agent's run."""
        if isinstance(event, StepStarted):
            if event.step > len(self.steps):
                self.begin_step()
        elif isinstance(event, ToolCalled):
            self._step_of(event.step).call(event)
        elif isinstance(event, ToolReturned):
            self._step_of(event.step).returned(event)
        else:
            self.steps[-1].answer.feed(event)

    def begin_step(self) -> None:
        """Another request went out."""
        self.steps.append(Step(*self._about, turn=self.number, step=len(self.steps) + 1))

    def close_steps(self, generations: Sequence[Generation], server: str = "") -> None:
        """The replies that have ended: their figures are known now."""
        for step, generation in zip(self.steps, generations, strict=False):
            # An agent's events have left out what is not for the reader: the JSON of a call that came as text.
            step.end(replace(generation, text=step.text, tool_calls=()), server)

    def done(self, result: Generation | AgentResult[Any], server: str = "") -> None:
        """The answer is whole."""
        if isinstance(result, Generation):
            self.generations = (result,)
            self.steps[-1].end(result, server)
            self.steps[-1].empty = _why_empty(result)
            self.messages = self._said(result.text)
            self.status = "done"
            return
        self.generations, self.history = result.generations, list(result.new_messages)
        text = output_text(result.output)
        last = self.steps[-1]
        if last.text != text:  # structured output, or a reply that was read out of its JSON
            last.answer.text = [text]
        self.close_steps(result.generations, server)
        if not text.strip() and result.generations:
            last.empty = _why_empty(replace(result.generations[-1], text=text, tool_calls=()))
        self.messages = self._said(text, self._between(result.generations))
        self.status = "done"

    def failed(self, error: BaseException, partial: Any = None, server: str = "") -> None:
        """It broke off."""
        self._put_down(partial, "failed", server, error)
        said = told(error) if isinstance(error, MambaError) else _plain(f"{type(error).__name__}: {error}")
        self.steps[-1].error = {name: None if text is None else visible(text) for name, text in said.items()}
        self.status = "failed"

    def stopped(self, partial: Any = None, server: str = "") -> None:
        """It was stopped; what had come stays, and goes on being part of the conversation."""
        self._put_down(partial, "stopped", server)
        text = self.steps[-1].text
        if isinstance(partial, AgentResult) and partial.generations:  # calls that returned stay known to the model
            self.history = closed(partial.new_messages, text)
            text = text if text.strip() else STOPPED
        self.messages = self._said(text, self._between(self.generations))
        self.status = "stopped"

    # what the front end gets

    def snapshot(self) -> list[dict[str, Any]]:
        """The question, then the steps of its answer."""
        if self._kept is not None:
            return self._kept
        whole = [] if self.content is None else [self._question_shown()]
        whole += [step.snapshot() for step in self.steps]
        if self.ended:
            self._kept = whole
        return whole

    def delta(self) -> dict[int, dict[str, Any]]:
        """Place in the snapshot -> what is new there."""
        first = 0 if self.content is None else 1
        return {first + index: change for index, step in enumerate(self.steps) if (change := step.delta())}

    def told(self) -> list[dict[str, Any]]:
        """What snapshots and deltas have said so far."""
        if self._kept is not None:
            return self._kept
        return [*([] if self.content is None else [self._question_shown()]), *(step.told() for step in self.steps)]

    def _question_shown(self) -> dict[str, Any]:
        images = 0
        if not isinstance(self.content, str):
            images = sum(isinstance(part, Mapping) and part.get("type") != "text" for part in self.content or ())
        text = text_of(self.content)
        asked = {"kind": "question", "turn": self.number, "text": visible(text), "images": images}
        return asked if asked["text"] == text else {**asked, "raw": storable(text)}

    # within

    def _step_of(self, number: int) -> Step:
        return self.steps[min(number, len(self.steps)) - 1]

    def _put_down(self, partial: Any, status: Status, server: str, error: BaseException | None = None) -> None:
        """What had come until it ended before its time."""
        if isinstance(partial, AgentResult):
            self.generations = partial.generations
            self.close_steps(partial.generations, server)
        elif isinstance(partial, Generation):
            self.generations = (replace(partial, status=status),)
            self.steps[-1].end(replace(partial, status=status), server)
        last = self.steps[-1]
        last.end_calls(status)
        if not last.ended:
            _, model, kind = self._about
            asked = (self.question,) if self.question is not None else ()
            generation = Generation(
                request=Request(model=model, messages=asked),
                base_url="",
                server=server or kind,
                model=model,
                text=last.text,
                status=status,
                error=None if error is None else str(error),
                error_type=None if error is None else type(error).__name__,
            )
            last.end(generation, server)
            if not self.generations:
                self.generations = (generation,)

    def _said(self, text: str, between: Sequence[Message] = ()) -> list[Message]:
        """What this turn adds to the conversation."""
        if not text.strip():
            return []
        asked = [self.question] if self.question is not None else []
        return [*asked, *between, {"role": "assistant", "content": text}]

    @staticmethod
    def _between(generations: Sequence[Generation]) -> list[Message]:
        """An agent's calls and their results, as they were sent with the last request."""
        if len(generations) < 2:
            return []
        first, last = (_without_system(each.request.messages) for each in (generations[0], generations[-1]))
        return [dict(message) for message in last[len(first) :]]


def output_text(output: Any) -> str:
    """An agent's output as text: what is no text as a block of JSON."""
    if isinstance(output, str):
        return output
    dump = getattr(output, "model_dump_json", None)
    try:
        text = dump(indent=2) if dump is not None else json.dumps(output, indent=2, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        text = repr(output)
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}json\n{text}\n{fence}"


def _without_system(messages: Sequence[Message]) -> list[Message]:
    return [message for message in messages if message.get("role") not in ("system", "developer")]


def _why_empty(generation: Generation) -> str | None:
    """What to say of an answer without text; None where there is text."""
    if generation.text.strip():
        return None
    if generation.tool_calls:
        return "The model called a tool, and nothing here runs it. An Agent with tools= does."
    if generation.finish_reason == "length":
        return "No visible text came before the token limit. Raise max_tokens, or the model's context."
    if generation.reasoning:
        return "Only reasoning came, and no visible text."
    return "The answer is empty: the model ended without a word."


def _plain(message: str) -> dict[str, str | None]:
    return {"message": message, "hint": None, "says": None}
