"""A server's address and key as people give them, checked before anything is sent."""

from __future__ import annotations

from typing import Any

from mamba_nb import _address
from mamba_nb.errors import BadInput

__all__ = ["checked_base_url", "revealed"]


def checked_base_url(base_url: Any) -> str:
    """The address without a trailing slash.

    Raises:
        BadInput: If it has no http or https scheme, no host, a password, or a path that is an endpoint's.
    """
    try:
        return _address.checked(base_url)
    except _address.Refused as refused:
        raise BadInput(f"base_url {refused.rule}; this is {_address.shown(base_url)}.", hint=refused.hint) from None


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
