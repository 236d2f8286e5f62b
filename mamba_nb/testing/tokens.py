"""What each token of an answer puts into its chunk.

In: a script and the request. Out: one OpenAI `delta` a token, without the role.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from mamba_nb.testing.log import last_user_text
from mamba_nb.testing.script import Script, split_pieces
from mamba_nb.testing.styles.base import Style

__all__ = ["deltas_of", "halves", "logprob_of"]

LOGPROB = -0.25
ARGUMENT_PIECE = 8  # characters of a tool call's arguments in one chunk


def deltas_of(script: Script, style: Style, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The deltas of reasoning, text and tool calls, in that order."""
    where = script.reasoning_field or style.reasoning_field
    if script.reasoning:
        inline = where in ("think", "think_close_only")
        if where == "think":
            yield {"content": "<think>"}
        for piece in script.reasoning:
            yield {"content" if inline else where: piece}
        if inline:
            yield {"content": "</think>"}
    for piece in split_pieces(last_user_text(body)) if script.echo else script.text or ():
        yield {"content": piece}
    for index, call in enumerate(script.tool_calls):
        yield from _calldeltas_of(index, call, script.tool_call_style or style.tool_call_style)


def _calldeltas_of(index: int, call: Mapping[str, Any], how: str) -> Iterator[dict[str, Any]]:
    arguments = call.get("arguments", "{}")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    head: dict[str, Any] = {"index": index}
    if how != "no_ids":
        head["id"] = call.get("id") or f"call_{index}"
    head["type"] = "function"
    if how == "whole":
        yield {"tool_calls": [{**head, "function": {"name": call["name"], "arguments": text}}]}
        return
    yield {"tool_calls": [{**head, "function": {"name": call["name"], "arguments": ""}}]}
    for i in range(0, len(text), ARGUMENT_PIECE):
        yield {"tool_calls": [{"index": index, "function": {"arguments": text[i : i + ARGUMENT_PIECE]}}]}


def halves(delta: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The delta, or several that cut every character outside the basic plane into its two surrogates."""
    text = delta.get("content", "")
    if all(ord(char) < 0x10000 for char in text):
        yield delta
        return
    piece = ""
    for char in text:
        if ord(char) < 0x10000:
            piece += char
        else:
            code = ord(char) - 0x10000
            yield {"content": piece + chr(0xD800 + (code >> 10))}
            piece = chr(0xDC00 + (code & 0x3FF))
    yield {"content": piece}


def logprob_of(text: str, top: int) -> dict[str, Any]:
    """A token's entry in `logprobs.content`, with so many alternatives, itself the first."""

    def entry(token: str, logprob: float) -> dict[str, Any]:
        return {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", "surrogatepass"))}

    others = [entry(text, LOGPROB), *(entry(f"{text}~{k}", -(k + 1.0)) for k in range(1, top))][:top]
    return {**entry(text, LOGPROB), "top_logprobs": others}
