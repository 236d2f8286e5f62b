"""Ollama, as of 0.33, and older releases by `options={"version": ...}`.

Sources: Ollama's `server/routes.go` (paths, `/api/*`), `middleware/openai.go` and `openai/openai.go` (the `/v1`
shapes), `api/types.go` (the native shapes). The files beside this one name theirs.

What is its own: `content` in every delta, the role riding on the first token's chunk, whole tool calls, ids that
repeat, `data: null` where no model is installed, plain-text 404 and 405, no key, no `n`, no `tool_choice`, no
`max_completion_tokens`; a prompt that does not fit is cut in silence, and an error in mid-stream on `/v1` is lost. A
pull adds to `server.models`, a delete takes away.

`about`, by model:
    capabilities       list of completion, tools, thinking, vision, embedding, insert. Where it is said, what is not
                       in it is refused in Ollama's words; by default nothing but chat with an embedding model is.
    context_max        the longest context (131072)     num_ctx          the Modelfile's, or none
    parameters         the Modelfile's others, a dict   template, license
    size, memory, vram bytes on disk, in memory, of that on the GPU
    parameter_size     "3.2B"                           parameter_count  3212749888
    quantization       "Q4_K_M"                         family           "llama"
    digest             hex                              embedding_length 3072
    remote_host        "https://ollama.com:443" for a cloud model, with remote_model
    load_error         True or the words of a 500       most_num_ctx     beyond it, 500 for want of memory

`options`:
    version            "0.33.0". Before 0.32.6 chunks in the old form, before 0.32 lists without capabilities, before
                       0.30 the older cut, before 0.16.2 no /api/status, before 0.14 (about) the older error texts
    rich_tags          whether lists carry capabilities, whatever the version
    any_host           True: no Host header is refused, as where it listens on all interfaces
    busy, max_queue    True: 503; or how many requests may wait for a slot before that
    signed_in          False: cloud models answer 401
    keep_alive_s       300
    hides_root         True: `/` answers 404, as behind some proxies
    registry           the names that can be pulled; without it, all
    pull_bytes, pull_s size of what is pulled, and seconds that takes
    pull_error, pull_failures, pull_fails_at     words, how many pulls fail (1), and after what part (0.5)
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mamba_nb.testing import embeddings
from mamba_nb.testing.log import LoggedRequest, last_user_text
from mamba_nb.testing.script import Script, split_pieces
from mamba_nb.testing.styles import ollama_library as library
from mamba_nb.testing.styles import ollama_native as native
from mamba_nb.testing.styles import ollama_refusals as refusals
from mamba_nb.testing.styles.base import Answered, Reply, Route, Style, plain_model_entry, plain_one_model
from mamba_nb.testing.styles.ollama_embed import embed, embed_old
from mamba_nb.testing.styles.ollama_facts import (
    context_of,
    cut_prompt,
    family_of,
    is_at_least,
    match,
    namespace_of,
    put_in_force,
    stays_for,
    tagged,
    version_of,
)
from mamba_nb.testing.styles.ollama_pull import pull

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

_TYPES = {400: "invalid_request_error", 404: "not_found_error"}
_NOT_FOUND = Reply(404, "404 page not found")


def _error(status: int, message: str, *, type: str | None = None, param: str | None = None, code: Any = None) -> Reply:
    kind = type or _TYPES.get(status, "api_error")
    return Reply(status, {"error": {"message": message, "type": kind, "param": None, "code": None}})


def _old_error(
    status: int, message: str, *, type: str | None = None, param: str | None = None, code: Any = None
) -> Reply:
    return _error(status, message, type="api_error")


def _unknown(model: str, served: Sequence[str]) -> Reply:
    return _error(404, f"model '{model}' not found")


def _old_unknown(model: str, served: Sequence[str]) -> Reply:
    return _old_error(404, f'model "{model}" not found, try pulling it first')


# The OpenAI side.


def _models(server: ScriptedServer, entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": entries or None}


def _entry(server: ScriptedServer, model: str) -> dict[str, Any]:
    entry = {**plain_model_entry(server, model), "id": tagged(model)}
    if server.owned_by == STYLE.owned_by:
        entry["owned_by"] = namespace_of(model)
    return entry


def _choice(index: int, delta: dict[str, Any], logprobs: Any, finish_reason: str | None) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": finish_reason}
    return choice if logprobs is None else {**choice, "logprobs": logprobs}


def _list(server: ScriptedServer, request: LoggedRequest) -> Reply:
    return Reply(200, _models(server, [_entry(server, model) for model in server.models]))


def _embeddings(server: ScriptedServer, request: LoggedRequest) -> Reply:
    return embeddings.reply(server, request) if server.embeddings else server.style.no_embeddings()


def _refuse_chat(server: ScriptedServer, request: LoggedRequest) -> Reply | None:
    if (refused := refusals.foreign_host(server, request)) is not None:
        return refused
    asked = str(request.body.get("model"))
    refusal = refusals.of_v1(server, match(asked, server.models) or asked, request.body)
    return None if refusal is None else server.style.error(*refusal)


def _play(server: ScriptedServer, script: Script, body: Mapping[str, Any], model: str) -> Script:
    """The script as `/v1` plays it: in the context that is in force, which it has no way to change."""
    context = context_of(server, model)
    put_in_force(server, model, context)
    stays_for(server, model, server.options.get("keep_alive_s", 300.0))
    left = cut_prompt(server, script, body.get("messages"), context)
    if left is not None:
        script = replace(script, prompt_tokens=left)
    if not body.get("max_tokens"):
        script = replace(script, obey_max_tokens=False)  # max_completion_tokens is not in its request
    if refusals.thinks_v1(body) is False and not family_of(server, model).startswith(("gptoss", "gpt-oss")):
        script = replace(script, reasoning=())
    if not is_at_least(server, "0.32.6"):
        script = replace(script, role_every_chunk=True, finish_with_last_token=True)
    if script.fault == "error_mid_stream" and body.get("stream"):
        script = _without_its_error(script, body)
    return script


def _without_its_error(script: Script, body: Mapping[str, Any]) -> Script:
    """The error's line is read as a chat chunk, so an empty delta goes out in its place, and then the end."""
    text = split_pieces(last_user_text(body)) if script.echo else tuple(script.text or ())
    before = (len(script.reasoning) + len(text)) // 2 if script.fault_after is None else script.fault_after
    kept = script.reasoning[:before], text[: max(0, before - len(script.reasoning))]
    return replace(
        script,
        reasoning=kept[0],
        text=(*kept[1], ""),
        echo=False,
        tool_calls=(),
        fault="eof_no_done",
        fault_after=None,
        finish_with_last_token=False,
    )


# Who it is.


def _begin(server: ScriptedServer) -> None:
    server.state.update(context={}, ends={}, about={}, pulled={}, pull_failures=0)
    if server.style is STYLE and not is_at_least(server, "0.14"):
        server.style = OLD


def _root(server: ScriptedServer, request: LoggedRequest) -> Reply:
    return _NOT_FOUND if server.options.get("hides_root") else Reply(200, "Ollama is running")


def _version(server: ScriptedServer, request: LoggedRequest) -> Reply:
    return library.native({"version": version_of(server)})


def _status(server: ScriptedServer, request: LoggedRequest) -> Reply:
    if not is_at_least(server, "0.16.2"):
        return _NOT_FOUND
    return library.native({"cloud": {"disabled": False, "source": "none"}})


def _for_known_hosts(route: Route) -> Route:
    """The route, closed to Host headers that Ollama does not know."""

    async def answer(server: ScriptedServer, request: LoggedRequest) -> Answered:
        if (refused := refusals.foreign_host(server, request)) is not None:
            return refused
        answered: Answered | Awaitable[Answered] = route(server, request)
        return await answered if inspect.isawaitable(answered) else answered

    return answer


_ROUTES: dict[tuple[str, str], Route] = {
    ("GET", "/"): _root,
    ("GET", "/api/version"): _version,
    ("GET", "/api/status"): _status,
    ("GET", "/api/tags"): library.tags,
    ("GET", "/api/ps"): library.ps,
    ("POST", "/api/show"): library.show,
    ("POST", "/api/copy"): library.copy,
    ("POST", "/api/create"): library.create,
    ("DELETE", "/api/delete"): library.delete,
    ("POST", "/api/pull"): pull,
    ("POST", "/api/chat"): native.chat,
    ("POST", "/api/generate"): native.generate,
    ("POST", "/api/embed"): embed,
    ("POST", "/api/embeddings"): embed_old,
    ("GET", "/v1/models"): _list,
    ("POST", "/v1/embeddings"): _embeddings,
}

STYLE = Style(
    name="ollama",
    owned_by="library",
    reasoning_field="reasoning",
    tool_call_style="whole",
    null_content_first=False,
    role_alone=False,
    content_always=True,
    finish_delta={"content": ""},
    fingerprint="fp_ollama",
    chunk_fingerprint="every",
    null_logprobs=False,
    takes_n=False,
    health=None,
    routes={path: _for_known_hosts(route) for path, route in _ROUTES.items()},
    begin=_begin,
    refuse_chat=_refuse_chat,
    play=_play,
    error=_error,
    not_found=lambda method, path: _NOT_FOUND,
    not_allowed=lambda method, path, allowed: Reply(405, "405 method not allowed", {"Allow": ", ".join(allowed)}),
    unauthorized=lambda key: Reply(401, {"error": "unauthorized"}),
    unknown_model_reply=_unknown,
    missing_model=lambda served: _error(400, "model is required"),
    bad_json=lambda detail: _error(400, detail),
    no_messages=lambda missing: _error(400, "[] is too short - 'messages'"),
    no_embeddings=lambda: _error(400, "this model does not support embeddings"),
    model_entry=_entry,
    models=_models,
    choice=_choice,
    one_model=plain_one_model,
    match=match,
    guarded=lambda path: path.startswith(("/v1", "/api")),
    answer_id=lambda number: f"chatcmpl-{number * 373 % 999}",
)

OLD = replace(STYLE, error=_old_error, unknown_model_reply=_old_unknown)
