"""All answers of a comparison view, of however many runs, as one `Comparison`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mamba_nb.compare.fairness import notes_on
from mamba_nb.compare.plan import Column, Plan
from mamba_nb.compare.progress import PanelState
from mamba_nb.display import html
from mamba_nb.display.panels import panels
from mamba_nb.display.text import count, esc, one_line
from mamba_nb.records import Cell, Comparison

__all__ = ["Answers", "plain", "stored"]

MOST_PROMPTS = 30  # that the plain copy shows
MOST_CHARS = 300_000  # of answers in the plain copy
PROMPT_CHARS = 400


class Answers:
    """Collects cells; asked again, an answer is a further repeat."""

    def __init__(self) -> None:
        self._cells: list[Cell] = []
        self._repeats: Counter[tuple[str, Any]] = Counter()
        self._columns: dict[str, Column] = {}
        self._planned = 0
        self._wall_s: float | None = None
        self._started_at: str | None = None

    def __len__(self) -> int:
        return len(self._cells)

    def add(self, cell: Cell) -> Cell:
        """Keep an answer; gives it with its number."""
        place = (cell.label, cell.prompt_id)
        cell = replace(cell, repeat=self._repeats[place])
        self._repeats[place] += 1
        self._cells.append(cell)
        return cell

    def add_run(self, plan: Plan, grid: Comparison) -> None:
        """A run has ended: what it had planned, and how long it took."""
        self._columns |= {column.label: column for column in plan.columns}
        self._planned += grid.planned
        if grid.wall_s is not None:
            self._wall_s = (self._wall_s or 0.0) + grid.wall_s
        self._started_at = self._started_at or grid.started_at

    def comparison(self, labels: Sequence[str], prompt_ids: Sequence[Any]) -> Comparison:
        """All answers so far, in the order of the prompts, then repeats, then labels."""
        cells = list(self._cells)
        prompt_at = {prompt_id: place for place, prompt_id in reversed(list(enumerate(prompt_ids)))}
        label_at = {label: place for place, label in enumerate(labels)}
        cells.sort(key=lambda cell: (prompt_at.get(cell.prompt_id, 0), cell.repeat, label_at.get(cell.label, 0)))
        grid = Comparison(
            cells=tuple(cells),
            labels=tuple(labels),
            planned=max(self._planned, len(cells)),
            wall_s=self._wall_s,
            started_at=self._started_at,
        )
        columns = tuple(self._columns[label] for label in labels if label in self._columns)
        return replace(grid, notes=notes_on(Plan(columns=columns, rows=(), repeats=1, max_concurrency=None), grid))


def stored(cell: Cell, context: int | None = None) -> PanelState:
    """An answer that has ended, as a panel shows it."""
    generation = cell.generation
    state = PanelState(cell.label, model=generation.model, server=generation.server, context=context)
    state.begin(cell.prompt).end(generation)
    return state


def plain(comparison: Comparison) -> str:
    """The summary and the latest answers to each prompt, as a page without scripts."""
    parts = [inner(html.comparison(comparison))]
    ids = comparison.prompt_ids
    left = MOST_CHARS
    for number, prompt_id in enumerate(ids):
        if number >= MOST_PROMPTS or left <= 0:
            parts.append(f"<p>The first {count(number)} of {count(len(ids))} prompts; .comparison has all.</p>")
            break
        latest = {cell.label: cell for cell in comparison.cells if cell.prompt_id == prompt_id}
        left -= sum(len(cell.generation.text) for cell in latest.values())
        prompt = next(iter(latest.values())).prompt
        states = [stored(latest[label]) if label in latest else _unasked(label) for label in comparison.labels]
        parts.append(f"<p><b>Prompt</b> <bdi>{esc(one_line(prompt, PROMPT_CHARS))}</bdi></p>{panels(states)}")
    return html.page("\n".join(parts))


def inner(page: str) -> str:
    """A page of `display.html` without its style sheet, for a place that has it already."""
    return page.partition("</style>")[2].rpartition("</div>")[0].strip()


def _unasked(label: str) -> PanelState:
    state = PanelState(label, model=label, server="")
    state.say("idle")
    return state
