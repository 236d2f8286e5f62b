"""What all widgets share: one state that is shown, messages from the front end, and a plain copy for later readers.

The kernel holds the truth. `state` is all that is shown, as JSON; it stands in a saved notebook where the front end
saves widgets, so nothing secret is ever in it. What the user does comes as messages `{"do": name, ...}`, answered by a
method `_do_name`. Long texts grow by messages instead of by the state, which would send the whole of them each time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import anywidget
import traitlets

from mamba_nb._frontend import in_notebook
from mamba_nb.display import style
from mamba_nb.errors import MambaError

__all__ = ["MambaWidget", "script", "sheet", "told"]

_log = logging.getLogger("mamba_nb")


@cache
def script(name: str) -> str:
    """A widget's whole script: what all share, then its own. It comes with the package, never from elsewhere."""
    folder = files("mamba_nb.widgets").joinpath("static")
    return "\n".join(folder.joinpath(part).read_text("utf-8") for part in ("shared.js", f"{name}.js"))


@cache
def sheet(name: str) -> str:
    """The shared style sheet, then the widget's own rules, which name no colour but the sheet's tokens."""
    own = files("mamba_nb.widgets").joinpath("static", f"{name}.css").read_text("utf-8")
    return f"{style.css()}\n{own}"


class MambaWidget(anywidget.AnyWidget):
    """The base of every widget here.

    Attributes:
        state: What is shown, as JSON.
    """

    _css = style.css()
    state = traitlets.Dict().tag(sync=True)

    def __init__(self, **state: Any) -> None:
        self._lock = threading.RLock()  # messages may be handled beside a running cell, on another thread
        self._fold_handle: Any = None
        self._folded = ""
        super().__init__(state={"n": 0, **state})
        self.on_msg(self._take)

    def show(self, **changes: Any) -> None:
        """Change what is shown; a state that stays as it is sends nothing."""
        with self._lock:
            if any(self.state.get(name, _NOTHING) != value for name, value in changes.items()):
                self.state = {**self.state, **changes}

    def _take(self, _widget: Any, content: Any, _buffers: Any) -> None:
        """A message from the front end: whoever sent it, nothing but the known verbs is done."""
        if not isinstance(content, Mapping):
            return
        arguments = {str(name): value for name, value in content.items() if name != "do"}
        handler = getattr(self, f"_do_{content.get('do')}", None)
        if handler is None:
            return
        try:
            handler(**arguments)
        except MambaError as error:
            self.show(error=told(error))
        except Exception as error:  # a handler that raises is seen nowhere else
            _log.warning("%s could not do %r.", type(self).__name__, content.get("do"), exc_info=True)
            self.show(error={"message": f"{type(error).__name__}: {error}", "hint": None, "says": None})

    def _ipython_display_(self) -> None:
        """Show the widget, and under it the place of the plain copy."""
        import IPython.display

        display: Any = IPython.display.display
        data, metadata = anywidget.AnyWidget._repr_mimebundle_(self) or ({}, {})
        display({**data, "text/plain": repr(self)}, metadata=metadata, raw=True)
        if in_notebook():
            self._fold_handle = display({"text/html": self._folded, "text/plain": ""}, raw=True, display_id=True)

    def fold(self, html: str, title: str) -> None:
        """Leave a plain copy under the widget, folded: a notebook that is opened without a kernel still has it.

        Args:
            html: A page of `display.html`, complete in itself.
            title: What is in it, for the line that is seen.
        """
        from mamba_nb.display.text import esc

        self._folded = (
            f'<details class="{style.ROOT_CLASS} mn-fold"><summary>{esc(title)}</summary>{html}</details>'
            if html
            else ""
        )
        if self._fold_handle is not None:
            self._fold_handle.update({"text/html": self._folded, "text/plain": ""}, raw=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


_NOTHING = object()


def told(error: MambaError) -> dict[str, str | None]:
    """An error as a widget shows it."""
    return {"message": error.message, "hint": error.hint, "says": error.server_says}
