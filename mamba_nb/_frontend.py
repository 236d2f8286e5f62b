"""Where this code is being looked at: a notebook's cell, or not. Asked when something is shown, never at import."""

from __future__ import annotations

import sys
import warnings
from typing import Any

__all__ = ["bar_class", "in_notebook"]


def in_notebook() -> bool:
    """Whether a kernel runs this code: something that takes HTML and can update what it shows."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and type(shell).__name__ != "TerminalInteractiveShell"


def bar_class() -> Any:
    """The class of a progress bar for here: a widget in a notebook; where there are no widgets, a line of text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm
    return tqdm
