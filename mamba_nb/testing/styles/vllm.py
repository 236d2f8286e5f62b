"""vLLM, as recorded from vLLM 0.32.0 (SmolLM2 on CPU).

What is its own: the head of a stream leaves at once, `content: ""` first, `stop_reason` and `token_ids` beside the
finish reason, `[DONE]` even after an error, FastAPI's `detail` for wrong paths, a key that guards `/v1` only, an
optional model name, and no `/v1/embeddings` beside a chat model.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import LoggedRequest, text_of
from mamba_nb.testing.script import split_pieces
from mamba_nb.testing.styles.base import Reply, Style, plain_model_entry

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

VERSION = "0.32.0"
FINGERPRINT = "vllm-0.32.0-dd8cb623"

_TYPES = {400: "BadRequestError", 404: "NotFoundError", 500: "InternalServerError"}
_NOT_FOUND = Reply(404, {"detail": "Not Found"})


def _error(status: int, message: str, *, type: str | None = None, param: str | None = None, code: Any = None) -> Reply:
    kind = type or _TYPES.get(status, "InternalServerError" if status >= 500 else "BadRequestError")
    return Reply(status, {"error": {"message": message, "type": kind, "param": param, "code": status}})


def _unknown_model(model: str, served: Sequence[str]) -> Reply:
    message = f"The model `{model}` does not exist. Valid aliases: {', '.join(served)}."
    return _error(404, message, param="model")


def _bad_json(detail: str) -> Reply:
    where = {"type": "json_invalid", "loc": "body.1", "msg": "JSON decode error", "ctx": {"error": detail}}
    return _error(400, f"1 validation error:\n  {where}", type="Bad Request", param="body.1")


def _no_messages(missing: bool) -> Reply:
    if missing:
        where = {"type": "missing", "loc": "body.messages", "msg": "Field required"}
        return _error(400, f"1 validation error:\n  {where}", type="Bad Request", param="body.messages")
    return _error(400, "Cannot apply chat template to an empty conversation. Provide at least one message.")


def _choice(index: int, delta: dict[str, Any], logprobs: Any, finish_reason: str | None) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
    if finish_reason is not None:
        choice["stop_reason"] = None
    if "role" not in delta:
        choice["token_ids"] = None
    return choice


def _entry(server: ScriptedServer, model: str) -> dict[str, Any]:
    permission = {
        "id": f"modelperm-{zlib.crc32(model.encode()):016x}",
        "object": "model_permission",
        "created": server.created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    return {
        **plain_model_entry(server, model),
        "root": model,
        "parent": None,
        "max_model_len": server.context_length,
        "permission": [permission],
    }


def _tokenize(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """`{"prompt"}` or `{"messages"}`; a token is a word, as in this server's `usage`."""
    body = request.body
    messages = body.get("messages")
    texts = [text_of(m.get("content")) for m in messages] if isinstance(messages, list) else [body.get("prompt", "")]
    pieces = [piece for text in texts for piece in split_pieces(text)]
    reply = {
        "count": len(pieces),
        "max_model_len": server.context_length,
        "tokens": [zlib.crc32(piece.encode()) % 49152 for piece in pieces],
        "token_strs": pieces if body.get("return_token_strs") else None,
    }
    return Reply(200, reply)


STYLE = Style(
    name="vllm",
    owned_by="vllm",
    headers={"Server": "uvicorn"},
    stream_type="text/event-stream; charset=utf-8",
    reasoning_field="reasoning",
    null_content_first=False,
    head_first=True,
    finish_delta={"content": ""},
    message_extras={"refusal": None, "annotations": None, "audio": None, "function_call": None, "reasoning": None},
    fingerprint=FINGERPRINT,
    chunk_fingerprint="last",
    done_after_error=True,
    needs_model=False,
    embeddings=False,
    health=lambda server, request: Reply(200, b""),
    routes={
        ("GET", "/version"): lambda server, request: Reply(200, {"version": VERSION}),
        ("GET", "/ping"): lambda server, request: Reply(200, b""),
        ("GET", "/load"): lambda server, request: Reply(200, {"server_load": server.room.busy}),
        ("POST", "/tokenize"): _tokenize,
    },
    error=_error,
    not_found=lambda method, path: _NOT_FOUND,
    not_allowed=lambda method, path, allowed: Reply(
        405, {"detail": "Method Not Allowed"}, {"Allow": ", ".join(allowed)}
    ),
    unauthorized=lambda key: Reply(401, {"error": "Unauthorized"}),
    unknown_model_reply=_unknown_model,
    bad_json=_bad_json,
    no_messages=_no_messages,
    no_embeddings=lambda: _NOT_FOUND,
    model_entry=_entry,
    one_model=None,
    choice=_choice,
    guarded=lambda path: path.startswith(("/v1", "/v2", "/inference", "/cohere")),
    answer_id=lambda number: f"chatcmpl-{zlib.crc32(str(number).encode()):016x}",
)
