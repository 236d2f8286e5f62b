"""Servers that are no model servers, for whoever looks for model servers: pages, other APIs, broken and hostile ones.

    with decoy("web_page") as place:
        ...  # whatever looks, at place.root
        assert not any(seen.key for seen in place.seen)

Each listens on a free port of 127.0.0.1, in threads of its own, and keeps what it was asked, keys included. `NAMES`
lists them.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mamba_nb.testing.certificates import self_signed

__all__ = ["NAMES", "Decoy", "Seen", "decoy"]

MOST_HEAD = 65_536
DRIP_S = 0.05


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came: its method, its path, its headers by lower-case name."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def key(self) -> str | None:
        """The key that came with it, or None."""
        return self.headers.get("authorization", "").removeprefix("Bearer ") or self.headers.get("x-api-key")


@dataclass(slots=True)
class Decoy:
    """A place on the loopback interface, and what it saw.

    Attributes:
        name: Which of `NAMES`.
        port: Where it listens.
        scheme: `http` or `https`.
        seen: The requests that came.
        connections: How many connections came, those without a request included.
        target: Where `redirect` sends its callers.
    """

    name: str
    port: int
    scheme: str = "http"
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    target: Decoy | None = None

    @property
    def root(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:PORT/v1`."""
        return f"{self.root}/v1"


Answer = Callable[[Decoy, Seen], Iterator[bytes]]


def reply(
    status: int, body: str | bytes | dict[str, Any] | list[Any], kind: str | None = None, **headers: str
) -> bytes:
    """A whole answer; a dict or list is sent as JSON."""
    if isinstance(body, dict | list):
        body, kind = json.dumps(body), kind or "application/json"
    data = body.encode() if isinstance(body, str) else body
    named = {"Content-Type": kind or "text/html; charset=utf-8", "Content-Length": str(len(data)), **headers}
    lines = [f"HTTP/1.1 {status} Status", *(f"{name.replace('_', '-')}: {value}" for name, value in named.items())]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + data


def _always(status: int, body: Any, kind: str | None = None, **headers: str) -> Answer:
    def answer(decoy: Decoy, seen: Seen) -> Iterator[bytes]:
        yield reply(status, body, kind, **headers)

    return answer


def _garbage(decoy: Decoy, seen: Seen) -> Iterator[bytes]:
    yield bytes(range(256)) * 20


def _redirect(decoy: Decoy, seen: Seen) -> Iterator[bytes]:
    assert decoy.target is not None
    yield reply(307, "", Location=f"http://localhost:{decoy.target.port}{seen.path}")


def _to_a_page(decoy: Decoy, seen: Seen) -> Iterator[bytes]:
    yield reply(302, "", Location="/login?next=" + seen.path) if seen.path != "/login" else reply(200, "<html>Login")


def _huge(decoy: Decoy, seen: Seen) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000000000\r\n\r\n"
    yield b'{"object": "list", "data": ['
    yield from itertools.repeat(b'{"id": "model", "object": "model"},' * 2000)


def _drip(decoy: Decoy, seen: Seen) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield b"1\r\n{\r\n"
    while True:
        time.sleep(DRIP_S)
        yield b"1\r\n \r\n"


def _drip_head(decoy: Decoy, seen: Seen) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    for number in itertools.count():
        time.sleep(DRIP_S)
        yield b"X-%d: 1\r\n" % number


def _closes(decoy: Decoy, seen: Seen) -> Iterator[bytes]:
    return iter(())


def _cut(decoy: Decoy, seen: Seen) -> Iterator[bytes]:
    yield b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{"object": "list", "da'


def _silent(decoy: Decoy, seen: Seen) -> Iterator[bytes]:
    while True:
        time.sleep(DRIP_S)
        yield b""


def _ollama_alike(decoy: Decoy, seen: Seen) -> Iterator[bytes]:
    """A page of Ollama's first words, with nothing behind them."""
    if seen.path == "/":
        yield reply(200, "Ollama is running", "text/plain")
    elif seen.path == "/api/version":
        yield reply(200, {"version": "0.1.0", "commit": "abc"})
    else:
        yield reply(404, "not here", "text/plain")


def _spa(decoy: Decoy, seen: Seen) -> Iterator[bytes]:
    yield reply(200, f"<!doctype html><html><head><title>Open WebUI</title></head><body>{seen.path}</body></html>")


def _fastapi(decoy: Decoy, seen: Seen) -> Iterator[bytes]:
    docs = {"openapi": "3.1.0", "info": {"title": "Orders", "version": "1.0"}, "paths": {"/orders": {"get": {}}}}
    known: dict[str, dict[str, Any]] = {
        "/openapi.json": docs,
        "/health": {"status": "ok"},
        "/version": {"version": "1.0"},
    }
    found = known.get(seen.path)
    yield reply(200 if found else 404, found or {"detail": "Not Found"}, Server="uvicorn")


def _airplay(decoy: Decoy, seen: Seen) -> Iterator[bytes]:
    """What macOS has on port 5000."""
    yield reply(403, b"", "text/plain", Server="AirTunes/775.3.1")


ODD_LIST: dict[str, Any] = {"object": "list", "data": [None, 7, "x", [], {"id": None}, {"name": "x"}]}

ANSWERS: dict[str, Answer] = {
    "web_page": _always(200, "<!doctype html><html><head><title>Grafana &lt;b&gt;</title></head><body></body></html>"),
    "single_page_app": _spa,
    "login_page": _always(401, "<html><title>Sign in</title></html>", WWW_Authenticate="Basic"),
    "json_api": _always(200, {"status": "up", "data": {"orders": 3}}),
    "json_list": _always(200, [{"id": 1}, {"id": 2}]),
    "json_data": _always(200, {"data": [{"id": 1, "name": "first"}], "page": 1}),
    "car_models": _always(200, {"data": [{"id": "golf", "type": "car"}, {"id": "polo", "type": "car"}]}),
    "odd_list": _always(200, ODD_LIST),
    "deep_json": _always(200, "[" * 100_000, "application/json"),
    "broken_json": _always(200, '{"object": "list", "data": [{"id": "a"', "application/json"),
    "null_json": _always(200, "null", "application/json"),
    "plain_text": _always(200, "It works", "text/plain"),
    "empty": _always(200, b"", "text/plain"),
    "not_unicode": _always(200, b"\xff\xfe\x00\x01" * 50, "application/octet-stream"),
    "garbage": _garbage,
    "self_signed": _always(200, {"object": "list", "data": []}),
    "speaks_tls": _always(200, {"object": "list", "data": []}),
    "redirect": _redirect,
    "to_a_page": _to_a_page,
    "huge_body": _huge,
    "drip": _drip,
    "drip_head": _drip_head,
    "silent": _silent,
    "closes": _closes,
    "cut": _cut,
    "error_200": _always(200, {"error": "Something went wrong"}),
    "json_401": _always(401, {"error": {"message": "Token missing"}}),
    "json_403": _always(403, {"message": "Forbidden"}),
    "fastapi": _fastapi,
    "proxy_502": _always(502, "<html><head><title>502 Bad Gateway</title></head><center>nginx</center></html>"),
    "fails": _always(500, {"error": "boom"}),
    "airplay": _airplay,
    "ollama_alike": _ollama_alike,
}
NAMES = tuple(ANSWERS)
"""What there is: pages, other APIs, broken answers, slow ones, and imitations that are not complete enough."""

TLS = ("self_signed", "speaks_tls")


@contextmanager
def decoy(name: str, *, port: int = 0) -> Iterator[Decoy]:
    """Run one until the block ends; then its port and every connection is closed.

    `self_signed` and `speaks_tls` are the same server; the first one's address begins with https, the second one's with
    http. `redirect` sends its callers to a second decoy by another name of this machine, and has it as `target`.

    Args:
        name: One of `NAMES`.
        port: Where to listen; 0 for a free port.

    Raises:
        ValueError: If there is none of that name.
        OSError: If the port is taken.
    """
    if name not in ANSWERS:
        raise ValueError(f"There is no decoy {name!r}; there are {', '.join(NAMES)}.")
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(decoy("json_api")) if name == "redirect" else None
        running = _Running(name, port, _tls_context() if name in TLS else None)
        running.place.target = target
        stack.callback(running.stop)
        yield running.place


class _Running:
    """One listener and a thread a connection."""

    def __init__(self, name: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._answer = ANSWERS[name]
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.place = Decoy(name, self._listener.getsockname()[1], "https" if name == "self_signed" else "http")
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._stopping = False
        self._threads = [threading.Thread(target=self._accept, name=f"decoy-{name}", daemon=True)]
        self._threads[0].start()

    def stop(self) -> None:
        self._stopping = True
        with contextlib.suppress(OSError):  # wakes the accept; macOS says that it is not connected
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while not self._stopping:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.place.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)
        try:
            connection.settimeout(10)
            with contextlib.suppress(OSError, ValueError):  # ssl's errors are OSErrors; a caller that left
                if self._tls is not None:
                    with self._lock:
                        self._open.discard(connection)
                    connection = self._tls.wrap_socket(connection, server_side=True)
                    with self._lock:
                        self._open.add(connection)
                self._converse(connection)
        finally:
            with self._lock:
                self._open.discard(connection)
            with contextlib.suppress(OSError):
                connection.close()

    def _converse(self, connection: socket.socket) -> None:
        seen = _read_request(connection)
        if seen is None:
            return
        self.place.seen.append(seen)
        for piece in self._answer(self.place, seen):
            if self._stopping:
                return
            connection.sendall(piece)
            if not piece and _is_gone(connection):
                return
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)


def _is_gone(connection: socket.socket) -> bool:
    """Whether the caller hung up."""
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    finally:
        connection.settimeout(10)


def _read_request(connection: socket.socket) -> Seen | None:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65_536)
        if not piece or len(data) > MOST_HEAD:
            return None
        data += piece
    first, *rest = data.split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    method, path, *_ = [*first.split(" "), "", ""]
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    return Seen(method, path, headers)


def _tls_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate, key = self_signed()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "decoy.pem")
        path.write_text(certificate + key, "ascii")
        context.load_cert_chain(path)
    return context
