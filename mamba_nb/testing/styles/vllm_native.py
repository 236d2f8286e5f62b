"""vLLM's paths beside chat: tokens, completions, responses, Anthropic's messages, embeddings, what it has.

In: the server and a request. Out: replies of the shape that vLLM 0.32.0 gave in recorded ones. A token is a word, as
in this server's `usage`; its id is a checksum, and only ids that were given out can be turned back into text.
"""

from __future__ import annotations

import asyncio
import itertools
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from mamba_nb.testing import embeddings
from mamba_nb.testing.events import to_json
from mamba_nb.testing.log import LoggedRequest, text_of
from mamba_nb.testing.script import Script, split_pieces
from mamba_nb.testing.styles.base import Answered, Reply, Streamed
from mamba_nb.testing.styles.vllm_shapes import (
    FINGERPRINT,
    NOT_FOUND,
    context_of,
    error,
    invalid,
    tool_pieces,
    unknown_model,
)

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

CHAT = "/v1/chat/completions"
VOCABULARY = 49152
OUTPUT = 16  # `max_tokens` of a completion that names none

_BOTH = {"/load": "get", "/version": "get", "/health": "get", "/metrics": "get", "/tokenize": "post"}
_BOTH |= {"/detokenize": "post", "/v1/models": "get", "/ping": "get post", "/invocations": "post"}
_GENERATE = {
    "/kv_event_sources": "get",
    "/v1/systemone": "post",
    CHAT: "post",
    f"{CHAT}/batch": "post",
    "/v1/responses": "post",
    "/v1/responses/{response_id}": "get",
    "/v1/responses/{response_id}/cancel": "post",
    "/v1/completions": "post",
    "/v1/messages": "post",
    "/v1/messages/count_tokens": "post",
    "/generative_scoring": "post",
    "/scale_elastic_ep": "post",
    "/is_scaling_elastic_ep": "post",
}
_POOLING = {"embed": ("/v1/embeddings", "/pooling"), "classify": ("/classify", "/pooling"), "score": ("/score",)}
_POOLING["score"] += ("/v1/score", "/rerank", "/v1/rerank", "/pooling")


def openapi(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """`GET /openapi.json`: which paths there are tells what kind of model it serves; the schemas are left out."""
    task = server.options.get("task", "generate")
    paths = {**_BOTH, **(_GENERATE if task == "generate" else dict.fromkeys(_POOLING[task], "post"))}
    described: dict[str, dict[str, Any]] = {
        path: {method: {} for method in methods.split()} for path, methods in paths.items()
    }
    return Reply(200, {"openapi": "3.1.0", "info": {"title": "FastAPI", "version": "0.1.0"}, "paths": described})


def tokenize(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """`POST /tokenize` with `prompt`, or with `messages` and `tools`: then as many as `usage` counts."""
    body = request.body
    served = _served(server, body)
    if isinstance(served, Reply):
        return served
    messages = body.get("messages")
    if isinstance(messages, list):
        texts = [text_of(message.get("content")) for message in messages if isinstance(message, Mapping)]
        pieces = [piece for text in texts for piece in split_pieces(text)] + list(tool_pieces(body))
    elif isinstance(body.get("prompt"), str):
        pieces = list(split_pieces(body["prompt"]))
    else:
        return _missing(body, "prompt")
    ids = [zlib.crc32(piece.encode()) % VOCABULARY for piece in pieces]
    server.state["pieces"].update(zip(ids, pieces, strict=True))
    reply = {
        "count": len(ids),
        "max_model_len": context_of(server, served),
        "tokens": ids,
        "token_strs": pieces if body.get("return_token_strs") else None,
    }
    return Reply(200, reply)


def detokenize(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """`POST /detokenize`."""
    served = _served(server, request.body)
    if isinstance(served, Reply):
        return served
    tokens = request.body.get("tokens")
    if not isinstance(tokens, list):
        return _missing(request.body, "tokens")
    return Reply(200, {"prompt": "".join(server.state["pieces"].get(token, f" token{token}") for token in tokens)})


async def completions(server: ScriptedServer, request: LoggedRequest) -> Answered:
    """`POST /v1/completions`, streamed or not; the text is the chat script's."""
    body = request.body
    served = _served(server, body)
    if isinstance(served, Reply):
        return served
    if body.get("suffix"):
        message = "suffix is only supported for models with FIM completion rendering"
        return error(400, message, param="suffix")
    if not isinstance(body.get("prompt"), str):
        return _missing(body, "prompt")
    script = _script(server, request, served)
    pieces, finish = _limited(script, body.get("max_tokens") or OUTPUT)
    head = {
        "id": f"cmpl-{_number(server)}",
        "object": "text_completion",
        "created": server.created,
        "model": served,
    }
    usage = _usage(len(body["prompt"].split()), len(pieces))
    if body.get("stream"):
        shown = usage if (body.get("stream_options") or {}).get("include_usage") else None
        headers = {"Content-Type": "text/event-stream; charset=utf-8"}
        return Streamed(_completion_chunks(head, pieces, finish, shown, script), headers=headers)
    await asyncio.sleep(script.ttft_s + script.itl_s * len(pieces))
    rest = {"prompt_logprobs": None, "prompt_token_ids": None, "routed_experts": None}
    choice = {
        **_completion_choice("".join(pieces), finish),
        "logprobs": _completion_logprobs(pieces, body.get("logprobs")),
        **rest,
    }
    details = {"prompt_tokens_details": None, "completion_tokens_details": None}
    transfers = {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}
    made = {**head, "choices": [choice], "service_tier": None, "system_fingerprint": FINGERPRINT}
    return Reply(200, {**made, "usage": {**usage, **details}, **transfers})


async def _completion_chunks(
    head: dict[str, Any], pieces: list[str], finish: str, usage: dict[str, int] | None, script: Script
) -> AsyncIterator[bytes]:
    await asyncio.sleep(script.ttft_s)
    for place, piece in enumerate(pieces):
        if place:
            await asyncio.sleep(script.itl_s)
        last = place == len(pieces) - 1
        choice = {**_completion_choice(piece, finish if last else None), "logprobs": None, "prompt_token_ids": None}
        extra = {"system_fingerprint": FINGERPRINT} if last and usage is None else {}
        yield _event({**head, "choices": [choice], **extra})
    if usage is not None:
        yield _event({**head, "choices": [], "usage": usage, "system_fingerprint": FINGERPRINT})
    yield b"data: [DONE]\n\n"


def _completion_choice(text: str, finish: str | None) -> dict[str, Any]:
    return {"index": 0, "text": text, "finish_reason": finish, "stop_reason": None, "token_ids": None}


def _completion_logprobs(pieces: list[str], top: Any) -> dict[str, Any] | None:
    if not isinstance(top, int) or isinstance(top, bool):
        return None
    offsets = [0, *itertools.accumulate(len(piece) for piece in pieces)][: len(pieces)]
    others = [{piece: -0.25, **{f"{piece}~{k}": -(k + 1.0) for k in range(1, top)}} for piece in pieces]
    return {
        "text_offset": offsets,
        "token_logprobs": [-0.25] * len(pieces),
        "tokens": pieces,
        "top_logprobs": others,
    }


async def responses(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """`POST /v1/responses`, not streamed."""
    body = request.body
    served = _served(server, body)
    if isinstance(served, Reply):
        return served
    if not isinstance(body.get("input"), str | list):
        return _missing(body, "input")
    script = _script(server, request, served)
    pieces, _ = _limited(script, body.get("max_output_tokens"))
    await asyncio.sleep(script.ttft_s + script.itl_s * len(pieces))
    number = _number(server)
    prompt = len(str(body["input"]).split())
    cached = {"cached_tokens": 0, "cache_write_tokens": 0, "input_tokens_per_turn": [], "cached_tokens_per_turn": []}
    thought = {"reasoning_tokens": 0, "tool_output_tokens": 0}
    thought_of = {**thought, "output_tokens_per_turn": [], "tool_output_tokens_per_turn": []}
    text: dict[str, Any] = {"annotations": [], "text": "".join(pieces), "type": "output_text", "logprobs": None}
    output = {"id": f"msg_{number}", "content": [text], "role": "assistant", "status": "completed", "type": "message"}
    reply = {
        "id": f"resp_{number}",
        "created_at": server.created,
        "model": served,
        "object": "response",
        "output": [{**output, "phase": None}],
        "parallel_tool_calls": True,
        "temperature": float(body.get("temperature") or 0.0),
        "tool_choice": "none",
        "tools": [],
        "top_p": 1.0,
        "background": False,
        "max_output_tokens": body.get("max_output_tokens"),
        "service_tier": "auto",
        "status": "completed",
        "truncation": "disabled",
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": cached,
            "output_tokens": len(pieces),
            "output_tokens_details": thought_of,
            "total_tokens": prompt + len(pieces),
        },
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }
    return Reply(200, {**dict.fromkeys(_EMPTY_IN_RESPONSES), **reply})


_EMPTY_IN_RESPONSES = (
    "incomplete_details",
    "instructions",
    "metadata",
    "max_tool_calls",
    "previous_response_id",
    "prompt",
    "reasoning",
    "text",
    "top_logprobs",
    "user",
    "kv_transfer_params",
    "ec_transfer_params",
    "input_messages",
    "output_messages",
)


async def messages(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """`POST /v1/messages`: Anthropic's form, not streamed."""
    served = _served(server, request.body)
    if isinstance(served, Reply):
        return served
    script = _script(server, request, served)
    pieces, finish = _limited(script, request.body.get("max_tokens"))
    await asyncio.sleep(script.ttft_s + script.itl_s * len(pieces))
    reply = {
        "id": f"chatcmpl-{_number(server)}",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "".join(pieces)}],
        "model": served,
        "stop_reason": "max_tokens" if finish == "length" else "end_turn",
        "usage": {"input_tokens": len(request.prompt.split()), "output_tokens": len(pieces)},
    }
    return Reply(200, reply)


def embed(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """`POST /v1/embeddings` of an embedding model, in vLLM's form; 404 beside a chat model."""
    if server.options.get("task", "generate") != "embed":
        return NOT_FOUND
    reply = embeddings.reply(server, request)
    if reply.status != 200:
        return reply
    usage = {**reply.body["usage"], "completion_tokens": 0, "prompt_tokens_details": None}
    return Reply(200, {"id": f"embd-{_number(server)}", **reply.body, "created": server.created, "usage": usage})


# Small parts.


def _served(server: ScriptedServer, body: Mapping[str, Any]) -> str | Reply:
    """The model that answers, or 404; the name may be left out."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        return server.models[0] if server.models else "unknown"
    if model in server.models or server.unknown_model == "ignore":
        return model
    return unknown_model(model, server.models)


def _script(server: ScriptedServer, request: LoggedRequest, model: str) -> Script:
    script = server.script_for(request, CHAT, model)
    return Script() if script is None else script


def _limited(script: Script, most: Any) -> tuple[list[str], str]:
    pieces = list(script.text or ())
    if isinstance(most, int) and 0 < most < len(pieces):
        return pieces[:most], "length"
    return pieces, script.finish_reason or "stop"


def _number(server: ScriptedServer) -> str:
    server.state["answers"] += 1
    return checksum(server.state["answers"])


def checksum(number: int) -> str:
    """A number that looks like the end of vLLM's ids."""
    return f"{zlib.crc32(str(number).encode()):016x}"


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}


def _missing(body: Mapping[str, Any], name: str) -> Reply:
    size = f"<dict of {len(body)} items>"
    return invalid({"type": "missing", "loc": f"body.{name}", "msg": "Field required", "input": size})


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + to_json(chunk) + b"\n\n"
