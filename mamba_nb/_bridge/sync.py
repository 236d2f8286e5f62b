"""`run_sync`: asynchronous work waited for from synchronous code, wherever that runs."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import sys
import time
from collections.abc import Awaitable
from typing import Any, TypeVar, cast

from mamba_nb._bridge.loops import foreign, refuse_on_private_loops
from mamba_nb._bridge.run import Run
from mamba_nb._bridge.threads import call_in_thread
from mamba_nb._bridge.waiting import SETTLE_S, interruptible, step_s, wait_in_steps
from mamba_nb.errors import RunStopped, WrongLoop

__all__ = ["run_sync"]

T = TypeVar("T")


def run_sync(work: Awaitable[T] | concurrent.futures.Future[T], timeout: float | None = None) -> T:
    """Wait for asynchronous work from synchronous code, wherever that runs.

        health = run_sync(check_server_health("http://localhost:11434/v1"))

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
        refuse_on_private_loops("run_sync", "use `await`")
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
        refuse_on_private_loops("run_sync", "use `await asyncio.wrap_future(future)`")
    try:
        wait_in_steps(future, timeout, "The future")
    except KeyboardInterrupt:
        future.cancel()
        raise
    return _result_of(future)


def _result_of(future: concurrent.futures.Future[T] | asyncio.Future[T]) -> T:
    if future.cancelled():
        raise RunStopped("The task that run_sync waited for was cancelled.")
    return future.result()


def _wait_asyncio_future(future: asyncio.Future[T], timeout: float | None) -> T:
    if future.done():
        return _result_of(future)
    refuse_on_private_loops("run_sync", "use `await`")
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
    with interruptible():
        try:
            loop.run_until_complete(_within(future, timeout))
        except KeyboardInterrupt:
            future.cancel()
            loop.run_until_complete(asyncio.wait({future}, timeout=SETTLE_S))
            raise
    return _result_of(future)


def _finish_in_thread(future: asyncio.Future[T], loop: asyncio.AbstractEventLoop, timeout: float | None) -> T:
    """`loop` stands still and this thread runs another one, so it is lent a thread."""
    ended = call_in_thread(_finish, future, loop, timeout)
    try:
        return _wait_future(ended, None)
    except KeyboardInterrupt:
        loop.call_soon_threadsafe(future.cancel)
        raise


async def _within(future: asyncio.Future[Any], timeout: float | None) -> None:
    # Short steps again: an interrupt does not wake an idle loop.
    deadline = None if timeout is None else time.monotonic() + timeout
    while not future.done():
        await asyncio.wait({future}, timeout=step_s(deadline, timeout, "The task"))


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
