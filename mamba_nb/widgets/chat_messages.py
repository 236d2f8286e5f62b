"""Conversations in the forms they come in: OpenAI's messages cut into turns, and turned into pydantic-ai's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mamba_nb._agent.input import content_from
from mamba_nb.backends._prompt import messages_from
from mamba_nb.display.text import one_line
from mamba_nb.records import Message, text_of
from mamba_nb.widgets.chat_step import shown

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage

__all__ = ["calls_of", "cut", "to_pydantic"]


def cut(given: Any) -> tuple[str | None, list[list[Message]]]:
    """A conversation as its system message and its turns; each turn begins with a question.

    Args:
        given: Messages in OpenAI's form.

    Returns:
        The text of the system messages, or None; and the messages of each turn. The first turn may have no question.

    Raises:
        BadInput: If these are no messages.
    """
    system: list[str] = []
    turns: list[list[Message]] = []
    for message in messages_from(given) if given else ():
        role = message["role"]
        if role in ("system", "developer"):
            system.append(text_of(message["content"]))
        elif role == "user" or not turns:
            turns.append([message])
        else:
            turns[-1].append(message)
    return "\n\n".join(system) or None, turns


def calls_of(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The calls of tools among a turn's messages, each with its result where there is one."""
    results = {message.get("tool_call_id"): text_of(message["content"]) for message in _of_role("tool", messages)}
    calls = []
    for message in _of_role("assistant", messages):
        for call in message.get("tool_calls") or ():
            function = call.get("function") or {}
            result = results.get(call.get("id"))
            calls.append(
                {
                    "id": call.get("id"),
                    "name": one_line(str(function.get("name", "")), 80),
                    "arguments": shown(function.get("arguments") or ""),
                    "result": None if result is None else shown(result),
                    "state": "done" if result is not None else "stopped",
                    "took": None,
                }
            )
    return calls


def to_pydantic(messages: Sequence[Message]) -> list[ModelMessage]:
    """Messages in OpenAI's form as pydantic-ai's, for an agent that goes on with them."""
    from pydantic_ai.messages import (
        ModelRequest,
        ModelResponse,
        SystemPromptPart,
        TextPart,
        ToolCallPart,
        ToolReturnPart,
        UserPromptPart,
    )

    made: list[ModelMessage] = []
    names: dict[Any, str] = {}
    for message in messages:
        role, content = message["role"], message.get("content")
        if role == "assistant":
            parts: list[Any] = [TextPart(text)] if (text := text_of(content)) else []
            for call in message.get("tool_calls") or ():
                function = call.get("function") or {}
                names[str(call.get("id") or "")] = function.get("name", "")
                parts.append(ToolCallPart(function.get("name", ""), function.get("arguments"), call.get("id")))
            if parts:
                made.append(ModelResponse(parts))
        elif role == "tool":
            call_id = str(message.get("tool_call_id") or "")
            made.append(ModelRequest([ToolReturnPart(names.get(call_id, ""), text_of(content), call_id)]))
        elif role in ("system", "developer"):
            made.append(ModelRequest([SystemPromptPart(text_of(content))]))
        else:
            made.append(ModelRequest([UserPromptPart(content_from(content, None) or "")]))
    return made


def _of_role(role: str, messages: Sequence[Message]) -> list[Mapping[str, Any]]:
    return [message for message in messages if message.get("role") == role]
