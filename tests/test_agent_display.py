"""What an agent's result looks like: every part of the run is there, and nothing of it can do anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from typing import Any

import pytest
from pydantic import BaseModel

from mamba_nb import Agent, AgentResult
from mamba_nb._agent.result import ToolUse
from mamba_nb.backends import OpenAICompatibleBackend
from mamba_nb.display import agents
from mamba_nb.errors import MambaError
from mamba_nb.records import Generation, Request, Usage
from mamba_nb.testing import Script, ScriptedServer

EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>\x1b[31m\u202e"


class Elements(HTMLParser):
    """The elements and attributes of a page, outside its style sheet."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag not in ("br", "img", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def generation(**options: Any) -> Generation:
    request = Request(model="m", messages=({"role": "user", "content": "Go"},))
    return Generation(**{"request": request, "base_url": "http://h/v1", "server": "ollama", "model": "m", **options})


def result(**options: Any) -> AgentResult[Any]:
    made = {"output": "Done.", "messages": [], "generations": (generation(text="Done."),), "took_s": 1.5, **options}
    return AgentResult(**made)


def html(record: AgentResult[Any]) -> str:
    """The page without its style sheet."""
    page = record._repr_mimebundle_()["text/html"]
    parsed = Elements(page)
    assert parsed.open == [] and not {"script", "img", "iframe"} & set(parsed.tags)
    assert not [name for name in parsed.attributes if name.startswith("on")]
    assert "\x1b" not in page and "\u202e" not in page
    return page.partition("</style>")[2]


def test_everything_foreign_is_escaped():
    call = ToolUse(step=1, name=EVIL, arguments={EVIL: EVIL}, result=EVIL, took_s=0.1, valid=True)
    broken = ToolUse(step=1, name="f", arguments=EVIL, error=EVIL, took_s=0.1, valid=False)
    step = generation(text=EVIL, reasoning=EVIL, warnings=(EVIL,), model=EVIL, server=EVIL)
    record = result(
        output=EVIL, tool_calls=(call, broken), generations=(step, step), notes=(EVIL,), refusals={1: EVIL}, error=EVIL
    )
    page = html(record)
    assert "&lt;script&gt;alert(2)&lt;/script&gt;" in page
    text = record._repr_mimebundle_()["text/plain"]
    assert "\x1b" not in text and "\u202e" not in text


@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_a_run_that_did_not_end_well_shows_what_there_was(status):
    record = result(output=None, status=status, error="It broke.\nMend it." if status == "failed" else None)
    page = html(record)
    assert f"> {status}</div>" in page and "mn-run-answer" not in page and "Step 1" in page
    assert ("It broke." in page) is (status == "failed")


def test_one_step_without_tools_is_just_the_answer():
    page = html(result(output="**Bold** answer"))
    assert "<strong>Bold</strong>" in page and "Step 1" not in page


def test_the_figures_have_units_and_unknown_ones_a_reason():
    page = html(result())
    assert "time <b>1.50 s</b>" in page
    assert 'tokens out <b title="the server did not count every answer">\N{EN DASH}</b>' in page
    counted = generation(usage=Usage(prompt_tokens=1234, completion_tokens=5))
    assert "tokens in <b>1,234</b>" in html(result(generations=(counted,)))


def test_the_way_the_answer_was_asked_for_is_said_with_its_reason():
    page = html(result(output={"a": 1}, output_mode="native", output_why="a probe showed it"))
    assert '<span class="mn-end" title="a probe showed it">output <b>native schema</b></span>' in page
    assert "in the prompt" in html(result(tools_mode="prompted"))


class City(BaseModel):
    name: str
    tags: list[str]


@dataclass
class Point:
    x: int


class Odd:
    def __repr__(self) -> str:
        return "<odd>"


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (City(name="Paris", tags=["a"]), ["City", "<bdi>name</bdi>", "Paris", "[&quot;a&quot;]"]),
        (Point(3), ["Point", "<bdi>x</bdi>"]),
        ({"a": None}, ["<bdi>a</bdi>", "null"]),
        ([1, 2], ["[1, 2]"]),
        (3.5, ["float", "3.5"]),
        (True, ["true"]),
        (Odd(), ["Odd", "&lt;odd&gt;"]),
        ("", ["No visible text came."]),
    ],
)
def test_answers_of_every_kind(output, shown):
    page = html(result(output=output))
    for part in shown:
        assert part in page


def test_long_texts_are_cut_and_say_so():
    call = ToolUse(step=1, name="f", arguments={}, result="x" * 25_000, took_s=0.1)
    page = html(result(tool_calls=(call,)))
    assert "… 5,000 characters more" in page and len(page) < 30_000
    assert '<details class="mn-card">' in page
    assert '<details class="mn-card" open>' in html(result(tool_calls=(replace(call, result="short"),)))


def test_a_call_without_a_result_says_so():
    assert "no result" in html(
        result(status="stopped", output=None, tool_calls=(ToolUse(step=1, name="f", arguments={}),))
    )


def test_a_warning_is_said_once():
    step = generation(warnings=("Asked for another model.",))
    assert html(result(generations=(step, step))).count("Asked for another model.") == 1


def test_results_without_a_generation_can_be_shown():
    assert agents.result_text(result(generations=(), output=None, status="failed", error="Nothing listens there."))
    html(result(generations=(), output=None, status="failed", error="Nothing listens there."))


class TestARealRun:
    @pytest.fixture
    def server(self) -> Iterator[ScriptedServer]:
        with ScriptedServer(Script(text="It rains.", prompt_tokens=10)) as running:
            yield running

    def test_the_steps_the_cards_and_the_times(self, server):
        def get_weather(city: str) -> dict[str, Any]:
            """The weather."""
            return {"city": city, "rain": True}

        server.enqueue(
            Script(
                reasoning="Hm so",
                text="Let me look.",
                tool_calls=[{"name": "get_weather", "arguments": {"city": "Paris"}}],
            )
        )
        with OpenAICompatibleBackend("scripted-model", server.base_url) as backend:
            page = html(Agent(backend, tools=[get_weather]).run_sync("Umbrella?"))
        for part in (
            "<p>It rains.</p>",
            "<b>Step 1</b>",
            "<b>Step 2</b>",
            "thinking (5 characters)",
            "Let me look.",
            "get_weather(city=&quot;Paris&quot;)",
            "{&quot;city&quot;: &quot;Paris&quot;, &quot;rain&quot;: true}",
            "TTFT",
            "tools ",
        ):
            assert part in page

    def test_the_error_of_a_failed_run_is_in_its_partial(self, server):
        server.script = Script(status=500)
        with OpenAICompatibleBackend("scripted-model", server.base_url, max_retries=0) as backend:
            run = Agent(backend).run("Go")
            with pytest.raises(MambaError) as caught:
                run.result()
        assert run.partial.error == str(caught.value) and run.partial.status == "failed"
