"""A choice as lines that make it again without the widget: Python, and settings for `.env`.

In goes what was chosen, out come texts. The key is never in them: the Python lines read it from the environment, and
the `.env` lines have a placeholder in its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from mamba_nb.display.text import visible
from mamba_nb.widgets.picker_fields import Options, written

__all__ = ["KEY_VARIABLE", "Chosen", "env_lines", "python_lines"]

KEY_VARIABLE = "MAMBA_MODEL_BACKEND__API_KEY"
NO_TEMPERATURE = "# No temperature: settings then send 0.7;\n# the picker's backend sends none."
PLAIN = re.compile(r"[\w./:@+\-]+", re.ASCII)  # needs no quotes in .env


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What a choice is made of, its key left out.

    Attributes:
        model: The model's name on the wire.
        base_url: The server's OpenAI address.
        kind: The kind of server, or None where it is not known.
        has_key: Whether a key goes with it.
        options: What was typed beside it.
        weights: For the embedded engine, which has no address of its own: the path of its weights, or "" for its
            default model. None for any other server.
    """

    model: str
    base_url: str
    kind: str | None = None
    has_key: bool = False
    options: Options = field(default_factory=Options)
    weights: str | None = None


def python_lines(chosen: Chosen) -> str:
    """Lines that make the same backend."""
    if chosen.weights is not None:
        given = [_text(chosen.weights)] if chosen.weights else []
        given += [f"{name}={value!r}" for name, value in chosen.options.given().items()]
        return f"from mamba_nb import create_embedded_backend\n\nbackend = create_embedded_backend({', '.join(given)})"
    lines = ["import os", ""] if chosen.has_key else []
    lines += ["from mamba_nb import OpenAICompatibleBackend", "", "backend = OpenAICompatibleBackend("]
    lines += [f"    {argument}," for argument in _arguments(chosen)]
    return "\n".join([*lines, ")"])


def env_lines(chosen: Chosen) -> str:
    """Settings that name the same model: `OpenAICompatibleBackend.from_settings()` and `Agent()` read them.

    The embedded engine's settings hold its weights alone; it is asked for by its name, `Agent("embedded")`.
    """
    if chosen.weights is not None:
        if not chosen.weights:
            return '# The embedded model needs no settings: Agent("embedded"), compare(["embedded"], ...)'
        return f"MAMBA_EMBEDDED__MODEL_PATH={_quoted(chosen.weights)}"
    values = {"MODEL": chosen.model, "BASE_URL": chosen.base_url}
    if chosen.has_key:
        values["API_KEY"] = "..."
    values |= {name.upper(): written(value) for name, value in chosen.options.given().items()}
    lines = [f"MAMBA_MODEL_BACKEND__{name}={_quoted(value)}" for name, value in values.items()]
    return "\n".join([*lines, *([NO_TEMPERATURE] if chosen.options.temperature is None else [])])


def _arguments(chosen: Chosen) -> Iterator[str]:
    yield f"model={_text(chosen.model)}"
    yield f"base_url={_text(chosen.base_url)}"
    if chosen.has_key:
        yield f"api_key=os.environ[{_text(KEY_VARIABLE)}]"
    if chosen.kind is not None:
        yield f"server={_text(chosen.kind)}"
    for name, value in chosen.options.given().items():
        yield f"{name}={value!r}"


def _text(value: str) -> str:
    """A string as Python writes it, in double quotes where that takes no escapes."""
    written_out = repr(value)
    return f'"{written_out[1:-1]}"' if written_out[0] == "'" and '"' not in written_out else written_out


def _quoted(value: str) -> str:
    if PLAIN.fullmatch(value):
        return value
    escaped = visible(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
