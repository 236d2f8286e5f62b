"""LocalAI: told by its own document, its facts out of four lists, its imitation of Ollama not believed."""

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
    pulled,
    recognised,
    survives,
    told,
)

from mamba_nb.errors import AuthenticationFailed, ModelNotFound, ServerFailed
from mamba_nb.testing import Script, ScriptedServer

ABOUT = {
    "qwen3": {"capabilities": ["chat", "vision", "tools", "thinking"], "input_modalities": ["text", "image"]},
    "bge": {"capabilities": ["embeddings"], "context_size": 512, "parameter_size": "", "quantization": ""},
    "whisper": {"capabilities": ["transcript"], "input_modalities": ["audio"]},
}


@pytest.fixture
def server():
    with ScriptedServer(style="localai", models=tuple(ABOUT), about=ABOUT, load_s=0.01) as server:
        yield server


class TestRecognise:
    def test_by_its_own_document(self, server):
        sighting = recognised("localai", server)
        assert (sighting.kind, sighting.certainty, sighting.needs_key) == ("localai", "certain", False)
        assert sighting.version == "v4.9.0 (0c8bba1f)"
        assert paths(server) == ["/v1/models", "/.well-known/localai.json"]

    def test_with_a_key_that_was_not_given(self):
        with ScriptedServer(style="localai", api_key="k") as server:
            assert get(server, "/v1/models")[0] == 401
            assert recognised("localai", server).needs_key
            assert not recognised("localai", server, key="k").needs_key

    def test_without_any_model(self):
        with ScriptedServer(style="localai", models=()) as server:
            assert recognised("localai", server).kind == "localai"

    def test_although_it_says_that_ollama_is_running(self):
        with ScriptedServer(style="localai", options={"ollama_root": True}) as server:
            assert get(server, "/")[2] == "Ollama is running"
            assert recognised("localai", server).kind == "localai"

    @pytest.mark.parametrize("other", [name for name in OTHERS if name != "localai"])
    @pytest.mark.parametrize("models", [("m",), ()], ids=["with a model", "without"])
    def test_nobody_else_is_one(self, other, models):
        with ScriptedServer(style=other, models=models) as server:
            assert recognised("localai", server) is None

    @pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
    def test_an_odd_document_is_none(self, body):
        with odd("localai", "/.well-known/localai.json", body) as server:
            assert recognised("localai", server) is None

    def test_a_server_whose_models_have_owners_is_not_asked(self):
        with ScriptedServer(style="vllm") as server:
            recognised("localai", server)
            assert paths(server) == ["/v1/models"]


class TestModels:
    def test_every_fact_of_a_chat_model(self, server):
        model = checked(found("localai", server)[0])
        assert told(model) == {
            "context_window": 8192,
            "size_bytes": 2_019_393_189,
            "parameters": 3_000_000_000,
            "quantization": "Q4_K_M",
            "supports_tools": True,
            "supports_vision": True,
            "supports_reasoning": True,
            "supports_embeddings": False,
        }
        assert (model.id, model.task, model.state) == ("qwen3", "chat", "unloaded")
        assert model.evidence["context_window"] == "GET /v1/models/capabilities"
        assert model.evidence["size_bytes"] == "GET /api/tags"
        assert model.evidence["state"] == "GET /api/ps"

    def test_its_engine_is_no_family_and_the_hash_of_a_name_no_digest(self, server):
        assert all(model.family is None and model.digest is None for model in found("localai", server))

    def test_what_is_not_for_chat_is_told_apart(self, server):
        _, bge, whisper = found("localai", server)
        assert (bge.task, bge.supports_embeddings, bge.context_window) == ("embedding", True, 512)
        assert (bge.parameters, bge.quantization) == (None, None)
        assert (whisper.task, whisper.supports_embeddings, whisper.supports_vision) == ("other", False, False)

    def test_a_missing_word_is_no_denial(self, server):
        bge = found("localai", server)[1]
        assert bge.supports_tools is None and bge.supports_reasoning is None

    def test_an_older_version_is_read_by_its_imitation(self):
        with ScriptedServer(style="localai", models=tuple(ABOUT), about=ABOUT, options={"old": True}) as server:
            qwen3, bge, _ = found("localai", server)
        assert (qwen3.task, qwen3.supports_tools, qwen3.supports_vision, qwen3.context_window) == (
            "chat",
            True,
            True,
            None,
        )
        assert (bge.task, bge.supports_embeddings) == ("embedding", True)
        assert qwen3.evidence["supports_tools"] == "GET /api/tags"

    def test_what_is_in_memory(self, server):
        post(server, "/v1/chat/completions", {**CHAT, "model": "qwen3"})
        assert [model.state for model in found("localai", server)] == ["loaded", "unloaded", "unloaded"]

    def test_the_version_in_either_place(self, server):
        assert ask(kind("localai").version(asking(server))) == "v4.9.0 (0c8bba1f)"
        with odd("localai", "/.well-known/localai.json", "{}") as server:
            assert ask(kind("localai").version(asking(server))) == "v4.9.0 (0c8bba1f)"

    @pytest.mark.parametrize("path", ["/v1/models", "/v1/models/capabilities", "/api/tags", "/api/ps", "/version"])
    @pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
    def test_odd_answers_leave_the_rest(self, path, body):
        models = survives("localai", path, body)
        assert path == "/v1/models" or [model.id for model in models] == ["m"]

    @pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: repr(value)[:20])
    def test_odd_values_are_unknown(self, value):
        names = ("capabilities", "input_modalities", "context_size")
        entry = {"id": "m", **dict.fromkeys(names, value)}
        details = dict.fromkeys(("parameter_size", "quantization_level"), value)
        file = {"name": "m", "size": value, "details": details, "capabilities": value}
        scripts = {
            "/v1/models/capabilities": Script(error_body=json.dumps({"data": [entry]})),
            "/api/tags": Script(error_body=json.dumps({"models": [file, {"name": value}]})),
        }
        with ScriptedServer(style="localai", models=("m",), scripts=scripts) as server:
            [model] = [checked(model) for model in found("localai", server)]
        assert model.context_window is None and model.size_bytes is None and model.parameters is None

    def test_five_thousand(self):
        names = tuple(f"model-{number}" for number in range(5000))
        with ScriptedServer(style="localai", models=names) as server:
            models = found("localai", server)
        assert len(models) == 5000 and models[-1].context_window == 8192 and models[-1].state == "loaded"


class TestVerbs:
    def test_tokenize(self, server):
        assert ask(kind("localai").tokenize(asking(server), "qwen3", "one two three")) == [0, 1, 2]
        with pytest.raises(ModelNotFound, match="nope"):
            ask(kind("localai").tokenize(asking(server), "nope", "x"))

    def test_unload(self, server):
        post(server, "/v1/chat/completions", {**CHAT, "model": "qwen3"})
        ask(kind("localai").unload(asking(server), "qwen3"))
        assert server.loaded_models == []
        with pytest.raises(ModelNotFound, match="not loaded on this instance"):
            ask(kind("localai").unload(asking(server), "qwen3"))

    def test_a_pull_goes_on_to_its_end(self, server, monkeypatch):
        monkeypatch.setattr("mamba_nb.servers.localai.POLL_S", 0.001)
        steps = pulled("localai", server, "localai@smollm2")
        assert [step.completed_bytes for step in steps] == [536_870_912, 1_073_741_824, 1_610_612_736]
        assert {step.total_bytes for step in steps} == {1_610_612_736}
        assert [step.status for step in steps] == ["processing file", "processing file", "success"]
        assert "smollm2" in [model.id for model in found("localai", server)]

    def test_a_pull_that_fails_says_why(self, monkeypatch):
        monkeypatch.setattr("mamba_nb.servers.localai.POLL_S", 0.001)
        with (
            ScriptedServer(style="localai", options={"gallery": ["a"]}) as server,
            pytest.raises(ServerFailed, match="no model found with name 'b'"),
        ):
            pulled("localai", server, "b")

    def test_without_the_key_a_pull_is_refused(self):
        with (
            ScriptedServer(style="localai", api_key="k") as server,
            pytest.raises(AuthenticationFailed, match="key"),
        ):
            pulled("localai", server, "a")

    @pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
    def test_odd_answers_to_verbs_are_our_errors(self, body):
        with odd("localai", "/v1/tokenize", body) as server, pytest.raises(ServerFailed):
            ask(kind("localai").tokenize(asking(server), "m", "x"))
        with odd("localai", "/models/apply", body) as server, pytest.raises(ServerFailed):
            pulled("localai", server, "m")


class TestPersonality:
    def test_it_imitates_ollama_without_being_it(self, server):
        assert json.loads(get(server, "/api/version")[2]) == {"version": "0.9.0"}
        assert json.loads(get(server, "/api/tags")[2])["models"][0]["details"]["family"] == "llama-cpp"
        assert "owned_by" not in json.loads(get(server, "/v1/models")[2])["data"][0]

    def test_with_a_key_only_its_document_and_its_health_are_public(self):
        with ScriptedServer(style="localai", api_key="k") as server:
            public = [get(server, path)[0] for path in ("/.well-known/localai.json", "/healthz", "/readyz")]
            guarded = [get(server, path)[0] for path in ("/", "/version", "/api/version", "/v1/models")]
        assert (public, guarded) == ([200] * 3, [401] * 4)
