"""The record of `compare_profiles`: rows of profiles, their filters, and the ways to show them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

from mamba_nb.backends.comparing_filters import FILTERS, Filters, checked_filters, judge
from mamba_nb.backends.profiles_record import ModelProfile
from mamba_nb.errors import BadInput, closest, listed

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler

__all__ = ["ProfileComparison", "ProfileRow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRow:
    """One model of a comparison.

    Attributes:
        label: Its name, unlike all others of the comparison.
        model: The model's name as asked for.
        server: The kind of server it is on, or None for a name that nobody was asked about.
        base_url: The server's address, or None.
        profile: What is known of it.
        notes: What a reader must know of this row: a server that does not answer, a name that nobody knows.
        place: Its place among the models that were given, from 0; it keeps its colour by it, filtered or not.
    """

    label: str
    model: str
    server: str | None = None
    base_url: str | None = None
    profile: ModelProfile
    notes: tuple[str, ...] = ()
    place: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileComparison:
    """What is known of several models, with sources; shown as a table in a cell.

    Attributes:
        rows: One a model, in the order given.
        notes: What holds for the whole: how many a filter left out, and why.
    """

    rows: tuple[ProfileRow, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ProfileRow]:
        return iter(self.rows)

    def __getitem__(self, label: str | int) -> ProfileRow:
        """The row of this label, or at this place.

        Raises:
            BadInput: If there is no such label; the message has the closest one.
            IndexError: If there is no such place.
        """
        if isinstance(label, int):
            return self.rows[label]
        for row in self.rows:
            if row.label == label:
                return row
        near = closest(str(label), self.labels)
        raise BadInput(
            f"This comparison has no row {label!r}." + (f" Did you mean {near!r}?" if near else ""),
            hint=f"Its rows are: {', '.join(self.labels) or 'none'}.",
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """The rows' labels in order."""
        return tuple(row.label for row in self.rows)

    def filter(self, **filters: Unpack[Filters]) -> ProfileComparison:
        """The rows that are known to pass.

            comparison.filter(tools=True, min_context=32_000)

        Args:
            **filters: `tools`, `parallel_tools`, `vision`, `json_object`, `json_schema`, `reasoning`, `embeddings`,
                `local`: True keeps the models that are known to have it, False those that are known not to.
                `min_context`, `min_output`: tokens; the context is the one in force. `max_price_usd`: US dollars per
                million tokens, for prompt and answer alike. `max_size_gb`: 10^9 bytes on disk. `unknown`: `"drop"`
                (the default) leaves out rows of which it is not known whether they pass, `"keep"` keeps them.
                None does not filter.

        Returns:
            A new comparison; its notes say how many rows were left out, and why.

        Raises:
            BadInput: If a filter does not exist or its value cannot be meant.
        """
        chosen, unknown = checked_filters(filters)
        kept, failing, not_known = [], [], []
        for row in self.rows:
            verdict = judge(row.profile, chosen)
            if verdict is False:
                failing.append(row.label)
            elif verdict is None and unknown == "drop":
                not_known.append(row)
            else:
                kept.append(row)
        notes = list(self.notes)
        if left_out := len(failing) + len(not_known):
            notes.append(_said_of_filter(chosen, left_out, len(self.rows), failing, not_known))
        return ProfileComparison(rows=tuple(kept), notes=tuple(notes))

    def to_frame(self) -> pd.DataFrame:
        """Tidy: one row a model and field, the fields that nobody says anything of included.

        Returns:
            The columns of `mamba_nb.display.profiles_frames.TIDY`: model, server, field, value (as text), number and
            flag (the value where it is one), unit, source, evidence, as_of, disagrees, other_sources. It survives CSV
            and Parquet.
        """
        from mamba_nb.display import profiles_frames

        return profiles_frames.to_frame(self)

    def to_wide(self) -> pd.DataFrame:
        """For people: one row a model, indexed by its label, with nullable dtypes; what is not known is missing.

        Returns:
            The columns of `mamba_nb.display.profiles_columns.COLUMNS`.
        """
        from mamba_nb.display import profiles_frames

        return profiles_frames.to_wide(self)

    def style(self) -> Styler:
        """The table for people as a pandas Styler: each value with its source, disagreements marked."""
        from mamba_nb.display import profiles_styler

        return profiles_styler.style(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON data: `{"models": [{"label", "model", "server", "base_url", "notes", "facts"}], "notes"}`.

        A model's `facts` has each field that something is known of: `{"value", "source", "evidence", "as_of",
        "disagrees", "others"}`, where `others` is what worse sources said.
        """
        return {"models": [_as_data(row) for row in self.rows], "notes": list(self.notes)}

    def __repr__(self) -> str:
        parts = [f"{len(self.rows)} model{'' if len(self.rows) == 1 else 's'}"]
        if disagreeing := sum(bool(row.profile.disagreements) for row in self.rows):
            parts.append(f"{disagreeing} with sources that disagree")
        return f"<ProfileComparison {' · '.join(parts)}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from mamba_nb.display import profiles

        return {"text/plain": profiles.comparison_text(self), "text/html": profiles.comparison(self)}


def _said_of_filter(
    chosen: Mapping[str, Any], left_out: int, of: int, failing: list[str], not_known: list[ProfileRow]
) -> str:
    asked = ", ".join(f"{name}={value!r}" for name, value in chosen.items())
    said = [f"{left_out} of {of} left out by {asked}."]
    if failing:
        said.append(f"Do not pass: {_listed(failing)}.")
    if not_known:
        names = [f"{row.label} ({_open_questions(row.profile, chosen)})" for row in not_known]
        said.append(f'Not known: {_listed(names)}; unknown="keep" keeps them.')
    return " ".join(said)


def _open_questions(profile: ModelProfile, chosen: Mapping[str, Any]) -> str:
    return ", ".join(name for name, value in chosen.items() if FILTERS[name].judge(profile, value) is None)


def _listed(names: list[str], most: int = 8) -> str:
    return listed([name if len(name) <= 80 else f"{name[:79]}…" for name in names], most)


def _as_data(row: ProfileRow) -> dict[str, Any]:
    facts = {}
    disagreements = row.profile.disagreements
    for name in row.profile.known:
        best, *others = [
            {"value": fact.value, "source": fact.source, "evidence": fact.evidence, "as_of": fact.as_of}
            for fact in row.profile.said(name).values()
        ]
        facts[name] = {**best, "disagrees": name in disagreements, "others": others}
    return {
        "label": row.label,
        "model": row.model,
        "server": row.server,
        "base_url": row.base_url,
        "notes": list(row.notes),
        "facts": facts,
    }
