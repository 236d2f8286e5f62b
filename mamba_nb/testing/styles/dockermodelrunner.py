"""Docker Model Runner.

Sources: docker/model-runner's pkg/inference/models/{api,http_handler,manager}.go (`/engines/v1/models` with `dmr`,
`/models`, `/models/create`), pkg/inference/scheduling/{api,http_handler}.go (`/engines/ps`, `/engines/df`,
`/engines/unload`, `/engines/_configure`, `X-Preload-Only`, plain words for errors),
pkg/distribution/internal/progress/reporter.go (progress), pkg/ollama/http_handler.go (`/api/*` as if it were Ollama
0.1.0), pkg/routing/router.go (`/v1` as another name of `/engines/v1`). What it says at `/` is not from there.

What is its own: `dmr` in the list, models named like images, progress that is escaped as for a page unless the request
accepts JSON and nothing else, llama.cpp's chunks and `timings`.

`about`: `context_window`, `architecture`, `parameters`, `quantization`, `size`, `configured_context`, `mode`,
`context_max`.
`options`: `old` (no `dmr`), `hub` (the names that can be pulled; None: all), `pull_fails`, `pull_cut` (the stream ends
early), `busy` (models that stay in memory).
"""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.styles.base import Reply, Streamed, Style, plain_model_entry
from mamba_nb.testing.styles.passing_on import LIKE_LLAMACPP, forget, known

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

FACTS = {"architecture": "llama", "parameters": "361.82 M", "quantization": "IQ2_XXS/Q4_K_M", "size": "256.35 MiB"}
LAYERS = (268_802_457, 11_358)
NOT_FOUND = Reply(404, "not found\n")


def _error(status: int, message: str, *, type: str | None = None, param: str | None = None, code: Any = None) -> Reply:
    return Reply(status, message + "\n")


def _id(model: str) -> str:
    return "sha256:" + hashlib.sha256(model.encode()).hexdigest()


def _about(server: ScriptedServer, model: str) -> dict[str, Any]:
    about = {name: server.said_of(model, name, default) for name, default in FACTS.items()}
    return {name: value for name, value in about.items() if value is not None}


def _entry(server: ScriptedServer, model: str) -> dict[str, Any]:
    entry = plain_model_entry(server, model)
    if server.options.get("old"):
        return entry
    context = server.said_of(model, "context_window", server.context_length)
    return {**entry, "dmr": {**({"context_window": context} if context else {}), **_about(server, model)}}


def _images(server: ScriptedServer, request: LoggedRequest) -> Reply:
    images = [
        {
            "id": _id(model),
            "tags": [model],
            "created": server.created,
            "config": {
                "format": "gguf",
                **_about(server, model),
                "gguf": {"llama.context_length": str(server.said_of(model, "context_max", 8192))},
            },
        }
        for model in server.models
    ]
    return Reply(200, images)


def _ps(server: ScriptedServer, request: LoggedRequest) -> Reply:
    states = dict.fromkeys(server.room.loading, True)
    states |= {model: False for model in server.models if server.is_loaded(model)}
    entries = [
        {
            "backend_name": "llama.cpp",
            "model_name": model,
            "mode": server.said_of(model, "mode", "completion"),
            "last_used": "2026-08-01T10:00:00Z",
            **({"loading": True} if loading else {}),
        }
        for model, loading in states.items()
    ]
    return Reply(200, entries)


def _configured(server: ScriptedServer, request: LoggedRequest) -> Reply:
    entries = [
        {"Backend": "llama.cpp", "Model": model, "ModelID": _id(model), "Mode": 0, "Config": {"context-size": context}}
        for model in server.models
        if (context := server.said_of(model, "configured_context"))
    ]
    return Reply(200, entries)


def _unload(server: ScriptedServer, request: LoggedRequest) -> Reply:
    busy = server.options.get("busy") or ()
    models = server.models if request.body.get("all") else request.body.get("models") or ()
    return Reply(200, {"unloaded_runners": sum(forget(server, model) for model in models if model not in busy)})


def _tags(server: ScriptedServer, request: LoggedRequest) -> Reply:
    entries = [
        {
            "name": model,
            "model": model,
            "modified_at": "2026-08-01T10:00:00Z",
            "size": 0,
            "digest": _id(model),
            "details": {"format": "gguf", "family": "llama", "families": ["llama"], "parameter_size": "361.82 M"},
        }
        for model in server.models
    ]
    return Reply(200, {"models": entries})


async def _create(server: ScriptedServer, request: LoggedRequest) -> Reply | Streamed:
    model = request.body.get("from")
    if not isinstance(model, str) or not model or " " in model:
        return Reply(400, "Invalid model reference\n")
    hub = server.options.get("hub")
    if hub is not None and model not in hub:
        return Reply(404, "Model not found\n")
    plain = request.headers.get("accept") == "application/json"
    kind = "application/json" if plain else "text/plain"
    return Streamed(_steps(server, model, plain), headers={"Content-Type": kind})


async def _steps(server: ScriptedServer, model: str, plain: bool) -> AsyncIterator[bytes]:
    """Every layer in three steps, then the end."""

    def line(kind: str, message: str, layer: int | None = None, current: int = 0) -> bytes:
        step: dict[str, Any] = {"type": kind, "message": message, "total": sum(LAYERS), "mode": "pull"}
        step["layer"] = {} if layer is None else {"id": f"sha256:{layer}", "size": LAYERS[layer], "current": current}
        words = json.dumps(step, separators=(",", ":")) + "\n"
        return (words if plain else html.escape(words).replace("&quot;", "&#34;")).encode()

    for number, size in enumerate(LAYERS):
        for part in (3, 2, 1):
            yield line("progress", f"Downloaded: {size / part / 2**20:.2f} MB", number, size // part)
        if server.options.get("pull_cut"):
            return
    if fails := server.options.get("pull_fails"):
        yield line("error", fails)
        return
    server.models = tuple(dict.fromkeys([*server.models, model]))
    yield line("success", "Model pulled successfully")


def _refuse(server: ScriptedServer, request: LoggedRequest) -> Reply | None:
    """A request that is marked to load the model loads it, and has an empty answer."""
    if request.headers.get("x-preload-only") != "true":
        return None
    model = known(server, request.body.get("model"))
    if model is not None and model not in server.room.loaded:
        server.room.loads.append(model)
        server.room.loaded.append(model)
    return Reply(200, b"")


STYLE = Style(
    **LIKE_LLAMACPP,
    name="dockermodelrunner",
    owned_by="docker",
    api_path="/engines/v1",
    v1_too=("/engines/v1", "/engines/llama.cpp/v1"),
    health=None,
    refuse_chat=_refuse,
    routes={
        ("GET", "/"): lambda server, request: Reply(200, "Docker Model Runner\n\nThe service is running.\n"),
        ("GET", "/models"): _images,
        ("POST", "/models/create"): _create,
        ("GET", "/engines/ps"): _ps,
        ("GET", "/engines/df"): lambda server, request: Reply(
            200, {"models_disk_usage": 268_802_457 * len(server.models), "default_backend_disk_usage": 52_428_800}
        ),
        ("GET", "/engines/status"): lambda server, request: Reply(200, {"llama.cpp": "running"}),
        ("GET", "/engines/_configure"): _configured,
        ("POST", "/engines/unload"): _unload,
        ("GET", "/api/version"): lambda server, request: Reply(200, {"version": "0.1.0"}),
        ("GET", "/api/tags"): _tags,
    },
    error=_error,
    not_found=lambda method, path: NOT_FOUND,
    not_allowed=lambda method, path, allowed: Reply(405, "Method Not Allowed\n", {"Allow": ", ".join(allowed)}),
    unknown_model_reply=lambda model, served: Reply(404, "model not found\n"),
    missing_model=lambda served: Reply(400, "model is required\n"),
    bad_json=lambda detail: Reply(400, "invalid request\n"),
    no_messages=lambda missing: None,
    model_entry=_entry,
    guarded=lambda path: False,
)
