"""What a model can really do on its server, found out by asking it: one small file for each capability.

    plan_probe(backend)            how many requests and tokens it would take
    probe(backend).result()        asks, and gives a report: yes, partly, no or unknown, with the evidence

`asking` sends, `replies` reads, each capability's file judges, `verbs` runs them all, `report` is what comes out.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mamba_nb.probes.findings import Evidence, ProbeResult
    from mamba_nb.probes.plan import ProbePlan
    from mamba_nb.probes.report import ProbeReport
    from mamba_nb.probes.verbs import ProbeEvent, plan_probe, probe

__all__ = ["Evidence", "ProbeEvent", "ProbePlan", "ProbeReport", "ProbeResult", "plan_probe", "probe"]

_HOMES = {
    "Evidence": "findings",
    "ProbeEvent": "verbs",
    "ProbePlan": "plan",
    "ProbeReport": "report",
    "ProbeResult": "findings",
    "plan_probe": "verbs",
    "probe": "verbs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
