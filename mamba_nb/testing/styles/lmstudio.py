"""LM Studio, as of 0.4.

Sources: LM Studio's documentation (`1_developer/2_rest/list.md`, `load.md`, `unload.md`, `download.md`,
`download-status.md`, `endpoints.mdx`, `3_openai-compat`), the SDK's probe of `/lmstudio-greeting` (lmstudio-python,
`json_api.py`), and its issue tracker for the words of errors (lmstudio-bug-tracker 189, 237, 546, 619, 670, 1217,
1556 of gpt-researcher, 2339).

What is its own: HTTP 200 with `{"error": "Unexpected endpoint or method. ..."}` for every path that it does not have.

`about` names, by model:
    type            `llm` (default), `vlm` or `embedding`
    loaded          whether it is in memory at the start; else it is where loading costs nothing (`load_s`)
    context         tokens it is loaded with; else the server's `context_length`
    context_max     `max_context_length`
    size_bytes, params, quantization, architecture, format
    vision, tools   declared capabilities
    reasoning       `{"allowed_options": [...], "default": ...}`, in `/api/v1/models` only
    reasoning_field where its reasoning travels: `reasoning` (gpt-oss), `reasoning_content`, `think`
    load_fails      words of the error that loading ends with

`options`:
    version         `0.4` (default), `0.3` (only `/api/v0`) or `0.2` (neither)
    greeting        whether there is `/lmstudio-greeting` (True)
    jit             whether a request loads its model (True); without it `/v1/models` lists only what is loaded
    no_models_status  status of "No models loaded" (404; some versions 400)
    names_models    an unknown model is refused with `Invalid model identifier` and 400, as newer versions do
    overflow        what happens to a prompt that is too long: `n_keep` (default), `older`, `mlx`, or `empty` (200
                    without a word)
    answers_with_another  another model that is loaded answers for one that is not there
    download_bytes, download_looks  size of a download, and how many looks at its status it takes
    download_ends   `completed` (default), `failed` or `paused`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import LoggedRequest, count_words
from mamba_nb.testing.script import Script
from mamba_nb.testing.styles import lmstudio_native as native
from mamba_nb.testing.styles.base import Reply, Style, plain_error, plain_models

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

NO_MODELS = "No models loaded. Please load a model in the developer page or use the 'lms load' command."
NO_TOKEN = (
    "An LM Studio API token is required to make requests to this server, but none was provided using the "
    "Authorization header using the 'Bearer' scheme"
)
OLDER_OVERFLOW = (
    "Trying to keep the first {prompt} tokens when context the overflows. However, the model is loaded with context "
    "length of only {context} tokens, which is not enough. Try to load the model with a larger context length, or "
    "provide a shorter input"
)


def _unauthorized(key: str | None) -> Reply:
    message = NO_TOKEN if key is None else "The LM Studio API token is not valid."
    return Reply(401, {"error": {"type": "invalid_request", "code": "invalid_api_key", "message": message}})


def _begin(server: ScriptedServer) -> None:
    native.begin(server)
    if server.options.get("answers_with_another") or server.options.get("names_models"):
        server.unknown_model = "ignore"  # `_refuse` words the refusals of these versions


def _refuse(server: ScriptedServer, request: LoggedRequest) -> Reply | None:
    """What a chat request is refused with although its model is served."""
    body = request.body
    asked = body.get("model")
    known = asked in server.models or not isinstance(asked, str)
    if not known and server.options.get("names_models"):
        served = ", ".join(server.models[:3])
        message = f'Invalid model identifier "{asked}". Please specify a valid downloaded model (e.g., {served}).'
        return plain_error(400, message, param="model", code="model_not_found")
    model = asked if isinstance(asked, str) and known else next(iter(server.models), "")
    if not server.options.get("jit", True) and not native.instances(server, model):
        return plain_error(server.options.get("no_models_status", 404), NO_MODELS, param="model")
    kind = body["response_format"].get("type") if isinstance(body.get("response_format"), dict) else "text"
    if kind not in ("text", "json_schema"):
        return Reply(400, {"error": "'response_format.type' must be 'json_schema' or 'text'"})
    if isinstance(body.get("tool_choice"), dict):
        message = "Invalid tool_choice type: 'object'. Supported string values: none, auto, required"
        return Reply(400, {"error": message})
    return _overflow(server, count_words(body), native.context_of(server, model))


def _overflow(server: ScriptedServer, prompt: int, context: int) -> Reply | None:
    how = server.options.get("overflow", "n_keep")
    if prompt < context or how == "empty":
        return None
    words = {
        "n_keep": f"Cannot truncate prompt with n_keep ({prompt}) >= n_ctx ({context})",
        "older": OLDER_OVERFLOW.format(prompt=prompt, context=context),
        "mlx": "Context size has been exceeded.",
    }
    return Reply(400, {"error": words[how]})


def _play(server: ScriptedServer, script: Script, body: Mapping[str, Any], model: str) -> Script:
    """The script as this model would play it: loaded just in time, perhaps by another, perhaps without a word."""
    native.load_just_in_time(server, model)
    asked = body.get("model")
    if server.options.get("answers_with_another") and isinstance(asked, str) and asked not in server.models:
        model = next((name for name in server.models if native.instances(server, name)), model)
        script = replace(script, model_in_reply=model)
    field = server.said_of(model, "reasoning_field")
    if field is not None and script.reasoning_field is None:
        script = replace(script, reasoning_field=field)
    prompt = count_words(body) if script.prompt_tokens is None else script.prompt_tokens
    if server.options.get("overflow") == "empty" and prompt >= native.context_of(server, model):
        script = replace(script, text="", reasoning="", tool_calls=(), prompt_tokens=prompt, completion_tokens=0)
    return script


def _models(server: ScriptedServer, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """All that is downloaded, or without just-in-time loading all that is loaded."""
    if not server.options.get("jit", True):
        entries = [entry for entry in entries if native.instances(server, entry["id"])]
    return plain_models(server, entries)


def _unknown_model(model: str, served: Sequence[str]) -> Reply:
    return plain_error(404, NO_MODELS, param="model")


STYLE = Style(
    name="lmstudio",
    owned_by="organization_owner",
    headers={"X-Powered-By": "Express"},
    reasoning_field="reasoning_content",
    null_content_first=False,
    needs_model=False,
    health=None,
    routes=native.ROUTES,
    begin=_begin,
    refuse_chat=_refuse,
    play=_play,
    not_found=native.unexpected,
    not_allowed=lambda method, path, allowed: native.unexpected(method, path),
    unauthorized=_unauthorized,
    unknown_model_reply=_unknown_model,
    models=_models,
    model_entry=lambda server, model: {"id": model, "object": "model", "owned_by": server.owned_by},
    guarded=lambda path: path != "/lmstudio-greeting",
)
