"""What a profile table shows, as JSON: columns, rows and cells, in the order and with the fields that were chosen.

In go the entries and the reader's choice, out come plain dicts. Nothing is asked here. How old a verified fact is
grows while a table stands there, so its time goes out and the front end says the age.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from mamba_nb.backends.comparing import labelled as told_apart
from mamba_nb.backends.comparing_record import ProfileComparison, ProfileRow
from mamba_nb.backends.profiles_record import ABOUT, FACT_FIELDS
from mamba_nb.display import style
from mamba_nb.display.profiles import MOST_ROWS
from mamba_nb.display.profiles_columns import MEANINGS, SHOWN, shown, view
from mamba_nb.display.text import count, one_line, visible
from mamba_nb.probes.capabilities import CAPABILITIES
from mamba_nb.servers.facts import Fact
from mamba_nb.widgets.profile_table_evidence import deciding
from mamba_nb.widgets.profile_table_models import Entry
from mamba_nb.widgets.profile_table_probe import Probing

__all__ = ["MODEL", "Choice", "column_of", "compared", "compose", "in_order", "progress"]

MODEL = "model"  # sorting by the name, which is no field of a profile
_COLUMNS = {str(column.field): column for column in SHOWN}
_UNITS = {"size_bytes": "GB", "memory_bytes": "GB"}
_FIGURES = ("count", "price")


@dataclass(slots=True)
class Choice:
    """What the reader wants to see.

    Attributes:
        fields: Fields of a profile in the order of their columns; None is what is worth showing.
        only_differences: Whether columns that are the same for all models are left out.
        filters: As `ProfileComparison.filter` takes them.
        sort: The field to sort by, `MODEL`, or None for the order given.
        down: Whether the largest stands first.
    """

    fields: tuple[str, ...] | None = None
    only_differences: bool = False
    filters: dict[str, Any] = field(default_factory=dict)
    sort: str | None = None
    down: bool = False


def compared(entries: Sequence[Entry]) -> tuple[ProfileComparison, dict[str, Entry]]:
    """All models of which something is known, with labels that tell them apart; and the entry behind each label."""
    known = [(entry, row) for entry in entries if (row := entry.row) is not None]
    rows = told_apart([_current(entry, row) for entry, row in known])
    labelled = [replace(row, place=entry.place) for (entry, _), row in zip(known, rows, strict=True)]
    return (
        ProfileComparison(rows=tuple(labelled)),
        {row.label: entry for (entry, _), row in zip(known, labelled, strict=True)},
    )


def in_order(comparison: ProfileComparison, choice: Choice) -> ProfileComparison:
    """The models that pass the filters, sorted as chosen; unknowns stand last either way."""
    passing = comparison.filter(**choice.filters)
    name = choice.sort
    if name is None:
        return passing
    rows = sorted(passing.rows, key=lambda row: row.label.casefold(), reverse=choice.down and name == MODEL)
    if name != MODEL:
        known = [row for row in passing.rows if getattr(row.profile, name) is not None]
        known.sort(key=lambda row: _sortable(getattr(row.profile, name)), reverse=choice.down)
        rows = [*known, *(row for row in passing.rows if getattr(row.profile, name) is None)]
    return ProfileComparison(rows=tuple(rows), notes=passing.notes)


def compose(entries: Sequence[Entry], choice: Choice) -> dict[str, Any]:
    """All that the table shows of the models, but for how far their probes are."""
    whole, by_label = compared(entries)
    comparison = in_order(whole, choice)
    rows = comparison.rows[:MOST_ROWS]
    fields = list(choice.fields) if choice.fields is not None else [str(each.field) for each in shown(rows)]
    kept = [name for name in fields if not choice.only_differences or _differs(rows, name)]
    asked = [entry for entry in entries if entry.row is None][: max(0, MOST_ROWS - len(rows))]
    notes = [["idle", visible(text)] for text in comparison.notes]
    if len(comparison.rows) > len(rows):
        notes.append(["idle", f"{count(len(comparison.rows) - len(rows))} more models are not shown; .wide has all."])
    if len(kept) < len(fields):
        left_out = len(fields) - len(kept)
        same = "column is" if left_out == 1 else "columns are"
        notes.append(["idle", f"{left_out} {same} the same for all models and left out."])
    return {
        "columns": [_heading(name, choice) for name in kept],
        "rows": [_row(row, by_label[row.label], kept) for row in rows] + [_unread(entry) for entry in asked],
        "menu": [{"field": name, "title": ABOUT[name].label, "on": name in fields} for name in FACT_FIELDS],
        "auto": choice.fields is None,
        "differences": choice.only_differences,
        "filters": dict(choice.filters),
        "left_out": len(whole.rows) - len(comparison.rows),
        "of": len(whole.rows),
        "sort": {"by": choice.sort, "down": choice.down},
        "notes": notes,
        "legend": [[source, MEANINGS[source]] for source in _sources(rows, kept)],
    }


def progress(entries: Sequence[Entry]) -> dict[str, dict[str, Any]]:
    """Entry -> how far its probe is, where there is one."""
    return {entry.key: _progress(entry) for entry in entries if entry.probing is not None}


def _progress(entry: Entry) -> dict[str, Any]:
    probing = entry.probing
    if probing is None:
        return {}
    plan = probing.plan
    return {
        "phase": probing.phase,
        "words": visible(probing.words()),
        "asked": probing.asked,
        "found": probing.found,
        "of": len(plan.capabilities) if plan is not None else 0,
        "field": probing.field,
        "notes": [visible(note) for note in probing.report.notes] if probing.report is not None else [],
        "hint": visible(probing.error.hint or "") if probing.error is not None else "",
        "choice": _choice(probing) if probing.phase == "planned" else [],
    }


def _choice(probing: Probing) -> list[dict[str, Any]]:
    """What a probe can ask about, in the order in which it asks."""
    chosen, known = probing.chosen, probing.known
    return [
        {"name": each.name, "title": each.title, "on": each.name in chosen, "known": each.name in known}
        for each in CAPABILITIES
    ]


def column_of(name: str) -> str | None:
    """The field of a profile that a column's name or a field's name means; None where it is neither."""
    if name in ABOUT:
        return name
    return next((str(column.field) for column in SHOWN if name in (column.name, column.title)), None)


def _current(entry: Entry, row: ProfileRow) -> ProfileRow:
    """The row with what a probe under way has verified already: the backend's profile has it when the probe ends."""
    probing = entry.probing
    if probing is None or probing.phase != "probing":
        return row
    return replace(row, profile=row.profile.with_facts(probing.facts))


def _heading(name: str, choice: Choice) -> dict[str, Any]:
    column, about = _COLUMNS.get(name), ABOUT[name]
    unit = column.unit if column is not None else _UNITS.get(name, about.unit or "")
    order = "none" if choice.sort != name else "descending" if choice.down else "ascending"
    return {"field": name, "title": about.label, "unit": unit, "figure": about.kind in _FIGURES, "order": order}


def _row(row: ProfileRow, entry: Entry, fields: Sequence[str]) -> dict[str, Any]:
    return {
        "key": entry.key,
        "label": one_line(row.label, 200),
        "server": one_line(row.server or "", 40),
        "colour": style.model_class(entry.place),
        "asking": entry.asking,
        "notes": [visible(note[:1000]) for note in row.notes],
        "retry": bool(row.notes) and entry.is_live,
        "no_probe": one_line(entry.why_no_probe or "", 200),
        "cells": {name: _cell(row, entry, name) for name in fields},
    }


def _unread(entry: Entry) -> dict[str, Any]:
    """A model of which nothing is known yet."""
    return {
        "key": entry.key,
        "label": one_line(entry.title, 200),
        "server": "",
        "colour": style.model_class(entry.place),
        "asking": True,
        "notes": [],
        "retry": False,
        "no_probe": "It is being asked what it is.",
        "cells": {},
    }


def _cell(row: ProfileRow, entry: Entry, name: str) -> dict[str, Any]:
    seen = view(row.profile, name)
    fact = row.profile.fact(name)
    cell: dict[str, Any] = {"mark": seen.mark, "tone": seen.tone, "text": seen.text}
    if fact.rank:
        cell["source"] = fact.source
        if (at := _seconds(fact)) is not None and fact.source == "verified":
            cell["at"] = at
    elif (probing := entry.probing) is not None and any(True for _ in deciding(name, probing.results)):
        cell["source"] = "probed: unknown"
    else:
        cell["why"] = seen.why
    if seen.but:
        cell["but"] = seen.but
    return cell


def _seconds(fact: Fact) -> float | None:
    """When it was said, in seconds since the epoch; None where no time of day is known."""
    if not fact.as_of or len(fact.as_of) <= len("2026-11-22"):
        return None
    try:
        when = datetime.fromisoformat(fact.as_of)
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _differs(rows: Sequence[ProfileRow], name: str) -> bool:
    """Whether the models differ in a field; one alone differs in all."""
    return len(rows) < 2 or len({_sortable(getattr(row.profile, name)) for row in rows}) > 1


def _sortable(value: Any) -> Any:
    return value.casefold() if isinstance(value, str) else value


def _sources(rows: Sequence[ProfileRow], fields: Sequence[str]) -> list[str]:
    found = {source for row in rows for name in fields for source in row.profile.said(name)}
    return [source for source in MEANINGS if source in found]
