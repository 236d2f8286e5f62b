"""One quiet line for a wait, and only if it takes longer than a second.

In a terminal the line is tqdm's and gone when the wait is over. In a notebook it is plain text that stays as
"Loading tiny: 3 s", since a widget would be saved dead. Anywhere else (a log, a pipe) nothing is shown.
"""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType
from typing import Any, Protocol, Self

from mamba_nb._frontend import in_notebook

QUIET_S = 1.0
BYTES = "{desc}: {bar} {n_fmt}B of {total_fmt}B, {elapsed}"  # no rate: the download comes in bursts


class Progress:
    """Shows `text`, the seconds that went by, and where `total` is given how many of its bytes are done.

    with Progress("Loading tiny") as progress:
        while waiting():
            progress.tick()
    """

    def __init__(self, text: str, *, total: int | None = None, show: bool = True) -> None:
        self.text = text
        self.total = total
        self.show = show
        self._started = time.monotonic()
        self._line: _Line | None = None

    def tick(self, done: int | None = None) -> None:
        """Paint what is known now; `done` is in bytes."""
        took_s = time.monotonic() - self._started
        if not self.show or took_s < QUIET_S:
            return
        if self._line is None:
            self._line = self._open()
            self.show = self._line is not None
        if self._line is not None:
            self._line.paint(took_s, done)

    def _open(self) -> _Line | None:
        if in_notebook():
            return _NotebookLine(self.text, self.total)
        with contextlib.suppress(AttributeError, ValueError):  # a stderr that was closed or replaced
            if sys.stderr.isatty():
                return _TerminalLine(self.text, self.total)
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._line is not None:
            self._line.close()


class _Line(Protocol):
    def paint(self, took_s: float, done: int | None) -> None: ...

    def close(self) -> None: ...


class _TerminalLine:
    def __init__(self, text: str, total: int | None) -> None:
        from tqdm import tqdm

        form = "{desc}: {elapsed}" if total is None else BYTES
        self._bar = tqdm(desc=text, total=total, unit_scale=True, bar_format=form, leave=False)
        self._bar.start_t -= QUIET_S  # the seconds before it was shown count too

    def paint(self, took_s: float, done: int | None) -> None:
        if done is not None and self._bar.total is not None:
            self._bar.n = min(done, self._bar.total)
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()


class _NotebookLine:
    def __init__(self, text: str, total: int | None) -> None:
        self._text = text
        self._total = total
        self._handle: Any = None
        self._shown = ""

    def paint(self, took_s: float, done: int | None) -> None:
        line = f"{self._text}: {took_s:.0f} s"
        if done is not None and self._total:
            line += f", {min(100, 100 * done // self._total)} %"
        if line == self._shown:
            return
        self._shown = line
        if self._handle is None:
            import IPython.display

            display: Any = IPython.display.display
            self._handle = display({"text/plain": line}, raw=True, display_id=True)
        else:
            self._handle.update({"text/plain": line}, raw=True)

    def close(self) -> None:
        """The last line stays: it says how long it took."""
