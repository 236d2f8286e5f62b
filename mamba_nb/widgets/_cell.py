"""Widgets of a cell that is run again: their work is stopped, since nobody sees them any more.

Front ends name the cell in the message that runs it (JupyterLab, Notebook, VS Code); where they do not, nothing is
stopped.
"""

from __future__ import annotations

import logging
import sys
import weakref
from typing import Any

__all__ = ["running_cell", "stop_those_of_this_cell"]

_log = logging.getLogger("mamba_nb")

# Cell -> the run of it that was last seen, and the widgets made in that run.
_made: dict[str, tuple[str, weakref.WeakSet[Any]]] = {}


def stop_those_of_this_cell(widget: Any) -> None:
    """Stop what widgets of an earlier run of this cell are doing, and remember this one as of this run.

    Args:
        widget: Something with a method `_stop_all()`.
    """
    cell, message = running_cell()
    if not cell:
        return
    before, widgets = _made.get(cell, ("", weakref.WeakSet()))
    if before != message:
        for earlier in list(widgets):
            try:
                earlier._stop_all()
            except Exception:  # a widget that cannot be stopped must not keep a new one from being made
                _log.warning("%r could not be stopped.", earlier, exc_info=True)
        widgets = weakref.WeakSet()
    widgets.add(widget)
    _made[cell] = (message, widgets)


def running_cell() -> tuple[str, str]:
    """The id of the cell that runs and of the message that runs it; empty where they cannot be told."""
    ipython = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython is not None else None
    parent = shell.get_parent() if hasattr(shell, "get_parent") else None
    if not isinstance(parent, dict):
        return "", ""
    cell, message = parent.get("metadata", {}).get("cellId"), parent.get("header", {}).get("msg_id")
    return str(cell or ""), str(message or "")
