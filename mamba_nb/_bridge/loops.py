"""The two private loops, each in a daemon thread of its own, and what happens to them in a fork and at exit."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from mamba_nb.errors import MambaError, WrongLoop

__all__ = ["PrivateLoop", "before_exit", "foreign", "here", "io", "on_exit", "on_fork", "refuse_on_private_loops"]

T = TypeVar("T")

_log = logging.getLogger("mamba_nb")
here = threading.local()  # `.loop`: the PrivateLoop whose thread this is; `.worker`: the call this thread is for


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
        _watch()
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
        here.loop = self
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
        return getattr(here, "loop", None) is self

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
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
        self._loop = here.loop = None


io = PrivateLoop("mamba-nb-io")
foreign = PrivateLoop("mamba-nb-foreign")

_left_to_parent: list[Any] = []  # kept, so that no finaliser touches the parent's sockets
_watching = False
_fork_hooks: list[Callable[[], Any]] = []
_before_exit: list[Callable[[], None]] = []
_exit_hooks: list[Callable[[], Coroutine[Any, Any, None]]] = []


def on_fork(forget: Callable[[], Any]) -> None:
    """Have `forget` called in every forked child, before anything else of this package runs there.

    What it gives is kept for ever: what belongs to the parent must not be finalised in the child.
    """
    _fork_hooks.append(forget)


def before_exit(stop: Callable[[], None]) -> None:
    """Have `stop` called at interpreter exit, before connections are closed."""
    _before_exit.append(stop)


def on_exit(closing: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Have `closing` run on the I/O loop at interpreter exit, after every run was cancelled."""
    _exit_hooks.append(closing)


def _watch() -> None:
    global _watching
    if _watching:
        return
    _watching = True
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget_parent)
    atexit.register(_end_all)


def _forget_parent() -> None:
    for loop in (io, foreign):
        loop.forget()
    for forget in _fork_hooks:
        _left_to_parent.append(forget())


def _end_all() -> None:
    """At interpreter exit: stop what runs, and give it a moment to close its connections."""
    for stop in _before_exit:
        stop()
    if io.started:
        wait([io.submit(closing()) for closing in _exit_hooks], timeout=1)


def refuse_on_private_loops(what: str, remedy: str) -> None:
    """Raise WrongLoop where the caller stands on a private loop, whose work it would wait for.

    Args:
        what: What was called.
        remedy: What to write instead in an async function.
    """
    loop = getattr(here, "loop", None)
    if loop is not None:
        raise WrongLoop(
            f"{what} was called on {loop.name}, the loop that would have to do the work.",
            hint=f"In an async function or tool, {remedy}; or make the tool a plain `def`, which gets a thread "
            "of its own.",
        )
