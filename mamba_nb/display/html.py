"""Records as HTML and as text: one answer, and a comparison's summary.

In go records, out come strings. Everything that a model, a server or a prompt said is escaped, and what
could turn the page or the terminal round is made visible. Figures have three significant digits at most
and their unit; counts are exact; what is not known is an en dash whose title says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mamba_nb.display import style
from mamba_nb.display.columns import SUMMARY, Group, groups, notes
from mamba_nb.display.panels import of_generation
from mamba_nb.display.pieces import LABEL_CHARS as MOST_LABEL
from mamba_nb.display.pieces import NAME_CHARS, named, note, state_mark, table_box
from mamba_nb.display.text import UNKNOWN, count, figure, one_line, pad, width
from mamba_nb.records import Comparison, Generation

__all__ = ["comparison", "comparison_text", "generation", "page"]


LABEL_CHARS = 40  # of a label in the text table


@dataclass(frozen=True, slots=True)
class _Shown:
    """A figure of the summary as people see it."""

    column: str
    title: str
    unit: str
    why_unknown: str
    form: Callable[[float], str] = figure
    optional: bool = False  # left out where no row has any


_NO_TOKENS = "the server did not count tokens, or no answer was done"
_SHOWN = (
    _Shown("ttft_ms_p50", "TTFT", "ms, p50", "nothing was streamed, or no answer was done"),
    _Shown("ttft_ms_p95", "TTFT", "ms, p95", "nothing was streamed, or no answer was done"),
    _Shown("output_tokens_per_s_p50", "output", "tok/s, p50", _NO_TOKENS),
    _Shown("decode_tokens_per_s_p50", "decode", "tok/s, p50", _NO_TOKENS),
    _Shown("latency_s_p50", "latency", "s, p50", "no answer was done"),
    _Shown("completion_tokens_p50", "length", "tokens, p50", _NO_TOKENS, form="{:,.10g}".format),
    _Shown("load_s", "load", "s", "there was no warm-up", optional=True),
    _Shown("cost_usd", "cost", "USD", "no price is known", optional=True),
)
_COLUMNS = {column.name: column for column in SUMMARY}
_STATES = ("done", "failed", "stopped")


def page(inner: str) -> str:
    """The HTML with its style sheet, complete in itself."""
    return f'<div class="{style.ROOT_CLASS}">\n<style>{style.css()}</style>\n{inner}\n</div>'


def generation(record: Generation) -> str:
    """One answer as a panel: where it came from, its figures, its text, and what to know of it."""
    return page(of_generation(record))


def comparison(record: Comparison, more: str = "") -> str:
    """The summary as a table, one row a model or variant, and what makes its rows hard to compare below.

    Args:
        record: The grid.
        more: HTML that stands between the two.
    """
    rows = groups(record)
    below = "".join(note(kind, text) for kind, text in _notes(record, rows))
    if not rows:
        return page(f'<div class="mn-notes">{below}</div>')
    shown = _columns(rows)
    head = "".join(f'<th scope="col">{item.title} <span>{item.unit}</span></th>' for item in shown)
    body = "".join(_row(group, index, shown) for index, group in enumerate(rows))
    return page(
        f'<div {table_box("Summary")}><table class="mn-table">\n'
        '<thead><tr><th scope="col" class="mn-label">model</th><th scope="col" class="mn-left">answers</th>'
        f"{head}</tr></thead>\n"
        f"<tbody>\n{body}</tbody></table></div>\n{more}"
        f'<div class="mn-notes">{below}</div>'
    )


def comparison_text(record: Comparison) -> str:
    """The same summary as aligned text for a terminal."""
    rows = groups(record)
    lines = _table_text(rows) if rows else []
    lines += [f"{style.mark(kind)[0]} {one_line(text)}" for kind, text in _notes(record, rows)]
    return "\n".join(lines)


def _table_text(rows: list[Group]) -> list[str]:
    shown = _columns(rows)
    table = [["model", "answers", *(item.title for item in shown)], ["", "", *(item.unit for item in shown)]]
    for group in rows:
        where = " · ".join(part for part in (one_line(group.label, LABEL_CHARS), one_line(_server(group))) if part)
        values = (_value(item, group) for item in shown)
        table.append([where, _answers_text(group), *(UNKNOWN if value is None else value for value in values)])
    widths = [max(map(width, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(pad(cell, widths[place], right=place > 1) for place, cell in enumerate(row)).rstrip() for row in table
    ]


def _columns(rows: list[Group]) -> list[_Shown]:
    """The figures to show: a load or a cost only where some row has one; local models cost nothing."""
    return [item for item in _SHOWN if not item.optional or any(_COLUMNS[item.column].get(group) for group in rows)]


def _value(item: _Shown, group: Group) -> str | None:
    value = _COLUMNS[item.column].get(group)
    return None if value is None else item.form(value)


def _row(group: Group, index: int, shown: list[_Shown]) -> str:
    server = _server(group)
    where = f' <span class="mn-quiet">·&nbsp;{named(server, MOST_LABEL)}</span>' if server else ""
    cells = []
    for item in shown:
        value = _value(item, group)
        cells.append(f"<td>{value}</td>" if value is not None else f'<td title="{item.why_unknown}">{UNKNOWN}</td>')
    return (
        f'<tr><th scope="row" class="mn-label"><div><span class="mn-dot {style.model_class(index)}"></span>'
        f"<span><b>{named(group.label, MOST_LABEL)}</b>{where}</span></div></th>"
        f'<td class="mn-left">{_answers(group)}</td>{"".join(cells)}</tr>\n'
    )


def _counts(group: Group) -> list[tuple[str, int]]:
    return [(state, n) for state in _STATES if (n := group.count(state))]


def _answers(group: Group) -> str:
    return "<br>".join(f"{state_mark(state)} {count(n)} {state}" for state, n in _counts(group)) or "none"


def _answers_text(group: Group) -> str:
    return ", ".join(f"{style.mark(state)[0]} {count(n)} {state}" for state, n in _counts(group)) or "none"


def _server(group: Group) -> str:
    return ", ".join(dict.fromkeys(cell.generation.server for cell in group.cells))


def _notes(record: Comparison, rows: list[Group]) -> list[tuple[str, str]]:
    """Notes of the whole grid, then of each column under its label, then what was not run."""
    said = [("warning", text) for text in record.notes]
    said += [(kind, f"{one_line(group.label, NAME_CHARS)}: {text}") for group in rows for kind, text in notes(group)]
    if not record.cells:
        said.append(("idle", "No answers. Run compare(models, prompts) to get some."))
    elif record.planned > len(record.cells):
        said.append(("stopped", f"{count(record.planned - len(record.cells))} of {count(record.planned)} were not run"))
    return said
