"""Widgets of a cell that is run again: their work is stopped, since nobody sees them any more.

Front ends name the cell in the message that runs it (JupyterLab, Notebook, VS Code); where they do not, nothing is
stopped.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

__all__ = ["stop_those_of_this_cell"]

# Cell -> the run of it that was last seen, and the widgets made in that run.
_made: dict[str, tuple[str, weakref.WeakSet[Any]]] = {}


def stop_those_of_this_cell(widget: Any) -> None:
    """Stop what widgets of an earlier run of this cell are doing, and remember this one as of this run.

    Args:
        widget: Something with a method `_stop_all()`.
    """
    cell, message = _here()
    if not cell:
        return
    before, widgets = _made.get(cell, ("", weakref.WeakSet()))
    if before != message:
        for earlier in list(widgets):
            earlier._stop_all()
        widgets = weakref.WeakSet()
    widgets.add(widget)
    _made[cell] = (message, widgets)


def _here() -> tuple[str, str]:
    """The cell's id and the id of the message that runs it; empty where they cannot be told."""
    ipython = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython is not None else None
    parent = shell.get_parent() if hasattr(shell, "get_parent") else None
    if not isinstance(parent, dict):
        return "", ""
    return str(parent.get("metadata", {}).get("cellId") or ""), str(parent.get("header", {}).get("msg_id") or "")
