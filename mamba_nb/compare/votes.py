"""Statistics of blind votes: shares and ratings with their intervals, who wins, and how many more votes would tell.

    share      wins and half the ties over all wins, ties and losses; its interval is Wilson's, 95 %
    rating     Bradley-Terry strength on Elo's scale: the mean is 1000, 400 points more is chosen ten times as often

Votes that all are bad count in no share and no rating. A tie counts as half a win, which makes Wilson's interval
wider than need be, never narrower. Intervals say how far chance goes at the moment of looking: who looks after every
vote and stops at the first "decided" will be wrong more often than one time in twenty. With a few votes the
bootstrap's intervals are somewhat too narrow; Wilson's hold.

Nothing here shows anything, reads a clock or writes a file. pandas and evalica are imported only by `ratings`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import NormalDist, stdev
from typing import Any, Literal

from mamba_nb.compare.votes_items import Ballot, Pair, pairs
from mamba_nb.errors import MissingExtra

__all__ = [
    "FEWEST",
    "Gap",
    "Rating",
    "Ratings",
    "Share",
    "Tally",
    "Verdict",
    "longer_wins",
    "more_votes",
    "ratings",
    "tallies",
    "verdict",
    "wilson",
]

FEWEST = 6  # votes; with five not even five out of five would decide between two at 95 % (an exact sign test)
RESAMPLES = 1000
Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95 % interval (Wilson's), and how many votes it rests on."""

    share: float
    low: float
    high: float
    votes: int


@dataclass(frozen=True, slots=True)
class Tally:
    """One model's ballots: how many it stood in, and how they went; votes of both bad are in `votes` alone."""

    model: str
    votes: int
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True, slots=True)
class Rating:
    """One model's rating with its 95 % interval; None where it stood in no ballot."""

    model: str
    rating: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Gap:
    """The points between the first and the second, with their 95 % interval and standard error."""

    points: float
    low: float
    high: float
    error: float


@dataclass(frozen=True, slots=True)
class Ratings:
    """All ratings, the highest first, and the gap between the first two; no gap where fewer were voted on."""

    rows: tuple[Rating, ...]
    gap: Gap | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Who wins, as far as the votes tell.

    Attributes:
        state: `too early`, `even` (no difference at all so far), `leading` (one is ahead, chance may be why) or
            `decided` (the 95 % interval leaves even out).
        leader: The label of who is ahead; None where nobody is.
        second: Who comes next; None where nobody is ahead.
        votes: The ballots that count: wins and ties.
        share: The leader's share against the second; None if `gap` says it instead.
        gap: Points between the two; None if `share` says it.
        more: About how many more ballots would decide it, were everything to go on as it has. As likely as not it
            takes more. None where it is decided, or where nothing is ahead.
    """

    state: Literal["too early", "even", "leading", "decided"]
    leader: str | None
    second: str | None
    votes: int
    share: Share | None = None
    gap: Gap | None = None
    more: int | None = None


def wilson(wins: float, votes: int) -> Share:
    """A share with Wilson's 95 % interval; with no votes at all the interval is everything.

    Examples:
        >>> share = wilson(7, 10)
        >>> round(share.low, 4), round(share.high, 4)
        (0.3968, 0.8922)
    """
    if not votes:
        return Share(math.nan, 0.0, 1.0, 0)
    share, z2 = wins / votes, Z * Z
    middle = (share + z2 / (2 * votes)) / (1 + z2 / votes)
    half = Z * math.sqrt(share * (1 - share) / votes + z2 / (4 * votes * votes)) / (1 + z2 / votes)
    return Share(share, max(0.0, middle - half), min(1.0, middle + half), votes)


def more_votes(wins: float, votes: int) -> int | None:
    """About how many more votes until Wilson's interval leaves one half out, should the share stay as it is.

    The interval leaves one half out as soon as n > z² / (4 (share - 1/2)²). A share does not stay as it is: this
    is the middle of what to expect, not a promise.

    Returns:
        0 where it does already; None where the share is one half, which no number of votes would decide.

    Examples:
        >>> more_votes(60, 100), more_votes(6, 10), more_votes(5, 10)
        (0, 87, None)
    """
    away = wins / votes - 0.5 if votes else 0.0
    if not away:
        return None
    return max(0, math.floor(Z * Z / (4 * away * away)) + 1 - votes)


def tallies(ballots: Iterable[Ballot], labels: Sequence[str]) -> list[Tally]:
    """One tally a label, in their order."""
    counted = {label: Tally(label, 0, 0, 0, 0) for label in labels}
    for ballot in ballots:
        for label in ballot.order:
            old = counted[label]
            won, tied = ballot.winner == label, ballot.kind == "tie"
            lost = ballot.kind == "win" and not won
            counted[label] = Tally(label, old.votes + 1, old.wins + won, old.ties + tied, old.losses + lost)
    return list(counted.values())


def longer_wins(ballots: Iterable[Ballot]) -> Share | None:
    """How often the longer answer was chosen, by characters of text; without any pull of length it is one half.

    Of more than two answers, each ballot counts with the part of the others that the chosen one is longer than;
    equally long counts half. None without a ballot that has a winner.
    """
    longer, votes = 0.0, 0
    for ballot in ballots:
        if ballot.winner is None:
            continue
        place = ballot.order.index(ballot.winner)
        own, others = ballot.chars[place], [n for at, n in enumerate(ballot.chars) if at != place]
        longer += sum((own > n) + 0.5 * (own == n) for n in others) / len(others)
        votes += 1
    return wilson(longer, votes) if votes else None


def verdict(ballots: Sequence[Ballot], labels: Sequence[str], rated: Ratings | None = None) -> Verdict:
    """Who wins.

    Args:
        ballots: All votes so far.
        labels: The models.
        rated: Their ratings. With more than two models the verdict is on the first two of them; without ratings it
            is on the two with the highest shares, by the votes between those two. Two models are told apart by the
            share alone.
    """
    counting = [ballot for ballot in ballots if ballot.kind != "both_bad"]
    votes = len(counting)
    if votes < FEWEST:
        return Verdict(state="too early", leader=None, second=None, votes=votes)
    if len(labels) > 2 and rated is not None and rated.gap is not None:
        return _by_gap(rated, rated.gap, votes)
    first, second = sorted(labels, key=lambda label: -_share_of(label, counting, labels).share)[:2]
    between = [p for b in counting for p in pairs(b, labels) if {p.model_a, p.model_b} == {first, second}]
    share = wilson(_points(first, between), len(between))
    if share.share < 0.5:  # ahead of the field, and behind this one
        first, second, share = second, first, wilson(_points(second, between), len(between))
    if not between or share.share == 0.5:
        return Verdict(state="even", leader=None, second=None, votes=votes, share=share)
    more = more_votes(share.share * share.votes, share.votes)
    if share.low > 0.5:
        return Verdict(state="decided", leader=first, second=second, votes=votes, share=share)
    if more is not None:  # not every ballot has a word on these two
        more = math.ceil(more * votes / len(between))
    return Verdict(state="leading", leader=first, second=second, votes=votes, share=share, more=more)


def _by_gap(rated: Ratings, gap: Gap, votes: int) -> Verdict:
    first, second = rated.rows[0].model, rated.rows[1].model
    if gap.points < 1e-6:
        return Verdict(state="even", leader=None, second=None, votes=votes, gap=gap)
    if gap.low > 0:
        return Verdict(state="decided", leader=first, second=second, votes=votes, gap=gap)
    # A standard error shrinks with the root of the number of votes.
    more = math.ceil(votes * ((Z * gap.error / gap.points) ** 2 - 1))
    return Verdict(state="leading", leader=first, second=second, votes=votes, gap=gap, more=max(1, more))


def _points(label: str, compared: Iterable[Pair]) -> float:
    return sum(1.0 if pair.winner == label else 0.5 * (pair.kind == "tie") for pair in compared)


def _share_of(label: str, ballots: Iterable[Ballot], labels: Sequence[str]) -> Share:
    own = [p for ballot in ballots for p in pairs(ballot, labels) if label in (p.model_a, p.model_b)]
    share = wilson(_points(label, own), len(own))
    return share if own else replace(share, share=0.0)


def ratings(
    ballots: Sequence[Ballot], labels: Sequence[str], *, seed: int | None = None, resamples: int = RESAMPLES
) -> Ratings:
    """Bradley-Terry ratings by evalica, with bootstrap intervals.

    Every model starts with one tie, shared out over the pairs with the others. Without it a model that has won every
    vote would have no finite rating. The bootstrap draws prompts, with all the votes on each (repeats of one prompt
    are not independent), and those first ties as wins and losses, so that a clean sweep has an interval as well.

    Args:
        ballots: The votes; both bad are left out.
        labels: The models.
        seed: Of the bootstrap; the same seed gives the same intervals.
        resamples: How many times to draw.

    Raises:
        MissingExtra: Without evalica: pip install "mamba_nb[stats]".
    """
    try:
        import evalica
        import numpy as np
        import pandas as pd
    except ImportError as error:
        raise MissingExtra("Bradley-Terry ratings", package="evalica", extra="stats") from error
    k, couples = len(labels), list(combinations(labels, 2))
    rows = [(a, b, outcome) for a, b in couples for outcome in (a, b, None)]
    place = {row: index for index, row in enumerate(rows)}
    prompts: dict[tuple[str, str], Any] = {}
    for ballot in ballots:
        if ballot.kind != "both_bad":
            votes = prompts.setdefault((repr(ballot.prompt_id), ballot.prompt), np.zeros(len(rows)))
            for pair in pairs(ballot, labels):
                votes[place[pair.model_a, pair.model_b, pair.winner]] += 1
    voted = {label for ballot in ballots if ballot.kind != "both_bad" for label in ballot.order}
    if len(voted) < 2:
        return Ratings(tuple(Rating(label, None, None, None) for label in labels), None)
    weight = 1 / (k - 1)
    prior = np.array([weight if outcome is None else 0.0 for _, _, outcome in rows])
    decided = np.eye(len(rows))[[index for index, row in enumerate(rows) if row[2] is not None]]
    units = np.vstack([*prompts.values(), decided])
    chances = np.array([1.0] * len(prompts) + [weight / 2] * len(decided))

    index = pd.Index(range(k))
    xs, ys = ([labels.index(row[side]) for row in rows] for side in (0, 1))
    outcomes = {0: evalica.Winner.X, 1: evalica.Winner.Y, 2: evalica.Winner.Draw}
    winners = [outcomes[at % 3] for at in range(len(rows))]

    def points(weights: Any) -> Any:
        scores = evalica.bradley_terry(
            xs, ys, winners, index=index, weights=(weights + prior).tolist(), limit=1000
        ).scores.reindex(index)
        strengths = 400 * np.log10(scores.to_numpy())
        return 1000 + strengths - strengths.mean()

    best = points(sum(prompts.values()))
    draws = np.random.default_rng(0 if seed is None else seed).multinomial(
        len(prompts) + math.ceil(k / 2), chances / chances.sum(), size=resamples
    )
    drawn = np.array([points(draw @ units) for draw in draws])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    order = sorted((at for at, label in enumerate(labels) if label in voted), key=lambda at: -best[at])
    table = [Rating(labels[at], float(best[at]), float(low[at]), float(high[at])) for at in order]
    table += [Rating(label, None, None, None) for label in labels if label not in voted]
    between = drawn[:, order[0]] - drawn[:, order[1]]
    ends = np.percentile(between, [2.5, 97.5])
    gap = Gap(float(best[order[0]] - best[order[1]]), float(ends[0]), float(ends[1]), stdev(between.tolist()))
    return Ratings(tuple(table), gap)
