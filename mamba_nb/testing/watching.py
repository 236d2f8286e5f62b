"""The log as others read it: from any thread, while the server runs and after it stopped.

In: entries that the server adds and ends. Out: lists and counters, and waits with a time limit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from mamba_nb.testing.log import LoggedRequest

__all__ = ["Watched"]


class Watched:
    """What a server saw."""

    def __init__(self) -> None:
        self._log: list[LoggedRequest] = []
        self._changed = threading.Condition()
        self._active = 0
        self._peak = 0

    def _begin(self, entry: LoggedRequest) -> None:
        with self._changed:
            self._log.append(entry)
            self._active += 1
            self._peak = max(self._peak, self._active)
            self._changed.notify_all()

    def _end(self, entry: LoggedRequest, *, client_left: bool) -> None:
        with self._changed:
            if entry.ended_at is None:
                entry.ended_at = time.monotonic()
                entry.disconnected = client_left
            self._active -= 1
            self._changed.notify_all()

    @property
    def requests(self) -> list[LoggedRequest]:
        """Every request so far, in the order of arrival."""
        return list(self._log)

    @property
    def chats(self) -> list[LoggedRequest]:
        """The requests for chat completions among them, Ollama's own route included."""
        return [request for request in self.requests if request.path.endswith(("/chat/completions", "/api/chat"))]

    @property
    def disconnects(self) -> int:
        """How many clients went away before the end of their answer."""
        return sum(request.disconnected for request in self.requests)

    @property
    def active(self) -> int:
        """How many requests are being answered or wait for their answer."""
        return self._active

    @property
    def peak_active(self) -> int:
        """The most requests that were active at once."""
        return self._peak

    def clear(self) -> None:
        """Forget the log; requests under way are still finished."""
        with self._changed:
            self._log.clear()
            self._peak = self._active

    def wait_for_requests(
        self, count: int, timeout_s: float = 10.0, *, chats_only: bool = False
    ) -> list[LoggedRequest]:
        """Wait until so many requests have come.

        Returns:
            The requests.

        Raises:
            TimeoutError: If they did not come in time.
        """

        def seen() -> list[LoggedRequest]:
            return self.chats if chats_only else self.requests

        self._wait(lambda: len(seen()) >= count, timeout_s, lambda: f"{count} requests were awaited")
        return seen()

    def wait_for_disconnects(self, count: int = 1, timeout_s: float = 10.0) -> None:
        """Wait until so many clients have gone away before the end of their answer.

        Raises:
            TimeoutError: If they did not in time.
        """
        self._wait(lambda: self.disconnects >= count, timeout_s, lambda: f"{count} disconnects were awaited")

    def wait_for_tokens(self, count: int, timeout_s: float = 10.0) -> None:
        """Wait until so many tokens have been sent, over all requests.

        Raises:
            TimeoutError: If they were not in time.
        """
        self._wait(
            lambda: sum(len(request.token_sent_at) for request in self.requests) >= count,
            timeout_s,
            lambda: f"{count} tokens were awaited",
            look_up_s=0.005,
        )

    def wait_idle(self, timeout_s: float = 10.0) -> None:
        """Wait until no request is being answered.

        Raises:
            TimeoutError: If some still are.
        """
        self._wait(lambda: self._active == 0, timeout_s, lambda: f"{self._active} requests are still active")

    def _wait(
        self, done: Callable[[], bool], timeout_s: float, what: Callable[[], str], look_up_s: float = 0.1
    ) -> None:
        end = time.monotonic() + timeout_s
        with self._changed:
            while not done():
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"{what()}; after {timeout_s} s there were: {self.requests}")
                self._changed.wait(min(left, look_up_s))
