"""llama.cpp's GET /metrics, by names of ours.

In: Prometheus' text form. Out: figures by name, in tokens, seconds, requests; what is not a finite number is left out.

Source: llama.cpp's `tools/server/README.md` (`/metrics`) and a running server of build 11434.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

__all__ = ["NAMES", "figures_of", "together"]

NAMES: Mapping[str, str] = {
    "requests_processing": "requests_running",
    "requests_deferred": "requests_waiting",
    "prompt_tokens_total": "prompt_tokens_total",
    "prompt_tokens_cached_total": "cached_prompt_tokens_total",
    "prompt_seconds_total": "prompt_s_total",
    "prompt_tokens_seconds": "prompt_tokens_per_s",
    "tokens_predicted_total": "output_tokens_total",
    "tokens_predicted_seconds_total": "output_s_total",
    "predicted_tokens_seconds": "output_tokens_per_s",
    "n_tokens_max": "longest_tokens",
    "n_decode_total": "decode_calls_total",
    "n_busy_slots_per_decode": "busy_slots_per_decode",
    "spec_decode_num_draft_tokens_total": "draft_tokens_total",
    "spec_decode_num_accepted_tokens_total": "draft_tokens_accepted_total",
    "kv_cache_usage_ratio": "cache_usage",  # builds before mid 2025
}
"""llama.cpp's name after `llamacpp:` -> ours. `..._per_s` are averages since somebody last asked."""

_LINE = re.compile(r"^llamacpp:(\w+)(?:\{\s*\})?[ \t]+(\S+)", re.MULTILINE)
MOST_CHARACTERS = 1_000_000


def figures_of(text: str) -> dict[str, float]:
    r"""The figures of one text.

    Examples:
        >>> figures_of("# TYPE llamacpp:requests_processing gauge\nllamacpp:requests_processing 2\n")
        {'requests_running': 2.0}
        >>> figures_of("llamacpp:predicted_tokens_seconds NaN")
        {}
    """
    found = {}
    for name, value in _LINE.findall(text[:MOST_CHARACTERS]):
        if name in NAMES and (number := _finite(value)) is not None:
            found[NAMES[name]] = number
    return found


def _finite(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def together(all_figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The figures of several servers as one: sums, the largest of maxima, and no average of averages.

    Examples:
        >>> together([{"requests_running": 1, "longest_tokens": 5}, {"requests_running": 2, "longest_tokens": 9}])
        {'requests_running': 3, 'longest_tokens': 9}
    """
    if len(all_figures) == 1:
        return dict(all_figures[0])
    found: dict[str, float] = {}
    for figures in all_figures:
        for name, value in figures.items():
            if name == "longest_tokens":
                found[name] = max(found.get(name, 0.0), value)
            elif name not in ("busy_slots_per_decode", "cache_usage"):
                found[name] = found.get(name, 0) + value
    return found
