"""What the doctor found: values to read, to print, to send on as JSON. No key is among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.server import Server

__all__ = ["Finding", "Problem", "Report", "Severity"]

Severity: TypeAlias = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        severity: `error` where something asked for does not work, `warning` where it works worse than it could.
        what: What is wrong, and where.
        fix: What to do or type.
    """

    severity: Severity
    what: str
    fix: str

    def to_dict(self) -> dict[str, str]:
        """As JSON-able data."""
        return {"severity": self.severity, "what": self.what, "fix": self.fix}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One server and what is wrong with it."""

    server: Server
    problems: tuple[Problem, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        server = self.server
        return {
            "kind": server.kind,
            "title": server.about.title,
            "certainty": server.sighting.certainty,
            "evidence": server.sighting.evidence,
            "base_url": server.base_url,
            "version": server.sighting.version,
            "needs_key": server.sighting.needs_key,
            "latency_ms": None if server.latency_ms is None else round(server.latency_ms, 1),
            "models": [_model(model) for model in server.models],
            "problems": [problem.to_dict() for problem in self.problems],
        }


def _model(model: ServedModel) -> dict[str, Any]:
    return {
        "id": model.id,
        "loaded": model.loaded,
        "state": model.state,
        "task": model.task,
        "context_in_force": model.context_window,
        "context_max": model.context_max,
        "size_bytes": model.size_bytes,
        "quantization": model.quantization,
        "tools": model.supports_tools,
        "vision": model.supports_vision,
        "runs_locally": model.runs_locally,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that was looked at.

    Attributes:
        findings: The servers, each with its problems.
        others: What answered on a known port and is no model server: address -> what it is.
        problems: What is wrong besides the servers: settings, environment, nothing running.
        embedded: The embedded engine: `installed`, `weights` (a path or None), `running` (how many).
        surroundings: Where this process is: Python, platform, this package's version, `inside` (docker, wsl, ...).
        advice: What to do where no server runs, each a sentence or two.
    """

    findings: tuple[Finding, ...] = ()
    others: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    embedded: Mapping[str, Any] = field(default_factory=dict)
    surroundings: Mapping[str, Any] = field(default_factory=dict)
    advice: tuple[str, ...] = ()

    @property
    def all_problems(self) -> tuple[Problem, ...]:
        """Those of the servers, then the others; errors first."""
        every = [problem for finding in self.findings for problem in finding.problems]
        return tuple(sorted((*every, *self.problems), key=lambda problem: problem.severity != "error"))

    @property
    def ok(self) -> bool:
        """Whether nothing that was asked for fails; warnings may be there."""
        return not any(problem.severity == "error" for problem in self.all_problems)

    def __bool__(self) -> bool:
        return self.ok

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data: what `python -m mamba_nb doctor --json` prints."""
        return {
            "ok": self.ok,
            "servers": [finding.to_dict() for finding in self.findings],
            "others": dict(self.others),
            "problems": [problem.to_dict() for problem in self.problems],
            "embedded": dict(self.embedded),
            "surroundings": dict(self.surroundings),
            "advice": list(self.advice),
        }

    def __repr__(self) -> str:
        errors = sum(problem.severity == "error" for problem in self.all_problems)
        warnings = len(self.all_problems) - errors
        return f"<Doctor {len(self.findings)} servers · {errors} errors · {warnings} warnings>"

    def __str__(self) -> str:
        from mamba_nb.display import doctor

        return doctor.text(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from mamba_nb.display import doctor

        return {"text/plain": doctor.text(self), "text/html": doctor.html(self)}
