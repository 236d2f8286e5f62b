"""The HTML and the text: nothing foreign gets through unescaped, figures read as people write them."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hostile_surfaces import SURFACES, surfaces_of

import mamba_nb.display
from mamba_nb.compare.progress import PanelState
from mamba_nb.display import html, style
from mamba_nb.display.panels import TAIL_CHARS, panels, panels_text
from mamba_nb.display.text import duration, figure, one_line, visible, width
from mamba_nb.records import (
    Cell,
    Comparison,
    Generation,
    ReasoningDelta,
    Request,
    StateChange,
    TextDelta,
    ToolCall,
    Usage,
)

DASH = "\N{EN DASH}"
REQUEST = Request(model="qwen3:8b", messages=({"role": "user", "content": "Why is the sky blue?"},))
DONE = Generation(
    request=REQUEST,
    base_url="http://127.0.0.1:11434/v1",
    server="ollama",
    model="qwen3:8b",
    text="Scattering.",
    text_at_s=(0.213, 0.5, 1.0),
    finish_at_s=1.0,
    latency_s=1.0,
    usage=Usage(prompt_tokens=7, completion_tokens=41),
    finish_reason="stop",
    load_s=1.25,
)
FAILED = replace(
    DONE,
    text="",
    text_at_s=(),
    finish_at_s=None,
    latency_s=None,
    usage=None,
    finish_reason=None,
    status="failed",
    error="Nothing is listening on 127.0.0.1:11434.\nStart Ollama with `ollama serve`.",
    error_type="ServerUnreachable",
)

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "</div></div></pre></details>",
    "</style><style>*{display:none}</style>",
    "<style>@import 'http://127.0.0.1:1/x.css'</style>",
    "<!-- <b>",
    "<![CDATA[<b>]]>",
    "<iframe src='javascript:alert(1)'></iframe>",
    "<a href='javascript:alert(1)'>click</a>",
    "&lt;b&gt; &amp;lt; &#60;b&#62;",
    "<base href='http://127.0.0.1:1/'>",
    "<meta http-equiv=refresh content=0>",
    "<form action=http://127.0.0.1:1><button>go",
    "<math><mtext></p><img src=x onerror=alert(1)>",
    "{{7*7}} ${7*7} %(x)s {0}",
    "\x1b[2J\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "a\x00b\x08c\x7fd\x9be",
    "\u202eevil\u2066deep\u2069",
    "half \ud83d and \udc00",
    "\ufeff\uffff<\u200bscript>alert(1)</script>",
    "line\r\nnext\rlast",
]
TAGS = {
    "div", "span", "b", "bdi", "pre", "details", "summary", "style", "table", "thead", "tbody", "tr", "th", "td", "br",
}  # fmt: skip
ATTRIBUTES = {
    "class", "title", "role", "aria-label", "aria-hidden", "aria-valuemax", "aria-valuenow", "style", "dir", "tabindex",
    "scope",
}  # fmt: skip


class Reader(HTMLParser):
    """Reads HTML as strictly as a test can: every tag known, closed in order, no attribute that could act."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.words: list[str] = []
        self.named: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        for name, value in attrs:
            assert name in ATTRIBUTES
            self.named.append(value or "")
            if name == "style":
                assert re.fullmatch(r"width:[\d.]+%", value or "")
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"a declaration: {decl}")

    unknown_decl = handle_pi = handle_decl

    @property
    def text(self) -> str:
        return "".join(self.words)


def cell(label: str, generation: Generation, prompt_id: int = 0) -> Cell:
    return Cell(label=label, variant=None, prompt_id=prompt_id, prompt="p", repeat=0, generation=generation)


def grid(*cells: Cell, **kwargs: object) -> Comparison:
    labels = tuple(dict.fromkeys(c.label for c in cells))
    return Comparison(**{"cells": cells, "labels": labels, "planned": len(cells), **kwargs})


def everywhere(words: str) -> Generation:
    return replace(
        DONE,
        model=words,
        server=words,
        base_url=words,
        text=words,
        reasoning=words,
        tool_calls=(ToolCall(id=words, name=words, arguments=words),),
        error=words,
        error_type=words,
        warnings=(words,),
        finish_reason=words,
    )


@pytest.mark.parametrize("words", HOSTILE)
def test_nothing_hostile_gets_through(words: str):
    generation = everywhere(words)
    state = PanelState(words, model=words, server=words, n_total=3)
    state.begin(words).end(replace(generation, status="failed"))
    growing = state.begin(words)
    growing.feed(ReasoningDelta(0.1, words))
    growing.feed(TextDelta(0.2, words))
    growing.feed(StateChange(0.2, words))
    comparison = grid(cell(words, replace(generation, status="failed")), cell("b", generation), notes=(words,))

    for page in (
        html.generation(generation),
        html.comparison(comparison),
        html.page(panels([state], live=True)),
        html.page(panels([state])),
    ):
        read = Reader(page)
        assert visible(words) in read.text
        page.encode()  # half a character would not
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)
    for text in (html.comparison_text(comparison), panels_text([state])):
        text.encode()
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


def test_what_is_made_visible_reads_as_python_writes_it():
    assert visible("a\x1b[31mb\u202ec\r\nd\te") == "a\\x1b[31mb\\u202ec\nd\te"
    assert visible("half \ud83d") == "half \ufffd"
    assert visible("שלום \u200f مرحبا 👩‍🔬") == "שלום \u200f مرحبا 👩‍🔬"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (213.4, "213"),
        (41.23, "41.2"),
        (38.0, "38.0"),
        (1.0, "1.00"),
        (0.909, "0.909"),
        (0.00045, "0.00045"),
        (999.6, "1,000"),
        (9.999, "10.0"),
        (12345.0, "12,300"),
        (0.0, "0"),
        (float("nan"), DASH),
        (float("inf"), DASH),
    ],
)
def test_a_figure_has_three_significant_digits(value: float, expected: str):
    assert figure(value) == expected


def test_a_long_wait_is_told_in_seconds():
    assert duration(213.4) == "213 ms"
    assert duration(9990.0) == "9,990 ms"
    assert duration(12345.0) == "12.3 s"


def test_a_line_is_cut_with_an_ellipsis():
    assert one_line("a\n  b\tc") == "a b c"
    assert one_line("abcdef", 4) == "abc…"


def test_wide_characters_take_two_columns():
    assert width("日本") == 4
    assert width("e\u0301") == 1


def test_a_generation_shows_where_it_came_from_its_figures_and_its_text():
    read = Reader(html.generation(replace(DONE, reasoning="Hm.", warnings=("a cold start",))))
    for words in ("qwen3:8b", "ollama", "done", "TTFT 213 ms", "41.0 tok/s", "41 tokens", "1.00 s", "Scattering."):
        assert words in read.text
    assert "thinking (3 characters)" in read.text
    assert "a cold start" in read.text
    assert "41 tokens in 1.00 s" in read.named


def test_a_failed_generation_says_what_to_do_and_why_its_figures_are_unknown():
    read = Reader(html.generation(FAILED))
    assert "Nothing is listening on 127.0.0.1:11434.\nStart Ollama with `ollama serve`." in read.text
    assert "✕ failed" in read.text
    assert f"TTFT {DASH}" in read.text
    assert "no token came, or nothing was streamed" in read.named


def test_an_answer_without_text_says_so():
    assert "No visible text came." in html.generation(replace(DONE, text=""))
    calls = (ToolCall(id="1", name="get_weather", arguments='{"city": "Oslo"}'),)
    read = Reader(html.generation(replace(DONE, text="", tool_calls=calls)))
    assert 'get_weather({"city": "Oslo"})' in read.text
    assert "No visible text" not in read.text


def test_the_summary_by_hand():
    warned = replace(DONE, warnings=("the answer was cut at max_tokens",))
    comparison = grid(
        cell("qwen", DONE, 0),
        cell("llama", FAILED, 0),
        cell("qwen", warned, 1),
        planned=4,
        notes=("different quantisation",),
    )
    read = Reader(html.comparison(comparison))
    table = [line.split("\n") for line in re.findall(r"<tr>.*?</tr>", html.comparison(comparison), re.S)]
    assert len(table) == 3
    for words in ("● 2 done", "✕ 1 failed", "213", "41.0", "1.25"):
        assert words in read.text
    for note in (
        "! different quantisation",
        "! qwen: the answer was cut at max_tokens (1 of 2)",
        "✕ llama: Nothing is listening on 127.0.0.1:11434.",
        "■ 1 of 4 were not run",
    ):
        assert note in read.text
    assert "the server did not count tokens, or no answer was done" in read.named


def test_the_summary_as_text_is_aligned():
    comparison = grid(cell("qwen", DONE), cell("日本", FAILED))
    # TTFT 213 ms; 41 tokens in 1 s; TPOT (1000 - 213) / 40 = 19.675 ms, so 50.8 tokens/s.
    unknown = "日本 · ollama  ✕ 1 failed        -        -           -           -        -            -  1.25"
    assert html.comparison_text(comparison) == "\n".join(
        [
            "model          answers        TTFT     TTFT      output      decode  latency       length  load",
            "                           ms, p50  ms, p95  tok/s, p50  tok/s, p50   s, p50  tokens, p50     s",
            "qwen · ollama  ● 1 done        213      213        41.0        50.8     1.00           41  1.25",
            unknown.replace("-", DASH),
            "✕ 日本: Nothing is listening on 127.0.0.1:11434.",
        ]
    )


def test_a_length_is_a_count_and_so_exact():
    counted = replace(DONE, usage=Usage(prompt_tokens=1, completion_tokens=4096))
    assert "<td>4,096</td>" in html.comparison(grid(cell("qwen", counted)))
    assert "<td>2,068.5</td>" in html.comparison(grid(cell("qwen", counted), cell("qwen", DONE, 1)))


def test_the_cost_is_shown_where_there_is_one():
    hosted = replace(DONE, base_url="https://api.openai.com/v1", server="openai", model="gpt-4o-mini")
    local_only = html.comparison(grid(cell("qwen", DONE)))
    both = html.comparison(grid(cell("qwen", DONE), cell("gpt", hosted)))
    assert "USD" not in local_only
    assert "USD" in both
    assert "<td>0</td>" in both


def test_an_empty_comparison_tells_the_next_step():
    for comparison in (grid(), grid(labels=("qwen",), planned=3)):
        assert "No answers. Run compare(models, prompts) to get some." in Reader(html.comparison(comparison)).text
        assert "No answers." in html.comparison_text(comparison)
    assert "<table" not in html.comparison(grid())


def test_records_show_themselves_in_both_forms():
    for record in (DONE, grid(cell("qwen", DONE))):
        bundle = record._repr_mimebundle_()
        assert set(bundle) == {"text/plain", "text/html"}
        Reader(bundle["text/html"])


@pytest.mark.parametrize(
    ("word", "shape"), [("waiting", "○"), ("loading model", "◐"), ("reading prompt", "◐"), ("streaming", "◐")]
)
def test_a_state_is_a_word_with_its_shape(word: str, shape: str):
    state = PanelState("qwen", model="qwen", server="ollama")
    state.begin("p").feed(StateChange(0.1, word))
    assert f"{shape} {word}" in Reader(panels([state])).text


def test_while_an_answer_streams_the_rate_is_in_chunks():
    state = PanelState("qwen", model="qwen", server="ollama", context=4096)
    answer = state.begin("p")
    assert f"{DASH} chunks/s" in Reader(panels([state], live=True)).text
    for at_s in (0.213, 0.463, 0.713):
        answer.feed(TextDelta(at_s, "word "))
    read = Reader(panels([state], live=True))
    assert "TTFT 213 ms" in read.text
    assert "4.00 chunks/s" in read.text  # two gaps of 0.25 s
    assert "ctx 4,096" in read.text
    answer.end(DONE)
    assert "41.0 tok/s" in Reader(panels([state])).text


def test_a_long_answer_is_cut_to_its_end_while_others_run_and_whole_at_the_end():
    state = PanelState("qwen", model="qwen", server="ollama", n_total=2)
    long = "".join(f"{n:05d} " for n in range(1000))  # 6,000 characters
    answer = state.begin("p")
    for start in range(0, 6000, 70):
        answer.feed(TextDelta(0.1, long[start : start + 70]))
    live = Reader(panels([state], live=True)).text
    assert long[-TAIL_CHARS:] in live
    assert long[-TAIL_CHARS - 1 :] not in live
    assert "… 2,000 characters before this" in live
    assert long in Reader(panels([state])).text  # stopped here, nothing of it is lost

    answer.end(replace(DONE, text=long))
    assert "… 2,000 characters before this" in Reader(panels([state], live=True)).text
    assert long in Reader(panels([state])).text


def test_with_several_prompts_a_panel_shows_which_one_and_how_many_failed():
    state = PanelState("qwen", model="qwen", server="ollama", n_total=4)
    state.begin("first").end(FAILED)
    state.begin("second\nprompt")
    page = panels([state], live=True)
    read = Reader(page)
    assert "2 of 4 · second prompt" in read.text
    assert "✕ 1 of 4 failed" in read.text
    assert 'aria-valuemax="4" aria-valuenow="1"><div style="width:25%">' in page


def test_seven_models_get_colours_in_turn():
    states = [PanelState(f"m{i}", model="m", server="s") for i in range(7)]
    assert re.findall(r"mn-panel mn-c(\d)", panels(states)) == ["0", "1", "2", "3", "4", "5", "0"]


def test_colours_are_named_in_the_style_sheet_alone():
    folder = Path(mamba_nb.display.__file__).parent
    for file in folder.glob("*.py"):
        assert not re.search(r"#[0-9a-fA-F]{3,8}\b", file.read_text()), file.name
    assert style.model_colours()[0] == ("#0072b2", "#0072b2")
    assert len(style.model_colours()) == 6


def test_every_rule_of_the_style_sheet_is_scoped():
    sheet = style.css()
    assert sheet.count("{") == sheet.count("}")
    for selectors in re.findall(r"([^{}]+)\{", sheet):
        selectors = re.sub(r"\([^()]*\)", "", selectors)  # commas inside :is(...) part no rules
        assert all(".mamba-nb" in selector for selector in selectors.split(",")), selectors


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("place", [0, 1], ids=["light", "dark"])
def test_colours_are_told_from_the_surface(place: int):
    def contrast(colour: str) -> float:
        low, high = sorted((_luminance(colour), _luminance(style.token("surface")[place])))
        return (high + 0.05) / (low + 0.05)

    assert all(contrast(pair[place]) >= 3 for pair in style.model_colours())
    assert all(contrast(style.token(name)[place]) >= 4.5 for name in ("text", "quiet"))


INLINE = r"(?:b|bdi|span|code|i)"
# A word that ends with one element, right before a word that begins with the next: only a style sheet keeps them apart.
TOUCHING = re.compile(rf"[^\s>·(]</{INLINE}>(?:</{INLINE}>)*(?:<{INLINE}\b[^>]*>)+[^\s<]")


@pytest.mark.parametrize("surface", [name for name in SURFACES if name not in ("markdown", "vote", "profile table")])
def test_words_stay_apart_where_the_style_sheet_is_taken_away(surface: str) -> None:
    """A code host shows the HTML of an output without its style."""
    for kind, shown in surfaces_of("hello", surface):
        if kind == "html":
            assert TOUCHING.findall(shown.partition("</style>")[2]) == []
