"""mlx-lm as a kind and as a personality."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from mamba_nb._bridge import io
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.kinds import Sighting
from mamba_nb.servers.mlxlm import KIND
from mamba_nb.testing import Script, ScriptedServer, words

CHAT = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
ENTRY = {"id": "mlx-community/Llama-3.2-3B-Instruct-4bit", "object": "model", "created": 1}


def asking(server: ScriptedServer) -> Asking:
    return Asking(root=server.root, base_url=server.base_url)


def run(work: Any) -> Any:
    return io.submit(work).result(30)


def told(server: ScriptedServer) -> Sighting | None:
    return run(KIND.recognise(asking(server)))


def mlxlm(script: Script | None = None, **options: Any) -> ScriptedServer:
    return ScriptedServer(script, style="mlxlm", **{"models": ["mlx-community/a", "/models/b"], **options})


def answering(pages: dict[str, Any]) -> ScriptedServer:
    return ScriptedServer(scripts={path: Script(error_body=body) for path, body in pages.items()}, models=[])


def asked(server: ScriptedServer, method: str, path: str, body: Any = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        data = body if isinstance(body, str) else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_it_is_never_more_than_a_guess():
    with mlxlm() as server:
        sighting = told(server)
    assert sighting is not None and (sighting.kind, sighting.certainty) == ("mlxlm", "guess")
    assert sighting.evidence.endswith('GET /health is {"status": "ok"}, from Python\'s own HTTP server')


@pytest.mark.parametrize("style", ["plain", "vllm", "sglang", "tgi", "openai", "ollama", "llamacpp", "lmstudio"])
def test_other_kinds_are_not_mlxlm(style):
    with ScriptedServer(style=style) as server:
        assert told(server) is None


@pytest.mark.parametrize(
    ("listing", "health"),
    [
        pytest.param({"data": [{**ENTRY, "owned_by": "me"}]}, {"status": "ok"}, id="an owner"),
        pytest.param({"data": [ENTRY, {"id": "x", "size": 3}]}, {"status": "ok"}, id="further fields"),
        pytest.param({"data": [ENTRY]}, {"status": "ok", "version": "1"}, id="more in /health"),
        pytest.param({"data": [ENTRY]}, "ok", id="a text in /health"),
        pytest.param({"data": []}, {"status": "ok"}, id="no model"),
        pytest.param({"data": None}, {"status": "ok"}, id="null"),
        pytest.param("<html>", {"status": "ok"}, id="a page"),
    ],
)
def test_what_has_more_or_less_is_not_mlxlm(listing, health):
    with answering({"/v1/models": listing, "/health": health}) as server:
        assert told(server) is None


def test_one_that_is_not_healthy_is_not_told():
    with mlxlm(options={"unhealthy": True}) as server:
        assert told(server) is None


def test_its_models_are_names_and_nothing_else():
    with mlxlm() as server:
        found = run(KIND.models(asking(server)))
    assert [model.id for model in found] == ["mlx-community/a", "/models/b"]
    assert all((model.state, model.context_window, model.facts()) == (None, None, {}) for model in found)


def test_five_thousand_models_are_all_there():
    listing = {"object": "list", "data": [{**ENTRY, "id": f"m{n}"} for n in range(5000)]}
    with answering({"/v1/models": listing, "/health": {"status": "ok"}}) as server:
        assert told(server) is not None
        assert len(run(KIND.models(asking(server)))) == 5000


# The personality.


def test_the_prompt_is_read_in_comments_before_the_first_token():
    with mlxlm(Script(text="a b"), options={"prompt_steps": 2}) as server:
        _, text = asked(server, "POST", CHAT, {"messages": QUESTION, "stream": True})
    first, second, third, *_ = text.split("\n\n")
    assert (first, second) == (": keepalive 512/1024", ": keepalive 1024/1024")
    assert third.startswith("data: {")


def test_an_answer_ends_at_512_tokens_unless_told_otherwise():
    with mlxlm(Script(text=words(600))) as server:

        def said(**body: Any) -> tuple[int, str]:
            reply = json.loads(asked(server, "POST", CHAT, {"messages": QUESTION, **body})[1])
            return reply["usage"]["completion_tokens"], reply["choices"][0]["finish_reason"]

        assert said() == (512, "length")
        assert said(max_tokens=600) == (600, "stop")
        assert said(max_completion_tokens=20, max_tokens=10) == (20, "length")


def test_its_errors_are_a_text():
    with mlxlm() as server:
        assert asked(server, "GET", "/nope") == (404, "Not Found")
        status, text = asked(server, "POST", CHAT, {"model": "nope", "messages": QUESTION})
        assert status == 404 and json.loads(text)["error"].startswith("401 Client Error. Repository Not Found")
        status, text = asked(server, "POST", CHAT, "{not json")
        assert status == 400 and json.loads(text)["error"].startswith("Invalid JSON in request body")
        assert asked(server, "POST", CHAT, {"model": "default_model", "messages": QUESTION})[0] == 200


def test_what_it_ignores_is_told():
    assert {"response_format", "tool_choice", "n"} <= KIND.ignores.keys()
    assert KIND.renames == {"repeat_penalty": "repetition_penalty"}
