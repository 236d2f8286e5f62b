"""Votes and ratings as pandas tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mamba_nb.compare.votes import Ratings, tallies
from mamba_nb.compare.votes_items import Ballot, pairs
from mamba_nb.display.text import storable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ratings_frame", "votes_frame"]

DTYPES = {
    **dict.fromkeys(("model_a", "model_b", "winner", "prompt", "order", "kind", "item", "voted_at"), "str"),
    "seconds": "float64",
    "repeat": "int64",
}
COLUMNS = ("model_a", "model_b", "winner", "kind", "prompt", "order", "seconds", "prompt_id", "repeat", "item")


def votes_frame(ballots: Sequence[Ballot], labels: Sequence[str]) -> pd.DataFrame:
    """One row a pair; `VoteView.votes` says what the columns are."""
    import pandas as pd

    rows = [
        {
            "model_a": storable(pair.model_a),
            "model_b": storable(pair.model_b),
            "winner": None if pair.winner is None else storable(pair.winner),
            "kind": ballot.kind,
            "prompt": storable(ballot.prompt),
            "order": " | ".join(map(storable, ballot.order)),
            "seconds": ballot.seconds,
            "prompt_id": ballot.prompt_id,
            "repeat": ballot.repeat,
            "item": ballot.item,
            "voted_at": ballot.voted_at,
        }
        for ballot in ballots
        for pair in pairs(ballot, labels)
    ]
    return pd.DataFrame(rows, columns=[*COLUMNS, "voted_at"]).astype(DTYPES)


def ratings_frame(ballots: Sequence[Ballot], labels: Sequence[str], rated: Ratings) -> pd.DataFrame:
    """One row a model, the highest rating first; `VoteView.ratings` says what the columns are."""
    import pandas as pd

    counted = {tally.model: tally for tally in tallies(ballots, labels)}
    frame = pd.DataFrame(
        [
            {
                "model": storable(row.model),
                "rating": row.rating,
                "low": row.low,
                "high": row.high,
                "votes": counted[row.model].votes,
                "wins": counted[row.model].wins,
                "ties": counted[row.model].ties,
                "losses": counted[row.model].losses,
            }
            for row in rated.rows
        ]
    )
    return frame.astype({"model": "str", "rating": "float64", "low": "float64", "high": "float64"})
