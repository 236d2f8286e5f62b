"""Lemonade: models of several engines (llama.cpp, FastFlowLM, Ryzen AI, ...) on one address, and perhaps a cloud's.

Its own paths stand beside the OpenAI ones, under `/v1` and `/api/v1` alike, so they are asked under the address in
use. Its Ollama imitation (`/api/version` 0.16.1, `/api/tags`) is not read.

Sources: Lemonade's docs/api/openai.md (`/v1/models`, labels), docs/api/lemonade.md (`/v1/health`, `/v1/stats`,
`/v1/pull`, `/v1/load`, `/v1/unload`), docs/api/llamacpp.md (`/v1/tokenize`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from mamba_nb.errors import BadInput
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.calling import LOAD_S, call, failed, no_place, stream
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Fetch, Kind, Sighting
from mamba_nb.servers.members import (
    entries,
    listed,
    member,
    number,
    owners,
    quantization_of,
    said,
    text,
    whole,
    words,
)
from mamba_nb.servers.pulling import PullProgress

HEALTH = "/v1/health"
# Labels of models that do something else than chat: docs/api/openai.md, deployment labels.
OTHER = {"transcription", "reranking", "image", "tts", "audio-generation", "classification", "classifier", "3d"}
OTHER_RECIPES = {"whispercpp", "sd-cpp", "kokoro", "onnxruntime"}
EMBEDDINGS = {"embeddings", "embedding"}


async def recognise(asking: Asking) -> Sighting | None:
    """By `owned_by`, and by `/v1/health` where it has no model."""
    answer = await asking.look("/v1/models")
    if answer is None or answer.status != 200 or not await owners(asking, "lemonade"):
        return None
    found = entries(answer.json, "data")
    if found:
        sure = any(text(entry.get("recipe")) for entry in found)
        evidence = 'GET /v1/models says "owned_by": "lemonade"' + (' and has "recipe"' if sure else "")
        return Sighting(kind="lemonade", certainty="certain" if sure else "likely", evidence=evidence)
    if not isinstance(member(answer.json, "data"), list):
        return None
    health = await asking.json(HEALTH)
    if isinstance(member(health, "all_models_loaded"), list):
        return Sighting(
            kind="lemonade",
            certainty="certain",
            evidence=f'GET {HEALTH} has "all_models_loaded"',
            version=text(member(health, "version")),
        )
    return None


async def version(asking: Asking) -> str | None:
    """`version` of `/v1/health`; `/api/version` is the imitation's."""
    return text(member(await asking.json(HEALTH), "version"))


async def models(asking: Asking) -> Sequence[ServedModel]:
    """The models on disk and those of its clouds, with what is in memory by `/v1/health`."""
    found, health = await asyncio.gather(listed(asking), asking.json(HEALTH))
    running = member(health, "all_models_loaded")
    loaded = None
    if isinstance(running, list):
        loaded = {name: entry for entry in entries(running) if (name := text(entry.get("model_name")))}
    return [_model(entry, loaded) for entry in found]


def _model(entry: Mapping[str, Any], loaded: Mapping[str, Mapping[str, Any]] | None) -> ServedModel:
    recipe, size = text(entry.get("recipe")), number(entry.get("size"))
    cloud = recipe == "cloud"
    extras = {"recipe": recipe} if recipe else {}
    model = said(
        ServedModel(id=entry["id"], extras=extras),
        "GET /v1/models",
        context_window=whole(entry.get("context_length")),
        context_max=whole(entry.get("max_context_window")),
        max_output_tokens=whole(entry.get("max_output_tokens")),
        size_bytes=round(size * 10**9) if size else None,  # it says GB, to two digits
        quantization=quantization_of(text(entry.get("checkpoint"))),
        runs_locally=None if recipe is None else not cloud,
        **_can(entry.get("labels"), recipe),
    )
    if loaded is None or cloud:
        return model
    options = member(loaded.get(entry["id"]), "recipe_options")
    return said(
        model,
        f"GET {HEALTH}",
        state="loaded" if entry["id"] in loaded else "unloaded",
        context_window=whole(member(options, "ctx_size")),
    )


def _can(labels: Any, recipe: str | None) -> dict[str, Any]:
    """What its labels say; `reasoning` and `tool-calling` are only remarks, so that a missing one says nothing."""
    if not isinstance(labels, list):
        return {}
    able = set(words(labels))
    embeds = bool(EMBEDDINGS & able)
    other = bool(OTHER & able) or (recipe in OTHER_RECIPES and not embeds)
    return {
        "task": "embedding" if embeds else "other" if other else "chat",
        "supports_embeddings": embeds,
        "supports_vision": "vision" in able,
        "supports_tools": True if "tool-calling" in able else None,
        "supports_reasoning": True if "reasoning" in able else None,
    }


async def pull(asking: Asking, model: str, options: Mapping[str, Any]) -> AsyncIterator[PullProgress]:
    """`POST /v1/pull` as a stream of events, file by file.

    Args:
        asking: The server.
        model: A name of its registry, or `user.NAME` with `checkpoint` and `recipe` in the options.
        options: Further members of the request.

    Raises:
        RequestRejected: If it does not know the name.
        ServerFailed: If the download failed, or ended without saying so.
    """
    body = {**options, "model_name": model, "stream": True}
    files: dict[Any, tuple[int, int]] = {}
    event = ""
    async for line in stream(asking, "/v1/pull", body, kind="lemonade", model=model, verb="pull a model"):
        name, _, value = line.decode("utf-8", "replace").strip().partition(":")
        if name == "event":
            event = value.strip()
        if name != "data":
            continue
        state = _parsed(value)
        if event == "error" or member(state, "error"):
            raise failed(asking, "lemonade", model, f"pull {model}", state)
        done = event == "complete"
        if not done:
            key = whole(member(state, "file_index"), 0) or text(member(state, "file"))
            files[key] = (
                whole(member(state, "bytes_downloaded"), 0) or 0,
                whole(member(state, "bytes_total"), 0) or 0,
            )
        yield _progress(model, state, files, done)
        if done:
            return
    raise failed(asking, "lemonade", model, f"finish the download of {model}")


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return {}


def _progress(model: str, state: Any, files: Mapping[Any, tuple[int, int]], done: bool) -> PullProgress:
    """Newer versions give the sums over all files; else they are of the files that were begun."""
    completed = whole(member(state, "cumulative_bytes_downloaded"), 0)
    if completed is None and files:
        completed = sum(came for came, _ in files.values())
    total = whole(member(state, "total_download_size")) or sum(size for _, size in files.values()) or None
    status = "success" if done else text(member(state, "file")) or "pulling"
    return PullProgress(model=model, status=status, completed_bytes=completed, total_bytes=total)


async def load(asking: Asking, model: str, *, context_length: int | None, keep_alive: str | float | None) -> None:
    """`POST /v1/load`; a model that is not on disk is downloaded first."""
    no_place("lemonade", {"keep_alive": "It keeps a model until it needs the place."}, keep_alive=keep_alive)
    body: dict[str, Any] = {"model_name": model}
    if context_length is not None:
        body["ctx_size"] = context_length
    await _done(asking, "/v1/load", body, model, "load", LOAD_S)


async def unload(asking: Asking, model: str) -> None:
    """`POST /v1/unload`."""
    await _done(asking, "/v1/unload", {"model_name": model}, model, "unload", 60.0)


async def _done(asking: Asking, path: str, body: Mapping[str, Any], model: str, verb: str, read_s: float) -> None:
    """An error may come with status 200: `{"status": "error", "message": ...}`."""
    answer = await call(asking, path, body, kind="lemonade", model=model, read_s=read_s, verb=f"{verb} a model")
    if member(answer.json, "status") != "success":
        raise failed(asking, "lemonade", model, f"{verb} {model}", answer.json)


async def tokenize(asking: Asking, model: str, content: str) -> list[int]:
    """`POST /v1/tokenize`, which takes the tokeniser of the model used last, whatever is asked for.

    Raises:
        BadInput: If that is another model than this one.
    """
    asking.forget(HEALTH)
    last = text(member(await asking.json(HEALTH), "model_loaded"))
    if last != model:
        raise BadInput(
            f"Lemonade tokenizes with the model used last, which is {last!r}, not {model!r}.",
            hint=f"Load {model!r} first.",
            base_url=asking.base_url,
            model=model,
        )
    answer = await call(asking, "/v1/tokenize", {"content": content}, kind="lemonade", verb="tokenize")
    tokens = member(answer.json, "tokens")
    if not isinstance(tokens, list) or any(whole(token, 0) is None for token in tokens):
        raise failed(asking, "lemonade", model, "tokenize", answer.json)
    return [int(token) for token in tokens]


async def metrics(asking: Asking) -> Mapping[str, float]:
    """`/v1/stats`: how its last answer went, and sums since it started."""
    answer = await call(asking, "/v1/stats", None, method="GET", kind="lemonade", verb="tell its figures")
    names = {
        "last_ttft_s": "time_to_first_token",
        "last_decode_tokens_per_s": "tokens_per_second",
        "last_prompt_tokens": "input_tokens",
        "last_output_tokens": "output_tokens",
        "requests_total": "request_count_total",
        "prompt_tokens_total": "prompt_tokens_total",
        "output_tokens_total": "output_tokens_total",
    }
    figures = {name: number(member(answer.json, theirs)) for name, theirs in names.items()}
    return {name: float(value) for name, value in figures.items() if value is not None}


async def loaded_models(fetch: Fetch) -> list[str]:
    """The language models in memory; `/v1/health` stands at the root as well."""
    running = entries(await fetch(HEALTH), "all_models_loaded")
    return [name for entry in running if entry.get("type") == "llm" and (name := text(entry.get("model_name")))]


KIND = Kind(
    name="lemonade",
    title="Lemonade",
    default_url="http://localhost:13305/v1",
    start="Start it with `lemonade-server serve`",
    ports=(13305, 8000),
    owned_by=("lemonade",),
    one_model_at_a_time=True,
    recognise=recognise,
    models=models,
    version=version,
    pull=pull,
    load=load,
    unload=unload,
    tokenize=tokenize,
    metrics=metrics,
    loaded_models=loaded_models,
)
