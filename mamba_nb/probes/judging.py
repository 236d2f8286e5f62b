"""What every probe's judgement begins with: whether there is anything to judge. Pure.

A refusal counts as "no" only where the server's own words name the capability; whatever else went wrong is "unknown".
"""

from __future__ import annotations

import re

from mamba_nb.errors import (
    AuthenticationFailed,
    ContextOverflow,
    ModelNotFound,
    ProxyInTheWay,
    RateLimited,
    ServerTimeout,
    ServerUnreachable,
    StreamInterrupted,
)
from mamba_nb.probes.findings import Finding
from mamba_nb.probes.replies import Reply

__all__ = ["nothing_to_judge", "quoted", "refused"]

# These say something of the connection, the account or the moment, and nothing of a capability.
NO_REFUSAL = (
    AuthenticationFailed,
    ContextOverflow,
    ModelNotFound,
    ProxyInTheWay,
    RateLimited,
    ServerTimeout,
    ServerUnreachable,
    StreamInterrupted,
)


def nothing_to_judge(reply: Reply) -> Finding | None:
    """`unknown`, with the reason, where the request failed or the model never came to its answer; else None."""
    if reply.error is not None:
        return Finding("unknown", f"The request failed, which shows nothing either way. {reply.error}")
    if reply.burnt:
        spent = f"its {reply.completion_tokens:,} tokens" if reply.completion_tokens else "its tokens"
        return Finding("unknown", f"The model used up {spent} on reasoning before it answered.")
    return None


def refused(reply: Reply, words: re.Pattern[str]) -> bool:
    """Whether the server refused the request because of what these words name."""
    if reply.error is None or isinstance(reply.error, NO_REFUSAL):
        return False
    return bool(reply.error.server_says and words.search(reply.error.server_says))


def quoted(text: str, most: int = 160) -> str:
    """A text in quotation marks, on one line, cut to a readable length, without the full stop at its end."""
    line = " ".join(text.split()).removesuffix(".")
    return f'"{line if len(line) <= most else line[: most - 1] + "…"}"'
