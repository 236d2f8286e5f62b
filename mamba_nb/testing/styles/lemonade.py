"""Lemonade, as of 11.8.

Sources: Lemonade's docs/api/openai.md (`/v1/models`, labels), docs/api/lemonade.md (`/v1/health`, `/v1/stats`,
`/v1/pull`, `/v1/load`, `/v1/unload`), docs/api/llamacpp.md (`/v1/tokenize`), docs/api/ollama.md and
src/cpp/server/ollama_api.cpp (`/api/*` as if it were Ollama 0.16.1). The words for an unknown model and for a key are
not from there.

What is its own: the same paths under `/v1` and `/api/v1`, `recipe` and `labels`, sizes in GB, errors that may come with
status 200, llama.cpp's chunks and perhaps its `Server` header on a completion.

`about`: `recipe`, `labels`, `size_gb`, `max_context_window`, `context_length`, `checkpoint`, `cloud_provider`,
`type`.
`options`: `server_header` (a completion says `Server: llama.cpp`), `registry` (the names that can be pulled; None:
all), `pull_fails`, `pull_cut` (the stream ends early), `sums` (progress tells the sums over all files), `last` (the
model used last).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.script import Script, split_pieces
from mamba_nb.testing.styles.base import Reply, Streamed, Style, plain_error, plain_model_entry
from mamba_nb.testing.styles.passing_on import LIKE_LLAMACPP, forget, known, load, page, with_its_header

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

VERSION = "11.8.0"
FILES = (("model.gguf", 380_000_000), ("mmproj.gguf", 20_000_000))


def _entry(server: ScriptedServer, model: str) -> dict[str, Any]:
    recipe = server.said_of(model, "recipe", "llamacpp")
    entry: dict[str, Any] = {
        **plain_model_entry(server, model),
        "checkpoint": server.said_of(model, "checkpoint", f"unsloth/{model}:Q4_0"),
        "recipe": recipe,
        "size": server.said_of(model, "size_gb", 0.38),
        "downloaded": True,
        "suggested": True,
        "update_available": False,
        "labels": server.said_of(model, "labels", ["chat"]),
    }
    for name, default in (("max_context_window", 40_960), ("context_length", server.context_length)):
        if (value := server.said_of(model, name, default)) is not None:
            entry[name] = value
    if recipe == "cloud":
        entry["cloud_provider"] = server.said_of(model, "cloud_provider", "fireworks")
    return entry


def _health(server: ScriptedServer, request: LoggedRequest) -> Reply:
    loaded = [
        {
            "model_name": model,
            "checkpoint": server.said_of(model, "checkpoint", f"unsloth/{model}:Q4_0"),
            "last_use": 1732123456.789,
            "type": server.said_of(model, "type", "llm"),
            "device": "gpu",
            "recipe": server.said_of(model, "recipe", "llamacpp"),
            "recipe_options": {"ctx_size": server.state.get("ctx_sizes", {}).get(model, server.context_length)},
            "backend_url": "http://127.0.0.1:8001/v1",
        }
        for model in server.models
        if server.is_loaded(model) and server.said_of(model, "recipe") != "cloud"
    ]
    last = server.options.get("last", server.state.get("last") or (loaded[-1]["model_name"] if loaded else None))
    reply = {
        "status": "ok",
        "version": VERSION,
        "model_loaded": last,
        "all_models_loaded": loaded,
        "max_models": {"llm": 1, "embedding": 1},
    }
    return Reply(200, reply)


def _stats(server: ScriptedServer, request: LoggedRequest) -> Reply:
    figures = {
        "time_to_first_token": 2.14,
        "tokens_per_second": 33.33,
        "input_tokens": 128,
        "output_tokens": 5,
        "prompt_tokens": 9,
        "cache_tokens": None,
        "request_count_total": 12,
        "prompt_tokens_total": 108,
        "output_tokens_total": 60,
    }
    return Reply(200, figures)


async def _load(server: ScriptedServer, request: LoggedRequest) -> Reply:
    model = known(server, request.body.get("model_name"))
    if model is None:
        return Reply(404, {"error": f"Model not found: {request.body.get('model_name')}"})
    await load(server, model)
    server.state["last"] = model
    if (size := request.body.get("ctx_size")) is not None:
        server.state.setdefault("ctx_sizes", {})[model] = size
    return Reply(200, {"status": "success", "message": f"Loaded model: {model}"})


def _unload(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """An unknown model is an error with status 200, as its documentation has it."""
    model = request.body.get("model_name")
    if not forget(server, str(model)):
        return Reply(200, {"status": "error", "message": f"Model not found: {model}"})
    return Reply(200, {"status": "success", "message": "Model unloaded successfully"})


async def _pull(server: ScriptedServer, request: LoggedRequest) -> Reply | Streamed:
    model, registry = str(request.body.get("model_name")), server.options.get("registry")
    if registry is not None and model not in registry:
        return Reply(400, {"error": f"Model '{model}' is not registered with Lemonade Server."})
    if request.body.get("stream"):
        return Streamed(_steps(server, model), headers={"Content-Type": "text/event-stream"})
    server.models = tuple(dict.fromkeys([*server.models, model]))
    return Reply(200, {"status": "success", "message": f"Installed model: {model}"})


async def _steps(server: ScriptedServer, model: str) -> AsyncIterator[bytes]:
    """Every file in two steps, then the end."""

    def event(name: str, **state: Any) -> bytes:
        return f"event: {name}\ndata: {json.dumps(state)}\n\n".encode()

    before, everything = 0, sum(size for _, size in FILES)
    for number, (file, size) in enumerate(FILES, start=1):
        for part in (2, 1):
            came = size // part
            sums = {"total_download_size": everything, "cumulative_bytes_downloaded": before + came}
            yield event(
                "progress",
                file=file,
                file_index=number,
                total_files=len(FILES),
                bytes_downloaded=came,
                bytes_total=size,
                percent=round(100 * came / size),
                **(sums if server.options.get("sums") else {}),
            )
        before += size
        if server.options.get("pull_cut"):
            return
    if fails := server.options.get("pull_fails"):
        yield event("error", error=fails)
        return
    server.models = tuple(dict.fromkeys([*server.models, model]))
    yield event("complete", file_index=len(FILES), total_files=len(FILES), percent=100)


def _tokenize(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """A token is a word, numbered by its place; no model is named."""
    return Reply(200, {"tokens": list(range(len(split_pieces(str(request.body.get("content", ""))))))})


def _tags(server: ScriptedServer, request: LoggedRequest) -> Reply:
    entries = [
        {"name": f"{model}:latest", "model": f"{model}:latest", "size": 380_000_000, "details": {"format": "gguf"}}
        for model in server.models
    ]
    return Reply(200, {"models": entries})


def _play(server: ScriptedServer, script: Script, body: Mapping[str, Any], model: str) -> Script:
    return with_its_header(server, script, body, model) if server.options.get("server_header") else script


STYLE = Style(
    **LIKE_LLAMACPP,
    name="lemonade",
    owned_by="lemonade",
    v1_too=("/api/v1", "/api/v0", "/v0"),
    health=None,
    play=_play,
    routes={
        ("GET", "/"): lambda server, request: page("Lemonade Server"),
        ("GET", "/live"): lambda server, request: Reply(200, {"status": "ok"}),
        ("GET", "/v1/health"): _health,
        ("GET", "/v1/stats"): _stats,
        ("POST", "/v1/load"): _load,
        ("POST", "/v1/unload"): _unload,
        ("POST", "/v1/pull"): _pull,
        ("POST", "/v1/tokenize"): _tokenize,
        ("GET", "/api/version"): lambda server, request: Reply(200, {"version": "0.16.1"}),
        ("GET", "/api/tags"): _tags,
    },
    unknown_model_reply=lambda model, served: plain_error(404, f"Model not found: {model}", code="model_not_found"),
    unauthorized=lambda key: plain_error(401, "Invalid or missing API key"),
    model_entry=_entry,
    guarded=lambda path: path.startswith(("/v1", "/api")),
)
