"""The scripted server, driven by the standard library's HTTP client and by the openai client."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import gc
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mamba_nb.testing
from mamba_nb.testing import (
    LoggedRequest,
    Script,
    ScriptedServer,
    ServerProcess,
    closed_port,
    split_pieces,
    tar_pit,
    words,
)

CHAT = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]  # six words


def chat_body(**more):
    return {"model": "scripted-model", "messages": QUESTION, **more}


def call(server, method="GET", path="/v1/models", body=None, headers=None):
    """One request on a connection of its own: status, headers, body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request(method, path, body if isinstance(body, str | None) else json.dumps(body), headers or {})
        response = connection.getresponse()
        return response.status, dict(response.headers.items()), response.read()
    finally:
        connection.close()


def stream(server, **more):
    """The raw text of a streamed answer."""
    status, _, body = call(server, "POST", CHAT, chat_body(stream=True, **more))
    assert status == 200
    return body.decode()


def chunks(text):
    """The JSON chunks of a raw stream."""
    return [json.loads(line[5:]) for line in text.splitlines() if line.startswith("data:") and "[DONE]" not in line]


def deltas(text):
    return [choice["delta"] for chunk in chunks(text) for choice in chunk["choices"]]


def content(text):
    return "".join(delta.get("content") or "" for delta in deltas(text))


def send_and_leave(server, after=0, **more):
    """Ask for a stream, read until so many tokens came, hang up."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        body = json.dumps(chat_body(stream=True, **more)).encode()
        client.sendall(
            b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body)
        )
        server.wait_for_requests(1)
        server.wait_for_tokens(after)


def sync_client(server, **more):
    return openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0, **more)


# The answer itself.


def test_a_stream_is_exactly_these_bytes():
    with ScriptedServer(Script(text=["Par", "is"])) as server:
        raw = stream(server, stream_options={"include_usage": True})
        created = chunks(raw)[0]["created"]
    head = (
        'data: {"id":"chatcmpl-0000000000000001","object":"chat.completion.chunk",'
        f'"created":{created},"model":"scripted-model","choices":['
    )
    assert raw == (
        head
        + '{"index":0,"delta":{"role":"assistant","content":null},"logprobs":null,"finish_reason":null}]}\n\n'
        + head
        + '{"index":0,"delta":{"content":"Par"},"logprobs":null,"finish_reason":null}]}\n\n'
        + head
        + '{"index":0,"delta":{"content":"is"},"logprobs":null,"finish_reason":null}]}\n\n'
        + head
        + '{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
        + head
        + '],"usage":{"prompt_tokens":6,"completion_tokens":2,"total_tokens":8}}\n\n'
        "data: [DONE]\n\n"
    )


def test_an_answer_that_is_not_streamed_is_one_completion():
    with ScriptedServer(Script(text="It is Paris.", reasoning="Let me think.")) as server:
        status, headers, body = call(server, "POST", CHAT, chat_body())
    assert (status, headers["Content-Type"]) == (200, "application/json")
    reply = json.loads(body)
    assert reply["object"] == "chat.completion"
    assert reply["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "It is Paris.", "reasoning": "Let me think."},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert reply["usage"] == {"prompt_tokens": 6, "completion_tokens": 6, "total_tokens": 12}


def test_the_openai_client_reads_both_ways():
    with ScriptedServer(Script(text="It is Paris.")) as server, sync_client(server) as client:
        whole = client.chat.completions.create(model="scripted-model", messages=QUESTION)
        assert whole.choices[0].message.content == "It is Paris."
        with client.chat.completions.create(model="scripted-model", messages=QUESTION, stream=True) as pieces:
            got = [piece.choices[0].delta.content for piece in pieces]
    assert got == [None, "It", " is", " Paris.", None]
    assert server.connections == 1


@given(st.text())
def test_pieces_of_a_text_join_to_the_text(text):
    pieces = split_pieces(text)
    assert "".join(pieces) == text
    assert all(pieces)


def test_words_are_numbered():
    assert words(3) == ("word0", " word1", " word2")
    assert words(0) == ()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("reasoning", [{"reasoning": "Hm"}, {"reasoning": " yes"}, {"content": "Paris"}]),
        ("reasoning_content", [{"reasoning_content": "Hm"}, {"reasoning_content": " yes"}, {"content": "Paris"}]),
        ("think", [{"content": t} for t in ("<think>", "Hm", " yes", "</think>", "Paris")]),
        ("think_close_only", [{"content": t} for t in ("Hm", " yes", "</think>", "Paris")]),
    ],
)
def test_reasoning_travels_where_it_was_told(where, expected):
    with ScriptedServer(Script(text="Paris", reasoning="Hm yes", reasoning_field=where)) as server:
        assert deltas(stream(server))[1:-1] == expected


def test_tool_calls_come_in_pieces():
    script = Script(tool_calls=[{"name": "get_weather", "arguments": {"city": "Paris"}}, {"name": "now", "id": "abc"}])
    with ScriptedServer(script) as server:
        raw = stream(server)
    head = {"index": 0, "id": "call_0", "type": "function", "function": {"name": "get_weather", "arguments": ""}}
    assert deltas(raw)[1:] == [
        {"tool_calls": [head]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ' "Paris"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]},
        {"tool_calls": [{"index": 1, "id": "abc", "type": "function", "function": {"name": "now", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {},
    ]
    assert chunks(raw)[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_tool_calls_come_whole():
    script = Script(tool_calls=[{"name": "f", "arguments": '{"a": 1}'}], tool_call_style="whole")
    with ScriptedServer(script) as server:
        (_, call_delta, _) = deltas(stream(server))
    assert call_delta["tool_calls"] == [
        {"index": 0, "id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    ]


def test_tool_calls_come_without_ids():
    with ScriptedServer(Script(tool_calls=[{"name": "f"}], tool_call_style="no_ids")) as server:
        assert '"id":"call' not in stream(server)
        message = json.loads(call(server, "POST", CHAT, chat_body())[2])["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]


def test_the_openai_client_reads_a_tool_call_and_then_the_answer():
    with ScriptedServer(Script(text="Sunny.")) as server, sync_client(server) as client:
        server.enqueue(Script(tool_calls=[{"name": "get_weather", "arguments": {"city": "Paris"}}]))
        first = client.chat.completions.create(model="scripted-model", messages=QUESTION)
        second = client.chat.completions.create(model="scripted-model", messages=QUESTION)
    assert first.choices[0].finish_reason == "tool_calls"
    assert json.loads(first.choices[0].message.tool_calls[0].function.arguments) == {"city": "Paris"}
    assert second.choices[0].message.content == "Sunny."


def test_echo_repeats_the_last_user_message():
    parts = [{"type": "text", "text": "Say "}, {"type": "image_url"}, {"type": "text", "text": "this"}]
    messages = [*QUESTION, {"role": "assistant", "content": "Paris"}, {"role": "user", "content": parts}]
    with ScriptedServer(Script(echo=True)) as server:
        assert content(stream(server, messages=messages)) == "Say this"
        assert server.requests[0].prompt == "Say this"


def test_n_gives_so_many_choices():
    with ScriptedServer(Script(text="a b")) as server:
        raw = stream(server, n=2, stream_options={"include_usage": True})
        assert [c["index"] for chunk in chunks(raw) for c in chunk["choices"]] == [0, 1, 0, 1, 0, 1, 0, 1]
        assert chunks(raw)[-1]["usage"]["completion_tokens"] == 4
        whole = json.loads(call(server, "POST", CHAT, chat_body(n=3))[2])
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]


def test_max_tokens_cuts_the_answer():
    with ScriptedServer(Script(text=words(10))) as server:
        raw = stream(server, max_tokens=2)
        assert content(raw) == "word0 word1"
        assert chunks(raw)[-1]["choices"][0]["finish_reason"] == "length"
        assert chunks(stream(server, max_completion_tokens=10))[-1]["choices"][0]["finish_reason"] == "stop"
        server.script = Script(text=words(10), obey_max_tokens=False)
        assert len(content(stream(server, max_tokens=2)).split()) == 10


def test_the_finish_reason_can_ride_on_the_last_token():
    with ScriptedServer(Script(text="a b", finish_reason="length", finish_with_last_token=True)) as server:
        last = chunks(stream(server))[-1]["choices"][0]
    assert (last["delta"], last["finish_reason"]) == ({"content": " b"}, "length")


def test_a_finish_on_the_last_token_carries_what_the_last_chunk_carries():
    script = Script(text="a b", finish_with_last_token=True, usage="finish_chunk", timings={"predicted_n": 2})
    with ScriptedServer(script) as server:
        found = chunks(stream(server, stream_options={"include_usage": True}))
    assert [chunk.get("usage") for chunk in found] == [None, None, LAST]
    assert [chunk.get("timings") for chunk in found] == [None, None, {"predicted_n": 2}]


def test_odd_types_in_a_request_do_no_harm():
    with ScriptedServer(Script(text="a"), style="vllm") as server:
        odd = {"stream_options": "yes", "top_logprobs": "many", "n": "two", "max_tokens": "all", "logprobs": 1}
        assert content(stream(server, model=["list"], **odd)) == "a"
        odd_messages = [1, {"role": "user", "content": [1, {"text": 2}]}, {"role": "user", "content": None}]
        assert content(stream(server, messages=odd_messages)) == "a"
        assert server.requests[1].prompt == ""


def test_logprobs_are_given_where_asked_for():
    with ScriptedServer(Script(text=["hé"])) as server:
        raw = stream(server, logprobs=True, top_logprobs=2)
        (entry,) = chunks(raw)[1]["choices"][0]["logprobs"]["content"]
        assert (entry["token"], entry["logprob"], entry["bytes"]) == ("hé", -0.25, [104, 195, 169])
        assert [(t["token"], t["logprob"]) for t in entry["top_logprobs"]] == [("hé", -0.25), ("hé~1", -2.0)]
        whole = json.loads(call(server, "POST", CHAT, chat_body(logprobs=True))[2])
        assert whole["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []
        server.script = Script(logprobs=False)
        assert chunks(stream(server, logprobs=True))[1]["choices"][0]["logprobs"] is None


# Usage and the small print of chunks.

LAST = {"prompt_tokens": 6, "completion_tokens": 2, "total_tokens": 8}
ZERO = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def running(completion):
    return {"prompt_tokens": 6, "completion_tokens": completion, "total_tokens": 6 + completion}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ("last", ["-", "-", "-", "-", LAST]),
        ("each", [running(0), running(1), running(2), running(2), LAST]),
        ("finish_chunk", ["-", "-", "-", LAST]),
        ("zero_each", [ZERO, ZERO, ZERO, ZERO, LAST]),
        ("null_each", [None, None, None, None, LAST]),
        ("none", ["-", "-", "-", "-"]),
    ],
)
def test_usage_travels_where_it_was_told(usage, expected):
    with ScriptedServer(Script(text="a b", usage=usage)) as server:
        assert [c.get("usage", "-") for c in chunks(stream(server, stream_options={"include_usage": True}))] == expected
        assert [c.get("usage", "-") for c in chunks(stream(server))] == ["-"] * 4
        server.script = Script(text="a b", usage=usage, force_usage=True)
        assert [c.get("usage", "-") for c in chunks(stream(server))] == expected


def test_token_counts_can_be_told():
    script = Script(prompt_tokens=100, completion_tokens=50, cached_tokens=90)
    with ScriptedServer(script) as server:
        usage = json.loads(call(server, "POST", CHAT, chat_body())[2])["usage"]
    assert usage == {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 90},
    }


def test_small_print_of_chunks():
    script = Script(
        text="a b",
        role_every_chunk=True,
        null_content_first=False,
        blank_choices_first=True,
        model_in_reply="other",
        timings={"predicted_ms": 1.5},
        extra_chunk_fields={"provider": "x"},
    )
    with ScriptedServer(script) as server:
        found = chunks(stream(server))
    assert found[0]["choices"] == []
    assert [chunk["choices"][0]["delta"] for chunk in found[1:]] == [
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": " b"},
        {"role": "assistant"},
    ]
    assert {chunk["model"] for chunk in found} == {"other"}
    assert {chunk["provider"] for chunk in found} == {"x"}
    assert [chunk.get("timings") for chunk in found] == [None] * 4 + [{"predicted_ms": 1.5}]


def test_keepalive_comments_come_before_and_between():
    with ScriptedServer(Script(text="a b c", keepalive_comments=2, keepalive_between=True)) as server:
        lines = stream(server).splitlines()
    assert [line for line in lines if line.startswith(":")] == [
        ": keepalive 512/1024",
        ": keepalive 1024/1024",
        ": keepalive 512/1536",
        ": keepalive 1024/1536",
    ]
    assert lines[0].startswith(":")


# Time.


def test_tokens_leave_on_time_and_never_early():
    with ScriptedServer(Script(text=words(20), ttft_s=0.05, itl_s=0.01)) as server:
        stream(server)
        (request,) = server.requests
    assert len(request.token_sent_at) == 20
    assert len(request.sent_at) == 23  # the role, the finish, [DONE]
    assert request.token_sent_at == sorted(request.token_sent_at)
    for token, at in enumerate(request.token_sent_at):
        assert at - request.received_at >= 0.05 + 0.01 * token
    assert request.ended_at >= request.token_sent_at[-1]


def test_a_stall_is_a_silence_in_the_middle():
    with ScriptedServer(Script(text=words(4), stall_s=0.3, stall_after=1)) as server:
        stream(server)
        first, second, *_ = server.requests[0].token_sent_at
    assert second - first >= 0.29


def test_an_answer_that_is_not_streamed_takes_as_long():
    with ScriptedServer(Script(text=words(3), ttft_s=0.1, itl_s=0.1)) as server:
        call(server, "POST", CHAT, chat_body())
        (request,) = server.requests
    assert request.token_sent_at[0] - request.received_at >= 0.3 - 0.001


# Faults.


def test_error_in_mid_stream():
    body = {"error": {"message": "CUDA out of memory"}}
    with ScriptedServer(Script(text=words(4), fault="error_mid_stream", error_body=body)) as server:
        raw = stream(server)
        assert raw.endswith(
            ' word1"},"logprobs":null,"finish_reason":null}]}\n\ndata: {"error":{"message":"CUDA out of memory"}}\n\n'
        )
        with sync_client(server) as client, pytest.raises(openai.APIError, match="CUDA out of memory"):
            list(client.chat.completions.create(model="scripted-model", messages=QUESTION, stream=True))


@pytest.mark.parametrize("fault", ["cut", "reset"])
def test_a_connection_closed_in_mid_stream(fault):
    with ScriptedServer(Script(text=words(4), fault=fault, fault_after=3, itl_s=0.02)) as server:
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)) as caught:
            stream(server)
        server.wait_idle()
        assert (caught.type is ConnectionResetError) == (fault == "reset")
        assert len(server.requests[0].token_sent_at) == 3
        assert not server.requests[0].disconnected
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            call(server, "POST", CHAT, chat_body())


@pytest.mark.parametrize(
    ("fault", "text", "finish", "done"),
    [
        ("no_finish", "a b", None, True),
        ("eof_no_done", "a b", None, False),
        ("no_done", "a b", "stop", False),
        (None, "a b", "stop", True),
    ],
)
def test_how_a_stream_ends(fault, text, finish, done):
    with ScriptedServer(Script(text="a b", fault=fault)) as server:
        raw = stream(server)
    assert content(raw) == text
    assert chunks(raw)[-1]["choices"][0]["finish_reason"] == finish
    assert raw.endswith("data: [DONE]\n\n") == done


def test_fault_after_says_where():
    with ScriptedServer(Script(text="a b c d", fault="eof_no_done", fault_after=1)) as server:
        assert content(stream(server)) == "a"


def test_a_json_body_where_a_stream_was_asked_for():
    with ScriptedServer(Script(text="Hi", fault="json_instead_of_stream")) as server:
        status, headers, body = call(server, "POST", CHAT, chat_body(stream=True))
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body)["choices"][0]["message"]["content"] == "Hi"


def test_http_200_that_is_an_error():
    with ScriptedServer(Script(fault="error_200")) as server:
        for streamed in (True, False):
            status, _, body = call(server, "POST", CHAT, chat_body(stream=streamed))
            assert (status, body) == (200, b'{"error":"Unexpected endpoint or method. (POST /chat/completions)"}')


def test_a_garbage_line_in_the_middle():
    with ScriptedServer(Script(text="a b", fault="garbage_line")) as server:
        lines = stream(server).splitlines()
    assert lines.count("data: {not json") == 1
    assert "this line is no field of an event stream" in lines
    assert lines[-2] == "data: [DONE]"


def test_other_line_ends_and_no_space():
    with ScriptedServer(Script(text="a", fault="crlf")) as server:
        raw = call(server, "POST", CHAT, chat_body(stream=True))[2]
        assert raw.count(b"\r\n\r\n") == 4
        assert b"\n" not in raw.replace(b"\r\n", b"")
        server.script = Script(text="a", fault="no_space")
        assert stream(server).count("data:{") == 3


@pytest.mark.parametrize("fault", ["split_utf8", "drip"])
def test_characters_cut_across_writes_come_whole_again(fault):
    with ScriptedServer(Script(text=["né", " 日本", " 🐍!"], fault=fault)) as server:
        assert content(stream(server)) == "né 日本 🐍!"
        body = json.dumps(chat_body(stream=True)).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        raw = raw_exchange(server, head.encode() + body)
    sizes = [int(size, 16) for size in re.findall(rb"\r\n([0-9a-f]+)\r\n", raw)]
    if fault == "drip":
        assert max(sizes) == 7 and len(sizes) > 100
    else:  # five characters of two to four bytes, each cut after its first byte
        assert not any(char.encode() in raw for char in "é日本🐍")
        assert len(sizes) == 6 + 4 + 1


def test_half_an_emoji_a_chunk():
    with ScriptedServer(Script(text=["a🐍b"], fault="half_emoji")) as server:
        raw = stream(server)
    assert '"content":"a\\ud83d"' in raw and '"content":"\\udc0db"' in raw
    halves = content(raw)
    assert halves.encode("utf-16", "surrogatepass").decode("utf-16") == "a🐍b"


@pytest.mark.parametrize(
    ("body", "kind", "raw"),
    [
        ("<html><h1>502 Bad Gateway</h1></html>", "text/html; charset=utf-8", b"<html><h1>502 Bad Gateway</h1></html>"),
        ("404 page not found", "text/plain; charset=utf-8", b"404 page not found"),
        ({"detail": "Not Found"}, "application/json", b'{"detail":"Not Found"}'),
        (b"\xff\xfe", None, b"\xff\xfe"),
        ("", "text/plain; charset=utf-8", b""),
    ],
)
def test_an_http_error_has_exactly_the_body_it_was_given(body, kind, raw):
    with ScriptedServer(Script(status=502, error_body=body, headers={"Retry-After": "7"})) as server:
        status, headers, got = call(server, "POST", CHAT, chat_body())
    assert (status, headers.get("Content-Type"), headers["Retry-After"], got) == (502, kind, "7", raw)


def test_the_openai_client_sees_the_status():
    with ScriptedServer(Script(status=429)) as server, sync_client(server) as client:
        with pytest.raises(openai.RateLimitError, match="too many requests"):
            client.chat.completions.create(model="scripted-model", messages=QUESTION)
        server.script = Script(status=401)
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="scripted-model", messages=QUESTION)


def test_a_script_that_is_wrong_says_so_at_once():
    with pytest.raises(ValueError, match=r"Script\.fault is 'cutt'; it must be one of error_mid_stream, cut"):
        Script(fault="cutt")
    with pytest.raises(ValueError, match=r"Script\.ttft_s is -1; it must not be negative"):
        Script(ttft_s=-1)
    with pytest.raises(ValueError, match="must be a mapping with a name"):
        Script(tool_calls=[{"arguments": "{}"}])
    with pytest.raises(ValueError, match="no server style 'olama'; there are plain, ollama"):
        ScriptedServer(style="olama")


def test_a_script_function_that_fails_is_an_http_500_with_its_traceback():
    def broken(request):
        raise KeyError("the test's own mistake")

    with ScriptedServer(broken) as server:
        status, _, body = call(server, "POST", CHAT, chat_body())
    assert status == 500
    assert b"the test's own mistake" in body


# Who left, and when.


def test_a_client_that_leaves_between_tokens_is_noticed_at_once():
    with ScriptedServer(Script(text=words(3), itl_s=3600)) as server:
        send_and_leave(server, after=1)
        server.wait_for_disconnects(1)
        server.wait_idle()
        (request,) = server.requests
    assert request.disconnected
    assert len(request.token_sent_at) == 1
    assert request.ended_at is not None


def test_a_client_that_leaves_before_the_first_token_is_noticed():
    with ScriptedServer(Script(never=True)) as server:
        send_and_leave(server)
        server.wait_for_disconnects(1)
        assert (server.active, server.requests[0].status) == (0, None)


def test_a_client_that_leaves_while_it_waits_for_a_slot_is_noticed():
    with ScriptedServer(Script(ttft_s=3600), slots=1) as server:
        first = threading.Thread(target=lambda: send_and_leave_when(server, done))
        done = threading.Event()
        first.start()
        server.wait_for_requests(1)
        with socket.create_connection(("127.0.0.1", server.port)) as second:
            body = json.dumps(chat_body()).encode()
            second.sendall(b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
            server.wait_for_requests(2)
        server.wait_for_disconnects(1)
        assert (server.active, server.peak_answering) == (1, 1)
        done.set()
        first.join()
        server.wait_for_disconnects(2)


def send_and_leave_when(server, done):
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        body = json.dumps(chat_body()).encode()
        client.sendall(b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
        assert done.wait(20)


def test_a_client_that_reads_nothing_and_leaves_is_noticed():
    with ScriptedServer(Script(text=["x" * 1_000_000] * 50)) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            body = json.dumps(chat_body(stream=True)).encode()
            client.sendall(b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
            server.wait_for_tokens(1)
        server.wait_for_disconnects(1)
        assert len(server.requests[0].token_sent_at) < 50


def test_a_finished_answer_is_no_disconnect():
    with ScriptedServer() as server:
        stream(server)
        server.wait_idle()
        assert server.disconnects == 0


def test_leaving_an_openai_stream_early_is_logged():
    async def leave():
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client:
            answer = await client.chat.completions.create(model="scripted-model", messages=QUESTION, stream=True)
            async with answer:
                async for piece in answer:
                    if piece.choices[0].delta.content:
                        break

    with ScriptedServer(Script(text=words(100), itl_s=0.2)) as server:
        asyncio.run(leave())
        server.wait_for_disconnects(1)


def test_waiting_in_vain_says_what_there_was():
    with ScriptedServer() as server:
        call(server)
        with pytest.raises(TimeoutError, match=r"2 requests were awaited; .*path='/v1/models'"):
            server.wait_for_requests(2, timeout_s=0.05)


# Which script.


def test_each_model_has_its_script():
    with ScriptedServer(scripts={"a": Script(text="I am a"), "b": Script(text="I am b")}) as server:
        assert server.models == ("a", "b")
        assert content(stream(server, model="b")) == "I am b"
        assert content(stream(server, model="a")) == "I am a"
        assert [request.model for request in server.requests] == ["b", "a"]


def test_queued_scripts_are_used_first_and_once():
    with ScriptedServer(Script(text="standing"), models=["a", "b"]) as server:
        server.enqueue(Script(text="one"), Script(text="two"))
        server.enqueue(Script(text="for b"), model="b")
        server.enqueue(Script(status=503), path="/v1/models")
        assert content(stream(server, model="b")) == "one"
        assert content(stream(server, model="a")) == "two"
        assert content(stream(server, model="a")) == "standing"
        assert content(stream(server, model="b")) == "for b"
        assert [call(server)[0], call(server)[0]] == [503, 200]


def test_a_function_chooses_the_script():
    with ScriptedServer(lambda request: Script(text=request.prompt.upper())) as server:
        assert content(stream(server)) == "WHAT IS THE CAPITAL OF FRANCE?"


def test_a_path_has_its_script():
    with ScriptedServer(scripts={"/v1/models": Script(status=502, error_body="<h1>proxy</h1>")}) as server:
        assert call(server)[2] == b"<h1>proxy</h1>"
        assert server.models == ("scripted-model",)


# Models, loading, slots.


def test_each_model_is_loaded_once():
    with ScriptedServer(models=["a", "b"], load_s=0.2) as server:
        for model in ("a", "b", "a", "b"):
            stream(server, model=model)
        waits = [request.token_sent_at[0] - request.received_at for request in server.requests]
    assert server.load_log == ["a", "b"]
    assert min(waits[:2]) >= 0.19


def test_one_model_at_a_time_swaps():
    with ScriptedServer(models=["a", "b"], one_model_at_a_time=True) as server:
        for model in ("a", "a", "b", "b", "a"):
            stream(server, model=model)
        assert (server.loads, server.load_log, server.loaded_models) == (3, ["a", "b", "a"], ["a"])


def test_a_swap_waits_until_the_loaded_model_is_idle():
    script = Script(text=words(3), itl_s=0.1)
    with ScriptedServer(script, models=["a", "b"], one_model_at_a_time=True) as server:
        threads = [threading.Thread(target=stream, args=(server,), kwargs={"model": m}) for m in ("a", "a", "b")]
        for count, thread in enumerate(threads, 1):
            thread.start()
            server.wait_for_requests(count)
        for thread in threads:
            thread.join()
        server.wait_idle()
        one, two, other = server.requests
    assert server.load_log == ["a", "b"]
    assert other.token_sent_at[0] >= max(one.ended_at, two.ended_at)


def test_loading_goes_on_after_the_client_left():
    with ScriptedServer(load_s=0.3) as server:
        send_and_leave(server)
        server.wait_for_disconnects(1)
        stream(server)
        assert server.loads == 1


def test_no_more_answers_at_once_than_slots():
    with ScriptedServer(Script(text=words(3), itl_s=0.02), slots=2) as server:
        threads = [threading.Thread(target=stream, args=(server,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.wait_idle()
        assert len(server.requests) == 6
        assert server.peak_answering <= 2


def test_many_streams_at_once():
    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client:

            async def one(number):
                messages = [{"role": "user", "content": f"number {number}"}]
                answer = await client.chat.completions.create(model="scripted-model", messages=messages, stream=True)
                async with answer:
                    return "".join([p.choices[0].delta.content or "" async for p in answer])

            return await asyncio.gather(*(one(number) for number in range(40)))

    with ScriptedServer(Script(echo=True, itl_s=0.02)) as server:
        assert asyncio.run(all_of_them()) == [f"number {number}" for number in range(40)]


def test_a_server_that_is_still_loading_answers_503():
    with ScriptedServer(style="llamacpp", loading_s=3600) as server:
        body = b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'
        for method, path in [("GET", "/health"), ("GET", "/v1/models"), ("POST", CHAT)]:
            status, headers, got = call(server, method, path)
            assert (status, headers["Server"], got) == (503, "llama.cpp", body)
        server.loading_s = 0
        assert call(server, path="/health")[2] == b'{"status":"ok"}'


# Paths.


def test_models_and_health():
    with ScriptedServer(models=["a"]) as server:
        listed = json.loads(call(server)[2])
        assert listed == {
            "object": "list",
            "data": [{"id": "a", "object": "model", "created": server.created, "owned_by": "scripted"}],
        }
        assert json.loads(call(server, path="/v1/models/a")[2]) == listed["data"][0]
        assert call(server, path="/v1/models/b")[0] == 404
        assert json.loads(call(server, path="/health")[2]) == {"status": "ok"}
        status, headers, body = call(server, "HEAD", "/v1/models")
        assert (status, body) == (200, b"") and int(headers["Content-Length"]) > 0


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("GET", "/nope", None, 404, "Invalid URL (GET /nope)"),
        ("GET", CHAT, None, 405, "Not allowed to GET"),
        ("POST", CHAT, "{not json", 400, "could not parse the JSON body"),
        ("POST", CHAT, "[]", 400, "must be an object"),
        ("POST", CHAT, "", 400, "could not parse the JSON body"),
        ("POST", CHAT, {"model": "scripted-model"}, 400, "Missing required parameter: 'messages'"),
        ("POST", CHAT, {"model": "scripted-model", "messages": []}, 400, "empty array"),
        ("POST", CHAT, {"messages": QUESTION}, 400, "you must provide a model parameter"),
        ("POST", CHAT, {"model": "nope", "messages": QUESTION}, 404, "The model `nope` does not exist"),
        ("POST", "/v1/embeddings", {"model": "scripted-model"}, 400, "invalid input"),
        ("POST", "/v1/embeddings", "{", 400, "could not parse the JSON body"),
    ],
)
def test_requests_that_are_refused(method, path, body, status, words):
    with ScriptedServer() as server:
        got, _, raw = call(server, method, path, body)
    assert got == status
    assert words in json.loads(raw)["error"]["message"]


def test_an_unknown_model_can_be_ignored():
    with ScriptedServer(unknown_model="ignore") as server:
        assert chunks(stream(server, model="nope"))[0]["model"] == "nope"


def test_embeddings_are_the_same_for_the_same_text_in_both_encodings():
    with ScriptedServer() as server, sync_client(server) as client:
        asked = ["one", "two", "one"]
        packed = client.embeddings.create(model="scripted-model", input=asked)  # the client asks for base64
        plain = client.embeddings.create(model="scripted-model", input=asked, encoding_format="float")
        short = client.embeddings.create(model="scripted-model", input="one", dimensions=3)
    assert server.requests[0].body["encoding_format"] == "base64"
    assert [item.embedding for item in packed.data] == [item.embedding for item in plain.data]
    first, second, third = (item.embedding for item in packed.data)
    assert first == third != second
    assert len(first) == 8 and len(short.data[0].embedding) == 3
    assert sum(number * number for number in first) == pytest.approx(1.0)
    assert packed.usage.prompt_tokens == 3


# HTTP.


def test_a_connection_is_reused():
    with ScriptedServer() as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        for _ in range(3):
            connection.request("POST", CHAT, json.dumps(chat_body(stream=True)))
            connection.getresponse().read()
        connection.close()
        assert (server.connections, [request.connection for request in server.requests]) == (1, [0, 0, 0])


def test_a_client_that_wants_no_reuse_gets_none():
    with ScriptedServer() as server:
        _, headers, _ = call(server, headers={"Connection": "close"})
    assert headers["Connection"] == "close"


def test_an_idle_connection_can_be_closed():
    with ScriptedServer(keep_alive_s=1.0) as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        client.settimeout(20)
        client.sendall(b"GET /health HTTP/1.1\r\n\r\n")
        received = b"".join(iter(lambda: client.recv(65536), b""))
    assert received.endswith(b'{"status":"ok"}')


def raw_exchange(server, *pieces):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        for piece in pieces:
            client.sendall(piece)
            time.sleep(0.02)
        return b"".join(iter(lambda: client.recv(65536), b""))


def test_a_request_in_fragments_and_a_chunked_body():
    body = json.dumps(chat_body()).encode()
    with ScriptedServer(Script(text="Hi")) as server:
        received = raw_exchange(
            server,
            b"POST /v1/chat/compl",
            b"etions HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % 10 + body[:10],
            b"\r\n%x\r\n%b\r\n0\r" % (len(body) - 10, body[10:]),
            b"\n\r\n",
        )
        assert b'"content":"Hi"' in received
        assert server.requests[0].body == chat_body()


def test_two_requests_in_one_write_are_answered_in_order():
    with ScriptedServer() as server:
        received = raw_exchange(server, b"GET /health HTTP/1.1\r\n\r\nGET /nope HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert received.index(b'{"status":"ok"}') < received.index(b"Invalid URL (GET /nope)")


def test_http_1_0_gets_a_stream_without_chunks():
    body = json.dumps(chat_body(stream=True)).encode()
    with ScriptedServer(Script(text="Hi")) as server:
        received = raw_exchange(
            server, b"POST %b HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body)
        )
    head, _, rest = received.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in head
    assert rest.startswith(b"data: {") and rest.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400"),
        (b"GET /\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, b"431"),
    ],
)
def test_what_is_not_http_is_refused_and_the_connection_closed(sent, status):
    with ScriptedServer() as server:
        assert raw_exchange(server, sent).startswith(b"HTTP/1.1 " + status)
        assert server.requests == []
        assert call(server)[0] == 200


# Keys.

NO_KEY = {
    "error": {
        "message": "You didn't provide an API key.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
}


@pytest.mark.parametrize(
    ("style", "body"),
    [
        ("plain", NO_KEY),
        ("vllm", {"error": "Unauthorized"}),
        ("llamacpp", {"error": {"message": "Invalid API Key", "type": "authentication_error", "code": 401}}),
        ("ollama", {"error": "unauthorized"}),
    ],
)
def test_a_missing_key_is_refused_in_the_servers_words(style, body):
    with ScriptedServer(style=style, api_key="right-key") as server:
        status, _, raw = call(server)
        assert (status, json.loads(raw)) == (401, body)
        assert call(server, headers={"Authorization": "Bearer wrong-key"})[0] == 401
        assert call(server, headers={"Authorization": "Bearer right-key"})[0] == 200
        assert call(server, "POST", CHAT, chat_body())[0] == 401


def test_lm_studio_names_the_token_it_wants():
    with ScriptedServer(style="lmstudio", api_key="right-key") as server:
        status, _, raw = call(server)
        assert status == 401 and json.loads(raw)["error"]["code"] == "invalid_api_key"
        assert "An LM Studio API token is required" in json.loads(raw)["error"]["message"]
        assert call(server, path="/lmstudio-greeting")[0] == 200


@pytest.mark.parametrize(
    ("style", "open_paths", "guarded"),
    [
        ("vllm", ["/health", "/version"], ["/v1/models"]),
        ("llamacpp", ["/health", "/v1/health"], ["/props", "/models", "/v1/models"]),
    ],
)
def test_some_paths_need_no_key(style, open_paths, guarded):
    with ScriptedServer(style=style, api_key="k") as server:
        assert [call(server, path=path)[0] for path in open_paths] == [200] * len(open_paths)
        assert [call(server, path=path)[0] for path in guarded] == [401] * len(guarded)
        assert call(server, headers={"X-Api-Key": "k"})[0] == (200 if style == "llamacpp" else 401)


def test_a_key_shows_in_no_repr_and_no_log():
    with ScriptedServer(api_key="sk-secret-1") as server:
        call(server, headers={"Authorization": "Bearer sk-secret-1"})
        (request,) = server.requests
        shown = repr(server) + repr(request) + json.dumps(request.to_dict())
        assert "sk-secret" not in shown
        assert request.headers["authorization"] == "Bearer sk-secret-1"
        assert b"sk-wrong" not in call(server, headers={"Authorization": "Bearer sk-wrong"})[2]


# Styles.


def test_ollama_looks_like_ollama():
    with ScriptedServer(Script(text="a b", reasoning="hm"), style="ollama", models=["llama3.2"]) as server:
        assert call(server, path="/")[2] == b"Ollama is running"
        assert json.loads(call(server, path="/api/version")[2]) == {"version": "0.33.0"}
        assert json.loads(call(server, path="/api/tags")[2])["models"][0]["name"] == "llama3.2:latest"
        assert json.loads(call(server, path="/api/ps")[2]) == {"models": []}
        raw = stream(server, model="llama3.2:latest", n=2)
        (loaded,) = json.loads(call(server, path="/api/ps")[2])["models"]
        assert (loaded["name"], loaded["context_length"]) == ("llama3.2:latest", 4096)
        assert json.loads(call(server)[2])["data"][0]["owned_by"] == "library"
        assert call(server, path="/nope")[::2] == (404, b"404 page not found")
        assert call(server, path=CHAT)[::2] == (405, b"405 method not allowed")
        status, _, body = call(server, "POST", CHAT, chat_body(model="nope"))
        assert (status, json.loads(body)) == (
            404,
            {"error": {"message": "model 'nope' not found", "type": "not_found_error", "param": None, "code": None}},
        )
    assert deltas(raw) == [
        {"role": "assistant", "reasoning": "hm", "content": ""},
        {"content": "a"},
        {"content": " b"},
        {"content": ""},
    ]
    assert {chunk["system_fingerprint"] for chunk in chunks(raw)} == {"fp_ollama"}


def test_ollama_without_models_says_null():
    with ScriptedServer(style="ollama", models=[]) as server:
        assert json.loads(call(server)[2]) == {"object": "list", "data": None}


def test_ollama_lists_a_model_that_is_being_loaded():
    with ScriptedServer(style="ollama", models=["m"], load_s=3600) as server:
        send_and_leave(server, model="m")
        server.wait_for_disconnects(1)
        assert [m["name"] for m in json.loads(call(server, path="/api/ps")[2])["models"]] == ["m:latest"]
        assert server.loaded_models == []


FINISH_OF_VLLM = {"logprobs": None, "finish_reason": "stop", "stop_reason": None, "token_ids": None}


def test_vllm_looks_like_vllm():
    with ScriptedServer(Script(text="a"), style="vllm", models=["m"], context_length=2048) as server:
        status, headers, _ = call(server, path="/health")
        assert (status, headers["Server"], headers["Content-Length"]) == (200, "uvicorn", "0")
        assert json.loads(call(server, path="/version")[2]) == {"version": "0.32.0"}
        (entry,) = json.loads(call(server)[2])["data"]
        assert (entry["owned_by"], entry["max_model_len"], entry["root"], entry["parent"]) == ("vllm", 2048, "m", None)
        assert call(server, path="/nope")[::2] == (404, b'{"detail":"Not Found"}')
        assert call(server, path=CHAT)[::2] == (405, b'{"detail":"Method Not Allowed"}')
        assert call(server, "POST", "/v1/embeddings", {"model": "m", "input": "a"})[::2] == (
            404,
            b'{"detail":"Not Found"}',
        )
        assert json.loads(call(server, "POST", CHAT, chat_body(model="nope"))[2]) == {
            "error": {
                "message": "The model `nope` does not exist. Valid aliases: m.",
                "type": "NotFoundError",
                "param": "model",
                "code": 404,
            }
        }
        tokens = json.loads(call(server, "POST", "/tokenize", {"model": "m", "prompt": "Hello world"})[2])
        assert (tokens["count"], tokens["max_model_len"], len(tokens["tokens"])) == (2, 2048, 2)
        tokens = json.loads(call(server, "POST", "/tokenize", {"model": "m", "messages": QUESTION})[2])
        assert tokens["count"] == 6
        raw = stream(server, model="m", stream_options={"include_usage": True})
        server.script = Script(text="a", fault="error_mid_stream")
        assert stream(server, model="m").endswith("data: [DONE]\n\n")
    assert [chunk["choices"] for chunk in chunks(raw)] == [
        [{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "a"}, "logprobs": None, "finish_reason": None, "token_ids": None}],
        [{"index": 0, "delta": {"content": ""}, **FINISH_OF_VLLM}],
        [],
    ]
    assert [chunk.get("system_fingerprint") for chunk in chunks(raw)] == [None, None, None, "vllm-0.32.0-dd8cb623"]


def test_lm_studio_looks_like_lm_studio():
    with ScriptedServer(style="lmstudio", models=["google/gemma"], load_s=0.01, context_length=8192) as server:
        status, headers, body = call(server, path="/nope")
        assert (status, headers["X-Powered-By"]) == (200, "Express")
        assert json.loads(body) == {"error": "Unexpected endpoint or method. (GET /nope)"}
        assert json.loads(call(server, "POST", "/chat/completions", chat_body())[2]) == {
            "error": "Unexpected endpoint or method. (POST /chat/completions)"
        }
        assert json.loads(call(server, path="/lmstudio-greeting")[2]) == {"lmstudio": True}
        assert json.loads(call(server)[2])["data"][0]["owned_by"] == "organization_owner"
        (v0,) = json.loads(call(server, path="/api/v0/models")[2])["data"]
        assert (v0["state"], "loaded_context_length" in v0) == ("not-loaded", False)
        stream(server, model="google/gemma")
        (v0,) = json.loads(call(server, path="/api/v0/models")[2])["data"]
        assert (v0["state"], v0["loaded_context_length"]) == ("loaded", 8192)
        (v1,) = json.loads(call(server, path="/api/v1/models")[2])["models"]
        assert v1["loaded_instances"][0]["config"]["context_length"] == 8192
        status, _, body = call(server, "POST", CHAT, chat_body(model="nope"))
        assert status == 404 and json.loads(body)["error"]["message"].startswith("No models loaded.")


def test_llama_server_looks_like_llama_server():
    with ScriptedServer(Script(text="a"), style="llamacpp", models=["tiny"], context_length=512, slots=2) as server:
        for path in ("/health", "/nope", "/v1/models"):
            assert call(server, path=path)[1]["Server"] == "llama.cpp"
        status, headers, body = call(server, path="/nope")
        assert (status, headers["Connection"]) == (404, "close")
        assert json.loads(body) == {"error": {"message": "File Not Found", "type": "not_found_error", "code": 404}}
        listed = json.loads(call(server, path="/models")[2])
        assert listed["data"][0]["meta"]["n_ctx"] == 512 and listed["models"][0]["name"] == "tiny"
        props = json.loads(call(server, path="/props")[2])
        assert (props["total_slots"], props["default_generation_settings"]["n_ctx"]) == (2, 512)
        assert [slot["is_processing"] for slot in json.loads(call(server, path="/slots")[2])] == [False, False]
        tokens = json.loads(call(server, "POST", "/tokenize", {"content": "hi there", "with_pieces": True})[2])
        assert [token["piece"] for token in tokens["tokens"]] == ["hi", " there"]
        assert call(server, path="/")[0] == 415
        status, _, body = call(server, "POST", "/v1/embeddings", {"model": "tiny", "input": "a"})
        assert (status, json.loads(body)["error"]["type"]) == (501, "not_supported_error")
        raw = stream(server, model="whatever", stream_options={"include_usage": True})
        whole = json.loads(call(server, "POST", "/chat/completions", chat_body(messages=[]))[2])
    assert {chunk["model"] for chunk in chunks(raw)} == {"tiny"}
    assert [chunk["choices"] for chunk in chunks(raw)] == [
        [{"index": 0, "delta": {"role": "assistant", "content": None}, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}],
        [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        [],
    ]
    assert [("timings" in chunk) for chunk in chunks(raw)] == [False, False, False, True]
    assert chunks(raw)[-1]["timings"]["predicted_n"] == 1
    assert chunks(raw)[-1]["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert whole["timings"]["predicted_n"] == 1


# Life of the server.


def test_stop_ends_a_running_stream_and_the_port_can_be_used_again():
    server = ScriptedServer(Script(text=words(10), itl_s=3600))
    with pytest.raises(RuntimeError, match="no port before it is started"):
        _ = server.base_url
    with server:
        port = server.port
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            body = json.dumps(chat_body(stream=True)).encode()
            client.sendall(b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
            server.wait_for_tokens(1)
            with pytest.raises(RuntimeError, match="running already"):
                server.start()
            server.stop()
            assert b"word0" in b"".join(iter(lambda: client.recv(65536), b""))
        server.stop()
    assert "stopped" in repr(server)
    assert not server.requests[0].disconnected
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    server.script = Script(text="again")
    with server:
        assert server.port == port
        assert content(stream(server)) == "again"


def test_a_port_that_is_taken_is_an_error():
    with ScriptedServer() as first, pytest.raises(OSError), ScriptedServer(port=first.port):
        pass


def test_no_thread_is_left():
    before = threading.active_count()
    for _ in range(5):
        with ScriptedServer() as server:
            call(server)
    assert threading.active_count() == before


def test_clear_forgets_the_log():
    with ScriptedServer() as server:
        call(server)
        server.wait_idle()
        server.clear()
        assert (server.requests, server.peak_active) == ([], 0)


def test_a_tar_pit_takes_a_request_and_says_nothing():
    with tar_pit() as pit, socket.create_connection(("127.0.0.1", pit.port)) as client:
        client.sendall(b"GET /v1/models HTTP/1.1\r\n\r\n")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert pit.base_url == f"http://127.0.0.1:{pit.port}/v1"


def test_nothing_listens_at_a_closed_port():
    with closed_port() as place, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", place.port), timeout=5)


# In its own process.


def test_a_server_process_compares_stamps_with_ours():
    script = Script(text=words(5), itl_s=0.01, status=200)
    with ServerProcess(script, models=("m",), api_key="sk-secret-2", scripts={"n": Script(text="I am n")}) as server:
        assert str(server.pid) in repr(server)
        headers = {"Authorization": "Bearer sk-secret-2"}
        before = time.monotonic()
        _, _, body = call(server, "POST", CHAT, chat_body(model="m", stream=True), headers)
        after = time.monotonic()
        server.wait_idle()
        (request,) = server.log()
        assert isinstance(request, LoggedRequest)
        assert content(body.decode()) == "word0 word1 word2 word3 word4"
        stamps = [request.received_at, *request.token_sent_at, request.ended_at]
        assert stamps == sorted(stamps)
        assert before <= stamps[0] and stamps[-1] <= after
        assert request.headers["authorization"] == "***"
        assert server.state()["loads"] == ["m"]
        _, _, body = call(server, "POST", CHAT, chat_body(model="n", stream=True), headers)
        assert content(body.decode()) == "I am n"
        port = server.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_server_process_refuses_what_cannot_travel():
    with pytest.raises(TypeError, match="must be a Script"):
        ServerProcess(lambda request: Script())
    with pytest.raises(TypeError, match="error_body is bytes"):
        ServerProcess(Script(status=500, error_body=b"\xff"))


def test_a_server_process_that_cannot_start_says_so(capfd):
    with pytest.raises(RuntimeError, match="ended before it was ready, with code 2"):
        ServerProcess(style="nope").start()
    assert "no server style 'nope'" in capfd.readouterr().err


def wait_until_refused(port, timeout_s=20.0):
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.05)
    raise TimeoutError(f"Port {port} is still open.")


PARENT = """
import os, sys, time
from mamba_nb.testing import ServerProcess
server = ServerProcess().start()
if "fork" in sys.argv and os.fork() == 0:
    time.sleep(600)  # holds the server's standard input open
print(server.port, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 and fork are POSIX")
@pytest.mark.parametrize("how", ["alone", "fork"])
def test_a_server_process_ends_when_its_parent_is_killed(how):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, how], stdout=subprocess.PIPE, start_new_session=True)
    try:
        port = int(parent.stdout.readline())
        parent.kill()
        wait_until_refused(port)
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()
        parent.stdout.close()


def start_command(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "mamba_nb.testing", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_the_command_prints_its_address_and_ends_with_its_input():
    arguments = ["--ttft-ms", "5", "--itl-ms", "1", "--tokens", "3", "--model", "m", "--script", '{"reasoning": "hm"}']
    with start_command(*arguments) as process:
        ready = json.loads(process.stdout.readline())
        assert ready["base_url"] == f"http://127.0.0.1:{ready['port']}/v1"

        class Place:
            port = ready["port"]

        assert content(stream(Place, model="m")) == "word0 word1 word2"
        (request,) = json.loads(call(Place, path="/_log")[2])["requests"]
        assert len(request["token_sent_at"]) == 4
        process.stdin.close()
        assert process.wait(20) == 0


def test_the_command_ends_at_sigterm():
    with start_command("--ignore-stdin") as process:
        process.stdin.close()
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_the_command_says_what_is_wrong():
    with ScriptedServer() as server:
        done = subprocess.run(
            [sys.executable, "-m", "mamba_nb.testing", "--port", str(server.port)],
            capture_output=True,
            text=True,
            input="",
        )
    assert done.returncode == 1
    assert "cannot be used" in done.stderr


# What it stands on.


@pytest.mark.filterwarnings("error")
def test_connections_that_come_while_it_stops_are_closed_too():
    """An unclosed transport is an unraisable warning when it is collected, and so fails the test."""
    for round_ in range(60):
        with ScriptedServer() as server:
            address = ("127.0.0.1", server.port)

            def come_and_go(address=address):
                with contextlib.suppress(OSError):
                    for _ in range(20):
                        socket.create_connection(address, 1).close()

            clients = [threading.Thread(target=come_and_go) for _ in range(3)]
            for client in clients:
                client.start()
            time.sleep(round_ % 6 * 0.001)
        for client in clients:
            client.join()
    gc.collect()


def test_it_needs_only_the_standard_library():
    allowed = {*sys.stdlib_module_names}
    for path in Path(mamba_nb.testing.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            for name in names:
                assert name.split(".")[0] in allowed or name.startswith("mamba_nb.testing"), f"{path.name}: {name}"
