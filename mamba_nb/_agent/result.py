"""What a run of an agent gives at the end: pure values.

    AgentResult    the output, the messages, and a record of each request and each tool call

Figures are computed from the raw generations, so they mean what they mean everywhere else in this package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias

from typing_extensions import TypeVar

from mamba_nb._agent.events import AgentEvent, StepStarted, ToolCalled, ToolReturned
from mamba_nb.records import Generation, Status

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage

__all__ = [
    "OUTPUT_MODES",
    "AgentEvent",
    "AgentResult",
    "AgentStep",
    "AgentUsage",
    "OutputMode",
    "StepStarted",
    "StepTiming",
    "ToolCalled",
    "ToolReturned",
    "ToolUse",
    "ToolsMode",
    "total_usage",
]

OutputT = TypeVar("OutputT", default=str)
OutputMode: TypeAlias = Literal["text", "native", "tool", "prompted"]
ToolsMode: TypeAlias = Literal["native", "prompted"]

OUTPUT_MODES: Mapping[str, str] = {
    "native": "native schema",
    "tool": "output tool",
    "prompted": "schema in the prompt",
}
"""Output mode -> how it is called where people read it; text needs no word."""

SHORT = 60  # characters of an output, an argument or a result in a one-line repr


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """One call of a tool.

    Attributes:
        step: The request whose reply asked for it.
        name: The tool.
        arguments: By name; the raw text where it was no JSON object.
        result: What the tool returned; None where it failed.
        error: Why there is no result: what the model was told, or what ended the run. None where there is one.
        at_s: When it was called, in seconds after the run began.
        took_s: Seconds until its result; None where none came.
        id: The call's id.
        valid: Whether there is such a tool and the arguments fit what it takes; None where that was not looked at,
            because the call was not made.
    """

    step: int
    name: str
    arguments: Mapping[str, Any] | str
    result: Any = None
    error: str | None = None
    at_s: float = 0.0
    took_s: float | None = None
    id: str = ""
    valid: bool | None = None

    def __str__(self) -> str:
        arguments = self.arguments
        given = (
            ", ".join(f"{name}={_short(repr(value))}" for name, value in arguments.items())
            if isinstance(arguments, Mapping)
            else _short(arguments)
        )
        if self.error is not None:
            outcome = f"failed: {_short(self.error)}"
        else:
            outcome = _short(repr(self.result)) if self.took_s is not None else "no result"
        return f"{self.name}({given}) -> {outcome}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentUsage:
    """What a run took; token counts are the server's, and None where it did not count each answer.

    Attributes:
        requests: Requests to the model.
        tool_calls: Calls of tools, failed ones included.
        prompt_tokens: Tokens of all prompts together; the history counts again in each request.
        completion_tokens: Tokens generated, reasoning included.
        cached_tokens: Prompt tokens that came from the server's cache.
        reasoning_tokens: Tokens of reasoning among the generated ones.
    """

    requests: int = 0
    tool_calls: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def total_tokens(self) -> int | None:
        """Tokens of prompts and answers together; None where either is not known."""
        if self.prompt_tokens is None or self.completion_tokens is None:
            return None
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTiming:
    """The figures of one step; `pandas.DataFrame(result.timings)` makes a table of them.

    Attributes:
        step: From 1.
        ttft_ms: Send to the first token of any kind, in milliseconds.
        ttft_text_ms: Send to the first visible text; None where there was none.
        latency_s: Seconds from send to the end of the reply.
        prompt_tokens: By the server's count.
        completion_tokens: By the server's count.
        output_tokens_per_s: Completion tokens over the latency.
        tools_s: Seconds from the first call that this step asked for to the last result; None without calls.
    """

    step: int
    ttft_ms: float | None
    ttft_text_ms: float | None
    latency_s: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    output_tokens_per_s: float | None
    tools_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStep:
    """One request to the model, its reply, and what came of it.

    Attributes:
        step: From 1.
        generation: The reply.
        tool_calls: The calls of tools that it asked for.
        at_s: When the request was made, in seconds after the run began; None in a result that did not keep it.
        refused: Why the reply was sent back to be mended; None where it was not.
    """

    step: int
    generation: Generation
    tool_calls: tuple[ToolUse, ...] = ()
    at_s: float | None = None
    refused: str | None = None

    @property
    def timing(self) -> StepTiming:
        """The figures of this step."""
        generation = self.generation
        return StepTiming(
            step=self.step,
            ttft_ms=generation.ttft_ms,
            ttft_text_ms=generation.ttft_text_ms,
            latency_s=generation.latency_s,
            prompt_tokens=generation.prompt_tokens,
            completion_tokens=generation.completion_tokens,
            output_tokens_per_s=generation.output_tokens_per_s,
            tools_s=_tools_s(self.tool_calls),
        )


@dataclass(frozen=True, kw_only=True)
class AgentResult(Generic[OutputT]):
    """What a run of an agent gave.

    Attributes:
        output: The answer: text, or an instance of the agent's `output_type`. None in a partial result.
        messages: The whole conversation as pydantic-ai's messages, the history that was given included; hand it
            back as `message_history`. `pydantic_ai.ModelMessagesTypeAdapter` writes and reads it as JSON.
        new_messages: The part of it that this run added.
        tool_calls: The calls of tools, in the order they were made.
        generations: The model's replies, one a request.
        status: `done`; `failed` or `stopped` in a partial result.
        output_mode: How the answer was asked for: as `text`; held to a JSON schema by the server (`native`); as the
            arguments of a tool (`tool`); or with the schema in the prompt (`prompted`).
        output_why: Why so, in words; None for text.
        tools_mode: Whether tools went to the server as the protocol has them (`native`) or into the prompt
            (`prompted`); None without tools.
        took_s: Seconds from the start of the run to its end, tools included.
        started_at_s: When each request was made, in seconds after the run began; one for each generation.
        refusals: Step -> why its reply was sent back to be mended.
        notes: What a reader must know of the run as a whole; `warnings` has those of the replies as well.
        error: What ended a failed run; None where nothing did.
    """

    output: OutputT
    messages: list[ModelMessage]
    new_messages: list[ModelMessage] = field(default_factory=list)
    tool_calls: tuple[ToolUse, ...] = ()
    generations: tuple[Generation, ...] = ()
    status: Status = "done"
    output_mode: OutputMode = "text"
    output_why: str | None = None
    tools_mode: ToolsMode | None = None
    took_s: float | None = None
    started_at_s: tuple[float, ...] = ()
    refusals: Mapping[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    error: str | None = None

    @property
    def steps(self) -> tuple[AgentStep, ...]:
        """The requests in their order, each with the calls that it brought."""
        starts = self.started_at_s
        return tuple(
            AgentStep(
                step=step,
                generation=generation,
                tool_calls=tuple(call for call in self.tool_calls if call.step == step),
                at_s=starts[step - 1] if step <= len(starts) else None,
                refused=self.refusals.get(step),
            )
            for step, generation in enumerate(self.generations, start=1)
        )

    @property
    def usage(self) -> AgentUsage:
        """Requests, calls and tokens of all steps together."""
        return total_usage([self])

    @property
    def timings(self) -> tuple[StepTiming, ...]:
        """The figures of each step."""
        return tuple(step.timing for step in self.steps)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before trusting this result, each sentence once."""
        said = (warning for generation in self.generations for warning in generation.warnings)
        return tuple(dict.fromkeys((*self.notes, *said)))

    def __str__(self) -> str:
        return str(self.output) if self.status == "done" else repr(self)

    def __repr__(self) -> str:
        parts = [_short(repr(self.output))] if self.status == "done" else [self.status]
        return f"<AgentResult {' · '.join([*parts, *self.figures()])}>"

    def figures(self) -> list[str]:
        """What the run took, in a few words each: for one line."""
        usage = self.usage
        parts = [OUTPUT_MODES[self.output_mode]] if self.output_mode in OUTPUT_MODES else []
        if self.tools_mode == "prompted":
            parts.append("prompted tools")
        parts.append(_counted(usage.requests, "request"))
        if usage.tool_calls:
            parts.append(_counted(usage.tool_calls, "tool call"))
        if usage.completion_tokens is not None:
            parts.append(_counted(usage.completion_tokens, "token"))
        latencies = [generation.latency_s for generation in self.generations if generation.latency_s is not None]
        if latencies:
            parts.append(f"{sum(latencies):.3g} s in the model")
        return parts

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from mamba_nb.display import agents

        return {"text/plain": agents.result_text(self), "text/html": agents.result(self)}


def total_usage(results: Iterable[AgentResult[Any]]) -> AgentUsage:
    """What several runs took together; a count is None where one of their answers has none."""
    results = list(results)
    generations = [generation for result in results for generation in result.generations]
    return AgentUsage(
        requests=len(generations),
        tool_calls=sum(len(result.tool_calls) for result in results),
        **{
            name: _total(getattr(generation.usage, name, None) for generation in generations)
            for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
        },
    )


def _total(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if not known or None in known else sum(count for count in known if count is not None)


def _tools_s(calls: Iterable[ToolUse]) -> float | None:
    calls = list(calls)
    ends = [call.at_s + call.took_s for call in calls if call.took_s is not None]
    return max(ends) - min(call.at_s for call in calls) if ends else None


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHORT else line[: SHORT - 1].rstrip() + "…"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
