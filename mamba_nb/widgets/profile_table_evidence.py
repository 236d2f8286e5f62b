"""Why a cell says what it says: every source's word, and the exchanges of the probe, as JSON for the panel below.

In go a row, a field and the results of probes; out comes a dict. Texts of foreign origin are made visible and cut to a
readable length; nothing is HTML.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from mamba_nb.backends import verified
from mamba_nb.backends.backend import OpenAICompatibleBackend
from mamba_nb.backends.comparing_record import ProfileRow
from mamba_nb.backends.profiles_record import ABOUT
from mamba_nb.display.probes import MARKS
from mamba_nb.display.profiles_columns import MEANINGS, value_text
from mamba_nb.display.text import count, duration, one_line, visible
from mamba_nb.probes import Evidence, ProbeResult
from mamba_nb.probes.capabilities import CAPABILITIES
from mamba_nb.servers.facts import Fact

__all__ = ["deciding", "evidence", "stored_results"]

MOST_CHARS = 2_000  # of a request or a reply
_ABOUT = {each.name: each for each in CAPABILITIES}
_ORDER = {each.name: place for place, each in enumerate(CAPABILITIES)}


def evidence(row: ProfileRow, field: str | None, results: Mapping[str, ProbeResult]) -> dict[str, Any]:
    """What is behind one cell, or behind a whole row.

    Args:
        row: The model.
        field: A profile's field, or None for all that was probed of the model.
        results: Capability -> result.

    Returns:
        `title`; `said`, one dict a source (`source`, `means`, `mark`, `tone`, `value`, `evidence`, `at`); and
        `results`, one dict a capability (`title`, `verdict`, `mark`, `tone`, `why`, `value`, `at`, `exchanges`).
    """
    chosen = list(results.values()) if field is None else list(deciding(field, results))
    chosen.sort(key=lambda result: _ORDER.get(result.capability, len(_ORDER)))
    said = [] if field is None else [_said(field, fact) for fact in row.profile.said(field).values()]
    return {
        "title": "what the probe found" if field is None else ABOUT[field].label,
        "said": said,
        "results": [_result(each) for each in chosen],
    }


def deciding(field: str, results: Mapping[str, ProbeResult]) -> Iterable[ProbeResult]:
    """The results that decide a field, and those of the same group that decide no other one."""
    groups = {about.group for about in CAPABILITIES if about.field == field}
    for result in results.values():
        about = _ABOUT.get(result.capability)
        if result.field == field or (about is not None and about.field is None and about.group in groups):
            yield result


def stored_results(backend: OpenAICompatibleBackend, digest: str | None) -> dict[str, ProbeResult]:
    """What earlier probes of this model on its server found; empty where there was none. Reads one small file."""
    found = {}
    for name, data in verified.read(verified.place_of_backend(backend, digest)).results.items():
        try:
            found[name] = ProbeResult.from_dict(data)
        except ValueError:  # another version wrote it
            continue
    return found


def _said(field: str, fact: Fact) -> dict[str, Any]:
    value = value_text(field, fact.value)
    if isinstance(fact.value, int) and not isinstance(fact.value, bool):
        value = f"{count(fact.value)} {ABOUT[field].unit or ''}".strip()
    elif isinstance(fact.value, str):
        value = one_line(fact.value, 300)
    elif ABOUT[field].kind == "price":
        value = f"{value} {ABOUT[field].unit}"
    mark, tone = MARKS["yes" if fact.value else "no"] if isinstance(fact.value, bool) else ("", "")
    return {
        "source": fact.source,
        "means": MEANINGS.get(fact.source, ""),
        "mark": mark,
        "tone": tone,
        "value": value,
        "evidence": one_line(fact.evidence or "", 600),
        "at": one_line(fact.as_of or "", 40),
    }


def _result(result: ProbeResult) -> dict[str, Any]:
    mark, tone = MARKS[result.verdict]
    value = result.value
    return {
        "title": visible(result.title),
        "verdict": result.verdict,
        "mark": mark,
        "tone": tone,
        "why": visible(result.why),
        "value": count(value) if isinstance(value, int) else one_line(str(value), 80) if value else "",
        "at": one_line(result.as_of, 40),
        "exchanges": [_exchange(each) for each in result.evidence],
    }


def _exchange(exchange: Evidence) -> dict[str, Any]:
    return {
        "at": one_line(exchange.at, 40),
        "took": duration(exchange.latency_ms) if exchange.latency_ms is not None else "",
        "error": one_line(exchange.error or "", 80),
        "request": _cut(json.dumps(exchange.request, ensure_ascii=False)),
        "reply": _cut(exchange.reply),
    }


def _cut(text: str) -> str:
    shown = visible(text)
    if len(shown) <= MOST_CHARS:
        return shown
    return f"{shown[:MOST_CHARS]}… {count(len(shown) - MOST_CHARS)} more characters"
