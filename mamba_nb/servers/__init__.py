"""The model servers: found, told apart, and what each says of itself.

    from mamba_nb.servers import find_servers
    find_servers()                 what runs here, as a table; .to_frame() for pandas
    find_servers()["ollama"]       a Server: .models, .pull("llama3.2"), .load(...), .backend("llama3.2")

One file a kind; each offers a `KIND`, which is data and a few small functions. `failures` turns what goes wrong on the
way to a server into this package's errors. Names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mamba_nb._lazy import lazily

if TYPE_CHECKING:
    from mamba_nb.servers.discovery import find_servers
    from mamba_nb.servers.facts import Fact, ServedModel
    from mamba_nb.servers.found import Other, Servers
    from mamba_nb.servers.kinds import Kind, Sighting, kind_of
    from mamba_nb.servers.pulling import PullProgress
    from mamba_nb.servers.server import Server

__all__ = [
    "Fact",
    "Kind",
    "Other",
    "PullProgress",
    "ServedModel",
    "Server",
    "Servers",
    "Sighting",
    "find_servers",
    "kind_of",
]

_HOMES = {
    "Fact": "facts",
    "Kind": "kinds",
    "Other": "found",
    "PullProgress": "pulling",
    "ServedModel": "facts",
    "Server": "server",
    "Servers": "found",
    "Sighting": "kinds",
    "find_servers": "discovery",
    "kind_of": "kinds",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
