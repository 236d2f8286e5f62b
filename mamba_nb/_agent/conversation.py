"""A conversation with an agent: turns that know of each other, whatever became of one of them.

    talk = agent.conversation()
    talk.ask("Do I need an umbrella in Paris?")
    talk.ask("And tomorrow?")

A turn that was done stays in the history. One that was stopped stays too, closed where it was broken off: calls
without a result get one that says so, and the text that had come stands as the answer, so that no model sees a
question without an answer. One that failed is taken out, since what made it fail would fail the next one as well. All
of them count in `usage`, and stand in `results`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic

from mamba_nb import _bridge
from mamba_nb._agent.events import AgentEvent
from mamba_nb._agent.input import history_from
from mamba_nb._agent.limits import UNSET
from mamba_nb._agent.result import AgentResult, AgentUsage, OutputT, total_usage
from mamba_nb._bridge import Run
from mamba_nb.errors import BadInput

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ToolReturnPart

    from mamba_nb.agent import Agent

__all__ = ["AgentConversation"]

STOPPED = "I was stopped before I could answer."
INTERRUPTED = "The call was interrupted; it has no result."


@dataclass
class _Turn:
    """One question that was asked, and its run."""

    run: Run[Any, Any]
    growing: Any = field(default=str)  # gives the text of an answer that was broken off


class AgentConversation(Generic[OutputT]):
    """Turns with one agent; made by `agent.conversation()`.

    One turn is asked at a time. `fork()` gives a second conversation that goes on from here.

    Args:
        agent: Who is asked.
        messages: An earlier conversation to go on with.
        deps: What tools find as `context.deps`, unless a turn gives its own.
    """

    def __init__(self, agent: Agent[OutputT], *, messages: Any = None, deps: Any = None) -> None:
        self.agent = agent
        self.deps = deps
        self._lock = threading.RLock()
        self._history: list[ModelMessage] = history_from(messages)
        self._results: list[AgentResult[OutputT]] = []
        self._turn: _Turn | None = None

    def run(
        self,
        prompt: str | Sequence[Any],
        *,
        deps: Any = UNSET,
        max_steps: int | None = UNSET,
        max_tool_calls: int | None = UNSET,
        max_total_tokens: int | None = UNSET,
        **params: Any,
    ) -> Run[AgentEvent, AgentResult[OutputT]]:
        """Start the next turn.

        Takes what `Agent.run` does, but for the history, which it has.

        Returns:
            A Run as `Agent.run` gives it. The turn enters the history when it has ended, however it did.

        Raises:
            BadInput: If the turn before it is still under way, or an argument is wrong.
        """
        with self._lock:
            self._take_in()
            if self._turn is not None:
                raise BadInput(
                    "This conversation is still answering its last question.",
                    hint="Wait for that run, .cancel() it, or ask beside it: conversation.fork().run(...).",
                )
            run, growing = self.agent._start(
                prompt,
                history=self._history,
                deps=self.deps if deps is UNSET else deps,
                limits={
                    "max_steps": max_steps,
                    "max_tool_calls": max_tool_calls,
                    "max_total_tokens": max_total_tokens,
                },
                params=params,
            )
            self._turn = _Turn(run, growing)
            return run

    def run_stream(self, prompt: str | Sequence[Any], **options: Any) -> Run[AgentEvent, AgentResult[OutputT]]:
        """Start the next turn to read its events: the same as `run`."""
        return self.run(prompt, **options)

    def ask(self, prompt: str | Sequence[Any], **options: Any) -> AgentResult[OutputT]:
        """Ask and wait for the answer: `run(...).result()`.

        Raises:
            ServerError: Whatever went wrong with the server.
            AgentError: If the model came to no usable answer.
            KeyboardInterrupt: On an interrupt; the conversation can go on all the same.
        """
        __tracebackhide__ = True
        _bridge.refuse_on_private_loops("conversation.ask", "use `await conversation.run(...)`")
        return self.run(prompt, **options).result()

    @property
    def messages(self) -> list[ModelMessage]:
        """The history that the next turn will know, as pydantic-ai's messages; turns that failed are not in it."""
        with self._lock:
            self._take_in()
            return list(self._history)

    @property
    def results(self) -> tuple[AgentResult[OutputT], ...]:
        """Every turn that has ended, failed and stopped ones included, as its `status` says."""
        with self._lock:
            self._take_in()
            return tuple(self._results)

    @property
    def usage(self) -> AgentUsage:
        """What all turns took together, failed and stopped ones included."""
        return total_usage(self.results)

    def fork(self) -> AgentConversation[OutputT]:
        """A conversation of its own that goes on from the turns that have ended; this one does not hear of it."""
        with self._lock:
            self._take_in()
            other = AgentConversation(self.agent, messages=self._history, deps=self.deps)
            other._results = list(self._results)
            return other

    def __len__(self) -> int:
        return len(self.results)

    def __repr__(self) -> str:
        turns = len(self)
        state = " · answering" if self._turn is not None else ""
        return f"<AgentConversation {self.agent.backend.model} · {turns} turn{'' if turns == 1 else 's'}{state}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from mamba_nb.display import agents

        return {"text/plain": agents.conversation_text(self), "text/html": agents.conversation(self)}

    def _take_in(self) -> None:
        """Take in the last turn, once it has ended."""
        turn = self._turn
        if turn is None or not turn.run.done():
            return
        self._turn = None
        result: AgentResult[OutputT] | None = turn.run.partial
        if result is None:  # stopped before it began
            return
        self._results.append(result)
        if result.status == "done":
            self._history = list(result.messages)
        elif result.status == "stopped":
            self._history += closed(result.new_messages, turn.growing())


def closed(messages: Sequence[ModelMessage], growing: str = "") -> list[ModelMessage]:
    """The messages of a turn that was broken off, so that another one can follow; none where nothing had come.

    Args:
        messages: What the turn had added, its prompt first.
        growing: The text of the answer that was under way.
    """
    from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart

    turn = list(messages)
    if not any(isinstance(message, ModelResponse) for message in turn) and not growing:
        return []
    returns = _missing_returns(turn)
    if returns and isinstance(turn[-1], ModelRequest):
        turn[-1] = replace(turn[-1], parts=[*turn[-1].parts, *returns], state="complete")
    elif returns:
        turn.append(ModelRequest(parts=returns))
    if turn and isinstance(turn[-1], ModelRequest):
        turn[-1] = replace(turn[-1], state="complete")
        turn.append(ModelResponse(parts=[TextPart(growing or STOPPED)]))
    return turn


def _missing_returns(messages: Sequence[ModelMessage]) -> list[ToolReturnPart]:
    """A result for each call that has none."""
    from pydantic_ai.messages import ModelResponse, ToolReturnPart

    calls: dict[str, Any] = {}
    for message in messages:
        if isinstance(message, ModelResponse):
            calls.update((call.tool_call_id, call) for call in message.tool_calls)
        else:
            for part in message.parts:
                calls.pop(getattr(part, "tool_call_id", ""), None)
    return [
        ToolReturnPart(
            tool_name=call.tool_name, content=INTERRUPTED, tool_call_id=call.tool_call_id, outcome="interrupted"
        )
        for call in calls.values()
    ]
