"""What the vote shows, as JSON: an item without anything that tells whose answers it has, then who they were.

Also the words for who wins, and the plain copy of the result. In go records and statistics, out come strings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from mamba_nb.compare.votes import Rating, Ratings, Share, Verdict, longer_wins, tallies, verdict, wilson
from mamba_nb.compare.votes_items import Ballot
from mamba_nb.display import html, markdown, style
from mamba_nb.display.text import UNKNOWN, count, duration, esc, figure, one_line, visible
from mamba_nb.records import Cell, Generation

__all__ = ["blind", "result_html", "standings", "unblinded"]

MOST_TEXT = 400_000  # characters of one answer that are shown
LABEL_CHARS = 80  # of a name inside a sentence
COLUMNS = ("votes", "wins", "ties", "losses", "share", "rating")


def blind(prompt: str, cells: Sequence[Cell]) -> dict[str, Any]:
    """An item as the voter sees it: the prompt, and texts without names, timings or reasoning."""
    return {"prompt": visible(prompt[:MOST_TEXT]), "answers": [_answer(cell) for cell in cells], "same": _same(cells)}


def _answer(cell: Cell) -> dict[str, Any]:
    text, calls = cell.generation.text, cell.generation.tool_calls
    note = ""
    if len(text) > MOST_TEXT:
        note = f"the first {count(MOST_TEXT)} of {count(len(text))} characters"
    elif not text.strip():
        note = "no text" if calls else "an empty answer"
    return {
        "html": markdown.html(text[:MOST_TEXT]) if text.strip() else "",
        "calls": [{"name": visible(call.name), "arguments": visible(call.arguments[:5000])} for call in calls],
        "note": note,
    }


def _same(cells: Sequence[Cell]) -> str:
    """Which answers are word for word the same, so that nobody hunts for a difference."""
    places: dict[Any, list[int]] = {}
    for place, cell in enumerate(cells, 1):
        calls = tuple((call.name, call.arguments) for call in cell.generation.tool_calls)
        places.setdefault((cell.generation.text.strip(), calls), []).append(place)
    groups = [" and ".join(map(str, group)) for group in places.values() if len(group) > 1]
    return f"Answers {'; '.join(groups)} are word for word the same." if groups else ""


def unblinded(cells: Sequence[Cell], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Whose answers they were, in the order shown."""
    return [
        {
            "label": visible(cell.label),
            "server": visible(_server(cell.generation)),
            "colour": style.model_class(list(labels).index(cell.label)),
            "figures": _figures(cell.generation),
        }
        for cell in cells
    ]


def _server(record: Generation) -> str:
    """The kind of server, or its address where the kind is not known."""
    return record.server if record.server != "unknown" else urlsplit(record.base_url).netloc or record.server


def _figures(record: Generation) -> list[dict[str, str]]:
    """What is known of how the answer came."""
    rate, tokens = record.output_tokens_per_s, record.completion_tokens
    known = (
        ("TTFT", None if record.ttft_ms is None else duration(record.ttft_ms), "send to the first token of any kind"),
        ("", None if rate is None else f"{figure(rate)} tok/s", "completion tokens over the whole latency"),
        ("", None if tokens is None else f"{count(tokens)} tokens", "by the server's count"),
        ("", None if record.latency_s is None else duration(1000 * record.latency_s), "send to the end of the answer"),
    )
    return [{"name": name, "value": value, "says": says} for name, value, says in known if value is not None]


def standings(
    ballots: Sequence[Ballot], labels: Sequence[str], rated: Ratings | None, note: str = "", *, pending: bool = False
) -> dict[str, Any]:
    """Who wins, and each model's figures.

    Args:
        ballots: The votes.
        labels: The models.
        rated: Their ratings, or None.
        note: What to say of ratings that are not there.
        pending: Whether ratings are being worked out; with more than two models the verdict waits for them.
    """
    points = {row.model: row for row in rated.rows} if rated else {}
    rows: list[tuple[float, dict[str, Any]]] = []
    for at, tally in enumerate(tallies(ballots, labels)):
        compared = tally.wins + tally.ties + tally.losses
        share = wilson(tally.wins + tally.ties / 2, compared)
        row = points.get(tally.model)
        rank = row.rating if row and row.rating is not None else share.share if compared else -1.0
        rows.append(
            (
                rank,
                {
                    "label": visible(tally.model),
                    "colour": style.model_class(at),
                    "votes": count(tally.votes),
                    "wins": count(tally.wins),
                    "ties": count(tally.ties),
                    "losses": count(tally.losses),
                    "share": _share(share) if compared else UNKNOWN,
                    "rating": _points(row),
                },
            )
        )
    rows.sort(key=lambda pair: -pair[0])
    waits = pending and len(labels) > 2
    return {
        "said": "Working out the ratings." if waits else said(verdict(ballots, labels, rated), len(labels)),
        "others": [text for text in (_bad(ballots, labels), _length(longer_wins(ballots))) if text],
        "rows": [shown for _, shown in rows],
        "note": note,
    }


def said(found: Verdict, models: int) -> str:
    """The verdict in words.

    Args:
        found: The verdict.
        models: How many models there are.
    """
    votes = f"{count(found.votes)} vote{'s' * (found.votes != 1)}"
    if found.state == "too early":
        if not found.votes:
            return "No votes that tell the models apart yet."
        return f"{votes}: too early to say who wins. Fewer than 6 decide nothing, even where all agree."
    if found.leader is None or found.second is None:
        return f"No difference so far, after {votes}. More votes would decide it only if that changes."
    leader, second = (f"“{one_line(name, LABEL_CHARS)}”" for name in (found.leader, found.second))
    wins = "wins" if found.state == "decided" else "leads"
    if found.gap is not None:
        low, high = (f"{end:.0f}".replace("-", "\N{MINUS SIGN}") for end in (found.gap.low, found.gap.high))
        text = (
            f"{leader} {wins}: {found.gap.points:.0f} points above {second} (95 % interval {low} to {high}, {votes})."
        )
    elif found.share is not None and models == 2:
        text = f"{leader} {wins} with {_share(found.share)} of {votes}, ties as halves (95 % interval in brackets)."
    elif found.share is not None:
        text = f"{leader} {wins} with {_share(found.share)} of the {count(found.share.votes)} votes between it and "
        text += f"{second}, ties as halves (95 % interval in brackets)."
    else:
        text = f"{leader} {wins}."
    if found.state == "decided":
        return text
    if found.more is None:
        return f"{text} Not decided."
    return f"{text} Not decided: {_about(found.more)} would decide it if all goes on like this; it may take more."


def _about(more: int) -> str:
    if more > 1000:
        return "more than a thousand further votes"
    step = 1 if more < 20 else 5 if more < 100 else 10
    rounded = math.ceil(more / step) * step
    return f"about {count(rounded)} more vote{'s' * (rounded != 1)}"


def _share(share: Share) -> str:
    return f"{100 * share.share:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f})"


def _bad(ballots: Sequence[Ballot], labels: Sequence[str]) -> str:
    bad = sum(ballot.kind == "both_bad" for ballot in ballots)
    if not bad:
        return ""
    return (
        f"{'Both' if len(labels) == 2 else 'All'} were bad {count(bad)} time{'s' * (bad != 1)}; that counts for none."
    )


def _length(share: Share | None) -> str:
    if share is None or share.votes < 6:
        return ""
    pull = (
        "the interval leaves 50 % out, so length may be what was voted on" if abs(_beyond(share)) else "no clear pull"
    )
    return f"The longer answer was chosen in {_share(share)} of {count(share.votes)} votes: {pull}."


def _points(row: Rating | None) -> str:
    if row is None or row.rating is None:
        return UNKNOWN
    return f"{row.rating:.0f} ({row.low:.0f} to {row.high:.0f})"


def _beyond(share: Share) -> int:
    return (share.low > 0.5) - (share.high < 0.5)


def result_html(shown: dict[str, Any], voted: int) -> str:
    """The standings as a page of plain HTML, for readers without a kernel."""
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    body = "".join(
        f'<tr><th scope="row" class="mn-label"><div><span class="mn-dot {row["colour"]}"></span>'
        f"<span><b><bdi>{esc(row['label'])}</bdi></b></span></div></th>"
        + "".join(f"<td>{esc(row[name])}</td>" for name in COLUMNS)
        + "</tr>\n"
        for row in shown["rows"]
    )
    below = "".join(f"<div>{esc(text)}</div>" for text in [*shown["others"], shown["note"]] if text)
    return html.page(
        f"<div><b>{esc(shown['said'])}</b></div>\n<div class='mn-quiet'>{count(voted)} blind votes.</div>\n"
        '<div class="mn-scroll" tabindex="0" role="region" aria-label="Result"><table class="mn-table"><thead><tr>'
        f'<th scope="col" class="mn-label">model</th>{head}'
        f"</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n{below}"
    )
