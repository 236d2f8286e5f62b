"""Where sync meets async: two private loops, work in progress, and the way back.

Every connection lives on one event loop in one daemon thread, made on first use. Only this package's own
code runs there, so the time stamps taken on it are not bent by anybody else's. Coroutines that come from
outside (`run_sync`'s argument, an agent's async tools) run on a second loop of the same make.

A `Run` is work in progress. It starts when it is made, its events are read once, its result as often as
one likes, and it can be cancelled from any thread. Whoever waits for one does so in short steps, so that
an interrupt gets through; and an interrupt always cancels.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import contextvars
import inspect
import itertools
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any, Generic, ParamSpec, TypeVar, cast

from mamba_nb.errors import MambaError, RunStopped, WrongLoop

__all__ = ["Run", "RunList", "run_in_background", "run_sync", "runs"]

EventT = TypeVar("EventT")
ResultT = TypeVar("ResultT")
P = ParamSpec("P")
T = TypeVar("T")

STEP_S = 0.1  # how long a wait lasts before it looks up; also the heartbeat of an awaited Run
SETTLE_S = 0.3  # how long a stopped caller waits for the work to put its partial result down
KEEP_ENDED = 10  # how many ended runs `runs(ended=True)` remembers

_log = logging.getLogger("mamba_nb")
_here = threading.local()  # `.loop`: the PrivateLoop whose thread this is; `.worker`: the call this thread is for


class PrivateLoop:
    """An event loop in a daemon thread, made on first use and again after a fork."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop; starts it where there is none yet.

        Raises:
            MambaError: Where threads cannot be started (Pyodide, JupyterLite).
        """
        loop = self._loop
        if loop is None:
            with self._lock:
                loop = self._loop
                if loop is None:
                    loop = self._loop = self._start()
        return loop

    def _start(self) -> asyncio.AbstractEventLoop:
        _watch_forks()
        loop = asyncio.new_event_loop()
        try:
            threading.Thread(target=self._serve, args=(loop,), name=self.name, daemon=True).start()
        except RuntimeError as error:
            loop.close()
            raise MambaError(
                f"This Python cannot start threads, which every request here needs ({error}).",
                hint="JupyterLite and Pyodide have none; use a local kernel, or Binder.",
            ) from error
        return loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        _here.loop = self
        asyncio.set_event_loop(loop)
        while True:  # `sys.exit()` in a coroutine, or its `loop.stop()`, must not end the loop that all share
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                loop.run_forever()

    @property
    def started(self) -> bool:
        """Whether the loop runs, in this process."""
        return self._loop is not None

    def is_current_thread(self) -> bool:
        """Whether the caller stands on this loop's thread."""
        return getattr(_here, "loop", None) is self

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start a coroutine on this loop, from any thread."""
        try:
            loop = self.loop
        except BaseException:
            work.close()
            raise
        return asyncio.run_coroutine_threadsafe(work, loop)

    def ping(self) -> threading.Event:
        """An event that the loop sets when it comes round to it."""
        answered = threading.Event()
        self.loop.call_soon_threadsafe(answered.set)
        return answered

    def leave(self) -> None:
        """Start afresh with the next submit: a coroutine blocks this loop. Its thread ends the work it has."""
        _log.warning("A coroutine blocks the event loop %s; what comes next runs on a new one.", self.name)
        self._loop = None

    def forget(self) -> None:
        """After a fork: the thread is gone, the loop and its sockets are the parent's. Keep them untouched."""
        if self._loop is not None:
            _left_to_parent.append(self._loop)
        self._lock = threading.Lock()
        self._loop = _here.loop = None


io = PrivateLoop("mamba-nb-io")
foreign = PrivateLoop("mamba-nb-foreign")

_running: dict[int, Run[Any, Any]] = {}  # until the work has put everything down, cancelled or not
_ended: deque[Run[Any, Any]] = deque(maxlen=KEEP_ENDED)
_numbers = itertools.count(1)
_left_to_parent: list[Any] = []
_forks_watched = False
_fork_hooks: list[Callable[[], None]] = []
_exit_hooks: list[Callable[[], Coroutine[Any, Any, None]]] = []


def on_fork(forget: Callable[[], None]) -> None:
    """Have `forget` called in every forked child, before anything else of this package runs there."""
    _fork_hooks.append(forget)


def on_exit(closing: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Have `closing` run on the I/O loop at interpreter exit, after every run was cancelled."""
    _exit_hooks.append(closing)


def _watch_forks() -> None:
    global _forks_watched
    if _forks_watched:
        return
    _forks_watched = True
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget_parent)
    atexit.register(_end_all)


def _forget_parent() -> None:
    _left_to_parent.extend(_running.values())  # kept, so that no finaliser touches the parent's sockets
    _running.clear()
    _ended.clear()
    for loop in (io, foreign):
        loop.forget()
    for forget in _fork_hooks:
        forget()


def _end_all() -> None:
    """At interpreter exit: cancel what runs, and give it a moment to close its connections."""
    left = list(_running.values())
    for run in left:
        run.cancel()
    concurrent.futures.wait([run._settled for run in left], timeout=1)
    if io.started:
        concurrent.futures.wait([io.submit(closing()) for closing in _exit_hooks], timeout=1)


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
        self._worker = getattr(_here, "worker", None)
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
            _settle(self._settled, value=None)

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
            _refuse_on_private_loops(f"{self.name}: .result()", "await it instead: `await run`")
            self._wait(timeout)
        self._let_settle()
        return self._outcome()

    def _wait(self, timeout: float | None, tick: Callable[[], None] | None = None) -> None:
        """Wait in short steps; `tick` is called between them, on the waiting thread."""
        __tracebackhide__ = True
        try:
            _wait_in_steps(self._future, timeout, f"{self.name} (it goes on; .cancel() ends it)", tick)
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
        if self._future.cancelled() and getattr(_here, "loop", None) is None:
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
        _refuse_on_private_loops(f"{self.name}: a `for` over its events", "use `async for`")
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
                    with _interruptible():
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
        return _AsyncReader(self, loop)

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


class _AsyncReader(Generic[EventT]):
    """`async for` over a Run's events, on the reader's own loop; forgotten half-way, it cancels the work."""

    def __init__(self, run: Run[EventT, Any], loop: asyncio.AbstractEventLoop) -> None:
        self._run = run
        self._finished = False
        self._bell = _Bell(loop)
        # Not a method of this reader: the run must not keep it alive, or __del__ would never come.
        run._wake = self._bell.ring

    def __aiter__(self) -> _AsyncReader[EventT]:
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


class RunList(list[Run[Any, Any]]):
    """The runs that are under way, to look at and to stop."""

    def cancel(self) -> int:
        """Cancel them all; gives how many there were left to cancel."""
        return sum(run.cancel() for run in self)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) if self else "<no runs under way>"


def runs(*, ended: bool = False) -> RunList:
    """What is running, or was left behind by a cell that was run again.

    Args:
        ended: Give the last few that have ended as well, so that an interrupted one can be found again.
    """
    listed = {run.number: run for run in [*_ended, *_running.values()]}
    return RunList(run for run in listed.values() if ended or not run.done())


def run_in_background(verb: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Run[Any, T]:
    """Start a blocking verb in a worker thread, and give a Run of its value.

    Cancelling it cancels the requests that the verb waits for. A verb that waits for something else goes on
    in its thread, unheard.

    Examples:
        >>> run_in_background(len, [1, 2, 3]).result()
        3
    """

    async def work(_run: Run[Any, T]) -> T:
        return await in_thread(verb, *args, **kwargs)

    return Run(work, name=getattr(verb, "__name__", "work"))


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a foreign sync function in a daemon thread of its own, which can not hold up the interpreter's exit.

    It sees the caller's context variables, as with `asyncio.to_thread`. A thread cannot be cancelled, but the
    Runs that it waits for can: cancelling this coroutine cancels them.
    """
    future = _call_in_thread(function, *args, **kwargs)
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        for run in runs():
            if run._worker is future:
                run.cancel()
        raise


def _call_in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> concurrent.futures.Future[T]:
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    context = contextvars.copy_context()

    def call() -> None:
        _here.worker = future
        try:
            value = context.run(function, *args, **kwargs)
        except BaseException as error:
            _settle(future, error=error)
        else:
            _settle(future, value=value)

    threading.Thread(target=call, name="mamba-nb-worker", daemon=True).start()
    return future


def _settle(future: concurrent.futures.Future[T], *, value: Any = None, error: BaseException | None = None) -> None:
    with contextlib.suppress(concurrent.futures.InvalidStateError):  # nobody waits any more
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)


def wait_with_ticks(run: Run[Any, ResultT], tick: Callable[[], None]) -> ResultT:
    """Wait for a run and call `tick` between the steps, on this thread: how a cell paints while it waits."""
    __tracebackhide__ = True
    run._check_process()
    if not run.done():
        _refuse_on_private_loops(f"{run.name}: a blocking call", "use the verb that gives a Run, and await it")
        run._wait(None, tick)
    run._let_settle()
    return run._outcome()


def run_sync(work: Awaitable[T] | concurrent.futures.Future[T], timeout: float | None = None) -> T:
    """Wait for asynchronous work from synchronous code, wherever that runs.

    Works in a script, a cell, a click handler, a sync tool and a thread. A coroutine runs on a private loop;
    a Run, Future or Task is waited for where it is. Only a Task or Future of the loop that is running in this
    very thread has to be finished there, which needs a nested loop (nest-asyncio2).

    Args:
        work: A Run, a coroutine, any other awaitable, a Future or a Task.
        timeout: Seconds to wait, or None for no limit. A coroutine is cancelled when they are over; a Run, a
            Future and a Task, which were there before, go on.

    Returns:
        What the work gives.

    Raises:
        TypeError: If `work` cannot be awaited.
        TimeoutError: If `timeout` is over first.
        RunStopped: If the work was cancelled.
        KeyboardInterrupt: On an interrupt; the work is cancelled.
        WrongLoop: Where waiting could never end; the message says what to write instead.
    """
    __tracebackhide__ = True
    if isinstance(work, Run):
        return cast(T, work.result(timeout))
    if isinstance(work, concurrent.futures.Future):
        return _wait_future(work, timeout)
    if asyncio.isfuture(work):
        return _wait_asyncio_future(cast("asyncio.Future[T]", work), timeout)
    if not inspect.isawaitable(work):
        raise TypeError(
            f"run_sync takes a coroutine, a Run, a Future or a Task; this is {type(work).__name__}. "
            "Did you call the function? run_sync(fetch()), not run_sync(fetch)."
        )

    async def wait(_run: Run[Any, T]) -> T:
        return await work

    name = f"run_sync({getattr(work, '__qualname__', type(work).__name__)})"
    try:
        _refuse_on_private_loops("run_sync", "use `await`")
        run: Run[Any, T] = Run(wait, name=name, on=foreign)
    except BaseException:
        if inspect.iscoroutine(work):
            work.close()
        raise
    try:
        return run.result(timeout)
    except TimeoutError:
        run.cancel()
        raise


def _wait_future(future: concurrent.futures.Future[T], timeout: float | None) -> T:
    if not future.done():
        _refuse_on_private_loops("run_sync", "use `await asyncio.wrap_future(future)`")
    try:
        _wait_in_steps(future, timeout, "The future")
    except KeyboardInterrupt:
        future.cancel()
        raise
    return _result_of(future)


def _result_of(future: concurrent.futures.Future[T] | asyncio.Future[T]) -> T:
    if future.cancelled():
        raise RunStopped("The task that run_sync waited for was cancelled.")
    return future.result()


def _wait_in_steps(
    future: concurrent.futures.Future[Any],
    timeout: float | None,
    what: str,
    tick: Callable[[], None] | None = None,
) -> None:
    deadline = None if timeout is None else time.monotonic() + timeout
    with _interruptible():
        while not future.done():
            concurrent.futures.wait([future], timeout=_step_s(deadline, timeout, what))
            if tick is not None:
                tick()


def _step_s(deadline: float | None, timeout: float | None, what: str) -> float:
    """The length of the next wait, in seconds; raises when the deadline is over."""
    if deadline is None:
        return STEP_S
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError(f"{what} has not ended after {timeout:g} s.")
    return min(STEP_S, left)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let an interrupt raise KeyboardInterrupt here, as it does in sync code.

    In a cell with an `await`, and under `asyncio.run`, SIGINT only asks the loop to cancel the task: the very
    loop that this wait is blocking.
    """
    handler = None
    if threading.current_thread() is threading.main_thread():
        handler = signal.getsignal(signal.SIGINT)
    if getattr(getattr(handler, "func", handler), "__module__", None) not in ("asyncio.runners", "ipykernel.ipkernel"):
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _wait_asyncio_future(future: asyncio.Future[T], timeout: float | None) -> T:
    if future.done():
        return _result_of(future)
    _refuse_on_private_loops("run_sync", "use `await`")
    loop, here = future.get_loop(), _running_loop()
    if loop.is_closed():
        raise WrongLoop("run_sync(task): the task's event loop is closed, so the task can never end.")
    if here is loop:
        _nest(loop)
    elif loop.is_running():
        return _wait_future(asyncio.run_coroutine_threadsafe(_awaited(future), loop), timeout)
    elif here is not None:
        return _finish_in_thread(future, loop, timeout)
    return _finish(future, loop, timeout)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def _awaited(work: Awaitable[T]) -> T:
    return await work


def _finish(future: asyncio.Future[T], loop: asyncio.AbstractEventLoop, timeout: float | None) -> T:
    """Run `loop` in this thread, nested if need be, until `future` is done."""
    with _interruptible():
        try:
            loop.run_until_complete(_within(future, timeout))
        except KeyboardInterrupt:
            future.cancel()
            loop.run_until_complete(asyncio.wait({future}, timeout=SETTLE_S))
            raise
    return _result_of(future)


def _finish_in_thread(future: asyncio.Future[T], loop: asyncio.AbstractEventLoop, timeout: float | None) -> T:
    """`loop` stands still and this thread runs another one, so it is lent a thread."""
    ended = _call_in_thread(_finish, future, loop, timeout)
    try:
        return _wait_future(ended, None)
    except KeyboardInterrupt:
        loop.call_soon_threadsafe(future.cancel)
        raise


async def _within(future: asyncio.Future[Any], timeout: float | None) -> None:
    # Short steps again: an interrupt does not wake an idle loop.
    deadline = None if timeout is None else time.monotonic() + timeout
    while not future.done():
        await asyncio.wait({future}, timeout=_step_s(deadline, timeout, "The task"))


def _nest(loop: asyncio.AbstractEventLoop) -> None:
    """Let `loop` run nested, where that is safe: nest-asyncio's case, and the only one.

    On ipykernel 7, nest-asyncio 1.6 loses the cells that are queued behind a nested call. Its successor does
    not, but both packages share one "already patched" flag: whoever came first stays.
    """
    remedy = "Write `await task` instead of run_sync(task)."
    if hasattr(asyncio, "_nest_patched") and not hasattr(asyncio, "_nest_asyncio2"):
        if _ipykernel_major() >= 7:
            raise WrongLoop(
                "nest-asyncio 1.6 has patched this kernel, and on ipykernel 7 it loses the cells queued behind a "
                "nested call.",
                hint=remedy + " Or restart the kernel and leave out nest_asyncio.apply().",
            )
        import nest_asyncio as nest
    else:
        import nest_asyncio2 as nest

    try:
        nest.apply(loop)
    except ValueError as error:  # uvloop's loop cannot be patched
        raise WrongLoop(f"{type(loop).__module__}'s event loop cannot run nested.", hint=remedy) from error


def _ipykernel_major() -> int:
    version = getattr(sys.modules.get("ipykernel"), "__version__", "0")
    return int(version.split(".")[0])


def _refuse_on_private_loops(what: str, remedy: str) -> None:
    loop = getattr(_here, "loop", None)
    if loop is not None:
        raise WrongLoop(
            f"{what} was called on {loop.name}, the loop that would have to do the work.",
            hint=f"In an async function or tool, {remedy}; or make the tool a plain `def`, which gets a thread "
            "of its own.",
        )


def _how_it_ended(future: concurrent.futures.Future[Any]) -> str:
    if future.cancelled():
        return "stopped"
    return "done" if future.exception() is None else "failed"


def _retrieved(waiter: asyncio.Future[Any]) -> None:
    """Mark a failure as seen: `_outcome` raises it from the run's own future."""
    if not waiter.cancelled():
        waiter.exception()
