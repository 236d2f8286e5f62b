"""Tools the caller chooses: any tool required, one tool named, several calls in one answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mamba_nb.probes.asking import Asker
from mamba_nb.probes.capability import Capability
from mamba_nb.probes.findings import Finding
from mamba_nb.probes.judging import nothing_to_judge, quoted, refused
from mamba_nb.probes.replies import Reply
from mamba_nb.probes.tools import CLOCK, MOST_TOKENS, TOOLS, WEATHER, called_city, refused_tools

__all__ = ["CAPABILITIES", "judge_named", "judge_parallel", "judge_required"]

NO_NEED = "Say hello."  # a question that needs no tool: only the choice can bring a call
BOTH = (
    "What is the weather in Paris and in Tokyo? Look up both cities at once.",
    "Call the weather function twice in one answer, for Paris and for Tokyo.",
)
NO_CHOICE = re.compile(r"tool_choice", re.IGNORECASE)
NO_PARALLEL = re.compile(r"parallel.{0,20}tool|single tool.call|one tool.call", re.IGNORECASE)


def _settled(found: Mapping[str, Finding]) -> Finding | None:
    """What follows where the server refused tools altogether, so that nothing needs to be asked."""
    tools = found.get("tools")
    if tools is not None and tools.verdict == "no" and tools.why.startswith("The server refused"):
        return Finding("no", "The server refuses tools.", fact=False)
    return None


async def _required(asker: Asker, found: Mapping[str, Finding]) -> Finding:
    if (settled := _settled(found)) is not None:
        return settled
    return judge_required(await asker.chat(NO_NEED, max_tokens=MOST_TOKENS, tools=TOOLS, tool_choice="required"))


async def _named(asker: Asker, found: Mapping[str, Finding]) -> Finding:
    if (settled := _settled(found)) is not None:
        return settled
    choice = {"type": "function", "function": {"name": CLOCK}}
    question = "What is the weather in Paris right now?"
    return judge_named(await asker.chat(question, max_tokens=MOST_TOKENS, tools=TOOLS, tool_choice=choice))


async def _parallel(asker: Asker, found: Mapping[str, Finding]) -> Finding:
    if (settled := _settled(found)) is not None:
        return settled
    tools = found.get("tools")
    if tools is not None and tools.verdict == "no":
        return Finding("no", "The model called no tool at all.", fact=False)
    replies: list[Reply] = []
    for prompt in BOTH:
        replies.append(await asker.chat(prompt, max_tokens=2 * MOST_TOKENS, tools=TOOLS))
        finding = judge_parallel(replies)
        if finding.verdict == "yes" or replies[-1].error is not None:
            break
    return finding


def judge_required(reply: Reply) -> Finding:
    """Whether `tool_choice: required` brought a call where nothing else would."""
    if (finding := _refusal(reply, "tool_choice: required")) is not None:
        return finding
    if reply.tool_calls:
        return Finding("yes", f"With `required` it called {quoted(reply.tool_calls[0].name, 40)}.")
    return Finding("no", f"With `required` it called nothing and answered {quoted(reply.text, 40)}: it is ignored.")


def judge_named(reply: Reply) -> Finding:
    """Whether a tool named in `tool_choice` was called where another one would be."""
    if (finding := _refusal(reply, "a tool named in tool_choice")) is not None:
        return finding
    names = [call.name for call in reply.tool_calls]
    if names and set(names) == {CLOCK}:
        return Finding("yes", f"It called {CLOCK}, the tool that was named, for a question about the weather.")
    if names:
        return Finding("no", f"It called {quoted(names[0], 40)} and not {CLOCK}, the tool that was named.")
    return Finding("no", f"It called nothing, though {CLOCK} was named: the choice is ignored.")


def judge_parallel(replies: Sequence[Reply]) -> Finding:
    """Whether one answer held the two calls that were asked for."""
    for reply in replies:
        if (refusal := refused_tools(reply)) is not None:
            return refusal
        if refused(reply, NO_PARALLEL):
            return Finding("no", f"The server refused several calls: {quoted(reply.says)}.", fact=False)
        cities = {called_city(reply, WEATHER, place) for place in range(len(reply.tool_calls))}
        if {"paris", "tokyo"} <= cities:
            return Finding("yes", f"One answer held {len(reply.tool_calls)} calls, for both cities.", fact=True)
    for reply in replies:
        if (nothing := nothing_to_judge(reply)) is not None:
            return nothing
    calls = max(len(reply.tool_calls) for reply in replies)
    if calls > 1:
        return Finding("partly", f"One answer held {calls} calls, and not those that were asked for.", fact=True)
    held = "one call" if calls else "no call"
    return Finding("no", f"Asked for two calls at once, no answer held more than {held}.", fact=False)


def _refusal(reply: Reply, what: str) -> Finding | None:
    if (refusal := refused_tools(reply)) is not None:
        return refusal
    if refused(reply, NO_CHOICE):
        return Finding("no", f"The server refused {what}: {quoted(reply.says)}.")
    return nothing_to_judge(reply)


CAPABILITIES = (
    Capability(
        name="tools_required",
        title="tool_choice: required",
        group="tools",
        ask=_required,
        requests=1,
        tokens=280,
        param="tool_choice",
    ),
    Capability(
        name="tools_named",
        title="tool_choice: a named tool",
        group="tools",
        ask=_named,
        requests=1,
        tokens=280,
        param="tool_choice",
    ),
    Capability(
        name="tools_parallel",
        title="several calls at once",
        group="tools",
        ask=_parallel,
        requests=2,
        tokens=2 * 300,
        field="supports_parallel_tools",
        param="parallel_tool_calls",
    ),
)
