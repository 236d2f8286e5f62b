"""What makes the columns of a comparison hard to compare, said in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median

from mamba_nb.compare.plan import Plan
from mamba_nb.records import Comparison, Generation

__all__ = ["notes_on"]

SAMPLING = ("temperature", "top_p", "max_tokens", "seed")
DECLARED = {"context_window": "context in force", "quantization": "quantisation"}


def notes_on(plan: Plan, grid: Comparison) -> tuple[str, ...]:
    """The notes on a grid; empty where nothing stands against comparing its columns."""
    return (*_sampling(plan), *_declared(plan), *_cut(grid), *_cached(grid), *_together(grid), *_no_counts(grid))


def _sampling(plan: Plan) -> Iterator[str]:
    """Plain models that are asked under different conditions; a variant's differences are its point."""
    models = [column for column in plan.columns if column.variant is None]
    for name in SAMPLING:
        values = {column.label: column.params.get(name) for column in models}
        if len(set(values.values())) > 1:
            told = ", ".join(
                f"{label}: {'left to the server' if value is None else value}" for label, value in values.items()
            )
            yield f"Different {name}: {told}."


def _declared(plan: Plan) -> Iterator[str]:
    """Models that their servers hold under different conditions, as far as these say so."""
    for name, title in DECLARED.items():
        facts = {column.label: column.backend.declared.get(name) for column in plan.columns}
        values = {label: fact.value for label, fact in facts.items() if fact is not None and fact.value is not None}
        if len(set(values.values())) > 1:
            told = ", ".join(
                f"{label} {f'{value:,}' if isinstance(value, int) else value}" for label, value in values.items()
            )
            yield f"Different {title}: {told}."


def _cut(grid: Comparison) -> Iterator[str]:
    told = _counted(grid, lambda answer: answer.finish_reason == "length")
    if told:
        yield f"Stopped at the token limit, not at their end: {told}."


def _cached(grid: Comparison) -> Iterator[str]:
    """A prompt that the server had in its cache gives a short TTFT that a fresh one would not."""
    told = _counted(grid, _mostly_cached)
    if told:
        yield f"Prompt mostly in the server's cache, so TTFT is short: {told}."


def _mostly_cached(answer: Generation) -> bool:
    cached = answer.usage.cached_tokens if answer.usage else None
    return bool(cached and answer.prompt_tokens and cached > answer.prompt_tokens / 2)


def _together(grid: Comparison) -> Iterator[str]:
    shared = [cell.generation.concurrency or 1 for cell in grid.cells if cell.generation.status == "done"]
    if shared and max(shared) > 1:
        yield (
            f"Up to {max(shared)} requests (middle {median(shared):g}) shared a server, so each was slower than "
            "alone. For single-request speed use max_concurrency=1."
        )


def _no_counts(grid: Comparison) -> Iterator[str]:
    silent = [
        label
        for label in grid.labels
        if (answers := _done(grid, label)) and all(answer.completion_tokens is None for answer in answers)
    ]
    if silent:
        yield f"No token counts from the server, so no tokens per second: {', '.join(silent)}."


def _counted(grid: Comparison, is_so: Callable[[Generation], bool]) -> str:
    """`label n of m` for every column where it is so for any answer; empty where it is so for none."""
    told = []
    for label in grid.labels:
        answers = _done(grid, label)
        if count := sum(map(is_so, answers)):
            told.append(f"{label} {count} of {len(answers)}")
    return ", ".join(told)


def _done(grid: Comparison, label: str) -> list[Generation]:
    return [cell.generation for cell in grid.cells if cell.label == label and cell.generation.status == "done"]
