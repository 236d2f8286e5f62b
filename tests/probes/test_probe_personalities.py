"""Whole probes of scripted models and servers: each can, or lacks, one thing, and the report says which."""

from __future__ import annotations

import json
from typing import Any

import pytest
from scripted_model import able, but, call, refusal, user_text

from mamba_nb.probes import probe
from mamba_nb.testing import Script

EVERYTHING = {
    "streaming": "yes",
    "stream_usage": "yes",
    "reasoning": "no",
    "system_prompt": "yes",
    "stop": "yes",
    "repeatable": "yes",
    "seed": "yes",
    "max_tokens": "yes",
    "logprobs": "yes",
    "n": "yes",
    "json_object": "yes",
    "json_schema": "yes",
    "tools": "yes",
    "tools_required": "yes",
    "tools_named": "yes",
    "tools_parallel": "yes",
    "vision": "yes",
    "overflow": "unknown",
    "max_output": "yes",
}


def probed(scripted, script, only, **options):
    _server, backend = scripted(script, **options)
    return probe(backend, only=only).result(60)


def test_an_able_model_on_a_server_that_declares_nothing_can_all_that_it_is_asked_for(scripted):
    server, backend = scripted(able)
    report = probe(backend).result(60)
    assert {name: report[name].verdict for name in EVERYTHING} == EVERYTHING
    assert report["embeddings"].value == 8
    assert report["context"].verdict == "partly" and report["context"].value > 16_000  # no end was found
    sent = [request for request in server.requests if request.method == "POST"]
    assert len(sent) == report.requests <= 52
    facts = report.facts()
    assert facts["supports_tools"].value is True and facts["supports_reasoning"].value is False
    assert all(fact.source == "verified" and fact.as_of for fact in facts.values())
    assert "context_window" not in facts  # a lower bound is no context


# tools


def test_the_wrong_tool_is_said_as_that(scripted):
    wrong = lambda body: call("get_local_time", city="Paris")  # noqa: E731
    report = probed(scripted, but(tools=wrong), "tools")
    assert report["tools"].verdict == "partly" and "get_local_time" in report["tools"].why
    assert report["tools"].fact is True
    assert report["tools_parallel"].verdict == "no"


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
        '{"name": "get_weather", "parameters": {"city": "Paris"}}',
    ],
)
def test_a_call_that_comes_back_as_text_is_told_as_such(scripted, text):
    report = probed(scripted, but(tools=Script(text=text)), ["tools"])
    assert report["tools"].verdict == "partly" and report["tools"].value == "calls as text"
    assert "plain text" in report["tools"].why and "parser" in report["tools"].why
    assert report["tools"].fact is False


@pytest.mark.parametrize(
    ("style", "status", "words"),
    [
        # Ollama: server/routes.go, and the registry path before the name as it writes it.
        ("ollama", 400, "registry.ollama.ai/library/gemma3:4b does not support tools"),
        # Recorded from vLLM 0.32.0.
        ("vllm", 400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
        # llama.cpp: tools/server/server-common.cpp.
        ("llamacpp", 500, "tools param requires --jinja flag"),
    ],
)
def test_a_refusal_of_tools_is_a_no_in_the_servers_own_words_and_asked_once(scripted, style, status, words):
    _server, backend = scripted(but(tools=refusal(status, words)), server=style)
    report = probe(backend, only="tools").result(60)
    assert [result.verdict for result in report.results] == ["no"] * 4
    assert words in report["tools"].why
    assert report.requests == 1
    assert report.facts()["supports_tools"].value is False


def test_another_refusal_of_a_request_with_tools_is_unknown(scripted):
    report = probed(scripted, but(tools=refusal(400, "the moon is in the wrong house")), "tools")
    assert report["tools"].verdict == "unknown"
    assert "moon" in report["tools"].why
    assert "supports_tools" not in report.facts()


def test_a_malformed_call_that_the_server_fails_over_is_unknown(scripted):
    words = "The model produced output that does not match the expected peg-native format"  # llama.cpp, seen
    report = probed(scripted, but(tools=refusal(500, words)), ["tools"])
    assert report["tools"].verdict == "unknown" and "peg-native" in report["tools"].why


def test_a_server_that_ignores_tool_choice_is_caught_by_a_question_that_needs_no_tool(scripted):
    def ignores(body: dict[str, Any]) -> Script | None:
        if "weather" in user_text(body):
            return call("get_weather", city="Paris")
        return Script(text="Hello.")

    report = probed(scripted, but(tools=ignores), "tools")
    verdicts = {name: report[name].verdict for name in report}
    assert verdicts == {"tools": "yes", "tools_required": "no", "tools_named": "no", "tools_parallel": "no"}
    assert "ignored" in report["tools_required"].why


def test_a_server_that_refuses_a_named_tool_still_has_tools(scripted):
    # LM Studio takes tool_choice as text alone.
    def refuses(body: dict[str, Any]) -> Script | None:
        if isinstance(body.get("tool_choice"), dict):
            return refusal(400, "Invalid tool_choice type: 'object'. Supported string values: none, auto, required")
        return None

    report = probed(scripted, but(tools=refuses), "tools")
    assert (report["tools"].verdict, report["tools_named"].verdict) == ("yes", "no")
    assert "Supported string values" in report["tools_named"].why


def test_a_small_model_gets_three_phrasings(scripted):
    def third(body: dict[str, Any]) -> Script | None:
        return None if "right function" in user_text(body) else Script(text="Sunny, I suppose.")

    report = probed(scripted, but(tools=third), ["tools_required", "tools"])
    assert report["tools"].verdict == "yes" and report["tools"].requests == 3


# JSON


def test_a_schema_that_is_taken_and_not_kept_is_a_no(scripted):
    report = probed(scripted, but(response_format=Script(text="A box of pencils is a fine thing.")), "json")
    assert {name: report[name].verdict for name in report} == {"json_object": "no", "json_schema": "no"}
    assert report.facts()["supports_json_schema"].value is False


def test_json_in_a_fence_is_partly(scripted):
    report = probed(scripted, but(response_format=Script(text='```json\n{"name": "Tom"}\n```')), ["json_object"])
    assert report["json_object"].verdict == "partly" and "code fence" in report["json_object"].why


def test_an_answer_cut_by_its_limit_is_asked_for_again_with_more_tokens(scripted):
    text = json.dumps({"colour": "red", "amount": 3})
    long = [*("{" + " " * 200), *text[1:]]  # 1 character a token: cut at 128, whole within 384

    report = probed(scripted, but(response_format=Script(text=long)), ["json_schema"])
    assert report["json_schema"].verdict == "yes" and report["json_schema"].requests == 3


def test_answers_that_are_always_cut_are_unknown(scripted):
    endless = Script(text=["{", *[" "] * 2000])
    report = probed(scripted, but(response_format=endless), "json")
    assert {result.verdict for result in report.results} == {"unknown"}


def test_a_server_that_knows_json_schema_alone_refuses_the_object_in_words(scripted):
    def refuses(body: dict[str, Any]) -> Script | None:
        wrong = body["response_format"]["type"] == "json_object"
        # LM Studio's words.
        return refusal(400, "'response_format.type' must be 'json_schema' or 'text'") if wrong else None

    report = probed(scripted, but(response_format=refuses), "json")
    assert {name: report[name].verdict for name in report} == {"json_object": "no", "json_schema": "yes"}


# reasoning


def thinking(budget: int):
    """A model that reasons so many tokens before every answer, unless it is switched off."""

    def answer(request: Any) -> Script:
        script = able(request)
        if request.body.get("chat_template_kwargs", {}).get("enable_thinking") is False:
            return script
        return Script(
            text=script.text,
            tool_calls=script.tool_calls,
            reasoning=[" hm"] * budget,
            reasoning_field="reasoning_content",
        )

    return answer


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_where_the_reasoning_comes_is_told(scripted, field):
    report = probed(scripted, Script(text="51", reasoning="17 times 3", reasoning_field=field), "reasoning")
    assert report["reasoning"].verdict == "yes" and report["reasoning"].value == field
    assert report.facts()["supports_reasoning"].value is True


def test_reasoning_between_tags_is_told_as_that(scripted):
    report = probed(scripted, Script(text="51", reasoning="17 times 3", reasoning_field="think"), "reasoning")
    assert "tags" in report["reasoning"].value


def test_a_model_that_burns_its_tokens_on_reasoning_is_switched_off_and_still_judged(scripted):
    server, backend = scripted(thinking(200))
    report = probe(backend, only=["tools", "json_schema"]).result(60)
    assert report["tools"].verdict == "yes" and report["json_schema"].verdict == "yes"
    switched = [entry.body.get("chat_template_kwargs") for entry in server.requests if entry.method == "POST"]
    assert switched[0] is None and switched[-1] == {"enable_thinking": False}


def test_where_reasoning_cannot_be_switched_off_the_model_gets_more_tokens(scripted):
    stubborn = thinking(200)

    def refuses(request: Any) -> Script:
        if "chat_template_kwargs" in request.body:
            return refusal(400, "Unrecognized request argument supplied: chat_template_kwargs")
        return stubborn(request)

    report = probed(scripted, refuses, ["tools"])
    assert report["tools"].verdict == "yes"


def test_a_model_that_never_stops_reasoning_is_unknown_and_not_no(scripted):
    always = Script(text="", reasoning=[" hm"] * 5000, reasoning_field="reasoning_content")
    report = probed(scripted, always, ["tools", "json", "system_prompt"])
    assert {result.verdict for result in report.results} == {"unknown"}
    assert "reasoning" in report["tools"].why


# vision


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (500, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"),
        (400, "smollm2 is not a multimodal model"),  # recorded from vLLM 0.32.0
        (400, "this model does not support vision"),
    ],
)
def test_a_refused_picture_is_a_no_with_the_servers_words(scripted, status, words):
    def refuses(body: dict[str, Any]) -> Script | None:
        return refusal(status, words) if isinstance(body["messages"][-1]["content"], list) else None

    report = probed(scripted, but(prompt=refuses), "vision")
    assert report["vision"].verdict == "no" and words in report["vision"].why
    assert report.requests == 1


def test_a_wrong_colour_is_unknown(scripted):
    def guesses(body: dict[str, Any]) -> Script | None:
        images = [part for part in body["messages"][-1]["content"] if isinstance(part, dict) and "image_url" in part]
        return Script(text="Green", prompt_tokens=300) if images else None

    report = probed(scripted, but(prompt=guesses), "vision")
    assert report["vision"].verdict == "unknown" and "supports_vision" not in report.facts()


def test_a_picture_that_is_dropped_without_a_word_is_a_no(scripted):
    report = probed(scripted, Script(text="It is red and blue.", prompt_tokens=20), "vision")
    assert report["vision"].verdict == "no" and "dropped the picture" in report["vision"].why


# parameters


def test_parameters_that_are_ignored_are_a_no(scripted):
    def deaf(request: Any) -> Script:
        body = {name: value for name, value in request.body.items() if name not in ("stop", "response_format")}
        number = len(calls_seen)
        calls_seen.append(body)
        text = user_text(body)
        if "sea" in text:
            return Script(text=f"Answer {number}.")
        return able(type("Request", (), {"body": {**body, "messages": body["messages"][-1:]}})())

    calls_seen: list[Any] = []
    report = probed(
        scripted,
        lambda request: Script(**{**vars_of(deaf(request)), "logprobs": False, "obey_max_tokens": False}),
        ["stop", "seed", "logprobs", "system_prompt", "max_tokens"],
    )
    assert {name: report[name].verdict for name in report} == {
        "system_prompt": "no",
        "stop": "no",
        "seed": "no",
        "logprobs": "no",
        "max_tokens": "no",
    }


def vars_of(script: Script) -> dict[str, Any]:
    return {"text": script.text, "tool_calls": script.tool_calls}


def test_one_answer_for_n_2_is_a_no(scripted):
    report = probed(scripted, able, "n", style="ollama")  # which ignores it
    assert report["n"].verdict == "no" and "ignores" in report["n"].why


def test_a_stream_that_comes_whole_and_one_without_counts(scripted):
    whole = probed(scripted, Script(text="1, 2, 3", fault="json_instead_of_stream"), "streaming")
    assert (whole["streaming"].verdict, whole["stream_usage"].verdict) == ("no", "unknown")
    silent = probed(scripted, Script(text="1, 2, 3", usage="none"), "streaming")
    assert (silent["streaming"].verdict, silent["stream_usage"].verdict) == ("yes", "no")
    held = probed(scripted, Script(text=["1, 2, 3"]), "streaming")
    assert held["streaming"].verdict == "partly"


def test_a_server_that_wants_another_name_for_max_tokens_gets_it(scripted):
    words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."

    def renames(body: dict[str, Any]) -> Script | None:
        return refusal(400, words) if "max_tokens" in body else None

    server, backend = scripted(but(prompt=renames))
    report = probe(backend, only=["max_tokens", "json_schema"]).result(60)
    assert (report["max_tokens"].verdict, report["json_schema"].verdict) == ("yes", "yes")
    assert sum("max_tokens" in entry.body for entry in server.requests if entry.method == "POST") == 1


# context


def overflowing(limit: int, *, cut: bool = False):
    """A model of so many tokens of context, a word each; longer prompts are refused as llama.cpp does, or cut."""

    def answer(request: Any) -> Script:
        tokens = sum(len(user_text({"messages": [message]}).split()) for message in request.body["messages"])
        if tokens <= limit:
            return able(request)
        if cut:
            return Script(text="I do not know.", prompt_tokens=limit)
        words = f"request ({tokens} tokens) exceeds the available context size ({limit} tokens), try increasing it"
        return refusal(400, words, type="exceed_context_size_error", n_prompt_tokens=tokens, n_ctx=limit)

    return answer


def test_an_error_past_the_end_gives_the_context_in_force(scripted):
    report = probed(scripted, overflowing(3000), "context")
    assert report["context"].verdict == "yes" and report["context"].value == 3000
    assert report["overflow"].verdict == "yes" and "3000" in report["overflow"].why
    assert report.facts()["context_window"].value == 3000
    assert "came back" in report["context"].why  # the word at the beginning of a prompt that nearly fills it


def test_a_silent_cut_is_told_with_the_numbers(scripted):
    report = probed(scripted, overflowing(3000, cut=True), "context")
    assert report["overflow"].verdict == "no" and report["overflow"].value == "silent cut"
    assert report["context"].verdict == "partly" and report["context"].value == 3000
    assert "3,000 of" in report["context"].why


def test_less_context_than_declared_is_found_out(scripted):
    # llama.cpp's /props declares 4,096 for each slot.
    _server, backend = scripted(overflowing(1500), style="llamacpp", context_length=4096, server="llamacpp")
    report = probe(backend, only="context").result(60)
    assert report.declared["context_window"].value == 4096
    assert report["context"].value == 1500


def test_a_prompt_is_never_longer_than_allowed(scripted):
    server, backend = scripted(able)
    report = probe(backend, only="context", context_tokens=3000).result(60)
    longest = max(len(user_text(entry.body).split()) for entry in server.requests if entry.method == "POST")
    assert longest <= 3050
    assert report["context"].verdict == "partly" and "context_tokens=3,000" in report["context"].why


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        # Recorded from vLLM 0.32.0.
        (
            "max_tokens=9000000 cannot be greater than max_model_len=2048. Please request fewer output tokens. "
            "(parameter=max_tokens, value=9000000)",
            2048,
        ),
        # OpenAI's.
        ("max_tokens is too large: 9000000. This model supports at most 16384 completion tokens", 16384),
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", 8192),
    ],
)
def test_the_longest_answer_is_read_from_the_refusal_of_a_longer_one(scripted, words, limit):
    def refuses(body: dict[str, Any]) -> Script | None:
        return refusal(400, words) if body["max_tokens"] > 100_000 else None

    report = probed(scripted, but(max_tokens=refuses), "max_output")
    assert report["max_output"].verdict == "yes" and report["max_output"].value == limit
    assert report.facts()["max_output_tokens"].value == limit


# embeddings


@pytest.mark.parametrize("style", ["vllm", "llamacpp"])
def test_a_server_without_embeddings_is_a_no(scripted, style):
    report = probed(scripted, able, "embeddings", style=style, server=style)
    assert report["embeddings"].verdict == "no" and report.facts()["supports_embeddings"].value is False


def test_a_failing_embedding_endpoint_is_unknown(scripted):
    report = probed(scripted, able, "embeddings", scripts={"/v1/embeddings": Script(status=502, error_body="bad")})
    assert report["embeddings"].verdict == "unknown"


# whole personalities, with what they refuse, ignore and cut by themselves


def test_ollama_cuts_in_silence_ignores_tool_choice_and_refuses_tools_by_the_template(scripted):
    about = {"gemma3:4b": {"capabilities": ["completion", "vision"]}}
    server, backend = scripted(
        able, style="ollama", server="ollama", models=["gemma3:4b"], about=about, context_length=2048
    )
    report = probe(backend, only=["tools", "n", "context"]).result(60)
    assert report.declared["supports_tools"].value is False
    assert [report[name].verdict for name in ("tools", "tools_required", "tools_named", "tools_parallel")] == ["no"] * 4
    assert "does not support tools" in report["tools"].why
    assert report["n"].verdict == "no" and "n" in report.ignored
    assert report["overflow"].verdict == "no" and report["overflow"].value == "silent cut"
    assert report["context"].value == 2048
    assert server.requests


def test_vllm_without_its_tool_flags_says_which_to_give(scripted):
    _server, backend = scripted(
        able, style="vllm", server="vllm", options={"tool_parser": None}, context_length=2048, models=["smollm2"]
    )
    report = probe(backend, only=["tools", "context", "max_output", "embeddings", "vision"]).result(60)
    assert "--enable-auto-tool-choice" in report["tools"].why
    assert report["tools"].verdict == report["embeddings"].verdict == report["vision"].verdict == "no"
    assert (report["context"].verdict, report["context"].value) == ("yes", 2048)
    assert report["overflow"].verdict == "yes"
    assert report["max_output"].value == 2048


def test_lm_studio_is_probed_without_a_word_that_it_does_not_understand(scripted):
    _server, backend = scripted(able, style="lmstudio", server="lmstudio")
    report = probe(backend, only=["streaming", "json", "tools"]).result(60)
    assert report["json_schema"].verdict == report["tools"].verdict == report["streaming"].verdict == "yes"
