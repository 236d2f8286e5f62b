"""SGLang as a kind and as a personality."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from mamba_nb._bridge import io
from mamba_nb.errors import NotHere
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Sighting
from mamba_nb.servers.sglang import KIND
from mamba_nb.testing import Script, ScriptedServer

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
INFO = {"model_path": "Qwen/Qwen3-8B", "is_generation": True}


def asking(server: ScriptedServer, **options: Any) -> Asking:
    return Asking(root=server.root, base_url=server.base_url, **options)


def run(work: Any) -> Any:
    return io.submit(work).result(30)


def told(server: ScriptedServer, **options: Any) -> Sighting | None:
    return run(KIND.recognise(asking(server, **options)))


def only(server: ScriptedServer, **options: Any) -> ServedModel:
    (model,) = run(KIND.models(asking(server, **options)))
    return model


def sglang(script: Script | None = None, **options: Any) -> ScriptedServer:
    return ScriptedServer(script, style="sglang", **{"models": ["Qwen/Qwen3-8B"], **options})


def answering(pages: dict[str, Any]) -> ScriptedServer:
    return ScriptedServer(scripts={path: Script(error_body=body) for path, body in pages.items()}, models=[])


def asked(server: ScriptedServer, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


# Is it SGLang?


@pytest.mark.parametrize("options", [{}, {"ollama_root": True}, {"old": True}])
def test_it_is_certain_by_its_owner_and_its_model_info(options):
    with sglang(options=options) as server:
        sighting = told(server)
    assert sighting is not None
    assert (sighting.kind, sighting.certainty, sighting.version) == ("sglang", "certain", "0.5.23")
    assert 'owned_by "sglang"' in sighting.evidence and "model_info has model_path" in sighting.evidence


def test_its_owner_alone_is_likely_and_so_is_its_model_info_alone():
    listing = {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "sglang"}]}
    with answering({"/v1/models": listing, "/model_info": "<html>"}) as server:
        sighting = told(server)
    assert sighting is not None and (sighting.certainty, sighting.version) == ("likely", None)
    listing["data"][0]["owned_by"] = "my-team"
    with answering({"/v1/models": listing, "/model_info": INFO}) as server:
        sighting = told(server)
    assert sighting is not None and sighting.certainty == "likely"


def test_with_a_key_it_is_a_guess_and_vllm_is_not_taken_for_it():
    with sglang(api_key="right") as server:
        sighting = told(server)
        assert sighting is not None and (sighting.certainty, sighting.needs_key) == ("guess", True)
        known = told(server, key="right")
        assert known is not None and (known.certainty, known.needs_key) == ("certain", False)
    with ScriptedServer(style="vllm", api_key="right") as server:
        assert told(server) is None


@pytest.mark.parametrize("style", ["plain", "vllm", "tgi", "mlxlm", "openai", "ollama", "llamacpp"])
def test_other_kinds_are_not_sglang(style):
    with ScriptedServer(style=style) as server:
        assert told(server) is None


@pytest.mark.parametrize(
    "pages",
    [
        {"/v1/models": "<html>"},
        {"/v1/models": {"data": 3}},
        {"/v1/models": {"data": [{"id": "m"}]}, "/model_info": {"model_path": "m", "is_generation": "yes"}},
        {"/v1/models": {"data": [{"id": "m"}]}, "/model_info": {"model_path": None, "is_generation": True}},
        {"/v1/models": {"data": [{"id": "m"}]}, "/model_info": []},
    ],
)
def test_odd_answers_are_no_sglang_and_raise_nothing(pages):
    with answering(pages) as server:
        assert told(server) is None
        run(KIND.models(asking(server)))


# Its models.


def test_without_a_parser_tools_are_declared_not_to_work_and_the_evidence_says_why():
    with sglang(context_length=32_768) as server:
        model = only(server)
    assert (model.id, model.state, model.task, model.context_window) == ("Qwen/Qwen3-8B", "loaded", "chat", 32_768)
    assert (model.supports_tools, model.supports_vision, model.supports_embeddings) == (False, False, False)
    assert model.evidence["supports_tools"] == ("GET /model_info, tool_call_parser is null: calls come back as text")


def test_with_a_parser_tools_work():
    about = {"": {"tool_call_parser": "qwen25", "reasoning_parser": "qwen3", "vision": True, "model_type": "qwen3"}}
    with sglang(about=about) as server:
        model = only(server)
    assert (model.supports_tools, model.supports_vision, model.family) == (True, True, "qwen3")
    assert model.extras == {"tool_call_parser": "qwen25", "reasoning_parser": "qwen3"}


def test_an_old_one_says_nothing_of_tools():
    with sglang(options={"old": True}) as server:
        model = only(server)
    assert (model.supports_tools, model.task) == (None, "chat")
    assert model.evidence["supports_embeddings"] == "GET /get_model_info, is_generation"


def test_an_embedding_model_says_so():
    with sglang(about={"": {"is_generation": False}}) as server:
        model = only(server)
        assert (model.task, model.supports_embeddings, model.supports_tools) == ("embedding", True, False)
        status, text = asked(server, "POST", "/v1/embeddings", {"model": model.id, "input": "a"})
    assert status == 200 and json.loads(text)["data"][0]["embedding"]


def test_odd_members_are_none():
    listing = {"data": [{"id": "m", "owned_by": "sglang", "max_model_len": "8k", "parent": 3}]}
    odd = {**INFO, "has_image_understanding": "yes", "model_type": 3, "tool_call_parser": 7, "reasoning_parser": []}
    with answering({"/v1/models": listing, "/model_info": odd}) as server:
        model = only(server)
    assert (model.context_window, model.supports_vision, model.family, model.extras) == (None, None, None, {})
    assert model.supports_tools is False


def test_five_thousand_entries_are_all_there():
    listing = {"data": [{"id": f"m{n}", "owned_by": "sglang", "max_model_len": n + 1} for n in range(5000)]}
    with answering({"/v1/models": listing, "/model_info": INFO}) as server:
        assert len(run(KIND.models(asking(server)))) == 5000


# Tokens and figures.


def test_a_text_becomes_token_ids():
    with sglang() as server:
        assert len(run(KIND.tokenize(asking(server), "m", "Hello big world"))) == 3
        server.scripts["/tokenize"] = Script(status=404, error_body={"detail": "Not Found"})
        with pytest.raises(NotHere):
            run(KIND.tokenize(asking(server), "m", "Hello"))


FIGURES = """
sglang:num_running_reqs{dp_rank="0",tp_rank="0",priority=""} 14.0
sglang:num_running_reqs{dp_rank="0",tp_rank="1",priority=""} 14.0
sglang:num_running_reqs{dp_rank="1",tp_rank="0",priority=""} 2.0
sglang:num_running_reqs{dp_rank="0",tp_rank="0",priority="0"} 14.0
sglang:num_running_reqs_total 100
sglang:num_queue_reqs{dp_rank="0"} 3.0
sglang:token_usage{dp_rank="0"} 0.5
sglang:token_usage{dp_rank="1"} 0.75
sglang:gen_throughput{tp_rank="0"} 35.5
sglang:prompt_tokens_total 4882260.0
sglang:generation_tokens_total 139795.0
sglang:time_to_first_token_seconds_bucket{le="1.0"} 4
sglang:time_to_first_token_seconds_bucket{le="+Inf"} 4
sglang:time_to_first_token_seconds_count 4
sglang:time_to_first_token_seconds_sum 1.0
"""


def test_the_figures_by_hand():
    # Tensor-parallel ranks repeat a figure (14, once), data-parallel ranks add up (14 + 2), priorities are parts of it.
    with answering({"/metrics": FIGURES}) as server:
        assert run(KIND.metrics(asking(server))) == {
            "requests_running": 16.0,
            "requests_waiting": 3.0,
            "cache_usage": 0.75,
            "prompt_tokens_total": 4_882_260.0,
            "output_tokens_total": 139_795.0,
            "output_tokens_per_s": 35.5,
            "ttft_s_mean": 0.25,
            "ttft_s_p50": 0.5,
        }


def test_figures_are_there_only_where_it_was_started_with_them():
    with sglang(options={"metrics": False}) as server:
        assert run(KIND.metrics(asking(server))) == {}
    with sglang() as server:
        assert run(KIND.metrics(asking(server)))["requests_running"] == 0.0


# The personality.


@pytest.mark.parametrize(
    ("options", "words"), [({}, "SGLang is running"), ({"ollama_root": True}, "Ollama is running")]
)
def test_its_root_answers_in_quotes(options, words):
    with sglang(options=options) as server:
        assert asked(server, "GET", "/") == (200, f'"{words}"')
        assert json.loads(asked(server, "GET", "/api/tags")[1])["models"][0]["details"]["format"] == "sglang"


def test_its_errors_stand_at_the_top_level():
    with sglang(context_length=4) as server:
        status, text = asked(server, "POST", "/v1/chat/completions", {"messages": QUESTION})
        assert (status, json.loads(text)) == (
            400,
            {
                "object": "error",
                "message": "The input (6 tokens) is longer than the model's context length (4 tokens).",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            },
        )
        status, text = asked(server, "GET", "/v1/models/nope")
        assert (status, json.loads(text)["error"]["code"]) == (404, "model_not_found")


def test_any_name_is_answered_and_without_a_parser_calls_come_as_text():
    script = Script(tool_calls=[{"name": "get_weather", "arguments": {"city": "Paris"}}])
    with sglang(script) as server:
        _, text = asked(server, "POST", "/v1/chat/completions", {"model": "nope", "messages": QUESTION})
        choice = json.loads(text)["choices"][0]
        assert choice["message"]["content"].startswith("<tool_call>") and choice["finish_reason"] == "stop"
    with sglang(script, about={"": {"tool_call_parser": "qwen25"}}) as server:
        _, text = asked(server, "POST", "/v1/chat/completions", {"messages": QUESTION})
        assert json.loads(text)["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
