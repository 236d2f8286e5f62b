"""A script as vLLM plays it: tools that are called for, answers of a given shape, stop words, the context's end.

In: a script and the request. Out: the script that is played.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any
from zlib import crc32

from mamba_nb.testing.log import last_user_text
from mamba_nb.testing.script import Script, split_pieces
from mamba_nb.testing.styles.vllm_checks import schema_of, tool_names
from mamba_nb.testing.styles.vllm_schemas import sample
from mamba_nb.testing.styles.vllm_shapes import context_of, prompt_tokens
from mamba_nb.testing.tokens import deltas_of

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer


@dataclass(frozen=True, kw_only=True)
class Stopped(Script):
    """A script that a stop word cut; the word is `stop_reason` in the answer."""

    stopped_by: str | None = None


def play(server: ScriptedServer, script: Script, body: Mapping[str, Any], model: str) -> Script:
    """The script as it is played for this request."""
    if script.echo:
        script = replace(script, echo=False, text=split_pieces(last_user_text(body)))
    options = body.get("stream_options")
    if script.usage == "last" and isinstance(options, Mapping) and options.get("continuous_usage_stats"):
        script = replace(script, usage="each")
    prompt = prompt_tokens(body) if script.prompt_tokens is None else script.prompt_tokens
    script = replace(script, prompt_tokens=prompt)
    script = _cut(_stopped(_shaped(_calling(script, body), body), body), server, body, context_of(server, model))
    server.state["prompt_tokens"] += prompt
    server.state["generation_tokens"] += _length(script, server, body)
    return script


def _calling(script: Script, body: Mapping[str, Any]) -> Script:
    """A call is made where one is asked for; none where tools are forbidden."""
    tools, wanted = tool_names(body.get("tools")), body.get("tool_choice")
    if wanted == "none" and script.tool_calls:
        return replace(script, tool_calls=(), text=script.text or None)
    script = replace(script, tool_calls=_with_ids(script.tool_calls))
    named = isinstance(wanted, Mapping)
    if not tools or not (named or wanted == "required"):
        return script
    name = wanted["function"]["name"] if isinstance(wanted, Mapping) else next(iter(tools))
    calls = script.tool_calls or [{"name": name, "arguments": sample(tools[name]) or {}}]
    # Recorded: a call that was named ends with `stop`, one that was only required with `tool_calls`.
    return replace(
        script, text=(), tool_calls=_with_ids(calls), finish_reason="stop" if named else script.finish_reason
    )


def _with_ids(calls: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The calls with ids as vLLM makes them, where the script gives none."""
    return [
        {"id": f"chatcmpl-tool-{crc32(repr((place, call)).encode()):016x}", **call} for place, call in enumerate(calls)
    ]


def _shaped(script: Script, body: Mapping[str, Any]) -> Script:
    """An answer of the shape asked for, unless the script has one already."""
    outputs = body.get("structured_outputs")
    choices = outputs.get("choice") if isinstance(outputs, Mapping) else None
    text = "".join(script.text or ())
    if isinstance(choices, list) and choices and text not in choices:
        return replace(script, text=(str(choices[0]),))
    schema = schema_of(body)
    if schema is None or script.tool_calls:
        return script
    try:
        json.loads(text)
    except ValueError:
        return replace(script, text=split_pieces(json.dumps(sample(schema))))
    return script


def _stopped(script: Script, body: Mapping[str, Any]) -> Script:
    words = body.get("stop")
    words = [words] if isinstance(words, str) else words if isinstance(words, list) else []
    text = "".join(script.text or ())
    places = [(text.find(word), word) for word in words if isinstance(word, str) and word and word in text]
    if not places:
        return script
    end, word = min(places)
    kept, at = [], 0
    for piece in script.text or ():
        if at < end:
            kept.append(piece[: end - at])
        at += len(piece)
    parts = {field.name: getattr(script, field.name) for field in fields(script)}
    return Stopped(**{**parts, "text": tuple(kept), "finish_reason": "stop"}, stopped_by=word)


def _cut(script: Script, server: ScriptedServer, body: Mapping[str, Any], most: int) -> Script:
    """Where max_tokens or the context ends the answer, the finish reason rides on the last token."""
    if not script.obey_max_tokens or script.fault is not None:
        return script
    length = sum(1 for _ in deltas_of(script, server.style, body))
    room = most - (script.prompt_tokens or 0)
    asked = body.get("max_tokens") or body.get("max_completion_tokens")
    if isinstance(asked, int) and 0 < asked < min(length, room):
        return replace(script, finish_with_last_token=True)
    if 0 < room < length and not script.tool_calls:
        left = max(0, room - len(script.reasoning))
        return replace(script, text=(script.text or ())[:left], finish_reason="length", finish_with_last_token=True)
    return script


def _length(script: Script, server: ScriptedServer, body: Mapping[str, Any]) -> int:
    length = sum(1 for _ in deltas_of(script, server.style, body))
    asked = body.get("max_tokens") or body.get("max_completion_tokens")
    return min(length, asked) if isinstance(asked, int) and asked > 0 else length
