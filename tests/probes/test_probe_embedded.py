"""Probes of the embedded engine, for real: a tiny random model for the shapes, the built-in one for the truth."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_model import write_tiny_model

from mamba_nb import embedded
from mamba_nb.backends import create_embedded_backend
from mamba_nb.probes import plan_probe, probe
from mamba_nb.probes.capabilities import CAPABILITIES

# What SmolLM2-135M-Instruct can, on this engine. Its template has no tools, and llama.cpp then ignores them.
SMOLLM2 = {
    "streaming": "yes",
    "stream_usage": "yes",
    "reasoning": "no",
    "stop": "yes",
    "repeatable": "yes",
    "seed": "yes",
    "max_tokens": "yes",
    "logprobs": "yes",
    "json_object": "yes",
    "json_schema": "yes",
    "tools": "no",
    "tools_required": "no",
    "tools_named": "no",
    "tools_parallel": "no",
    "vision": "no",
    "embeddings": "no",
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "Tiny-Random.F32.gguf")


@pytest.fixture(autouse=True)
def no_engine_left() -> Iterator[None]:
    yield
    embedded.stop()


def test_the_engine_keeps_to_a_schema_refuses_what_is_too_long_and_says_what_it_lacks(tiny: Path):
    with create_embedded_backend(tiny, n_ctx=512, slots=2) as backend:
        report = probe(backend).result(120)
        assert len(report) == len(CAPABILITIES)
        assert report["streaming"].verdict == report["stream_usage"].verdict == "yes"
        assert report["logprobs"].verdict == report["n"].verdict == report["max_tokens"].verdict == "yes"
        assert report["json_schema"].verdict in ("yes", "unknown")  # noise may not come to the object's end
        assert (report["context"].verdict, report["context"].value) == ("yes", 512)
        assert report["overflow"].verdict == "yes"
        assert report["vision"].verdict == report["embeddings"].verdict == report["tools"].verdict == "no"
        assert "mmproj" in report["vision"].why and "--embeddings" in report["embeddings"].why
        assert "template" in report["tools"].why  # the server declares the same, and why
        assert report.requests <= plan_probe(backend, again=True).requests
        profile = backend.profile
        assert (profile.context_window, profile.fact("context_window").source) == (512, "verified")


def test_what_was_verified_is_found_again_on_another_port(tiny: Path):
    with create_embedded_backend(tiny, n_ctx=256, slots=1) as backend:
        probe(backend, only="streaming").result(60)
        first = backend.base_url
    embedded.stop()
    with create_embedded_backend(tiny, n_ctx=256, slots=1) as backend:
        assert backend.base_url != first
        assert plan_probe(backend, only="streaming").requests == 0
    with create_embedded_backend(tiny, n_ctx=128, slots=1) as backend:  # another context is another place
        assert plan_probe(backend, only="streaming").requests > 0


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_an_engine_killed_in_the_middle_gives_unknown_for_what_it_was_asked_and_never_no(tiny: Path):
    with create_embedded_backend(tiny, n_ctx=256, slots=1) as backend:
        run = probe(backend, only=["streaming", "system_prompt", "logprobs"])
        for event in run:
            if event.what == "found" and event.capability == "stream_usage":
                (engine,) = embedded.status()
                os.kill(engine.pid, signal.SIGKILL)
        report = run.result()
        assert report["streaming"].verdict == "yes"
        # Asked of an engine that was dying, or of the next one, which was started for it.
        assert report["logprobs"].verdict in ("yes", "unknown")
        assert report["system_prompt"].verdict in ("unknown", "no")
        if report["system_prompt"].verdict == "no":
            assert not any(evidence.error for evidence in report["system_prompt"].evidence)


@pytest.mark.real_model
@pytest.mark.timeout(400)
def test_the_built_in_model_has_no_tools_and_keeps_to_a_schema_each_time_it_is_probed():
    with create_embedded_backend() as backend:
        plan = plan_probe(backend)
        assert plan.requests <= 50 and len(plan.capabilities) == len(CAPABILITIES)
        first = probe(backend).result(300)
        assert {name: first[name].verdict for name in SMOLLM2} == SMOLLM2
        assert first["context"].value == backend.declared["context_window"].value
        facts = first.facts()
        assert facts["supports_tools"].value is False and facts["supports_json_schema"].value is True
        assert backend.profile.fact("supports_tools").source == "verified"
        for result in first.results:
            assert result.verdict != "no" or len(result.why) > 20
            assert result.evidence or result.requests == 0
        second = probe(backend, again=True, skip=["context", "overflow", "max_output"]).result(300)
        assert {name: second[name].verdict for name in second} == {name: first[name].verdict for name in second}
