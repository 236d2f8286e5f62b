"""The one place that makes HTTP clients: proxies, redirects, headers, limits.

A client is built off the I/O loop (for https it takes 80 to 270 ms, most of it certificates) and used on it. Calls to
this machine and to private networks bypass proxies; redirects are not followed, so a key never travels to
another host; what the environment holds for OpenAI goes to OpenAI's hosts alone.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import ssl
import time
import weakref
from collections.abc import Mapping
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mamba_nb import _bridge

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

PLACEHOLDER_KEY = "not-needed"  # the openai client refuses to be built without a key, local servers want none
CONNECT_TIMEOUT_S = 5.0
MAX_CONNECTIONS = 200
RAW_RESPONSE = {"X-Stainless-Raw-Response": "stream"}  # makes the openai client hand over the unread response
SENT_AT = "mamba_nb.sent_at"
WRITE_S = 0.002  # a request handed to the transport has been written by then


_clients: weakref.WeakSet[AsyncOpenAI] = weakref.WeakSet()  # open ones, to be closed at exit


class NoJson(ValueError):
    """An answer is no JSON; the message is what it begins with."""


def is_openai_host(host: str) -> bool:
    """Whether the host is OpenAI's own, the only one that its environment keys are for."""
    return host == "api.openai.com" or host.endswith(".api.openai.com")


def is_local_host(host: str) -> bool:
    """Whether the host is this machine or a private network: loopback, private or link-local, or a bare name.

    Names under `.local`, `.internal`, `.localhost` and names without a dot (`gpu-box`) count as private.
    """
    host = host.strip("[]").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal", ".lan", ".home.arpa"))
    return not address.is_global  # private and link-local ones, and those of overlay networks (100.64.0.0/10)


def is_this_machine(host: str) -> bool:
    """Whether the host is loopback, or the wildcard address that a server binds to."""
    host = host.strip("[]").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def proxy_for(base_url: str, *, credentials: bool = False) -> str | None:
    """The proxy in the environment that a call to this address would take by default.

    Args:
        base_url: Where the call goes.
        credentials: Whether a user name and password in the proxy's address stay there: to use it, not to show it.

    Returns:
        None where there is none. This package bypasses it for local hosts; other programs may not.
    """
    from urllib.request import getproxies, proxy_bypass

    proxies, parts = getproxies(), urlsplit(base_url)
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return None
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if credentials:
        return parts.geturl()
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def uses_proxies(base_url: str, trust_env: bool | None) -> bool:
    """Whether proxies from the environment count: as asked, else for all but local hosts."""
    return not is_local_host(urlsplit(base_url).hostname or "") if trust_env is None else trust_env


def build_client(
    base_url: str,
    api_key: str | None,
    *,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    headers: Mapping[str, str] | None = None,
    trust_env: bool | None = None,
) -> AsyncOpenAI:
    """An openai client for one server. Blocks, for 80 to 270 ms with https: call it off the loop.

    Args:
        base_url: The server's OpenAI address.
        api_key: The key to send; None sends a placeholder, or `OPENAI_API_KEY` to OpenAI's own hosts.
        connect_timeout_s: Seconds to wait for a connection. Silence afterwards is watched by the caller.
        headers: Further headers for every request.
        trust_env: Whether proxies from the environment count; None decides by the host.

    Raises:
        openai.OpenAIError: If the host is OpenAI's and there is no key for it.
    """
    import httpx2
    from openai import AsyncOpenAI, DefaultAioHttpClient, OpenAIError

    official = is_openai_host(urlsplit(base_url).hostname or "")
    key = api_key or (os.environ.get("OPENAI_API_KEY") if official else PLACEHOLDER_KEY)
    if not key:
        raise OpenAIError("Missing credentials.")
    timeout = httpx2.Timeout(None, connect=connect_timeout_s)

    async def stamp(request: httpx2.Request) -> None:
        if (turn := _turn.get()) is not None:
            asyncio.get_running_loop().call_later(WRITE_S, turn.end)
        request.extensions[SENT_AT] = time.monotonic()

    proxies = uses_proxies(base_url, trust_env)
    http_client = DefaultAioHttpClient(
        trust_env=proxies,
        verify=_tls_context(needed=proxies or urlsplit(base_url).scheme == "https"),
        follow_redirects=False,
        timeout=timeout,
        limits=httpx2.Limits(
            max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS, keepalive_expiry=30
        ),
        event_hooks={"request": [stamp]},
    )
    client = (AsyncOpenAI if official else _plain_client())(
        base_url=base_url,
        api_key=key,
        max_retries=0,  # the SDK would also retry read timeouts, which queues a second generation
        timeout=timeout,
        http_client=http_client,
        default_headers=dict(headers or {}),
    )
    _watch_exit()
    _clients.add(client)
    return client


def close_when_gone(owner: object, client: AsyncOpenAI) -> None:
    """Close the client once its owner is garbage, so that a backend made again and again leaves no open sockets."""
    weakref.finalize(owner, _close_later, client, os.getpid()).atexit = False


def _close_later(client: AsyncOpenAI, pid: int) -> None:
    if pid == os.getpid() and _bridge.io.started:
        _bridge.io.submit(client.close())


@cache
def _watch_exit() -> None:
    _bridge.on_exit(_close_all)
    _bridge.on_fork(_forget_parents_clients)


def _forget_parents_clients() -> list[AsyncOpenAI]:
    left = list(_clients)
    _clients.clear()  # closing them in the child would take the parent's sockets out of the poll that both share
    return left


async def _close_all() -> None:
    for client in list(_clients):
        await client.close()


def _tls_context(*, needed: bool) -> ssl.SSLContext:
    """The context to check certificates with; where no TLS is in sight, one that trusts nobody and costs nothing."""
    import httpx2

    return httpx2.create_ssl_context() if needed else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@cache
def _plain_client() -> type[AsyncOpenAI]:
    """The openai client for every host but OpenAI's own: it sends few headers, and none from the environment.

    The SDK's own adds the organisation, the project and custom headers that the environment holds for OpenAI, and
    a dozen that describe this machine; building those takes a tenth of a request's time.
    """
    from openai import AsyncOpenAI

    from mamba_nb import __version__

    class PlainClient(AsyncOpenAI):
        asked_for: Mapping[str, str] = {}

        def __init__(self, *, default_headers: Mapping[str, str], **options: Any) -> None:
            super().__init__(**options)
            self.asked_for = {
                "Accept": "application/json",
                "Content-Type": "application/json",
                "User-Agent": f"mamba_nb/{__version__}",
                **default_headers,
            }

        @property
        def default_headers(self) -> dict[str, Any]:
            return dict(self.asked_for)

    return PlainClient


def sent_at(response: httpx2.Response) -> float:
    """When the request went out, on `time.monotonic`'s clock: stamped as it is handed to the transport."""
    return float(response.request.extensions[SENT_AT])


class _Turn:
    """One request's turn to be built and written, while no other is.

    Building a request takes about a millisecond of the loop. Eight begun at once would each be stamped as sent
    and then wait for the others to be built before their bytes leave: the last would look 8 ms slower than it is.
    """

    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock = lock
        self._mine = False

    async def begin(self) -> None:
        await self._lock.acquire()
        self._mine = True

    def end(self) -> None:
        if self._mine:
            self._mine = False
            self._lock.release()


_turn: ContextVar[_Turn | None] = ContextVar("mamba_nb_turn", default=None)
_locks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()


async def send(
    client: AsyncOpenAI, path: str, body: Mapping[str, Any] | None = None, *, method: str = "POST"
) -> httpx2.Response:
    """Send one request through the openai client, and give the response with its body unread.

    The caller reads and closes it. Statuses from 400 raise the SDK's errors, as does a redirect.

    Args:
        client: From `build_client`.
        path: Relative to the base URL, or a whole address on the same server.
        body: JSON body of a POST.
        method: `POST` or `GET`.
    """
    import httpx2

    options: Any = {"headers": RAW_RESPONSE}
    turn = _Turn(_locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()))
    await turn.begin()
    token = _turn.set(turn)
    try:
        if method == "GET":
            return await client.get(path, cast_to=httpx2.Response, options=options)
        return await client.post(path, body=body, cast_to=httpx2.Response, options=options)
    finally:
        _turn.reset(token)
        turn.end()


async def fetch(
    client: AsyncOpenAI,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    timeout_s: float,
    most_bytes: int = 8_000_000,
) -> tuple[bytes, Mapping[str, str]]:
    """Ask and read the whole answer: a POST where there is a body, else a GET.

    Returns:
        The answer's bytes and its headers.

    Raises:
        TimeoutError: If it has not come whole within `timeout_s`.
        ValueError: If it is larger than `most_bytes`.
    """
    async with asyncio.timeout(timeout_s):
        response = await send(client, path, body, method="GET" if body is None else "POST")
        try:
            data = bytearray()
            async for piece in response.aiter_bytes():
                data += piece
                if len(data) > most_bytes:
                    raise ValueError(f"{response.url} answered with more than {most_bytes:,} bytes.")
        finally:
            await response.aclose()
    return bytes(data), response.headers


async def get_json(client: AsyncOpenAI, path: str, *, timeout_s: float, most_bytes: int = 8_000_000) -> Any:
    """GET a JSON document; raises as `fetch` does, and NoJson if it is none."""
    data, _ = await fetch(client, path, timeout_s=timeout_s, most_bytes=most_bytes)
    return _parsed(data, path)


async def post_json(
    client: AsyncOpenAI, path: str, body: Mapping[str, Any], *, timeout_s: float, most_bytes: int = 200_000_000
) -> Any:
    """POST a JSON document and give the JSON that comes back; raises as `get_json` does."""
    data, _ = await fetch(client, path, body, timeout_s=timeout_s, most_bytes=most_bytes)
    return _parsed(data, path)


def _parsed(data: bytes, path: str) -> Any:
    from pydantic_core import from_json

    try:
        return from_json(data)
    except ValueError as error:
        raise NoJson(data[:1000].decode("utf-8", "replace")) from error
