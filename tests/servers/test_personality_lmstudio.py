"""The scripted LM Studio: its refusals, its overflows, its versions, its figures."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from mamba_nb.testing import Script, ScriptedServer, ServerProcess
from mamba_nb.testing.styles.lmstudio import NO_MODELS

CHAT = "/v1/chat/completions"
LONG = "word " * 50


def ask(server: ScriptedServer, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def chat(server: ScriptedServer, prompt: str = "Why?", **options: Any) -> tuple[int, Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], **options}
    return ask(server, "POST", CHAT, body)


def studio(*names: str, **options: Any) -> ScriptedServer:
    return ScriptedServer(style="lmstudio", models=names or ("m",), **options)


def test_every_unknown_path_is_200_with_an_error():
    with studio() as server:
        for method, path in (("GET", "/health"), ("POST", "/v1/models"), ("GET", "/api/tags"), ("POST", "/tokenize")):
            said = ask(server, method, path, {} if method == "POST" else None)
            assert said == (200, {"error": f"Unexpected endpoint or method. ({method} {path})"})


@pytest.mark.parametrize(
    ("version", "there"),
    [("0.4", ["/api/v1/models", "/api/v0/models"]), ("0.3", ["/api/v0/models"]), ("0.2", [])],
)
def test_an_older_version_lacks_the_newer_lists(version: str, there: list[str]):
    with studio(options={"version": version}) as server:
        paths = ("/api/v1/models", "/api/v0/models")
        assert [path for path in paths if "error" not in ask(server, "GET", path)[1]] == there


def test_with_just_in_time_loading_all_is_listed_and_without_it_what_is_loaded():
    about = {"a": {"loaded": True}, "b": {"loaded": False}}
    with studio("a", "b", about=about) as server:
        assert [entry["id"] for entry in ask(server, "GET", "/v1/models")[1]["data"]] == ["a", "b"]
    with studio("a", "b", about=about, options={"jit": False}) as server:
        assert [entry["id"] for entry in ask(server, "GET", "/v1/models")[1]["data"]] == ["a"]


@pytest.mark.parametrize("status", [404, 400])
def test_without_just_in_time_loading_an_unloaded_model_is_refused(status: int):
    options = {"jit": False, "no_models_status": status}
    with studio(about={"m": {"loaded": False}}, options=options) as server:
        got, reply = chat(server)
        assert (got, reply["error"]["message"], reply["error"]["param"]) == (status, NO_MODELS, "model")
        ask(server, "POST", "/api/v1/models/load", {"model": "m"})
        assert chat(server)[0] == 200


def test_a_request_loads_its_model_once_and_an_unloaded_one_again():
    with studio(load_s=0.01) as server:
        assert chat(server)[0] == chat(server)[0] == 200
        assert server.loads == 1
        ask(server, "POST", "/api/v1/models/unload", {"instance_id": "m"})
        assert ask(server, "GET", "/api/v1/models")[1]["models"][0]["loaded_instances"] == []
        chat(server)
        assert server.loads == 2


def test_loading_the_same_model_again_makes_a_second_instance():
    with studio(about={"m": {"loaded": True}}) as server:
        reply = ask(
            server, "POST", "/api/v1/models/load", {"model": "m", "context_length": 99, "echo_load_config": True}
        )
        assert (reply[1]["instance_id"], reply[1]["status"], reply[1]["load_config"]) == (
            "m:2",
            "loaded",
            {"context_length": 99},
        )
        (entry,) = ask(server, "GET", "/api/v1/models")[1]["models"]
    sizes = [(one["id"], one["config"]["context_length"]) for one in entry["loaded_instances"]]
    assert sizes == [("m", 4096), ("m:2", 99)]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("n_keep", "Cannot truncate prompt with n_keep (50) >= n_ctx (20)"),
        ("older", "Trying to keep the first 50 tokens when context the overflows. However, the model is loaded with"),
        ("mlx", "Context size has been exceeded."),
    ],
)
def test_a_prompt_that_is_too_long_is_refused_with_the_error_as_a_string(how: str, words: str):
    with studio(context_length=20, options={"overflow": how}) as server:
        status, reply = chat(server, LONG)
        assert status == 400 and reply["error"].startswith(words)
        assert chat(server)[0] == 200


def test_or_it_is_answered_with_nothing_at_all():
    with studio(context_length=20, options={"overflow": "empty"}) as server:
        status, reply = chat(server, LONG)
    assert (status, reply["choices"][0]["message"]["content"]) == (200, "")
    assert reply["usage"] == {"prompt_tokens": 50, "completion_tokens": 0, "total_tokens": 50}


def test_the_context_is_that_of_the_loaded_instance():
    with studio(about={"m": {"loaded": True, "context": 20}}, context_length=4096) as server:
        assert chat(server, LONG)[0] == 400


def test_another_model_answers_where_that_bug_is_asked_for():
    about = {"a": {"loaded": False}, "b": {"loaded": True}}
    with studio("a", "b", about=about, options={"answers_with_another": True}) as server:
        status, reply = chat(server)
    assert (status, reply["model"]) == (200, "b")


def test_a_newer_version_names_the_models_that_there_are():
    with studio("a", "b", options={"names_models": True}) as server:
        status, reply = chat(server)
        assert chat(server, model="a")[0] == 200
    assert status == 400 and reply["error"]["code"] == "model_not_found"
    assert reply["error"]["message"].startswith('Invalid model identifier "m". Please specify a valid downloaded model')


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"response_format": {"type": "json_object"}}, "'response_format.type' must be 'json_schema' or 'text'"),
        (
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
            "Invalid tool_choice type: 'object'. Supported string values: none, auto, required",
        ),
    ],
)
def test_what_it_does_not_take_is_refused_in_its_words(option: dict[str, Any], words: str):
    with studio() as server:
        assert chat(server, **option) == (400, {"error": words})


def test_reasoning_travels_where_the_model_puts_it():
    about = {"gpt-oss": {"reasoning_field": "reasoning"}, "inline": {"reasoning_field": "think"}}
    with studio("m", *about, about=about, script=Script(text="Yes", reasoning="Hm")) as server:
        messages = {name: chat(server, model=name)[1]["choices"][0]["message"] for name in ("m", *about)}
    assert messages["m"]["reasoning_content"] == messages["gpt-oss"]["reasoning"] == "Hm"
    assert messages["inline"]["content"] == "<think>Hm</think>Yes"


def test_the_older_chat_has_figures():
    with studio(script=Script(text="one two three", ttft_s=0.02, itl_s=0.01), about={"m": {"context": 2048}}) as server:
        body = {"model": "m", "messages": [{"role": "user", "content": "Count."}]}
        reply = ask(server, "POST", "/api/v0/chat/completions", body)[1]
        assert ask(server, "GET", "/api/v0/models/m")[1]["state"] == "loaded"
    assert reply["choices"][0]["message"]["content"] == "one two three"
    assert (reply["stats"]["time_to_first_token"], reply["stats"]["stop_reason"]) == (0.02, "eosFound")
    assert reply["stats"]["tokens_per_second"] == pytest.approx(3 / 0.02)
    assert reply["model_info"]["context_length"] == 2048


def test_it_runs_in_a_process_of_its_own_too():
    about = {"m": {"loaded": True, "context": 20}}
    with ServerProcess(style="lmstudio", models=["m"], about=about, options={"overflow": "mlx"}) as server:
        assert chat(server, LONG) == (400, {"error": "Context size has been exceeded."})  # type: ignore[arg-type]
