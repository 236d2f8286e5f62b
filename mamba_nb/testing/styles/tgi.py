"""TGI, Hugging Face's text-generation-inference, as of 3.

Sources: TGI's docs/openapi.json (`/info`, `/tokenize`, `/chat_tokenize`, error bodies, `StreamOptions`: usage is null
on every chunk but the last), docs/source/reference/metrics.md, router/src/server.rs (which paths a key guards).

What is its own: one model under any name, errors 422 with `error_type`, 429 where it is overloaded, `n` without effect.

about           model_id (the weights' name where it differs from the served one), pipeline_tag
options         old          `/info` with `max_input_length` and without `router`, as releases before 2
                overloaded   every chat request is 429
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import LoggedRequest, count_words, text_of
from mamba_nb.testing.script import Script, split_pieces
from mamba_nb.testing.styles.base import Reply, Style

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

VERSION = "3.3.7"

_TYPES = {422: "validation", 424: "generation", 429: "overloaded", 500: "incomplete_generation"}


def _error(status: int, message: str, *, type: str | None = None, param: str | None = None, code: Any = None) -> Reply:
    status = 422 if status == 400 else status
    return Reply(status, {"error": message, "error_type": type or _TYPES.get(status, "validation")})


def _invalid(message: str) -> Reply:
    return _error(422, f"Input validation error: {message}")


def _info(server: ScriptedServer, request: LoggedRequest) -> Reply:
    model = server.models[0] if server.models else "unknown"
    most = server.context_length
    info: dict[str, Any] = {
        "model_id": server.said_of(model, "model_id", model),
        "model_sha": f"{zlib.crc32(model.encode()):040x}",
        "model_pipeline_tag": server.said_of(model, "pipeline_tag", "text-generation"),
        "max_concurrent_requests": 128,
        "max_best_of": 2,
        "max_stop_sequences": 4,
        "max_input_tokens": most - 1,
        "max_total_tokens": most,
        "validation_workers": 2,
        "max_client_batch_size": 4,
        "router": "text-generation-router",
        "version": VERSION,
        "sha": None,
        "docker_label": None,
    }
    if server.options.get("old"):
        del info["router"], info["max_input_tokens"]
        info |= {"max_input_length": most - 1, "version": "1.4.5"}
    return Reply(200, info)


def _entry(server: ScriptedServer, model: str) -> dict[str, Any]:
    """TGI names the model as its own owner, and gives no time."""
    name = server.said_of(model, "model_id", model)
    return {"id": name, "object": "model", "created": 0, "owned_by": name}


def _tokens(text: str) -> list[dict[str, Any]]:
    found, at = [], 0
    for piece in split_pieces(text):
        found.append({"id": zlib.crc32(piece.encode()) % 49152, "text": piece, "start": at, "stop": at + len(piece)})
        at += len(piece)
    return found


def _tokenize(server: ScriptedServer, request: LoggedRequest) -> Reply:
    given = request.body.get("inputs")
    return Reply(200, _tokens(given)) if isinstance(given, str) else _invalid("missing field `inputs`")


def _chat_tokenize(server: ScriptedServer, request: LoggedRequest) -> Reply:
    messages = request.body.get("messages")
    if not isinstance(messages, list):
        return _invalid("missing field `messages`")
    text = " ".join(text_of(message.get("content")) for message in messages if isinstance(message, Mapping))
    return Reply(200, {"tokenize_response": _tokens(text), "templated_text": text})


def _metrics(server: ScriptedServer, request: LoggedRequest) -> Reply:
    done = [chat for chat in server.chats if chat.status == 200]
    waiting = max(0, sum(1 for chat in server.chats if chat.status is None) - server.room.busy)
    lines = [
        *("# TYPE tgi_batch_current_size gauge", f"tgi_batch_current_size {server.room.busy}"),
        *("# TYPE tgi_queue_size gauge", f"tgi_queue_size {waiting}"),
        *("# TYPE tgi_request_count counter", f"tgi_request_count {len(server.chats)}"),
        "# TYPE tgi_request_input_length histogram",
        f"tgi_request_input_length_sum {sum(count_words(chat.body) for chat in done)}",
        f"tgi_request_input_length_count {len(done)}",
        "# TYPE tgi_request_generated_tokens histogram",
        f"tgi_request_generated_tokens_sum {server.state['generated']}",
        f"tgi_request_generated_tokens_count {len(done)}",
    ]
    return Reply(200, "\n".join(lines) + "\n")


def _refuse(server: ScriptedServer, request: LoggedRequest) -> Reply | None:
    body, most = request.body, server.context_length
    if server.options.get("overloaded"):
        return _error(429, "Model is overloaded")
    prompt, asked = count_words(body), body.get("max_tokens")
    if prompt > most - 1:
        return _invalid(f"`inputs` must have less than {most - 1} tokens. Given: {prompt}")
    if isinstance(asked, int) and prompt + asked > most:
        words = f"`inputs` tokens + `max_new_tokens` must be <= {most}. Given: {prompt} `inputs` tokens and {asked} "
        return _invalid(f"{words}`max_new_tokens`")
    temperature = body.get("temperature")
    if isinstance(temperature, int | float) and temperature < 0:
        return _invalid("`temperature` must be strictly positive")
    return None


def _play(server: ScriptedServer, script: Script, body: Mapping[str, Any], model: str) -> Script:
    if script.usage == "last":
        script = replace(script, usage="null_each")
    asked = body.get("max_tokens")
    if asked is None:
        script = replace(script, obey_max_tokens=False)  # it does not know max_completion_tokens
    length = len(script.text or ())
    server.state["generated"] += min(length, asked) if isinstance(asked, int) and asked > 0 else length
    return script


def _begin(server: ScriptedServer) -> None:
    server.state["generated"] = 0


STYLE = Style(
    name="tgi",
    owned_by="tgi",
    null_content_first=False,
    role_alone=False,
    fingerprint=f"{VERSION}-sha-scripted",
    chunk_fingerprint="every",
    unknown_model="ignore",
    needs_model=False,
    takes_n=False,
    embeddings=False,
    health=lambda server, request: Reply(200, b""),
    routes={
        ("GET", "/info"): _info,
        ("GET", "/metrics"): _metrics,
        ("POST", "/tokenize"): _tokenize,
        ("POST", "/chat_tokenize"): _chat_tokenize,
    },
    begin=_begin,
    refuse_chat=_refuse,
    play=_play,
    error=_error,
    not_found=lambda method, path: Reply(404, b""),
    not_allowed=lambda method, path, allowed: Reply(405, b"", {"Allow": ", ".join(allowed)}),
    unauthorized=lambda key: Reply(401, b""),
    bad_json=lambda detail: Reply(422, f"Failed to parse the request body as JSON: {detail}"),
    no_messages=lambda missing: _invalid("missing field `messages`" if missing else "`messages` cannot be empty"),
    no_embeddings=lambda: Reply(404, b""),
    model_entry=_entry,
    one_model=None,
    guarded=lambda path: path in ("/v1/chat/completions", "/v1/completions", "/tokenize"),  # server.rs, base_routes
)
