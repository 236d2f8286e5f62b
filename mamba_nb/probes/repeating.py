"""Whether answers can be had again: the same seed at a temperature above 0, and temperature 0 without one.

A server that batches requests, or that has a part of the prompt in its cache, may compute a token's odds slightly
otherwise the second time; so a pair that differs is asked for once more before it counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mamba_nb.probes.asking import Asker
from mamba_nb.probes.capability import Capability
from mamba_nb.probes.findings import Finding
from mamba_nb.probes.judging import nothing_to_judge, quoted, refused
from mamba_nb.probes.replies import Reply
from mamba_nb.probes.streaming import BASELINE, PROMPT, SAMPLING, baseline

__all__ = ["CAPABILITIES", "judge_repeatable", "judge_seed"]

SEED_PROMPT = "Write one short sentence about the sea."
SEED, OTHER_SEEDS = 11, (12, 13)
NO_SEED = re.compile(r"\bseed\b", re.IGNORECASE)


async def _seed(asker: Asker, _found: Mapping[str, Finding]) -> Finding:
    async def ask(seed: int) -> Reply:
        return await asker.chat(SEED_PROMPT, temperature=1.0, max_tokens=24, seed=seed)

    same = [await ask(SEED), await ask(SEED)]
    if all(reply.error is None for reply in same) and same[0].text != same[1].text:
        same.append(await ask(SEED))
    others: list[Reply] = []
    for seed in OTHER_SEEDS:
        if same[-1].error is not None or any(reply.text != same[-1].text for reply in others):
            break
        others.append(await ask(seed))
    return judge_seed(same, others)


async def _repeatable(asker: Asker, _found: Mapping[str, Finding]) -> Finding:
    replies = [await baseline(asker), await asker.chat(PROMPT, **SAMPLING)]
    if all(reply.error is None for reply in replies) and replies[0].text != replies[1].text:
        replies.append(await asker.chat(PROMPT, **SAMPLING))
    return judge_repeatable(replies)


def judge_seed(same: Sequence[Reply], others: Sequence[Reply]) -> Finding:
    """Whether the same seed gave the same answer, and another seed another one."""
    for reply in (*same, *others):
        if refused(reply, NO_SEED):
            return Finding("no", f"The server refused a seed: {quoted(reply.says)}.")
        if (nothing := nothing_to_judge(reply)) is not None:
            return nothing
    if not all(reply.text for reply in same):
        return Finding("unknown", "The answers were empty.")
    if same[-1].text != same[-2].text:
        return Finding("no", f"The same seed gave {len({reply.text for reply in same})} different answers.")
    if all(reply.text == same[-1].text for reply in others):
        return Finding(
            "unknown",
            f"{len(others) + 1} seeds gave one answer at temperature 1: seed and temperature may both be ignored.",
        )
    if len(same) > 2:
        return Finding("partly", "The same seed gave the same answer, except the first time.")
    return Finding("yes", "The same seed gave the same answer twice, another seed another one.")


def judge_repeatable(replies: Sequence[Reply]) -> Finding:
    """Whether the same request at temperature 0 gave the same answer."""
    for reply in replies:
        if (nothing := nothing_to_judge(reply)) is not None:
            return nothing
    if not replies[0].text:
        return Finding("unknown", "The answers were empty.")
    if replies[-1].text != replies[-2].text:
        return Finding("no", f"{len(replies)} requests at temperature 0 gave {len({r.text for r in replies})} answers.")
    if len(replies) > 2:
        return Finding("partly", "The answers at temperature 0 were the same, except the first one.")
    return Finding("yes", "Two requests at temperature 0 gave the same answer.")


CAPABILITIES = (
    Capability(
        name="repeatable",
        title="same answer at temperature 0",
        group="repeating",
        ask=_repeatable,
        requests=2,
        tokens=160,
        shared=BASELINE,
    ),
    Capability(
        name="seed",
        title="same answer with the same seed",
        group="repeating",
        ask=_seed,
        requests=5,
        tokens=300,
        param="seed",
    ),
)
