"""CompareView without a browser: what is pressed comes in as messages, what is shown is its state."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest

import mamba_nb
from mamba_nb import OpenAICompatibleBackend, variant
from mamba_nb.errors import BadInput, RunStopped
from mamba_nb.testing import LoggedRequest, Script, ScriptedServer
from mamba_nb.widgets.compare_view import CompareView
from mamba_nb.widgets.compare_view_diff import word_diff

PATIENCE_S = 30


@pytest.fixture
def views() -> Iterator[Callable[..., CompareView]]:
    made: list[CompareView] = []

    def make(*args: Any, **kwargs: Any) -> CompareView:
        made.append(CompareView(*args, **kwargs))
        return made[-1]

    yield make
    for view in made:
        view.close()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(Script(echo=True), models=["one", "two", "three"], unknown_model="ignore") as server:
        yield server


def backends(server: ScriptedServer, *names: str) -> list[OpenAICompatibleBackend]:
    return [OpenAICompatibleBackend(name, server.base_url, max_retries=0) for name in names or ("one", "two")]


def press(view: CompareView, what: str, **arguments: Any) -> None:
    view._take(view, {"do": what, **arguments}, [])


def wait(condition: Callable[[], object]) -> None:
    by = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < by, "it did not come to pass"
        time.sleep(0.02)


def ended(view: CompareView) -> CompareView:
    wait(lambda: not view.state["running"])
    return view


def asked(view: CompareView, prompt: str, **arguments: Any) -> CompareView:
    press(view, "run", prompt=prompt, **arguments)
    return ended(view)


def shown(view: CompareView, place: int) -> str:
    panel = view.state["panels"][place]
    return str(panel["html"] + panel["tail"]).replace("<p>", "").replace("</p>", "").strip()


def test_a_run_asks_all_chosen_models_and_keeps_their_answers(server, views):
    view = views(backends(server), temperature=0.5)
    assert [panel["state"] for panel in view.state["panels"]] == ["idle", "idle"]
    asked(view, "Hello there")
    assert [panel["state"] for panel in view.state["panels"]] == ["done", "done"]
    assert [shown(view, place) for place in (0, 1)] == ["Hello there", "Hello there"]
    assert view.state["progress"] == "2 of 2 answers"
    assert "mn-table" in view.state["summary"] and "<style>" not in view.state["summary"]
    frame = view.comparison.to_frame()
    assert frame[["label", "prompt", "repeat", "text", "status"]].values.tolist() == [
        ["one", "Hello there", 0, "Hello there", "done"],
        ["two", "Hello there", 0, "Hello there", "done"],
    ]
    assert [request.body["temperature"] for request in server.requests if request.prompt == "Hello there"] == [0.5, 0.5]
    assert view.run.result().count("done") == 2


def test_the_same_prompt_again_is_a_repeat_and_another_one_a_new_prompt(server, views):
    view = views(backends(server))
    for prompt in ("first", "second", "first"):
        asked(view, prompt)
    frame = view.comparison.to_frame()
    assert frame[["prompt_id", "repeat", "label"]].values.tolist() == [
        [0, 0, "one"], [0, 0, "two"], [0, 1, "one"], [0, 1, "two"], [1, 0, "one"], [1, 0, "two"],
    ]  # fmt: skip
    assert view.state["prompt"]["at"] == 1
    assert view.comparison.planned == 6
    assert view.comparison.to_wide().shape == (3, 2)


def test_prompts_of_a_frame_are_stepped_through_and_run_all_together(server, views):
    frame = pd.DataFrame({"city": ["Rome", "Oslo"]}, index=["it", "no"])
    view = views(backends(server), frame, template="Of {city}.", repeats=2)
    assert view.state["prompt"] == {"text": "Of Rome.", "own": "Of Rome.", "at": 1, "total": 2, "given": 2}
    press(view, "step", by=1)
    assert view.state["prompt"]["text"] == "Of Oslo."
    press(view, "step", by=1)
    assert view.state["prompt"]["at"] == 2
    asked(view, "", all=True)
    counts = view.comparison.to_frame().groupby(["prompt_id", "label"]).size()
    assert counts.to_dict() == {("it", "one"): 2, ("it", "two"): 2, ("no", "one"): 2, ("no", "two"): 2}
    asked(view, "Of Lima.")
    assert view.comparison.prompt_ids == ("it", "no", 2)


def test_answers_are_browsed_in_one_panel_and_a_step_takes_all_panels_along(server, views):
    view = views(backends(server), ["a", "b"])
    asked(view, "", all=True)
    assert [shown(view, place) for place in (0, 1)] == ["b", "b"]
    press(view, "browse", panel="given-0", by=-1)
    assert [shown(view, place) for place in (0, 1)] == ["a", "b"]
    assert (view.state["panels"][0]["at"], view.state["panels"][0]["answers"]) == (1, 2)
    press(view, "browse", panel="given-0", by=-1)
    assert shown(view, 0) == "a"
    press(view, "step", by=1)
    press(view, "step", by=-1)
    assert [shown(view, place) for place in (0, 1)] == ["a", "a"]


def test_panels_end_with_the_same_prompt_whichever_was_answered_last(views):
    def late(request: LoggedRequest) -> Script:
        is_late = (request.body["model"], request.prompt) == ("one", "a")
        return Script(echo=True, ttft_s=0.5 * is_late)

    with ScriptedServer(late, models=["one", "two"]) as server:
        view = views(backends(server), ["a", "b"], max_concurrency=4)
        asked(view, "", all=True)
        assert [shown(view, place) for place in (0, 1)] == ["b", "b"]
        assert [(panel["at"], panel["answers"]) for panel in view.state["panels"]] == [(2, 2), (2, 2)]
        press(view, "browse", panel="given-0", by=-1)
        assert shown(view, 0) == "a"


def test_stop_keeps_what_had_come(views):
    slow = Script(text="word " * 2000, itl_s=0.02)
    with ScriptedServer(slow, models=["one", "two"]) as server:
        view = views(backends(server), max_concurrency=2)
        press(view, "run", prompt="Go on")
        wait(lambda: shown(view, 0) and shown(view, 1))
        press(view, "stop")
        ended(view)
        assert [panel["state"] for panel in view.state["panels"]] == ["stopped", "stopped"]
        assert shown(view, 0).startswith("word")
        assert view.comparison.count("stopped") == 2
        assert view.comparison.generations[0].text.startswith("word")
        with pytest.raises(RunStopped):
            view.run.result()


def test_a_run_that_is_pressed_twice_runs_once(views):
    with ScriptedServer(Script(text="word " * 50, itl_s=0.02), models=["one", "two"]) as server:
        view = views(backends(server))
        press(view, "run", prompt="Go on")
        press(view, "run", prompt="Go on")
        press(view, "again", panel="given-0")
        press(view, "choose", id="given-0", on=False)
        ended(view)
        assert len(view.comparison) == 2
        assert len(view.state["panels"]) == 2


def test_a_pinned_panel_stays_first_and_out_of_the_next_run(server, views):
    view = views(backends(server, "one", "two", "three"))
    asked(view, "first")
    press(view, "pin", panel="given-2")
    assert view.state["order"] == [2, 0, 1]
    asked(view, "second")
    assert [shown(view, place) for place in (0, 1, 2)] == ["second", "second", "first"]
    press(view, "again", panel="given-2")
    ended(view)
    assert view.state["panels"][2]["answers"] == 2
    assert view.comparison.to_frame()["label"].value_counts().to_dict() == {"one": 2, "two": 2, "three": 2}
    for name in ("given-0", "given-1"):
        press(view, "pin", panel=name)
    press(view, "run", prompt="third")
    assert view.state["error"]["message"] == "Every panel is pinned, so there is nobody to ask."


def test_one_model_is_asked_again_what_its_panel_shows(server, views):
    view = views(backends(server))
    asked(view, "first")
    asked(view, "second")
    press(view, "browse", panel="given-1", by=-1)
    press(view, "again", panel="given-1")
    ended(view)
    assert [(cell.label, cell.prompt, cell.repeat) for cell in view.comparison if cell.label == "two"] == [
        ("two", "first", 0), ("two", "first", 1), ("two", "second", 0),
    ]  # fmt: skip
    assert shown(view, 1) == "first"


def test_a_colour_stays_with_its_model(server, views):
    view = views(backends(server, "one", "two", "three"))
    asked(view, "first")
    press(view, "choose", id="given-0", on=False)
    assert [(panel["label"], panel["colour"]) for panel in view.state["panels"]] == [
        ("two", "mn-c1"),
        ("three", "mn-c2"),
    ]
    press(view, "choose", id="given-0")
    assert [panel["colour"] for panel in view.state["panels"]] == ["mn-c1", "mn-c2", "mn-c0"]
    assert view.comparison.labels == ("one", "two", "three")
    assert shown(view, 2) == "first"


def test_variants_and_doubles_have_names_of_their_own(server, views):
    one = backends(server)[0]
    view = views([one, one, variant(one, temperature=0), variant(one, name="strict", system="Be strict.")])
    asked(view, "Hello")
    assert view.comparison.labels == ("one", "one (2)", "temperature=0", "strict")
    assert [cell.variant for cell in view.comparison] == [None, None, "temperature=0", "strict"]


@pytest.mark.parametrize(
    ("chosen", "prompt", "message"),
    [
        pytest.param(1, "Hello", "Choose 2 to 6 models; one is chosen.", id="one model"),
        pytest.param(0, "Hello", "Choose 2 to 6 models; none is chosen.", id="no model"),
        pytest.param(2, " \n", "There is no prompt.", id="no prompt"),
    ],
)
def test_what_is_missing_is_said(server, views, monkeypatch, chosen, prompt, message):
    async def nothing() -> tuple[()]:
        return ()

    monkeypatch.setattr("mamba_nb.widgets.compare_view.find", nothing)
    view = views(backends(server)[:chosen])
    press(view, "run", prompt=prompt)
    assert view.state["error"]["message"] == message
    assert not view.state["running"]


def test_more_than_six_models_are_offered_and_the_first_six_chosen(server, views):
    view = views(backends(server, *"abcdefgh"))
    assert view.state["models"]["chosen"] == [f"given-{place}" for place in range(6)]
    assert [choice["name"] for choice in view.state["models"]["choices"]] == [*"abcdefgh", "embedded"]
    press(view, "choose", id="given-6")
    assert view.state["error"]["message"] == "6 models are chosen, which is the most."


def test_found_models_can_be_chosen(server, views, monkeypatch):
    async def look() -> mamba_nb.Servers:
        return await find([], urls=[server.base_url], timeout=PATIENCE_S)

    from mamba_nb.servers.discovery import find

    monkeypatch.setattr("mamba_nb.widgets.compare_view.find", look)
    view = views()
    assert view.state["models"]["searching"]
    wait(lambda: view.state["models"]["looked"])
    by_name = {choice["name"]: choice["id"] for choice in view.state["models"]["choices"]}
    assert list(by_name) == ["one", "two", "three", "embedded"]
    for name in ("one", "three"):
        press(view, "choose", id=by_name[name])
    asked(view, "Hello")
    assert view.comparison.labels == ("one", "three")
    assert view.comparison.count("done") == 2
    press(view, "choose", id="gone")
    assert view.state["error"]["message"] == "That model is not there any more."


def test_a_model_that_cannot_be_asked_is_said_and_the_view_lives_on(server, views):
    closed = backends(server, "three")[0]
    view = views([closed, *backends(server)])
    closed.close()
    asked(view, "Hello")
    assert view.state["error"]["message"] == f"The backend for three at {server.base_url} is closed."
    assert [panel["state"] for panel in view.state["panels"]] == ["idle", "idle", "idle"]
    assert len(view.comparison) == 0
    press(view, "choose", id="given-0", on=False)
    asked(view, "Hello")
    assert view.state["error"] is None
    assert view.comparison.count("done") == 2


def test_a_server_that_dies_and_one_that_is_not_there_are_rows(views):
    def dies(request: Any) -> Script:
        return Script(text="one two three four", fault=None if request.prompt == "Hi" else "cut")

    with ScriptedServer(dies, models=["one"]) as server:
        gone = OpenAICompatibleBackend("gone", "http://127.0.0.1:9/v1", max_retries=0)
        view = asked(views([*backends(server, "one"), gone]), "Hello")
        assert [panel["state"] for panel in view.state["panels"]] == ["failed", "failed"]
        assert view.state["panels"][0]["notes"][0][0] == "failed"
        assert shown(view, 0) == "one two"
        assert view.comparison.count("failed") == 2


def test_two_views_on_one_backend_do_not_disturb_each_other(server, views):
    both = backends(server)
    first, second = views(both), views(both)
    press(first, "run", prompt="first")
    press(second, "run", prompt="second")
    assert {shown(ended(first), 0), shown(first, 1)} == {"first"}
    assert {shown(ended(second), 0), shown(second, 1)} == {"second"}
    first.close()
    assert {shown(asked(second, "third"), 0)} == {"third"}


def test_closing_stops_the_run(views):
    with ScriptedServer(Script(text="word " * 2000, itl_s=0.02), models=["one", "two"]) as server:
        view = views(backends(server))
        press(view, "run", prompt="Go on")
        run = view.run
        wait(lambda: any(panel["state"] == "streaming" for panel in view.state["panels"]))
        view.close()
        wait(run.done)
        assert run.cancelled()
        assert run not in mamba_nb.runs()
        wait(lambda: any(request.disconnected for request in server.chats))


def test_a_cell_run_again_stops_what_its_last_run_began(views):
    with ScriptedServer(Script(text="word " * 2000, itl_s=0.02), models=["one", "two"]) as server:
        view = views(backends(server))
        press(view, "run", prompt="Go on")
        wait(lambda: any(panel["state"] == "streaming" for panel in view.state["panels"]))
        view._stop_all()
        ended(view)
        assert view.run.cancelled()
        wait(lambda: any(request.disconnected for request in server.chats))


def test_differences_are_marked_when_both_have_answered(views):
    scripts = {"one": Script(text="The sky is blue."), "two": Script(text="The sky is red.")}
    with ScriptedServer(scripts=scripts) as server:
        view = views(backends(server))
        press(view, "differ", a="given-0", b="given-1")
        assert view.state["diff"]["says"] == "What differs is marked when both have answered."
        asked(view, "Why?")
        wait(lambda: view.state["diff"]["parts"])
        assert view.state["diff"]["parts"] == {
            "given-0": [(False, "The sky is "), (True, "blue"), (False, ".")],
            "given-1": [(False, "The sky is "), (True, "red"), (False, ".")],
        }
        press(view, "differ", a="given-0", b="given-0")
        assert view.state["diff"]["says"] == "Choose two panels."
        press(view, "differ", a="given-0", b="given-1", on=False)
        assert view.state["diff"]["parts"] == {}


@pytest.mark.parametrize(
    ("one", "other", "marked", "says"),
    [
        pytest.param("a b c", "a x c", ([(False, "a "), (True, "b"), (False, " c")],
                     [(False, "a "), (True, "x"), (False, " c")]), "67 % of the words are the same, in the same order.",
                     id="one word of three"),
        pytest.param("a  b", "a b", ([], []), "The two answers are the same, word for word.", id="blanks do not count"),
        pytest.param("", "a", ([], []), "There is nothing to mark: an answer is empty.", id="an empty answer"),
        pytest.param("a", "b", ([(True, "a")], [(True, "b")]), "0 % of the words are the same, in the same order.",
                     id="nothing is the same"),
        pytest.param("天気がいい", "天気が悪い", ([(False, "天気がい"), (True, "い")],
                     [(False, "天気が"), (True, "悪"), (False, "い")]),
                     "80 % of the words are the same, in the same order.", id="no blanks between words"),
        pytest.param("a " * 20_001, "a", ([], []), "Too long to mark word by word: more than 20,000 words.", id="long"),
    ],
)  # fmt: skip
def test_word_diff_by_hand(one, other, marked, says):
    first, second, said = word_diff(one, other)
    assert ((first, second), said) == (marked, says)


def test_a_copy_has_the_text_as_the_model_wrote_it(views, monkeypatch):
    with ScriptedServer(Script(text="**Bold** and <b>not</b>"), models=["one", "two"]) as server:
        view = asked(views(backends(server)), "Why?")
        sent: list[Any] = []
        monkeypatch.setattr(view, "send", sent.append)
        press(view, "copy", panel="given-1", token="t")
        press(view, "copy", panel="gone", token="t")
        assert sent == [{"kind": "text", "token": "t", "text": "**Bold** and <b>not</b>"}]


def test_the_plain_copy_has_every_prompt_and_no_key(server, views, monkeypatch):
    both = [OpenAICompatibleBackend(name, server.base_url, api_key="sk-very-secret") for name in ("one", "two")]
    view = views(both, ["a <b>", "c"])
    asked(view, "", all=True)
    wait(lambda: view._folded)
    assert view._folded.count('class="mn-panel') == 4
    assert "a &lt;b&gt;" in view._folded
    assert "sk-very-secret" not in view._folded + repr(view.get_state()) + repr(view)


@pytest.mark.parametrize(
    "message",
    [None, 1, [], {}, {"do": "nothing"}, {"do": "run", "prompt": None}, {"do": "step", "by": "x"}, {"do": "close"},
     {"do": "browse", "panel": ["x"]}, {"do": "run", "surprise": 1}],
)  # fmt: skip
def test_a_front_end_can_send_what_it_likes(server, views, message):
    view = views(backends(server))
    view._take(view, message, [])
    asked(view, "Hello")
    assert view.comparison.count("done") >= 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"models": [1]}, "Model 0 is int: a model is a name, a backend or a variant.", id="model"),
        pytest.param({"repeats": 0}, "repeats must be a whole number from 1; this is 0.", id="repeats"),
        pytest.param({"prompts": []}, "There are no prompts.", id="no prompts"),
        pytest.param({"template": "{a}"}, "column= and template= are for prompts in a DataFrame.", id="template"),
    ],
)
def test_wrong_arguments_are_refused_in_the_cell(arguments, message):
    with pytest.raises(BadInput, match=re.escape(message)):
        CompareView(**{"models": ["one", "two"], **arguments})
