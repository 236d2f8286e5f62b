"""Ollama's own route: what is sent to /api/chat, what is read from it, and who goes there."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pydantic
import pytest

import mamba_nb as mb
from mamba_nb import Agent
from mamba_nb.backends import OpenAICompatibleBackend, create_ollama_backend, create_vllm_backend
from mamba_nb.backends._native_ollama import native_messages
from mamba_nb.backends._native_ollama_reader import NativeReader
from mamba_nb.backends._reader import StreamFault
from mamba_nb.errors import (
    BadInput,
    EndpointNotFound,
    ModelNotFound,
    RunStopped,
    ServerFailed,
    ServerTimeout,
    ServerUnreachable,
    StreamInterrupted,
)
from mamba_nb.records import Finished, ReasoningDelta, StateChange, TextDelta, ToolCallDelta, Usage, UsageReport
from mamba_nb.testing import Script, ScriptedServer, closed_port, words

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
FACTS = Script(text=["The", " sky", " is", " blue."], prompt_tokens=7)
CALL = {"id": "call_7", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
END = {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(FACTS, models=("alpha:latest", "beta:latest"), style="ollama") as running:
        yield running


@pytest.fixture
def connect(server: ScriptedServer) -> Iterator[Callable[..., OpenAICompatibleBackend]]:
    with ExitStack() as stack:

        def make(model: str = "alpha", **options: Any) -> OpenAICompatibleBackend:
            given = {"base_url": server.base_url, "max_retries": 0, "timeout": 10.0, **options}
            return stack.enter_context(create_ollama_backend(model, **given))

        yield make


def asked(server: ScriptedServer) -> list[Any]:
    """The native questions that came."""
    return [request for request in server.requests if request.path == "/api/chat"]


class TestWhoGoesThere:
    @pytest.mark.parametrize(
        "options", [{"num_ctx": 8192}, {"keep_alive": "30m"}, {"think": False}, {"native": True}], ids=str
    )
    def test_what_v1_has_no_place_for_goes_to_the_native_route(self, options, server, connect):
        assert connect(**options).ask("Why?").text == "The sky is blue."
        assert [request.path for request in server.requests] == ["/api/chat"]

    @pytest.mark.parametrize("options", [{}, {"native": False}, {"temperature": 0.5, "top_k": 3}], ids=str)
    def test_v1_stays_the_default(self, options, server, connect):
        connect(**options).ask("Why?")
        assert [request.path for request in server.requests] == ["/v1/chat/completions"]

    def test_one_call_alone_may_need_it(self, server, connect):
        backend = connect()
        backend.ask("Why?")
        backend.ask("Why?", num_ctx=2048)
        backend.ask("Why?")
        assert [request.path for request in server.requests] == [
            "/v1/chat/completions",
            "/api/chat",
            "/v1/chat/completions",
        ]

    @pytest.mark.parametrize("option", ["num_ctx", "keep_alive", "think"])
    def test_ruling_it_out_and_needing_it_is_refused(self, option, server):
        value = {"num_ctx": 8192, "keep_alive": "30m", "think": False}[option]
        with pytest.raises(BadInput, match=f"{option} needs Ollama's own route, and native=False rules it out"):
            create_ollama_backend("alpha", base_url=server.base_url, native=False, **{option: value})

    def test_another_kind_of_server_has_none(self, server):
        with pytest.raises(BadInput, match="num_ctx is for Ollama's own route, /api/chat; vLLM has none") as caught:
            create_vllm_backend("alpha", num_ctx=8192)
        assert "--max-model-len" in caught.value.hint
        with pytest.raises(BadInput, match="native=True means Ollama's own route; vLLM has none"):
            create_vllm_backend("alpha", native=True)
        with create_vllm_backend("alpha", base_url=server.base_url) as backend, pytest.raises(BadInput, match="think"):
            backend.stream("Why?", think=False)
        assert server.requests == []

    def test_where_the_kind_is_not_known_it_is_found_out_first(self, server):
        with OpenAICompatibleBackend("alpha", server.base_url, num_ctx=4096) as backend:
            assert backend.ask("Why?").server == "ollama"
        assert [request.path for request in server.requests] == ["/v1/models", "/api/chat"]

    @pytest.mark.parametrize("style", ["vllm", "plain"])
    def test_a_server_that_turns_out_not_to_be_ollama_is_not_asked(self, style):
        with (
            ScriptedServer(FACTS, models="alpha", style=style) as server,
            OpenAICompatibleBackend("alpha", server.base_url, num_ctx=4096) as backend,
        ):
            with pytest.raises(BadInput, match="num_ctx is for Ollama's own route"):
                backend.ask("Why?")
            assert server.chats == []

    def test_asked_for_where_no_ollama_is_it_says_so(self):
        with (
            ScriptedServer(FACTS, models="alpha") as server,
            OpenAICompatibleBackend("alpha", server.base_url, native=True) as backend,
            pytest.raises(EndpointNotFound, match=f"There is no Ollama at {server.root}: POST /api/chat is not there"),
        ):
            backend.ask("Why?")

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"num_ctx": 0}, "num_ctx must be at least 1"),
            ({"num_ctx": "8k"}, "num_ctx must be a whole number"),
            ({"keep_alive": "30"}, "seconds or a time with its unit"),
            ({"keep_alive": "soon"}, "seconds or a time with its unit"),
            ({"keep_alive": True}, "keep_alive must be"),
            ({"think": "very"}, "think must be True, False or one of low, medium, high, max"),
            ({"think": 1}, "think must be True or False or text"),
        ],
        ids=str,
    )
    def test_values_that_cannot_be_meant_are_refused(self, options, says):
        with pytest.raises(BadInput, match=says):
            create_ollama_backend("alpha", **options)

    @pytest.mark.parametrize("value", ["30m", "1h30m", "1.5h", "-1s", 3600, 0, -1, 0.5])
    def test_every_time_that_ollama_reads_is_taken(self, value, server, connect):
        connect(keep_alive=value).ask("Why?")
        assert asked(server)[0].body["keep_alive"] == value


class TestWhatIsSent:
    def test_parameters_become_options_and_members(self, server, connect):
        backend = connect(num_ctx=8192, keep_alive="30m", think=False)
        answer = backend.ask(
            "Why?",
            temperature=0.0,
            top_p=0.9,
            top_k=40,
            min_p=0.05,
            repeat_penalty=1.1,
            presence_penalty=0.5,
            frequency_penalty=-0.5,
            seed=7,
            stop="END",
            max_tokens=64,
            logprobs=True,
            top_logprobs=2,
        )
        assert asked(server)[0].body == {
            "model": "alpha",
            "messages": [{"role": "user", "content": "Why?"}],
            "stream": True,
            "keep_alive": "30m",
            "think": False,
            "logprobs": True,
            "top_logprobs": 2,
            "options": {
                "num_ctx": 8192,
                "temperature": 0.0,
                "top_p": 0.9,
                "top_k": 40,
                "min_p": 0.05,
                "repeat_penalty": 1.1,
                "presence_penalty": 0.5,
                "frequency_penalty": -0.5,
                "seed": 7,
                "stop": ["END"],
                "num_predict": 64,
            },
        }
        assert answer.request.params["num_ctx"] == 8192 and answer.request.params["stop"] == "END"
        assert answer.warnings == ()

    def test_a_completion_asks_for_one_object(self, server, connect):
        answer = connect(native=True).complete("Why?", system="Be brief.").result()
        assert asked(server)[0].body == {
            "model": "alpha",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
            "stream": False,
        }
        assert answer.text == "The sky is blue." and answer.ttft_ms is None and answer.latency_s is not None

    @pytest.mark.parametrize(
        ("effort", "think"),
        [("none", False), ("minimal", "low"), ("low", "low"), ("medium", "medium"), ("high", "high"), ("xhigh", "max")],
    )
    def test_reasoning_effort_is_a_level_of_think(self, effort, think, server, connect):
        server.about = {"alpha:latest": {"capabilities": ["completion", "thinking"]}}
        connect(native=True).ask("Why?", reasoning_effort=effort)
        assert asked(server)[0].body["think"] == think

    def test_an_effort_that_ollama_does_not_know_is_refused(self, server, connect):
        with pytest.raises(BadInput, match="reasoning_effort must be one of none, minimal"):
            connect(native=True).ask("Why?", reasoning_effort="some")
        assert server.requests == []

    def test_think_wins_over_reasoning_effort_and_says_so(self, server, connect):
        answer = connect(think=False).ask("Why?", reasoning_effort="high")
        assert asked(server)[0].body["think"] is False and "reasoning_effort" not in answer.request.params
        assert answer.warnings == ("reasoning_effort was left out: think, which was given too, says the same.",)

    @pytest.mark.parametrize(
        ("given", "sent"),
        [
            ({"type": "json_object"}, "json"),
            ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}, {"type": "object"}),
            ({"type": "text"}, None),
        ],
    )
    def test_a_response_format_is_a_format(self, given, sent, server, connect):
        connect(native=True).ask("Why?", response_format=given)
        assert asked(server)[0].body.get("format") == sent

    def test_a_pydantic_model_is_a_schema(self, server, connect):
        class City(pydantic.BaseModel):
            name: str

        connect(native=True).ask("Why?", response_format=City)
        assert asked(server)[0].body["format"]["required"] == ["name"]

    def test_what_the_route_has_no_place_for_is_left_out_with_a_warning(self, server, connect):
        answer = connect(native=True).ask("Why?", tools=[TOOL], tool_choice="required", logit_bias={"5": 1})
        sent = asked(server)[0].body
        assert sent["tools"] == [TOOL] and not {"tool_choice", "logit_bias"} & sent.keys()
        assert set(answer.request.params) == {"tools"}
        assert [warning.split(":")[0] for warning in answer.warnings] == [
            "Ollama's /api/chat has no tool_choice",
            "Ollama's /api/chat has no logit_bias",
        ]

    def test_values_that_say_nothing_are_left_out_without_one(self, connect):
        answer = connect(native=True).ask("Why?", tools=[TOOL], tool_choice="auto", parallel_tool_calls=True)
        assert answer.warnings == ()

    def test_extra_body_is_laid_over_its_options_member_by_member(self, server, connect):
        backend = connect(num_ctx=4096, extra_body={"options": {"num_gpu": 0}, "truncate": False})
        answer = backend.ask("Why?", extra_body={"shift": False})
        sent = asked(server)[0].body
        assert sent["options"] == {"num_ctx": 4096, "num_gpu": 0}
        assert (sent["truncate"], sent["shift"], answer.warnings) == (False, False, ())

    @pytest.mark.parametrize(
        ("name", "says"), [("top_k", "Give it as a parameter"), ("num_gpu", 'extra_body={"options": {...}}')]
    )
    def test_an_option_in_the_wrong_place_is_warned_of(self, name, says, connect):
        (warning,) = connect(native=True, extra_body={name: 5}).ask("Why?").warnings
        assert warning.startswith(f"Ollama's /api/chat ignores {name}, which stands in extra_body.") and says in warning

    def test_images_travel_as_base64_beside_the_text(self, server, connect):
        connect(native=True).ask([{"role": "user", "content": ["What is this?", PNG]}])
        assert asked(server)[0].body["messages"] == [
            {"role": "user", "content": "What is this?", "images": [base64.b64encode(PNG).decode()]}
        ]

    def test_the_address_of_an_image_is_refused(self, server, connect):
        picture = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
        with pytest.raises(BadInput, match="not their addresses"):
            connect(native=True).ask([{"role": "user", "content": ["What is this?", picture]}])
        assert server.requests == []

    def test_a_key_and_headers_travel_too(self, server, connect):
        connect(native=True, api_key="sk-local-123", headers={"X-Team": "green"}).ask("Why?")
        sent = asked(server)[0].headers
        assert sent["authorization"] == "Bearer sk-local-123" and sent["x-team"] == "green"

    def test_whoever_asks_with_parameters_of_his_own_finds_the_model_loaded_alike(self, server, connect):
        backend = connect(num_ctx=8192, keep_alive="30m", temperature=0.5)
        mb.compare(backend, "Why?", live=False)
        warm_up, question = asked(server)
        assert warm_up.body["options"] == {"num_ctx": 8192, "num_predict": 1}
        assert question.body["options"] == {"num_ctx": 8192, "temperature": 0.5}
        assert warm_up.body["keep_alive"] == question.body["keep_alive"] == "30m"


class TestConversations:
    def test_calls_and_their_results_take_ollamas_form(self):
        assert native_messages(
            [
                {"role": "user", "content": "Add."},
                {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning": "Hm."},
                {"role": "tool", "tool_call_id": "call_7", "content": "3"},
            ]
        ) == [
            {"role": "user", "content": "Add."},
            {
                "role": "assistant",
                "content": "",
                "thinking": "Hm.",
                "tool_calls": [{"id": "call_7", "function": {"name": "add", "arguments": {"a": 1}}}],
            },
            {"role": "tool", "content": "3", "tool_name": "add", "tool_call_id": "call_7"},
        ]

    @pytest.mark.parametrize(
        ("arguments", "sent"),
        [("", {}), (None, {}), ("{oops", {"arguments": "{oops"}), ("[1]", {"arguments": [1]}), ({"a": 1}, {"a": 1})],
    )
    def test_arguments_are_always_an_object(self, arguments, sent):
        call = {"function": {"name": "f", "arguments": arguments}}
        (message,) = native_messages([{"role": "assistant", "content": None, "tool_calls": [call]}])
        assert message["tool_calls"][0]["function"]["arguments"] == sent

    def test_roles_that_ollama_does_not_know_become_those_it_does(self):
        messages = native_messages(
            [{"role": "developer", "content": "Be brief."}, {"role": "function", "name": "f", "content": "3"}]
        )
        assert [message["role"] for message in messages] == ["system", "tool"]
        assert messages[1]["tool_name"] == "f"

    def test_other_parts_than_text_and_images_are_refused(self):
        with pytest.raises(BadInput, match="holds a part of type 'input_audio'"):
            native_messages([{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}])


class TestAnswers:
    def test_an_answer_is_the_same_record_as_on_v1(self, server, connect):
        server.script = Script(text=words(4), reasoning="Let me think.", prompt_tokens=7, ttft_s=0.03, itl_s=0.01)
        native, plain = connect(native=True).ask("Why?"), connect().ask("Why?")
        for name in ("text", "reasoning", "finish_reason", "usage", "status", "model", "server", "warnings"):
            assert getattr(native, name) == getattr(plain, name), name
        assert len(native.text_at_s) == len(plain.text_at_s) == 4
        assert native.ttft_ms >= 30 and native.itl_p50_ms >= 5 and native.latency_s >= 0.06
        assert native.tpot_ms is not None and native.decode_tokens_per_s is not None

    def test_the_servers_own_times_are_kept_under_its_names_and_in_milliseconds(self, server, connect):
        server.script = Script(text=words(4), ttft_s=0.05, itl_s=0.02)
        facts = connect(native=True).ask("Why?").server_facts
        assert facts["prompt_ms"] == facts["prompt_eval_duration"] / 1e6 >= 1
        assert facts["decode_ms"] == facts["eval_duration"] / 1e6 >= 1
        assert facts["load_ms"] == facts["load_duration"] / 1e6
        assert facts["eval_count"] == 4 and facts["done_reason"] == "stop"

    def test_tool_calls_come_with_their_arguments_as_json_text(self, server, connect):
        server.script = Script(
            tool_calls=[{"name": "add", "arguments": {"a": 1, "b": "ü"}}, {"name": "add", "arguments": {}}]
        )
        answer = connect(native=True).ask("Why?", tools=[TOOL])
        assert [(call.name, json.loads(call.arguments)) for call in answer.tool_calls] == [
            ("add", {"a": 1, "b": "ü"}),
            ("add", {}),
        ]
        assert len({call.id for call in answer.tool_calls}) == 2
        assert answer.finish_reason == "tool_calls" and answer.server_facts["done_reason"] == "stop"

    def test_logprobs_are_kept(self, connect):
        logprobs = connect(native=True).ask("Why?", logprobs=True, top_logprobs=1).logprobs
        assert [entry["token"] for entry in logprobs] == ["The", " sky", " is", " blue."]

    def test_a_limit_that_was_hit_is_the_finish_reason(self, connect):
        answer = connect(native=True).ask("Why?", max_tokens=2)
        assert (answer.text, answer.finish_reason) == ("The sky", "length")

    def test_thinking_may_be_switched_off(self, server, connect):
        server.script = Script(text="So.", reasoning="Hm.")
        assert connect(think=True).ask("Why?").reasoning == "Hm."
        assert connect(think=False).ask("Why?").reasoning == ""


class TestReader:
    """Lines as Ollama writes them (api/types.go), and what other software makes of them."""

    def read(self, *lines: Any, at_s: float = 1.0) -> tuple[NativeReader, list[Any]]:
        reader = NativeReader()
        data = b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
        events = [event for cut in range(0, len(data), 7) for event in reader.feed(data[cut : cut + 7], at_s)]
        return reader, [*events, *reader.close(at_s)]

    def line(self, **message: Any) -> dict[str, Any]:
        return {"model": "m", "created_at": "2026-01-01T00:00:00Z", "message": message, "done": False}

    def test_thinking_text_calls_usage_and_the_end(self):
        call = {"id": "c1", "function": {"index": 0, "name": "f", "arguments": {"x": [1, None]}}}
        reader, events = self.read(
            self.line(role="assistant", content="", thinking="Hm."),
            self.line(role="assistant", content="So"),
            self.line(role="assistant", content="", tool_calls=[call]),
            {**END, "prompt_eval_count": 5, "eval_count": 3, "load_duration": 2_500_000},
        )
        assert events == [
            ReasoningDelta(1.0, "Hm."),
            TextDelta(1.0, "So"),
            ToolCallDelta(1.0, 0, "c1", "f", '{"x": [1, null]}'),
            Finished(1.0, "tool_calls"),
            UsageReport(1.0, Usage(prompt_tokens=5, completion_tokens=3)),
        ]
        assert reader.done and reader.model == "m" and reader.facts["load_ms"] == 2.5

    def test_a_prompt_that_was_in_the_cache_has_no_count(self):
        _, events = self.read({**END, "eval_count": 3})
        assert events[-1] == UsageReport(1.0, Usage(prompt_tokens=None, completion_tokens=3))

    def test_the_end_without_a_reason_is_a_stop(self):
        _, events = self.read({"model": "m", "message": {"content": "x"}, "done": True})
        assert events == [TextDelta(1.0, "x"), Finished(1.0, "stop")]

    def test_think_tags_in_the_text_are_reasoning(self):
        _, events = self.read(self.line(content="<think>Hm.</think>"), self.line(content="So."), END)
        assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "Hm."
        assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "So."

    def test_an_error_in_mid_stream_keeps_what_came_before_it(self):
        reader = NativeReader()
        data = json.dumps(self.line(content="So")) + '\n{"error":"an error was encountered while running the model"}\n'
        with pytest.raises(StreamFault) as caught:
            reader.feed(data.encode(), 1.0)
        assert caught.value.events == [TextDelta(1.0, "So")]
        assert caught.value.payload == {"error": "an error was encountered while running the model"}

    @pytest.mark.parametrize(
        "odd",
        [
            b"not json",
            b"[]",
            b"null",
            b"{}",
            {"message": None},
            {"message": "text", "done": 1},
            {"message": {"content": 7, "thinking": [], "tool_calls": {}}},
            {"message": {"content": "", "tool_calls": [None, 3, {"function": None}, {"function": {"name": 5}}]}},
            {"model": 5, "logprobs": "no", "message": {}},
            {"message": {}, "prompt_eval_count": "many", "done_reason": 7, "load_duration": "long"},
        ],
        ids=repr,
    )
    def test_lines_of_another_shape_never_raise(self, odd):
        reader, events = self.read(odd, self.line(content="So."), {**END, "eval_duration": None})
        assert "".join(event.text for event in events if isinstance(event, TextDelta)).endswith("So.")
        assert reader.finish_reason in ("stop", "tool_calls")

    @pytest.mark.parametrize("body", [None, [], "text", {}, {"error": "no"}, {"message": "no"}], ids=repr)
    def test_a_whole_reply_of_another_shape_is_a_fault(self, body):
        with pytest.raises(StreamFault):
            NativeReader().whole(body, 1.0)


class TestFaults:
    def test_an_error_in_mid_stream_is_said_and_what_came_is_kept(self, server, connect):
        server.script = Script(text=words(4), fault="error_mid_stream", error_body={"error": "llama runner terminated"})
        with pytest.raises(ServerFailed, match="llama runner terminated") as caught:
            connect(native=True).ask("Why?")
        assert caught.value.partial.text == "word0 word1"

    @pytest.mark.parametrize("fault", ["cut", "eof_no_done"])
    def test_a_stream_that_ends_early_is_an_error(self, fault, server, connect):
        server.script = Script(text=words(4), fault=fault, fault_after=2)
        with pytest.raises(StreamInterrupted) as caught:
            connect(native=True).ask("Why?")
        assert caught.value.partial is not None

    def test_a_model_that_is_not_there_is_told_with_what_is(self, connect):
        with pytest.raises(ModelNotFound, match="It has: alpha:latest, beta:latest") as caught:
            connect("gamma", native=True).ask("Why?")
        assert "ollama pull gamma" in caught.value.hint

    def test_nothing_listening_is_unreachable(self):
        with closed_port() as place, create_ollama_backend("a", base_url=f"{place.root}/v1", num_ctx=64) as backend:
            backend.max_retries = 0
            with pytest.raises(ServerUnreachable):
                backend.ask("Why?")

    def test_a_busy_server_is_asked_again(self, server, connect):
        server.enqueue(Script(status=503, error_body={"error": "server busy"}))
        assert connect(native=True, max_retries=1).ask("Why?").text == "The sky is blue."
        assert len(asked(server)) == 2

    def test_silence_is_not_waited_for_without_end(self, server, connect):
        backend = connect(native=True, timeout=1)
        backend.ask("Why?")  # the model is in memory now
        server.script = Script(never=True)
        with pytest.raises(ServerTimeout):
            backend.ask("Why?")

    def test_loading_is(self):
        with ScriptedServer(FACTS, style="ollama", models="alpha:latest", load_s=1.5) as server:
            with create_ollama_backend("alpha", base_url=server.base_url, num_ctx=512, timeout=0.5) as backend:
                run = backend.stream("Why?")
                assert run.result().text == "The sky is blue."
            assert len(asked(server)) == 1

    def test_stopping_closes_the_connection(self, server, connect):
        server.script = Script(text=words(1000), itl_s=0.05)
        run = connect(native=True).stream("Why?")
        for event in run:
            if not isinstance(event, StateChange):
                break
        run.cancel()
        with pytest.raises(RunStopped) as caught:
            run.result()
        server.wait_idle()
        assert caught.value.partial.text.startswith("word0") and asked(server)[0].disconnected

    def test_a_whole_answer_where_lines_were_asked_for_is_read_with_a_warning(self, server, connect):
        body = {"model": "alpha", "message": {"role": "assistant", "content": "Whole."}, "done": True}
        server.script = Script(error_body=json.dumps({"created_at": "", **body}))
        answer = connect(native=True).ask("Why?")
        assert answer.text == "Whole." and "ignored `stream`" in answer.warnings[0]

    def test_a_page_instead_of_an_answer_is_told(self, server, connect):
        server.script = Script(error_body="<!doctype html><html><body>Welcome</body></html>")
        with pytest.raises(Exception, match=r"127\.0\.0\.1"):
            connect(native=True).ask("Why?")


class TestAbove:
    """What stands on a backend works on this route too."""

    def test_an_agent_calls_tools_and_hands_their_results_back(self, server, connect):
        def add(a: int, b: int) -> int:
            """Add two numbers."""
            return a + b

        server.enqueue(Script(tool_calls=[{"name": "add", "arguments": {"a": 1, "b": 2}}], reasoning="Hm."))
        server.script = Script(text="It is 3.")
        result = Agent(connect(num_ctx=2048), tools=[add]).run_sync("Add.")
        assert result.output == "It is 3."
        assert [used.result for used in result.tool_calls] == [3]
        first, second = asked(server)
        assert first.body["tools"][0]["function"]["name"] == "add"
        call, answer = second.body["messages"][-2:]
        assert call["tool_calls"][0]["function"] == {"name": "add", "arguments": {"a": 1, "b": 2}}
        assert call["thinking"] == "Hm."
        assert (answer["role"], answer["tool_name"], answer["content"]) == ("tool", "add", "3")
        assert all(request.body["options"] == {"num_ctx": 2048} for request in asked(server))

    def test_an_agent_gets_structured_output(self, server, connect):
        class City(pydantic.BaseModel):
            name: str

        server.script = Script(text='{"name": "Paris"}')
        assert Agent(connect(think=False), output_type=City).run_sync("Where?").output == City(name="Paris")
        assert asked(server)[0].body["format"]["required"] == ["name"]

    def test_variants_are_compared(self, server, connect):
        server.script = Script(text="So.", reasoning="Hm.")
        backend = connect(native=True)
        grid = mb.compare([mb.variant(backend, think=True), mb.variant(backend, think=False)], "Why?", live=False)
        assert [cell.label for cell in grid] == ["think=True", "think=False"]
        assert [cell.generation.reasoning for cell in grid] == ["Hm.", ""]

    def test_times_are_stamped_on_arrival(self, server, connect):
        server.script = Script(text=words(5), ttft_s=0.1, itl_s=0.05)
        began = time.monotonic()
        answer = connect(native=True).ask("Why?")
        assert 100 <= answer.ttft_ms <= 1000 * (time.monotonic() - began)
        assert answer.finish_at_s >= answer.text_at_s[-1] >= 0.3


class TestCallsAsText:
    @pytest.mark.parametrize("native", [True, False])
    def test_a_call_that_came_as_plain_text_is_told(self, native, server, connect):
        server.script = Script(text='<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>')
        (warning,) = connect(native=native).ask("Add.", tools=[TOOL]).warnings
        assert warning.startswith("The model called add in plain text")

    def test_where_no_tools_were_offered_it_is_text(self, server, connect):
        server.script = Script(text='<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>')
        assert connect().ask("Add.").warnings == ()
