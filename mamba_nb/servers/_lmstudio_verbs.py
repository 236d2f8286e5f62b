"""What LM Studio can do beside answering: load, unload, download.

In: one server's paths and a model's key. Out: nothing, or progress; errors of this package with the server's own words.
All of it is `/api/v1`, LM Studio 0.4 and later. In 0.3 a model is loaded by asking it something.

Source: LM Studio's documentation, `1_developer/2_rest/load.md`, `unload.md`, `download.md`, `download-status.md`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from typing import Any

from mamba_nb.errors import BadInput, ModelNotFound, NotHere, ServerError
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.calling import LOAD_S, call, failed, no_place
from mamba_nb.servers.members import entries, member, text, whole
from mamba_nb.servers.pulling import PullProgress

MODELS = "/api/v1/models"
OLD_MODELS = "/api/v0/models"
LOOK_S = 0.5
"""Seconds between two looks at a download."""
MOST_MISSES = 5
"""Looks in a row that may fail before a download is given up: the server itself goes on with it."""


def instances_of(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The loaded instances of an entry of GET /api/v1/models: `id`, and `context_length` and `parallel` or None."""
    return [
        {
            "id": one["id"],
            "context_length": whole(member(one, "config", "context_length")),
            "parallel": whole(member(one, "config", "parallel")),
        }
        for one in entries(entry, "loaded_instances")
        if text(one.get("id"))
    ]


async def load(
    asking: Asking, model: str, *, context_length: int | None = None, keep_alive: str | float | None = None
) -> None:
    """Load a model and wait until it is in memory; nothing is done where it is, with that context.

    LM Studio makes a second instance where a model is loaded twice, so an instance with another context is unloaded
    first.

    Raises:
        BadInput: For `keep_alive`, where there is no place for it.
        ModelNotFound: If the model is not downloaded.
        NotHere: If a context is asked for and LM Studio is older than 0.4.
        ServerError: If it could not be loaded; the server's own words say why.
    """
    asking.forget(MODELS, OLD_MODELS)
    found = await _entries(asking)
    if found is None:
        await _load_by_asking(asking, model, context_length, keep_alive)
        return
    no_place("lmstudio", {"keep_alive": "Send ttl, in seconds, with each request instead."}, keep_alive=keep_alive)
    entry = _entry(asking, found, model)
    instances = instances_of(entry)
    if any(context_length in (None, one["context_length"]) for one in instances):
        return
    for one in instances:
        await _unload(asking, model, one["id"])
    body: dict[str, Any] = {"model": entry["key"], "echo_load_config": True}
    if context_length is not None:
        body["context_length"] = context_length
    try:
        reply = await _post(asking, f"{MODELS}/load", body, model, f"load {model}", read_s=LOAD_S)
    finally:
        asking.forget(MODELS, OLD_MODELS)
    if text(member(reply, "instance_id")) is None and text(member(reply, "model_instance_id")) is None:
        raise failed(asking, "lmstudio", model, f"load {model}", reply)


async def _load_by_asking(
    asking: Asking, model: str, context_length: int | None, keep_alive: str | float | None
) -> None:
    """Load just in time, as older versions do: a request for one token."""
    if context_length is not None:
        raise NotHere(
            f"The LM Studio at {asking.base_url} cannot load a model with a context of one's own over HTTP.",
            hint=f"Use `lms load {model} --context-length {context_length}`, or LM Studio 0.4 or later.",
            base_url=asking.base_url,
            model=model,
        )
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    if keep_alive is not None:
        body["ttl"] = _seconds(keep_alive)
    reply = await _post(asking, "/v1/chat/completions", body, model, f"load {model}", read_s=LOAD_S)
    asking.forget(OLD_MODELS)
    if not isinstance(member(reply, "choices"), list):
        raise failed(asking, "lmstudio", model, f"load {model}", reply)


def _seconds(keep_alive: str | float) -> int:
    """A time as Ollama's `keep_alive` writes it, in seconds; LM Studio's `ttl` knows no other unit.

    Raises:
        BadInput: If it is none, or means for ever.
    """
    value = str(keep_alive).strip()
    unit = {"s": 1, "m": 60, "h": 3600}.get(value[-1:], 0)
    try:
        seconds = float(value[:-1]) * unit if unit else float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise BadInput(f"keep_alive is {keep_alive!r}; LM Studio takes a number of seconds, `10m` or `1h`.")
    return max(1, round(seconds))


async def unload(asking: Asking, model: str) -> None:
    """Take every instance of a model out of memory, or the one instance of that name.

    Raises:
        ModelNotFound: If there is neither such a model nor such an instance.
        NotHere: If LM Studio is older than 0.4.
    """
    asking.forget(MODELS)
    found = await _entries(asking)
    if found is None:
        raise _too_old(asking, model, "unload a model", f"`lms unload {model}`")
    instances = instances_of(_entry(asking, found, model))
    named = [one for one in instances if one["id"] == model]
    is_key = any(entry.get("key") == model for entry in found)
    try:
        for one in instances if is_key else named:
            await _unload(asking, model, one["id"])
    finally:
        asking.forget(MODELS, OLD_MODELS)


async def _unload(asking: Asking, model: str, instance: str) -> None:
    await _post(asking, f"{MODELS}/unload", {"instance_id": instance}, model, f"unload {model}", read_s=60.0)


async def pull(asking: Asking, model: str, options: Mapping[str, Any]) -> AsyncIterator[PullProgress]:
    """Download a model: a key of LM Studio's catalogue, or a link to Hugging Face.

    The download is LM Studio's own: it goes on when nobody looks any more, and a second pull finds it where it is.

    Args:
        asking: The server.
        model: `qwen/qwen3-4b-2507`, or `https://huggingface.co/...`.
        options: `quantization`, for links alone.

    Raises:
        BadInput: For another option.
        ModelNotFound: If there is no such model.
        NotHere: If LM Studio is older than 0.4.
        ServerError: If the download failed, or can no longer be looked at.
    """
    unknown = sorted(set(options) - {"quantization"})
    if unknown:
        raise BadInput(f"LM Studio has no option {unknown[0]!r} for a download.", hint="It has: quantization.")
    body = {"model": model, **{name: value for name, value in options.items() if value is not None}}
    job = await _post(asking, f"{MODELS}/download", body, model, "download a model", read_s=60.0)
    name, misses = text(member(job, "job_id")), 0
    while True:
        status = text(member(job, "status"))
        if status is None and misses == 0:
            raise failed(asking, "lmstudio", model, f"download {model}", job)
        if status is not None:
            yield PullProgress(
                model=model,
                status=status,
                completed_bytes=whole(member(job, "downloaded_bytes"), 0),
                total_bytes=whole(member(job, "total_size_bytes")),
            )
        if status == "failed":
            raise failed(asking, "lmstudio", model, f"download {model}", member(job, "error"))
        if status in ("completed", "already_downloaded") or name is None:
            asking.forget(MODELS, OLD_MODELS)
            return
        await asyncio.sleep(LOOK_S)
        try:
            job, misses = await _look_at(asking, model, name), 0
        except (ServerError, OSError) as error:
            misses += 1
            if isinstance(error, ModelNotFound) or misses >= MOST_MISSES:
                raise
            job = None


async def _look_at(asking: Asking, model: str, job: str) -> Any:
    answer = await call(
        asking,
        f"{MODELS}/download/status/{job}",
        None,
        kind="lmstudio",
        model=model,
        method="GET",
        verb="look at a download",
    )
    return answer.json


# Asking.


async def _entries(asking: Asking) -> list[Mapping[str, Any]] | None:
    """GET /api/v1/models; None before 0.4. A server that does not answer is an error."""
    answer = await call(asking, MODELS, None, kind="lmstudio", method="GET", verb="list its models")
    found = member(answer.json, "models")
    if not isinstance(found, list):
        return None
    return [entry for entry in entries(found) if text(entry.get("key"))]


def _entry(asking: Asking, found: list[Mapping[str, Any]], model: str) -> Mapping[str, Any]:
    """The entry of a model by its key, or by the name of one of its instances."""
    for entry in found:
        if entry["key"] == model:
            return entry
    for entry in found:
        if any(one["id"] == model for one in instances_of(entry)):
            return entry
    raise ModelNotFound(
        model,
        base_url=asking.base_url,
        served=[str(entry["key"]) for entry in found],
        hint=f"Download it: `lms get {model}`, or `pull({model!r})`.",
    )


async def _post(asking: Asking, path: str, body: Mapping[str, Any], model: str, verb: str, *, read_s: float) -> Any:
    """The reply to a POST; a path that is not there answers 200 with an error."""
    answer = await call(asking, path, body, kind="lmstudio", model=model, read_s=read_s, verb=verb)
    error = member(answer.json, "error")
    if isinstance(error, str) and error.startswith("Unexpected endpoint or method"):
        raise _too_old(asking, model, verb, "`lms`")
    if error:
        raise failed(asking, "lmstudio", model, verb, answer.json)
    return answer.json


def _too_old(asking: Asking, model: str, verb: str, instead: str) -> NotHere:
    return NotHere(
        f"The LM Studio at {asking.base_url} has no way to {verb} over HTTP.",
        hint=f"LM Studio 0.4 and later has; before, use {instead} on its machine.",
        base_url=asking.base_url,
        model=model,
    )
