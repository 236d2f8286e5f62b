"""A probe as work in progress: the plan before it, its events, Stop, servers that fail or die, and what is kept."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path

import pytest
from scripted_model import able, but, refusal, user_text

from mamba_nb.backends import OpenAICompatibleBackend, verified
from mamba_nb.errors import BadInput, RunStopped
from mamba_nb.probes import plan_probe, probe
from mamba_nb.probes.capabilities import CAPABILITIES
from mamba_nb.servers.facts import Fact
from mamba_nb.testing import Script, ScriptedServer

FAST = ["streaming", "stop", "json_schema", "tools", "system_prompt"]


def until(condition, within_s=20.0):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.01)


def posts(server):
    return [request for request in server.requests if request.method == "POST"]


# the plan


def test_the_plan_says_how_many_requests_before_any_is_sent(scripted):
    server, backend = scripted(able)
    plan = plan_probe(backend)
    assert posts(server) == []
    assert plan.capabilities == tuple(each.name for each in CAPABILITIES)
    assert f"at most {plan.requests} requests" in repr(plan) and f"at most {plan.requests} requests" in str(plan)
    # 1 streamed; 2 reasoning, 3 system, 1 stop, 2 + 5 repeating, 2 + 1 + 1 sampling, 2 + 4 JSON, 3 + 1 + 1 + 2 tools,
    # 3 vision, 1 embeddings, 7 context, 1 output; and 4 to spare.
    assert plan.requests == 1 + 2 + 3 + 1 + 7 + 4 + 6 + 7 + 3 + 1 + 7 + 1 + 4
    assert plan.longest_prompt == 16_000


def test_the_plan_knows_the_declared_context(scripted):
    _server, backend = scripted(able, style="llamacpp", server="llamacpp", context_length=1000)
    plan = plan_probe(backend, only="context")
    assert plan.longest_prompt == 1200 and plan.requests == 11  # 1,150 of 1,000 tokens, to two digits
    assert 2_600 <= plan.tokens <= 2_800


def test_the_first_event_is_the_plan_and_every_request_is_told(scripted):
    server, backend = scripted(able)
    run = probe(backend, only=["streaming", "stop", "json"])
    events = list(run)
    assert events[0].what == "planned" and not posts(server)[0].received_at > time.monotonic()
    assert [event.capability for event in events if event.what == "found"] == [
        "streaming",
        "stream_usage",
        "stop",
        "json_object",
        "json_schema",
    ]
    assert [event.requests for event in events if event.what == "asked"] == [1, 2, 3, 4, 5]
    assert all(str(event) for event in events)
    assert run.result().requests == 5 == len(posts(server))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"only": "tolls"}, "Did you mean 'tools'"),
        ({"skip": ["visoin"]}, "Did you mean 'vision'"),
        ({"only": "tools", "skip": "tools"}, "leave nothing"),
        ({"context_tokens": 0}, "context_tokens"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(scripted, arguments, words):
    server, backend = scripted(able)
    with pytest.raises(BadInput, match=words):
        probe(backend, **arguments)
    assert server.requests == []


def test_the_plan_is_printed_before_it_starts_where_that_is_asked_for(scripted, capsys):
    _server, backend = scripted(able)
    probe(backend, only="streaming").result(30)
    assert capsys.readouterr().out == ""  # a script is not a notebook
    probe(backend, only="stop", quiet=False).result(30)
    assert capsys.readouterr().out.startswith(
        "Probing scripted-model (unknown): 1 capability, at most 6 requests, about"
    )
    probe(backend, only="stop", quiet=False).result(30)
    assert "Nothing to ask" in capsys.readouterr().out


def test_only_and_skip_choose(scripted):
    _server, backend = scripted(able)
    report = probe(backend, only=["tools", "json_object"], skip="tools_parallel").result(30)
    assert list(report) == ["json_object", "tools", "tools_required", "tools_named"]


def test_a_name_gives_a_backend_that_is_closed_again(scripted, monkeypatch):
    server, _backend = scripted(able, models=["some-model"])
    monkeypatch.setenv("MAMBA_MODEL_BACKEND__BASE_URL", server.base_url)
    report = probe("some-model", only="streaming").result(30)
    assert report.model == "some-model" and report["streaming"].verdict == "yes"


def test_a_probe_can_be_awaited(scripted):
    _server, backend = scripted(able)

    async def main():
        return await probe(backend, only="streaming")

    assert asyncio.run(main())["streaming"].verdict == "yes"


# Stop


def test_cancelling_in_the_middle_stops_and_keeps_what_was_found(scripted):
    slow = lambda body: Script(text="x", ttft_s=60) if body.get("tools") else None  # noqa: E731
    server, backend = scripted(but(prompt=slow), timeout=90)
    run = probe(backend, only=["streaming", "tools"])
    until(lambda: any((entry.body or {}).get("tools") for entry in posts(server)))
    assert run.cancel()
    with pytest.raises(RunStopped):
        run.result()
    assert run.partial["streaming"].verdict == "yes" and "tools" not in run.partial
    until(lambda: posts(server)[-1].disconnected)
    sent = len(posts(server))
    assert probe(backend, only="streaming").result(30).requests == 0  # what was found is kept
    assert len(posts(server)) == sent


# servers that fail


def test_a_server_that_dies_in_the_middle_gives_unknown_and_never_no(scripted):
    def dies(request):
        if request.streamed:
            return able(request)
        threading.Thread(target=server.stop).start()
        return Script(never=True)

    server, backend = scripted(dies)
    report = probe(backend, only=FAST).result(60)
    assert report["streaming"].verdict == "yes"
    assert {report[name].verdict for name in FAST[1:]} == {"unknown"}
    assert report.facts() == {}
    assert report.notes and "ended early" in report.notes[0]
    assert report.requests < 5  # it does not go on asking


@pytest.mark.parametrize("fault", ["cut", "reset", "eof_no_done"])
def test_an_answer_that_breaks_off_is_unknown(scripted, fault):
    _server, backend = scripted(Script(text="1, 2, 3, 4", fault=fault))
    report = probe(backend, only="streaming").result(30)
    assert {result.verdict for result in report.results} == {"unknown"}


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 401, 403])
def test_no_status_makes_a_no(scripted, status):
    server, backend = scripted(Script(status=status), scripts={"/v1/embeddings": Script(status=status)})
    report = probe(backend).result(60)
    assert {result.verdict for result in report.results} == {"unknown"}
    assert report.facts() == {}
    assert len(posts(server)) == report.requests <= plan_probe(backend).requests
    if status in (401, 403, 429):
        assert report.requests <= 2  # the next request would fare no better


@pytest.mark.parametrize(
    "script",
    [
        Script(fault="error_200"),
        Script(error_body={"choices": []}),
        Script(error_body={"choices": [{"message": 7, "finish_reason": []}], "usage": "none"}),
        Script(error_body=b"\xff\xfe"),
        Script(error_body="<html>hello</html>"),
        Script(error_body=[1, 2]),
        Script(text=""),
        Script(text="1, 2", fault="garbage_line"),
    ],
)
def test_an_answer_of_no_known_shape_raises_nothing(scripted, script):
    _server, backend = scripted(script, scripts={"/v1/embeddings": script})
    report = probe(backend).result(60)
    assert len(report) == len(CAPABILITIES)


def test_slow_answers_end_the_probe_after_two_timeouts(scripted):
    server, backend = scripted(Script(never=True), timeout=0.2)
    report = probe(backend, only=FAST).result(30)
    assert {result.verdict for result in report.results} == {"unknown"}
    assert len(posts(server)) == 2


def test_a_server_that_is_not_there_gives_unknown_at_once():
    with OpenAICompatibleBackend("m", "http://127.0.0.1:9/v1", max_retries=0) as backend:
        report = probe(backend).result(30)
    assert {result.verdict for result in report.results} == {"unknown"}
    assert report.requests <= 1 and not report.facts()


def test_too_many_requests_are_asked_again_as_the_backend_does(scripted):
    server, backend = scripted(able, max_retries=2)
    server.enqueue(Script(status=429, headers={"Retry-After": "0"}))
    report = probe(backend, only="streaming").result(30)
    assert report["streaming"].verdict == "yes"
    assert report.requests == 1 and len(posts(server)) == 2


# what is kept


def test_a_second_probe_asks_nothing_and_again_asks_anew(scripted):
    server, backend = scripted(able)
    first = probe(backend, only=FAST).result(30)
    sent = len(posts(server))
    second = probe(backend, only=[*FAST, "logprobs"]).result(30)
    assert len(posts(server)) == sent + 1  # logprobs alone
    assert [second[name] for name in FAST] == [first[name] for name in FAST]
    assert set(second.from_cache) == {*FAST, "stream_usage", "tools_required", "tools_named", "tools_parallel"} & set(
        first
    )
    assert "known from an earlier probe" in str(second)
    probe(backend, only=FAST, again=True).result(30)
    assert len(posts(server)) >= 2 * sent


def test_a_probe_makes_the_profile_show_verified_facts(scripted):
    _server, backend = scripted(able)
    assert backend.profile.fact("supports_tools").source != "verified"
    probe(backend, only="tools").result(30)
    fact = backend.profile.fact("supports_tools")
    assert (fact.value, fact.source) == (True, "verified") and fact.as_of


def test_another_digest_is_another_model(scripted):
    _server, backend = scripted(able)
    backend.declared = {"digest": Fact("sha256:one", "declared")}
    probe(backend, only="tools").result(30)
    assert backend.profile.supports_tools is True
    backend.declared = {"digest": Fact("sha256:two", "declared")}
    assert backend.profile.fact("supports_tools").source != "verified"
    assert plan_probe(backend, only="tools").requests > 0


def test_a_failed_second_probe_leaves_the_first_one_where_it_was(scripted):
    server, backend = scripted(able)
    probe(backend, only="tools").result(30)
    server.stop()
    assert probe(backend, only="tools", again=True).result(30)["tools"].verdict == "unknown"
    assert backend.profile.supports_tools is True


def test_an_unknown_of_which_every_answer_came_is_kept_and_one_of_a_failure_is_not(scripted):
    server, backend = scripted(Script(text="Always the same."))
    report = probe(backend, only=["seed", "streaming"]).result(30)
    assert report["seed"].verdict == "unknown"
    assert plan_probe(backend, only="seed").requests == 0
    server.script = able
    assert probe(backend, only="seed", again=True).result(30)["seed"].verdict == "yes"
    server.script = Script(text="Always the same.")
    assert probe(backend, only="seed", again=True).result(30)["seed"].verdict == "unknown"
    assert probe(backend, only="seed").result(30)["seed"].verdict == "yes"  # the better finding stands
    server.script = Script(fault="cut")
    assert probe(backend, only="stop").result(30)["stop"].verdict == "unknown"
    assert plan_probe(backend, only="stop").requests > 0


def test_a_no_takes_the_place_of_an_earlier_yes(scripted):
    server, backend = scripted(able)
    probe(backend, only="tools").result(30)
    server.script = but(tools=refusal(400, "m does not support tools"))
    probe(backend, only="tools", again=True).result(30)
    assert backend.profile.supports_tools is False


def test_the_context_is_measured_anew_when_the_declared_one_has_changed(scripted):
    _server, backend = scripted(able)
    backend.declared = {"context_window": Fact(1000, "declared")}
    probe(backend, only=["context", "streaming"], context_tokens=2000).result(30)
    assert plan_probe(backend, only=["context", "streaming"], context_tokens=2000).requests == 0
    backend.declared = {"context_window": Fact(1200, "declared")}
    assert plan_probe(backend, only=["context", "streaming"], context_tokens=2000).capabilities == (
        "context",
        "overflow",
    )


def test_no_key_is_in_the_evidence_or_in_the_cache(scripted, tmp_path: Path):
    key = "sk-local-0123456789"

    def tells(request):
        if "sea" in user_text(request.body):
            return refusal(400, f"seed is refused for {key}")
        return Script(text=f"Your key is {key}.")

    server, _backend = scripted(tells, api_key=key)
    with OpenAICompatibleBackend(server.models[0], server.base_url, api_key=key, max_retries=0) as backend:
        report = probe(backend, only=["streaming", "seed", "system_prompt", "tools"]).result(30)
    files = list((tmp_path / "probes").iterdir())
    kept = "".join(path.read_text() for path in files)
    assert len(files) == 1 and "system_prompt" in kept
    for text in (kept, json.dumps(report.to_dict()), str(report), report._repr_mimebundle_()["text/html"]):
        assert key not in text and "***" in text
    assert verified.cache_folder() == tmp_path / "probes"


def awkward(request):
    """Refuses parameters one after the other, then burns every answer on reasoning."""
    body = request.body
    if "max_tokens" in body:
        return refusal(400, "Use 'max_completion_tokens' instead.")
    if "temperature" in body:
        return refusal(400, "temperature does not support 0, only the default (1) value is supported")
    if "stream_options" in body:
        return refusal(400, "Unknown parameter: stream_options")
    return Script(text="", reasoning=[" hm"] * 3000, reasoning_field="reasoning")


def test_parameters_that_a_server_refuses_are_left_out_once_and_for_all(scripted):
    server, backend = scripted(awkward)
    report = probe(backend).result(120)
    assert len(posts(server)) == report.requests <= plan_probe(backend, again=True).requests
    assert report["reasoning"].verdict == "yes"
    assert [entry.status for entry in posts(server)].count(400) == 3


def test_no_more_requests_are_sent_than_the_plan_says(scripted):
    def worse(request):
        if "chat_template_kwargs" in request.body:
            return refusal(400, "Unknown parameter: chat_template_kwargs")
        return awkward(request)

    server, backend = scripted(worse)
    plan = plan_probe(backend, only="streaming")
    report = probe(backend, only="streaming").result(60)
    assert len(posts(server)) == report.requests == plan.requests == 5
    assert {result.verdict for result in report.results} == {"unknown"}
    assert "5 requests of the plan" in report["streaming"].why
    assert plan_probe(backend, only="streaming").requests == 5  # that is no finding to keep


def test_a_closed_server_port_is_free_again():
    with ScriptedServer(able) as server, OpenAICompatibleBackend(server.models[0], server.base_url) as backend:
        probe(backend, only="n").result(30)
