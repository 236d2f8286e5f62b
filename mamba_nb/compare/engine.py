"""Runs a plan: servers side by side, one model after another where only one fits, failures as data.

Everything here runs on the I/O loop. What has been finished is in the grid at every moment, so a cancelled
comparison loses nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from mamba_nb.backends._builder import GenerationBuilder
from mamba_nb.backends._params import LOADING
from mamba_nb.compare.fairness import notes_on
from mamba_nb.compare.plan import Column, Plan, Row
from mamba_nb.compare.progress import PanelState
from mamba_nb.errors import MambaError, ModelNotFound, RequestRejected, ServerFailed
from mamba_nb.records import Cell, Comparison, Generation, Request, Status, StreamEvent
from mamba_nb.servers.kinds import kind_of

__all__ = ["CellEnded", "CellEvent", "Engine", "GridEvent"]

WARM_UP_PROMPT = "Hi"


@dataclass(frozen=True, slots=True, kw_only=True)
class CellEvent:
    """A stream event of one cell."""

    label: str
    prompt_id: Any
    repeat: int
    event: StreamEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class CellEnded:
    """One cell is finished: done, failed or stopped."""

    cell: Cell


GridEvent: TypeAlias = CellEvent | CellEnded


class Growing(Protocol):
    """An answer under way."""

    def freeze(self, status: Status = "done", *, error: BaseException | None = None) -> Generation:
        """The record of what has come so far."""


class Engine:
    """Runs one plan once.

    Attributes:
        panels: What a live view shows, one a column, in the plan's order.
    """

    def __init__(self, plan: Plan, emit: Callable[[GridEvent], None] | None = None) -> None:
        self.plan = plan
        self.panels = [
            PanelState(
                column.label,
                model=column.backend.model,
                server=column.backend.server,
                n_total=len(plan.rows) * plan.repeats,
                context=_declared_context(column),
            )
            for column in plan.columns
        ]
        self._emit = emit
        self._cells: dict[tuple[int, int, int], Cell] = {}
        self._under_way: dict[tuple[int, int, int], Growing] = {}
        self._load_s: dict[int, float | None] = {}
        self._in_flight: dict[str, int] = {}
        self._first_sent: float | None = None
        self._last_ended: float | None = None
        self._started_at = datetime.now().astimezone().isoformat(timespec="milliseconds")

    @property
    def finished(self) -> int:
        """How many cells have ended, however they did; may be read from any thread."""
        return len(self._cells)

    async def run(self) -> Comparison:
        """Warm up, ask, collect; a failure of one cell stops no other."""
        try:
            async with asyncio.TaskGroup() as servers:
                for columns in self._by_server().values():
                    servers.create_task(self._serve(columns))
        finally:
            for panel in self.panels:
                panel.stop()
            await self._close_owned()
        return self.comparison()

    def comparison(self) -> Comparison:
        """The grid so far: finished cells, and those under way as `stopped` with what they have."""
        cells = dict(self._cells)
        for place, builder in list(self._under_way.items()):
            if place not in cells:
                cells[place] = self._cell(place, builder.freeze("stopped"))
        ordered = tuple(
            cell for _, cell in sorted(cells.items(), key=lambda item: (item[0][1], item[0][2], item[0][0]))
        )
        ended = self._last_ended if self._last_ended is not None else time.monotonic()
        grid = Comparison(
            cells=ordered,
            labels=tuple(column.label for column in self.plan.columns),
            planned=len(self.plan),
            wall_s=ended - self._first_sent if self._first_sent is not None else None,
            started_at=self._started_at,
        )
        grid = replace(grid, notes=notes_on(self.plan, grid))
        return grid if self.plan.agents is None else self.plan.agents.comparison(grid, self.plan)

    def _by_server(self) -> dict[str, list[int]]:
        groups: dict[str, list[int]] = {}
        for index, column in enumerate(self.plan.columns):
            groups.setdefault(column.backend.base_url, []).append(index)
        return groups

    async def _serve(self, columns: Sequence[int]) -> None:
        """All columns of one server, under one limit of requests at once."""
        backend = self.plan.columns[columns[0]].backend
        kind = kind_of(backend.server)
        limit = self.plan.max_concurrency or backend.slots or (kind.slots if kind else 1)
        slots = asyncio.Semaphore(limit)
        groups = [[index] for index in columns]
        if kind is None or not kind.one_model_at_a_time:
            groups = [list(columns)]
        else:  # each model is loaded once: all its columns, then the next model
            by_model: dict[Any, list[int]] = {}
            for index in columns:
                column = self.plan.columns[index]
                by_model.setdefault((column.backend.model, *_loading(column).items()), []).append(index)
            groups = list(by_model.values())
        for group in groups:
            ready = [index for index in group if await self._warm_up(index)]
            await self._ask_all(ready, slots)

    async def _warm_up(self, index: int) -> bool:
        """One short streamed completion before any clock starts; whether the column can be asked."""
        column, panel = self.plan.columns[index], self.panels[index]
        if self.plan.agents is not None and (refused := self.plan.agents.refusal(index)) is not None:
            self._fail_column(index, refused)
            return False
        same = next((i for i in self._load_s if _is_loaded_alike(self.plan.columns[i], column)), None)
        if same is not None:
            self._load_s[index] = self._load_s[same]
            panel.context = self.panels[same].context
            return True
        panel.say("loading model")
        began = time.monotonic()
        try:
            generation = await column.backend.generate(
                ({"role": "user", "content": WARM_UP_PROMPT},),
                {"max_tokens": 1, **_loading(column)},
                on_state=panel.say,
            )
            if generation.model != column.backend.model and generation.warnings and column.owned:
                await self._check_served(column)
            self._load_s[index] = time.monotonic() - began
        except (RequestRejected, ServerFailed):
            self._load_s[index] = None  # a server that refuses this little request may still take the real ones
        except MambaError as error:
            self._fail_column(index, error)
            return False
        panel.server = column.backend.server
        await column.backend.declare()  # the model is in memory now, so its context in force can be told
        panel.context = _declared_context(column)
        panel.say("waiting")
        return True

    async def _check_served(self, column: Column) -> None:
        """A name that the server does not have is an error even where it answers with another model."""
        served = await column.backend.alist_models()
        if served and column.backend.model not in served:
            raise ModelNotFound(column.backend.model, base_url=column.backend.base_url, served=served)

    def _fail_column(self, index: int, error: MambaError) -> None:
        column = self.plan.columns[index]
        for row_index, row in enumerate(self.plan.rows):
            for repeat in range(self.plan.repeats):
                answer = self.panels[index].begin(row.text)
                builder = self._builder(column, row)
                generation = builder.freeze("failed", error=error)
                answer.end(generation)
                self._put((index, row_index, repeat), generation)

    async def _ask_all(self, columns: Sequence[int], slots: asyncio.Semaphore) -> None:
        async with asyncio.TaskGroup() as cells:
            for row_index in range(len(self.plan.rows)):
                for repeat in range(self.plan.repeats):
                    for index in columns:
                        # Taken here, not in the task: cells are asked in the plan's order.
                        await slots.acquire()
                        task = cells.create_task(self._ask((index, row_index, repeat)))
                        task.add_done_callback(lambda _task: slots.release())

    async def _ask(self, place: tuple[int, int, int]) -> None:
        index, row_index, repeat = place
        column, row = self.plan.columns[index], self.plan.rows[row_index]
        server = column.backend.base_url
        answer = self.panels[index].begin(row.text)
        self._first_sent = self._first_sent or time.monotonic()
        self._in_flight[server] = at_once = self._in_flight.get(server, 0) + 1

        def take(event: StreamEvent) -> None:
            answer.feed(event)
            if self._emit is not None:
                self._emit(CellEvent(label=column.label, prompt_id=row.prompt_id, repeat=repeat, event=event))

        def say(state: str) -> None:
            answer.state = state

        def keep(builder: Growing) -> None:
            self._under_way[place] = builder

        generation: Generation | None = None
        messages, agents = self.plan.messages(column, row), self.plan.agents
        try:
            if agents is None:
                generation = await column.backend.generate(
                    messages, column.params, emit=take, on_state=say, on_builder=keep
                )
            else:
                generation = await agents.ask(
                    place, messages, emit=take, on_state=say, on_builder=keep, blank=lambda: self._builder(column, row)
                )
        except MambaError as error:
            builder = self._under_way.get(place) or self._builder(column, row)
            generation = builder.freeze("failed", error=error)
        except asyncio.CancelledError:
            builder = self._under_way.get(place) or self._builder(column, row)
            generation = builder.freeze("stopped")
            raise
        finally:
            self._in_flight[server] -= 1
            self._last_ended = time.monotonic()
            if generation is not None:
                generation = replace(
                    generation, load_s=self._load_s.get(index), concurrency=at_once, context=self.panels[index].context
                )
                answer.end(generation)
                self._put(place, generation)
            self._under_way.pop(place, None)

    def _builder(self, column: Column, row: Row) -> GenerationBuilder:
        """A builder for a cell that never came as far as the backend's own."""
        request = Request(
            model=column.backend.model, messages=self.plan.messages(column, row), params=dict(column.params)
        )
        return GenerationBuilder(request, base_url=column.backend.base_url, server=column.backend.server)

    def _cell(self, place: tuple[int, int, int], generation: Generation) -> Cell:
        index, row_index, repeat = place
        column, row = self.plan.columns[index], self.plan.rows[row_index]
        return Cell(
            label=column.label,
            variant=column.variant,
            prompt_id=row.prompt_id,
            prompt=row.text,
            repeat=repeat,
            generation=generation,
        )

    def _put(self, place: tuple[int, int, int], generation: Generation) -> None:
        cell = self._cells[place] = self._cell(place, generation)
        if self._emit is not None:
            self._emit(CellEnded(cell=cell))

    async def _close_owned(self) -> None:
        for backend in {id(column.backend): column.backend for column in self.plan.columns if column.owned}.values():
            await backend.aclose()


def _declared_context(column: Column) -> int | None:
    """The context in force as the server declares it; a table's claim is not shown as a fact."""
    fact = column.backend.declared.get("context_window")
    return fact.value if fact is not None and isinstance(fact.value, int) else None


def _loading(column: Column) -> dict[str, Any]:
    """The parameters that decide how the model is loaded: other ones of a server that has it mean another load."""
    return {name: column.params[name] for name in LOADING if name in column.params}


def _is_loaded_alike(one: Column, other: Column) -> bool:
    return one.backend is other.backend and _loading(one) == _loading(other)
