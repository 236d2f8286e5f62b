"""Request parameters: which there are, what they must be, and how they go on the wire."""

from __future__ import annotations

import json
import numbers
import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from mamba_nb.errors import BadInput, closest

__all__ = ["LOADING", "NATIVE", "checked", "merged", "to_wire"]

NUMBER = (numbers.Real,)  # numpy's numbers too: they come out of data frames
WHOLE = (numbers.Integral,)
# OpenAI's chat completion parameters that are the caller's to set, the samplers that most local servers have
# besides, and those of Ollama's own route, with the types that are taken.
PARAMS: Mapping[str, tuple[type, ...]] = {
    "temperature": NUMBER,
    "top_p": NUMBER,
    "max_tokens": WHOLE,
    "max_completion_tokens": WHOLE,
    "seed": WHOLE,
    "stop": (str, list, tuple),
    "presence_penalty": NUMBER,
    "frequency_penalty": NUMBER,
    "logit_bias": (dict,),
    "logprobs": (bool,),
    "top_logprobs": WHOLE,
    "tools": (list, tuple),
    "tool_choice": (str, dict),
    "parallel_tool_calls": (bool,),
    "response_format": (dict, type),
    "reasoning_effort": (str,),
    "top_k": WHOLE,
    "min_p": NUMBER,
    "repeat_penalty": NUMBER,
    "num_ctx": WHOLE,
    "keep_alive": (str, *NUMBER),
    "think": (bool, str),
    "extra_body": (dict,),
}
NATIVE = ("num_ctx", "keep_alive", "think")
"""The parameters that Ollama takes at /api/chat alone."""
LOADING = ("num_ctx", "keep_alive")
"""Those of them that say how the model is loaded: whoever asks through a backend must load it the same way."""
THINK_LEVELS = ("low", "medium", "high", "max")
GO_DURATION = re.compile(r"-?(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+")  # Ollama, api/types.go: time.ParseDuration
NAMES: Mapping[type, str] = {
    numbers.Real: "a number",
    numbers.Integral: "a whole number",
    str: "text",
    bool: "True or False",
}
RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "max_tokens": (1, float("inf")),
    "max_completion_tokens": (1, float("inf")),
    "top_logprobs": (0, 20),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "top_k": (-1, float("inf")),  # llama.cpp and vLLM: 0 and -1 turn it off
    "min_p": (0.0, 1.0),
    "repeat_penalty": (0.0, float("inf")),
    "num_ctx": (1, float("inf")),
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
            wanted = " or ".join(NAMES.get(kind, kind.__name__) for kind in PARAMS[name])
            raise BadInput(f"{name} must be {wanted}; this is {type(value).__name__}: {value!r}.")
        if name in RANGES:
            low, high = RANGES[name]
            if not low <= float(value) <= high:  # type: ignore[arg-type]
                rule = f"at least {low:g}" if high == float("inf") else f"from {low:g} to {high:g}"
                raise BadInput(f"{name} must be {rule}; this is {value!r}.")
        given[name] = _plain(name, value)
    return given


def merged(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters over parameters: what is given wins, and `extra_body` is merged member by member."""
    both = {**base, **given}
    if "extra_body" in base and "extra_body" in given:
        both["extra_body"] = {**base["extra_body"], **given["extra_body"]}
    return both


def to_wire(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as members of the request's body: `extra_body` is laid over the others."""
    body = {name: value for name, value in params.items() if name != "extra_body"}
    return {**body, **params.get("extra_body", {})}


def _plain(name: str, value: Any) -> Any:
    """The value as JSON has it, a copy of its own: what is changed later does not change what was asked."""
    if name == "think" and isinstance(value, str) and value not in THINK_LEVELS:
        raise BadInput(f"think must be True, False or one of {', '.join(THINK_LEVELS)}; this is {value!r}.")
    if name == "keep_alive" and isinstance(value, str) and not GO_DURATION.fullmatch(value):
        raise BadInput(
            f"keep_alive must be seconds or a time with its unit; this is {value!r}.",
            hint='For example "30m", 3600, 0 (unload at once) or -1 (keep for good).',
        )
    if isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Number):
        return int(value) if isinstance(value, numbers.Integral) else float(value)  # type: ignore[arg-type]
    if isinstance(value, type):
        return _schema_format(value)
    value = list(value) if isinstance(value, tuple) else value
    if name == "stop" and not all(isinstance(text, str) for text in value):
        raise BadInput(f"stop must be text or a list of texts; this is {value!r}.")
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        hint = "Agent takes plain functions as tools." if name == "tools" else None
        raise BadInput(f"{name} must be JSON: {error}.", hint=hint) from error
    return deepcopy(value)


def _schema_format(model: type) -> dict[str, Any]:
    """A pydantic model as OpenAI's `json_schema` response format."""
    schema = getattr(model, "model_json_schema", None)
    if schema is None:
        raise BadInput(
            f"response_format must be a dict or a pydantic model; {model.__name__} is neither.",
            hint='For example {"type": "json_object"}.',
        )
    return {"type": "json_schema", "json_schema": {"name": model.__name__, "schema": schema()}}
