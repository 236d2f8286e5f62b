"""A server that was found: what it is, what it has, and what only some servers can do.

In: what discovery saw. Out: a record, and verbs that either work here or say clearly that they do not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Kind, Sighting, kinds

__all__ = ["Server"]


@dataclass(frozen=True, kw_only=True)
class Server:
    """One running model server.

    Attributes:
        sighting: What it was told as, how surely, and by what.
        base_url: Its OpenAI address, ready for a backend.
        root: Where its native paths begin.
        latency_ms: How long its list of models took, in milliseconds; None where it gave none.
        models: The models it has; empty where it lists none.
        problems: What is wrong with it, each with what to do.
        key: The key to send to it, or None; never shown.
    """

    sighting: Sighting
    base_url: str
    root: str
    latency_ms: float | None = None
    models: tuple[ServedModel, ...] = ()
    problems: tuple[str, ...] = ()
    key: str | None = field(default=None, repr=False, compare=False)

    @property
    def kind(self) -> str:
        """The name of its kind, as of the files in `mamba_nb/servers`."""
        return self.sighting.kind

    @property
    def about(self) -> Kind:
        """What its kind is like."""
        return kinds()[self.kind]
