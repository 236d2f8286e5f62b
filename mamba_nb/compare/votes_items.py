"""What can be voted on, and what was voted: a comparison's items, ballots, and the pairs of models in a ballot.

An item is one prompt's answers; a ballot is one choice between them. For more than two answers a choice becomes
pairs: the chosen answer beats each other one that was shown, and nothing is said of those others among
themselves; a tie ties all; "both bad" names no winner. What follows from votes is in `votes`.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, TypeAlias

from mamba_nb.records import Cell, Comparison

__all__ = ["MOST_SHOWN", "Ballot", "Item", "Kind", "Pair", "digest", "items_of", "pairs", "shown_order"]

Kind: TypeAlias = Literal["win", "tie", "both_bad"]

MOST_SHOWN = 4  # answers beside each other; of more models each item shows so many, drawn by the seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One prompt's answers, to be voted on.

    Attributes:
        key: A hash of the prompt and the answers: the same after a restart, another when an answer is another.
        prompt_id: The prompt's label in the comparison.
        prompt: Its text.
        repeat: From 0.
        cells: The answers that were done, in the order of the comparison's labels; two at least.
    """

    key: str
    prompt_id: Any
    prompt: str
    repeat: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """One choice, as it stands in the file of votes.

    Attributes:
        item: The item's key.
        prompt_id: The prompt's label.
        prompt: Its text.
        repeat: From 0.
        order: The labels of the answers as they were shown, first to last.
        kind: `win`, `tie` or `both_bad`.
        winner: The label of the chosen answer; None where there is none.
        chars: Length of each answer's text in characters, in the order shown.
        seconds: From showing the item to locking the vote.
        voted_at: Wall-clock time of locking, ISO 8601 with offset.
    """

    item: str
    prompt_id: Any
    prompt: str
    repeat: int
    order: tuple[str, ...]
    kind: Kind
    winner: str | None
    chars: tuple[int, ...]
    seconds: float
    voted_at: str


@dataclass(frozen=True, slots=True)
class Pair:
    """What one ballot says of two models; `winner` is None for a tie and for both bad."""

    model_a: str
    model_b: str
    winner: str | None
    kind: Kind


def items_of(comparison: Comparison, *, running: bool = False) -> list[Item]:
    """What can be voted on, in the comparison's order.

    An answer that failed or was stopped takes no part; with fewer than two that were done there is no item.

    Args:
        comparison: The grid, or what there is of it.
        running: Whether answers are still to come: then an item needs an answer, or a failure, of every label.
    """
    groups: dict[tuple[str, str, int, int], dict[str, Cell]] = {}
    for cell in comparison.cells:
        again = 0
        while cell.label in groups.setdefault((repr(cell.prompt_id), cell.prompt, cell.repeat, again), {}):
            again += 1
        groups[repr(cell.prompt_id), cell.prompt, cell.repeat, again][cell.label] = cell
    items: list[Item] = []
    seen: dict[str, int] = {}
    for group in groups.values():
        cells = tuple(group[label] for label in comparison.labels if label in group)
        if running and (len(cells) < len(comparison.labels) or any(c.generation.status == "stopped" for c in cells)):
            continue
        done = tuple(cell for cell in cells if cell.generation.status == "done")
        if len(done) < 2:
            continue
        key = _key(done)
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > 1:  # the same prompt with the same answers once more: a vote of its own
            key = f"{key}-{seen[key]}"
        first = done[0]
        items.append(Item(key=key, prompt_id=first.prompt_id, prompt=first.prompt, repeat=first.repeat, cells=done))
    return items


def _key(cells: Sequence[Cell]) -> str:
    said = [
        [cell.label, cell.generation.text, [[call.name, call.arguments] for call in cell.generation.tool_calls]]
        for cell in cells
    ]
    return digest([cells[0].prompt, said])


def digest(value: Any) -> str:
    """Sixteen hexadecimal digits that stand for a value of JSON types."""
    return hashlib.sha256(json.dumps(value).encode("ascii")).hexdigest()[:16]


def shown_order(item: Item, seed: int | None = None) -> tuple[Cell, ...]:
    """The item's answers as they are shown: shuffled, for the same item and seed always in the same way."""
    cells = list(item.cells)
    random.Random(f"{'' if seed is None else seed}|{item.key}").shuffle(cells)
    return tuple(cells[:MOST_SHOWN])


def pairs(ballot: Ballot, labels: Sequence[str]) -> list[Pair]:
    """The ballot as pairs of models, each pair in the order of the labels."""
    shown = [label for label in labels if label in ballot.order]
    both = combinations(shown, 2)
    if ballot.kind == "win":
        return [Pair(a, b, ballot.winner, "win") for a, b in both if ballot.winner in (a, b)]
    return [Pair(a, b, None, ballot.kind) for a, b in both]
