"""Smaller things to ask of a request: log probabilities, several answers at once, and a limit that holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mamba_nb.probes.asking import Asker
from mamba_nb.probes.capability import Capability
from mamba_nb.probes.findings import Finding
from mamba_nb.probes.judging import nothing_to_judge, quoted, refused
from mamba_nb.probes.replies import Reply

__all__ = ["CAPABILITIES", "judge_limit", "judge_logprobs", "judge_several"]

PROMPT = "Name a colour."
LONG_PROMPTS = ("Write a long story about a ship.", "List as many animals as you can, one a line.")
LIMIT = 48
NO_LOGPROBS = re.compile(r"logprobs", re.IGNORECASE)
NO_SEVERAL = re.compile(r"\bn\b|n_cmpl|number of (choices|completions)|multiple (choices|completions)", re.IGNORECASE)
NO_LIMIT = re.compile(r"max_tokens|max_completion_tokens", re.IGNORECASE)


async def _logprobs(asker: Asker, _found: Mapping[str, Finding]) -> Finding:
    return judge_logprobs(await asker.chat(PROMPT, max_tokens=4, logprobs=True, top_logprobs=2))


async def _several(asker: Asker, _found: Mapping[str, Finding]) -> Finding:
    return judge_several(await asker.chat(PROMPT, max_tokens=8, temperature=1.0, n=2))


async def _limit(asker: Asker, _found: Mapping[str, Finding]) -> Finding:
    for prompt in LONG_PROMPTS:
        reply = await asker.chat(prompt, max_tokens=LIMIT, exact=True)
        finding = judge_limit(reply, LIMIT)
        if finding.verdict != "unknown" or reply.error is not None:
            break
    return finding


def judge_logprobs(reply: Reply) -> Finding:
    """Whether each token came with its log probability."""
    if refused(reply, NO_LOGPROBS):
        return Finding("no", f"The server refused `logprobs`: {quoted(reply.says)}.")
    if reply.error is not None:
        return nothing_to_judge(reply) or Finding("unknown", reply.says)
    entries = [
        entry for entry in reply.logprobs or () if isinstance(entry, Mapping) and _is_number(entry.get("logprob"))
    ]
    if not entries:
        return Finding("no", "The server answered without the log probabilities that were asked for.")
    if not any(entry.get("top_logprobs") for entry in entries):
        return Finding("partly", f"{len(entries)} tokens came with log probabilities, without alternatives.")
    return Finding("yes", f"{len(entries)} tokens came with log probabilities and their alternatives.")


def judge_several(reply: Reply) -> Finding:
    """Whether one request with n=2 gave two answers."""
    if refused(reply, NO_SEVERAL):
        return Finding("no", f"The server refused n=2: {quoted(reply.says)}.")
    if reply.error is not None:
        return nothing_to_judge(reply) or Finding("unknown", reply.says)
    if reply.choices >= 2:
        return Finding("yes", f"n=2 gave {reply.choices} answers.")
    return Finding("no", "n=2 gave one answer: the server ignores `n`.")


def judge_limit(reply: Reply, limit: int) -> Finding:
    """Whether an answer that had more to say ended at `max_tokens`."""
    if refused(reply, NO_LIMIT):
        return Finding("no", f"The server refused max_tokens={limit}: {quoted(reply.says)}.")
    if reply.error is not None:
        return nothing_to_judge(reply) or Finding("unknown", reply.says)
    tokens = reply.completion_tokens
    if tokens is not None and tokens > limit + 1:
        return Finding("no", f"max_tokens={limit} gave an answer of {tokens:,} tokens.")
    if not reply.cut:
        return Finding("unknown", f"The answer ended by itself before {limit} tokens.")
    if tokens is None:
        return Finding("yes", f"The answer ended at max_tokens={limit}, by its finish reason; tokens were not counted.")
    if tokens < limit - 1:
        return Finding("partly", f"The answer was cut at {tokens:,} tokens, below max_tokens={limit}.", value=tokens)
    return Finding("yes", f"The answer ended at exactly {tokens:,} of max_tokens={limit}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


CAPABILITIES = (
    Capability(
        name="max_tokens",
        title="max_tokens is kept",
        group="sampling",
        ask=_limit,
        requests=2,
        tokens=180,
        param="max_tokens",
    ),
    Capability(
        name="logprobs",
        title="log probabilities",
        group="sampling",
        ask=_logprobs,
        requests=1,
        tokens=40,
        param="logprobs",
    ),
    Capability(
        name="n", title="several answers at once", group="sampling", ask=_several, requests=1, tokens=50, param="n"
    ),
)
