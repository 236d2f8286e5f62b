"""Ollama, as of 0.33.

Sources: Ollama's `server/routes.go` (paths, `/api/*`), `middleware/openai.go` and `openai/openai.go` (the `/v1`
shapes), `api/types.go` (the native shapes).

What is its own: `content` in every delta, the role riding on the first token's chunk, whole tool calls, ids that
repeat, `data: null` where no model is installed, plain-text 404 and 405, no key, no `n`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.styles.base import Reply, Style, plain_model_entry

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

VERSION = "0.33.0"
SIZE = 2_019_393_189
MODEL_CONTEXT = 131_072

_TYPES = {400: "invalid_request_error", 404: "not_found_error"}


def _error(status: int, message: str, *, type: str | None = None, param: str | None = None, code: Any = None) -> Reply:
    kind = type or _TYPES.get(status, "api_error")
    return Reply(status, {"error": {"message": message, "type": kind, "param": None, "code": None}})


def _match(model: str, served: Sequence[str]) -> str | None:
    """`x` means `x:latest`."""
    wanted = model if ":" in model else f"{model}:latest"
    return next((name for name in served if wanted == (name if ":" in name else f"{name}:latest")), None)


def _models(server: ScriptedServer, entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": entries or None}


def _entry(server: ScriptedServer, model: str) -> dict[str, Any]:
    return {**plain_model_entry(server, model), "id": model if ":" in model else f"{model}:latest"}


def _native(server: ScriptedServer, model: str) -> dict[str, Any]:
    """What `/api/tags` and `/api/ps` both say about a model."""
    name = model if ":" in model else f"{model}:latest"
    family = name.partition(":")[0].rpartition("/")[2]
    return {
        "name": name,
        "model": name,
        "size": SIZE,
        "digest": hashlib.sha256(name.encode()).hexdigest(),
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": family,
            "families": [family],
            "parameter_size": "3.2B",
            "quantization_level": "Q4_K_M",
            "context_length": MODEL_CONTEXT,
            "embedding_length": 3072,
        },
    }


def _tags(server: ScriptedServer, request: LoggedRequest) -> Reply:
    modified = datetime.fromtimestamp(server.created, UTC).isoformat()
    entries = [
        {**_native(server, model), "modified_at": modified, "capabilities": ["completion"]} for model in server.models
    ]
    return Reply(200, {"models": entries})


def _ps(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """The models in memory; one that is just being loaded is among them already, with an end that moves on."""
    ends = [(model, datetime.fromtimestamp(server.created, UTC)) for model in server.loaded_models]
    ends += [(model, datetime.now(UTC)) for model in server.room.loading]
    entries = [
        {
            **_native(server, model),
            "expires_at": (end + timedelta(minutes=5)).isoformat(),
            "size_vram": 0,
            "context_length": server.context_length,
        }
        for model, end in ends
    ]
    return Reply(200, {"models": entries})


STYLE = Style(
    name="ollama",
    owned_by="library",
    reasoning_field="reasoning",
    tool_call_style="whole",
    null_content_first=False,
    role_alone=False,
    content_always=True,
    finish_delta={"content": ""},
    fingerprint="fp_ollama",
    chunk_fingerprint="every",
    takes_n=False,
    health=None,
    routes={
        ("GET", "/"): lambda server, request: Reply(200, "Ollama is running"),
        ("GET", "/api/version"): lambda server, request: Reply(200, {"version": VERSION}),
        ("GET", "/api/tags"): _tags,
        ("GET", "/api/ps"): _ps,
    },
    error=_error,
    not_found=lambda method, path: Reply(404, "404 page not found"),
    not_allowed=lambda method, path, allowed: Reply(405, "405 method not allowed", {"Allow": ", ".join(allowed)}),
    unauthorized=lambda key: Reply(401, {"error": "unauthorized"}),
    unknown_model_reply=lambda model, served: _error(404, f"model '{model}' not found"),
    missing_model=lambda served: _error(400, "model is required"),
    bad_json=lambda detail: _error(400, detail),
    no_messages=lambda missing: _error(400, "[] is too short - 'messages'"),
    no_embeddings=lambda: _error(400, "this model does not support embeddings"),
    model_entry=_entry,
    models=_models,
    match=_match,
    guarded=lambda path: path.startswith(("/v1", "/api")),
    answer_id=lambda number: f"chatcmpl-{number * 373 % 999}",
)
