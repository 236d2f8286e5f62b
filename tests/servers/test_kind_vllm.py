"""vLLM as a kind: told by shape, its models with what it declares, exact token counts, live figures."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mamba_nb._bridge import io
from mamba_nb.errors import AuthenticationFailed, ModelNotFound, NotHere, ServerFailed
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Sighting
from mamba_nb.servers.vllm import KIND
from mamba_nb.servers.vllm_prometheus import highest, quantile, samples, total
from mamba_nb.testing import Script, ScriptedServer

RECORDED = Path(__file__).parent / "vllm_replies"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]  # six words
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}


def asking(server: ScriptedServer, **options: Any) -> Asking:
    return Asking(root=server.root, base_url=server.base_url, **options)


def run(work: Any) -> Any:
    return io.submit(work).result(30)


def told(server: ScriptedServer, **options: Any) -> Sighting | None:
    return run(KIND.recognise(asking(server, **options)))


def had(server: ScriptedServer, **options: Any) -> dict[str, ServedModel]:
    return {model.id: model for model in run(KIND.models(asking(server, **options)))}


@contextlib.contextmanager
def vllm(*names: str, **options: Any) -> Iterator[ScriptedServer]:
    with ScriptedServer(style="vllm", models=names or ("m",), **options) as server:
        yield server


@contextlib.contextmanager
def answering(pages: dict[str, Any], **options: Any) -> Iterator[ScriptedServer]:
    """A server with these bodies at these paths and 404 everywhere else."""
    scripts = {path: Script(error_body=body) for path, body in pages.items()}
    with ScriptedServer(scripts=scripts, models=[], **options) as server:
        yield server


def entry(name: str = "m", **fields: Any) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1, "owned_by": "vllm", **fields}


# Is it vLLM?


def test_its_owner_and_its_version_tell_it_in_two_questions():
    with vllm() as server:
        sighting = told(server)
        assert sighting is not None
        assert (sighting.kind, sighting.certainty, sighting.version) == ("vllm", "certain", "0.32.0")
        assert sighting.evidence == 'GET /v1/models says owned_by "vllm" and GET /version says 0.32.0'
        assert [request.path for request in server.requests] == ["/v1/models", "/version"]


def test_the_recorded_list_and_version_are_enough():
    pages = {f"/{name}": json.loads((RECORDED / f"{name}.json").read_text())["json"] for name in ("models", "version")}
    with answering({"/v1/models": pages["/models"], "/version": pages["/version"]}) as server:
        sighting = told(server)
        (model,) = had(server).values()
    assert sighting is not None and sighting.certainty == "certain"
    assert (model.id, model.context_window, model.extras) == ("smollm2", 2048, {"root": "/models/smollm2"})


@pytest.mark.parametrize(
    "pages",
    [
        pytest.param({"/v1/models": {"data": [entry(max_model_len=8)]}}, id="no /version"),
        pytest.param({"/v1/models": {"data": [entry()]}, "/version": {"version": "0.3.0"}}, id="no max_model_len"),
        pytest.param({"/v1/models": {"data": [entry(max_model_len=8)]}, "/version": {"version": 3}}, id="odd version"),
    ],
)
def test_a_fork_that_kept_the_owner_is_likely(pages):
    with answering(pages) as server:
        sighting = told(server)
    assert sighting is not None and sighting.certainty == "likely"


def test_without_its_key_it_is_likely_and_says_that_it_wants_one():
    with vllm(api_key="right") as server:
        sighting = told(server)
        assert sighting is not None
        assert (sighting.certainty, sighting.needs_key, sighting.version) == ("likely", True, "0.32.0")
        known = told(server, key="right")
        assert known is not None and (known.certainty, known.needs_key) == ("certain", False)


@pytest.mark.parametrize("style", ["plain", "sglang", "tgi", "mlxlm", "openai"])
def test_other_kinds_are_not_vllm(style):
    with ScriptedServer(style=style) as server:
        assert told(server) is None
    with ScriptedServer(style=style, api_key="right") as server:
        assert told(server) is None


ODD = [
    pytest.param("<html><body>hello</body></html>", id="a page"),
    pytest.param({"data": None}, id="null"),
    pytest.param({"data": "vllm"}, id="a text"),
    pytest.param({"data": [None, 3, [], {"id": None, "owned_by": "vllm"}, {"owned_by": "vllm"}]}, id="no names"),
    pytest.param([], id="a list"),
    pytest.param("{not json", id="no JSON"),
    pytest.param({"data": [{"id": "m", "owned_by": ["vllm"]}]}, id="a list as owner"),
]


@pytest.mark.parametrize("body", ODD)
def test_odd_lists_are_no_vllm_and_raise_nothing(body):
    with answering({"/v1/models": body, "/version": {"version": "0.32.0"}}) as server:
        assert told(server) is None
        assert all(model.context_window is None for model in had(server).values())


def test_a_server_that_is_gone_is_nothing():
    with vllm() as server:
        there = asking(server)
    assert run(KIND.recognise(there)) is None
    assert run(KIND.models(there)) == []
    assert run(KIND.version(there)) is None
    assert run(KIND.metrics(there)) == {}


# Its models.


def test_a_chat_model_is_loaded_has_the_context_in_force_and_embeds_nothing():
    with vllm("m", context_length=2048, about={"m": {"root": "HuggingFaceTB/SmolLM2"}}) as server:
        (model,) = had(server).values()
    assert (model.id, model.state, model.task, model.context_window) == ("m", "loaded", "chat", 2048)
    assert model.extras == {"root": "HuggingFaceTB/SmolLM2"}
    facts = model.facts()
    assert facts["context_window"].evidence == "GET /v1/models, max_model_len"
    assert (facts["supports_embeddings"].value, facts["supports_embeddings"].source) == (False, "declared")
    assert facts["supports_embeddings"].evidence == "GET /openapi.json does not list /v1/embeddings"
    assert "supports_tools" not in facts and "context_max" not in facts


def test_an_adapter_has_its_parents_context_and_names_it():
    with vllm("base", "sql", context_length=4096, about={"sql": {"parent": "base", "root": "/loras/sql"}}) as server:
        adapter = had(server)["sql"]
    assert (adapter.context_window, adapter.extras) == (4096, {"root": "/loras/sql", "parent": "base"})
    assert adapter.evidence["context_window"] == "GET /v1/models, max_model_len of base"


@pytest.mark.parametrize(
    ("task", "expected"), [("embed", ("embedding", True)), ("score", ("other", False)), ("classify", ("other", False))]
)
def test_a_pooling_model_is_told_by_its_paths(task, expected):
    with vllm(options={"task": task}) as server:
        (model,) = had(server).values()
    assert (model.task, model.supports_embeddings) == expected


def test_without_openapi_the_task_is_not_known():
    with answering({"/v1/models": {"data": [entry(max_model_len=8)]}, "/openapi.json": "<html>"}) as server:
        (model,) = had(server).values()
    assert (model.task, model.supports_embeddings, model.context_window) == (None, None, 8)


@pytest.mark.parametrize("length", [None, "2048", True, -1, 0, 2.5, [], 10**30])
def test_an_odd_context_length_is_none(length):
    with answering({"/v1/models": {"data": [entry(max_model_len=length, parent=7, root={})]}}) as server:
        (model,) = had(server).values()
    assert (model.context_window, model.extras) == (None, {})


def test_five_thousand_entries_are_all_there():
    listing = {"data": [entry(f"m{n}", max_model_len=n + 1) for n in range(5000)]}
    with answering({"/v1/models": listing, "/version": {"version": "0.32.0"}}) as server:
        found = had(server)
        sighting = told(server)
    assert len(found) == 5000 and found["m4999"].context_window == 5000
    assert sighting is not None and sighting.certainty == "certain"


# Tokens.


def test_a_text_becomes_token_ids():
    with vllm() as server:
        tokens = run(KIND.tokenize(asking(server), "m", "Hello world"))
        assert len(tokens) == 2 and all(isinstance(token, int) for token in tokens)
        assert server.requests[-1].body == {"model": "m", "prompt": "Hello world", "add_special_tokens": False}


def test_the_count_of_a_chat_is_what_usage_says_afterwards():
    import urllib.request

    with vllm() as server:
        for tools in ((), (TOOL,)):
            counted = run(KIND.count_tokens(asking(server), "m", QUESTION, tools))
            body = {"model": "m", "messages": QUESTION} | ({"tools": [TOOL]} if tools else {})
            request = urllib.request.Request(
                f"{server.base_url}/chat/completions",
                json.dumps(body).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request) as response:
                usage = json.load(response)["usage"]
            assert usage["prompt_tokens"] == counted
            assert counted == 6 if not tools else counted > 6


def test_the_key_need_not_be_right_for_tokens_but_the_model_must_be_there():
    with vllm(api_key="right") as server:
        assert run(KIND.count_tokens(asking(server), "m", QUESTION, ())) == 6
        with pytest.raises(ModelNotFound) as caught:
            run(KIND.tokenize(asking(server), "nope", "a"))
    assert "Valid aliases: m." in str(caught.value.server_says)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"tokens": None, "count": "six"}, ServerFailed),
        ({"tokens": [1, "b"], "count": True}, ServerFailed),
        ({"tokens": {}, "count": None}, ServerFailed),
        ("<html>", ServerFailed),
    ],
)
def test_odd_answers_to_tokenize_are_this_packages_errors(body, error):
    with ScriptedServer(style="vllm", models=["m"], scripts={"/tokenize": Script(error_body=body)}) as server:
        with pytest.raises(error):
            run(KIND.tokenize(asking(server), "m", "a"))
        with pytest.raises(error):
            run(KIND.count_tokens(asking(server), "m", QUESTION, ()))


def test_a_server_without_tokenize_says_not_here():
    with ScriptedServer(
        style="vllm", models=["m"], scripts={"/tokenize": Script(status=404, error_body={"detail": "Not Found"})}
    ) as server:
        with pytest.raises(NotHere):
            run(KIND.count_tokens(asking(server), "m", QUESTION, ()))
        server.scripts["/tokenize"] = Script(status=401, error_body={"error": "Unauthorized"})
        with pytest.raises(AuthenticationFailed):
            run(KIND.tokenize(asking(server), "m", "a"))


# Live figures.

FIGURES = """
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
vllm:prompt_tokens_total{engine="0",model_name="m"} 1176.0
vllm:prompt_tokens_created{engine="0",model_name="m"} 1.79e+09
vllm:generation_tokens_total{engine="0",model_name="m"} 300.0
vllm:time_to_first_token_seconds_bucket{engine="0",model_name="m",le="0.1"} 2.0
vllm:time_to_first_token_seconds_bucket{engine="0",model_name="m",le="0.5"} 8.0
vllm:time_to_first_token_seconds_bucket{engine="0",model_name="m",le="+Inf"} 10.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 10.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="m"} 4.0
"""


def figures(text: Any) -> dict[str, float]:
    with answering({"/metrics": text}) as server:
        return run(KIND.metrics(asking(server)))


def test_the_figures_by_hand():
    # The median is the 5th of 10 waits; 2 lie below 0.1 s, 6 between 0.1 and 0.5: 0.1 + 0.4 * 3 / 6 = 0.3.
    assert figures(FIGURES) == {
        "requests_running": 5.0,
        "requests_waiting": 1.0,
        "cache_usage": 0.75,
        "prompt_tokens_total": 1176.0,
        "output_tokens_total": 300.0,
        "ttft_s_mean": 0.4,
        "ttft_s_p50": pytest.approx(0.3),
    }


def test_the_old_name_of_the_cache_is_known_too():
    assert figures("vllm:gpu_cache_usage_perc 0.5") == {"cache_usage": 0.5}
    with vllm(options={"metrics": "old", "cache_usage": 0.5}) as server:
        assert run(KIND.metrics(asking(server)))["cache_usage"] == 0.5


@pytest.mark.parametrize(
    "text", ["", "<html>", "vllm:num_requests_running NaN", "vllm:num_requests_running{ 3", "é\x00"]
)
def test_what_is_no_figure_is_left_out(text):
    assert figures(text) == {}


def test_figures_move_with_the_work_and_are_asked_anew():
    with vllm(slots=1) as server:
        there = asking(server)
        before = run(KIND.metrics(there))
        assert before["requests_running"] == before["output_tokens_total"] == 0
        assert "ttft_s_mean" not in before and "ttft_s_p50" not in before
        server.script = Script(text="one two three")
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        body = json.dumps({"model": "m", "messages": QUESTION, "stream": True})
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        connection.getresponse().read()
        connection.close()
        after = run(KIND.metrics(there))
    assert (after["prompt_tokens_total"], after["output_tokens_total"]) == (6.0, 3.0)
    assert 0 < after["ttft_s_mean"] < 5 and 0 < after["ttft_s_p50"] < 5


def test_prometheus_text_is_read_line_by_line():
    known = samples('a{x="1,\\"2\\"",le="+Inf"} 1 1700000000\nb 2e3\n# c 3\nd +Inf\n e 5')
    assert [(sample.name, sample.value) for sample in known] == [("a", 1.0), ("b", 2000.0)]
    assert known[0].labels["le"] == "+Inf"
    assert total(known, "missing", "b") == 2000.0 and highest(known, "missing") is None


def test_a_quantile_above_the_last_bound_or_of_nothing_is_none():
    assert quantile(samples('t_bucket{le="1"} 1\nt_bucket{le="+Inf"} 10'), "t", 0.5) is None
    assert quantile(samples('t_bucket{le="1"} 0\nt_bucket{le="+Inf"} 0'), "t", 0.5) is None
    assert quantile(samples('t_bucket{le="odd"} 3'), "t", 0.5) is None
    # Everything in the first bucket: the median is half way from zero to its bound.
    assert quantile(samples('t_bucket{le="2"} 4\nt_bucket{le="+Inf"} 4'), "t", 0.5) == 1.0


# Parameters.


def test_the_guided_extras_are_ignored_and_the_penalty_has_another_name():
    assert all("response_format" in KIND.ignores[name] for name in ("guided_json", "guided_choice", "guided_regex"))
    assert KIND.renames == {"repeat_penalty": "repetition_penalty"}
    assert not set(KIND.ignores) & set(KIND.refuses)
