"""`POST /api/chat` and `/api/generate` of the Ollama style.

In: a native request. Out: the script of the standing chat, played as lines of JSON with Ollama's own counts and
durations (in nanoseconds), or as one object. The scripts are those of `/v1/chat/completions`.

Sources: Ollama's `server/routes.go` (ChatHandler, GenerateHandler), `api/types.go`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.replies import WORDS
from mamba_nb.testing.script import Script
from mamba_nb.testing.styles import ollama_refusals as refusals
from mamba_nb.testing.styles.base import Reply, Streamed
from mamba_nb.testing.styles.ollama_facts import (
    context_of,
    cut_prompt,
    family_of,
    is_remote,
    keep_alive_s,
    match,
    put_in_force,
    said,
    stays_for,
    tagged,
    unload,
)
from mamba_nb.testing.styles.ollama_library import NDJSON, asked_model, native, native_error, not_found
from mamba_nb.testing.styles.ollama_lines import Lines, Shape, broken

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

__all__ = ["chat", "generate"]

CHAT = "/v1/chat/completions"


async def chat(server: ScriptedServer, request: LoggedRequest) -> Reply | Streamed:
    """`POST /api/chat`: an answer, or the model loaded or unloaded where there are no messages."""
    messages = request.body.get("messages")
    if messages is not None and not isinstance(messages, list):
        return native_error(
            400, "json: cannot unmarshal into Go struct field ChatRequest.messages of type []api.Message"
        )
    return await _answer(server, request, dict(request.body), bool(messages), _as_message)


async def generate(server: ScriptedServer, request: LoggedRequest) -> Reply | Streamed:
    """`POST /api/generate`: the same for one prompt."""
    body = dict(request.body)
    prompt, system = body.get("prompt"), body.get("system")
    body["messages"] = [
        *([{"role": "system", "content": system}] if isinstance(system, str) and system else []),
        {"role": "user", "content": prompt if isinstance(prompt, str) else "", "images": body.get("images")},
    ]
    body.pop("tools", None)
    return await _answer(server, request, body, bool(prompt), _as_response)


def _as_message(said_now: dict[str, Any]) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": "", **said_now}}


def _as_response(said_now: dict[str, Any]) -> dict[str, Any]:
    words = {"response": said_now.get("content", "")}
    return {**words, "thinking": said_now["thinking"]} if "thinking" in said_now else words


async def _answer(
    server: ScriptedServer, request: LoggedRequest, body: dict[str, Any], has_prompt: bool, shape: Shape
) -> Reply | Streamed:
    began = time.monotonic()
    asked = asked_model(request)
    if not asked:
        return native_error(400, "model is required")
    model = match(asked, server.models)
    if model is None and server.unknown_model == "404":
        return not_found(asked)
    model = model or asked
    try:
        stays_s = keep_alive_s(body.get("keep_alive"), server.options.get("keep_alive_s", 300.0))
    except ValueError as error:
        return native_error(400, str(error))
    head = _head(server, model, asked)
    if not has_prompt and body.get("keep_alive") is not None and stays_s == 0:
        unload(server, model)
        return native({**head(), **shape({}), "done": True, "done_reason": "unload"})
    options = body.get("options") if isinstance(body.get("options"), Mapping) else {}
    context = context_of(server, model, options)
    if (refusal := _refusal(server, model, asked, body, context, shape)) is not None:
        return native_error(*refusal)
    put_in_force(server, model, context)
    if not has_prompt:
        async with server.room.enter(model):
            stays_for(server, model, stays_s)
        return native({**head(), **shape({}), "done": True, "done_reason": "load"})
    script = server.script_for(request, CHAT, model) or Script()
    if (refused := await _instead(script)) is not None:
        return refused
    if (refusal := refusals.of_context(server, script, model, body, context)) is not None:
        return native_error(*refusal)
    script = _played(server, script, model, body, context)
    lines = Lines(server, request, script, model, body, began, stays_s, head, shape)
    if body.get("stream") is False:
        return await lines.whole()
    return Streamed(lines.encoded(), headers=NDJSON)


def _head(server: ScriptedServer, model: str, asked: str) -> Callable[[], dict[str, Any]]:
    remote = {}
    if is_remote(server, model):
        remote["remote_model"] = said(server, model, "remote_model", tagged(model).removesuffix("-cloud"))
        remote["remote_host"] = said(server, model, "remote_host")
    return lambda: {"model": asked, **remote, "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z")}


def _refusal(
    server: ScriptedServer, model: str, asked: str, body: Mapping[str, Any], context: int, shape: Shape
) -> refusals.Refusal | None:
    wanted = body.get("format")
    if isinstance(wanted, str) and wanted not in ("", "json"):
        return 500, f'invalid format: "\\"{wanted}\\""; expected "json" or a valid JSON Schema object'
    refusal = refusals.of_logprobs(body) or refusals.of_think(body)
    refusal = refusal or refusals.of_capabilities(server, model, asked, body, refusals.thinks_native(body))
    if refusal is not None and shape is _as_response:
        refusal = refusal[0], refusal[1].replace("does not support chat", "does not support generate")
    return refusal or refusals.of_images(server, model, body) or refusals.of_scheduler(server, model, context)


async def _instead(script: Script) -> Reply | Streamed | None:
    """The part of a script that needs no answer: silence, an HTTP error, a raw body, a connection that breaks."""
    if script.never:
        await asyncio.Event().wait()
    plain = script.status == 200 and (script.error_body is None or script.fault == "error_mid_stream")
    if plain and script.fault != "error_200":
        return None
    await asyncio.sleep(script.ttft_s)
    if script.fault in ("cut", "reset"):
        return Streamed(broken())
    words = {"error": WORDS.get(script.status, "Scripted error.")}
    body = words if script.error_body is None else script.error_body
    return Reply(script.status, body, dict(script.headers))


def _played(server: ScriptedServer, script: Script, model: str, body: Mapping[str, Any], context: int) -> Script:
    left = cut_prompt(server, script, body.get("messages"), context)
    if left is not None:
        script = replace(script, prompt_tokens=left)
    if refusals.thinks_native(body) is False and not family_of(server, model).startswith(("gptoss", "gpt-oss")):
        script = replace(script, reasoning=())
    return script
