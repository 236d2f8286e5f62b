"""Servers of no known kind: told by a list of models, and never as certain."""

from __future__ import annotations

from typing import Any

import pytest

from mamba_nb._bridge import io
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.compatible import KIND
from mamba_nb.servers.kinds import Sighting
from mamba_nb.testing import Script, ScriptedServer


def asking(server: ScriptedServer) -> Asking:
    return Asking(root=server.root, base_url=server.base_url)


def run(work: Any) -> Any:
    return io.submit(work).result(30)


def told(server: ScriptedServer) -> Sighting | None:
    return run(KIND.recognise(asking(server)))


def answering(body: Any, status: int = 200) -> ScriptedServer:
    return ScriptedServer(scripts={"/v1/models": Script(status=status, error_body=body)}, models=[])


def test_a_list_of_models_is_likely():
    with ScriptedServer() as server:
        sighting = told(server)
        assert [request.path for request in server.requests] == ["/v1/models"]
    assert sighting is not None and (sighting.kind, sighting.certainty) == ("compatible", "likely")


@pytest.mark.parametrize("data", [None, []])
def test_an_empty_list_is_a_guess(data):
    with answering({"object": "list", "data": data}) as server:
        sighting = told(server)
    assert sighting is not None and sighting.certainty == "guess"


def test_a_refusal_in_openais_form_is_a_guess_that_wants_a_key():
    with ScriptedServer(api_key="right") as server:
        sighting = told(server)
    assert sighting is not None and (sighting.certainty, sighting.needs_key) == ("guess", True)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("<html><body>Log in</body></html>", 200),
        ("<html><body>Log in</body></html>", 401),
        ({"error": "Unauthorized"}, 401),
        ({"detail": "Not authenticated"}, 403),
        ({"data": []}, 200),
        ({"object": "list", "data": {"id": "m"}}, 200),
        ({"object": "list", "data": [{"name": "a book"}]}, 200),
        ({"object": "list"}, 200),
        ([{"id": "m"}], 200),
        ("null", 200),
        ({"error": "Unexpected endpoint or method. (GET /v1/models)"}, 200),
        ({"object": "list", "data": [{"id": "m"}]}, 404),
        ({"error": {"message": "broken"}}, 500),
    ],
)
def test_what_is_no_list_of_models_is_no_model_server(body, status):
    with answering(body, status) as server:
        assert told(server) is None


def test_a_server_that_is_gone_is_nothing():
    with ScriptedServer() as server:
        there = asking(server)
    assert run(KIND.recognise(there)) is None and run(KIND.models(there)) == []


def test_its_models_have_a_context_where_an_entry_has_one():
    entries = [
        {"id": "a", "max_model_len": 2048},
        {"id": "b", "context_length": 4096.0},
        {"id": "c", "context_window": "8k", "max_context_length": 16},
        {"id": "d", "context_length": None},
        {"id": None},
        None,
    ]
    with answering({"object": "list", "data": entries}) as server:
        found = {model.id: model for model in run(KIND.models(asking(server)))}
    assert {name: model.context_window for name, model in found.items()} == {"a": 2048, "b": 4096, "c": 16, "d": None}
    assert found["c"].evidence == {"context_window": "GET /v1/models, max_context_length"}
    assert all(model.state is None for model in found.values())


def test_five_thousand_models_are_all_there():
    with answering({"object": "list", "data": [{"id": f"m{n}"} for n in range(5000)]}) as server:
        assert told(server) is not None and len(run(KIND.models(asking(server)))) == 5000
