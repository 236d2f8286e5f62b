"""KoboldCpp: told by its own version, its context in force, its counts and its figures."""

from __future__ import annotations

import json
import threading

import pytest
from at_work import (
    CHAT,
    ODD_BODIES,
    ODD_VALUES,
    OTHERS,
    ask,
    asking,
    checked,
    found,
    get,
    kind,
    odd,
    paths,
    post,
    recognised,
    survives,
    told,
)

from mamba_nb.errors import AuthenticationFailed, NotHere, ServerFailed
from mamba_nb.testing import Script, ScriptedServer

MODEL = "koboldcpp/Llama-3.2-3B-Q4_K_M"


@pytest.fixture
def server():
    with ScriptedServer(style="koboldcpp", models=(MODEL,), options={"vision": True}, context_length=8192) as server:
        yield server


class TestRecognise:
    def test_by_its_own_version(self, server):
        sighting = recognised("koboldcpp", server)
        assert (sighting.kind, sighting.certainty, sighting.version) == ("koboldcpp", "certain", "1.109.2")
        assert not sighting.needs_key and paths(server) == ["/v1/models", "/api/extra/version"]

    def test_with_a_password(self):
        with ScriptedServer(style="koboldcpp", api_key="k") as server:
            assert recognised("koboldcpp", server).needs_key
            assert not recognised("koboldcpp", server, key="k").needs_key

    def test_where_its_list_is_in_the_way(self):
        with odd("koboldcpp", "/v1/models", ODD_BODIES["a page"]) as server:
            assert recognised("koboldcpp", server).kind == "koboldcpp"

    @pytest.mark.parametrize("other", [name for name in OTHERS if name != "koboldcpp"])
    @pytest.mark.parametrize("models", [("m",), ()], ids=["with a model", "without"])
    @pytest.mark.parametrize("api_key", [None, "k"], ids=["open", "with a key"])
    def test_nobody_else_is_one(self, other, models, api_key):
        with ScriptedServer(style=other, models=models, api_key=api_key) as server:
            assert recognised("koboldcpp", server) is None

    @pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
    def test_an_odd_version_is_none(self, body):
        with odd("koboldcpp", "/api/extra/version", body) as server:
            assert recognised("koboldcpp", server) is None


class TestModels:
    def test_what_it_says_of_its_model(self, server):
        [model] = [checked(model) for model in found("koboldcpp", server)]
        assert told(model) == {"context_window": 8192, "supports_vision": True}
        assert (model.id, model.state) == (MODEL, "loaded")
        assert model.evidence["context_window"] == "GET /api/extra/true_max_context_length"

    def test_nothing_of_its_imitation_of_ollama_is_believed(self, server):
        assert json.loads(get(server, "/api/tags")[2])["models"][0]["details"]["parameter_size"] == "128M"
        [model] = found("koboldcpp", server)
        assert (model.parameters, model.quantization, model.family, model.digest) == (None,) * 4

    def test_in_router_mode_the_others_are_not_in_memory(self):
        with ScriptedServer(style="koboldcpp", models=("a", "b", "c")) as server:
            states = [(model.id, model.state, model.context_window) for model in found("koboldcpp", server)]
        assert states == [("a", "loaded", 4096), ("b", "unloaded", None), ("c", "unloaded", None)]

    def test_started_without_a_text_model_it_has_none(self):
        with ScriptedServer(style="koboldcpp", options={"inactive": True}) as server:
            assert recognised("koboldcpp", server).kind == "koboldcpp"
            assert found("koboldcpp", server) == []

    def test_the_version_is_not_the_imitations(self, server):
        assert ask(kind("koboldcpp").version(asking(server))) == "1.109.2"
        assert json.loads(get(server, "/api/version")[2]) == {"version": "0.7.0"}

    @pytest.mark.parametrize("path", ["/v1/models", "/api/extra/version", "/api/extra/true_max_context_length"])
    @pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
    def test_odd_answers_leave_the_rest(self, path, body):
        models = survives("koboldcpp", path, body)
        assert path == "/v1/models" or [model.id for model in models] == ["m"]

    @pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: repr(value)[:20])
    def test_odd_values_are_unknown(self, value):
        version = {"result": "KoboldCpp", "version": value, "vision": value, "protected": value}
        scripts = {
            "/api/extra/version": Script(error_body=json.dumps(version)),
            "/api/extra/true_max_context_length": Script(error_body=json.dumps({"value": value})),
        }
        with ScriptedServer(style="koboldcpp", models=("m",), scripts=scripts) as server:
            assert recognised("koboldcpp", server).version in (None, value)
            [model] = [checked(model) for model in found("koboldcpp", server)]
        assert model.context_window is None
        assert model.supports_vision is (True if value is True else None)

    def test_five_thousand(self):
        with ScriptedServer(style="koboldcpp", models=tuple(f"m{number}" for number in range(5000))) as server:
            assert len(found("koboldcpp", server)) == 5000


class TestVerbs:
    def test_tokenize_leaves_out_what_begins_a_text(self, server):
        tokens = ask(kind("koboldcpp").tokenize(asking(server), MODEL, "one two one"))
        assert len(tokens) == 3 and 1 not in tokens
        assert server.requests[-1].body == {"prompt": "one two one", "special": False}

    def test_a_chat_is_counted_with_its_template(self, server):
        counted = ask(kind("koboldcpp").count_tokens(asking(server), MODEL, CHAT["messages"], ()))
        assert counted == 7  # the six words, two of them with a mark around them, and the token that begins a text
        assert "tools" not in server.requests[-1].body

    def test_tools_are_sent_where_there_are_some(self, server):
        tools = [{"type": "function", "function": {"name": "add"}}]
        ask(kind("koboldcpp").count_tokens(asking(server), MODEL, CHAT["messages"], tools))
        assert server.requests[-1].body["tools"] == tools

    def test_an_older_version_counts_text_only_and_that_is_said(self):
        with ScriptedServer(style="koboldcpp", options={"old": True}) as server:
            with pytest.raises(NotHere, match="not of a chat"):
                ask(kind("koboldcpp").count_tokens(asking(server), "m", CHAT["messages"], ()))
            assert len(ask(kind("koboldcpp").tokenize(asking(server), "m", "one two"))) == 2

    def test_its_figures(self, server):
        figures = ask(kind("koboldcpp").metrics(asking(server)))
        assert figures == {
            "requests_waiting": 0.0,
            "requests_running": 0.0,
            "requests_total": 7.0,
            "last_prompt_tokens": 100.0,
            "last_output_tokens": 40.0,
            "last_prompt_tokens_per_s": 500.0,
            "last_decode_tokens_per_s": 50.0,
            "uptime_s": 60.5,
        }

    def test_without_the_password_it_does_not_count(self):
        with (
            ScriptedServer(style="koboldcpp", api_key="k") as server,
            pytest.raises(AuthenticationFailed, match="Authentication key is missing"),
        ):
            ask(kind("koboldcpp").tokenize(asking(server), "m", "x"))

    def test_a_long_chat_is_counted_as_well(self, server):
        long = [{"role": "user", "content": "word " * 3000}]
        assert ask(kind("koboldcpp").count_tokens(asking(server), MODEL, long, ())) > 3000

    @pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
    def test_odd_answers_to_verbs_are_our_errors(self, body):
        with odd("koboldcpp", "/api/extra/tokencount", body) as server, pytest.raises(ServerFailed):
            ask(kind("koboldcpp").tokenize(asking(server), "m", "x"))
        with odd("koboldcpp", "/api/extra/perf", body) as server:
            assert ask(kind("koboldcpp").metrics(asking(server))) == {}


class TestPersonality:
    def test_the_name_in_a_request_is_ignored(self, server):
        status, _, body = post(server, "/v1/chat/completions", {**CHAT, "model": "gpt-4"})
        assert (status, json.loads(body)["model"]) == (200, MODEL)

    def test_one_answer_at_a_time(self):
        with ScriptedServer(Script(text="slow answer", ttft_s=0.1), style="koboldcpp") as server:
            asks = [threading.Thread(target=post, args=(server, "/v1/chat/completions", CHAT)) for _ in range(3)]
            for thread in asks:
                thread.start()
            for thread in asks:
                thread.join()
        assert server.peak_answering == 1

    def test_an_unknown_path(self, server):
        status, _, body = get(server, "/props")
        assert status == 404 and "KoboldCpp HTTP Server is running, but this endpoint does not exist" in body

    def test_one_choice_whatever_n_says(self, server):
        body = post(server, "/v1/chat/completions", {**CHAT, "n": 3})[2]
        assert len(json.loads(body)["choices"]) == 1
