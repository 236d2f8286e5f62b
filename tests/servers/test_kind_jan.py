"""Jan: little of it is its own, so it is told by its words and its API document, and never by less."""

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

from mamba_nb.errors import AuthenticationFailed, BadInput, ModelNotFound, NotHere, ServerFailed
from mamba_nb.testing import Script, ScriptedServer

KEY = "jan-key"
ABOUT = {"qwen3": {"size_bytes": 500_000_000}, "bge": {"capabilities": ["embedding"]}}


@pytest.fixture
def server():
    with ScriptedServer(style="jan", models=tuple(ABOUT), about=ABOUT, load_s=0.01) as server:
        yield server


class TestRecognise:
    def test_by_its_document_where_it_asks_for_a_key(self, server):
        sighting = recognised("jan", server)
        assert (sighting.kind, sighting.certainty, sighting.needs_key) == ("jan", "likely", True)
        assert "Jan API Server Endpoints" in sighting.evidence

    def test_with_its_key_as_well(self, server):
        sighting = recognised("jan", server, key=KEY)
        assert (sighting.certainty, sighting.needs_key) == ("likely", False)

    def test_with_the_wrong_key(self, server):
        assert recognised("jan", server, key="wrong").needs_key

    def test_where_it_asks_for_none(self):
        with ScriptedServer(style="jan", options={"open": True}) as server:
            assert not recognised("jan", server).needs_key

    def test_its_words_alone_are_a_guess(self):
        with odd("jan", "/openapi.json", "{}") as server:
            assert recognised("jan", server).certainty == "guess"
            assert recognised("jan", server, key=KEY) is None

    @pytest.mark.parametrize("other", [name for name in OTHERS if name != "jan"])
    @pytest.mark.parametrize("models", [("m",), ()], ids=["with a model", "without"])
    @pytest.mark.parametrize("api_key", [None, "k"], ids=["open", "with a key"])
    def test_nobody_else_is_one(self, other, models, api_key):
        with ScriptedServer(style=other, models=models, api_key=api_key) as server:
            assert recognised("jan", server) is None

    def test_text_generation_webui_has_the_same_owner_and_is_asked_for_its_document_only(self):
        with ScriptedServer(style="textgenwebui") as server:
            assert recognised("jan", server) is None
            assert paths(server) == ["/v1/models", "/openapi.json"]


class TestModels:
    def test_those_in_memory_and_those_on_disk(self, server):
        post(server, "/v1/models/load", {"model": "qwen3"}, key=KEY)
        qwen3, bge = [checked(model) for model in found("jan", server, key=KEY)]
        assert (qwen3.id, qwen3.state, qwen3.task) == ("qwen3", "loaded", "chat")
        assert told(qwen3) == {"size_bytes": 500_000_000}
        assert (bge.id, bge.state, bge.task, bge.supports_embeddings) == ("bge", "unloaded", "embedding", True)
        assert bge.evidence["state"] == "GET /v1/models/available"

    def test_an_older_version_lists_what_is_in_memory(self):
        with ScriptedServer(style="jan", models=("a", "b"), options={"old": True}, load_s=0.01) as server:
            post(server, "/v1/chat/completions", {**CHAT, "model": "b"}, key=KEY)
            assert [(model.id, model.state) for model in found("jan", server, key=KEY)] == [("b", "loaded")]

    def test_without_the_key_there_are_none(self, server):
        assert found("jan", server) == []

    @pytest.mark.parametrize("path", ["/v1/models", "/v1/models/available", "/openapi.json"])
    @pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
    def test_odd_answers_leave_the_rest(self, path, body):
        models = survives("jan", path, body)
        assert path == "/v1/models" or [model.id for model in models] == ["m"]

    @pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: repr(value)[:20])
    def test_odd_values_are_unknown(self, value):
        entry = {"id": "m", "status": value, "size_bytes": value, "capabilities": value}
        scripts = {"/v1/models/available": Script(error_body=json.dumps({"data": [entry, {"id": value}]}))}
        with ScriptedServer(style="jan", models=(), scripts=scripts) as server:
            models = [checked(model) for model in found("jan", server, key=KEY)]
        assert models[0].state is None and models[0].size_bytes is None and models[0].task is None

    def test_five_thousand(self):
        with ScriptedServer(style="jan", models=tuple(f"m{number}" for number in range(5000))) as server:
            models = found("jan", server, key=KEY)
        assert len(models) == 5000 and models[-1].state == "loaded"


class TestVerbs:
    def test_load_with_a_context(self, server):
        ask(kind("jan").load(asking(server, key=KEY), "qwen3", context_length=8192, keep_alive=None))
        assert server.loaded_models == ["qwen3"] and server.state["ctx_size"] == 8192

    def test_load_without_one_sends_none(self, server):
        ask(kind("jan").load(asking(server, key=KEY), "qwen3", context_length=None, keep_alive=None))
        assert server.requests[-1].body == {"model": "qwen3"}

    def test_load_of_what_is_not_there(self, server):
        with pytest.raises(ModelNotFound, match="nope"):
            ask(kind("jan").load(asking(server, key=KEY), "nope", context_length=None, keep_alive=None))

    def test_load_refuses_what_it_has_no_place_for(self, server):
        with pytest.raises(BadInput, match="keep_alive"):
            ask(kind("jan").load(asking(server, key=KEY), "qwen3", context_length=None, keep_alive="5m"))
        assert server.requests == []

    def test_unload(self, server):
        ask(kind("jan").load(asking(server, key=KEY), "qwen3", context_length=None, keep_alive=None))
        ask(kind("jan").unload(asking(server, key=KEY), "qwen3"))
        assert server.loaded_models == []
        with pytest.raises(ModelNotFound, match="not currently loaded"):
            ask(kind("jan").unload(asking(server, key=KEY), "qwen3"))

    def test_an_older_version_has_no_way(self):
        with ScriptedServer(style="jan", options={"old": True}) as server:
            with pytest.raises(NotHere, match="load a model"):
                ask(kind("jan").load(asking(server, key=KEY), "m", context_length=None, keep_alive=None))
            with pytest.raises(NotHere, match="unload a model"):
                ask(kind("jan").unload(asking(server, key=KEY), "m"))

    def test_without_the_key(self, server):
        with pytest.raises(AuthenticationFailed, match="Missing authorization header"):
            ask(kind("jan").unload(asking(server), "qwen3"))

    @pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
    def test_odd_answers_to_verbs_are_our_errors(self, body):
        with odd("jan", "/v1/models/unload", body) as server, pytest.raises(ServerFailed):
            ask(kind("jan").unload(asking(server, key=KEY), "m"))


class TestPersonality:
    def test_it_speaks_in_plain_words(self, server):
        assert get(server, "/v1/models")[::2] == (401, "Missing authorization header")
        assert get(server, "/v1/models", key="x")[::2] == (401, "Invalid or missing authorization token")
        assert get(server, "/api/version", key=KEY)[::2] == (404, "Not Found")
        status, _, body = post(server, "/v1/chat/completions", {**CHAT, "model": "nope"}, key=KEY)
        assert (status, body) == (404, "No running session found for model 'nope'")

    def test_its_page_and_its_document_are_public(self, server):
        assert "API Docs" in get(server, "/")[2]
        assert get(server, "/openapi.json")[0] == 200

    def test_a_completion_comes_from_llama_cpp_and_nothing_else_does(self, server):
        _, headers, body = post(server, "/v1/chat/completions", {**CHAT, "model": "qwen3"}, key=KEY)
        assert headers["server"] == "llama.cpp" and "timings" in json.loads(body)
        assert "server" not in get(server, "/v1/models", key=KEY)[1]
