"""llama-swap: what is configured, what runs, and what the server behind says where it runs."""

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
    recognised,
    survives,
    told,
)

from mamba_nb._look import look
from mamba_nb.errors import BadInput, ModelNotFound, NotHere, ServerFailed
from mamba_nb.testing import Script, ScriptedServer

ABOUT = {
    "qwen3": {"context_length": 32_768, "tools": True},
    "org/gemma": {"context_length": 8192, "vision": True},
    "fast": {"alias_of": "qwen3"},
    "there:big": {"peer": "there"},
}
MODELS = tuple(ABOUT)
NONE = {"context_length": None, "keep_alive": None}


@pytest.fixture
def server():
    options = {"models": MODELS, "about": ABOUT, "load_s": 0.01, "one_model_at_a_time": True}
    with ScriptedServer(style="llamaswap", **options) as server:
        yield server


def fetch_of(server):
    async def fetch(path):
        return (await look(server.root + path)).json

    return fetch


class TestRecognise:
    def test_by_the_owner_of_its_models(self, server):
        sighting = recognised("llamaswap", server)
        assert (sighting.kind, sighting.certainty, sighting.needs_key) == ("llamaswap", "certain", False)
        assert paths(server) == ["/v1/models"]

    def test_by_the_realm_of_its_key(self):
        with ScriptedServer(style="llamaswap", api_key="k") as server:
            sighting = recognised("llamaswap", server)
            assert (sighting.certainty, sighting.needs_key) == ("certain", True)
            assert not recognised("llamaswap", server, key="k").needs_key

    def test_without_any_model_by_what_runs(self):
        with ScriptedServer(style="llamaswap", models=()) as server:
            assert "/running" in recognised("llamaswap", server).evidence

    @pytest.mark.parametrize("other", [name for name in OTHERS if name != "llamaswap"])
    @pytest.mark.parametrize("models", [("m",), ()], ids=["with a model", "without"])
    @pytest.mark.parametrize("api_key", [None, "k"], ids=["open", "with a key"])
    def test_nobody_else_is_one(self, other, models, api_key):
        with ScriptedServer(style=other, models=models, api_key=api_key) as server:
            assert recognised("llamaswap", server) is None

    @pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
    def test_an_odd_list_is_none(self, body):
        with odd("llamaswap", "/running", body) as server:
            server.models = ()
            sighting = recognised("llamaswap", server)
        assert sighting is None or body == ODD_BODIES["data is nonsense"]


class TestModels:
    def test_what_is_configured(self, server):
        qwen3, gemma, fast, peer = [checked(model) for model in found("llamaswap", server)]
        assert told(qwen3) == {"context_window": 32_768, "supports_tools": True, "supports_vision": False}
        assert told(gemma) == {"context_window": 8192, "supports_vision": True}
        assert peer.runs_locally is False and peer.state == "unloaded"
        assert [model.state for model in (qwen3, gemma, fast)] == ["unloaded"] * 3

    def test_what_runs_and_its_aliases(self, server):
        post(server, "/v1/chat/completions", {**CHAT, "model": "qwen3"})
        states = {model.id: model.state for model in found("llamaswap", server)}
        assert states == {"qwen3": "loaded", "org/gemma": "unloaded", "fast": "loaded", "there:big": "unloaded"}

    def test_an_older_version_says_less(self):
        with ScriptedServer(style="llamaswap", models=("m",), options={"old": True}) as server:
            [model] = found("llamaswap", server)
        assert (model.context_window, model.state, told(model)) == (None, "loaded", {})

    def test_the_version(self, server):
        assert ask(kind("llamaswap").version(asking(server))) == "v240"

    def test_the_server_behind_is_asked_where_it_runs(self, server):
        post(server, "/v1/chat/completions", {**CHAT, "model": "org/gemma"})
        gemma = found("llamaswap", server)[1]
        model = checked(ask(kind("llamaswap").detail(asking(server), gemma)))
        assert (model.context_window, model.context_max) == (4096, 131_072)
        assert (model.parameters, model.quantization) == (3_212_749_888, "Q4_K - Medium")
        assert model.evidence["context_window"] == "GET /upstream/org/gemma/v1/models"
        assert model.supports_vision is True

    def test_a_model_that_does_not_run_is_not_started_by_a_question(self, server):
        before = len(server.requests)
        qwen3 = found("llamaswap", server)[0]
        assert ask(kind("llamaswap").detail(asking(server), qwen3)) == qwen3
        assert server.load_log == [] and len(server.requests) == before + 2

    @pytest.mark.parametrize("path", ["/v1/models", "/running", "/api/version", "/upstream/m/v1/models"])
    @pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
    def test_odd_answers_leave_the_rest(self, path, body):
        models = survives("llamaswap", path, body)
        assert path == "/v1/models" or [model.id for model in models] == ["m"]

    @pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: repr(value)[:20])
    def test_odd_values_are_unknown(self, value):
        names = ("context_length", "capabilities", "meta", "status", "architecture")
        entries = [
            {"id": "m", "owned_by": "llama-swap", **dict.fromkeys(names, value)},
            {
                "id": "n",
                "owned_by": "llama-swap",
                "meta": {"llamaswap": {"peerID": value, "modelID": value}, "n_ctx_train": value},
                "status": {"value": value},
                "architecture": {"input_modalities": value},
            },
        ]
        running = {"running": [{"model": value, "state": value}, {"model": "m", "state": value}]}
        scripts = {
            "/v1/models": Script(error_body=json.dumps({"data": entries})),
            "/running": Script(error_body=json.dumps(running)),
        }
        with ScriptedServer(style="llamaswap", scripts=scripts) as server:
            m, n = [checked(model) for model in found("llamaswap", server)]
        assert m.context_window is None and m.supports_tools is None and m.state == "loading"
        assert n.context_max is None

    def test_five_thousand(self):
        with ScriptedServer(style="llamaswap", models=tuple(f"m{number}" for number in range(5000))) as server:
            models = found("llamaswap", server)
        assert len(models) == 5000 and models[-1].state == "loaded"


class TestVerbs:
    def test_load_starts_the_model_and_returns_when_it_is_there(self, server):
        ask(kind("llamaswap").load(asking(server), "org/gemma", **NONE))
        assert server.loaded_models == ["org/gemma"]
        ask(kind("llamaswap").load(asking(server), "qwen3", **NONE))
        assert server.loaded_models == ["qwen3"] and server.load_log == ["org/gemma", "qwen3"]

    def test_load_of_what_is_not_configured(self, server):
        with pytest.raises(ModelNotFound, match="nope"):
            ask(kind("llamaswap").load(asking(server), "nope", **NONE))

    def test_a_model_whose_server_has_no_list_is_loaded_all_the_same(self):
        scripts = {"/upstream/m/v1/models": Script(status=404, error_body={"detail": "Not Found"})}
        with ScriptedServer(style="llamaswap", models=("m",), scripts=scripts) as server:
            ask(kind("llamaswap").load(asking(server), "m", **NONE))
            assert paths(server) == ["/upstream/m/v1/models", "/running"]

    def test_a_model_that_does_not_start_is_an_error(self):
        scripts = {"/upstream/m/v1/models": Script(status=502, error_body={"error": "upstream command exited"})}
        with (
            ScriptedServer(style="llamaswap", models=("m",), scripts=scripts) as server,
            pytest.raises(ServerFailed, match="upstream command exited"),
        ):
            ask(kind("llamaswap").load(asking(server), "m", **NONE))

    @pytest.mark.parametrize("argument", [{"context_length": 4096}, {"keep_alive": "5m"}], ids=str)
    def test_load_refuses_what_only_the_configuration_has(self, server, argument):
        with pytest.raises(BadInput, match="configuration"):
            ask(kind("llamaswap").load(asking(server), "qwen3", **{**NONE, **argument}))
        assert server.requests == []

    def test_unload_of_one(self, server):
        post(server, "/v1/chat/completions", {**CHAT, "model": "org/gemma"})
        ask(kind("llamaswap").unload(asking(server), "org/gemma"))
        assert server.loaded_models == []
        with pytest.raises(ModelNotFound, match="nope"):
            ask(kind("llamaswap").unload(asking(server), "nope"))

    def test_an_older_version_unloads_all_only_where_this_is_all(self):
        options = {"models": ("a", "b"), "options": {"old": True}, "load_s": 0.01}
        with ScriptedServer(style="llamaswap", **options) as server:
            post(server, "/v1/chat/completions", {**CHAT, "model": "a"})
            ask(kind("llamaswap").unload(asking(server), "a"))
            assert server.loaded_models == []
            post(server, "/v1/chat/completions", {**CHAT, "model": "a"})
            post(server, "/v1/chat/completions", {**CHAT, "model": "b"})
            with pytest.raises(NotHere, match="unload one model"):
                ask(kind("llamaswap").unload(asking(server), "a"))
            assert server.loaded_models == ["a", "b"]

    @pytest.mark.parametrize(
        ("running", "loading"),
        [
            ({"running": [{"model": "m", "state": "starting"}]}, True),
            ({"running": [{"model": "m", "state": "ready"}]}, False),
            ({"running": [{"model": "other", "state": "starting"}]}, False),
            ({"running": None}, False),
            (None, False),
        ],
    )
    def test_while_a_model_starts_it_says_so(self, running, loading):
        async def fetch(path):
            return {"/running": running}[path]

        assert ask(kind("llamaswap").is_loading(fetch, "m")) is loading

    def test_the_personality_says_it_too(self):
        with ScriptedServer(style="llamaswap", models=("m", "n"), load_s=600) as server:
            leave(server, "/v1/chat/completions", {**CHAT, "model": "m"})
            assert [model.state for model in found("llamaswap", server)] == ["loading", "unloaded"]

    def test_what_is_ready(self, server):
        post(server, "/v1/chat/completions", {**CHAT, "model": "qwen3"})
        assert ask(kind("llamaswap").loaded_models(fetch_of(server))) == ["qwen3"]


class TestPersonality:
    def test_its_paths(self, server):
        assert get(server, "/")[0] == 302 and get(server, "/")[1]["location"] == "/ui/"
        assert get(server, "/health")[2] == "OK"
        assert set(json.loads(get(server, "/api/version")[2])) == {"version", "commit", "build_date"}
        assert get(server, "/api/tags")[::2] == (404, "404 page not found\n")

    def test_an_unknown_model(self, server):
        status, _, body = post(server, "/v1/chat/completions", {**CHAT, "model": "nope"})
        assert (status, json.loads(body)["error"]) == (404, "no router for requested model")
