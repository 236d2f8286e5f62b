"""A comparison of agents as pandas tables and as a summary: what a Comparison shows, and what agents add to it.

In goes an `AgentComparison`, whose generations carry each run's record in `agent`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from mamba_nb.display import frames, style
from mamba_nb.display import html as shown
from mamba_nb.display.columns import Group, groups
from mamba_nb.display.pieces import LABEL_CHARS, NAME_CHARS, named, table_box
from mamba_nb.display.text import UNKNOWN, count, figure, one_line, storable
from mamba_nb.errors import BadInput, closest
from mamba_nb.metrics import percentile
from mamba_nb.records import Cell, Comparison

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "SUMMARY", "html", "summary", "text", "to_frame", "to_wide"]

Record: TypeAlias = Mapping[str, Any]

# Column -> its dtype, how it is read from a run's record, and what it says.
COLUMNS: Mapping[str, tuple[str, Callable[[Record], Any], str]] = {
    "tools_called": ("str", lambda r: ", ".join(_names(r)) or None, "The tools that were called, each once."),
    "calls": ("str", lambda r: "; ".join(call["shown"] for call in r.get("calls", ())) or None, "Each call."),
    "right_tool": ("boolean", lambda r: r.get("right_tool"), "Those expected, and no others; missing: not judged."),
    "right_arguments": ("boolean", lambda r: r.get("right_arguments"), "As expected; missing: not judged."),
    "valid_arguments": ("boolean", lambda r: r.get("valid_arguments"), "Every call's; missing without a call."),
    "steps": ("Int64", lambda r: r.get("steps"), "Requests to the model."),
    "tools_s": ("float64", lambda r: r.get("tools_s"), "Seconds in tools; missing without a call."),
    "output_mode": ("str", lambda r: r.get("output_mode"), "text, native, tool or prompted."),
    "tools_mode": ("str", lambda r: r.get("tools_mode"), "native or prompted; missing without tools."),
}
SHARES = ("right_tool", "right_arguments", "valid_arguments")
SUMMARY = (*SHARES, "steps_p50", "tools_s_p50")
TITLES = {"right_tool": "right tool", "right_arguments": "right arguments", "valid_arguments": "valid arguments"}


def to_frame(comparison: Comparison) -> pd.DataFrame:
    """One row a run: the columns of a comparison, then those of `COLUMNS`."""
    import pandas as pd

    frame = frames.to_frame(comparison)
    records = [_record(cell) for cell in comparison.cells]
    for name, (dtype, read, _) in COLUMNS.items():
        values: list[Any] = [read(record) for record in records]
        frame[name] = pd.Series(values, dtype=dtype)
    return frame


def summary(comparison: Comparison) -> pd.DataFrame:
    """One row a model or variant: the columns of a comparison's summary, then shares and middles of `SUMMARY`."""
    import pandas as pd

    table, rows = frames.summary(comparison), groups(comparison)
    for name in SHARES:
        table[name] = pd.array([_share(group, name) for group in rows], dtype="Float64")
    for name in ("steps", "tools_s"):
        table[f"{name}_p50"] = pd.array([_middle(group, name) for group in rows], dtype="Float64")
    return table


def to_wide(comparison: Comparison, value: str) -> pd.DataFrame:
    """One row a prompt and repeat, one column a model or variant.

    Raises:
        BadInput: If `to_frame()` has no such column.
    """
    if value not in COLUMNS:
        known = [*(column.name for column in frames.COLUMNS), *COLUMNS]
        if value not in known:
            near = closest(value, known)
            raise BadInput(
                f"to_frame() has no column {value!r}." + (f" Did you mean {near!r}?" if near else ""),
                hint=f"The columns are: {', '.join(known)}.",
            )
        return frames.to_wide(comparison, value)
    wide, frame = frames.to_wide(comparison, "repeat"), to_frame(comparison)
    places = frame[["prompt_id", "prompt", "repeat"]].copy()
    places["occurrence"] = frame.groupby(["label", "prompt_id", "prompt", "repeat"], sort=False).cumcount()
    row = places.groupby(list(places.columns), sort=False).ngroup()
    for label in comparison.labels:
        mine = frame["label"] == storable(label)
        wide[storable(label)] = frame.loc[mine, value].set_axis(row[mine]).reindex(range(len(wide))).array
    return wide


def html(comparison: Comparison) -> str:
    """The comparison's summary, what its agents did, and the notes of both."""
    rows = groups(comparison)
    names = _shown_shares(rows)
    head = "".join(f'<th scope="col">{TITLES[share]} <span>runs</span></th>' for share in names)
    head += '<th scope="col">steps <span>p50</span></th><th scope="col">tools <span>s, p50</span></th>'
    body = "".join(
        f'<tr><th scope="row" class="mn-label"><div><span class="mn-dot {style.model_class(index)}"></span>'
        f"<b>{named(group.label, LABEL_CHARS)}</b></div></th>{''.join(map(_cell, _row(group, names)))}</tr>\n"
        for index, group in enumerate(rows)
    )
    table = (
        f'<div {table_box("Agents")}><table class="mn-table mn-agents">\n'
        f'<thead><tr><th scope="col" class="mn-label">agent</th>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody></table></div>\n"
    )
    return shown.comparison(comparison, table if rows else "")


def text(comparison: Comparison) -> str:
    """The same as text."""
    rows = groups(comparison)
    names = _shown_shares(rows)
    lines = [shown.comparison_text(comparison)]
    for group in rows:
        words = [*(TITLES[name] for name in names), "steps", "tools s"]
        told = [f"{word} {value or UNKNOWN}" for word, value in zip(words, _row(group, names), strict=True)]
        lines.append(f"{one_line(group.label, NAME_CHARS)}: {', '.join(told)}")
    return "\n".join(lines)


def _shown_shares(rows: list[Group]) -> list[str]:
    """The shares that some run has a word on."""
    return [name for name in SHARES if any(_judged(group, name) for group in rows)]


def _row(group: Group, names: list[str]) -> list[str | None]:
    values: list[str | None] = []
    for name in names:
        judged = _judged(group, name)
        values.append(f"{count(sum(judged))} of {count(len(judged))}" if judged else None)
    for name in ("steps", "tools_s"):
        middle = _middle(group, name)
        values.append(None if middle is None else f"{middle:g}" if name == "steps" else figure(middle))
    return values


def _cell(value: str | None) -> str:
    return f"<td>{value}</td>" if value is not None else f'<td title="nothing to tell it from">{UNKNOWN}</td>'


def _record(cell: Cell) -> Record:
    return cell.generation.agent or {}


def _names(record: Record) -> list[str]:
    return list(dict.fromkeys(str(call["name"]) for call in record.get("calls", ())))


def _judged(group: Group, name: str) -> list[bool]:
    return [value for cell in group.cells if (value := _record(cell).get(name)) is not None]


def _share(group: Group, name: str) -> float | None:
    judged = _judged(group, name)
    return sum(judged) / len(judged) if judged else None


def _middle(group: Group, name: str) -> float | None:
    done = [cell for cell in group.cells if cell.generation.status == "done"]
    return percentile([value for cell in done if (value := _record(cell).get(name)) is not None], 50)
