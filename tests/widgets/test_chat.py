"""The chat without a browser: what is sent, what is shown, what is kept; against a scripted server."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from mamba_nb import Agent, runs
from mamba_nb.backends import OpenAICompatibleBackend
from mamba_nb.errors import BadInput, RunStopped, ServerUnreachable
from mamba_nb.testing import LoggedRequest, Script, ScriptedServer, closed_port, words
from mamba_nb.widgets._base import MambaWidget
from mamba_nb.widgets.chat import ChatView

KEY = "sk-0123456789abcdef"
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def answers(request: LoggedRequest) -> Script:
    """Says what was asked: the last question in capitals."""
    return Script(text=str(request.prompt).upper(), prompt_tokens=7)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(answers, style="ollama", models=["m"], context_length=4096) as running:
        yield running


@pytest.fixture
def backend(server: ScriptedServer) -> Iterator[OpenAICompatibleBackend]:
    with OpenAICompatibleBackend("m", server.base_url, max_retries=0) as made:
        yield made


@pytest.fixture
def made() -> Iterator[Callable[..., ChatView]]:
    """Makes chats that are closed after the test."""
    chats: list[ChatView] = []

    def make(*args: Any, **kwargs: Any) -> ChatView:
        chats.append(ChatView(*args, **kwargs))
        until(lambda: not list(runs()))  # what it asks the server first
        return chats[-1]

    yield make
    for chat in chats:
        chat.stop()
    until(lambda: not list(runs()))  # before the server goes
    for chat in chats:
        chat.close()


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    yield
    until(lambda: not list(runs()))


def until(true: Callable[[], Any], most_s: float = 30) -> None:
    deadline = time.monotonic() + most_s
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def do(chat: ChatView, **message: Any) -> None:
    """What the front end sends."""
    chat._take(None, message, [])


def ended(chat: ChatView) -> None:
    until(lambda: not chat.state["running"])


def said(chat: ChatView, text: str) -> None:
    """Ask and wait until the answer is shown."""
    chat.send(text).result(30)
    ended(chat)


def chats_of(server: ScriptedServer) -> list[list[dict[str, Any]]]:
    return [request.body["messages"] for request in server.requests if request.path.endswith("/chat/completions")]


def panels(chat: ChatView, kind: str) -> list[dict[str, Any]]:
    return [panel for panel in chat.state["panels"] if panel["kind"] == kind]


class TestConversation:
    def test_a_question_from_the_front_end_is_sent_shown_and_kept(self, server, backend, made):
        chat = made(backend, system="Be brief.", temperature=0.5)
        do(chat, do="send", text="hello", token="t1", system="Be brief.", turn=None)
        ended(chat)

        assert chat.state["heard"] == ["t1", True]
        assert [(panel["kind"], panel.get("text"), panel.get("html")) for panel in chat.state["panels"]] == [
            ("question", "hello", None),
            ("answer", None, "<p>HELLO</p>\n"),
        ]
        assert panels(chat, "answer")[0]["state"] == "done"
        assert chat.messages == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "HELLO"},
        ]
        assert chat.to_messages(system=False) == chat.messages[1:]
        assert [generation.text for generation in chat.generations] == ["HELLO"]
        body = next(
            request.body for request in server.requests if request.method == "POST" and "messages" in request.body
        )
        assert (body["temperature"], body["stream"]) == (0.5, True)
        assert repr(chat) == "<ChatView m · ollama · 1 question>"

    def test_each_question_goes_with_all_that_was_said_before(self, server, backend, made):
        chat = made(backend)
        said(chat, "one")
        said(chat, "two")
        assert chats_of(server)[-1] == [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "ONE"},
            {"role": "user", "content": "two"},
        ]

    def test_the_run_gives_the_events_and_the_generation(self, backend, made):
        run = made(backend).send("one two")
        assert "".join(getattr(event, "text", "") for event in run) == "ONE TWO"
        assert run.result().text == "ONE TWO"

    def test_a_conversation_goes_on_where_another_ended(self, server, backend, made):
        first = made(backend, system="Be brief.")
        said(first, "one")
        second = made(backend, messages=first.messages)
        assert second.messages == first.messages
        assert second.system == "Be brief."
        assert panels(second, "answer")[0]["figures"] == []  # nothing was measured
        assert second.generations == ()
        said(second, "two")
        assert [message["content"] for message in chats_of(server)[-1]] == ["Be brief.", "one", "ONE", "two"]

    def test_what_is_handed_out_is_a_copy(self, backend, made):
        chat = made(backend)
        said(chat, "one")
        chat.messages[0]["content"] = "changed"
        chat.messages.clear()
        assert chat.messages[0] == {"role": "user", "content": "one"}

    def test_two_chats_on_one_backend_keep_apart(self, backend, made):
        left, right = made(backend), made(backend)
        runs_of_both = [left.send("left"), right.send("right")]
        assert [run.result(30).text for run in runs_of_both] == ["LEFT", "RIGHT"]
        assert [message["content"] for message in left.messages] == ["left", "LEFT"]
        assert [message["content"] for message in right.messages] == ["right", "RIGHT"]

    def test_the_system_prompt_of_the_field_holds_from_the_next_question_on(self, server, backend, made):
        chat = made(backend, system="Old.")
        do(chat, do="system", text="New.")
        assert chat.system == chat.state["system"] == "New."
        said(chat, "one")
        assert chats_of(server)[-1][0] == {"role": "system", "content": "New."}
        do(chat, do="send", text="two", token="t", system="  ")
        ended(chat)
        assert chat.system is None
        assert [message["role"] for message in chats_of(server)[-1]] == ["user", "assistant", "user"]

    def test_a_question_with_an_image_keeps_it_when_it_is_edited(self, server, backend, made):
        chat = made(backend)
        said(chat, [{"type": "text", "text": "what"}, {"image_url": PIXEL}])
        assert panels(chat, "question")[0]["images"] == 1
        chat.edit(1, "where").result(30)
        image = {"type": "image_url", "image_url": {"url": PIXEL}}
        assert chats_of(server)[-1] == [{"role": "user", "content": [{"type": "text", "text": "where"}, image]}]


class TestEditing:
    def test_an_edit_takes_away_what_came_after_and_undo_brings_it_back(self, server, backend, made):
        chat = made(backend)
        for text in ("one", "two", "three"):
            said(chat, text)
        whole, shown = chat.messages, chat.state["panels"]

        do(chat, do="send", text="zwei", token="t", turn=panels(chat, "question")[1]["turn"])
        ended(chat)
        assert [message["content"] for message in chat.messages] == ["one", "ONE", "zwei", "ZWEI"]
        assert [message["content"] for message in chats_of(server)[-1]] == ["one", "ONE", "zwei"]
        assert chat.state["undo"] == "bring back 2 questions and their answers"

        do(chat, do="undo")
        assert chat.messages == whole
        assert chat.state["panels"] == shown
        assert chat.state["undo"] is None

    def test_undo_stops_an_answer_that_is_under_way(self, server, backend, made):
        chat = made(backend)
        said(chat, "one")
        server.script = Script(text=words(1000), itl_s=0.05)
        run = chat.edit(1, "two")
        until(lambda: panels(chat, "answer")[0]["state"] == "streaming")
        chat.undo()
        with pytest.raises(RunStopped):
            run.result(10)
        assert [message["content"] for message in chat.messages] == ["one", "ONE"]
        assert chat.state["running"] is False

    def test_the_last_question_can_be_put_again(self, server, backend, made):
        chat = made(backend)
        said(chat, "one")
        server.script = Script(text="Another.")
        assert chat.state["again"] == "Ask again"
        do(chat, do="retry")
        ended(chat)
        assert [message["content"] for message in chat.messages] == ["one", "Another."]
        do(chat, do="undo")
        assert [message["content"] for message in chat.messages] == ["one", "ONE"]

    def test_starting_over_can_be_undone(self, backend, made):
        chat = made(backend, system="Be brief.")
        said(chat, "one")
        do(chat, do="clear")
        assert (chat.state["panels"], chat.messages) == ([], [{"role": "system", "content": "Be brief."}])
        do(chat, do="undo")
        assert [message["content"] for message in chat.messages] == ["Be brief.", "one", "ONE"]

    @pytest.mark.parametrize(
        "act",
        [
            pytest.param(lambda chat: chat.send("  "), id="an empty question"),
            pytest.param(lambda chat: chat.send(""), id="no text at all"),
            pytest.param(lambda chat: chat.edit(2, "x"), id="no such question"),
            pytest.param(lambda chat: chat.edit(True, "x"), id="not a number"),
            pytest.param(lambda chat: chat.edit(1, ""), id="an edit without text"),
            pytest.param(lambda chat: setattr(chat, "system", 7), id="a system prompt that is no text"),
        ],
    )
    def test_what_cannot_be_meant_is_refused_and_changes_nothing(self, backend, made, act):
        chat = made(backend)
        said(chat, "one")
        before = chat.messages
        with pytest.raises(BadInput):
            act(chat)
        assert chat.messages == before
        assert chat.state["running"] is False

    def test_the_field_keeps_what_was_refused(self, backend, made):
        chat = made(backend)
        do(chat, do="send", text=" ", token="t9")
        assert chat.state["heard"] == ["t9", False]
        assert chat.state["error"]["message"] == "The question is empty."
        do(chat, do="send", text="one", token="t10")
        ended(chat)
        assert chat.state["error"] is None

    @pytest.mark.parametrize(
        "message",
        [
            {"do": "send"},
            {"do": "send", "text": 7, "token": None},
            {"do": "send", "text": "x", "turn": 99},
            {"do": "copy", "what": "answer", "turn": 99},
            {"do": "system", "text": None},
            {"do": "nonsense"},
            {"do": "send", "unknown": 1},
            {},
        ],
    )
    def test_a_message_that_makes_no_sense_harms_nothing(self, backend, made, message):
        chat = made(backend)
        chat._take(None, message, [])
        assert chat.messages == []
        assert chat.state["running"] is False


class TestEndings:
    def test_stop_keeps_what_has_come(self, server, backend, made):
        server.script = Script(text=words(1000), itl_s=0.02)
        chat = made(backend)
        do(chat, do="send", text="one", token="t")
        until(lambda: chat.state["n"] > 3)
        do(chat, do="stop")
        ended(chat)
        panel = panels(chat, "answer")[0]
        assert panel["state"] == "stopped"
        kept = chat.messages[-1]["content"]
        assert kept.startswith("word0 word1")
        assert chat.generations[0].status == "stopped"
        server.script = answers
        said(chat, "two")
        assert chats_of(server)[-1][1] == {"role": "assistant", "content": kept}

    def test_only_one_answer_is_under_way(self, server, backend, made):
        server.script = Script(text=words(1000), itl_s=0.02)
        chat = made(backend)
        chat.send("one")
        with pytest.raises(BadInput, match="under way"):
            chat.send("two")
        chat.stop()
        ended(chat)
        assert len(panels(chat, "question")) == 1

    def test_a_run_that_is_cancelled_before_it_began_ends_too(self, server, backend, made):
        server.script = Script(text="late", ttft_s=30)
        chat = made(backend)
        chat.send("one").cancel()
        ended(chat)
        assert panels(chat, "answer")[0]["state"] == "stopped"
        assert chat.messages == []

    def test_an_error_stands_in_the_conversation_with_its_fix_and_a_retry(self, server, made):
        with closed_port() as nobody:
            backend = OpenAICompatibleBackend("m", nobody.base_url, max_retries=0)
            chat = made(backend)
            with pytest.raises(ServerUnreachable):
                chat.send("one").result(30)
            ended(chat)
        panel = panels(chat, "answer")[0]
        assert panel["state"] == "failed"
        assert "Nothing is listening" in panel["error"]["message"]
        assert panel["error"]["hint"]
        assert chat.state["again"] == "Retry"
        assert chat.messages == []
        assert [(g.status, g.error_type) for g in chat.generations] == [("failed", "ServerUnreachable")]
        backend.close()

    def test_an_answer_that_broke_off_is_shown_and_not_sent_again(self, server, backend, made):
        server.script = Script(text="half of this is never sent at all", fault="cut", fault_after=2)
        chat = made(backend)
        do(chat, do="send", text="one", token="t")
        ended(chat)
        panel = panels(chat, "answer")[0]
        assert panel["state"] == "failed"
        assert "half of" in panel["html"]
        assert chat.generations[0].text == "half of"
        server.script = answers
        said(chat, "two")
        assert chats_of(server)[-1] == [{"role": "user", "content": "two"}]
        # Its question is still there to be put again.
        assert [panel["text"] for panel in panels(chat, "question")] == ["one", "two"]

    @pytest.mark.parametrize(
        ("script", "words_of_it"),
        [
            pytest.param(Script(text=""), "The answer is empty", id="nothing"),
            pytest.param(Script(text="", reasoning="hm"), "Only reasoning came", id="reasoning alone"),
            pytest.param(Script(text="", reasoning="hm", finish_reason="length"), "token limit", id="cut in reasoning"),
            pytest.param(Script(tool_calls=[{"name": "f", "arguments": {}}]), "called a tool", id="a call"),
        ],
    )
    def test_an_answer_without_text_is_told(self, server, backend, made, script, words_of_it):
        server.script = script
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
        chat = made(backend, tools=[tool])
        said(chat, "one")
        assert words_of_it in panels(chat, "answer")[0]["empty"]
        assert chat.messages == []

    def test_half_an_emoji_can_be_shown_and_sent(self, server, backend, made):
        server.script = Script(text=("smile ", "\U0001f600"), fault="half_emoji")
        chat = made(backend)
        said(chat, "half \ud83d")
        json.dumps(chat.state, ensure_ascii=False).encode("utf-8")
        chat.as_code().encode("utf-8")
        assert panels(chat, "question")[0]["text"] == "half \N{REPLACEMENT CHARACTER}"

    def test_closing_stops_what_is_under_way(self, server, backend):
        server.script = Script(text=words(1000), itl_s=0.02)
        chat = ChatView(backend)
        run = chat.send("one")
        chat.close()
        with pytest.raises(RunStopped):
            run.result(10)


class TestFrontEnd:
    def test_deltas_add_up_to_the_state_and_the_state_is_whole_at_every_moment(
        self, server, backend, made, monkeypatch
    ):
        server.script = Script(text=("# Head\n\n", *words(60), "\n\nThe *end*."), reasoning="because so", itl_s=0.02)
        chat = made(backend)
        sent: list[dict[str, Any]] = []
        wrong: list[str] = []
        mirror: dict[str, Any] = {}

        def take_state(change: Any) -> None:
            mirror.update(json.loads(json.dumps(change["new"])))

        def take_delta(widget: Any, message: dict[str, Any], buffers: Any = None) -> None:
            sent.append(message)
            assert message["n"] == mirror["n"] + 1
            mirror["n"] = message["n"]
            for index, change in message["panels"].items():
                panel = mirror["panels"][int(index)]
                panel.update(change.get("set", {}))
                for name in ("html", "tail", "reasoning"):
                    panel[name] = change.get(name, panel.get(name, "")) + change.get(f"{name}+", "")
            if json.loads(json.dumps(chat.state["panels"])) != mirror["panels"]:
                wrong.append(message["n"])

        monkeypatch.setattr(MambaWidget, "send", take_delta)
        chat.observe(take_state, "state")
        do(chat, do="send", text="one", token="t")
        ended(chat)
        assert wrong == []
        assert len(sent) > 3
        assert mirror["panels"] == json.loads(json.dumps(chat.state["panels"]))
        assert mirror["panels"][1]["html"].endswith("<p>The <em>end</em>.</p>\n")
        assert mirror["panels"][1]["reasoning"] == "because so"

    def test_a_long_answer_costs_at_most_twelve_times_its_size(self, server, backend, made, monkeypatch):
        server.script = Script(text=tuple(f"{i:08d} " for i in range(2200)), itl_s=0.001)
        chat = made(backend)
        bytes_sent = [0]

        def count(widget: Any, message: Any, buffers: Any = None) -> None:
            bytes_sent[0] += len(json.dumps(message))

        monkeypatch.setattr(MambaWidget, "send", count)
        chat.observe(lambda change: count(None, change["new"]), "state")
        said(chat, "one")
        assert bytes_sent[0] < 12 * 20_000

    def test_the_tokens_used_stand_beside_the_context_in_force(self, backend, made):
        chat = made(backend)
        assert chat.state["used"]["used"] is None
        said(chat, "one two three")
        until(lambda: chat.state["used"]["window"] is not None)
        assert (chat.state["used"]["used"], chat.state["used"]["window"]) == ("10", "4,096")  # 7 of the prompt, 3 words

    def test_tokens_that_nobody_counted_are_not_made_up(self, server, backend, made):
        server.script = Script(text="hi", usage="none")
        chat = made(backend)
        said(chat, "one")
        assert chat.state["used"]["used"] is None
        assert "did not count" in chat.state["used"]["why"]

    @pytest.mark.parametrize("what", ["messages", "code", "answer"])
    def test_what_is_copied_goes_to_the_view_that_asked(self, backend, made, monkeypatch, what):
        chat = made(backend)
        said(chat, "one")
        sent: list[Any] = []
        monkeypatch.setattr(MambaWidget, "send", lambda widget, message, buffers=None: sent.append(message))
        do(chat, do="copy", what=what, turn=panels(chat, "question")[0]["turn"], token="mine")
        texts = {"messages": json.dumps(chat.messages, indent=2), "code": chat.as_code(), "answer": "ONE"}
        assert sent == [{"kind": "copy", "what": what, "token": "mine", "text": texts[what]}]

    def test_a_plain_copy_is_left_for_readers_without_a_kernel(self, backend, made):
        chat = made(backend, system="Be <brief>.")
        said(chat, "a <b>")
        until(lambda: "A &lt;B&gt;" in chat._folded)
        for text in ("Be &lt;brief&gt;.", "a &lt;b&gt;", "done", "<details"):
            assert text in chat._folded
        chat.clear()
        assert chat._folded == ""


class TestCode:
    def test_the_code_asks_the_same_again(self, server, backend, made, capsys):
        chat = made(backend, system="Be 'brief'.", temperature=0.5)
        said(chat, 'one\n"two" \u202e')
        said(chat, "three")
        before = chats_of(server)
        code = chat.as_code()
        assert code.isprintable() or not re.search("[\u202e\x1b]", code)
        exec(compile(code, "copied", "exec"), {})
        assert chats_of(server)[len(before) :] == before
        assert capsys.readouterr().out.endswith("THREE\n")
        assert all(
            request.body["temperature"] == 0.5 for request in server.requests if request.path.endswith("completions")
        )

    def test_what_was_given_is_not_asked_again(self, server, backend, made):
        given = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        chat = made(backend, messages=given)
        said(chat, "one")
        exec(compile(chat.as_code(), "copied", "exec"), {"print": lambda *_: None})
        assert chats_of(server)[-1] == [*given, {"role": "user", "content": "one"}]
        assert len(chats_of(server)) == 2

    def test_an_agents_code_runs_beside_its_tools(self, server, backend, made):
        def shout(text: str) -> str:
            """Shout."""
            return text.upper()

        chat = made(Agent(backend, tools=[shout]), system="Be loud.")
        said(chat, "one")
        code = chat.as_code()
        exec(compile(code, "copied", "exec"), {"shout": shout, "print": lambda *_: None})
        first, second = chats_of(server)
        assert first == second

    @pytest.mark.parametrize("kind", ["backend", "agent"])
    def test_no_key_is_anywhere(self, kind, made):
        with ScriptedServer(answers, style="vllm", models=["m"], api_key=KEY) as server:
            backend = OpenAICompatibleBackend("m", server.base_url, api_key=KEY, max_retries=0)
            chat = made(backend if kind == "backend" else Agent(backend))
            said(chat, "one")
            for text in (json.dumps(chat.state), chat.as_code(), repr(chat), chat._folded, json.dumps(chat.messages)):
                assert KEY not in text
            assert 'os.environ["MAMBA_MODEL_BACKEND__API_KEY"]' in chat.as_code().replace("'", '"')
            compile(chat.as_code(), "copied", "exec")
            backend.close()


class City(BaseModel):
    name: str
    people: int


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def fall(_: str = "") -> str:
    """Fall over."""
    raise ValueError("it <fell>")


class TestAgent:
    @pytest.fixture
    def adding(self, server):
        def script(request: LoggedRequest) -> Script:
            if request.body["messages"][-1]["role"] == "tool":
                return Script(text="The sum is 3.", prompt_tokens=20)
            call = {"name": "add", "arguments": {"a": 1, "b": 2}, "id": "c1"}
            return Script(text="I add.", reasoning="They want a sum.", tool_calls=[call])

        server.script = script

    def test_calls_are_cards_with_arguments_and_results_in_the_step_that_made_them(self, server, backend, made, adding):
        chat = made(Agent(backend, tools=[add]))
        said(chat, "1 and 2?")
        first, second = panels(chat, "answer")
        assert (first["step"], first["html"], first["reasoning"]) == (1, "<p>I add.</p>\n", "They want a sum.")
        (card,) = first["calls"]
        assert (card["name"], json.loads(card["arguments"]), card["result"], card["state"]) == (
            "add",
            {"a": 1, "b": 2},
            "3",
            "done",
        )
        assert (second["step"], second["html"], second["calls"]) == (2, "<p>The sum is 3.</p>\n", [])
        assert [generation.text for generation in chat.generations] == ["I add.", "The sum is 3."]
        assert chat.state["chat"]["tools"] == ["add"]
        assert "The sum is 3." in chat._folded and "add" in chat._folded

    def test_its_messages_are_openais_and_another_agent_goes_on_with_them(self, server, backend, made, adding):
        chat = made(Agent(backend, tools=[add]), system="Be brief.")
        said(chat, "1 and 2?")
        call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1,"b":2}'}}
        expected = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "1 and 2?"},
            {"role": "assistant", "content": "I add.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "3"},
            {"role": "assistant", "content": "The sum is 3."},
        ]
        assert [{k: v for k, v in message.items() if k != "reasoning"} for message in chat.messages] == expected
        server.script = answers
        other = made(Agent(backend, tools=[add]), messages=chat.messages)
        assert panels(other, "answer")[0]["calls"][0]["result"] == "3"
        said(other, "thanks")
        sent = [{k: v for k, v in message.items() if k != "reasoning"} for message in chats_of(server)[-1]]
        assert [message["role"] for message in sent] == ["system", "user", "assistant", "tool", "assistant", "user"]
        assert sent[2]["tool_calls"][0]["function"]["name"] == "add"

    def test_the_next_question_goes_on_from_the_calls(self, server, backend, made, adding):
        chat = made(Agent(backend, tools=[add]))
        said(chat, "1 and 2?")
        server.script = answers
        said(chat, "thanks")
        roles = [message["role"] for message in chats_of(server)[-1]]
        assert roles == ["user", "assistant", "tool", "assistant", "user"]

    def test_a_tool_that_fails_is_told_on_its_card_and_in_the_conversation(self, server, backend, made):
        server.script = Script(tool_calls=[{"name": "fall", "arguments": {}}])
        chat = made(Agent(backend, tools=[fall]))
        run = chat.send("go")
        with pytest.raises(ValueError, match="it <fell>"):
            run.result(30)
        ended(chat)
        (panel,) = panels(chat, "answer")
        assert panel["calls"][0]["state"] == "failed"
        assert "it <fell>" in panel["calls"][0]["result"]
        assert panel["error"]["message"] == "ValueError: it <fell>"
        assert chat.state["again"] == "Retry"

    def test_stop_ends_a_tool_that_is_running(self, server, backend, made):
        begun, free = threading.Event(), threading.Event()

        def wait() -> str:
            """Wait."""
            begun.set()
            free.wait(30)
            return "done"

        server.script = Script(tool_calls=[{"name": "wait", "arguments": {}}])
        chat = made(Agent(backend, tools=[wait]))
        do(chat, do="send", text="go", token="t")
        assert begun.wait(30)
        until(lambda: panels(chat, "answer")[0]["calling"])
        do(chat, do="stop")
        ended(chat)
        free.set()
        (panel,) = panels(chat, "answer")
        assert (panel["state"], panel["calling"]) == ("done", False)
        assert panel["calls"][0]["state"] == "stopped"

        # The next question goes on from there: the call stays known to the model, with a result that says so.
        server.script = answers
        do(chat, do="send", text="and now", token="u")
        ended(chat)
        sent = server.chats[-1].body["messages"]
        assert [message["role"] for message in sent] == ["user", "assistant", "tool", "assistant", "user"]
        assert "interrupted" in sent[2]["content"]

    def test_structured_output_is_shown_as_json(self, server, backend, made):
        server.script = Script(text='{"name": "Paris", "people": 2}')
        chat = made(Agent(backend, output_type=City))
        said(chat, "Which city?")
        html = panels(chat, "answer")[-1]["html"]
        assert "<code" in html and "Paris" in html
        assert json.loads(chat.messages[-1]["content"].strip("`\n").removeprefix("json")) == {
            "name": "Paris",
            "people": 2,
        }


class TestWhoAnswers:
    def test_a_name_is_asked_as_compare_would(self, server, made, monkeypatch):
        monkeypatch.setenv("MAMBA_MODEL_BACKEND__BASE_URL", server.base_url)
        chat = made("m")
        said(chat, "one")
        assert [message["content"] for message in chat.messages] == ["one", "ONE"]
        backend = chat.backend
        chat.close()
        until(lambda: backend.closed)

    def test_a_backend_that_was_given_stays_open(self, backend):
        ChatView(backend).close()
        assert backend.closed is False

    @pytest.mark.parametrize(
        ("args", "kwargs"),
        [
            pytest.param((7,), {}, id="no answerer"),
            pytest.param(("m",), {"temprature": 1}, id="a parameter that is none"),
            pytest.param(("m",), {"messages": [{"role": "nobody", "content": "x"}]}, id="no messages"),
            pytest.param(("m",), {"system": 7}, id="a system prompt that is no text"),
            pytest.param(("",), {}, id="an empty name"),
        ],
    )
    def test_a_wrong_argument_is_refused_at_once(self, args, kwargs):
        with pytest.raises(BadInput):
            ChatView(*args, **kwargs)
