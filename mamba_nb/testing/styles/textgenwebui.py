"""text-generation-webui, as of 4.3.

Sources: text-generation-webui's modules/api/script.py (paths, keys, `detail`), modules/api/models.py (`None`, what its
list has), modules/api/typing.py (unused members of a request). What it says where nothing is loaded is not from there.

What is its own: only the loaded model is listed and any name is answered by it, `None` where nothing is loaded, a
prompt beyond the context is cut at its start without a word, `n` is not honoured.

`about`: nothing is said of a model.
`options`: `loaded` (the model in memory; None: nothing; without it the first), `truncates` (False: it does not),
`admin_key` (guards loading, unloading and the list of files), `load_fails`.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import LoggedRequest, count_words, text_of
from mamba_nb.testing.script import Script, split_pieces
from mamba_nb.testing.styles.base import Reply, Style
from mamba_nb.testing.styles.passing_on import load

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

NOTHING = "None"
LOADER = "llama.cpp"
UNAUTHORIZED = Reply(401, {"detail": "Unauthorized"})


def _begin(server: ScriptedServer) -> None:
    first = server.models[0] if server.models else None
    server.state["loaded"] = server.options.get("loaded", first) or NOTHING


def _error(status: int, message: str, *, type: str | None = None, param: str | None = None, code: Any = None) -> Reply:
    kind = type or ("server_error" if status >= 500 else "invalid_request_error")
    return Reply(status, {"error": {"message": message, "type": kind, "param": param, "code": None}})


def _no_messages(missing: bool) -> Reply:
    where = {"type": "missing" if missing else "too_short", "loc": ["body", "messages"], "msg": "Field required"}
    return Reply(422, {"detail": [where]})


def _models(server: ScriptedServer, entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": [entry for entry in entries if entry["id"] == server.state["loaded"]]}


def _entry(server: ScriptedServer, model: str) -> dict[str, Any]:
    return {"id": model, "object": "model", "created": 0, "owned_by": server.owned_by}


def _info(server: ScriptedServer, request: LoggedRequest) -> Reply:
    return Reply(200, {"model_name": server.state["loaded"], "lora_names": [], "loader": LOADER})


def _not_admin(server: ScriptedServer, request: LoggedRequest) -> bool:
    key = server.options.get("admin_key")
    return key is not None and request.headers.get("authorization") != f"Bearer {key}"


def _list(server: ScriptedServer, request: LoggedRequest) -> Reply:
    return UNAUTHORIZED if _not_admin(server, request) else Reply(200, {"model_names": list(server.models)})


async def _load(server: ScriptedServer, request: LoggedRequest) -> Reply:
    if _not_admin(server, request):
        return UNAUTHORIZED
    model, args = request.body.get("model_name"), request.body.get("args") or {}
    server.state["loaded"] = NOTHING
    if model not in server.models or server.options.get("load_fails"):
        return Reply(400, {"detail": "Failed to load the model."})
    await load(server, model)
    server.state["loaded"] = model
    if isinstance(args.get("ctx_size"), int):
        server.context_length = args["ctx_size"]
    return Reply(200, b'"OK"')


def _unload(server: ScriptedServer, request: LoggedRequest) -> Reply:
    if _not_admin(server, request):
        return UNAUTHORIZED
    server.state["loaded"] = NOTHING
    server.room.loaded.clear()
    return Reply(200, b"null")


def _encode(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """A token is a word."""
    pieces = split_pieces(str(request.body.get("text", "")))
    return Reply(200, {"tokens": [zlib.crc32(piece.encode()) % 49152 for piece in pieces], "length": len(pieces)})


def _token_count(server: ScriptedServer, request: LoggedRequest) -> Reply:
    return Reply(200, {"length": len(split_pieces(str(request.body.get("text", ""))))})


def _chat_prompt(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """Each message between two marks, which are words of their own."""
    messages = request.body.get("messages")
    if not isinstance(messages, list) or not messages:
        return _no_messages(messages is None)
    return Reply(200, {"prompt": "".join(f"<|user|> {text_of(m.get('content'))} <|end|>\n" for m in messages)})


def _refuse(server: ScriptedServer, request: LoggedRequest) -> Reply | None:
    return _error(503, "No model is loaded.") if server.state["loaded"] == NOTHING else None


def _play(server: ScriptedServer, script: Script, body: Mapping[str, Any], model: str) -> Script:
    """A prompt beyond the context is cut to it; the answer shows that in its usage only."""
    script = replace(script, model_in_reply=script.model_in_reply or server.state["loaded"])
    asked = count_words(body) if script.prompt_tokens is None else script.prompt_tokens
    if asked <= server.context_length or server.options.get("truncates") is False:
        return script
    return replace(script, prompt_tokens=server.context_length)


STYLE = Style(
    name="textgenwebui",
    owned_by="user",
    headers={"Server": "uvicorn"},
    unknown_model="ignore",
    needs_model=False,
    takes_n=False,
    health=None,
    begin=_begin,
    refuse_chat=_refuse,
    play=_play,
    routes={
        ("GET", "/openapi.json"): lambda server, request: Reply(
            200, {"openapi": "3.1.0", "info": {"title": "FastAPI"}, "paths": {"/v1/internal/model/info": {"get": {}}}}
        ),
        ("GET", "/v1/internal/health"): lambda server, request: Reply(200, {"status": "ok"}),
        ("GET", "/v1/internal/model/info"): _info,
        ("GET", "/v1/internal/model/list"): _list,
        ("POST", "/v1/internal/model/load"): _load,
        ("POST", "/v1/internal/model/unload"): _unload,
        ("POST", "/v1/internal/encode"): _encode,
        ("POST", "/v1/internal/token-count"): _token_count,
        ("POST", "/v1/internal/chat-prompt"): _chat_prompt,
    },
    error=_error,
    not_found=lambda method, path: Reply(404, {"detail": "Not Found"}),
    not_allowed=lambda method, path, allowed: Reply(405, {"detail": "Method Not Allowed"}),
    unauthorized=lambda key: UNAUTHORIZED,
    bad_json=lambda detail: Reply(422, {"detail": [{"type": "json_invalid", "loc": ["body", 1], "msg": detail}]}),
    no_messages=_no_messages,
    model_entry=_entry,
    models=_models,
    one_model=lambda server, model: Reply(200, _entry(server, model)),
)
