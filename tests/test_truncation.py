"""The alarm for prompts that were cut in silence, and the cases in which there must be none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mamba_nb as mb
from mamba_nb.backends import OpenAICompatibleBackend, create_lmstudio_backend, create_ollama_backend
from mamba_nb.backends._truncation import Lengths, Outcome, alarm, lengths_of
from mamba_nb.errors import ServerFailed
from mamba_nb.servers.kinds import kind_of
from mamba_nb.testing import Script, ScriptedServer, words

# 9 words and 11 pieces a sentence, 47 characters: an ordinary tokenizer makes 11 tokens of it.
SENTENCE = "The quick brown fox, they say, jumped too far. "
CHINESE = "天空为什么是蓝色的因为阳光被空气散射而蓝光散射得最多所以我们看到蓝天"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(Script(text="Blue."), style="ollama", models="alpha:latest", context_length=512) as running:
        yield running


def ollama(server: ScriptedServer, **options: Any) -> OpenAICompatibleBackend:
    return create_ollama_backend("alpha", base_url=server.base_url, **options)


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def alarm_for(
    text: str | list[dict[str, Any]],
    *,
    context: int | None = 4096,
    kind: str = "ollama",
    prompt: int | None,
    completion: int | None = 20,
    finish: str = "stop",
    **outcome: Any,
) -> tuple[str | None, bool]:
    """The alarm, and whether the server was asked for its context."""
    asked = []

    async def in_force() -> int | None:
        asked.append(True)
        return context

    said = Outcome(
        model="alpha",
        prompt_tokens=prompt,
        completion_tokens=completion,
        finish_reason=finish,
        **{"empty": False, **outcome},
    )
    messages = user(text) if isinstance(text, str) else text
    return asyncio.run(alarm(messages, said, kind_of(kind), in_force)), bool(asked)


class TestOllama:
    @pytest.mark.parametrize("options", [{}, {"num_ctx": 256}, {"native": True}], ids=str)
    def test_a_prompt_far_above_the_context_is_told_with_the_remedy(self, options, server):
        context = options.get("num_ctx", 512)
        with ollama(server, **options) as backend:
            answer = backend.ask("word " * 2000)
        assert answer.status == "done" and answer.prompt_tokens <= context
        assert answer.warnings == (
            f"Ollama's context for alpha is {context} tokens; your prompt is about 2,500. Ollama drops the oldest text "
            "without saying so. Use num_ctx=4096 (needs more memory) or set OLLAMA_CONTEXT_LENGTH.",
        )

    @pytest.mark.parametrize("version", ["0.33.0", "0.20.0"])
    def test_both_ways_of_cutting_are_seen(self, version):
        with (
            ScriptedServer(
                style="ollama", models="alpha:latest", context_length=512, options={"version": version}
            ) as old,
            ollama(old) as backend,
        ):
            assert "drops the oldest text" in backend.ask("word " * 600).warnings[0]

    def test_old_messages_that_were_dropped_are_seen(self, server):
        long = [*user("word " * 800), {"role": "assistant", "content": "Yes."}, *user("And now?")]
        with ollama(server) as backend:
            answer = backend.ask(long)
        assert answer.prompt_tokens < 20 and "drops the oldest text" in answer.warnings[0]

    def test_with_enough_context_there_is_no_alarm(self, server):
        with ollama(server, num_ctx=4096) as backend:
            assert backend.ask("word " * 2000).warnings == ()

    @pytest.mark.parametrize("prompt", ["Why?", SENTENCE, SENTENCE * 20, CHINESE, CHINESE * 10])
    def test_short_prompts_are_not_even_asked_about(self, prompt, server):
        server.script = Script(
            text="Blue.", prompt_tokens=max(10, len(prompt) // 2 if prompt >= CHINESE else len(prompt) // 4)
        )
        with ollama(server) as backend:
            assert backend.ask(prompt).warnings == ()
        assert [request.path for request in server.requests] == ["/v1/chat/completions"]

    def test_asking_for_the_context_is_not_in_the_figures(self, server):
        server.scripts["/api/ps"] = Script(ttft_s=0.8)
        with ollama(server) as backend:
            answer = backend.ask("word " * 2000)
        assert "drops the oldest text" in answer.warnings[0] and answer.latency_s < 0.8

    @pytest.mark.parametrize("fault", [Script(never=True), Script(status=500), Script(error_body="<html>")], ids=str)
    def test_a_server_that_does_not_tell_its_context_gives_no_alarm_and_no_error(self, fault, server):
        server.scripts["/api/ps"] = fault
        with ollama(server) as backend:
            assert backend.ask("word " * 2000).warnings == ()

    def test_a_request_that_failed_is_not_looked_at(self, server):
        server.script = Script(status=500)
        with ollama(server, max_retries=0) as backend, pytest.raises(ServerFailed):
            backend.ask("word " * 2000)
        assert "/api/ps" not in [request.path for request in server.requests]

    def test_the_comparison_shows_it(self, server):
        with ollama(server) as backend:
            grid = mb.compare(backend, ["word " * 2000, "Why?"], live=False)
        cut, whole = grid.to_frame()["warnings"]
        assert "drops the oldest text" in cut and whole is not cut and not isinstance(whole, str)
        assert "drops the oldest text" in grid.summary().loc["alpha", "notes"]
        assert "drops the oldest text" in grid._repr_mimebundle_()["text/html"]


class TestSigns:
    """Counts as Ollama reports them; contexts and prompts by hand."""

    LONG = SENTENCE * 500  # 4,500 words, 5,500 pieces, 23,500 characters

    @pytest.mark.parametrize(
        "prompt",
        [
            pytest.param(4096, id="cut to the context, before 0.30"),
            pytest.param(2051, id="half freed, four tokens and the first kept"),
            pytest.param(17, id="all but the last message dropped"),
            pytest.param(None, id="not counted, being in the cache"),
        ],
    )
    def test_a_prompt_longer_than_the_context_is_cut(self, prompt):
        said, _ = alarm_for(self.LONG, prompt=prompt)
        assert said is not None and "is 4,096 tokens; your prompt is about 5,900." in said

    def test_a_total_of_exactly_the_context_is_the_classic_sign(self):
        said, _ = alarm_for(SENTENCE * 340, prompt=4000, completion=96)  # 3,060 words, about 3,995 tokens
        assert said is not None and "drops the oldest text" in said

    def test_a_prompt_a_little_above_the_context_is_known_by_the_half_that_is_left(self):
        said, asked = alarm_for(SENTENCE * 380, prompt=2051)  # 4,180 pieces
        assert asked and said is not None

    def test_half_of_the_context_left_of_a_prompt_near_it_is_a_sign(self):
        text = SENTENCE * 360  # 3,960 pieces, about 4,230 tokens
        assert alarm_for(text, prompt=2051)[0] is not None
        assert alarm_for(text, prompt=2100)[0] is None

    def test_more_words_than_tokens_of_context_need_no_other_sign(self):
        assert alarm_for(self.LONG, prompt=3000)[0] is not None

    @pytest.mark.parametrize("cached", [None, 1, 40, 900])
    def test_a_cached_prompt_that_fits_is_no_alarm(self, cached):
        text = SENTENCE * 300  # 2,700 words, 3,300 pieces
        assert alarm_for(text, prompt=cached)[0] is None

    def test_a_prompt_that_fits_and_was_counted_whole_is_not_asked_about(self):
        assert alarm_for(SENTENCE * 300, prompt=3307) == (None, False)

    @pytest.mark.parametrize(
        ("text", "tokens"),
        [
            pytest.param(CHINESE * 100, 2200, id="Chinese, 3,400 characters"),
            pytest.param("आसमान नीला क्यों होता है " * 300, 2400, id="Hindi, 1,500 words"),
            pytest.param("Почему небо голубое и почему трава зелёная? " * 200, 2300, id="Russian, 1,400 words"),
            pytest.param("ทำไมท้องฟ้าจึงเป็นสีฟ้า" * 150, 1500, id="Thai, 3,450 characters"),
            pytest.param("하늘은 왜 파란색인가요? " * 300, 3000, id="Korean"),
            pytest.param("😀" * 1500, 3000, id="emoji"),
            pytest.param("    " * 4000 + "x", 60, id="indentation"),
            pytest.param("=" * 12000, 190, id="a ruler"),
        ],
    )
    def test_other_scripts_that_fit_are_no_alarm(self, text, tokens):
        for prompt in (tokens, 30, None):  # counted whole, from the cache, not at all
            assert alarm_for(text, prompt=prompt)[0] is None

    def test_chinese_that_was_cut_is(self):
        said, _ = alarm_for(CHINESE * 600, prompt=2051)  # 20,400 characters: 5,100 pieces at least
        assert said is not None

    def test_images_count_for_nothing(self):
        picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}}
        content = [{"type": "text", "text": "What is this?"}, picture]
        assert alarm_for([{"role": "user", "content": content}], prompt=300)[0] is None

    def test_a_context_that_the_prompt_exceeds_was_not_the_one_in_force(self):
        assert alarm_for(self.LONG, prompt=5600, context=4096)[0] is None

    @pytest.mark.parametrize("context", [None, 0, -1])
    def test_without_a_context_there_is_no_alarm(self, context):
        assert alarm_for(self.LONG, prompt=17, context=context)[0] is None

    def test_the_arguments_of_calls_are_part_of_the_prompt(self):
        call = {"id": "c", "function": {"name": "f", "arguments": "word " * 5000}}
        messages = [*user("Go."), {"role": "assistant", "content": None, "tool_calls": [call]}]
        assert alarm_for(messages, prompt=2051)[0] is not None

    def test_text_generation_webui_cuts_in_silence_too(self):
        text = SENTENCE * 400  # 3,600 words, 4,400 pieces
        assert alarm_for(text, prompt=4000, kind="textgenwebui")[0] is None  # near enough to be the whole of it
        said, _ = alarm_for(text, prompt=1900, kind="textgenwebui")
        assert said is not None and "larger context" in said and "num_ctx" not in said

    @pytest.mark.parametrize("kind", ["vllm", "llamacpp", "openai", "embedded"])
    def test_servers_that_refuse_what_does_not_fit_are_trusted(self, kind):
        assert alarm_for(self.LONG, prompt=17, kind=kind) == (None, False)

    @given(st.text(), st.integers(0, 5000), st.integers(0, 5000))
    def test_no_text_and_no_count_makes_it_raise(self, text, prompt, completion):
        said, _ = alarm_for(text, prompt=prompt, completion=completion)
        assert said is None or "context" in said


class TestEnds:
    def test_a_stop_exactly_at_the_contexts_end_is_told_anywhere(self):
        said, _ = alarm_for("Why?", kind="vllm", prompt=48, completion=2000, context=2048)
        assert said is not None and "The answer ended where the context of 2,048 tokens ended" in said

    def test_a_length_there_says_it_itself(self):
        assert alarm_for("Why?", kind="vllm", prompt=48, completion=2000, context=2048, finish="length")[0] is None

    def test_a_total_that_no_context_has_is_not_asked_about(self):
        assert alarm_for("Why?", kind="vllm", prompt=48, completion=2001, context=2049) == (None, False)

    def test_a_real_stop_with_a_round_total_is_no_alarm(self):
        assert alarm_for("Why?", kind="vllm", prompt=48, completion=2000, context=8192) == (None, True)

    def test_an_unknown_server_is_left_alone(self):
        asked: list[bool] = []

        async def in_force() -> int | None:
            asked.append(True)
            return 2048

        said = Outcome(model="a", prompt_tokens=48, completion_tokens=2000, finish_reason="stop", empty=False)
        assert asyncio.run(alarm(user("Why?"), said, None, in_force)) is None and asked == []


class TestLMStudio:
    def ask(self, server: ScriptedServer, prompt: str = "Why?") -> Any:
        with create_lmstudio_backend("alpha", base_url=server.base_url) as backend:
            return backend.ask(prompt)

    def test_an_empty_answer_to_a_full_context_is_told_with_the_remedy(self):
        script = Script(text="", prompt_tokens=700, completion_tokens=0)
        with ScriptedServer(script, style="lmstudio", models="alpha", context_length=512) as server:
            answer = self.ask(server)
        assert answer.text == "" and answer.warnings == (
            "LM Studio answered with nothing: it loaded alpha with a context of 512 tokens, and the prompt has 700. "
            "Load it with more: `lms load alpha --context-length 1024`.",
        )

    def test_an_empty_answer_to_a_short_prompt_is_only_empty(self):
        script = Script(text="", prompt_tokens=20, completion_tokens=0)
        with ScriptedServer(script, style="lmstudio", models="alpha", context_length=512) as server:
            assert self.ask(server).warnings == ()

    @pytest.mark.parametrize(
        "script",
        [
            Script(text="", reasoning="Hm.", prompt_tokens=700),
            Script(tool_calls=[{"name": "f", "arguments": {}}], prompt_tokens=700),
            Script(text=words(3), prompt_tokens=700),
        ],
        ids=["reasoning alone", "a tool call", "text"],
    )
    def test_an_answer_with_something_in_it_is_not_empty(self, script):
        with ScriptedServer(script, style="lmstudio", models="alpha", context_length=512) as server:
            assert self.ask(server).warnings == ()


class TestLengths:
    @pytest.mark.parametrize(
        ("text", "lengths"),
        [
            ("", Lengths(words=0, pieces=0, about=0)),
            ("Why is the sky blue?", Lengths(words=5, pieces=6, about=5)),
            ("def f(x):\n        return x", Lengths(words=4, pieces=7, about=4)),
            ("1234567", Lengths(words=1, pieces=3, about=1)),
            ("天空为什么是蓝色的", Lengths(words=1, pieces=1, about=6)),
            (CHINESE, Lengths(words=1, pieces=8, about=25)),
            ("----------", Lengths(words=1, pieces=1, about=0)),
            ("आसमान नीला", Lengths(words=2, pieces=2, about=7)),
        ],
    )
    def test_lengths_by_hand(self, text, lengths):
        assert lengths_of(user(text)) == lengths

    @given(st.text())
    def test_there_are_at_least_as_many_pieces_as_words(self, text):
        found = lengths_of(user(text))
        assert found.words <= found.pieces
