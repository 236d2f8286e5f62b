"""The three server tutorials: with the embedded model standing in, and with their server on its default port."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from notebooks.running import Executed, run_all

from mamba_nb.testing import Script, ScriptedServer

CALL = "temperature_in(city='Oslo') -> '-2 degrees, snow'"
PATIENCE = pytest.mark.timeout(900)  # the embedded model shares two cores with whatever else runs


def answered(request: Any) -> Script:
    """What a good small model says: it calls the tool it is offered, reads the reply, and keeps to a schema."""
    body = request.body
    last = body["messages"][-1]
    if last["role"] == "tool":
        return Script(text=f"In Oslo: {last['content']}.")
    if tools := body.get("tools"):
        name = tools[0]["function"]["name"]
        return Script(tool_calls=[{"name": name, "arguments": {"city": "Oslo"}}])
    shape = body.get("response_format") or body.get("format")
    if shape:
        schema = shape.get("json_schema", {}).get("schema", shape)
        return Script(text=json.dumps({name: instance(part) for name, part in schema.get("properties", {}).items()}))
    return Script(text="A short answer from a script.", itl_s=0.01)


def instance(schema: dict[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    return {"integer": 51, "number": 51, "boolean": True, "array": [], "object": {}}.get(schema.get("type"), "Lisbon")


SERVERS: dict[str, dict[str, Any]] = {
    "01_ollama": {
        "style": "ollama",
        "models": ["nomic-embed-text"],
        "port": 11434,
        "about": {"nomic-embed-text": {"capabilities": ["embedding"]}},
    },
    "02_vllm": {"style": "vllm", "models": ["Qwen/Qwen2.5-1.5B-Instruct"], "port": 8000},
    "03_lm_studio": {
        "style": "lmstudio",
        "models": ["text-embedding-nomic-embed-text-v1.5", "ibm/granite-4-micro"],
        "port": 1234,
        "about": {
            "text-embedding-nomic-embed-text-v1.5": {"type": "embedding"},
            "ibm/granite-4-micro": {"tools": True},
        },
    },
}
NAMES = sorted(SERVERS)
TITLES = {"01_ollama": "Ollama", "02_vllm": "vLLM", "03_lm_studio": "LM Studio"}
CHOSEN = {
    "01_ollama": "llama3.2:latest",  # which was pulled
    "02_vllm": "Qwen/Qwen2.5-1.5B-Instruct",
    "03_lm_studio": "ibm/granite-4-micro",
}
EMBEDDED = "smollm2-135m-instruct"
WIDGET = "application/vnd.jupyter.widget-view+json"


@contextlib.contextmanager
def server_of(name: str) -> Iterator[ScriptedServer]:
    """The tutorial's server on its default port; one of the user's stays as it is."""
    with contextlib.ExitStack() as stack:
        server = ScriptedServer(answered, context_length=512, **SERVERS[name])
        try:
            stack.enter_context(server)
        except OSError as error:
            pytest.skip(f"port {SERVERS[name]['port']} is taken here: {error.strerror or error}")
        yield server


@PATIENCE
@pytest.mark.real_model
@pytest.mark.parametrize("name", NAMES)
def test_where_the_server_is_not_running_the_embedded_model_stands_in(name, tmp_path, monkeypatch):
    monkeypatch.delenv("ENV", raising=False)
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", SERVERS[name]["port"]), 1):
        pytest.skip(f"something listens on port {SERVERS[name]['port']} here")
    with run_all(name, tmp_path) as executed:
        assert executed.cells["look"].printed.startswith(f"{TITLES[name]} is not running here.")
        shows_every_step(executed, EMBEDDED, server="embedded", tools="prompted")
        shows_every_error(name, executed)
        assert executed.seen("too-long").startswith("ContextOverflow\n")
        if name == "02_vllm":
            assert executed.seen("key-missing").startswith("AuthenticationFailed\n")
            assert executed.seen("no-tools").startswith("ToolsNotSupported\n")
            assert executed.value("settings.model_backend.timeout") == 120.0
            assert "https://models.example.com/v1" in executed.seen("use")


@PATIENCE
@pytest.mark.real_model  # which is the second one of the comparison
@pytest.mark.parametrize("name", NAMES)
def test_where_the_server_is_running_it_is_used(name, tmp_path):
    with server_of(name) as server, run_all(name, tmp_path) as executed:
        assert not executed.cells["look"].printed
        assert server.base_url in executed.seen("look")
        shows_every_step(executed, CHOSEN[name], server=server.style.name, tools="native")
        shows_every_error(name, executed)
        if name == "01_ollama":
            assert "drops the oldest text" in executed.seen("too-long")
        else:
            assert executed.seen("too-long").startswith("ContextOverflow\n")
        if name == "02_vllm":
            assert executed.seen("no-tools").strip() == "In Oslo: -2 degrees, snow."
        if name == "03_lm_studio":
            assert executed.value("window") == 8192  # as it was loaded


def shows_every_step(executed: Executed, model: str, *, server: str, tools: str) -> None:
    """From the widget to the comparison, whoever answers."""
    assert executed.value("(backend.model, backend.server)") == (model, server)
    assert any(WIDGET in bundle for bundle in executed.cells["pick"].displayed)
    assert executed.value("picker.backend is backend")
    assert model in executed.seen("profile")
    assert "JSON schema" in executed.seen("probe")
    assert executed.cells["probe"].printed.startswith("Probing ")
    assert "done" in executed.seen("ask")
    assert executed.cells["stream"].printed.strip()
    assert executed.value("[str(call) for call in result.tool_calls]") == [CALL]
    assert executed.value("bool(result.output.strip()), result.tools_mode") == (True, tools)
    assert "temperature_in" in executed.seen("agent")
    frame = "comparison.to_frame()"
    assert executed.value(f"list({frame}['label'].unique())") == [model, "embedded, short"]
    assert executed.value(f"set({frame}['status']), int({frame}['text'].str.len().min()) > 0") == ({"done"}, True)
    for label in (model, "embedded, short"):
        assert label in executed.seen("compare")
        assert label in executed.seen("table")


def shows_every_error(name: str, executed: Executed) -> None:
    wrong_model = executed.seen("wrong-model")
    assert wrong_model.startswith("ModelNotFound\n")
    assert executed.value("backend.model") in wrong_model
    if name == "01_ollama":
        assert executed.seen("wrong-address").startswith("ServerUnreachable\nNothing is listening on localhost:11435.")
        assert executed.value("bool(health)") is (executed.value("backend.server") == "ollama")
    if name == "03_lm_studio":
        assert "Use http://localhost:1234/v1" in executed.seen("wrong-address")
        assert executed.seen("timeout").startswith("ServerTimeout\n")
        assert "1 of 2 texts fit" in executed.seen("limits")
