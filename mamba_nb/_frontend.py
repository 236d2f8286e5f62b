"""Where this code is being looked at: a notebook's cell, or not. Asked when something is shown, never at import."""

from __future__ import annotations

import sys

__all__ = ["in_notebook"]


def in_notebook() -> bool:
    """Whether a kernel runs this code: something that takes HTML and can update what it shows."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and type(shell).__name__ != "TerminalInteractiveShell"
