"""What a capability is to this room: a name, what it decides, what asking costs, and how it is asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from mamba_nb.probes.asking import Asker
from mamba_nb.probes.findings import Finding

__all__ = ["Ask", "Capability", "Shared"]

Ask: TypeAlias = Callable[[Asker, Mapping[str, Finding]], Awaitable[Finding]]


@dataclass(frozen=True, slots=True)
class Shared:
    """Exchanges that several capabilities look at and that are made once.

    Attributes:
        name: What they are kept under.
        requests: How many, at most.
        tokens: Prompt and answer together, about; -1 where the context decides.
    """

    name: str
    requests: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """One row of the report.

    Attributes:
        name: As `only=` and `skip=` take it.
        title: For people.
        group: A name that stands for several rows (`tools`).
        ask: Asks and judges; gets what was found of the capabilities before it in the same probe.
        requests: How many requests it sends at most, those it shares left out.
        tokens: Tokens of those, prompt and answer together, about.
        shared: What it looks at together with others.
        field: The ModelProfile's field that it decides, or None.
        param: The request parameter it is about, where a kind of server is known to ignore or to refuse it.
    """

    name: str
    title: str
    group: str
    ask: Ask
    requests: int
    tokens: int
    shared: Shared | None = None
    field: str | None = None
    param: str | None = None
