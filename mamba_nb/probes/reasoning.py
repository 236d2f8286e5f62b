"""Reasoning: whether the model thinks before it answers, and where the server puts the thoughts."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mamba_nb.probes.asking import Asker
from mamba_nb.probes.capability import Capability
from mamba_nb.probes.findings import Finding
from mamba_nb.probes.judging import nothing_to_judge, quoted, refused
from mamba_nb.probes.replies import Reply

__all__ = ["CAPABILITIES", "judge_reasoning"]

PROMPT = "What is 17 times 3? Give the number only."
MOST_TOKENS = 384
NO_REASONING = re.compile(
    r"does not support thinking|reasoning.{0,40}not support|not support.{0,40}reasoning", re.I | re.S
)


async def _reasoning(asker: Asker, _found: Mapping[str, Finding]) -> Finding:
    finding = judge_reasoning(await asker.chat(PROMPT, think=True, max_tokens=MOST_TOKENS))
    if finding.verdict == "no" and asker.declared("supports_reasoning"):  # it may be off until asked for
        reply = await asker.chat(PROMPT, think=True, max_tokens=MOST_TOKENS, reasoning_effort="medium")
        asked = judge_reasoning(reply)
        return asked if asked.verdict in ("yes", "partly") or refused(reply, NO_REASONING) else finding
    return finding


def judge_reasoning(reply: Reply) -> Finding:
    """Whether there was reasoning apart from the answer, and where."""
    if refused(reply, NO_REASONING):
        return Finding("no", f"The server refused to reason: {quoted(reply.says)}.", fact=False)
    if reply.error is not None:
        return nothing_to_judge(reply) or Finding("unknown", reply.says)
    if reply.reasoning:
        place = reply.reasoning_field or "its own field"
        where = place if "tags" in place else f"the field `{place}`"
        late = " It did not end within the tokens allowed." if reply.burnt else ""
        return Finding("yes", f"It reasons before it answers, in {where}.{late}", value=place, fact=True)
    if reply.cut:
        return Finding("unknown", "The answer was cut before it was clear whether it began with reasoning.")
    return Finding("no", f"It answered at once: {quoted(reply.text, 60)}.", fact=False)


CAPABILITIES = (
    Capability(
        name="reasoning",
        title="reasoning",
        group="reasoning",
        ask=_reasoning,
        requests=2,
        tokens=430,
        field="supports_reasoning",
    ),
)
