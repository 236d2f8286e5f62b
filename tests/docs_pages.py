"""The pages that people read, as text: README, CHANGELOG and the notebooks' Markdown, with their links and headings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

REPO = Path(__file__).parents[1]
FENCE = re.compile(r"^(```+|~~~+).*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
LINK = re.compile(
    r"!?\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(\s*<?([^()\s<>]+(?:\([^()\s]*\)[^()\s]*)?)>?(?:\s+\"[^\"]*\")?\s*\)"
)
HTML_LINK = re.compile(r"<(?:a|img)\b[^>]*?\b(?:href|src)=[\"']([^\"']+)[\"']", re.IGNORECASE)
BARE = re.compile(r"(?<![\w(\"'=])<?(https?://[^\s<>)\]\"'`]+)")


@dataclass(frozen=True)
class Page:
    """One page: where it stands, and its Markdown."""

    path: Path
    text: str

    @property
    def name(self) -> str:
        return self.path.relative_to(REPO).as_posix()

    @cached_property
    def prose(self) -> str:
        """The text without its code blocks."""
        return FENCE.sub("", self.text)

    @cached_property
    def links(self) -> list[str]:
        """Everything that can be followed or is shown: Markdown's, HTML's and bare addresses, each as it stands."""
        words = SPAN.sub("", self.prose)
        marked = [*LINK.findall(words), *HTML_LINK.findall(words)]
        return [*marked, *(url.rstrip(".,;:") for url in BARE.findall(HTML_LINK.sub("", LINK.sub("", words))))]

    @cached_property
    def spans(self) -> list[str]:
        """What stands in backticks."""
        return [" ".join(span.split()) for span in SPAN.findall(self.prose)]

    @cached_property
    def anchors(self) -> set[str]:
        """Where a link can lead to on this page."""
        titles = re.findall(r"^#{1,6} +(.+?) *#*$", self.prose, re.MULTILINE)
        plain = [re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in titles]
        if self.path.suffix == ".ipynb":  # as JupyterLab and nbconvert name them
            return {title.replace(" ", "-") for title in plain}
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in plain}  # as code hosts do


def pages() -> Iterator[Page]:
    """README, CHANGELOG and all notebooks."""
    for name in ("README.md", "CHANGELOG.md"):
        yield Page(REPO / name, (REPO / name).read_text("utf-8"))
    for path in sorted((REPO / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        yield Page(path, "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"))
