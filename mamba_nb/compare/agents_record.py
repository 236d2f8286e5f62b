"""A run of an agent as one generation, so that a grid of runs is a grid like any other.

Its text is the answer, its tool calls and tokens are those of all steps, its times count from the first request to the
end of the run, tools included. The run's own record, as JSON, stands in `Generation.agent`: `steps`, `calls`,
`tools_s`, `valid_arguments`, `output_mode`, `tools_mode`, and what was judged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mamba_nb._agent.result import AgentResult, ToolUse
from mamba_nb._storage import plain
from mamba_nb.compare.agents_expected import Expected, judged
from mamba_nb.records import Generation, Status, ToolCall, Usage

__all__ = ["arguments_json", "generation_of"]


def generation_of(
    result: AgentResult[Any], status: Status, *, error: BaseException | None, expected: Expected | None
) -> Generation:
    """A run as one generation, with its own record in `agent`."""
    generations, usage = result.generations, result.usage
    first, last = generations[0], generations[-1]
    # From the first request on: what pydantic-ai does before it is no time of the model's.
    began = result.started_at_s[0] if result.started_at_s else 0.0
    starts = [start - began for start in result.started_at_s]
    alone = len(generations) == 1 and not result.tool_calls
    known = any(generation.usage is not None for generation in generations)

    def stamps(name: str) -> tuple[float, ...]:
        each = zip(starts, generations, strict=False)
        return tuple(start + at_s for start, generation in each for at_s in getattr(generation, name))

    return replace(
        last,
        request=first.request,
        text=_answer(result),
        reasoning="\n\n".join(generation.reasoning for generation in generations if generation.reasoning),
        tool_calls=tuple(
            ToolCall(id=use.id, name=use.name, arguments=arguments_json(use.arguments)) for use in result.tool_calls
        ),
        text_at_s=stamps("text_at_s"),
        reasoning_at_s=stamps("reasoning_at_s"),
        tool_at_s=stamps("tool_at_s"),
        # With tools between the steps, the time per token says nothing; without an end it is not computed.
        finish_at_s=last.finish_at_s if alone else None,
        latency_s=last.latency_s if alone else result.took_s - began if result.took_s is not None else None,
        usage=Usage(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens if alone else None,  # a step's prompt is the one before it, and more
            reasoning_tokens=usage.reasoning_tokens,
        )
        if known
        else None,
        status=status,
        error=str(error) if error is not None else None,
        error_type=type(error).__name__ if error is not None else None,
        warnings=result.warnings,
        server_facts=last.server_facts if alone else {},
        agent=_record(result, status, expected),
        logprobs=None,
        started_at=first.started_at,
    )


def _record(result: AgentResult[Any], status: Status, expected: Expected | None) -> dict[str, Any]:
    tools = [step.timing.tools_s for step in result.steps if step.timing.tools_s is not None]
    record: dict[str, Any] = {
        "steps": len(result.generations),
        "calls": [_call(use) for use in result.tool_calls],
        "tools_s": sum(tools) if tools else None,
        "output_mode": result.output_mode,
        "output_why": result.output_why,
        "tools_mode": result.tools_mode,
        "valid_arguments": _valid(result.tool_calls),
    }
    if expected is not None and status != "stopped":
        record |= judged(expected, result.tool_calls)
    plain_record: dict[str, Any] = plain(record)
    return plain_record


def _call(use: ToolUse) -> dict[str, Any]:
    return {
        "name": use.name,
        "arguments": plain(use.arguments),
        "valid": use.valid,
        "error": use.error,
        "step": use.step,
        "took_s": use.took_s,
        "shown": str(use),
    }


def _valid(calls: Sequence[ToolUse]) -> bool | None:
    looked_at = [call.valid for call in calls if call.valid is not None]
    return all(looked_at) if looked_at else None


def _answer(result: AgentResult[Any]) -> str:
    """The answer as text; what was on its way where there is none."""
    if result.status != "done":
        return result.generations[-1].text if result.generations else ""
    if isinstance(result.output, str):
        return result.output

    from pydantic_core import to_json

    text: str = to_json(result.output, fallback=repr).decode()
    return text


def arguments_json(arguments: Mapping[str, Any] | str) -> str:
    """A call's arguments as JSON text; as the model wrote them where they are none."""
    return arguments if isinstance(arguments, str) else json.dumps(plain(arguments), ensure_ascii=False)
