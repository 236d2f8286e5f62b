"""What all widgets share: one state that is shown, messages from the front end, and a plain copy for later readers.

The kernel holds the truth. `state` is all that is shown, as JSON; it stands in a saved notebook where the front end
saves widgets, so nothing secret is ever in it. What the user does comes as messages `{"do": name, ...}`, answered by a
method `_do_name`. Long texts grow by messages instead of by the state, which would send the whole of them each time.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Self

from mamba_nb._frontend import in_notebook
from mamba_nb.display import style
from mamba_nb.errors import MambaError, MissingExtra
from mamba_nb.widgets._cell import running_cell, stop_those_of_this_cell

try:
    import anywidget
    import traitlets
except ImportError as error:
    missing = MissingExtra("A widget", package="anywidget", extra="")
    missing.hint = "Install it with: pip install anywidget. Everything but the widgets works without it."
    raise missing from error

__all__ = ["MambaWidget", "script", "sheet", "told"]

MOST_FOLDS = 20  # places at which the plain copy is kept up to date

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

    A subclass sets what its `_stop_all` and its `_do_...` need before it calls `super().__init__`: both can be called
    as soon as that has returned.

    Attributes:
        state: What is shown, as JSON.
    """

    _css = style.css()
    state = traitlets.Dict().tag(sync=True)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make what `close` needs, also of an object whose constructor refuses its arguments."""
        widget = super().__new__(cls, *args, **kwargs)
        widget._lock = threading.RLock()  # messages may be handled beside a running cell, on another thread
        widget._folds = []
        widget._folded = ""
        return widget  # type: ignore[no-any-return]

    def __init__(self, **state: Any) -> None:
        self._lock: threading.RLock
        self._folds: list[tuple[str, str, Any]]  # cell, message and display handle of each place it is shown at
        self._folded: str
        super().__init__(state={"n": 0, **state})
        self.on_msg(self._take)
        stop_those_of_this_cell(self)

    def open(self) -> None:
        """Meet the front end; called once, by the constructor."""
        super().open()
        # ipykernel 7.4 hands a message to the subshell that this comm last published for, which a page that was loaded
        # again has deleted: the message would be lost. It goes where the front end sent it.
        if hasattr(self.comm, "_reply_subshell_for"):
            self.comm._reply_subshell_for = _as_sent

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """What a front end is told that asks: as it is at one moment, although it grows in place."""
        with self._lock:
            told: dict[str, Any] = super().get_state(key, drop_defaults)
            return {name: dict(value) if name == "state" else value for name, value in told.items()}

    def send_state(self, key: Any = None) -> None:
        """Send what is shown; no delta overtakes it."""
        with self._lock:
            super().send_state(key)

    def show(self, **changes: Any) -> None:
        """Change what is shown; a state that stays as it is sends nothing."""
        with self._lock:
            if any(self.state.get(name, _NOTHING) != value for name, value in changes.items()):
                self.state = {**self.state, **changes}

    def __del__(self) -> None:
        try:
            self.close()
        except Exception:  # a subclass's `close` may miss what its constructor has not come to
            MambaWidget.close(self)

    def _stop_all(self) -> None:
        """Stop what is under way: the cell that made this widget was run again. A subclass that works overrides it."""

    def _take(self, _widget: Any, content: Any, _buffers: Any) -> None:
        """A message from the front end: whoever sent it, nothing but the known verbs is done."""
        if not isinstance(content, Mapping):
            return
        handler = getattr(self, f"_do_{content.get('do')}", None)
        if handler is None:
            return
        try:
            arguments = _known(handler, content)
        except TypeError:
            _log.debug("%s was asked for %r with a part missing.", type(self).__name__, content.get("do"))
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
        display({**data, "text/plain": f"<{type(self).__name__}>"}, metadata=metadata, raw=True)
        if in_notebook():
            cell, message = running_cell()
            with self._lock:
                handle = display({"text/html": self._folded, "text/plain": ""}, raw=True, display_id=True)
                # A cell that is run again has lost what its last run showed.
                here = [fold for fold in self._folds if not cell or fold[0] != cell or fold[1] == message]
                self._folds = [*here, (cell, message, handle)][-MOST_FOLDS:]

    def fold(self, html: str, title: str) -> None:
        """Leave a plain copy under the widget, folded: a notebook that is opened without a kernel still has it.

        A widget that is shown at several places has it at each of them.

        Args:
            html: A page of `display.html`, complete in itself.
            title: What is in it, for the line that is seen.
        """
        from mamba_nb.display.text import esc, one_line

        with self._lock:
            self._folded = (
                f'<details class="{style.ROOT_CLASS} mn-fold"><summary>{esc(one_line(title, 200))}</summary>'
                f"{html}</details>"
                if html
                else ""
            )
            for _cell, _message, handle in self._folds:
                handle.update({"text/html": self._folded, "text/plain": ""}, raw=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


_NOTHING = object()


def _as_sent(_data: object, asked: str | None) -> str | None:
    """The subshell that the front end has asked for."""
    return asked


def _known(handler: Callable[..., object], content: Mapping[Any, Any]) -> dict[str, Any]:
    """What of a message the handler takes; the rest is left out.

    Raises:
        TypeError: If it lacks what the handler cannot do without.
    """
    signature = inspect.signature(handler)
    takes_all = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
    given = {str(name): value for name, value in content.items() if name != "do"}
    known = {name: value for name, value in given.items() if takes_all or name in signature.parameters}
    signature.bind(**known)
    return known


def told(error: MambaError) -> dict[str, str | None]:
    """An error as a widget shows it, without characters that turn the text around it."""
    from mamba_nb.display.text import visible

    texts = {"message": error.message, "hint": error.hint, "says": error.server_says}
    return {name: None if text is None else visible(text) for name, text in texts.items()}
