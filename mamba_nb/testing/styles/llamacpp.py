"""llama-server of llama.cpp in single-model mode, as seen in build 11434.

Sources: a running server of that build (`/v1/models`, `/props`, `/slots`, `/tokenize`, chunks, 401, 404, 501), and
llama.cpp's `tools/server/server-http.cpp` for 503 while loading.

What is its own: `Server: llama.cpp` on every response, the `/v1` paths without the prefix too, a model name that is
ignored, context per slot, `timings` on the last chunk, a connection that closes after every error.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.script import split_pieces
from mamba_nb.testing.styles.base import Reply, Style, plain_model_entry

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

BUILD = "b11434-7e4c0a9"
TRAINED_CONTEXT = 8192

_TYPES = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 501: "not_supported_error"}


def _error(status: int, message: str, *, type: str | None = None, param: str | None = None, code: Any = None) -> Reply:
    kind = type or _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return Reply(status, {"error": {"code": status, "message": message, "type": kind}})


_NOT_FOUND = _error(404, "File Not Found")


def _choice(index: int, delta: dict[str, Any], logprobs: Any, finish_reason: str | None) -> dict[str, Any]:
    choice = {"finish_reason": finish_reason, "index": index, "delta": delta}
    return choice if logprobs is None else {**choice, "logprobs": logprobs}


def _root(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """The web interface, which is only there compressed."""
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Reply(415, "Error: gzip is not supported by this browser")
    return Reply(200, "<!doctype html><html><head><title>llama.cpp</title></head><body></body></html>")


def _entry(server: ScriptedServer, model: str) -> dict[str, Any]:
    meta = {
        "vocab_type": 1,
        "n_vocab": 49152,
        "n_ctx": server.context_length,
        "n_ctx_train": TRAINED_CONTEXT,
        "n_embd": 576,
        "n_params": 134_515_008,
        "size": 98_000_000,
        "ftype": "Q4_K - Medium",
    }
    return {
        **plain_model_entry(server, model),
        "aliases": [model],
        "tags": [],
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "meta": meta,
    }


def _models(server: ScriptedServer, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """With the extra array that looks like Ollama's."""
    native = [
        {
            "name": model,
            "model": model,
            "modified_at": "",
            "size": "",
            "digest": "",
            "type": "model",
            "description": "",
            "tags": [""],
            "capabilities": ["completion"],
            "parameters": "",
            "details": {"parent_model": "", "format": "gguf", "family": "", "families": [""]},
        }
        for model in server.models[:1]
    ]
    return {"models": native, "object": "list", "data": entries[:1]}


def _props(server: ScriptedServer, request: LoggedRequest) -> Reply:
    name = server.models[0] if server.models else ""
    return Reply(
        200,
        {
            "default_generation_settings": {"params": {}, "n_ctx": server.context_length},
            "total_slots": server.slots or 4,
            "model_alias": name,
            "model_ftype": "Q4_K - Medium",
            "model_path": f"/models/{name}.gguf",
            "modalities": {"vision": False, "video": False, "audio": False},
            "endpoint_slots": True,
            "endpoint_props": False,
            "endpoint_metrics": False,
            "chat_template": "{{ messages }}",
            "chat_template_caps": {"supports_tools": False, "supports_tool_calls": False},
            "bos_token": "<s>",
            "eos_token": "</s>",
            "build_info": BUILD,
            "is_sleeping": False,
        },
    )


def _slots(server: ScriptedServer, request: LoggedRequest) -> Reply:
    slots = [
        {"id": i, "n_ctx": server.context_length, "speculative": False, "is_processing": i < server.room.busy}
        for i in range(server.slots or 4)
    ]
    return Reply(200, slots)


def _tokenize(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """A token is a word, as in this server's `usage`."""
    pieces = split_pieces(str(request.body.get("content", "")))
    ids = [zlib.crc32(piece.encode()) % 49152 for piece in pieces]
    if request.body.get("with_pieces"):
        return Reply(200, {"tokens": [{"id": i, "piece": piece} for i, piece in zip(ids, pieces, strict=True)]})
    return Reply(200, {"tokens": ids})


def _timings(prompt: int, completion: int, ttft_s: float, decode_s: float) -> dict[str, Any]:
    prompt_ms, predicted_ms = max(1000 * ttft_s, 0.001), max(1000 * decode_s, 0.001)
    return {
        "cache_n": 0,
        "prompt_n": prompt,
        "prompt_ms": prompt_ms,
        "prompt_per_token_ms": prompt_ms / max(prompt, 1),
        "prompt_per_second": 1000 * prompt / prompt_ms,
        "predicted_n": completion,
        "predicted_ms": predicted_ms,
        "predicted_per_token_ms": predicted_ms / max(completion, 1),
        "predicted_per_second": 1000 * completion / predicted_ms,
    }


STYLE = Style(
    name="llamacpp",
    owned_by="llamacpp",
    headers={"Server": "llama.cpp"},
    json_type="application/json; charset=utf-8",
    closes_after_error=True,
    null_logprobs=False,
    cached_tokens=True,
    reasoning_field="reasoning_content",
    null_content_first=True,
    fingerprint=BUILD,
    chunk_fingerprint="every",
    unknown_model="ignore",
    needs_model=False,
    names_served_model=True,
    embeddings=False,
    without_v1=True,
    takes_x_api_key=True,
    routes={
        ("GET", "/"): _root,
        ("GET", "/v1/health"): lambda server, request: Reply(200, {"status": "ok"}),
        ("GET", "/props"): _props,
        ("GET", "/slots"): _slots,
        ("POST", "/tokenize"): _tokenize,
    },
    error=_error,
    not_found=lambda method, path: _NOT_FOUND,
    not_allowed=lambda method, path, allowed: _NOT_FOUND,
    unauthorized=lambda key: _error(401, "Invalid API Key"),
    unknown_model_reply=lambda model, served: _error(400, f"model '{model}' not found"),
    bad_json=lambda detail: _error(400, f"[json.exception.parse_error.101] parse error: {detail}"),
    no_messages=lambda missing: _error(400, "'messages' is required") if missing else None,
    no_embeddings=lambda: _error(501, "This server does not support embeddings. Start it with `--embeddings`"),
    model_entry=_entry,
    models=_models,
    one_model=None,
    choice=_choice,
    guarded=lambda path: path not in ("/", "/health", "/v1/health"),
    timings=_timings,
)
