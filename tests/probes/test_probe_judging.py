"""Every judgement by answers made by hand, and the reading of the bytes that they are made from."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import pytest

from mamba_nb.backends._reader import StreamFault
from mamba_nb.errors import (
    AuthenticationFailed,
    ContextOverflow,
    EndpointNotFound,
    RateLimited,
    RequestRejected,
    ServerFailed,
    ServerTimeout,
    ServerUnreachable,
    StreamInterrupted,
    ToolsNotSupported,
)
from mamba_nb.probes.context import Measured, Sized, judge_context, judge_overflow
from mamba_nb.probes.embedding import judge_embeddings
from mamba_nb.probes.output import judge_output
from mamba_nb.probes.picture import SIDE, png
from mamba_nb.probes.reasoning import judge_reasoning
from mamba_nb.probes.repeating import judge_repeatable, judge_seed
from mamba_nb.probes.replies import BrokenOff, Reply, failed_reply, read_reply
from mamba_nb.probes.sampling import judge_limit, judge_logprobs, judge_several
from mamba_nb.probes.stop import judge_stop
from mamba_nb.probes.streaming import judge_streaming, judge_usage
from mamba_nb.probes.structured import judge_object, judge_schema
from mamba_nb.probes.system import judge_system
from mamba_nb.probes.tool_choice import judge_named, judge_parallel, judge_required
from mamba_nb.probes.tools import judge_tools
from mamba_nb.probes.vision import judge_vision
from mamba_nb.records import ToolCall

FAILURES = [
    ServerUnreachable("gone"),
    ServerTimeout("slow"),
    StreamInterrupted("cut"),
    RateLimited("busy", server_says="too many requests with tools, stop, seed, n, logprobs, system role, image"),
    AuthenticationFailed("key", server_says="stream, tools and response_format need a key"),
    ServerFailed("failed", server_says="out of memory"),
    RequestRejected("refused", server_says="something else is wrong"),
]
JUDGES = [
    judge_streaming,
    judge_usage,
    lambda reply: judge_stop(reply, "1, 2, 3", "3"),
    lambda reply: judge_seed([said("x"), reply], []),
    lambda reply: judge_repeatable([said("x"), reply]),
    judge_logprobs,
    judge_several,
    lambda reply: judge_limit(reply, 48),
    lambda reply: judge_system([reply]),
    judge_reasoning,
    lambda reply: judge_object([reply]),
    lambda reply: judge_schema([reply]),
    lambda reply: judge_tools([reply]),
    judge_required,
    judge_named,
    lambda reply: judge_parallel([reply]),
    lambda reply: judge_vision([reply]),
    judge_embeddings,
    judge_output,
    lambda reply: judge_context(Measured(4096, 16_000, failure=reply)),
    lambda reply: judge_overflow(Measured(4096, 16_000, failure=reply)),
    lambda reply: judge_context(Measured(4096, 16_000, [Sized(4700, reply, "mango")])),
    lambda reply: judge_overflow(Measured(4096, 16_000, [Sized(4700, reply, "mango")])),
]


def said(text: str, **more: Any) -> Reply:
    return Reply(text=text, finish_reason=more.pop("finish_reason", "stop"), choices=1, **more)


def calling(*calls: tuple[str, str]) -> Reply:
    made = tuple(ToolCall(id=str(i), name=name, arguments=arguments) for i, (name, arguments) in enumerate(calls))
    return Reply(tool_calls=made, finish_reason="tool_calls", choices=1)


def rejected(words: str, kind: type = RequestRejected) -> Reply:
    return failed_reply(kind("refused", server_says=words))


@pytest.mark.parametrize("judge", JUDGES, ids=range(len(JUDGES)))
@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_no_failed_request_is_ever_a_no(judge, error):
    finding = judge(failed_reply(error))
    assert finding.verdict == "unknown" and finding.fact is None
    assert error.message in finding.why


@pytest.mark.parametrize(
    ("judge", "expected"),
    [
        # streaming
        (lambda: judge_streaming(said("1, 2", streamed=True, pieces=4)), "yes"),
        (lambda: judge_streaming(said("1, 2", streamed=True, pieces=1)), "partly"),
        (lambda: judge_streaming(said("1, 2")), "no"),
        (lambda: judge_streaming(rejected("Streaming is not supported for this model")), "no"),
        (lambda: judge_usage(said("1", streamed=True, usage_place="each chunk")), "yes"),
        (lambda: judge_usage(said("1", streamed=True)), "no"),
        # stop
        (lambda: judge_stop(said("1, 2, "), "1, 2, 3, 4", "3"), "yes"),
        (lambda: judge_stop(said(""), "1, 2, 3, 4", "1"), "yes"),
        (lambda: judge_stop(said("1, 2, 3"), "1, 2, 3, 4", "3"), "partly"),
        (lambda: judge_stop(said("1, 2, 3, 4"), "1, 2, 3, 4", "3"), "no"),
        (lambda: judge_stop(said("One, two"), "1, 2, 3, 4", "3"), "unknown"),
        (lambda: judge_stop(rejected("stop is not supported"), "1, 2", "2"), "no"),
        # seed
        (lambda: judge_seed([said("a"), said("a")], [said("b")]), "yes"),
        (lambda: judge_seed([said("a"), said("b"), said("b")], [said("c")]), "partly"),
        (lambda: judge_seed([said("a"), said("b"), said("c")], []), "no"),
        (lambda: judge_seed([said("a"), said("a")], [said("a"), said("a")]), "unknown"),
        (lambda: judge_seed([said(""), said("")], []), "unknown"),
        (lambda: judge_seed([rejected("seed: extra fields not permitted")], []), "no"),
        (lambda: judge_repeatable([said("a"), said("a")]), "yes"),
        (lambda: judge_repeatable([said("a"), said("b"), said("b")]), "partly"),
        (lambda: judge_repeatable([said("a"), said("b"), said("c")]), "no"),
        # smaller things
        (lambda: judge_logprobs(said("a", logprobs=[{"logprob": -0.1, "top_logprobs": [{}]}])), "yes"),
        (lambda: judge_logprobs(said("a", logprobs=[{"logprob": -0.1}])), "partly"),
        (lambda: judge_logprobs(said("a", logprobs=[])), "no"),
        (lambda: judge_logprobs(said("a", logprobs=["odd", {"logprob": "x"}])), "no"),
        (lambda: judge_logprobs(rejected("logprobs is not supported with tools + stream")), "no"),
        (lambda: judge_several(Reply(choices=2)), "yes"),
        (lambda: judge_several(Reply(choices=1)), "no"),
        (lambda: judge_several(rejected("n_cmpl cannot be greater than the number of slots")), "no"),
        (lambda: judge_limit(said("w " * 48, finish_reason="length", completion_tokens=48), 48), "yes"),
        (lambda: judge_limit(said("w " * 48, finish_reason="length"), 48), "yes"),
        (lambda: judge_limit(said("w " * 20, finish_reason="length", completion_tokens=20), 48), "partly"),
        (lambda: judge_limit(said("w " * 200, completion_tokens=200), 48), "no"),
        (lambda: judge_limit(said("short", completion_tokens=2), 48), "unknown"),
        # system
        (lambda: judge_system([said("Banana.")]), "yes"),
        (lambda: judge_system([said("Paris."), said("I am Zebulon.")]), "yes"),
        (lambda: judge_system([said("Paris."), said("Sam."), said("I cannot.")]), "no"),
        (lambda: judge_system([rejected("System role not supported")]), "no"),
        # reasoning
        (lambda: judge_reasoning(said("51", reasoning="hm", reasoning_field="reasoning")), "yes"),
        (lambda: judge_reasoning(said("", reasoning="hm", finish_reason="length")), "yes"),
        (lambda: judge_reasoning(said("51")), "no"),
        (lambda: judge_reasoning(said("Let me think", finish_reason="length")), "unknown"),
        (lambda: judge_reasoning(rejected('"gemma3" does not support thinking')), "no"),
        # JSON
        (lambda: judge_object([said('{"a": 1}')]), "yes"),
        (lambda: judge_object([said('```json\n{"a": 1}\n```')]), "partly"),
        (lambda: judge_object([said("[1, 2]")]), "no"),
        (lambda: judge_object([said('{"a": ', finish_reason="length")]), "unknown"),
        (lambda: judge_object([said('{"a": ', finish_reason="length"), said('{"a": 1}')]), "yes"),
        (lambda: judge_schema([said('{"colour": "red", "amount": 3}')]), "yes"),
        (lambda: judge_schema([said('{"colour": "red", "amount": 3.0}')]), "yes"),
        (lambda: judge_schema([said('{"colour": "red", "amount": 3}'), said('{"a": 1}')]), "partly"),
        (lambda: judge_schema([said('{"colour": "pink", "amount": 3}')]), "no"),
        (lambda: judge_schema([said('{"colour": "red", "amount": true}')]), "no"),
        (lambda: judge_schema([said('{"colour": "red", "amount": 3, "more": 1}')]), "no"),
        (lambda: judge_schema([said('{"colour": "red"', finish_reason="length")]), "unknown"),
        (lambda: judge_schema([rejected("json_schema is not supported")]), "no"),
        # tools
        (lambda: judge_tools([calling(("get_weather", '{"city": "Paris, France"}'))]), "yes"),
        (lambda: judge_tools([said("Sunny."), calling(("get_weather", '{"city": "Paris"}'))]), "yes"),
        (lambda: judge_tools([calling(("get_weather", '{"city": "Paris"'))]), "partly"),
        (lambda: judge_tools([calling(("get_weather", "[]"))]), "partly"),
        (lambda: judge_tools([calling(("get_weather", '{"city": 7}'))]), "partly"),
        (lambda: judge_tools([calling(("get_time", "{}"))]), "partly"),
        (
            lambda: judge_tools([said('[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}}]')]),
            "partly",
        ),
        (lambda: judge_tools([said("Sunny."), said("Sunny."), said("Sunny.")]), "no"),
        (lambda: judge_tools([said("", reasoning="hm", finish_reason="length")]), "unknown"),
        (lambda: judge_tools([said("Sunny."), failed_reply(ServerTimeout("slow"))]), "unknown"),
        (lambda: judge_tools([rejected("x does not support tools", ToolsNotSupported)]), "no"),
        (lambda: judge_required(calling(("get_weather", "{}"))), "yes"),
        (lambda: judge_required(said("Hello.")), "no"),
        (lambda: judge_required(rejected('tool_choice="required" requires --tool-call-parser to be set')), "no"),
        (lambda: judge_named(calling(("get_local_time", "{}"))), "yes"),
        (lambda: judge_named(calling(("get_weather", "{}"))), "no"),
        (lambda: judge_named(rejected("Invalid tool_choice type: 'object'")), "no"),
        (
            lambda: judge_parallel(
                [calling(("get_weather", '{"city": "Tokyo"}'), ("get_weather", '{"city": "paris"}'))]
            ),
            "yes",
        ),
        (lambda: judge_parallel([calling(("get_weather", '{"city": "Paris"}'), ("get_local_time", "{}"))]), "partly"),
        (lambda: judge_parallel([calling(("get_weather", '{"city": "Paris"}'))]), "no"),
        (lambda: judge_parallel([said("Sunny in both.")]), "no"),
        # vision
        (lambda: judge_vision([said("Red."), said("Blue")]), "yes"),
        (lambda: judge_vision([said("The shape is red, not blue."), said("It is blue.")]), "yes"),
        (lambda: judge_vision([said("Red."), said("Green")]), "unknown"),
        (lambda: judge_vision([said("White", prompt_tokens=30)], said("?", prompt_tokens=29)), "no"),
        (lambda: judge_vision([said("White", prompt_tokens=300)], said("?", prompt_tokens=29)), "unknown"),
        (lambda: judge_vision([said("I cannot see images, I am a text model.")]), "no"),
        (lambda: judge_vision([rejected("image input is not supported - hint", ServerFailed)]), "no"),
        (lambda: judge_vision([rejected("smollm2 is not a multimodal model")]), "no"),
        # embeddings
        (lambda: judge_embeddings(vectors([1, 0], [0.9, 0.1], [0, 1])), "yes"),
        (lambda: judge_embeddings(vectors([1, 0], [0, 1], [1, 0])), "partly"),
        (lambda: judge_embeddings(vectors([0, 0], [0, 0], [0, 0])), "partly"),
        (lambda: judge_embeddings(vectors([1, 0], [1], [1, 0])), "unknown"),
        (lambda: judge_embeddings(vectors([1, 0])), "unknown"),
        (lambda: judge_embeddings(vectors("a", None, [1])), "unknown"),
        (lambda: judge_embeddings(Reply(body={"data": None})), "unknown"),
        (lambda: judge_embeddings(rejected("Not Found", EndpointNotFound)), "no"),
        (lambda: judge_embeddings(rejected("Start it with `--embeddings`", ServerFailed)), "no"),
        # output
        (lambda: judge_output(said("OK.")), "yes"),
        (lambda: judge_output(rejected("max_tokens is too large")), "partly"),
        (lambda: judge_output(rejected("max_tokens must be less than or equal to 4,096")), "yes"),
    ],
)
def test_judgements_by_hand(judge, expected):
    finding = judge()
    assert finding.verdict == expected
    assert len(finding.why) > 10
    if finding.verdict == "unknown":
        assert finding.fact is None


def vectors(*found: Any) -> Reply:
    return Reply(body={"data": [{"embedding": vector} for vector in found]})


# the context


def too_long(prompt: int | None, context: int | None) -> Reply:
    error = ContextOverflow("too long", server_says="exceeds the available context size")
    error.prompt_tokens, error.context = prompt, context
    return failed_reply(error)


@pytest.mark.parametrize(
    ("tried", "declared", "verdict", "value", "overflow"),
    [
        pytest.param(
            [Sized(4700, too_long(4700, 4096), "a"), Sized(3700, said("a", prompt_tokens=3690), "a")],
            4096, "yes", 4096, "yes", id="refused with numbers, and the rest is there",
        ),
        pytest.param([Sized(4700, too_long(None, None), "a"), Sized(3700, said("a", prompt_tokens=3690), "a")],
            4096, "partly", 3700, "yes", id="refused without numbers"),
        pytest.param([Sized(4700, said("", prompt_tokens=2048), "a"), Sized(3700, said("", prompt_tokens=2048), "a")],
            4096, "partly", 2048, "no", id="half of what is declared"),
        pytest.param([Sized(4700, said("", prompt_tokens=2500), "a"), Sized(3700, said("", prompt_tokens=2100), "a")],
            4096, "partly", None, "no", id="cut by half: what is read is no context"),
        pytest.param([Sized(4700, said("", prompt_tokens=4096), "a"), Sized(3700, said("a", prompt_tokens=3700), "a")],
            4096, "yes", 4096, "no", id="as declared, and cut past that"),
        pytest.param([Sized(4700, said("no", prompt_tokens=4700), "a")],
            4096, "partly", 4700, "unknown", id="more than declared"),
        pytest.param([Sized(16_000, said("no", prompt_tokens=16_000), "a")],
            131_072, "partly", 16_000, "unknown", id="declared beyond what may be asked"),
        pytest.param([Sized(2000, said("a"), "a"), Sized(4000, said("no"), "a")],
            None, "partly", 2000, "unknown", id="no counts: only the word tells"),
        pytest.param([Sized(2000, said("no"), "a")], None, "unknown", None, "unknown", id="nothing tells"),
    ],
)  # fmt: skip
def test_contexts_by_hand(tried, declared, verdict, value, overflow):
    seen = Measured(declared, 16_384, tried)
    assert (judge_context(seen).verdict, judge_context(seen).value) == (verdict, value)
    assert judge_overflow(seen).verdict == overflow


# what is read


def sse(*chunks: Any) -> bytes:
    return b"".join(b"data: " + (json.dumps(chunk).encode()) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}] if delta is not None else []
    return {"choices": choices, **more}


USAGE = {"prompt_tokens": 5, "completion_tokens": 2}
ZEROS = {"prompt_tokens": 0, "completion_tokens": 0}


@pytest.mark.parametrize(
    ("chunks", "place"),
    [
        ([chunk({"content": "a"}), chunk({}, "stop"), chunk(None, usage=USAGE)], "a chunk of its own"),
        ([chunk({"content": "a"}), chunk({}, "stop", usage=USAGE)], "the chunk with the finish reason"),
        ([chunk({"content": "a"}, usage=USAGE), chunk({}, "stop", usage=USAGE)], "each chunk"),
        ([chunk({"content": "a"}, usage=ZEROS), chunk({}, "stop"), chunk(None, usage=USAGE)], "a chunk of its own"),
        ([chunk({"content": "a"}, usage=None), chunk({}, "stop", usage=None)], None),
    ],
)
def test_the_place_of_the_counts_is_where_they_say_something(chunks, place):
    reply = read_reply(sse(*chunks))
    assert (reply.usage_place, reply.text, reply.finish_reason, reply.pieces) == (place, "a", "stop", 1)


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_the_field_of_the_reasoning_is_told_streamed_and_whole(field):
    streamed = read_reply(sse(chunk({field: "hm"}), chunk({"content": "51"}, "stop")))
    message = {"role": "assistant", "content": "51", field: "hm"}
    whole = read_reply(json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode())
    for reply in (streamed, whole):
        assert (reply.reasoning_field, reply.reasoning, reply.text) == (field, "hm", "51")


def test_tags_in_the_text_are_reasoning_too():
    reply = read_reply(sse(chunk({"content": "<think>hm</think>51"}, "stop")))
    assert (reply.reasoning, reply.text) == ("hm", "51") and "tags" in reply.reasoning_field


def test_choices_are_counted():
    choices = [{"index": i, "message": {"content": "x"}, "finish_reason": "stop"} for i in range(2)]
    assert read_reply(json.dumps({"choices": choices}).encode()).choices == 2


def test_a_stream_that_breaks_off_and_one_that_is_an_error_are_no_answers():
    with pytest.raises(BrokenOff):
        read_reply(sse(chunk({"content": "a"})).replace(b"data: [DONE]\n\n", b""))
    for data in (b'{"error": "Unexpected endpoint"}', b"<html>", b"", b"null", b'{"choices": null}'):
        with pytest.raises(StreamFault):
            read_reply(data)


def test_the_picture_is_a_png_of_one_shape_on_white():
    for colour, shape, corner in (((220, 20, 30), "circle", False), ((20, 60, 220), "square", True)):
        data = png(colour, shape)
        assert data[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", data[16:24]) == (SIDE, SIDE)
        length = struct.unpack(">I", data[33:37])[0]
        rows = zlib.decompress(data[41 : 41 + length])
        assert len(rows) == SIDE * (3 * SIDE + 1)

        def pixel(x: int, y: int, rows: bytes = rows) -> tuple[int, ...]:
            start = y * (3 * SIDE + 1) + 1 + 3 * x
            return tuple(rows[start : start + 3])

        assert pixel(SIDE // 2, SIDE // 2) == colour and pixel(2, 2) == (255, 255, 255)
        inner = round(SIDE * 0.2)  # inside the square, outside the circle
        assert (pixel(inner, inner) == colour) is corner
        assert len(data) < 8_000
