"""Parameters by the kind of server: what is renamed, refused, or sent with a warning."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_model import write_tiny_model

import mamba_nb as mb
from mamba_nb import embedded
from mamba_nb.backends import (
    OpenAICompatibleBackend,
    create_embedded_backend,
    create_lmstudio_backend,
    create_ollama_backend,
    create_vllm_backend,
)
from mamba_nb.backends._params import PARAMS, checked
from mamba_nb.backends._translate import openai_request, translated
from mamba_nb.errors import BadInput
from mamba_nb.servers.kinds import Kind, kinds
from mamba_nb.testing import Script, ScriptedServer

FACTS = Script(text="Blue.")
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
STRICT = Kind(
    name="strict",
    title="the strict one",
    default_url=None,
    start="Start it",
    ignores={"seed": "Set it at the start.", "tool_choice=required": "Say so in the prompt."},
    refuses={"top_k": "Use top_p.", "response_format=json_object": "Give a schema.", "reasoning_effort=high": "Less."},
    renames={"max_completion_tokens": "max_tokens"},
)


def sent_by(params: dict[str, Any], kind: Kind | None = STRICT, model: str = "m") -> tuple[dict[str, Any], list[str]]:
    sent, warnings = translated(checked(params), kind, model)
    return sent, list(warnings)


class TestRules:
    def test_a_kind_that_is_not_known_gets_everything_as_it_was_given(self):
        given = {"seed": 1, "top_k": 5, "max_completion_tokens": 7, "extra_body": {"x": 1}}
        assert sent_by(given, None) == (given, [])

    def test_what_is_ignored_is_sent_with_a_warning_that_says_what_to_do(self):
        assert sent_by({"seed": 1, "top_p": 0.5}) == (
            {"seed": 1, "top_p": 0.5},
            ["The strict one ignores seed. Set it at the start."],
        )

    def test_in_extra_body_too(self):
        sent, warnings = sent_by({"extra_body": {"seed": 1}})
        assert sent == {"extra_body": {"seed": 1}} and len(warnings) == 1

    def test_what_is_always_an_error_is_refused_with_what_to_do(self):
        with pytest.raises(BadInput, match="The strict one does not take top_k=5") as caught:
            sent_by({"top_k": 5})
        assert caught.value.hint == "Use top_p."

    def test_extra_body_is_the_users_own_word_and_not_refused(self):
        assert sent_by({"extra_body": {"top_k": 5}}) == ({"extra_body": {"top_k": 5}}, [])

    @pytest.mark.parametrize(
        ("params", "says"),
        [
            ({"response_format": {"type": "json_object"}}, "response_format of type 'json_object'"),
            ({"reasoning_effort": "high"}, "reasoning_effort='high'"),
        ],
    )
    def test_one_value_alone_may_be_refused(self, params, says):
        with pytest.raises(BadInput, match=says):
            sent_by(params)
        assert sent_by({"reasoning_effort": "low"}) == ({"reasoning_effort": "low"}, [])

    def test_or_ignored(self):
        assert sent_by({"tool_choice": "required"})[1] == ["The strict one ignores tool_choice. Say so in the prompt."]
        assert sent_by({"tool_choice": "none"})[1] == []

    @pytest.mark.parametrize(
        "params",
        [
            {"tool_choice": "auto"},
            {"parallel_tool_calls": True},
            {"logprobs": False},
            {"response_format": {"type": "text"}},
        ],
        ids=str,
    )
    def test_a_value_that_says_nothing_is_no_reason_to_warn(self, params):
        deaf = Kind(name="deaf", title="Deaf", default_url=None, start="", ignores=dict.fromkeys(PARAMS, "No."))
        assert sent_by(params, deaf)[1] == []

    def test_names_are_changed_to_the_servers_own(self):
        assert sent_by({"max_completion_tokens": 7}) == ({"max_tokens": 7}, [])

    def test_the_same_said_under_both_names_is_sent_once(self):
        assert sent_by({"max_completion_tokens": 7, "max_tokens": 7}) == ({"max_tokens": 7}, [])
        sent, warnings = sent_by({"max_completion_tokens": 7, "max_tokens": 9})
        assert sent == {"max_tokens": 9}
        assert warnings == ["max_completion_tokens was left out: here it is max_tokens, which was given too."]

    def test_the_body_has_the_stream_and_the_extra_members(self):
        sent = openai_request(
            "m", ({"role": "user", "content": "x"},), {"extra_body": {"z": 1}}, kind=None, streamed=True
        )
        assert sent.body == {
            "model": "m",
            "messages": [{"role": "user", "content": "x"}],
            "z": 1,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    @pytest.mark.parametrize("kind", kinds().values(), ids=lambda kind: kind.name)
    def test_every_kinds_tables_are_sentences_about_names(self, kind):
        for name, said in {**kind.ignores, **kind.refuses}.items():
            assert name.strip() == name and said.strip().endswith((".", "`.", ")")), (name, said)
        assert not set(kind.renames) & set(kind.renames.values())
        assert not set(kind.ignores) & set(kind.refuses)


class TestKinds:
    @pytest.mark.parametrize("given", [{"top_k": 5}, {"min_p": 0.1}, {"repeat_penalty": 1.2}], ids=str)
    def test_ollamas_v1_ignores_samplers_and_points_to_its_own_route(self, given):
        with ScriptedServer(FACTS, style="ollama", models="alpha:latest") as server:
            with create_ollama_backend("alpha", base_url=server.base_url) as backend:
                (warning,) = backend.ask("Why?", **given).warnings
            assert server.chats[0].body.items() >= given.items()
        assert warning.startswith(f"Ollama ignores {next(iter(given))}.") and "native" in warning

    def test_ollama_is_given_the_limit_by_the_name_it_reads(self):
        with ScriptedServer(Script(text="One two three."), style="ollama", models="alpha:latest") as server:
            with create_ollama_backend("alpha", base_url=server.base_url) as backend:
                answer = backend.ask("Why?", max_completion_tokens=2)
            assert server.chats[0].body["max_tokens"] == 2 and answer.finish_reason == "length"
        assert answer.request.params == {"max_tokens": 2} and answer.warnings == ()

    def test_ollama_that_is_told_to_call_a_tool_does_not_listen(self):
        with (
            ScriptedServer(FACTS, style="ollama", models="alpha:latest") as server,
            create_ollama_backend("alpha", base_url=server.base_url) as backend,
        ):
            answer = backend.ask("Why?", tools=[TOOL], tool_choice="required")
        assert len(answer.warnings) == 1 and answer.warnings[0].startswith("Ollama ignores tool_choice.")

    def test_the_context_in_extra_body_is_ollamas_commonest_trap(self):
        with (
            ScriptedServer(FACTS, style="ollama", models="alpha:latest") as server,
            create_ollama_backend("alpha", base_url=server.base_url) as backend,
        ):
            warnings = backend.ask("Why?", extra_body={"options": {"num_ctx": 8192}}).warnings
        assert len(warnings) == 1 and "ignores options" in warnings[0]

    def test_vllm_calls_the_penalty_by_another_name(self):
        with ScriptedServer(FACTS, style="vllm", models="alpha") as server:
            with create_vllm_backend("alpha", base_url=server.base_url) as backend:
                answer = backend.ask("Why?", repeat_penalty=1.2, top_k=5)
            sent = server.chats[0].body
        assert (sent["repetition_penalty"], sent["top_k"]) == (1.2, 5) and "repeat_penalty" not in sent
        assert answer.request.params == {"repetition_penalty": 1.2, "top_k": 5} and answer.warnings == ()

    def test_vllm_ignores_the_old_ways_of_guiding(self):
        with (
            ScriptedServer(FACTS, style="vllm", models="alpha") as server,
            create_vllm_backend("alpha", base_url=server.base_url) as backend,
        ):
            (warning,) = backend.ask("Why?", extra_body={"guided_choice": ["a", "b"]}).warnings
        assert warning.startswith("vLLM ignores guided_choice.") and "response_format" in warning

    def test_lm_studio_refuses_json_without_a_schema_and_nothing_is_sent(self):
        with ScriptedServer(FACTS, style="lmstudio", models="alpha") as server:
            with (
                create_lmstudio_backend("alpha", base_url=server.base_url) as backend,
                pytest.raises(BadInput, match="LM Studio does not take response_format of type 'json_object'"),
            ):
                backend.stream("Why?", response_format={"type": "json_object"})
            assert server.requests == []

    def test_a_kind_that_is_learnt_from_the_first_answer_counts_from_the_second_question_on(self):
        with (
            ScriptedServer(FACTS, style="ollama", models="alpha:latest") as server,
            OpenAICompatibleBackend("alpha", server.base_url, top_k=5) as backend,
        ):
            assert backend.ask("Why?").warnings == ()
            assert "Ollama ignores top_k" in backend.ask("Why?").warnings[0]

    @pytest.mark.parametrize(
        ("model", "name"),
        [("gpt-5-mini", "max_completion_tokens"), ("o3", "max_completion_tokens"), ("gpt-4o", "max_tokens")],
    )
    def test_openais_reasoning_models_want_the_limit_by_its_newer_name(self, model, name):
        assert sent_by({"max_tokens": 5}, kinds()["openai"], model)[0] == {name: 5}

    @pytest.mark.parametrize("name", ["top_k", "min_p", "repeat_penalty"])
    def test_openai_refuses_the_samplers_of_local_servers(self, name):
        with pytest.raises(BadInput, match=f"OpenAI does not take {name}"):
            sent_by({name: 1}, kinds()["openai"], "gpt-4o")

    def test_the_comparison_shows_the_warning(self):
        with (
            ScriptedServer(FACTS, style="ollama", models="alpha:latest") as server,
            create_ollama_backend("alpha", base_url=server.base_url) as backend,
        ):
            grid = mb.compare(backend, ["Why?", "How?"], live=False, top_k=5)
        assert grid.to_frame()["warnings"].str.startswith("Ollama ignores top_k.").all()
        assert "Ollama ignores top_k." in grid.summary().loc["alpha", "notes"]
        assert "(2 of 2)" in grid.summary().loc["alpha", "notes"]


class TestCommonSamplers:
    @pytest.mark.parametrize(
        ("name", "wrong", "says"),
        [
            ("top_k", 1.5, "a whole number"),
            ("top_k", -2, "at least -1"),
            ("min_p", 1.1, "from 0 to 1"),
            ("min_p", "0.1", "a number"),
            ("repeat_penalty", -0.1, "at least 0"),
            ("repeat_penalty", True, "a number"),
        ],
    )
    def test_they_are_checked_like_the_others(self, name, wrong, says):
        with pytest.raises(BadInput, match=f"{name} must be {says}"):
            checked({name: wrong})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "Tiny-Random.F32.gguf")


@pytest.fixture
def real(tiny: Path) -> Iterator[OpenAICompatibleBackend]:
    with create_embedded_backend(tiny, n_ctx=256, slots=1) as backend:
        yield backend
    embedded.stop()


class TestRealEngine:
    """llama.cpp itself: what is sent without a warning has an effect, and none of it is an error."""

    def test_the_samplers_take_effect(self, real):
        # One candidate left is the likeliest token, whatever the temperature: the answer of temperature 0.
        likeliest = real.ask("Why?", max_tokens=8, temperature=0).text
        assert real.ask("Why?", max_tokens=8, temperature=2, top_k=1, seed=1).text == likeliest
        assert real.ask("Why?", max_tokens=8, temperature=2, min_p=1.0, seed=1).text == likeliest
        strong = real.ask("Why?", max_tokens=8, temperature=0, repeat_penalty=5.0)
        assert strong.warnings == () and strong.text != likeliest

    def test_what_belongs_to_ollama_is_refused(self, real):
        with pytest.raises(BadInput, match="num_ctx is for Ollama's own route") as caught:
            real.ask("Why?", num_ctx=512)
        assert "n_ctx" in caught.value.hint

    def test_an_ignored_member_is_warned_of(self, real):
        (warning,) = real.ask("Why?", max_tokens=2, extra_body={"num_ctx": 64}).warnings
        assert warning.startswith("The embedded engine ignores num_ctx.")
        assert json.dumps(warning)
