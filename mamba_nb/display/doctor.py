"""The doctor's report as HTML and as text: what is wrong first, then what runs.

In goes a `Report`, out come strings. What a server said of itself is escaped or made visible.
"""

from __future__ import annotations

from collections.abc import Iterator

from mamba_nb.display import style
from mamba_nb.display.html import page
from mamba_nb.display.pieces import named, scrolls, state_mark, table_box
from mamba_nb.display.text import UNKNOWN, count, duration, esc, one_line, pad, width
from mamba_nb.doctor.report import Finding, Problem, Report
from mamba_nb.servers.facts import ServedModel

__all__ = ["html", "text"]

MOST_MODELS = 12  # of one server; those in memory come first
NAME_CHARS = 60
MARKS = {"error": "failed", "warning": "warning"}


def html(report: Report) -> str:
    """The report as a page: problems with their remedies, then a row a model under its server's heading."""
    rows = "".join(_server_rows(finding) for finding in report.findings)
    table = (
        f'<div {table_box("What was looked at")}><table class="mn-table">\n'
        '<thead><tr><th scope="col" class="mn-label">server, model</th>'
        '<th scope="col" class="mn-left">state</th><th scope="col">context <span>tokens, in force</span></th>'
        '<th scope="col">context <span>tokens, at most</span></th></tr></thead>\n'
        f"{rows}</table></div>"
    )
    problems = "".join(_problem(problem) for problem in report.all_problems)
    others = "".join(
        f'<div>{state_mark("idle")} <span class="mn-quiet">{named(url)}: {named(told, 400)}</span></div>'
        for url, told in report.others.items()
    )
    below = "".join(
        f'<div class="mn-quiet"><span{scrolls(line, "note")}>{esc(line)}</span></div>' for line in _foot(report)
    )
    return page(
        f'<div class="mn-notes"><div>{_verdict_html(report)}</div>{problems}</div>\n'
        f'{table if rows else ""}\n<div class="mn-notes">{others}{below}</div>'
    )


def text(report: Report) -> str:
    """The same as aligned text for a terminal."""
    shape, _ = style.mark("done" if report.ok else "failed")
    lines = [f"{shape} {_verdict(report)}"]
    for problem in report.all_problems:
        lines += [f"{style.mark(MARKS[problem.severity])[0]} {one_line(problem.what)}", f"  {one_line(problem.fix)}"]
    for finding in report.findings:
        lines += ["", *_server_text(finding)]
    if report.others:
        lines += ["", "Not model servers:"]
        lines += [f"  {one_line(url)}: {one_line(told)}" for url, told in report.others.items()]
    return "\n".join([*lines, "", *map(one_line, _foot(report))])


def _verdict(report: Report) -> str:
    errors = sum(problem.severity == "error" for problem in report.all_problems)
    warnings = len(report.all_problems) - errors
    found = len(report.findings)
    said = f"{found} model server{'' if found == 1 else 's'} running"
    if errors:
        said += f", {errors} thing{'' if errors == 1 else 's'} wrong"
    if warnings:
        said += f", {warnings} to know"
    return said + "."


def _verdict_html(report: Report) -> str:
    return f"{state_mark('done' if report.ok else 'failed')} <b>{esc(_verdict(report))}</b>"


def _problem(problem: Problem) -> str:
    shape, colour = style.mark(MARKS[problem.severity])
    word = "wrong" if problem.severity == "error" else "to know"
    return (
        f'<div><span class="mn-mark mn-{colour}" role="img" aria-label="{word}">{shape}</span> '
        f"<span{scrolls(f'{problem.what} {problem.fix}', word)}><bdi>{esc(problem.what)}</bdi><br>"
        f'<span class="mn-quiet"><bdi>{esc(problem.fix)}</bdi></span></span></div>'
    )


def _server_rows(finding: Finding) -> str:
    models, left = _shown(finding)
    body = "".join(
        f'<tr><td class="mn-label"><div>{named(model.id, NAME_CHARS)}</div></td>'
        f'<td class="mn-left">{_state_html(model)}</td><td>{_tokens(model.context_window)}</td>'
        f"<td>{_tokens(model.context_max)}</td></tr>\n"
        for model in models
    )
    if left:
        body += f'<tr><td class="mn-label mn-quiet" colspan="4">and {count(left)} more</td></tr>\n'
    return (
        f'<tbody><tr><th scope="rowgroup" class="mn-label" colspan="4"><div><span><b>{esc(_title(finding))}</b> '
        f'<span class="mn-quiet">{named(_about(finding))}</span></span></div></th></tr>\n{body}</tbody>\n'
    )


def _state_html(model: ServedModel) -> str:
    state = model.state
    if state is None:
        return f'<span title="the server does not say">{UNKNOWN}</span>'
    shape, colour = style.mark({"loaded": "done", "loading": "loading model", "failed": "failed"}.get(state, "idle"))
    return f'<span class="mn-mark mn-{colour}" aria-hidden="true">{shape}</span> {named(state, 30)}'


def _server_text(finding: Finding) -> Iterator[str]:
    yield f"{_title(finding)} · {one_line(_about(finding))}"
    models, left = _shown(finding)
    rows = [
        (
            one_line(model.id, NAME_CHARS),
            one_line(model.state or UNKNOWN, NAME_CHARS),
            _tokens(model.context_window),
            _most(model),
        )
        for model in models
    ]
    widths = [max((width(row[place]) for row in rows), default=0) for place in range(3)]
    for name, state, in_force, most in rows:
        yield f"  {pad(name, widths[0])}  {pad(state, widths[1])}  context {pad(in_force, widths[2], right=True)}{most}"
    if left:
        yield f"  and {count(left)} more"
    if not rows:
        yield "  no models listed"


def _most(model: ServedModel) -> str:
    return f" of {count(model.context_max)}" if model.context_max else ""


def _tokens(value: int | None) -> str:
    return UNKNOWN if value is None else count(value)


def _shown(finding: Finding) -> tuple[list[ServedModel], int]:
    """The models to show, those in memory first, and how many are left out."""
    models = sorted(finding.server.models, key=lambda model: model.state != "loaded")
    return models[:MOST_MODELS], max(0, len(models) - MOST_MODELS)


def _title(finding: Finding) -> str:
    return finding.server.about.opening


def _about(finding: Finding) -> str:
    server = finding.server
    parts = [server.sighting.version, server.base_url]
    if server.latency_ms is not None:
        parts.append(duration(server.latency_ms))
    if server.sighting.certainty != "certain":
        parts.append(f"{server.sighting.certainty}: {server.sighting.evidence}")
    return " · ".join(part for part in parts if part)


def _foot(report: Report) -> list[str]:
    embedded, around = report.embedded, report.surroundings
    lines = list(report.advice)
    if embedded:
        if not embedded["installed"]:
            state = 'not installed (pip install "mamba_nb[embedded]")'
        elif embedded["weights"] is None:
            state = "installed; its weights (93 MB) are fetched at the first create_embedded_backend()"
        else:
            state = "ready" + (", running" if embedded["running"] else "")
        lines.append(f"Embedded model: {state}.")
    if around:
        inside = f" · in {around['inside']}" if around.get("inside", "plain") != "plain" else ""
        lines.append(f"mamba_nb {around['mamba_nb']} · Python {around['python']} · {around['platform']}{inside}")
    return lines
