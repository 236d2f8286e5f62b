"""Which cell showed a widget: so that running the cell again can end what its last run left behind."""

from __future__ import annotations

import sys
import weakref
from typing import Any, Protocol

__all__ = ["take_place"]


class Leaving(Protocol):
    """Something that can give up what it is doing."""

    def leave(self) -> None:
        """End what is under way."""


_shown: dict[str, tuple[str, list[weakref.ref[Any]]]] = {}  # cell -> its last run, and what that showed


def take_place(widget: Leaving) -> None:
    """Note that the running cell shows a widget; what an earlier run of it showed, and no other cell shows, ends.

    A front end that does not name its cells is left alone: what it leaves behind stays in `mamba_nb.runs()`.
    """
    cell, message = _running_cell()
    if not cell:
        return
    before, widgets = _shown.get(cell, ("", []))
    if before != message:
        elsewhere = [ref() for name, (_, refs) in _shown.items() if name != cell for ref in refs]
        for earlier in [ref() for ref in widgets]:
            if earlier is not None and earlier is not widget and not any(earlier is other for other in elsewhere):
                earlier.leave()
        widgets = []
    _shown[cell] = (message, [*widgets, weakref.ref(widget)])


def _running_cell() -> tuple[str, str]:
    """The id of the cell that runs, and of the message that runs it; empty where the front end gives none."""
    ipython = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython is not None else None
    parent = shell.get_parent() if hasattr(shell, "get_parent") else None
    if not isinstance(parent, dict):
        return "", ""
    return str(parent.get("metadata", {}).get("cellId", "")), str(parent.get("header", {}).get("msg_id", ""))
