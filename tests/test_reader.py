"""The reader, fed with the bytes that servers really send.

Every stream below is a copy of what the server named beside it writes: recorded from a running server where it says
so, otherwise put together from its source or documentation.
"""

from __future__ import annotations

import contextlib
import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_nb.backends._builder import GenerationBuilder
from mamba_nb.backends._reader import MOST_LINE, StreamFault, StreamReader
from mamba_nb.records import (
    Finished,
    Generation,
    ReasoningDelta,
    Request,
    StateChange,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    UsageReport,
)

ASKED = Request(model="m", messages=({"role": "user", "content": "hi"},))


def read(stream: str | bytes, cuts: list[int] | None = None) -> tuple[Generation, StreamReader]:
    """The generation that a stream makes; the k-th piece arrives k seconds after send."""
    data = stream.encode() if isinstance(stream, str) else stream
    places = [0, *sorted(cuts or ()), len(data)]
    reader, builder = StreamReader(), GenerationBuilder(ASKED, base_url="http://127.0.0.1:1/v1", server="unknown")
    for at_s, (begin, end) in enumerate(pairwise(places), start=1):
        for event in reader.feed(data[begin:end], float(at_s)):
            builder.add(event)
    for event in reader.close(float(len(places))):
        builder.add(event)
    return builder.freeze(), reader


def events_of(*chunks: dict, reader: StreamReader | None = None) -> list:
    """The events of chunks that arrive one a second."""
    reader = reader or StreamReader()
    events = []
    for at_s, chunk in enumerate(chunks, start=1):
        events += reader.feed(f"data: {json.dumps(chunk)}\n\n".encode(), float(at_s))
    return events


def delta(**members) -> dict:
    return {"choices": [{"index": 0, "delta": members, "finish_reason": None}]}


def finish(reason: str = "stop") -> dict:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


def texts(events: list) -> list[tuple[str, str]]:
    return [(type(e).__name__, e.text) for e in events if isinstance(e, TextDelta | ReasoningDelta)]


# vLLM 0.32.0, recorded: chat_stream, without the chunks in the middle.
VLLM = """\
data: {"id":"chatcmpl-8c822f33030d9d80","object":"chat.completion.chunk","created":1795334043,"model":"smollm2","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null,"prompt_text":null}

data: {"id":"chatcmpl-8c822f33030d9d80","object":"chat.completion.chunk","created":1795334043,"model":"smollm2","choices":[{"index":0,"delta":{"content":"The"},"logprobs":null,"finish_reason":null,"token_ids":null}]}

data: {"id":"chatcmpl-8c822f33030d9d80","object":"chat.completion.chunk","created":1795334043,"model":"smollm2","choices":[{"index":0,"delta":{"content":" capital"},"logprobs":null,"finish_reason":null,"token_ids":null}]}

data: {"id":"chatcmpl-8c822f33030d9d80","object":"chat.completion.chunk","created":1795334043,"model":"smollm2","choices":[{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":null}],"system_fingerprint":"vllm-0.32.0-dd8cb623"}

data: {"id":"chatcmpl-8c822f33030d9d80","object":"chat.completion.chunk","created":1795334043,"model":"smollm2","choices":[],"usage":{"prompt_tokens":37,"total_tokens":45,"completion_tokens":8,"completion_tokens_details":null},"system_fingerprint":"vllm-0.32.0-dd8cb623"}

data: [DONE]

"""  # noqa: E501

# vLLM 0.32.0, recorded: chat_stream_continuous_usage, cut short: the finish reason rides on the last token.
VLLM_USAGE_ON_EACH = """\
data: {"id":"chatcmpl-9b8291fd9010bf97","object":"chat.completion.chunk","created":1795334046,"model":"smollm2","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":{"prompt_tokens":37,"total_tokens":37,"completion_tokens":0,"completion_tokens_details":null},"prompt_token_ids":null,"prompt_text":null}

data: {"id":"chatcmpl-9b8291fd9010bf97","object":"chat.completion.chunk","created":1795334046,"model":"smollm2","choices":[{"index":0,"delta":{"content":"The"},"logprobs":null,"finish_reason":null,"token_ids":null}],"usage":{"prompt_tokens":37,"total_tokens":38,"completion_tokens":1,"completion_tokens_details":null}}

data: {"id":"chatcmpl-9b8291fd9010bf97","object":"chat.completion.chunk","created":1795334046,"model":"smollm2","choices":[{"index":0,"delta":{"content":" capital"},"logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":null}],"usage":{"prompt_tokens":37,"total_tokens":39,"completion_tokens":2,"completion_tokens_details":null}}

data: {"id":"chatcmpl-9b8291fd9010bf97","object":"chat.completion.chunk","created":1795334046,"model":"smollm2","choices":[],"usage":{"prompt_tokens":37,"total_tokens":39,"completion_tokens":2,"completion_tokens_details":null}}

data: [DONE]

"""  # noqa: E501

# vLLM 0.32.0, recorded: tools_required_stream (the arguments are the model's own, a string).
VLLM_TOOL = """\
data: {"id":"chatcmpl-a6900b813af6e94c","object":"chat.completion.chunk","created":1795334210,"model":"smollm2","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null,"prompt_text":null}

data: {"id":"chatcmpl-a6900b813af6e94c","object":"chat.completion.chunk","created":1795334210,"model":"smollm2","choices":[{"index":0,"delta":{"content":null,"tool_calls":[{"id":"chatcmpl-tool-9b0531afafad2ea3","type":"function","index":0,"function":{"name":"get_weather"}}]},"logprobs":null,"finish_reason":null,"token_ids":null}]}

data: {"id":"chatcmpl-a6900b813af6e94c","object":"chat.completion.chunk","created":1795334210,"model":"smollm2","choices":[{"index":0,"delta":{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"\\""}}]},"logprobs":null,"finish_reason":null,"token_ids":null}]}

data: {"id":"chatcmpl-a6900b813af6e94c","object":"chat.completion.chunk","created":1795334210,"model":"smollm2","choices":[{"index":0,"delta":{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"Paris"}}]},"logprobs":null,"finish_reason":null,"token_ids":null}]}

data: {"id":"chatcmpl-a6900b813af6e94c","object":"chat.completion.chunk","created":1795334210,"model":"smollm2","choices":[{"index":0,"delta":{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"\\""}}]},"logprobs":null,"finish_reason":null,"token_ids":null}]}

data: {"id":"chatcmpl-a6900b813af6e94c","object":"chat.completion.chunk","created":1795334210,"model":"smollm2","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"tool_calls","stop_reason":null,"token_ids":null}]}

data: [DONE]

"""  # noqa: E501

# llama.cpp b11434, seen from a running server: null content first, usage and timings on the last chunk.
LLAMACPP = """\
data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":1795333302,"id":"chatcmpl-1","model":"tiny","system_fingerprint":"b11434-7e4c0a9","object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"He"}}],"created":1795333302,"id":"chatcmpl-1","model":"tiny","system_fingerprint":"b11434-7e4c0a9","object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"y"}}],"created":1795333302,"id":"chatcmpl-1","model":"tiny","system_fingerprint":"b11434-7e4c0a9","object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":"length","index":0,"delta":{}}],"created":1795333302,"id":"chatcmpl-1","model":"tiny","system_fingerprint":"b11434-7e4c0a9","object":"chat.completion.chunk"}

data: {"choices":[],"created":1795333302,"id":"chatcmpl-1","model":"tiny","system_fingerprint":"b11434-7e4c0a9","object":"chat.completion.chunk","usage":{"completion_tokens":3,"prompt_tokens":56,"total_tokens":59,"prompt_tokens_details":{"cached_tokens":12}},"timings":{"cache_n":12,"prompt_n":44,"prompt_ms":9.47,"prompt_per_token_ms":0.169,"prompt_per_second":5913.4,"predicted_n":3,"predicted_ms":0.843,"predicted_per_token_ms":0.42,"predicted_per_second":2372.5}}

data: [DONE]

"""  # noqa: E501

# Ollama before 0.32.6 (middleware/openai.go): the role on every chunk, the finish reason on the last token, zeros.
OLLAMA_OLD = """\
data: {"id":"chatcmpl-441","object":"chat.completion.chunk","created":1754000000,"model":"llama3.2","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":"Blue"},"finish_reason":null}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}

data: {"id":"chatcmpl-441","object":"chat.completion.chunk","created":1754000000,"model":"llama3.2","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":" sky"},"finish_reason":"stop"}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}

data: {"id":"chatcmpl-441","object":"chat.completion.chunk","created":1754000000,"model":"llama3.2","system_fingerprint":"fp_ollama","choices":[],"usage":{"prompt_tokens":26,"completion_tokens":2,"total_tokens":28}}

data: [DONE]

"""  # noqa: E501

# Ollama 0.33 (middleware/openai.go): reasoning in its own field, whole tool calls, an empty delta beside the finish.
OLLAMA_TOOL = """\
data: {"id":"chatcmpl-7","object":"chat.completion.chunk","created":1754000000,"model":"qwen3:4b","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning":"They want"},"finish_reason":null}]}

data: {"id":"chatcmpl-7","object":"chat.completion.chunk","created":1754000000,"model":"qwen3:4b","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"content":"","reasoning":" the weather."},"finish_reason":null}]}

data: {"id":"chatcmpl-7","object":"chat.completion.chunk","created":1754000000,"model":"qwen3:4b","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"content":"","tool_calls":[{"id":"call_x1","index":0,"type":"function","function":{"name":"get_weather","arguments":"{\\"city\\":\\"Paris\\"}"}}]},"finish_reason":null}]}

data: {"id":"chatcmpl-7","object":"chat.completion.chunk","created":1754000000,"model":"qwen3:4b","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"content":"","tool_calls":[{"id":"call_x2","index":1,"type":"function","function":{"name":"get_weather","arguments":"{\\"city\\":\\"Rome\\"}"}}]},"finish_reason":null}]}

data: {"id":"chatcmpl-7","object":"chat.completion.chunk","created":1754000000,"model":"qwen3:4b","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"content":""},"finish_reason":"tool_calls"}]}

data: [DONE]

"""  # noqa: E501

# LM Studio (documentation, 3_openai-compat/tools.mdx): a tool call in pieces, keyed by index.
LMSTUDIO_TOOL = """\
data: {"id":"chatcmpl-5e","object":"chat.completion.chunk","created":1754000000,"model":"qwen2.5-7b","choices":[{"index":0,"delta":{"role":"assistant","tool_calls":[{"index":0,"id":"365174485","type":"function","function":{"name":"get_delivery_date","arguments":""}}]},"logprobs":null,"finish_reason":null}]}

data: {"id":"chatcmpl-5e","object":"chat.completion.chunk","created":1754000000,"model":"qwen2.5-7b","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\\"order"}}]},"logprobs":null,"finish_reason":null}]}

data: {"id":"chatcmpl-5e","object":"chat.completion.chunk","created":1754000000,"model":"qwen2.5-7b","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"_id\\":\\"ünïcode 😀\\"}"}}]},"logprobs":null,"finish_reason":null}]}

data: {"id":"chatcmpl-5e","object":"chat.completion.chunk","created":1754000000,"model":"qwen2.5-7b","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"tool_calls"}]}

data: [DONE]

"""  # noqa: E501

# A model whose thinking the server leaves in the content (LM Studio's default, vLLM without --reasoning-parser).
INLINE_THINKING = (
    "".join(
        f'data: {{"choices":[{{"index":0,"delta":{{"content":{json.dumps(piece)}}},"finish_reason":null}}]}}\n\n'
        for piece in ("<th", "ink>", "\nDécide", " <b> 😀\n", "</", "think", ">\n\n", "Yes", " < no", ".")
    )
    + 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)

STREAMS = {
    "vllm": VLLM,
    "vllm usage on each": VLLM_USAGE_ON_EACH,
    "vllm tool": VLLM_TOOL,
    "llamacpp": LLAMACPP,
    "ollama old": OLLAMA_OLD,
    "ollama tool": OLLAMA_TOOL,
    "lmstudio tool": LMSTUDIO_TOOL,
    "inline thinking": INLINE_THINKING,
    "crlf": LLAMACPP.replace("\n", "\r\n"),
    "comments": VLLM.replace("data: {", ": keepalive 512/2048\n\ndata: {"),  # mlx-lm's
}


def gist(generation: Generation) -> dict:
    """What must not depend on how the bytes were cut."""
    return {
        "text": generation.text,
        "reasoning": generation.reasoning,
        "tool_calls": generation.tool_calls,
        "usage": generation.usage,
        "finish_reason": generation.finish_reason,
        "chunks": [len(generation.text_at_s), len(generation.reasoning_at_s), len(generation.tool_at_s)],
    }


class TestWholeStreams:
    def test_vllm_with_usage_on_its_own_chunk(self):
        generation, reader = read(VLLM)
        assert generation.text == "The capital"
        assert generation.usage == Usage(prompt_tokens=37, completion_tokens=8)
        assert generation.finish_reason == "stop"
        assert reader.done and reader.model == "smollm2"
        assert reader.facts == {"system_fingerprint": "vllm-0.32.0-dd8cb623"}
        assert len(generation.text_at_s) == 2  # neither the role nor the finish chunk carried a token

    def test_vllm_with_usage_on_every_chunk_keeps_the_last_count(self):
        generation, _ = read(VLLM_USAGE_ON_EACH)
        assert generation.text == "The capital" and generation.finish_reason == "length"
        assert generation.usage == Usage(prompt_tokens=37, completion_tokens=2)

    def test_vllm_tool_call_in_pieces(self):
        generation, _ = read(VLLM_TOOL)
        call = ToolCall(id="chatcmpl-tool-9b0531afafad2ea3", name="get_weather", arguments='"Paris"')
        assert generation.tool_calls == (call,) and generation.text == ""
        assert len(generation.tool_at_s) == 4

    def test_llamacpp_with_null_content_cached_tokens_and_timings(self):
        generation, reader = read(LLAMACPP)
        assert generation.text == "Hey" and generation.finish_reason == "length"
        assert generation.usage == Usage(prompt_tokens=56, completion_tokens=3, cached_tokens=12)
        assert reader.facts["timings"]["predicted_per_second"] == 2372.5
        assert reader.facts["system_fingerprint"] == "b11434-7e4c0a9"

    def test_older_ollama_repeats_the_role_and_counts_zeros_until_the_end(self):
        generation, reader = read(OLLAMA_OLD)
        assert generation.text == "Blue sky" and generation.finish_reason == "stop"
        assert generation.usage == Usage(prompt_tokens=26, completion_tokens=2)
        assert reader.facts["system_fingerprint"] == "fp_ollama"

    def test_ollama_reasons_and_calls_two_tools_whole(self):
        generation, _ = read(OLLAMA_TOOL)
        assert generation.reasoning == "They want the weather." and generation.text == ""
        assert generation.tool_calls == (
            ToolCall(id="call_x1", name="get_weather", arguments='{"city":"Paris"}'),
            ToolCall(id="call_x2", name="get_weather", arguments='{"city":"Rome"}'),
        )

    def test_lmstudio_tool_call_in_pieces(self):
        generation, _ = read(LMSTUDIO_TOOL)
        (call,) = generation.tool_calls
        assert call == ToolCall(id="365174485", name="get_delivery_date", arguments='{"order_id":"ünïcode 😀"}')

    def test_thinking_between_tags_that_are_cut(self):
        generation, _ = read(INLINE_THINKING)
        assert generation.reasoning == "\nDécide <b> 😀\n"
        assert generation.text == "Yes < no."

    @pytest.mark.parametrize("name", STREAMS)
    def test_read_byte_by_byte_it_is_the_same(self, name):
        data = STREAMS[name].encode()
        assert gist(read(data, list(range(1, len(data))))[0]) == gist(read(data)[0])

    @pytest.mark.parametrize("name", STREAMS)
    @given(cuts=st.lists(st.integers(0, 2500), max_size=12))
    @settings(max_examples=40, deadline=None)
    def test_cut_anywhere_it_is_the_same(self, name, cuts):
        data = STREAMS[name].encode()
        assert gist(read(data, [min(cut, len(data)) for cut in cuts])[0]) == gist(read(data)[0])


class TestChunks:
    @pytest.mark.parametrize(
        "chunk",
        [
            pytest.param({"choices": []}, id="choices empty"),
            pytest.param({"choices": None}, id="choices null"),
            pytest.param({"id": "chatcmpl-1"}, id="choices absent"),
            pytest.param({"choices": [None]}, id="a choice that is null"),
            pytest.param({"choices": [{"index": 0, "delta": None, "finish_reason": None}]}, id="delta null"),
            pytest.param({"choices": [{"index": 0, "finish_reason": None}]}, id="delta absent"),
            pytest.param(delta(role="assistant"), id="a role alone"),
            pytest.param(delta(role="assistant", content=None), id="content null"),
            pytest.param(delta(content=""), id="content empty"),
            pytest.param(delta(content="", reasoning=None, tool_calls=None), id="everything null"),
            pytest.param(delta(reasoning={"effort": "low"}), id="reasoning that is no text"),
            pytest.param({"choices": [], "usage": None}, id="usage null, as TGI on every chunk"),
            pytest.param({"choices": [], "usage": {}}, id="usage empty"),
            pytest.param({"choices": [], "error": None}, id="error null"),
            pytest.param([1, 2], id="no object"),
            pytest.param("text", id="a string"),
            pytest.param(None, id="null"),
        ],
    )
    def test_a_chunk_that_says_nothing_gives_no_event(self, chunk):
        assert events_of(chunk) == []
        assert texts(events_of(delta(content="a"), chunk, delta(content="b"))) == [
            ("TextDelta", "a"),
            ("TextDelta", "b"),
        ]

    def test_each_event_is_stamped_with_the_arrival_of_its_chunk(self):
        usage = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 1}}
        assert events_of(delta(reasoning="hm"), delta(content="A"), finish(), usage) == [
            ReasoningDelta(1.0, "hm"),
            TextDelta(2.0, "A"),
            Finished(3.0, "stop"),
            UsageReport(4.0, Usage(prompt_tokens=5, completion_tokens=1)),
        ]

    @pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
    def test_reasoning_is_read_from_either_field(self, field):
        assert texts(events_of(delta(**{field: "hm"}), delta(content="A"))) == [
            ("ReasoningDelta", "hm"),
            ("TextDelta", "A"),
        ]

    def test_reasoning_in_both_fields_is_read_once(self):
        assert texts(events_of(delta(reasoning="hm", reasoning_content="hm"))) == [("ReasoningDelta", "hm")]

    def test_content_as_a_list_of_parts_is_joined(self):
        parts = [{"type": "text", "text": "A"}, {"type": "image_url"}, "?", {"type": "text", "text": "B"}]
        assert texts(events_of(delta(content=parts))) == [("TextDelta", "AB")]

    def test_a_refusal_is_text(self):
        assert texts(events_of(delta(refusal="I cannot."))) == [("TextDelta", "I cannot.")]

    def test_the_first_finish_reason_counts(self):
        reader = StreamReader()
        events = events_of(delta(content="A"), finish("length"), finish("stop"), reader=reader)
        assert [e for e in events if isinstance(e, Finished)] == [Finished(2.0, "length")]
        assert reader.finish_reason == "length"

    def test_only_the_first_of_several_choices_is_the_answer(self):
        other = {"choices": [{"index": 1, "delta": {"content": "other"}, "finish_reason": "stop"}]}
        reader = StreamReader()
        assert texts(events_of(delta(content="A"), other, delta(content="B"), reader=reader)) == [
            ("TextDelta", "A"),
            ("TextDelta", "B"),
        ]
        assert reader.finish_reason is None

    def test_reasoning_tokens_are_counted_where_the_server_says(self):
        usage = {"prompt_tokens": 5, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 7}}
        (event,) = events_of({"choices": [], "usage": usage})
        assert event.usage == Usage(prompt_tokens=5, completion_tokens=9, reasoning_tokens=7)

    def test_log_probabilities_are_collected_in_order(self):
        def logged(token: str) -> dict:
            content = [{"token": token, "logprob": -0.25, "bytes": [65], "top_logprobs": []}]
            return {"choices": [{"index": 0, "delta": {"content": token}, "logprobs": {"content": content}}]}

        reader = StreamReader()
        events_of(logged("A"), {"choices": [{"index": 0, "delta": {}, "logprobs": None}]}, logged("B"), reader=reader)
        assert [entry["token"] for entry in reader.logprobs] == ["A", "B"]

    def test_without_log_probabilities_there_are_none(self):
        reader = StreamReader()
        events_of(delta(content="A"), reader=reader)
        assert reader.logprobs is None

    def test_minus_infinity_as_python_servers_write_it_is_a_number(self):
        reader = StreamReader()
        line = '{"choices":[{"index":0,"delta":{},"logprobs":{"content":[{"token":"A","logprob":-Infinity}]}}]}'
        reader.feed(f"data: {line}\n\n".encode(), 1.0)
        assert reader.logprobs == [{"token": "A", "logprob": float("-inf")}] and reader.malformed == 0

    def test_prompt_progress_of_llamacpp_is_a_state(self):  # llama.cpp b11434 with return_progress
        progress = {"total": 55, "cache": 54, "processed": 54, "time_ms": 3}
        reader = StreamReader()
        events = events_of({**delta(role="assistant", content=None), "prompt_progress": progress}, reader=reader)
        assert events == [StateChange(1.0, "reading prompt")]
        assert reader.facts["prompt_progress"] == progress

    def test_metrics_of_vllm_and_stats_of_lmstudio_are_facts(self):
        metrics = {"time_to_first_token_ms": 12.5, "queue_time_ms": 0.1}
        stats = {"tokens_per_second": 51.4, "time_to_first_token": 0.111}
        reader = StreamReader()
        events_of({"choices": [], "metrics": metrics}, {"choices": [], "stats": stats}, reader=reader)
        assert reader.facts == {"metrics": metrics, "stats": stats}


class TestToolCalls:
    @staticmethod
    def calls(*pieces: dict) -> list[tuple[str, str, str]]:
        builder = GenerationBuilder(ASKED, base_url="http://127.0.0.1:1/v1", server="unknown")
        for event in events_of(*({"choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]} for piece in pieces)):
            assert isinstance(event, ToolCallDelta)
            builder.add(event)
        return [(call.id, call.name, call.arguments) for call in builder.freeze().tool_calls]

    @staticmethod
    def piece(name: str | None = None, arguments: object = None, **members) -> dict:
        return {**members, "type": "function", "function": {"name": name, "arguments": arguments}}

    def test_pieces_of_two_calls_that_interleave_go_by_their_index(self):
        assert self.calls(
            self.piece("a", "", index=0, id="x"),
            self.piece("b", "", index=1, id="y"),
            self.piece(None, '{"p":', index=0),
            self.piece(None, "{}", index=1),
            self.piece(None, "1}", index=0),
        ) == [("x", "a", '{"p":1}'), ("y", "b", "{}")]

    def test_missing_ids_are_made_up_one_a_call(self):
        assert self.calls(self.piece("a", "{}", index=0), self.piece("b", "{}", index=1, id="")) == [
            ("call_0", "a", "{}"),
            ("call_1", "b", "{}"),
        ]

    def test_an_id_that_comes_twice_belongs_to_the_first_call(self):
        ids = [
            call[0]
            for call in self.calls(self.piece("a", "{}", index=0, id="x"), self.piece("b", "{}", index=1, id="x"))
        ]
        assert ids == ["x", "call_1"]

    def test_a_made_up_id_is_never_one_that_was_given(self):
        ids = [
            call[0] for call in self.calls(self.piece("a", "{}", index=0, id="call_1"), self.piece("b", "{}", index=1))
        ]
        assert len(set(ids)) == 2 and ids[0] == "call_1"

    def test_without_index_a_new_name_begins_a_new_call(self):
        assert self.calls(self.piece("a", "{}", id="x"), self.piece("b", '{"p":'), self.piece(None, "1}")) == [
            ("x", "a", "{}"),
            ("call_1", "b", '{"p":1}'),
        ]

    def test_whole_calls_that_all_say_index_0_are_several(self):
        assert self.calls(self.piece("a", "{}", index=0, id="x"), self.piece("a", '{"p":1}', index=0, id="y")) == [
            ("x", "a", "{}"),
            ("y", "a", '{"p":1}'),
        ]
        assert [call[1] for call in self.calls(self.piece("a", "{}", index=0), self.piece("b", "{}", index=0))] == [
            "a",
            "b",
        ]

    def test_a_new_id_on_every_piece_is_still_one_call(self):  # vLLM before 0.6, DeltaToolCall.id
        assert self.calls(
            self.piece("a", "", index=0, id="x1"),
            self.piece(None, '{"p":', index=0, id="x2"),
            self.piece(None, "1}", index=0, id="x3"),
        ) == [("x1", "a", '{"p":1}')]

    def test_a_name_repeated_on_every_piece_is_said_once(self):
        assert self.calls(self.piece("a", '{"p":', index=0, id="x"), self.piece("a", "1}", index=0, id="x")) == [
            ("x", "a", '{"p":1}')
        ]

    def test_arguments_as_an_object_become_json_text(self):
        ((_, _, arguments),) = self.calls(self.piece("a", {"city": "Zürich"}, index=0))
        assert json.loads(arguments) == {"city": "Zürich"}

    def test_indices_that_begin_at_1_or_skip_are_counted_in_order(self):
        events = events_of(delta(tool_calls=[self.piece("a", "{}", index=1), self.piece("b", "{}", index=5)]))
        assert [(event.index, event.name) for event in events] == [(0, "a"), (1, "b")]

    def test_a_piece_that_is_no_object_is_skipped(self):
        assert events_of(delta(tool_calls=[None, "call"])) == []

    def test_a_piece_without_a_function_does_no_harm(self):
        assert self.calls({"index": 0, "id": "x"}, self.piece("a", "{}", index=0)) == [("x", "a", "{}")]


class TestThinking:
    @staticmethod
    def split(*pieces: str) -> Generation:
        chunks = [delta(content=piece) for piece in pieces]
        stream = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in [*chunks, finish()])
        data = stream.encode()
        cuts, at = [], 0
        while (at := data.find(b"\n\n", at) + 2) > 1:
            cuts.append(at)
        return read(data, cuts)[0]  # the k-th chunk arrives k seconds after send

    @pytest.mark.parametrize("place", range(1, len("<think>So</think>\n\nYes")))
    def test_cut_at_any_place_it_is_the_same(self, place):
        whole = "<think>So</think>\n\nYes"
        generation = self.split(whole[:place], whole[place:])
        assert (generation.reasoning, generation.text) == ("So", "Yes")

    @given(cuts=st.lists(st.integers(1, 40), max_size=20))
    @settings(max_examples=100, deadline=None)
    def test_cut_into_any_pieces_it_is_the_same(self, cuts):
        whole = "\n<think>a < b </ think </thin </think> <think>Yes</think>"
        places = [0, *sorted({cut for cut in cuts if cut < len(whole)}), len(whole)]
        generation = self.split(*(whole[a:b] for a, b in pairwise(places)))
        assert (generation.reasoning, generation.text) == ("a < b </ think </thin ", "<think>Yes</think>")

    @pytest.mark.parametrize("place", range(1, len("So it is.</think>\n\nYes")))
    def test_without_the_opening_tag_all_before_the_closing_one_was_reasoning(self, place):
        whole = "So it is.</think>\n\nYes"
        generation = self.split(whole[:place], whole[place:])
        assert (generation.reasoning, generation.text) == ("So it is.", "Yes")

    def test_thinking_that_never_ends_is_reasoning(self):
        generation = self.split("<think>", "On and", " on </thi")
        assert (generation.reasoning, generation.text) == ("On and on </thi", "")

    def test_what_only_looks_like_a_tag_is_text(self):
        assert self.split("<", "b>bold</b> ", "<").text == "<b>bold</b> <"
        assert self.split("1 <", " 2").text == "1 < 2"
        assert self.split("<thinking>").text == "<thinking>"

    def test_a_tag_in_the_middle_of_the_answer_is_text(self):
        assert self.split("Write ", "<think>", " first").text == "Write <think> first"

    def test_tags_are_text_where_reasoning_has_a_field_of_its_own(self):
        events = events_of(delta(reasoning="hm"), delta(content="<think>"), delta(content="a</think>"))
        assert texts(events) == [("ReasoningDelta", "hm"), ("TextDelta", "<think>"), ("TextDelta", "a</think>")]

    def test_empty_thinking_leaves_the_answer_alone(self):
        generation = self.split("<think>\n\n</think>\n\n", "Yes")
        assert generation.reasoning.strip() == "" and generation.text == "Yes"

    def test_every_chunk_with_tokens_is_stamped_tags_and_white_space_too(self):
        generation = self.split("<think>", "So", "</think>", "\n\n", "Yes", ".")
        assert generation.reasoning_at_s == (1.0, 2.0, 3.0, 4.0)
        assert generation.text_at_s == (5.0, 6.0)
        assert (generation.ttft_ms, generation.ttft_text_ms) == (1000.0, 5000.0)

    def test_a_chunk_held_back_to_see_what_it_is_keeps_its_own_stamp(self):
        assert self.split("<", "b>", "!").text_at_s == (1.0, 2.0, 3.0)
        assert self.split("<", "think>", "So</", "think>", "Yes").reasoning_at_s == (1.0, 2.0, 3.0, 4.0)
        assert self.split("So", "</think>", "Yes").reasoning_at_s == (1.0, 2.0)
        assert self.split("Yes <").text_at_s == (1.0, 2.0)  # what is left is given out with the finish reason
        assert self.split("<").text_at_s == (1.0,)


class TestFaults:
    @pytest.mark.parametrize(
        ("line", "payload"),
        [
            pytest.param(
                'data: {"error":{"code":500,"message":"boom","type":"server_error"}}',
                {"error": {"code": 500, "message": "boom", "type": "server_error"}},
                id="llama.cpp, vLLM: an object",
            ),
            pytest.param('data: {"error":"boom"}', {"error": "boom"}, id="Ollama, LM Studio, mlx-lm: text"),
            pytest.param(
                'data: {"object":"error","message":"boom","type":"InternalServerError","param":null,"code":500}',
                {"object": "error", "message": "boom", "type": "InternalServerError", "param": None, "code": 500},
                id="older vLLM, SGLang",
            ),
            pytest.param('data: {"detail":"boom"}', {"detail": "boom"}, id="FastAPI"),
            pytest.param('data: {"message":"boom"}', {"message": "boom"}, id="a message alone"),
            pytest.param('{"error":{"message":"boom"}}', {"error": {"message": "boom"}}, id="without data:"),
            pytest.param(
                'error: {"code":500,"message":"boom","type":"server_error"}',
                {"error": {"code": 500, "message": "boom", "type": "server_error"}},
                id="older llama.cpp: a field of its own",
            ),
            pytest.param('event: error\ndata: {"error":"boom"}', {"error": "boom"}, id="LM Studio: a named event"),
            pytest.param("error: boom", {"error": "boom"}, id="text in a field of its own"),
        ],
    )
    def test_an_error_in_mid_stream_is_raised_with_what_it_said(self, line, payload):
        reader = StreamReader()
        assert texts(reader.feed(b'data: {"choices":[{"index":0,"delta":{"content":"A"}}]}\n\n', 1.0)) == [
            ("TextDelta", "A")
        ]
        with pytest.raises(StreamFault) as caught:
            reader.feed(line.encode() + b"\n\n", 2.0)
        assert caught.value.payload == payload

    @given(cut=st.integers(1, 200))
    @settings(max_examples=40, deadline=None)
    def test_what_came_before_an_error_is_not_lost_wherever_the_bytes_are_cut(self, cut):
        chunks = [delta(content="One"), delta(content=" two <"), {"error": {"message": "boom"}}]
        data = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode()
        reader, events = StreamReader(), []
        with pytest.raises(StreamFault) as caught:
            for piece in (data[:cut], data[cut:]):
                events += reader.feed(piece, 1.0)
        assert "".join(text for _, text in texts([*events, *caught.value.events])) == "One two <"

    def test_an_error_with_a_null_choices_member_is_one(self):
        with pytest.raises(StreamFault):
            events_of({"choices": None, "error": {"message": "boom"}})

    def test_a_line_that_is_no_json_is_skipped_and_counted(self):
        generation, reader = read("data: {not json\n\nno field at all\n\n" + VLLM)
        assert generation.text == "The capital" and reader.malformed == 1

    def test_fields_that_are_not_data_are_skipped(self):
        generation, reader = read("retry: 3000\nid: 7\nevent: message\n" + VLLM)
        assert generation.text == "The capital" and reader.malformed == 0

    def test_an_empty_data_line_is_skipped(self):
        assert read("data:\n\ndata: \n\n" + VLLM)[1].malformed == 0

    def test_data_without_a_space_is_read(self):
        assert read(VLLM.replace("data: ", "data:"))[0].text == "The capital"

    def test_the_end_without_done_and_without_finish_reason_shows(self):
        _, reader = read(VLLM[: VLLM.index("data: [DONE]")])
        assert reader.finish_reason == "stop" and not reader.done
        _, reader = read('data: {"choices":[{"index":0,"delta":{"content":"A"}}]}\n\n')
        assert reader.finish_reason is None and not reader.done

    def test_done_without_a_finish_reason_shows(self):
        _, reader = read('data: {"choices":[{"index":0,"delta":{"content":"A"}}]}\n\ndata: [DONE]\n\n')
        assert reader.done and reader.finish_reason is None

    def test_a_last_line_without_a_line_end_is_read(self):
        generation, reader = read(VLLM.removesuffix("\n\n"))
        assert reader.done and generation.finish_reason == "stop"
        cut = 'data: {"choices":[{"index":0,"delta":{"content":"A"},"finish_reason":"stop"}]}'
        assert read(cut)[0].text == "A"

    def test_a_last_line_that_was_cut_is_counted_as_malformed(self):
        generation, reader = read(VLLM[: VLLM.index(" capital") + 3])
        assert generation.text == "The" and reader.malformed == 1

    def test_a_line_of_a_megabyte_is_read(self):
        word = "x" * 1_000_000
        data = f"data: {json.dumps(delta(content=word))}\n\n".encode()
        generation, _ = read(data, list(range(0, len(data), 16_384)))
        assert generation.text == word

    def test_a_line_without_end_is_given_up(self):
        reader = StreamReader()
        piece = b"x" * (MOST_LINE // 4)
        with pytest.raises(StreamFault, match="line of more than"):
            for _ in range(5):
                reader.feed(piece, 1.0)

    def test_halves_of_a_character_in_two_chunks_become_the_character(self):
        # JavaScript servers write the halves of a surrogate pair as two escapes where a token ends between them.
        lines = [
            r'{"choices":[{"index":0,"delta":{"content":"a\ud83d"}}]}',
            r'{"choices":[{"index":0,"delta":{"content":"\ude00b"}}]}',
        ]
        generation, reader = read("".join(f"data: {line}\n\n" for line in lines))
        assert generation.text == "a😀b" and reader.malformed == 0

    def test_half_a_character_that_is_never_completed_becomes_a_replacement(self):
        lines = [
            r'{"choices":[{"index":0,"delta":{"content":"a\ud83d"}}]}',
            r'{"choices":[{"index":0,"delta":{"content":"b"}}]}',
        ]
        generation, _ = read("".join(f"data: {line}\n\n" for line in lines))
        assert generation.text == "a\N{REPLACEMENT CHARACTER}b"

    def test_bytes_that_are_no_utf8_become_a_replacement(self):
        generation, reader = read(b'data: {"choices":[{"index":0,"delta":{"content":"a\xc3"}}]}\n\n')
        assert generation.text == "a\N{REPLACEMENT CHARACTER}" and reader.malformed == 0


MEMBERS = ["choices", "delta", "message", "content", "index", "finish_reason", "tool_calls", "function", "name"]
MEMBERS += ["arguments", "id", "usage", "prompt_tokens", "completion_tokens_details", "logprobs", "reasoning", "model"]
ODD = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-2, 2), st.floats(), st.sampled_from(["", "a", "<think>", "\ud83d"])
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=4),
    max_leaves=10,
)


class TestOddReplies:
    """Members of the wrong type, anywhere: nothing of it may end in an exception but a fault of the stream."""

    CHUNKS = st.one_of(
        ODD,
        st.builds(lambda odd: {"choices": odd}, ODD),
        st.builds(lambda odd: {"usage": odd, "model": odd}, ODD),
        st.builds(lambda odd: {"choices": [{"delta": odd, "logprobs": odd, "finish_reason": odd}]}, ODD),
        st.builds(lambda odd: delta(tool_calls=[odd, {"index": odd, "id": odd, "function": odd}]), ODD),
        st.builds(lambda odd: delta(content=odd, reasoning=odd, refusal=odd), ODD),
    )

    @given(chunks=st.lists(CHUNKS, max_size=4), body=ODD)
    @settings(max_examples=150, deadline=None)
    def test_they_are_skipped_or_a_fault(self, chunks, body):
        stream = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
        with contextlib.suppress(StreamFault):
            generation, reader = read(stream)
            json.dumps(generation.to_dict()).encode()
            assert reader.model is None or isinstance(reader.model, str)
        with contextlib.suppress(StreamFault):
            StreamReader().whole(body, 1.0)


class TestWholeReplies:
    # llama.cpp b11434, seen from a running server: a chat completion that was not streamed.
    BODY = json.loads(
        '{"choices":[{"finish_reason":"length","index":0,"message":{"role":"assistant","reasoning_content":"hm",'
        '"content":"Hey"}}],"created":1795333302,"model":"tiny","system_fingerprint":"b11434-7e4c0a9","object":'
        '"chat.completion","usage":{"completion_tokens":3,"prompt_tokens":56,"total_tokens":59},"id":"chatcmpl-1",'
        '"timings":{"predicted_per_second":2372.5}}'
    )

    def test_a_whole_reply_gives_the_same_events(self):
        reader = StreamReader()
        assert reader.whole(self.BODY, 2.0) == [
            ReasoningDelta(2.0, "hm"),
            TextDelta(2.0, "Hey"),
            Finished(2.0, "length"),
            UsageReport(2.0, Usage(prompt_tokens=56, completion_tokens=3)),
        ]
        assert reader.done and reader.model == "tiny"
        assert reader.facts["timings"] == {"predicted_per_second": 2372.5}

    def test_thinking_between_tags_is_split_off(self):
        body = {"choices": [{"message": {"content": "<think>\nSo</think>\n\nYes"}, "finish_reason": "stop"}]}
        assert texts(StreamReader().whole(body, 1.0)) == [("ReasoningDelta", "\nSo"), ("TextDelta", "Yes")]

    def test_whole_tool_calls_are_read_with_content_null(self):
        calls = [{"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}] * 2
        body = {"choices": [{"message": {"content": None, "tool_calls": calls}, "finish_reason": "tool_calls"}]}
        events = StreamReader().whole(body, 1.0)
        assert [(e.index, e.id, e.name) for e in events if isinstance(e, ToolCallDelta)] == [
            (0, "x", "f"),
            (1, "call_1", "f"),
        ]

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(
                {"error": "Unexpected endpoint or method. (POST /chat/completions)"}, id="LM Studio, HTTP 200"
            ),
            pytest.param({"error": {"message": "boom"}, "choices": [{"message": {"content": "A"}}]}, id="error beside"),
            pytest.param({"choices": None}, id="choices null"),
            pytest.param({"choices": []}, id="choices empty"),
            pytest.param({"choices": [None]}, id="a choice that is null"),
            pytest.param({}, id="an empty object"),
            pytest.param([], id="a list"),
            pytest.param("Ollama is running", id="text"),
            pytest.param(None, id="null"),
        ],
    )
    def test_what_is_no_completion_is_a_fault_that_keeps_it(self, body):
        with pytest.raises(StreamFault) as caught:
            StreamReader().whole(body, 1.0)
        assert caught.value.payload == body

    def test_an_empty_message_is_an_empty_answer(self):
        body = {"choices": [{"message": None, "finish_reason": "stop"}]}
        assert StreamReader().whole(body, 1.0) == [Finished(1.0, "stop")]
