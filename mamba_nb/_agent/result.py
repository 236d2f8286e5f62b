"""What an agent's run says while it goes on, and what it gives at the end: pure values.

    StepStarted, TextDelta, ReasoningDelta, ToolCalled, ToolReturned    events, stamped in seconds after the run began
    AgentResult    the output, the messages, and a record of each request and each tool call

A step is one request to the model and what it asked for; steps count from 1. Figures are computed from the raw
generations, so they mean what they mean everywhere else in this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

from typing_extensions import TypeVar

from mamba_nb.records import Generation, ReasoningDelta, ReasoningEnded, Status, TextDelta

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage

__all__ = [
    "AgentEvent",
    "AgentResult",
    "AgentUsage",
    "StepStarted",
    "StepTiming",
    "ToolCalled",
    "ToolReturned",
    "ToolUse",
]

OutputT = TypeVar("OutputT", default=str)

SHORT = 60  # characters of an output, an argument or a result in a one-line repr


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A request went out; text of an earlier step that was no final answer is not continued."""

    at_s: float
    step: int


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """The model asked for a tool, and it is about to run.

    Attributes:
        at_s: Seconds after the run began.
        step: The request whose reply asked for it.
        id: What its result will be matched by.
        name: The tool.
        arguments: By name; the raw text where it was no JSON object.
    """

    at_s: float
    step: int
    id: str
    name: str
    arguments: Mapping[str, Any] | str


@dataclass(frozen=True, slots=True)
class ToolReturned:
    """A tool's result, or why it has none; `error` is what the model is told then."""

    at_s: float
    step: int
    id: str
    name: str
    result: Any
    error: str | None = None


AgentEvent: TypeAlias = StepStarted | TextDelta | ReasoningDelta | ReasoningEnded | ToolCalled | ToolReturned


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
    """

    step: int
    name: str
    arguments: Mapping[str, Any] | str
    result: Any = None
    error: str | None = None
    at_s: float = 0.0
    took_s: float | None = None
    id: str = ""

    def __str__(self) -> str:
        arguments = self.arguments
        given = (
            ", ".join(f"{name}={_short(repr(value))}" for name, value in arguments.items())
            if isinstance(arguments, Mapping)
            else _short(arguments)
        )
        outcome = _short(repr(self.result)) if self.error is None else f"failed: {_short(self.error)}"
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
    """

    output: OutputT
    messages: list[ModelMessage]
    new_messages: list[ModelMessage] = field(default_factory=list)
    tool_calls: tuple[ToolUse, ...] = ()
    generations: tuple[Generation, ...] = ()
    status: Status = "done"

    @property
    def usage(self) -> AgentUsage:
        """Requests, calls and tokens of all steps together."""
        return AgentUsage(
            requests=len(self.generations),
            tool_calls=len(self.tool_calls),
            **{
                name: _total(getattr(generation.usage, name, None) for generation in self.generations)
                for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
            },
        )

    @property
    def timings(self) -> tuple[StepTiming, ...]:
        """The figures of each step."""
        return tuple(
            StepTiming(
                step=step,
                ttft_ms=generation.ttft_ms,
                ttft_text_ms=generation.ttft_text_ms,
                latency_s=generation.latency_s,
                prompt_tokens=generation.prompt_tokens,
                completion_tokens=generation.completion_tokens,
                output_tokens_per_s=generation.output_tokens_per_s,
                tools_s=_tools_s([call for call in self.tool_calls if call.step == step]),
            )
            for step, generation in enumerate(self.generations, start=1)
        )

    def __str__(self) -> str:
        return str(self.output) if self.status == "done" else repr(self)

    def __repr__(self) -> str:
        parts = [_short(repr(self.output))] if self.status == "done" else [self.status]
        return f"<AgentResult {' · '.join([*parts, *self._figures()])}>"

    def _figures(self) -> list[str]:
        usage = self.usage
        parts = [_counted(usage.requests, "request")]
        if usage.tool_calls:
            parts.append(_counted(usage.tool_calls, "tool call"))
        if usage.completion_tokens is not None:
            parts.append(_counted(usage.completion_tokens, "token"))
        latencies = [generation.latency_s for generation in self.generations if generation.latency_s is not None]
        if latencies:
            parts.append(f"{sum(latencies):.3g} s in the model")
        return parts

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from mamba_nb.display.text import one_line, visible

        lines = [visible(str(self.output)) if self.status == "done" else self.status]
        lines += [f"  step {call.step}: {one_line(str(call))}" for call in self.tool_calls]
        return {"text/plain": "\n".join([*lines, " · ".join(self._figures())])}


def _total(counts: Any) -> int | None:
    counts = list(counts)
    return None if not counts or None in counts else sum(counts)


def _tools_s(calls: list[ToolUse]) -> float | None:
    ends = [call.at_s + call.took_s for call in calls if call.took_s is not None]
    return max(ends) - min(call.at_s for call in calls) if ends else None


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHORT else line[: SHORT - 1].rstrip() + "…"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
