"""Tool calls and log probabilities as Ollama's native API writes them.

Source: Ollama's `api/types.go` (ToolCall, ToolCallFunction, Logprob): the arguments are an object, not text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mamba_nb.testing.tokens import logprob_of

__all__ = ["call_of", "logprobs_of"]


def call_of(part: Mapping[str, Any]) -> dict[str, Any]:
    """A whole tool call of an OpenAI delta in the native form."""
    function = part["function"]
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        arguments = {}
    call = {"function": {"index": part["index"], "name": function["name"], "arguments": arguments}}
    return {"id": part["id"], **call} if part.get("id") else call


def logprobs_of(delta: Mapping[str, Any], asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The log probabilities of a token, where they were asked for."""
    if not asked.get("logprobs") or "content" not in delta:
        return []
    top = asked.get("top_logprobs")
    entry = logprob_of(delta["content"], top if isinstance(top, int) else 0)
    return [entry if entry["top_logprobs"] else {k: v for k, v in entry.items() if k != "top_logprobs"}]
