"""Conversations with an agent: what the next turn knows after an answer, a failure, a stop; forks, usage, limits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic_ai import ModelMessagesTypeAdapter, RunContext

from mamba_nb import Agent
from mamba_nb._agent.conversation import closed
from mamba_nb.agent import AgentError
from mamba_nb.backends import OpenAICompatibleBackend
from mamba_nb.errors import BadInput, MambaError
from mamba_nb.records import TextDelta
from mamba_nb.testing import Script, ScriptedServer

LONG_S = 30.0


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def call(name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(Script(text="It is done.", prompt_tokens=10)) as running:
        yield running


@pytest.fixture
def backend(server: ScriptedServer) -> Iterator[OpenAICompatibleBackend]:
    with OpenAICompatibleBackend("scripted-model", server.base_url, max_retries=0) as made:
        yield made


def sent(server: ScriptedServer) -> list[tuple[str, Any]]:
    """The last request's messages, as roles and texts."""
    return [(message["role"], message.get("content")) for message in server.chats[-1].body["messages"]]


class TestTurns:
    def test_each_turn_knows_the_ones_before_it(self, server, backend):
        talk = Agent(backend, system="Be brief.").conversation()
        assert talk.ask("One").output == "It is done."
        talk.ask("Two")
        assert sent(server) == [
            ("system", "Be brief."), ("user", "One"), ("assistant", "It is done."), ("user", "Two"),
        ]  # fmt: skip
        assert len(talk) == 2 and len(talk.messages) == 4
        assert (talk.usage.requests, talk.usage.prompt_tokens, talk.usage.completion_tokens) == (2, 20, 6)
        assert repr(talk) == "<AgentConversation scripted-model · 2 turns>"

    def test_events_can_be_read_and_awaited(self, server, backend):
        talk = Agent(backend).conversation()
        texts = [event.text for event in talk.run_stream("One") if isinstance(event, TextDelta)]
        assert "".join(texts) == "It is done."

        async def main() -> str:
            return (await talk.run("Two")).output

        assert asyncio.run(main()) == "It is done." and len(talk) == 2

    def test_a_second_question_at_once_is_refused_with_the_way_round_it(self, server, backend):
        server.script = Script(never=True)
        talk = Agent(backend).conversation()
        run = talk.run("One")
        with pytest.raises(BadInput, match=r"fork\(\)"):
            talk.run("Two")
        assert "answering" in repr(talk)
        run.cancel()

    def test_a_fork_goes_on_alone(self, server, backend):
        talk = Agent(backend).conversation()
        talk.ask("One")
        other = talk.fork()
        other.ask("Two")
        assert (len(talk), len(other), len(talk.messages), len(other.messages)) == (1, 2, 2, 4)

    def test_one_begins_from_messages_that_were_kept(self, server, backend):
        agent = Agent(backend)
        first = agent.conversation()
        first.ask("One")
        kept = ModelMessagesTypeAdapter.dump_json(first.messages)
        agent.conversation(kept).ask("Two")
        assert [role for role, _ in sent(server)] == ["user", "assistant", "user"]
        with pytest.raises(BadInput, match="message_history"):
            agent.conversation("not json")

    def test_deps_hold_for_every_turn_and_a_turn_may_have_its_own(self, server, backend):
        seen: list[Any] = []

        def look(context: RunContext[Any]) -> str:
            """Look."""
            seen.append(context.deps)
            return "seen"

        talk = Agent(backend, tools=[look]).conversation(deps="all")
        for options in ({}, {"deps": "mine"}):
            server.enqueue(Script(tool_calls=[call("look")]))
            talk.ask("Go", **options)
        assert seen == ["all", "mine"]

    def test_it_shows_questions_and_answers_escaped(self, server, backend):
        server.script = Script(text="<script>x</script>")
        talk = Agent(backend).conversation()
        assert "Nothing has been asked yet" in talk._repr_mimebundle_()["text/html"]
        talk.ask("<b>One</b>")
        bundle = talk._repr_mimebundle_()
        assert "&lt;b&gt;One&lt;/b&gt;" in bundle["text/html"] and "<script>x" not in bundle["text/html"]
        assert "> <b>One</b>" in bundle["text/plain"]


class TestBrokenTurns:
    def test_a_turn_that_failed_is_taken_out_and_counts(self, server, backend):
        talk = Agent(backend).conversation()
        talk.ask("One")
        server.enqueue(Script(status=500))
        with pytest.raises(MambaError):
            talk.ask("Two")
        talk.ask("Three")
        assert [text for role, text in sent(server) if role == "user"] == ["One", "Three"]
        assert [result.status for result in talk.results] == ["done", "failed", "done"]
        assert talk.results[1].error and talk.usage.requests == 3

    def test_a_failure_after_tools_leaves_no_half_of_a_turn(self, server, backend):
        talk = Agent(backend, tools=[add]).conversation()
        server.enqueue(Script(tool_calls=[call("add", a=1, b=2)]), Script(status=500))
        with pytest.raises(MambaError):
            talk.ask("One")
        assert talk.messages == []
        assert talk.ask("Two").output == "It is done."

    def test_a_stop_in_a_tool_closes_the_call_and_the_turn(self, server, backend):
        server.enqueue(Script(tool_calls=[call("add", a=1, b=2), call("wait")]))
        entered, leave = threading.Event(), threading.Event()

        def wait() -> str:
            """Wait."""
            entered.set()
            leave.wait(LONG_S)
            return "late"

        talk = Agent(backend, tools=[add, wait]).conversation()
        run = talk.run("One")
        assert entered.wait(LONG_S)
        run.cancel()
        talk.ask("Two")
        leave.set()
        roles = sent(server)
        assert [role for role, _ in roles] == ["user", "assistant", "tool", "tool", "assistant", "user"]
        assert {text for role, text in roles if role == "tool"} <= {"3", "The call was interrupted; it has no result."}
        assert "late" not in str(roles) and roles[-2][1] == "I was stopped before I could answer."
        assert [result.status for result in talk.results] == ["stopped", "done"]

    def test_a_stop_in_an_answer_keeps_what_had_come(self, server, backend):
        server.enqueue(Script(text="One two three four", stall_s=LONG_S, stall_after=2))
        talk = Agent(backend).conversation()
        run = talk.run("Count")
        texts = (event.text for event in run if isinstance(event, TextDelta))
        assert [next(texts), next(texts)] == ["One", " two"]
        run.cancel()
        talk.ask("Go on")
        assert sent(server) == [("user", "Count"), ("assistant", "One two"), ("user", "Go on")]

    def test_a_stop_before_anything_came_leaves_no_trace(self, server, backend):
        server.enqueue(Script(never=True))
        talk = Agent(backend).conversation()
        run = talk.run("One")
        server.wait_for_requests(1, chats_only=True)
        run.cancel()
        talk.ask("Two")
        assert sent(server) == [("user", "Two")]

    def test_an_interrupt_leaves_a_conversation_that_goes_on(self, server, backend):
        import _thread

        server.enqueue(Script(never=True))
        talk = Agent(backend).conversation()

        def interrupt() -> None:
            server.wait_for_requests(1, chats_only=True)
            _thread.interrupt_main()

        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            talk.ask("One")
        assert talk.ask("Two").output == "It is done."

    def test_closing_a_turn_answers_every_call_once(self):
        from pydantic_ai.messages import ModelRequest, ModelResponse, ToolCallPart, ToolReturnPart, UserPromptPart

        calls = ModelResponse(parts=[ToolCallPart("f", {}, "1"), ToolCallPart("f", {}, "2")])
        done = ModelRequest(parts=[ToolReturnPart("f", "x", "1")], state="interrupted")
        for turn in ([calls], [calls, done]):
            messages = closed([ModelRequest(parts=[UserPromptPart("Go")]), *turn])
            assert [type(message) for message in messages] == [
                ModelRequest, ModelResponse, ModelRequest, ModelResponse,
            ]  # fmt: skip
            assert sorted(part.tool_call_id for part in messages[2].parts) == ["1", "2"]
            assert messages[2].state == "complete"
        assert closed([ModelRequest(parts=[UserPromptPart("Go")])]) == []


class TestLimits:
    @pytest.fixture
    def agent(self, server, backend):
        server.script = Script(tool_calls=[call("add", a=1, b=2)], prompt_tokens=100, completion_tokens=20)
        return Agent(backend, tools=[add])

    def test_requests(self, agent, server):
        with pytest.raises(AgentError, match="made 2 requests and came to no answer") as caught:
            agent.run_sync("Go", max_steps=2)
        assert "max_steps=" in str(caught.value) and len(server.chats) == 2
        assert len(caught.value.partial.tool_calls) == 2

    def test_tool_calls(self, agent, server):
        with pytest.raises(AgentError, match="a tool call too many, 3 in all: max_tool_calls allows 2") as caught:
            agent.run_sync("Go", max_tool_calls=2)
        assert [use.result for use in caught.value.partial.tool_calls] == [3, 3]
        assert caught.value.partial.status == "failed" and "too many" in caught.value.partial.error

    def test_tokens(self, agent, server):
        with pytest.raises(AgentError, match="used 240 tokens in 2 requests; max_total_tokens allows 200") as caught:
            agent.run_sync("Go", max_total_tokens=200)
        assert len(server.chats) == 2
        assert caught.value.partial.usage.total_tokens == 240

    def test_an_answer_that_came_is_kept_although_it_crossed_the_limit(self, server, backend):
        server.script = Script(text="Yes.", prompt_tokens=500)
        assert Agent(backend, max_total_tokens=10).run_sync("Go").output == "Yes."

    def test_where_nobody_counts_it_is_said(self, server, backend):
        server.enqueue(Script(tool_calls=[call("add", a=1, b=2)], usage="none"))
        result = Agent(backend, tools=[add], max_total_tokens=10).run_sync("Go")
        assert "counts too few" in result.notes[0]

    def test_a_run_may_lift_the_agents_limit(self, server, backend):
        server.enqueue(Script(tool_calls=[call("add", a=1, b=2)]))
        agent = Agent(backend, tools=[add], max_tool_calls=0)
        with pytest.raises(AgentError, match="max_tool_calls allows 0"):
            agent.run_sync("Go")
        server.enqueue(Script(tool_calls=[call("add", a=1, b=2)]))
        assert agent.run_sync("Go", max_tool_calls=None).output == "It is done."

    @pytest.mark.parametrize("wrong", [{"max_steps": 0}, {"max_tool_calls": -1}, {"max_total_tokens": 1.5}])
    def test_a_wrong_limit_is_refused_before_anything_is_sent(self, server, backend, wrong):
        with pytest.raises(BadInput, match=next(iter(wrong))):
            Agent(backend).run("Go", **wrong)
        with pytest.raises(BadInput, match=next(iter(wrong))):
            Agent(backend, **wrong)
        assert server.requests == []
