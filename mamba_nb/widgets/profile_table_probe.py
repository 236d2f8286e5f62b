"""One model's probe as a widget leads it: the plan first, then, if it is wanted, the asking, with Stop at any time.

In goes a backend, out come a phase, counts and results, written by a worker thread and read by whoever paints.

    planning    the server is asked what it declares, and earlier results are looked up
    planned     the number of requests is known, and what to ask can be chosen; nothing has been asked of the model
    probing     under way
    done        every verdict is there; `ended` says where it had to end early
    stopped     the reader stopped it; what was found is kept
    failed      it could not be planned
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import Any

from mamba_nb._bridge import Run, run_in_background
from mamba_nb.backends import verified
from mamba_nb.backends.backend import OpenAICompatibleBackend
from mamba_nb.display.text import count
from mamba_nb.errors import MambaError, RunStopped
from mamba_nb.probes import ProbeEvent, ProbePlan, ProbeReport, ProbeResult, plan_probe, probe
from mamba_nb.probes.capabilities import CAPABILITIES
from mamba_nb.probes.plan import plan_of
from mamba_nb.probes.report import fact_of
from mamba_nb.probes.verbs import CONTEXT_TOKENS
from mamba_nb.servers.facts import Fact

__all__ = ["Probing"]

_ABOUT = {each.name: each for each in CAPABILITIES}


class Probing:
    """One probe of one model.

    Args:
        backend: Who is asked.
        unwanted: Capabilities that the reader left out before.
        changed: Called after every change, on a worker thread.
        ended: Called once the asking is over, on a worker thread, before `phase` says so.

    Attributes:
        phase: One of those above.
        plan: What will be asked; None while that is not known.
        known: Capabilities that earlier probes have found out.
        chosen: Capabilities to ask about: those that are not known, or all where all are known.
        asked: Requests sent so far.
        capability: What is being asked about, or None.
        results: Capability -> result, as they come.
        report: The outcome; None before the end.
        error: Why it could not be planned, or None.
    """

    def __init__(
        self,
        backend: OpenAICompatibleBackend,
        *,
        unwanted: Collection[str] = (),
        changed: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        self.backend = backend
        self.phase = "planning"
        self.plan: ProbePlan | None = None
        self.known: frozenset[str] = frozenset()
        self.chosen: frozenset[str] = frozenset()
        self.asked = 0
        self.capability: str | None = None
        self.results: dict[str, ProbeResult] = {}
        self.report: ProbeReport | None = None
        self.error: MambaError | None = None
        self._unwanted = frozenset(unwanted)
        self._changed = changed
        self._ended = ended
        self._cancelled = False
        self._probe: Run[ProbeEvent, ProbeReport] | None = None
        self._work: Run[Any, None] = run_in_background(self._plan)

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return self.phase in ("planning", "probing")

    @property
    def found(self) -> int:
        """How many verdicts there are, those of earlier probes left out."""
        return len(self.results)

    @property
    def field(self) -> str | None:
        """The ModelProfile's field that is being decided, or None."""
        about = _ABOUT.get(self.capability or "")
        return about.field if about is not None and self.phase == "probing" else None

    @property
    def facts(self) -> dict[str, Fact]:
        """What was verified so far, by the field names of a ModelProfile."""
        return {
            result.field: fact_of(result)
            for result in list(self.results.values())
            if result.field is not None and result.fact is not None
        }

    def choose(self, wanted: Collection[str]) -> None:
        """Ask about these, known or not; what it would take is known at once. Only while it is planned."""
        if self.phase == "planned" and self.plan is not None:
            self.chosen = frozenset(each.name for each in CAPABILITIES if each.name in wanted)
            self.plan = plan_of(
                [each for each in CAPABILITIES if each.name in self.chosen],
                model=self.plan.model,
                server=self.plan.server,
                base_url=self.plan.base_url,
                cached={},
                context=verified.declared_context(self.backend.declared),
                most_context=CONTEXT_TOKENS,
            )
            self._changed()

    def start(self) -> None:
        """Ask, as planned; does nothing unless it is planned and something is chosen."""
        if self.phase != "planned" or not self.chosen:
            return
        self._probe = probe(self.backend, only=self.chosen, again=bool(self.chosen & self.known), quiet=True)
        self.phase = "probing"
        self._work = run_in_background(self._follow)

    def cancel(self) -> None:
        """Stop whatever is under way; what was found stays."""
        self._cancelled = True
        if self._probe is not None:
            self._probe.cancel()  # the thread that follows it sees that, and puts down what was found
        else:
            self._work.cancel()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until nothing is under way; for programs and tests.

        Raises:
            TimeoutError: If `timeout` seconds are over first.
        """
        with contextlib.suppress(RunStopped):
            self._work.result(timeout)

    def words(self) -> str:
        """Where it stands, in a few words; empty where the phase says it all."""
        plan = self.plan
        if self.phase == "planning":
            return "asking what is declared"
        if self.phase == "planned" and plan is not None:
            return _cost(plan, len(self.known), again=bool(self.chosen) and self.chosen <= self.known)
        if self.phase == "probing" and plan is not None:
            about = _ABOUT.get(self.capability or "")
            asked = f"{count(self.asked)} of at most {count(plan.requests)} requests"
            place = f"{count(self.found + 1)} of {count(len(plan.capabilities))}"
            return f"{place}: {about.title} · {asked}" if about is not None else asked
        if self.phase in ("done", "stopped") and plan is not None:
            return f"{count(self.found)} of {count(len(plan.capabilities))} found out"
        return self.error.message if self.error is not None else ""

    def _plan(self) -> None:
        try:
            plan = plan_probe(self.backend)
        except RunStopped:
            return
        except MambaError as error:
            self.error, self.phase = error, "failed"
        else:
            self.plan, self.phase = plan, "planned"
            self.known = frozenset(plan.cached)
            wanted = _ABOUT.keys() - self._unwanted
            self.choose((wanted - self.known) or wanted)
        self._changed()

    def _follow(self) -> None:
        run = self._probe
        if run is None:
            return
        phase = "done"
        try:
            for event in run:
                self._take(event)
            self.report = run.result()
        except RunStopped:
            phase, self.report = "stopped", run.partial
        except MambaError as error:
            phase, self.error = "failed", error
        except Exception as error:  # whatever it was, the table must not show a probe that never ends
            phase, self.error = "failed", MambaError(f"{type(error).__name__}: {error}")
        self.capability = None
        self._ended()
        self.phase = phase
        self._changed()

    def _take(self, event: ProbeEvent) -> None:
        self.plan, self.asked = event.plan, event.requests
        if event.what == "begun":
            self.capability = event.capability
        elif event.result is not None:
            self.results[event.result.capability] = event.result
        self._changed()


def _cost(plan: ProbePlan, known: int, *, again: bool) -> str:
    """What it would take: the request count first."""
    if not plan.capabilities:
        return "nothing is chosen to ask about"
    plural = "" if plan.requests == 1 else "s"
    said = f"at most {count(plan.requests)} request{plural}, about {count(plan.tokens)} tokens"
    if again:
        return f"known already; asking again: {said}"
    return f"{said}; {count(known)} known already" if known else said
