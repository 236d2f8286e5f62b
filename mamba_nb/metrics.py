"""Latency and throughput of one streamed answer.

The input is arrival times in seconds after the request was sent, one per chunk, and the token counts
that the server reported. The output is plain floats, or None where the stream cannot tell.

    TTFT   time to first token: send -> first chunk that carries a token      ms
    ITL    inter-token latency: the gaps between neighbouring chunks          ms
    TPOT   time per output token, the first one left out                      ms
    E2E    send -> the chunk that carries the finish reason                   s

The definitions are those of `vllm bench serve`: TPOT = (E2E - TTFT) / (completion tokens - 1). GuideLLM's
"time per output token" keeps the first token in, so the two differ on short answers. A chunk can carry
several tokens, so ITL is per chunk and token counts come from the server's `usage`.

Nothing here reads a clock or opens a socket.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

__all__ = [
    "decode_tokens_per_s",
    "itl_ms",
    "output_tokens_per_s",
    "percentile",
    "tpot_ms",
    "ttft_ms",
]


def ttft_ms(chunk_at_s: Sequence[float]) -> float | None:
    """Time from send to the first chunk.

    Args:
        chunk_at_s: Arrival of each chunk, seconds after send, rising.

    Returns:
        Milliseconds, or None without a chunk.

    Examples:
        >>> ttft_ms([0.25, 0.5])
        250.0
        >>> ttft_ms([]) is None
        True
    """
    return 1000.0 * chunk_at_s[0] if chunk_at_s else None


def itl_ms(chunk_at_s: Sequence[float]) -> list[float]:
    """Gaps between neighbouring chunks, in milliseconds; empty with fewer than two chunks.

    Examples:
        >>> itl_ms([0.25, 0.5, 1.0])
        [250.0, 500.0]
    """
    return [1000.0 * (after - before) for before, after in pairwise(chunk_at_s)]


def tpot_ms(chunk_at_s: Sequence[float], end_at_s: float | None, completion_tokens: int | None) -> float | None:
    """Mean time per output token after the first.

    Args:
        chunk_at_s: Arrival of each chunk, seconds after send, rising.
        end_at_s: Arrival of the chunk with the finish reason, on the same clock; None if it never came.
        completion_tokens: Tokens generated, from the server's `usage`; None if it did not say.

    Returns:
        Milliseconds per token; None with fewer than two chunks (a single one gives no decoding interval to
        measure), fewer than two tokens, or an unknown count or end.

    Raises:
        ValueError: If the end comes before the last chunk.

    Examples:
        >>> tpot_ms([0.25, 0.5, 0.75], end_at_s=0.75, completion_tokens=3)
        250.0
        >>> tpot_ms([0.25], end_at_s=0.25, completion_tokens=1) is None
        True
    """
    if len(chunk_at_s) < 2 or end_at_s is None or completion_tokens is None or completion_tokens < 2:
        return None
    if end_at_s < chunk_at_s[-1]:
        raise ValueError(
            f"end_at_s={end_at_s} is before the last chunk at {chunk_at_s[-1]}; "
            "both are seconds after send, on one clock."
        )
    return 1000.0 * (end_at_s - chunk_at_s[0]) / (completion_tokens - 1)


def output_tokens_per_s(completion_tokens: int | None, latency_s: float | None) -> float | None:
    """Completion tokens over the whole latency, waiting included; None where either is unknown or zero.

    Examples:
        >>> output_tokens_per_s(50, 2.0)
        25.0
    """
    return completion_tokens / latency_s if completion_tokens and latency_s else None


def decode_tokens_per_s(tpot: float | None) -> float | None:
    """Tokens per second once the first one is out: 1000 / TPOT; None where TPOT is unknown or zero.

    Examples:
        >>> decode_tokens_per_s(20.0)
        50.0
    """
    return 1000.0 / tpot if tpot else None


def percentile(values: Sequence[float], q: float) -> float | None:
    """The q-th percentile by linear interpolation (numpy's default), or None without values.

    Args:
        values: Any order, any unit.
        q: From 0 to 100.

    Examples:
        >>> percentile([1.0, 2.0, 3.0, 4.0], 50)
        2.5
        >>> percentile([], 50) is None
        True
    """
    if not values:
        return None
    ordered = sorted(values)
    rank = (len(ordered) - 1) * q / 100
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)
