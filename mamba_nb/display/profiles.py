"""Profiles as HTML and as text: a table of several models, and one model's facts.

In goes a `ProfileComparison` or a `ModelProfile`, out come strings. Each value stands over its source; a click or
Enter on it shows the evidence of every source. Where sources disagree the cell has an edge and says both. All that a
model or a server wrote is escaped.
"""

from __future__ import annotations

from mamba_nb.backends.comparing_record import ProfileComparison, ProfileRow
from mamba_nb.backends.profiles_record import ABOUT, ModelProfile
from mamba_nb.display import style
from mamba_nb.display.html import page
from mamba_nb.display.pieces import LABEL_CHARS as MOST_LABEL
from mamba_nb.display.pieces import NAME_CHARS, named, note, table_box
from mamba_nb.display.profiles_columns import (
    MEANINGS,
    Column,
    View,
    letter,
    shown,
    sources_of,
    view,
)
from mamba_nb.display.text import count, esc, one_line, pad, width

__all__ = ["comparison", "comparison_text", "of_profile"]

MOST_ROWS = 100  # beyond these, a table is for pandas
LABEL_CHARS = 40  # of a label in the text table
EMPTY = 'No models. Give some: compare_profiles(["gpt-4o", "ollama:llama3.2"]).'


def comparison(record: ProfileComparison) -> str:
    """The table, its legend and its notes, complete in itself."""
    rows = record.rows[:MOST_ROWS]
    notes = "".join(note(kind, text) for kind, text in _notes(record))
    if not rows:
        return page(f'<div class="mn-notes">{notes}</div>')
    columns = shown(record.rows)
    head = "".join(_heading(column) for column in columns)
    body = "".join(_row(row, columns) for row in rows)
    return page(
        f'<div {table_box("Facts")}><table class="mn-table mn-facts">\n'
        f'<thead><tr><th scope="col" class="mn-label">model</th>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody></table></div>\n"
        f"{_legend(rows, columns)}\n"
        f'<div class="mn-notes">{notes}</div>'
    )


def of_profile(profile: ModelProfile) -> str:
    """One model's facts as a table: a row a field that something is known of, with the evidence of every source."""
    title = f"<b>{named(profile.requested or '')}</b>"
    if profile.name is not None and profile.name != profile.requested:
        title += f' <span class="mn-quiet">·&nbsp;{named(profile.name)}</span>'
    if not profile.known:
        notes = note("idle", "Nothing is known of this name.")
        return page(f'<div class="mn-title">{title}</div><div class="mn-notes">{notes}</div>')
    rows = []
    for field in profile.known:
        cell, unit = view(profile, field), _unit(field)
        evidence = "<br>".join(esc(line) for line in cell.evidence)
        value = f"{_value(cell)}{f' {unit}' if unit else ''}"
        rows.append(
            f'<tr><th scope="row" class="mn-left">{esc(ABOUT[field].label)}</th>'
            f'<td class="mn-left{_edge(cell)}">{value}</td>'
            f'<td class="mn-left mn-quiet mn-why">{evidence}</td></tr>\n'
        )
    return page(
        f'<div class="mn-title">{title}</div>\n<div {table_box("Facts")}><table class="mn-table mn-facts">\n'
        '<thead><tr><th scope="col" class="mn-left">fact</th><th scope="col" class="mn-left">value</th>'
        '<th scope="col" class="mn-left">who says so</th></tr></thead>\n'
        f"<tbody>\n{''.join(rows)}</tbody></table></div>"
    )


def comparison_text(record: ProfileComparison) -> str:
    """The same table as aligned text for a terminal; a letter behind each value is its source."""
    rows = record.rows[:MOST_ROWS]
    lines = []
    if rows:
        columns = shown(record.rows)
        table = [["model", *(column.title for column in columns)], ["", *(column.unit for column in columns)]]
        for row in rows:
            where = " · ".join(part for part in (one_line(row.label, LABEL_CHARS), one_line(row.server or "")) if part)
            table.append([where, *(_cell_text(view(row.profile, str(column.field))) for column in columns)])
        widths = [max(map(width, cells)) for cells in zip(*table, strict=True)]
        lines = [
            "  ".join(pad(cell, widths[place], right=place > 0) for place, cell in enumerate(cells)).rstrip()
            for cells in table
        ]
        lines += [f"{letter(source)} {source}: {MEANINGS[source]}" for source in sources_of(rows, columns)]
        if any(view(row.profile, str(column.field)).but for row in rows for column in columns):
            lines.append("! sources disagree; the better one is shown")
    lines += [f"{style.mark(kind)[0]} {one_line(text)}" for kind, text in _notes(record)]
    return "\n".join(lines)


def _heading(column: Column) -> str:
    unit = f" <span>{esc(column.unit)}</span>" if column.unit else ""
    left = "" if _is_figure(column) else ' class="mn-left"'
    return f'<th scope="col"{left}>{esc(column.title)}{unit}</th>'


def _is_figure(column: Column) -> bool:
    return ABOUT[str(column.field)].kind in ("count", "price")


def _row(row: ProfileRow, columns: list[Column]) -> str:
    where = f' <span class="mn-source">{named(row.server, MOST_LABEL)}</span>' if row.server else ""
    cells = "".join(_cell(view(row.profile, str(column.field))) for column in columns)
    return (
        f'<tr><th scope="row" class="mn-label"><div><span class="mn-dot {style.model_class(row.place)}"></span>'
        f"<span><b>{named(row.label, MOST_LABEL)}</b>{where}</span></div></th>{cells}</tr>\n"
    )


def _cell(cell: View) -> str:
    left = "" if cell.is_figure else " mn-left"
    if not cell.source:
        return f'<td class="mn-fact mn-quiet{left}" title="{esc(cell.why)}">{esc(cell.text)}</td>'
    but = f' <span class="mn-but"><span aria-hidden="true">!</span> {esc(cell.but)}</span>' if cell.but else ""
    evidence = "".join(f"<div>{esc(line)}</div>" for line in cell.evidence)
    return (
        f'<td class="mn-fact{left}{_edge(cell)}"><details><summary>{_value(cell)}'
        f' <span class="mn-source">{esc(cell.source)}</span>{but}</summary>'
        f'<div class="mn-evidence">{evidence}</div></details></td>'
    )


def _edge(cell: View) -> str:
    return " mn-differs" if cell.but else ""


def _value(cell: View) -> str:
    mark = f'<span class="mn-mark mn-{cell.tone}" aria-hidden="true">{cell.mark}</span> ' if cell.mark else ""
    return f"<bdi>{mark}{esc(cell.text)}</bdi>"


def _unit(field: str) -> str:
    if field == "parameters":
        return ""
    return "GB" if field in ("size_bytes", "memory_bytes") else ABOUT[field].unit or ""


def _legend(rows: tuple[ProfileRow, ...], columns: list[Column]) -> str:
    said = [f"<b>{source}</b>: {esc(MEANINGS[source])}" for source in sources_of(rows, columns)]
    views = [view(row.profile, str(column.field)) for row in rows for column in columns]
    if any(each.why for each in views):
        said.append("<b>?</b> and <b>–</b>: nobody says")  # noqa: RUF001
    if any(each.but for each in views):
        said.append("<b>!</b> and an edge: sources disagree, the better one stands first")
    if any(each.source for each in views):
        said.append("click a value for its evidence")
    return f'<div class="mn-legend">{" · ".join(said)}</div>'


def _cell_text(cell: View) -> str:
    if not cell.source:
        return cell.text
    return f"{'! ' if cell.but else ''}{cell.text} {letter(cell.source)}"


def _notes(record: ProfileComparison) -> list[tuple[str, str]]:
    said = [("warning", f"{one_line(row.label, NAME_CHARS)}: {text}") for row in record.rows for text in row.notes]
    said += [("idle", text) for text in record.notes]
    if not record.rows:
        said.append(("idle", EMPTY))
    elif len(record.rows) > MOST_ROWS:
        more = count(len(record.rows) - MOST_ROWS)
        said.append(("idle", f"{more} more models are not shown here; .to_wide() and .to_frame() have all."))
    return said
