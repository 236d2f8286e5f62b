"""Filters over profiles: each says of one profile whether it passes, does not, or cannot be told.

In go keyword arguments, checked here once for `compare_profiles` and `ProfileComparison.filter`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from mamba_nb.backends.profiles_record import ModelProfile
from mamba_nb.errors import BadInput, closest

__all__ = ["FILTERS", "Filter", "Filters", "checked_filters", "judge"]

GB = 1_000_000_000


class Filters(TypedDict, total=False):
    """The keywords of `compare_profiles` and `ProfileComparison.filter`; what they mean stands there."""

    tools: bool | None
    parallel_tools: bool | None
    vision: bool | None
    json_object: bool | None
    json_schema: bool | None
    reasoning: bool | None
    embeddings: bool | None
    local: bool | None
    min_context: int | None
    min_output: int | None
    max_price_usd: float | None
    max_size_gb: float | None
    unknown: Literal["drop", "keep"]


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter.

    Attributes:
        judge: Whether a profile passes with this value; None where that is not known.
        is_flag: Whether its value is True or False; else it is a number from 0.
    """

    judge: Callable[[ModelProfile, Any], bool | None]
    is_flag: bool


def checked_filters(filters: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The filters that are set, and what becomes of unknowns.

    Raises:
        BadInput: If a filter does not exist, or its value cannot be meant.
    """
    chosen = {name: value for name, value in filters.items() if value is not None}
    unknown = chosen.pop("unknown", "drop")
    if unknown not in ("drop", "keep"):
        raise BadInput(f'unknown must be "drop" or "keep". What came: {unknown!r}.')
    for name, value in chosen.items():
        if name not in FILTERS:
            known = [*FILTERS, "unknown"]
            near = closest(name, known)
            raise BadInput(
                f"There is no filter {name!r}." + (f" Did you mean {near!r}?" if near else ""),
                hint=f"The filters are: {', '.join(known)}.",
            )
        if FILTERS[name].is_flag:
            if not isinstance(value, bool):
                raise BadInput(f"{name} must be True, False or None. What came: {value!r}.")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise BadInput(f"{name} must be a number, 0 or more, or None. What came: {value!r}.")
    return chosen, unknown


def judge(profile: ModelProfile, chosen: Mapping[str, Any]) -> bool | None:
    """Whether a profile passes all of them: False where one is known to fail, None where one is not known."""
    verdicts = [FILTERS[name].judge(profile, value) for name, value in chosen.items()]
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _flag(field: str) -> Filter:
    def passes(profile: ModelProfile, wanted: bool) -> bool | None:
        value = getattr(profile, field)
        return None if value is None else value is wanted

    return Filter(passes, is_flag=True)


def _context(profile: ModelProfile, least: float) -> bool | None:
    """By the context in force; a model that was not made for so many cannot have them in force."""
    if profile.context_window is not None:
        return profile.context_window >= least
    if profile.context_max is not None and profile.context_max < least:
        return False
    return None


def _output(profile: ModelProfile, least: float) -> bool | None:
    return None if profile.max_output_tokens is None else profile.max_output_tokens >= least


def _price(profile: ModelProfile, most: float) -> bool | None:
    prices = (profile.input_price_usd, profile.output_price_usd)
    if any(price is not None and price > most for price in prices):
        return False
    return None if None in prices else True


def _size(profile: ModelProfile, most: float) -> bool | None:
    return None if profile.size_bytes is None else profile.size_bytes <= most * GB


FILTERS: Mapping[str, Filter] = {
    "tools": _flag("supports_tools"),
    "parallel_tools": _flag("supports_parallel_tools"),
    "vision": _flag("supports_vision"),
    "json_object": _flag("supports_json_object"),
    "json_schema": _flag("supports_json_schema"),
    "reasoning": _flag("supports_reasoning"),
    "embeddings": _flag("supports_embeddings"),
    "local": _flag("runs_locally"),
    "min_context": Filter(_context, is_flag=False),
    "min_output": Filter(_output, is_flag=False),
    "max_price_usd": Filter(_price, is_flag=False),
    "max_size_gb": Filter(_size, is_flag=False),
}
