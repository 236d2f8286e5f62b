"""A picture to ask about, made with the standard library: one coloured shape on white, as a PNG data URI.

448 pixels a side: some hosts refuse pictures of a few pixels, and some models see nothing on small ones.
"""

from __future__ import annotations

import base64
import struct
import zlib
from functools import cache

__all__ = ["SIDE", "picture", "png"]

SIDE = 448
SHAPES = ("circle", "square")


@cache
def picture(colour: tuple[int, int, int], shape: str) -> str:
    """A data URI of a picture with one shape in the middle.

    Args:
        colour: Red, green and blue, from 0 to 255.
        shape: `circle` or `square`.
    """
    return "data:image/png;base64," + base64.b64encode(png(colour, shape)).decode()


def png(colour: tuple[int, int, int], shape: str) -> bytes:
    """The same as the bytes of a PNG file (PNG specification, 8 bits a channel, no interlace, filter 0)."""
    middle, reach = SIDE / 2, SIDE * 0.35
    ink, paper = bytes(colour), b"\xff\xff\xff"
    rows = []
    for y in range(SIDE):
        away = abs(y + 0.5 - middle)
        half = reach if shape == "square" else max(0.0, reach**2 - away**2) ** 0.5
        width = 2 * round(half) if away <= reach else 0
        left = (SIDE - width) // 2
        rows.append(b"\x00" + paper * left + ink * width + paper * (SIDE - left - width))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_part, parts))


def _part(part: tuple[bytes, bytes]) -> bytes:
    kind, data = part
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
