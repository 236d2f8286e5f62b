"""The openai client of one backend, and the tasks that wait for its server. Runs on the I/O loop.

The client is built off the loop on first use and again after a fork; closing ends what still waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["ClientKeeper"]


class ClientKeeper:
    """Keeps one client for one process."""

    def __init__(self) -> None:
        self._client: asyncio.Future[AsyncOpenAI] | None = None
        self._pid = 0
        self._busy: set[asyncio.Task[Any]] = set()  # tasks that wait for this server
        self._ended: set[asyncio.Task[Any]] = set()  # those of them that `close` has ended
        self._left_to_parent: list[Any] = []

    @property
    def is_there(self) -> bool:
        """Whether this process has a client, or is building one."""
        return self._client is not None and self._pid == os.getpid()

    async def ready(self, build: Callable[[], Coroutine[Any, Any, AsyncOpenAI]]) -> AsyncOpenAI:
        """The client, built if need be; what was missing for it may be there the next time, so a failure is not kept.

        Args:
            build: Builds one. Not kept: it belongs to the backend, whose end closes the client.
        """
        if self._pid != os.getpid():
            self._left_to_parent.append(self._client)
            self._client, self._pid = None, os.getpid()
            self._busy, self._ended = set(), set()
        if self._client is None:
            self._client = asyncio.ensure_future(build())
        building = self._client
        try:
            return await asyncio.shield(building)
        except Exception:
            if self._client is building:
                self._client = None
            raise

    def forget(self) -> None:
        """Build another one next time: the connections of this one are dead."""
        self._client = None

    async def close(self) -> None:
        """Close the connections and end what waits for them; does nothing in a forked child."""
        there, client = self.is_there, self._client
        self._client = None
        if there and client is not None:
            for task in self._busy - self._ended:
                self._ended.add(task)
                task.cancel()
            await (await client).close()

    @contextlib.contextmanager
    def ended_by_close(self, error: Callable[[], Exception]) -> Iterator[None]:
        """What the current task does in this block, `close` ends, with this error."""
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if task in self._ended and task.uncancel() == 0:  # else it was cancelled for another reason too
                raise error() from None
            raise
        finally:
            self._busy.discard(task)
            self._ended.discard(task)
