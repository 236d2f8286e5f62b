"""llama-server of llama.cpp, one model or router mode, as seen in build 11434.

Sources: a running server of that build (`/v1/models`, `/props`, `/slots`, `/tokenize`, `/metrics`, `/apply-template`,
input tokens, chunks, 400, 401, 404, 500, 501), llama.cpp's `tools/server/server-http.cpp` for 503 while loading, and
its `server-models.cpp` and `README.md` ("Using multiple models") for the router.

What is its own: `Server: llama.cpp` on every response, the `/v1` paths without the prefix too, a model name that is
ignored (the router refuses unknown ones), context per slot, `timings` on the last chunk, a connection that closes
after every error.

`about` names, by model:
    vision, tools, reasoning   what its projector and its chat template can do (False)
    context         tokens a slot; else the server's `context_length`
    context_max, size_bytes, parameters, quantization
    status          in the router, whatever else is the case: `sleeping`, `downloading`, ...
    loaded          whether the router has it in memory at the start
    load_fails      the exit code that loading it ends with

`options`:
    mode            `router`, or one model (default)
    build           `build_info`
    metrics         whether it was started with `--metrics` (False)
    input_tokens    whether there is `/v1/chat/completions/input_tokens` (True), as in newer builds
    template        whether there is `/apply-template` (True)
    jinja           whether tools are taken (True)
    tool_output_broken  a request with tools ends with 500: what the model wrote was no tool call
    sleeping        `is_sleeping` in `/props`
    loaded_info     whether the router lists `meta` of what is loaded (True), as newer builds do
    autoload        whether the router loads what a request names (True)
    max_instances   models that the router keeps loaded at most (4)
    download_bytes, download_steps, download_step_s  size and pace of a download through the router
    download_fails  whether it fails
    download_silent  no events about downloads, as if they were missed
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import LoggedRequest, count_words
from mamba_nb.testing.styles import llamacpp_native as native
from mamba_nb.testing.styles import llamacpp_router as router
from mamba_nb.testing.styles.base import Reply, Style, plain_model_entry

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

BUILD = native.BUILD

_error = native.error
_NOT_FOUND = native.NOT_FOUND
_BROKEN_OUTPUT = "The model produced output that does not match the expected peg-native format"
_NO_IMAGES = "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"


def _choice(index: int, delta: dict[str, Any], logprobs: Any, finish_reason: str | None) -> dict[str, Any]:
    choice = {"finish_reason": finish_reason, "index": index, "delta": delta}
    return choice if logprobs is None else {**choice, "logprobs": logprobs}


def _entry(server: ScriptedServer, model: str) -> dict[str, Any]:
    """One entry of `/v1/models`."""
    modalities = ["text", "image"] if server.said_of(model, "vision", False) else ["text"]
    entry = {
        **plain_model_entry(server, model),
        "aliases": [model],
        "tags": [],
        "architecture": {"input_modalities": modalities, "output_modalities": ["text"]},
    }
    if not router.is_router(server):
        return {**entry, "meta": native.meta(server, model)}
    return router.with_status(server, model, entry)


def _models(server: ScriptedServer, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """With the extra array that looks like Ollama's, which the router does not have."""
    if router.is_router(server):
        return {"data": entries, "object": "list"}
    native_entries = [
        {
            "name": model,
            "model": model,
            "modified_at": "",
            "size": "",
            "digest": "",
            "type": "model",
            "description": "",
            "tags": [""],
            "capabilities": ["completion", "multimodal"] if server.said_of(model, "vision", False) else ["completion"],
            "parameters": "",
            "details": {"parent_model": "", "format": "gguf", "family": "", "families": [""]},
        }
        for model in server.models[:1]
    ]
    return {"models": native_entries, "object": "list", "data": entries[:1]}


def _refuse(server: ScriptedServer, request: LoggedRequest) -> Reply | None:
    """What a chat request is refused with before anything is generated."""
    body: Mapping[str, Any] = request.body
    if router.is_router(server) and (refusal := router.refuse(server, body.get("model"))) is not None:
        return refusal
    model = router.asked_for(server, body)
    tools = body.get("tools")
    if tools and not server.options.get("jinja", True):
        return _error(500, "tools param requires --jinja flag")
    if (words := _invalid(body, server.slots or 4)) is not None:
        return _error(400, words)
    if _has_image(body) and not server.said_of(model, "vision", False):
        return _error(500, _NO_IMAGES)
    prompt, context = count_words(body), native.context_of(server, model)
    if prompt >= context:
        return native.too_long(prompt, context)
    if tools and server.options.get("tool_output_broken"):
        return _error(500, _BROKEN_OUTPUT)
    return None


def _invalid(body: Mapping[str, Any], slots: int) -> str | None:
    """What is wrong with the parameters, in its words."""
    choice, n = body.get("tool_choice"), body.get("n")
    switches = body.get("chat_template_kwargs")
    thinking = switches.get("enable_thinking") if isinstance(switches, dict) else None
    kind = body["response_format"].get("type") if isinstance(body.get("response_format"), dict) else "text"
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        return "top_logprobs requires logprobs to be set to true"
    if body.get("logprobs") and body.get("tools") and body.get("stream"):
        return "logprobs is not supported with tools + stream"
    if kind not in ("text", "json_object", "json_schema"):
        return f'response_format type must be one of "text" or "json_object", but got: {kind}'
    if isinstance(choice, str) and choice not in ("none", "auto", "required"):
        return f"Invalid tool_choice: {choice}"
    if isinstance(thinking, str):
        return 'invalid type for "enable_thinking" (expected boolean, got string)'
    if isinstance(n, int) and not 1 <= n <= slots:
        return f"Field 'n': Value must be between 1 <= value <= {slots}, but got {n}"
    return None


def _has_image(body: Mapping[str, Any]) -> bool:
    messages = body.get("messages")
    return isinstance(messages, list) and any(
        isinstance(part, dict) and part.get("type") == "image_url"
        for message in messages
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        for part in message["content"]
    )


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
    routes={**native.ROUTES, **router.ROUTES},
    begin=router.begin,
    refuse_chat=_refuse,
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
