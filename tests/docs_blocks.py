"""The code blocks of public docstrings: found by their indentation, whatever they are written for.

A block is a paragraph that stands four spaces deeper than the text around it, outside the sections (`Args:`, ...).
Code and what is said of it stand on one line, two blanks or more apart; a block is code where every line's left part
together is Python that calls, imports or loops.

    for block in blocks(): print(block.where, block.code)
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

import mamba_nb

SECTION = re.compile(r"^(Args|Attributes|Examples|Raises|Returns|Yields):$")
VERBS = (FunctionType, property, classmethod, staticmethod)
PROGRAMS = {"cli", "quickstart"}  # rooms that are run, not imported


@dataclass(frozen=True, slots=True)
class Block:
    """The code of one block, and the name of what it documents."""

    where: str
    code: str


def rooms() -> list[ModuleType]:
    """The package and those of its modules that users import from."""
    names = [found.name for found in pkgutil.iter_modules(mamba_nb.__path__) if not found.name.startswith("_")]
    return [mamba_nb, *(importlib.import_module(f"mamba_nb.{name}") for name in names if name not in PROGRAMS)]


def public_objects() -> dict[str, Any]:
    """What can be imported from a room, by the shortest name that leads to it; a room itself stands for its text."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    for room in rooms():
        found.setdefault(room.__name__, room)
        for name in getattr(room, "__all__", ()):
            thing = own_verb(getattr(room, name), name)
            if id(thing) not in seen and str(getattr(thing, "__module__", "")).startswith("mamba_nb"):
                seen.add(id(thing))
                found[f"{room.__name__}.{name}"] = thing
    return found


def own_verb(thing: Any, name: str) -> Any:
    """The verb of a room that can be called; anything else as it is."""
    if isinstance(thing, ModuleType):
        home = {"compare": "mamba_nb.compare.verbs", "doctor": "mamba_nb.doctor.examine"}[name]
        return getattr(importlib.import_module(home), name)
    return thing


def docstrings() -> Iterator[tuple[str, str]]:
    """Name and docstring of every public object, of its public methods, and of the rooms."""
    for name, thing in public_objects().items():
        if isinstance(thing, ModuleType) or inspect.isclass(thing) or inspect.isroutine(thing):
            yield name, inspect.cleandoc(thing.__doc__ or "")
        if inspect.isclass(thing):
            for own, member in vars(thing).items():
                if not own.startswith("_") and isinstance(member, VERBS) and member.__doc__:
                    yield f"{name}.{own}", inspect.cleandoc(member.__doc__)


def blocks() -> list[Block]:
    """All blocks of code, in the order of the names."""
    return [Block(name, code) for name, text in docstrings() for code in code_in(text)]


def code_in(docstring: str) -> Iterator[str]:
    """The code blocks of one docstring, without what is said beside the code."""
    in_section, indented = False, False
    paragraph: list[str] = []
    for line in [*docstring.splitlines(), "the end"]:
        if line.startswith("    ") or (not line and indented):
            indented = True
            if not in_section:
                paragraph.append(line)
            continue
        if indented and (code := left_parts(paragraph)):
            yield code
        paragraph, indented = [], False
        if line:
            in_section = bool(SECTION.match(line))


def left_parts(paragraph: list[str]) -> str | None:
    """The code of a paragraph; None where it is none."""
    lines = textwrap.dedent("\n".join(paragraph)).strip("\n").splitlines()
    code = "\n".join(re.split(r"(?<=\S) {2,}", line, maxsplit=1)[0] for line in lines)
    try:
        tree = compile(code, "docstring", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError:
        return None
    is_code = any(isinstance(node, ast.Call | ast.Import | ast.ImportFrom | ast.For) for node in ast.walk(tree))
    return code + "\n" if is_code else None
