"""One request and its answer on the wire: the attempts, and the reading.

Runs on the I/O loop. The clock starts when the request is handed to the transport, so neither building a client
nor waiting between attempts is in any figure.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from mamba_nb import _http
from mamba_nb.backends._builder import GenerationBuilder
from mamba_nb.backends._patience import SilenceWatch, with_retries
from mamba_nb.backends._reader import StreamFault, StreamReader
from mamba_nb.backends._translate import Sent, openai_request
from mamba_nb.errors import MambaError, ServerError, ServerUnreachable
from mamba_nb.records import Failed, StateChange, StreamEvent
from mamba_nb.servers import failures
from mamba_nb.servers.kinds import kind_from_reply

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

DRAIN_S = 0.2  # after the last line: how long to wait for the end of the body, so that the connection can be used again


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One way to ask a server for an answer: where to, in which words, and how the reply is read.

    Attributes:
        path: Relative to the base URL, or a whole address on the same server.
        write: Makes the request: model, messages and parameters, with the kind of server and whether to stream.
        reader: Makes the reader of one reply.
        stream_type: What the content type of its streams holds.
        stream_begins: The first bytes of a stream: some gateways label one as JSON or plain text.
    """

    path: str
    write: Callable[..., Sent]
    reader: Callable[[], StreamReader]
    stream_type: str
    stream_begins: tuple[bytes, ...]


OPENAI = Route(
    path="/chat/completions",
    write=openai_request,
    reader=StreamReader,
    stream_type="event-stream",
    stream_begins=(b"data:", b":", b"event:", b"id:", b"retry:"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What is sent where, and who is told.

    Attributes:
        client: The openai client to send through.
        route: Where to, and how the reply is read.
        body: The JSON body, `stream` included.
        where: For the errors.
        timeout_s: The longest silence allowed, before the first byte and between chunks.
        max_retries: Further attempts after a connect error or a status of 429, 502, 503, 504.
        is_loading: Whether the server says that it is loading the model; asked when it has been silent too long.
        emit: Gets each event as it is read.
        on_state: Gets the state when it changes.
    """

    client: AsyncOpenAI
    route: Route
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
        try:
            async with watch:
                response = await with_retries(
                    lambda: _http.send(self.client, self.route.path, self.body),
                    max_retries=self.max_retries,
                    watch=watch,
                    on_loading=lambda: self.on_state("loading model"),
                )
                watch.accepted()
                watch.sent_at = _http.sent_at(response)
                builder.started_at = _wall_clock(watch.sent_at)
                try:
                    await self._read(response, watch.sent_at, watch, builder)
                finally:
                    with contextlib.suppress(Exception):  # closing a broken connection has nothing more to say
                        await response.aclose()
            return
        except asyncio.CancelledError:
            _broke_off(builder, watch)
            task = asyncio.current_task()
            if not watch.expired or (task is not None and task.cancelling()):
                raise
            error: MambaError = failures.timed_out(
                self.where, after_first_byte=not builder.empty, loading_s=watch.waited_s if watch.loading else None
            )
            cause: BaseException | None = None
        except StreamFault as fault:
            for event in fault.events:
                builder.add(event)
                self.emit(event)
            _broke_off(builder, watch)
            error, cause = failures.from_reply(fault.payload, self.where), None
        except Exception as failure:
            _broke_off(builder, watch)
            error = failures.translate(failure, self.where)
            cause = failures.safe_cause(failure, self.where) if failure is not error else None
        if builder.finished:  # only the usage after the answer is missing
            builder.warnings.append(f"The answer is whole, but its stream did not end well: {error.message}")
            return
        if isinstance(error, ServerUnreachable):
            builder.latency_s = builder.started_at = None  # nothing was sent
        if isinstance(error, ServerError):
            error.partial = builder.freeze("failed", error=error)
        self.emit(Failed(builder.latency_s or 0.0, str(error), type(error).__name__))
        raise error from cause

    async def _read(
        self, response: httpx2.Response, sent_at: float, watch: SilenceWatch, builder: GenerationBuilder
    ) -> None:
        reader = self.route.reader()
        pieces = response.aiter_bytes() if "content-encoding" in response.headers else response.aiter_raw()
        try:
            if self.body.get("stream"):
                is_stream = self.route.stream_type in response.headers.get("content-type", "")
                await self._read_stream(pieces, sent_at, watch, builder, reader, is_stream)
            else:
                await self._read_whole(pieces, b"", sent_at, watch, builder, reader)
        finally:
            builder.model = reader.model
            builder.server_facts = reader.facts
            builder.logprobs = reader.logprobs
            if reader.malformed:
                builder.warnings.append(f"Skipped in the stream, being no JSON: {reader.malformed} lines.")
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
        is_stream: bool,
    ) -> None:
        now, add, emit = time.monotonic, builder.add, self.emit
        streaming = False
        async for piece in pieces:
            moment = now()
            watch.heard(moment)
            at_s = moment - sent_at
            if not is_stream:
                is_stream = piece.lstrip().startswith(self.route.stream_begins)
                if not is_stream:
                    await self._read_whole(pieces, piece, sent_at, watch, builder, reader)
                    return
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
        if reader.done:
            watch.pausing(DRAIN_S)
            await _drain(pieces)
        if reader.finish_reason is not None:
            return
        if not reader.done or builder.empty:
            raise failures.interrupted(self.where, empty=builder.empty)
        builder.warnings.append("The server gave no finish reason: the answer may have been cut.")

    async def _read_whole(
        self,
        pieces: AsyncIterator[bytes],
        begun: bytes,
        sent_at: float,
        watch: SilenceWatch,
        builder: GenerationBuilder,
        reader: StreamReader,
    ) -> None:
        data = bytearray(begun)
        async for piece in pieces:
            watch.heard(time.monotonic())
            data += piece
        at_s = time.monotonic() - sent_at
        builder.streamed = False
        builder.latency_s = at_s
        try:
            body: Any = from_json(bytes(data))
        except ValueError:
            raise StreamFault(bytes(data).decode("utf-8", "replace")) from None
        for event in reader.whole(body, at_s):
            builder.add(event)
            self.emit(event)
        if self.body.get("stream"):
            builder.warnings.append("The server ignored `stream`: the answer came whole, so it has no TTFT or ITL.")
        if reader.finish_reason is None:
            builder.warnings.append("The server gave no finish reason: the answer may have been cut.")


def _broke_off(builder: GenerationBuilder, watch: SilenceWatch) -> None:
    builder.latency_s = time.monotonic() - watch.sent_at
    builder.started_at = _wall_clock(watch.sent_at)


def _wall_clock(moment: float) -> str:
    """A moment on `time.monotonic`'s clock as ISO 8601 with offset."""
    ago = timedelta(seconds=time.monotonic() - moment)
    return (datetime.now().astimezone() - ago).isoformat(timespec="milliseconds")


async def _drain(pieces: AsyncIterator[bytes]) -> None:
    with contextlib.suppress(Exception):  # the answer is whole; how the connection ends is of no interest
        async with asyncio.timeout(DRAIN_S):
            async for _ in pieces:
                pass
