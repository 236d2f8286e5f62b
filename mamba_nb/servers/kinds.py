"""What one kind of server is like, as data, and the table of the kinds.

A kind's functions get a `Fetch`: an async function from a path at the server's root to the JSON found there,
which raises where there is none.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias
from urllib.parse import urlsplit

__all__ = [
    "Fetch",
    "Kind",
    "is_same_model",
    "kind_by_address",
    "kind_from_models",
    "kind_from_reply",
    "kind_of",
    "kinds",
    "root_of",
]

Fetch: TypeAlias = Callable[[str], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of model server.

    Attributes:
        name: As in `Generation.server` and in model names (`ollama:llama3.2`).
        title: As its makers write it.
        default_url: Its OpenAI address on this machine with its own defaults; None where the port is free.
        start: How to start it, for an error's hint.
        slots: Requests that it works on at once by default.
        one_model_at_a_time: Whether asking for another model may make it unload the one in memory.
        is_loading: Whether the server says that it is loading this model; None where it cannot tell.
        loaded_models: The chat models that are in memory, or None where it cannot tell.
    """

    name: str
    title: str
    default_url: str | None
    start: str
    slots: int = 1
    one_model_at_a_time: bool = False
    is_loading: Callable[[Fetch, str], Awaitable[bool]] | None = None
    loaded_models: Callable[[Fetch], Awaitable[Sequence[str]]] | None = None


@cache
def kinds() -> Mapping[str, Kind]:
    """Every kind by its name."""
    from mamba_nb.servers import embedded, llamacpp, lmstudio, ollama, openai, vllm

    return {module.KIND.name: module.KIND for module in (ollama, vllm, lmstudio, llamacpp, embedded, openai)}


def kind_of(name: str | None) -> Kind | None:
    """The kind of that name, or None."""
    return kinds().get(name) if name else None


# `owned_by` of the entries in GET /v1/models, where it tells the kind. The sources: vLLM
# entrypoints/serve/engine/protocol.py (ModelCard), llama.cpp server-context.cpp, LM Studio's documentation,
# Ollama middleware/openai.go (the namespace of the model's name, `library` for those without one).
_OWNERS = {
    "vllm": "vllm",
    "llamacpp": "llamacpp",
    "organization_owner": "lmstudio",
    "organization-owner": "lmstudio",
    "library": "ollama",
}


def kind_from_models(listing: Any, headers: Mapping[str, str]) -> str | None:
    """The kind that a reply of GET /v1/models shows by its shape, or None where it shows none."""
    entries = listing.get("data") if isinstance(listing, Mapping) else None
    for entry in entries or ():
        owner = entry.get("owned_by") if isinstance(entry, Mapping) else None
        if owner in _OWNERS:
            return _OWNERS[owner]
    return kind_from_reply(headers, None)


def kind_from_reply(headers: Mapping[str, str], fingerprint: str | None) -> str | None:
    """The kind that a completion's header or `system_fingerprint` shows, or None where they show none."""
    if headers.get("server") == "llama.cpp":  # on every response of llama-server, server-http.cpp
        return "llamacpp"
    if fingerprint == "fp_ollama":  # Ollama, middleware/openai.go
        return "ollama"
    if fingerprint and fingerprint.startswith("vllm-"):  # recorded from vLLM 0.32.0
        return "vllm"
    return None


def is_same_model(asked: str, answered: str) -> bool:
    """Whether the name in a reply is the model asked for, in one of the ways that servers write it.

    Examples:
        >>> is_same_model("gpt-4o", "gpt-4o-2024-08-06"), is_same_model("llama3.2", "llama3.2:latest")
        (True, True)
        >>> is_same_model("smollm", "/models/smollm.gguf"), is_same_model("gpt-4", "gpt-4o")
        (True, False)
    """
    asked, answered = asked.lower(), answered.lower()
    if asked == answered or asked.endswith("/" + answered):
        return True
    if answered.startswith(asked):  # a tag that was left out, a date, LM Studio's variant
        return re.fullmatch(r":latest|-\d{4}|-\d{4}-?\d\d-?\d\d|@[\w.-]+", answered[len(asked) :]) is not None
    return answered.removesuffix(".gguf").endswith("/" + asked.removesuffix(".gguf"))


def kind_by_address(base_url: str) -> str | None:
    """The name of the kind whose own default address this is, or None; only 11434 and 1234 are nobody else's."""
    for name in ("ollama", "lmstudio"):
        url = kinds()[name].default_url
        if url in (base_url, base_url.replace("127.0.0.1", "localhost")):
            return name
    return None


def root_of(base_url: str) -> str:
    """The address without its `/v1`: where a server's native paths begin.

    Examples:
        >>> root_of("http://127.0.0.1:11434/v1")
        'http://127.0.0.1:11434'
    """
    parts = urlsplit(base_url.rstrip("/"))
    return parts._replace(path=parts.path.removesuffix("/v1")).geturl()
