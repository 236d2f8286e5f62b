"""Records as JSON: one file of JSON lines a comparison, the first line about the grid, then one a cell.

Raw timings are stored, not figures computed from them, so a file can be measured again by a later version.
Only the standard library is used, and nothing but records goes in or comes out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from mamba_nb.records import Cell, Comparison, Generation, Request, ToolCall, Usage

__all__ = ["generation_from", "plain", "read", "write"]

FORMAT = "mamba_nb.comparison"
VERSION = 1
TUPLES = ("text_at_s", "reasoning_at_s", "tool_at_s", "warnings")


def write(comparison: Comparison, path: str | os.PathLike[str]) -> Path:
    """Write a comparison beside its place and move it there, so that a reader never sees half of it."""
    path = Path(path)
    head = {
        "format": FORMAT,
        "version": VERSION,
        "labels": list(comparison.labels),
        "planned": comparison.planned,
        "wall_s": comparison.wall_s,
        "notes": list(comparison.notes),
        "started_at": comparison.started_at,
    }
    lines = [head, *(plain(cell) for cell in comparison.cells)]
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def read(path: str | os.PathLike[str]) -> Comparison:
    """Read what `write` wrote.

    Raises:
        ValueError: If the file is not a saved comparison, or is of a newer format.
    """
    with Path(path).open(encoding="utf-8") as file:
        try:
            head = json.loads(file.readline())
            if head["format"] != FORMAT:
                raise ValueError(head["format"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a saved comparison: its first line does not say so.") from error
        if head["version"] > VERSION:
            raise ValueError(
                f"{path} has format {head['version']}; this version of mamba_nb reads up to {VERSION}. Update mamba_nb."
            )
        lines = [json.loads(line) for line in file]
    return Comparison(
        cells=tuple(_cell(line) for line in lines),
        labels=tuple(head["labels"]),
        planned=head["planned"],
        wall_s=head["wall_s"],
        notes=tuple(head["notes"]),
        started_at=head["started_at"],
    )


def _cell(line: Mapping[str, Any]) -> Cell:
    prompt_id = line["prompt_id"]
    return Cell(
        **{
            **line,
            "prompt_id": tuple(prompt_id) if isinstance(prompt_id, list) else prompt_id,  # from a MultiIndex
            "generation": generation_from(line["generation"]),
        }
    )


def generation_from(data: Mapping[str, Any]) -> Generation:
    """The record that `plain` wrote; fields this version does not know are left out."""
    known = {f.name for f in fields(Generation)}
    values = {name: value for name, value in data.items() if name in known}
    request = values["request"]
    values["request"] = Request(model=request["model"], messages=tuple(request["messages"]), params=request["params"])
    if values.get("usage") is not None:
        values["usage"] = Usage(**values["usage"])
    values["tool_calls"] = tuple(ToolCall(**call) for call in values.get("tool_calls", ()))
    for name in TUPLES:
        values[name] = tuple(values.get(name, ()))
    return Generation(**values)


def plain(value: Any) -> Any:
    """The value as JSON types: records become dicts, tuples lists, numpy's numbers Python's, other things text."""
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, Request | Usage | ToolCall):
        return plain(asdict(value))
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "item"):  # a numpy scalar, as the index of a Series gives
        return value.item()
    return str(value)
