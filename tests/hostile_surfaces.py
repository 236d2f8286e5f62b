"""Everything of this package that makes HTML or text of what others said, fed with one hostile text in every place.

    for kind, text in SURFACES["generation"](payload): ...      kind is `html`, `text` or `json`

Records are built directly, so that no server stands between a payload and its surface.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from mamba_nb.agent import AgentResult, ToolUse
from mamba_nb.backends.comparing_record import ProfileComparison, ProfileRow
from mamba_nb.backends.profiles import get_profile
from mamba_nb.compare.agents_grid import AgentComparison
from mamba_nb.compare.progress import PanelState
from mamba_nb.display import agents, html, markdown
from mamba_nb.display.live import _line
from mamba_nb.display.panels import panels, panels_text
from mamba_nb.doctor.report import Finding, Problem, Report
from mamba_nb.probes import Evidence, ProbeReport, ProbeResult
from mamba_nb.records import (
    Cell,
    Comparison,
    Generation,
    ReasoningDelta,
    Request,
    TextDelta,
    ToolCall,
    Usage,
)
from mamba_nb.servers.facts import Fact, ServedModel
from mamba_nb.servers.found import Other, Servers
from mamba_nb.servers.kinds import Sighting
from mamba_nb.servers.server import Server

__all__ = ["SURFACES", "generation", "grid", "html_of", "states", "surfaces_of"]

Shown = Iterator[tuple[str, str]]
NOW = "2026-11-22T10:00:00+00:00"
MIMES = {"text/html": "html", "text/plain": "text", "text/markdown": "markdown"}


def bundle(record: Any) -> Shown:
    """What a notebook would show of a record."""
    data = record._repr_mimebundle_()
    if isinstance(data, tuple):
        data = data[0]
    for mime, text in data.items():
        yield MIMES.get(mime, mime), text


def html_of(record: Any) -> str:
    """What a notebook shows of a record, as HTML."""
    return next(shown for kind, shown in bundle(record) if kind == "html")


def generation(payload: str, status: str = "done") -> Generation:
    """An answer of which every part is the payload."""
    return Generation(
        request=Request(
            model=payload,
            messages=({"role": "system", "content": payload}, {"role": "user", "content": payload}),
            params={"stop": payload},
        ),
        base_url=f"http://127.0.0.1:1/{payload}",
        server=payload,
        model=payload,
        text=payload,
        reasoning=payload,
        tool_calls=(ToolCall(id=payload, name=payload, arguments=payload),),
        text_at_s=(0.1, 0.5),
        finish_at_s=1.0,
        latency_s=1.0,
        usage=Usage(prompt_tokens=1, completion_tokens=2),
        finish_reason=payload,
        status=status,  # type: ignore[arg-type]
        error=payload,
        error_type=payload,
        warnings=(payload, f"{payload} again"),
        server_facts={payload: payload},
    )


def grid(payload: str) -> Comparison:
    """A comparison of two models and two prompts, all of it the payload."""
    labels = (payload, f"{payload} b")
    cells = tuple(
        Cell(
            label=label,
            variant=label,
            prompt_id=prompt,
            prompt=payload,
            repeat=0,
            generation=generation(payload, "done" if label == payload else "failed"),
        )
        for prompt in (payload, f"{payload} 2")
        for label in labels
    )
    return Comparison(cells=cells, labels=labels, planned=6, notes=(payload,), wall_s=1.0, started_at=NOW)


def agent_grid(payload: str) -> AgentComparison:
    """A comparison of agents' runs: the same, and what each of them called."""
    made, run = grid(payload), agent_result(payload)
    record = {
        "steps": 2,
        "calls": [
            {"name": payload, "arguments": payload, "valid": True, "shown": str(call)} for call in run.tool_calls
        ],
        "tools_s": 0.5,
        "output_mode": payload,
        "tools_mode": payload,
        "valid_arguments": True,
        "right_tool": False,
    }
    cells = tuple(replace(cell, generation=replace(cell.generation, agent=record)) for cell in made.cells)
    return AgentComparison(cells=cells, labels=made.labels, planned=6, notes=made.notes, wall_s=1.0, started_at=NOW)


def states(payload: str) -> list[PanelState]:
    """Panels: one whose answer grows, one that failed, one that is done."""
    made = [PanelState(payload, model=payload, server=payload, n_total=2, context=4096) for _ in range(3)]
    growing, failed, done = (panel.begin(payload) for panel in made)
    for piece in (payload[: len(payload) // 2], payload[len(payload) // 2 :], f"\n\n{payload}\n\nafter it"):
        growing.feed(ReasoningDelta(0.1, piece))
        growing.feed(TextDelta(0.2, piece))
    made[0].warn(payload)
    failed.end(generation(payload, "failed"))
    done.end(generation(payload))
    made[1].begin(payload)
    return made


def server(payload: str) -> Server:
    """A found server that says nothing else."""
    sighting = Sighting(kind="ollama", certainty="likely", evidence=payload, version=payload, mode=payload)
    model = ServedModel(
        id=payload,
        state=payload,
        task="chat",
        context_window=4096,
        quantization=payload,
        family=payload,
        digest=payload,
        supports_tools=True,
        evidence={"context_window": payload},
        extras={payload: payload},
    )
    return Server(
        sighting=sighting,
        base_url=f"http://127.0.0.1:1/{payload}",
        root="http://127.0.0.1:1",
        latency_ms=1.0,
        models=(model,),
        problems=(payload,),
    )


def servers(payload: str) -> Servers:
    """What a look around found."""
    other = Other(url=payload, what=payload, hint=payload, said_by=payload)
    return Servers(found=(server(payload),), others=(other,), advice=(payload,), places=3, took_s=0.1)


def profiles(payload: str) -> ProfileComparison:
    """Two rows whose sources disagree."""
    made = get_profile(payload)
    for source in ("claimed", "declared"):
        made = made.with_values(
            source,
            evidence=payload,
            as_of=NOW,
            quantization=payload,
            family=payload,
            context_window=4096 if source == "claimed" else 8192,
            supports_tools=source == "claimed",
        )
    rows = [
        ProfileRow(label=label, model=payload, server=payload, base_url=payload, profile=made, notes=(payload,))
        for label in (payload, f"{payload} b")
    ]
    return ProfileComparison(rows=tuple(rows), notes=(payload,))


def probe_report(payload: str) -> ProbeReport:
    """A report with evidence."""
    evidence = Evidence(request={"model": payload, payload: payload}, reply=payload, at=NOW, error=payload)
    results = tuple(
        ProbeResult(
            capability=capability,
            title=capability,
            verdict=verdict,  # type: ignore[arg-type]
            why=payload,
            value=payload,
            as_of=NOW,
            evidence=(evidence,),
        )
        for capability, verdict in (("tools", "yes"), ("reasoning", "no"), ("streaming", "unknown"))
    )
    fact = Fact(payload, "claimed", payload, NOW)
    return ProbeReport(
        model=payload,
        server=payload,
        base_url=payload,
        digest=payload,
        results=results,
        claimed={"supports_tools": fact},
        declared={"supports_tools": Fact(payload, "declared", payload, NOW)},
        ignored={"tools": payload},
        notes=(payload,),
    )


def doctor_report(payload: str) -> Report:
    """What the doctor says of a hostile server."""
    problem = Problem(severity="error", what=payload, fix=payload)
    return Report(
        findings=(Finding(server=server(payload), problems=(problem,)),),
        others={payload: payload},
        problems=(problem, Problem(severity="warning", what=payload, fix=payload)),
        embedded={"installed": True, "weights": payload, "running": 0},
        advice=(payload,),
    )


def agent_result(payload: str, status: str = "done") -> AgentResult[Any]:
    """An agent's result of two steps, with calls that went well and badly; one that is done gives text or data."""
    calls = (
        ToolUse(
            step=1, name=payload, arguments={payload: payload}, result={payload: [payload]}, took_s=0.1, valid=True
        ),
        ToolUse(step=1, name=payload, arguments=payload, error=payload, took_s=0.1, valid=False),
        ToolUse(step=2, name=payload, arguments={"a": payload}, result=payload, took_s=0.1),
    )
    outputs = {"done": payload, "data": {payload: payload, "list": [payload]}}
    return AgentResult(
        output=outputs.get(status),
        messages=[],
        tool_calls=calls,
        generations=(generation(payload, "failed"), generation(payload)),
        status="done" if status in outputs else status,  # type: ignore[arg-type]
        output_mode="prompted",
        output_why=payload,
        tools_mode="prompted",
        took_s=1.0,
        refusals={1: payload},
        notes=(payload,),
        error=None if status in outputs else payload,
    )


class _Talk:
    """What a conversation shows itself by; the messages of a real one come from pydantic-ai, and so from a server."""

    def __init__(self, payload: str) -> None:
        from pydantic_ai.messages import ModelRequest, UserPromptPart

        asked: list[Any] = [ModelRequest(parts=[UserPromptPart(content=payload)])]
        self.results = (replace(agent_result(payload), new_messages=asked), agent_result(payload, "data"))

    def __repr__(self) -> str:
        return "<a conversation>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        talk: Any = self
        return {"text/plain": agents.conversation_text(talk), "text/html": agents.conversation(talk)}


def conversation(payload: str) -> _Talk:
    """A conversation with an agent: a question and its answer, and one of data."""
    return _Talk(payload)


class LivePanels:
    """The live view as one output: while answers grow, and at their end."""

    def __init__(self, payload: str) -> None:
        made = states(payload)
        self._html = html.page(panels(made, live=True) + panels(made))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/html": self._html}


def _live(payload: str) -> Shown:
    made = states(payload)
    for live in (True, False):
        yield "html", html.page(panels(made, live=live))
    yield "text", panels_text(made)
    yield "line", _line(made)


def _markdown(payload: str) -> Shown:
    for text in (
        payload,
        f"before\n\n{payload}\n\nafter",
        f"- {payload}\n- b",
        f"> {payload}",
        f"[{payload}]({payload})",
    ):
        yield "markdown", markdown.html(text)
    end = markdown.stable_end(f"{payload}\n\nmore\n\n")
    yield "markdown", markdown.html(f"{payload}\n\nmore\n\n"[:end])


def _servers(payload: str) -> Shown:
    yield from bundle(servers(payload))
    yield from bundle(server(payload))


def _profiles(payload: str) -> Shown:
    record = profiles(payload)
    yield from bundle(record)
    yield from bundle(record.rows[0].profile)


def _generation(payload: str) -> Shown:
    for status in ("done", "failed", "stopped"):
        yield from bundle(generation(payload, status))


def _comparison(payload: str) -> Shown:
    record = grid(payload)
    yield from bundle(record)
    yield "line", repr(record)


def _agent(payload: str) -> Shown:
    for status in ("done", "data", "failed", "stopped"):
        yield from bundle(agent_result(payload, status))
    yield from bundle(conversation(payload))


def _agent_comparison(payload: str) -> Shown:
    record = agent_grid(payload)
    yield from bundle(record)
    yield "line", repr(record)


def _fold(payload: str) -> Shown:
    """The plain copy that every widget leaves."""
    from mamba_nb.widgets.panels import Panels

    made = Panels(states(payload))
    with contextlib.closing(made):
        made.fold(html.page(panels(states(payload))), payload)
        yield "html", made._folded
        yield "state", made.state  # type: ignore[misc]


def _chat(payload: str) -> Shown:
    """A chat whose conversation, model and calls are the payload."""
    from mamba_nb.backends import OpenAICompatibleBackend
    from mamba_nb.errors import RequestRejected
    from mamba_nb.widgets.chat import ChatView

    name = (payload.strip() and payload.encode("utf-8", "replace").decode()) or "x"
    call = {"id": "c", "type": "function", "function": {"name": payload, "arguments": payload}}
    said = [
        {"role": "system", "content": payload},
        {"role": "user", "content": payload},
        {"role": "assistant", "content": payload, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": payload},
        {"role": "assistant", "content": payload},
    ]
    with OpenAICompatibleBackend(name, "http://127.0.0.1:9/v1", server="vllm") as backend:
        backend.declared = {}
        made = ChatView(backend, messages=said)
        with contextlib.closing(made):
            failed = made._new(payload)
            failed.failed(RequestRejected(payload, hint=payload, server_says=payload), generation(payload))
            stopped = made._new(payload)
            stopped.stopped(generation(payload))
            made._turns += [failed, stopped]
            made._sync()
            made._fold()
            yield "html", made._folded
            yield "state", made.state  # type: ignore[misc]
            yield "line", repr(made)
            yield "code", made.as_code()


def _vote(payload: str) -> Shown:
    """The voting widget, where it is there, before and after the reveal."""
    from mamba_nb.widgets.vote import VoteView

    made = VoteView(grid(payload), path=False)
    with contextlib.closing(made):
        yield "state", made.state  # type: ignore[misc]
        yield "line", repr(made)
        yield "html", made._folded


def _table(payload: str) -> Shown:
    """The table of profiles, where it is there."""
    from mamba_nb.widgets.profile_table import ProfileTable

    record = profiles(payload)
    made = ProfileTable([row.profile for row in record.rows[:1]])
    with contextlib.closing(made):
        yield "state", made.state  # type: ignore[misc]
        yield "line", repr(made)
        yield "html", made._folded


SURFACES: dict[str, Callable[[str], Shown]] = {
    "generation": _generation,
    "comparison": _comparison,
    "live panels": _live,
    "markdown": _markdown,
    "servers": _servers,
    "profiles": _profiles,
    "probe report": lambda payload: bundle(probe_report(payload)),
    "doctor": lambda payload: bundle(doctor_report(payload)),
    "agent result": _agent,
    "agent comparison": _agent_comparison,
    "panels widget": _fold,
    "chat": _chat,
    "vote": _vote,
    "profile table": _table,
}


def surfaces_of(payload: str, name: str) -> Shown:
    """What one surface makes of the payload."""
    yield from SURFACES[name](payload)
