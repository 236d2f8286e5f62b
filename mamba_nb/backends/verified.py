"""What probes have verified, kept on disk: one JSON file for each model on each server.

In go results and facts, out come the same with their times. A file is found by the server's address, the model's name
and its digest; the embedded engine, whose address changes at every start, by its weights and its context instead.
The files stand in the user's cache folder, or in the one that MAMBA_PROBE_CACHE names. They hold no key. A file that
cannot be read, or that another version wrote, counts as none; one that cannot be written is left unwritten.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mamba_nb.servers.facts import Fact

if TYPE_CHECKING:
    from mamba_nb.backends.backend import OpenAICompatibleBackend

__all__ = [
    "Place",
    "Stored",
    "cache_folder",
    "declared_context",
    "facts_at",
    "forget",
    "place_of",
    "place_of_backend",
    "read",
    "verified_facts",
    "write",
]

FORMAT = "mamba_nb.probes"
VERSION = 1
MOST_BYTES = 4_000_000  # a larger file is none of ours
BY_CONTEXT = ("context_window", "max_output_tokens")  # hold only while the context in force is what it was

_log = logging.getLogger("mamba_nb")
_lock = threading.Lock()
_read: dict[Path, tuple[tuple[int, int], Stored]] = {}  # by file: its time and size, and what stood in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which model on which server.

    Attributes:
        server: The server's address, without user name and query; for the embedded engine its weights and context.
        model: The model's name on the wire.
        digest: What tells this file from another of the same name, where the server declares one.
    """

    server: str
    model: str
    digest: str | None = None

    @property
    def path(self) -> Path:
        """The file for this place, whether it is there or not."""
        exact = hashlib.sha256(json.dumps([self.server, self.model, self.digest]).encode()).hexdigest()[:16]
        name = re.sub(r"[^\w.-]+", "-", self.model.rpartition("/")[2])[:60].strip("-.") or "model"
        return cache_folder() / f"{name}-{exact}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What one file holds.

    Attributes:
        results: Capability -> the probe's result as JSON data.
        facts: Field of a ModelProfile -> what was verified of it.
        contexts: Field -> the context that the server declared then, for the facts that hold only with it.
    """

    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)
    contexts: Mapping[str, int | None] = field(default_factory=dict)


def cache_folder() -> Path:
    """Where the files are: MAMBA_PROBE_CACHE, else `probes` in the user's cache folder."""
    if chosen := os.environ.get("MAMBA_PROBE_CACHE"):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("mamba_nb", appauthor=False)) / "probes"


def place_of(base_url: str, model: str, digest: str | None = None) -> Place:
    """The place for an address, a model and its digest.

    An address at which an embedded engine of this process listens gives the engine's own place.
    """
    from mamba_nb import embedded

    for engine in embedded.status():
        if engine.base_url == base_url:
            return _embedded_place(engine.model_path, engine.model, engine.n_ctx)
    parts = urlsplit(base_url.rstrip("/"))
    server = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return Place(server=server, model=model, digest=digest)


def place_of_backend(backend: OpenAICompatibleBackend, digest: str | None = None) -> Place:
    """The place for a backend; an embedded engine need not be running for it."""
    spec = getattr(backend, "_spec", None)
    if spec is not None:
        return _embedded_place(spec.model_path, spec.model, spec.n_ctx)
    return place_of(backend.base_url, backend._questions.resolved or backend.model, digest)


def _embedded_place(weights: Path, model: str, n_ctx: int) -> Place:
    try:
        about = weights.stat()
        exact = f"{weights.name} {about.st_size} {about.st_mtime_ns}"
    except OSError:
        exact = weights.name
    return Place(server=f"embedded, context {n_ctx}", model=model, digest=exact)


def verified_facts(
    base_url: str, model: str, digest: str | None = None, *, declared: Mapping[str, Fact] | None = None
) -> Mapping[str, Fact]:
    """What probes have verified of a model on a server; empty where nothing was. Reads one small file at most.

    Args:
        base_url: The server's OpenAI address.
        model: The model's name on the wire.
        digest: The model's digest as the server declares it now, where it does.
        declared: What the server declares now. Where its context in force is not the one that was probed, what
            was verified of the context is left out.
    """
    return facts_at(place_of(base_url, model, digest), declared)


def facts_at(place: Place, declared: Mapping[str, Fact] | None = None) -> Mapping[str, Fact]:
    """The same for a place."""
    stored = read(place)
    if declared is None:
        return stored.facts
    context = declared_context(declared)
    return {
        name: fact
        for name, fact in stored.facts.items()
        if name not in BY_CONTEXT or context is None or stored.contexts.get(name) in (None, context)
    }


def declared_context(declared: Mapping[str, Fact]) -> int | None:
    """The context in force that a server declares, or None."""
    fact = declared.get("context_window")
    return fact.value if fact is not None and _is_count(fact.value) else None


def read(place: Place) -> Stored:
    """What is stored for a place; empty where nothing is, or nothing that can be read."""
    path = place.path
    try:
        about = path.stat()
        stamp = (about.st_mtime_ns, about.st_size)
        with _lock:
            known = _read.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        if about.st_size > MOST_BYTES:
            return Stored()
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return Stored()
    stored = _parsed(data, place)
    with _lock:
        _read[path] = (stamp, stored)
    return stored


def write(
    place: Place, results: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Fact], context: int | None
) -> None:
    """Lay results and facts over what is stored, and keep the rest.

    Args:
        place: Which model on which server.
        results: Capability -> result as JSON data, its `field` among it.
        facts: Field -> fact, verified. A field that these results decide and that is not in it loses its fact.
        context: The context in force that the server declares now, or None.
    """
    if not results:
        return
    path = place.path
    with _lock:
        _read.pop(path, None)
    old = read(place)
    decided = {name for result in results.values() if isinstance(name := result.get("field"), str)}
    kept = {name: fact for name, fact in old.facts.items() if name not in decided}
    contexts = {name: old.contexts.get(name) for name in kept if name in BY_CONTEXT}
    data = {
        "format": FORMAT,
        "version": VERSION,
        **asdict(place),
        "results": {**old.results, **results},
        "facts": {name: asdict(fact) for name, fact in {**kept, **facts}.items()},
        "contexts": {**contexts, **{name: context for name in facts if name in BY_CONTEXT}},
    }
    beside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(data, indent=1), "utf-8")
        beside.replace(path)
    except (OSError, ValueError) as error:  # a full disk or a read-only home costs the memory, not the answer
        _log.warning("What was verified of %s could not be kept in %s: %s", place.model, path.parent, error)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def forget(place: Place) -> None:
    """Take away what is stored for a place."""
    with _lock:
        _read.pop(place.path, None)
    with contextlib.suppress(OSError):
        place.path.unlink(missing_ok=True)


def _parsed(data: Any, place: Place) -> Stored:
    if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("version") != VERSION:
        return Stored()
    if {name: data.get(name) for name in ("server", "model", "digest")} != asdict(place):
        return Stored()
    results, facts, contexts = (data.get(name) for name in ("results", "facts", "contexts"))
    return Stored(
        results={
            name: result
            for name, result in (results if isinstance(results, dict) else {}).items()
            if isinstance(result, dict)
        },
        facts={
            name: fact
            for name, said in (facts if isinstance(facts, dict) else {}).items()
            if (fact := _fact(said)) is not None
        },
        contexts={
            name: value if _is_count(value) else None
            for name, value in (contexts if isinstance(contexts, dict) else {}).items()
        },
    )


def _fact(said: Any) -> Fact | None:
    if not isinstance(said, dict) or not isinstance(value := said.get("value"), bool | int):
        return None
    evidence, as_of = said.get("evidence"), said.get("as_of")
    return Fact(
        value, "verified", evidence if isinstance(evidence, str) else None, as_of if isinstance(as_of, str) else None
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
