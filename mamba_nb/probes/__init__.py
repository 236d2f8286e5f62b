"""What a model can really do on its server, found out by asking it: one small file for each capability.

    plan_probe(backend)            how many requests and tokens it would take
    probe(backend).result()        asks, and gives a report: yes, partly, no or unknown, with the evidence

`asking` sends, `replies` reads, each capability's file judges, `verbs` runs them all, `report` is what comes out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mamba_nb._lazy import lazily

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

__getattr__, __dir__ = lazily(__name__, _HOMES)
