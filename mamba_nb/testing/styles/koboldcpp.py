"""KoboldCpp.

Sources: KoboldCpp's koboldcpp.py: do_GET (`/v1/models`, `/api/v1/model`, `/api/extra/version`,
`/api/extra/true_max_context_length`, `/api/extra/perf`, `/api/tags`, `/api/version`, what it says to unknown paths),
do_POST (`/api/extra/tokencount`), secure_endpoint (the password).

What is its own: one model, whose name in a request is ignored, one answer at a time, `n` ignored, an imitation of
Ollama 0.7.0 with the family `koboldcpp`, a password that guards only what generates and counts.

`about`: nothing is said of a model.
`options`: `version`, `vision`, `old` (it counts plain text only), `inactive` (started without a text model). Further
models are those of its router mode.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import LoggedRequest, text_of
from mamba_nb.testing.models import ModelRoom
from mamba_nb.testing.script import split_pieces
from mamba_nb.testing.styles.base import Reply, Style
from mamba_nb.testing.styles.passing_on import page

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

VERSION = "1.109.2"
DIGEST = "b5dc5e784f2a3ee1582373093acf69a2f4e2ac1710b253a001712b86a61f88bb"
GUARDED = ("/v1/chat/completions", "/v1/embeddings", "/api/extra/tokencount", "/api/extra/tokenize")
UNAUTHORIZED = {
    "detail": {
        "error": "Unauthorized",
        "msg": "Authentication key is missing or invalid.",
        "type": "unauthorized",
    }
}


def _begin(server: ScriptedServer) -> None:
    """One answer at a time, unless the test says otherwise."""
    if server.slots is None:
        server.room = ModelRoom(load_s=server.load_s, one_at_a_time=server.one_model_at_a_time, slots=1)
    if server.options.get("inactive") or not server.models:
        server.models = ("inactive",)


def _error(status: int, message: str, *, type: str | None = None, param: str | None = None, code: Any = None) -> Reply:
    return Reply(
        status, {"detail": {"msg": message, "type": type or ("bad_input" if status < 500 else "server_error")}}
    )


def _not_found(method: str, path: str) -> Reply:
    says = "Error: KoboldCpp HTTP Server is running, but this endpoint does not exist. Please check the URL and METHOD."
    return Reply(404, f'{says}<br><a href="/api">[Read API documentation here]</a><br><br>Current path: {path}')


def _version(server: ScriptedServer, request: LoggedRequest) -> Reply:
    able = {
        "result": "KoboldCpp",
        "version": server.options.get("version", VERSION),
        "protected": server.api_key is not None,
        "llm": not server.options.get("inactive"),
        "txt2img": False,
        "vision": bool(server.options.get("vision")),
        "transcribe": False,
        "tts": False,
    }
    return Reply(200, able)


def _entry(server: ScriptedServer, model: str) -> dict[str, Any]:
    return {
        "id": model,
        "object": "model",
        "created": server.created,
        "owned_by": server.owned_by,
        "permission": [],
        "root": "koboldcpp",
    }


def _tags(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """The same of every model, whatever it is."""
    name = server.models[0] if server.models else "inactive"
    details = {
        "parent_model": "",
        "format": "gguf",
        "family": "koboldcpp",
        "families": ["koboldcpp"],
        "parameter_size": "128M",
        "quantization_level": "Q4_0",
    }
    entries = [
        {"name": "koboldcpp", "model": shown, "size": 394_998_579, "digest": DIGEST, "details": details}
        for shown in (f"{name}:latest", name)
    ]
    return Reply(200, {"models": entries})


def _perf(server: ScriptedServer, request: LoggedRequest) -> Reply:
    waiting = max(0, server.room.busy - 1)
    figures = {
        "last_process": 2.0,
        "last_eval": 20.0,
        "last_token_count": 40,
        "last_input_count": 100,
        "last_process_speed": 500.0,
        "last_eval_speed": 50.0,
        "total_gens": 7,
        "stop_reason": 1,
        "queue": waiting,
        "idle": 0 if server.room.busy else 1,
        "uptime": 60.5,
    }
    return Reply(200, figures)


def _tokencount(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """A token is a word; `special` adds one at the start. Newer versions put messages through their template."""
    prompt, messages = request.body.get("prompt", ""), request.body.get("messages")
    if not prompt and isinstance(messages, list) and not server.options.get("old"):
        prompt = "".join(f"<turn>{text_of(m.get('content'))}</turn> " for m in messages if isinstance(m, dict))
    ids = [zlib.crc32(piece.encode()) % 49152 for piece in split_pieces(str(prompt))]
    if request.body.get("special", True):
        ids = [1, *ids]
    reply: dict[str, Any] = {"value": len(ids), "ids": ids}
    return Reply(200, reply if server.options.get("old") else {**reply, "prompt": prompt})


STYLE = Style(
    name="koboldcpp",
    owned_by="koboldcpp",
    headers={"Server": "ConcedoLlamaForKoboldServer"},
    unknown_model="ignore",
    needs_model=False,
    names_served_model=True,
    takes_n=False,
    health=None,
    begin=_begin,
    routes={
        ("GET", "/"): lambda server, request: page("KoboldAI Lite"),
        ("GET", "/api/extra/version"): _version,
        ("GET", "/api/extra/true_max_context_length"): lambda server, request: Reply(
            200, {"value": server.context_length}
        ),
        ("GET", "/api/extra/perf"): _perf,
        ("GET", "/api/v1/model"): lambda server, request: Reply(
            200, {"result": server.models[0] if server.models else "inactive"}
        ),
        ("GET", "/api/tags"): _tags,
        ("GET", "/api/ps"): _tags,
        ("GET", "/api/version"): lambda server, request: Reply(200, {"version": "0.7.0"}),
        ("GET", "/ping"): lambda server, request: Reply(200, {"status": "healthy"}),
        ("POST", "/api/extra/tokencount"): _tokencount,
        ("POST", "/api/extra/tokenize"): _tokencount,
    },
    error=_error,
    not_found=_not_found,
    not_allowed=lambda method, path, allowed: _not_found(method, path),
    unauthorized=lambda key: Reply(401, UNAUTHORIZED),
    bad_json=lambda detail: _error(500, "Error parsing input."),
    no_messages=lambda missing: None,
    model_entry=_entry,
    one_model=None,
    guarded=lambda path: path in GUARDED,
    answer_id=lambda number: f"chatcmpl-A{number}",
)
