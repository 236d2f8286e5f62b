"""A download on a server, as a Run whose `result()` shows a progress bar while it waits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from mamba_nb._bridge import Run, wait_with_ticks
from mamba_nb._text import printable
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.pulling import PullProgress

__all__ = ["PullRun"]


class PullRun(Run[PullProgress, ServedModel | None]):
    """A download under way; see `Run`. `progress` is its last step so far.

    Attributes:
        model: The model that is downloaded.
        server: The title of the server's kind.
        progress: The last step, or None before the first.
    """

    def __init__(
        self,
        work: Callable[[Run[PullProgress, ServedModel | None]], Coroutine[Any, Any, ServedModel | None]],
        *,
        model: str,
        server: str,
    ) -> None:
        self.model = model
        self.server = server
        self.progress: PullProgress | None = None
        super().__init__(work, name=f"pull {model}", partial=lambda: self.progress)

    def emit(self, event: PullProgress) -> None:
        """Keep the step, and say in the state how far it is."""
        self.progress = event
        fraction = event.fraction
        self.state = event.status if fraction is None else f"{event.status}, {100 * fraction:.0f} %"
        super().emit(event)

    def result(self, timeout: float | None = None, *, show: bool = True) -> ServedModel | None:
        """Wait for the end, with a progress bar.

        Args:
            timeout: Seconds to wait, without a bar; the download goes on when they are over. None waits without limit.
            show: Whether there is a bar.

        Returns:
            The model, or None where the server does not list it.

        Raises:
            ModelNotFound: If there is no such model to download.
            RunStopped: If it was cancelled.
            KeyboardInterrupt: On an interrupt; the server sees the connection close, and a second pull goes on.
        """
        __tracebackhide__ = True
        if timeout is not None or not show or self.done():
            return super().result(timeout)
        with _Bar(self) as bar:
            return wait_with_ticks(self, bar.paint)


class _Bar:
    """tqdm's bar, opened when the size is known; the last step's words stand behind it.

    Where no size ever comes, as for a model that is there already, the last words are a line of their own.
    """

    def __init__(self, run: PullRun) -> None:
        self._run = run
        self._bar: Any = None

    def paint(self) -> None:
        step = self._run.progress
        if step is None or (self._bar is None and step.total_bytes is None):
            return
        if self._bar is None:
            from mamba_nb._frontend import bar_class

            self._bar = bar_class()(
                total=step.total_bytes, unit="B", unit_scale=True, unit_divisor=1000, desc=self._run.model
            )
        bar = self._bar
        if step.total_bytes is not None and step.total_bytes != bar.total:
            bar.reset(total=step.total_bytes) if bar.n == 0 else setattr(bar, "total", step.total_bytes)
        if step.completed_bytes is not None:
            bar.n = min(step.completed_bytes, bar.total or step.completed_bytes)
        bar.set_postfix_str(step.status[:40], refresh=False)
        bar.refresh()

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._bar is not None:
            with contextlib.suppress(Exception):  # a front end that is gone
                self.paint()
            self._bar.close()
        elif (step := self._run.progress) is not None and not self._run.cancelled():
            print(f"{self._run.model}: {printable(step.status[:80]).replace('_', ' ')}")
