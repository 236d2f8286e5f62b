"""Tool calls that came as plain text, because the server's parser did not know the model's way of writing them.

In: the whole text of an answer and the names of the tools that were offered. Out: the calls, where the whole text is
nothing but calls to those tools; else none. Text that only mentions a call is an answer and stays one.

Formats: `<tool_call>{...}</tool_call>` (Hermes, Qwen), `<function=name>...</function>` (Qwen3-Coder, Llama),
`[TOOL_CALLS] [...]` (Mistral), `<|python_tag|>{...}` (Llama 3), and a bare or fenced JSON object or list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from pydantic_core import from_json

from mamba_nb.records import ToolCall

__all__ = ["calls_in_text", "offered", "warning"]

LONGEST = 20_000
TAGGED = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|$)", re.DOTALL)
FUNCTION = re.compile(r"<function=([\w.-]+)>\s*(.*?)\s*(?:</function>|$)", re.DOTALL)
PARAMETER = re.compile(r"<parameter=([\w.-]+)>\s*(.*?)\s*(?:</parameter>|$)", re.DOTALL)
FENCE = re.compile(r"^```(?:json|tool_call|tool_code)?\s*(.*?)\s*```$", re.DOTALL)


def calls_in_text(text: str, tools: Collection[str]) -> tuple[ToolCall, ...]:
    """The calls that a text consists of; empty where it is anything else.

    Args:
        text: The visible answer.
        tools: The names of the tools that were offered.

    Examples:
        >>> [call.arguments for call in calls_in_text('{"name": "add", "arguments": {"a": 1}}', ["add"])]
        ['{"a": 1}']
        >>> calls_in_text('I would call {"name": "add", "arguments": {}}', ["add"])
        ()
    """
    text = text.strip()
    if not text or not tools or len(text) > LONGEST:
        return ()
    found = _tagged(text) or _functions(text) or _listed(text)
    if not found or any(name not in tools for name, _ in found):
        return ()
    return tuple(
        ToolCall(id=f"text_{index}", name=name, arguments=json.dumps(arguments, ensure_ascii=False))
        for index, (name, arguments) in enumerate(found)
    )


def offered(params: Mapping[str, Any]) -> list[str]:
    """The names of the tools in a request's parameters."""
    tools = params.get("tools")
    functions = [tool.get("function") for tool in tools or () if isinstance(tool, Mapping)]
    return [str(function["name"]) for function in functions if isinstance(function, Mapping) and "name" in function]


def warning(calls: Sequence[ToolCall]) -> str:
    """What to say about such an answer."""
    names = ", ".join(dict.fromkeys(call.name for call in calls))
    return (
        f"The model called {names} in plain text: its server did not recognise the call. Use a model with native "
        'tools, the `--tool-call-parser` that fits it, a larger context, or Agent(..., tools_mode="prompted").'
    )


def _tagged(text: str) -> list[tuple[str, Any]]:
    bodies = TAGGED.findall(text)
    if not bodies or TAGGED.sub("", text).strip():
        return []
    return _all(_functions(body) or _listed(body) for body in bodies)


def _functions(text: str) -> list[tuple[str, Any]]:
    matches = FUNCTION.findall(text)
    if not matches or FUNCTION.sub("", text).strip():
        return []
    calls: list[tuple[str, Any]] = []
    for name, body in matches:
        parameters = {key: _json(value, value) for key, value in PARAMETER.findall(body)}
        arguments = parameters or _json(body or "{}", None)
        if not isinstance(arguments, dict):
            return []
        calls.append((name, arguments))
    return calls


def _listed(text: str) -> list[tuple[str, Any]]:
    for mark in ("[TOOL_CALLS]", "<|python_tag|>"):
        text = text.removeprefix(mark).strip()
    if match := FENCE.match(text):
        text = match.group(1)
    value = _json(text, None)
    return _all([_call(item)] for item in (value if isinstance(value, list) else [value]))


def _call(value: Any) -> tuple[str, Any] | None:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str):
        arguments = _json(arguments, None)
    return (value["name"], arguments) if isinstance(arguments, dict) else None


def _all(groups: Iterable[Sequence[tuple[str, Any] | None]]) -> list[tuple[str, Any]]:
    """The calls of every group, or none at all where one of them is no call."""
    calls = [list(group) or [None] for group in groups]
    flat = [call for group in calls for call in group]
    return [call for call in flat if call is not None] if None not in flat else []


def _json(text: str, otherwise: Any) -> Any:
    try:
        return from_json(text)
    except ValueError:
        return otherwise
