"""What an agent did, as HTML and as text: its answer, then each step with its tool calls as cards.

In go an `AgentResult` or a conversation, out come strings. A model wrote the answer and the arguments, and tools
brought the results from wherever they look: all of it is escaped, Markdown is cleaned, and what is very long is cut.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from mamba_nb.display import markdown, style
from mamba_nb.display.html import page
from mamba_nb.display.pieces import SEPARATOR, left_out, named, note, scrolls, state_mark, text_block
from mamba_nb.display.text import UNKNOWN, count, duration, esc, figure, one_line, visible

if TYPE_CHECKING:
    from mamba_nb._agent.conversation import AgentConversation
    from mamba_nb._agent.result import AgentResult, AgentStep, AgentUsage, ToolUse

__all__ = ["conversation", "conversation_text", "result", "result_text"]

MOST_CHARS = 20_000  # of one argument, result or answer
MOST_MEMBERS = 50  # of one mapping
OPEN_CHARS = 400  # a card with no more in it than this is open
LINE_CHARS = 80  # of a card's title
MODES = {"native": "native schema", "tool": "output tool", "prompted": "schema in the prompt"}


def result(record: AgentResult[Any]) -> str:
    """A result as HTML, complete in itself."""
    return page(_run(record))


def result_text(record: AgentResult[Any]) -> str:
    """A result as plain text: the answer, a line for each call, what to know, and what it took."""
    lines = [visible(_plain(record.output)) if record.status == "done" else record.status]
    if record.error is not None:
        lines.append(f"{style.mark('failed')[0]} {visible(record.error)}")
    lines += [f"  step {call.step}: {one_line(str(call))}" for call in record.tool_calls]
    lines += [f"{style.mark('warning')[0]} {one_line(warning)}" for warning in record.warnings]
    return "\n".join([*lines, " · ".join(record.figures())])


def conversation(talk: AgentConversation[Any]) -> str:
    """A conversation as HTML: each question over its answer."""
    results = talk.results
    if not results:
        return page('<div class="mn-quiet">Nothing has been asked yet: talk.ask("...").</div>')
    return page("".join(f'<div class="mn-turn">{_asked(record)}{_run(record)}</div>' for record in results))


def conversation_text(talk: AgentConversation[Any]) -> str:
    """A conversation as plain text."""
    turns = [f"> {one_line(_prompt(record))}\n{result_text(record)}" for record in talk.results]
    return "\n\n".join([repr(talk), *turns])


# one run


def _run(record: AgentResult[Any]) -> str:
    last = record.generations[-1] if record.generations else None
    model, server = (last.model, last.server) if last is not None else ("agent", "")
    where = f' <span class="mn-quiet">·&nbsp;{named(server)}</span>' if server else ""
    steps = record.steps
    alone = len(steps) == 1 and not record.tool_calls and not record.refusals and record.status == "done"
    shown = _thinking(steps[0]) if alone else "".join(_step(step, record) for step in steps)
    said = [("failed" if record.status == "failed" else "stopped", record.error)] if record.error else []
    said += [("warning", warning) for warning in record.warnings]
    below = "".join(note(kind, text) for kind, text in said)
    label = f"an agent's run on {one_line(model, LINE_CHARS)}"
    return f"""\
<div class="mn-run {style.model_class(0)}" role="group" aria-label="{esc(label)}">
<div class="mn-run-head"><div class="mn-name"><b>{named(model)}</b>{where}</div>
<div class="mn-state">{state_mark(record.status)} {record.status}</div></div>
<div class="mn-figures">{_figures(record)}</div>
{_answer(record)}
<div class="mn-steps">{shown}</div>
<div class="mn-notes">{below}</div>
</div>
"""


def _figures(record: AgentResult[Any]) -> str:
    usage: AgentUsage = record.usage
    shown = [f"<span>steps <b>{count(usage.requests)}</b></span>"]
    if usage.tool_calls or record.tools_mode is not None:
        how = ' <b title="as text, held to a schema">in the prompt</b>' if record.tools_mode == "prompted" else ""
        shown.append(f"<span>tool calls <b>{count(usage.tool_calls)}</b>{how}</span>")
    for label, value in (("tokens in", usage.prompt_tokens), ("tokens out", usage.completion_tokens)):
        known = f"<b>{count(value)}</b>" if value is not None else _unknown("the server did not count every answer")
        shown.append(f"<span>{label} {known}</span>")
    if record.took_s is not None:
        shown.append(f"<span>time <b>{_time(record.took_s)}</b></span>")
    if record.output_mode in MODES:
        why = f' title="{esc(record.output_why)}"' if record.output_why else ""
        shown.append(f'<span class="mn-end"{why}>output <b>{MODES[record.output_mode]}</b></span>')
    return f"{SEPARATOR}\n".join(shown)


def _unknown(why: str) -> str:
    return f'<b title="{esc(why)}">{UNKNOWN}</b>'


def _time(seconds: float) -> str:
    return duration(1000 * seconds) if seconds < 1 else f"{figure(seconds)} s"


def _answer(record: AgentResult[Any]) -> str:
    if record.status != "done":
        return ""
    output = record.output
    if isinstance(output, str):
        inner = f'<div class="mn-md">{markdown.html(output[:MOST_CHARS])}</div>{left_out(output, MOST_CHARS)}'
        reach = scrolls(output, "answer")
        return f'<div class="mn-run-answer"{reach}>{inner if output.strip() else _nothing()}</div>'
    data = _data(output)
    name = f'<div class="mn-quiet">{esc(type(output).__name__)}</div>' if not isinstance(output, dict | list) else ""
    return f'<div class="mn-run-answer">{name}{_members(data) if isinstance(data, Mapping) else _value(data)}</div>'


def _nothing() -> str:
    return '<div class="mn-quiet">No visible text came.</div>'


def _step(step: AgentStep, record: AgentResult[Any]) -> str:
    generation, timing = step.generation, step.timing
    parts = []
    if generation.ttft_ms is not None:
        parts.append(f"TTFT {duration(generation.ttft_ms)}")
    if timing.completion_tokens is not None:
        parts.append(f"{count(timing.completion_tokens)} token{'' if timing.completion_tokens == 1 else 's'}")
    if timing.latency_s is not None:
        parts.append(_time(timing.latency_s))
    if timing.tools_s is not None:
        parts.append(f"tools {_time(timing.tools_s)}")
    if generation.status != "done":
        parts.append(f"{state_mark(generation.status)} {generation.status}")
    is_last = step.step == len(record.generations) and record.status == "done"
    text = "" if is_last or not generation.text.strip() else _block(generation.text, "what the model said before")
    refused = note("warning", f"Sent back: {one_line(step.refused, 600)}") if step.refused else ""
    return (
        f'<div class="mn-step"><div class="mn-step-head"><b>Step {step.step}</b> '
        f'<span class="mn-quiet">{" · ".join(parts)}</span></div>\n'
        f"{_thinking(step)}{text}{''.join(map(_card, step.tool_calls))}"
        f'<div class="mn-notes">{refused}</div></div>\n'
    )


def _thinking(step: AgentStep) -> str:
    reasoning, usage = step.generation.reasoning, step.generation.usage
    if not reasoning:
        return ""
    tokens = usage.reasoning_tokens if usage is not None else None
    size = f"{count(tokens)} tokens" if tokens else f"{count(len(reasoning))} characters"
    return f'<details class="mn-think"><summary>thinking ({size})</summary>{_block(reasoning, "thinking")}</details>'


# a call


def _card(call: ToolUse) -> str:
    failed = call.error is not None
    state = "failed" if failed else "done" if call.took_s is not None else "stopped"
    took = _time(call.took_s) if call.took_s is not None else "no result"
    given = call.arguments
    if isinstance(given, Mapping):
        title = f"{call.name}({', '.join(f'{name}={_plain_value(value)}' for name, value in given.items())})"
    else:
        title = f"{call.name}({given})"
    arguments = _members(given) if isinstance(given, Mapping) else _block(given, "arguments")
    outcome = _plain(call.error if failed else call.result)
    label = "sent back" if failed and call.valid is False else "failed" if failed else "result"
    shown = _block(outcome, label)
    size = len(outcome) + (len(str(given)) if given else 0)
    rows = f'<div class="mn-quiet">arguments</div><div>{arguments}</div>' if given else ""
    if call.took_s is not None or failed:
        rows += f'<div class="mn-quiet">{label}</div><div>{shown}</div>'
    return (
        f'<details class="mn-card"{" open" if size <= OPEN_CHARS else ""}>'
        f"<summary>{state_mark(state)} <code>{esc(one_line(title, LINE_CHARS))}</code>"
        f'<span class="mn-hidden"> {state}</span> <span class="mn-card-time">{took}</span></summary>'
        f'<div class="mn-card-rows">{rows}</div></details>\n'
    )


# values


def _members(data: Mapping[Any, Any]) -> str:
    if not data:
        return '<span class="mn-quiet">none</span>'
    shown = islice(data.items(), MOST_MEMBERS)
    rows = "".join(f"<dt>{named(str(key), LINE_CHARS)}</dt><dd>{_value(value)}</dd>" for key, value in shown)
    more = len(data) - MOST_MEMBERS
    rest = f'<div class="mn-quiet">… {count(more)} more</div>' if more > 0 else ""
    return f'<dl class="mn-members">{rows}</dl>{rest}'


def _value(value: Any) -> str:
    return _block(_plain(value), "value")


def _block(text: str, label: str) -> str:
    return text_block(text, label, MOST_CHARS)


def _plain(value: Any) -> str:
    """The value as people read it: text as it is, data as JSON, other things by their repr."""
    if isinstance(value, str):
        return value
    data = _data(value)
    if isinstance(data, Mapping | list | tuple | bool) or data is None:
        try:
            return json.dumps(data, ensure_ascii=False, indent=2 if len(repr(data)) > LINE_CHARS else None)
        except (TypeError, ValueError):
            return repr(value)
    return str(data) if isinstance(data, int | float) else repr(value)


def _plain_value(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return repr(value)


def _data(value: Any) -> Any:
    """A pydantic model or a dataclass as data; other values as they are."""
    try:
        if hasattr(value, "model_dump"):
            return value.model_dump(mode="json")
        if is_dataclass(value) and not isinstance(value, type):
            return asdict(value)
    except Exception:  # a user's own class may refuse
        return value
    return value


# a question


def _asked(record: AgentResult[Any]) -> str:
    prompt = _prompt(record)
    if not prompt:
        return ""
    return f'<div class="mn-asked"><div class="mn-quiet">asked</div>{_block(prompt, "question")}</div>'


def _prompt(record: AgentResult[Any]) -> str:
    """The question of a run; images are named, not shown."""
    for message in record.new_messages:
        for part in message.parts:
            if part.part_kind == "user-prompt":
                content = part.content
                pieces = [content] if isinstance(content, str) else content
                return " ".join(piece if isinstance(piece, str) else "[image]" for piece in pieces)
    return ""
