"""What makes the columns of a comparison hard to compare, said in words."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from mamba_nb.compare.plan import Plan
from mamba_nb.records import Cell, Comparison

__all__ = ["notes_on"]

SAMPLING = ("temperature", "top_p", "max_tokens", "seed")


def notes_on(plan: Plan, grid: Comparison) -> tuple[str, ...]:
    """The notes on a grid; empty where nothing stands against comparing its columns."""
    return (*_sampling(plan), *_cut(grid), *_cached(grid), *_together(grid), *_no_counts(grid))


def _sampling(plan: Plan) -> Iterator[str]:
    """Plain models that are asked under different conditions; a variant's differences are its point."""
    models = [column for column in plan.columns if column.variant is None]
    for name in SAMPLING:
        values = {column.label: column.params.get(name) for column in models}
        if len(set(values.values())) > 1:
            told = ", ".join(
                f"{label} {'the server decides' if value is None else value}" for label, value in values.items()
            )
            yield f"Different {name}: {told}."


def _cut(grid: Comparison) -> Iterator[str]:
    for label in grid.labels:
        cells = _done(grid, label)
        cut = sum(cell.generation.finish_reason == "length" for cell in cells)
        if cut:
            yield f"{label}: {cut} of {len(cells)} answers stopped at the token limit, not at their end."


def _cached(grid: Comparison) -> Iterator[str]:
    """A prompt that the server had in its cache gives a short TTFT that a fresh one would not."""
    for label in grid.labels:
        cells = [cell for cell in _done(grid, label) if cell.generation.usage and cell.generation.prompt_tokens]
        hits = [
            cell
            for cell in cells
            if cell.generation.usage
            and (cell.generation.usage.cached_tokens or 0) > 0.5 * (cell.generation.prompt_tokens or 0)
        ]
        if hits:
            yield f"{label}: {len(hits)} of {len(cells)} prompts were mostly in the server's cache: short TTFT."


def _together(grid: Comparison) -> Iterator[str]:
    shared = [cell.generation.concurrency or 1 for cell in grid.cells if cell.generation.status == "done"]
    if shared and max(shared) > 1:
        yield (
            f"Up to {max(shared)} requests (middle {median(shared):g}) shared a server, so each was slower than "
            "alone. For single-request speed use max_concurrency=1."
        )


def _no_counts(grid: Comparison) -> Iterator[str]:
    for label in grid.labels:
        cells = _done(grid, label)
        if cells and all(cell.generation.completion_tokens is None for cell in cells):
            yield f"{label}: the server reports no token counts, so there are no tokens per second."


def _done(grid: Comparison, label: str) -> list[Cell]:
    return [cell for cell in grid.cells if cell.label == label and cell.generation.status == "done"]
