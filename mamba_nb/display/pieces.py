"""The small pieces that all outputs are made of: a name, a note, a text in a box, the mark of a state.

In go strings that nobody can trust, out comes HTML that keeps the layout: a name stays on one line and is cut, with the
whole of it as its title; a long text scrolls in its box, which the keyboard reaches.
"""

from __future__ import annotations

from mamba_nb.display import style
from mamba_nb.display.text import UNKNOWN, count, esc, one_line

__all__ = [
    "LABEL_CHARS",
    "NAME_CHARS",
    "SEPARATOR",
    "left_out",
    "named",
    "note",
    "scrolls",
    "state_mark",
    "table_box",
    "text_block",
]

NAME_CHARS = 200  # of a name, an address or a label where it is shown
LABEL_CHARS = 120  # of a name in the first column of a table
TITLE_CHARS = 2_000  # of the whole name that stands in the title
NOTE_CHARS = 20_000  # of an error or a warning
# More than this is taken for text that scrolls in its box; the boxes of the style sheet hold about so much.
LONG_CHARS = 600
LONG_LINES = 10
# Words that stand apart by the style sheet alone would run together where it is taken away.
SEPARATOR = '<span class="mn-sep"> · </span>'


def table_box(label: str) -> str:
    """The attributes of a box in which a wide table scrolls, with the keyboard too. `label` is ours, not a model's."""
    return f'class="mn-scroll" tabindex="0" role="group" aria-label="{esc(label)}"'


def named(text: str, most: int = NAME_CHARS) -> str:
    """A name as HTML: on one line, at most `most` characters long, in a reading direction of its own.

    Examples:
        >>> named("qwen3:8b"), named("abcdef", 4)
        ('<bdi>qwen3:8b</bdi>', '<bdi title="abcdef">abc…</bdi>')
    """
    whole = one_line(text, TITLE_CHARS)
    shown = one_line(whole, most)
    if not shown:
        return f'<bdi title="an empty name">{UNKNOWN}</bdi>'
    title = f' title="{esc(whole)}"' if shown != whole else ""
    return f"<bdi{title}>{esc(shown)}</bdi>"


def scrolls(text: str, label: str) -> str:
    """The attributes of an element that may be too small for its text: none where the text is short."""
    if len(text) <= LONG_CHARS and text.count("\n") < LONG_LINES:
        return ""
    return f' tabindex="0" role="region" aria-label="{esc(one_line(label, NAME_CHARS))}"'


def left_out(text: str, most: int) -> str:
    """How much of a text is not shown, as HTML; empty where all of it is."""
    more = len(text) - most
    return f'<div class="mn-quiet">… {count(more)} characters more</div>' if more > 0 else ""


def text_block(text: str, label: str, most: int | None = None, css: str = "") -> str:
    """Text with its line breaks in a box that scrolls.

    Args:
        text: The text.
        label: What it is, for those who come to the box with the keyboard.
        most: How many characters are shown; None for all.
        css: Further classes.
    """
    # A pre keeps the lines where the style sheet is taken away; its first line feed is not part of the text.
    shown = text if most is None else text[:most]
    return (
        f'<pre class="mn-text{f" {css}" if css else ""}" dir="auto"{scrolls(shown, label)}>\n{esc(shown)}</pre>'
        f"{left_out(text, most) if most is not None else ''}"
    )


def state_mark(state: str) -> str:
    """The state's shape as HTML, in its colour."""
    shape, colour = style.mark(state)
    return f'<span class="mn-mark mn-{colour}" aria-hidden="true">{shape}</span>'


def note(kind: str, text: str) -> str:
    """One warning or error as HTML: its mark, then its words."""
    shown = text[:NOTE_CHARS]
    label = kind if kind in ("warning", "failed", "stopped") else "note"
    return (
        f"<div>{state_mark(kind)} <span{scrolls(shown, label)}>{esc(shown)}</span></div>\n{left_out(text, NOTE_CHARS)}"
    )
