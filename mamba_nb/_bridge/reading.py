"""`async for` over a Run's events, on the reader's own loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mamba_nb._bridge.waiting import STEP_S

if TYPE_CHECKING:
    from mamba_nb._bridge.run import Run

__all__ = ["AsyncReader"]

EventT = TypeVar("EventT")


class AsyncReader(Generic[EventT]):
    """`async for` over a Run's events, on the reader's own loop; forgotten half-way, it cancels the work."""

    def __init__(self, run: Run[EventT, Any], loop: asyncio.AbstractEventLoop) -> None:
        self._run = run
        self._finished = False
        self._bell = _Bell(loop)
        # Not a method of this reader: the run must not keep it alive, or __del__ would never come.
        run._wake = self._bell.ring

    def __aiter__(self) -> AsyncReader[EventT]:
        return self

    async def __anext__(self) -> EventT:
        __tracebackhide__ = True
        run = self._run
        try:
            while True:
                ended = run.done()  # asked before the queue is looked at, so that nothing is missed
                self._bell.rung = False
                if run._events:
                    return run._events.popleft()
                if ended:
                    self._finish()
                    await run._outcome_when_settled()
                    raise StopAsyncIteration
                await self._bell.wait(STEP_S)
        except asyncio.CancelledError:
            self._finish()
            run.cancel()
            raise

    def _finish(self) -> None:
        self._finished = True
        self._run._wake = None

    def __del__(self) -> None:
        if not self._finished:
            self._run._wake = None
            self._run.cancel()


class _Bell:
    """Rung from any thread, waited for on one loop; a ring that nobody has answered is not repeated.

    `wait` makes no task and no `wait_for`: that one may swallow a cancellation on Python 3.11.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.rung = False
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        if not self.rung:
            self.rung = True
            self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, at_most_s: float) -> None:
        self._waiter = self._loop.create_future()
        if self.rung:
            return
        heartbeat = self._loop.call_later(at_most_s, self._answer)
        try:
            await self._waiter
        finally:
            heartbeat.cancel()
