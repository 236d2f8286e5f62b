"""One run of a comparison view: some models, some prompts, through the engine that `compare` uses."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from mamba_nb._bridge import Run
from mamba_nb._bridge.threads import in_thread
from mamba_nb.compare.engine import CellEnded, Engine, GridEvent
from mamba_nb.compare.plan import Column, Plan
from mamba_nb.compare.progress import PanelState
from mamba_nb.errors import MambaError
from mamba_nb.records import Cell, Comparison
from mamba_nb.widgets._base import told

__all__ = ["Round"]

SETTLE_S = 2.0  # the longest wait for what was under way when the run was stopped


class Round:
    """Work in progress; it starts when it is made.

    Args:
        make_plan: Gives what is to be asked; it is called in a thread of its own, since it may build clients.
        name: What the work is, for `runs()`.

    Attributes:
        run: The Run; cancelling it stops the round.
        ended: Answers that have ended, in the order of ending; it only grows.
        error: What kept the round from running, as a widget shows it, or None.
    """

    def __init__(self, make_plan: Callable[[], Plan], name: str) -> None:
        self.ended: list[Cell] = []
        self.error: dict[str, str | None] | None = None
        self._make_plan = make_plan
        self._plan: Plan | None = None
        self._engine: Engine | None = None
        self._over = threading.Event()
        self._over_by: float | None = None
        self.run: Run[GridEvent, Comparison] = Run(self._work, name=name, partial=self.comparison)

    @property
    def states(self) -> list[PanelState]:
        """The panels, one a model; empty until the plan is made."""
        return self._engine.panels if self._engine else []

    @property
    def plan(self) -> Plan | None:
        """What is asked, once it is known."""
        return self._plan

    @property
    def progress(self) -> str:
        """How many answers there are, in words."""
        if self._engine is None or self._plan is None:
            return ""
        return f"{self._engine.finished:,} of {len(self._plan):,} answers"

    def comparison(self) -> Comparison | None:
        """The grid so far; None before there is a plan."""
        return self._engine.comparison() if self._engine else None

    def is_over(self) -> bool:
        """Whether the work has ended and has put down what it had; asked again and again."""
        if not self.run.done():
            return False
        # A run that is cancelled before its first step puts nothing down.
        self._over_by = self._over_by or time.monotonic() + SETTLE_S
        return self._over.is_set() or time.monotonic() > self._over_by

    async def _work(self, run: Run[GridEvent, Comparison]) -> Comparison:
        try:
            plan = await in_thread(self._make_plan)
            engine = await self._ready(plan)
            self._plan, self._engine = plan, engine
            run.state = "streaming"
            return await engine.run()
        except MambaError as error:
            self.error = told(error)
            raise
        except Exception as error:
            self.error = {"message": f"{type(error).__name__}: {error}", "hint": None, "says": None}
            raise
        finally:
            self._over.set()

    async def _ready(self, plan: Plan) -> Engine:
        """The engine, with what the servers declare of the models: asked at once, not one after the other."""
        backends = {id(column.backend): column.backend for column in plan.columns}.values()
        try:
            await asyncio.gather(*(backend.declare() for backend in backends))
            return Engine(plan, emit=self._take)
        except BaseException:
            await asyncio.gather(*(column.backend.aclose() for column in plan.columns if _is_ours(column)))
            raise

    def _take(self, event: GridEvent) -> None:
        if isinstance(event, CellEnded):
            self.ended.append(event.cell)


def _is_ours(column: Column) -> bool:
    return column.owned and not column.backend.closed
