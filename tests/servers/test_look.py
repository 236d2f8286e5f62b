"""Short questions: what comes back, what is refused, what is never sent."""

from __future__ import annotations

import time

import pytest

from mamba_nb import _look
from mamba_nb._bridge import Run
from mamba_nb._look import StatusError, TooLarge, TooSlow
from mamba_nb.servers.asking import Asking
from mamba_nb.testing import Script, ScriptedServer, closed_port
from mamba_nb.testing.decoys import decoy


def on_loop(work):
    async def call(_run):
        return await work()

    return Run(call, name="test").result(20)


def look(url, **options):
    return on_loop(lambda: _look.look(url, **options))


def wait_for(ready):
    while not ready():
        time.sleep(0.01)


def lines(url, **options):
    async def work():
        return [line async for line in _look.lines(url, **options)]

    return on_loop(work)


@pytest.fixture
def server():
    with ScriptedServer(style="ollama", models=["m"]) as running:
        yield running


class TestLook:
    def test_an_answer_is_given_whatever_its_status(self, server):
        answer = look(f"{server.root}/api/version")
        assert (answer.status, answer.ok, answer.json) == (200, True, {"version": "0.33.0"})
        assert answer.latency_ms > 0
        missing = look(f"{server.root}/nothing")
        assert (missing.status, missing.ok, missing.json, missing.text) == (404, False, None, "404 page not found")

    def test_a_key_travels_in_its_header_and_only_where_it_was_given(self, server):
        look(f"{server.root}/api/version", key="abc")
        look(f"{server.root}/api/version")
        assert [request.headers.get("authorization") for request in server.requests] == ["Bearer abc", None]

    def test_a_body_is_json(self, server):
        look(f"{server.root}/api/show", method="POST", body={"model": "m"})
        assert server.requests[0].body == {"model": "m"}

    def test_a_redirect_is_an_answer_and_not_followed(self):
        with decoy("redirect") as place:
            assert look(f"{place.root}/v1/models", key="abc").status == 307
            assert place.target.seen == []

    def test_a_body_that_is_too_long_is_left(self):
        with decoy("huge_body") as place, pytest.raises(TooLarge):
            look(place.root, most_bytes=1_000_000)

    def test_silence_and_a_slow_answer_are_two_things(self):
        with decoy("silent") as place, pytest.raises(TimeoutError) as raised:
            look(place.root, connect_s=1, read_s=0.2)
        assert not isinstance(raised.value, TooSlow)
        with decoy("drip") as place, pytest.raises(TooSlow):
            look(place.root, connect_s=1, read_s=0.3)

    def test_nothing_there_is_an_os_error(self):
        with closed_port() as place, pytest.raises(OSError):
            look(place.root)

    @pytest.mark.parametrize("name", ["garbage", "closes", "cut", "self_signed"])
    def test_what_is_no_http_is_an_exception_of_the_transport(self, name):
        import aiohttp

        with decoy(name) as place, pytest.raises(aiohttp.ClientError):
            look(place.root)

    @pytest.mark.parametrize("name", ["deep_json", "broken_json", "not_unicode", "null_json"])
    def test_json_that_is_none_is_none(self, name):
        with decoy(name) as place:
            assert look(place.root).json is None


class TestLines:
    def test_each_line_comes_as_it_is_sent(self, server):
        server.scripts["/api/pull"] = Script(error_body='{"status": "a"}\n\n{"status": "b"}\n{"status": "c"}')
        assert lines(f"{server.root}/api/pull", body={"model": "m"}) == [
            b'{"status": "a"}',
            b'{"status": "b"}',
            b'{"status": "c"}',
        ]

    def test_an_error_status_is_raised_with_what_was_said(self, server):
        server.scripts["/api/pull"] = Script(status=404, error_body={"error": "no such model"})
        with pytest.raises(StatusError) as raised:
            lines(f"{server.root}/api/pull", body={"model": "m"})
        assert (raised.value.status, raised.value.payload) == (404, {"error": "no such model"})

    def test_silence_ends_it(self):
        began = time.monotonic()
        with decoy("silent") as place, pytest.raises(TimeoutError):
            lines(place.root, body={}, silence_s=0.2, connect_s=0.5)
        assert time.monotonic() - began < 5

    def test_a_line_without_an_end_is_left(self):
        with decoy("huge_body") as place, pytest.raises(TooLarge):
            lines(place.root, body={})


class TestAsking:
    def asking(self, server, **more):
        return Asking(root=server.root, base_url=server.base_url, **more)

    def test_a_path_is_asked_once_however_often_it_is_wanted(self, server):
        import asyncio

        async def work():
            asking = self.asking(server)
            await asyncio.gather(*(asking.json("/api/version") for _ in range(5)))
            await asking.json("/api/version")
            asking.forget("/api/version")
            return await asking.json("/api/version")

        assert on_loop(work) == {"version": "0.33.0"}
        assert len(server.requests) == 2

    def test_paths_under_v1_stand_under_the_openai_address(self):
        asking = Asking(root="http://h:1", base_url="http://h:1/engines/v1")
        assert asking.url("/v1/models") == "http://h:1/engines/v1/models"
        assert asking.url("/v1") == "http://h:1/engines/v1"
        assert asking.url("/v1x") == "http://h:1/v1x"
        assert asking.url("/models") == "http://h:1/models"

    def test_why_there_was_no_answer_is_kept(self):
        async def work():
            asking = Asking(root=place.root, base_url=place.base_url)
            return await asking.look("/v1/models"), asking.failures["/v1/models"]

        with closed_port() as place:
            answer, failure = on_loop(work)
        assert answer is None and isinstance(failure, OSError)

    def test_leaving_drops_what_is_under_way(self):
        import asyncio

        async def work():
            asking = Asking(root=place.root, base_url=place.base_url, read_s=30)
            waiting = asyncio.ensure_future(asking.look("/v1/models"))
            await asyncio.to_thread(wait_for, lambda: place.seen)
            asking.leave()
            began = time.monotonic()
            await asyncio.wait([waiting], timeout=5)
            return waiting.cancelled(), time.monotonic() - began

        with decoy("silent") as place:
            cancelled, took_s = on_loop(work)
        assert cancelled and took_s < 4

    def test_its_key_is_in_no_repr(self):
        assert "abc" not in repr(Asking(root="http://h", base_url="http://h/v1", key="abc"))
