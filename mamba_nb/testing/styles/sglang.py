"""SGLang, as of 0.5.

Sources: SGLang's srt/entrypoints/http_server.py (paths, `/`, `/model_info`, `/server_info`, the validation handler),
srt/entrypoints/openai/serving_base.py (its error envelope), srt/entrypoints/ollama/serving.py (`/api/tags`),
srt/managers/tokenizer_manager.py (the words for a prompt that is too long), srt/utils (the key's middleware).

What is its own: `/` answers a JSON string, `/api/tags` looks like Ollama's, errors stand at the top level, any model
name is answered, and a key guards everything but `/health` and `/metrics`.

about           tool_call_parser (null by default: calls come back as text), reasoning_parser, is_generation (False: an
                embedding model), vision, model_path, model_type, context_length, parent (makes it an adapter)
options         ollama_root   `/` says "Ollama is running", in quotes
                old           `/get_model_info` alone, without the parsers' names
                metrics       False for a server without `--enable-metrics`
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mamba_nb.testing import embeddings
from mamba_nb.testing.events import to_json
from mamba_nb.testing.log import LoggedRequest, count_words
from mamba_nb.testing.script import Script, split_pieces
from mamba_nb.testing.styles.base import Reply, Style, plain_model_entry

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

VERSION = "0.5.23"

_TYPES = {404: "NotFoundError", 500: "InternalServerError"}


def _error(status: int, message: str, *, type: str | None = None, param: str | None = None, code: Any = None) -> Reply:
    kind = type or _TYPES.get(status, "InternalServerError" if status >= 500 else "BadRequestError")
    return Reply(status, {"object": "error", "message": message, "type": kind, "param": param, "code": status})


def _first(server: ScriptedServer) -> str:
    return server.models[0] if server.models else "unknown"


def _entry(server: ScriptedServer, model: str) -> dict[str, Any]:
    parent = server.said_of(model, "parent")
    length = server.said_of(model, "context_length", server.context_length)
    own = {"root": model, "parent": parent, "max_model_len": None if parent else length}
    return {**plain_model_entry(server, model), **own}


def _one_model(server: ScriptedServer, model: str) -> Reply:
    if model in server.models:
        return Reply(200, _entry(server, model))
    words = f"The model '{model}' does not exist"
    error = {"message": words, "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
    return Reply(404, {"error": error})


def _root(server: ScriptedServer, request: LoggedRequest) -> Reply:
    words = "Ollama is running" if server.options.get("ollama_root") else "SGLang is running"
    return Reply(200, to_json(words), {"Content-Type": "application/json"})


def _info(server: ScriptedServer, request: LoggedRequest) -> Reply:
    model, old = _first(server), bool(server.options.get("old"))
    if old and request.path.startswith("/model_info"):
        return Reply(404, {"detail": "Not Found"})
    path = server.said_of(model, "model_path", model)
    info = {
        "model_path": path,
        "tokenizer_path": path,
        "is_generation": server.said_of(model, "is_generation", True),
        "preferred_sampling_params": None,
        "weight_version": "default",
        "has_image_understanding": server.said_of(model, "vision", False),
        "has_audio_understanding": False,
        "model_type": server.said_of(model, "model_type", "llama"),
        "architectures": ["LlamaForCausalLM"],
    }
    if not old:
        info["served_model_name"] = model
        info["tool_call_parser"] = server.said_of(model, "tool_call_parser")
        info["reasoning_parser"] = server.said_of(model, "reasoning_parser")
    return Reply(200, info)


def _server_info(server: ScriptedServer, request: LoggedRequest) -> Reply:
    model = _first(server)
    state = {"last_gen_throughput": 0.0, "memory_usage": {}}
    info = {
        "model_path": server.said_of(model, "model_path", model),
        "served_model_name": model,
        "context_length": server.context_length,
        "max_total_num_tokens": 8 * server.context_length,
        "version": VERSION,
        "internal_states": [state],
    }
    return Reply(200, info)


def _tags(server: ScriptedServer, request: LoggedRequest) -> Reply:
    model = _first(server)
    entry = {
        "name": model,
        "model": model,
        "modified_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "size": 0,
        "digest": "sha256:sglang" + "0" * 58,
        "details": {"format": "sglang", "family": model.rpartition("/")[2], "parameter_size": "unknown"},
    }
    return Reply(200, {"models": [entry]})


def _tokenize(server: ScriptedServer, request: LoggedRequest) -> Reply:
    prompt = request.body.get("prompt")
    if not isinstance(prompt, str):
        return _error(400, "prompt: Field required")
    tokens = [zlib.crc32(piece.encode()) % 49152 for piece in split_pieces(prompt)]
    return Reply(200, {"tokens": tokens, "count": len(tokens), "max_model_len": server.context_length})


def _metrics(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """Two ranks of one tensor-parallel group, each of which tells the same."""
    if server.options.get("metrics") is False:
        return Reply(404, {"detail": "Not Found"})
    labels = f'engine_type="unified",model_name="{_first(server)}"'
    waiting = max(0, sum(1 for chat in server.chats if chat.status is None) - server.room.busy)
    gauges = {"num_running_reqs": server.room.busy, "num_queue_reqs": waiting, "token_usage": 0.25}
    lines = []
    for name, value in {**gauges, "gen_throughput": 0}.items():
        lines += [f"# HELP sglang:{name} {name.replace('_', ' ')}.", f"# TYPE sglang:{name} gauge"]
        lines += [f'sglang:{name}{{{labels},pp_rank="0",tp_rank="{rank}"}} {float(value)}' for rank in (0, 1)]
    for name in ("prompt_tokens", "generation_tokens"):
        lines += [f"# TYPE sglang:{name}_total counter", f"sglang:{name}_total{{{labels}}} {float(server.state[name])}"]
    waits = [chat.token_sent_at[0] - chat.received_at for chat in server.chats if chat.token_sent_at]
    lines.append("# TYPE sglang:time_to_first_token_seconds histogram")
    for most in (0.1, 1.0, 10.0):
        count = float(sum(1 for wait in waits if wait <= most))
        lines.append(f'sglang:time_to_first_token_seconds_bucket{{{labels},le="{most}"}} {count}')
    lines.append(f'sglang:time_to_first_token_seconds_bucket{{{labels},le="+Inf"}} {float(len(waits))}')
    lines.append(f"sglang:time_to_first_token_seconds_count{{{labels}}} {float(len(waits))}")
    lines.append(f"sglang:time_to_first_token_seconds_sum{{{labels}}} {sum(waits)}")
    return Reply(200, ("\n".join(lines) + "\n").encode(), {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


def _refuse(server: ScriptedServer, request: LoggedRequest) -> Reply | None:
    most, prompt = server.context_length, count_words(request.body)
    if prompt > most:
        return _error(400, f"The input ({prompt} tokens) is longer than the model's context length ({most} tokens).")
    asked = request.body.get("max_tokens")
    if isinstance(asked, int) and prompt + asked > most:
        words = (
            f"Requested token count exceeds the model's maximum context length of {most} tokens. "
            f"You requested a total of {prompt + asked} tokens: {prompt} tokens from the input messages and "
            f"{asked} tokens for the completion."
        )
        return _error(400, words)
    return None


def _play(server: ScriptedServer, script: Script, body: Mapping[str, Any], model: str) -> Script:
    """Without a parser a call comes back as the text that the model wrote."""
    if script.tool_calls and server.said_of(model, "tool_call_parser") is None:
        calls = [{"name": call["name"], "arguments": call.get("arguments", {})} for call in script.tool_calls]
        text = "\n".join(f"<tool_call>\n{to_json(call).decode()}\n</tool_call>" for call in calls)
        script = replace(script, tool_calls=(), text=(*(script.text or ()), *split_pieces(text)), finish_reason="stop")
    server.state["prompt_tokens"] += count_words(body) if script.prompt_tokens is None else script.prompt_tokens
    server.state["generation_tokens"] += len(script.text or ())
    return script


def _embed(server: ScriptedServer, request: LoggedRequest) -> Reply:
    if server.said_of(_first(server), "is_generation", True):
        return _error(400, "This model does not appear to be an embedding model by default.")
    return embeddings.reply(server, request)


def _no_messages(missing: bool) -> Reply:
    if not missing:
        return _error(400, "Messages cannot be empty.")
    return _error(400, "messages: Field required")


def _begin(server: ScriptedServer) -> None:
    server.state |= {"prompt_tokens": 0, "generation_tokens": 0}


def _unknown(model: str, served: Sequence[str]) -> Reply:
    return _error(404, f"The model '{model}' does not exist.", param="model")


STYLE = Style(
    name="sglang",
    owned_by="sglang",
    headers={"Server": "uvicorn"},
    stream_type="text/event-stream; charset=utf-8",
    reasoning_field="reasoning_content",
    null_content_first=False,
    message_extras={"reasoning_content": None, "tool_calls": None},
    unknown_model="ignore",
    needs_model=False,
    health=lambda server, request: Reply(200, b""),
    routes={
        ("GET", "/"): _root,
        ("GET", "/health_generate"): lambda server, request: Reply(200, b""),
        ("GET", "/model_info"): _info,
        ("GET", "/get_model_info"): _info,
        ("GET", "/server_info"): _server_info,
        ("GET", "/get_server_info"): _server_info,
        ("GET", "/api/tags"): _tags,
        ("GET", "/metrics"): _metrics,
        ("POST", "/tokenize"): _tokenize,
        ("POST", "/v1/tokenize"): _tokenize,
        ("POST", "/v1/embeddings"): _embed,
    },
    begin=_begin,
    refuse_chat=_refuse,
    play=_play,
    error=_error,
    not_found=lambda method, path: Reply(404, {"detail": "Not Found"}),
    not_allowed=lambda method, path, allowed: Reply(
        405, {"detail": "Method Not Allowed"}, {"Allow": ", ".join(allowed)}
    ),
    unauthorized=lambda key: Reply(401, {"error": "Unauthorized"}),
    unknown_model_reply=_unknown,
    bad_json=lambda detail: _error(400, f"JSON decode error: {detail}"),
    no_messages=_no_messages,
    model_entry=_entry,
    one_model=_one_model,
    guarded=lambda path: not path.startswith(("/health", "/metrics")),
    answer_id=lambda number: f"{zlib.crc32(str(number).encode()):032x}",
)
