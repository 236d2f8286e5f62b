"""Short questions to servers, over one shared pool of connections: no openai client is built for them.

In: an address and perhaps a key. Out: an `Answer` whatever its status, or the transport's own exception. Redirects
are not followed, bodies have a limit, local hosts bypass proxies. Runs on the I/O loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from mamba_nb import _bridge
from mamba_nb._http import proxy_for, uses_proxies

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Answer", "StatusError", "TooLarge", "TooSlow", "lines", "look"]

MOST_BYTES = 8_000_000
LONGEST_LINE = 1_000_000

_session: aiohttp.ClientSession | None = None


class TooLarge(ValueError):
    """An answer is longer than was allowed for."""


class TooSlow(TimeoutError):
    """An answer had begun when its time was over."""


@dataclass(frozen=True, slots=False, kw_only=True)
class Answer:
    """What a server answered.

    Attributes:
        url: What was asked for.
        status: The HTTP status; redirects are among them.
        headers: By lower-case name.
        body: The bytes, decompressed.
        latency_ms: From the request to the end of the body, in milliseconds.
    """

    url: str
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    latency_ms: float

    @property
    def ok(self) -> bool:
        """Whether the status is 200 to 299."""
        return 200 <= self.status < 300

    @cached_property
    def json(self) -> Any:
        """The body as JSON; None where it is none."""
        from pydantic_core import from_json

        try:
            return from_json(self.body)
        except ValueError:
            return None

    @cached_property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")


async def look(
    url: str,
    *,
    method: str = "GET",
    body: Mapping[str, Any] | None = None,
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
    connect_s: float = 1.0,
    read_s: float = 3.0,
    most_bytes: int = MOST_BYTES,
    trust_env: bool | None = None,
) -> Answer:
    """Ask once and read the whole answer.

    Args:
        url: The whole address.
        method: GET, POST, DELETE, HEAD.
        body: Sent as JSON.
        key: Sent as `Authorization: Bearer`.
        headers: Further ones.
        connect_s: Seconds to wait for a connection.
        read_s: Seconds for the whole of the rest.
        most_bytes: The longest body that is read.
        trust_env: Whether proxies from the environment count; None decides by the host.

    Raises:
        OSError: If there is no connection (aiohttp's client errors are among them).
        aiohttp.ClientError: If what came is no HTTP.
        TimeoutError: If it took too long; TooSlow where the answer had begun.
        TooLarge: If the body is longer than `most_bytes`.
    """
    began = time.monotonic()
    begun = False
    try:
        async with (
            asyncio.timeout(connect_s + read_s),
            _request(url, method, body, key, headers, connect_s, trust_env) as response,
        ):
            begun = True
            data = bytearray()
            async for piece in response.content.iter_any():
                data += piece
                if len(data) > most_bytes:
                    response.close()
                    raise TooLarge(f"{url} answered with more than {most_bytes:,} bytes.")
    except TimeoutError as error:
        if begun:
            raise TooSlow(f"{url} had not answered whole after {connect_s + read_s:g} s.") from error
        raise
    return Answer(
        url=url,
        status=response.status,
        headers={name.lower(): value for name, value in response.headers.items()},
        body=bytes(data),
        latency_ms=1000 * (time.monotonic() - began),
    )


async def lines(
    url: str,
    *,
    method: str = "POST",
    body: Mapping[str, Any] | None = None,
    key: str | None = None,
    silence_s: float = 60.0,
    connect_s: float = 5.0,
    trust_env: bool | None = None,
) -> AsyncIterator[bytes]:
    """Ask, and give each line of the answer as it comes; the connection closes when the caller leaves.

    Raises:
        StatusError: If the status is 400 or above.
        TimeoutError: If nothing came for `silence_s`.
        OSError: If there is no connection.
    """
    async with contextlib.AsyncExitStack() as stack:
        async with asyncio.timeout(connect_s + silence_s):
            response = await stack.enter_async_context(_request(url, method, body, key, None, connect_s, trust_env))
        if response.status >= 400:
            data = await response.content.read(100_000)
            raise StatusError(response.status, data)
        rest = b""
        pieces = response.content.iter_any().__aiter__()
        while True:
            try:
                async with asyncio.timeout(silence_s):
                    piece = await anext(pieces)
            except StopAsyncIteration:
                break
            *whole, rest = (rest + piece).split(b"\n")
            if len(rest) > LONGEST_LINE:
                raise TooLarge(f"{url} sent a line of more than {LONGEST_LINE:,} bytes.")
            for line in whole:
                if line.strip():
                    yield line
        if rest.strip():
            yield rest


class StatusError(Exception):
    """An answer with a status from 400.

    Attributes:
        status: The status.
        payload: The body as JSON, else as text.
    """

    def __init__(self, status: int, data: bytes) -> None:
        from pydantic_core import from_json

        super().__init__(f"{status}")
        self.status = status
        try:
            self.payload: Any = from_json(data)
        except ValueError:
            self.payload = data.decode("utf-8", "replace")


@contextlib.asynccontextmanager
async def _request(
    url: str,
    method: str,
    body: Mapping[str, Any] | None,
    key: str | None,
    headers: Mapping[str, str] | None,
    connect_s: float,
    trust_env: bool | None,
) -> AsyncIterator[aiohttp.ClientResponse]:
    import aiohttp

    sent = {"Accept": "application/json, */*", **(headers or {})}
    if key:
        sent["Authorization"] = f"Bearer {key}"
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_s)
    async with _pool().request(
        method,
        url,
        json=body,
        headers=sent,
        allow_redirects=False,
        timeout=timeout,
        proxy=_proxy(url, trust_env),
    ) as response:
        yield response


def _proxy(url: str, trust_env: bool | None) -> str | None:
    if not uses_proxies(url, trust_env):
        return None
    return proxy_for(url, credentials=True)


def _pool() -> aiohttp.ClientSession:
    """The session, made on the I/O loop at first use; it keeps no cookies."""
    global _session
    if _session is None or _session.closed:
        import aiohttp

        from mamba_nb import __version__

        _watch()
        _session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=200, ttl_dns_cache=60, keepalive_timeout=15),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"mamba_nb/{__version__}"},
        )
    return _session


@cache
def _watch() -> None:
    _bridge.on_exit(_close)
    _bridge.on_fork(_forget)


async def _close() -> None:
    global _session
    if _session is not None:
        session, _session = _session, None
        await session.close()


def _forget() -> object:
    """In a forked child the session is the parent's: it is kept from being closed and made anew."""
    global _session
    parents, _session = _session, None
    return parents
