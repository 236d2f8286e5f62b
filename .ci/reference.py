"""Write `notebooks/reference.ipynb` from the code: what can be looked up there is what the code says, word for word.

    python .ci/reference.py           writes it
    python .ci/reference.py --check   ends with 1 where the file is not what the code says

One Markdown cell a section, so that it reads well on a code host too. What the code does not say of itself (remedies of
errors, variables that other programs set) stands in two tables of `reference_words.py`, which must name all there are.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from reference_names import entries, first_line, names
from reference_words import REMEDIES, SOURCES, TITLE, VARIABLES

import mamba_nb
import mamba_nb.backends
from mamba_nb import errors

PATH = Path(__file__).resolve().parents[1] / "notebooks" / "reference.ipynb"


def main() -> int:
    """Write the file, or check it; gives the exit code."""
    text = notebook()
    if "--check" not in sys.argv[1:]:
        PATH.write_text(text, "utf-8")
        return 0
    if PATH.read_text("utf-8") == text:
        return 0
    print(f"{PATH.name} is not what the code says. Write it anew: python .ci/reference.py")
    return 1


def notebook() -> str:
    """The whole file."""
    sections = {
        "Settings": settings(),
        "Environment": environment(),
        "Names": names(mamba_nb),
        "Backends": names(mamba_nb.backends),
        "Columns": columns(),
        "Errors": error_tree(),
        "Magics": magics(),
        "Commands": commands(),
    }
    contents = " · ".join(f"[{name}](#{name})" for name in sections)
    cells = {"title": f"{TITLE}\n\n{contents}", **{name.lower(): body for name, body in sections.items()}}
    data = {
        "cells": [
            {"cell_type": "markdown", "id": name, "metadata": {}, "source": body.splitlines(keepends=True)}
            for name, body in cells.items()
        ],
        "metadata": {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


# settings


def settings() -> str:
    """Both sections' options, from pydantic's fields and from what their docstrings say of them."""
    parts = ["## Settings", SOURCES]
    for section in ("model_backend", "embedded"):
        kind = mamba_nb.AgentSettings.model_fields[section].annotation
        assert kind is not None
        said = entries(kind.__doc__ or "", "Attributes")
        rows = [
            [
                f"`{name}`<br>`{f'MAMBA_{section}__{name}'.upper()}`",
                type_name(field.annotation),
                "none" if field.default is None else f"`{json.dumps(field.default)}`",
                re.sub(r"https?://\S+", r"`\g<0>`", f"{said[name]}<br>Takes {field.description}"),
            ]
            for name, field in kind.model_fields.items()
        ]
        parts += [f"### {section}", first_line(kind), table("option type default meaning and rule", rows)]
    return "\n\n".join(parts)


def type_name(annotation: Any) -> str:
    """`str`, or `Path or None`."""
    kinds = getattr(annotation, "__args__", None) or (annotation,)
    return " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)


def environment() -> str:
    """Variables besides the settings' own."""
    from mamba_nb.servers.candidates import KEY_VARIABLES
    from mamba_nb.servers.kinds import kinds

    asked = "{}'s key, for one that asks, on this machine or at an address that you named."
    keys = {variable: asked.format(kinds()[kind].title) for kind, variable in KEY_VARIABLES.items()}
    rows = [[f"`{name}`", text] for name, text in sorted({**VARIABLES, **keys}.items())]
    intro = "Besides the settings, these are read where they are set:"
    return "\n\n".join(["## Environment", intro, table("variable what it does", rows)])


# columns


def columns() -> str:
    """The columns of the frames of a comparison."""
    from mamba_nb.display import agents_frames, frames
    from mamba_nb.display.columns import Column

    def rows(of: Iterable[Column[Any]]) -> list[list[str]]:
        return [[f"`{c.name}`", c.unit or "", "yours" if c.dtype == "label" else c.dtype, c.doc] for c in of]

    agents = [[f"`{name}`", "", dtype, doc] for name, (dtype, _, doc) in agents_frames.COLUMNS.items()]
    head = "column unit dtype meaning"
    return "\n\n".join(
        [
            "## Columns",
            "What is not known is missing (`pd.NA` or `NaN`), never a zero. How each figure is defined, with its "
            "source and worked out by hand, is in [metrics.ipynb](metrics.ipynb).",
            "### Comparison.to_frame",
            "One row an answer.",
            table(head, rows(frames.COLUMNS)),
            "With `compare(..., agent=...)` these follow:",
            table(head, agents),
            "### Comparison.summary",
            "One row a model or variant, with its label as the index. Figures are over the answers that were done.",
            table(head, rows(frames.SUMMARY)),
        ]
    )


# errors


def error_tree() -> str:
    """All errors below their parents, with the builtin that each is too, and what to do."""

    def lines(kind: type, depth: int) -> Iterator[str]:
        others = [base.__name__ for base in kind.__bases__ if not issubclass(base, errors.MambaError)]
        is_also = "" if others in ([], ["Exception"]) else f" (also `{others[0]}`)"
        said = f"{first_line(kind)} {REMEDIES[kind.__name__]}".strip()
        yield f"{'  ' * depth}- `{kind.__name__}`{is_also}: {said}"
        for below in sorted(kind.__subclasses__(), key=lambda each: each.__name__):
            if below.__name__ in errors.__all__:
                yield from lines(below, depth + 1)

    return "\n\n".join(
        [
            "## Errors",
            "All are in `mamba_nb.errors`. Each is also the builtin beside it, so `except ConnectionError` works. "
            "`str(error)` says what happened and what to do; `.hint` is the second part alone, `.server_says` the "
            "server's own words.",
            "\n".join(lines(errors.MambaError, 0)),
        ]
    )


# magics and commands


def magics() -> str:
    """The options of each magic, from the parsers that read them."""
    from mamba_nb.magics import ASK, COMPARE, MAMBA

    parts = ["## Magics", "`%load_ext mamba_nb` first. `%%ask?` shows the same in a cell."]
    for parser in (ASK, COMPARE, MAMBA):
        about, _, more = str(parser.description).partition("\n")
        rows = [
            [", ".join(f"`{word}`" for word in action.option_strings) or f"`{action.dest}`", action.help or ""]
            for action in parser._actions
        ]
        parts += [f"### {parser.prog}", f"{about} {' '.join(more.split())}".strip() if parser is not MAMBA else about]
        if parser is MAMBA:
            used = re.findall(r"^ *(%mamba \w+(?: \[[^\]]+\])?) +(.+)$", more, re.MULTILINE)
            parts.append(table("line what it does", [[f"`{line}`", text] for line, text in used]))
        else:
            parts.append(table("argument meaning", rows))
    return "\n\n".join(parts)


def commands() -> str:
    """The commands with their options, as typer has them."""
    from typer.main import get_command

    from mamba_nb.cli import app

    group: Any = get_command(app)
    parts = [
        "## Commands",
        "`python -m mamba_nb COMMAND`, or `mamba-nb COMMAND`. They end with 1 where something fails.",
    ]
    for name, command in sorted(group.commands.items()):
        rows = [
            [f"`{' '.join((*argument.opts[:1], argument.metavar or '')).strip()}`", argument.help or ""]
            if argument.param_type_name == "option"
            else [f"`{argument.metavar or argument.name}`", argument.help or ""]
            for argument in command.params
        ]
        text = " ".join(str(command.help).split())
        parts += [f"### {name}", text, table("argument meaning", rows)]
    return "\n\n".join([*parts, *scripted_server()])


def scripted_server() -> list[str]:
    """The command of the scripted server, which is a module of its own."""
    import argparse

    from mamba_nb.testing.__main__ import _parser

    parser = _parser()
    rows = [
        [f"`{action.option_strings[0]} {action.metavar or ''}".strip() + "`", str(action.help)]
        for action in parser._actions
        if action.option_strings and action.help != argparse.SUPPRESS and action.dest != "help"
    ]
    return ["### testing", f"`{parser.prog}`: {parser.description}", table("argument meaning", rows)]


# words


def table(head: str, rows: Iterable[list[str]]) -> str:
    """A Markdown table; the words of the head are the columns, the last of them as many words as are left."""
    rows = list(rows)
    width = len(rows[0])
    titles = head.split(maxsplit=width - 1)
    lines = [titles, ["---"] * width, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
