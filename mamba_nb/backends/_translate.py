"""Request parameters as one kind of server takes them: renamed, refused, or sent with a warning.

In: checked parameters and the kind of server. Out: what is sent, and what a reader of the answer must know. Nothing
is left out in silence: what the server ignores is a warning in the Generation, what it always answers with an error
is refused before anything is sent. What each kind does stands in its own file in `mamba_nb/servers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mamba_nb.backends._params import NATIVE, to_wire
from mamba_nb.errors import BadInput
from mamba_nb.records import Message
from mamba_nb.servers.kinds import Kind

__all__ = ["Sent", "openai_request", "refuse", "refuse_native", "translated"]

# Values that say no more than leaving the parameter out: a server that ignores them does what was asked.
SAYS_NOTHING: Mapping[str, tuple[Any, ...]] = {
    "tool_choice": ("auto",),
    "parallel_tool_calls": (True,),
    "logprobs": (False,),
    "response_format": ({"type": "text"},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A request as it goes out.

    Attributes:
        body: The JSON body.
        params: The parameters in it, by the names this package has for them; `Request.params` keeps these.
        warnings: What the server will not do of what was asked.
    """

    body: dict[str, Any]
    params: dict[str, Any]
    warnings: tuple[str, ...] = ()


def openai_request(
    model: str, messages: Sequence[Message], params: Mapping[str, Any], *, kind: Kind | None, streamed: bool
) -> Sent:
    """A request for `/v1/chat/completions`.

    Raises:
        BadInput: If the server is known to refuse a parameter.
    """
    sent, warnings = translated(params, kind, model)
    body: dict[str, Any] = {"model": model, "messages": list(messages), **to_wire(sent)}
    if streamed:
        body["stream"] = True
        body.setdefault("stream_options", {"include_usage": True})
    return Sent(body=body, params=sent, warnings=warnings)


def translated(params: Mapping[str, Any], kind: Kind | None, model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The parameters as this kind takes them, and what it will ignore; all as given where the kind is not known.

    Raises:
        BadInput: If the server is known to refuse one.
    """
    if kind is None:
        return dict(params), ()
    refuse(params, kind)
    sent, warnings = _renamed(params, renames_of(kind, model))
    for name, value in to_wire(sent).items():
        said = _said_of(kind.ignores, name, value)
        if said is not None:
            warnings.append(f"{kind.opening} ignores {name}. {said}")
    return sent, tuple(warnings)


def refuse(params: Mapping[str, Any], kind: Kind | None) -> None:
    """Refuse what the server would answer with an error; what stands in `extra_body` is left to the server.

    Raises:
        BadInput: With what to do instead.
    """
    for name, value in params.items():
        said = _said_of(kind.refuses, name, value) if kind is not None else None
        if said is not None and kind is not None:
            raise BadInput(f"{kind.opening} does not take {_shown(name, value)}.", hint=said)


def refuse_native(params: Mapping[str, Any], kind: Kind | None) -> None:
    """Refuse `num_ctx`, `keep_alive` and `think` where Ollama's own route is not there.

    Raises:
        BadInput: With what to do instead.
    """
    for name in NATIVE:
        if name in params:
            said = {**kind.ignores, **kind.refuses}.get(name) if kind is not None else None
            title = kind.title if kind is not None else "This server"
            raise BadInput(
                f"{name} is for Ollama's own route, /api/chat; {title} has none.",
                hint=said or HINTS[name],
            )


HINTS = {
    "num_ctx": "Elsewhere the context is set where the server is started, or where the model is loaded.",
    "keep_alive": "Elsewhere the server's own settings say how long a model stays in memory.",
    "think": 'Elsewhere reasoning_effort="none", or extra_body={"chat_template_kwargs": {"enable_thinking": False}}.',
}


def renames_of(kind: Kind, model: str) -> Mapping[str, str]:
    """What this kind calls parameters that others call by the name here; OpenAI's depends on the model."""
    return {**kind.renames, **(kind.renames_for(model) if kind.renames_for is not None else {})}


def _renamed(params: Mapping[str, Any], renames: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    sent: dict[str, Any] = {}
    warnings = []
    for name, value in params.items():
        known_as = renames.get(name, name)
        if known_as != name and known_as in params:
            if params[known_as] != value:
                warnings.append(f"{name} was left out: here it is {known_as}, which was given too.")
            continue
        sent[known_as] = value
    return sent, warnings


def _said_of(table: Mapping[str, str], name: str, value: Any) -> str | None:
    """What a table says of a parameter, or of one value of it (`tool_choice=required`)."""
    if name in SAYS_NOTHING and value in SAYS_NOTHING[name]:
        return None
    variant = value.get("type") if isinstance(value, Mapping) else value
    return table.get(name) or table.get(f"{name}={variant}")


def _shown(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{name} of type {value.get('type')!r}" if "type" in value else name
    return f"{name}={value!r}" if isinstance(value, str | int | float) else name
