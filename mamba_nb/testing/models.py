"""Which model is in memory and how many answers it gives at once, as far as a client can notice.

In: a model's name. Out: an async context manager that lets the caller in once the model is loaded and a slot
is free. Lives on the server's loop; its counters may be read from any thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

__all__ = ["ModelRoom"]


class ModelRoom:
    """Loading, swapping and slots.

    Args:
        load_s: Seconds that a load takes.
        one_at_a_time: Only one model fits: another one waits until it is idle, in the order of asking, as
            Ollama's scheduler does.
        slots: Answers at once; None for no limit.

    Attributes:
        loads: Every load that was begun, by model.
        loaded: The models in memory, the one asked for last at the end.
        peak: The most answers given at once.
    """

    def __init__(self, *, load_s: float, one_at_a_time: bool, slots: int | None) -> None:
        self.loads: list[str] = []
        self.loaded: list[str] = []
        self.peak = 0
        self._load_s = load_s
        self._one_at_a_time = one_at_a_time
        self._slots = asyncio.Semaphore(slots) if slots is not None else None
        self._gate = asyncio.Lock()
        self._moved = asyncio.Event()
        self._users = 0
        self._busy = 0
        self._loading: dict[str, asyncio.Task[None]] = {}

    @property
    def loading(self) -> list[str]:
        """The models that are being loaded now."""
        return list(self._loading)

    @property
    def busy(self) -> int:
        """How many answers are being given now."""
        return self._busy

    @asynccontextmanager
    async def enter(self, model: str) -> AsyncIterator[None]:
        """Wait for the model and a slot; leave both at the end."""
        async with self._gate:
            if self._one_at_a_time and model not in self.loaded:
                await self._until(lambda: not self._users and not (self._loading.keys() - {model}))
                if model not in self._loading:
                    self.loaded.clear()
            self._users += 1
            task = self._load(model)
        try:
            if task is not None:
                await asyncio.shield(task)
            if self._slots is None:
                with self._answering():
                    yield
            else:
                async with self._slots:
                    with self._answering():
                        yield
        finally:
            self._users -= 1
            self._moved.set()

    async def _until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            self._moved.clear()
            await self._moved.wait()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        self._busy += 1
        self.peak = max(self.peak, self._busy)
        try:
            yield
        finally:
            self._busy -= 1

    def _load(self, model: str) -> asyncio.Task[None] | None:
        if model in self.loaded:
            return None
        if model not in self._loading:
            self.loads.append(model)
            self._loading[model] = asyncio.create_task(self._do_load(model))
        return self._loading[model]

    async def _do_load(self, model: str) -> None:
        try:
            if self._load_s:
                await asyncio.sleep(self._load_s)
            self.loaded.append(model)
        finally:
            del self._loading[model]
            self._moved.set()

    def close(self) -> None:
        """End loads that are under way."""
        for task in list(self._loading.values()):
            task.cancel()
