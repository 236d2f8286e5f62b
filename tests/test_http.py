"""The one place that makes HTTP clients: what of the environment reaches a server, and what never does."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from mamba_nb import _http
from mamba_nb._bridge import Run
from mamba_nb.backends import OpenAICompatibleBackend
from mamba_nb.errors import AuthenticationFailed, EndpointNotFound, ProxyInTheWay, ServerFailed, ServerUnreachable
from mamba_nb.testing import Script, ScriptedServer, closed_port

SECRET = "sk-openai-0123456789abcdef"
REFUSAL = "<html><head><title>Access denied</title></head><body>Squid</body></html>"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(Script(text="Hi there"), models="alpha") as running:
        yield running


def ask(url: str, **options):
    options = {"max_retries": 0, "timeout": 5.0, **options}
    with OpenAICompatibleBackend("alpha", url, **options) as backend:
        return backend.ask("Why?")


class TestHosts:
    @pytest.mark.parametrize(
        "host",
        [
            "localhost", "my.localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]", "0.0.0.0", "10.1.2.3", "172.16.0.1",
            "192.168.1.7", "169.254.0.1", "fe80::1", "fd00::1", "100.64.0.1", "gpu-box", "host.docker.internal",
            "gpu.local", "gpu.lan", "nas.home.arpa", "GPU.LOCAL",
        ],
    )  # fmt: skip
    def test_this_machine_and_private_networks_are_local(self, host):
        assert _http.is_local_host(host)

    @pytest.mark.parametrize(
        "host", ["api.openai.com", "8.8.8.8", "2606:4700::1111", "models.example.com", "172.32.0.1"]
    )
    def test_the_rest_of_the_world_is_not(self, host):
        assert not _http.is_local_host(host)

    def test_only_openais_own_hosts_are_openais(self):
        assert _http.is_openai_host("api.openai.com") and _http.is_openai_host("eu.api.openai.com")
        for host in ("openai.com.evil.example", "xapi.openai.com", "api.openai.com.evil.example", "127.0.0.1"):
            assert not _http.is_openai_host(host)

    def test_this_machine_is_loopback_or_the_wildcard_a_server_binds_to(self):
        assert all(
            map(_http.is_this_machine, ("localhost", "a.localhost", "127.0.0.1", "::1", "[::1]", "0.0.0.0", "::"))
        )
        assert not any(map(_http.is_this_machine, ("192.168.1.7", "gpu-box", "api.openai.com")))


class TestEnvironment:
    @pytest.fixture(autouse=True)
    def openai_is_set_up(self, monkeypatch):
        for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID", "WEBHOOK_SECRET"):
            monkeypatch.setenv(f"OPENAI_{name}", f"{SECRET}-{name}")
        lines = f"X-Secret: {SECRET}\nAuthorization: Bearer {SECRET}\nCookie: a={SECRET}\nUser-Agent: {SECRET}"
        monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", lines)
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")

    def test_nothing_that_is_meant_for_openai_reaches_another_server(self, server):
        with OpenAICompatibleBackend("alpha", server.base_url) as backend:
            backend.ask("Why?")
            backend.complete("Why?").result()
            backend.list_models()
            backend.embed("a")
        assert len(server.requests) == 4
        for request in server.requests:
            assert SECRET not in str(request.headers)
            assert request.headers["authorization"] == "Bearer not-needed"
            assert not {"openai-organization", "openai-project", "x-secret", "cookie"} & request.headers.keys()

    def test_a_key_and_headers_that_were_given_win_over_the_environment(self, server):
        ask(server.base_url, api_key="mine", headers={"X-Secret": "also mine"})
        headers = server.requests[0].headers
        assert (headers["authorization"], headers["x-secret"]) == ("Bearer mine", "also mine")

    def test_openais_own_host_gets_its_key(self):
        client = _http.build_client("https://api.openai.com/v1", None)
        assert client.api_key == f"{SECRET}-API_KEY"
        assert _http.build_client("https://api.openai.com/v1", "mine").api_key == "mine"

    def test_a_server_that_looks_like_openais_does_not(self):
        assert _http.build_client("https://api.openai.com.evil.example/v1", None).api_key == _http.PLACEHOLDER_KEY


class TestProxies:
    @pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
    def test_a_local_server_is_reached_past_a_proxy_that_is_down(self, name, server, monkeypatch):
        with closed_port() as place:
            monkeypatch.setenv(name, place.root)
            assert ask(server.base_url).text == "Hi there"
            assert ask(server.base_url.replace("127.0.0.1", "localhost")).text == "Hi there"

    # The openai client's transport passes a proxy's password in a form that aiohttp means to drop.
    @pytest.mark.filterwarnings("ignore:BasicAuth is deprecated", "ignore:The 'proxy_auth' parameter is deprecated")
    def test_with_trust_env_the_proxy_is_met_and_named_without_its_password(self, server, monkeypatch):
        with closed_port() as place:
            monkeypatch.setenv("HTTP_PROXY", f"http://ann:hunter2@127.0.0.1:{place.port}")
            with pytest.raises(ProxyInTheWay) as caught:
                ask(server.base_url, trust_env=True)
        said = str(caught.value)
        assert f"http://127.0.0.1:{place.port}" in said and "NO_PROXY" in said and "trust_env" in said
        assert "hunter2" not in said and "ann" not in said and server.requests == []

    def test_a_proxy_that_refuses_is_told_from_the_server(self, server, monkeypatch):
        with ScriptedServer() as proxy:
            proxy.scripts[f"{server.base_url}/chat/completions"] = Script(status=403, error_body=REFUSAL)
            monkeypatch.setenv("HTTP_PROXY", proxy.root)
            with pytest.raises(ProxyInTheWay) as caught:
                ask(server.base_url, trust_env=True)
            assert caught.value.server_says == "Access denied Squid" and caught.value.status == 403
            assert len(proxy.requests) == 1 and server.requests == []

    def test_a_proxy_that_wants_a_password_is_a_proxy(self, server, monkeypatch):
        with ScriptedServer() as proxy:
            proxy.scripts[f"{server.base_url}/chat/completions"] = Script(status=407, error_body="who are you?")
            monkeypatch.setenv("HTTP_PROXY", proxy.root)
            with pytest.raises(ProxyInTheWay):
                ask(server.base_url, trust_env=True)

    def test_no_proxy_counts(self, server, monkeypatch):
        with closed_port() as place:
            monkeypatch.setenv("HTTP_PROXY", place.root)
            monkeypatch.setenv("NO_PROXY", "127.0.0.1")
            assert ask(server.base_url, trust_env=True).text == "Hi there"

    def test_a_server_elsewhere_is_reached_through_the_proxy(self, monkeypatch):
        url = "http://models.example.com/v1"
        with ScriptedServer() as proxy:
            body = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
            proxy.scripts[f"{url}/chat/completions"] = Script(error_body=body)
            monkeypatch.setenv("HTTP_PROXY", proxy.root)
            assert ask(url).text == "Hi"
            assert proxy.requests[0].headers["host"] == "models.example.com"

    def test_a_tunnel_that_the_proxy_refuses_is_the_proxys_doing(self, monkeypatch):
        with ScriptedServer() as proxy:  # it does not know CONNECT
            monkeypatch.setenv("HTTPS_PROXY", proxy.root)
            with pytest.raises(ProxyInTheWay, match=f"The proxy {proxy.root} took the call"):
                ask("https://models.example.com/v1")
            assert [request.method for request in proxy.requests] == ["CONNECT"]

    @pytest.mark.parametrize(
        ("environment", "url", "proxy"),
        [
            ({}, "http://a.example/v1", None),
            ({"HTTP_PROXY": "http://u:p@proxy:3128/"}, "http://a.example/v1", "http://proxy:3128/"),
            ({"HTTP_PROXY": "http://proxy:3128"}, "https://a.example/v1", None),
            ({"HTTPS_PROXY": "http://proxy:3128"}, "https://a.example/v1", "http://proxy:3128"),
            ({"ALL_PROXY": "socks5://u:p@proxy:1080"}, "https://a.example/v1", "socks5://proxy:1080"),
            ({"HTTP_PROXY": "u:p@proxy:3128"}, "http://a.example/v1", "http://proxy:3128"),
            ({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "a.example"}, "http://a.example/v1", None),
        ],
    )
    def test_the_proxy_of_an_address_is_named_without_credentials(self, environment, url, proxy, monkeypatch):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert _http.proxy_for(url) == proxy


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_a_redirect_is_not_followed_and_the_key_stays_here(self, status, server):
        with ScriptedServer(models="alpha") as other:
            target = f"{other.base_url}/chat/completions"
            server.script = Script(status=status, error_body="", headers={"Location": target})
            with pytest.raises(EndpointNotFound) as caught:
                ask(server.base_url, api_key=SECRET)
            assert target in caught.value.hint and "not followed" in caught.value.hint
            assert other.requests == [] and len(server.requests) == 1


class TestBodies:
    def test_a_compressed_stream_is_read(self, server):
        chunk = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}
        body = gzip.compress(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode())
        kind = {"Content-Type": "text/event-stream", "Content-Encoding": "gzip"}
        server.script = Script(error_body=body, headers=kind)
        assert ask(server.base_url).text == "Hi"

    def test_a_compressed_reply_is_read(self, server):
        kind = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        body = gzip.compress(json.dumps({"object": "list", "data": [{"id": "beta"}]}).encode())
        server.scripts["/v1/models"] = Script(error_body=body, headers=kind)
        with OpenAICompatibleBackend("alpha", server.base_url) as backend:
            assert backend.list_models() == ["beta"]

    def test_a_list_that_never_ends_is_given_up(self, server):
        async def fetch(_run):
            client = _http.build_client(server.base_url, None)
            try:
                return await _http.get_json(client, "/models", timeout_s=5, most_bytes=20)
            finally:
                await client.close()

        with pytest.raises(ValueError, match="more than 20 bytes"):
            Run(fetch, name="fetch").result()

    def test_a_request_is_stamped_as_it_is_handed_over(self, server):
        async def stamp(_run):
            client = _http.build_client(server.base_url, None)
            try:
                before = time.monotonic()
                response = await _http.send(client, "/models", method="GET")
                await response.aread()
                return before, _http.sent_at(response), time.monotonic()
            finally:
                await client.close()

        before, sent, after = Run(stamp, name="stamp").result()
        assert before <= sent <= server.requests[0].received_at <= after

    def test_requests_at_once_do_not_wait_for_each_others_answers(self, server):
        server.script = Script(ttft_s=0.3)

        async def many(_run):
            client = _http.build_client(server.base_url, None)
            body = {"model": "alpha", "messages": [{"role": "user", "content": "Why?"}]}
            try:
                await asyncio.gather(*(_http.send(client, "/chat/completions", body) for _ in range(5)))
            finally:
                await client.close()

        Run(many, name="many").result()
        assert server.peak_active == 5


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with the openssl program")
class TestTls:
    @pytest.fixture
    def certificate(self, tmp_path) -> str:
        """A certificate for 127.0.0.1 that nobody trusts, made by the openssl program."""
        path = tmp_path / "certificate.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", str(path)]
        subprocess.run(command, check=True, capture_output=True)
        path.write_text(path.read_text() + (tmp_path / "key.pem").read_text())
        return str(path)

    @pytest.fixture
    def tls_url(self, certificate) -> Iterator[str]:
        """A TLS server that answers any request with an empty list of models."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        body = b'{"object": "list", "data": []}'
        reply = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(reply)
            await writer.drain()
            writer.close()

        loop = asyncio.new_event_loop()
        listener = loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", 0, ssl=context))
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
        finally:
            listener.close()
            loop.call_soon_threadsafe(loop.call_later, 0.05, loop.stop)
            thread.join()
            loop.close()

    def test_a_certificate_that_nobody_trusts_is_named(self, tls_url):
        with OpenAICompatibleBackend("alpha", tls_url, max_retries=8) as backend:
            began = time.monotonic()
            with pytest.raises(ServerUnreachable, match=r"The certificate of 127\.0\.0\.1:\d+ is not trusted"):
                backend.list_models()
            assert time.monotonic() - began < 10  # it is not tried again, which would take 20 s and more

    def test_a_certificate_that_the_environment_trusts_is_fine_on_local_hosts_too(
        self, tls_url, certificate, monkeypatch
    ):
        monkeypatch.setenv("SSL_CERT_FILE", certificate)
        with OpenAICompatibleBackend("alpha", tls_url) as backend:
            assert backend.list_models() == []

    def test_https_to_a_server_that_speaks_http_says_so(self):
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(
                b"HTTP/1.1 400 Bad Request\r\nContent-Length: 31\r\n\r\nInvalid HTTP request received.\n"
            )  # uvicorn
            await writer.drain()
            writer.close()

        async def listen(_run):
            listener = await asyncio.start_server(answer, "127.0.0.1", 0)
            url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
            backend = OpenAICompatibleBackend("alpha", url, max_retries=0)
            try:
                return await backend.alist_models()
            finally:
                await backend.aclose()
                listener.close()

        with pytest.raises(ServerUnreachable, match="does not speak TLS") as caught:
            Run(listen, name="listen").result()
        assert caught.value.hint == "Use http://, not https://."

    def test_a_client_without_tls_trusts_nobody(self):
        context = _http._tls_context(needed=False)
        assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
        assert context.cert_store_stats()["x509_ca"] == 0


class TestStatuses:
    def test_lists_have_the_same_errors_as_answers(self, server):
        server.scripts["/v1/models"] = Script(status=500, error_body={"error": "boom"})
        with OpenAICompatibleBackend("alpha", server.base_url, max_retries=0) as backend:
            with pytest.raises(ServerFailed, match="boom"):
                backend.list_models()
            server.scripts["/v1/models"] = Script(status=401)
            with pytest.raises(AuthenticationFailed):
                backend.list_models()
