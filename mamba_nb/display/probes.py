"""A probe's report as HTML, as text and as a pandas table.

In goes a `ProbeReport`, out comes one row a capability: what the probe verified, what the server declares, what is
claimed for the model's name, and what was seen, with the exchanges behind it. All that a model or a server wrote is
escaped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from mamba_nb.display.html import page
from mamba_nb.display.pieces import named, note, scrolls
from mamba_nb.display.text import UNKNOWN, count, duration, esc, figure, one_line, pad, storable, width
from mamba_nb.probes.capabilities import CAPABILITIES
from mamba_nb.probes.findings import VERDICTS, Evidence, ProbeResult
from mamba_nb.probes.report import ProbeReport
from mamba_nb.servers.facts import Fact

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "html", "text", "to_frame"]

MARKS = {"yes": ("✓", "good"), "partly": ("◐", "warn"), "no": ("✕", "quiet"), "unknown": ("?", "quiet")}
ONE_AGE_S = 300.0  # a probe takes a minute or two: its results are of one age
WHY_CHARS = 100  # of the words in the text table
TITLE_CHARS = 40
VALUE_CHARS = 26  # of a value that is text
EVIDENCE_CHARS = 400  # of what a source says of itself, and of an error
_FIELDS = {each.name: each.field for each in CAPABILITIES}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `to_frame()`: its name, pandas' dtype, and how it is read."""

    name: str
    dtype: Literal["str", "boolean", "Int64", "float64"]
    get: Callable[[ProbeReport, ProbeResult], Any]


COLUMNS: tuple[Column, ...] = (
    Column("model", "str", lambda report, _: report.model),
    Column("server", "str", lambda report, _: report.server),
    Column("base_url", "str", lambda report, _: report.base_url),
    Column("capability", "str", lambda _, result: result.capability),
    Column("verdict", "str", lambda _, result: result.verdict),
    Column("claimed", "str", lambda report, result: _plain(_claimed(report, result))),
    Column("declared", "str", lambda report, result: _plain(_declared(report, result))),
    Column("verified", "str", lambda _, result: _plain_verified(result)),
    Column("why", "str", lambda _, result: result.why),
    Column("evidence", "str", lambda _, result: _evidence_json(result)),
    Column("requests", "Int64", lambda _, result: result.requests),
    Column("seconds", "float64", lambda _, result: result.seconds),
    Column("as_of", "str", lambda _, result: result.as_of),
    Column("from_cache", "boolean", lambda report, result: result.capability in report.from_cache),
)


def to_frame(report: ProbeReport) -> pd.DataFrame:
    """One row a capability, with the columns of `COLUMNS`.

    `claimed`, `declared` and `verified` are `yes`, `no`, a number or a name as text; missing where nobody says, or
    nothing was shown. `evidence` is the exchanges as JSON.
    """
    import pandas as pd

    def cell(value: Any) -> Any:
        return storable(value) if isinstance(value, str) else value

    return pd.DataFrame(
        {
            column.name: pd.Series([cell(column.get(report, each)) for each in report.results], dtype=column.dtype)
            for column in COLUMNS
        }
    )


def html(report: ProbeReport) -> str:
    """The report as a table, complete in itself."""
    head = _head(report)
    notes = "".join(note(kind, words) for kind, words in _notes(report))
    if not report.results:
        return page(f'{head}<div class="mn-notes">{notes}</div>')
    titles = ("capability", "verified", "declared", "claimed", "what was seen")
    headings = "".join(
        f'<th scope="col" role="columnheader" class="mn-left{" mn-seen" if title == titles[-1] else ""}">{title}</th>'
        for title in titles
    )
    body = "".join(_row(report, result) for result in report.results)
    return page(
        f'{head}\n<div class="mn-probes"><table class="mn-table" role="table">\n'
        f'<thead role="rowgroup"><tr role="row">{headings}</tr></thead>\n'
        f'<tbody role="rowgroup">\n{body}</tbody></table></div>\n'
        f'<div class="mn-notes">{notes}</div>'
    )


def text(report: ProbeReport) -> str:
    """The same as aligned text for a terminal."""
    table = [("capability", "verified", "declared", "claimed", "what was seen")]
    for result in report.results:
        table.append(
            (
                one_line(result.title, TITLE_CHARS),
                _verdict_text(result),
                _plain(_declared(report, result)) or UNKNOWN,
                _plain(_claimed(report, result)) or UNKNOWN,
                one_line(result.why, WHY_CHARS),
            )
        )
    widths = [max(map(width, column)) for column in zip(*table, strict=True)]
    lines = [one_line(f"{report.model} · {report.server} · {report.base_url}"), _summary(report)]
    if report.results:
        lines += [
            "  ".join(pad(cell, columns) for cell, columns in zip(row, widths, strict=True)).rstrip() for row in table
        ]
    return "\n".join([*lines, *(f"! {one_line(words)}" for _kind, words in _notes(report))])


def _head(report: ProbeReport) -> str:
    where = f"·&nbsp;{named(report.server, TITLE_CHARS)} · {named(report.base_url)}"
    return (
        f'<div class="mn-title"><b>{named(report.model)}</b> <span class="mn-quiet">{where}<br>'
        f"{esc(_summary(report))}</span></div>"
    )


def _summary(report: ProbeReport) -> str:
    counts = [f"{n} {verdict}" for verdict in VERDICTS if (n := report.count(verdict))]
    parts = [", ".join(counts) or "nothing was probed"]
    if report.requests:
        plural = "s" if report.requests != 1 else ""
        parts.append(f"{count(report.requests)} request{plural} in {figure(report.seconds)} s")
    if report.from_cache:
        parts.append(f"{len(report.from_cache)} known from an earlier probe (again=True asks anew)")
    if age := _one_age(report):
        parts.append(f"verified {age}")
    return " · ".join(parts)


def _notes(report: ProbeReport) -> list[tuple[str, str]]:
    said = [("warning", words) for words in report.notes]
    if not report.results:
        said.append(("idle", "Nothing has been probed yet."))
    return said


def _row(report: ProbeReport, result: ProbeResult) -> str:
    declared, claimed = _declared(report, result), _claimed(report, result)
    differs = " mn-differs" if _differ(result, declared, claimed) else ""
    title = esc(one_line(result.title, TITLE_CHARS))
    return (
        # The roles stand there because the style makes boxes of the rows, which would cost the table its meaning.
        f'<tr role="row"><th scope="row" role="rowheader" class="mn-left">{title}</th>'
        f'<td role="cell" class="mn-left{differs}">{_verified(report, result)}</td>'
        f'<td role="cell" class="mn-left">{_said(declared)}</td>'
        f'<td role="cell" class="mn-left">{_said(claimed)}</td>'
        f'<td role="cell" class="mn-left mn-seen"><span class="mn-said"{scrolls(result.why, "what was seen")}>'
        f"{esc(result.why)}</span>{_exchanges(result, declared, claimed)}</td></tr>\n"
    )


def _verified(report: ProbeReport, result: ProbeResult) -> str:
    mark, tone = MARKS[result.verdict]
    word = "" if result.verdict == "unknown" else f" {result.verdict}"
    value = f" · {esc(shown)}" if (shown := _short_value(result)) else ""
    title = ' title="unknown: nothing was shown either way"' if result.verdict == "unknown" else ""
    age = f' <span class="mn-age">{esc(_age(_when(result.as_of)))}</span>' if _one_age(report) is None else ""
    return f'<span class="mn-verdict"{title}><span class="mn-{tone}">{mark}</span>{word}</span>{value}{age}'


def _said(fact: Fact | None) -> str:
    if fact is None or fact.value is None:
        return f'<span class="mn-quiet" title="nobody says">{UNKNOWN}</span>'
    title = f' title="{esc(one_line(fact.evidence, WHY_CHARS * 2))}"' if fact.evidence else ""
    if isinstance(fact.value, bool):
        mark, tone = MARKS["yes" if fact.value else "no"]
        return f'<span{title}><span class="mn-{tone}">{mark}</span> {_plain(fact)}</span>'
    return f"<span{title}>{esc(_plain(fact))}</span>"


def _exchanges(result: ProbeResult, declared: Fact | None, claimed: Fact | None) -> str:
    said = [
        f"<div>{source}: {named(fact.evidence, EVIDENCE_CHARS)}</div>"
        for source, fact in (("declared", declared), ("claimed", claimed))
        if fact is not None and fact.evidence
    ]
    shown = "".join(map(_exchange, result.evidence))
    if not said and not shown:
        return ""
    n = len(result.evidence)
    title = f"{n} exchange{'s' if n != 1 else ''}" if n else "who says so"
    return f"<details><summary>{title}</summary>{''.join(said)}{shown}</details>"


def _exchange(evidence: Evidence) -> str:
    took = f", {duration(evidence.latency_ms)}" if evidence.latency_ms is not None else ""
    error = f", {named(evidence.error, EVIDENCE_CHARS)}" if evidence.error else ""
    request = json.dumps(evidence.request, ensure_ascii=False)
    return (
        f'<div class="mn-exchange"><div class="mn-quiet">{esc(_moment(evidence.at) + took)}{error}</div>'
        f"<div{scrolls(request, 'what was asked')}><i>asked</i> <code>{esc(request)}</code></div>"
        f"<div{scrolls(evidence.reply, 'what came')}><i>came</i> <code>{esc(evidence.reply) or 'nothing'}</code></div>"
        "</div>"
    )


def _declared(report: ProbeReport, result: ProbeResult) -> Fact | None:
    return _fact(report.declared, result)


def _claimed(report: ProbeReport, result: ProbeResult) -> Fact | None:
    """What a table claims of the model, or what is known of the parameter on this kind of server."""
    if (fact := _fact(report.claimed, result)) is not None:
        return fact
    known = report.ignored.get(result.capability)
    return Fact(False, "claimed", known) if known else None


def _fact(facts: Mapping[str, Fact], result: ProbeResult) -> Fact | None:
    fact = facts.get(_FIELDS.get(result.capability) or result.field or "")
    return fact if fact is not None and fact.value is not None else None


def _differ(result: ProbeResult, declared: Fact | None, claimed: Fact | None) -> bool:
    """Whether somebody said otherwise than the probe found."""
    said = [fact.value for fact in (declared, claimed) if fact is not None]
    if result.verdict == "unknown":
        return False
    if result.field is None:
        return any(value != (result.verdict == "yes") for value in said)
    return result.fact is not None and any(value != result.fact for value in said)


def _plain(fact: Fact | None) -> str | None:
    if fact is None or fact.value is None:
        return None
    return "yes" if fact.value is True else "no" if fact.value is False else _value(fact.value)


def _plain_verified(result: ProbeResult) -> str | None:
    if result.verdict == "unknown":
        return None
    return str(result.value) if isinstance(result.value, int) else result.verdict


def _verdict_text(result: ProbeResult) -> str:
    mark, _tone = MARKS[result.verdict]
    shown = "" if result.verdict == "unknown" else f" {result.verdict}"
    return f"{mark}{shown}" + (f" · {value}" if (value := _short_value(result)) else "")


def _value(value: Any) -> str:
    return count(value) if isinstance(value, int) else one_line(str(value), VALUE_CHARS)


def _short_value(result: ProbeResult) -> str:
    """The value where it is a count or one word; longer ones stand in the words beside it."""
    if result.value is None or result.verdict == "unknown" or " " in str(result.value):
        return ""
    return _value(result.value)


def _one_age(report: ProbeReport) -> str | None:
    """How old the results are where all are of one probe's time; None where each needs an age of its own."""
    moments = sorted(when for result in report.results if (when := _when(result.as_of)) is not None)
    if not moments or (moments[-1] - moments[0]).total_seconds() > ONE_AGE_S:
        return None
    return _age(moments[0])


def _evidence_json(result: ProbeResult) -> str:
    from dataclasses import asdict

    return json.dumps([asdict(each) for each in result.evidence], ensure_ascii=False)


def _when(at: str) -> datetime | None:
    try:
        when = datetime.fromisoformat(at)
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _age(when: datetime | None) -> str:
    """How long ago that was, in words; empty where it is not known."""
    if when is None:
        return ""
    seconds = (datetime.now(UTC) - when).total_seconds()
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} ago"
    return "just now"


def _moment(at: str) -> str:
    when = _when(at)
    return f"{when:%Y-%m-%d %H:%M:%S}" if when is not None else at
