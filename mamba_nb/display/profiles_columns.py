"""The columns of a profile table, each declared once, and what stands in one of its cells.

In goes a `ModelProfile` and a field, out comes a `View`: the value as people read it, its source, and what other
sources said. The HTML table, the Styler, the terminal's text and the command line all show these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from mamba_nb.backends.comparing_record import ProfileRow
from mamba_nb.backends.profiles_record import ABOUT, ModelProfile
from mamba_nb.display.text import UNKNOWN, count, figure, one_line
from mamba_nb.servers.facts import Fact

__all__ = ["COLUMNS", "MEANINGS", "SHOWN", "Column", "View", "letter", "shown", "sources_of", "value_text", "view"]

Dtype: TypeAlias = Literal["Int64", "Float64", "boolean", "str"]

TEXT_CHARS = 24  # of a text that a server wrote
MEANINGS = {
    "verified": "a probe on this server showed it",
    "declared": "the server's own API says so",
    "claimed": "a table, a catalogue or a price list says so, for the model's name",
}
"""What each source means, the best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the table for people.

    Attributes:
        name: The column's name in `to_wide()`; it carries the unit where there is one.
        field: The field of a profile that it shows, or None for the server.
        title: Its heading.
        unit: The unit under the heading, or "".
        dtype: pandas' dtype.
        get: How the value is read from a row; None where it is not known.
        optional: Left out of the shown table where no row has any.
    """

    name: str
    field: str | None
    title: str
    unit: str = ""
    dtype: Dtype
    get: Callable[[ProfileRow], Any]
    optional: bool = False


def _of(field: str, scale: float = 1) -> Callable[[ProfileRow], Any]:
    def get(row: ProfileRow) -> Any:
        value = getattr(row.profile, field)
        return value if value is None or scale == 1 else value / scale

    return get


def _column(name: str, field: str, dtype: Dtype, unit: str = "", *, optional: bool = False, scale: float = 1) -> Column:
    return Column(
        name=name,
        field=field,
        title=ABOUT[field].label,
        unit=unit,
        dtype=dtype,
        get=_of(field, scale),
        optional=optional,
    )


COLUMNS: tuple[Column, ...] = (
    _column("context", "context_window", "Int64", "tokens"),
    _column("context_max", "context_max", "Int64", "tokens", optional=True),
    _column("max_output", "max_output_tokens", "Int64", "tokens", optional=True),
    _column("tools", "supports_tools", "boolean"),
    _column("vision", "supports_vision", "boolean"),
    _column("json_schema", "supports_json_schema", "boolean"),
    _column("reasoning", "supports_reasoning", "boolean"),
    _column("quantization", "quantization", "str", optional=True),
    _column("parameters", "parameters", "Int64", "weights", optional=True),
    _column("size_gb", "size_bytes", "Float64", "GB", optional=True, scale=1e9),
    _column("input_price_usd", "input_price_usd", "Float64", "USD / M tok", optional=True),
    _column("output_price_usd", "output_price_usd", "Float64", "USD / M tok", optional=True),
    _column("local", "runs_locally", "boolean", optional=True),
    Column(name="server", field=None, title="server", dtype="str", get=lambda row: row.server),
)
"""The columns of `to_wide()`, in order."""

SHOWN: tuple[Column, ...] = tuple(column for column in COLUMNS if column.field is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one cell shows.

    Attributes:
        mark: A shape before the value, or "".
        text: The value; `?` for an unknown capability, an en dash for an unknown number.
        tone: The colour's name for the mark (`good`, `quiet`), or "".
        is_figure: Whether it is a number, and so stands on the right.
        source: Its source, with the age of what was verified; "" where nobody said anything.
        but: What other sources say otherwise, such as `claimed 128,000`; "" where none does.
        evidence: One line a source: what said so, and when.
        why: Why nothing is known, for a title; "" where something is.
    """

    mark: str = ""
    text: str
    tone: str = ""
    is_figure: bool = False
    source: str = ""
    but: str = ""
    evidence: tuple[str, ...] = ()
    why: str = ""

    @property
    def value(self) -> str:
        """The mark and the text."""
        return f"{self.mark} {self.text}".strip()


def shown(rows: Iterable[ProfileRow]) -> list[Column]:
    """The columns worth showing for these rows: no optional one of which nothing is known or that only repeats."""
    rows = list(rows)
    columns = []
    for column in SHOWN:
        values = [getattr(row.profile, str(column.field)) for row in rows]
        if column.field == "context_max":  # says nothing new where it is the context in force
            values = [
                None if value == row.profile.context_window else value for value, row in zip(values, rows, strict=True)
            ]
        if not column.optional or any(value is not None for value in values):
            columns.append(column)
    return columns


def view(profile: ModelProfile, field: str) -> View:
    """What a field's cell shows."""
    about, fact = ABOUT[field], profile.fact(field)
    is_figure = about.kind in ("count", "price")
    if fact.value is None:
        unknown = UNKNOWN if about.kind != "flag" else "?"
        return View(text=unknown, tone="quiet", is_figure=is_figure, why=f"nobody says: {about.label} is not known")
    others = profile.disagreements.get(field, ())[1:]
    mark, tone = ("✓", "good") if fact.value is True else ("✕", "quiet") if fact.value is False else ("", "")
    return View(
        mark=mark,
        text=value_text(field, fact.value),
        tone=tone,
        is_figure=is_figure,
        source=_aged(fact),
        but=", ".join(f"{other.source} {value_text(field, other.value)}" for other in others if not _same(other, fact)),
        evidence=tuple(_evidence(field, each) for each in profile.said(field).values()),
    )


def value_text(field: str, value: Any) -> str:
    """A field's value as people read it, without its unit where the heading has it.

    Examples:
        >>> value_text("context_window", 4096), value_text("size_bytes", 2019393189), value_text("supports_tools", True)
        ('4,096', '2.02', 'yes')
        >>> value_text("parameters", 3212749888), value_text("input_price_usd", 2.5)
        ('3.21 B', '2.50')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if field in ("size_bytes", "memory_bytes"):
        return figure(value / 1e9)
    if field == "parameters":
        return _weights(value)
    if field.endswith("_price_usd"):
        return _price(value)
    if isinstance(value, int):
        return count(value)
    return one_line(str(value), TEXT_CHARS)


def letter(source: str) -> str:
    """A source in one letter, for a terminal."""
    return source[:1]


def sources_of(rows: Iterable[ProfileRow], columns: Iterable[Column]) -> list[str]:
    """The sources that occur in these cells, the best first."""
    fields = [str(column.field) for column in columns]
    found = {source for row in rows for field in fields for source in row.profile.said(field)}
    return [source for source in MEANINGS if source in found]


def _same(one: Fact, other: Fact) -> bool:
    return bool(str(one.value).casefold() == str(other.value).casefold())


def _weights(value: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{figure(value / size)} {unit}"
    return count(int(value))


def _price(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:,.2f}" if round(value, 2) == value else f"{value:,.10g}"


def _evidence(field: str, fact: Fact) -> str:
    value = value_text(field, fact.value)
    if field == "parameters":
        value = f"{count(fact.value)} weights"
    elif field in ("size_bytes", "memory_bytes"):
        value = f"{count(fact.value)} bytes"
    elif isinstance(fact.value, str):
        value = one_line(fact.value, 200)
    said = ", ".join(one_line(part, 300) for part in (fact.evidence, _dated(fact)) if part)
    return f"{fact.source} {value}" + (f": {said}" if said else "")


def _dated(fact: Fact) -> str | None:
    """When it was said: a day as it is, a moment to the minute."""
    when = _moment(fact)
    return fact.as_of if when is None else f"{when:%Y-%m-%d %H:%M} UTC"


def _moment(fact: Fact) -> datetime | None:
    """The fact's time in UTC where it has one, and not only a day."""
    if not fact.as_of or len(fact.as_of) <= len("2026-11-22"):
        return None
    try:
        when = datetime.fromisoformat(fact.as_of)
    except ValueError:
        return None
    return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)


def _aged(fact: Fact) -> str:
    """The source; what a probe found gets its age, for a server can change under it."""
    when = _moment(fact)
    if fact.source != "verified" or when is None:
        return fact.source
    seconds = (datetime.now(UTC) - when).total_seconds()
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"verified {seconds // size:.0f} {unit} ago"
    return "verified just now" if seconds >= 0 else "verified"
