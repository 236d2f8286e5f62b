"""The spine's data: what was asked, what came back and when, and the grid of answers.

    prompt -> Request -> StreamEvent ... -> Generation -> Comparison -> DataFrame | HTML | widget

Everything here is a pure value: frozen, comparable, without connections, clocks or display. Times are
seconds after the request was sent, on one monotonic clock, stamped where the bytes arrived. A Generation
keeps the raw stamps and computes its figures from them, so a saved record can be measured again when a
definition improves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mamba_nb import metrics
from mamba_nb._text import printable

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Cell",
    "Comparison",
    "Failed",
    "Finished",
    "Generation",
    "ReasoningDelta",
    "ReasoningEnded",
    "Request",
    "StateChange",
    "Status",
    "StreamEvent",
    "TextDelta",
    "TokenSource",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
    "UsageReport",
    "text_of",
]

Status: TypeAlias = Literal["done", "failed", "stopped"]
TokenSource: TypeAlias = Literal["usage"]
Message: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question to one model: everything that could change the answer, nothing that could not.

    Attributes:
        model: The model's name on the wire.
        messages: The conversation in OpenAI's message form; images are data URIs or addresses.
        params: The request parameters as sent, and only those that were given (`temperature`, `max_tokens`,
            `seed`, `stop`, `tools`, `response_format`, ...). No key is ever among them.
    """

    model: str
    messages: tuple[Message, ...]
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        """The text of the last user message; images are left out."""
        for message in reversed(self.messages):
            if message.get("role") == "user":
                return text_of(message.get("content"))
        return ""

    @property
    def system(self) -> str | None:
        """The text of the first system message, or None."""
        for message in self.messages:
            if message.get("role") in ("system", "developer"):
                return text_of(message.get("content"))
        return None


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the visible answer."""

    at_s: float
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of the model's reasoning, from its own field or from between `<think>` tags."""

    at_s: float
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningEnded:
    """All text so far was reasoning: the server sent a closing `</think>` without the opening one."""

    at_s: float


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call; `index` says which call it belongs to, the other parts may be empty."""

    at_s: float
    index: int
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts as the server reported them; None where it did not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class UsageReport:
    """The server's token counts so far; the last one of a stream is the final one."""

    at_s: float
    usage: Usage


@dataclass(frozen=True, slots=True)
class Finished:
    """The chunk that carried the finish reason (`stop`, `length`, `tool_calls`, ...)."""

    at_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer broke off; `error_type` is a class name of `mamba_nb.errors`."""

    at_s: float
    error: str
    error_type: str


@dataclass(frozen=True, slots=True)
class StateChange:
    """What is being waited for: `waiting`, `loading model`, `reading prompt`, `streaming`."""

    at_s: float
    state: str


StreamEvent: TypeAlias = (
    TextDelta | ReasoningDelta | ReasoningEnded | ToolCallDelta | UsageReport | Finished | Failed | StateChange
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A whole tool call; `arguments` is the JSON text exactly as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One answer of one model: what was asked, what came, when each chunk came, and how it ended.

    Attributes:
        request: What was asked.
        base_url: The server's address.
        server: The kind of server (`ollama`, `vllm`, `lmstudio`, `llamacpp`, `embedded`, ...) or `unknown`.
        model: The model's name as the server gave it in its reply; the name asked for where it gave none.
        text: The visible answer.
        reasoning: The reasoning, without `<think>` tags; empty where there was none.
        tool_calls: Whole tool calls in the order of their index.
        text_at_s: Arrival of each chunk of text, seconds after send; empty for a request that was not streamed.
        reasoning_at_s: The same for chunks of reasoning.
        tool_at_s: The same for pieces of tool calls.
        finish_at_s: Arrival of the chunk with the finish reason; None if it never came.
        latency_s: Seconds from send to the end of the answer: the finish chunk, or the whole reply of a
            request that was not streamed, or where it broke off. None if nothing was sent.
        usage: The server's token counts; None if it gave none.
        finish_reason: As the server gave it; None if it never came.
        status: `done`, `failed` or `stopped`.
        error: What went wrong, with its remedy; None if nothing did.
        error_type: The error's class name in `mamba_nb.errors`; None if nothing went wrong.
        warnings: What a reader must know before trusting this answer or its figures.
        server_facts: What else the server said of its own (its timings, its fingerprint), as it came.
        agent: Where an agent's run stands as one answer: its steps, calls and modes (`compare.agents_record`); else
            None.
        logprobs: Token log probabilities as the server gave them; None if they were not asked for.
        load_s: Seconds the warm-up call of this (server, model) took; None if there was none.
        concurrency: Requests under way on the same server when this one was sent, itself included; None
            outside a comparison.
        context: Tokens of context that the server declared as in force; None where it did not say, and outside a
            comparison.
        started_at: Wall-clock time of sending, ISO 8601 with offset.
    """

    request: Request
    base_url: str
    server: str
    model: str
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    text_at_s: tuple[float, ...] = ()
    reasoning_at_s: tuple[float, ...] = ()
    tool_at_s: tuple[float, ...] = ()
    finish_at_s: float | None = None
    latency_s: float | None = None
    usage: Usage | None = None
    finish_reason: str | None = None
    status: Status = "done"
    error: str | None = None
    error_type: str | None = None
    warnings: tuple[str, ...] = ()
    server_facts: Mapping[str, Any] = field(default_factory=dict)
    agent: Mapping[str, Any] | None = None
    logprobs: Any = None
    load_s: float | None = None
    concurrency: int | None = None
    context: int | None = None
    started_at: str | None = None

    @cached_property
    def chunk_at_s(self) -> tuple[float, ...]:
        """Arrival of every chunk that carried tokens of any kind, seconds after send, rising."""
        return tuple(sorted((*self.text_at_s, *self.reasoning_at_s, *self.tool_at_s)))

    @property
    def ttft_ms(self) -> float | None:
        """Send to the first token of any kind, in milliseconds; None if none came or nothing was streamed."""
        return metrics.ttft_ms(self.chunk_at_s)

    @property
    def ttft_text_ms(self) -> float | None:
        """Send to the first token of visible text, in milliseconds; None if none came."""
        return metrics.ttft_ms(self.text_at_s)

    @cached_property
    def itl_ms(self) -> tuple[float, ...]:
        """Gaps between neighbouring chunks, in milliseconds."""
        return tuple(metrics.itl_ms(self.chunk_at_s))

    @property
    def itl_p50_ms(self) -> float | None:
        """Median gap between chunks, in milliseconds; None with fewer than two chunks."""
        return metrics.percentile(self.itl_ms, 50)

    @property
    def itl_p95_ms(self) -> float | None:
        """95th percentile of the gaps between chunks, in milliseconds; None with fewer than two chunks."""
        return metrics.percentile(self.itl_ms, 95)

    @property
    def prompt_tokens(self) -> int | None:
        """Tokens in the prompt by the server's count; None if it gave none."""
        return self.usage.prompt_tokens if self.usage else None

    @property
    def completion_tokens(self) -> int | None:
        """Tokens generated by the server's count, reasoning included; None if it gave none."""
        return self.usage.completion_tokens if self.usage else None

    @property
    def token_source(self) -> TokenSource | None:
        """Who counted the tokens: `usage`, the server's own report; None where nobody did."""
        return "usage" if self.completion_tokens is not None else None

    @property
    def tpot_ms(self) -> float | None:
        """Milliseconds per output token after the first (`vllm bench serve`'s definition), or None."""
        return metrics.tpot_ms(self.chunk_at_s, self.finish_at_s, self.completion_tokens)

    @property
    def output_tokens_per_s(self) -> float | None:
        """Completion tokens over the whole latency, or None."""
        return metrics.output_tokens_per_s(self.completion_tokens, self.latency_s)

    @property
    def decode_tokens_per_s(self) -> float | None:
        """Tokens per second once the first one is out, or None."""
        return metrics.decode_tokens_per_s(self.tpot_ms)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        parts = [self.model]
        if self.status != "done":
            parts.append(f"{self.status}: {self.error_type}" if self.error_type else self.status)
        if self.completion_tokens is not None:
            parts.append(f"{self.completion_tokens} tokens")
        if self.ttft_ms is not None:
            parts.append(f"TTFT {self.ttft_ms:.0f} ms")
        if self.output_tokens_per_s is not None:
            parts.append(f"{self.output_tokens_per_s:.3g} tok/s")
        return printable(f"<Generation {' · '.join(parts)}>")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from mamba_nb.display import html

        return {"text/plain": repr(self), "text/html": html.generation(self)}

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON-able data; `from_dict` reads it back."""
        from mamba_nb import _storage

        data: dict[str, Any] = _storage.plain(self)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Generation:
        """The record that `to_dict` wrote; fields this version does not know are left out."""
        from mamba_nb import _storage

        return _storage.generation_from(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One place in the grid: which model or variant, which prompt, which repeat, and the answer.

    Attributes:
        label: The column's name: the model's short name, or the variant's.
        variant: The variant's own name, or None where the column is a plain model.
        prompt_id: The prompt's label: its position, or the index value of the Series or DataFrame it came from.
        prompt: The prompt as text, for reading; the whole conversation stands in the generation's request.
        repeat: From 0.
        generation: The answer, done, failed or stopped.
    """

    label: str
    variant: str | None
    prompt_id: Any
    prompt: str
    repeat: int
    generation: Generation


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A grid of generations: models or variants, by prompts, by repeats.

        comparison.to_frame()                      one row an answer, every figure
        comparison.summary()                       one row a model
        comparison.to_wide("latency_s")            one row a prompt, one column a model
        Comparison.load(comparison.save("monday.jsonl"))

    Attributes:
        cells: In the order of the plan: prompt, then repeat, then model.
        labels: The columns' names in the order they were given.
        planned: How many cells the plan had; more than `len(cells)` where it was stopped.
        wall_s: Seconds from the first request after the warm-ups to the last answer, or None.
        notes: What makes the columns hard to compare, in words; empty where nothing does.
        started_at: Wall-clock time, ISO 8601 with offset.
    """

    cells: tuple[Cell, ...]
    labels: tuple[str, ...]
    planned: int
    wall_s: float | None = None
    notes: tuple[str, ...] = ()
    started_at: str | None = None

    def __len__(self) -> int:
        return len(self.cells)

    def __iter__(self) -> Iterator[Cell]:
        return iter(self.cells)

    @property
    def generations(self) -> tuple[Generation, ...]:
        """The answers alone, in the order of the cells."""
        return tuple(cell.generation for cell in self.cells)

    @property
    def prompt_ids(self) -> tuple[Any, ...]:
        """The prompts' labels in the order of the plan, each once."""
        return tuple(dict.fromkeys(cell.prompt_id for cell in self.cells))

    def count(self, status: Status) -> int:
        """How many cells have this status."""
        return sum(cell.generation.status == status for cell in self.cells)

    def __repr__(self) -> str:
        parts = [
            f"{len(self.labels)} model{'' if len(self.labels) == 1 else 's'}",
            f"{len(self.prompt_ids)} prompt{'' if len(self.prompt_ids) == 1 else 's'}",
            f"{self.count('done')} done",
        ]
        parts += [f"{n} {status}" for status in ("failed", "stopped") if (n := self.count(status))]
        if self.planned > len(self.cells):
            parts.append(f"{self.planned - len(self.cells)} not run")
        return f"<Comparison {' · '.join(parts)}>"

    def to_frame(self) -> pd.DataFrame:
        """One row a generation; units in the names, counts as `Int64`, unknown figures missing.

        Returns:
            The columns listed in `mamba_nb.display.frames.COLUMNS`, in that order.
        """
        from mamba_nb.display import frames

        return frames.to_frame(self)

    def summary(self) -> pd.DataFrame:
        """One row a model or variant: how many were done, failed and stopped, and the middle of each figure.

        Returns:
            Medians (p50) and 95th percentiles over the answers that were done, with their number.
        """
        from mamba_nb.display import frames

        return frames.summary(self)

    def to_wide(self, value: str = "text") -> pd.DataFrame:
        """One row a prompt and repeat, one column a model or variant.

        Args:
            value: Which column of `to_frame()` fills the table.

        Raises:
            BadInput: If `to_frame()` has no such column.
        """
        from mamba_nb.display import frames

        return frames.to_wide(self, value)

    def plot(self) -> Any:
        """TTFT and output speed of every answer, one row a model or variant.

        Returns:
            An altair chart, drawn without anything from the network.

        Raises:
            MissingExtra: Without altair: pip install "mamba_nb[plots]".
        """
        from mamba_nb.display import plots

        return plots.latency(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from mamba_nb.display import html

        return {"text/plain": html.comparison_text(self), "text/html": html.comparison(self)}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the comparison as JSON lines: one line about the grid, then one a cell.

        Args:
            path: Where to; usually `something.jsonl`. For CSV or Parquet use `to_frame()`.

        Returns:
            The path written.
        """
        from mamba_nb import _storage

        return _storage.write(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Comparison:
        """Read what `save` wrote.

        Raises:
            ValueError: If the file is not a saved comparison, or is of a newer format.
        """
        from mamba_nb import _storage

        return _storage.read(path)


def text_of(content: Any) -> str:
    """The text in a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    return "".join(part.get("text", "") for part in content if isinstance(part, Mapping))
