"""llama-server's router: it starts one server a model, forwards what names one, and downloads models.

Sources and the names of `about` and `options` are in `llamacpp`. Loading takes the scripted server's `load_s`; what is
loaded is what its room says.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.styles import llamacpp_native as native
from mamba_nb.testing.styles.base import Answered, Reply, Route, Streamed

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

OK = Reply(200, {"success": True})


def is_router(server: ScriptedServer) -> bool:
    """Whether it runs in router mode."""
    return bool(server.options.get("mode") == "router")


def begin(server: ScriptedServer) -> None:
    """Fill the state: exit codes of loads that failed, downloads, who listens for events, tasks under way."""
    server.state.update(failed={}, downloads={}, listeners=[], tasks=set())
    server.room.loaded.extend(model for model in server.models if server.said_of(model, "loaded", False))


def asked_for(server: ScriptedServer, body: Mapping[str, Any]) -> str:
    """The model that a request means: the one that is there, or in the router the one it names."""
    name = body.get("model")
    if is_router(server) and isinstance(name, str):
        return name
    return next(iter(server.models), "")


# The list.


def status_of(server: ScriptedServer, model: str) -> str:
    """downloading, unloaded, loading, loaded, or what `about` says."""
    if model in server.state["downloads"]:
        return "downloading"
    if said := server.said_of(model, "status"):
        return str(said)
    if model in server.room.loading or model in server.state.get("failing", ()):
        return "loading"
    return "loaded" if model in server.room.loaded else "unloaded"


def with_status(server: ScriptedServer, model: str, entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of `/v1/models` as the router lists it."""
    value = status_of(server, model)
    status: dict[str, Any] = {"value": value, "args": ["llama-server", "--host", "127.0.0.1", "--port", "0"]}
    if value == "downloading":
        status["progress"] = server.state["downloads"][model]
    if value == "unloaded" and model in server.state["failed"]:
        status.update(exit_code=server.state["failed"][model], failed=True)
    listed = {**entry, "aliases": [], "status": status, "source": "models_dir", "can_remove": False}
    if value == "loaded" and server.options.get("loaded_info", True):
        listed["meta"] = native.meta(server, model)
    return listed


def _models(server: ScriptedServer) -> Reply:
    names = [*server.models, *(name for name in server.state["downloads"] if name not in server.models)]
    entries = [server.style.model_entry(server, model) for model in names]
    return Reply(200, server.style.models(server, entries))


# Requests that name a model.


def refuse(server: ScriptedServer, name: Any, *, autoload: bool | None = None) -> Reply | None:
    """The refusal of a request for a model that is not there, or cannot be loaded."""
    if not isinstance(name, str) or not name:
        return native.error(400, "model name is missing from the request")
    if name not in server.models:
        return native.error(400, f"model '{name}' not found")
    if server.said_of(name, "load_fails") is not None:
        return native.error(500, f"model name={name} failed to load")
    allowed = server.options.get("autoload", True) if autoload is None else autoload
    if not allowed and name not in server.room.loaded:
        return native.error(400, "model is not loaded")
    return None


def _for_a_model(
    answer: Callable[[ScriptedServer, str], Reply], alone: Callable[[ScriptedServer], Reply] | None = None
) -> Route:
    """A GET that the router forwards to the model in its query; `alone` answers where there is none."""

    async def route(server: ScriptedServer, request: LoggedRequest) -> Answered:
        if not is_router(server):
            return answer(server, next(iter(server.models), ""))
        query = parse_qs(request.path.partition("?")[2])
        name = query.get("model", [""])[0]
        if not name and alone is not None:
            return alone(server)
        autoload = query["autoload"][0] in ("true", "1") if "autoload" in query else None
        if (refusal := refuse(server, name, autoload=autoload)) is not None:
            return refusal
        await _ready(server, name)
        return answer(server, name)

    return route


def _for_a_body(answer: Callable[[ScriptedServer, LoggedRequest], Reply]) -> Route:
    """A POST that the router forwards to the model in its body."""

    async def route(server: ScriptedServer, request: LoggedRequest) -> Answered:
        if not is_router(server):
            return answer(server, request)
        name = request.body.get("model")
        if (refusal := refuse(server, name)) is not None:
            return refusal
        await _ready(server, str(name))
        return answer(server, request)

    return route


async def _ready(server: ScriptedServer, name: str) -> None:
    """Load the model if need be; what then answers for it takes no slot."""
    if name not in server.room.loaded:
        async with server.room.enter(name):
            pass


def _props(server: ScriptedServer) -> Reply:
    return Reply(
        200,
        {
            "role": "router",
            "max_instances": server.options.get("max_instances", 4),
            "models_autoload": server.options.get("autoload", True),
            "model_alias": "llama-server",
            "model_path": "none",
            "default_generation_settings": {"params": None, "n_ctx": 0},
            "ui_settings": {},
            "build_info": server.options.get("build", native.BUILD),
            "cors_proxy_enabled": False,
        },
    )


# Load and unload.


def _load(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """Begins to load; the answer comes at once."""
    name = request.body.get("model")
    if name not in server.models:
        return native.error(404, "model is not found")
    if status_of(server, name) in ("loaded", "loading", "sleeping"):
        return native.error(400, "model is already running")
    server.state["failed"].pop(name, None)
    code = server.said_of(name, "load_fails")
    _spawn(server, _fail_to_load(server, name, code) if code is not None else _do_load(server, name))
    return OK


async def _do_load(server: ScriptedServer, name: str) -> None:
    if len(server.room.loaded) >= server.options.get("max_instances", 4):
        server.room.loaded.pop(0)
    async with server.room.enter(name):
        pass


async def _fail_to_load(server: ScriptedServer, name: str, code: int) -> None:
    failing = server.state.setdefault("failing", set())
    failing.add(name)
    server.room.loads.append(name)
    await asyncio.sleep(server.load_s)
    failing.discard(name)
    server.state["failed"][name] = code


def _unload(server: ScriptedServer, request: LoggedRequest) -> Reply:
    name = request.body.get("model")
    if name in server.state["downloads"]:
        del server.state["downloads"][name]
        return OK
    if name not in server.models:
        return native.error(400, "model is not found")
    if name not in server.room.loaded:
        return native.error(400, "model is not running")
    server.room.loaded.remove(name)
    return OK


def _spawn(server: ScriptedServer, work: Any) -> None:
    task = asyncio.ensure_future(work)
    server.state["tasks"].add(task)
    task.add_done_callback(server.state["tasks"].discard)


# Downloads and events.


def _download(server: ScriptedServer, request: LoggedRequest) -> Reply:
    name = request.body.get("model")
    if not isinstance(name, str) or not name:
        return native.error(400, "model must be a non-empty string")
    if "/" not in name:
        return native.error(400, "model validation failed, unable to download")
    if name in server.models:
        return native.error(400, f"model '{name}' already exists")
    server.state["downloads"][name] = {}
    _spawn(server, _do_download(server, name))
    return OK


async def _do_download(server: ScriptedServer, name: str) -> None:
    """Steps, each told to whoever listens; the model is there at the end, unless the download was given up."""
    total, steps = server.options.get("download_bytes", 1_000_000), server.options.get("download_steps", 3)
    url = f"https://huggingface.co/{name}.gguf"
    for step in range(1, steps + 1):
        await asyncio.sleep(server.options.get("download_step_s", 0.05))
        if name not in server.state["downloads"]:
            return
        progress = {url: {"done": total * step // steps, "total": total}}
        server.state["downloads"][name] = progress
        _tell(server, "download_progress", name, progress)
    del server.state["downloads"][name]
    if server.options.get("download_fails"):
        _tell(server, "download_failed", name)
    else:
        server.models = (*server.models, name)
        _tell(server, "download_finished", name)


def _tell(server: ScriptedServer, event: str, model: str, data: Any = None) -> None:
    if server.options.get("download_silent"):
        return
    message = {"model": model, "event": event, **({} if data is None else {"data": data})}
    for queue in server.state["listeners"]:
        queue.put_nowait(f"data: {json.dumps(message)}\n\n".encode())


def _events(server: ScriptedServer, request: LoggedRequest) -> Streamed:
    async def pieces() -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        server.state["listeners"].append(queue)
        try:
            yield b": listening\n\n"
            while True:
                yield await queue.get()
        finally:
            server.state["listeners"].remove(queue)

    return Streamed(pieces(), headers={"Content-Type": "text/event-stream"})


# The table.


def _in_router(route: Callable[[ScriptedServer, LoggedRequest], Answered | Awaitable[Answered]]) -> Route:
    """A path that only the router has."""

    def answer(server: ScriptedServer, request: LoggedRequest) -> Answered | Awaitable[Answered]:
        return route(server, request) if is_router(server) else native.NOT_FOUND

    return answer


def _list(server: ScriptedServer, request: LoggedRequest) -> Reply:
    if is_router(server):
        return _models(server)
    entries = [server.style.model_entry(server, model) for model in server.models]
    return Reply(200, server.style.models(server, entries))


_TOKENS = {
    "/tokenize": native.tokenize,
    "/detokenize": native.detokenize,
    "/apply-template": native.apply_template,
    "/chat/completions/input_tokens": native.input_tokens,
    "/v1/chat/completions/input_tokens": native.input_tokens,
}

ROUTES: dict[tuple[str, str], Route] = {
    ("GET", "/v1/models"): _list,
    ("GET", "/props"): _for_a_model(native.props, _props),
    ("GET", "/slots"): _for_a_model(native.slots),
    ("GET", "/metrics"): _for_a_model(native.metrics),
    **{("POST", path): _for_a_body(answer) for path, answer in _TOKENS.items()},
    ("POST", "/models/load"): _in_router(_load),
    ("POST", "/models/unload"): _in_router(_unload),
    ("POST", "/v1/models"): _in_router(_download),
    ("GET", "/models/sse"): _in_router(_events),
}
