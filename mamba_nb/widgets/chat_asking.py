"""Who answers in a chat: one backend, or an agent; what a turn sends to them, and what it takes from them.

The work is a coroutine for the I/O loop, which reads the events of the backend's or the agent's own Run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mamba_nb._bridge import Run
from mamba_nb._bridge.threads import in_thread
from mamba_nb.agent import Agent, AgentResult
from mamba_nb.backends._params import checked
from mamba_nb.backends.backend import OpenAICompatibleBackend
from mamba_nb.backends.factories import backend_for
from mamba_nb.backends.names import parse_model_name
from mamba_nb.display.text import one_line
from mamba_nb.errors import BadInput
from mamba_nb.records import Generation, Message
from mamba_nb.widgets.chat_messages import to_pydantic
from mamba_nb.widgets.chat_turns import Turn

__all__ = ["Answerer"]


class Answerer:
    """One backend or one agent, whichever was given, with the parameters for each question.

    Args:
        given: A backend, an agent, or a model's name. A backend made from a name is closed with the chat.
        params: Request parameters; they win over the backend's own.

    Attributes:
        agent: The agent; None for a backend.
        params: The parameters, checked.
        name: The name that was given; None for a backend or an agent.
        window: Tokens of context in force, as declared or verified; None where that is not known.

    Raises:
        BadInput: If it is none of these, or a parameter is wrong.
    """

    def __init__(self, given: Any, params: Mapping[str, Any]) -> None:
        self.params = checked(params)
        self.agent: Agent[Any] | None = None
        self._backend: OpenAICompatibleBackend | None = None
        self.name: str | None = None
        self.window: int | None = None
        if isinstance(given, Agent):
            self.agent, self._backend = given, given.backend
        elif isinstance(given, OpenAICompatibleBackend):
            self._backend = given
        elif isinstance(given, str):
            self.name = given
            if parse_model_name(given).server != "embedded":  # whose engine takes its time: with the first question
                self._backend = backend_for(given)
        else:
            raise BadInput(
                f"ChatView takes a backend, an Agent or a model's name; this is {type(given).__name__}.",
                hint='For example ChatView("ollama/llama3.2").',
            )

    @property
    def backend(self) -> OpenAICompatibleBackend | None:
        """The backend; None for the embedded model before the first question."""
        return self._backend

    @property
    def model(self) -> str:
        """The model's name on the wire."""
        return self._backend.model if self._backend is not None else str(self.name)

    @property
    def server(self) -> str:
        """The kind of server, or its address where the kind is not known."""
        if self._backend is None:
            return "embedded"
        kind = self._backend.server
        return kind if kind != "unknown" else self._backend.base_url.partition("://")[2].partition("/")[0]

    @property
    def tools(self) -> list[str]:
        """The names of an agent's tools."""
        return [one_line(name, 80) for name in self.agent.tool_names] if self.agent is not None else []

    async def learn(self) -> None:
        """Ask what the server declares of the model, where that is not known yet; on the I/O loop."""
        if self._backend is not None and not self._backend.closed:
            await self._backend.declare()
            fact = self._backend.profile.fact("context_window")
            self.window = fact.value if fact.source in ("declared", "verified") else None

    async def answer(
        self,
        turn: Turn,
        earlier: Sequence[Turn],
        system: str | None,
        emit: Callable[[Any], None],
        on_run: Callable[[Run[Any, Any]], None],
    ) -> Generation | AgentResult[Any]:
        """Ask, and put what comes into the turn; on the I/O loop.

        Args:
            turn: The turn with the question.
            earlier: The turns before it.
            system: The system prompt, or None.
            emit: Gets the events.
            on_run: Gets the Run of the backend or the agent.

        Raises:
            MambaError: What went wrong; the turn has it too.
        """
        run: Run[Any, Any] | None = None
        try:
            run = await self._start(turn, earlier, system)
            on_run(run)
            async for event in run:
                turn.feed(event)
                emit(event)
            result: Generation | AgentResult[Any] = await run
        except asyncio.CancelledError:
            if run is not None:
                run.cancel()
            turn.stopped(None if run is None else run.partial, self.server)
            raise
        except Exception as error:
            partial = getattr(error, "partial", None)
            if self.agent is not None and run is not None:
                partial = run.partial
            turn.failed(error, partial, self.server)
            raise
        turn.done(result, self.server)
        return result

    async def close(self) -> None:
        """Close the backend that was made from a name."""
        if self.name is not None and self._backend is not None:
            await self._backend.aclose()

    async def _start(self, turn: Turn, earlier: Sequence[Turn], system: str | None) -> Run[Any, Any]:
        if self._backend is None:
            assert self.name is not None
            self._backend = await in_thread(backend_for, self.name)
        if self.agent is not None:
            return self.agent.run_stream(
                turn.content, message_history=self._history(earlier, system) or None, **self.params
            )
        messages = [message for each in earlier for message in each.messages]
        return self._backend.stream([*messages, turn.question or {}], system=system, **self.params)

    @staticmethod
    def _history(earlier: Sequence[Turn], system: str | None) -> list[Any]:
        head: list[Message] = [{"role": "system", "content": system}] if system else []
        history = to_pydantic(head)
        for turn in earlier:
            if turn.messages:
                history += to_pydantic(turn.messages) if turn.history is None else turn.history
        return history
