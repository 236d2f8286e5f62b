"""What the pages point to is there: files, headings, listed pages outside, and the names in backticks."""

from __future__ import annotations

import builtins
import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit

import docs_blocks
import pytest
from docs_pages import REPO, Page, pages

import mamba_nb
from mamba_nb import errors

PAGES = {page.name: page for page in pages()}

# Pages outside that may be pointed to, each with what it is cited for. Nothing is fetched here, since these tests have
# no network: that a page still says so is for people to look at. A line that ends with a slash allows what is below it.
OUTSIDE = {
    "https://doi.org/10.2307/2334029": "Bradley and Terry's paper",
    "https://docs.nvidia.com/nim/benchmarking/llm/latest/metrics.html": "NVIDIA's definitions of the same figures",
    "https://docs.vllm.ai/": "vLLM's own documentation",
    "https://github.com/dustalov/evalica": "the library that computes the ratings",
    "https://github.com/lm-sys/FastChat/blob/main/fastchat/serve/monitor/rating_systems.py": "ratings of Chatbot Arena",
    "https://github.com/pydantic/genai-prices": "the list of prices",
    "https://github.com/vllm-project/guidellm/blob/main/docs/guides/metrics.md": "GuideLLM's definitions",
    "https://github.com/vllm-project/vllm-metal": "vLLM on Apple silicon",
    "https://github.com/vllm-project/vllm/blob/main/vllm/benchmarks/lib/endpoint_request_func.py": "how it takes times",
    "https://github.com/vllm-project/vllm/blob/main/vllm/benchmarks/serve.py": "how vllm bench serve computes figures",
    "https://keepachangelog.com/en/1.1.0/": "the form of the changelog",
    "https://lmstudio.ai/": "LM Studio's own site",
    "https://mybinder.org/": "Binder's badge and launcher",
    "https://numpy.org/doc/stable/reference/generated/numpy.percentile.html": "how percentiles are interpolated",
    "https://ollama.com/": "Ollama's own site",
    "https://semver.org/spec/v2.0.0.html": "what version numbers promise",
    "https://www.jstor.org/stable/2276774": "Wilson's paper",
}

# What a variable of the examples is. A name with several classes may have an attribute of any of them.
ARE = {
    "agent": "Agent",
    "answer": "Generation",
    "backend": "OpenAICompatibleBackend",
    "chat": "ChatView",
    "comparison": "Comparison AgentComparison",
    "generation": "Generation",
    "picker": "BackendPicker",
    "profile": "ModelProfile",
    "report": "ProbeReport",
    "result": "AgentResult",
    "run": "Run",
    "server": "Server",
    "servers": "Servers",
    "settings": "AgentSettings",
    "table": "ProfileTable ProfileComparison",
    "talk": "AgentConversation",
    "view": "CompareView VoteView ChatView",
}
OF_OTHERS = {"ModelRetry", "NaN", "RunContext", "DataFrame"}


def is_outside(link: str) -> bool:
    return bool(re.match(r"[a-z][a-z0-9+.-]*:", link))


# links


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_what_a_page_points_to_inside_is_there(page):
    for link in page.links:
        if is_outside(link):
            continue
        file, _, anchor = unquote(link).partition("#")
        target = (page.path.parent / file).resolve() if file else page.path
        assert target.is_relative_to(REPO) and target.exists(), link
        if anchor:
            assert anchor in PAGES[target.relative_to(REPO).as_posix()].anchors, link


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_page_outside_is_well_written_and_on_the_list(page):
    for link in filter(is_outside, page.links):
        parts = urlsplit(link)
        assert parts.scheme == "https" and "." in (parts.hostname or "") and not parts.username, link
        assert not re.search(r"[\s<>\"{}|\\^`]", link), link
        assert any(link == known or (known.endswith("/") and link.startswith(known)) for known in OUTSIDE), link


def test_links_are_found_in_all_their_forms():
    text = (
        "[a\n[b]](x.md#c) ![p](i.png) `[no](code)` <img src='b.svg'> see https://e.org/a. [t](h.md \"T\")\n"
        "```\n[no](fence)\n```\n## A `b` c: d\n"
    )
    page = Page(REPO / "README.md", text)
    assert page.links == ["x.md#c", "i.png", "h.md", "b.svg", "https://e.org/a"]
    assert page.anchors == {"a-b-c-d"}
    assert Page(REPO / "x.ipynb", text).anchors == {"A-b-c:-d"}
    assert sum(len(page.links) for page in PAGES.values()) > 30


# names in backticks


def rooms_names() -> dict[str, Any]:
    """Every public name of every room, however it is imported."""
    return {name.rpartition(".")[2]: thing for name, thing in docs_blocks.public_objects().items()} | {
        name: getattr(errors, name) for name in errors.__all__
    }


NAMES = rooms_names()


@cache
def attributes(kind: type) -> frozenset[str]:
    """All that its instances have, as far as the class tells."""
    found = set(dir(kind))
    for each in kind.__mro__[:-1]:
        if each.__module__.startswith("mamba_nb"):
            found |= set(re.findall(r"\bself\.(\w+)", inspect.getsource(each)))
            found |= set(getattr(each, "__annotations__", {}))
    return frozenset(found | ({field.name for field in dataclasses.fields(kind)} if is_record(kind) else set()))


def is_record(kind: type) -> bool:
    return dataclasses.is_dataclass(kind)


@cache
def anywhere() -> frozenset[str]:
    """The attributes of all public classes."""
    return frozenset().union(*(attributes(kind) for kind in NAMES.values() if inspect.isclass(kind)))


def wrong(span: str) -> Iterator[str]:
    """What a text in backticks names that is not there."""
    dotted = re.match(r"(?:from |import )?(mamba_nb(?:\.\w+)+)", span)
    if dotted and not exists(dotted[1]):
        yield dotted[1]
    alone = re.match(r"\.(?!(?:env|venv|ci|ipynb|jsonl?|gguf)\b)([a-z]\w*)", span)
    if alone and alone[1] not in anywhere():
        yield alone[0]
    of = re.match(r"(\w+)\.([a-z]\w*)", span)
    if of and of[1] in ARE and not any(of[2] in attributes(NAMES[name]) for name in ARE[of[1]].split()):
        yield of[0]
    known = {*NAMES, *OF_OTHERS, *dir(builtins)}
    if re.fullmatch(r"[A-Z][a-z]+(?:[A-Z][a-z0-9]*)+", span) and span not in known:
        yield span
    called = re.match(r"([a-z]\w*)\(", span)
    if called and called[1] not in known | anywhere() | {"compare", "doctor"}:
        yield f"{called[1]}()"


def exists(dotted: str) -> bool:
    thing: Any = mamba_nb
    for at, part in enumerate(dotted.split(".")[1:], 2):
        try:
            thing = getattr(thing, part)
        except AttributeError:
            try:
                thing = importlib.import_module(".".join(dotted.split(".")[:at]))
            except ImportError:
                return False
    return True


@pytest.mark.parametrize("page", [page for page in PAGES.values() if page.name != "CHANGELOG.md"], ids=lambda p: p.name)
def test_names_in_backticks_are_there(page):
    assert [name for span in dict.fromkeys(page.spans) for name in wrong(span)] == []


@pytest.mark.parametrize(
    ("span", "named"),
    [
        ("mamba_nb.comparison", "mamba_nb.comparison"),
        ("comparison.to_fram()", "comparison.to_fram"),
        (".to_frames()", ".to_frames"),
        ("CompareWidget", "CompareWidget"),
        ("find_server()", "find_server()"),
    ],
)
def test_a_name_that_is_not_there_is_found(span, named):
    assert list(wrong(span)) == [named]


def test_the_classes_of_the_variables_exist():
    assert {name for names in ARE.values() for name in names.split()} <= set(NAMES)
