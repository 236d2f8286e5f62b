"""Jan's local API server.

Sources: Jan's src-tauri/src/core/server/proxy.rs (keys, words, what is passed on) and src-tauri/static/openapi.json
(`/models/available`, `/models/load`, `/models/unload`).

What is its own: a key that is always asked for, plain words instead of envelopes, `owned_by: user`, only loaded models
in its list, a public page of its API at `/`. A completion comes from llama.cpp with all its headers.

`about`: `size_bytes`, `capabilities`, `engine`.
`options`: `open` (no key is asked for), `old` (before `/models/available`). Without a key given to the server, its key
is `jan-key`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.styles.base import Reply, Style
from mamba_nb.testing.styles.passing_on import LIKE_LLAMACPP, forget, known, load, with_its_header

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

KEY = "jan-key"
PUBLIC = ("/", "/openapi.json", "/favicon.ico")
PAGE = '<!DOCTYPE html>\n<html lang="en">\n<head>\n  <title>API Docs</title>\n</head>\n<body></body>\n</html>'


def _begin(server: ScriptedServer) -> None:
    if server.api_key is None and not server.options.get("open"):
        server.api_key = KEY


def _error(status: int, message: str, *, type: str | None = None, param: str | None = None, code: Any = None) -> Reply:
    return Reply(status, message)


def _unauthorized(key: str | None) -> Reply:
    return Reply(401, "Missing authorization header" if key is None else "Invalid or missing authorization token")


def _unknown_model(model: str, served: Sequence[str]) -> Reply:
    if not served:
        return Reply(503, "No models are available")
    return Reply(404, f"No running session found for model '{model}'")


def _models(server: ScriptedServer, entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": [entry for entry in entries if server.is_loaded(entry["id"])]}


def _document(server: ScriptedServer, request: LoggedRequest) -> Reply:
    info = {"title": "Jan API Server Endpoints", "version": "1.0"}
    return Reply(200, {"openapi": "3.0.0", "info": info, "paths": {"/models": {}, "/chat/completions": {}}})


def _available(server: ScriptedServer, request: LoggedRequest) -> Reply:
    if server.options.get("old"):
        return Reply(404, "Not Found")
    entries = [
        {
            "id": model,
            "object": "model",
            "engine": server.said_of(model, "engine", "llamacpp"),
            "status": "running" if server.is_loaded(model) else "available",
            "name": model,
            "size_bytes": server.said_of(model, "size_bytes", 2_019_393_189),
            "capabilities": server.said_of(model, "capabilities", ["chat"]),
        }
        for model in server.models
    ]
    return Reply(200, {"object": "list", "data": entries})


async def _load(server: ScriptedServer, request: LoggedRequest) -> Reply:
    if server.options.get("old"):
        return Reply(404, "Not Found")
    model = known(server, request.body.get("model"))
    if model is None:
        return Reply(404, {"error": f"Model '{request.body.get('model')}' not found on disk"})
    await load(server, model)
    server.state["ctx_size"] = request.body.get("ctx_size", 4096)
    return Reply(200, {"success": True, "model": model, "port": 3000, "pid": 1, "message": "Model loaded"})


def _unload(server: ScriptedServer, request: LoggedRequest) -> Reply:
    if server.options.get("old"):
        return Reply(404, "Not Found")
    model = str(request.body.get("model"))
    if not forget(server, model):
        return Reply(404, {"success": False, "model": model, "error": "Model is not currently loaded"})
    return Reply(200, {"success": True, "model": model, "message": "Model unloaded"})


STYLE = Style(
    **LIKE_LLAMACPP,
    name="jan",
    owned_by="user",
    health=None,
    begin=_begin,
    play=with_its_header,
    routes={
        ("GET", "/"): lambda server, request: Reply(200, PAGE),
        ("GET", "/openapi.json"): _document,
        ("GET", "/v1/models/available"): _available,
        ("POST", "/v1/models/load"): _load,
        ("POST", "/v1/models/unload"): _unload,
    },
    error=_error,
    not_found=lambda method, path: Reply(404, "Not Found"),
    not_allowed=lambda method, path, allowed: Reply(404, "Not Found"),
    unauthorized=_unauthorized,
    unknown_model_reply=_unknown_model,
    missing_model=lambda served: Reply(400, "Request body must contain a 'model' field"),
    bad_json=lambda detail: Reply(400, "Invalid JSON body"),
    model_entry=lambda server, model: {"id": model, "object": "model", "created": 1, "owned_by": server.owned_by},
    models=_models,
    one_model=None,
    guarded=lambda path: path not in PUBLIC,
)
