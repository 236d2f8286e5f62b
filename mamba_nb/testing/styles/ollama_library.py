"""The models of the Ollama style: listed, shown, in memory, copied, varied, deleted.

Sources: Ollama's `server/routes.go` (ListHandler, PsHandler, GetModelInfo, DeleteHandler, CopyHandler),
`server/create.go`, `api/types.go`.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.events import to_json
from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.styles.base import Reply, Streamed
from mamba_nb.testing.styles.ollama_facts import (
    KEEP_ALIVE_S,
    MODEL_CONTEXT,
    SIZE,
    capabilities,
    context_of,
    digest_of,
    family_of,
    is_at_least,
    is_remote,
    match,
    said,
    sweep,
    tagged,
    unload,
)

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

__all__ = ["NDJSON", "copy", "create", "delete", "native", "native_error", "ps", "show", "tags"]

JSON = {"Content-Type": "application/json; charset=utf-8"}
NDJSON = {"Content-Type": "application/x-ndjson"}
REMOTE_SIZE = 384  # a cloud model is a small file that names the real one
BYTES_PER_TOKEN = 114_688  # llama3.2:3b: 28 layers, 8 heads of 128 for keys and values, two bytes each


def native(body: Any, status: int = 200) -> Reply:
    """A whole answer on a native path."""
    return Reply(status, body, JSON)


def native_error(status: int, message: str) -> Reply:
    """A refusal on a native path."""
    more = {"signin_url": "https://ollama.com/connect?name=here&key=c2NyaXB0ZWQ"} if status == 401 else {}
    return native({"error": message, **more}, status)


def not_found(asked: str) -> Reply:
    """There is no such model."""
    return native_error(404, f"model '{asked}' not found")


def asked_model(request: LoggedRequest) -> str:
    """The name in the request; `name` is its older field."""
    asked = request.body.get("model") or request.body.get("name")
    return asked if isinstance(asked, str) else ""


def size_of(server: ScriptedServer, model: str) -> int:
    """Bytes on disk."""
    return int(said(server, model, "size", REMOTE_SIZE if is_remote(server, model) else SIZE))


def _details(server: ScriptedServer, model: str, *, in_list: bool = False) -> dict[str, Any]:
    family = family_of(server, model)
    details = {
        "parent_model": said(server, model, "parent_model", ""),
        "format": "" if is_remote(server, model) else "gguf",
        "family": family,
        "families": [family],
        "parameter_size": said(server, model, "parameter_size", "3.2B"),
        "quantization_level": said(server, model, "quantization", "Q4_K_M"),
    }
    if in_list and says_more(server):
        details["context_length"] = said(server, model, "context_max", MODEL_CONTEXT)
        details["embedding_length"] = said(server, model, "embedding_length", 3072)
    return details


def says_more(server: ScriptedServer) -> bool:
    """Whether lists carry capabilities and the longest context."""
    return bool(server.options.get("rich_tags", is_at_least(server, "0.32")))


def _listed(server: ScriptedServer, model: str) -> dict[str, Any]:
    name = tagged(model)
    remote = {"remote_model": said(server, model, "remote_model", name.removesuffix("-cloud"))}
    remote["remote_host"] = said(server, model, "remote_host")
    return {"name": name, "model": name, **(remote if is_remote(server, model) else {})}


def tags(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """`GET /api/tags`: what is installed."""
    modified = datetime.fromtimestamp(server.created, UTC).isoformat()
    entries = []
    for model in server.models:
        entry = {
            **_listed(server, model),
            "modified_at": modified,
            "size": size_of(server, model),
            "digest": digest_of(server, model),
            "details": _details(server, model, in_list=True),
        }
        if says_more(server):
            entry["capabilities"] = capabilities(server, model)
        entries.append(entry)
    return native({"models": entries})


def ps(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """`GET /api/ps`: what is in memory; what is just being loaded is there already, with an end that moves on."""
    sweep(server)
    stays = timedelta(seconds=KEEP_ALIVE_S)
    started = datetime.fromtimestamp(server.created, UTC)
    ends = {model: server.state["ends"].get(model, started + stays) for model in server.loaded_models}
    ends |= {model: datetime.now(UTC) + stays for model in server.room.loading}
    entries = []
    for model, end in sorted(ends.items(), key=lambda item: item[1], reverse=True):
        context = server.state["context"].get(model) or context_of(server, model)
        memory = said(server, model, "memory", size_of(server, model) + context * BYTES_PER_TOKEN)
        entries.append(
            {
                "name": tagged(model),
                "model": tagged(model),
                "size": memory,
                "digest": digest_of(server, model),
                "details": _details(server, model),
                "expires_at": end.isoformat(),
                "size_vram": said(server, model, "vram", 0),
                "context_length": context,
            }
        )
    return native({"models": entries})


def show(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """`POST /api/show`: one model in full."""
    asked = asked_model(request)
    if not asked:
        return native_error(400, "model is required")
    model = match(asked, server.models)
    if model is None:
        return not_found(asked)
    template = said(server, model, "template", "{{- range .Messages }}{{ .Content }}{{ end }}")
    parameters = _parameters(server, model)
    reply = {
        "license": said(server, model, "license", ""),
        "modelfile": f'# Modelfile generated by "ollama show"\nFROM {tagged(model)}\nTEMPLATE """{template}"""\n',
        "parameters": parameters,
        "template": template,
        "details": _details(server, model),
        "model_info": _model_info(server, model, bool(request.body.get("verbose"))),
        "modified_at": datetime.fromtimestamp(server.created, UTC).isoformat(),
    }
    if is_remote(server, model):
        reply |= {name: value for name, value in _listed(server, model).items() if name.startswith("remote")}
    if is_at_least(server, "0.6.4"):
        reply["capabilities"] = capabilities(server, model)
    return native({name: value for name, value in reply.items() if value != ""})


def _parameters(server: ScriptedServer, model: str) -> str:
    """The Modelfile's parameters, one a line, the name in 30 columns."""
    known = dict(said(server, model, "parameters", {}))
    if (num_ctx := said(server, model, "num_ctx")) is not None:
        known.setdefault("num_ctx", num_ctx)
    lines = []
    for name, value in known.items():
        for one in value if isinstance(value, list) else [value]:
            lines.append(f"{name:<30} " + (f'"{one}"' if isinstance(one, str) else f"{one}"))
    return "\n".join(lines)


def _model_info(server: ScriptedServer, model: str, verbose: bool) -> dict[str, Any]:
    family = family_of(server, model)
    info: dict[str, Any] = {
        "general.architecture": family,
        f"{family}.context_length": said(server, model, "context_max", MODEL_CONTEXT),
        f"{family}.embedding_length": said(server, model, "embedding_length", 3072),
    }
    if is_remote(server, model):
        return info
    return {
        **info,
        "general.parameter_count": said(server, model, "parameter_count", 3_212_749_888),
        "general.file_type": 15,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": ["<s>", "</s>", "the"] if verbose else [],
    }


# What changes the library.


def delete(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """`DELETE /api/delete`."""
    asked = asked_model(request)
    model = match(asked, server.models)
    if model is None:
        return not_found(asked)
    unload(server, model)
    server.models = tuple(name for name in server.models if name != model)
    return Reply(200, b"")


def copy(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """`POST /api/copy`: the same model under a second name."""
    source, target = request.body.get("source"), request.body.get("destination")
    for field, name in (("source", source), ("destination", target)):
        if not isinstance(name, str) or not name:
            return native_error(400, f'{field} "{name or ""}" is invalid')
    model = match(str(source), server.models)
    if model is None:
        return native_error(404, f'model "{source}" not found')
    add(server, str(target), model)
    return Reply(200, b"")


def add(server: ScriptedServer, name: str, like: str | None = None, **more: Any) -> None:
    """Put a model into the library, like another one and with what is told of it here."""
    known: dict[str, Any] = {}
    if like is not None:
        for key in ("", like.removesuffix(":latest"), like, tagged(like)):
            known |= server.about.get(key, {}) | server.state["about"].get(key, {})
        known.setdefault("digest", digest_of(server, like))
    if known or more:
        server.state["about"][tagged(name)] = {**known, **more}
    if match(name, server.models) is None:
        server.models = (*server.models, name)


def create(server: ScriptedServer, request: LoggedRequest) -> Reply | Streamed:
    """`POST /api/create`: a variant of an installed model with other parameters."""
    asked, source = asked_model(request), request.body.get("from")
    if not asked:
        return native_error(400, "invalid model name")
    if not isinstance(source, str) or not source:
        return native_error(400, "neither 'from' or 'files' was specified")
    model = match(source, server.models)
    if model is None:
        return not_found(source)
    given = request.body.get("parameters")
    given = dict(given) if isinstance(given, dict) else {}
    digest = hashlib.sha256(to_json([tagged(asked), digest_of(server, model), given])).hexdigest()
    more: dict[str, Any] = {"digest": digest, "parent_model": tagged(model), "parameters": given}
    if isinstance(given.get("num_ctx"), int):
        more["num_ctx"] = given["num_ctx"]
    for name in ("template", "license"):
        if isinstance(request.body.get(name), str):
            more[name] = request.body[name]
    add(server, asked, model, **more)
    lines = [
        {"status": f"using existing layer sha256:{digest_of(server, model)}"},
        {"status": f"creating new layer sha256:{digest}"},
        {"status": "writing manifest"},
        {"status": "success"},
    ]
    if request.body.get("stream") is False:
        return native(lines[-1])

    async def pieces() -> AsyncIterator[bytes]:
        for line in lines:
            yield to_json(line) + b"\n"

    return Streamed(pieces(), headers=NDJSON)
