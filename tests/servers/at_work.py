"""A kind's functions put to work on a scripted server, for the tests of the kinds."""

from __future__ import annotations

import dataclasses
import http.client
import json
import socket
import time
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from mamba_nb._bridge import io
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Kind, Sighting, kind_of
from mamba_nb.servers.pulling import PullProgress
from mamba_nb.testing import Script, ScriptedServer

T = TypeVar("T")

EIGHT = ("localai", "jan", "llamaswap", "litellm", "koboldcpp", "textgenwebui", "dockermodelrunner", "lemonade")
OTHERS = (*EIGHT, "plain", "ollama", "vllm", "lmstudio", "llamacpp")

HUGE = 10**400
DEEP = "[" * 200 + "]" * 200
ODD_ENTRIES = [
    None,
    7,
    "text",
    [],
    {},
    {"id": None},
    {"id": 7},
    {"id": ""},
    {"id": ["m"]},
]
# Bodies that a server may send with status 200, whatever was asked for.
ODD_BODIES = {
    "null": "null",
    "a number": "17",
    "a text": '"text"',
    "an empty list": "[]",
    "a list of nonsense": json.dumps(ODD_ENTRIES),
    "an empty object": "{}",
    "data is null": '{"data": null, "models": null, "running": null, "all_models_loaded": null}',
    "data is a text": '{"data": "x", "models": "x", "running": "x", "all_models_loaded": "x"}',
    "data is an object": '{"data": {"id": "m"}, "models": {"id": "m"}, "running": {"model": "m"}}',
    "data is nonsense": json.dumps(dict.fromkeys(("data", "models", "running", "all_models_loaded"), ODD_ENTRIES)),
    "a page": "<!doctype html><html><body>nothing here</body></html>",
    "half of an object": '{"data": [{"id": "m"',
    "deep lists": '{"data": ' + DEEP + "}",
    "an error": '{"error": "Unexpected endpoint or method. (GET /x)"}',
}
ODD_VALUES = (None, True, "many", "", -1, 0, 1.5, float("inf"), HUGE, [], [None], {}, {"a": None})


def kind(name: str) -> Kind:
    found = kind_of(name)
    assert found is not None
    return found


def ask(work: Coroutine[Any, Any, T]) -> T:
    """Run it on the package's own I/O loop."""
    return io.submit(work).result(60)


def asking(server: ScriptedServer, *, key: str | None = None, base_url: str | None = None) -> Asking:
    return Asking(root=server.root, base_url=base_url or server.base_url, key=key)


def recognised(name: str, server: ScriptedServer, *, key: str | None = None) -> Sighting | None:
    recognise = kind(name).recognise
    assert recognise is not None
    return ask(recognise(asking(server, key=key)))


def found(
    name: str, server: ScriptedServer, *, key: str | None = None, base_url: str | None = None
) -> list[ServedModel]:
    models = kind(name).models
    assert models is not None
    return list(ask(models(asking(server, key=key, base_url=base_url))))


def told(model: ServedModel) -> dict[str, Any]:
    """What a model's facts are, without evidence and time."""
    return {name: fact.value for name, fact in model.facts().items()}


def pulled(name: str, server: ScriptedServer, model: str, **options: Any) -> list[PullProgress]:
    pull = kind(name).pull
    assert pull is not None

    async def collect() -> list[PullProgress]:
        return [step async for step in pull(asking(server), model, options)]

    return ask(collect())


def paths(server: ScriptedServer) -> list[str]:
    """The paths asked for so far."""
    return [request.path for request in server.requests]


@contextmanager
def odd(name: str, path: str, body: str) -> Iterator[ScriptedServer]:
    """A server of that kind, one path of which answers with something odd."""
    with ScriptedServer(style=name, models=("m",), scripts={path: Script(error_body=body)}) as server:
        yield server


def survives(name: str, path: str, body: str, *, key: str | None = None) -> list[ServedModel]:
    """Everything that only reads, on a server one path of which is odd; gives the models found."""
    about = kind(name)
    with odd(name, path, body) as server:
        key = key or server.api_key
        recognised(name, server, key=key)
        models = found(name, server, key=key)
        assert all(isinstance(model.id, str) and model.id for model in models)
        if about.version is not None:
            version = ask(about.version(asking(server, key=key)))
            assert version is None or isinstance(version, str)
        for model in models:
            checked(model)
            if about.detail is not None:
                checked(ask(about.detail(asking(server, key=key), model)))
    return models


TYPES: Mapping[str, type] = {
    "context_window": int,
    "context_max": int,
    "max_output_tokens": int,
    "size_bytes": int,
    "memory_bytes": int,
    "parameters": int,
    "quantization": str,
    "family": str,
    "digest": str,
    "supports_tools": bool,
    "supports_vision": bool,
    "supports_reasoning": bool,
    "supports_embeddings": bool,
    "runs_locally": bool,
    "state": str,
    "task": str,
}


def checked(model: ServedModel) -> ServedModel:
    """The model, each field of which has its type, and each of whose facts says where it is from."""
    for field in dataclasses.fields(model):
        value = getattr(model, field.name)
        if value is not None and field.name in TYPES:
            assert type(value) is TYPES[field.name], (field.name, value)
            if isinstance(value, int) and not isinstance(value, bool):
                assert 0 < value <= 2**53
    assert set(model.facts()) <= set(model.evidence)
    return model


def post(server: ScriptedServer, path: str, body: Any, *, key: str | None = None) -> tuple[int, dict[str, str], str]:
    """One request past the package: status, headers by lower-case name, body."""
    return send(server, "POST", path, body, key=key)


def get(server: ScriptedServer, path: str, *, key: str | None = None) -> tuple[int, dict[str, str], str]:
    return send(server, "GET", path, None, key=key)


def leave(server: ScriptedServer, path: str, body: Any) -> None:
    """Send a request, wait until a load has begun for it, and hang up; loading goes on."""
    data = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(
            b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), len(data), data)
        )
        while not server.room.loading:
            time.sleep(0.005)


def send(
    server: ScriptedServer, method: str, path: str, body: Any, *, key: str | None = None
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, {n.lower(): v for n, v in response.headers.items()}, response.read().decode()
    finally:
        connection.close()


CHAT = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}  # six words
