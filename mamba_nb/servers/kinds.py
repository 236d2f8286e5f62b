"""What one kind of server is like, as data, and the table of the kinds.

A kind's functions get an `Asking`, the paths of one server; those that a backend calls while it waits get a
`Fetch`: an async function from a path at the server's root to the JSON found there, which raises where there is none.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any, Literal, Protocol, TypeAlias
from urllib.parse import urlsplit

from mamba_nb.servers.asking import Asking
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.pulling import PullProgress

__all__ = [
    "IN_NAMES",
    "Fetch",
    "Kind",
    "Sighting",
    "is_same_model",
    "kind_by_address",
    "kind_from_models",
    "kind_from_reply",
    "kind_of",
    "kinds",
    "root_of",
]

# What may stand before a model in its name, as in `ollama/llama3.2`.
IN_NAMES = ("ollama", "vllm", "lmstudio", "llamacpp", "embedded")

Fetch: TypeAlias = Callable[[str], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A server told as one of a kind.

    Attributes:
        kind: The kind's name.
        certainty: `certain` where a shape is this kind's alone, `likely` where others could copy it by accident,
            `guess` where little more than the port speaks for it.
        evidence: What was seen, in words: `GET /lmstudio-greeting is {"lmstudio": true}`.
        version: The server's version, or None.
        mode: `router` for a llama.cpp that starts others, else None.
        needs_key: Whether it refused to answer without a key, or with the one it got.
    """

    kind: str
    certainty: Literal["certain", "likely", "guess"]
    evidence: str
    version: str | None = None
    mode: str | None = None
    needs_key: bool = False


class Pull(Protocol):
    """Download a model on the server; the last item is the end, an error is raised."""

    def __call__(self, asking: Asking, model: str, options: Mapping[str, Any], /) -> AsyncIterator[PullProgress]:
        """`options` are the server's own (`quantization` for LM Studio)."""


class Load(Protocol):
    """Load a model and wait until it is in memory."""

    async def __call__(
        self, asking: Asking, model: str, *, context_length: int | None, keep_alive: str | float | None
    ) -> None:
        """Raises BadInput for an argument that this kind has no place for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of model server. A function that is None means: not here.

    Attributes:
        name: As in `Generation.server`, in model names (`ollama:llama3.2`) and of the file it stands in.
        title: As its makers write it.
        default_url: Its OpenAI address on this machine with its own defaults; None where the port is free.
        start: How to start it, for an error's hint.
        ports: The ports it listens on by default, the usual one first.
        api_path: Where its OpenAI paths begin.
        slots: Requests that it works on at once by default.
        holds_schemas: Whether it holds an answer to a JSON schema whatever the model.
        one_model_at_a_time: Whether asking for another model may make it unload the one in memory.
        owned_by: What `owned_by` in its GET /v1/models says and nobody else's does; empty where it tells nothing.
        recognise: Whether this server is one of the kind, by the shape of its own paths; asks as few as it can.
        models: The models it has, with all that it declares without a call per model.
        detail: One model with what takes a call of its own; gets the model as `models` gave it.
        version: Its version, where `recognise` did not see it.
        pull: Downloads a model.
        load: Loads one.
        unload: Takes one out of memory.
        count_tokens: Tokens of a whole chat request, its template included: asking, model, messages, tools.
        tokenize: A text as token ids: asking, model, text.
        metrics: Its live figures, by names of ours (`requests_running`, `requests_waiting`, `cache_usage`, ...).
        ignores: Request parameter -> what to do instead, for those its OpenAI route ignores in silence.
        refuses: Request parameter -> what to do instead, for those its OpenAI route answers with an error.
        renames: Request parameter -> what it is called here.
        renames_for: The same for one model, where not all of them agree.
        is_loading: Whether the server says that it is loading this model; None where it cannot tell.
        loaded_models: The chat models that are in memory, or None where it cannot tell.
    """

    name: str
    title: str
    default_url: str | None
    start: str
    ports: tuple[int, ...] = ()
    api_path: str = "/v1"
    slots: int = 1
    holds_schemas: bool = False
    one_model_at_a_time: bool = False
    owned_by: tuple[str, ...] = ()
    recognise: Callable[[Asking], Awaitable[Sighting | None]] | None = None
    models: Callable[[Asking], Awaitable[Sequence[ServedModel]]] | None = None
    detail: Callable[[Asking, ServedModel], Awaitable[ServedModel]] | None = None
    version: Callable[[Asking], Awaitable[str | None]] | None = None
    pull: Pull | None = None
    load: Load | None = None
    unload: Callable[[Asking, str], Awaitable[None]] | None = None
    count_tokens: (
        Callable[[Asking, str, Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]], Awaitable[int]] | None
    ) = None
    tokenize: Callable[[Asking, str, str], Awaitable[list[int]]] | None = None
    metrics: Callable[[Asking], Awaitable[Mapping[str, float]]] | None = None
    ignores: Mapping[str, str] = field(default_factory=dict)
    refuses: Mapping[str, str] = field(default_factory=dict)
    renames: Mapping[str, str] = field(default_factory=dict)
    renames_for: Callable[[str], Mapping[str, str]] | None = None
    is_loading: Callable[[Fetch, str], Awaitable[bool]] | None = None
    loaded_models: Callable[[Fetch], Awaitable[Sequence[str]]] | None = None

    @property
    def opening(self) -> str:
        """How to call it in a sentence that begins with it."""
        return self.title.replace("the ", "The ", 1) if self.title.startswith("the ") else self.title


# In the order in which they are shown. `compatible` is whatever else speaks the OpenAI protocol.
NAMES = (
    "ollama",
    "vllm",
    "lmstudio",
    "llamacpp",
    "embedded",
    "sglang",
    "localai",
    "jan",
    "tgi",
    "llamaswap",
    "litellm",
    "koboldcpp",
    "textgenwebui",
    "dockermodelrunner",
    "lemonade",
    "mlxlm",
    "openai",
    "compatible",
)


@cache
def kinds() -> Mapping[str, Kind]:
    """Every kind by its name."""
    return {name: import_module(f"mamba_nb.servers.{name}").KIND for name in NAMES}


def kind_of(name: str | None) -> Kind | None:
    """The kind of that name, or None."""
    return kinds().get(name) if name else None


def kind_from_models(listing: Any, headers: Mapping[str, str]) -> str | None:
    """The kind that a reply of GET /v1/models shows by its shape, or None where it shows none."""
    entries = listing.get("data") if isinstance(listing, Mapping) else None
    for entry in entries if isinstance(entries, list) else ():
        owner = entry.get("owned_by") if isinstance(entry, Mapping) else None
        if isinstance(owner, str) and owner in _owners():
            return _owners()[owner]
    return kind_from_reply(headers, None)


@cache
def _owners() -> Mapping[str, str]:
    return {owner: kind.name for kind in kinds().values() for owner in kind.owned_by}


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
