"""TGI as a kind and as a personality."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from mamba_nb._bridge import io
from mamba_nb.errors import ServerFailed
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.kinds import Sighting
from mamba_nb.servers.tgi import KIND
from mamba_nb.testing import Script, ScriptedServer, words

CHAT = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
INFO = {"model_id": "m", "max_total_tokens": 4096, "max_input_tokens": 4095, "router": "text-generation-router"}


def asking(server: ScriptedServer, **options: Any) -> Asking:
    return Asking(root=server.root, base_url=server.base_url, **options)


def run(work: Any) -> Any:
    return io.submit(work).result(30)


def told(server: ScriptedServer) -> Sighting | None:
    return run(KIND.recognise(asking(server)))


def tgi(script: Script | None = None, **options: Any) -> ScriptedServer:
    return ScriptedServer(script, style="tgi", **{"models": ["mistral"], **options})


def answering(pages: dict[str, Any]) -> ScriptedServer:
    return ScriptedServer(scripts={path: Script(error_body=body) for path, body in pages.items()}, models=[])


def asked(server: ScriptedServer, body: Any) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("POST", CHAT, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_info_tells_it():
    with tgi() as server:
        sighting = told(server)
    assert sighting is not None
    assert (sighting.kind, sighting.certainty, sighting.version) == ("tgi", "certain", "3.3.7")
    assert sighting.evidence == "GET /info has model_id, max_total_tokens and router text-generation-router"


def test_an_old_one_without_router_is_likely():
    with tgi(options={"old": True}) as server:
        sighting = told(server)
        (model,) = run(KIND.models(asking(server)))
    assert sighting is not None and (sighting.certainty, sighting.version) == ("likely", "1.4.5")
    assert (model.context_window, model.extras["max_input_tokens"]) == (4096, 4095)


@pytest.mark.parametrize("style", ["plain", "vllm", "sglang", "mlxlm", "openai", "ollama", "llamacpp"])
def test_other_kinds_are_not_tgi(style):
    with ScriptedServer(style=style) as server:
        assert told(server) is None


@pytest.mark.parametrize(
    "info",
    [
        pytest.param("<html>", id="a page"),
        pytest.param([], id="a list"),
        pytest.param({**INFO, "model_id": None}, id="no model"),
        pytest.param({**INFO, "max_total_tokens": "4096"}, id="a size as text"),
        pytest.param({**INFO, "router": "text-embeddings-router"}, id="another router"),
        pytest.param({"model_id": "m", "max_total_tokens": 4096}, id="two members that others could have"),
    ],
)
def test_odd_info_is_no_tgi_and_raises_nothing(info):
    with answering({"/v1/models": {"data": [{"id": "m"}]}, "/info": info}) as server:
        assert told(server) is None
        run(KIND.models(asking(server)))


def test_a_key_hides_neither_its_models_nor_what_it_is():
    with tgi(api_key="right") as server:
        sighting = told(server)
        assert sighting is not None and sighting.certainty == "certain"
        assert asked(server, {"messages": QUESTION})[0] == 401


def test_its_model_has_the_context_in_force_and_the_longest_prompt():
    with tgi(context_length=8192, about={"": {"model_id": "mistralai/Mistral-7B-Instruct-v0.3"}}) as server:
        (model,) = run(KIND.models(asking(server)))
    assert (model.id, model.state, model.task) == ("mistralai/Mistral-7B-Instruct-v0.3", "loaded", "chat")
    assert (model.context_window, model.extras["max_input_tokens"], len(model.digest or "")) == (8192, 8191, 40)
    assert model.evidence["context_window"] == "GET /info, max_total_tokens"


def test_a_model_of_images_and_text_sees():
    with tgi(about={"": {"pipeline_tag": "image-text-to-text"}}) as server:
        (model,) = run(KIND.models(asking(server)))
    assert (model.task, model.supports_vision) == ("chat", True)


def test_tokens_of_a_text_and_of_a_chat():
    with tgi() as server:
        assert len(run(KIND.tokenize(asking(server), "m", "Hello big world"))) == 3
        assert run(KIND.count_tokens(asking(server), "m", QUESTION, ())) == 6
        for body in ([{"id": "a"}], {"id": 1}, [None], "<html>"):
            server.scripts["/tokenize"] = server.scripts["/chat_tokenize"] = Script(error_body=body)
            with pytest.raises(ServerFailed):
                run(KIND.tokenize(asking(server), "m", "a"))
            with pytest.raises(ServerFailed):
                run(KIND.count_tokens(asking(server), "m", QUESTION, ()))


def test_its_figures():
    with tgi(Script(text=words(5))) as server:
        asked(server, {"messages": QUESTION, "max_tokens": 3})
        assert run(KIND.metrics(asking(server))) == {
            "requests_running": 0.0,
            "requests_waiting": 0.0,
            "prompt_tokens_total": 6.0,
            "output_tokens_total": 3.0,
        }


# The personality.


def test_any_name_is_answered_and_usage_is_null_until_the_end():
    with tgi(Script(text="a b")) as server:
        body = {
            "model": "nope",
            "messages": QUESTION,
            "stream": True,
            "stream_options": {"include_usage": True},
            "n": 2,
        }
        status, text = asked(server, body)
        found = [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]
    assert status == 200
    assert [chunk["usage"] for chunk in found[:-1]] == [None] * (len(found) - 1)
    assert found[-1]["usage"]["completion_tokens"] == 2
    assert {choice["index"] for chunk in found for choice in chunk["choices"]} == {0}


def test_max_completion_tokens_is_not_known_to_it():
    with tgi(Script(text="a b c")) as server:
        _, text = asked(server, {"messages": QUESTION, "max_completion_tokens": 1})
        assert json.loads(text)["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize(
    ("body", "words_"),
    [
        ({"messages": []}, "Input validation error: `messages` cannot be empty"),
        (
            {"messages": QUESTION, "max_tokens": 20},
            "Input validation error: `inputs` tokens + `max_new_tokens` must be",
        ),
        ({"messages": QUESTION, "temperature": -1}, "Input validation error: `temperature` must be strictly positive"),
    ],
)
def test_its_refusals_are_422(body, words_):
    with tgi(context_length=20) as server:
        status, text = asked(server, body)
    assert (status, json.loads(text)["error_type"]) == (422, "validation")
    assert json.loads(text)["error"].startswith(words_)


def test_an_overloaded_one_says_429():
    with tgi(options={"overloaded": True}) as server:
        status, text = asked(server, {"messages": QUESTION})
    assert (status, json.loads(text)) == (429, {"error": "Model is overloaded", "error_type": "overloaded"})


def test_what_it_ignores_is_told_and_the_limit_has_its_own_name():
    assert {"n", "logit_bias"} <= KIND.ignores.keys()
    assert KIND.renames == {"max_completion_tokens": "max_tokens"}
