"""Members of JSON that a server wrote, and the calls that the verbs of the kinds make."""

from __future__ import annotations

import doctest
import math

import pytest
from at_work import ask, asking
from hypothesis import given
from hypothesis import strategies as st

from mamba_nb.errors import (
    AuthenticationFailed,
    BadInput,
    MambaError,
    ModelNotFound,
    NotHere,
    RequestRejected,
    ServerError,
    ServerFailed,
    ServerUnreachable,
)
from mamba_nb.servers import members
from mamba_nb.servers.calling import call, failed, no_place, stream
from mamba_nb.servers.facts import ServedModel
from mamba_nb.testing import Script, ScriptedServer

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def test_the_examples_in_the_docstrings_are_true():
    assert doctest.testmod(members).failed == 0


@given(ANYTHING)
def test_no_value_makes_a_reader_raise_or_give_another_type(value):
    assert members.text(value) is None or isinstance(value, str)
    assert members.whole(value) is None or type(members.whole(value)) is int
    assert members.number(value) is None or math.isfinite(members.number(value))
    assert members.truth(value) in (None, True, False)
    assert all(isinstance(word, str) for word in members.words(value))
    assert all(isinstance(entry, dict) for entry in members.entries(value))
    assert isinstance(members.entries(value, "data"), list)
    for reader in (members.parameters_of, members.bytes_of):
        assert reader(value) is None or 0 < reader(value) <= 2**53
    assert members.quantization_of(value) is None or isinstance(members.quantization_of(value), str)
    members.member(value, "a", "b")


@pytest.mark.parametrize(
    ("written", "weights"),
    [
        ("361.82 M", 361_820_000),
        ("8B", 8_000_000_000),
        ("1.5b", 1_500_000_000),
        ("8.19 B", 8_190_000_000),
        ("4.3 B", 4_300_000_000),
        ("0B", None),
        ("1.2.3B", None),
        ("26B-A4B", None),
        ("9" * 400 + "B", None),
        ("", None),
    ],
)
def test_counts_of_weights(written, weights):
    assert members.parameters_of(written) == weights


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("256.35 MiB", 268_802_458),
        ("1.5 GiB", 1_610_612_736),
        ("3.61GB", 3_610_000_000),
        ("12 kB", 12_000),
        ("x MB", None),
    ],
)
def test_sizes(written, size):
    assert members.bytes_of(written) == size


@pytest.mark.parametrize(
    ("name", "quantization"),
    [
        ("unsloth/Qwen3-0.6B-GGUF:Q4_0", "Q4_0"),
        ("unsloth/Qwen3-8B-GGUF:UD-Q4_K_XL", "UD-Q4_K_XL"),
        ("model-IQ3_XS.gguf", "IQ3_XS"),
        ("stabilityai/sd-turbo:sd_turbo.safetensors", None),
        ("Qwen3", None),
    ],
)
def test_quantisations_in_names(name, quantization):
    assert members.quantization_of(name) == quantization


def test_a_fact_carries_the_endpoint_that_said_it_and_the_last_one_wins():
    model = members.said(ServedModel(id="m"), "GET /a", context_window=4096, family="llama")
    model = members.said(model, "GET /b", context_window=8192, family=None)
    assert (model.context_window, model.family) == (8192, "llama")
    assert model.evidence == {"context_window": "GET /b", "family": "GET /a"}


def test_a_text_without_end_is_no_name():
    assert members.text("x" * 2000) and members.text("x" * 2001) is None
    assert members.text("x" * 2001, members.ANY)


def test_a_model_that_is_listed_twice_is_one():
    body = '{"data": [{"id": "a", "n": 1}, {"id": "a", "n": 2}, {"id": "b"}, {"name": "c"}, null]}'
    with ScriptedServer(scripts={"/v1/models": Script(error_body=body)}) as server:
        assert [entry["id"] for entry in ask(members.listed(asking(server)))] == ["a", "b"]


REPLIES = [
    pytest.param(401, '{"error": "Unauthorized"}', AuthenticationFailed, id="a key is wanted"),
    pytest.param(404, '{"error": "model not found"}', ModelNotFound, id="no such model"),
    pytest.param(404, "404 page not found", NotHere, id="no such path"),
    pytest.param(405, "Method Not Allowed", NotHere, id="no such method"),
    pytest.param(501, '{"error": "not supported"}', NotHere, id="not built in"),
    pytest.param(400, '{"detail": "Failed to load the model."}', RequestRejected, id="refused"),
    pytest.param(500, '{"error": {"message": "out of memory"}}', ServerFailed, id="failed"),
]


@pytest.mark.parametrize(("status", "body", "error"), REPLIES)
def test_a_refused_call_is_one_of_our_errors_with_the_servers_own_words(status, body, error):
    with (
        ScriptedServer(scripts={"/verb": Script(status=status, error_body=body)}) as server,
        pytest.raises(error) as caught,
    ):
        ask(call(asking(server), "/verb", {}, kind="jan", model="m", verb="do it", no_path=("404 page not found",)))
    said = caught.value.server_says
    assert said and said in body
    assert str(server.port) in str(caught.value)


@pytest.mark.parametrize(("status", "body", "error"), REPLIES)
def test_so_is_a_refused_stream(status, body, error):
    async def read(server):
        where = {"kind": "jan", "model": "m", "verb": "do it", "no_path": ("404 page not found",)}
        return [line async for line in stream(asking(server), "/verb", {}, **where)]

    with ScriptedServer(scripts={"/verb": Script(status=status, error_body=body)}) as server, pytest.raises(error):
        ask(read(server))


def test_a_server_that_is_gone_is_unreachable():
    with ScriptedServer() as server:
        gone = asking(server)
    with pytest.raises(ServerUnreachable):
        ask(call(gone, "/verb", {}, kind="jan"))


def test_no_error_shows_the_key():
    secret = "very-secret-key"
    body = {"error": {"message": f"Incorrect API key provided: {secret}"}}
    with (
        ScriptedServer(scripts={"/verb": Script(status=401, error_body=body)}) as server,
        pytest.raises(MambaError) as caught,
    ):
        ask(call(asking(server, key=secret), "/verb", {}, kind="jan"))
    assert secret not in repr(caught.value) + str(caught.value) + str(caught.value.server_says)
    assert server.requests[0].headers["authorization"] == f"Bearer {secret}"


def test_an_argument_without_a_place_is_refused_before_anything_is_sent():
    no_place("jan", {"keep_alive": "Do otherwise."}, keep_alive=None)
    with pytest.raises(BadInput, match="Jan has no place for keep_alive") as caught:
        no_place("jan", {"keep_alive": "Do otherwise."}, keep_alive="5m")
    assert "Do otherwise." in str(caught.value)


def test_a_failure_without_words_points_to_the_log():
    with ScriptedServer() as server:
        error = failed(asking(server), "lemonade", "m", "load m")
    assert isinstance(error, ServerError) and "Lemonade at" in str(error) and "log" in str(error)
