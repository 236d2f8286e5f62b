"""Tools for a model whose template has none: the choice of a tool is a reply held to a JSON schema.

In goes the body of a chat request that has `tools`; out comes a request that has none. The tools stand in the system
message, calls and results in the history are plain messages, and the schema leaves the model exactly these replies:

    {"tool": "get_weather", "arguments": {"city": "Paris"}}
    {"answer": "It rains."}                  or an object, where the answer has a schema of its own

`prompted_replies.read` turns the reply back into a call or an answer. Everything here is written for the smallest
models, and its words were chosen by what a model of 135 million parameters does with them: the tool's name comes first
and its arguments after it, each tool is shown as the very reply that calls it, one call a reply, and a call that was
answered already is not made again (`Prompted.repeats`). The caller then asks for an answer alone, in plain text where
the answer is text.

Dicts in, dicts out, in OpenAI's form. Nothing here knows an agent or a server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mamba_nb._agent.prompted_replies import Reply

__all__ = ["Prompted", "prompted"]

TEXT: Mapping[str, Any] = {"type": "string"}
HEAD = "You can use tools. Reply in JSON with one of these:"
ANSWER_ONLY = "Answer the question with the result of the tool."
ANSWER_ONLY_IN_JSON = "Answer the question with the result of the tool. Reply in JSON:"
CALLED = "I need the result of the tool."  # in place of a call, where there must be no more of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompted:
    """A request without tools that asks for a call or an answer.

    Attributes:
        messages: The conversation, tools, calls and results as plain text.
        response_format: The schema that the reply is held to; None where it is to be plain text.
        tools: The tools that may be called, by name.
        answer: The schema of the answer; None where only a call will do.
        made: The calls of this turn that have their result, as `_key` gives them.
    """

    messages: tuple[Mapping[str, Any], ...]
    response_format: Mapping[str, Any] | None
    tools: Mapping[str, Mapping[str, Any]]
    answer: Mapping[str, Any] | None
    made: frozenset[str] = field(default_factory=frozenset)

    @property
    def answers_in_text(self) -> bool:
        """Whether the answer is text, in JSON or plain."""
        return _is_text(self.answer)

    def repeats(self, reply: Reply) -> bool:
        """Whether the reply is a call that was made already, with the same arguments, and has its result."""
        return reply.tool is not None and self.answer is not None and _key(reply.tool, reply.arguments) in self.made


def prompted(body: Mapping[str, Any], *, answer_only: bool = False) -> Prompted:
    """Rewrite a chat request.

    Args:
        body: The request in OpenAI's form: `messages`, `tools`, and `tool_choice` and `response_format` where given.
        answer_only: Leave the model no tool: it has made all the calls it needs.
    """
    offered = {tool["function"]["name"]: tool["function"] for tool in body.get("tools") or ()}
    choice = body.get("tool_choice", "auto")
    answer: Mapping[str, Any] | None = _answer_schema(body.get("response_format"))
    if answer_only or choice == "none":
        offered = {}
    elif choice == "required":
        answer = None
    elif isinstance(choice, Mapping):
        wanted = choice["function"]["name"]
        offered, answer = {wanted: offered[wanted]}, None
    plain = not offered and _is_text(answer)
    system = ANSWER_ONLY if plain else _instructions(offered, answer)
    return Prompted(
        messages=tuple(_messages(body["messages"], system, answer, plain=plain)),
        response_format=None if plain else _response_format(offered, answer),
        tools=offered,
        answer=answer,
        made=_made(body["messages"]),
    )


# the system message


def _instructions(tools: Mapping[str, Mapping[str, Any]], answer: Mapping[str, Any] | None) -> str:
    lines = [HEAD if tools else ANSWER_ONLY_IN_JSON]
    for name, tool in tools.items():
        parameters = tool.get("parameters") or {}
        lines.append(f'{{"tool": {_json(name)}, "arguments": {_shape(parameters, parameters)}}}')
        if about := " ".join(str(tool.get("description") or "").split()):
            lines[-1] += f" - {about}"
        for parameter, schema in (parameters.get("properties") or {}).items():
            if schema.get("description"):
                lines.append(f"  {parameter}: {schema['description']}")
    if answer is not None:
        shape = '"..."' if _is_text(answer) else _shape(answer, answer)
        lines.append(f'{{"answer": {shape}}}' + (" - Answer the user." if tools else ""))
    return "\n".join(lines)


def _shape(schema: Mapping[str, Any], root: Mapping[str, Any], inside: tuple[str, ...] = ()) -> str:
    """The schema as short text, types in place of values; `inside` are the references followed so far.

    With types, the smallest models fill in values of their own; sample values they copy.
    """
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        definition = (root.get("$defs") or {}).get(name)
        return "..." if definition is None or name in inside else _shape(definition, root, (*inside, name))
    if "const" in schema:
        return _json(schema["const"])
    if "enum" in schema:
        return "|".join(map(_json, schema["enum"]))
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return "|".join(dict.fromkeys(_shape(each, root, inside) for each in schema[key]))
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        members = (schema.get("properties") or {}).items()
        return "{" + ", ".join(f"{_json(name)}: {_shape(part, root, inside)}" for name, part in members) + "}"
    if kind == "array":
        return f"[{_shape(schema.get('items') or {}, root, inside)}]"
    return "|".join(kind) if isinstance(kind, list) else str(kind or "...")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# the schema


def _response_format(tools: Mapping[str, Mapping[str, Any]], answer: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "type": "json_schema",
        "json_schema": {"name": "reply", "strict": True, "schema": _schema(tools, answer)},
    }


def _schema(tools: Mapping[str, Mapping[str, Any]], answer: Mapping[str, Any] | None) -> dict[str, Any]:
    definitions: dict[str, Any] = {}
    shapes = []
    for name, tool in tools.items():
        parameters = _hoisted(tool.get("parameters") or {"type": "object", "properties": {}}, name, definitions)
        shapes.append(_object(tool={"const": name}, arguments=parameters))
    if answer is not None:
        shapes.append(_object(answer=_hoisted(answer, "answer", definitions)))
    schema: dict[str, Any] = dict(shapes[0]) if len(shapes) == 1 else {"anyOf": shapes}
    if definitions:
        schema["$defs"] = definitions
    return schema


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _hoisted(schema: Mapping[str, Any], prefix: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema with its `$defs` moved to the root that it will stand under, where its references look for them."""

    def moved(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {
                key: f"#/$defs/{prefix}.{part[8:]}"
                if key == "$ref" and isinstance(part, str) and part.startswith("#/$defs/")
                else moved(part)
                for key, part in value.items()
            }
        return [moved(part) for part in value] if isinstance(value, list) else value

    for name, definition in (schema.get("$defs") or {}).items():
        definitions[f"{prefix}.{name}"] = moved(definition)
    return {key: moved(value) for key, value in schema.items() if key not in ("$defs", "$schema")}


def _answer_schema(response_format: Any) -> Mapping[str, Any]:
    if isinstance(response_format, Mapping):
        if response_format.get("type") == "json_schema":
            schema: Mapping[str, Any] = response_format["json_schema"]["schema"]
            return schema
        if response_format.get("type") == "json_object":
            return {"type": "object"}
    return TEXT


def _is_text(answer: Mapping[str, Any] | None) -> bool:
    return answer is not None and answer.get("type") == "string"


# the conversation


def _messages(
    messages: Sequence[Mapping[str, Any]], system: str, answer: Mapping[str, Any] | None, *, plain: bool
) -> Iterator[Mapping[str, Any]]:
    """System message first, then user and assistant by turns, as strict templates want it."""
    heads = [_text(message) for message in messages if message["role"] in ("system", "developer")]
    yield {"role": "system", "content": "\n\n".join([*heads, system])}
    names: dict[str, str] = {}
    held: dict[str, Any] | None = None
    for message in messages:
        if message["role"] in ("system", "developer"):
            continue
        told = _told(message, names, answer, plain=plain)
        if held is not None and held["role"] == told["role"] and _both_text(held, told):
            held["content"] += "\n\n" + told["content"]
            continue
        if held is not None:
            yield held
        held = told
    if held is not None:
        yield held


def _told(
    message: Mapping[str, Any], names: dict[str, str], answer: Mapping[str, Any] | None, *, plain: bool
) -> dict[str, Any]:
    role = message["role"]
    if role == "tool":
        name = names.get(message.get("tool_call_id", ""), "the tool")
        return {"role": "user", "content": f"Result of {name}: {_text(message)}"}
    if role != "assistant":
        return dict(message)
    calls = message.get("tool_calls") or ()
    replies = []
    if text := _text(message):
        in_json = not plain and not calls
        replies.append(_json({"answer": text if _is_text(answer) else _parsed(text)}) if in_json else text)
    for call in calls:
        made = call["function"]
        names[call["id"]] = made["name"]
        if not plain:
            replies.append(_json({"tool": made["name"], "arguments": _parsed(made["arguments"])}))
    if calls and plain:
        replies.append(CALLED)
    return {"role": "assistant", "content": "\n".join(replies)}


def _both_text(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return isinstance(one["content"], str) and isinstance(other["content"], str)


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content)
    return content or ""


# calls that were made, and replies


def _made(messages: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """The calls since the user last spoke that have a result; one that was sent back to be mended does not count."""
    calls: dict[str, str] = {}
    made: set[str] = set()
    for message in messages:
        if message["role"] == "user":
            calls, made = {}, set()
        for call in message.get("tool_calls") or ():
            calls[call["id"]] = _key(call["function"]["name"], call["function"]["arguments"])
        if message["role"] == "tool" and message.get("tool_call_id") in calls and not _is_error(_text(message)):
            made.add(calls[message["tool_call_id"]])
    return frozenset(made)


def _is_error(text: str) -> bool:
    """Whether a tool's result is pydantic-ai's note that the call failed or has to be made again."""
    value = _parsed(text)
    return isinstance(value, Mapping) and list(value) == ["error"]


def _key(tool: str, arguments: str) -> str:
    return json.dumps([tool, _parsed(arguments)], sort_keys=True)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
