"""Prometheus text, read for a few figures: sums over a server's engines, and quantiles of its histograms.

In: the body of `GET /metrics`, untrusted. Out: samples, and numbers made of them, or None where there are none.
A line that cannot be read is left out.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

__all__ = ["Sample", "highest", "quantile", "samples", "total"]

MOST_LINES = 50_000
_LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?\s*$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One line: a name, its labels and a finite value."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def samples(text: str) -> list[Sample]:
    r"""The lines of a Prometheus text.

    Examples:
        >>> samples('# TYPE a gauge\na{x="1"} 2.0\nb 3\nc nonsense')
        [Sample(name='a', value=2.0, labels={'x': '1'}), Sample(name='b', value=3.0, labels={})]
    """
    found = []
    for line in text.splitlines()[:MOST_LINES]:
        match = _LINE.match(line)
        if match is None:
            continue
        try:
            value = float(match.group(3))
        except ValueError:
            continue
        if math.isfinite(value):
            found.append(Sample(name=match.group(1), value=value, labels=dict(_LABEL.findall(match.group(2) or ""))))
    return found


def _named(known: Iterable[Sample], names: Iterable[str]) -> Iterator[Sample]:
    """The samples of the first of the names that is there."""
    kept = list(known)
    for name in names:
        if found := [sample for sample in kept if sample.name == name]:
            yield from found
            return


def total(known: Iterable[Sample], *names: str, copies: tuple[str, ...] = ()) -> float | None:
    r"""The sum over all series of the first of these names that is there, or None.

    Args:
        known: The samples.
        *names: The name and older ones.
        copies: Labels whose values tell the same figure again (SGLang's `tp_rank`): of those the highest counts once.

    Examples:
        >>> text = 'a{dp="0",tp="0"} 2\na{dp="0",tp="1"} 2\na{dp="1",tp="0"} 1'
        >>> total(samples(text), "a"), total(samples(text), "b", "a", copies=("tp",)), total([], "a")
        (5.0, 3.0, None)
    """
    groups: dict[object, float] = {}
    for place, sample in enumerate(_named(known, names)):
        rest = frozenset((name, value) for name, value in sample.labels.items() if name not in copies)
        group: object = rest if copies else place
        groups[group] = max(groups.get(group, sample.value), sample.value)
    return sum(groups.values()) if groups else None


def highest(known: Iterable[Sample], *names: str) -> float | None:
    """The highest value of the first of these names that is there, or None."""
    return max((sample.value for sample in _named(known, names)), default=None)


def quantile(known: Iterable[Sample], name: str, share: float) -> float | None:
    r"""A quantile of a histogram, over all its series since the server's start, or None.

    Linear inside the bucket it falls into, from 0 in the lowest one, as Prometheus' `histogram_quantile` does; so
    it is as exact as that bucket is narrow. None where nothing was counted, or where it lies above the last bound.

    Examples:
        >>> text = 't_bucket{le="1"} 2\nt_bucket{le="2"} 4\nt_bucket{le="+Inf"} 5'
        >>> quantile(samples(text), "t", 0.4), quantile(samples(text), "t", 0.6), quantile(samples(text), "t", 0.9)
        (1.0, 1.5, None)
    """
    counts: dict[float, float] = defaultdict(float)
    for sample in known:
        if sample.name == f"{name}_bucket":
            try:
                counts[float(sample.labels.get("le", ""))] += sample.value
            except ValueError:
                continue
    everything = counts.pop(math.inf, None)
    if not everything:
        return None
    wanted, below, bound = share * everything, 0.0, 0.0
    for most, count in sorted(counts.items()):
        if count >= wanted and count > below:
            return bound + (most - bound) * (wanted - below) / (count - below)
        below, bound = count, most
    return None
