"""A small chat with one model or one agent.

    chat = ChatView("ollama/llama3.2", system="Be brief.")
    chat                                   # shown under the cell
    chat.send("Why is the sky blue?")      # the same from code; a Run
    chat.messages                          # the conversation, in OpenAI's form

The conversation lives in the kernel: whatever shows the widget, now or after a reload, shows it whole. One answer is
under way at a time. Editing an earlier question takes away what came after it, and can be undone.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mamba_nb._bridge import Run
from mamba_nb.display.text import count, one_line, storable, visible
from mamba_nb.errors import BadInput, MambaError
from mamba_nb.records import Generation, Message
from mamba_nb.widgets._base import MambaWidget, told
from mamba_nb.widgets.chat_code import as_code
from mamba_nb.widgets.chat_live import LiveChat, prompt_text, turns_text

if TYPE_CHECKING:
    from mamba_nb.agent import Agent
    from mamba_nb.backends.backend import OpenAICompatibleBackend

__all__ = ["ChatView"]


class ChatView(LiveChat):
    """A chat with one backend or one agent.

        ChatView(backend)
        ChatView(Agent("qwen3:8b", tools=[get_weather]), system="Answer in French.")
        ChatView("ollama/llama3.2", temperature=0.2, messages=earlier.messages)

    Args:
        answerer: A backend, an Agent, or a model's name as `compare` takes it.
        system: The system prompt, which can be changed in the widget; None and the first of `messages` is one: that
            one. An agent gets it besides its own instructions.
        messages: The conversation to go on with, in OpenAI's form.
        **params: Request parameters for every question (`temperature`, `max_tokens`, ...).

    Raises:
        BadInput: If an argument is wrong; nothing has been sent then.
    """

    def __init__(
        self,
        answerer: OpenAICompatibleBackend | Agent[Any] | str,
        *,
        system: str | None = None,
        messages: Sequence[Message] | None = None,
        **params: Any,
    ) -> None:
        super().__init__(answerer, system, messages, params)

    # from code

    def send(self, text: str | Sequence[Any]) -> Run[Any, Any]:
        """Put a question, as if it had been typed.

        Args:
            text: The question; or a list that mixes text with images, as for `backend.ask`.

        Returns:
            A Run of the answer's events whose result is the Generation, or the agent's AgentResult.

        Raises:
            BadInput: If it is empty, or an answer is under way.
        """
        return self._ask(len(self._turns), text)

    def edit(self, number: int, text: str) -> Run[Any, Any]:
        """Put an earlier question in other words; what came after it goes, until `undo()`.

        Args:
            number: Which question of the conversation, from 1.
            text: The new words; images of the question stay.

        Raises:
            BadInput: If there is no such question, the text is empty, or an answer is under way.
        """
        asked = [place for place, turn in enumerate(self._turns) if turn.content is not None]
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= len(asked):
            raise BadInput(f"There is no question {number!r}; this chat has {count(len(asked))}.")
        return self._edit(asked[number - 1], text)

    def retry(self) -> Run[Any, Any]:
        """Put the last question again; the answer that it had goes, until `undo()`.

        Raises:
            BadInput: If there is no question, or an answer is under way.
        """
        if not self._turns or self._turns[-1].content is None:
            raise BadInput("There is no question to put again.")
        last = len(self._turns) - 1
        return self._ask(last, self._turns[last].content, "bring back the other answer")

    def undo(self) -> None:
        """Bring back what the last edit, retry or `clear` took away; an answer under way is stopped."""
        with self._lock:
            if not self._undo:
                return
            self.stop()
            self._live = None
            _, self._turns = self._undo.pop()
            self._sync()
        self._fold()

    def clear(self) -> None:
        """Start over with an empty conversation, until `undo()`; an answer under way is stopped."""
        with self._lock:
            if not self._turns:
                return
            self.stop()
            self._live = None
            self._keep(f"bring back {turns_text(len(self._turns))}")
            self._turns = []
            self._sync()
        self._fold()

    @property
    def backend(self) -> OpenAICompatibleBackend | None:
        """Who is asked; None for the embedded model by name before the first question."""
        return self._answerer.backend

    @property
    def system(self) -> str | None:
        """The system prompt, or None; it may be set, and holds from the next question on."""
        return self._system

    @system.setter
    def system(self, text: str | None) -> None:
        if text is not None and not isinstance(text, str):
            raise BadInput(f"system must be text; this is {type(text).__name__}.")
        with self._lock:
            self._system = prompt_text(text)
            self._sync()

    @property
    def generations(self) -> tuple[Generation, ...]:
        """The model's replies in this chat, in order; those of failed and stopped answers too."""
        with self._lock:
            return tuple(generation for turn in self._turns for generation in turn.generations)

    @property
    def messages(self) -> list[Message]:
        """The conversation in OpenAI's form, as the next question would send it: `to_messages()`."""
        return self.to_messages()

    def to_messages(self, *, system: bool = True) -> list[Message]:
        """The conversation in OpenAI's form, a copy.

        Args:
            system: Whether the system prompt stands first.

        Returns:
            Messages that `backend.ask` and another `ChatView(messages=...)` take. A question whose answer failed, is
            empty or is under way is left out.
        """
        with self._lock:
            head: list[Message] = [{"role": "system", "content": self._system}] if system and self._system else []
            return copy.deepcopy([*head, *(message for turn in self._turns for message in turn.messages)])

    def as_code(self) -> str:
        """Python that puts the same questions again without the widget. A key is never in it."""
        with self._lock:
            return as_code(self._answerer, self._turns, self._system)

    def __repr__(self) -> str:
        asked = sum(turn.content is not None for turn in self._turns)
        questions = "1 question" if asked == 1 else f"{count(asked)} questions"
        return f"<ChatView {one_line(self._answerer.model)} · {one_line(self._answerer.server)} · {questions}>"

    # what the front end asks for

    def _do_send(self, text: Any = "", token: Any = None, system: Any = None, turn: Any = None) -> None:
        accepted = False
        try:
            if isinstance(system, str):
                self._system = prompt_text(system)
            if not isinstance(text, str):
                raise BadInput("A question is text.")
            if turn is None:
                self.send(text)
            else:
                self._edit(self._place(turn), text)
            accepted = True
        except MambaError as error:
            self.show(error={name: None if said is None else visible(said) for name, said in told(error).items()})
        finally:
            # Whoever sent it empties its field now, and keeps the text where it was refused.
            self.show(heard=[str(token)[:40], accepted])

    def _do_system(self, text: Any = "") -> None:
        if isinstance(text, str):
            self.system = text

    def _do_stop(self) -> None:
        self.stop()

    def _do_retry(self) -> None:
        self.retry()

    def _do_undo(self) -> None:
        self.undo()

    def _do_clear(self) -> None:
        self.clear()

    def _do_whole(self) -> None:
        with self._lock:
            self._sync()

    def _do_copy(self, what: Any = "", turn: Any = None, token: Any = None) -> None:
        if what == "code":
            text = self.as_code()
        elif what == "messages":
            text = json.dumps(self.to_messages(), indent=2, ensure_ascii=False)
        else:
            text = "\n\n".join(step.text for step in self._turns[self._place(turn)].steps if step.text)
        # For the clipboard of the view that asked; it knows its token.
        MambaWidget.send(self, {"kind": "copy", "text": storable(text), "what": str(what), "token": str(token)[:40]})
