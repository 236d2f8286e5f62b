"""Stop texts: an answer that is known word for word is asked for again, with one of its own words as `stop`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mamba_nb.probes.asking import Asker
from mamba_nb.probes.capability import Capability
from mamba_nb.probes.findings import Finding
from mamba_nb.probes.judging import nothing_to_judge, quoted, refused
from mamba_nb.probes.replies import Reply
from mamba_nb.probes.streaming import BASELINE, PROMPT, SAMPLING, baseline

__all__ = ["CAPABILITIES", "judge_stop", "stop_word"]

NO_STOP = re.compile(r"(?<!early )\bstop\b", re.IGNORECASE)


async def _stop(asker: Asker, _found: Mapping[str, Finding]) -> Finding:
    whole = await baseline(asker)
    if (nothing := nothing_to_judge(whole)) is not None:
        return nothing
    word = stop_word(whole.text)
    if word is None:
        return Finding("unknown", "The answer had no word in its middle that could serve as a stop text.")
    return judge_stop(await asker.chat(PROMPT, stop=[word], **SAMPLING), whole.text, word)


def stop_word(text: str) -> str | None:
    """A word that stands in the later part of a text and nowhere before; None where there is none.

    Examples:
        >>> stop_word("one two one three four")
        'three'
        >>> stop_word("na na na") is None
        True
    """
    for match in re.finditer(r"\w+", text):
        if match.start() >= len(text) / 3 and text.find(match[0]) == match.start():
            return match[0]
    return None


def judge_stop(reply: Reply, whole: str, word: str) -> Finding:
    """Whether the answer ended before the stop text."""
    if refused(reply, NO_STOP):
        return Finding("no", f"The server refused a stop text: {quoted(reply.says)}.")
    if (nothing := nothing_to_judge(reply)) is not None:
        return nothing
    text = reply.text.rstrip()
    if text.endswith(word) and whole.startswith(text) and reply.finish_reason == "stop":
        return Finding("partly", f"The answer stopped at the text {quoted(word)}, which it left in.", value="left in")
    if word in text:
        return Finding("no", f"The stop text {quoted(word)} stands in the answer, which went on past it.")
    if whole.startswith(text):
        return Finding("yes", f"The answer ended before the stop text {quoted(word)}.")
    return Finding("unknown", "The answer was another one this time, so that its end tells nothing.")


CAPABILITIES = (
    Capability(
        name="stop", title="stop texts", group="stop", ask=_stop, requests=1, tokens=80, shared=BASELINE, param="stop"
    ),
)
