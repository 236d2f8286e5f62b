"""Waiting in short steps, so that an interrupt gets through."""

from __future__ import annotations

import concurrent.futures
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["SETTLE_S", "STEP_S", "interruptible", "step_s", "wait_in_steps"]

STEP_S = 0.1  # how long a wait lasts before it looks up; also the heartbeat of an awaited Run
SETTLE_S = 0.3  # how long a stopped caller waits for the work to put its partial result down


def wait_in_steps(
    future: concurrent.futures.Future[Any],
    timeout: float | None,
    what: str,
    tick: Callable[[], None] | None = None,
) -> None:
    """Wait for a future; raises TimeoutError after `timeout` seconds, and calls `tick` between the steps."""
    deadline = None if timeout is None else time.monotonic() + timeout
    with interruptible():
        while not future.done():
            concurrent.futures.wait([future], timeout=step_s(deadline, timeout, what))
            if tick is not None:
                tick()


def step_s(deadline: float | None, timeout: float | None, what: str) -> float:
    """The length of the next wait, in seconds; raises when the deadline is over."""
    if deadline is None:
        return STEP_S
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError(f"{what} has not ended after {timeout:g} s.")
    return min(STEP_S, left)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
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
