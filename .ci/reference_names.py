"""The parts of the reference that read objects: public names with their signatures, and what docstrings say of them."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from pydantic import BaseModel

import mamba_nb
from mamba_nb.widgets._base import MambaWidget

ROOMS_THAT_ARE_VERBS = {"compare": "mamba_nb.compare.verbs", "doctor": "mamba_nb.doctor.examine"}
HOOKS = {"model_post_init", "settings_customise_sources"}  # for pydantic, not for users
METHODS = (FunctionType, classmethod, staticmethod)
SECTION = re.compile(r"^(?:Args|Attributes|Examples|Raises|Returns):$", re.MULTILINE)


def names(room: ModuleType) -> str:
    """The public names of a room: functions, then classes, each with its signature and first line."""
    shared = set(mamba_nb.__all__) if room is not mamba_nb else set()
    found = {name: verb(room, name) for name in room.__all__ if name != "__version__" and name not in shared}
    functions = {name: thing for name, thing in found.items() if not inspect.isclass(thing)}
    classes = {name: thing for name, thing in found.items() if inspect.isclass(thing)}
    title = "Names" if room is mamba_nb else "Backends"
    intro = f"`from {room.__name__} import ...`"
    if shared:
        also = ", ".join(f"`{name}`" for name in sorted(shared & set(room.__all__), key=str.lower))
        intro += f" has these besides {also}, which are the same as in [Names](#Names)."
    parts = [f"## {title}", intro]
    parts += ["### Functions" if not shared else "**Functions**", bullets(functions, function_line)]
    parts += ["### Classes" if not shared else "**Classes**", bullets(classes, class_line)]
    return "\n\n".join(part for part in parts if part)


def verb(room: ModuleType, name: str) -> Any:
    """What a name stands for; where a room can be called, the function behind it."""
    home = ROOMS_THAT_ARE_VERBS.get(name) if room is mamba_nb else None
    return getattr(importlib.import_module(home) if home else room, name)


def bullets(things: dict[str, Any], line: Callable[[str, Any], str]) -> str:
    """One bullet a name, in the order of the alphabet."""
    return "\n".join(f"- {line(name, things[name])}" for name in sorted(things, key=str.lower))


def function_line(name: str, function: Any) -> str:
    """`name(arguments)`: what it does."""
    return f"`{name}{signature(function)}`: {first_line(function)}"


def class_line(name: str, kind: type) -> str:
    """A class with its arguments, or for a record with its attributes; and its methods."""
    record = dataclasses.is_dataclass(kind)
    line = f"`{name}{'' if record else signature(kind)}`: {first_line(kind)}"
    members = {each: member for part in reversed(parts_of(kind)) for each, member in vars(part).items()}
    own = {each: member for each, member in members.items() if not each.startswith("_") and not is_hook(kind, each)}
    fields = {field.name for field in dataclasses.fields(kind)} if record else set()
    said = set(entries(kind.__doc__ or "", "Attributes")) if not issubclass(kind, BaseModel) else set()
    properties = {each for each, member in own.items() if isinstance(member, property | cached_property)}
    methods = {each for each, member in own.items() if isinstance(member, METHODS) and getattr(kind, each).__doc__}
    for title, listed in (("has", fields | properties | said), ("can", methods)):
        if listed:
            line += f"\n  - {title} {', '.join(f'`{each}`' for each in sorted(listed))}"
    return line


def parts_of(kind: type) -> list[type]:
    """The class, and what it inherits from classes of this package that have no name of their own outside it."""
    return [
        kind,
        *(base for base in kind.__mro__[1:] if base.__module__.startswith("mamba_nb.") and "._" in base.__module__),
    ]


def is_hook(kind: type, name: str) -> bool:
    """Whether a member is there for a library, or for the widgets' own work, and not for users."""
    return name in HOOKS or (issubclass(kind, MambaWidget) and name in vars(MambaWidget))


def signature(function: Any) -> str:
    """The arguments with their defaults, without types, which `help()` shows."""
    shown: list[str] = []
    keyword_only = False
    for name, argument in inspect.signature(function).parameters.items():
        if argument.kind is argument.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            shown.append("*")
        if argument.kind is argument.VAR_POSITIONAL:
            keyword_only = True
        mark = {argument.VAR_KEYWORD: "**", argument.VAR_POSITIONAL: "*"}.get(argument.kind, "")
        shown.append(f"{mark}{name}{default(argument)}")
        if argument.kind is argument.POSITIONAL_ONLY:
            shown.append("/")
    return f"({', '.join(shown)})"


def default(argument: inspect.Parameter) -> str:
    """`=value`, where that says something; a path is shown as text, since its repr depends on the system."""
    value = argument.default
    if value is inspect.Parameter.empty:
        return ""
    if isinstance(value, Path):
        value = str(value)
    return f"={value!r}" if isinstance(value, str | int | float | tuple | None) else "=..."


def first_line(thing: Any) -> str:
    """The first sentence of its docstring, on one line."""
    return " ".join(inspect.cleandoc(thing.__doc__ or "").split("\n\n", 1)[0].split())


def entries(docstring: str, title: str) -> dict[str, str]:
    """What a section of a docstring says of each name."""
    text = inspect.cleandoc(docstring).partition(f"{title}:\n")[2]
    text = SECTION.split(text)[0]
    found = re.split(r"^    (\w+): ", text, flags=re.MULTILINE)
    return {name: " ".join(said.split()) for name, said in zip(found[1::2], found[2::2], strict=True)}
