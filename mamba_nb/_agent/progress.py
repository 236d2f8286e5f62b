"""What a run of an agent has come to: pydantic-ai's events of tools in, this package's events and records out.

A `Progress` can be asked for its result at any moment and from any thread: at the end for the whole one, after a stop
or a failure for what there was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic

from mamba_nb._agent.model import Steps
from mamba_nb._agent.result import AgentResult, OutputT, ToolCalled, ToolReturned, ToolUse
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

    Attributes:
        going: pydantic-ai's run, once there is one.
        status: `stopped` until it is known better: a run that is cancelled hears no more of it.
    """

    def __init__(self, steps: Steps, history: list[ModelMessage]) -> None:
        self.steps = steps
        self.history = history
        self.going: AgentRun[Any, OutputT] | None = None
        self.status: Status = "stopped"
        self._output: Any = None
        self._open: dict[str, int] = {}

    def note(self, event: Any) -> None:
        """Take in pydantic-ai's event of a tool's call or result, and emit ours."""
        from pydantic_ai.messages import FunctionToolCallEvent, FunctionToolResultEvent

        steps = self.steps
        if isinstance(event, FunctionToolCallEvent):
            part = event.part
            use = ToolUse(
                step=steps.step,
                id=part.tool_call_id,
                name=part.tool_name,
                arguments=_arguments(part),
                at_s=steps.now_s(),
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

    def failed(self, failure: Exception) -> None:
        """The run failed: say so, also of the calls that have no result."""
        self.status = "failed"
        said = f"{type(failure).__name__}: {failure}" if len(self._open) == 1 else "the run failed before it returned"
        for call_id in list(self._open):
            self._close(call_id, result=None, error=said)

    def done(self, output: Any) -> AgentResult[OutputT]:
        """The run came to its answer; gives the whole record."""
        self.status, self._output = "done", output
        return self.result()

    def _close(self, call_id: str, *, result: Any, error: str | None) -> None:
        steps, place = self.steps, self._open.pop(call_id)
        use, at_s = steps.tool_uses[place], steps.now_s()
        steps.tool_uses[place] = replace(use, result=result, error=error, took_s=at_s - use.at_s)
        steps.emit(ToolReturned(at_s, use.step, call_id, use.name, result, error))

    def result(self) -> AgentResult[OutputT]:
        """The record of what there is so far; its output is None unless the run is done."""
        going = self.going
        return AgentResult(
            output=self._output,
            messages=list(going.all_messages()) if going is not None else list(self.history),
            new_messages=list(going.new_messages()) if going is not None else [],
            tool_calls=tuple(self.steps.tool_uses),
            generations=self.steps.all_generations(),
            status=self.status,
        )


def _arguments(part: ToolCallPart) -> Mapping[str, Any] | str:
    try:
        return part.args_as_dict(raise_if_invalid=True)
    except ValueError:
        return part.args_as_json_str()
