"""text-generation-webui: what is loaded and what could be, a prompt that is cut without a word."""

from __future__ import annotations

import json

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

from mamba_nb.errors import AuthenticationFailed, BadInput, RequestRejected, ServerFailed
from mamba_nb.testing import Script, ScriptedServer

FILES = ("llama-3.2-3b.gguf", "qwen3-8b.gguf")
NONE = {"context_length": None, "keep_alive": None}


@pytest.fixture
def server():
    with ScriptedServer(style="textgenwebui", models=FILES) as server:
        yield server


@pytest.fixture
def empty():
    with ScriptedServer(style="textgenwebui", models=FILES, options={"loaded": None}) as server:
        yield server


class TestRecognise:
    def test_by_the_owner_and_its_own_path(self, server):
        sighting = recognised("textgenwebui", server)
        assert (sighting.kind, sighting.certainty, sighting.needs_key) == ("textgenwebui", "certain", False)
        assert paths(server) == ["/v1/models", "/v1/internal/model/info"]

    def test_where_nothing_is_loaded(self, empty):
        assert json.loads(get(empty, "/v1/models")[2])["data"] == []
        assert recognised("textgenwebui", empty).certainty == "certain"

    def test_where_a_key_is_wanted(self):
        with ScriptedServer(style="textgenwebui", api_key="k") as server:
            assert recognised("textgenwebui", server).needs_key
            assert not recognised("textgenwebui", server, key="k").needs_key

    @pytest.mark.parametrize("other", [name for name in OTHERS if name != "textgenwebui"])
    @pytest.mark.parametrize("models", [("m",), ()], ids=["with a model", "without"])
    @pytest.mark.parametrize("api_key", [None, "k"], ids=["open", "with a key"])
    def test_nobody_else_is_one(self, other, models, api_key):
        with ScriptedServer(style=other, models=models, api_key=api_key) as server:
            assert recognised("textgenwebui", server) is None

    @pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
    def test_an_odd_answer_is_none(self, body):
        with odd("textgenwebui", "/v1/internal/model/info", body) as server:
            assert recognised("textgenwebui", server) is None


class TestModels:
    def test_what_is_loaded_and_what_could_be(self, server):
        models = [checked(model) for model in found("textgenwebui", server)]
        assert [(model.id, model.state) for model in models] == [(FILES[0], "loaded"), (FILES[1], "unloaded")]
        assert models[0].extras == {"loader": "llama.cpp"} and told(models[0]) == {}

    def test_none_is_nothing(self, empty):
        assert [(model.id, model.state) for model in found("textgenwebui", empty)] == [
            (name, "unloaded") for name in FILES
        ]

    def test_without_the_administrators_key_there_is_what_is_loaded(self):
        with ScriptedServer(style="textgenwebui", models=FILES, options={"admin_key": "a"}) as server:
            assert [model.id for model in found("textgenwebui", server)] == [FILES[0]]
            assert [model.id for model in found("textgenwebui", server, key="a")] == list(FILES)

    @pytest.mark.parametrize("path", ["/v1/models", "/v1/internal/model/info", "/v1/internal/model/list"])
    @pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
    def test_odd_answers_leave_the_rest(self, path, body):
        models = survives("textgenwebui", path, body)
        assert [model.id for model in models] == ["m"]  # each of the three names it

    @pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: repr(value)[:20])
    def test_odd_values_are_unknown(self, value):
        info = {"model_name": value, "lora_names": value, "loader": value}
        scripts = {
            "/v1/internal/model/info": Script(error_body=json.dumps(info)),
            "/v1/internal/model/list": Script(error_body=json.dumps({"model_names": [value, value]})),
        }
        with ScriptedServer(style="textgenwebui", models=("m",), scripts=scripts) as server:
            models = [checked(model) for model in found("textgenwebui", server)]
        assert {model.id for model in models} == ({"m", "many"} if value == "many" else {"m"})

    def test_five_thousand(self):
        with ScriptedServer(style="textgenwebui", models=tuple(f"m{number}" for number in range(5000))) as server:
            assert len(found("textgenwebui", server)) == 5000


class TestVerbs:
    def test_load_with_a_context(self, empty):
        ask(kind("textgenwebui").load(asking(empty), FILES[1], context_length=16_384, keep_alive=None))
        assert empty.state["loaded"] == FILES[1] and empty.context_length == 16_384

    def test_load_without_one_sends_no_arguments(self, empty):
        ask(kind("textgenwebui").load(asking(empty), FILES[1], **NONE))
        assert empty.requests[-1].body == {"model_name": FILES[1]}

    def test_a_load_that_fails_keeps_its_words(self, server):
        with pytest.raises(RequestRejected, match=r"Failed to load the model\."):
            ask(kind("textgenwebui").load(asking(server), "nope", **NONE))

    def test_load_refuses_what_it_has_no_place_for(self, server):
        with pytest.raises(BadInput, match="keep_alive"):
            ask(kind("textgenwebui").load(asking(server), FILES[0], context_length=None, keep_alive=60))

    def test_the_administrators_key_is_asked_for(self):
        with (
            ScriptedServer(style="textgenwebui", models=FILES, options={"admin_key": "a"}) as server,
            pytest.raises(AuthenticationFailed, match="key"),
        ):
            ask(kind("textgenwebui").load(asking(server), FILES[1], **NONE))

    def test_unload(self, server):
        ask(kind("textgenwebui").unload(asking(server), FILES[0]))
        assert server.state["loaded"] == "None"
        with pytest.raises(BadInput, match=r"Nothing is in memory\."):
            ask(kind("textgenwebui").unload(asking(server), FILES[0]))

    def test_another_model_than_the_one_meant_is_not_unloaded(self, server):
        with pytest.raises(BadInput, match=f"'{FILES[0]}' is in memory"):
            ask(kind("textgenwebui").unload(asking(server), FILES[1]))
        assert server.state["loaded"] == FILES[0]

    def test_tokenize(self, server):
        assert len(ask(kind("textgenwebui").tokenize(asking(server), FILES[0], "one two three"))) == 3

    def test_a_chat_is_counted_as_the_prompt_that_it_becomes(self, server):
        counted = ask(kind("textgenwebui").count_tokens(asking(server), FILES[0], CHAT["messages"], ()))
        assert counted == 8  # six words between two marks
        assert paths(server) == ["/v1/internal/chat-prompt", "/v1/internal/token-count"]

    def test_a_long_chat_is_counted_as_well(self, server):
        long = [{"role": "user", "content": "word " * 3000}]
        assert ask(kind("textgenwebui").count_tokens(asking(server), FILES[0], long, ())) > 3000

    @pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
    def test_odd_answers_to_verbs_are_our_errors(self, body):
        verbs = kind("textgenwebui")
        with odd("textgenwebui", "/v1/internal/encode", body) as server, pytest.raises(ServerFailed):
            ask(verbs.tokenize(asking(server), "m", "x"))
        for path in ("/v1/internal/chat-prompt", "/v1/internal/token-count"):
            with odd("textgenwebui", path, body) as server, pytest.raises(ServerFailed):
                ask(verbs.count_tokens(asking(server), "m", CHAT["messages"], ()))
        with odd("textgenwebui", "/v1/internal/model/load", body) as server, pytest.raises(ServerFailed):
            ask(verbs.load(asking(server), "m", **NONE))

    def test_what_its_chat_request_does_not_have_is_known(self):
        assert set(kind("textgenwebui").ignores) == {"n", "response_format", "parallel_tool_calls"}


class TestPersonality:
    def test_a_prompt_beyond_the_context_is_cut_without_a_word(self):
        with ScriptedServer(style="textgenwebui", models=("m",), context_length=4) as server:
            status, _, body = post(server, "/v1/chat/completions", CHAT)
            assert (status, json.loads(body)["usage"]["prompt_tokens"]) == (200, 4)
            server.options["truncates"] = False
            assert json.loads(post(server, "/v1/chat/completions", CHAT)[2])["usage"]["prompt_tokens"] == 6

    def test_any_name_is_answered_by_what_is_loaded(self, server):
        assert json.loads(post(server, "/v1/chat/completions", {**CHAT, "model": "gpt-4"})[2])["model"] == FILES[0]

    def test_where_nothing_is_loaded_it_does_not_answer(self, empty):
        assert post(empty, "/v1/chat/completions", CHAT)[0] == 503
