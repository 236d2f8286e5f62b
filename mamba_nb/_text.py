"""Text from elsewhere on one line of a repr: nothing in it moves a cursor, turns the direction or stops a front end."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    r"""The text with what cannot be printed written as Python would write it.

    Examples:
        >>> print(printable("a\x1b[31mb\u202ec"))
        a\x1b[31mb\u202ec
    """
    return text if text.isprintable() else "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
