"""A model's Markdown as HTML that cannot do anything: no scripts, no images, no addresses that are fetched.

In: text that nobody can trust. Out: HTML for an output or a widget. Raw HTML in the text is shown as text, an image
becomes its description, and what is left is cleaned by nh3 with a short list of what may stay.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from mamba_nb.display.text import esc, storable, visible

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

__all__ = ["LONGEST", "html", "stable_end"]

LONGEST = 50_000  # characters; a longer text is shown as it stands, since rendering it would take seconds

TAGS = (
    *("a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre"),
    *("strong", "table", "tbody", "td", "th", "thead", "tr", "ul"),
)
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}}
FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
# What may belong to the block above it although a blank line stands between.
CONTINUES = re.compile(r"\s|[-*+>|]|\d{1,9}[.)]")


def html(text: str) -> str:
    """The text's Markdown as HTML.

    Examples:
        >>> html("**Bold** <script>x</script>").strip()
        '<p><strong>Bold</strong> &lt;script&gt;x&lt;/script&gt;</p>'
    """
    import nh3

    text = visible(storable(text))
    if len(text) > LONGEST:
        return f"<pre>{esc(text)}</pre>"
    return nh3.clean(
        _parser().render(text),
        tags=set(TAGS),
        attributes={tag: set(names) for tag, names in ATTRIBUTES.items()},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
        url_relative="deny",
    )


def stable_end(text: str, start: int = 0) -> int:
    r"""Where the blocks end that further text can no longer change; `start` where there is none.

    A text that grows is rendered block by block: up to here once, the rest again with every piece.

    Args:
        text: The text so far.
        start: Where to begin; a place that this function gave for a shorter text.

    Examples:
        >>> stable_end("One.\n\nTwo\n"), stable_end("- a\n\n- b"), stable_end("```\na\n\nb")
        (6, 0, 0)
    """
    end, fence, place = start, "", start
    before_is_blank = False
    while (newline := text.find("\n", place)) >= 0 or place < len(text):
        line = text[place : newline if newline >= 0 else len(text)]
        # A line that is not whole may yet become a list's or a quotation's.
        if not fence and before_is_blank and line and newline >= 0 and not CONTINUES.match(line):
            end = place
        if match := FENCE.match(line):
            if not fence:
                fence = match[1]
            elif match[1][0] == fence[0] and len(match[1]) >= len(fence) and not line.strip().strip(fence[0]):
                fence = ""
        before_is_blank = not line.strip()
        if newline < 0:
            break
        place = newline + 1
    return end


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])

    def image(self: Any, tokens: Any, place: int, options: Any, env: Any) -> str:
        """Its description: an image's address is fetched as soon as it is shown."""
        return f"[image: {esc(tokens[place].content or 'without a description')}]"

    parser.add_render_rule("image", image)
    return parser
