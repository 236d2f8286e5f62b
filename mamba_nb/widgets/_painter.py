"""One thread that paints every widget ten times a second, all in one tick, and only while there is something to paint.

Messages to the front end are not built on the I/O loop, where they would bend the time stamps.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from mamba_nb import _bridge

__all__ = ["Painter", "painter"]

TICK_S = 0.1

_log = logging.getLogger("mamba_nb")


class Painter:
    """Calls what was added, once a tick, until it says that it is done."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paints: list[Callable[[], bool]] = []
        self._thread: threading.Thread | None = None

    def add(self, paint: Callable[[], bool]) -> None:
        """Call `paint` once a tick from now on, until it gives False; its last call has the final state to paint."""
        with self._lock:
            self._paints.append(paint)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="mamba-paint", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            began = time.monotonic()
            for paint in list(self._paints):
                if not _more(paint):
                    with self._lock:
                        self._paints.remove(paint)
            with self._lock:
                if not self._paints:
                    self._thread = None
                    return
            time.sleep(max(0.0, TICK_S - (time.monotonic() - began)))


def _more(paint: Callable[[], bool]) -> bool:
    try:
        return paint()
    except Exception:  # one widget that cannot be painted must not keep the others from it
        _log.warning("A widget could not be painted.", exc_info=True)
        return False


painter = Painter()


def _forget() -> Painter:
    """In a forked child the thread is gone: what it painted belongs to the parent's front end."""
    global painter
    old, painter = painter, Painter()
    return old


_bridge.on_fork(_forget)
