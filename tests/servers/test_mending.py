"""What people paste as an address, and what it can mean; the expected values are worked out by hand."""

from __future__ import annotations

import pytest

from mamba_nb.errors import BadInput
from mamba_nb.servers.mending import bare_host, host_and_port, hosts_of, mended, ollama_host, port_of


def first(text: str) -> tuple[str, str]:
    """The root and the OpenAI address that are tried first."""
    address = mended(text)[0]
    return address.root, address.base_urls[0]


@pytest.mark.parametrize(
    ("text", "root", "base_url"),
    [
        # what is missing
        ("localhost:1234", "http://127.0.0.1:1234", "http://127.0.0.1:1234/v1"),
        ("gpu-box:8000", "http://gpu-box:8000", "http://gpu-box:8000/v1"),
        ("http://gpu-box:8000", "http://gpu-box:8000", "http://gpu-box:8000/v1"),
        ("//gpu-box:8000/v1", "http://gpu-box:8000", "http://gpu-box:8000/v1"),
        (":8000", "http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("8000", "http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("api.openai.com", "https://api.openai.com", "https://api.openai.com/v1"),
        ("api.example.org:443", "https://api.example.org:443", "https://api.example.org:443/v1"),
        ("api.example.org:8000", "http://api.example.org:8000", "http://api.example.org:8000/v1"),
        # what is too much
        ("http://h:1/v1/", "http://h:1", "http://h:1/v1"),
        ("http://h:1/v1/v1", "http://h:1", "http://h:1/v1"),
        ("http://h:1/v1/v1/v1/", "http://h:1", "http://h:1/v1"),
        ("http://h:1//v1//", "http://h:1", "http://h:1/v1"),
        ("http://h:1/v1/chat/completions", "http://h:1", "http://h:1/v1"),
        ("http://h:1/v1/models", "http://h:1", "http://h:1/v1"),
        ("http://h:1/v1/embeddings/", "http://h:1", "http://h:1/v1"),
        ("http://h:1/v1/chat/completions/v1", "http://h:1", "http://h:1/v1"),
        ("http://h:1/api", "http://h:1", "http://h:1/v1"),
        ("http://h:1/api/tags", "http://h:1", "http://h:1/v1"),
        ("http://h:1/api/chat", "http://h:1", "http://h:1/v1"),
        ("http://h:1/api/v0", "http://h:1", "http://h:1/v1"),
        # where servers have it elsewhere
        ("http://h:1/api/v1", "http://h:1", "http://h:1/api/v1"),
        ("http://h:1/openai/v1", "http://h:1", "http://h:1/openai/v1"),
        ("http://h:1/openai", "http://h:1", "http://h:1/openai/v1"),
        ("http://h:1/engines/v1", "http://h:1", "http://h:1/engines/v1"),
        ("http://h:1/engines", "http://h:1", "http://h:1/engines/v1"),
        ("http://h:1/engines/llama.cpp/v1", "http://h:1", "http://h:1/engines/llama.cpp/v1"),
        # a page of a user interface
        ("http://localhost:3000/c/4f1c-88", "http://127.0.0.1:3000", "http://127.0.0.1:3000/v1"),
        ("http://h:8080/ui/", "http://h:8080", "http://h:8080/v1"),
        ("http://h:8080/ui/models", "http://h:8080", "http://h:8080/v1"),
        ("http://h:8080/#/chats/1", "http://h:8080", "http://h:8080/v1"),
        ("http://h:8000/docs#/default/post", "http://h:8000", "http://h:8000/v1"),
        ("http://h:8000/?model=x", "http://h:8000", "http://h:8000/v1"),
        # a proxy's prefix stays
        ("https://llm.example.org/team/v1", "https://llm.example.org/team", "https://llm.example.org/team/v1"),
        ("http://h/proxy/chat/v1/models", "http://h/proxy/chat", "http://h/proxy/chat/v1"),
        ("http://h/a/b", "http://h/a/b", "http://h/a/b/v1"),
        # what servers print when they start
        ("http://0.0.0.0:8000", "http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("http://[::]:8000/v1", "http://[::1]:8000", "http://[::1]:8000/v1"),
        ("*:8000", "http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("ws://localhost:1234", "http://127.0.0.1:1234", "http://127.0.0.1:1234/v1"),
        # slips
        ("http:/localhost:1234", "http://127.0.0.1:1234", "http://127.0.0.1:1234/v1"),
        ("HTTP://LOCALHOST:1234/v1", "http://127.0.0.1:1234", "http://127.0.0.1:1234/v1"),
        (" 'http://h:1/v1', ", "http://h:1", "http://h:1/v1"),
        ("<http://h:1/v1>", "http://h:1", "http://h:1/v1"),
        ("::1", "http://[::1]", "http://[::1]/v1"),
        ("[::1]:8080/v1", "http://[::1]:8080", "http://[::1]:8080/v1"),
    ],
)
def test_what_a_pasted_text_means_first(text, root, base_url):
    assert first(text) == (root, base_url)


def test_localhost_is_tried_as_ipv4_and_then_as_ipv6():
    assert [address.root for address in mended("http://localhost:1234/v1")] == [
        "http://127.0.0.1:1234",
        "http://[::1]:1234",
    ]


def test_a_missing_v1_is_tried_with_it_and_then_without():
    assert mended("http://h:1")[0].base_urls == ("http://h:1/v1", "http://h:1")


def test_every_form_of_docker_model_runner_is_tried():
    (address,) = mended("http://h:12434/engines/llama.cpp/v1")
    assert address.base_urls == (
        "http://h:12434/engines/llama.cpp/v1",
        "http://h:12434/engines/v1",
        "http://h:12434/v1",
    )


def test_an_unknown_path_is_tried_as_a_prefix_and_then_left_out():
    assert [address.root for address in mended("http://h/foo")] == ["http://h/foo", "http://h"]


def test_gemini_keeps_its_own_path():
    base_urls = [url for address in mended("https://g.example.org/v1beta/openai/") for url in address.base_urls]
    assert "https://g.example.org/v1beta/openai" in base_urls


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must have a host"),
        ("   ", "must have a host"),
        ("http://", "must have a host"),
        ("/v1", "must have a host"),
        ("a b", "must have a host"),
        ("http://ex ample/v1", "must have a host"),
        ("ftp://h", "must start with http"),
        ("file:///etc/passwd", "must start with http"),
        ("h:99999", "a port from 1 to 65535"),
        ("h:0", "a port from 1 to 65535"),
        ("h:x", "a port from 1 to 65535"),
        ("http://user:secret@h/v1", "user name"),
        (None, "must be text"),
        (8000, "must be text"),
        (b"http://h", "must be text"),
    ],
)
def test_what_can_be_no_address_is_refused_in_words(text, says):
    with pytest.raises(BadInput, match=says) as raised:
        mended(text)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("value", "url"),
    [
        # Ollama's own table of cases, envconfig/config_test.go
        ("", None),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        ("1.2.3.4:1234", "http://1.2.3.4:1234"),
        (":1234", "http://127.0.0.1:1234"),
        ("example.com", "http://example.com:11434"),
        ("example.com:1234", "http://example.com:1234"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1]:1337", "http://[::1]:1337"),
        ("http://1.2.3.4", "http://1.2.3.4:80"),
        ("http://1.2.3.4:4321", "http://1.2.3.4:4321"),
        ("https://1.2.3.4", "https://1.2.3.4:443"),
        ("https://1.2.3.4:4321", "https://1.2.3.4:4321"),
        ('"1.2.3.4"', "http://1.2.3.4:11434"),
        ('" 1.2.3.4 "', "http://1.2.3.4:11434"),
        ("'1.2.3.4'", "http://1.2.3.4:11434"),
        ("example.com/ollama", "http://example.com:11434/ollama"),
        ("https://example.com/ollama", "https://example.com:443/ollama"),
        ("1.2.3.4:66000", "http://1.2.3.4:11434"),
        ("1.2.3.4:x", "http://1.2.3.4:11434"),
        # an address to listen on is this machine's own
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("[::]:8080", "http://[::1]:8080"),
        ("ollama.com", "https://ollama.com:443"),
    ],
)
def test_ollama_host_means_what_it_means_to_ollama(value, url):
    assert ollama_host(value) == url


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("gpu-box", "gpu-box"),
        ("localhost", "localhost"),
        ("192.168.1.5", "192.168.1.5"),
        ("host.docker.internal", "host.docker.internal"),
        ("gpu-box/", "gpu-box"),
        ("gpu-box:8000", None),
        ("http://gpu-box", None),
        ("gpu-box/v1", None),
        ("api.openai.com", None),
        ("8000", None),
    ],
)
def test_a_bare_host_is_one_of_the_own_network_with_nothing_beside_it(text, host):
    assert bare_host(text) == host


def test_hosts_and_ports():
    assert host_and_port("http://gpu-box/v1") == ("gpu-box", None)
    assert host_and_port("gpu-box:9000") == ("gpu-box", 9000)
    assert hosts_of("GPU-Box") == ("gpu-box",)
    assert (port_of("http://h/v1"), port_of("https://h"), port_of("http://h:7/x")) == (80, 443, 7)
