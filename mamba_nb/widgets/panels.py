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

__all__ = ["LivePanels", "Panels", "PanelsView"]


class LivePanels(MambaWidget):
    """A widget with answers that grow.

    What is new travels as a message with a number; the state is kept equal to the sum of all messages so far, without
    being sent. So whoever asks for the state in mid-stream (a page that is loaded again) goes on from there.
    """

    def __init__(self, feed: PanelFeed, **state: Any) -> None:
        self._feed = feed
        super().__init__(panels=feed.snapshot(), run=str(time.time_ns()), **state)

    def paint(self, *, final: bool = False, **changes: Any) -> None:
        """Send what is new; the whole goes into the synced state at the end, and now and then before.

        Args:
            final: Whether to send the whole now.
            **changes: Further members of the state to change.
        """
        with self._lock:
            if final or self._feed.due:
                self._sync(**changes)
                return
            changes = {name: value for name, value in changes.items() if self.state.get(name) != value}
            grown = self._feed.delta()
            if not grown and not changes:
                return
            n = self.state["n"] + 1
            # In place: no message is made of it.
            self.state.update(changes, n=n, panels=self._feed.told())
            self.send({"kind": "delta", "n": n, "run": self.state["run"], "panels": grown, "set": changes})

    def _sync(self, **changes: Any) -> None:
        with self._lock:
            self.show(**changes, panels=self._feed.snapshot(), n=self.state["n"] + 1)

    def _do_whole(self) -> None:
        """A front end has missed a message."""
        self._sync()


class Panels(LivePanels):
    """Answers side by side, painted ten times a second with what is new.

    Args:
        states: One a model, in the order of their colours.
        on_stop: Called when the reader presses Stop; None shows no button.
    """

    _esm = script("panels")

    def __init__(self, states: Sequence[PanelState] = (), on_stop: Callable[[], object] | None = None) -> None:
        self._on_stop = on_stop
        self._closed = False
        super().__init__(PanelFeed(states), stoppable=on_stop is not None, running=on_stop is not None)

    def start(self) -> None:
        """Paint from now on, on the painter's thread, until all panels have ended."""
        painter.add(self._tick)

    def _tick(self) -> bool:
        if self._closed:  # the final state has been painted
            return False
        if self._feed.ended:  # asked before painting, so that the last state is painted
            self.finish()
            return False
        self.paint()
        return True

    def finish(self) -> None:
        """Paint the final state now; nothing is painted after it."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self.paint(final=True, running=False)

    def _do_stop(self) -> None:
        if self._on_stop is not None and not self._closed:
            self._on_stop()

    def _stop_all(self) -> None:
        self._do_stop()


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
