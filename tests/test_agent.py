"""Agents against a scripted server: what is sent, what the tools get, how runs end."""

from __future__ import annotations

import _thread
import asyncio
import json
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from pydantic_ai import ModelMessagesTypeAdapter, ModelRetry, RunContext, Tool

from mamba_nb import Agent, AgentSettings, run_sync, runs
from mamba_nb.agent import (
    AgentError,
    AgentResult,
    AgentUsage,
    StepStarted,
    ToolCalled,
    ToolReturned,
    ToolsClaimedMissing,
)
from mamba_nb.backends import Fact, OpenAICompatibleBackend
from mamba_nb.errors import (
    AuthenticationFailed,
    BackendClosed,
    BadInput,
    ContextOverflow,
    MambaError,
    ModelNotFound,
    RunStopped,
    ServerTimeout,
    ServerUnreachable,
    StreamInterrupted,
    ToolsNotSupported,
    WrongLoop,
)
from mamba_nb.records import ReasoningDelta, ReasoningEnded, TextDelta
from mamba_nb.testing import Script, ScriptedServer, closed_port

LONG_S = 30.0


class City(BaseModel):
    name: str
    people: int


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: The first one.
        b: The second one.
    """
    return a + b


def call(name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


ADD_TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers.",
        "parameters": {
            "type": "object",
            "properties": {
                "a": {"type": "integer", "description": "The first one."},
                "b": {"type": "integer", "description": "The second one."},
            },
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(Script(text="It is done.", prompt_tokens=10)) as running:
        yield running


@pytest.fixture
def backend(server: ScriptedServer) -> Iterator[OpenAICompatibleBackend]:
    with OpenAICompatibleBackend("scripted-model", server.base_url, max_retries=0) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    yield
    left = runs()
    left.cancel()
    assert list(left) == []


def settings_for(server: ScriptedServer, **options: Any) -> AgentSettings:
    return AgentSettings(model_backend={"base_url": server.base_url, "model": "scripted-model", **options})


def bodies(server: ScriptedServer) -> list[dict[str, Any]]:
    return [request.body for request in server.requests if request.method == "POST"]


def chain(error: BaseException) -> list[str]:
    """The modules of the error and of all that hangs on it."""
    found: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is not None and one not in found:
            found.append(one)
            left += [one.__cause__, one.__context__]
    return [type(one).__module__.partition(".")[0] for one in found]


class TestSettings:
    def test_the_settings_reach_the_wire(self, server):
        settings = settings_for(server, temperature=0.3, max_tokens=64)
        with Agent(settings=settings) as agent:
            assert agent.run_sync("Hello!").output == "It is done."
        assert bodies(server) == [
            {
                "model": "scripted-model",
                "messages": [{"role": "user", "content": "Hello!"}],
                "temperature": 0.3,
                "max_tokens": 64,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        ]

    def test_without_more_the_temperature_is_the_documented_0_7_and_no_max_tokens_are_sent(self, server):
        Agent(settings=settings_for(server)).run_sync("Hello!")
        assert bodies(server)[0]["temperature"] == 0.7
        assert "max_tokens" not in bodies(server)[0]

    def test_a_name_wins_over_the_settings_model_and_keeps_their_parameters(self, server):
        server.scripts["other/model:7b"] = Script(text="Other.")
        server.models = ("scripted-model", "other/model:7b")
        agent = Agent("other/model:7b", settings=settings_for(server, temperature=0.1, max_tokens=5), tools=[])
        assert agent.run_sync("Hello!").output == "Other."
        body = bodies(server)[0]
        assert (body["model"], body["temperature"], body["max_tokens"]) == ("other/model:7b", 0.1, 5)
        assert "tools" not in body

    def test_a_name_alone_takes_its_settings_from_the_environment(self, server, monkeypatch):
        monkeypatch.setenv("MAMBA_MODEL_BACKEND__BASE_URL", server.base_url)
        monkeypatch.setenv("MAMBA_MODEL_BACKEND__TEMPERATURE", "0.2")
        assert Agent("scripted-model", tools=[]).run_sync("Hello!").output == "It is done."
        assert bodies(server)[0]["temperature"] == 0.2

    def test_a_name_with_a_server_gets_the_settings_sampling_and_patience(self, server):
        agent = Agent(
            "vllm:scripted-model",
            settings=settings_for(server, temperature=0.4, max_tokens=9, timeout=7.0, max_retries=1),
            base_url=server.base_url,
        )
        agent.run_sync("Hello!")
        assert (agent.backend.server, agent.backend.timeout, agent.backend.max_retries) == ("vllm", 7.0, 1)
        assert (bodies(server)[0]["temperature"], bodies(server)[0]["max_tokens"]) == (0.4, 9)

    def test_an_option_wins_over_the_settings_and_a_run_over_both(self, server):
        agent = Agent("scripted-model", settings=settings_for(server, temperature=0.4), temperature=0.0, seed=7)
        agent.run_sync("Hello!")
        agent.run_sync("Hello!", seed=8, stop=["\n"])
        first, second = bodies(server)
        assert (first["temperature"], first["seed"], "stop" in first) == (0.0, 7, False)
        assert (second["temperature"], second["seed"], second["stop"]) == (0.0, 8, ["\n"])

    def test_a_backend_is_asked_with_its_own_parameters_and_nothing_added(self, server):
        with OpenAICompatibleBackend("scripted-model", server.base_url, top_p=0.9) as backend:
            Agent(backend).run_sync("Hello!")
        assert bodies(server)[0] == {
            "model": "scripted-model",
            "messages": [{"role": "user", "content": "Hello!"}],
            "top_p": 0.9,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def test_the_timeout_is_the_settings(self, server):
        server.script = Script(never=True)
        with pytest.raises(ServerTimeout, match=r"0\.2"):
            Agent(settings=settings_for(server, timeout=0.2)).run_sync("Hello!")

    @pytest.mark.parametrize("max_retries", [0, 2])
    def test_max_retries_are_the_settings(self, server, max_retries):
        server.script = Script(status=503, headers={"Retry-After": "0"})
        with pytest.raises(MambaError):
            Agent(settings=settings_for(server, max_retries=max_retries)).run_sync("Hello!")
        assert len(bodies(server)) == max_retries + 1

    def test_system_goes_first_and_is_not_kept_in_the_history(self, server):
        agent = Agent(settings=settings_for(server), system="Be brief.")
        first = agent.run_sync("One")
        agent.run_sync("Two", message_history=first)
        assert [message["role"] for message in bodies(server)[1]["messages"]] == [
            "system", "user", "assistant", "user",
        ]  # fmt: skip
        assert bodies(server)[1]["messages"][0]["content"] == "Be brief."

    def test_closing_an_agent_closes_the_backend_it_made_and_no_other(self, server, backend):
        with Agent(settings=settings_for(server)) as own:
            pass
        with pytest.raises(BackendClosed):
            own.run_sync("Hello!")
        with Agent(backend) as other:
            pass
        assert other.run_sync("Hello!").output == "It is done."


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            pytest.param({"tools_mode": "promted"}, "Did you mean 'prompted'", id="tools_mode"),
            pytest.param({"tools": add}, r"tools=\[get_weather\]", id="a tool that is no list"),
            pytest.param({"tools": ["add"]}, "A tool is a function", id="a tool's name"),
            pytest.param({"tools": [add, add]}, "add", id="one name twice"),
            pytest.param({"retries": -1}, "retries", id="negative retries"),
            pytest.param({"max_steps": 0}, "max_steps", id="no steps"),
            pytest.param({"timeout": 3.0}, "timeout is the backend's", id="a backend's option"),
            pytest.param({"temprature": 0.0}, "Did you mean 'temperature'", id="an unknown parameter"),
        ],
    )
    def test_a_wrong_argument_is_named_before_anything_is_sent(self, server, backend, arguments, says):
        with pytest.raises(BadInput, match=says):
            Agent(backend, **arguments)
        assert server.chats == []

    @pytest.mark.parametrize("model", [3, "", ["llama3.2"]])
    def test_a_model_is_a_name_or_a_backend(self, model):
        with pytest.raises(BadInput):
            Agent(model)

    @pytest.mark.parametrize("prompt", ["", "  ", None, 3, [], b"bytes"])
    def test_a_prompt_is_text_or_parts(self, server, backend, prompt):
        with pytest.raises(BadInput):
            Agent(backend).run(prompt)
        assert server.requests == []

    @pytest.mark.parametrize("history", [[{"role": "user", "content": "Hi"}], "not json", 3])
    def test_a_history_is_what_a_run_gave(self, server, backend, history):
        with pytest.raises(BadInput, match="message_history"):
            Agent(backend).run("Hello!", message_history=history)
        assert server.requests == []


class TestTools:
    @pytest.mark.parametrize("style", ["pieces", "whole", "no_ids"])
    def test_a_tool_is_described_called_and_its_result_sent_back(self, server, backend, style):
        server.enqueue(Script(tool_calls=[call("add", a=1, b=2)], tool_call_style=style))
        result = Agent(backend, tools=[add]).run_sync("What is 1 and 2?")
        assert result.output == "It is done."
        first, second = bodies(server)
        assert first["tools"] == [ADD_TOOL]
        assert first["tool_choice"] == "auto"
        user, assistant, tool = second["messages"]
        assert user == {"role": "user", "content": "What is 1 and 2?"}
        (made,) = assistant["tool_calls"]
        assert json.loads(made["function"]["arguments"]) == {"a": 1, "b": 2}
        assert tool == {"role": "tool", "tool_call_id": made["id"], "content": "3"}

    def test_the_result_keeps_each_call_each_reply_and_the_counts(self, server, backend):
        server.enqueue(Script(tool_calls=[call("add", a=1, b=2)], prompt_tokens=10, completion_tokens=5))
        result = Agent(backend, tools=[add]).run_sync("What is 1 and 2?")
        (used,) = result.tool_calls
        assert (used.step, used.name, used.arguments, used.result, used.error) == (1, "add", {"a": 1, "b": 2}, 3, None)
        assert used.took_s is not None and used.took_s >= 0
        assert [generation.text for generation in result.generations] == ["", "It is done."]
        assert result.usage == AgentUsage(requests=2, tool_calls=1, prompt_tokens=20, completion_tokens=8)
        first, second = result.timings
        assert (first.step, second.step) == (1, 2)
        assert first.ttft_ms is not None and first.ttft_text_ms is None and first.tools_s is not None
        assert second.ttft_text_ms is not None and second.tools_s is None
        assert repr(result).startswith("<AgentResult 'It is done.' · 2 requests · 1 tool call · 8 tokens · ")
        assert "step 1: add(a=1, b=2) -> 3" in result._repr_mimebundle_()["text/plain"]
        assert str(result) == "It is done."

    def test_calls_of_one_reply_run_side_by_side(self, server, backend):
        server.enqueue(Script(tool_calls=[call("meet", name="left"), call("meet", name="right")]))
        both = threading.Barrier(2)

        def meet(name: str) -> str:
            """Wait for the other one."""
            both.wait(LONG_S)
            return name.upper()

        result = Agent(backend, tools=[meet]).run_sync("Go")
        assert {used.result for used in result.tool_calls} == {"LEFT", "RIGHT"}
        assert {used.step for used in result.tool_calls} == {1}
        assert sorted(m["content"] for m in bodies(server)[1]["messages"] if m["role"] == "tool") == ["LEFT", "RIGHT"]

    def test_async_tools_run_on_the_loop_for_foreign_code_and_sync_ones_in_threads(self, server, backend):
        server.enqueue(Script(tool_calls=[call("where"), call("where_async")]))

        def where() -> str:
            """Which thread."""
            return threading.current_thread().name

        async def where_async() -> str:
            """Which thread."""
            return threading.current_thread().name

        result = Agent(backend, tools=[where, where_async]).run_sync("Go")
        assert [used.result for used in result.tool_calls] == ["mamba-nb-worker", "mamba-nb-foreign"]

    def test_a_tool_finds_the_deps_of_the_run(self, server, backend):
        server.enqueue(Script(tool_calls=[call("lookup", key="b")]))

        def lookup(context: RunContext[dict[str, int]], key: str) -> int:
            """Look a key up."""
            return context.deps[key]

        result = Agent(backend, tools=[lookup]).run_sync("Go", deps={"b": 42})
        assert result.tool_calls[0].result == 42
        assert list(bodies(server)[0]["tools"][0]["function"]["parameters"]["properties"]) == ["key"]

    def test_a_pydantic_ai_tool_is_taken_as_it_is(self, server, backend):
        server.enqueue(Script(tool_calls=[call("plus", a=2, b=3)]))
        agent = Agent(backend, tools=[Tool(add, name="plus", description="Sum.")])
        assert agent.run_sync("Go").tool_calls[0].result == 5
        assert bodies(server)[0]["tools"][0]["function"]["description"] == "Sum."
        assert repr(agent).endswith("tools plus>")

    def test_model_retry_tells_the_model_and_goes_on(self, server, backend):
        server.enqueue(Script(tool_calls=[call("find", name="x")]), Script(tool_calls=[call("find", name="y")]))

        def find(name: str) -> str:
            """Find it."""
            if name == "x":
                raise ModelRetry("There is no x.")
            return "found"

        result = Agent(backend, tools=[find]).run_sync("Go")
        assert [(used.result, used.error) for used in result.tool_calls] == [(None, "There is no x."), ("found", None)]
        assert "There is no x." in bodies(server)[1]["messages"][-1]["content"]
        assert result.output == "It is done."

    def test_wrong_arguments_are_sent_back_to_be_mended(self, server, backend):
        server.enqueue(Script(tool_calls=[call("add", a="one", b=2)]), Script(tool_calls=[call("add", a=1, b=2)]))
        result = Agent(backend, tools=[add]).run_sync("Go")
        refused, used = result.tool_calls
        assert refused.error is not None and "integer" in refused.error
        assert used.result == 3

    def test_an_ordinary_exception_of_a_tool_ends_the_run_as_it_is(self, server, backend):
        server.enqueue(Script(tool_calls=[call("divide", a=1)]))

        def divide(a: int) -> float:
            """Divide by nothing."""
            return a / 0

        run = Agent(backend, tools=[divide]).run("Go")
        with pytest.raises(ZeroDivisionError):
            run.result(LONG_S)
        assert run.partial.tool_calls[0].error == "ZeroDivisionError: division by zero"
        assert len(bodies(server)) == 1

    def test_of_two_tools_at_once_the_one_that_fails_ends_the_run_and_the_other(self, server, backend):
        server.enqueue(Script(tool_calls=[call("wait"), call("fail")]))
        cancelled = threading.Event()

        async def wait() -> None:
            """Wait."""
            try:
                await asyncio.sleep(LONG_S)
            finally:
                cancelled.set()

        def fail() -> None:
            """Fail."""
            raise LookupError("no such thing")

        run = Agent(backend, tools=[wait, fail]).run("Go")
        with pytest.raises(LookupError, match="no such thing"):
            run.result(LONG_S)
        assert cancelled.wait(LONG_S)
        assert all(used.error is not None for used in run.partial.tool_calls)

    def test_a_call_of_an_unknown_tool_is_sent_back(self, server, backend):
        server.enqueue(Script(tool_calls=[call("subtract", a=1, b=2)]))
        result = Agent(backend, tools=[add]).run_sync("Go")
        assert "subtract" in bodies(server)[1]["messages"][-1]["content"]
        assert result.tool_calls[0].error is not None

    def test_a_sync_tool_may_run_another_agent(self, server, backend):
        server.enqueue(Script(tool_calls=[call("ask_other", question="Why?")]), Script(text="Inner."))
        inner = Agent(backend)

        def ask_other(question: str) -> str:
            """Ask another agent."""
            return inner.run_sync(question).output

        result = Agent(backend, tools=[ask_other]).run_sync("Go")
        assert (result.tool_calls[0].result, result.output) == ("Inner.", "It is done.")

    def test_an_async_tool_awaits_another_agent_and_is_told_so(self, server, backend):
        server.enqueue(Script(tool_calls=[call("blocking"), call("awaiting")]), Script(text="Inner."))
        inner = Agent(backend)
        said: list[str] = []

        async def blocking() -> str:
            """Block."""
            with pytest.raises(WrongLoop) as caught:
                inner.run_sync("Why?")
            said.append(str(caught.value))
            return "refused"

        async def awaiting() -> str:
            """Await."""
            return (await inner.run("Why?")).output

        result = Agent(backend, tools=[blocking, awaiting]).run_sync("Go")
        assert [used.result for used in result.tool_calls] == ["refused", "Inner."]
        assert "await" in said[0]

    def test_endless_calling_ends_with_what_was_tried(self, server, backend):
        server.script = Script(tool_calls=[call("add", a=1, b=2)])
        with pytest.raises(AgentError, match="made 3 requests") as caught:
            Agent(backend, tools=[add], max_steps=3).run_sync("Go")
        assert len(bodies(server)) == 3
        partial = caught.value.partial
        assert partial is not None and partial.status == "failed" and partial.output is None
        assert len(partial.tool_calls) == 3 and len(partial.generations) == 3


class TestRefusedTools:
    @pytest.mark.parametrize("source", ["declared", "verified"])
    def test_a_known_no_is_refused_with_its_reason_and_remedy(self, server, source):
        with OpenAICompatibleBackend("scripted-model", server.base_url) as backend:
            backend.declared = {"supports_tools": Fact(False, source, "the template has none")}
            with pytest.raises(ToolsNotSupported, match="the template has none") as caught:
                Agent(backend, tools=[add])
            assert 'tools_mode="prompted"' in str(caught.value)
            assert Agent(backend).run_sync("Hello!").output == "It is done."
            Agent(backend, tools=[add], tools_mode="prompted")

    def test_a_claimed_no_warns_and_sends(self, server):
        server.models = ("llama3.2",)
        server.enqueue(Script(tool_calls=[call("add", a=1, b=2)]))
        with pytest.warns(ToolsClaimedMissing, match="built-in table") as caught:
            agent = Agent("llama3.2", settings=settings_for(server), tools=[add])
        assert caught[0].filename == __file__
        assert agent.run_sync("Go").tool_calls[0].result == 3

    def test_without_tools_nothing_warns(self, server):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Agent("llama3.2", settings=settings_for(server), tools=[])

    def test_what_becomes_known_later_is_refused_at_the_next_run(self, server, backend):
        agent = Agent(backend, tools=[add])
        agent.run_sync("Hello!")
        backend.declared = {"supports_tools": Fact(False, "verified", "a probe")}
        with pytest.raises(ToolsNotSupported):
            agent.run("Hello!")


class TestErrors:
    def test_nothing_listening_is_server_unreachable_alone(self):
        with closed_port() as place:
            agent = Agent("m", base_url=f"{place.root}/v1", max_retries=0)
            with pytest.raises(ServerUnreachable) as caught:
                agent.run_sync("Hello!")
        assert "pydantic_ai" not in chain(caught.value)

    def test_a_model_the_server_does_not_have_is_model_not_found_with_what_it_has(self, server):
        agent = Agent("scripted-modle", settings=settings_for(server, max_retries=0))
        with pytest.raises(ModelNotFound, match="Did you mean 'scripted-model'"):
            agent.run_sync("Hello!")

    def test_a_context_that_overflows_says_so(self, server, backend):
        server.script = Script(
            status=400,
            error_body={
                "error": {
                    "message": "This model's maximum context length is 128 tokens. However, you requested 300 tokens.",
                    "type": "BadRequestError",
                    "code": 400,
                }
            },
        )
        with pytest.raises(ContextOverflow) as caught:
            Agent(backend).run_sync("Hello!")
        assert "pydantic_ai" not in chain(caught.value)

    def test_a_wrong_key_is_authentication_failed_and_shows_none(self):
        with ScriptedServer(api_key="right-key") as server:
            agent = Agent("scripted-model", base_url=server.base_url, api_key="wrong-key-123", max_retries=0)
            with pytest.raises(AuthenticationFailed) as caught:
                agent.run_sync("Hello!")
        assert "wrong-key-123" not in f"{caught.value}{agent!r}{agent.run!r}"

    def test_a_stream_cut_in_the_middle_keeps_what_came(self, server, backend):
        server.script = Script(text="One two three four", fault="cut")
        run = Agent(backend).run("Hello!")
        with pytest.raises(StreamInterrupted):
            run.result(LONG_S)
        (generation,) = run.partial.generations
        assert (generation.status, generation.text) == ("failed", "One two")

    def test_a_failure_in_a_later_step_keeps_the_earlier_ones(self, server, backend):
        server.enqueue(Script(tool_calls=[call("add", a=1, b=2)]), Script(status=500))
        run = Agent(backend, tools=[add]).run("Go")
        with pytest.raises(MambaError):
            run.result(LONG_S)
        assert run.partial.tool_calls[0].result == 3
        assert [generation.status for generation in run.partial.generations] == ["done", "failed"]

    def test_an_error_of_ours_from_a_tool_stays_what_it_is(self, server, backend):
        server.enqueue(Script(tool_calls=[call("ask_gone")]))

        def ask_gone() -> str:
            """Ask a server that is gone."""
            with closed_port() as place:
                return OpenAICompatibleBackend("m", f"{place.root}/v1", max_retries=0).ask("Hi").text

        with pytest.raises(ServerUnreachable):
            Agent(backend, tools=[ask_gone]).run_sync("Go")

    def test_a_call_cut_by_max_tokens_says_so(self, server, backend):
        server.script = Script(
            tool_calls=[{"name": "add", "arguments": '{"a": 1, "b'}], finish_reason="length", tool_call_style="whole"
        )
        with pytest.raises(AgentError, match="cut before it was whole") as caught:
            Agent(backend, tools=[add], retries=0).run_sync("Go")
        assert "max_tokens" in str(caught.value)
        assert chain(caught.value)[1] == "pydantic_ai"


class TestStop:
    def test_cancelling_in_the_middle_of_an_answer_hangs_up_on_the_server(self, server, backend):
        server.script = Script(text="One two three four", stall_s=LONG_S, stall_after=2)
        run = Agent(backend).run("Hello!")
        texts = (event.text for event in run if isinstance(event, TextDelta))
        assert [next(texts), next(texts)] == ["One", " two"]
        run.cancel()
        server.wait_for_disconnects()
        with pytest.raises(RunStopped) as caught:
            run.result(LONG_S)
        (generation,) = caught.value.partial.generations
        assert (generation.status, generation.text) == ("stopped", "One two")

    def test_cancelling_in_the_middle_of_a_sync_tool_does_not_wait_for_it(self, server, backend):
        server.enqueue(Script(tool_calls=[call("wait")]))
        entered, leave = threading.Event(), threading.Event()

        def wait() -> str:
            """Wait."""
            entered.set()
            leave.wait(LONG_S)
            return "late"

        run = Agent(backend, tools=[wait]).run("Go")
        assert entered.wait(LONG_S)
        assert run.state == "calling wait"
        run.cancel()
        with pytest.raises(RunStopped) as caught:
            run.result(LONG_S)
        assert run.number not in {left.number for left in runs()}
        leave.set()
        partial = caught.value.partial
        assert isinstance(partial, AgentResult) and partial.status == "stopped"
        assert (partial.tool_calls[0].name, partial.tool_calls[0].result) == ("wait", None)
        assert len(partial.messages) >= 2
        assert len(bodies(server)) == 1

    def test_cancelling_an_async_tool_cancels_it(self, server, backend):
        server.enqueue(Script(tool_calls=[call("wait")]))
        entered, cancelled = threading.Event(), threading.Event()

        async def wait() -> str:
            """Wait."""
            entered.set()
            try:
                await asyncio.sleep(LONG_S)
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return "late"

        run = Agent(backend, tools=[wait]).run("Go")
        assert entered.wait(LONG_S)
        run.cancel()
        assert cancelled.wait(LONG_S)

    def test_cancelling_reaches_the_agent_that_a_tool_runs(self, server, backend):
        server.enqueue(Script(tool_calls=[call("ask_other")]), Script(never=True))
        inner = Agent(backend)

        def ask_other() -> str:
            """Ask another agent."""
            return inner.run_sync("Why?").output

        run = Agent(backend, tools=[ask_other]).run("Go")
        server.wait_for_requests(2, chats_only=True)
        run.cancel()
        server.wait_for_disconnects()

    def test_an_interrupt_of_run_sync_cancels_and_carries_what_there_was(self, server, backend):
        server.enqueue(Script(tool_calls=[call("add", a=1, b=2)]), Script(never=True))
        agent = Agent(backend, tools=[add])

        def interrupt() -> None:
            server.wait_for_requests(2, chats_only=True)
            _thread.interrupt_main()

        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt) as caught:
            agent.run_sync("Go")
        assert caught.value.partial.tool_calls[0].result == 3  # type: ignore[attr-defined]
        server.wait_for_disconnects()
        assert agent.run_sync("Hello!").output == "It is done."

    def test_a_stuck_sync_tool_does_not_hold_up_the_interpreters_exit(self, server):
        script = f"""
            import threading
            from mamba_nb import Agent
            from mamba_nb.backends import OpenAICompatibleBackend

            entered = threading.Event()

            def stuck() -> str:
                "Never return."
                entered.set()
                threading.Event().wait()

            agent = Agent(OpenAICompatibleBackend("scripted-model", {server.base_url!r}), tools=[stuck])
            run = agent.run("Go")
            entered.wait()
            print("leaving")
        """
        server.enqueue(Script(tool_calls=[call("stuck")]))
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stdout == "leaving\n"


class TestStreaming:
    def test_events_come_in_order_on_one_clock(self, server, backend):
        server.enqueue(Script(reasoning="Hm so", tool_calls=[call("add", a=1, b=2)]))
        events = list(Agent(backend, tools=[add]).run_stream("Go"))
        kinds = [type(event).__name__ for event in events]
        assert kinds == [
            "StepStarted", "ReasoningDelta", "ReasoningDelta", "ToolCalled", "ToolReturned",
            "StepStarted", "TextDelta", "TextDelta", "TextDelta",
        ]  # fmt: skip
        stamps = [event.at_s for event in events]
        assert stamps == sorted(stamps) and stamps[0] > 0
        called, returned = events[3], events[4]
        assert isinstance(called, ToolCalled) and isinstance(returned, ToolReturned)
        assert (called.name, called.arguments, called.step) == ("add", {"a": 1, "b": 2}, 1)
        assert (returned.id, returned.result, returned.error) == (called.id, 3, None)
        assert isinstance(events[5], StepStarted) and events[5].step == 2

    def test_text_is_given_as_it_comes_without_waiting_for_more(self, server, backend):
        server.script = Script(text="One two", stall_s=LONG_S, stall_after=1)
        with Agent(backend).run_stream("Go") as run:
            assert next(event.text for event in run if isinstance(event, TextDelta)) == "One"

    def test_a_run_works_under_asyncio(self, server, backend):
        agent = Agent(backend)

        async def main() -> tuple[str, str]:
            run = agent.run_stream("Go")
            text = "".join([event.text async for event in run if isinstance(event, TextDelta)])
            return text, (await run).output

        assert asyncio.run(main()) == ("It is done.", "It is done.")
        assert run_sync(agent.run("Go")).output == "It is done."

    def test_reasoning_that_shows_only_by_its_end_is_taken_back(self, server, backend):
        server.script = Script(reasoning="Hm so", text="Yes.", reasoning_field="think_close_only")
        run = Agent(backend).run_stream("Go")
        events = list(run)
        (place,) = (i for i, event in enumerate(events) if isinstance(event, ReasoningEnded))
        before, after = (
            "".join(event.text for event in part if isinstance(event, TextDelta))
            for part in (events[:place], events[place:])
        )
        assert (before, after) == ("Hm so", "Yes.")
        assert run.result().output == "Yes."
        assert run.result().generations[0].reasoning.strip() == "Hm so"

    @pytest.mark.parametrize(("style", "sent_back"), [("vllm", {"reasoning": "Hm so"}), (None, {})])
    def test_reasoning_goes_back_only_where_the_servers_field_is_known(self, server, style, sent_back):
        server.enqueue(Script(reasoning="Hm so", tool_calls=[call("add", a=1, b=2)]))
        with OpenAICompatibleBackend("scripted-model", server.base_url, server=style) as backend:
            run = Agent(backend, tools=[add]).run("Go")
            assert "".join(event.text for event in run if isinstance(event, ReasoningDelta)) == "Hm so"
        assistant = bodies(server)[1]["messages"][1]
        assert {name: assistant[name] for name in assistant if name not in ("role", "content", "tool_calls")} == (
            sent_back
        )


class TestHistory:
    @pytest.mark.parametrize("form", ["result", "messages", "json", "python"])
    def test_a_conversation_goes_on_from_what_a_run_gave(self, server, backend, form):
        agent = Agent(backend, tools=[add])
        server.enqueue(Script(tool_calls=[call("add", a=1, b=2)]))
        first = agent.run_sync("One")
        handed: Any = {
            "result": lambda: first,
            "messages": lambda: first.messages,
            "json": lambda: ModelMessagesTypeAdapter.dump_json(first.messages),
            "python": lambda: json.loads(ModelMessagesTypeAdapter.dump_json(first.messages)),
        }[form]()
        second = agent.run_sync("Two", message_history=handed)
        assert [message["role"] for message in bodies(server)[-1]["messages"]] == [
            "user", "assistant", "tool", "assistant", "user",
        ]  # fmt: skip
        assert len(first.messages) == len(first.new_messages) == 4
        assert len(second.messages) == 6 and len(second.new_messages) == 2
        assert second.tool_calls == () and second.usage.requests == 1

    def test_a_stopped_run_can_be_gone_on_from(self, server, backend):
        server.enqueue(Script(tool_calls=[call("wait")]))
        entered, leave = threading.Event(), threading.Event()

        def wait() -> str:
            """Wait."""
            entered.set()
            leave.wait(LONG_S)
            return "late"

        agent = Agent(backend, tools=[wait])
        run = agent.run("Go")
        assert entered.wait(LONG_S)
        run.cancel()
        leave.set()
        with pytest.raises(RunStopped) as caught:
            run.result(LONG_S)
        assert agent.run_sync("And now?", message_history=caught.value.partial).output == "It is done."

    def test_a_prompt_mixes_text_and_images(self, server, backend, tmp_path):
        picture = tmp_path / "dot.png"
        picture.write_bytes(b"\x89PNG\r\n\x1a\nrest")
        Agent(backend).run_sync(["What is this?", picture, {"image_url": "http://127.0.0.1/cat.png"}])
        text, image, address = bodies(server)[0]["messages"][0]["content"]
        assert text == {"type": "text", "text": "What is this?"}
        assert image["image_url"]["url"] == "data:image/png;base64,iVBORw0KGgpyZXN0"
        assert address["image_url"]["url"] == "http://127.0.0.1/cat.png"


class TestStructuredOutput:
    PARIS = '{"name": "Paris", "people": 2100000}'

    @pytest.mark.parametrize("style", ["ollama", "vllm", "lmstudio", "llamacpp"])
    def test_a_server_that_holds_schemas_gets_the_schema(self, server, style):
        server.script = Script(text=self.PARIS)
        with OpenAICompatibleBackend("scripted-model", server.base_url, server=style) as backend:
            result = Agent(backend, output_type=City).run_sync("Paris")
        assert result.output == City(name="Paris", people=2100000)
        (body,) = bodies(server)
        assert body["response_format"] == {
            "type": "json_schema",
            "json_schema": {
                "name": "City",
                "schema": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
                    "required": ["name", "people"],
                    "additionalProperties": False,
                },
            },
        }
        assert "tools" not in body

    def test_an_unknown_server_is_asked_who_it_is_and_else_gets_an_output_tool(self, server, backend):
        server.script = Script(tool_calls=[call("final_result", name="Paris", people=2100000)])
        result = Agent(backend, output_type=City).run_sync("Paris")
        assert result.output == City(name="Paris", people=2100000)
        assert result.tool_calls == ()
        assert [request.path for request in server.requests] == ["/v1/models", "/v1/chat/completions"]
        (body,) = bodies(server)
        assert body["tool_choice"] == "required"
        assert [tool["function"]["name"] for tool in body["tools"]] == ["final_result"]

    def test_a_server_known_by_its_list_of_models_gets_the_schema(self):
        with (
            ScriptedServer(Script(text=self.PARIS), style="vllm") as server,
            OpenAICompatibleBackend("scripted-model", server.base_url) as backend,
        ):
            assert Agent(backend, output_type=City).run_sync("Paris").output.name == "Paris"
            assert "response_format" in bodies(server)[0]

    def test_with_tools_the_answer_is_a_tool_too_since_a_grammar_leaves_no_room_for_calls(self, server):
        server.enqueue(
            Script(tool_calls=[call("add", a=1, b=2)]),
            Script(tool_calls=[call("final_result", name="Paris", people=3)]),
        )
        with OpenAICompatibleBackend("scripted-model", server.base_url, server="vllm") as backend:
            result = Agent(backend, output_type=City, tools=[add]).run_sync("Paris")
        assert result.output == City(name="Paris", people=3)
        assert [used.name for used in result.tool_calls] == ["add"]
        assert all("response_format" not in body for body in bodies(server))

    def test_without_tools_and_schemas_the_schema_goes_into_the_prompt(self, server):
        server.script = Script(text=self.PARIS)
        with OpenAICompatibleBackend("scripted-model", server.base_url) as backend:
            backend.declared = {
                "supports_tools": Fact(False, "verified", "a probe"),
                "supports_json_schema": Fact(False, "verified", "a probe"),
            }
            assert Agent(backend, output_type=City).run_sync("Paris").output.people == 2100000
        assert '"people"' in bodies(server)[0]["messages"][0]["content"]

    def test_a_wrong_answer_is_sent_back_to_be_mended(self, server):
        server.enqueue(Script(text='{"name": "Paris", "people": "many"}'))
        server.script = Script(text=self.PARIS)
        with OpenAICompatibleBackend("scripted-model", server.base_url, server="vllm") as backend:
            result = Agent(backend, output_type=City).run_sync("Paris")
        assert result.output.people == 2100000
        assert result.usage.requests == 2
        assert bodies(server)[1]["messages"][-1]["role"] == "user"

    def test_answers_that_stay_wrong_are_an_agent_error_with_the_replies(self, server):
        server.script = Script(text="I would rather not.")
        with (
            OpenAICompatibleBackend("scripted-model", server.base_url, server="vllm") as backend,
            pytest.raises(AgentError, match="scripted-model gave no usable answer") as caught,
        ):
            Agent(backend, output_type=City, retries=2).run_sync("Paris")
        assert len(bodies(server)) == 3
        assert [g.text for g in caught.value.partial.generations] == ["I would rather not."] * 3
        assert "retries=" in str(caught.value)

    def test_an_answer_cut_by_max_tokens_says_so(self, server):
        server.script = Script(text='{"name": "Pa', finish_reason="length")
        with (
            OpenAICompatibleBackend("scripted-model", server.base_url, server="vllm") as backend,
            pytest.raises(AgentError, match="cut before it was whole"),
        ):
            Agent(backend, output_type=City).run_sync("Paris")

    def test_other_output_types_are_pydantic_ais(self, server):
        with OpenAICompatibleBackend("scripted-model", server.base_url, server="vllm") as backend:
            server.script = Script(text='{"response": "left"}')
            assert Agent(backend, output_type=Literal["left", "right"]).run_sync("Where?").output == "left"


def test_importing_the_module_loads_no_pydantic_ai():
    code = (
        "import sys, mamba_nb.agent; "
        "print([name for name in ('pydantic_ai', 'openai', 'pandas', 'httpx2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_a_result_shows_terminal_escapes_instead_of_obeying_them(server, backend):
    server.script = Script(text="\x1b[31mred")
    shown = Agent(backend).run_sync("Hello!")._repr_mimebundle_()["text/plain"]
    assert "\x1b" not in shown and "\\x1b[31mred" in shown
