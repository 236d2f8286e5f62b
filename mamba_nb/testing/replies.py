"""Bodies and headers of whole answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mamba_nb.testing.events import to_json

__all__ = ["WORDS", "encoded", "merged"]

WORDS = {
    400: "Scripted error: the request is not valid.",
    401: "Scripted error: the key is not valid.",
    403: "Scripted error: not allowed.",
    404: "Scripted error: not found.",
    429: "Scripted error: too many requests.",
    500: "Scripted error: the server failed.",
    502: "Scripted error: bad gateway.",
    503: "Scripted error: the server is busy.",
    504: "Scripted error: the server took too long.",
}


def encoded(body: Any, json_type: str) -> tuple[bytes, str | None]:
    """The body's bytes and its Content-Type, which is guessed for text and unknown for bytes."""
    if isinstance(body, bytes):
        return body, None
    if not isinstance(body, str):
        return to_json(body), json_type
    kinds = {"<": "text/html; charset=utf-8", "{": json_type, "[": json_type}
    return body.encode(), kinds.get(body.lstrip()[:1], "text/plain; charset=utf-8")


def merged(*layers: Mapping[str, str]) -> dict[str, str]:
    """The headers of all layers; a later one wins, whatever the case of its name."""
    found: dict[str, tuple[str, str]] = {}
    for layer in layers:
        for name, value in layer.items():
            found[name.lower()] = (name, value)
    return dict(found.values())
