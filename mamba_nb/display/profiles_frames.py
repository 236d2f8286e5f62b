"""Profiles as pandas tables: tidy with every source, and wide for people.

What is not known is missing, never False and never 0. The tables survive CSV and Parquet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mamba_nb.backends.comparing_record import ProfileComparison, ProfileRow
from mamba_nb.backends.profiles_record import ABOUT, FACT_FIELDS
from mamba_nb.display.profiles_columns import COLUMNS
from mamba_nb.display.text import storable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TIDY", "to_frame", "to_wide"]

Read = Callable[[ProfileRow, str], Any]


def _value(row: ProfileRow, field: str) -> str | None:
    """The value as text: `True`, `4096`, `Q4_K_M`."""
    value = getattr(row.profile, field)
    return None if value is None else str(value)


def _number(row: ProfileRow, field: str) -> float | None:
    value = getattr(row.profile, field)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _flag(row: ProfileRow, field: str) -> bool | None:
    value = getattr(row.profile, field)
    return value if isinstance(value, bool) else None


def _others(row: ProfileRow, field: str) -> str | None:
    others = list(row.profile.said(field).values())[1:]
    said = [f"{fact.source} {fact.value}" + (f" ({fact.evidence})" if fact.evidence else "") for fact in others]
    return "; ".join(said) or None


TIDY: tuple[tuple[str, str, Read], ...] = (
    ("model", "str", lambda row, field: row.label),
    ("server", "str", lambda row, field: row.server),
    ("field", "str", lambda row, field: field),
    ("value", "str", _value),
    ("number", "Float64", _number),
    ("flag", "boolean", _flag),
    ("unit", "str", lambda row, field: ABOUT[field].unit),
    ("source", "str", lambda row, field: row.profile.fact(field).source),
    ("evidence", "str", lambda row, field: row.profile.fact(field).evidence),
    ("as_of", "str", lambda row, field: row.profile.fact(field).as_of),
    ("disagrees", "bool", lambda row, field: field in row.profile.disagreements),
    ("other_sources", "str", _others),
)
"""The columns of the tidy table: name, dtype, and how each is read from a row and a field."""


def to_frame(comparison: ProfileComparison) -> pd.DataFrame:
    """One row a model and field, in the order of the models and of a profile's fields."""
    import pandas as pd

    places = [(row, field) for row in comparison.rows for field in FACT_FIELDS]
    return pd.DataFrame(
        {name: _series([read(row, field) for row, field in places], dtype) for name, dtype, read in TIDY}
    )


def to_wide(comparison: ProfileComparison) -> pd.DataFrame:
    """One row a model, indexed by its label."""
    import pandas as pd

    index = pd.Index([storable(row.label) for row in comparison.rows], name="model", dtype="str")
    frame = pd.DataFrame(
        {column.name: _series([column.get(row) for row in comparison.rows], column.dtype) for column in COLUMNS}
    )
    return frame.set_index(index)


def _series(values: list[Any], dtype: str) -> pd.Series[Any]:
    import pandas as pd

    if dtype == "str":
        # A JSON reply may hold half a character ("\ud83d"), which no column of text can.
        values = [None if value is None else storable(str(value)) for value in values]
    return pd.Series(values, dtype=dtype)
