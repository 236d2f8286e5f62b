"""Panels that stream: what `compare(..., live="widget")` shows while it runs, and afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from mamba_nb.compare.progress import PanelState
from mamba_nb.display import html
from mamba_nb.display.panels import panels as panels_html
from mamba_nb.widgets._base import MambaWidget, script
from mamba_nb.widgets._painter import painter
from mamba_nb.widgets._panels import PanelFeed

__all__ = ["Panels", "PanelsView"]


class Panels(MambaWidget):
    """Answers side by side, painted ten times a second with what is new.

    Args:
        states: One a model, in the order of their colours.
        on_stop: Called when the reader presses Stop; None shows no button.
    """

    _esm = script("panels")

    def __init__(self, states: Sequence[PanelState] = (), on_stop: Callable[[], object] | None = None) -> None:
        self._feed = PanelFeed(states)
        self._on_stop = on_stop
        self._closed = False
        super().__init__(panels=self._feed.snapshot(), running=on_stop is not None, run=str(time.time_ns()))

    def start(self) -> None:
        """Paint from now on, on the painter's thread, until all panels have ended."""
        painter.add(self._tick)

    def _tick(self) -> bool:
        ended = self._closed or self._feed.ended  # asked before painting, so that the last state is painted
        self.paint(final=ended)
        return not ended

    def paint(self, *, final: bool = False) -> None:
        """Send what is new; the whole goes into the synced state at the end, and now and then before."""
        with self._lock:
            if final or self._feed.due:
                self._sync(running=self._on_stop is not None and not final)
            elif change := self._feed.delta():
                n = self.state["n"] + 1
                self._quietly(n)
                self.send({"kind": "delta", "n": n, "run": self.state["run"], "panels": change})

    def finish(self) -> None:
        """Paint the final state now."""
        self._closed = True
        self.paint(final=True)

    def _sync(self, **changes: Any) -> None:
        self.show(panels=self._feed.snapshot(), n=self.state["n"] + 1, **changes)

    def _quietly(self, n: int) -> None:
        """Count a delta in the state without sending the state."""
        self.state["n"] = n

    def _do_whole(self) -> None:
        with self._lock:
            self._sync()

    def _do_stop(self) -> None:
        if self._on_stop is not None:
            self._on_stop()


class PanelsView:
    """Panels as the live view of a blocking verb: they paint themselves, and leave a plain copy at the end."""

    def __init__(self, states: Sequence[PanelState], on_stop: Callable[[], object] | None) -> None:
        import IPython.display

        self._states = tuple(states)
        self.widget = Panels(states, on_stop)
        display: Any = IPython.display.display
        display(self.widget)
        self.widget.start()

    def paint(self) -> None:
        """Nothing: the painter's thread does it."""

    def close(self) -> None:
        """The final state, and under it the same as plain HTML, folded."""
        for state in self._states:
            state.stop()
        self.widget.finish()
        self.widget.fold(
            html.page(panels_html(self._states)), "The answers as plain HTML, for readers without a kernel"
        )

    def clear(self) -> None:
        """Take the widget away."""
        self.widget.finish()
        self.widget.close()
