"""What a probe found out: a verdict, why, and the exchanges that show it. Pure values.

yes        the answers show it
partly     it works, with a catch that the words name
no         the server refused it in so many words, or answered and did not do it
unknown    nothing was shown either way: a failed request is never a "no"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

__all__ = ["VERDICTS", "Evidence", "Finding", "ProbeResult", "Verdict"]

Verdict: TypeAlias = Literal["yes", "partly", "no", "unknown"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One exchange with the server.

    Attributes:
        request: The request's body, long texts and images shortened. It never holds a key.
        reply: What came back, cut to a readable length: the answer's parts as JSON, or the server's own words.
        error: The class name of the error it ended with, or None.
        at: When it was sent, ISO 8601 in UTC.
        latency_ms: Until the answer was whole, or broke off; None where nothing was sent.
    """

    request: Mapping[str, Any]
    reply: str
    at: str
    error: str | None = None
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A probe's judgement.

    Attributes:
        verdict: See above.
        why: In words, for a person.
        value: A count or a name, where the capability has one: the context, a vector's length, a field's name.
        fact: The value for the ModelProfile's field: True, False or a count. None says nothing.
    """

    verdict: Verdict
    why: str
    value: int | str | None = None
    fact: bool | int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """One row of a report.

    Attributes:
        capability: Its name: `tools`, `json_schema`, ...
        title: The same for people.
        verdict: `yes`, `partly`, `no` or `unknown`.
        why: In words: what was seen, what it means.
        value: A count or a name, where the capability has one.
        field: The ModelProfile's field that it decides, or None.
        fact: The value for that field, or None.
        requests: How many were sent for it.
        seconds: How long they took.
        as_of: When it was found, ISO 8601 in UTC.
        evidence: The exchanges, in their order.
    """

    capability: str
    title: str
    verdict: Verdict
    why: str
    value: int | str | None = None
    field: str | None = None
    fact: bool | int | None = None
    requests: int = 0
    seconds: float = 0.0
    as_of: str
    evidence: tuple[Evidence, ...] = ()

    def __repr__(self) -> str:
        value = f" ({self.value:,})" if isinstance(self.value, int) else f" ({self.value})" if self.value else ""
        return f"<ProbeResult {self.capability}: {self.verdict}{value} · {self.why}>"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ProbeResult:
        """The result from its JSON data.

        Raises:
            ValueError: If it is none: a part is missing or of the wrong type.
        """
        texts = [data.get(name) for name in ("capability", "title", "why", "as_of")]
        verdict, value, fact, about = (data.get(name) for name in ("verdict", "value", "fact", "field"))
        if not all(isinstance(text, str) for text in texts) or verdict not in VERDICTS:
            raise ValueError("This is no probe's result: a part is missing or of the wrong type.")
        return cls(
            capability=str(texts[0]),
            title=str(texts[1]),
            why=str(texts[2]),
            as_of=str(texts[3]),
            verdict=verdict,
            value=value if isinstance(value, int | str) else None,
            field=about if isinstance(about, str) else None,
            fact=fact if isinstance(fact, bool | int) else None,
            requests=int(_number(data.get("requests"))),
            seconds=_number(data.get("seconds")),
            evidence=tuple(_evidence(item) for item in _listed(data.get("evidence")) if isinstance(item, Mapping)),
        )


def _evidence(data: Mapping[str, Any]) -> Evidence:
    request, error, latency = data.get("request"), data.get("error"), data.get("latency_ms")
    return Evidence(
        request=request if isinstance(request, Mapping) else {},
        reply=str(data.get("reply") or ""),
        at=str(data.get("at") or ""),
        error=error if isinstance(error, str) else None,
        latency_ms=_number(latency) if latency is not None else None,
    )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
