"""OpenAI as a kind, told by its host alone, and its stand-in on this machine."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from mamba_nb._bridge import io
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.kinds import Sighting
from mamba_nb.servers.openai import KIND, renames_for
from mamba_nb.testing import Script, ScriptedServer

CHAT = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
REFUSED = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."


def run(work: Any) -> Any:
    return io.submit(work).result(30)


def told(root: str, server: ScriptedServer) -> Sighting | None:
    """What a host is told as, whose list of models is this server's."""
    return run(KIND.recognise(Asking(root=root, base_url=server.base_url)))


def openai(script: Script | None = None, **options: Any) -> ScriptedServer:
    return ScriptedServer(script, style="openai", **{"models": ["gpt-4o", "o3", "gpt-5-mini"], **options})


def chat(server: ScriptedServer, key: str | None = None, **body: Any) -> tuple[int, dict[str, str], Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    try:
        connection.request("POST", CHAT, json.dumps({"model": "gpt-4o", "messages": QUESTION, **body}), headers)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return response.status, found, json.loads(response.read())
    finally:
        connection.close()


def test_its_host_alone_tells_it():
    with openai() as server:
        sighting = told("https://api.openai.com", server)
        assert sighting is not None
        assert (sighting.certainty, sighting.evidence) == ("certain", "the host is api.openai.com")
        assert told("https://eu.api.openai.com", server) is not None
        assert told(server.root, server) is None
        assert told("https://api.openai.com.example.org", server) is None
        assert told("not an address", server) is None


def test_without_a_key_it_says_that_it_wants_one():
    with openai(api_key="right") as server:
        sighting = told("https://api.openai.com", server)
    assert sighting is not None and sighting.needs_key


def test_its_models_are_names_that_do_not_run_here():
    names = ["gpt-4o", "text-embedding-3-small", "whisper-1", "gpt-4o-transcribe", "dall-e-3", "o4-mini"]
    with openai(models=names) as server:
        found = run(KIND.models(Asking(root="https://api.openai.com", base_url=server.base_url)))
    assert [model.task for model in found] == ["chat", "embedding", "other", "other", "other", "chat"]
    assert all((model.runs_locally, model.context_window, model.state) == (False, None, None) for model in found)


@pytest.mark.parametrize(
    ("model", "renamed"),
    [
        *((name, True) for name in ("o1", "o3-mini", "o4-mini-2025-04-16", "gpt-5", "gpt-5.1", "openai/gpt-5-nano")),
        *((name, True) for name in ("ft:o3-mini:acme", "GPT-6")),
        *((name, False) for name in ("gpt-4o", "gpt-4.1-mini", "gpt-3.5-turbo", "chatgpt-4o-latest", "omni", "")),
        *((name, False) for name in ("gpt-oss-120b", "my-o1", "text-embedding-3-small")),
    ],
)
def test_only_reasoning_models_call_the_limit_by_another_name(model, renamed):
    assert renames_for(model) == ({"max_tokens": "max_completion_tokens"} if renamed else {})
    assert KIND.renames == {}


# The stand-in.


@pytest.mark.parametrize(("model", "status"), [("o3", 400), ("gpt-5-mini", 400), ("gpt-4o", 200)])
def test_reasoning_models_refuse_max_tokens_in_its_words(model, status):
    with openai() as server:
        found, _, reply = chat(server, model=model, max_tokens=5)
        assert found == status
        if status == 400:
            assert reply["error"] == {
                "message": REFUSED,
                "type": "invalid_request_error",
                "param": "max_tokens",
                "code": "unsupported_parameter",
            }
        assert chat(server, model=model, max_completion_tokens=5)[0] == 200


def test_a_key_is_asked_for_and_never_repeated():
    with openai(api_key="right") as server:
        status, _, reply = chat(server)
        assert status == 401 and reply["error"]["message"].startswith("You didn't provide an API key. You need to")
        status, _, reply = chat(server, key="sk-wrong-12345")
        assert (status, reply["error"]["code"]) == (401, "invalid_api_key")
        assert reply["error"]["message"].startswith("Incorrect API key provided: *") and "sk-" not in str(reply)


def test_no_quota_and_too_many_requests():
    with openai(options={"no_quota": True}) as server:
        status, _, reply = chat(server)
        assert (status, reply["error"]["type"], reply["error"]["code"]) == (
            429,
            "insufficient_quota",
            "insufficient_quota",
        )
    with openai(options={"rate_limited": True}) as server:
        status, headers, reply = chat(server)
        assert (status, headers["retry-after"], reply["error"]["code"]) == (429, "1", "rate_limit_exceeded")


def test_foreign_parameters_are_refused_and_the_headers_are_its_own():
    with openai(Script(text="a")) as server:
        for name in ("top_k", "repeat_penalty", "num_ctx"):
            status, _, reply = chat(server, **{name: 1})
            assert (status, reply["error"]["message"]) == (400, f"Unknown parameter: '{name}'.")
            assert name in KIND.refuses
        status, headers, reply = chat(server)
        assert status == 200 and headers["x-request-id"].startswith("req_") and "openai-processing-ms" in headers
        assert reply["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}


def test_a_prompt_that_is_too_long_is_refused():
    with openai(context_length=5) as server:
        status, _, reply = chat(server)
    assert (status, reply["error"]["code"]) == (400, "context_length_exceeded")
