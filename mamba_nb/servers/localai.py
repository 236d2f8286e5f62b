"""LocalAI: many engines behind one server, with an imitation of Ollama beside its own paths.

What it declares is spread: `/v1/models/capabilities` (what each model can do, and its context), `/api/tags` (size,
quantisation), `/api/ps` (what is in memory). Its `details.family` is the engine and its `digest` the hash of the
name, so neither is taken for what it is called.

Sources: LocalAI's core/http/routes/localai.go, core/http/endpoints/openai/list_capabilities.go,
core/http/endpoints/ollama/models.go, core/http/endpoints/localai/{gallery,backend_monitor}.go, core/schema/tokenize.go,
core/http/auth/middleware.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from mamba_nb.servers.asking import Asking
from mamba_nb.servers.calling import call, failed
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Kind, Sighting
from mamba_nb.servers.members import bytes_of, entries, listed, member, owners, parameters_of, said, text, whole, words
from mamba_nb.servers.pulling import PullProgress

WELL_KNOWN = "/.well-known/localai.json"
POLL_S = 0.5
NO_PATH = ("Not Found", "Resource not found")


async def recognise(asking: Asking) -> Sighting | None:
    """By `/.well-known/localai.json`, which is public even where the rest wants a key.

    Its `/v1/models` has no `owned_by`, so a server whose models have an owner is not asked.
    """
    if not await owners(asking, ""):
        return None
    document = await asking.json(WELL_KNOWN)
    version, paths = text(member(document, "version")), member(document, "endpoints")
    if version is None or not isinstance(paths, Mapping):
        return None
    models = await asking.look("/v1/models")
    return Sighting(
        kind="localai",
        certainty="certain",
        evidence=f'GET {WELL_KNOWN} has "version" and "endpoints"',
        version=version,
        needs_key=models is not None and models.status == 401,
    )


async def version(asking: Asking) -> str | None:
    """`/.well-known/localai.json`, or `/version` where it is too old for that."""
    known = text(member(await asking.json(WELL_KNOWN), "version"))
    return known or text(member(await asking.json("/version"), "version"))


async def models(asking: Asking) -> Sequence[ServedModel]:
    """Every model that it is set up for, with what its four lists say."""
    found, able, tags, running = await asyncio.gather(
        listed(asking),
        asking.json("/v1/models/capabilities"),
        asking.json("/api/tags"),
        asking.json("/api/ps"),
    )
    abilities = {entry.get("id"): entry for entry in entries(able, "data") if text(entry.get("id"))}
    files = {name: entry for entry in entries(tags, "models") for name in _names(entry)}
    loaded = {name for entry in entries(running, "models") for name in _names(entry)}
    return [
        _model(
            entry["id"],
            abilities.get(entry["id"], {}),
            files.get(entry["id"], {}),
            None if member(running, "models") is None and not isinstance(running, Mapping) else entry["id"] in loaded,
        )
        for entry in found
    ]


def _names(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Both ways of writing a name of the imitation: it adds `:latest` to those without a tag."""
    name = text(entry.get("name"))
    return (name, name.removesuffix(":latest")) if name else ()


def _model(name: str, able: Mapping[str, Any], file: Mapping[str, Any], loaded: bool | None) -> ServedModel:
    model = said(
        ServedModel(id=name), "GET /api/ps", state=None if loaded is None else "loaded" if loaded else "unloaded"
    )
    details = file.get("details")
    model = said(
        model,
        "GET /api/tags",
        size_bytes=whole(file.get("size")),
        parameters=parameters_of(member(details, "parameter_size")),
        quantization=text(member(details, "quantization_level")),
        **_can(words(file.get("capabilities")), None),
    )
    inputs = words(able.get("input_modalities"))
    return said(
        model,
        "GET /v1/models/capabilities",
        context_window=whole(able.get("context_size")),
        **_can(words(able.get("capabilities")), "image" in inputs if inputs else None),
    )


def _can(able: Sequence[str], images: bool | None) -> dict[str, Any]:
    """What a list of abilities says; a missing `tools` or `thinking` says nothing, for they are guessed from names."""
    if not able:
        return {}
    chat, embeds = bool({"chat", "completion"} & set(able)), bool({"embeddings", "embedding"} & set(able))
    return {
        "task": "chat" if chat else "embedding" if embeds else "other",
        "supports_embeddings": embeds,
        "supports_tools": True if "tools" in able else None,
        "supports_reasoning": True if "thinking" in able else None,
        "supports_vision": True if "vision" in able else images,
    }


async def tokenize(asking: Asking, model: str, content: str) -> list[int]:
    """`POST /v1/tokenize`; loads the model where it is not in memory."""
    body = {"model": model, "content": content}
    answer = await call(
        asking, "/v1/tokenize", body, kind="localai", model=model, read_s=120.0, verb="tokenize", no_path=NO_PATH
    )
    tokens = member(answer.json, "tokens")
    if not isinstance(tokens, list) or any(whole(token, 0) is None for token in tokens):
        raise failed(asking, "localai", model, "tokenize", answer.json)
    return [int(token) for token in tokens]


async def unload(asking: Asking, model: str) -> None:
    """`POST /backend/shutdown`, which ends the model's engine."""
    await call(asking, "/backend/shutdown", {"model": model}, kind="localai", model=model, verb="unload a model")


async def pull(asking: Asking, model: str, options: Mapping[str, Any]) -> AsyncIterator[PullProgress]:
    """Install a model of its galleries: `POST /models/apply`, then its job until that is done.

    Args:
        asking: The server.
        model: The name in the gallery, such as `localai@qwen3-0.6b`.
        options: Further members of the request (`name`, `overrides`, `config_url`).

    Raises:
        ServerFailed: If the installation failed.
    """
    verb = "install a model"
    begun = await call(asking, "/models/apply", {**options, "id": model}, kind="localai", model=model, verb=verb)
    job = text(member(begun.json, "uuid"))
    if job is None:
        raise failed(asking, "localai", model, verb, begun.json)
    while True:
        path = f"/models/jobs/{quote(job, safe='')}"
        answer = await call(asking, path, None, method="GET", kind="localai", verb=verb)
        state = answer.json
        message = text(member(state, "message")) or "waiting"
        if member(state, "error") or message.startswith("error"):
            error = member(state, "error")
            raise failed(asking, "localai", model, verb, text(error) or message)
        done = member(state, "processed") is True
        yield PullProgress(
            model=model,
            status="success" if done else message,
            completed_bytes=bytes_of(member(state, "downloaded_size")),
            total_bytes=bytes_of(member(state, "file_size")),
        )
        if done:
            return
        await asyncio.sleep(POLL_S)


KIND = Kind(
    name="localai",
    title="LocalAI",
    default_url="http://localhost:8080/v1",
    start="Start it with `local-ai run`",
    ports=(8080,),
    recognise=recognise,
    models=models,
    version=version,
    pull=pull,
    unload=unload,
    tokenize=tokenize,
)
