"""A server's address as people give it: one rule for settings and backends.

checked("http://localhost:8000/v1/")      'http://localhost:8000/v1'
checked("localhost:8000/v1")              raises Refused: the rule that it broke, and what to use instead
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

__all__ = ["Refused", "checked", "shown"]

# Paths of endpoints that people paste with the address; the client adds them itself.
ENDPOINTS = ("/chat/completions", "/completions", "/embeddings", "/responses", "/models")


class Refused(ValueError):
    """A value broke a rule; the field and the value are added by whoever knows them.

    Attributes:
        rule: What must be, as the rest of a sentence that begins with the field.
        hint: What to use instead, or None.
    """

    def __init__(self, rule: str, hint: str | None = None) -> None:
        super().__init__(rule)
        self.rule = rule
        self.hint = hint


def checked(value: object) -> str:
    """The address without slashes at its end.

    Raises:
        Refused: If it is not text, has no http or https scheme, no host, a user name, a query or a fragment, or an
            endpoint such as `/chat/completions` pasted on.
    """
    if not isinstance(value, str):
        raise Refused("must be text such as http://localhost:11434/v1")
    value = value.strip().rstrip("/")
    scheme, colon, _ = value.partition("://")
    if not colon or scheme.lower() not in ("http", "https"):
        bare = re.sub(f"({'|'.join(ENDPOINTS)})$", "", value.lstrip("/:"))
        guess = bare and not colon and "@" not in bare and not re.match(r"https?\b|[a-z]+:(?!\d)", bare)
        raise Refused("must start with http:// or https://", f"Did you mean http://{bare}?" if guess else None)
    if "@" in value:  # anywhere: a password may hold /, ? and #
        raise Refused("must not contain @: no user name, no password", "Give the server's key as api_key=.")
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:  # a bracket that is not closed, a port that is no number
        raise Refused("must have a host, and a port from 1 to 65535 where it has one") from None
    if not host or port == 0 or re.search(r"[\s\\<>\"'{}|^`]", value):
        raise Refused("must have a host, and a port from 1 to 65535 where it has one")
    if parts.query or parts.fragment or value[-1] in "?#":
        raise Refused("must end with its path: no ? and no #", f"Use {re.split('[?#]', value)[0].rstrip('/')}")
    for endpoint in ENDPOINTS:
        if value.lower().endswith(endpoint):
            kept = value[: -len(endpoint)].rstrip("/")
            raise Refused(f"must stop before {endpoint}, which the client adds itself", f"Use {kept}")
    return value


def shown(value: object) -> str:
    """What came, fit for a message: without a user name, a password or a query."""
    if isinstance(value, str):
        value = re.sub(r"[?#].*", "?***", re.sub(r"^([a-zA-Z]+://)?.*@", r"\1***@", value))
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:99]}…"
