"""Work in progress: one handle, read in whichever way suits the caller."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import Any, Generic, TypeVar

from mamba_nb._bridge.loops import PrivateLoop, before_exit, foreign, here, io, on_fork, refuse_on_private_loops
from mamba_nb._bridge.reading import AsyncReader
from mamba_nb._bridge.waiting import SETTLE_S, STEP_S, interruptible, wait_in_steps
from mamba_nb.errors import RunStopped

__all__ = ["Run", "RunList", "runs", "settle", "wait_with_ticks"]

EventT = TypeVar("EventT")
ResultT = TypeVar("ResultT")

KEEP_ENDED = 10  # how many ended runs `runs(ended=True)` remembers

_log = logging.getLogger("mamba_nb")
_running: dict[int, Run[Any, Any]] = {}  # until the work has put everything down, cancelled or not
_ended: deque[Run[Any, Any]] = deque(maxlen=KEEP_ENDED)
_numbers = itertools.count(1)


class Run(Generic[EventT, ResultT]):
    """Work in progress. It starts when it is made.

        for event in run: ...            in a script or a cell; leaving the loop early cancels the work
        async for event in run: ...      the same where `await` works
        result = await run               a cell that the square button can stop
        result = run.result(timeout=60)  blocks; any number of times
        run.cancel()                     from any thread
        with backend.stream("...") as run: ...   cancels what is left at the end of the block

    Events can be read once, the result as often as you like. `await`, `asyncio.gather`, `asyncio.wait_for`
    and `asyncio.ensure_future` take a Run; `asyncio.run` and `create_task`, which insist on a coroutine,
    do not. A Run belongs to the process that made it.

    Attributes:
        name: What the work is, in a few words.
    """

    def __init__(
        self,
        work: Callable[[Run[EventT, ResultT]], Coroutine[Any, Any, ResultT]],
        *,
        name: str,
        on: PrivateLoop | None = None,
        partial: Callable[[], Any] | None = None,
    ) -> None:
        self.name = name
        self._state = "waiting"
        self.started = time.monotonic()
        self.number = next(_numbers)
        self._pid = os.getpid()
        self._events: deque[EventT] = deque()
        self._read = False
        self._wake: Callable[[], object] | None = None
        self._partial = partial
        self._on = on or io
        self.worker = getattr(here, "worker", None)
        self._settled: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._future: concurrent.futures.Future[ResultT] = concurrent.futures.Future()  # until submit has returned
        _running[self.number] = self
        try:
            self._future = self._on.submit(self._work(work))
        except BaseException:
            del _running[self.number]
            raise
        self._future.add_done_callback(self._end)

    async def _work(self, work: Callable[[Run[EventT, ResultT]], Coroutine[Any, Any, ResultT]]) -> ResultT:
        try:
            return await work(self)
        except Exception:
            if self._future.cancelled():  # nobody is left to take it, and asyncio would complain of that
                _log.debug("%s failed while it was being cancelled", self.name, exc_info=True)
                raise asyncio.CancelledError from None
            raise
        finally:
            _running.pop(self.number, None)
            settle(self._settled, value=None)

    def _end(self, future: concurrent.futures.Future[ResultT]) -> None:
        # A cancelled future is done at once, while its work may still be putting things down: see `_settled`.
        self._state = _how_it_ended(future)
        _ended.append(self)
        self._notify()

    # what the work calls, on its loop

    def emit(self, event: EventT) -> None:
        """Hand an event to whoever reads this run; called by the work itself."""
        self._events.append(event)
        self._notify()

    def _notify(self) -> None:
        wake = self._wake
        if wake is not None:
            with contextlib.suppress(RuntimeError):  # the reader's loop may be closed by now
                wake()

    # what the owner calls, from anywhere

    @property
    def state(self) -> str:
        """What it is doing now: `waiting`, `loading model`, `streaming`, ...; at last `done`, `stopped` or `failed`."""
        if self._pid == os.getpid() and self._future.done():
            return _how_it_ended(self._future)
        return self._state

    @state.setter
    def state(self, doing: str) -> None:
        self._state = doing

    def done(self) -> bool:
        """Whether the work has ended, one way or another."""
        self._check_process()
        return self._future.done()

    def cancelled(self) -> bool:
        """Whether the work was cancelled before it ended."""
        self._check_process()
        return self._future.cancelled()

    def cancel(self) -> bool:
        """Cancel the work; the server sees the connection close.

        Returns:
            Whether there was anything left to cancel.
        """
        # The process first: in a forked child, one of the parent's threads may hold the future's lock for ever.
        return self._pid == os.getpid() and not self._future.done() and self._future.cancel()

    @property
    def partial(self) -> Any:
        """What has been finished so far (a `Generation`, a `Comparison`), or None."""
        self._check_process()
        if self._future.done() and not self._future.cancelled() and self._future.exception() is None:
            return self._future.result()
        return self._partial() if self._partial is not None else None

    def result(self, timeout: float | None = None) -> ResultT:
        """Wait for the work to end, and give its result.

        Args:
            timeout: Seconds to wait; the work goes on when they are over. None waits without limit.

        Raises:
            TimeoutError: If `timeout` is over first.
            RunStopped: If the work was cancelled; `.partial` has what was finished.
            KeyboardInterrupt: On an interrupt; the work is cancelled, and the exception carries `.run` and
                `.partial`.
            WrongLoop: On one of this package's own loops, where waiting would never end.
        """
        __tracebackhide__ = True  # a reader's traceback ends at the reader's own line
        self._check_process()
        if not self._future.done():
            refuse_on_private_loops(f"{self.name}: .result()", "await it instead: `await run`")
            self._wait(timeout)
        self._let_settle()
        return self._outcome()

    def _wait(self, timeout: float | None, tick: Callable[[], None] | None = None) -> None:
        """Wait in short steps; `tick` is called between them, on the waiting thread."""
        __tracebackhide__ = True
        try:
            wait_in_steps(self._future, timeout, f"{self.name} (it goes on; .cancel() ends it)", tick)
        except TimeoutError:
            raise
        except KeyboardInterrupt as interrupt:
            self._stop_for(interrupt)
            raise interrupt.with_traceback(None) from None  # which line of ours it hit tells nobody anything
        except BaseException as error:  # whatever a signal handler or `tick` raised
            self._stop_for(error)
            raise

    def _let_settle(self) -> None:
        """Give cancelled work a moment to put down what it has; not on a loop that would have to do it."""
        if self._future.cancelled() and getattr(here, "loop", None) is None:
            concurrent.futures.wait([self._settled], timeout=SETTLE_S)

    def _stop_for(self, interrupt: BaseException) -> None:
        """Cancel, wait a moment for the pieces to be put down, and hang them on the exception."""
        answered = self._on.ping()
        self.cancel()
        self._let_settle()
        if self._on is foreign and not self._settled.done() and not answered.is_set():
            foreign.leave()
        interrupt.run = self  # type: ignore[attr-defined]
        interrupt.partial = self.partial  # type: ignore[attr-defined]

    def _outcome(self) -> ResultT:
        __tracebackhide__ = True
        try:
            return self._future.result(timeout=0)
        except concurrent.futures.CancelledError as error:
            raise RunStopped(
                f"{self.name} was stopped before it ended.",
                partial=self.partial,
                hint="What had been finished is in the exception's .partial.",
            ) from error

    def __await__(self) -> Generator[Any, None, ResultT]:
        self._check_process()
        return self._await().__await__()

    async def _await(self) -> ResultT:
        __tracebackhide__ = True
        # The heartbeat matters: SIGINT cancels the cell's task, but does not wake an idle loop.
        waiter = asyncio.wrap_future(self._future)
        waiter.add_done_callback(_retrieved)
        try:
            while not waiter.done():
                await asyncio.wait({waiter}, timeout=STEP_S)
        except BaseException:
            self.cancel()
            raise
        return await self._outcome_when_settled()

    async def _outcome_when_settled(self) -> ResultT:
        __tracebackhide__ = True
        if self._future.cancelled() and not self._settled.done():
            await asyncio.wait({asyncio.wrap_future(self._settled)}, timeout=SETTLE_S)
        return self._outcome()

    def __iter__(self) -> Iterator[EventT]:
        self._check_process()
        refuse_on_private_loops(f"{self.name}: a `for` over its events", "use `async for`")
        self._start_reading()
        return self._iterate()

    def _iterate(self) -> Generator[EventT, None, None]:
        __tracebackhide__ = True
        wake = threading.Event()
        self._wake = wake.set
        finished = False
        try:
            while True:
                ended = self.done()  # asked before the queue is emptied, so that nothing is missed
                wake.clear()
                while self._events:
                    yield self._events.popleft()
                if ended:
                    break
                if not self._events and not self.done():
                    with interruptible():
                        wake.wait(STEP_S)
            finished = True
            self._let_settle()
            self._outcome()  # a failure ends the loop as the exception it is
        except KeyboardInterrupt as interrupt:
            finished = True
            self._stop_for(interrupt)
            raise interrupt.with_traceback(None) from None
        finally:
            self._wake = None
            if not finished:
                self.cancel()

    def __aiter__(self) -> AsyncIterator[EventT]:
        self._check_process()
        loop = asyncio.get_running_loop()
        self._start_reading()
        return AsyncReader(self, loop)

    def _start_reading(self) -> None:
        if self._read:
            raise RuntimeError(
                f"The events of {self.name} have been read already; they can be read once. "
                "The result is still there: run.result()."
            )
        self._read = True

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise RuntimeError(
                f"{self.name} was started by process {self._pid}, this is {os.getpid()}: a Run stays with the "
                "process that made it. Start a new one here."
            )

    def __bool__(self) -> bool:
        raise TypeError("A Run is neither true nor false. Take its result: run.result(), or `await run`.")

    def __enter__(self) -> Run[EventT, ResultT]:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.cancel()

    def __repr__(self) -> str:
        return f"<Run {self.number} {self.name} · {self.state} · {time.monotonic() - self.started:.1f} s>"


class RunList(list[Run[Any, Any]]):
    """The runs that are under way, to look at and to stop."""

    def cancel(self) -> int:
        """Cancel them all; gives how many there were left to cancel."""
        return sum(run.cancel() for run in self)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) if self else "<no runs under way>"


def runs(*, ended: bool = False) -> RunList:
    """What is running, or was left behind by a cell that was run again.

        for run in runs():
            run.cancel()

    Args:
        ended: Give the last few that have ended as well, so that an interrupted one can be found again.
    """
    listed = {run.number: run for run in [*_ended, *_running.values()]}
    return RunList(run for run in listed.values() if ended or not run.done())


def wait_with_ticks(run: Run[Any, ResultT], tick: Callable[[], None]) -> ResultT:
    """Wait for a run and call `tick` between the steps, on this thread: how a cell paints while it waits."""
    __tracebackhide__ = True
    run._check_process()
    if not run.done():
        refuse_on_private_loops(f"{run.name}: a blocking call", "use the verb that gives a Run, and await it")
        run._wait(None, tick)
    run._let_settle()
    return run._outcome()


def settle(future: concurrent.futures.Future[Any], *, value: Any = None, error: BaseException | None = None) -> None:
    """Put a value or an error into a future, if anybody still waits for it."""
    with contextlib.suppress(concurrent.futures.InvalidStateError):  # nobody waits any more
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)


def _how_it_ended(future: concurrent.futures.Future[Any]) -> str:
    if future.cancelled():
        return "stopped"
    return "done" if future.exception() is None else "failed"


def _retrieved(waiter: asyncio.Future[Any]) -> None:
    """Mark a failure as seen: `_outcome` raises it from the run's own future."""
    if not waiter.cancelled():
        waiter.exception()


def _forget_parents_runs() -> list[Run[Any, Any]]:
    left = list(_running.values())
    _running.clear()
    _ended.clear()
    return left


def _cancel_all() -> None:
    left = list(_running.values())
    for run in left:
        run.cancel()
    concurrent.futures.wait([run._settled for run in left], timeout=1)


on_fork(_forget_parents_runs)
before_exit(_cancel_all)
