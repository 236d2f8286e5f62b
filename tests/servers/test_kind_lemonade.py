"""Lemonade: its own words beside each model, loads and downloads, two addresses for everything."""

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

from mamba_nb._look import look
from mamba_nb.errors import BadInput, ModelNotFound, RequestRejected, ServerFailed
from mamba_nb.testing import Script, ScriptedServer

ABOUT = {
    "Qwen3-0.6B-GGUF": {"labels": ["chat", "reasoning", "tool-calling"]},
    "Gemma-3-4b-it-GGUF": {"labels": ["hot", "vision"], "size_gb": 3.61, "max_context_window": None},
    "nomic-embed-text-v1-GGUF": {"labels": ["embeddings"], "type": "embedding", "checkpoint": "nomic/nomic:Q4_K_S"},
    "SD-Turbo": {"labels": ["image"], "recipe": "sd-cpp", "context_length": None, "checkpoint": "sd:turbo.safetensors"},
    "fireworks.kimi": {"recipe": "cloud", "labels": ["chat"], "context_length": 262_144, "size_gb": None},
}
NONE = {"context_length": None, "keep_alive": None}
QWEN3 = "Qwen3-0.6B-GGUF"
EVERYTHING = 400_000_000


@pytest.fixture
def server():
    with ScriptedServer(style="lemonade", models=tuple(ABOUT), about=ABOUT, load_s=0.01) as server:
        yield server


class TestRecognise:
    def test_by_the_owner_and_its_own_words(self, server):
        sighting = recognised("lemonade", server)
        assert (sighting.kind, sighting.certainty) == ("lemonade", "certain")
        assert paths(server) == ["/v1/models"]

    def test_under_its_other_address(self, server):
        at = asking(server, base_url=f"{server.root}/api/v1")
        assert ask(kind("lemonade").recognise(at)).kind == "lemonade"

    def test_without_any_model_by_its_health(self):
        with ScriptedServer(style="lemonade", models=()) as server:
            sighting = recognised("lemonade", server)
        assert (sighting.certainty, sighting.version) == ("certain", "11.8.0")

    def test_with_nothing_but_the_owner_it_is_likely(self):
        body = '{"data": [{"id": "m", "owned_by": "lemonade"}]}'
        with odd("lemonade", "/v1/models", body) as server:
            assert recognised("lemonade", server).certainty == "likely"

    @pytest.mark.parametrize("other", [name for name in OTHERS if name != "lemonade"])
    @pytest.mark.parametrize("models", [("m",), ()], ids=["with a model", "without"])
    @pytest.mark.parametrize("api_key", [None, "k"], ids=["open", "with a key"])
    def test_nobody_else_is_one(self, other, models, api_key):
        with ScriptedServer(style=other, models=models, api_key=api_key) as server:
            assert recognised("lemonade", server) is None


class TestModels:
    def test_every_fact_of_a_chat_model(self, server):
        qwen3 = checked(found("lemonade", server)[0])
        assert told(qwen3) == {
            "context_window": 4096,
            "context_max": 40_960,
            "size_bytes": 380_000_000,
            "quantization": "Q4_0",
            "supports_tools": True,
            "supports_reasoning": True,
            "supports_vision": False,
            "supports_embeddings": False,
            "runs_locally": True,
        }
        assert (qwen3.task, qwen3.state, qwen3.extras) == ("chat", "unloaded", {"recipe": "llamacpp"})

    def test_what_is_not_for_chat_and_what_runs_elsewhere(self, server):
        _, gemma, nomic, turbo, kimi = found("lemonade", server)
        assert (gemma.supports_vision, gemma.supports_tools, gemma.size_bytes) == (True, None, 3_610_000_000)
        assert (nomic.task, nomic.supports_embeddings, nomic.quantization) == ("embedding", True, "Q4_K_S")
        assert (turbo.task, turbo.quantization) == ("other", None)
        assert (kimi.runs_locally, kimi.context_window, kimi.state) == (False, 262_144, None)

    def test_the_context_in_force_is_the_one_it_was_loaded_with(self, server):
        ask(kind("lemonade").load(asking(server), QWEN3, context_length=16_384, keep_alive=None))
        qwen3 = found("lemonade", server)[0]
        assert (qwen3.state, qwen3.context_window) == ("loaded", 16_384)
        assert qwen3.evidence["context_window"] == "GET /v1/health"

    def test_under_its_other_address(self, server):
        models = found("lemonade", server, base_url=f"{server.root}/api/v1")
        assert len(models) == 5 and models[0].state == "unloaded"
        assert set(paths(server)) == {"/api/v1/models", "/api/v1/health"}

    def test_the_version_is_not_the_imitations(self, server):
        assert ask(kind("lemonade").version(asking(server))) == "11.8.0"
        assert json.loads(get(server, "/api/version")[2]) == {"version": "0.16.1"}

    def test_the_language_models_in_memory(self, server):
        async def fetch(path):
            return (await look(server.root + path)).json

        for name in (QWEN3, "nomic-embed-text-v1-GGUF"):
            ask(kind("lemonade").load(asking(server), name, **NONE))
        assert ask(kind("lemonade").loaded_models(fetch)) == [QWEN3]

    @pytest.mark.parametrize("path", ["/v1/models", "/v1/health"])
    @pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
    def test_odd_answers_leave_the_rest(self, path, body):
        models = survives("lemonade", path, body)
        assert path == "/v1/models" or [model.id for model in models] == ["m"]

    @pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: repr(value)[:20])
    def test_odd_values_are_unknown(self, value):
        names = ("recipe", "size", "labels", "checkpoint", "max_context_window", "context_length", "max_output_tokens")
        entry = {"id": "m", "owned_by": "lemonade", **dict.fromkeys(names, value)}
        running = [{"model_name": "m", "recipe_options": {"ctx_size": value}}, {"model_name": value}]
        scripts = {
            "/v1/models": Script(error_body=json.dumps({"data": [entry]})),
            "/v1/health": Script(error_body=json.dumps({"all_models_loaded": running})),
        }
        with ScriptedServer(style="lemonade", scripts=scripts) as server:
            [model] = [checked(model) for model in found("lemonade", server)]
        assert model.context_window is None and model.context_max is None and model.state == "loaded"
        assert model.quantization is None

    def test_five_thousand(self):
        with ScriptedServer(style="lemonade", models=tuple(f"m{number}" for number in range(5000))) as server:
            models = found("lemonade", server)
        assert len(models) == 5000 and models[-1].state == "loaded"


class TestPull:
    def test_file_by_file(self, server):
        steps = pulled("lemonade", server, "Gemma-3-270m")
        assert [step.completed_bytes for step in steps] == [
            190_000_000,
            380_000_000,
            390_000_000,
            EVERYTHING,
            EVERYTHING,
        ]
        assert [step.total_bytes for step in steps] == [380_000_000, 380_000_000, EVERYTHING, EVERYTHING, EVERYTHING]
        assert [step.status for step in steps] == ["model.gguf"] * 2 + ["mmproj.gguf"] * 2 + ["success"]
        assert "Gemma-3-270m" in server.models
        assert server.requests[-1].body == {"model_name": "Gemma-3-270m", "stream": True}

    def test_the_sums_of_newer_versions_go_before(self):
        with ScriptedServer(style="lemonade", options={"sums": True}) as server:
            steps = pulled("lemonade", server, "m2", checkpoint="a/b:Q4_0", recipe="llamacpp")
            assert {step.total_bytes for step in steps} == {EVERYTHING}
            assert server.requests[-1].body["recipe"] == "llamacpp"

    def test_of_what_it_does_not_know(self):
        with (
            ScriptedServer(style="lemonade", options={"registry": ["a"]}) as server,
            pytest.raises(RequestRejected, match="is not registered"),
        ):
            pulled("lemonade", server, "b")

    def test_an_error_in_its_middle(self):
        with (
            ScriptedServer(style="lemonade", options={"pull_fails": "disk is full"}) as server,
            pytest.raises(ServerFailed, match="disk is full"),
        ):
            pulled("lemonade", server, "m2")

    def test_an_end_that_comes_too_early(self):
        with (
            ScriptedServer(style="lemonade", options={"pull_cut": True}) as server,
            pytest.raises(ServerFailed, match="finish the download"),
        ):
            pulled("lemonade", server, "m2")

    @pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
    def test_nonsense_is_our_error(self, body):
        for framed in (body, f"event: progress\ndata: {body}\n\n"):
            with odd("lemonade", "/v1/pull", framed) as server, pytest.raises(ServerFailed):
                pulled("lemonade", server, "m2")


class TestVerbs:
    def test_load_and_unload(self, server):
        ask(kind("lemonade").load(asking(server), QWEN3, **NONE))
        assert server.loaded_models == [QWEN3] and server.requests[-1].body == {"model_name": QWEN3}
        ask(kind("lemonade").unload(asking(server), QWEN3))
        assert server.loaded_models == []

    def test_an_error_that_comes_with_status_200(self, server):
        with pytest.raises(ServerFailed, match=f"Model not found: {QWEN3}"):
            ask(kind("lemonade").unload(asking(server), QWEN3))

    def test_load_of_what_is_not_there(self, server):
        with pytest.raises(ModelNotFound, match="nope"):
            ask(kind("lemonade").load(asking(server), "nope", **NONE))

    def test_load_refuses_what_it_has_no_place_for(self, server):
        with pytest.raises(BadInput, match="keep_alive"):
            ask(kind("lemonade").load(asking(server), QWEN3, context_length=None, keep_alive="5m"))

    def test_tokenize_is_the_last_models(self, server):
        ask(kind("lemonade").load(asking(server), QWEN3, **NONE))
        assert ask(kind("lemonade").tokenize(asking(server), QWEN3, "one two three")) == [0, 1, 2]
        with pytest.raises(BadInput, match=f"which is '{QWEN3}'"):
            ask(kind("lemonade").tokenize(asking(server), "Gemma-3-4b-it-GGUF", "x"))

    def test_its_figures(self, server):
        assert ask(kind("lemonade").metrics(asking(server))) == {
            "last_ttft_s": 2.14,
            "last_decode_tokens_per_s": 33.33,
            "last_prompt_tokens": 128.0,
            "last_output_tokens": 5.0,
            "requests_total": 12.0,
            "prompt_tokens_total": 108.0,
            "output_tokens_total": 60.0,
        }

    @pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
    def test_odd_answers_to_verbs_are_our_errors(self, body):
        for path, verb in (("/v1/load", "load"), ("/v1/unload", "unload")):
            arguments = NONE if verb == "load" else {}
            with odd("lemonade", path, body) as server, pytest.raises(ServerFailed):
                ask(getattr(kind("lemonade"), verb)(asking(server), "m", **arguments))
        with odd("lemonade", "/v1/stats", body) as server:
            assert ask(kind("lemonade").metrics(asking(server))) == {}
        with odd("lemonade", "/v1/tokenize", body) as server, pytest.raises(ServerFailed):
            server.options["last"] = "m"
            ask(kind("lemonade").tokenize(asking(server), "m", "x"))


class TestPersonality:
    def test_everything_is_there_twice(self, server):
        for path in ("/models", "/health", "/stats"):
            assert get(server, f"/v1{path}")[2] == get(server, f"/api/v1{path}")[2]
        assert json.loads(get(server, "/live")[2]) == {"status": "ok"}

    def test_a_completion_may_bear_the_header_of_llama_cpp(self, server):
        assert "server" not in post(server, "/v1/chat/completions", {**CHAT, "model": QWEN3})[1]
        server.options["server_header"] = True
        _, headers, body = post(server, "/api/v1/chat/completions", {**CHAT, "model": QWEN3})
        assert headers["server"] == "llama.cpp" and "timings" in json.loads(body)
        assert "server" not in get(server, "/v1/models")[1]
