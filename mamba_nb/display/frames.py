"""A comparison as pandas tables: every answer, a summary, one column side by side.

Counts are `Int64`, figures `float64`, texts pandas' `str`; what is not known is missing, never a zero. The
tables survive CSV and Parquet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mamba_nb.display.columns import COLUMNS, SUMMARY, Column, RowT, groups
from mamba_nb.display.text import storable
from mamba_nb.errors import BadInput, closest
from mamba_nb.records import Comparison

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "SUMMARY", "summary", "to_frame", "to_wide"]


def to_frame(comparison: Comparison) -> pd.DataFrame:
    """One row a generation, in the order of the plan, with the columns of `COLUMNS`."""
    return _table(COLUMNS, comparison.cells)


def summary(comparison: Comparison) -> pd.DataFrame:
    """One row a model or variant, indexed by its label, with the columns of `SUMMARY`."""
    return _table(SUMMARY, groups(comparison)).set_index("label")


def to_wide(comparison: Comparison, value: str = "text") -> pd.DataFrame:
    """One row a prompt (and a repeat, where there are several), one column a model or variant.

    Args:
        comparison: The grid.
        value: Which column of `to_frame()` fills the table.

    Returns:
        A table indexed by `prompt_id`. Where one id stands for several prompts, the prompt's text and, if need
        be, the number of its occurrence stand in the index beside it, so that no answer hides another.

    Raises:
        BadInput: If `to_frame()` has no such column.
    """
    import pandas as pd

    known = [column.name for column in COLUMNS]
    if value not in known:
        near = closest(value, known)
        raise BadInput(
            f"to_frame() has no column {value!r}." + (f" Did you mean {near!r}?" if near else ""),
            hint=f"The columns are: {', '.join(known)}.",
        )
    frame = to_frame(comparison)
    place = ["prompt_id", "prompt", "repeat"]
    frame["occurrence"] = frame.groupby(["label", *place], sort=False, dropna=False).cumcount()
    places = frame[[*place, "occurrence"]].drop_duplicates()
    keys = ["prompt_id"]
    if places[["prompt_id", "prompt"]].drop_duplicates()["prompt_id"].duplicated().any():
        keys.append("prompt")
    keys += [key for key in ("repeat", "occurrence") if places[key].nunique() > 1]
    rows = places.set_index(keys).index
    wide = pd.DataFrame(index=rows)
    for label in comparison.labels:
        wide[storable(label)] = frame.loc[frame["label"] == storable(label)].set_index(keys)[value].reindex(rows)
    wide.columns.name = "label"
    return wide


def _table(columns: Sequence[Column[RowT]], rows: Sequence[RowT]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({column.name: _series(column, rows) for column in columns})


def _series(column: Column[RowT], rows: Sequence[RowT]) -> pd.Series[Any]:
    import pandas as pd

    values = [column.get(row) for row in rows]
    if column.dtype == "label":
        return _labels(values)
    if column.dtype == "str":
        # A JSON reply may hold half a character ("\ud83d"), which no column of text can.
        values = [None if value is None else storable(value) for value in values]
    return pd.Series(values, dtype=column.dtype)


def _labels(values: list[Any]) -> pd.Series[Any]:
    """The user's own labels in their own kind; mixed and nested ones as text, which every file can hold."""
    import pandas as pd

    if not values:
        return pd.Series(values, dtype="int64")
    values = [value.item() if type(value).__module__ == "numpy" else value for value in values]
    kinds = {type(value) for value in values}
    if len(kinds) == 1 and not kinds & {str, tuple, list, dict}:
        return pd.Series(values)
    return pd.Series([storable(str(value)) for value in values], dtype="str")
