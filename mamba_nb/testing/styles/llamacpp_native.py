"""llama-server's own paths for one model: what it is like, its slots, tokens, template and figures.

Sources and the names of `about` and `options` are in `llamacpp`. A token is a word here, as in this server's `usage`.
In router mode the paths mean the model that the request names, which is loaded if need be.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import LoggedRequest, text_of
from mamba_nb.testing.script import split_pieces
from mamba_nb.testing.styles.base import Reply, Route

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

BUILD = "b11434-7e4c0a9"
CONTEXT_MAX = 8192
CHAT = "/v1/chat/completions"

_TYPES = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 501: "not_supported_error"}


def error(status: int, message: str, *, type: str | None = None, param: str | None = None, code: Any = None) -> Reply:
    """llama-server's error envelope."""
    kind = type or _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return Reply(status, {"error": {"code": status, "message": message, "type": kind}})


NOT_FOUND = error(404, "File Not Found")


def too_long(prompt: int, context: int) -> Reply:
    """The refusal of a prompt that does not fit a slot."""
    message = f"request ({prompt} tokens) exceeds the available context size ({context} tokens), try increasing it"
    reply = error(400, message, type="exceed_context_size_error")
    reply.body["error"].update(n_prompt_tokens=prompt, n_ctx=context)
    return reply


# What the model is like.


def context_of(server: ScriptedServer, model: str) -> int:
    """Tokens of context in one slot."""
    context: int = server.said_of(model, "context", server.context_length)
    return context


def meta(server: ScriptedServer, model: str) -> dict[str, Any]:
    """`meta` of an entry of `/v1/models`."""
    return {
        "vocab_type": 1,
        "n_vocab": 49152,
        "n_ctx": context_of(server, model),
        "n_ctx_train": server.said_of(model, "context_max", CONTEXT_MAX),
        "n_embd": 576,
        "n_params": server.said_of(model, "parameters", 134_515_008),
        "size": server.said_of(model, "size_bytes", 98_000_000),
        "ftype": server.said_of(model, "quantization", "Q4_K - Medium"),
    }


def props(server: ScriptedServer, model: str) -> Reply:
    """`GET /props` of a model."""
    vision, tools = server.said_of(model, "vision", False), server.said_of(model, "tools", False)
    return Reply(
        200,
        {
            "default_generation_settings": {"params": {}, "n_ctx": context_of(server, model)},
            "total_slots": server.slots or 4,
            "model_alias": model,
            "model_ftype": server.said_of(model, "quantization", "Q4_K - Medium"),
            "model_path": f"/models/{model}.gguf",
            "modalities": {"vision": vision, "video": False, "audio": False},
            "endpoint_slots": True,
            "endpoint_props": False,
            "endpoint_metrics": server.options.get("metrics", False),
            "chat_template": "{{ messages }}",
            "chat_template_caps": {
                "supports_tools": tools,
                "supports_tool_calls": tools,
                "supports_parallel_tool_calls": tools,
                "supports_reasoning_effort": server.said_of(model, "reasoning", False),
                "supports_preserve_reasoning": False,
            },
            "bos_token": "<s>",
            "eos_token": "</s>",
            "build_info": server.options.get("build", BUILD),
            "is_sleeping": server.options.get("sleeping", False),
        },
    )


def slots(server: ScriptedServer, model: str) -> Reply:
    """`GET /slots`."""
    context = context_of(server, model)
    return Reply(
        200,
        [
            {"id": i, "n_ctx": context, "speculative": False, "is_processing": i < server.room.busy}
            for i in range(server.slots or 4)
        ],
    )


# Figures.


def metrics(server: ScriptedServer, model: str) -> Reply:
    """`GET /metrics` in Prometheus' text form; counted from the server's log."""
    if not server.options.get("metrics", False):
        return error(501, "This server does not support metrics endpoint. Start it with `--metrics`")
    answered = [entry for entry in server.requests if entry.path.endswith("/chat/completions") and entry.status == 200]
    figures = {
        "prompt_tokens_total": ("counter", sum(len(words_of(entry.body)) for entry in answered)),
        "prompt_tokens_cached_total": ("counter", 0),
        "prompt_seconds_total": ("counter", 0.25 * len(answered)),
        "tokens_predicted_total": ("counter", sum(len(entry.token_sent_at) for entry in answered)),
        "tokens_predicted_seconds_total": ("counter", 0.5 * len(answered)),
        "n_decode_total": ("counter", len(answered)),
        "n_tokens_max": ("counter", 0),
        "prompt_tokens_seconds": ("gauge", 5913.4),
        "predicted_tokens_seconds": ("gauge", 2372.5),
        "requests_processing": ("gauge", server.room.busy),
        "requests_deferred": ("gauge", 0),
        "n_busy_slots_per_decode": ("gauge", 1),
    }
    lines = [
        f"# HELP llamacpp:{name} About {name}.\n# TYPE llamacpp:{name} {kind}\nllamacpp:{name} {value}\n"
        for name, (kind, value) in figures.items()
    ]
    return Reply(200, "".join(lines), {"Content-Type": "text/plain; version=0.0.4"})


# Tokens.


def tokenize(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """`POST /tokenize`; `add_special` puts the token that begins every prompt before them."""
    content = request.body.get("content", "")
    if not isinstance(content, str):
        return error(400, "[json.exception.type_error.302] type must be string, but is number")
    pieces = split_pieces(content)
    ids = [_token(piece) for piece in pieces]
    if request.body.get("add_special"):
        pieces, ids = ("<s>", *pieces), [1, *ids]
    if request.body.get("with_pieces"):
        return Reply(200, {"tokens": [{"id": i, "piece": piece} for i, piece in zip(ids, pieces, strict=True)]})
    return Reply(200, {"tokens": ids})


def detokenize(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """`POST /detokenize`, of tokens that this server has seen."""
    known = {_token(piece): piece for entry in server.requests for piece in split_pieces(_content(entry))}
    tokens = request.body.get("tokens") or []
    return Reply(200, {"content": "".join(known.get(token, "<unk>") for token in tokens)})


def _token(piece: str) -> int:
    return zlib.crc32(piece.encode()) % 49150 + 2


def _content(entry: LoggedRequest) -> str:
    return str(entry.body.get("content", "")) if isinstance(entry.body, dict) else ""


def apply_template(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """`POST /apply-template`: every message on a line of its own."""
    if not server.options.get("template", True):
        return NOT_FOUND
    if not isinstance(request.body.get("messages"), list):
        return error(400, "'messages' is required")
    return Reply(200, {"prompt": " ".join(words_of(request.body))})


def input_tokens(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """`POST /v1/chat/completions/input_tokens`, in newer builds."""
    if not server.options.get("input_tokens", True):
        return NOT_FOUND
    if not isinstance(request.body.get("messages"), list):
        return error(400, "'messages' is required")
    return Reply(200, {"input_tokens": len(words_of(request.body)), "object": "response.input_tokens"})


def words_of(body: Any) -> list[str]:
    """The words of a chat request, which are its prompt here."""
    messages = body.get("messages") if isinstance(body, dict) else None
    return [
        word
        for message in (messages if isinstance(messages, list) else [])
        if isinstance(message, dict)
        for word in text_of(message.get("content")).split()
    ]


def _root(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """The web interface, which is only there compressed."""
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Reply(415, "Error: gzip is not supported by this browser")
    return Reply(200, "<!doctype html><html><head><title>llama.cpp</title></head><body></body></html>")


ROUTES: dict[tuple[str, str], Route] = {
    ("GET", "/"): _root,
    ("GET", "/v1/health"): lambda server, request: Reply(200, {"status": "ok"}),
}
"""Paths that are the same in both modes."""
