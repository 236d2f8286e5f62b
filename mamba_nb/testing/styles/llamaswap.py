"""llama-swap, as of the version whose `/v1/models` tells capabilities.

Sources: llama-swap's internal/server/server.go (paths), api.go (`/v1/models`, `/running`, `/unload`, `/upstream`),
apigroup.go (`/api/version`, `/api/models/unload`), auth.go (keys); the JSON form of its 404 is from reports of users.

What is its own: a redirect at `/`, what runs under `/running`, the model's own server under `/upstream/<model>/`, which
starts it. Give the server `one_model_at_a_time=True` and `load_s` to see it swap.

`about`: `context_length`, `vision`, `tools`, `peer` (the model is another machine's), `alias_of`, `n_ctx_train`.
`options`: `old` (no capabilities or states in its list, no way to unload one model).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.styles.base import Reply, Style, plain_model_entry
from mamba_nb.testing.styles.passing_on import LIKE_LLAMACPP, forget, load, page

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

NOT_FOUND = Reply(404, "404 page not found\n")


def _error(status: int, message: str, *, type: str | None = None, param: str | None = None, code: Any = None) -> Reply:
    return Reply(status, {"error": message, "src": "llama-swap"})


def _unauthorized(key: str | None) -> Reply:
    reply = _error(401, "unauthorized: invalid or missing API key")
    return Reply(reply.status, reply.body, {"WWW-Authenticate": 'Basic realm="llama-swap"'})


def _entry(server: ScriptedServer, model: str) -> dict[str, Any]:
    entry: dict[str, Any] = {**plain_model_entry(server, model)}
    if server.options.get("old"):
        return entry
    peer, alias_of = server.said_of(model, "peer"), server.said_of(model, "alias_of")
    context = server.said_of(model, "context_length")
    own: dict[str, Any] = {"type": "peer" if peer else "alias" if alias_of else "model"}
    if peer:
        own["peerID"] = peer
    if alias_of:
        own["modelID"] = alias_of
    inputs = ["text", *(["image"] if server.said_of(model, "vision") else [])]
    able = {"vision": True} if server.said_of(model, "vision") else {}
    if server.said_of(model, "tools"):
        able["function_calling"] = True
        entry["supported_parameters"] = ["tools", "tool_choice"]
    if context:
        entry["context_length"] = context
    running = not peer and server.is_loaded(alias_of or model)
    return {
        **entry,
        "architecture": {"input_modalities": inputs, "output_modalities": ["text"]},
        "capabilities": able,
        "meta": {"llamaswap": own, **({"n_ctx": context} if context else {})},
        "status": {"value": "loaded" if running else "unloaded"},
    }


def _running(server: ScriptedServer, request: LoggedRequest) -> Reply:
    states = dict.fromkeys(server.room.loading, "starting")
    states |= {model: "ready" for model in _local(server) if server.is_loaded(model)}
    entries = [
        {
            "model": model,
            "state": state,
            "cmd": f"llama-server -m /models/{model}.gguf --port 5800",
            "proxy": "http://localhost:5800",
            "ttl": 0,
            "name": "",
            "description": "",
        }
        for model, state in sorted(states.items())
    ]
    return Reply(200, {"running": entries})


def _local(server: ScriptedServer) -> list[str]:
    return [name for name in server.models if not server.said_of(name, "peer") and not server.said_of(name, "alias_of")]


def _unload_all(server: ScriptedServer, request: LoggedRequest) -> Reply:
    server.room.loaded.clear()
    return Reply(200, "OK")


def _unload_one(server: ScriptedServer, request: LoggedRequest) -> Reply:
    if server.options.get("old"):
        return NOT_FOUND
    model = request.path.removeprefix("/api/models/unload/")
    if model not in _local(server):
        return _error(404, "model not found")
    forget(server, model)
    return Reply(200, "OK")


async def _upstream(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """The model's own server, a llama-server; a name may hold slashes, so the shortest that is one counts."""
    parts = request.path.removeprefix("/upstream/").split("/")
    names = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
    model = next((name for name in names if name in server.models), None)
    if model is None:
        return _error(404, "model not found")
    await load(server, model)
    rest = request.path.removeprefix(f"/upstream/{model}")
    headers = {"Server": "llama.cpp"}
    if rest == "/v1/models":
        meta = {
            "n_ctx": server.context_length,
            "n_ctx_train": server.said_of(model, "n_ctx_train", 131_072),
            "n_params": 3_212_749_888,
            "size": 2_019_393_189,
            "ftype": "Q4_K - Medium",
        }
        entry = {"id": f"/models/{model}.gguf", "object": "model", "owned_by": "llamacpp", "meta": meta}
        return Reply(200, {"object": "list", "data": [entry]}, headers)
    if rest == "/health":
        return Reply(200, {"status": "ok"}, headers)
    return Reply(404, {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}, headers)


def _unknown_model(model: str, served: Sequence[str]) -> Reply:
    return _error(404, "no router for requested model")


STYLE = Style(
    **LIKE_LLAMACPP,
    name="llamaswap",
    owned_by="llama-swap",
    takes_x_api_key=True,
    health=lambda server, request: Reply(200, "OK"),
    routes={
        ("GET", "/"): lambda server, request: Reply(302, '<a href="/ui/">Found</a>.\n', {"Location": "/ui/"}),
        ("GET", "/ui/"): lambda server, request: page("llama-swap"),
        ("GET", "/running"): _running,
        ("GET", "/unload"): _unload_all,
        ("POST", "/api/models/unload/*"): _unload_one,
        ("GET", "/upstream/*"): _upstream,
        ("GET", "/api/version"): lambda server, request: Reply(
            200, {"version": "v240", "commit": "0bdb372", "build_date": "2026-08-01T00:00:00Z"}
        ),
    },
    error=_error,
    not_found=lambda method, path: NOT_FOUND,
    not_allowed=lambda method, path, allowed: Reply(405, "Method Not Allowed\n", {"Allow": ", ".join(allowed)}),
    unauthorized=_unauthorized,
    unknown_model_reply=_unknown_model,
    missing_model=lambda served: _error(400, "no model id could be identified"),
    no_messages=lambda missing: None,
    model_entry=_entry,
    one_model=None,
    guarded=lambda path: path not in ("/", "/health", "/wol-health", "/metrics") and not path.startswith("/ui/"),
)
