"""The decoys do what they say, so that what is tested with them is tested."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import urllib.request

import pytest

from mamba_nb.testing.certificates import self_signed
from mamba_nb.testing.decoys import NAMES, decoy


def get(place, path="/v1/models", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=5)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


WHOLE = {
    "web_page": 200,
    "login_page": 401,
    "json_api": 200,
    "broken_json": 200,
    "plain_text": 200,
    "to_a_page": 302,
    "json_401": 401,
    "fastapi": 404,
    "proxy_502": 502,
    "fails": 500,
    "airplay": 403,
    "ollama_alike": 404,
}


@pytest.mark.parametrize(("name", "status"), WHOLE.items())
def test_those_that_answer_whole_answer_with_their_status(name, status):
    with decoy(name) as place:
        assert get(place)[0] == status


def test_it_keeps_what_it_was_asked_and_the_key():
    with decoy("web_page") as place:
        get(place, "/a", Authorization="Bearer abc")
        get(place, "/b")
        assert [(seen.method, seen.path, seen.key) for seen in place.seen] == [
            ("GET", "/a", "abc"),
            ("GET", "/b", None),
        ]
        assert place.connections == 2


def test_garbage_is_no_http():
    with decoy("garbage") as place, pytest.raises(http.client.BadStatusLine):
        get(place)


@pytest.mark.parametrize("name", ["silent", "drip", "drip_head"])
def test_the_slow_ones_do_not_end(name):
    with decoy(name) as place, socket.create_connection(("127.0.0.1", place.port), timeout=5) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.settimeout(0.3)
        came = b""
        with pytest.raises(TimeoutError):
            while name == "silent" or len(came) < 10_000:
                piece = connection.recv(1000)
                assert piece, "it closed the connection"
                came += piece
                if name != "silent" and came.count(b"\n") > 8:
                    raise TimeoutError


def test_closing_ones_close():
    with decoy("closes") as place, pytest.raises(http.client.RemoteDisconnected):
        get(place)
    with decoy("cut") as place, pytest.raises(http.client.IncompleteRead):
        get(place)


def test_a_huge_body_goes_on_for_longer_than_anybody_reads():
    with decoy("huge_body") as place, socket.create_connection(("127.0.0.1", place.port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        came = 0
        while came < 20_000_000:
            came += len(connection.recv(1_000_000))


def test_the_certificate_holds_for_whoever_trusts_it_and_for_nobody_else(tmp_path):
    certificate, key = self_signed()
    path = tmp_path / "own.pem"
    path.write_text(certificate + key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    trusting = ssl.create_default_context(cafile=path)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            for _ in range(2):
                connection, _ = listener.accept()
                try:
                    with server.wrap_socket(connection, server_side=True) as tls:
                        tls.sendall(b"hello")
                except OSError:
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        place = listener.getsockname()
        with trusting.wrap_socket(socket.create_connection(place), server_hostname="127.0.0.1") as tls:
            assert tls.recv(5) == b"hello"
        with (
            socket.create_connection(place) as plain,
            pytest.raises(ssl.SSLCertVerificationError, match="self-signed certificate"),
        ):
            ssl.create_default_context().wrap_socket(plain, server_hostname="127.0.0.1")
        thread.join(5)


def test_two_certificates_are_two():
    assert self_signed() != self_signed()


def test_a_redirect_goes_to_another_name_of_this_machine_where_it_is_seen_whether_the_key_came_along():
    with decoy("redirect") as place:
        status, _, headers = get(place, Authorization="Bearer abc")
        assert (status, headers["Location"]) == (307, f"http://localhost:{place.target.port}/v1/models")
        request = urllib.request.Request(f"{place.root}/v1/models", headers={"Authorization": "Bearer abc"})
        with urllib.request.urlopen(request, timeout=5) as answer:  # which follows redirects, keys and all
            assert json.load(answer)["status"] == "up"
        assert [seen.key for seen in place.target.seen] == ["abc"]


def test_an_unknown_decoy_is_refused():
    with pytest.raises(ValueError, match="there are web_page"), decoy("nonsense"):
        pass


def test_a_taken_port_is_an_error():
    with decoy("web_page") as place, pytest.raises(OSError), decoy("web_page", port=place.port):
        pass


@pytest.mark.parametrize("name", NAMES)
def test_it_leaves_nothing_behind(name):
    before = set(threading.enumerate())
    with decoy(name) as place:
        port = place.port
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
    assert not {thread for thread in threading.enumerate() if thread.is_alive()} - before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
