"""The live view: what is seen of a comparison while a cell, or a terminal, waits for it.

    view = choose_view(live, panels)      # HTML in a notebook, one line in a terminal, else nothing
    wait_with_ticks(run, view.paint)      # about ten times a second, on the thread that waits
    view.close()                          # always: the final state

Painting happens on the waiting thread, so output lands under the right cell. One display handle is updated
in place, so the panels stay in the saved notebook and are there once. A paint costs nothing while nothing
has changed.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from mamba_nb._frontend import in_notebook
from mamba_nb.compare.progress import PanelState
from mamba_nb.display import html, style
from mamba_nb.display.panels import panels, panels_text
from mamba_nb.display.text import one_line
from mamba_nb.errors import BadInput, MissingExtra

__all__ = ["HtmlView", "LineView", "NoView", "View", "choose_view"]

LABEL_CHARS = 40  # of a label in the progress line


class View(Protocol):
    """Something that shows panels: painted again and again, and closed once."""

    def paint(self) -> None:
        """Show what has changed since the last paint."""

    def close(self) -> None:
        """Show the final state, and be done."""

    def clear(self) -> None:
        """Take away what was shown: something else stands for it now."""


def choose_view(
    live: bool | Literal["widget"] | None,
    states: Sequence[PanelState],
    *,
    on_stop: Callable[[], object] | None = None,
) -> View:
    """The view for where this code runs.

    Args:
        live: True shows the run wherever it can be shown, False never; None shows it in a notebook's cell
            and in a terminal that a person looks at, not in a log file, a thread or a test. `"widget"` shows it
            in panels that stream, where there are widgets.
        states: The panels, in the order of their colours.
        on_stop: What a view's Stop button does; the plain ones have none.
    """
    if live not in (True, False, None, "widget"):
        raise BadInput(f'live must be True, False, None or "widget"; this is {live!r}.')
    if live is False:
        return NoView()
    if live == "widget" and in_notebook():
        with contextlib.suppress(MissingExtra):  # without anywidget it is plain HTML
            from mamba_nb.widgets.panels import PanelsView

            return PanelsView(states, on_stop)
    if in_notebook():
        on_main_thread = threading.current_thread() is threading.main_thread()
        return HtmlView(states) if on_main_thread or live else NoView()
    return LineView(states) if live or _is_terminal() else NoView()


class NoView:
    """Shows nothing."""

    def paint(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    def clear(self) -> None:
        """Nothing."""


class HtmlView:
    """Panels in a notebook's cell, through one display handle."""

    def __init__(self, states: Sequence[PanelState]) -> None:
        self._states = tuple(states)
        self._handle: Any = None
        self._painted: tuple[int, ...] | None = None

    def paint(self) -> None:
        """Show what has changed since the last paint."""
        versions = self._versions()
        if versions != self._painted:
            self._painted = versions
            self._show(live=True)

    def close(self) -> None:
        """Show the whole answers; what has not ended by now is shown as stopped."""
        for state in self._states:
            state.stop()
        self._show(live=False)

    def clear(self) -> None:
        """Leave an empty output."""
        if self._handle is not None:
            self._handle.update({"text/html": "", "text/plain": ""}, raw=True)

    def _versions(self) -> tuple[int, ...]:
        return tuple(state.version for state in self._states)

    def _show(self, *, live: bool) -> None:
        bundle = {
            "text/html": html.page(panels(self._states, live=live)),
            "text/plain": _line(self._states) if live else panels_text(self._states),
        }
        if self._handle is None:
            import IPython.display

            display: Any = IPython.display.display
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


class LineView:
    """One progress line in a terminal."""

    def __init__(self, states: Sequence[PanelState]) -> None:
        self._states = tuple(states)
        self._bar: Any = None

    def paint(self) -> None:
        """Show how many answers there are, and what each model is doing."""
        bar = self._bar or self._open()
        bar.n = sum(state.n_ended for state in self._states)
        bar.set_postfix_str(_line(self._states), refresh=True)

    def close(self) -> None:
        """Show the final state and go to the next line."""
        for state in self._states:
            state.stop()
        self.paint()
        self._bar.close()

    def clear(self) -> None:
        """End the line; in a terminal it stays."""
        self.close()

    def _open(self) -> Any:
        from tqdm import tqdm

        class Bar(tqdm):  # type: ignore[type-arg]
            monitor_interval = 0  # its thread refreshes stalled bars; this one is painted ten times a second

        self._bar = Bar(
            total=sum(state.n_total for state in self._states),
            desc="compare",
            unit="answer",
            dynamic_ncols=True,
            bar_format="{desc} {n_fmt}/{total_fmt} [{elapsed}]{postfix}",
        )
        return self._bar


def _line(states: Sequence[PanelState]) -> str:
    words = ((state.state, one_line(state.label, LABEL_CHARS)) for state in states)
    return " · ".join(f"{style.mark(state)[0]} {label} {one_line(state)}" for state, label in words)


def _is_terminal() -> bool:
    with contextlib.suppress(AttributeError, ValueError):  # a closed or replaced stderr
        return sys.stderr.isatty()
    return False
