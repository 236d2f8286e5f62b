"""`probe` asks a server what its model can really do; `plan_probe` says what that would cost."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from mamba_nb._bridge import Run, refuse_on_private_loops
from mamba_nb._frontend import in_notebook
from mamba_nb.backends import verified
from mamba_nb.backends.backend import OpenAICompatibleBackend
from mamba_nb.backends.factories import backend_for
from mamba_nb.backends.profiles import FACT_FIELDS, get_profile
from mamba_nb.backends.verified import Place
from mamba_nb.errors import BadInput
from mamba_nb.probes.asking import Asker, LimitReached
from mamba_nb.probes.capabilities import CAPABILITIES, chosen
from mamba_nb.probes.capability import Capability
from mamba_nb.probes.findings import Finding, ProbeResult
from mamba_nb.probes.plan import ProbePlan, plan_of
from mamba_nb.probes.report import ProbeReport, fact_of
from mamba_nb.servers.facts import Fact, now
from mamba_nb.servers.kinds import kind_of

if TYPE_CHECKING:
    from mamba_nb.settings import AgentSettings

__all__ = ["ProbeEvent", "plan_probe", "probe"]

CONTEXT_TOKENS = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeEvent:
    """One step of a probe.

    Attributes:
        what: `planned` (the first event, before anything is asked), `begun` (a capability), `asked` (a request was
            answered) or `found` (a capability's result).
        plan: The whole plan.
        requests: How many requests have been sent so far.
        capability: Which one it is about; None for `planned`.
        result: The result; None but for `found`.
    """

    what: Literal["planned", "begun", "asked", "found"]
    plan: ProbePlan
    requests: int = 0
    capability: str | None = None
    result: ProbeResult | None = None

    def __str__(self) -> str:
        if self.what == "planned":
            return str(self.plan)
        if self.result is not None:
            return f"{self.result.title}: {self.result.verdict}"
        return f"{self.capability}: {self.requests} of at most {self.plan.requests} requests"


def probe(
    backend: OpenAICompatibleBackend | str,
    *,
    only: str | Iterable[str] | None = None,
    skip: str | Iterable[str] | None = None,
    again: bool = False,
    context_tokens: int = CONTEXT_TOKENS,
    progress: bool = False,
    quiet: bool | None = None,
    settings: AgentSettings | None = None,
) -> Run[ProbeEvent, ProbeReport]:
    """Find out what a model can really do on its server, by asking it.

        probe(backend).result()

    Requests are short and go one after the other. The first event, and `plan_probe`, say how many there will be. What
    is found is kept in the user's cache folder for this server and this model's digest, and not asked for again; from
    then on `backend.profile` shows it as verified. What could not be found out is not kept.

    Args:
        backend: A backend, or a model's name as `compare` takes it (`ollama:llama3.2`, `embedded`).
        only: Capabilities or groups to probe (`"tools"`, `["json_schema", "context"]`); None probes all.
        skip: Capabilities or groups to leave out.
        again: Whether to ask anew what is known from an earlier probe.
        context_tokens: Tokens of the longest prompt that may be sent to measure the context; a larger context is
            measured up to there.
        progress: Whether to show a progress bar (tqdm).
        quiet: False prints the plan in one line before it starts, True does not; None prints it in a notebook.
        settings: Where a plain model name finds its address and key; None reads the environment.

    Returns:
        A Run of ProbeEvents whose result is the ProbeReport. Cancelled, it stops asking; `.partial` has what was found.
        A server that fails or is gone makes verdicts `unknown`, and raises nothing.

    Raises:
        BadInput: If a name or number is wrong; nothing has been sent then.
    """
    work = _Work(backend, chosen(only, skip), again, _checked_tokens(context_tokens), settings)
    if quiet is False or (quiet is None and in_notebook()):
        print(work.plan())

    async def run_it(run: Run[ProbeEvent, ProbeReport]) -> ProbeReport:
        return await work.run(run, progress=progress)

    return Run(run_it, name=f"probe {work.backend.model}", partial=work.report)


def plan_probe(
    backend: OpenAICompatibleBackend | str,
    *,
    only: str | Iterable[str] | None = None,
    skip: str | Iterable[str] | None = None,
    again: bool = False,
    context_tokens: int = CONTEXT_TOKENS,
    settings: AgentSettings | None = None,
) -> ProbePlan:
    """What `probe` with the same arguments would ask: which capabilities, how many requests, how many tokens.

        print(plan_probe(backend, only=["tools", "json_schema"]))

    Nothing is asked of the model. The server is asked once what it declares of it.
    """
    refuse_on_private_loops("plan_probe", "the first event of `probe(...)` has the plan")
    work = _Work(backend, chosen(only, skip), again, _checked_tokens(context_tokens), settings)

    async def plan(_run: Run[Any, ProbePlan]) -> ProbePlan:
        try:
            return await work.prepare()
        finally:
            await work.close()

    return Run(plan, name=f"plan_probe {work.backend.model}").result()


def _checked_tokens(context_tokens: Any) -> int:
    if not isinstance(context_tokens, int) or isinstance(context_tokens, bool) or context_tokens < 1:
        raise BadInput(f"context_tokens must be a whole number of tokens from 1; this is {context_tokens!r}.")
    return context_tokens


class _Work:
    """One probe: what is known before, what is asked, what is found."""

    def __init__(
        self,
        backend: OpenAICompatibleBackend | str,
        capabilities: tuple[Capability, ...],
        again: bool,
        context_tokens: int,
        settings: AgentSettings | None,
    ) -> None:
        if not isinstance(backend, str | OpenAICompatibleBackend):
            raise BadInput(f"probe takes a backend or a model's name; this is {type(backend).__name__}.")
        self.owned = isinstance(backend, str)
        self.backend = backend_for(backend, settings) if isinstance(backend, str) else backend
        self.capabilities = capabilities
        self.again = again
        self.context_tokens = context_tokens
        self.declared: Mapping[str, Fact] = {name: fact for name, fact in self.backend.declared.items() if fact.rank}
        self.results: dict[str, ProbeResult] = {}
        self.cached: dict[str, ProbeResult] = {}
        self.place: Place | None = None
        self.asker: Asker | None = None
        self.began = time.monotonic()
        self.notes: list[str] = []
        self.unjudged: set[str] = set()  # of which no judgement came about

    async def prepare(self) -> ProbePlan:
        """Ask the server what it declares, look into the cache, and make the plan."""
        self.declared = await _declared(self.backend)
        return self.plan()

    def plan(self) -> ProbePlan:
        """The plan by what is known now; asks nothing."""
        digest = self.declared.get("digest")
        self.place = verified.place_of_backend(self.backend, str(digest.value) if digest and digest.value else None)
        if not self.again:
            self.cached = self._stored(self.place)
        return plan_of(
            self.capabilities,
            model=self.backend.model,
            server=self.backend.server,
            base_url=self.backend.base_url,
            cached=self.cached,
            context=verified.declared_context(self.declared),
            most_context=self.context_tokens,
        )

    def _stored(self, place: Place) -> dict[str, ProbeResult]:
        """Earlier results that still hold: those about the context only while the declared one is the same."""
        stored, context = verified.read(place), verified.declared_context(self.declared)
        found = {}
        for capability in self.capabilities:
            data = stored.results.get(capability.name)
            if data is None:
                continue
            if capability.group in ("context", "output") and data.get("declared_context") != context:
                continue
            with contextlib.suppress(ValueError):
                found[capability.name] = ProbeResult.from_dict(data)
        return found

    async def run(self, run: Run[ProbeEvent, ProbeReport], *, progress: bool) -> ProbeReport:
        """Plan, ask, judge, keep."""
        bar: Any = None
        try:
            plan = await self.prepare()
            run.emit(ProbeEvent(what="planned", plan=plan))
            if progress and plan.capabilities:
                from mamba_nb._frontend import bar_class

                bar = bar_class()(
                    total=len(plan.capabilities), desc=f"probe {self.backend.model}", leave=False, unit=""
                )
            asker = self.asker = Asker(
                backend=self.backend, most=plan.requests, most_context=self.context_tokens, said=self._said()
            )
            found: dict[str, Finding] = {}
            for capability in self.capabilities:
                if capability.name in self.cached:
                    continue
                name = capability.name
                run.state = capability.title
                run.emit(ProbeEvent(what="begun", plan=plan, requests=asker.asked, capability=name))
                asker.on_asked = lambda name=name: run.emit(  # type: ignore[misc]
                    ProbeEvent(what="asked", plan=plan, requests=asker.asked, capability=name)
                )
                result = self.results[name] = await self._probed(capability, asker, found)
                run.emit(ProbeEvent(what="found", plan=plan, requests=asker.asked, capability=name, result=result))
                if bar is not None:
                    bar.update()
            if asker.gone is not None:
                self.notes.append(f"The probe was ended early: {asker.gone}")
            elif asker.asked:  # loaded by now, the model may be declared more fully
                self.declared = await _declared(self.backend)
        finally:
            if bar is not None:
                bar.close()
            self._keep()
            await self.close()
        return self.report()

    async def close(self) -> None:
        """Close what was made here."""
        if self.owned:
            await self.backend.aclose()

    async def _probed(self, capability: Capability, asker: Asker, found: dict[str, Finding]) -> ProbeResult:
        asker.evidence = []
        asked, began = asker.asked, time.monotonic()
        try:
            if asker.gone is not None:
                self.unjudged.add(capability.name)
                finding = Finding("unknown", f"Not asked: {asker.gone.message}")
            else:
                finding = await capability.ask(asker, found)
        except LimitReached:
            self.unjudged.add(capability.name)
            finding = Finding("unknown", f"The {asker.most} requests of the plan were sent before this was clear.")
        except Exception as error:  # what a server sent was of a shape that nobody foresaw: no verdict, and no crash
            self.unjudged.add(capability.name)
            finding = Finding("unknown", f"The answers could not be judged: {type(error).__name__}: {error}")
        found[capability.name] = finding
        return ProbeResult(
            capability=capability.name,
            title=capability.title,
            verdict=finding.verdict,
            why=asker.safe(finding.why + self._same_said(capability, finding)),
            value=finding.value,
            field=capability.field,
            fact=finding.fact if finding.verdict != "unknown" else None,
            requests=asker.asked - asked,
            seconds=round(time.monotonic() - began, 3),
            as_of=now(),
            evidence=tuple(asker.evidence),
        )

    def _same_said(self, capability: Capability, finding: Finding) -> str:
        """Why the answer is "no", where the server itself declares it: a template without tools, no vision part."""
        fact = self.declared.get(capability.field or "")
        if finding.verdict != "no" or fact is None or fact.value is not False or not fact.evidence:
            return ""
        return f" The server declares the same: {fact.evidence}."

    def _said(self) -> dict[str, Fact]:
        profile = get_profile(self.backend.model)
        claimed = {name: profile.fact(name) for name in FACT_FIELDS if profile.fact(name).rank}
        return {**claimed, **self.declared}

    def _keep(self) -> None:
        """Put what was found out into the cache; what is unknown leaves an earlier finding where it is.

        "Unknown" is kept too where every answer came and none told: asking again would tell no more. Where a request
        failed, it is not.
        """
        if self.place is None:
            return
        context, earlier = verified.declared_context(self.declared), verified.read(self.place).results
        found = {
            name: result
            for name, result in self.results.items()
            if result.verdict != "unknown"
            or (name not in self.unjudged and name not in earlier and not any(each.error for each in result.evidence))
        }
        verified.write(
            self.place,
            {name: {**asdict(result), "declared_context": context} for name, result in found.items()},
            {result.field: fact_of(result) for result in found.values() if result.field and result.fact is not None},
            context,
        )

    def report(self) -> ProbeReport:
        """What is known so far."""
        backend, profile = self.backend, get_profile(self.backend.model)
        done = {**self.cached, **self.results}
        digest = self.declared.get("digest")
        return ProbeReport(
            model=backend.model,
            server=backend.server,
            base_url=backend.base_url,
            digest=str(digest.value) if digest and digest.value else None,
            results=tuple(done[each.name] for each in self.capabilities if each.name in done),
            claimed={name: profile.fact(name) for name in FACT_FIELDS if profile.fact(name).source == "claimed"},
            declared=dict(self.declared),
            ignored=_ignored(backend.server),
            requests=self.asker.asked if self.asker is not None else 0,
            seconds=round(time.monotonic() - self.began, 3),
            from_cache=tuple(each.name for each in self.capabilities if each.name in self.cached),
            notes=tuple(self.notes),
        )


async def _declared(backend: OpenAICompatibleBackend) -> Mapping[str, Fact]:
    return {name: fact for name, fact in (await backend.declare()).items() if fact.rank}


def _ignored(server: str) -> dict[str, str]:
    """Capability -> what is known of its parameter on this kind of server."""
    kind = kind_of(server)
    if kind is None:
        return {}
    return {
        each.name: f"{kind.title} {how} `{each.param}`: {table[each.param]}"
        for how, table in (("ignores", kind.ignores), ("refuses", kind.refuses))
        for each in CAPABILITIES
        if each.param is not None and each.param in table
    }
