"""What a reader types beside a model: temperature, max tokens and timeout, checked as the settings check them.

In go texts, out come numbers, or None for an empty field: then nothing is sent, and the server's own default holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from mamba_nb.errors import BadInput, SettingsError
from mamba_nb.settings import ModelBackendSettings

__all__ = ["TIMEOUT_S", "Options", "accepted", "given_in", "shown", "written"]

TIMEOUT_S = 30.0  # a backend's own patience where the field is empty
LABELS = {"temperature": "Temperature", "max_tokens": "Max tokens", "timeout": "Timeout"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What goes with every request; None is "not given".

    Attributes:
        temperature: From 0.0 to 2.0.
        max_tokens: The longest answer in tokens.
        timeout: The longest silence allowed, in seconds.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    timeout: float | None = None

    def given(self) -> dict[str, Any]:
        """Those that were given, by name."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}


def accepted(name: str, text: object) -> float | int | None:
    """The value of a field's text; None for an empty one.

    Args:
        name: `temperature`, `max_tokens` or `timeout`.
        text: What was typed.

    Raises:
        BadInput: If the field does not exist, or the settings refuse the value; the message says the rule.
    """
    if name not in LABELS:
        raise BadInput(f"There is no field {name!r}; there are {', '.join(LABELS)}.")
    if not isinstance(text, str) or not text.strip():
        return None
    settings = ModelBackendSettings()
    try:
        setattr(settings, name, text.strip())
    except SettingsError as error:
        message = error.message.replace(f"model_backend.{name}", LABELS[name], 1).replace(", or None", ", or empty")
        raise BadInput(message, hint=error.hint) from None
    value: float | int = getattr(settings, name)
    return value


def given_in(settings: ModelBackendSettings) -> Options:
    """What somebody has set there; defaults do not count."""
    return Options(**{name: getattr(settings, name) for name in LABELS if name in settings.model_fields_set})


def shown(options: Options) -> Mapping[str, str]:
    """The fields' texts for these options: `0.2`, `256`, `60`, or nothing."""
    return {name: written(getattr(options, name)) for name in LABELS}


def written(value: float | int | None) -> str:
    """A number as it is typed; nothing for None.

    Examples:
        >>> written(60.0), written(0.25), written(None)
        ('60', '0.25', '')
    """
    if value is None:
        return ""
    return str(int(value)) if value == int(value) else repr(value)
