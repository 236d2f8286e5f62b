"""What a server declares of one model: asked once, kept, and asked again when it may have changed.

In: a server's paths, its kind where that is known, the model's name. Out: facts by the field names of a ModelProfile,
and the kind where it was told. Nothing here raises for what a server does or does not say.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mamba_nb._bridge import foreign, io
from mamba_nb.backends.profiles import FACT_FIELDS, ModelProfile, get_profile
from mamba_nb.errors import BadInput
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.facts import Fact, ServedModel
from mamba_nb.servers.kinds import Kind, is_same_model, kind_of

if TYPE_CHECKING:
    from mamba_nb.backends.backend import OpenAICompatibleBackend

__all__ = ["PATIENCE_S", "Declared", "ask", "kind_at", "profile_of", "root_for", "served_as"]

PATIENCE_S = 1.5  # how long a reading of `backend.profile` may take
PAUSE = 20.0  # a question that failed is not asked again for so many times as long as it took
# Where servers have their OpenAI paths; what stands before them is the root of the native ones.
API_PATHS = ("/api/v1", "/api/v0", "/openai/v1", "/engines/v1", "/v1")


@dataclass(slots=True)
class Declared:
    """What is known so far, and whether it is time to ask.

    Attributes:
        facts: By the field names of a ModelProfile.
        fixed: Whether somebody else says what is declared; the server is not asked then.
    """

    facts: Mapping[str, Fact] = field(default_factory=dict)
    fixed: bool = False
    _answered: bool = False
    _not_before: float = 0.0
    _loaded_with: Any = object

    @property
    def due(self) -> bool:
        """Whether the server is to be asked now."""
        return not self.fixed and not self._answered and time.monotonic() >= self._not_before

    def take(self, facts: Mapping[str, Fact] | None, took_s: float) -> None:
        """Keep what was said; None is "there was no answer", which leaves what was known."""
        self._answered = facts is not None
        if facts is not None:
            self.facts = facts
        else:
            self._not_before = time.monotonic() + PAUSE * took_s

    def was_loaded(self, how: Any) -> None:
        """The model has answered, so it is in memory; what it was loaded with tells whether that is news."""
        if how != self._loaded_with:
            self._loaded_with = how
            self._answered = False
            self._not_before = 0.0


def profile_of(backend: OpenAICompatibleBackend, name: str) -> ModelProfile:
    """The profile of a backend's model: claimed for the name, then declared, then verified by probes.

    Facts that a profile has no place for are left out, as are values that cannot be one: servers say what they like.
    """
    from mamba_nb.backends import prices, verified

    # Reading the catalogue the first time takes a tenth of a second, which our own loops must not be held up for.
    on_own_loop = io.is_current_thread() or foreign.is_current_thread()
    profile, digest = get_profile(name, catalogue=not on_own_loop), backend.declared.get("digest")
    place = verified.place_of_backend(backend, digest.value if digest is not None else None)
    here = prices.local_facts(backend.base_url, backend.server, backend.declared)
    for facts in (backend.declared, here, verified.facts_at(place, backend.declared)):
        for field_name, fact in facts.items():
            if field_name in FACT_FIELDS:
                with contextlib.suppress(BadInput):
                    profile = profile.with_facts({field_name: fact})
    return profile


async def ask(asking: Asking, kind: str | None, model: str) -> tuple[str | None, dict[str, Fact] | None]:
    """Ask a server for a model's facts.

    Args:
        asking: Its paths.
        kind: The name of its kind, or None to find out.
        model: The model's name on the wire.

    Returns:
        The kind's name, or None where it was not told; and the facts, or None where nothing answered.
    """
    try:
        kind = kind or await kind_at(asking)
        if kind is None:
            return None, None
        about = kind_of(kind)
        if about is None or about.models is None:
            return kind, {}
        served = await served_as(asking, about, model)
        if served is None:
            return kind, {} if not asking.failures else None
        return kind, served.facts()
    except Exception:  # a fact that nobody gives is unknown, and unknown is no error
        return kind, None


async def kind_at(asking: Asking) -> str | None:
    """The name of the kind of server that answers there; None where nothing does, or no model server."""
    from mamba_nb.servers.identify import identify

    sighting = await identify(asking)
    return sighting.kind if sighting is not None and sighting.kind != "compatible" else None


async def served_as(asking: Asking, kind: Kind, model: str) -> ServedModel | None:
    """The entry of a model in the server's own list, with its details; None where it is not there."""
    if kind.models is None:
        return None
    entry = _entry(await kind.models(asking), model)
    if entry is None or kind.detail is None:
        return entry
    try:
        return await kind.detail(asking, entry)
    except Exception:  # what the list says stands without the details
        return entry


def _entry(models: Sequence[ServedModel], model: str) -> ServedModel | None:
    """The model of that name, else the one that a server would take for it, else the only one there is."""
    exact = [entry for entry in models if entry.id == model]
    same = exact or [entry for entry in models if is_same_model(model, entry.id) or is_same_model(entry.id, model)]
    if same:
        return same[0]
    chats = [entry for entry in models if entry.task in ("chat", None)]
    # llama.cpp, KoboldCpp and their like serve what they have under any name.
    return replace(chats[0], id=model) if len(chats) == 1 and len(models) == 1 else None


def root_for(base_url: str, kind: Kind | None) -> str:
    """Where a server's native paths begin, by its OpenAI address.

    Examples:
        >>> root_for("http://127.0.0.1:11434/v1", None), root_for("http://gpu-box:12434/engines/v1", None)
        ('http://127.0.0.1:11434', 'http://gpu-box:12434')
    """
    parts = urlsplit(base_url.rstrip("/"))
    ours = (kind.api_path,) if kind is not None and kind.api_path else ()
    for ending in sorted((*ours, *API_PATHS), key=len, reverse=True):
        if parts.path.endswith(ending):
            return parts._replace(path=parts.path.removesuffix(ending)).geturl()
    return parts.geturl()
