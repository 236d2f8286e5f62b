"""What a run of an agent has come to: pydantic-ai's events of tools in, this package's events and records out.

A `Progress` can be asked for its result at any moment and from any thread: at the end for the whole one, after a stop
or a failure for what there was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic

from mamba_nb._agent.events import ToolCalled, ToolReturned
from mamba_nb._agent.model import Steps
from mamba_nb._agent.output_mode import Choice
from mamba_nb._agent.result import AgentResult, OutputT, ToolUse
from mamba_nb.errors import MambaError
from mamba_nb.records import Status

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ToolCallPart
    from pydantic_ai.run import AgentRun

__all__ = ["Progress"]


class Progress(Generic[OutputT]):
    """What a run has come to: its steps, its tool calls and its messages.

    Args:
        steps: The requests to the model.
        history: The conversation that was given.
        has_tools: Whether the model is offered tools.

    Attributes:
        going: pydantic-ai's run, once there is one.
        choice: How the answer is asked for.
        status: `stopped` until it is known better: a run that is cancelled hears no more of it.
    """

    def __init__(self, steps: Steps, history: list[ModelMessage], *, has_tools: bool) -> None:
        self.steps = steps
        self.history = history
        self.has_tools = has_tools
        self.going: AgentRun[Any, OutputT] | None = None
        self.choice = Choice("text")
        self.status: Status = "stopped"
        self._output: Any = None
        self._error: str | None = None
        self._ended_s: float | None = None
        self._open: dict[str, int] = {}
        self._refusals: dict[int, str] = {}

    @property
    def growing(self) -> str:
        """The text of an answer that was broken off; empty where it is no text, or there is none."""
        return "".join(self.steps.shown) if self.choice.mode == "text" and self.steps.builder is not None else ""

    def note(self, event: Any) -> None:
        """Take in pydantic-ai's event of a tool's call or result, and emit ours."""
        from pydantic_ai.messages import FunctionToolCallEvent, FunctionToolResultEvent, OutputToolResultEvent

        steps = self.steps
        if isinstance(event, FunctionToolCallEvent):
            part = event.part
            use = ToolUse(
                step=steps.step,
                id=part.tool_call_id,
                name=part.tool_name,
                arguments=_arguments(part),
                at_s=steps.now_s(),
                valid=event.args_valid,
            )
            self._open[use.id] = len(steps.tool_uses)
            steps.tool_uses.append(use)
            steps.on_state(f"calling {use.name}")
            steps.emit(ToolCalled(use.at_s, use.step, use.id, use.name, use.arguments))
        elif isinstance(event, FunctionToolResultEvent) and event.tool_call_id in self._open:
            result = event.part
            fine = result.outcome == "success"
            self._close(
                event.tool_call_id,
                result=result.content if fine else None,
                error=None if fine else result.model_response_str(wrap_if_error=False),
            )
        elif isinstance(event, OutputToolResultEvent) and event.part.outcome == "retried":
            self._refused(event.part.model_response_str(wrap_if_error=False))

    def note_request(self, parts: Iterable[Any]) -> None:
        """Take in what goes into the next request: it may say why the last reply was sent back."""
        from pydantic_ai.messages import RetryFeedbackPart

        for part in parts:
            if isinstance(part, RetryFeedbackPart):
                said = part.content
                self._refused(said if isinstance(said, str) else "; ".join(map(_complaint, said)))

    def _refused(self, why: str) -> None:
        if self.steps.step:
            self._refusals[self.steps.step] = why

    def stopped(self) -> None:
        """The run was cancelled; what comes later does not count."""
        self._ended_s = self.steps.now_s()

    def failed(self, failure: Exception) -> None:
        """The run failed: say so, also of the calls that have no result."""
        self.status, self._ended_s = "failed", self.steps.now_s()
        said = f"{type(failure).__name__}: {failure}" if len(self._open) == 1 else "the run failed before it returned"
        for call_id in list(self._open):
            self._close(call_id, result=None, error=said)

    def done(self, output: Any) -> AgentResult[OutputT]:
        """The run came to its answer; gives the whole record."""
        self.status, self._output, self._ended_s = "done", output, self.steps.now_s()
        return self.result()

    def failed_with(self, error: Exception) -> None:
        """What the failure is called outside."""
        self._error = str(error) if isinstance(error, MambaError) else f"{type(error).__name__}: {error}"

    def _close(self, call_id: str, *, result: Any, error: str | None) -> None:
        steps, place = self.steps, self._open.pop(call_id)
        use, at_s = steps.tool_uses[place], steps.now_s()
        steps.tool_uses[place] = replace(use, result=result, error=error, took_s=at_s - use.at_s)
        steps.emit(ToolReturned(at_s, use.step, call_id, use.name, result, error))

    def result(self) -> AgentResult[OutputT]:
        """The record of what there is so far; its output is None unless the run is done."""
        going, steps, choice = self.going, self.steps, self.choice
        if choice.mode == "native" and steps.prompted and not steps.holds_schema:
            choice = Choice("prompted", "the server refused a schema")
        return AgentResult(
            output=self._output,
            messages=list(going.all_messages()) if going is not None else list(self.history),
            new_messages=list(going.new_messages()) if going is not None else [],
            tool_calls=tuple(steps.tool_uses),
            generations=steps.all_generations(),
            status=self.status,
            output_mode=choice.mode,
            output_why=choice.why,
            tools_mode=("prompted" if steps.prompted else "native") if self.has_tools else None,
            took_s=self._ended_s if self._ended_s is not None else steps.now_s(),
            started_at_s=tuple(steps.starts),
            refusals=dict(self._refusals),
            notes=tuple(steps.notes),
            error=self._error,
        )


def _arguments(part: ToolCallPart) -> Mapping[str, Any] | str:
    try:
        return part.args_as_dict(raise_if_invalid=True)
    except ValueError:
        return part.args_as_json_str()


def _complaint(error: Mapping[str, Any]) -> str:
    """One of pydantic's complaints: where, and what."""
    place = ".".join(str(part) for part in error.get("loc", ()))
    return f"{place}: {error.get('msg', '')}".removeprefix(": ")
