"""The columns of the tables, each declared once: its name, unit, dtype, meaning, and how it is read.

`COLUMNS` read a `Cell` (one answer), `SUMMARY` reads a `Group` (all answers of one model or variant). The
pandas tables, the HTML and text summary and their tests all use these. What is not known is None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from mamba_nb.display.costs import cost_usd
from mamba_nb.metrics import percentile
from mamba_nb.records import Cell, Comparison, Generation

__all__ = ["COLUMNS", "SUMMARY", "Column", "Group", "groups", "notes"]

RowT = TypeVar("RowT")
Dtype: TypeAlias = Literal["str", "Int64", "float64", "label"]
Read: TypeAlias = Callable[[Generation], Any]


@dataclass(frozen=True, slots=True)
class Column(Generic[RowT]):
    """One column of a table.

    Attributes:
        name: The column's name; it carries the unit.
        unit: The unit as it stands beside a figure, or None.
        dtype: pandas' dtype; `label` keeps whatever kind the user's labels are of.
        get: How the value is read from a row's record; gives None where it is not known.
        doc: What the column says, and when it is missing.
    """

    name: str
    unit: str | None
    dtype: Dtype
    get: Callable[[RowT], Any]
    doc: str


@dataclass(frozen=True, slots=True)
class Group:
    """All cells of one model or variant, and those of its answers that were done."""

    label: str
    cells: tuple[Cell, ...]
    done: tuple[Generation, ...]

    def values(self, read: Read) -> list[Any]:
        """What `read` gives for the done answers, unknown values left out."""
        return [value for generation in self.done if (value := read(generation)) is not None]

    def count(self, status: str) -> int:
        """How many cells have this status."""
        return sum(cell.generation.status == status for cell in self.cells)

    @property
    def load_s(self) -> float | None:
        """Seconds of the column's warm-up call, or None without one."""
        return next((c.generation.load_s for c in self.cells if c.generation.load_s is not None), None)


def groups(comparison: Comparison) -> list[Group]:
    """The cells by label, in the labels' order; a label without cells is an empty group."""
    cells: dict[str, list[Cell]] = {label: [] for label in comparison.labels}
    for cell in comparison.cells:
        cells.setdefault(cell.label, []).append(cell)
    return [
        Group(label, tuple(mine), tuple(cell.generation for cell in mine if cell.generation.status == "done"))
        for label, mine in cells.items()
    ]


def notes(group: Group) -> list[tuple[str, str]]:
    """What a reader must know of this column: its errors, warnings and gaps.

    Returns:
        Pairs of kind (`failed` or `warning`) and text; each text once, with how many answers it concerns.
    """
    of = len(group.cells)
    counted: Counter[tuple[str, str]] = Counter()
    first_words: dict[str, str] = {}
    for cell in group.cells:
        generation = cell.generation
        if generation.status == "failed":
            kind = generation.error_type or "Error"
            first_words.setdefault(kind, (generation.error or "").partition("\n")[0])
            counted["failed", first_words[kind] or kind] += 1
        counted.update(("warning", warning) for warning in dict.fromkeys(generation.warnings))
    said = [(kind, text if of == 1 else f"{text} ({n} of {of})") for (kind, text), n in counted.items()]
    with_tokens = len(group.values(attrgetter("completion_tokens")))
    if 0 < with_tokens < len(group.done):
        said.append(("warning", f"the server counted tokens in {with_tokens} of {len(group.done)} answers only"))
    return said


def _text(name: str, read: Read, doc: str) -> Column[Cell]:
    return Column(name, None, "str", lambda cell: read(cell.generation), doc)


def _count(name: str, read: Read, doc: str, unit: str | None = None) -> Column[Cell]:
    return Column(name, unit, "Int64", lambda cell: read(cell.generation), doc)


def _figure(name: str, unit: str, read: Read, doc: str) -> Column[Cell]:
    return Column(name, unit, "float64", lambda cell: read(cell.generation), doc)


COLUMNS: tuple[Column[Cell], ...] = (
    Column("label", None, "str", lambda cell: cell.label, "The model's short name, or the variant's."),
    _text("model", lambda g: g.model, "The model's name as the server gave it."),
    Column("variant", None, "str", lambda cell: cell.variant, "The variant's own name; missing for a plain model."),
    _text("server", lambda g: g.server, "The kind of server."),
    _text("base_url", lambda g: g.base_url, "The server's address."),
    Column("prompt_id", None, "label", lambda cell: cell.prompt_id, "Its position, or its label in your data."),
    Column("prompt", None, "str", lambda cell: cell.prompt, "The prompt as text."),
    Column("repeat", None, "Int64", lambda cell: cell.repeat, "Which repeat, from 0."),
    _text("text", lambda g: g.text, "The visible answer."),
    _text("reasoning", lambda g: g.reasoning or None, "The reasoning; missing where there was none."),
    _text("finish_reason", lambda g: g.finish_reason, "As the server gave it; missing if it never came."),
    _text("status", lambda g: g.status, "done, failed or stopped."),
    _text("error", lambda g: g.error, "What went wrong, with its remedy; missing if nothing did."),
    _text("error_type", lambda g: g.error_type, "The error's class in mamba_nb.errors."),
    _text("warnings", lambda g: "; ".join(g.warnings) or None, "What to know before trusting this row."),
    _count("prompt_tokens", lambda g: g.prompt_tokens, "By the server's count.", "tokens"),
    _count("completion_tokens", lambda g: g.completion_tokens, "By the server's count, reasoning included.", "tokens"),
    _text("token_source", lambda g: g.token_source, "usage: the server counted; missing: nobody did."),
    _figure("ttft_ms", "ms", lambda g: g.ttft_ms, "Send to the first token of any kind."),
    _figure("ttft_text_ms", "ms", lambda g: g.ttft_text_ms, "Send to the first token of visible text."),
    _figure("tpot_ms", "ms", lambda g: g.tpot_ms, "Per output token after the first."),
    _figure("itl_p50_ms", "ms", lambda g: g.itl_p50_ms, "Median gap between chunks."),
    _figure("itl_p95_ms", "ms", lambda g: g.itl_p95_ms, "95th percentile of the gaps between chunks."),
    _figure("latency_s", "s", lambda g: g.latency_s, "Send to the end of the answer."),
    _figure("output_tokens_per_s", "tok/s", lambda g: g.output_tokens_per_s, "Completion tokens over the latency."),
    _figure("decode_tokens_per_s", "tok/s", lambda g: g.decode_tokens_per_s, "Once the first is out: 1000 / tpot_ms."),
    _figure("load_s", "s", lambda g: g.load_s, "The warm-up call, loading included; missing without one."),
    _figure("cost_usd", "USD", cost_usd, "0 for a local model; missing where no price is known."),
    _count("concurrency", lambda g: g.concurrency, "Requests under way on that server when it was sent, with it."),
    _count("context", lambda g: g.context, "In force on the server, as declared; missing where it is not.", "tokens"),
    _count("tool_calls", lambda g: len(g.tool_calls), "How many tools the model called."),
)  # fmt: skip


def _percentile(name: str, unit: str, q: int, doc: str) -> Column[Group]:
    """The q-th percentile of one of the answers' figures, over the done answers."""
    read: Read = attrgetter(name)
    return Column(f"{name}_p{q}", unit, "float64", lambda group: percentile(group.values(read), q), doc)


def _total(read: Read) -> Callable[[Group], Any]:
    """The sum over the done answers; None unless every one of them has a value, for a part is not the total."""

    def get(group: Group) -> Any:
        values = group.values(read)
        return sum(values) if values and len(values) == len(group.done) else None

    return get


def _names(read: Read) -> Callable[[Group], str | None]:
    return lambda group: ", ".join(dict.fromkeys(read(cell.generation) for cell in group.cells)) or None


SUMMARY: tuple[Column[Group], ...] = (
    Column("label", None, "str", lambda group: group.label, "The model's short name, or the variant's."),
    Column("model", None, "str", _names(lambda g: g.model), "The model's name as the server gave it."),
    Column("server", None, "str", _names(lambda g: g.server), "The kind of server."),
    Column("n", None, "Int64", lambda group: len(group.cells), "Answers in the comparison."),
    Column("done", None, "Int64", lambda group: len(group.done), "How many were done; every figure is over these."),
    Column("failed", None, "Int64", lambda group: group.count("failed"), "How many failed."),
    Column("stopped", None, "Int64", lambda group: group.count("stopped"), "How many were stopped."),
    _percentile("ttft_ms", "ms", 50, "Median time to the first token."),
    _percentile("ttft_ms", "ms", 95, "95th percentile of the time to the first token."),
    _percentile("tpot_ms", "ms", 50, "Median time per output token after the first."),
    _percentile("output_tokens_per_s", "tok/s", 50, "Median of completion tokens over latency."),
    _percentile("decode_tokens_per_s", "tok/s", 50, "Median once the first token is out."),
    _percentile("latency_s", "s", 50, "Median time from send to the end of the answer."),
    _percentile("latency_s", "s", 95, "95th percentile of the time from send to the end."),
    _percentile("completion_tokens", "tokens", 50, "Median length of an answer."),
    Column("completion_tokens_total", "tokens", "Int64", _total(lambda g: g.completion_tokens),
           "Of all done answers; missing unless every one was counted."),
    Column("load_s", "s", "float64", lambda group: group.load_s, "The warm-up call, loading included."),
    Column("cost_usd", "USD", "float64", _total(cost_usd), "Of all done answers; missing unless every price is known."),
    Column("notes", None, "str", lambda group: "; ".join(text for _, text in notes(group)) or None,
           "Warnings, errors and gaps, each with how many answers it concerns."),
)  # fmt: skip
