"""The longest answer: a limit far beyond any is asked for, and a server with one of its own names it.

The question has an answer of one word, and the connection is closed after a few pieces, so nothing long is generated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mamba_nb.errors import ContextOverflow
from mamba_nb.probes.asking import Asker
from mamba_nb.probes.capability import Capability
from mamba_nb.probes.findings import Finding
from mamba_nb.probes.judging import NO_REFUSAL, nothing_to_judge, quoted
from mamba_nb.probes.replies import Reply

__all__ = ["ASKED", "CAPABILITIES", "judge_output", "limit_in"]

PROMPT = "Say OK."
ASKED = 9_000_000
ENOUGH = 24  # pieces of the stream
NAMED = re.compile(r"max_tokens|max_completion_tokens|max_new_tokens|num_predict|output tokens", re.IGNORECASE)
# OpenAI, vLLM, Anthropic-like gateways, Mistral-like ones, TGI.
LIMITS = (
    re.compile(r"at most ([\d,]+) (?:completion|output) tokens"),
    re.compile(r"max_model_len=([\d,]+)"),
    re.compile(r"(?:less than or equal to|must be <=|<=|maximum (?:value|allowed)(?: is| of)?|up to) ?([\d,]+)", re.I),
    re.compile(r"[\[(]\s*\d+\s*,\s*([\d,]+)\s*[\])]"),
)


async def _output(asker: Asker, _found: Mapping[str, Finding]) -> Finding:
    return judge_output(await asker.chat(PROMPT, max_tokens=ASKED, stream=True, enough=ENOUGH, exact=True))


def judge_output(reply: Reply) -> Finding:
    """The limit that the server named, or that it took the number."""
    if reply.error is None:
        return Finding(
            "yes",
            f"The server took max_tokens={ASKED:,} and named no limit of its own; what the prompt leaves of the "
            "context is the limit.",
            value="the context",
        )
    if isinstance(reply.error, ContextOverflow) and reply.error.context:
        most = reply.error.context
        return Finding("yes", f"The server named its limit: {quoted(reply.says)}.", value=most, fact=most)
    if not isinstance(reply.error, NO_REFUSAL) and NAMED.search(reply.says):
        limit = limit_in(reply.says)
        if limit is not None:
            return Finding("yes", f"The server named its limit: {quoted(reply.says)}.", value=limit, fact=limit)
        return Finding("partly", f"The server has a limit and did not name it: {quoted(reply.says)}.")
    return nothing_to_judge(reply) or Finding("unknown", reply.says)


def limit_in(text: str) -> int | None:
    """The limit that a refusal names, or None.

    Examples:
        >>> limit_in("max_tokens is too large: 9000000. This model supports at most 16384 completion tokens")
        16384
        >>> limit_in("max_tokens is too large") is None
        True
    """
    for pattern in LIMITS:
        for match in pattern.finditer(text):
            limit = int(match[1].replace(",", "") or 0)
            if 0 < limit < ASKED:
                return limit
    return None


CAPABILITIES = (
    Capability(
        name="max_output",
        title="longest answer",
        group="output",
        ask=_output,
        requests=1,
        tokens=80,
        field="max_output_tokens",
        param="max_tokens",
    ),
)
