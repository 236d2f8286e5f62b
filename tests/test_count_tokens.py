"""Exact prompt counts and token ids: from the real engine first, then from what other servers have for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_model import write_tiny_model

from mamba_nb import embedded
from mamba_nb.backends import OpenAICompatibleBackend, create_embedded_backend
from mamba_nb.errors import AuthenticationFailed, BackendClosed, BadInput, NotHere, ServerUnreachable
from mamba_nb.testing import ScriptedServer, closed_port

TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
CONVERSATION = [
    {"role": "user", "content": "Why is the sky blue?"},
    {"role": "assistant", "content": "Scattering."},
    {"role": "user", "content": "And at dawn? Ünï 天"},
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "Tiny-Tools.gguf", tools=True)


@pytest.fixture
def real(tiny: Path) -> Iterator[OpenAICompatibleBackend]:
    with create_embedded_backend(tiny, n_ctx=1024, slots=1) as backend:
        yield backend
    embedded.stop()


class TestRealEngine:
    def test_the_count_is_the_one_that_the_answer_reports(self, real):
        for prompt in ("Hi", CONVERSATION):
            assert real.count_tokens(prompt) == real.ask(prompt, max_tokens=1).usage.prompt_tokens

    def test_a_system_message_and_tools_are_counted(self, real):
        plain = real.count_tokens("Hi")
        assert real.count_tokens("Hi", system="Be brief.") > plain
        assert real.count_tokens("Hi", [TOOL]) > plain

    def test_the_engine_is_started_again_for_it(self, real):
        before = real.count_tokens("Hi")
        embedded.stop()
        assert real.count_tokens("Hi") == before

    def test_a_text_is_one_token_a_byte_that_is_no_ascii(self, real):
        # The tiny model's vocabulary by hand: printable characters are tokens, others one token a byte.
        assert len(real.tokenize("ü")) - len(real.tokenize("")) in (2, 3)
        assert all(isinstance(token, int) for token in real.tokenize("Hello"))


class TestServers:
    @pytest.mark.parametrize("style", ["vllm", "llamacpp"])
    @pytest.mark.parametrize("told", [True, False], ids=["told", "not told"])
    def test_where_the_server_can_tell_it_does(self, style, told):
        with (
            ScriptedServer(style=style, models="alpha") as server,
            OpenAICompatibleBackend("alpha", server.base_url, server=style if told else None) as backend,
        ):
            assert 0 < backend.count_tokens("one two") < backend.count_tokens("one two three four five")
            assert server.chats == []

    @pytest.mark.parametrize("style", ["ollama", "lmstudio", "plain"])
    def test_elsewhere_it_is_not_here_and_the_way_to_know_is_told(self, style):
        with (
            ScriptedServer(style=style, models="alpha") as server,
            OpenAICompatibleBackend("alpha", server.base_url) as backend,
            pytest.raises(NotHere, match="has no endpoint to count tokens with") as caught,
        ):
            backend.count_tokens("one two three")
        assert "usage.prompt_tokens" in caught.value.hint

    def test_a_key_travels(self):
        key = "sk-local-123456"
        with ScriptedServer(style="llamacpp", models="alpha", api_key=key) as server:
            with OpenAICompatibleBackend("alpha", server.base_url, server="llamacpp", api_key=key) as backend:
                assert backend.count_tokens("one two three") > 0
            with (
                OpenAICompatibleBackend("alpha", server.base_url, server="llamacpp") as backend,
                pytest.raises(AuthenticationFailed),
            ):
                backend.count_tokens("one two three")

    def test_nothing_listening_is_unreachable(self):
        with (
            closed_port() as place,
            OpenAICompatibleBackend("a", f"{place.root}/v1", server="vllm", max_retries=0) as backend,
            pytest.raises(ServerUnreachable),
        ):
            backend.count_tokens("one")

    def test_bad_input_is_refused_before_anything_is_sent(self):
        with (
            ScriptedServer(style="vllm", models="alpha") as server,
            OpenAICompatibleBackend("alpha", server.base_url, server="vllm") as backend,
        ):
            for prompt, tools in (("", ()), (None, ()), ("Hi", [len])):
                with pytest.raises(BadInput):
                    backend.count_tokens(prompt, tools)
            assert server.requests == []

    def test_a_closed_backend_counts_nothing(self):
        backend = OpenAICompatibleBackend("alpha", "http://127.0.0.1:1/v1")
        backend.close()
        with pytest.raises(BackendClosed):
            backend.count_tokens("Hi")
