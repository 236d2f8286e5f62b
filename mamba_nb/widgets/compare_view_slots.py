"""One model's side of a comparison view: its answers so far, and which of them its panel shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mamba_nb.compare.progress import PanelState
from mamba_nb.records import Cell
from mamba_nb.widgets.compare_view_answers import stored

__all__ = ["Slot"]


@dataclass(slots=True, eq=False)
class Slot:
    """A chosen model.

    Attributes:
        id: Its id among the choices.
        label: What its column is called, unlike all others.
        place: Its place in the order of the colours, which is the order of first asking; None before that.
        pinned: Whether it stays first, and out of the next runs.
        live: What a run under way says of it, or None.
        history: Its answers, oldest first.
        at: Which of them is shown; None follows the run under way.
    """

    id: str
    label: str
    place: int | None = None
    pinned: bool = False
    live: PanelState | None = None
    history: list[Cell] = field(default_factory=list)
    at: int | None = None
    _stored: dict[int, PanelState] = field(default_factory=dict)
    _context: int | None = None
    _before: int = 0  # answers of earlier runs

    @property
    def cell(self) -> Cell | None:
        """The answer shown, where it has ended."""
        return self.history[self.at] if self.at is not None else None

    def shown(self) -> PanelState:
        """What the panel shows now; the same object until it shows something else."""
        key = -1 if self.at is None else self.at
        if self.at is None and self.live is not None:
            return self.live
        if key not in self._stored:
            self._stored[key] = self._idle() if self.at is None else stored(self.history[self.at], self._context)
        return self._stored[key]

    def facts(self) -> dict[str, Any]:
        """What the panel says beside its answer: which of how many it is."""
        under_way = self.live is not None and not self.live.ended
        at = len(self.history) + 1 if self.at is None else self.at + 1
        total = len(self.history) + under_way
        return {"id": self.id, "pinned": self.pinned, "at": min(at, total), "answers": total}

    def start(self, n_answers: int) -> None:
        """It is about to be asked."""
        self.at, self.live = None, PanelState(self.label, model=self.label, server="", n_total=n_answers)
        self._before = len(self.history)

    def follow(self, live: PanelState) -> None:
        """The run's own panel is there."""
        self.live = live

    def end(self, order: Callable[[Cell], int]) -> None:
        """Its run is over: its answers stand in `order` now; the last one is shown, unless another is looked at."""
        if self.live is not None:
            self._context = self.live.context
        self.live = None
        looked_at = self.cell
        self.history[self._before :] = sorted(self.history[self._before :], key=order)
        self._stored.clear()
        if self.history:
            self.at = len(self.history) - 1 if looked_at is None else self.history.index(looked_at)

    def browse(self, by: int) -> None:
        """Show the answer before or after; after the last one comes the one under way."""
        last = len(self.history) - (0 if self.live is not None and not self.live.ended else 1)
        now = len(self.history) if self.at is None else self.at
        place = max(0, min(last, now + by))
        self.at = place if place < len(self.history) else None

    def show_latest(self, wanted: Callable[[Cell], bool]) -> None:
        """Show the latest answer of a kind, where there is one."""
        for place in reversed(range(len(self.history))):
            if wanted(self.history[place]):
                self.at = place
                return

    def _idle(self) -> PanelState:
        state = PanelState(self.label, model=self.label, server="", n_total=1)
        state.say("idle")
        return state
