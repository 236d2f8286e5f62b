"""One voter's way through the items: what comes next, what is chosen, what is locked. No widget, no file, no clock."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

from mamba_nb.compare.votes_items import Ballot, Item, Kind, shown_order
from mamba_nb.errors import BadInput
from mamba_nb.records import Cell

__all__ = ["Choice", "Session", "checked_items"]

Choice: TypeAlias = int | Literal["tie", "bad"]


def checked_items(items: Any) -> int | list[Any] | None:
    """The argument `items` as a number, a list of prompt ids, or None for all.

    Raises:
        BadInput: If it is none of these.
    """
    if items is None:
        return None
    if isinstance(items, bool) or (isinstance(items, int) and items < 1):
        raise BadInput(f"items is how many to vote on, from 1, or the prompt ids; this is {items!r}.")
    if isinstance(items, int):
        return items
    if isinstance(items, str) or not isinstance(items, Iterable):
        raise BadInput(f"items is a number, or a list of prompt ids; this is {type(items).__name__}.")
    return list(items)


class Session:
    """Items, votes, and the item that is open.

    Args:
        labels: The models.
        seed: Shuffles the answers of each item; None shuffles them by the item alone.
        items: How many to vote on, or the ids of their prompts; None for all.

    Attributes:
        items: What there is to vote on, in the comparison's order.
        ballots: Item key -> vote; also those of items that are not here.
        choice: What is chosen of the open item, from 1, `tie` or `bad`; it may change until it is locked.
        current: The open item, or None.
        wanted: How many to vote on, or which; None for all.
    """

    def __init__(self, labels: Sequence[str], seed: int | None, items: int | list[Any] | None) -> None:
        self.labels = tuple(labels)
        self.items: list[Item] = []
        self.ballots: dict[str, Ballot] = {}
        self.choice: Choice | None = None
        self.current: Item | None = None
        self._seed = seed
        self.wanted = items
        self._skipped: list[str] = []

    @property
    def counted(self) -> list[Ballot]:
        """The votes on the items that are here, in their order."""
        return [self.ballots[item.key] for item in self.items if item.key in self.ballots]

    @property
    def left(self) -> int:
        """How many items have no vote yet."""
        return sum(item.key not in self.ballots for item in self.items)

    @property
    def skipped(self) -> int:
        """How many of those were skipped."""
        return sum(item.key in self._skipped and item.key not in self.ballots for item in self.items)

    @property
    def shown(self) -> tuple[Cell, ...]:
        """The open item's answers in the order they are shown."""
        return shown_order(self.current, self._seed) if self.current is not None else ()

    def offer(self, found: Sequence[Item], *, running: bool) -> None:
        """Take over what can be voted on by now.

        Of a finished comparison a number of items is drawn by the seed; of a running one the first are taken. What
        has a vote, or was on offer before, stays.
        """
        if isinstance(self.wanted, list):
            found = [item for item in found if item.prompt_id in self.wanted]
        if isinstance(self.wanted, int):
            kept = {item.key for item in self.items} | self.ballots.keys()
            others = [item.key for item in found if item.key not in kept]
            if not running:
                random.Random(f"{'' if self._seed is None else self._seed}|items").shuffle(others)
            there = sum(item.key in kept for item in found)
            kept |= set(others[: max(0, self.wanted - there)])
            found = [item for item in found if item.key in kept]
        self.items = list(found)

    def take(self, ballots: Iterable[Ballot]) -> None:
        """Votes from the file; the first of an item stays."""
        for ballot in ballots:
            self.ballots.setdefault(ballot.item, ballot)

    def advance(self) -> Item | None:
        """Open the next item without a vote; skipped ones are left for later."""
        self.choice = None
        waiting = (i for i in self.items if i.key not in self.ballots and i.key not in self._skipped)
        self.current = next(waiting, None)
        return self.current

    def choose(self, choice: Any) -> bool:
        """Choose an answer by its place from 1, `tie` or `bad`; whether that is one of the choices."""
        known = choice in ("tie", "bad") or (type(choice) is int and 1 <= choice <= len(self.shown))
        if self.current is None or not known:
            return False
        self.choice = choice
        return True

    def undo(self) -> bool:
        """Take back the choice, or without one the last skip; whether another item is open now."""
        if self.choice is not None or not self._skipped:
            self.choice = None
            return False
        self._skipped.pop()
        before = self.current
        return self.advance() is not before

    def skip(self) -> None:
        """Leave the open item for later, and open the next."""
        if self.current is not None:
            self._skipped.append(self.current.key)
            self.advance()

    def forget_skips(self) -> None:
        """Let what was skipped come again."""
        self._skipped.clear()

    def lock(self, seconds: float, voted_at: str) -> Ballot | None:
        """Make the choice a vote; None where nothing is chosen."""
        item, choice = self.current, self.choice
        if item is None or choice is None:
            return None
        cells = self.shown
        kind: Kind = "tie" if choice == "tie" else "both_bad" if choice == "bad" else "win"
        ballot = Ballot(
            item=item.key,
            prompt_id=item.prompt_id,
            prompt=item.prompt,
            repeat=item.repeat,
            order=tuple(cell.label for cell in cells),
            kind=kind,
            winner=cells[choice - 1].label if isinstance(choice, int) else None,
            chars=tuple(len(cell.generation.text) for cell in cells),
            seconds=seconds,
            voted_at=voted_at,
        )
        self.take([ballot])
        return ballot
