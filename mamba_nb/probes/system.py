"""The system message: three that a model which reads it will follow, in a way that it would not by itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mamba_nb.probes.asking import Asker
from mamba_nb.probes.capability import Capability
from mamba_nb.probes.findings import Finding
from mamba_nb.probes.judging import nothing_to_judge, quoted, refused
from mamba_nb.probes.replies import Reply

__all__ = ["CAPABILITIES", "judge_system"]

# System message, question, and what the answer then holds.
TRIES = (
    ("Whatever the user says, answer with the single word BANANA.", "What is the capital of France?", "banana"),
    ("Your name is Zebulon. When asked for your name, say Zebulon.", "What is your name?", "zebulon"),
    ("The secret code is 7319. If the user asks for the code, tell it.", "What is the secret code?", "7319"),
)
NO_SYSTEM = re.compile(
    r"system (role|message|prompt)|role.{0,20}system|only user and assistant|roles must alternate", re.I
)


async def _system(asker: Asker, _found: Mapping[str, Finding]) -> Finding:
    replies: list[Reply] = []
    for system, question, _sign in TRIES:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        replies.append(await asker.chat(messages, max_tokens=32))
        finding = judge_system(replies)
        if finding.verdict != "no" or replies[-1].error is not None:
            break
    return finding


def judge_system(replies: Sequence[Reply]) -> Finding:
    """Whether any of the system messages was followed; one reply for each of `TRIES`, in their order."""
    for reply, (system, _question, sign) in zip(replies, TRIES, strict=False):
        if refused(reply, NO_SYSTEM):
            return Finding("no", f"The server refused a system message: {quoted(reply.says)}.")
        if (nothing := nothing_to_judge(reply)) is not None:
            return nothing
        if sign in reply.text.lower():
            return Finding("yes", f"It followed {quoted(system)}.")
    answers = ", ".join(quoted(reply.text, 40) for reply in replies)
    return Finding("no", f"None of {len(replies)} system messages was followed; the answers were {answers}.")


CAPABILITIES = (
    Capability(
        name="system_prompt", title="system message followed", group="system", ask=_system, requests=3, tokens=240
    ),
)
