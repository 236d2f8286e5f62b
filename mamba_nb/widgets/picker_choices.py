"""Servers as what a reader can choose from: one entry a server, one a model, as JSON for any widget that lists them.

In go `Server` records, out come plain dicts; nothing is asked, and every text that a server wrote is made visible.

    servers_json(servers)   what each server is, whether it can be used, and what is wrong with it
    choices(servers)        one entry a model: its id, its name, what matters beside it, why it cannot be chosen

An id belongs to an address and a name, so it stays the same when the server is looked at again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from mamba_nb._http import is_local_host
from mamba_nb.display.servers import bytes_text
from mamba_nb.display.text import count, one_line
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.server import Server

__all__ = ["choice_id", "choices", "find_choice", "place_of", "server_id", "servers_json", "state_of"]

UNKNOWN = "?"
NAME_CHARS = 200
NOT_FOR_CHAT = {
    "embedding": "an embedding model, which does not chat",
    "other": "a model for something else than chat",
}
# A model's state in its server's word -> what is said of it here, and the state whose shape stands before it.
STATES = {
    "loaded": ("loaded", "done"),
    "loading": ("loading", "loading model"),
    "downloading": ("downloading", "loading model"),
    "sleeping": ("sleeping", "waiting"),
    "unloaded": ("not loaded", "idle"),
    "failed": ("failed to load", "failed"),
}


def server_id(base_url: str) -> str:
    """The id of the server at an address."""
    return _hashed("server", base_url)


def choice_id(base_url: str, model: str) -> str:
    """The id of a model at an address."""
    return _hashed("model", base_url, model)


def place_of(base_url: str) -> str:
    """Host and port of an address, and its path where that is not `/v1`: what tells servers apart for a reader."""
    parts = urlsplit(base_url)
    return one_line(parts.netloc + ("" if parts.path in ("", "/v1") else parts.path), NAME_CHARS)


def state_of(server: Server) -> str:
    """What a server is like for a chooser.

    Returns:
        `ready` (it has models), `key needed`, `key refused`, `loading`, or `no models`.
    """
    if server.usable:
        return "ready"
    if server.needs_key:
        return "key refused" if server.key is not None else "key needed"
    return "loading" if any("loading" in problem for problem in server.problems) else "no models"


def servers_json(servers: Iterable[Server]) -> list[dict[str, Any]]:
    """What each server is.

    Returns:
        One dict a server: `id`, `title` (its kind as its makers write it), `place` (host and port), `base_url`,
        `version` ("" where unknown), `state` (of `state_of`), `has_key`, `models` (how many), and `problems`, each with
        what to do.
    """
    return [
        {
            "id": server_id(server.base_url),
            "title": _title(server),
            "place": place_of(server.base_url),
            "base_url": one_line(server.base_url),
            "version": one_line(server.version or "", 40),
            "state": state_of(server),
            "has_key": server.key is not None,
            "models": len(server.models),
            "problems": [one_line(problem, 400) for problem in server.problems],
        }
        for server in servers
    ]


def choices(servers: Iterable[Server]) -> list[dict[str, Any]]:
    """What can be chosen: the models of each server, those in memory first and those that do not chat last.

    Returns:
        One dict a model. `id`; `server` (the id of its server); `name`; `title` and `place` of its server; `mark` (the
        state whose shape stands before it); `facts`, each a dict of `name`, `text` (`?` where the server does not say)
        and `says` (what it means, for a title); `disabled` (why it cannot be chosen, or None); and `search`, the text
        to look through, in lower case.
    """
    return [choice for server in servers for choice in _of_server(server)]


def find_choice(servers: Iterable[Server], wanted: str) -> tuple[Server, ServedModel] | None:
    """The server and model behind an id of `choices`; None where it is not there."""
    for server in servers:
        for model in server.models:
            if choice_id(server.base_url, model.id) == wanted:
                return server, model
    return None


def _of_server(server: Server) -> Iterator[dict[str, Any]]:
    host = urlsplit(server.base_url).hostname or ""
    for model in sorted(server.models, key=_order):
        name = one_line(model.id, NAME_CHARS)
        away = model.runs_locally is False or not is_local_host(host)
        word, mark = STATES.get(model.state or "", (UNKNOWN, "idle"))
        yield {
            "id": choice_id(server.base_url, model.id),
            "server": server_id(server.base_url),
            "name": name,
            "title": _title(server),
            "place": place_of(server.base_url),
            "mark": mark,
            "facts": [
                _fact("memory", word, "whether it is in memory now"),
                _fact("context", _context(model), "tokens of context in force, and what the model was made for"),
                _fact("tools", _yes_no(model.supports_tools), "whether it is declared to call tools"),
                _fact("vision", _yes_no(model.supports_vision), "whether it is declared to read images"),
                _fact("quant", one_line(model.quantization or UNKNOWN, 20), "how its weights are stored"),
                _fact("size", UNKNOWN if model.size_bytes is None else bytes_text(model.size_bytes), "on disk"),
                *([_fact("where", "runs elsewhere", "prompts leave this machine and its network")] if away else []),
            ],
            "disabled": _why_not(model),
            "search": " ".join((name, _title(server), server.kind, place_of(server.base_url))).lower(),
        }


def _order(model: ServedModel) -> tuple[bool, int]:
    return _why_not(model) is not None, {"loaded": 0, "loading": 1}.get(model.state or "", 2)


def _why_not(model: ServedModel) -> str | None:
    return NOT_FOR_CHAT.get(model.task or "")


def _fact(name: str, text: str, says: str) -> dict[str, str]:
    return {"name": name, "text": text, "says": says if text != UNKNOWN else f"{says}: the server does not say"}


def _context(model: ServedModel) -> str:
    force = UNKNOWN if model.context_window is None else count(model.context_window)
    if model.context_max is None or model.context_max == model.context_window:
        return force
    return f"{force} of {count(model.context_max)}"


def _yes_no(value: bool | None) -> str:
    return UNKNOWN if value is None else "yes" if value else "no"


def _title(server: Server) -> str:
    name = server.about.title.removeprefix("the ")
    return name if name == server.about.title else name[:1].upper() + name[1:]


def _hashed(*parts: str) -> str:
    text = "\n".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:16]
