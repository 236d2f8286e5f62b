"""Streaming, and token counts in streams: one streamed answer tells both.

`BASELINE` is also the answer that other probes compare theirs with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mamba_nb.probes.asking import Asker
from mamba_nb.probes.capability import Capability, Shared
from mamba_nb.probes.findings import Finding
from mamba_nb.probes.judging import nothing_to_judge, quoted, refused
from mamba_nb.probes.replies import Reply

__all__ = ["BASELINE", "CAPABILITIES", "PROMPT", "SAMPLING", "baseline", "judge_streaming", "judge_usage"]

PROMPT = "Count from 1 to 20, with commas."
SAMPLING: Mapping[str, Any] = {"max_tokens": 32, "seed": 7}
BASELINE = Shared("baseline", 1, 80)
NO_STREAM = re.compile(r"\bstream(ing)?\b", re.IGNORECASE)


async def baseline(asker: Asker) -> Reply:
    """One streamed answer at temperature 0, with usage asked for; sent once."""
    return await asker.chat(PROMPT, keep=BASELINE.name, stream=True, stream_options={"include_usage": True}, **SAMPLING)


async def _streaming(asker: Asker, _found: Mapping[str, Finding]) -> Finding:
    return judge_streaming(await baseline(asker))


async def _usage(asker: Asker, _found: Mapping[str, Finding]) -> Finding:
    return judge_usage(await baseline(asker), refused_option="stream_options" in asker.dropped)


def judge_streaming(reply: Reply) -> Finding:
    """Whether the answer came in pieces."""
    if refused(reply, NO_STREAM):
        return Finding("no", f"The server refused a stream: {quoted(reply.says)}.")
    if (nothing := nothing_to_judge(reply)) is not None:
        return nothing
    if not reply.streamed:
        return Finding("no", "A stream was asked for, and the answer came whole.")
    if reply.pieces == 0:
        return Finding("unknown", "The stream carried no text.")
    if reply.pieces == 1:
        return Finding("partly", "The stream came, with the whole answer in one piece: something holds it back.")
    return Finding("yes", f"The answer came in {reply.pieces} pieces.")


def judge_usage(reply: Reply, *, refused_option: bool = False) -> Finding:
    """Whether the stream carried token counts, and where."""
    if (nothing := nothing_to_judge(reply)) is not None:
        return nothing
    if not reply.streamed:
        return Finding("unknown", "The answer was not streamed.")
    if reply.usage_place is not None:
        return Finding("yes", f"Token counts came on {reply.usage_place}.", value=reply.usage_place)
    how = "refused `stream_options`" if refused_option else "was asked with `stream_options.include_usage`"
    return Finding("no", f"The server {how}, and its stream had no token counts: they cannot be known.")


CAPABILITIES = (
    Capability(
        name="streaming", title="streaming", group="streaming", ask=_streaming, requests=0, tokens=0, shared=BASELINE
    ),
    Capability(
        name="stream_usage",
        title="token counts in streams",
        group="streaming",
        ask=_usage,
        requests=0,
        tokens=0,
        shared=BASELINE,
        param="stream_options",
    ),
)
