"""HTTP/1.1 as bytes: a request's head and body read from a buffer, a response's head written.

Pure functions over bytes. Bodies by Content-Length or in chunks. No TLS, no compression, no upgrade.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

__all__ = ["BadRequest", "HttpRequest", "head_bytes", "parse_head", "take_chunked", "take_counted"]

MOST_HEAD = 64 * 1024
MOST_BODY = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A complete request; header names are in lower case, `at` is a reading of `time.monotonic()`."""

    method: str
    path: str
    version: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def keep_alive(self) -> bool:
        """Whether the client wants the connection to stay open."""
        wish = self.headers.get("connection", "").lower()
        return "close" not in wish and (self.version != "HTTP/1.0" or "keep-alive" in wish)


class BadRequest(Exception):
    """What came is not HTTP as this layer reads it; `status` is what to answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def parse_head(head: bytes) -> tuple[str, str, str, dict[str, str]]:
    """Method, path, version and headers of a request.

    Raises:
        BadRequest: If it is no HTTP/1 request.
    """
    first, *rest = head.decode("latin-1").lstrip("\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest(400, "Invalid HTTP request received.")
    headers: dict[str, str] = {}
    for line in rest:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest(400, "Invalid HTTP request received.")
        headers[name.strip().lower()] = value.strip()
    return words[0], words[1], words[2], headers


def take_counted(buffer: bytearray, length: str) -> bytes | None:
    """Take a body of known length from the buffer; None while it is not all there.

    Raises:
        BadRequest: If the length is no number or too big.
    """
    if not length.isdecimal():
        raise BadRequest(400, "Content-Length is not a number.")
    need = int(length)
    if need > MOST_BODY:
        raise BadRequest(413, "The request's body is too long.")
    if len(buffer) < need:
        return None
    body = bytes(buffer[:need])
    del buffer[:need]
    return body


def take_chunked(buffer: bytearray) -> bytes | None:
    """Take a chunked body from the buffer; None while it is not all there.

    Raises:
        BadRequest: If a size is no number or the body too big.
    """
    body, at = bytearray(), 0
    while True:
        end = buffer.find(b"\r\n", at)
        if end < 0:
            return None
        try:
            size = int(bytes(buffer[at:end]).split(b";")[0], 16)
        except ValueError:
            raise BadRequest(400, "A chunk's size is not a number.") from None
        at = end + 2
        if size == 0:
            end = buffer.find(b"\r\n", at)  # trailers are not read: the first empty line ends the body
            if end < 0:
                return None
            del buffer[: end + 2]
            return bytes(body)
        if len(body) + size > MOST_BODY:
            raise BadRequest(413, "The request's body is too long.")
        if len(buffer) < at + size + 2:
            return None
        body += buffer[at : at + size]
        at += size + 2


def head_bytes(status: int, headers: Mapping[str, str], length: int | None, chunked: bool, stays: bool) -> bytes:
    """A response's head: Date, length or chunking, and `Connection: close` where it does not stay."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Status"
    named = {"Date": formatdate(usegmt=True), **headers}
    if length is not None:
        named.setdefault("Content-Length", str(length))
    if chunked:
        named["Transfer-Encoding"] = "chunked"
    if not stays:
        named = {name: value for name, value in named.items() if name.lower() != "connection"}
        named["Connection"] = "close"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in named.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
