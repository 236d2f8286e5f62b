"""The same agent on several models: who called the right tool, with what, in how many steps; failures are data."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

import mamba_nb as mb
from mamba_nb import Agent, Run
from mamba_nb.backends import Fact, OpenAICompatibleBackend
from mamba_nb.compare.agents_expected import Expected, ExpectedCall, expectations
from mamba_nb.compare.agents_grid import AgentComparison
from mamba_nb.compare.engine import CellEvent, Engine
from mamba_nb.compare.plan import make_plan
from mamba_nb.errors import BadInput, RunStopped
from mamba_nb.records import TextDelta, ToolCallDelta
from mamba_nb.testing import Script, ScriptedServer

PROMPTS = ["What is 1 and 2?", "Say hi."]
EXPECT = [("add", {"a": 1, "b": 2}), []]


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def call(name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def caller(**arguments: Any) -> Any:
    """A model that always calls `add`, with these arguments, and then answers."""

    def plays(request: Any) -> Script:
        messages = request.body["messages"]
        if any(message["role"] == "tool" for message in messages):
            return Script(text="It is 3.", prompt_tokens=20, completion_tokens=4)
        if request.body.get("tools"):
            return Script(
                text="Let me see.", tool_calls=[call("add", **arguments)], prompt_tokens=10, completion_tokens=5
            )
        return Script(text="Hi.")

    return plays


MODELS = {"right": caller(a=1, b=2), "wrong": caller(a="one", b=2), "none": Script(text="I do not know.")}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(scripts=MODELS) as running:
        yield running


@pytest.fixture
def backends(server: ScriptedServer) -> Iterator[list[OpenAICompatibleBackend]]:
    made = [OpenAICompatibleBackend(name, server.base_url, max_retries=0) for name in MODELS]
    yield made
    for backend in made:
        backend.close()


def adder(backend: OpenAICompatibleBackend) -> Agent:
    return Agent(backend, tools=[add], system="Be brief.")


def compare(models: Any, prompts: Any = PROMPTS, **options: Any) -> AgentComparison:
    grid = mb.compare(models, prompts, live=False, **{"agent": adder, **options})
    assert isinstance(grid, AgentComparison)
    return grid


class TestColumns:
    @pytest.fixture
    def grid(self, backends) -> AgentComparison:
        return compare(backends, expect=EXPECT)

    def test_the_answers_and_what_was_called(self, grid):
        frame = grid.to_frame().set_index(["label", "prompt_id"])
        assert list(frame["text"]) == ["It is 3.", "It is 3.", "I do not know."] * 2
        assert list(frame.loc["right", "tools_called"]) == ["add", "add"]
        assert frame.loc[("right", 0), "calls"] == "add(a=1, b=2) -> 3"
        assert "failed" in frame.loc[("wrong", 0), "calls"]
        assert frame["tools_called"].isna().loc["none"].all()
        assert list(frame["tool_calls"]) == [1, 1, 0] * 2

    @pytest.mark.parametrize(
        ("column", "first", "second"),
        [
            ("right_tool", [True, True, False], [False, False, True]),
            ("right_arguments", [True, False, False], [None] * 3),
            ("valid_arguments", [True, False, None], [True, False, None]),
            ("steps", [2, 2, 1], [2, 2, 1]),
        ],
    )
    def test_what_was_right(self, grid, column, first, second):
        frame = grid.to_frame()
        for prompt_id, expected in enumerate((first, second)):
            values = frame.loc[frame["prompt_id"] == prompt_id, column]
            assert [None if pd.isna(value) else value for value in values] == expected

    def test_tokens_and_times_are_those_of_the_whole_run(self, grid):
        row = grid.to_frame().iloc[0]
        assert (row["prompt_tokens"], row["completion_tokens"]) == (30, 9)
        result = grid.result("right", 0)
        first, second = result.steps
        assert row["ttft_ms"] == pytest.approx(first.generation.ttft_ms)
        assert row["latency_s"] == pytest.approx(result.took_s - first.at_s)
        assert row["latency_s"] > first.generation.latency_s + second.generation.latency_s
        assert pd.isna(row["tpot_ms"]) and row["tools_s"] == pytest.approx(first.timing.tools_s)
        generation = grid.cells[0].generation
        assert list(generation.text_at_s) == sorted(generation.text_at_s)

    def test_the_summary_counts_and_the_wide_table_has_the_new_columns(self, grid):
        summary = grid.summary()
        assert list(summary["right_tool"]) == [0.5, 0.5, 0.5]
        assert list(summary["right_arguments"]) == [1.0, 0.0, 0.0]
        assert list(summary["steps_p50"]) == [2, 2, 1]
        assert grid.to_wide("right_tool")["none"].tolist() == [False, True]
        assert grid.to_wide()["right"].tolist() == ["It is 3."] * 2
        with pytest.raises(BadInput, match="Did you mean 'right_tool'"):
            grid.to_wide("right_tol")

    def test_it_is_shown_and_kept_like_any_comparison(self, grid, tmp_path):
        bundle = grid._repr_mimebundle_()
        assert "right tool" in bundle["text/html"] and "1 of 2" in bundle["text/html"]
        assert "right: right tool 1 of 2, right arguments 1 of 1, valid arguments 2 of 2" in bundle["text/plain"]
        assert repr(grid) == "<AgentComparison 3 models · 2 prompts · 6 done>"
        again = AgentComparison.load(grid.save(tmp_path / "grid.jsonl"))
        pd.testing.assert_frame_equal(again.to_frame(), grid.to_frame())
        with pytest.raises(BadInput, match="There is no run"):
            again.result("right", 0)

    def test_without_expectations_nothing_is_judged(self, backends):
        grid = compare(backends[:1], PROMPTS[0])
        assert grid.to_frame()["right_tool"].isna().all()
        assert "right tool" not in grid._repr_mimebundle_()["text/html"]


class TestWhatIsSent:
    def test_instructions_parameters_and_the_conversation(self, server, backends):
        conversation = [
            {"role": "system", "content": "In French."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Salut"},
            {"role": "user", "content": "And now?"},
        ]
        server.scripts["none"] = Script(text="Oui.")
        compare(backends[2:], [conversation], temperature=0.2, seed=7)
        body = server.chats[-1].body
        assert [(m["role"], m["content"]) for m in body["messages"]] == [
            ("system", "Be brief.\n\nIn French."), ("user", "Hello"), ("assistant", "Salut"), ("user", "And now?"),
        ]  # fmt: skip
        assert (body["temperature"], body["seed"]) == (0.2, 7)

    def test_variants_are_agents_under_other_conditions(self, server, backends):
        backend = backends[2]
        compare([mb.variant(backend, temperature=0.0), mb.variant(backend, temperature=1.0)], "Hi")
        asked = [body["temperature"] for body in (r.body for r in server.chats) if "tools" in body]
        assert sorted(asked) == [0.0, 1.0]

    def test_the_agents_own_parameters_hold_unless_the_comparison_gives_others(self, server, backends):
        compare(backends[2:], "Hi", agent=lambda backend: Agent(backend, temperature=0.4, top_p=0.5), top_p=0.9)
        body = server.chats[-1].body
        assert (body["temperature"], body["top_p"]) == (0.4, 0.9)

    def test_names_of_models_are_taken_too(self, server, monkeypatch):
        monkeypatch.setenv("MAMBA_MODEL_BACKEND__BASE_URL", server.base_url)
        assert compare(["right", "none"], PROMPTS[0], expect="add").to_frame()["right_tool"].tolist() == [True, False]


class TestFailures:
    def test_a_model_without_tools_is_a_column_of_failures(self, server, backends):
        with OpenAICompatibleBackend("none", server.base_url) as other:
            other.declared = {"supports_tools": Fact(False, "declared", "its template has none")}
            grid = compare([backends[0], other], expect=EXPECT)
        frame = grid.to_frame()
        assert frame["status"].tolist() == ["done", "failed"] * 2
        assert frame["error_type"].tolist()[1] == "ToolsNotSupported"
        assert frame["right_tool"].isna().tolist() == [False, True] * 2
        assert grid.summary()["failed"].tolist() == [0, 2]

    def test_a_run_that_fails_on_the_way_keeps_its_steps(self, server, backends):
        def breaking(backend: OpenAICompatibleBackend) -> Agent:
            def divide(a: int) -> float:
                """Divide by nothing."""
                return a / 0

            return Agent(backend, tools=[divide])

        server.scripts["none"] = lambda r: (
            Script(tool_calls=[call("divide", a=1)]) if r.body.get("tools") else Script(text="Hi.")
        )
        grid = compare(backends[2:], "Go", agent=breaking, expect="divide")
        row = grid.to_frame().iloc[0]
        assert (row["status"], row["error_type"], row["steps"], row["tools_called"]) == (
            "failed", "AgentError", 1, "divide",
        )  # fmt: skip
        assert "ZeroDivisionError: division by zero" in row["error"] and bool(row["right_tool"])
        assert grid.result("none").status == "failed"

    def test_a_limit_that_ends_a_run_is_a_failure_with_what_there_was(self, server, backends):
        grid = compare(backends[:1], "Go", agent=lambda backend: Agent(backend, tools=[add], max_steps=1))
        row = grid.to_frame().iloc[0]
        assert (row["status"], row["error_type"], row["tools_called"]) == ("failed", "AgentError", "add")

    def test_a_stop_keeps_what_was_finished_and_what_was_called(self, server, backends):
        entered, leave = threading.Event(), threading.Event()

        def slow_adder(backend: OpenAICompatibleBackend) -> Agent:
            def add(a: int, b: int) -> int:
                """Add."""
                entered.set()
                leave.wait(30)
                return a + b

            return Agent(backend, tools=[add])

        run = mb.start_compare([backends[2], backends[0]], "Go", agent=slow_adder, max_concurrency=1)
        assert entered.wait(30)
        run.cancel()
        with pytest.raises(RunStopped) as caught:
            run.result()
        leave.set()
        grid = caught.value.partial
        assert isinstance(grid, AgentComparison)
        assert grid.to_frame()["status"].tolist() == ["done", "stopped"]
        assert grid.result("right").tool_calls[0].result is None
        assert list(mb.runs()) == []


class TestLive:
    def test_the_events_of_each_run_are_stream_events_of_its_cell(self, backends):
        run = mb.start_compare(backends[:1], PROMPTS[0], agent=adder)
        events = [event.event for event in run if isinstance(event, CellEvent)]
        text = "".join(event.text for event in events if isinstance(event, TextDelta))
        assert text == "Let me see.\n\nIt is 3."
        (called,) = (event for event in events if isinstance(event, ToolCallDelta))
        assert (called.name, called.arguments) == ("add", '{"a": 1, "b": 2}')

    def test_the_panels_end_with_the_answer_and_the_call(self, backends):
        engine = Engine(make_plan(backends[:1], PROMPTS[0], agent=adder, params={}))
        Run(lambda _run: engine.run(), name="compare").result()
        answer = engine.panels[0].answer
        assert answer.generation.text == "It is 3."
        assert answer.generation.tool_calls[0].name == "add" and engine.panels[0].n_done == 1


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"agent": 3}, "must be a function from a backend"),
            ({"agent": lambda backend: None}, "gave a NoneType"),
            ({"agent": lambda backend: Agent("m", base_url="http://127.0.0.1:9/v1")}, "on another backend"),
            ({"expect": ["ad", None]}, "Did you mean 'add'"),
            ({"expect": ["add"]}, "each of the 2 prompts"),
            ({"expect": [3, None]}, "which is no call"),
            ({"expect": {7: "add"}}, "no prompt's id"),
            ({"agent": None, "expect": EXPECT}, "give agent= too"),
        ],
    )
    def test_it_is_refused_before_anything_is_sent(self, server, backends, options, says):
        with pytest.raises(BadInput, match=says):
            compare(backends, **options)
        assert server.chats == []

    def test_a_conversation_that_ends_with_the_assistant_is_refused(self, backends):
        with pytest.raises(BadInput, match="ends with the user"):
            compare(backends, [[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi"}]])


class TestExpectations:
    ADD = Expected(calls=(ExpectedCall(name="add", arguments={"a": 1}),))

    @pytest.mark.parametrize(
        "given", [("add", {"a": 1}), {"tool": "add", "arguments": {"a": 1}}, [("add", {"a": 1})], (add, {"a": 1})]
    )
    def test_the_forms_of_one_call(self, given):
        assert expectations([given, None], ["x", "y"], [0, 1]) == [self.ADD, None]

    def test_by_column_series_and_mapping(self):
        frame = pd.DataFrame({"prompt": ["x", "y"], "tool": ["add", None]}, index=["i", "j"])
        name = Expected(calls=(ExpectedCall(name="add"),))
        assert expectations("tool", frame, ["i", "j"]) == [name, None]
        assert expectations(frame["tool"], frame["prompt"], ["i", "j"]) == [name, None]
        assert expectations({"i": "add"}, frame, ["i", "j"]) == [name, None]
        with pytest.raises(BadInput, match="Did you mean 'tool'"):
            expectations("tol", frame, ["i", "j"])

    @pytest.mark.parametrize(
        ("want", "given", "right"),
        [
            ({"city": "paris "}, {"city": "Paris", "unit": "C"}, True),
            ({"n": 1}, {"n": 1.0}, True),
            ({"n": 1}, {"n": True}, False),
            ({"n": lambda n: n > 5}, {"n": 6}, True),
            ({"tags": ["A"]}, {"tags": ["a"]}, True),
            ({"at": {"x": 1}}, {"at": {"x": 1, "y": 2}}, False),
            ({"city": "Paris"}, {}, False),
            ({"city": "Paris"}, "no JSON", False),
        ],
    )
    def test_arguments_are_compared_by_meaning(self, want, given, right):
        from mamba_nb._agent.result import ToolUse
        from mamba_nb.compare.agents_expected import judged

        expected = Expected(calls=(ExpectedCall(name="f", arguments=want),))
        assert judged(expected, [ToolUse(step=1, name="f", arguments=given)])["right_arguments"] is right
