"""The events of a stream as bytes, and the ways in which bytes are cut.

Pure: no clock, no socket.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["ASCII", "COMPACT", "Event", "comment", "fragments", "to_json"]

COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
ASCII = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))


def to_json(value: Any) -> bytes:
    """The value as compact JSON in UTF-8."""
    return COMPACT.encode(value).encode()


@dataclass(frozen=True, slots=True)
class Event:
    """Bytes of a stream and when they are due.

    Attributes:
        data: SSE text.
        at_s: Seconds after the answer's start.
        token: Whether it carries a token.
        final: Whether it is `[DONE]`, after which a client may leave.
        then: How the connection ends right after it, if it does.
    """

    data: bytes
    at_s: float
    token: bool = False
    final: bool = False
    then: Literal["cut", "reset"] | None = None


def fragments(data: bytes, fault: str | None) -> list[bytes]:
    r"""The pieces in which an event's bytes are written: one, unless the fault cuts them.

    Examples:
        >>> fragments("né".encode(), "split_utf8")
        [b'n\xc3', b'\xa9']
        >>> fragments(b"data: 1", None)
        [b'data: 1']
    """
    if fault == "drip":
        return [data[i : i + 7] for i in range(0, len(data), 7)]
    if fault == "split_utf8":
        cuts = [i for i in range(1, len(data)) if data[i] & 0xC0 == 0x80 and data[i - 1] & 0xC0 == 0xC0]
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return [data]


def comment(done: int, total: int) -> bytes:
    """mlx-lm's keep-alive comment: tokens of the prompt read so far, and all of them."""
    return f": keepalive {512 * done}/{512 * total}\n\n".encode()
