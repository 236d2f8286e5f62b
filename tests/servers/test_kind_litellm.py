"""LiteLLM's proxy: alive by its own words, its models by its own table."""

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

from mamba_nb.testing import Script, ScriptedServer

ABOUT = {
    "gpt-4o": {},
    "local": {
        "litellm_model": "ollama/llama3.2",
        "api_base": "http://localhost:11434",
        "info": {"max_input_tokens": None, "supports_function_calling": None},
    },
    "embed": {"info": {"mode": "embedding", "max_output_tokens": None}},
}


@pytest.fixture
def server():
    with ScriptedServer(style="litellm", models=tuple(ABOUT), about=ABOUT) as server:
        yield server


def deployments(*infos, params=({}, {}, {})):
    """`/model/info` of one name that stands for several deployments."""
    data = [
        {"model_name": "m", "model_info": info, "litellm_params": params[place]} for place, info in enumerate(infos)
    ]
    return {"/model/info": Script(error_body=json.dumps({"data": data}))}


class TestRecognise:
    def test_by_its_words(self, server):
        sighting = recognised("litellm", server)
        assert (sighting.kind, sighting.certainty, sighting.needs_key) == ("litellm", "certain", False)
        assert paths(server) == ["/v1/models", "/health/liveliness"]

    def test_where_a_key_is_wanted(self):
        with ScriptedServer(style="litellm", api_key="sk-1234") as server:
            assert recognised("litellm", server).needs_key
            assert not recognised("litellm", server, key="sk-1234").needs_key

    def test_by_the_header_with_its_version(self):
        with ScriptedServer(style="litellm", options={"version_header": True}) as server:
            sighting = recognised("litellm", server)
            assert (sighting.version, paths(server)) == ("1.109.1", ["/v1/models"])

    def test_it_is_never_asked_how_its_models_are(self, server):
        recognised("litellm", server)
        found("litellm", server)
        assert "/health" not in paths(server)

    @pytest.mark.parametrize("other", [name for name in OTHERS if name != "litellm"])
    @pytest.mark.parametrize("models", [("m",), ()], ids=["with a model", "without"])
    @pytest.mark.parametrize("api_key", [None, "k"], ids=["open", "with a key"])
    def test_nobody_else_is_one(self, other, models, api_key):
        with ScriptedServer(style=other, models=models, api_key=api_key) as server:
            assert recognised("litellm", server) is None

    @pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
    def test_an_odd_sign_of_life_is_none(self, body):
        with odd("litellm", "/health/liveliness", body) as server:
            assert recognised("litellm", server) is None


class TestModels:
    def test_every_fact_of_its_table(self, server):
        model = checked(found("litellm", server)[0])
        assert told(model) == {
            "context_max": 128_000,
            "max_output_tokens": 16_384,
            "supports_tools": True,
            "supports_vision": True,
            "supports_reasoning": False,
            "supports_embeddings": False,
            "runs_locally": False,
        }
        assert (model.task, model.state, model.context_window) == ("chat", None, None)
        assert model.extras["input_cost_per_token"] == 2.5e-06 and model.extras["provider"] == "openai"

    def test_of_a_model_behind_on_this_machine_it_is_not_said_where_it_runs(self, server):
        local = found("litellm", server)[1]
        assert local.runs_locally is None and local.context_max is None and local.supports_tools is None

    def test_an_embedding_model(self, server):
        embed = found("litellm", server)[2]
        assert (embed.task, embed.supports_embeddings, embed.max_output_tokens) == ("embedding", True, None)

    def test_without_the_right_to_its_table_there_are_the_names(self):
        with ScriptedServer(style="litellm", models=("a",), options={"info_needs_admin": True}) as server:
            [model] = found("litellm", server)
        assert (model.id, told(model)) == ("a", {})

    def test_of_several_deployments_the_smallest_limit_counts_and_what_all_say(self):
        infos = (
            {"max_input_tokens": 128_000, "supports_vision": True, "supports_function_calling": True, "mode": "chat"},
            {"max_input_tokens": 8192, "supports_vision": False, "supports_function_calling": True, "mode": "chat"},
        )
        with ScriptedServer(style="litellm", models=("m",), scripts=deployments(*infos)) as server:
            [model] = found("litellm", server)
        assert told(model) == {"context_max": 8192, "supports_tools": True, "supports_embeddings": False}

    def test_a_limit_that_one_of_them_does_not_tell_is_unknown(self):
        scripts = deployments({"max_input_tokens": 128_000}, {})
        with ScriptedServer(style="litellm", models=("m",), scripts=scripts) as server:
            assert found("litellm", server)[0].context_max is None

    @pytest.mark.parametrize(
        ("address", "here"),
        [
            ("https://api.openai.com/v1", False),
            ("http://127.0.0.1:8000", None),
            ("http://192.168.1.7:8000", None),
            ("http://[::1", None),
            ("nonsense", None),
        ],
    )
    def test_where_a_model_runs_by_its_address(self, address, here):
        scripts = deployments({}, params=({"api_base": address},))
        with ScriptedServer(style="litellm", models=("m",), scripts=scripts) as server:
            assert found("litellm", server)[0].runs_locally is here

    def test_the_version(self, server):
        assert ask(kind("litellm").version(asking(server))) == "1.109.1"

    @pytest.mark.parametrize("path", ["/v1/models", "/model/info", "/health/readiness", "/health/liveliness"])
    @pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
    def test_odd_answers_leave_the_rest(self, path, body):
        models = survives("litellm", path, body)
        assert path == "/v1/models" or [model.id for model in models] == ["m"]

    @pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: repr(value)[:20])
    def test_odd_values_are_unknown(self, value):
        names = ("max_input_tokens", "max_output_tokens", "mode", "litellm_provider", "input_cost_per_token")
        names += ("supports_function_calling", "supports_vision", "supports_reasoning")
        scripts = deployments(dict.fromkeys(names, value), params=({"api_base": value, "model": value},))
        with ScriptedServer(style="litellm", models=("m",), scripts=scripts) as server:
            [model] = [checked(model) for model in found("litellm", server)]
        assert model.context_max is None
        scripts = deployments(value, params=(value,))
        with ScriptedServer(style="litellm", models=("m",), scripts=scripts) as server:
            checked(found("litellm", server)[0])

    def test_five_thousand(self):
        with ScriptedServer(style="litellm", models=tuple(f"m{number}" for number in range(5000))) as server:
            models = found("litellm", server)
        assert len(models) == 5000 and models[-1].context_max == 128_000


class TestPersonality:
    def test_its_words(self):
        with ScriptedServer(style="litellm", models=("gpt-4o",), api_key="sk-1234") as server:
            status, _, body = get(server, "/v1/models")
            assert (status, json.loads(body)["error"]["message"]) == (
                401,
                "Authentication Error, No api key passed in.",
            )
            status, _, body = post(server, "/chat/completions", {**CHAT, "model": "nope"}, key="sk-1234")
            assert status == 400
            assert json.loads(body)["error"]["message"].startswith("/chat/completions: Invalid model name passed in")
            assert json.loads(get(server, "/nope", key="sk-1234")[2]) == {"detail": "Not Found"}
            assert get(server, "/health/liveliness")[2] == '"I\'m alive!"'

    def test_a_completion_tells_the_version(self, server):
        headers = post(server, "/v1/chat/completions", {**CHAT, "model": "gpt-4o"})[1]
        assert (headers["x-litellm-version"], headers["x-litellm-model-id"]) == ("1.109.1", "id-of-gpt-4o")
