"""One client's connection: requests as they come, answers as they are due.

In: bytes of a client. Out: `HttpRequest` values handed to a coroutine, one at a time and in order, and the
bytes that it sends. Keep-alive and pipelining; a client that goes away cancels the coroutine at once, even
while it sleeps. The bytes of heads and bodies are `http1`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from mamba_nb.testing.http1 import (
    MOST_HEAD,
    BadRequest,
    HttpRequest,
    head_bytes,
    parse_head,
    take_chunked,
    take_counted,
)

__all__ = ["Connection"]

Handler = Callable[["Connection", HttpRequest], Coroutine[Any, Any, None]]


class Connection(asyncio.Protocol):
    """One client connection.

    Args:
        handle: Answers one request; it may send only while it runs.
        number: Which connection this is.
        on_change: Called with this connection and True when it opens, False when it is gone.
        keep_alive_s: Seconds after which a connection without a request is closed; None for never.

    Attributes:
        gone: Whether the connection is closed.
        closed_here: Whether this side closed it.
    """

    def __init__(
        self,
        handle: Handler,
        number: int,
        on_change: Callable[[Connection, bool], None],
        keep_alive_s: float | None = None,
    ) -> None:
        self.number = number
        self.gone = False
        self.closed_here = False
        self._handle = handle
        self._on_change = on_change
        self._keep_alive_s = keep_alive_s
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._head: tuple[str, str, str, dict[str, str]] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._request: HttpRequest | None = None
        self._pending = b""  # a head that waits for the first piece of its body
        self._chunked = False
        self._complete = False
        self._stays = False
        self._idle_timer: asyncio.TimerHandle | None = None

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; small writes leave at once."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._on_change(self, True)
        self._watch_idle()

    def data_received(self, data: bytes) -> None:
        """Collect bytes; a complete request starts its answer unless one is under way."""
        self._buffer += data
        if self._task is None:
            self._next()

    def eof_received(self) -> None:
        """The client closed: so does this side."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever is answering is cancelled."""
        self.gone = True
        self._writable.set()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._on_change(self, False)

    def pause_writing(self) -> None:
        """The client reads more slowly than this side writes."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The client caught up."""
        self._writable.set()

    # Reading.

    def _next(self) -> None:
        try:
            request = self._parse()
        except BadRequest as error:
            self._refuse(error)
            return
        if request is not None and not self.gone:
            self._task = asyncio.get_running_loop().create_task(self._serve(request))

    async def _serve(self, request: HttpRequest) -> None:
        self._request, self._complete, self._pending = request, False, b""
        try:
            await self._handle(self, request)
        finally:
            self._task = None
        if self.gone:
            return
        if self._complete and self._stays:
            self._next()
            self._watch_idle()
        else:
            self._transport.close()

    def _watch_idle(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if self._keep_alive_s is not None:
            self._idle_timer = asyncio.get_running_loop().call_later(self._keep_alive_s, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self._task is None:
            self._transport.close()

    def _parse(self) -> HttpRequest | None:
        if self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > MOST_HEAD:
                    raise BadRequest(431, "The request's head is too long.")
                return None
            self._head = parse_head(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
            if self._head[3].get("expect", "").lower() == "100-continue":
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        method, path, version, headers = self._head
        if "chunked" in headers.get("transfer-encoding", "").lower():
            body = take_chunked(self._buffer)
        else:
            body = take_counted(self._buffer, headers.get("content-length", "0"))
        if body is None:
            return None
        self._head = None
        return HttpRequest(method, path, version, headers, body, time.monotonic())

    def _refuse(self, error: BadRequest) -> None:
        body = f"{error}\n".encode()
        head = head_bytes(error.status, {"Content-Type": "text/plain; charset=utf-8"}, len(body), False, False)
        self._transport.write(head + body)
        self._transport.close()

    # Writing.

    def start(
        self, status: int, headers: Mapping[str, str], *, length: int | None, now: bool = False, last: bool = False
    ) -> None:
        """Begin an answer.

        Args:
            status: The HTTP status.
            headers: Response headers; Date, Content-Length and the like are added. `Connection: close` is obeyed.
            length: Bytes of the body, or None for a body of unknown length (chunked for HTTP/1.1).
            now: Send the head at once, not together with the first piece of the body.
            last: Close the connection after this answer.
        """
        assert self._request is not None
        self._chunked = length is None and self._request.version != "HTTP/1.0"
        last = last or any(n.lower() == "connection" and v.lower() == "close" for n, v in headers.items())
        self._stays = self._request.keep_alive and (length is not None or self._chunked) and not last
        head = head_bytes(status, headers, length, self._chunked, self._stays)
        if now:
            self._write(head)
        else:
            self._pending = head

    def send(self, data: bytes) -> None:
        """Write a piece of the body."""
        if self._chunked and data:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if self._pending:
            data, self._pending = self._pending + data, b""
        self._write(data)

    def finish(self) -> None:
        """End the answer."""
        tail = b"0\r\n\r\n" if self._chunked else b""
        self._write(self._pending + tail)
        self._pending, self._complete = b"", True

    async def drain(self) -> None:
        """Wait while the client is slower than this side."""
        if not self._writable.is_set():
            await self._writable.wait()

    def close(self) -> None:
        """Close in the middle of whatever is going on, once what was written has left."""
        self.closed_here = True
        self._transport.close()

    def abort(self, *, reset: bool = False) -> None:
        """Close now; what was written and has not left is lost.

        Args:
            reset: Send a TCP reset, which the client sees as `ConnectionResetError`.
        """
        self.closed_here = True
        if reset:
            linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
            with contextlib.suppress(OSError):
                self._socket().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()

    def _write(self, data: bytes) -> None:
        if data and not self.gone:
            self._transport.write(data)

    def _socket(self) -> socket.socket:
        found: socket.socket = self._transport.get_extra_info("socket")
        return found
