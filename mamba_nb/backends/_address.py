"""A server's address and key as people give them, checked before anything is sent."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from mamba_nb.errors import BadInput

__all__ = ["checked_base_url", "revealed"]

ENDPOINTS = ("/chat/completions", "/completions", "/models", "/embeddings")


def checked_base_url(base_url: Any) -> str:
    """The address without a trailing slash.

    Raises:
        BadInput: If it has no http or https scheme, no host, or a path that is an endpoint's.
    """
    if not isinstance(base_url, str) or not base_url.strip():
        raise BadInput(f"base_url must be an address such as 'http://localhost:8000/v1'; this is {base_url!r}.")
    url = base_url.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise BadInput(f"base_url is no address: {base_url!r} ({error}).") from error
    if "@" in url:
        raise BadInput(
            "base_url holds a user name or a password, which would be shown wherever the address is.",
            hint='Pass it as headers={"Authorization": "Basic ..."}, or a key as api_key=...',
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput(
            f"base_url must begin with http:// or https://; this is {base_url!r}.",
            hint=f"Did you mean 'http://{url}'?" if "://" not in url else None,
        )
    if parts.query or parts.fragment:
        raise BadInput(
            f"base_url must end with its path; this one goes on with {'?' if parts.query else '#'}.",
            hint=f"Use base_url={parts._replace(query='', fragment='').geturl()!r}.",
        )
    for ending in ENDPOINTS:
        if parts.path.endswith(ending):
            raise BadInput(
                f"base_url ends in {ending}, which is one endpoint of the server.",
                hint=f"Use base_url={url.removesuffix(ending)!r}.",
                base_url=url,
            )
    return url


def revealed(key: Any) -> str | None:
    """The key as text, from text or a SecretStr; None where there is none or an empty one."""
    if key is None:
        return None
    value = key.get_secret_value() if hasattr(key, "get_secret_value") else key
    if not isinstance(value, str):
        raise BadInput(f"api_key must be text; this is {type(value).__name__}.")
    value = value.strip()  # the line end of the file it was read from
    if not value.isascii() or any(character.isspace() or not character.isprintable() for character in value):
        raise BadInput("api_key holds characters that no key has (spaces, line ends or quotation marks).")
    return value or None
