"""Profiles as a pandas Styler: each cell a value over its source, disagreements with an edge and both values.

In goes a `ProfileComparison`, out comes a Styler. Its data is plain text, lines under each other, so that `to_excel`
is as legible as the HTML; the look is the style sheet's own. For figures to compute with, take `to_wide()`.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from mamba_nb.backends.comparing_record import ProfileComparison
from mamba_nb.backends.profiles_record import ABOUT
from mamba_nb.display import style as sheet
from mamba_nb.display.pieces import LABEL_CHARS
from mamba_nb.display.profiles_columns import View, shown, view
from mamba_nb.display.text import esc, one_line, storable

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler
    from pandas.io.formats.style_render import CSSDict

__all__ = ["style"]


def style(comparison: ProfileComparison) -> Styler:
    """The table for people, styled."""
    import pandas as pd

    columns = shown(comparison.rows)
    views = [[view(row.profile, str(column.field)) for column in columns] for row in comparison.rows]
    labels = [
        "\n".join(one_line(part, LABEL_CHARS) for part in (row.label, row.server) if part) for row in comparison.rows
    ]
    titles = [f"{column.title}\n{column.unit}" if column.unit else column.title for column in columns]
    frame = pd.DataFrame(
        [[_text(cell) for cell in row] for row in views],
        index=pd.Index(labels, dtype="str"),
        columns=titles,
        dtype="str",
    )
    classes = pd.DataFrame([[_classes(cell) for cell in row] for row in views], columns=titles, dtype="str")
    # The data is text; the formatter makes the HTML of it, and escapes it.
    styler = frame.style.format(_html).format_index(_html, axis=0).format_index(_html, axis=1)
    styler = styler.set_table_attributes(f'class="{sheet.ROOT_CLASS} mn-table mn-facts"')
    left: list[CSSDict] = [
        {"selector": f"th.col{place}", "props": "text-align:left"}
        for place, column in enumerate(columns)
        if ABOUT[str(column.field)].kind in ("flag", "text")
    ]
    styler = styler.set_table_styles([*_rules(), *left], overwrite=False)
    return styler.set_td_classes(classes.set_index(frame.index))


def _text(cell: View) -> str:
    lines = [cell.value, cell.source, f"! {cell.but}" if cell.but else ""]
    return storable("\n".join(line for line in lines if line))


def _classes(cell: View) -> str:
    names = {"mn-fact": True, "mn-left": not cell.is_figure, "mn-differs": bool(cell.but), "mn-quiet": bool(cell.why)}
    return " ".join(name for name, holds in names.items() if holds)


def _html(text: object) -> str:
    first, *more = str(text).split("\n")
    rest = (f' <span class="{"mn-but" if line.startswith("! ") else "mn-source"}">{esc(line)}</span>' for line in more)
    return f"<bdi>{esc(first)}</bdi>{''.join(rest)}"


@cache
def _rules() -> tuple[CSSDict, ...]:
    """The style sheet's rules for this table as a Styler takes them: each selector below the table itself."""
    rules: list[CSSDict] = []
    for selectors, declarations in re.findall(r"([^{}]+)\{([^{}]*)\}", sheet.css()):
        for selector in selectors.split(","):
            if selector.strip() == ".mamba-nb":
                rules.append({"selector": "", "props": declarations})
            elif found := re.fullmatch(r"\.mamba-nb \.mn-(?:table|facts)(?: (.*))?", selector.strip()):
                rules.append({"selector": found[1] or "", "props": declarations})
            elif found := re.fullmatch(r"\.mamba-nb (\.mn-(?:quiet|good))", selector.strip()):
                rules.append({"selector": found[1], "props": declarations})
    return tuple(rules)
