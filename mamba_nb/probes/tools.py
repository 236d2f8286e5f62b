"""Tools left to the model: whether it calls the right one with valid arguments, and whether the server sees the call.

Three ways to ask, since small models miss one and follow another. A call that comes back as plain text is told as that:
the model can, and the server's parser did not recognise it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json

from mamba_nb.backends._call_as_text import calls_in_text
from mamba_nb.probes.asking import Asker
from mamba_nb.probes.capability import Capability
from mamba_nb.probes.findings import Finding
from mamba_nb.probes.judging import nothing_to_judge, quoted, refused
from mamba_nb.probes.replies import Reply
from mamba_nb.records import ToolCall

__all__ = [
    "CAPABILITIES",
    "NO_TOOLS",
    "TOOLS",
    "WEATHER",
    "arguments_of",
    "called_city",
    "judge_tools",
    "refused_tools",
]

WEATHER, CLOCK = "get_weather", "get_local_time"


def _tool(name: str, description: str) -> dict[str, Any]:
    city = {"type": "string", "description": "Name of the city, such as Oslo."}
    schema = {"type": "object", "properties": {"city": city}, "required": ["city"]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TOOLS = (_tool(WEATHER, "Get the current weather in a city."), _tool(CLOCK, "Get the current local time in a city."))
PROMPTS = (
    "What is the weather in Paris right now?",
    "Use a tool to find out the weather in Paris.",
    "Call the right function: I want to know the current weather in Paris.",
)
MOST_TOKENS = 96
# Ollama: server/routes.go and server/images.go. vLLM: entrypoints/openai/chat_completion/serving.py. llama.cpp:
# tools/server/server-common.cpp.
NO_TOOLS = re.compile(
    r"does not support tools|requires --enable-auto-tool-choice|requires --tool-call-parser|requires --jinja"
    r"|tools? (are|is) not supported|not support.{0,30}(tool|function)",
    re.IGNORECASE | re.DOTALL,
)


async def _tools(asker: Asker, _found: Mapping[str, Finding]) -> Finding:
    replies: list[Reply] = []
    for prompt in PROMPTS:
        replies.append(await asker.chat(prompt, max_tokens=MOST_TOKENS, tools=TOOLS))
        finding = judge_tools(replies)
        if finding.verdict == "yes" or replies[-1].error is not None:
            break
    return finding


def judge_tools(replies: Sequence[Reply]) -> Finding:
    """What the best of the answers shows: a right call, a wrong one, a call as text, or none."""
    for reply in replies:
        if (refusal := refused_tools(reply)) is not None:
            return refusal
    answered = [reply for reply in replies if nothing_to_judge(reply) is None]
    for reply in answered:
        if called_city(reply, WEATHER) == "paris":
            return Finding("yes", f"It called {WEATHER} with {quoted(_call(reply).arguments, 60)}.", fact=True)
    for reply in answered:
        if calls := calls_in_text(reply.text, [WEATHER, CLOCK]):
            return Finding(
                "partly",
                f"It wrote the call of {calls[0].name} as plain text, {quoted(reply.text, 80)}: the server's parser "
                "did not recognise it. A parser that fits the model, or tools in the prompt, would make it work.",
                value="calls as text",
                fact=False,
            )
    for reply in answered:
        if reply.tool_calls:
            call = _call(reply)
            what = f"with {quoted(call.arguments, 60)}" if call.name == WEATHER else "instead"
            return Finding(
                "partly",
                f"It calls tools, and not the right way: asked for the weather in Paris, it called "
                f"{quoted(call.name, 40)} {what}.",
                value="wrong calls",
                fact=True,
            )
    for reply in replies:
        if (nothing := nothing_to_judge(reply)) is not None:
            return nothing
    return Finding(
        "no",
        f"Asked {len(replies)} ways, it called no tool and answered in text: {quoted(replies[-1].text, 60)}.",
        fact=False,
    )


def refused_tools(reply: Reply) -> Finding | None:
    """`no`, with the server's words, where it refused tools; else None."""
    if not refused(reply, NO_TOOLS):
        return None
    hint = f" {reply.error.hint}" if reply.error is not None and reply.error.hint else ""
    return Finding("no", f"The server refused tools: {quoted(reply.says)}.{hint}", fact=False)


def called_city(reply: Reply, name: str, place: int = 0) -> str | None:
    """The city in the arguments of a reply's call to a tool of that name, in lower case; None for any other call."""
    if place >= len(reply.tool_calls) or reply.tool_calls[place].name != name:
        return None
    city = arguments_of(reply.tool_calls[place]).get("city")
    return city.strip().lower().partition(",")[0] if isinstance(city, str) else None


def arguments_of(call: ToolCall) -> Mapping[str, Any]:
    """A call's arguments; empty where they are no JSON object."""
    try:
        value = from_json(call.arguments)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _call(reply: Reply) -> ToolCall:
    return reply.tool_calls[0]


CAPABILITIES = (
    Capability(
        name="tools",
        title="tools",
        group="tools",
        ask=_tools,
        requests=3,
        tokens=3 * 280,
        field="supports_tools",
        param="tools",
    ),
)
