"""The outcome of a probe: one result a capability, beside what was claimed and declared of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from mamba_nb.backends.profiles import FACT_FIELDS, ModelProfile, get_profile
from mamba_nb.errors import BadInput, closest
from mamba_nb.probes.findings import VERDICTS, ProbeResult
from mamba_nb.servers.facts import RANK, Fact

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ProbeReport", "fact_of"]

FORMAT = "mamba_nb.probe_report"
VERSION = 1


@dataclass(frozen=True, kw_only=True, repr=False)
class ProbeReport(Mapping[str, ProbeResult]):
    """What a model can really do on one server: a mapping of capability -> result.

        report = probe(backend).result()
        report["tools"].verdict, report["tools"].why

    Attributes:
        model: The model asked for.
        server: The kind of server, or `unknown`.
        base_url: Its address.
        digest: The model's digest as the server declares it, or None.
        results: The results, in the order in which they were asked.
        claimed: Field of a ModelProfile -> what a table or a catalogue claims.
        declared: The same for what the server declares.
        ignored: Capability -> why a request parameter is known to have no effect on this kind of server.
        requests: Requests that were sent this time.
        seconds: How long that took.
        from_cache: Names of the capabilities whose results are from an earlier probe.
        notes: What a reader should know of the whole.
    """

    model: str
    server: str
    base_url: str
    digest: str | None = None
    results: tuple[ProbeResult, ...] = ()
    claimed: Mapping[str, Fact] = field(default_factory=dict)
    declared: Mapping[str, Fact] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    requests: int = 0
    seconds: float = 0.0
    from_cache: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __getitem__(self, capability: str) -> ProbeResult:
        for result in self.results:
            if result.capability == capability:
                return result
        near = closest(str(capability), self)
        raise KeyError(f"{capability!r} was not probed." + (f" Did you mean {near!r}?" if near else ""))

    def __iter__(self) -> Iterator[str]:
        return (result.capability for result in self.results)

    def __len__(self) -> int:
        return len(self.results)

    def facts(self) -> dict[str, Fact]:
        """What was verified, by the field names of a ModelProfile; what nobody could verify is not in it."""
        return {
            result.field: fact_of(result)
            for result in self.results
            if result.field is not None and result.fact is not None
        }

    @property
    def profile(self) -> ModelProfile:
        """The model's profile with what is claimed, declared and verified, the best source first."""
        facts = self.facts()
        return get_profile(self.model).with_facts(_known(self.declared)).with_facts(_known(facts))

    def to_frame(self) -> pd.DataFrame:
        """One row a capability: verdict, what is claimed, declared and verified, why, requests, seconds, time."""
        from mamba_nb.display import probes

        return probes.to_frame(self)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able data; `from_dict` reads it back."""
        data = asdict(self)
        data["results"] = [asdict(result) for result in self.results]
        return {"format": FORMAT, "version": VERSION, **data}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ProbeReport:
        """The report that `to_dict` wrote.

        Raises:
            BadInput: If it is none.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT or data.get("version") != VERSION:
            raise BadInput("This is no probe report of a version that is known here.")
        try:
            return cls(
                model=data["model"],
                server=data["server"],
                base_url=data["base_url"],
                digest=data["digest"],
                results=tuple(ProbeResult.from_dict(result) for result in data["results"]),
                claimed={name: Fact(**fact) for name, fact in data["claimed"].items()},
                declared={name: Fact(**fact) for name, fact in data["declared"].items()},
                ignored=dict(data["ignored"]),
                requests=data["requests"],
                seconds=data["seconds"],
                from_cache=tuple(data["from_cache"]),
                notes=tuple(data["notes"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"This probe report cannot be read: {error}.") from error

    def count(self, verdict: str) -> int:
        """How many capabilities have this verdict."""
        return sum(result.verdict == verdict for result in self.results)

    def __repr__(self) -> str:
        counts = [f"{count} {verdict}" for verdict in VERDICTS if (count := self.count(verdict))]
        return f"<ProbeReport {' · '.join([self.model, self.server, *counts, f'{self.requests} requests'])}>"

    def __str__(self) -> str:
        from mamba_nb.display import probes

        return probes.text(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from mamba_nb.display import probes

        return {"text/plain": probes.text(self), "text/html": probes.html(self)}


def fact_of(result: ProbeResult) -> Fact:
    """A result's value as a fact, with its words as evidence."""
    return Fact(result.fact, "verified", f"probe: {result.why.rstrip('.')}", result.as_of)


def _known(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    return {name: fact for name, fact in facts.items() if name in FACT_FIELDS and RANK[fact.source]}
