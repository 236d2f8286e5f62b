"""One request and its answer on the wire: attempts, the watch over silence, and the reading.

Runs on the I/O loop. The clock starts when the request is handed to the transport, so neither building a client
nor waiting between attempts is in any figure.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from mamba_nb import _http
from mamba_nb.backends._builder import GenerationBuilder
from mamba_nb.backends._reader import StreamFault, StreamReader
from mamba_nb.errors import MambaError, ServerError
from mamba_nb.records import Failed, StateChange, StreamEvent
from mamba_nb.servers import failures
from mamba_nb.servers.kinds import kind_from_reply

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

MOST_LOADING_S = 600.0  # how long a server may say that it is loading
LOADING_POLL_S = 0.5
FIRST_BACKOFF_S, MOST_BACKOFF_S = 0.25, 8.0
MOST_RETRY_AFTER_S = 60.0  # a server that asks for more is told to the user instead
DRAIN_S = 0.2  # after [DONE]: how long to wait for the end of the body, so that the connection can be used again
RETRIED = (429, 502, 503, 504)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What is sent where, and who is told.

    Attributes:
        client: The openai client to send through.
        body: The JSON body, `stream` included.
        where: For the errors.
        timeout_s: The longest silence allowed, before the first byte and between chunks.
        max_retries: Further attempts after a connect error or a status of 429, 502, 503, 504.
        is_loading: Whether the server says that it is loading the model; asked when it has been silent too long.
        emit: Gets each event as it is read.
        on_state: Gets the state when it changes.
    """

    client: AsyncOpenAI
    body: dict[str, Any]
    where: failures.Where
    timeout_s: float
    max_retries: int
    is_loading: Callable[[], Awaitable[bool]]
    emit: Callable[[StreamEvent], None]
    on_state: Callable[[str], None]

    async def run(self, builder: GenerationBuilder) -> None:
        """Send the request and read the answer into the builder.

        Raises:
            MambaError: Whatever went wrong, translated; the builder keeps what had come.
        """
        watch = SilenceWatch(self.timeout_s, self.is_loading, self.on_state)
        began = time.monotonic()
        try:
            async with watch:
                response = await self._open(watch)
                sent_at = began = _http.sent_at(response)
                builder.started_at = datetime.now().astimezone().isoformat(timespec="milliseconds")
                try:
                    await self._read(response, sent_at, watch, builder)
                finally:
                    with contextlib.suppress(Exception):  # closing a broken connection has nothing more to say
                        await response.aclose()
        except asyncio.CancelledError:
            builder.latency_s = time.monotonic() - began
            if not watch.expired:
                raise
            error: MambaError = failures.timed_out(self.where, after_first_byte=not builder.empty)
            cause: Exception | None = None
        except StreamFault as fault:
            builder.latency_s = time.monotonic() - began
            error, cause = failures.from_reply(fault.payload, self.where), None
        except Exception as failure:
            builder.latency_s = time.monotonic() - began
            error, cause = failures.translate(failure, self.where), failure
        else:
            return
        if isinstance(error, ServerError):
            error.partial = builder.freeze("failed", error=error)
        self.emit(Failed(builder.latency_s, str(error), type(error).__name__))
        raise error from cause

    async def _open(self, watch: SilenceWatch) -> httpx2.Response:
        """Send until the server answers: retries what may be retried, waits while it is loading."""
        attempt = 0
        while True:
            watch.sending()
            try:
                return await _http.send(self.client, "/chat/completions", self.body)
            except Exception as error:
                wait_s: float | None
                if _says_loading(error) and watch.waited_s < MOST_LOADING_S:
                    self.on_state("loading model")
                    wait_s = LOADING_POLL_S
                elif attempt < self.max_retries:
                    wait_s = _wait_before_retry(error, attempt)
                    attempt += 1
                else:
                    wait_s = None
                if wait_s is None:
                    raise
            watch.pausing(wait_s)
            await asyncio.sleep(wait_s)

    async def _read(
        self, response: httpx2.Response, sent_at: float, watch: SilenceWatch, builder: GenerationBuilder
    ) -> None:
        reader = StreamReader()
        kind = response.headers.get("content-type", "")
        pieces = response.aiter_bytes() if "content-encoding" in response.headers else response.aiter_raw()
        try:
            if "json" in kind or "html" in kind or not self.body.get("stream"):
                await self._read_whole(pieces, sent_at, watch, builder, reader)
            else:
                await self._read_stream(pieces, sent_at, watch, builder, reader)
        finally:
            builder.model = reader.model
            builder.server_facts = reader.facts
            builder.logprobs = reader.logprobs
            if builder.server == "unknown":
                fingerprint = reader.facts.get("system_fingerprint")
                builder.server = kind_from_reply(response.headers, fingerprint) or "unknown"

    async def _read_stream(
        self,
        pieces: AsyncIterator[bytes],
        sent_at: float,
        watch: SilenceWatch,
        builder: GenerationBuilder,
        reader: StreamReader,
    ) -> None:
        now, add, emit = time.monotonic, builder.add, self.emit
        streaming = False
        async for piece in pieces:
            moment = now()
            watch.heard(moment)
            at_s = moment - sent_at
            events = reader.feed(piece, at_s)
            for event in events:
                add(event)
                emit(event)
            if events and not streaming:
                state = events[-1].state if isinstance(events[-1], StateChange) else "streaming"
                streaming = state == "streaming"
                self.on_state(state)
            if reader.done:
                break
        for event in reader.close(now() - sent_at):
            add(event)
            emit(event)
        builder.latency_s = now() - sent_at
        await _drain(pieces)
        if reader.finish_reason is not None:
            return
        if not reader.done:
            raise failures.interrupted(self.where)
        if builder.empty:
            raise StreamFault("an empty stream, without a finish reason")
        builder.warnings.append("The server gave no finish reason: the answer may have been cut.")

    async def _read_whole(
        self,
        pieces: AsyncIterator[bytes],
        sent_at: float,
        watch: SilenceWatch,
        builder: GenerationBuilder,
        reader: StreamReader,
    ) -> None:
        data = bytearray()
        async for piece in pieces:
            watch.heard(time.monotonic())
            data += piece
        at_s = time.monotonic() - sent_at
        if self.body.get("stream"):
            builder.warnings.append("The server ignored `stream`: the answer came whole, so it has no TTFT or ITL.")
        builder.streamed = False
        builder.latency_s = at_s
        try:
            body: Any = from_json(bytes(data))
        except ValueError:
            raise StreamFault(bytes(data).decode("utf-8", "replace")) from None
        for event in reader.whole(body, at_s):
            builder.add(event)
            self.emit(event)


class SilenceWatch:
    """Cancels the task it was entered in when nothing was heard for too long.

    A server that says it is loading the model may be silent for longer; the first time is asked about only
    when the timeout is over, so a healthy server is never asked.
    """

    def __init__(
        self, timeout_s: float, is_loading: Callable[[], Awaitable[bool]], on_state: Callable[[str], None]
    ) -> None:
        self.expired = False
        self._timeout_s = timeout_s
        self._is_loading = is_loading
        self._on_state = on_state
        self._began = self._last = time.monotonic()
        self._answering = False

    @property
    def waited_s(self) -> float:
        """Seconds since the watch began."""
        return time.monotonic() - self._began

    def heard(self, moment: float) -> None:
        """A piece of the answer came then, on `time.monotonic`'s clock: the silence begins anew."""
        self._last = moment
        self._answering = True

    def sending(self) -> None:
        """A request goes out: the silence begins."""
        self._last = time.monotonic()

    def pausing(self, seconds: float) -> None:
        """No answer is awaited for so long."""
        self._last = time.monotonic() + seconds

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._watcher = asyncio.create_task(self._watch())

    async def __aexit__(self, *_exc: object) -> None:
        self._watcher.cancel()
        if self.expired:
            self._task.uncancel()

    async def _watch(self) -> None:
        while True:
            left_s = self._last + self._timeout_s - time.monotonic()
            if left_s > 0:
                await asyncio.sleep(left_s)
            elif not self._answering and self.waited_s < MOST_LOADING_S and await self._is_loading():
                self._on_state("loading model")
                self._last = time.monotonic()
            elif self._last + self._timeout_s <= time.monotonic():  # nothing came while the server was asked
                self.expired = True
                self._task.cancel()
                return


async def _drain(pieces: AsyncIterator[bytes]) -> None:
    with contextlib.suppress(Exception):  # the answer is whole; how the connection ends is of no interest
        async with asyncio.timeout(DRAIN_S):
            async for _ in pieces:
                pass


def _says_loading(error: Exception) -> bool:
    """llama.cpp answers 503 `Loading model` on every path until the model is in memory."""
    response = getattr(error, "response", None)
    return response is not None and response.status_code == 503 and "loading model" in response.text.lower()


def _wait_before_retry(error: Exception, attempt: int) -> float | None:
    """Seconds to wait before another attempt, or None where there must not be one."""
    backoff_s = min(FIRST_BACKOFF_S * 2**attempt, MOST_BACKOFF_S) * (1 - 0.25 * random.random())
    response = getattr(error, "response", None)
    if response is not None:
        if response.status_code not in RETRIED:
            return None
        asked_s = failures.retry_after_s(response.headers)
        if asked_s is None:
            return backoff_s
        return asked_s if asked_s <= MOST_RETRY_AFTER_S else None
    translated = failures.translate(error, failures.Where(base_url=""))
    return backoff_s if isinstance(translated, ConnectionError) else None
