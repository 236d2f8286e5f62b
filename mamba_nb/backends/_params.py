"""Request parameters: which there are, what they must be, and how they go on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mamba_nb.errors import BadInput, closest

__all__ = ["checked", "to_wire"]

NUMBER = (int, float)
# OpenAI's chat completion parameters that are the caller's to set, with the types that are taken.
PARAMS: Mapping[str, tuple[type, ...]] = {
    "temperature": NUMBER,
    "top_p": NUMBER,
    "max_tokens": (int,),
    "max_completion_tokens": (int,),
    "seed": (int,),
    "stop": (str, list, tuple),
    "presence_penalty": NUMBER,
    "frequency_penalty": NUMBER,
    "logit_bias": (dict,),
    "logprobs": (bool,),
    "top_logprobs": (int,),
    "tools": (list, tuple),
    "tool_choice": (str, dict),
    "parallel_tool_calls": (bool,),
    "response_format": (dict, type),
    "reasoning_effort": (str,),
    "extra_body": (dict,),
}
RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "max_tokens": (1, float("inf")),
    "max_completion_tokens": (1, float("inf")),
    "top_logprobs": (0, 20),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}


def checked(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that were given, each of the right type and in its range; None means not given.

    Raises:
        BadInput: If a name is unknown (with the closest one), or a value cannot be meant.
    """
    given = {name: value for name, value in params.items() if value is not None}
    for name, value in given.items():
        if name == "n":
            raise BadInput(
                "n is not taken here: one request gives one answer.",
                hint="Ask several times with compare(..., repeats=n).",
            )
        if name not in PARAMS:
            near = closest(name, PARAMS)
            raise BadInput(
                f"There is no parameter called {name!r}." + (f" Did you mean {near!r}?" if near else ""),
                hint=f"A server's own parameters go into extra_body={{{name!r}: ...}}.",
            )
        if not isinstance(value, PARAMS[name]) or (isinstance(value, bool) and bool not in PARAMS[name]):
            wanted = " or ".join(kind.__name__ for kind in PARAMS[name])
            raise BadInput(f"{name} must be {wanted}; this is {type(value).__name__}: {value!r}.")
        if name in RANGES:
            low, high = RANGES[name]
            if not low <= value <= high:
                rule = f"at least {low:g}" if high == float("inf") else f"from {low:g} to {high:g}"
                raise BadInput(f"{name} must be {rule}; this is {value!r}.")
    if isinstance(given.get("stop"), tuple):
        given["stop"] = list(given["stop"])
    if isinstance(given.get("tools"), tuple):
        given["tools"] = list(given["tools"])
    if isinstance(given.get("response_format"), type):
        given["response_format"] = _schema_format(given["response_format"])
    return given


def to_wire(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as members of the request's body: `extra_body` is laid over the others."""
    body = {name: value for name, value in params.items() if name != "extra_body"}
    return {**body, **params.get("extra_body", {})}


def _schema_format(model: type) -> dict[str, Any]:
    """A pydantic model as OpenAI's `json_schema` response format."""
    schema = getattr(model, "model_json_schema", None)
    if schema is None:
        raise BadInput(
            f"response_format must be a dict or a pydantic model; {model.__name__} is neither.",
            hint='For example {"type": "json_object"}.',
        )
    return {"type": "json_schema", "json_schema": {"name": model.__name__, "schema": schema()}}
