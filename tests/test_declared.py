"""`backend.profile` and `backend.declare`: what the server says of the model, when it is asked, and what it costs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tiny_model import CONTEXT, write_tiny_model

from mamba_nb import _bridge, embedded
from mamba_nb.backends import (
    Fact,
    OpenAICompatibleBackend,
    create_embedded_backend,
    create_lmstudio_backend,
    create_ollama_backend,
    verified,
)
from mamba_nb.backends._declared import Declared, root_for
from mamba_nb.servers.kinds import kinds
from mamba_nb.testing import Script, ScriptedServer, closed_port, tar_pit

FACTS = Script(text="Blue.")


@pytest.fixture(autouse=True)
def no_probes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MAMBA_PROBE_CACHE", str(tmp_path / "probes"))


@pytest.fixture
def keep() -> Iterator[Callable[[OpenAICompatibleBackend], OpenAICompatibleBackend]]:
    with ExitStack() as stack:
        yield stack.enter_context


def source(backend: OpenAICompatibleBackend, name: str) -> tuple[Any, str]:
    fact = backend.profile.fact(name)
    return fact.value, fact.source


def declare(backend: OpenAICompatibleBackend, again: bool = False) -> Any:
    return _bridge.io.submit(backend.declare(again)).result(10)


class TestWhatIsSaid:
    def test_ollama_says_most(self, keep):
        about = {"alpha:latest": {"capabilities": ["completion", "tools", "vision"], "context_max": 65_536}}
        with ScriptedServer(FACTS, style="ollama", models="alpha:latest", context_length=2048, about=about) as server:
            backend = keep(create_ollama_backend("alpha", base_url=server.base_url))
            backend.ask("Why?")
            assert source(backend, "supports_tools") == (True, "declared")
            assert source(backend, "supports_vision") == (True, "declared")
            assert source(backend, "context_max") == (65_536, "declared")
            assert source(backend, "context_window") == (2048, "declared")
            assert source(backend, "quantization") == ("Q4_K_M", "declared")
            assert backend.profile.fact("context_window").evidence == "GET /api/ps"

    @pytest.mark.parametrize("style", ["vllm", "lmstudio", "llamacpp"])
    @pytest.mark.parametrize("told", [True, False], ids=["told", "not told"])
    def test_the_context_in_force_is_declared_by_others(self, style, told, keep):
        with ScriptedServer(FACTS, style=style, models="alpha", context_length=2048) as server:
            backend = keep(OpenAICompatibleBackend("alpha", server.base_url, server=style if told else None))
            assert source(backend, "context_window") == (2048, "declared")
            assert backend.server == style

    def test_a_claim_gives_way_to_what_the_server_declares_and_stays_in_sight(self, keep):
        with ScriptedServer(FACTS, style="vllm", models="gpt-4o", context_length=2048) as server:
            backend = keep(OpenAICompatibleBackend("gpt-4o", server.base_url))
            assert source(backend, "context_window") == (2048, "declared")
            assert backend.profile.said("context_window")["claimed"].value == 128_000
            assert source(backend, "supports_tools") == (True, "claimed")

    def test_a_probe_wins_over_both(self, keep):
        with ScriptedServer(FACTS, style="vllm", models="gpt-4o", context_length=2048) as server:
            backend = keep(OpenAICompatibleBackend("gpt-4o", server.base_url))
            place = verified.place_of_backend(backend)
            fact = Fact(False, "verified", "a probe")
            verified.write(place, {"tools": {"field": "supports_tools"}}, {"supports_tools": fact}, None)
            assert source(backend, "supports_tools") == (False, "verified")

    @pytest.mark.parametrize("asked", ["alpha", "alpha:latest", "ALPHA"])
    def test_the_model_is_found_under_the_name_that_the_server_writes(self, asked, keep):
        with ScriptedServer(FACTS, style="ollama", models=("beta:latest", "alpha:latest")) as server:
            server.about = {"alpha:latest": {"quantization": "Q8_0"}}
            backend = keep(create_ollama_backend(asked, base_url=server.base_url))
            assert backend.profile.quantization == "Q8_0"

    def test_a_model_that_is_not_there_has_no_facts_of_another(self, keep):
        with ScriptedServer(FACTS, style="vllm", models=("beta", "gamma"), context_length=2048) as server:
            backend = keep(OpenAICompatibleBackend("alpha", server.base_url))
            assert backend.profile.fact("context_window").source == "unknown"

    def test_what_llamacpp_serves_is_what_any_name_gets(self, keep):
        with ScriptedServer(FACTS, style="llamacpp", models="real", context_length=2048) as server:
            backend = keep(OpenAICompatibleBackend("imagined", server.base_url))
            assert source(backend, "context_window") == (2048, "declared")

    def test_local_model_is_whatever_lm_studio_has_loaded(self, keep):
        with ScriptedServer(FACTS, style="lmstudio", models="gpt-4o", context_length=2048) as server:
            backend = keep(create_lmstudio_backend(base_url=server.base_url))
            assert source(backend, "context_window") == (2048, "declared")
            assert backend.profile.requested == "gpt-4o"

    def test_openai_is_not_asked_for_what_it_does_not_say(self, keep):
        backend = keep(OpenAICompatibleBackend("gpt-4o", "https://api.openai.com/v1", api_key="sk-nothing"))
        assert source(backend, "context_window") == (128_000, "claimed")
        assert source(backend, "runs_locally") == (False, "declared")

    @pytest.mark.parametrize(
        "facts",
        [
            {"nonsense": Fact(1, "declared")},
            {"context_window": Fact("many", "declared")},
            {"context_window": Fact(-5, "declared")},
            {"supports_tools": Fact("yes", "declared")},
            {"family": Fact(None, "declared")},
        ],
        ids=str,
    )
    def test_facts_that_are_none_are_left_out(self, facts, keep):
        backend = keep(OpenAICompatibleBackend("gpt-4o", "http://127.0.0.1:1/v1"))
        backend.declared = {**facts, "supports_vision": Fact(False, "declared")}
        assert backend.profile.context_window == 128_000 and backend.profile.supports_vision is False


class TestWhenItIsAsked:
    def test_once_and_not_before_the_first_reading(self, keep):
        with ScriptedServer(FACTS, style="vllm", models="alpha") as server:
            backend = keep(OpenAICompatibleBackend("alpha", server.base_url, server="vllm"))
            assert server.requests == []
            first = backend.profile
            asked = len(server.requests)
            assert asked > 0 and backend.profile == first and len(server.requests) == asked

    def test_again_when_the_model_was_loaded_since(self, keep):
        with ScriptedServer(FACTS, style="ollama", models="alpha:latest", load_s=0.01, context_length=2048) as server:
            backend = keep(create_ollama_backend("alpha", base_url=server.base_url))
            assert backend.profile.fact("context_window").source == "unknown"
            backend.ask("Why?")
            assert source(backend, "context_window") == (2048, "declared")
            asked = len(server.requests)
            backend.ask("Why?")
            assert backend.profile.context_window == 2048 and len(server.requests) == asked + 1

    def test_again_when_it_was_loaded_with_another_context(self, keep):
        with ScriptedServer(FACTS, style="ollama", models="alpha:latest", context_length=2048) as server:
            backend = keep(create_ollama_backend("alpha", base_url=server.base_url))
            backend.ask("Why?")
            assert backend.profile.context_window == 2048
            backend.ask("Why?", num_ctx=8192)
            assert backend.profile.context_window == 8192

    def test_declare_asks_once_and_again_where_it_is_told_to(self, keep):
        with ScriptedServer(FACTS, style="vllm", models="alpha", context_length=2048) as server:
            backend = keep(OpenAICompatibleBackend("alpha", server.base_url, server="vllm"))
            assert declare(backend)["context_window"].value == 2048
            server.context_length = 4096
            assert declare(backend)["context_window"].value == 2048
            assert declare(backend, again=True)["context_window"].value == 4096

    def test_what_was_set_by_hand_stays_and_nothing_is_asked(self, keep):
        with ScriptedServer(FACTS, style="vllm", models="alpha", context_length=2048) as server:
            backend = keep(OpenAICompatibleBackend("alpha", server.base_url, server="vllm"))
            backend.declared = {"context_window": Fact(7, "declared", "by hand")}
            assert backend.profile.context_window == 7 and declare(backend, again=True) == backend.declared
            assert server.requests == []

    def test_a_closed_backend_asks_nothing(self):
        with ScriptedServer(FACTS, style="vllm", models="alpha") as server:
            backend = OpenAICompatibleBackend("alpha", server.base_url)
            backend.close()
            assert backend.profile.context_window is None and server.requests == []

    @pytest.mark.parametrize("loop", [_bridge.io, _bridge.foreign], ids=lambda loop: loop.name)
    def test_reading_on_a_loop_of_this_package_does_not_wait(self, loop, keep):
        with ScriptedServer(FACTS, style="vllm", models="alpha", context_length=2048) as server:
            backend = keep(OpenAICompatibleBackend("alpha", server.base_url))

            async def read() -> Any:
                return backend.profile.context_window

            assert loop.submit(read()).result(10) is None and server.requests == []
            assert backend.profile.context_window == 2048

    def test_it_can_be_read_in_a_coroutine_of_the_users(self, keep):
        with ScriptedServer(FACTS, style="vllm", models="alpha", context_length=2048) as server:
            backend = keep(OpenAICompatibleBackend("alpha", server.base_url))

            async def read() -> Any:
                return backend.profile.context_window

            assert asyncio.run(read()) == 2048


class TestWhatItCosts:
    def test_a_closed_port_answers_at_once(self, keep):
        with closed_port() as place:
            began = time.monotonic()
            for _ in range(8):  # 12 s, if each waited for the server
                backend = keep(OpenAICompatibleBackend("gpt-4o", f"{place.root}/v1"))
                assert source(backend, "context_window") == (128_000, "claimed")
            assert time.monotonic() - began < 6

    def test_a_tar_pit_costs_a_second_and_a_half_once(self, keep):
        with tar_pit() as place:
            backend = keep(OpenAICompatibleBackend("gpt-4o", f"{place.root}/v1"))
            backend.profile  # noqa: B018  the catalogue is read here
            backend = keep(OpenAICompatibleBackend("gpt-4o", f"{place.root}/v1"))
            began = time.monotonic()
            assert source(backend, "context_window") == (128_000, "claimed")
            took_s = time.monotonic() - began
            assert 1 < took_s < 8
            began = time.monotonic()
            for _ in range(5):  # 7.5 s, if each waited again
                backend.profile  # noqa: B018
            assert time.monotonic() - began < 5

    @pytest.mark.parametrize(
        "script",
        [
            Script(status=500),
            Script(status=401, error_body={"error": "Unauthorized"}),
            Script(error_body="<!doctype html><html></html>"),
            Script(error_body=[1, 2, 3]),
            Script(error_body={"data": "many"}),
            Script(error_body={"object": "list", "data": [None, 7, {"id": 5}, {"id": "alpha", "max_model_len": "x"}]}),
            Script(error_body={"models": [{"name": None}], "data": [{"id": "alpha", "meta": [], "owned_by": 3}]}),
        ],
        ids=lambda script: str(script.error_body or script.status),
    )
    @pytest.mark.parametrize("kind", [None, "ollama", "vllm", "lmstudio", "llamacpp", "sglang", "litellm"])
    def test_no_answer_makes_it_raise(self, script, kind, keep):
        paths = ("/v1/models", "/api/tags", "/api/ps", "/api/v0/models", "/api/v1/models", "/props", "/models")
        with ScriptedServer(FACTS, models="alpha", scripts=dict.fromkeys(paths, script)) as server:
            backend = keep(OpenAICompatibleBackend("alpha", server.base_url, server=kind))
            assert backend.profile.requested == "alpha"

    def test_a_server_that_comes_up_later_is_asked_then(self, keep):
        server = ScriptedServer(FACTS, style="vllm", models="alpha", context_length=2048)
        with server:
            pass
        backend = keep(OpenAICompatibleBackend("alpha", server.base_url, server="vllm"))
        assert backend.profile.context_window is None
        with server:
            deadline = time.monotonic() + 30
            while backend.profile.context_window is None and time.monotonic() < deadline:
                time.sleep(0.05)
            assert backend.profile.context_window == 2048

    def test_the_key_travels_and_is_never_shown(self, keep):
        key = "sk-local-1234567890"
        with ScriptedServer(FACTS, style="vllm", models="alpha", context_length=2048, api_key=key) as server:
            backend = keep(OpenAICompatibleBackend("alpha", server.base_url, api_key=key))
            assert source(backend, "context_window") == (2048, "declared")
            assert key not in repr(backend) + repr(backend.profile) + repr(backend.declared)


class TestState:
    def test_a_pause_follows_a_failure_as_long_as_it_took_many_times_over(self):
        state = Declared()
        assert state.due
        state.take(None, took_s=1.5)
        assert not state.due
        state.was_loaded(None)
        assert state.due
        state.take({"digest": Fact("a", "declared")}, took_s=1.5)
        assert not state.due
        state.was_loaded(None)
        assert not state.due  # nothing new
        state.was_loaded(8192)
        assert state.due

    @pytest.mark.parametrize(
        ("base_url", "kind", "root"),
        [
            ("http://127.0.0.1:11434/v1", None, "http://127.0.0.1:11434"),
            ("http://127.0.0.1:13305/api/v1", "lemonade", "http://127.0.0.1:13305"),
            ("http://127.0.0.1:12434/engines/v1", None, "http://127.0.0.1:12434"),
            ("http://gpu-box/team/v1/", "vllm", "http://gpu-box/team"),
            ("http://127.0.0.1:4000", "litellm", "http://127.0.0.1:4000"),
        ],
    )
    def test_native_paths_begin_before_the_openai_ones(self, base_url, kind, root):
        assert root_for(base_url, kinds()[kind] if kind else None) == root


class TestEmbedded:
    def test_the_engine_declares_itself(self, tmp_path, keep):
        backend = keep(create_embedded_backend(write_tiny_model(tmp_path / "Tiny.gguf"), n_ctx=256, slots=2))
        try:
            profile = backend.profile
            assert source(backend, "context_window") == (256, "declared")
            assert source(backend, "supports_json_schema") == (True, "declared")
            assert source(backend, "supports_tools") == (False, "declared")
            assert (profile.context_max, profile.runs_locally) == (CONTEXT, True)
            assert profile.parameters and profile.size_bytes and json.dumps(profile.parameters)
        finally:
            embedded.stop()
        assert backend.profile.context_window == 256  # and it was not started anew for that
        assert not embedded.status()
