"""Where to look for servers, and which key may go where.

In: what a caller named, the environment, the settings. Out: `Candidate` values, one a place, each place once; and
`Keys`. Nothing is asked here. Places are the known ports of this machine (or of the hosts that were named) and
configured addresses; never a range of ports.

    this machine   the ports of every kind (`Kind.ports`)
    settings       `model_backend.base_url` where somebody set it, with the settings' key
    environment    OLLAMA_HOST, OPENAI_BASE_URL

A key goes only where it was meant to go. The settings' key goes to the settings' address, `api_key=` to `urls=`, and
OPENAI_API_KEY to OpenAI's own hosts. All others (LM_API_TOKEN, VLLM_API_KEY, ...) wait until a server was told as of
their kind and asked for a key.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mamba_nb._http import is_openai_host, is_this_machine
from mamba_nb.errors import BadInput, MambaError
from mamba_nb.servers.kinds import kinds
from mamba_nb.servers.mending import (
    Address,
    bare_host,
    host_and_port,
    hosts_of,
    mended,
    ollama_host,
    port_of,
    url_of,
)

if TYPE_CHECKING:
    from pydantic import SecretStr

__all__ = ["KEY_VARIABLES", "Candidate", "Keys", "Plan", "at_host", "known_ports", "named_at", "plan", "revealed"]

KEY_VARIABLES = {
    "lmstudio": "LM_API_TOKEN",  # LM Studio, 1_developer authentication; lmstudio-python reads it too
    "vllm": "VLLM_API_KEY",  # vLLM, vllm/envs.py
    "llamacpp": "LLAMA_API_KEY",  # llama.cpp, tools/server/README.md
    "lemonade": "LEMONADE_API_KEY",  # Lemonade, docs/server
}
"""Kind -> the variable in which its own makers keep a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One place to look at.

    Attributes:
        addresses: What to try there, in order: the same place by other names, or with other paths.
        said_by: Who named it: `port 11434`, `settings`, `OLLAMA_HOST`, `urls`, ...
        named: Whether somebody named it; then it is told too that nothing is there.
        host: The host that somebody named, where its known ports are looked at; else None.
        key: Sent with the first question already, because it was given for this address; never shown.
        later: Sent only if a model server asks for a key; never shown.
    """

    addresses: tuple[Address, ...]
    said_by: str
    named: bool = False
    host: str | None = None
    key: str | None = field(default=None, repr=False)
    later: str | None = field(default=None, repr=False)

    @property
    def root(self) -> str:
        """The likeliest address."""
        return self.addresses[0].root

    @property
    def place(self) -> tuple[str, int, str]:
        """What tells two places apart: host, port and path; all names of this machine's loopback are one."""
        parts = urlsplit(self.root)
        host = parts.hostname or ""
        return ("loopback" if is_this_machine(host) else host), port_of(self.root), parts.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Keys that wait for a server to be told as of their kind.

    Attributes:
        by_kind: Kind -> key.
    """

    by_kind: Mapping[str, str] = field(default_factory=dict, repr=False)

    def meant_for(self, kind: str, candidate: Candidate, host: str) -> str | None:
        """The key to offer a server of this kind that asks for one; None where there is none for it.

        A kind's own key goes to this machine and to addresses that somebody named, and nowhere else. `api_key=` is
        not offered to whatever asks for a key on a port of this machine, only to what was told as a model server.
        """
        if candidate.later is not None and (kind != "compatible" or candidate.named or candidate.host):
            return candidate.later
        return self.by_kind.get(kind) if candidate.named or is_this_machine(host) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to look at.

    Attributes:
        candidates: The places, each once.
        keys: The keys that wait.
        complaints: What could not be read: (where it stood, what is wrong).
    """

    candidates: tuple[Candidate, ...]
    keys: Keys
    complaints: tuple[tuple[str, str], ...] = ()


def plan(
    hosts: str | Sequence[str] | None,
    urls: str | Sequence[str],
    api_key: str | SecretStr | None,
    environ: Mapping[str, str] | None = None,
) -> Plan:
    """The places to look at.

    Args:
        hosts: Machines whose known ports to look at; None is this machine, and what is configured.
        urls: Further addresses.
        api_key: The key for `urls`; elsewhere it is sent only to a model server that asks for a key.
        environ: The environment; None is this process's.

    Raises:
        BadInput: If an argument is wrong.
    """
    environ = os.environ if environ is None else environ
    key = revealed(api_key)
    wanted: list[Candidate] = []
    complaints: list[tuple[str, str]] = []
    for url in _texts("urls", urls):
        host = bare_host(url)
        wanted += at_host(host, key) if host else [named_at(url, "urls", key=key)]
    if hosts is None:
        wanted += _configured(environ, complaints)
    if hosts is None:
        wanted += [replace(candidate, host=None) for candidate in at_host("localhost", key)]
    else:
        for host in _texts("hosts", hosts):
            wanted += at_host(host, key)
    return Plan(
        candidates=tuple(_each_once(wanted)),
        keys=Keys(by_kind={kind: value for kind, name in KEY_VARIABLES.items() if (value := _key_in(environ, name))}),
        complaints=tuple(complaints),
    )


def at_host(text: str, later: str | None = None) -> list[Candidate]:
    """The known ports of a host; of `host:port` that port alone."""
    host, port = host_and_port(text)
    if port is not None:
        return [replace(named_at(text, "hosts"), later=later)]
    return [
        Candidate(
            addresses=tuple(_at_port(name, port) for name in hosts_of(host)),
            said_by=f"port {port}",
            host=text,
            later=later,
        )
        for port in known_ports()
    ]


def named_at(url: str, said_by: str, *, key: str | None = None) -> Candidate:
    """What to try for an address that somebody gave.

    Raises:
        BadInput: If it can be no address.
    """
    return Candidate(addresses=mended(url), said_by=said_by, named=True, key=key)


def known_ports() -> tuple[int, ...]:
    """The ports of every kind, each once, the usual ones of each kind first."""
    usual = [kind.ports[0] for kind in kinds().values() if kind.ports]
    further = [port for kind in kinds().values() for port in kind.ports[1:]]
    return tuple(dict.fromkeys([*usual, *further]))


def revealed(key: object) -> str | None:
    """The key's text; None for none and for an empty one.

    Raises:
        BadInput: If it cannot stand in a header; the key itself is not in the message.
    """
    text = key.get_secret_value() if hasattr(key, "get_secret_value") else key
    if text is None:
        return None
    if not isinstance(text, str) or not all("!" <= character <= "~" for character in text.strip()):
        raise BadInput("api_key must be text of printable ASCII characters without spaces. What came is not shown.")
    return text.strip() or None


def _at_port(host: str, port: int) -> Address:
    root = url_of("http", host, port)
    paths = [kind.api_path for kind in kinds().values() if kind.ports and kind.ports[0] == port]
    return Address(root=root, base_urls=tuple(root + path for path in dict.fromkeys([*paths[:1], "/v1"])))


def _configured(environ: Mapping[str, str], complaints: list[tuple[str, str]]) -> list[Candidate]:
    found = _settings(complaints)
    if (value := environ.get("OLLAMA_HOST")) and (url := ollama_host(value)):
        found.append(("OLLAMA_HOST", url, None))
    if value := environ.get("OPENAI_BASE_URL"):
        found.append(("OPENAI_BASE_URL", value, None))
    candidates = []
    for said_by, url, key in found:
        try:
            candidate = named_at(url, said_by, key=key)
        except BadInput as error:
            complaints.append((said_by, str(error)))
            continue
        if key is None and is_openai_host(urlsplit(candidate.root).hostname or ""):
            candidate = replace(candidate, key=_key_in(environ, "OPENAI_API_KEY"))
        candidates.append(candidate)
    return candidates


def _settings(complaints: list[tuple[str, str]]) -> list[tuple[str, str, str | None]]:
    """The address of the settings, where somebody set it, and its key."""
    from mamba_nb.settings import AgentSettings

    try:
        chosen = AgentSettings().model_backend
    except MambaError as error:
        complaints.append(("settings", str(error)))
        return []
    if "base_url" not in chosen.model_fields_set:
        return []
    return [("settings", chosen.base_url, chosen.api_key.get_secret_value() if chosen.api_key else None)]


def _key_in(environ: Mapping[str, str], name: str) -> str | None:
    """A key from the environment; one that cannot stand in a header counts as none."""
    try:
        return revealed(environ.get(name))
    except BadInput:
        return None


def _each_once(candidates: Iterable[Candidate]) -> Iterable[Candidate]:
    """Each place once: what was named before what is only known, a place with a key before one without."""
    places: dict[tuple[str, int, str], Candidate] = {}
    for candidate in candidates:
        before = places.get(candidate.place)
        if before is None:
            places[candidate.place] = candidate
        elif before.key is None and (candidate.key or candidate.later):
            places[candidate.place] = replace(before, key=candidate.key, later=before.later or candidate.later)
    return places.values()


def _texts(name: str, value: Any) -> list[str]:
    wanted = [value] if isinstance(value, str) else value
    try:
        listed = list(wanted)
    except TypeError:
        listed = [None]
    if not all(isinstance(item, str) and item.strip() for item in listed):
        raise BadInput(f"{name} must be a list of texts such as {EXAMPLES[name]}; this is {value!r}.")
    return listed


EXAMPLES = {"hosts": "['gpu-box']", "urls": "['http://gpu-box:8000/v1']"}
