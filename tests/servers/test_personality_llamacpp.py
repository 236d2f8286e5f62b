"""The scripted llama-server: one model held against the real engine, and the router."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tiny_model import write_tiny_model

from mamba_nb import embedded
from mamba_nb.embedded import Engine, start_engine
from mamba_nb.settings import EmbeddedSettings
from mamba_nb.testing import Script, ScriptedServer, words

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Hello you"}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]


def ask(port: int, method: str, path: str, body: Any = None, key: str | None = None) -> tuple[int, Any, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        data = response.read()
        return response.status, response.headers, json.loads(data) if data[:1] in (b"{", b"[") else data.decode()
    finally:
        connection.close()


def llama(*names: str, **options: Any) -> ScriptedServer:
    return ScriptedServer(style="llamacpp", models=names or ("tiny",), **options)


def router(*names: str, **options: Any) -> ScriptedServer:
    chosen = {"mode": "router", **options.pop("options", {})}
    return ScriptedServer(style="llamacpp", models=names or ("tiny", "other"), options=chosen, **options)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path = write_tiny_model(tmp_path_factory.mktemp("models") / "Tiny.F32.gguf")
    yield start_engine(path, n_ctx=256, slots=2, settings=EmbeddedSettings())
    embedded.stop()


# Held against the real engine.

SAME_REFUSALS = [
    pytest.param("POST", CHAT, {"messages": IMAGE}, id="an image"),
    pytest.param("POST", CHAT, {"messages": MESSAGES, "response_format": {"type": "xml"}}, id="an odd format"),
    pytest.param("POST", CHAT, {"messages": MESSAGES, "top_logprobs": 3}, id="alternatives without logprobs"),
    pytest.param(
        "POST", CHAT, {"messages": MESSAGES, "logprobs": True, "tools": TOOLS, "stream": True}, id="logprobs and tools"
    ),
    pytest.param("POST", CHAT, {"messages": MESSAGES, "n": 5}, id="more answers than slots"),
    pytest.param("POST", CHAT, {"messages": MESSAGES, "tools": TOOLS, "tool_choice": "bogus"}, id="an odd choice"),
    pytest.param(
        "POST",
        CHAT,
        {"messages": MESSAGES, "chat_template_kwargs": {"enable_thinking": "no"}},
        id="a word as a switch",
    ),
    pytest.param("POST", "/tokenize", {"content": 5}, id="a number as text"),
    pytest.param("POST", "/apply-template", {}, id="a template without messages"),
    pytest.param("POST", f"{CHAT}/input_tokens", {}, id="a count without messages"),
    pytest.param("POST", "/v1/embeddings", {"input": "hi"}, id="embeddings"),
    pytest.param("POST", "/models/load", {"model": "x"}, id="a router's load"),
    pytest.param("GET", "/models/sse", None, id="a router's events"),
    pytest.param("GET", "/nope", None, id="an unknown path"),
]


@pytest.mark.parametrize(("method", "path", "body"), SAME_REFUSALS)
def test_it_refuses_as_the_real_engine_does(engine: Engine, method: str, path: str, body: Any):
    port = int(engine.base_url.rpartition(":")[2].partition("/")[0])
    status, headers, reply = ask(port, method, path, body, engine.api_key)
    with llama(slots=2) as server:
        scripted_status, scripted_headers, scripted = ask(server.port, method, path, body)
    assert (scripted_status, scripted) == (status, reply) and status >= 400
    assert scripted_headers["Server"] == headers["Server"] == "llama.cpp"


def test_an_overflow_has_the_real_engines_shape(engine: Engine):
    port = int(engine.base_url.rpartition(":")[2].partition("/")[0])
    body = {"messages": [{"role": "user", "content": "x " * 600}]}
    status, _, real = ask(port, "POST", CHAT, body, engine.api_key)
    with llama(context_length=256) as server:
        scripted_status, _, scripted = ask(server.port, "POST", CHAT, body)
    assert scripted_status == status == 400
    assert scripted["error"].keys() == real["error"].keys()
    assert scripted["error"]["type"] == real["error"]["type"] == "exceed_context_size_error"
    message = "request (600 tokens) exceeds the available context size (256 tokens), try increasing it"
    assert scripted["error"]["message"] == message and (scripted["error"]["n_prompt_tokens"] == 600)


@pytest.mark.parametrize("path", ["/v1/models", "/props", "/slots"])
def test_its_lists_have_members_that_the_real_engine_has(engine: Engine, path: str):
    port = int(engine.base_url.rpartition(":")[2].partition("/")[0])
    real = ask(port, "GET", path, None, engine.api_key)[2]
    with llama() as server:
        scripted = ask(server.port, "GET", path)[2]
    assert sorted(set(shape(scripted)) - set(shape(real))) == []


def shape(value: Any, at: str = "") -> Iterator[str]:
    """Every member's place and type; of a list the first item's; `params` is left out."""
    if isinstance(value, dict):
        for name, member in value.items():
            if name != "params":
                yield from shape(member, f"{at}.{name}")
    elif isinstance(value, list):
        yield from shape(value[0], f"{at}[]") if value else [f"{at}[]"]
    else:
        yield f"{at}: {type(value).__name__}"


def test_its_figures_are_lines_that_the_real_engine_has(engine: Engine):
    port = int(engine.base_url.rpartition(":")[2].partition("/")[0])
    status, headers, real = ask(port, "GET", "/metrics", None, engine.api_key)
    assert status == 200
    with llama(options={"metrics": True}, script=Script(text=words(3))) as server:
        ask(server.port, "POST", CHAT, {"messages": MESSAGES, "stream": True})
        _, scripted_headers, scripted = ask(server.port, "GET", "/metrics")
    assert scripted_headers["Content-Type"] == headers["Content-Type"]
    types = {line for line in real.splitlines() if line.startswith("# TYPE")}
    assert {line for line in scripted.splitlines() if line.startswith("# TYPE")} <= types
    assert "llamacpp:prompt_tokens_total 2\n" in scripted and "llamacpp:tokens_predicted_total 3\n" in scripted


# One model.


def test_figures_take_a_switch():
    with llama() as server:
        status, _, reply = ask(server.port, "GET", "/metrics")
    message = "This server does not support metrics endpoint. Start it with `--metrics`"
    assert (status, reply["error"]["message"]) == (501, message)


def test_tools_can_be_off_or_go_wrong():
    body = {"messages": MESSAGES, "tools": TOOLS}
    with llama(options={"jinja": False}) as server:
        assert ask(server.port, "POST", CHAT, body)[2]["error"]["message"] == "tools param requires --jinja flag"
        assert ask(server.port, "POST", CHAT, {"messages": MESSAGES})[0] == 200
    with llama(options={"tool_output_broken": True}) as server:
        status, _, reply = ask(server.port, "POST", CHAT, body)
        assert status == 500 and "expected peg-native format" in reply["error"]["message"]


def test_a_model_with_a_projector_takes_images():
    with llama(about={"tiny": {"vision": True}}) as server:
        assert ask(server.port, "POST", CHAT, {"messages": IMAGE})[0] == 200
        listed = ask(server.port, "GET", "/v1/models")[2]
    assert listed["data"][0]["architecture"]["input_modalities"] == ["text", "image"]


def test_tokens_go_there_and_back():
    with llama() as server:
        tokens = ask(server.port, "POST", "/tokenize", {"content": "hi there", "add_special": True})[2]["tokens"]
        assert len(tokens) == 3 and tokens[0] == 1
        assert ask(server.port, "POST", "/detokenize", {"tokens": tokens[1:]})[2] == {"content": "hi there"}
        counted = ask(server.port, "POST", "/chat/completions/input_tokens", {"messages": MESSAGES})[2]
        answered = ask(server.port, "POST", CHAT, {"messages": MESSAGES})[2]
    assert counted == {"input_tokens": 2, "object": "response.input_tokens"}
    assert answered["usage"]["prompt_tokens"] == 2


def test_every_answer_carries_the_header_while_it_loads_and_without_a_key():
    with llama(api_key="k") as server:
        status, headers, _ = ask(server.port, "GET", "/props")
        assert (status, headers["Server"]) == (401, "llama.cpp")
    with llama(loading_s=600) as server:
        status, headers, reply = ask(server.port, "GET", "/props")
        assert (status, headers["Server"], reply["error"]["message"]) == (503, "llama.cpp", "Loading model")


# The router.


def test_a_router_says_that_it_is_one_and_lists_states():
    about = {"tiny": {"loaded": True}}
    with router(about=about) as server:
        props = ask(server.port, "GET", "/props")[2]
        assert (props["role"], props["model_path"], props["default_generation_settings"]["n_ctx"]) == (
            "router",
            "none",
            0,
        )
        listed = ask(server.port, "GET", "/models")[2]
        assert "models" not in listed
        assert [entry["status"]["value"] for entry in listed["data"]] == ["loaded", "unloaded"]
        assert ask(server.port, "GET", "/props?model=tiny")[2]["model_path"] == "/models/tiny.gguf"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"model": "nope"}, 400, "model 'nope' not found"),
        ({}, 400, "model name is missing from the request"),
        ({"model": "broken"}, 500, "model name=broken failed to load"),
    ],
)
def test_a_router_refuses_in_its_words(body: dict[str, Any], status: int, message: str):
    with router("tiny", "broken", about={"broken": {"load_fails": 1}}) as server:
        got, _, reply = ask(server.port, "POST", CHAT, {"messages": MESSAGES, **body})
        assert (got, reply["error"]["message"]) == (status, message)
        assert ask(server.port, "POST", "/tokenize", {"content": "a", **body})[0] == status


def test_a_request_loads_its_model_unless_that_is_off():
    with router() as server:
        assert ask(server.port, "POST", CHAT, {"messages": MESSAGES, "model": "other"})[2]["model"] == "other"
        assert server.load_log == ["other"]
        reply = ask(server.port, "GET", "/props?model=tiny&autoload=false")[2]
        assert reply["error"]["message"] == "model is not loaded" and server.load_log == ["other"]
    with router(options={"autoload": False}) as server:
        reply = ask(server.port, "POST", CHAT, {"messages": MESSAGES, "model": "other"})[2]
        assert reply["error"]["message"] == "model is not loaded"


def test_load_and_unload_answer_at_once_and_refuse_in_its_words():
    with router(load_s=60) as server:
        assert ask(server.port, "POST", "/models/load", {"model": "tiny"})[2] == {"success": True}
        again = ask(server.port, "POST", "/models/load", {"model": "tiny"})
        assert (again[0], again[2]["error"]["message"]) == (400, "model is already running")
        missing = ask(server.port, "POST", "/models/load", {"model": "nope"})
        assert (missing[0], missing[2]["error"]["message"]) == (404, "model is not found")
        idle = ask(server.port, "POST", "/models/unload", {"model": "other"})
        assert (idle[0], idle[2]["error"]["message"]) == (400, "model is not running")
        assert [e["status"]["value"] for e in ask(server.port, "GET", "/models")[2]["data"]] == ["loading", "unloaded"]


def test_downloads_are_told_as_events_to_whoever_listens():
    options = {"download_bytes": 100, "download_steps": 2, "download_step_s": 0.4}
    with router(options=options) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request("GET", "/models/sse")
        response = connection.getresponse()
        assert response.readline() == b": listening\n"
        assert ask(server.port, "POST", "/models", {"model": "u/r:Q4"})[2] == {"success": True}
        assert ask(server.port, "GET", "/models")[2]["data"][-1]["status"]["value"] == "downloading"
        events = []
        while not events or events[-1]["event"] != "download_finished":
            line = response.readline()
            if line.startswith(b"data: "):
                events.append(json.loads(line.removeprefix(b"data: ")))
        connection.close()
        assert ask(server.port, "GET", "/models")[2]["data"][-1]["id"] == "u/r:Q4"
    done = [next(iter(event["data"].values()))["done"] for event in events[:-1]]
    assert done == [50, 100]
