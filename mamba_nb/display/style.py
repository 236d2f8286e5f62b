"""The style sheet as each output carries it, and the shapes and colours that code has to name.

Colours stand in `style.css` and nowhere else. Every HTML output takes the whole sheet with it, so that it
still looks right when the outputs around it are gone.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

__all__ = ["ROOT_CLASS", "css", "mark", "model_class", "model_colours", "token"]

# The last two keep MathJax away: an answer that says "$5 or $6" is not a formula.
ROOT_CLASS = "mamba-nb tex2jax_ignore mathjax_ignore"

# A state is a word with a shape before it: hollow, half and full circle; a square, a cross.
_MARKS = {
    "idle": ("○", "quiet"),
    "searching": ("○", "quiet"),
    "waiting": ("○", "quiet"),
    "loading model": ("◐", "info"),
    "reading prompt": ("◐", "info"),
    "streaming": ("◐", "info"),
    "done": ("●", "good"),
    "stopped": ("■", "quiet"),
    "failed": ("✕", "bad"),
    "warning": ("!", "warn"),
}


def mark(state: str) -> tuple[str, str]:
    """The shape that stands before a state's word, and the name of its colour."""
    return _MARKS.get(state, ("○", "quiet"))


def model_class(index: int) -> str:
    """The class that gives the model at this place its colour; beyond the last one they come again."""
    return f"mn-c{index % len(model_colours())}"


@cache
def model_colours() -> tuple[tuple[str, str], ...]:
    """The models' colours in their order, each on a light and on a dark surface."""
    return tuple(re.findall(r"--mn-model: light-dark\((#\w+), (#\w+)\)", _sheet()))


@cache
def token(name: str) -> tuple[str, str]:
    """The fallback of one of the style sheet's tokens, on light and on dark: for pictures, which have no theme."""
    found = re.search(rf"--mn-{name}:[^;]*light-dark\((#\w+), (#\w+)\)", _sheet())
    if found is None:
        raise KeyError(name)
    return found[1], found[2]


@cache
def css() -> str:
    """The style sheet without comments, and without the blanks that only people need."""
    text = re.sub(r"/\*.*?\*/", "", _sheet(), flags=re.DOTALL)
    text = re.sub(r"\s+", " ", text).strip()
    return re.sub(r" ?([{};,>]) ?", r"\1", text).replace(": ", ":").replace(";}", "}")


@cache
def _sheet() -> str:
    return files("mamba_nb.display").joinpath("style.css").read_text("utf-8")
