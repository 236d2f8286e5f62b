"""Docker Model Runner: what the images say, what runs, and a download line by line."""

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
    leave,
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
    "ai/smollm2": {"context_window": 8192},
    "ai/qwen3:8B-Q4_K_M": {"configured_context": 32_768, "parameters": "8.19 B", "size": "4.68 GiB"},
    "ai/mxbai-embed-large": {"mode": "embedding", "architecture": "bert", "context_window": 512},
}
NONE = {"context_length": None, "keep_alive": None}
EVERYTHING = 268_802_457 + 11_358


@pytest.fixture
def server():
    with ScriptedServer(style="dockermodelrunner", models=tuple(ABOUT), about=ABOUT, load_s=0.01) as server:
        yield server


class TestRecognise:
    def test_by_the_owner_and_its_own_words(self, server):
        sighting = recognised("dockermodelrunner", server)
        assert (sighting.kind, sighting.certainty) == ("dockermodelrunner", "certain")
        assert paths(server) == ["/engines/v1/models"]

    @pytest.mark.parametrize("prefix", ["/v1", "/engines/v1", "/engines/llama.cpp/v1"])
    def test_under_each_of_its_addresses(self, server, prefix):
        at = asking(server, base_url=server.root + prefix)
        assert ask(kind("dockermodelrunner").recognise(at)).kind == "dockermodelrunner"

    def test_an_older_version_by_what_its_models_take_on_disk(self):
        with ScriptedServer(style="dockermodelrunner", models=("ai/smollm2",), options={"old": True}) as server:
            assert "/engines/df" in recognised("dockermodelrunner", server).evidence

    def test_without_any_model(self):
        with ScriptedServer(style="dockermodelrunner", models=()) as server:
            assert recognised("dockermodelrunner", server).certainty == "certain"

    def test_with_nothing_but_the_owner_it_is_likely(self):
        scripts = {"/engines/df": Script(status=404, error_body="not found")}
        options = {"models": ("m",), "options": {"old": True}, "scripts": scripts}
        with ScriptedServer(style="dockermodelrunner", **options) as server:
            assert recognised("dockermodelrunner", server).certainty == "likely"

    @pytest.mark.parametrize("other", [name for name in OTHERS if name != "dockermodelrunner"])
    @pytest.mark.parametrize("models", [("m",), ()], ids=["with a model", "without"])
    @pytest.mark.parametrize("api_key", [None, "k"], ids=["open", "with a key"])
    def test_nobody_else_is_one(self, other, models, api_key):
        with ScriptedServer(style=other, models=models, api_key=api_key) as server:
            assert recognised("dockermodelrunner", server) is None


class TestModels:
    def test_every_fact(self, server):
        smollm2 = checked(found("dockermodelrunner", server)[0])
        facts = told(smollm2)
        assert facts.pop("digest").startswith("sha256:")
        assert facts == {
            "context_window": 8192,
            "context_max": 8192,
            "size_bytes": 268_802_458,
            "parameters": 361_820_000,
            "quantization": "IQ2_XXS/Q4_K_M",
            "family": "llama",
        }
        assert smollm2.state == "unloaded"

    def test_what_it_was_configured_with_goes_before_what_the_image_says(self, server):
        qwen3 = found("dockermodelrunner", server)[1]
        assert qwen3.context_window == 32_768
        assert qwen3.evidence["context_window"] == "GET /engines/_configure"
        assert (qwen3.parameters, qwen3.size_bytes) == (8_190_000_000, 5_025_111_736)

    def test_what_runs(self, server):
        post(server, "/v1/chat/completions", {**CHAT, "model": "ai/smollm2"})
        post(server, "/v1/chat/completions", {**CHAT, "model": "ai/mxbai-embed-large"})
        states = [model.state for model in found("dockermodelrunner", server)]
        assert states == ["loaded", "unloaded", "loaded"]

        async def fetch(path):
            return (await look(server.root + path)).json

        assert ask(kind("dockermodelrunner").loaded_models(fetch)) == ["ai/smollm2"]

    @pytest.mark.parametrize(
        ("running", "loading"),
        [
            ([{"model_name": "m", "loading": True}], True),
            ([{"model_name": "m"}], False),
            ([{"model_name": "m", "loading": "yes"}], False),
            ([{"model_name": "other", "loading": True}], False),
            (None, False),
            ([None, 7], False),
        ],
    )
    def test_while_a_model_starts_it_says_so(self, running, loading):
        async def fetch(path):
            return {"/engines/ps": running}[path]

        assert ask(kind("dockermodelrunner").is_loading(fetch, "m")) is loading

    def test_the_personality_says_it_too(self):
        with ScriptedServer(style="dockermodelrunner", models=("m",), load_s=600) as server:
            leave(server, "/v1/chat/completions", {**CHAT, "model": "m"})
            assert json.loads(get(server, "/engines/ps")[2])[0]["loading"] is True
            assert found("dockermodelrunner", server)[0].state == "loading"

    def test_an_older_version_is_read_by_its_images(self):
        with ScriptedServer(style="dockermodelrunner", models=("ai/smollm2",), options={"old": True}) as server:
            [model] = found("dockermodelrunner", server)
        assert (model.parameters, model.family, model.context_max) == (361_820_000, "llama", 8192)
        assert (model.context_window, model.evidence["family"]) == (None, "GET /models")

    @pytest.mark.parametrize("path", ["/v1/models", "/models", "/engines/ps", "/engines/_configure", "/engines/df"])
    @pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
    def test_odd_answers_leave_the_rest(self, path, body):
        models = survives("dockermodelrunner", path, body)
        assert path == "/v1/models" or [model.id for model in models] == ["m"]

    @pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: repr(value)[:20])
    def test_odd_values_are_unknown(self, value):
        about = dict.fromkeys(("context_window", "architecture", "parameters", "quantization", "size"), value)
        entries = [{"id": "m", "owned_by": "docker", "dmr": about}, {"id": "n", "owned_by": "docker", "dmr": value}]
        config = {**about, "context_size": value, "gguf": {"llama.context_length": value}}
        images = [{"id": value, "tags": ["m", value], "config": config}, {"id": "n", "tags": value, "config": value}]
        configured = [{"Model": "m", "Config": {"context-size": value}}, {"Model": value, "Config": value}]
        scripts = {
            "/v1/models": Script(error_body=json.dumps({"data": entries})),
            "/models": Script(error_body=json.dumps(images)),
            "/engines/_configure": Script(error_body=json.dumps(configured)),
            "/engines/ps": Script(error_body=json.dumps([{"model_name": value, "loading": value}])),
        }
        with ScriptedServer(style="dockermodelrunner", scripts=scripts) as server:
            m, n = [checked(model) for model in found("dockermodelrunner", server)]
        assert m.context_window is None and m.context_max is None and m.parameters is None and m.size_bytes is None
        assert n.state == "unloaded"
        assert m.state == ("loaded" if value == "many" else "unloaded")  # the image's own name then

    def test_five_thousand(self):
        with ScriptedServer(style="dockermodelrunner", models=tuple(f"ai/m{n}" for n in range(5000))) as server:
            models = found("dockermodelrunner", server)
        assert len(models) == 5000 and models[-1].digest


class TestPull:
    def test_every_step_of_every_layer(self, server):
        steps = pulled("dockermodelrunner", server, "ai/gemma3")
        first = [268_802_457 // 3, 268_802_457 // 2, 268_802_457]
        second = [268_802_457 + part for part in (11_358 // 3, 11_358 // 2, 11_358)]
        assert [step.completed_bytes for step in steps] == [*first, *second, EVERYTHING]
        assert {step.total_bytes for step in steps} == {EVERYTHING}
        assert steps[-1].status == "success" and steps[-1].fraction == 1.0
        assert steps[0].status == "Downloaded: 85.45 MB"
        assert "ai/gemma3" in server.models

    def test_progress_is_the_same_where_it_is_not_escaped(self):
        lines = [
            {"type": "progress", "message": "a", "total": 10, "layer": {"id": "x", "size": 10, "current": 5}},
            {"type": "success", "message": "done"},
        ]
        body = "\n".join(json.dumps(line) for line in lines)
        with odd("dockermodelrunner", "/models/create", body) as server:
            assert [step.completed_bytes for step in pulled("dockermodelrunner", server, "m")] == [5, 5]

    def test_the_servers_own_options_are_sent(self, server):
        pulled("dockermodelrunner", server, "hf.co/a/b", **{"bearer-token": "t"})
        assert server.requests[-1].body == {"from": "hf.co/a/b", "bearer-token": "t"}

    def test_of_what_there_is_not(self):
        with (
            ScriptedServer(style="dockermodelrunner", options={"hub": ["ai/smollm2"]}) as server,
            pytest.raises(ModelNotFound, match="ai/nope"),
        ):
            pulled("dockermodelrunner", server, "ai/nope")

    def test_of_what_is_no_name(self, server):
        with pytest.raises(RequestRejected, match="Invalid model reference"):
            pulled("dockermodelrunner", server, "no name")

    def test_an_error_in_its_middle(self):
        with (
            ScriptedServer(style="dockermodelrunner", options={"pull_fails": "no space left on device"}) as server,
            pytest.raises(ServerFailed, match="no space left on device"),
        ):
            pulled("dockermodelrunner", server, "m2")

    def test_an_end_that_comes_too_early(self):
        with (
            ScriptedServer(style="dockermodelrunner", options={"pull_cut": True}) as server,
            pytest.raises(ServerFailed, match="finish the download"),
        ):
            pulled("dockermodelrunner", server, "m2")

    def test_whoever_leaves_closes_the_connection(self, server):
        async def two():
            steps = kind("dockermodelrunner").pull(asking(server), "ai/gemma3", {})
            first = await anext(steps)
            await steps.aclose()
            return first

        assert ask(two()).completed_bytes == 268_802_457 // 3

    @pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
    def test_nonsense_is_our_error(self, body):
        with odd("dockermodelrunner", "/models/create", body) as server, pytest.raises(ServerFailed):
            pulled("dockermodelrunner", server, "m2")


class TestVerbs:
    def test_load_generates_nothing(self, server):
        ask(kind("dockermodelrunner").load(asking(server), "ai/smollm2", **NONE))
        assert server.loaded_models == ["ai/smollm2"]
        assert server.requests[-1].headers["x-preload-only"] == "true"

    def test_load_of_what_is_not_there(self, server):
        with pytest.raises(ModelNotFound, match="ai/nope"):
            ask(kind("dockermodelrunner").load(asking(server), "ai/nope", **NONE))

    @pytest.mark.parametrize("argument", [{"context_length": 4096}, {"keep_alive": "5m"}], ids=str)
    def test_load_refuses_what_is_configured_elsewhere(self, server, argument):
        with pytest.raises(BadInput, match="docker model configure"):
            ask(kind("dockermodelrunner").load(asking(server), "ai/smollm2", **{**NONE, **argument}))

    def test_unload(self, server):
        ask(kind("dockermodelrunner").load(asking(server), "ai/smollm2", **NONE))
        ask(kind("dockermodelrunner").unload(asking(server), "ai/smollm2"))
        assert server.loaded_models == []
        ask(kind("dockermodelrunner").unload(asking(server), "ai/smollm2"))  # what is not there need not be unloaded

    def test_a_model_that_answers_stays_and_that_is_said(self):
        options = {"models": ("m",), "options": {"busy": ["m"]}, "load_s": 0.01}
        with ScriptedServer(style="dockermodelrunner", **options) as server:
            ask(kind("dockermodelrunner").load(asking(server), "m", **NONE))
            with pytest.raises(ServerFailed, match="it is answering a request"):
                ask(kind("dockermodelrunner").unload(asking(server), "m"))


class TestPersonality:
    def test_it_is_at_every_address(self, server):
        for prefix in ("/v1", "/engines/v1", "/engines/llama.cpp/v1"):
            assert json.loads(get(server, f"{prefix}/models")[2])["data"][0]["id"] == "ai/smollm2"
        assert server.base_url.endswith("/engines/v1")
        assert json.loads(get(server, "/api/version")[2]) == {"version": "0.1.0"}

    def test_it_speaks_in_plain_words_and_answers_with_timings(self, server):
        assert post(server, "/v1/chat/completions", {**CHAT, "model": "nope"})[::2] == (404, "model not found\n")
        assert "timings" in json.loads(post(server, "/v1/chat/completions", {**CHAT, "model": "ai/smollm2"})[2])

    def test_progress_is_escaped_unless_json_alone_is_accepted(self, server):
        assert "&#34;type&#34;" in post(server, "/models/create", {"from": "ai/gemma3"})[2]
