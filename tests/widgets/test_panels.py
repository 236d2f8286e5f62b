"""What travels to panels that stream, and what stands in their state at every moment."""

from __future__ import annotations

import random
import time
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_nb.compare.progress import PanelState
from mamba_nb.display.text import UNKNOWN
from mamba_nb.records import (
    Generation,
    ReasoningDelta,
    ReasoningEnded,
    Request,
    TextDelta,
    ToolCall,
    Usage,
    UsageReport,
)
from mamba_nb.widgets._panels import MOST_TEXT, PanelFeed
from mamba_nb.widgets.panels import Panels

DONE = Generation(
    request=Request(model="m", messages=()), base_url="http://127.0.0.1/v1", server="ollama", model="m", text="x"
)


def state(label: str = "qwen", n_total: int = 1) -> PanelState:
    return PanelState(label, model="m", server="ollama", n_total=n_total, context=4096)


def grown(panel: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """What a front end makes of a delta."""
    panel = {**panel, **change.get("set", {})}
    for name in ("html", "tail", "reasoning"):
        if name in change:
            panel[name] = change[name]
        if f"{name}+" in change:
            panel[name] += change[f"{name}+"]
    return panel


def figures(panel: dict[str, Any]) -> list[str]:
    return [f"{figure['name']} {figure['value']}".strip() for figure in panel["figures"]]


PIECES = [
    "word ",
    "two\n\n",
    "- a\n",
    "```\n",
    "**b",
    "**",
    "<i>",
    "\ud83d",
    "\ude00",
    "1. x\n",
    "\n",
    "| a |\n",
    "é",
    "天",
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([*PIECES, "THINK", "TICK"]), max_size=60))
def test_the_sum_of_all_deltas_is_the_snapshot(pieces):
    panel = state()
    feed = PanelFeed([panel])
    shown = feed.snapshot()
    answer = panel.begin("Why?")
    for at, piece in enumerate(pieces):
        if piece == "TICK":
            for index, change in feed.delta().items():
                shown[int(index)] = grown(shown[int(index)], change)
            assert shown == feed.told()
        elif piece == "THINK":
            answer.feed(ReasoningDelta(float(at), "hm"))
        else:
            answer.feed(TextDelta(float(at), piece))
    text, reasoning = "".join(answer.text), "".join(answer.reasoning)
    answer.end(replace(DONE, text=text, reasoning=reasoning))
    for index, change in feed.delta().items():
        shown[int(index)] = grown(shown[int(index)], change)
    assert shown == feed.told() == feed.snapshot()
    assert shown[0]["tail"] == ""
    assert feed.delta() == {}
    assert feed.ended


def test_a_block_that_is_whole_is_rendered_once_and_only_the_end_travels():
    panel = state()
    feed = PanelFeed([panel])
    feed.snapshot()
    answer = panel.begin("Why?")
    answer.feed(TextDelta(0.1, "The **first**.\n\nThe second\nli"))
    change = feed.delta()["0"]
    assert (change["html"], change["tail"]) == ("<p>The <strong>first</strong>.</p>\n", "The second\nli")
    answer.feed(TextDelta(0.2, "ne"))
    change = feed.delta()["0"]
    assert change["tail+"] == "ne"
    assert "html" not in change and "html+" not in change


def test_the_same_four_figures_stand_from_the_start():
    panel = state()
    feed = PanelFeed([panel])
    assert figures(feed.snapshot()[0]) == [f"TTFT {UNKNOWN}", f"{UNKNOWN} tok/s", f"{UNKNOWN} tokens", f"{UNKNOWN} s"]
    answer = panel.begin("Why?")
    answer.feed(TextDelta(0.5, "a"))
    answer.feed(TextDelta(1.0, "b"))
    answer.feed(TextDelta(1.5, "c"))
    assert figures(feed.snapshot()[0]) == ["TTFT 500 ms", "2.00 chunks/s", f"{UNKNOWN} tokens", f"{UNKNOWN} s"]
    answer.feed(UsageReport(1.5, Usage(completion_tokens=10)))
    answer.feed(TextDelta(2.0, "d"))
    assert figures(feed.snapshot()[0]) == ["TTFT 500 ms", "5.00 tok/s", "10 tokens", f"{UNKNOWN} s"]
    answer.end(replace(DONE, text_at_s=(0.5, 2.0), latency_s=2.5, usage=Usage(completion_tokens=25)))
    assert figures(feed.snapshot()[0]) == ["TTFT 500 ms", "10.0 tok/s", "25 tokens", "2,500 ms"]


@pytest.mark.parametrize(
    ("generation", "expected"),
    [
        pytest.param(replace(DONE, text=""), {"empty": True, "html": "", "notes": []}, id="an empty answer"),
        pytest.param(replace(DONE, text="\ud83d"), {"empty": False, "html": "<p>�</p>\n"}, id="half an emoji"),
        pytest.param(
            replace(DONE, text="", tool_calls=(ToolCall(id="1", name="f\x1b[31m", arguments='{"a": 1}'),)),
            {"empty": False, "calls": [{"name": "f\\x1b[31m", "arguments": '{"a": 1}'}]},
            id="a tool call",
        ),
        pytest.param(
            replace(DONE, status="failed", error="gone"),
            {"state": "failed", "notes": [["failed", "gone"]]},
            id="failed",
        ),
        pytest.param(
            replace(DONE, error="odd"), {"state": "done", "notes": [["warning", "odd"]]}, id="done, with an error"
        ),
        pytest.param(
            replace(DONE, reasoning="hm", usage=Usage(reasoning_tokens=1200)),
            {"thinking": "1,200 tokens"},
            id="counted",
        ),
        pytest.param(replace(DONE, reasoning="hm"), {"thinking": "2 characters"}, id="not counted"),
    ],
)
def test_every_kind_of_end_is_told(generation, expected):
    panel = state()
    panel.begin("Why?").end(generation)
    told = PanelFeed([panel]).snapshot()[0]
    assert {name: told[name] for name in expected} == expected


def test_what_a_label_or_a_server_is_called_cannot_break_the_page():
    panel = PanelState("a\nb\u202e<b>", model="m", server="\ud83d\x00")
    told = PanelFeed([panel]).snapshot()[0]
    assert (told["label"], told["server"]) == ("a b\\u202e<b>", "�\\x00")


def test_text_that_was_reasoning_all_along_moves():
    panel = state()
    feed = PanelFeed([panel])
    shown = feed.snapshot()
    answer = panel.begin("Why?")
    for event in (TextDelta(0.1, "Let me think.\n\nYes.\n\n"), None, ReasoningEnded(0.2), TextDelta(0.3, "Because.")):
        if event is None:
            shown[0] = grown(shown[0], feed.delta()["0"])
            assert shown[0]["html"].startswith("<p>Let me think.</p>")
        else:
            answer.feed(event)
    shown[0] = grown(shown[0], feed.delta()["0"])
    assert (shown[0]["reasoning"], shown[0]["html"], shown[0]["tail"]) == ("Let me think.\n\nYes.\n\n", "", "Because.")


def test_a_megabyte_without_a_line_is_cut_and_says_so():
    panel = state()
    feed = PanelFeed([panel])
    answer = panel.begin("Why?")
    for at in range(100):
        answer.feed(TextDelta(at / 100, "x" * 10_000))
    assert len(feed.snapshot()[0]["tail"]) == MOST_TEXT
    answer.end(replace(DONE, text="".join(answer.text)))
    told = feed.snapshot()[0]
    assert told["html"] == f"<pre>{'x' * MOST_TEXT}</pre>"
    assert told["notes"] == [["warning", "Shown: 400,000 of 1,000,000 characters."]]


def test_another_state_in_a_panel_travels_as_a_delta():
    first, second = state(), state("other")
    first.begin("Why?").end(replace(DONE, text="one"))
    second.begin("Why?").end(replace(DONE, text="two"))
    feed = PanelFeed([first], colours=[3])
    shown = feed.snapshot()
    feed.put(0, second)
    feed.tell(0, pinned=True)
    feed.tell(0, pinned=True)
    shown[0] = grown(shown[0], feed.delta()["0"])
    assert (shown[0]["label"], shown[0]["html"], shown[0]["pinned"]) == ("other", "<p>two</p>\n", True)
    assert shown[0]["colour"] == "mn-c3"
    assert feed.delta() == {}


class Sent:
    """Panels, and what they send."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, states: list[PanelState], **kwargs: Any) -> None:
        self.widget = Panels(states, **kwargs)
        self.messages: list[dict[str, Any]] = []
        self.states: list[dict[str, Any]] = []
        monkeypatch.setattr(self.widget, "send", self.messages.append)
        self.widget.observe(lambda change: self.states.append(deepcopy(change["new"])), "state")


def test_deltas_are_numbered_and_the_state_is_their_sum(monkeypatch):
    panels = [state("a"), state("b")]
    sent = Sent(monkeypatch, panels)
    copy = [dict(panel) for panel in sent.widget.state["panels"]]
    answers = [panel.begin("Why?") for panel in panels]
    for at in range(20):
        answers[at % 2].feed(TextDelta(at / 10, f"word {at} "))
        sent.widget.paint()
    sent.widget.paint()  # nothing new
    assert [message["n"] for message in sent.messages] == list(range(1, 21))
    assert sent.states == []  # nothing but deltas has travelled
    for message in sent.messages:
        for index, change in message["panels"].items():
            copy[int(index)] = grown(copy[int(index)], change)
    assert copy == sent.widget.state["panels"] == sent.widget.get_state()["state"]["panels"]
    assert sent.widget.get_state()["state"]["n"] == 20


def test_another_change_in_mid_stream_keeps_what_has_come(monkeypatch):
    panel = state()
    sent = Sent(monkeypatch, [panel])
    answer = panel.begin("Why?")
    answer.feed(TextDelta(0.1, "some "))
    sent.widget.paint()
    sent.widget.show(error={"message": "odd", "hint": None, "says": None})
    assert sent.states[-1]["panels"][0]["tail"] == "some "
    assert sent.states[-1]["n"] == 1
    answer.feed(TextDelta(0.2, "text"))
    sent.widget.paint()
    assert sent.messages[-1]["n"] == 2
    assert sent.messages[-1]["panels"]["0"]["tail+"] == "text"


def test_a_front_end_that_missed_something_gets_the_whole(monkeypatch):
    panel = state()
    sent = Sent(monkeypatch, [panel])
    panel.begin("Why?").feed(TextDelta(0.1, "some text"))
    sent.widget._take(sent.widget, {"do": "whole"}, [])
    assert sent.states[-1]["panels"][0]["tail"] == "some text"
    assert sent.states[-1]["n"] == 1
    assert sent.messages == []


def test_the_state_is_synced_at_the_end_once_and_stop_is_handed_on(monkeypatch):
    panel = state()
    stopped: list[bool] = []
    sent = Sent(monkeypatch, [panel], on_stop=lambda: stopped.append(True))
    assert sent.widget.state["running"]
    sent.widget._take(sent.widget, {"do": "stop"}, [])
    assert stopped == [True]
    panel.begin("Why?").end(DONE)
    assert sent.widget._tick() is False
    sent.widget.finish()
    assert len(sent.states) == 1
    assert sent.states[0]["panels"][0]["state"] == "done"
    assert not sent.states[0]["running"]
    assert sent.widget._tick() is False
    sent.widget.close()


def test_a_widget_that_is_painted_by_the_painter_ends_by_itself():
    panel = state()
    widget = Panels([panel])
    widget.start()
    answer = panel.begin("Why?")
    numbers = random.Random(1)
    for at in range(30):
        answer.feed(TextDelta(at / 100, "x" * numbers.randrange(20)))
        time.sleep(0.01)
    answer.end(replace(DONE, text="".join(answer.text)))
    by = time.monotonic() + 30
    while widget.state["panels"][0]["state"] != "done":
        assert time.monotonic() < by
        time.sleep(0.05)
    assert "".join(answer.text) in widget.state["panels"][0]["html"]
    widget.close()


def test_the_state_travels_less_and_less_often_as_an_answer_grows(monkeypatch):
    panel = state()
    sent = Sent(monkeypatch, [panel])
    answer = panel.begin("Why?")
    for at in range(100):
        answer.feed(TextDelta(at / 10, "x" * 200))
        sent.widget.paint()
    # After 4,200 characters, which is more than 4,000; after 13,000, which is more than 4,000 and twice what it had.
    assert [len(whole["panels"][0]["tail"]) for whole in sent.states] == [4_400, 13_200]
