"""The vLLM personality against replies recorded from a running vLLM 0.32.0 that served SmolLM2 on a CPU.

Each file of `vllm_replies` is one request and its reply, without dates, ids of the machine and the schemas of
`/openapi.json`. Errors must be equal to the letter; of answers the shape is compared: every key and every type, and
in a stream the order of the shapes.
"""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mamba_nb.testing import Script, ScriptedServer, words
from mamba_nb.testing.styles.vllm_loading import opens_later

REPLIES = Path(__file__).parent / "vllm_replies"
NAMES = sorted(path.stem for path in REPLIES.glob("*.json"))
KEY = "scripted-key"

NOT_PLAYED: dict[str, str] = {}
"""Recorded reply -> why the personality does not give it."""


def recorded(name: str) -> dict[str, Any]:
    return json.loads((REPLIES / f"{name}.json").read_text())


def unpacked(value: Any) -> Any:
    """The body of a request; a long prompt is kept as a text and how often it comes."""
    if isinstance(value, dict) and value.keys() == {"repeat", "times"}:
        return value["repeat"] * value["times"]
    if isinstance(value, dict):
        return {name: unpacked(part) for name, part in value.items()}
    return [unpacked(part) for part in value] if isinstance(value, list) else value


def asked(server: ScriptedServer, method: str, path: str, body: Any = None, key: str | None = None) -> Any:
    """Status, headers by lower-case name, body as text."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    data = body if isinstance(body, str) else None if body is None else json.dumps(body)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    try:
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return response.status, found, response.read().decode()
    finally:
        connection.close()


def shape(value: Any) -> Any:
    """Keys and types; a list is the shapes in it, each once; a mapping from tokens to numbers is that."""
    if isinstance(value, dict):
        if value and all(isinstance(part, float) for part in value.values()):
            return "token -> float"
        return {name: shape(part) for name, part in sorted(value.items())}
    if isinstance(value, list):
        return ["every", *{json.dumps(shape(part), sort_keys=True) for part in value}]
    return type(value).__name__


def chunks(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def in_order(text: str) -> list[Any]:
    """The shapes of a stream's chunks, equal neighbours once."""
    shapes = [shape(chunk) for chunk in chunks(text)]
    return [made for place, made in enumerate(shapes) if not place or made != shapes[place - 1]]


def finishes(reply: Any) -> list[Any]:
    """The finish reason of every choice."""
    choices = reply.get("choices") or () if isinstance(reply, dict) else ()
    return [choice.get("finish_reason") for choice in choices]


@pytest.fixture(scope="module")
def plain_one() -> Iterator[ScriptedServer]:
    """Without a key, without a tool parser, as the most of the replies were recorded."""
    about = {"smollm2": {"root": "/models/smollm2"}}
    with ScriptedServer(
        style="vllm", models=["smollm2"], context_length=2048, options={"tool_parser": None}, about=about
    ) as server:
        yield server


@pytest.fixture(scope="module")
def with_tools() -> Iterator[ScriptedServer]:
    """With a key and a tool parser, as the replies were recorded whose names begin with `tools`."""
    about = {"smollm2": {"root": "/models/smollm2"}}
    with ScriptedServer(style="vllm", models=["smollm2"], context_length=2048, api_key=KEY, about=about) as server:
        yield server


def answer(found: dict[str, Any]) -> str:
    """A text that max_tokens cuts where it cut the recorded one, and valid JSON then, for answers that must be."""
    said = found.get("json") or {}
    last = [said] if said else [chunk for chunk in chunks(found.get("text", "")) if chunk != "[DONE]"]
    if any(finish == "length" for part in last for finish in finishes(part)[:1]):
        return json.dumps({"answer": "".join(words(200))})
    return "The capital of France is Paris."


def test_there_are_83_replies():
    assert len(NAMES) == 83
    assert set(NOT_PLAYED) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_reply_is_played(name, plain_one, with_tools):
    if name in NOT_PLAYED:
        pytest.skip(NOT_PLAYED[name])
    found = recorded(name)
    server = with_tools if name.startswith("tools") else plain_one
    server.script = Script(text=answer(found))
    key = None if "nokey" in name or "missing" in name else "wrong" if "wrong" in name else KEY
    request = found["request"]
    status, headers, text = asked(server, request["method"], request["path"], unpacked(request["body"]), key)
    assert status == found["status"]
    assert {header: headers.get(header) for header in found["headers"]} == found["headers"]
    if name == "metrics":
        assert series(found["text"]) <= series(text)
    elif "json" not in found:
        assert in_order(text) == in_order(found["text"])
    elif status >= 400 or name in ("version", "load", "openapi"):
        assert json.loads(text) == found["json"]
    else:
        assert shape(json.loads(text)) == shape(found["json"])
        assert finishes(json.loads(text))[:1] == finishes(found["json"])[:1]


def series(text: str) -> set[tuple[str, tuple[str, ...]]]:
    """The names and label names of the lines of a Prometheus text."""
    lines = re.findall(r"^([\w:]+)\{(.*)\} ", text, re.MULTILINE)
    return {(name, tuple(re.findall(r'(\w+)="', labels))) for name, labels in lines}


# What the recorded replies do not show, or show once.

CHAT = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def chat(server: ScriptedServer, **body: Any) -> tuple[int, Any]:
    status, _, text = asked(server, "POST", CHAT, {"messages": QUESTION, **body})
    return status, json.loads(text)


def vllm(script: Script | None = None, **options: Any) -> ScriptedServer:
    return ScriptedServer(script, style="vllm", **{"models": ["m"], **options})


def test_it_refuses_connections_while_it_loads():
    with opens_later(0.3, Script(text="a"), models=["m"]) as server:
        with pytest.raises(ConnectionRefusedError):
            asked(server, "GET", "/version")
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                status, _, _ = asked(server, "GET", "/version")
                break
            except ConnectionRefusedError:
                time.sleep(0.02)
        assert status == 200 and len(server.requests) == 1


def test_leaving_before_it_has_loaded_leaves_nothing_behind():
    with opens_later(3600, models=["m"]) as server:
        port = server.port
    with ScriptedServer(port=port) as another:
        assert asked(another, "GET", "/health")[0] == 200


def test_an_error_in_mid_stream_is_followed_by_done():
    with vllm(Script(text="a b c", fault="error_mid_stream", fault_after=1)) as server:
        _, _, text = asked(server, "POST", CHAT, {"messages": QUESTION, "stream": True})
    *_, error, done = chunks(text)
    assert (error["error"]["type"], error["error"]["code"], done) == ("InternalServerError", 500, "[DONE]")


def test_an_answer_ends_where_the_context_ends():
    with vllm(Script(text=words(50)), context_length=16) as server:
        _, reply = chat(server, max_tokens=16)
        assert reply["usage"] == {**reply["usage"], "prompt_tokens": 6, "completion_tokens": 10, "total_tokens": 16}
        assert reply["choices"][0]["finish_reason"] == "length"
        assert chat(server, max_tokens=17)[0] == 400


def test_where_max_tokens_cuts_the_finish_reason_rides_on_the_last_token():
    with vllm(Script(text="a b c")) as server:
        _, _, text = asked(server, "POST", CHAT, {"messages": QUESTION, "stream": True, "max_tokens": 2})
    last = chunks(text)[-2]["choices"][0]
    assert (last["delta"], last["finish_reason"]) == ({"content": " b"}, "length")


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        pytest.param(["of", "capital"], "The ", id="the first that comes"),
        pytest.param("Paris", "The capital of France is ", id="one text"),
        pytest.param([None, 3, "nowhere"], "The capital of France is Paris.", id="none of them"),
    ],
)
def test_stop_words_cut_the_answer(stop, text):
    with vllm(Script(text="The capital of France is Paris.")) as server:
        _, reply = chat(server, stop=stop)
        assert (reply["choices"][0]["message"]["content"], reply["choices"][0]["finish_reason"]) == (text, "stop")


def test_named_and_required_tools_are_called_with_arguments_of_their_schema():
    with vllm(Script(text="It is sunny.")) as server:
        for choice, finish in (
            ("required", "tool_calls"),
            ({"type": "function", "function": {"name": "get_weather"}}, "stop"),
        ):
            _, reply = chat(server, tools=[TOOL], tool_choice=choice)
            (call,) = reply["choices"][0]["message"]["tool_calls"]
            assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == (
                "get_weather",
                {"city": "text"},
            )
            assert call["id"].startswith("chatcmpl-tool-") and reply["choices"][0]["finish_reason"] == finish
        _, reply = chat(server, tools=[TOOL])
        assert reply["choices"][0]["message"]["content"] == "It is sunny."


def test_forbidden_tools_are_not_called():
    with vllm(Script(tool_calls=[{"name": "get_weather"}])) as server:
        _, reply = chat(server, tools=[TOOL], tool_choice="none")
        assert "tool_calls" not in reply["choices"][0]["message"] and reply["choices"][0]["message"]["content"]


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "n": {"type": "integer"}}, "required": ["city"]}


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        pytest.param(
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
            '{"city": "text", "n": 1}',
            id="json_schema",
        ),
        pytest.param({"structured_outputs": {"json": SCHEMA}}, '{"city": "text", "n": 1}', id="structured outputs"),
        pytest.param({"structured_outputs": {"choice": ["Paris", "London"]}}, "Paris", id="choice"),
        pytest.param({"guided_json": SCHEMA}, "Not JSON.", id="guided_json is ignored"),
        pytest.param({"guided_choice": ["Paris"]}, "Not JSON.", id="guided_choice is ignored"),
    ],
)
def test_answers_have_the_shape_that_was_asked_for(extra, text):
    with vllm(Script(text="Not JSON.")) as server:
        _, reply = chat(server, **extra)
        assert reply["choices"][0]["message"]["content"] == text


def test_valid_json_is_left_as_the_script_has_it():
    with vllm(Script(text='{"city": "Oslo"}')) as server:
        _, reply = chat(server, response_format={"type": "json_object"})
        assert reply["choices"][0]["message"]["content"] == '{"city": "Oslo"}'


def test_a_model_that_sees_takes_images():
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]
    with vllm(models=["a", "b"], about={"b": {"vision": True}}) as server:
        assert chat(server, model="a", messages=image)[1]["error"]["message"] == "a is not a multimodal model"
        assert chat(server, model="b", messages=image)[0] == 200


def test_adapters_are_listed_under_their_parent():
    with vllm(models=["base", "sql"], about={"sql": {"parent": "base", "root": "/loras/sql"}}) as server:
        _, _, text = asked(server, "GET", "/v1/models")
        listed = {
            entry["id"]: (entry["root"], entry["parent"], entry["max_model_len"]) for entry in json.loads(text)["data"]
        }
    assert listed == {"base": ("base", None, 4096), "sql": ("/loras/sql", "base", None)}


def test_an_embedding_model_embeds_and_does_not_chat():
    with vllm(options={"task": "embed"}) as server:
        assert chat(server) == (404, {"detail": "Not Found"})
        status, _, text = asked(server, "POST", "/v1/embeddings", {"model": "m", "input": ["a", "b c"]})
        reply = json.loads(text)
        assert (status, len(reply["data"]), reply["usage"]["prompt_tokens"]) == (200, 2, 3)
        assert "/v1/embeddings" in json.loads(asked(server, "GET", "/openapi.json")[2])["paths"]


def test_tokens_become_the_text_again():
    with vllm() as server:
        _, _, text = asked(server, "POST", "/tokenize", {"prompt": "Hello big world", "return_token_strs": True})
        found = json.loads(text)
        assert (found["count"], found["token_strs"]) == (3, ["Hello", " big", " world"])
        _, _, text = asked(server, "POST", "/detokenize", {"tokens": found["tokens"]})
        assert json.loads(text) == {"prompt": "Hello big world"}


@pytest.mark.parametrize(
    ("path", "body"),
    [("/tokenize", {}), ("/detokenize", {"tokens": "a"}), ("/v1/completions", {"prompt": None}), ("/v1/responses", {})],
)
def test_a_body_without_what_it_needs_is_a_bad_request(path, body):
    with vllm() as server:
        status, _, text = asked(server, "POST", path, body)
    assert (status, json.loads(text)["error"]["type"]) == (400, "Bad Request")


def test_odd_requests_are_answered_with_an_answer():
    odd: list[dict[str, Any]] = [
        {"messages": [None, 3, {"role": "user", "content": {"a": 1}}]},
        {"tools": [None, 3], "tool_choice": {"type": "function"}},
        {"tools": "all", "tool_choice": {"function": None}},
        {"response_format": "json", "structured_outputs": [1], "stream_options": 3},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "#/$defs/a/b", "type": 3}}}},
        {"stop": {"a": 1}, "max_tokens": None, "temperature": None},
    ]
    with vllm() as server:
        for body in odd:
            status, reply = chat(server, **body)
            assert status in (200, 400) and ("choices" in reply or "error" in reply), body
