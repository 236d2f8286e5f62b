"""When to wait for a server, when to ask again, and when to give up.

Two rules. Silence: nothing may be silent for longer than the timeout, unless the server says that it is loading
the model. Retries: what failed before the request can have begun to work is sent again; a silent timeout never
is, since the server may still be at work on the first one.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mamba_nb.errors import StreamInterrupted
from mamba_nb.servers import failures

T = TypeVar("T")

MOST_LOADING_S = 600.0  # how long a server may say that it is loading
LOADING_POLL_S = 0.5
ASK_STATE_S = 5.0  # how long the question whether it is loading may take
CONNECT_SLACK_S = 0.05  # before the first byte: lets a connect timeout of the same length speak first
FIRST_BACKOFF_S, MOST_BACKOFF_S = 0.25, 8.0
MOST_RETRY_AFTER_S = 60.0  # a server that asks for more is told to the user instead
STALE_S = 0.5  # a connection closed within this time of sending was a kept one that the server had given up
RETRIED = (429, 502, 503, 504)


class SilenceWatch:
    """Cancels the task it was entered in when nothing was heard for too long.

    A server that says it is loading the model may be silent for longer; the first time is asked about only
    when the timeout is over, so a healthy server is never asked.

    Attributes:
        expired: Whether it has cancelled the task.
        loading: Whether the server said last that it is loading the model.
        sent_at: When the last request went out, on `time.monotonic`'s clock.
    """

    def __init__(
        self, timeout_s: float, is_loading: Callable[[], Awaitable[bool]], on_state: Callable[[str], None]
    ) -> None:
        self.expired = self.loading = False
        self._timeout_s = timeout_s
        self._is_loading = is_loading
        self._on_state = on_state
        self._began = self._last = self.sent_at = time.monotonic()
        self._answering = False
        self._timer: asyncio.TimerHandle
        self._decision: asyncio.Task[None] | None = None

    @property
    def waited_s(self) -> float:
        """Seconds since the watch began."""
        return time.monotonic() - self._began

    def heard(self, moment: float) -> None:
        """A piece of the answer came then, on `time.monotonic`'s clock: the silence begins anew."""
        self._last = moment
        self._answering, self.loading = True, False

    def accepted(self) -> None:
        """The head of the answer came: the silence begins anew, though the model may still be loading."""
        self._last = time.monotonic()

    def sending(self) -> None:
        """A request goes out: the silence begins."""
        self._last = self.sent_at = time.monotonic()

    def pausing(self, seconds: float) -> None:
        """No answer is awaited for so long."""
        self._last = time.monotonic() + seconds

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._look()

    async def __aexit__(self, *_exc: object) -> None:
        self._timer.cancel()
        if self._decision is not None:
            self._decision.cancel()
        if self.expired:
            self._task.uncancel()

    @property
    def _left_s(self) -> float:
        slack_s = 0.0 if self._answering else CONNECT_SLACK_S
        return self._last + self._timeout_s + slack_s - time.monotonic()

    def _look(self) -> None:
        # A timer, not a task: making and ending a task would cost each request more than reading its answer.
        if (left_s := self._left_s) > 0:
            self._timer = asyncio.get_running_loop().call_later(left_s, self._look)
        else:
            self._decision = asyncio.create_task(self._decide())

    async def _decide(self) -> None:
        if not self._answering and self.waited_s < MOST_LOADING_S:
            self.loading = await self._asked()
            if self.loading:
                self._on_state("loading model")
                self._last = time.monotonic()
        if self._left_s <= 0:  # nothing came while the server was asked
            self.expired = True
            self._task.cancel()
            return
        self._look()

    async def _asked(self) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(ASK_STATE_S, self._timeout_s)):
                return await self._is_loading()
        return False


async def with_retries(
    send: Callable[[], Awaitable[T]],
    *,
    max_retries: int,
    watch: SilenceWatch | None = None,
    on_loading: Callable[[], None] | None = None,
) -> T:
    """Call `send` until the server answers.

    Args:
        send: Makes one attempt.
        max_retries: Further attempts after a connect error or a status of 429, 502, 503, 504.
        watch: Told of each attempt and of the pauses between them, where there is one.
        on_loading: Called when the server says that it is loading the model, which is waited for; None
            takes that for an ordinary 503.

    Raises:
        Exception: What the last attempt raised, as it came.
    """
    began, attempt = time.monotonic(), 0
    while True:
        sent_at = time.monotonic()
        if watch is not None:
            watch.sending()
        try:
            return await send()
        except Exception as error:
            wait_s: float | None = None
            if on_loading is not None and _says_loading(error) and sent_at - began < MOST_LOADING_S:
                on_loading()
                wait_s = LOADING_POLL_S
            elif attempt < max_retries:
                wait_s = _wait_before_retry(error, attempt, time.monotonic() - sent_at)
                attempt += 1
            if wait_s is None:
                raise
        if watch is not None:
            watch.pausing(wait_s)
        await asyncio.sleep(wait_s)


def _says_loading(error: Exception) -> bool:
    """llama.cpp answers 503 `Loading model` on every path until the model is in memory."""
    response = getattr(error, "response", None)
    return response is not None and response.status_code == 503 and "loading model" in response.text.lower()


def _wait_before_retry(error: Exception, attempt: int, after_s: float) -> float | None:
    """Seconds to wait before another attempt, or None where there must not be one."""
    backoff_s = min(FIRST_BACKOFF_S * 2.0**attempt, MOST_BACKOFF_S) * (1 - 0.25 * random.random())
    response = getattr(error, "response", None)
    if response is not None:
        if response.status_code not in RETRIED:
            return None
        asked_s = failures.retry_after_s(response.headers)
        if asked_s is None:
            return backoff_s
        return asked_s if asked_s <= MOST_RETRY_AFTER_S else None
    if failures.is_tls(error):  # the next attempt would meet the same certificate
        return None
    translated = failures.translate(error, failures.Where(base_url=""))
    if isinstance(translated, StreamInterrupted) and after_s > STALE_S:
        return None  # it had begun to work on the request
    return backoff_s if isinstance(translated, ConnectionError) else None
