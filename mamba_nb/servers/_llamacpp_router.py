"""What a llama.cpp router can do beside answering: load, unload, download.

In: one server's paths and a model's name. Out: nothing, or progress; errors of this package with the server's own
words. Nothing of this is there where llama-server was started with one model.

POST /models/load, /models/unload and /models answer at once; GET /models says how things stand, and GET /models/sse
tells each event once, to whoever listens then.

Source: llama.cpp's `tools/server/README.md` ("Using multiple models") and `server-models.cpp`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import replace
from typing import Any, cast

from mamba_nb.errors import BadInput, ModelNotFound, NotHere, RequestRejected, ServerTimeout
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.calling import LOAD_S, call, failed, no_place
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.members import entries, member, text, whole, words
from mamba_nb.servers.pulling import PullProgress

FIRST_LOOK_S, LOOK_S = 0.05, 0.5
"""Seconds between two looks at a model's status: at first, and after a while."""
UNLOAD_S = 30.0
"""How long an unload may take, in seconds; the router itself kills a model's server after 10."""
QUIET_S = 1.0
"""Seconds without an event after which a download is looked at."""
FINISHED = "download_finished"


# How models stand.


def with_status(model: ServedModel, entry: Mapping[str, Any]) -> ServedModel:
    """The model with its state, by the `status` of its entry in a router's list."""
    status = member(entry, "status")
    state = text(member(status, "value"))
    if member(status, "failed") is True:
        state = "failed"
    extras = {"exit_code": whole(member(status, "exit_code"), -(2**31))} if state == "failed" else {}
    known = {name: value for name, value in extras.items() if value is not None}
    return replace(model, state="unloaded" if state == "downloaded" else state, extras={**model.extras, **known})


async def _list(asking: Asking, *, verb: str) -> list[Mapping[str, Any]]:
    """A router's entries now.

    Raises:
        NotHere: If llama-server was started with one model.
    """
    answer = await call(asking, "/v1/models", None, kind="llamacpp", method="GET", verb="list its models")
    asking.forget("/v1/models")
    found = [entry for entry in entries(answer.json, "data") if text(entry.get("id"))]
    if any("status" not in entry for entry in found) or (not found and not await _is_router(asking)):
        raise NotHere(
            f"The llama.cpp at {asking.base_url} was started with one model, and cannot {verb} another.",
            hint="Start `llama-server` without a model: as a router it loads, unloads and downloads them.",
            base_url=asking.base_url,
        )
    return found


async def _is_router(asking: Asking) -> bool:
    return bool(member(await asking.json("/props"), "role") == "router")


def _entry(found: list[Mapping[str, Any]], model: str) -> Mapping[str, Any] | None:
    """The entry of a model by its name or one of its aliases."""
    named = (entry for entry in found if entry["id"] == model)
    return next(named, next((entry for entry in found if model in words(entry.get("aliases"))), None))


def _state(entry: Mapping[str, Any] | None) -> str | None:
    return text(member(entry, "status", "value"))


def _has_failed(entry: Mapping[str, Any] | None) -> bool:
    return member(entry, "status", "failed") is True


# Load and unload.


async def load(
    asking: Asking, model: str, *, context_length: int | None = None, keep_alive: str | float | None = None
) -> None:
    """Load a model and wait until it is in memory; nothing is done where it is.

    Raises:
        BadInput: For `context_length` and `keep_alive`, which the router's own settings decide.
        ModelNotFound: If the router does not know the model.
        NotHere: If llama-server was started with another model, and only that.
        ServerFailed: If the model's server ended instead of getting ready.
        ServerTimeout: If it is still loading after ten minutes.
    """
    instead = {
        "context_length": "Set `c = N` for it in the router's preset file, or start the router with `-c N`.",
        "keep_alive": "Start the router with `--sleep-idle-seconds N`.",
    }
    no_place("llamacpp", instead, context_length=context_length, keep_alive=keep_alive)
    if await _serves_alone(asking, model):
        return
    entry = await _known(asking, model, "load")
    if _state(entry) in ("loaded", "sleeping"):
        return
    name = str(entry["id"])
    if _state(entry) != "loading":
        try:
            await _post(asking, "/models/load", name, f"load {model}")
        except RequestRejected as error:
            if "already running" not in (error.server_says or ""):  # somebody else's request was faster
                raise
    await _until(asking, model, "load", ("loaded", "sleeping"), LOAD_S)


async def _serves_alone(asking: Asking, model: str) -> bool:
    """Whether this is the one model of a server with one model."""
    answer = await call(asking, "/v1/models", None, kind="llamacpp", method="GET", verb="list its models")
    found = [entry for entry in entries(answer.json, "data") if text(entry.get("id"))]
    return _entry(found, model) is not None and "status" not in (_entry(found, model) or {})


async def unload(asking: Asking, model: str) -> None:
    """Take a model out of memory and wait until it is gone; nothing is done where it is not there.

    Raises:
        ModelNotFound: If the router does not know the model.
        NotHere: If llama-server was started with one model.
        ServerTimeout: If it is still there after half a minute.
    """
    entry = await _known(asking, model, "unload")
    if _state(entry) not in ("loaded", "loading", "sleeping"):
        return
    try:
        await _post(asking, "/models/unload", str(entry["id"]), f"unload {model}")
    except RequestRejected as error:
        if "not running" not in (error.server_says or ""):
            raise
    await _until(asking, model, "unload", ("unloaded", "downloaded"), UNLOAD_S)


async def _known(asking: Asking, model: str, verb: str) -> Mapping[str, Any]:
    found = await _list(asking, verb=verb)
    entry = _entry(found, model)
    if entry is None:
        raise ModelNotFound(
            model,
            base_url=asking.base_url,
            served=[str(entry["id"]) for entry in found],
            hint=f"Download it: `pull({model!r})`, with a name such as `user/repo-GGUF:Q4_K_M`.",
        )
    return entry


async def _until(asking: Asking, model: str, verb: str, wanted: tuple[str, ...], most_s: float) -> None:
    """Wait for one of these states."""
    ends, pause = time.monotonic() + most_s, FIRST_LOOK_S
    while True:
        entry = await _known(asking, model, verb)
        if _state(entry) in wanted and not (verb == "load" and _has_failed(entry)):
            return
        if verb == "load" and _has_failed(entry):
            code = whole(member(entry, "status", "exit_code"), -(2**31))
            error = failed(asking, "llamacpp", model, f"load {model}")
            ended = "ended" if code is None else f"ended with code {code}"
            error.hint = f"Its server {ended}; the router's log says why. Too little memory is the usual cause."
            raise error
        if time.monotonic() > ends:
            raise ServerTimeout(
                f"llama.cpp at {asking.base_url} did not {verb} {model} within {most_s:.0f} s.",
                hint="Look at its log.",
                base_url=asking.base_url,
                model=model,
            )
        await asyncio.sleep(pause)
        pause = min(LOOK_S, pause * 1.5)


async def _post(asking: Asking, path: str, model: str, verb: str) -> None:
    await call(asking, path, {"model": model}, kind="llamacpp", model=model, verb=verb, no_path=("File Not Found",))


# Downloads.


async def pull(asking: Asking, model: str, options: Mapping[str, Any]) -> AsyncIterator[PullProgress]:
    """Download a model from Hugging Face into the router's cache.

    Events tell the progress; where they stay away, the router's list does. Leaving early ends the download on the
    server too; what has come stays in its cache.

    Args:
        asking: The server.
        model: `user/repo:quantisation`.
        options: There are none.

    Raises:
        BadInput: For an option.
        NotHere: If llama-server was started with one model.
        RequestRejected: If there is no such model to download.
        ServerFailed: If the download failed.
    """
    if options:
        raise BadInput(f"llama.cpp has no option {min(options)!r} for a download.", hint="Name it: user/repo:Q4_K_M.")
    if _entry(await _list(asking, verb="download"), model) is not None:
        yield PullProgress(model=model, status="already downloaded")
        return
    events: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
    listening = asyncio.create_task(_listen(asking, events))
    over = False
    try:
        await asyncio.sleep(0)  # so that the question for events is on its way before the download is
        await call(asking, "/models", {"model": model}, kind="llamacpp", read_s=60.0, verb="download a model")
        yield PullProgress(model=model, status="downloading")
        async with contextlib.aclosing(_watched(asking, model, events)) as watched:
            async for progress in watched:
                over = progress.status == FINISHED
                yield progress
    except Exception:
        over = True
        raise
    finally:
        listening.cancel()
        if not over:
            await _give_up(asking, model)


async def _give_up(asking: Asking, model: str) -> None:
    with contextlib.suppress(Exception):
        await call(asking, "/models/unload", {"model": model}, kind="llamacpp", read_s=5.0, verb="end a download")


async def _watched(
    asking: Asking, model: str, events: asyncio.Queue[Mapping[str, Any]]
) -> AsyncGenerator[PullProgress]:
    """The progress of a download, to its end."""
    while True:
        try:
            async with asyncio.timeout(QUIET_S):
                event = await events.get()
        except TimeoutError:
            event = await _as_event(asking, model)
        if event.get("model") != model:
            continue
        name = event.get("event")
        if name == "download_failed":
            raise failed(asking, "llamacpp", model, f"download {model}")
        if name == FINISHED:
            with contextlib.suppress(Exception):
                await _list(asking, verb="download")  # the router looks at its cache anew when it is asked
            yield PullProgress(model=model, status=FINISHED)
            return
        if name == "download_progress" and (progress := _progress(model, event.get("data"))) is not None:
            yield progress


async def _as_event(asking: Asking, model: str) -> Mapping[str, Any]:
    """How a download stands by the router's list, in the words of an event."""
    found = await _list(asking, verb="download")
    entry = _entry(found, model)
    if _state(entry) == "downloading":
        return {"model": model, "event": "download_progress", "data": member(entry, "status")}
    # A name without its quantisation is listed with it afterwards.
    there = entry is not None or any(str(entry["id"]).startswith(f"{model}:") for entry in found)
    return {"model": model, "event": FINISHED if there else "download_failed"}


def _progress(model: str, data: Any) -> PullProgress | None:
    """Files by address, each with `done` and `total`; in some builds under `progress`."""
    files = member(data, "progress") if isinstance(member(data, "progress"), Mapping) else data
    parts = [
        (whole(member(part, "done"), 0), whole(member(part, "total"), 0))
        for part in (files.values() if isinstance(files, Mapping) else ())
    ]
    known = [(done, total) for done, total in parts if done is not None and total is not None]
    if not known:
        return None
    return PullProgress(
        model=model,
        status="downloading",
        completed_bytes=sum(done for done, _ in known),
        total_bytes=sum(total for _, total in known),
    )


async def _listen(asking: Asking, events: asyncio.Queue[Mapping[str, Any]]) -> None:
    """Put each event into the queue; without the path, or when it breaks off, the list tells as much."""
    from pydantic_core import from_json

    lines = cast("AsyncGenerator[bytes]", asking.lines("/models/sse", None, method="GET", silence_s=24 * 3600.0))
    with contextlib.suppress(Exception):
        async with contextlib.aclosing(lines):
            async for line in lines:
                if not line.startswith(b"data:"):
                    continue
                with contextlib.suppress(ValueError):
                    event = from_json(line.removeprefix(b"data:"))
                    if isinstance(event, Mapping):
                        events.put_nowait(event)
