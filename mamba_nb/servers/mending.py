"""What people paste as a server's address, mended: a missing `/v1`, a doubled one, a page of its UI, a bare port.

In: text. Out: the addresses that it can mean, each as the server's root and the OpenAI addresses to try there,
the likeliest first. Pure: nothing is asked. Settings and backends take an address as it is (`mamba_nb._address`
says what is wrong with it); only what discovery is given is mended.

    "localhost:1234"                            http://127.0.0.1:1234   /v1
    "http://0.0.0.0:8000/v1/chat/completions"   http://127.0.0.1:8000   /v1
    "http://gpu-box:12434/engines/v1"           http://gpu-box:12434    /engines/v1, /v1
    "https://llm.example.org/team/v1"           https://llm.example.org/team   /v1
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from mamba_nb import _address
from mamba_nb._http import is_local_host
from mamba_nb.errors import BadInput

__all__ = ["Address", "bare_host", "host_and_port", "hosts_of", "mended", "ollama_host", "port_of", "url_of"]

# Paths of endpoints; the address is what stands before them.
ENDPOINTS = (
    ("chat", "completions"),
    ("audio", "speech"),
    ("completions",),
    ("embeddings",),
    ("responses",),
    ("messages",),
    ("models",),
)
# Ollama's, LM Studio's and KoboldCpp's native ones, which stand right below `/api`.
NATIVE = {"chat", "generate", "tags", "ps", "show", "version", "status", "pull", "embed", "embeddings", "extra"}
# Where web interfaces and probes live: Open WebUI's chats, llama-swap's and LM Studio's pages, FastAPI's documents.
PAGES = {
    *("ui", "docs", "redoc", "openapi.json", "index.html", "swagger", "c", "chat", "browse", "workspace", "admin"),
    *("auth", "login", "sign-in", "settings", "health", "healthz", "readyz", "metrics", "props", "slots", "version"),
    *("info", "lmstudio-greeting", "running", "logs", "playground", "upstream"),
}
# Where servers have their OpenAI paths: what was found at the end of a path -> what to try.
FORMS: dict[str, tuple[str, ...]] = {
    "": ("/v1", ""),
    "/v1": ("/v1", ""),
    "/api": ("/v1", "/api/v1", "/api"),
    "/api/v1": ("/api/v1", "/v1"),
    "/api/v0": ("/v1",),
    "/openai": ("/openai/v1", "/openai", "/v1"),
    "/openai/v1": ("/openai/v1", "/v1"),
    "/engines": ("/engines/v1", "/v1"),
    "/engines/v1": ("/engines/v1", "/v1"),
}
SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
OLLAMA_PORT = 11434


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One place where a server may be.

    Attributes:
        root: Where its native paths begin, without a slash at its end.
        base_urls: The OpenAI addresses to try, the likeliest first.
    """

    root: str
    base_urls: tuple[str, ...]


def mended(text: str) -> tuple[Address, ...]:
    """The addresses that a text can mean, the likeliest first.

    `localhost` is 127.0.0.1 and then [::1], since servers bind the former and some systems try the latter first; the
    wildcard addresses that servers print when they start are this machine's loopback. A path that is no API's is kept
    as a proxy's prefix, and left out in a last attempt.

    Args:
        text: An address, `host:port`, a host, `:port` or a port.

    Raises:
        BadInput: If it can be no address: another scheme, a user name, no host.

    Examples:
        >>> mended("http://0.0.0.0:8000/v1/v1/")[0].base_urls[0]
        'http://127.0.0.1:8000/v1'
    """
    scheme, host, port, path = _parts(text)
    above, tail = _split(path)
    found = []
    for name in hosts_of(host):
        place = url_of(scheme, name, port)
        found.append(_address_at(place, above, tail))
    if above:
        found += [_address_at(url_of(scheme, name, port), "", "") for name in hosts_of(host)]
    return tuple(dict.fromkeys(found))


def host_and_port(text: str) -> tuple[str, int | None]:
    """The host of an address and its port; None where the address names none.

    Raises:
        BadInput: If it can be no address.
    """
    return _parts(text)[1:3]


def bare_host(text: str) -> str | None:
    """The host where a text is a host of this machine's network and nothing else; None where it says more.

    Examples:
        >>> bare_host("gpu-box"), bare_host("gpu-box:8000"), bare_host("api.openai.com")
        ('gpu-box', None, None)
    """
    bare = _clean(text).rstrip("/")
    if "://" in bare or "/" in bare or bare.isdecimal():
        return None
    scheme, host, port, path = _parts(bare)
    return host if port is None and scheme == "http" and not path and is_local_host(host) else None


def ollama_host(value: str) -> str | None:
    """The address that `OLLAMA_HOST` means to Ollama's own client; None where it is empty.

    Without a scheme the port is 11434 unless it says another one; `http://` alone means 80 and `https://` 443. A port
    that is no number falls back to that default. An address to listen on (`0.0.0.0`, `:8000`) is this machine.

    Source: ollama/ollama, envconfig/config.go, Host().

    Examples:
        >>> ollama_host("0.0.0.0"), ollama_host("https://models.example.org"), ollama_host(":8000")
        ('http://127.0.0.1:11434', 'https://models.example.org:443', 'http://127.0.0.1:8000')
    """
    value = value.strip().strip("\"'").strip()
    if not value:
        return None
    scheme, colon, rest = value.partition("://")
    default = {"http": 80, "https": 443}.get(scheme, OLLAMA_PORT) if colon else OLLAMA_PORT
    if not colon:
        scheme, rest = ("https", "ollama.com:443") if value == "ollama.com" else ("http", value)
    place, _, path = rest.partition("/")
    host, port = _host_and_port(place)
    number = int(port) if port.isdecimal() and int(port) <= 65535 else default
    return url_of(scheme, hosts_of(host or "127.0.0.1")[0], number) + (f"/{path}".rstrip("/") if path else "")


def hosts_of(host: str) -> tuple[str, ...]:
    """The addresses to try for a host, in order: only the names and wildcards of this machine have others.

    Examples:
        >>> hosts_of("localhost"), hosts_of("0.0.0.0"), hosts_of("gpu-box")
        (('127.0.0.1', '::1'), ('127.0.0.1',), ('gpu-box',))
    """
    host = host.strip("[]").lower()
    if host in ("localhost", "ip6-localhost", ""):
        return "127.0.0.1", "::1"
    if host in ("0.0.0.0", "*"):
        return ("127.0.0.1",)
    if host == "::":
        return "::1", "127.0.0.1"
    return (host,)


def url_of(scheme: str, host: str, port: int | None) -> str:
    """Scheme, host and port as an address; the brackets of IPv6 are added."""
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}" + (f":{port}" if port is not None else "")


def _parts(text: str) -> tuple[str, str, int | None, str]:
    """Scheme, host, port and path."""
    bare = _clean(text)
    if bare.startswith("/") and not bare.startswith("//"):
        raise _refusal(text, "must have a host")
    match = re.match(r"([a-z][a-z0-9+.-]*):/+", bare, re.IGNORECASE)
    scheme = match[1].lower() if match else ""
    if match and scheme not in SCHEMES:
        raise _refusal(text, "must start with http:// or https://, or with the host")
    rest = re.split(r"[?#]", bare[match.end() :] if match else bare.lstrip("/"))[0].replace("\\", "/")
    place, _, path = rest.partition("/")
    if "@" in place:
        raise _refusal(text, "must not contain a user name or a password")
    if not match and place.isdecimal() and place:
        place = f":{place}"
    host, port = _host_and_port(place)
    if port and not (port.isdecimal() and 0 < int(port) <= 65535):
        raise _refusal(text, "must have a port from 1 to 65535 where it has one")
    host = host or ("localhost" if port else "")
    url = url_of(SCHEMES.get(scheme, "http"), host, int(port) if port else None)
    try:
        _address.checked(url if host != "*" else url.replace("*", "0.0.0.0", 1))
    except _address.Refused:
        raise _refusal(text, "must have a host") from None
    number = int(port) if port else None
    if not scheme:  # a name of the public net is not asked in the clear
        scheme = "http" if number not in (None, 443) or is_local_host(host) else "https"
    return SCHEMES[scheme], host, number, path


def _clean(text: object) -> str:
    if not isinstance(text, str):
        raise BadInput(f"An address must be text such as 'http://localhost:8000'; this is {type(text).__name__}.")
    return text.strip().strip("<>\"'`,;").strip()


def _host_and_port(place: str) -> tuple[str, str]:
    """`[::1]:80`, `::1`, `host:80`, `host`, `:80` as a host and a port, either of which may be empty."""
    if place.startswith("["):
        host, _, port = place[1:].partition("]")
        return host, port.removeprefix(":")
    try:
        return str(ipaddress.IPv6Address(place)), ""
    except ValueError:
        host, _, port = place.rpartition(":") if ":" in place else (place, "", "")
        return host, port


def _split(path: str) -> tuple[str, str]:
    """What stands before an API's own path, and that path without doubles and without endpoints."""
    above, tail = [word for word in path.split("/") if word], list[str]()
    while True:
        left = _without_endpoint(above)
        length = _api_words(left)
        tail[:0] = left[len(left) - length :]
        if len(left) - length == len(above):
            break
        above = left[: len(left) - length]
    if not tail:
        place = next((at for at, word in enumerate(above) if word.lower() in PAGES), None)
        above = above[:place]
    joined = "".join(f"/{word}" for word in tail)
    while (single := re.sub(r"(/[^/]+(?:/[^/]+)*?)\1", r"\1", joined)) != joined:
        joined = single
    return "".join(f"/{word}" for word in above), joined


def _without_endpoint(words: list[str]) -> list[str]:
    lower = [word.lower() for word in words]
    for ending in ENDPOINTS:
        if tuple(lower[-len(ending) :]) == ending and not (ending == ("models",) and lower == ["models"]):
            return words[: -len(ending)]
    if "api" in lower and lower.index("api") + 1 < len(lower) and lower[lower.index("api") + 1] in NATIVE:
        return words[: lower.index("api") + 1]
    return words[:-1] if lower == ["models"] else words


def _api_words(words: list[str]) -> int:
    """How many words at the end are the beginning of an API's paths."""
    if len(words) >= 3 and words[-3] == "engines" and words[-1] == "v1":
        return 3
    if len(words) >= 2 and words[-2] == "engines" and words[-1] != "v1":
        return 2
    return 1 if words and words[-1] in ("v1", "v0", "api", "openai", "engines") else 0


def _address_at(place: str, above: str, tail: str) -> Address:
    root = place + above
    return Address(root=root, base_urls=tuple(root + form for form in _forms(tail)))


def _forms(tail: str) -> Iterable[str]:
    known = FORMS.get(tail)
    if known is not None:
        return known
    if match := re.fullmatch(r"(/engines/[^/]+)(/v1)?", tail):
        return f"{match[1]}/v1", "/engines/v1", "/v1"
    as_given = tail if tail.endswith("/v1") else f"{tail}/v1"
    return dict.fromkeys((as_given, "/v1", tail))


def _refusal(text: str, rule: str) -> BadInput:
    return BadInput(
        f"An address {rule}. What came: {_address.shown(text)}.", hint="Write it as http://localhost:8000/v1."
    )


def port_of(url: str) -> int:
    """The port of an address, its scheme's own where it names none."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)
