"""One quiet line for a wait, and only if it takes longer than a second.

The line is tqdm's: a bar in a notebook, one line in a terminal, gone when the wait is over.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

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
        self._bar: Any = None

    def tick(self, done: int | None = None) -> None:
        """Paint what is known now; `done` is in bytes."""
        if not self.show or time.monotonic() - self._started < QUIET_S:
            return
        if self._bar is None:
            self._bar = self._open()
            self._bar.start_t -= QUIET_S  # the seconds before it was shown count too
        if done is not None and self.total is not None:
            self._bar.n = min(done, self.total)
        self._bar.refresh()

    def _open(self) -> Any:
        from tqdm.auto import tqdm

        if self.total is None:
            return tqdm(desc=self.text, bar_format="{desc}: {elapsed}", leave=False)
        return tqdm(desc=self.text, total=self.total, unit_scale=True, bar_format=BYTES, leave=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
