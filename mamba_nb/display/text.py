"""Text that is safe to show, and numbers as people read them.

What a model or a server wrote may hold HTML, terminal escapes, characters that turn the reading order
round, and halves of characters that no file can store. `visible` makes all of that harmless and keeps it
legible; `esc` makes it HTML. Every string of foreign origin goes through one of the two before it is shown.
"""

from __future__ import annotations

import html
import math
import re
import unicodedata

__all__ = ["UNKNOWN", "count", "duration", "esc", "figure", "one_line", "pad", "storable", "visible", "width"]

UNKNOWN = "\N{EN DASH}"

_SURROGATE = re.compile("[\ud800-\udfff]")
# Control characters but for tab and line feed; the marks that override or isolate the reading direction.
# Left-to-right and right-to-left marks stay: Arabic and Hebrew need them, and they move no neighbour.
_HOSTILE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def storable(text: str) -> str:
    """The text with lone surrogates replaced: the one thing that UTF-8, and so every file, refuses."""
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


def visible(text: str) -> str:
    r"""The text with its invisible and dangerous characters made visible, as Python would write them.

    Control characters and direction overrides become escapes, lone surrogates the replacement character. Line
    feeds and tabs stay; a carriage return before a line feed goes.

    Examples:
        >>> print(visible("a\x1b[31mb\u202ec"))
        a\x1b[31mb\u202ec
    """
    return _HOSTILE.sub(_shown, text.replace("\r\n", "\n"))


def _shown(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return "\N{REPLACEMENT CHARACTER}" if code > 0xD7FF else f"\\u{code:04x}"


def esc(text: object) -> str:
    """The text as HTML, for element content and quoted attributes alike."""
    return html.escape(visible(str(text)), quote=True)


def one_line(text: str, most: int | None = None) -> str:
    """The text on one line, made visible, cut to `most` characters with an ellipsis."""
    line = " ".join(visible(text).split())
    return line if most is None or len(line) <= most else line[: most - 1].rstrip() + "…"


def figure(value: float) -> str:
    """A measured figure with three significant digits.

    Examples:
        >>> figure(213.4), figure(41.23), figure(38.0), figure(12345.0), figure(0.00045)
        ('213', '41.2', '38.0', '12,300', '0.00045')
    """
    if not math.isfinite(value):
        return UNKNOWN
    if value == 0:
        return "0"
    rounded = float(f"{value:.3g}")
    decimals = max(0, 2 - math.floor(math.log10(abs(rounded))))
    shown = f"{rounded:,.{decimals}f}"
    return shown.rstrip("0") if decimals > 2 else shown


def count(value: int) -> str:
    """An exact count: `4,096`."""
    return f"{value:,}"


def duration(ms: float) -> str:
    """Milliseconds in the unit that reads best: `213 ms`, `12.3 s`."""
    return f"{figure(ms)} ms" if ms < 9995 else f"{figure(ms / 1000)} s"


def width(text: str) -> int:
    """Columns that the text takes in a terminal: two for wide characters, none for combining ones."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def pad(text: str, columns: int, *, right: bool = False) -> str:
    """The text filled up with blanks to so many terminal columns, on its left where `right` is set."""
    blanks = " " * max(0, columns - width(text))
    return blanks + text if right else text + blanks
