"""Nothing that a model, a server, a prompt or a tool says becomes more than text, on any surface of the package."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import pytest
from hostile import GROUPS, HARM, HOST, PAYLOADS
from hostile_surfaces import SURFACES, generation, grid, profiles, surfaces_of

from mamba_nb.backends.comparing_record import ProfileComparison
from mamba_nb.display import style
from mamba_nb.display.text import storable, visible
from mamba_nb.records import Comparison

TAGS = {
    *("div", "span", "b", "bdi", "pre", "details", "summary", "style", "table", "thead", "tbody", "tr", "th", "td"),
    *("br", "code", "i", "section", "dl", "dt", "dd"),
}
MARKDOWN_TAGS = {
    *("a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre"),
    *("strong", "table", "tbody", "td", "th", "thead", "tr", "ul"),
}
VOID = {"br", "hr"}
ATTRIBUTES = {
    *("class", "title", "role", "dir", "tabindex", "scope", "colspan", "rowspan", "style", "open"),
    *("aria-label", "aria-hidden", "aria-valuemax", "aria-valuenow", "aria-sort"),
}
MARKDOWN_ATTRIBUTES = {"href", "title", "rel", "target", "start"}
SCHEMES = {"http", "https", "mailto"}
# All that a terminal, or the reading order of a page, could be turned round with.
HOSTILE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


class Reader(HTMLParser):
    """Reads HTML with the standard library's parser, and keeps what is wrong with it."""

    def __init__(self, text: str, *, markdown: bool) -> None:
        super().__init__(convert_charrefs=True)
        self.wrong: list[str] = []
        self.open: list[str] = []
        self.style = ""
        self._markdown = 0 if markdown else None  # how deep the element stands whose content is cleaned Markdown
        self.feed(text)
        self.close()
        if self.open:
            self.wrong.append(f"never closed: {self.open}")
        if self.style and self.style != style.css():
            self.wrong.append("a style sheet that is not the package's own")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        inside = self._markdown is not None and len(self.open) >= self._markdown
        if tag not in (MARKDOWN_TAGS if inside else TAGS):
            self.wrong.append(f"<{tag}>")
        for name, value in attrs:
            if name not in (MARKDOWN_ATTRIBUTES if inside else ATTRIBUTES):
                self.wrong.append(f"<{tag} {name}>")
            if name == "style" and not re.fullmatch(r"width:[\d.]+%", value or ""):
                self.wrong.append(f"style {value}")
            if name == "href" and urlsplit(value or "").scheme not in SCHEMES:
                self.wrong.append(f"href {value}")
            if HOSTILE.search(value or ""):
                self.wrong.append(f"{name} with a character that no page should have")
        if tag not in VOID:
            self.open.append(tag)
            if self._markdown is None and "mn-md" in (dict(attrs).get("class") or "").split():
                self._markdown = len(self.open)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> closes something else")
        if self._markdown is not None and len(self.open) < self._markdown:
            self._markdown = None

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
        elif HOSTILE.search(data):
            self.wrong.append("text with a character that no page should have")

    def handle_comment(self, data: str) -> None:
        self.wrong.append(f"<!--{data}-->")

    def handle_decl(self, decl: str) -> None:
        self.wrong.append(f"<!{decl}>")

    def handle_pi(self, data: str) -> None:
        self.wrong.append(f"<?{data}>")

    def unknown_decl(self, data: str) -> None:
        self.wrong.append(f"<![{data}]>")


def of_file(text: str) -> list[str]:
    """What UTF-8, and so every file and every message, refuses."""
    return [f"half a character, {found[0]!r}"] if (found := re.search("[\ud800-\udfff]", text)) else []


def of_page(text: str, own: set[str]) -> list[str]:
    """What another library made of the texts: its own attributes are its own affair, and so are control characters."""
    wrong = Reader(text, markdown=False).wrong
    return [each for each in wrong if each not in own and "a character that no page should have" not in each]


def of_html(text: str, *, markdown: bool = False) -> list[str]:
    return [*of_file(text), *Reader(text, markdown=markdown).wrong]


def of_text(text: str, *, one_line: bool = False) -> list[str]:
    found = HOSTILE.search(text)
    wrong = [f"{found[0]!r}"] if found else []
    return [*wrong, *["a line feed"] * ("\n" in text)] if one_line else wrong


def of_state(value: Any, name: str = "") -> list[str]:
    """A widget's state: what stands under `html` is Markdown that the kernel cleaned, all else becomes text nodes."""
    if isinstance(value, Mapping):
        return [wrong for key, each in value.items() for wrong in [*of_text(str(key)), *of_state(each, str(key))]]
    if isinstance(value, str):
        if name in ("raw", "system"):  # what the reader typed, to be typed on; it has to be storable alone
            return [f"{name}: {wrong}" for wrong in of_file(value)]
        found = of_html(value, markdown=True) if name == "html" else of_text(value)
        return [f"{name}: {wrong}" for wrong in found]
    if isinstance(value, Sequence):
        return [wrong for each in value for wrong in of_state(each, name)]
    return []


def wrongs(kind: str, shown: Any) -> list[str]:
    if kind == "html":
        return of_html(shown)
    if kind == "markdown":
        return of_html(shown, markdown=True)
    if kind == "state":
        json.dumps(shown)
        return of_state(shown)
    if kind == "code":
        compile(shown, "copied", "exec")
        return of_text(shown)
    assert kind in ("text", "line"), f"a mime type that no test knows: {kind}"
    return of_text(shown, one_line=kind == "line")


# One answer a payload, which is its label too.
ALL = Comparison(
    cells=tuple(replace(grid(payload).cells[0], label=payload, prompt_id=0) for payload in PAYLOADS),
    labels=PAYLOADS,
    planned=len(PAYLOADS),
)


class TestCorpus:
    def test_it_has_at_least_150_payloads_each_once(self):
        assert len(PAYLOADS) >= 150
        assert len(set(PAYLOADS)) == len(PAYLOADS)

    def test_most_of_them_would_tell_if_they_ran_or_fetch_if_they_could(self):
        armed = [payload for payload in PAYLOADS if HARM in payload or HOST in payload]
        assert len(armed) >= 150

    @pytest.mark.parametrize("group", GROUPS)
    def test_no_group_is_empty(self, group):
        assert GROUPS[group]

    def test_the_reader_of_these_tests_sees_harm(self):
        seen = (
            "<script>x</script>",
            "<b onclick=x>x</b>",
            "<a href='javascript:x'>x</a>",
            "<img src=x>",
            "<b>x",
            "<!-- x -->",
            "<b style='background:url(x)'>x</b>",
            "<style>x{}</style>",
            "\x1b",
        )
        assert all(of_html(text) for text in seen)
        assert of_html("<b title='x'>fine &lt;script&gt;</b>") == []
        assert of_html("<a href='java\tscript:x'>x</a>", markdown=True)
        assert of_html("<a href='//evil.invalid'>x</a>", markdown=True)
        assert of_text("\x1b[31m") and of_text("\u202e") and of_text("a\nb", one_line=True)
        assert of_state({"panels": [{"html": "<script>x</script>"}]}) and of_state({"a": ["\x9b"]})


@pytest.mark.parametrize("surface", SURFACES)
def test_a_payload_stays_text(surface: str) -> None:
    """Every payload in every place of one surface."""
    found: list[str] = []
    for payload in PAYLOADS:
        for kind, shown in surfaces_of(payload, surface):
            found += [f"{payload[:60]!r} as {kind}: {wrong[:120]}" for wrong in wrongs(kind, shown)]
    assert found == []


def test_what_it_said_can_still_be_read() -> None:
    """Escaping is no excuse for leaving things out: each text stands in the HTML of its answer, made visible."""

    class Words(HTMLParser):
        def __init__(self, text: str) -> None:
            super().__init__(convert_charrefs=True)
            self.words: list[str] = []
            self.feed(text)
            self.close()

        def handle_data(self, data: str) -> None:
            self.words.append(data)

    for payload in PAYLOADS:
        page = generation(payload)._repr_mimebundle_()["text/html"]
        assert visible(payload) in "".join(Words(page).words), payload[:60]


def test_a_frame_as_a_page_has_the_texts_and_nothing_else(tmp_path) -> None:
    """All payloads as labels of one grid: what pandas makes of its tables, and what a file keeps of it."""
    pandas_own = {"<table border>", "<th valign>", "style text-align: right;"}
    with pd.option_context("display.max_colwidth", None):
        for table in (ALL.to_frame(), ALL.summary(), ALL.to_wide()):
            assert of_page(table.to_html(), pandas_own) == []
            table.to_csv().encode("utf-8")
    assert list(ALL.to_wide().columns) == [storable(payload) for payload in PAYLOADS]

    path = ALL.save(tmp_path / "all.jsonl")
    assert path.read_bytes().isascii() and len(path.read_text().split("\n")) == len(PAYLOADS) + 2
    assert Comparison.load(path) == ALL


def test_a_styler_has_the_texts_and_nothing_else() -> None:
    rows = tuple(profiles(payload).rows[0] for payload in PAYLOADS)
    sheet, _, table = ProfileComparison(rows=rows).style().to_html().partition("</style>")
    assert HARM not in sheet and HOST not in sheet and "<" not in sheet.removeprefix("<style")
    wrong = of_html(table)
    assert [each for each in wrong if not re.fullmatch("<(table|th|td) id>", each)] == []
    assert HARM in table


def test_a_saved_plot_runs_the_scripts_of_its_maker_alone() -> None:
    """Altair writes a chart into a script of its page, where a label must not end it."""

    class Scripts(HTMLParser):
        def __init__(self, text: str) -> None:
            super().__init__()
            self.seen: list[str] = []
            self.feed(text)
            self.close()

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.seen.append(tag)

    pytest.importorskip("altair")
    tame = replace(ALL, cells=tuple(replace(cell, label="a") for cell in ALL.cells[:1]), labels=("a",))
    assert Scripts(ALL.plot().to_html()).seen == Scripts(tame.plot().to_html()).seen


def test_a_plot_keeps_rows_of_one_short_name_apart() -> None:
    pytest.importorskip("altair")
    long = [f"{'m' * 60}{end}" for end in "abc"]
    cells = tuple(replace(ALL.cells[0], label=label) for label in long)
    spec = json.dumps(Comparison(cells=cells, labels=tuple(long), planned=3).plot().to_dict())
    assert all(f'{"m" * 47}\\u2026{end}"' in spec for end in ("", " (2)", " (3)"))


def test_a_plot_draws_labels_and_nothing_else() -> None:
    """The labels of all payloads in one picture: its SVG has shapes and text alone."""
    import xml.etree.ElementTree as Xml

    pytest.importorskip("altair")
    bundle = ALL.plot()._repr_mimebundle_()
    bundle = bundle[0] if isinstance(bundle, tuple) else bundle
    json.dumps(bundle, ensure_ascii=False).encode("utf-8")
    assert of_text(bundle["text/plain"]) == []
    if (picture := bundle.get("image/svg+xml")) is None:
        return
    for element in Xml.fromstring(picture).iter():
        assert element.tag.rpartition("}")[2] in {
            "svg",
            "g",
            "path",
            "text",
            "rect",
            "line",
            "defs",
            "clipPath",
            "title",
        }
        assert not [name for name in element.attrib if name.startswith("on") or name.rpartition("}")[2] == "href"]
