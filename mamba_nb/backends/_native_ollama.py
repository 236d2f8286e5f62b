"""Ollama's own route, POST /api/chat: a question in OpenAI's form written in Ollama's.

In: messages and parameters by the names that this package has for them. Out: the JSON body. What `/v1` has no place
for goes here: `num_ctx`, `keep_alive`, `think`, and the samplers in `options`. What `/api/chat` has no place for is
left out with a warning.

Sources: Ollama, api/types.go (ChatRequest, Message, Options, ThinkValue), openai/openai.go (FromChatRequest, whose
choices are followed here), docs/api.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mamba_nb.backends._exchange import Route
from mamba_nb.backends._native_ollama_reader import NativeReader
from mamba_nb.backends._params import NATIVE, PARAMS
from mamba_nb.backends._translate import SAYS_NOTHING, Sent, refuse_native
from mamba_nb.errors import BadInput
from mamba_nb.records import Message, text_of
from mamba_nb.servers.kinds import Kind, root_of

__all__ = ["check_native", "native_request", "native_route", "wants_native"]

# Parameter -> its name in `options`.
OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "repeat_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "seed": "seed",
    "stop": "stop",
    "num_ctx": "num_ctx",
    "max_tokens": "num_predict",
    "max_completion_tokens": "num_predict",
}
MEMBERS = ("tools", "keep_alive", "logprobs", "top_logprobs")
# openai/openai.go: FromChatRequest
EFFORTS: Mapping[str, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "ultra": "max",
    "max": "max",
}
KNOWN = ("model", "messages", "stream", "format", "think", "options", "truncate", "shift", *MEMBERS)
"""Every member of a request for `/api/chat`."""
ROLES = {"developer": "system", "function": "tool"}


def native_route(base_url: str) -> Route:
    """The route of the Ollama whose OpenAI address this is."""
    return Route(
        path=root_of(base_url) + "/api/chat",
        write=native_request,
        reader=NativeReader,
        stream_type="ndjson",
        stream_begins=(b'{"model"', b'{"error"'),
    )


def wants_native(native: bool | None, params: Mapping[str, Any]) -> bool:
    """Whether a request goes to `/api/chat`: it was asked for, or only that route takes what was given."""
    return bool(native) or any(name in params for name in NATIVE)


def check_native(native: bool | None, params: Mapping[str, Any], kind: Kind | None) -> None:
    """Refuse what only `/api/chat` takes, where it was ruled out or the server is known not to be Ollama.

    Args:
        native: The backend's own `native`.
        params: Checked parameters.
        kind: The kind of server, or None where it is not known yet.

    Raises:
        BadInput: With what to do instead.
    """
    if native is False and (given := [name for name in NATIVE if name in params]):
        raise BadInput(
            f"{given[0]} needs Ollama's own route, and native=False rules it out: /v1 ignores it.",
            hint=f"Leave out native=False, or {given[0]}.",
        )
    if wants_native(native, params) and kind is not None and kind.name != "ollama":
        refuse_native(params, kind)
        raise BadInput(f"native=True means Ollama's own route; {kind.title} has none.", hint="Leave it out.")


def native_request(
    model: str, messages: Sequence[Message], params: Mapping[str, Any], *, kind: Kind | None, streamed: bool
) -> Sent:
    """A request for `/api/chat`.

    Raises:
        BadInput: If a message or a parameter cannot be said there.
    """
    extra = dict(params.get("extra_body", {}))
    options: dict[str, Any] = {}
    body: dict[str, Any] = {"model": model, "messages": native_messages(messages), "stream": streamed}
    sent: dict[str, Any] = {}
    warnings = []
    for name, value in params.items():
        if name in OPTIONS:
            options[OPTIONS[name]] = [value] if name == "stop" and isinstance(value, str) else value
        elif name in MEMBERS:
            body[name] = value
        elif name == "think" or (name == "reasoning_effort" and "think" not in params):
            body["think"] = value if name == "think" else _think_for(value)
        elif name == "response_format":
            body.update(_format_for(value))
        elif name != "extra_body":
            if name == "reasoning_effort":
                warnings.append("reasoning_effort was left out: think, which was given too, says the same.")
            elif value not in SAYS_NOTHING.get(name, ()):
                said = (kind.ignores.get(name) if kind is not None else None) or "The model decides."
                warnings.append(f"Ollama's /api/chat has no {name}: it was left out. {said}")
            continue
        sent[name] = value
    warnings += [_unknown(name) for name in extra if name not in KNOWN]
    options.update(extra.pop("options", None) or {})
    if options:
        body["options"] = options
    return Sent(body={**body, **extra}, params=sent, warnings=tuple(warnings))


def _unknown(name: str) -> str:
    instead = (
        "Give it as a parameter" if name in PARAMS else 'The model\'s options go into extra_body={"options": {...}}'
    )
    return f"Ollama's /api/chat ignores {name}, which stands in extra_body. {instead}."


def native_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The conversation in Ollama's form: text as one string, images beside it, arguments as objects.

    Raises:
        BadInput: If a message holds something else than text and images, or an image's address.
    """
    tool_names: dict[str, str] = {}  # id of a call -> whose call it was
    written = []
    for message in messages:
        role = str(message.get("role"))
        new: dict[str, Any] = {"role": ROLES.get(role, role), "content": text_of(message.get("content"))}
        if images := _images(message.get("content")):
            new["images"] = images
        thinking = message.get("reasoning") or message.get("reasoning_content") or message.get("thinking")
        if thinking and role == "assistant":
            new["thinking"] = thinking
        if calls := [_call(call) for call in message.get("tool_calls") or () if isinstance(call, Mapping)]:
            new["tool_calls"] = calls
            tool_names.update((call["id"], call["function"]["name"]) for call in calls if "id" in call)
        if new["role"] == "tool":
            call_id = message.get("tool_call_id")
            name = message.get("tool_name") or message.get("name") or tool_names.get(str(call_id))
            new.update({"tool_name": name} if name else {}, **({"tool_call_id": call_id} if call_id else {}))
        written.append(new)
    return written


def _images(content: Any) -> list[str]:
    """The images in a message's content, as base64."""
    images = []
    for part in content if isinstance(content, list | tuple) else ():
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text":
            continue
        if kind != "image_url":
            raise BadInput(f"Ollama's /api/chat takes text and images; this message holds a part of type {kind!r}.")
        image = part["image_url"]
        head, comma, data = str(image.get("url") if isinstance(image, Mapping) else image).partition(",")
        if not comma or not head.startswith("data:") or not head.endswith(";base64"):
            raise BadInput(
                "Ollama takes images themselves, not their addresses.",
                hint="Give a pathlib.Path, or the image's bytes.",
            )
        images.append(data)
    return images


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    new: dict[str, Any] = {
        "function": {"name": function.get("name") or "", "arguments": _arguments(function.get("arguments"))}
    }
    return {"id": call["id"], **new} if call.get("id") else new


def _arguments(text: Any) -> dict[str, Any]:
    """The arguments as an object, which is all that Ollama takes; what a model wrote that is none, inside one."""
    if isinstance(text, Mapping):
        return dict(text)
    try:
        value = json.loads(text) if text else {}
    except (TypeError, ValueError):
        value = text
    return value if isinstance(value, dict) else {"arguments": value}


def _think_for(effort: str) -> bool | str:
    if effort not in EFFORTS:
        raise BadInput(f"reasoning_effort must be one of {', '.join(EFFORTS)}; this is {effort!r}.")
    return EFFORTS[effort]


def _format_for(response_format: Mapping[str, Any]) -> dict[str, Any]:
    """`format`: `json`, or the schema itself."""
    kind = response_format.get("type")
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"format": response_format.get("schema") or "json"}
    about = response_format.get("json_schema")
    schema = about.get("schema") if isinstance(about, Mapping) else None
    if kind != "json_schema" or not isinstance(schema, Mapping):
        raise BadInput(
            f"response_format must be a pydantic model, or of type json_object or json_schema; this is {kind!r}.",
            hint='For example {"type": "json_object"}.',
        )
    return {"format": dict(schema)}
