"""LocalAI, as of 4.9.

Sources: LocalAI's core/http/routes/localai.go (`/.well-known/localai.json`, `/version`, `/v1/tokenize`,
`/models/apply`, `/backend/shutdown`), core/http/endpoints/openai/list.go and list_capabilities.go (`/v1/models`),
core/http/endpoints/ollama/models.go (the imitation of Ollama), core/http/auth/middleware.go (keys). The words for an
unknown model are not from there.

What is its own: no `owned_by`, a document that is public even with a key, `/api/*` as if it were Ollama 0.9.0, with a
digest that is the hash of the name and a family that is the engine.

`about`: `capabilities` (chat, completion, embeddings, vision, tools, thinking, transcript, ...), `input_modalities`,
`context_size`, `size`, `quantization`, `parameter_size`, `backend`.
`options`: `ollama_root` (`/` says "Ollama is running"), `old` (before `/v1/models/capabilities`), `gallery` (the names
that can be installed; None: all), `pull_fails` (why installing does).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.script import split_pieces
from mamba_nb.testing.styles.base import Reply, Style
from mamba_nb.testing.styles.passing_on import forget, known, page

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

VERSION = "v4.9.0 (0c8bba1f)"
CONTEXT = 8192
FILE_SIZE = 2_019_393_189
PUBLIC = ("/.well-known/localai.json", "/healthz", "/readyz", "/api/instructions")
OLLAMA_WORDS = {
    "chat": "completion",
    "completion": "completion",
    "embeddings": "embedding",
    "vision": "vision",
    "tools": "tools",
    "thinking": "thinking",
}


def _error(status: int, message: str, *, type: str | None = None, param: str | None = None, code: Any = None) -> Reply:
    kind = type or ("invalid_request_error" if status < 500 else "server_error")
    return Reply(status, {"error": {"code": status, "message": message, "param": param, "type": kind}})


def _unauthorized(key: str | None) -> Reply:
    reply = _error(401, "An authentication key is required")
    return Reply(reply.status, reply.body, {"WWW-Authenticate": "Bearer"})


def _root(server: ScriptedServer, request: LoggedRequest) -> Reply:
    return Reply(200, "Ollama is running") if server.options.get("ollama_root") else page("LocalAI")


def _well_known(server: ScriptedServer, request: LoggedRequest) -> Reply:
    endpoints = {
        "models": "/v1/models",
        "chat_completions": "/v1/chat/completions",
        "completions": "/v1/completions",
        "embeddings": "/v1/embeddings",
        "swagger": "/swagger/index.html",
        "instructions": "/api/instructions",
    }
    groups = {"openai_compatible": {"models": "/v1/models"}, "ai_functions": {"tokenize": "/v1/tokenize"}}
    return Reply(200, {"version": VERSION, "endpoints": endpoints, "endpoint_groups": groups, "capabilities": {}})


def _able(server: ScriptedServer, model: str) -> list[str]:
    return list(server.said_of(model, "capabilities", ["chat", "completion", "tools"]))


def _capabilities(server: ScriptedServer, request: LoggedRequest) -> Reply:
    if server.options.get("old"):
        return _error(404, "Not Found")
    entries = [
        {
            "id": model,
            "object": "model",
            "capabilities": _able(server, model),
            "input_modalities": server.said_of(model, "input_modalities", ["text"]),
            "output_modalities": ["text"],
            "context_size": server.said_of(model, "context_size", CONTEXT),
        }
        for model in server.models
    ]
    return Reply(200, {"object": "list", "data": entries})


def _file(server: ScriptedServer, model: str) -> dict[str, Any]:
    name = model if ":" in model else f"{model}:latest"
    engine = server.said_of(model, "backend", "llama-cpp")
    words = dict.fromkeys(OLLAMA_WORDS[word] for word in _able(server, model) if word in OLLAMA_WORDS)
    return {
        "name": name,
        "model": name,
        "size": server.said_of(model, "size", FILE_SIZE),
        "digest": "sha256:" + hashlib.sha256(model.encode()).hexdigest(),
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": engine,
            "families": [engine],
            "parameter_size": server.said_of(model, "parameter_size", "3B"),
            "quantization_level": server.said_of(model, "quantization", "Q4_K_M"),
        },
        "capabilities": list(words),
    }


def _tags(server: ScriptedServer, request: LoggedRequest) -> Reply:
    return Reply(200, {"models": [_file(server, model) for model in server.models]})


def _ps(server: ScriptedServer, request: LoggedRequest) -> Reply:
    running = [_file(server, model) for model in server.models if server.is_loaded(model)]
    return Reply(200, {"models": [{**entry, "expires_at": "2030-01-01T00:00:00Z"} for entry in running] or None})


def _tokenize(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """A token is a word, numbered by its place."""
    if known(server, request.body.get("model")) is None:
        return _error(404, f'model "{request.body.get("model")}" not found')
    return Reply(200, {"tokens": list(range(len(split_pieces(str(request.body.get("content", ""))))))})


def _shutdown(server: ScriptedServer, request: LoggedRequest) -> Reply:
    model = str(request.body.get("model"))
    if not forget(server, model):
        return Reply(404, {"message": f'model "{model}" is not loaded on this instance or on any worker node'})
    return Reply(200, {"message": "model stopped"})


def _apply(server: ScriptedServer, request: LoggedRequest) -> Reply:
    jobs = server.state.setdefault("jobs", {})
    job = f"00000000-0000-0000-0000-{len(jobs):012d}"
    jobs[job] = {"model": str(request.body.get("id")), "looks": 0}
    return Reply(200, {"uuid": job, "status": f"{server.root}/models/jobs/{job}"})


def _job(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """Each look finds it a third further on; the third one finds it done."""
    job = server.state.get("jobs", {}).get(request.path.rpartition("/")[2])
    if job is None:
        return Reply(500, {"error": {"code": 500, "message": "could not find any status for ID", "type": ""}})
    job["looks"] += 1
    gallery, fails = server.options.get("gallery"), server.options.get("pull_fails")
    if gallery is not None and job["model"] not in gallery:
        fails = f"no model found with name {job['model']!r}"
    state = {
        "deletion": False,
        "file_name": f"{job['model']}.gguf",
        "error": None,
        "processed": False,
        "message": "processing file",
        "progress": 100 * job["looks"] / 3,
        "file_size": "1.5 GiB",
        "downloaded_size": f"{job['looks'] * 0.5} GiB",
        "gallery_element_name": job["model"],
    }
    if fails:
        return Reply(200, {**state, "error": {}, "processed": True, "message": f"error: {fails}"})
    if job["looks"] < 3:
        return Reply(200, state)
    server.models = tuple(dict.fromkeys([*server.models, job["model"].rpartition("@")[2]]))
    return Reply(200, {**state, "processed": True, "message": "completed", "progress": 100})


STYLE = Style(
    name="localai",
    owned_by="",
    health=None,
    without_v1=True,
    takes_x_api_key=True,
    routes={
        ("GET", "/"): _root,
        ("GET", "/.well-known/localai.json"): _well_known,
        ("GET", "/healthz"): lambda server, request: Reply(200, b""),
        ("GET", "/readyz"): lambda server, request: Reply(200, b""),
        ("GET", "/version"): lambda server, request: Reply(200, {"version": VERSION}),
        ("GET", "/v1/models/capabilities"): _capabilities,
        ("GET", "/api/version"): lambda server, request: Reply(200, {"version": "0.9.0"}),
        ("GET", "/api/tags"): _tags,
        ("GET", "/api/ps"): _ps,
        ("POST", "/v1/tokenize"): _tokenize,
        ("POST", "/backend/shutdown"): _shutdown,
        ("POST", "/models/apply"): _apply,
        ("GET", "/models/jobs/*"): _job,
    },
    error=_error,
    not_found=lambda method, path: _error(404, "Not Found"),
    not_allowed=lambda method, path, allowed: _error(405, "Method Not Allowed"),
    unauthorized=_unauthorized,
    unknown_model_reply=lambda model, served: _error(404, f'model "{model}" not found'),
    model_entry=lambda server, model: {"id": model, "object": "model"},
    one_model=None,
    guarded=lambda path: path not in PUBLIC,
)
