"""The backend against scripted servers: what it sends, what it waits for, what it says when something is wrong."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

import numpy as np
import pydantic
import pytest

from mamba_nb import AgentSettings, ModelBackendSettings
from mamba_nb.backends import (
    OpenAICompatibleBackend,
    _patience,
    check_server_health,
    create_lmstudio_backend,
    create_ollama_backend,
)
from mamba_nb.errors import (
    AuthenticationFailed,
    BackendClosed,
    BadInput,
    ContextOverflow,
    EndpointNotFound,
    ModelNotFound,
    NotHere,
    RateLimited,
    RequestRejected,
    RunStopped,
    ServerFailed,
    ServerTimeout,
    ServerUnreachable,
    StreamInterrupted,
    ToolsNotSupported,
)
from mamba_nb.records import Failed, Finished, TextDelta, Usage, UsageReport
from mamba_nb.testing import Script, ScriptedServer, closed_port, tar_pit, words

KEY = "sk-local-1234567890abcdef"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
FACTS = Script(text=["The", " sky", " is", " blue."], prompt_tokens=7)
PAGE = "<!doctype html><html><head><title>Router</title></head><body>Welcome</body></html>"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(FACTS, models=("alpha", "alpha-mini")) as running:
        yield running


@pytest.fixture
def keep() -> Iterator[Callable[[OpenAICompatibleBackend], OpenAICompatibleBackend]]:
    """Takes backends and closes them at the end."""
    with ExitStack() as stack:
        yield stack.enter_context


@pytest.fixture
def connect(keep) -> Callable[..., OpenAICompatibleBackend]:
    """Makes backends that are closed at the end; fast to give up unless told otherwise."""

    def make(to: object, model: str = "alpha", **options: object) -> OpenAICompatibleBackend:
        url = to if isinstance(to, str) else to.base_url
        return keep(OpenAICompatibleBackend(model, url, **{"max_retries": 0, "timeout": 10.0, **options}))

    return make


@pytest.fixture
def backend(server, connect) -> OpenAICompatibleBackend:
    return connect(server)


def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.005)


@contextmanager
def raw_server(reply: bytes, *, stays: bool) -> Iterator[str]:
    """A server that reads one request, writes these very bytes, and then closes or says nothing more."""
    done = threading.Event()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                asked = b""
                while b"\r\n\r\n" not in asked or not asked.rstrip().endswith(b"}"):
                    asked += connection.recv(65536)
                connection.sendall(reply)
                done.wait(20 if stays else 0)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            done.set()
            thread.join()


def sse(*chunks: dict, done: bool = True) -> bytes:
    """A stream of those chunks in one HTTP chunk, without the end of the body."""
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + ("data: [DONE]\n\n" if done else "")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%b\r\n" % (len(body), body.encode())


class TestWhatIsSent:
    def test_a_question_sends_the_model_the_message_and_the_wish_to_stream(self, server, backend):
        backend.ask("Why?")
        (request,) = server.requests
        assert request.path == "/v1/chat/completions"
        assert request.body == {
            "model": "alpha",
            "messages": [{"role": "user", "content": "Why?"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def test_a_completion_sends_nothing_about_streams(self, server, backend):
        backend.complete("Why?", system="Be brief.").result()
        assert server.requests[0].body == {
            "model": "alpha",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
        }

    def test_every_parameter_passes_through_as_it_was_given(self, server, backend):
        given = {
            "temperature": 0.0,
            "top_p": 0.9,
            "max_tokens": 64,
            "seed": 7,
            "stop": ["\n", "END"],
            "presence_penalty": -0.5,
            "frequency_penalty": 0.5,
            "logit_bias": {"50256": -100},
            "logprobs": True,
            "top_logprobs": 2,
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "parallel_tool_calls": False,
            "response_format": {"type": "json_object"},
            "reasoning_effort": "low",
        }
        backend.ask("Why?", **given)
        sent = server.requests[0].body
        assert {name: value for name, value in sent.items() if name in given} == given
        assert sent.keys() - given.keys() == {"model", "messages", "stream", "stream_options"}

    def test_the_record_keeps_what_was_sent(self, backend):
        answer = backend.ask("Why?", temperature=0.2, stop=("a", "b"))
        assert answer.request.params == {"temperature": 0.2, "stop": ["a", "b"]}
        assert answer.request.prompt == "Why?"

    def test_the_backends_own_parameters_are_sent_each_time_and_the_calls_win(self, server, connect):
        backend = connect(server, temperature=0.3, max_tokens=50, seed=1)
        backend.ask("Why?")
        backend.ask("Why?", temperature=1.0, seed=None)
        assert [(r.body["temperature"], r.body["max_tokens"], r.body["seed"]) for r in server.requests] == [
            (0.3, 50, 1),
            (1.0, 50, 1),
        ]

    def test_extra_body_is_merged_over_the_request_member_by_member(self, server, connect):
        backend = connect(server, extra_body={"top_k": 40, "min_p": 0.1})
        backend.ask("Why?", extra_body={"top_k": 5, "chat_template_kwargs": {"enable_thinking": False}})
        sent = server.requests[0].body
        assert (sent["top_k"], sent["min_p"], sent["chat_template_kwargs"]) == (5, 0.1, {"enable_thinking": False})
        assert "extra_body" not in sent

    def test_extra_body_can_ask_for_usage_on_every_chunk(self, server, backend):
        options = {"include_usage": True, "continuous_usage_stats": True}
        backend.ask("Why?", extra_body={"stream_options": options})
        assert server.requests[0].body["stream_options"] == options

    def test_a_pydantic_model_becomes_a_json_schema(self, server, backend):
        class City(pydantic.BaseModel):
            name: str

        backend.ask("Where?", response_format=City)
        sent = server.requests[0].body["response_format"]
        assert sent == {"type": "json_schema", "json_schema": {"name": "City", "schema": City.model_json_schema()}}

    def test_numbers_of_numpy_are_numbers(self, server, backend):
        backend.ask("Why?", temperature=np.float32(0.5), max_tokens=np.int64(64))
        assert (server.requests[0].body["temperature"], server.requests[0].body["max_tokens"]) == (0.5, 64)

    def test_images_travel_as_data_uris_and_addresses_as_they_are(self, server, backend, tmp_path):
        path = tmp_path / "dot.png"
        path.write_bytes(PNG)
        uri = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
        address = {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}}
        backend.ask(
            [{"role": "user", "content": ["What?", path, PNG, {"type": "image_url", "image_url": uri}, address]}]
        )
        kinds = server.requests[0].body["messages"][0]["content"]
        assert [part.get("text") or part["image_url"] for part in kinds] == [
            "What?",
            {"url": uri},
            {"url": uri},
            {"url": uri},
            {"url": "https://example.org/a.png", "detail": "low"},
        ]

    def test_headers_that_were_given_are_sent(self, server, connect):
        connect(server, headers={"X-Team": "blue", "Authorization": "Basic YTpi"}).ask("Why?")
        headers = server.requests[0].headers
        assert headers["x-team"] == "blue" and headers["authorization"] == "Basic YTpi"

    def test_settings_send_their_temperature_which_is_0_7_by_default(self, server):
        settings = AgentSettings(model_backend={"base_url": server.base_url, "model": "alpha"})
        for given in (settings, settings.model_backend):
            with OpenAICompatibleBackend.from_settings(given) as backend:
                backend.ask("Why?")
        assert [r.body["temperature"] for r in server.chats] == [0.7, 0.7]
        assert all("max_tokens" not in r.body for r in server.chats)

    def test_settings_come_from_the_environment_and_changes_win(self, server, monkeypatch):
        monkeypatch.setenv("MAMBA_MODEL_BACKEND__BASE_URL", server.base_url)
        monkeypatch.setenv("MAMBA_MODEL_BACKEND__API_KEY", KEY)
        monkeypatch.setenv("MAMBA_MODEL_BACKEND__TIMEOUT", "7")
        with OpenAICompatibleBackend.from_settings(model="alpha", temperature=0.1) as backend:
            backend.ask("Why?")
            assert backend.timeout == 7.0
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
        assert server.requests[0].body["temperature"] == 0.1

    def test_settings_with_a_limit_send_it(self, server):
        settings = ModelBackendSettings(base_url=server.base_url, model="alpha", max_tokens=2)
        with OpenAICompatibleBackend.from_settings(settings) as backend:
            assert backend.ask("Why?").finish_reason == "length"
        assert server.requests[0].body["max_tokens"] == 2


class TestAnswers:
    def test_a_stream_gives_its_events_and_then_the_record(self, backend):
        run = backend.stream("Why?")
        events = list(run)
        assert [event.text for event in events if isinstance(event, TextDelta)] == ["The", " sky", " is", " blue."]
        assert [type(event) for event in events[-2:]] == [Finished, UsageReport]
        answer = run.result()
        assert (answer.text, answer.status, answer.finish_reason) == ("The sky is blue.", "done", "stop")
        assert answer.usage == Usage(prompt_tokens=7, completion_tokens=4)
        assert answer.text_at_s == tuple(event.at_s for event in events if isinstance(event, TextDelta))
        assert answer.base_url == backend.base_url and answer.model == "alpha"
        assert str(answer) == "The sky is blue." and run.state == "done"

    def test_times_are_about_those_of_the_server(self, server, connect):
        server.script = Script(text=words(5), ttft_s=0.1, itl_s=0.2)
        answer = connect(server).ask("Why?")
        assert 100 <= answer.ttft_ms < 3000 and 180 <= answer.itl_p50_ms < 1000
        assert 0.9 <= answer.latency_s < 10

    def test_a_completion_has_a_latency_but_no_ttft(self, server, connect):
        server.script = Script(text=words(4), ttft_s=0.05)
        answer = connect(server).complete("Why?").result()
        assert (answer.text, answer.usage.completion_tokens) == ("word0 word1 word2 word3", 4)
        assert answer.ttft_ms is None and answer.itl_ms == () and answer.latency_s >= 0.05
        assert answer.warnings == ()

    def test_tool_calls_reasoning_and_logprobs_are_in_the_record(self, server, backend):
        server.script = Script(reasoning="Hm.", tool_calls=[{"name": "f", "arguments": {"x": 1}}])
        answer = backend.ask("Why?", tools=[{"type": "function", "function": {"name": "f"}}])
        assert answer.reasoning == "Hm." and answer.finish_reason == "tool_calls"
        assert [(call.name, json.loads(call.arguments)) for call in answer.tool_calls] == [("f", {"x": 1})]
        server.script = FACTS
        assert [entry["token"] for entry in backend.ask("Why?", logprobs=True).logprobs][:2] == ["The", " sky"]

    @pytest.mark.parametrize("style", ["ollama", "vllm", "llamacpp"])
    def test_the_kind_of_server_is_learnt_from_its_reply(self, style, connect):
        with ScriptedServer(FACTS, style=style, models="alpha") as server:
            backend = connect(server)
            assert backend.server == "unknown"
            assert backend.ask("Why?").server == style and backend.server == style

    @pytest.mark.parametrize("style", ["ollama", "vllm", "lmstudio", "llamacpp"])
    def test_the_kind_of_server_is_learnt_from_its_list(self, style, connect):
        with ScriptedServer(style=style, models="alpha") as server:
            backend = connect(server)
            backend.list_models()
            assert backend.server == style

    def test_what_llamacpp_says_of_its_own_is_kept(self, connect):
        with ScriptedServer(FACTS, style="llamacpp", models="alpha") as server:
            answer = connect(server).ask("Why?")
        assert answer.server_facts["timings"]["predicted_n"] == 4

    def test_an_answer_by_another_model_is_warned_of(self, connect):
        with ScriptedServer(FACTS, style="llamacpp", models="other") as server:
            answer = connect(server).ask("Why?")
        assert answer.model == "other"
        assert answer.warnings == ("Asked for 'alpha', answered by 'other': the server took another model.",)

    @pytest.mark.parametrize(
        "named", ["alpha:latest", "alpha-2024-08-06", "/models/alpha.gguf", "ALPHA", "alpha@q4_k_m"]
    )
    def test_the_same_model_under_a_fuller_name_is_not(self, named, server, backend):
        server.script = Script(model_in_reply=named)
        assert backend.ask("Why?").warnings == ()

    def test_lists_of_models_are_given_in_the_servers_order(self, backend):
        assert backend.list_models() == ["alpha", "alpha-mini"]

    def test_ollama_without_a_model_says_null_and_means_none(self, connect):
        with ScriptedServer(style="ollama", models=()) as server:
            assert connect(server).list_models() == []

    def test_embeddings_come_in_the_order_of_the_texts(self, backend, server):
        one = backend.embed("a")
        both = backend.embed(["b", "a"], dimensions=4)
        assert len(one) == 1 and len(both) == 2 and all(isinstance(x, float) for x in both[0])
        assert server.requests[0].body == {"model": "alpha", "input": ["a"], "encoding_format": "float"}
        assert server.requests[1].body["dimensions"] == 4

    @pytest.mark.parametrize("style", ["llamacpp", "vllm"])
    def test_a_chat_model_that_cannot_embed_is_not_here(self, style, connect):
        with ScriptedServer(style=style, models="alpha") as server, pytest.raises(NotHere, match="to embed with"):
            connect(server).embed("a")

    def test_an_embedding_model_that_is_not_there_is_named(self, connect):
        with ScriptedServer(style="ollama", models="alpha:latest", embeddings=True) as server:
            with pytest.raises(ModelNotFound) as caught:
                connect(server, "alpah").embed("a")
            assert caught.value.served == ("alpha:latest",)

    def test_a_page_instead_of_vectors_is_not_here(self, server, backend):
        server.enqueue(Script(error_body=PAGE), path="/v1/embeddings")
        with pytest.raises(NotHere):
            backend.embed("a")

    @pytest.mark.parametrize("texts", ["", [], ["a", ""], [1]])
    def test_nothing_to_embed_is_refused(self, texts, backend, server):
        with pytest.raises(BadInput):
            backend.embed(texts)
        assert server.requests == []

    @pytest.mark.parametrize("style", ["llamacpp", "vllm"])
    def test_a_text_is_tokenized_where_the_server_can(self, style, connect):
        with ScriptedServer(style=style, models="alpha") as server:
            tokens = connect(server).tokenize("one two three")
        assert len(tokens) == 3 and all(isinstance(token, int) for token in tokens)

    @pytest.mark.parametrize("style", ["ollama", "lmstudio", "plain"])
    def test_elsewhere_tokenize_is_not_here(self, style, connect):
        with ScriptedServer(style=style, models="alpha") as server, pytest.raises(NotHere, match="to tokenize with"):
            connect(server).tokenize("one two three")


class TestFaults:
    """What the scripted server's faults become; `partial` holds what had come."""

    TEXT = ("One", " two", " three", " ünï 😀")

    @pytest.mark.parametrize("fault", ["no_done", "crlf", "no_space", "split_utf8", "drip", "half_emoji"])
    def test_a_stream_that_is_only_odd_is_read_to_its_end(self, fault, server, backend):
        server.script = Script(text=self.TEXT, fault=fault)
        answer = backend.ask("Why?")
        assert answer.text == "".join(self.TEXT) and answer.finish_reason == "stop" and answer.warnings == ()

    def test_a_line_that_is_no_json_is_warned_of(self, server, backend):
        server.script = Script(text=self.TEXT, fault="garbage_line")
        answer = backend.ask("Why?")
        assert answer.text == "".join(self.TEXT)
        assert answer.warnings == ("Skipped in the stream, being no JSON: 1 lines.",)

    def test_a_stream_without_a_finish_reason_is_warned_of(self, server, backend):
        server.script = Script(text=self.TEXT, fault="no_finish")
        answer = backend.ask("Why?")
        assert answer.text == "".join(self.TEXT) and answer.finish_reason is None
        assert answer.warnings == ("The server gave no finish reason: the answer may have been cut.",)

    def test_a_whole_answer_where_a_stream_was_asked_for_has_no_ttft(self, server, backend):
        server.script = Script(text=self.TEXT, fault="json_instead_of_stream")
        answer = backend.ask("Why?")
        assert answer.text == "".join(self.TEXT) and answer.ttft_ms is None and answer.latency_s > 0
        assert "ignored `stream`" in answer.warnings[0]

    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            ("error_mid_stream", ServerFailed),
            ("cut", StreamInterrupted),
            ("reset", StreamInterrupted),
            ("eof_no_done", StreamInterrupted),
        ],
    )
    def test_a_stream_that_breaks_keeps_what_had_come(self, fault, error, server, connect):
        server.script = Script(text=self.TEXT, fault=fault, fault_after=2)
        run = connect(server, max_retries=3).stream("Why?")
        with pytest.raises(error) as caught:
            run.result()
        partial = caught.value.partial
        assert (partial.text, partial.status, partial.error_type) == ("One two", "failed", error.__name__)
        assert partial.latency_s is not None and partial.error == str(caught.value)
        assert len(server.requests) == 1  # never again after the first byte

    def test_a_failure_is_the_last_event(self, server, backend):
        server.script = Script(text=self.TEXT, fault="error_mid_stream", fault_after=1)
        events = []
        with pytest.raises(ServerFailed, match="in the middle"):
            for event in backend.stream("Why?"):
                events.append(event)
        assert isinstance(events[-1], Failed) and events[-1].error_type == "ServerFailed"

    @pytest.mark.parametrize("verb", ["stream", "complete"])
    def test_lmstudios_status_200_for_a_wrong_path_is_found_out(self, verb, connect):
        with ScriptedServer(style="lmstudio", models="alpha") as server:
            backend = connect(server.root)
            with pytest.raises(EndpointNotFound) as caught:
                getattr(backend, verb)("Why?").result()
        assert f"base_url={server.base_url!r}" in caught.value.hint
        assert "Unexpected endpoint or method" in caught.value.server_says

    @pytest.mark.parametrize("verb", ["stream", "complete"])
    @pytest.mark.parametrize("body", [PAGE, "Ollama is running", '{"choices": null}', '{"ok": true}', "[]"])
    def test_an_answer_in_another_protocol_is_found_out(self, verb, body, server, backend):
        server.script = Script(error_body=body)
        with pytest.raises(EndpointNotFound, match="not in the OpenAI protocol"):
            getattr(backend, verb)("Why?").result()

    def test_a_stream_under_another_label_is_a_stream(self, server, backend):
        chunk = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}
        server.script = Script(error_body=f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n")  # sent as text/plain
        answer = backend.ask("Why?")
        assert answer.text == "Hi" and answer.ttft_ms is not None and answer.warnings == ()

    def test_an_empty_stream_is_no_answer(self, connect):
        with raw_server(sse(done=True), stays=True) as url, pytest.raises(StreamInterrupted, match="before anything"):
            connect(url).ask("Why?")

    @pytest.mark.parametrize("stays", [False, True])
    def test_an_answer_that_is_whole_survives_a_bad_end_of_its_stream(self, stays, connect):
        chunk = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}
        with raw_server(sse(chunk, done=False), stays=stays) as url:
            answer = connect(url, timeout=0.3).ask("Why?")
        assert (answer.text, answer.status, answer.usage) == ("Hi", "done", None)
        assert "did not end well" in answer.warnings[0]

    def test_done_without_the_end_of_the_body_does_not_hold_up_the_answer(self, connect):
        chunk = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}
        with raw_server(sse(chunk), stays=True) as url:
            answer = connect(url, timeout=5).ask("Why?")
        assert answer.text == "Hi" and answer.warnings == () and answer.latency_s < 5

    def test_a_refusal_keeps_the_servers_words_and_an_empty_partial(self, server, backend):
        server.script = Script(status=400, error_body={"error": {"message": "no such sampler", "code": 400}})
        with pytest.raises(RequestRejected, match="no such sampler") as caught:
            backend.ask("Why?")
        assert caught.value.status == 400 and caught.value.partial.request.prompt == "Why?"
        assert caught.value.__cause__ is not None

    @pytest.mark.parametrize("verb", ["stream", "complete"])
    def test_an_overflow_has_its_numbers_streamed_or_not(self, verb, server, backend):  # llama.cpp b11434
        error = {
            "code": 400,
            "message": "request (454 tokens) exceeds the available context size (256 tokens), try increasing it",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 454,
            "n_ctx": 256,
        }
        server.script = Script(status=400, error_body={"error": error})
        with pytest.raises(ContextOverflow, match=r"454 tokens; the context in force at .* is 256\.") as caught:
            getattr(backend, verb)("Why?").result()
        assert (caught.value.prompt_tokens, caught.value.context) == (454, 256)

    def test_a_model_without_tools_is_told(self, server, backend):  # Ollama 0.33
        says = "registry.ollama.ai/library/alpha:latest does not support tools"
        server.script = Script(status=400, error_body={"error": {"message": says, "type": "invalid_request_error"}})
        with pytest.raises(ToolsNotSupported, match="alpha cannot call tools"):
            backend.ask("Why?", tools=[{"type": "function", "function": {"name": "f"}}])


class TestModelNames:
    @pytest.mark.parametrize("style", ["plain", "ollama", "vllm"])
    def test_an_unknown_model_lists_what_there_is_and_the_closest(self, style, connect):
        models = ("llama3.2:latest", "qwen3:8b")
        with ScriptedServer(style=style, models=models) as server, pytest.raises(ModelNotFound) as caught:
            connect(server, "qwen3:8").ask("Why?")
        error = caught.value
        assert error.served == ("llama3.2:latest", "qwen3:8b") and error.status == 404
        assert "Did you mean 'qwen3:8b'?" in str(error) and error.partial.status == "failed"

    def test_lmstudios_local_model_is_whatever_is_loaded(self, connect):
        loaded = {"id": "qwen2.5-7b", "type": "llm", "state": "loaded"}
        others = [
            {"id": "nomic-embed", "type": "embeddings", "state": "loaded"},
            {"id": "gemma-3-4b", "type": "vlm", "state": "not-loaded"},
        ]
        listing = Script(error_body={"object": "list", "data": [*others, loaded]})
        models = ("nomic-embed", "gemma-3-4b", "qwen2.5-7b")
        with ScriptedServer(style="lmstudio", models=models, scripts={"/api/v0/models": listing}) as server:
            backend = connect(server, "local-model", server="lmstudio")
            assert backend.ask("Why?").request.model == "qwen2.5-7b"
            backend.ask("Why?")
            assert [r.path for r in server.requests].count("/api/v0/models") == 1  # looked up once
            assert [r.model for r in server.chats] == ["qwen2.5-7b"] * 2
            assert "qwen2.5-7b" in repr(backend)

    def test_it_is_found_through_settings_too_which_do_not_say_which_server_it_is(self, keep):
        with ScriptedServer(style="lmstudio", models=("qwen2.5-7b",)) as server:
            settings = AgentSettings(model_backend={"base_url": server.base_url, "model": "local-model"})
            backend = keep(OpenAICompatibleBackend.from_settings(settings))
            assert backend.ask("Why?").request.model == "qwen2.5-7b"

    def test_an_older_lmstudio_lists_only_what_is_loaded(self, keep):
        old = {"/api/v0/models": Script(fault="error_200")}
        with ScriptedServer(style="lmstudio", models=("qwen2.5-7b",), scripts=old) as server:
            backend = keep(create_lmstudio_backend(base_url=server.base_url))
            assert backend.ask("Why?").request.model == "qwen2.5-7b"

    def test_without_a_loaded_model_the_error_says_how_to_load_one(self, keep):
        with ScriptedServer(style="lmstudio", models=("qwen2.5-7b", "gemma-3-4b"), load_s=9) as server:
            backend = keep(create_lmstudio_backend(base_url=server.base_url))
            with pytest.raises(ModelNotFound) as caught:
                backend.ask("Why?")
        assert caught.value.served == ("qwen2.5-7b", "gemma-3-4b") and "lms load" in caught.value.hint
        assert server.chats == []

    def test_lmstudio_down_is_unreachable_not_a_missing_model(self, keep):
        with closed_port() as place:
            backend = keep(create_lmstudio_backend(base_url=place.base_url, max_retries=0))
            with pytest.raises(ServerUnreachable, match="lms server start"):
                backend.ask("Why?")

    def test_elsewhere_local_model_is_a_name_like_any_other(self, connect):
        with ScriptedServer(models="local-model") as server:
            assert connect(server, "local-model").ask("Why?").request.model == "local-model"


class TestSilence:
    def test_silence_before_the_first_byte_ends_in_a_timeout_and_one_request(self, server, connect):
        server.script = Script(never=True)
        began = time.monotonic()
        with pytest.raises(ServerTimeout, match=r"did not answer within 0\.2 s") as caught:
            connect(server, timeout=0.2, max_retries=3).ask("Why?")
        assert 0.2 <= time.monotonic() - began < 5
        assert caught.value.partial.text == "" and isinstance(caught.value, TimeoutError)
        server.wait_for_disconnects()
        assert len(server.chats) == 1

    def test_silence_in_mid_stream_ends_in_a_timeout_that_keeps_the_text(self, server, connect):
        server.script = Script(text=words(4), stall_s=20, stall_after=2)
        with pytest.raises(ServerTimeout, match="went silent in the middle") as caught:
            connect(server, timeout=1, max_retries=3).ask("Why?")
        assert caught.value.partial.text == "word0 word1"
        server.wait_for_disconnects()
        assert len(server.chats) == 1

    def test_a_steady_stream_may_take_longer_than_the_timeout(self, server, connect):
        server.script = Script(text=words(16), itl_s=0.1)
        answer = connect(server, timeout=1).ask("Why?")
        assert answer.completion_tokens == 16 and answer.latency_s > 1.4

    def test_comments_are_signs_of_life(self, server, connect):  # mlx-lm while it reads the prompt
        server.script = Script(ttft_s=1.6, keepalive_comments=16)
        answer = connect(server, timeout=1).ask("Why?")
        assert answer.ttft_ms >= 1600

    def test_the_record_says_when_it_was_sent_though_nothing_came(self, server, connect):
        server.script = Script(never=True)
        before = datetime.now(UTC)
        with pytest.raises(ServerTimeout) as caught:
            connect(server, timeout=0.3).ask("Why?")
        started = datetime.fromisoformat(caught.value.partial.started_at)
        assert before - timedelta(milliseconds=2) <= started <= datetime.now(UTC) - timedelta(seconds=0.2)

    def test_a_completion_has_the_same_patience(self, server, connect):
        server.script = Script(never=True)
        with pytest.raises(ServerTimeout):
            connect(server, timeout=0.2).complete("Why?").result()

    def test_the_lists_of_a_silent_server_say_how_long_they_waited(self, connect):
        with tar_pit() as place, pytest.raises(ServerTimeout, match=r"within 0\.2 s"):
            connect(place, timeout=0.2).list_models()

    def test_connecting_has_its_own_limit_and_is_tried_again(self, connect):
        with socket.socket() as listener, ExitStack() as stack:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            for _ in range(4):  # fills the queue of connections: the next one gets no answer at all
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
            with pytest.raises(ServerUnreachable, match="No connection to"):
                connect(url, timeout=0.2).ask("Why?")


class TestLoading:
    def test_llamacpps_503_is_polled_until_the_model_is_there(self, connect):
        with ScriptedServer(FACTS, style="llamacpp", models="alpha", loading_s=1.5) as server:
            run = connect(server, timeout=1).stream("Why?")
            until(lambda: run.state == "loading model")
            answer = run.result()
            assert answer.text == "The sky is blue." and len(server.chats) >= 2
        assert answer.ttft_ms < 1500  # the wait is not in the figures

    @pytest.mark.parametrize("told", [True, False], ids=["known to be Ollama", "not told"])
    def test_ollama_may_be_silent_while_it_loads(self, told, connect):
        with ScriptedServer(FACTS, style="ollama", models="alpha:latest", load_s=1.5) as server:
            backend = connect(server, timeout=0.5, server="ollama" if told else None)
            run = backend.stream("Why?")
            until(lambda: run.state == "loading model")
            assert run.result().text == "The sky is blue."
            assert len(server.chats) == 1

    def test_ollama_that_swaps_models_is_waited_for_though_ps_does_not_list_the_new_one(self, connect):
        absent = {"/api/ps": Script(error_body={"models": []})}
        with ScriptedServer(Script(ttft_s=1.5), style="ollama", models="alpha", scripts=absent) as server:
            assert connect(server, timeout=0.5, server="ollama").ask("Why?").status == "done"

    def test_ollama_that_hangs_with_the_model_in_memory_is_not(self, keep):
        entry = {"name": "alpha:latest", "context_length": 4096, "expires_at": "2026-08-01T10:05:00.123456789-07:00"}
        loaded = {"/api/ps": Script(error_body={"models": [entry]})}
        with ScriptedServer(Script(never=True), style="ollama", models="alpha", scripts=loaded) as server:
            backend = keep(create_ollama_backend("alpha", base_url=server.base_url, timeout=0.2))
            with pytest.raises(ServerTimeout):
                backend.ask("Why?")
            assert len(server.chats) == 1

    def test_lmstudio_may_be_silent_while_it_loads(self, connect):
        with ScriptedServer(FACTS, style="lmstudio", models="alpha", load_s=1.5) as server:
            run = connect(server, timeout=0.5, server="lmstudio").stream("Why?")
            until(lambda: run.state == "loading model")
            assert run.result().text == "The sky is blue."

    def test_even_loading_is_not_waited_for_without_end(self, connect, monkeypatch):
        monkeypatch.setattr(_patience, "MOST_LOADING_S", 1.0)
        absent = {"/api/ps": Script(error_body={"models": []})}
        with ScriptedServer(Script(never=True), style="ollama", models="alpha", scripts=absent) as server:
            backend = connect(server, timeout=0.5, server="ollama")
            with pytest.raises(ServerTimeout, match=r"Ollama at .* was still loading alpha after \d s"):
                backend.ask("Why?")

    def test_a_server_that_cannot_be_asked_is_not_waited_for(self, connect):
        with tar_pit() as place, pytest.raises(ServerTimeout):
            connect(place, timeout=0.2, server="ollama").ask("Why?")

    def test_embedding_waits_for_the_model_too(self, connect):
        with ScriptedServer(style="llamacpp", models="alpha", loading_s=0.3, embeddings=True) as server:
            assert len(connect(server).embed("a")) == 1


class TestRetries:
    @pytest.mark.parametrize("status", [429, 502, 503, 504])
    @pytest.mark.parametrize("verb", ["stream", "complete"])
    def test_a_busy_server_is_asked_again(self, status, verb, server, connect):
        server.enqueue(Script(status=status))
        backend = connect(server, max_retries=1)
        assert getattr(backend, verb)("Why?").result().text == "The sky is blue."
        assert len(server.chats) == 2

    def test_retry_after_is_honoured_and_not_in_the_figures(self, server, connect):
        server.enqueue(Script(status=429, headers={"Retry-After": "2"}))
        answer = connect(server, max_retries=1).ask("Why?")
        first, second = server.chats
        assert second.received_at - first.ended_at >= 2 and answer.latency_s < 2

    def test_after_the_last_retry_the_error_comes(self, server, connect):
        server.script = Script(status=503, error_body={"error": "server busy, please try again."})  # Ollama's queue
        with pytest.raises(ServerFailed, match="server busy") as caught:
            connect(server, max_retries=2).ask("Why?")
        assert caught.value.status == 503 and len(server.chats) == 3

    def test_a_server_that_wants_a_long_wait_is_not_waited_for(self, server, connect):
        server.script = Script(status=429, headers={"Retry-After": "3600"})
        with pytest.raises(RateLimited) as caught:
            connect(server, max_retries=3).ask("Why?")
        assert caught.value.retry_after_s == 3600 and len(server.chats) == 1

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 500, 501])
    def test_other_statuses_are_final(self, status, server, connect):
        server.script = Script(status=status)
        with pytest.raises(Exception, match=r"127\.0\.0\.1"):
            connect(server, max_retries=3).ask("Why?")
        assert len(server.chats) == 1

    def test_a_server_that_comes_back_is_reached(self, server, connect):
        backend = connect(server, max_retries=3)
        server.stop()
        threading.Timer(0.1, server.start).start()
        assert backend.ask("Why?").text == "The sky is blue."

    def test_without_retries_nothing_listening_is_said_at_once(self, connect):
        with closed_port() as place, pytest.raises(ServerUnreachable) as caught:
            connect(place).ask("Why?")
        assert caught.value.partial.latency_s is None and caught.value.__cause__ is not None

    def test_a_connection_given_up_at_once_is_replaced(self, server, connect):
        server.enqueue(Script(status=500, fault="cut"))  # closed without a word, as a stale one is
        assert connect(server, max_retries=1).ask("Why?").text == "The sky is blue."
        assert len(server.chats) == 2

    def test_a_connection_that_breaks_while_the_server_works_is_not(self, server, connect):
        server.script = Script(status=500, fault="cut", ttft_s=0.7)
        with pytest.raises(StreamInterrupted):
            connect(server, max_retries=3).ask("Why?")
        assert len(server.chats) == 1

    def test_lists_and_embeddings_are_asked_for_again_too(self, server, connect):
        backend = connect(server, max_retries=1)
        server.enqueue(Script(status=503), path="/v1/models")
        server.enqueue(Script(status=429), path="/v1/embeddings")
        assert backend.list_models() and backend.embed("a")


class TestStop:
    @pytest.mark.parametrize(
        "script", [Script(never=True), Script(text=words(500), itl_s=0.02)], ids=["before", "amid"]
    )
    def test_a_cancelled_run_hangs_up(self, script, server, connect):
        server.script = script
        run = connect(server).stream("Why?")
        server.wait_for_requests(1)
        if not script.never:
            server.wait_for_tokens(3)
        run.cancel()
        server.wait_for_disconnects()
        with pytest.raises(RunStopped) as caught:
            run.result()
        assert caught.value.partial.status == "stopped"
        assert ("word0" in caught.value.partial.text) is not script.never

    def test_an_interrupt_of_a_blocking_verb_hangs_up_and_keeps_the_text(self, server, backend):
        server.script = Script(text=words(500), itl_s=0.02)

        def interrupt() -> None:
            server.wait_for_tokens(3)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt) as caught:
            backend.ask("Why?")
        thread.join()
        server.wait_for_disconnects()
        assert caught.value.partial.status == "stopped" and caught.value.partial.text.startswith("word0")
        server.script = FACTS
        assert backend.ask("Why?").text == "The sky is blue."  # the backend is as good as before

    def test_leaving_the_loop_over_the_events_hangs_up(self, server, backend):
        server.script = Script(text=words(500), itl_s=0.02)
        for event in backend.stream("Why?"):
            if isinstance(event, TextDelta):
                break
        server.wait_for_disconnects()

    def test_a_cancelled_embedding_hangs_up(self, server, backend):
        server.enqueue(Script(never=True), path="/v1/embeddings")
        thread = threading.Thread(target=lambda: (server.wait_for_requests(1), os.kill(os.getpid(), signal.SIGINT)))
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            backend.embed("a")
        thread.join()
        server.wait_for_disconnects()


class TestClose:
    @pytest.mark.parametrize(
        "verb",
        [
            lambda b: b.ask("Why?"),
            lambda b: b.stream("Why?"),
            lambda b: b.complete("Why?"),
            lambda b: b.list_models(),
            lambda b: b.health_check(),
            lambda b: b.embed("a"),
            lambda b: b.tokenize("a"),
        ],
    )
    def test_every_verb_of_a_closed_backend_says_so(self, verb, server):
        with OpenAICompatibleBackend("alpha", server.base_url) as backend:
            backend.ask("Why?")
        assert backend.closed and "closed" in repr(backend)
        backend.close()  # twice is fine
        with pytest.raises(BackendClosed, match="alpha"):
            verb(backend)

    def test_closing_one_that_was_never_used_is_fine(self, server):
        OpenAICompatibleBackend("alpha", server.base_url).close()

    def test_closing_in_the_middle_ends_what_runs_and_says_why(self, server):
        server.script = Script(text=words(500), itl_s=0.02)
        server.enqueue(Script(never=True))
        backend = OpenAICompatibleBackend("alpha", server.base_url)
        runs = [backend.stream("Why?"), backend.stream("Why?")]
        server.wait_for_tokens(5)
        backend.close()
        for run in runs:
            with pytest.raises(BackendClosed):
                run.result(timeout=10)
        server.wait_for_disconnects(2)
        assert any(run.partial.text.startswith("word0") for run in runs)

    def test_one_that_is_dropped_leaves_no_complaint(self, server, caplog):
        for _ in range(3):
            OpenAICompatibleBackend("alpha", server.base_url).ask("Why?")
        gc.collect()
        time.sleep(0.1)
        assert "nclosed" not in caplog.text


class TestConnections:
    def test_one_connection_serves_one_request_after_the_other(self, server, backend):
        for _ in range(3):
            backend.ask("Why?")
        backend.complete("Why?").result()
        backend.list_models()
        server.enqueue(Script(status=400))
        with pytest.raises(RequestRejected):
            backend.ask("Why?")
        backend.ask("Why?")
        assert {request.connection for request in server.requests} == {0}

    def test_a_kept_connection_that_the_server_closed_is_survived(self, connect):
        with ScriptedServer(FACTS, models="alpha", keep_alive_s=0.05) as server:
            backend = connect(server)
            backend.ask("Why?")
            time.sleep(0.2)
            assert backend.ask("Why?").text == "The sky is blue."
            assert server.connections == 2

    def test_many_threads_share_a_backend(self, server, connect):
        server.script = Script(echo=True, itl_s=0.005)
        backend = connect(server, timeout=30)
        prompts = [f"number {i} of many" for i in range(24)]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda prompt: backend.ask(prompt).text, prompts))
        assert answers == prompts and server.connections <= 8

    def test_many_runs_at_once_share_a_backend(self, server, connect):
        server.script = Script(echo=True, ttft_s=0.05)
        backend = connect(server, timeout=30)
        runs = [backend.stream(f"number {i}") for i in range(20)]
        assert [run.result().text for run in runs] == [f"number {i}" for i in range(20)]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
    def test_a_forked_child_and_its_parent_both_go_on(self, server):
        script = textwrap.dedent(
            """
            import os, sys, warnings
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of any fork beside threads
            from mamba_nb.backends import OpenAICompatibleBackend
            backend = OpenAICompatibleBackend("alpha", sys.argv[1], timeout=20)
            print("before", backend.ask("Why?").text, flush=True)
            child = os.fork()
            if child == 0:
                print("child", backend.ask("Why?").text, flush=True)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            print("parent", backend.ask("Why?").text, flush=True)
            backend.close()
            """
        )
        command = [sys.executable, "-c", script, server.base_url]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert ended.stdout.splitlines() == [f"{who} The sky is blue." for who in ("before", "child", "parent")], (
            ended.stderr
        )
        assert [request.connection for request in server.requests] == [0, 1, 0]  # the child opened its own


class TestKeys:
    def test_the_key_is_sent_and_shown_nowhere(self, connect):
        with ScriptedServer(FACTS, models="alpha", api_key=KEY) as server:
            for key in (KEY, pydantic.SecretStr(KEY)):
                backend = connect(server, api_key=key)
                assert backend.ask("Why?").text == "The sky is blue." and backend.api_key_given
                parts = [backend, backend.where(), *(part for name, part in vars(backend).items() if name != "_key")]
                assert not any(KEY in repr(part) or KEY in str(part) for part in parts)

    @pytest.mark.parametrize("verb", [lambda b: b.ask("Why?"), lambda b: b.embed("a"), lambda b: b.list_models()])
    def test_an_error_does_not_show_it_though_the_server_repeats_it(self, verb, server, connect):
        refusal = Script(status=401, error_body={"error": {"message": f"Incorrect API key provided: {KEY}."}})
        server.script = refusal
        server.scripts.update({"/v1/models": refusal, "/v1/embeddings": refusal})
        with pytest.raises(AuthenticationFailed) as caught:
            verb(connect(server, api_key=KEY))
        error = caught.value
        shown = [str(error), repr(error), str(vars(error)), "".join(traceback.format_exception(error))]
        assert not any(KEY in text for text in shown)
        assert KEY.encode() not in pickle.dumps(error)

    @pytest.mark.parametrize(
        "key", ["sk 1", "sk-\n1", "\N{LEFT DOUBLE QUOTATION MARK}sk-1\N{RIGHT DOUBLE QUOTATION MARK}"]
    )
    def test_a_key_that_none_can_be_is_refused_and_not_repeated(self, key, connect):
        with pytest.raises(BadInput, match="no key has") as caught:
            connect("http://127.0.0.1:1/v1", api_key=key)
        assert key not in str(caught.value)

    def test_the_line_end_of_the_file_that_a_key_was_read_from_is_dropped(self, connect):
        with ScriptedServer(FACTS, models="alpha", api_key=KEY) as server:
            assert connect(server, api_key=f"{KEY}\n").ask("Why?").status == "done"

    def test_a_wrong_key_and_a_missing_one_are_told_apart(self, connect):
        with ScriptedServer(models="alpha", api_key="right") as server:
            with pytest.raises(AuthenticationFailed, match="wants another API key"):
                connect(server, api_key="wrong").ask("Why?")
            with pytest.raises(AuthenticationFailed, match="wants an API key"):
                connect(server).ask("Why?")

    def test_openai_without_a_key_is_refused_before_anything_is_sent(self, connect):
        with pytest.raises(AuthenticationFailed, match="none was given"):
            connect("https://api.openai.com/v1", "gpt-4o").ask("Why?")


class TestHealth:
    def both(self, url: str, connect, timeout: float = 5, **key: str) -> list:
        return [
            connect(url, timeout=timeout, **key).health_check(),
            asyncio.run(check_server_health(url, timeout=timeout, **key)),
        ]

    def test_a_server_that_is_up_is_true_and_lists_its_models(self, server, connect):
        for health in self.both(server.base_url, connect):
            assert health and health.models == ("alpha", "alpha-mini") and health.latency_ms > 0
            assert health.error is None and "2 models" in repr(health)

    def test_a_server_that_is_down_is_false_and_says_why(self, connect):
        with closed_port() as place:
            for health in self.both(place.base_url, connect):
                assert not health and "Nothing is listening" in health.error and health.latency_ms is None

    def test_a_server_that_says_nothing_is_false_after_the_timeout(self, connect):
        with tar_pit() as place:
            began = time.monotonic()
            for health in self.both(place.base_url, connect, timeout=0.3):
                assert not health and "did not answer within 0.3 s" in health.error
            assert time.monotonic() - began < 5

    def test_a_page_is_no_model_server(self, server, connect):
        server.scripts["/v1/models"] = Script(error_body=PAGE)
        for health in self.both(server.base_url, connect):
            assert not health and "not in the OpenAI protocol" in health.error

    @pytest.mark.parametrize("style", ["ollama", "vllm", "lmstudio"])
    def test_a_wrong_path_says_which_to_try(self, style, connect):
        with ScriptedServer(style=style, models="alpha") as server:
            for health in self.both(server.root, connect):
                assert not health and f"base_url={server.base_url!r}" in health.error

    def test_a_missing_key_is_said(self, connect):
        with ScriptedServer(models="alpha", api_key=KEY) as server:
            for health in self.both(server.base_url, connect):
                assert not health and "wants an API key" in health.error
            assert all(self.both(server.base_url, connect, api_key=KEY))

    def test_a_server_that_is_loading_is_not_well_yet(self, connect):
        with ScriptedServer(style="llamacpp", models="alpha", loading_s=60) as server:
            for health in self.both(server.base_url, connect):
                assert not health and "still loading its model" in health.error

    def test_a_server_without_models_is_well(self, connect):
        with ScriptedServer(style="ollama", models=()) as server:
            assert all(health.models == () for health in self.both(server.base_url, connect) if health)

    def test_an_address_that_is_none_is_refused(self):
        with pytest.raises(BadInput):
            asyncio.run(check_server_health("localhost:11434"))


class TestBadInput:
    @pytest.mark.parametrize(
        ("url", "says"),
        [
            ("", "must start with http"),
            (None, "must be text"),
            ("localhost:11434/v1", "must start with http"),
            ("127.0.0.1:8000", "must start with http"),
            ("ftp://localhost/v1", "must start with http"),
            ("http://", "must start with http"),
            ("http://localhost:port/v1", "must have a host, and a port"),
            ("http://localhost:99999/v1", "must have a host, and a port"),
            ("http://localhost:8000/v1/chat/completions", "must stop before"),
            ("http://localhost:8000/v1/completions/", "must stop before"),
            ("http://localhost:8000/v1/models", "must stop before"),
            ("http://localhost:8000/v1/embeddings", "must stop before"),
            ("http://localhost:8000/v1?key=1", "must end with its path"),
            ("http://localhost:8000/v1#top", "must end with its path"),
        ],
    )
    def test_an_address_that_cannot_be_meant_is_refused(self, url, says):
        with pytest.raises(BadInput, match=says):
            OpenAICompatibleBackend("alpha", url)

    def test_a_pasted_endpoint_says_what_to_use_instead(self):
        with pytest.raises(BadInput, match="Use http://localhost:8000/v1"):
            OpenAICompatibleBackend("alpha", "http://localhost:8000/v1/chat/completions")

    def test_a_password_in_the_address_is_refused_and_not_repeated(self):
        with pytest.raises(BadInput, match="no user name, no password") as caught:
            OpenAICompatibleBackend("alpha", "http://ann:hunter2@gpu.lan/v1")
        assert "hunter2" not in str(caught.value) and "ann" not in str(caught.value)

    @pytest.mark.parametrize(
        "options",
        [
            {"model": ""},
            {"model": "  "},
            {"model": None},
            {"timeout": 0},
            {"timeout": -1},
            {"timeout": "30"},
            {"timeout": float("nan")},
            {"timeout": True},
            {"max_retries": -1},
            {"max_retries": 1.5},
            {"api_key": 7},
            {"temperature": 2.5},
            {"temperature": float("nan")},
            {"max_tokens": 0},
            {"server": "lm-studio"},
            {"temprature": 1},
        ],
    )
    def test_an_option_that_cannot_be_meant_is_refused(self, options):
        with pytest.raises(BadInput):
            OpenAICompatibleBackend(**{"model": "alpha", "base_url": "http://127.0.0.1:1/v1", **options})

    def test_a_kind_of_server_that_is_misspelt_is_guessed(self):
        with pytest.raises(BadInput, match="Did you mean 'lmstudio'"):
            OpenAICompatibleBackend("alpha", "http://127.0.0.1:1/v1", server="lm-studio")

    @pytest.mark.parametrize("prompt", ["", [], 7, None, b"Why?", ["Why?"], [{"role": "me", "content": "Why?"}]])
    def test_a_prompt_that_is_none_is_refused_before_anything_is_sent(self, prompt, server, backend):
        for verb in (backend.stream, backend.complete, backend.ask):
            with pytest.raises(BadInput):
                verb(prompt)
        assert server.requests == []

    def test_a_function_as_a_tool_is_refused_before_anything_is_sent(self, server, backend):
        with pytest.raises(BadInput, match="tools must be JSON"):
            backend.ask("Why?", tools=[print])
        assert server.requests == []

    def test_what_is_changed_after_the_call_does_not_change_the_record(self, server, backend):
        messages = [{"role": "user", "content": "Why?"}]
        tools = [{"type": "function", "function": {"name": "f"}}]
        run = backend.stream(messages, tools=tools)
        messages[0]["content"] = "What?"
        tools[0]["function"]["name"] = "g"
        request = run.result().request
        assert request.prompt == "Why?" and request.params["tools"][0]["function"]["name"] == "f"
        assert server.requests[0].prompt == "Why?"
