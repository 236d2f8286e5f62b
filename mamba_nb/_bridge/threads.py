"""Foreign sync functions, each in a daemon thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from mamba_nb._bridge.loops import here
from mamba_nb._bridge.run import Run, runs, settle

__all__ = ["call_in_thread", "cancel_runs_of", "in_thread", "run_in_background"]

P = ParamSpec("P")
T = TypeVar("T")


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
    future = call_in_thread(function, *args, **kwargs)
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        cancel_runs_of(future)
        raise


def cancel_runs_of(future: concurrent.futures.Future[Any]) -> None:
    """Cancel the Runs that the thread behind this future waits for."""
    for run in runs():
        if run.worker is future:
            run.cancel()


def call_in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> concurrent.futures.Future[T]:
    """Start a function in a daemon thread of its own, with the caller's context variables.

    The Runs made in that thread know the future as their `worker`.
    """
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    context = contextvars.copy_context()

    def call() -> None:
        here.worker = future
        try:
            value = context.run(function, *args, **kwargs)
        except BaseException as error:
            settle(future, error=error)
        else:
            settle(future, value=value)

    threading.Thread(target=call, name="mamba-nb-worker", daemon=True).start()
    return future
