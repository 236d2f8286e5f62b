"""LM Studio's own paths: `/api/v0`, `/api/v1` with load, unload and downloads, and the greeting.

Sources and the names of `about` and `options` are in `lmstudio`. The envelope of errors under `/api/v1` is inferred
from that of its 401; the shapes of everything else are the documentation's.

Where `load` and `unload` were used, the instances of a model are kept in `server.state`; else a model is loaded as the
server's room says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.chunks import Answer
from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.styles.base import Answered, Reply, Route

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

CONTEXT_MAX = 131_072
SIZE = 2_489_894_976
CHAT = "/v1/chat/completions"


def unexpected(method: str, path: str) -> Reply:
    """The answer to every path that it does not have."""
    return Reply(200, {"error": f"Unexpected endpoint or method. ({method} {path})"})


def native_error(status: int, message: str, code: str) -> Reply:
    """An error of `/api/v1`."""
    return Reply(status, {"error": {"type": "invalid_request", "code": code, "message": message}})


# What is in memory.


def begin(server: ScriptedServer) -> None:
    """Fill the state: instances by model where they are not left to the room, and downloads by job."""
    said = {model: server.said_of(model, "loaded") for model in server.models}
    server.state["instances"] = {
        model: [_instance(server, model)] if loaded else [] for model, loaded in said.items() if loaded is not None
    }
    server.state["jobs"] = {}


def instances(server: ScriptedServer, model: str) -> list[dict[str, Any]]:
    """The instances of a model that are in memory, each with `id` and `context_length`."""
    kept: dict[str, list[dict[str, Any]]] = server.state["instances"]
    if model in kept:
        return kept[model]
    return [_instance(server, model)] if model in server.models and server.is_loaded(model) else []


def context_of(server: ScriptedServer, model: str) -> int:
    """Tokens of context in force, or that it would be loaded with."""
    loaded = instances(server, model) or [_instance(server, model)]
    context: int = loaded[0]["context_length"]
    return context


def load_just_in_time(server: ScriptedServer, model: str) -> None:
    """A request for an unloaded model loads it, with the room's delay."""
    if server.state["instances"].get(model) == []:
        del server.state["instances"][model]


def _instance(
    server: ScriptedServer, model: str, context: int | None = None, name: str | None = None
) -> dict[str, Any]:
    said = server.said_of(model, "context", server.context_length)
    return {"id": name or model, "context_length": said if context is None else context}


def _is_embedding(server: ScriptedServer, model: str) -> bool:
    return bool(server.said_of(model, "type", "llm") == "embedding")


# The lists.


def _v0(server: ScriptedServer, request: LoggedRequest) -> Reply:
    return Reply(200, {"object": "list", "data": [_v0_entry(server, model) for model in server.models]})


def _v0_one(server: ScriptedServer, request: LoggedRequest) -> Reply:
    model = request.path.removeprefix("/api/v0/models/")
    if model not in server.models:
        return Reply(404, {"error": f'Model "{model}" not found'})
    return Reply(200, _v0_entry(server, model))


def _v0_entry(server: ScriptedServer, model: str) -> dict[str, Any]:
    loaded = instances(server, model)
    vision = server.said_of(model, "vision", False)
    kind = "embeddings" if _is_embedding(server, model) else server.said_of(model, "type", "vlm" if vision else "llm")
    entry = {
        "id": model,
        "object": "model",
        "type": kind,
        "publisher": _publisher(model),
        "arch": server.said_of(model, "architecture", "llama"),
        "compatibility_type": server.said_of(model, "format", "gguf"),
        "quantization": server.said_of(model, "quantization", "Q4_K_M"),
        "state": "loaded" if loaded else "not-loaded",
        "max_context_length": server.said_of(model, "context_max", CONTEXT_MAX),
    }
    if loaded:
        entry["loaded_context_length"] = loaded[0]["context_length"]
    if server.said_of(model, "tools", False):
        entry["capabilities"] = ["tool_use"]
    return entry


def _v1(server: ScriptedServer, request: LoggedRequest) -> Reply:
    return Reply(200, {"models": [_v1_entry(server, model) for model in server.models]})


def _v1_entry(server: ScriptedServer, model: str) -> dict[str, Any]:
    embedding = _is_embedding(server, model)
    extra = {} if embedding else {"eval_batch_size": 512, "parallel": server.slots or 4}
    entry = {
        "type": "embedding" if embedding else "llm",
        "publisher": _publisher(model),
        "key": model,
        "display_name": model,
        "architecture": server.said_of(model, "architecture", "llama"),
        "quantization": {"name": server.said_of(model, "quantization", "Q4_K_M"), "bits_per_weight": 4},
        "size_bytes": server.said_of(model, "size_bytes", SIZE),
        "params_string": server.said_of(model, "params", "3B"),
        "loaded_instances": [
            {"id": one["id"], "config": {"context_length": one["context_length"], **extra}}
            for one in instances(server, model)
        ],
        "max_context_length": server.said_of(model, "context_max", CONTEXT_MAX),
        "format": server.said_of(model, "format", "gguf"),
    }
    if embedding:
        del entry["architecture"]
        return entry
    vision = server.said_of(model, "vision", server.said_of(model, "type") == "vlm")
    capabilities = {"vision": vision, "trained_for_tool_use": server.said_of(model, "tools", False)}
    if (reasoning := server.said_of(model, "reasoning")) is not None:
        capabilities["reasoning"] = reasoning
    return {**entry, "capabilities": capabilities, "description": None}


def _publisher(model: str) -> str:
    return model.partition("/")[0] if "/" in model else "lmstudio-community"


# Load and unload.


async def _load(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """One more instance of a model, whatever is loaded already."""
    model, context = request.body.get("model"), request.body.get("context_length")
    if model not in server.models:
        return native_error(404, f"Model '{model}' was not found.", "model_not_found")
    began = time.monotonic()
    server.room.loads.append(model)
    await asyncio.sleep(server.load_s)
    if words := server.said_of(model, "load_fails"):
        return native_error(500, words, "model_load_failed")
    loaded = list(instances(server, model))
    taken = {one["id"] for one in loaded}
    number = next(n for n in range(1, 100) if (model if n == 1 else f"{model}:{n}") not in taken)
    made = _instance(server, model, context, model if number == 1 else f"{model}:{number}")
    server.state["instances"][model] = [*loaded, made]
    if model not in server.room.loaded:
        server.room.loaded.append(model)  # so that the first request does not load it again
    answer: dict[str, Any] = {
        "type": "embedding" if _is_embedding(server, model) else "llm",
        "instance_id": made["id"],
        "load_time_seconds": round(time.monotonic() - began, 3),
        "status": "loaded",
    }
    if request.body.get("echo_load_config"):
        answer["load_config"] = {"context_length": made["context_length"]}
    return Reply(200, answer)


def _unload(server: ScriptedServer, request: LoggedRequest) -> Reply:
    wanted = request.body.get("instance_id")
    for model in server.models:
        loaded = instances(server, model)
        if any(one["id"] == wanted for one in loaded):
            server.state["instances"][model] = [one for one in loaded if one["id"] != wanted]
            if model in server.room.loaded:
                server.room.loaded.remove(model)
            return Reply(200, {"instance_id": wanted})
    return native_error(404, f"No loaded instance '{wanted}'.", "model_not_found")


# Downloads.


def _download(server: ScriptedServer, request: LoggedRequest) -> Reply:
    model = request.body.get("model")
    if not isinstance(model, str) or "/" not in model:
        return native_error(404, f"Model '{model}' was not found.", "model_not_found")
    if model in server.models:
        return Reply(200, {"status": "already_downloaded"})
    name = f"job_{len(server.state['jobs']):010x}"
    server.state["jobs"][name] = {"model": model, "looks": 0, "started_at": _moment()}
    return Reply(200, _job(server, name))


def _status(server: ScriptedServer, request: LoggedRequest) -> Reply:
    name = request.path.rpartition("/")[2]
    if name not in server.state["jobs"]:
        return native_error(404, f"No download '{name}'.", "job_not_found")
    server.state["jobs"][name]["looks"] += 1
    return Reply(200, _job(server, name))


def _job(server: ScriptedServer, name: str) -> dict[str, Any]:
    """A download as it stands; it moves on with every look at it."""
    job = server.state["jobs"][name]
    total = server.options.get("download_bytes", 1_000_000)
    looks = server.options.get("download_looks", 2)
    ends = server.options.get("download_ends", "completed")
    over = job["looks"] >= looks
    done = total if over and ends == "completed" else total * min(job["looks"], looks) // (looks + 1)
    status = ends if over else "downloading"
    if status == "completed" and job["model"] not in server.models:
        server.state["instances"][job["model"]] = []
        server.models = (*server.models, job["model"])
    return {
        "job_id": name,
        "status": status,
        "total_size_bytes": total,
        "downloaded_bytes": done,
        "started_at": job["started_at"],
        **({"bytes_per_second": 7834.7, "estimated_completion": _moment()} if status == "downloading" else {}),
        **({"completed_at": _moment()} if status == "completed" else {}),
    }


def _moment() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# Chat with figures.


async def _v0_chat(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """`POST /api/v0/chat/completions`, not streamed: a chat completion with `stats`, `model_info` and `runtime`."""
    body: Mapping[str, Any] = request.body
    model = body.get("model") if body.get("model") in server.models else next(iter(server.models), "unknown")
    script = server.script_for(request, CHAT, model)
    assert script is not None
    load_just_in_time(server, str(model))
    async with server.room.enter(str(model)):
        answer = Answer(
            script=script,
            style=server.style,
            body=body,
            id="chatcmpl-i3gkjwthhw96whukek9tz",
            model=str(model),
            created=int(time.time()),
        )
        last_s = answer.due_s(len(answer.deltas))
        await asyncio.sleep(last_s)
    spent = max(last_s - answer.due_s(0), 0.001)
    stats = {
        "tokens_per_second": answer.completion_tokens / spent,
        "time_to_first_token": answer.due_s(0),
        "generation_time": spent,
        "stop_reason": "maxPredictedTokensReached" if answer.finish_reason == "length" else "eosFound",
    }
    info = {
        "arch": server.said_of(str(model), "architecture", "llama"),
        "quant": server.said_of(str(model), "quantization", "Q4_K_M"),
        "format": server.said_of(str(model), "format", "gguf"),
        "context_length": context_of(server, str(model)),
    }
    runtime = {"name": "llama.cpp-linux-x86_64", "version": "1.3.0", "supported_formats": ["gguf"]}
    return Reply(200, {**answer.whole(), "stats": stats, "model_info": info, "runtime": runtime})


# The table.


def _since(version: str, route: Route) -> Route:
    """The route, in versions that have it."""

    def answer(server: ScriptedServer, request: LoggedRequest) -> Any:
        if str(server.options.get("version", "0.4")) < version:
            return unexpected(request.method, request.path)
        return route(server, request)

    return answer


def _greeting(server: ScriptedServer, request: LoggedRequest) -> Answered:
    if not server.options.get("greeting", True):
        return unexpected(request.method, request.path)
    return Reply(200, {"lmstudio": True})


_V0: dict[tuple[str, str], Callable[..., Any]] = {
    ("GET", "/api/v0/models"): _v0,
    ("GET", "/api/v0/models/*"): _v0_one,
    ("POST", "/api/v0/chat/completions"): _v0_chat,
}
_V1: dict[tuple[str, str], Callable[..., Any]] = {
    ("GET", "/api/v1/models"): _v1,
    ("POST", "/api/v1/models/load"): _load,
    ("POST", "/api/v1/models/unload"): _unload,
    ("POST", "/api/v1/models/download"): _download,
    ("GET", "/api/v1/models/download/status/*"): _status,
}
ROUTES: dict[tuple[str, str], Route] = {
    ("GET", "/lmstudio-greeting"): _greeting,
    **{key: _since("0.3", route) for key, route in _V0.items()},
    **{key: _since("0.4", route) for key, route in _V1.items()},
}
