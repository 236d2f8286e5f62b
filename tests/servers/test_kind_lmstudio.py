"""LM Studio as a kind: told by shape, its models with what it declares, its verbs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from mamba_nb._bridge import io
from mamba_nb.errors import BadInput, ModelNotFound, NotHere, ServerError, ServerFailed
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Sighting
from mamba_nb.servers.lmstudio import KIND, is_loading, loaded_models, models, parameters, recognise, version
from mamba_nb.testing import Script, ScriptedServer

GEMMA = "google/gemma-4-26b-a4b"


def asking(server: ScriptedServer, **options: Any) -> Asking:
    return Asking(root=server.root, base_url=server.base_url, **options)


def told(server: ScriptedServer, **options: Any) -> Sighting | None:
    return io.submit(recognise(asking(server, **options))).result(20)


def had(server: ScriptedServer, **options: Any) -> dict[str, ServedModel]:
    return {model.id: model for model in io.submit(models(asking(server, **options))).result(20)}


def paths(server: ScriptedServer) -> list[str]:
    return [request.path for request in server.requests]


@contextlib.contextmanager
def studio(*names: str, **options: Any) -> Iterator[ScriptedServer]:
    with ScriptedServer(style="lmstudio", models=names or ("qwen/qwen3-8b",), **options) as server:
        yield server


# Is it LM Studio?


def test_its_greeting_tells_it_and_no_unknown_path_is_asked_for():
    with studio() as server:
        sighting = told(server)
        assert sighting is not None
        assert (sighting.kind, sighting.certainty, sighting.needs_key) == ("lmstudio", "certain", False)
        assert sighting.evidence == 'GET /lmstudio-greeting is {"lmstudio": true}'
        assert paths(server) == ["/v1/models", "/lmstudio-greeting"]


def test_one_that_wants_a_token_is_told_by_its_words():
    with studio(api_key="right") as server:
        sighting = told(server)
        assert sighting is not None and (sighting.certainty, sighting.needs_key) == ("certain", True)
        assert paths(server) == ["/v1/models"]
        assert told(server, key="right") == Sighting(
            kind="lmstudio", certainty="certain", evidence='GET /lmstudio-greeting is {"lmstudio": true}'
        )


def test_one_that_wants_a_token_in_other_words_is_told_by_its_greeting():
    refusal = Script(status=401, error_body={"error": {"message": "Who are you?"}})
    with studio(scripts={"/v1/models": refusal}) as server:
        sighting = told(server)
    assert sighting is not None and sighting.needs_key and "greeting" in sighting.evidence


def test_one_without_a_model_is_told_too():
    with ScriptedServer(style="lmstudio", models=(), options={"jit": False}) as server:
        assert told(server) is not None


@pytest.mark.parametrize("number", ["0.2", "0.3", "0.4"])
def test_an_old_one_without_a_greeting_is_told_by_its_words_for_unknown_paths(number: str):
    with studio(options={"version": number, "greeting": False}) as server:
        sighting = told(server)
        assert sighting is not None and sighting.certainty == "certain"
        assert "Unexpected endpoint or method." in sighting.evidence
        assert len(paths(server)) == 2


def test_a_wrong_base_url_is_told_by_those_words_too():
    with studio() as server:
        wrong = Asking(root=server.root + "/openai", base_url=server.root + "/openai/v1")
        sighting = io.submit(recognise(wrong)).result(20)
    assert sighting is not None and (sighting.kind, sighting.certainty) == ("lmstudio", "likely")


@pytest.mark.parametrize("path", ["/api/v1/models", "/api/v0/models"])
def test_behind_a_proxy_that_hides_the_greeting_its_own_lists_tell_it(path: str):
    hidden = {"/lmstudio-greeting": Script(status=404, error_body="nothing here")}
    number = "0.4" if path == "/api/v1/models" else "0.3"
    with studio(scripts=hidden, options={"version": number}) as server:
        sighting = told(server)
    assert sighting is not None and sighting.evidence == f"GET {path} has LM Studio's shape"


@pytest.mark.parametrize("style", ["plain", "ollama", "vllm", "llamacpp", "sglang", "openai", "mlxlm", "litellm"])
def test_no_other_kind_is_taken_for_it(style: str):
    with ScriptedServer(style=style) as server:
        assert told(server) is None
        assert "/api/v1/models" not in paths(server) and "/api/v0/models" not in paths(server)


def test_a_copy_of_its_owner_alone_is_not_enough():
    with ScriptedServer(style="plain", owned_by="organization_owner") as server:
        assert told(server) is None


@pytest.mark.parametrize(
    "body",
    ["", "null", "[]", '{"error": 5}', '{"data": 5}', '{"data": [null, 3, {"owned_by": {}}]}', '{"lmstudio": "true"}'],
)
def test_nonsense_is_nobody_and_raises_nothing(body: str):
    scripts = dict.fromkeys(("/v1/models", "/lmstudio-greeting"), Script(error_body=body or " "))
    with ScriptedServer(style="plain", scripts=scripts) as server:
        assert told(server) is None
        assert isinstance(had(server), dict)


@pytest.mark.parametrize(("number", "said"), [("0.4", "0.4 or later"), ("0.3", "0.3.6 or later"), ("0.2", None)])
def test_its_lists_tell_how_new_it_is(number: str, said: str | None):
    with studio(options={"version": number}) as server:
        assert io.submit(version(asking(server))).result(20) == said


# What it has.


def test_all_that_it_declares_is_there_in_our_words():
    about = {
        GEMMA: {
            "loaded": True,
            "context": 4096,
            "context_max": 262_144,
            "size_bytes": 17_990_911_801,
            "params": "26B-A4B",
            "quantization": "Q4_K_M",
            "architecture": "gemma4",
            "vision": True,
            "tools": True,
            "reasoning": {"allowed_options": ["off", "on"], "default": "on"},
        },
        "text-embedding-nomic": {"type": "embedding", "loaded": False, "params": None, "context_max": 2048},
    }
    with studio(GEMMA, "text-embedding-nomic", about=about) as server:
        found = had(server)
        assert paths(server) == ["/api/v1/models"]
    gemma, nomic = found[GEMMA], found["text-embedding-nomic"]
    assert (gemma.state, gemma.task, gemma.context_window, gemma.context_max) == ("loaded", "chat", 4096, 262_144)
    assert (gemma.size_bytes, gemma.parameters, gemma.quantization) == (17_990_911_801, 26_000_000_000, "Q4_K_M")
    assert (gemma.family, gemma.supports_tools, gemma.supports_vision) == ("gemma4", True, True)
    assert (gemma.supports_reasoning, gemma.supports_embeddings, gemma.runs_locally) == (True, False, None)
    assert gemma.evidence["context_window"] == "GET /api/v1/models, loaded_instances[].config.context_length"
    assert gemma.extras["reasoning_options"] == ("off", "on") and gemma.extras["slots"] == 4
    assert (nomic.state, nomic.task, nomic.context_window, nomic.context_max) == ("unloaded", "embedding", None, 2048)
    assert (nomic.supports_embeddings, nomic.supports_tools, nomic.parameters) == (True, None, None)


def test_an_older_one_declares_less_and_nothing_is_made_up():
    about = {"gemma-3-4b-it": {"loaded": True, "vision": True, "tools": True, "context": 4096}}
    with studio("gemma-3-4b-it", "plain-7b", about=about, load_s=1, options={"version": "0.3"}) as server:
        found = had(server)
        assert paths(server) == ["/api/v1/models", "/api/v0/models"]
    gemma, plain = found["gemma-3-4b-it"], found["plain-7b"]
    assert (gemma.state, gemma.context_window, gemma.context_max) == ("loaded", 4096, 131_072)
    assert (gemma.supports_tools, gemma.supports_vision, gemma.family) == (True, True, "llama")
    assert (gemma.size_bytes, gemma.parameters, gemma.supports_reasoning) == (None, None, None)
    assert (plain.state, plain.context_window, plain.supports_tools, plain.supports_vision) == (
        "unloaded",
        None,
        None,
        False,
    )


def test_a_very_old_one_gives_names_alone():
    with studio("a", "b", options={"version": "0.2"}) as server:
        found = had(server)
    assert list(found) == ["a", "b"] and found["a"] == ServedModel(id="a")


def test_where_a_token_is_asked_for_one_question_is_enough():
    with studio(api_key="right") as server:
        assert had(server) == {}
        assert paths(server) == ["/api/v1/models"]
        assert list(had(server, key="right")) == ["qwen/qwen3-8b"]


def test_an_instance_with_a_name_of_its_own_is_a_model_too_with_its_own_context():
    entry = {
        "type": "llm",
        "key": "qwen/qwen3-8b",
        "max_context_length": 40960,
        "loaded_instances": [
            {"id": "mine", "config": {"context_length": 2048}},
            {"id": "qwen/qwen3-8b", "config": {"context_length": 8192}},
        ],
    }
    with studio(scripts={"/api/v1/models": Script(error_body={"models": [entry]})}) as server:
        found = had(server)
    assert {name: model.context_window for name, model in found.items()} == {"qwen/qwen3-8b": 8192, "mine": 2048}
    assert found["mine"].extras["key"] == "qwen/qwen3-8b" and found["mine"].context_max == 40960
    assert found["mine"].extras["instances"] == ("mine", "qwen/qwen3-8b")


ODD: dict[str, Any] = {
    "type": 7,
    "key": "odd",
    "architecture": None,
    "quantization": [1],
    "size_bytes": "big",
    "params_string": 26,
    "loaded_instances": [None, {"id": 3}, {"id": "odd", "config": {"context_length": -1}}],
    "max_context_length": True,
    "capabilities": {"vision": "yes", "trained_for_tool_use": None, "reasoning": {"allowed_options": [1]}},
    "selected_variant": {},
}


def test_what_has_the_wrong_type_counts_as_unsaid():
    with studio(scripts={"/api/v1/models": Script(error_body={"models": [ODD, None, 3, {"key": ""}]})}) as server:
        found = had(server)
    odd = found["odd"]
    assert list(found) == ["odd"] and odd.facts() == {} and odd.evidence == {}
    assert (odd.state, odd.task) == ("loaded", None)


def test_five_thousand_models_are_read():
    entries = [{"type": "llm", "key": f"m{i}", "loaded_instances": []} for i in range(5000)]
    with studio(scripts={"/api/v1/models": Script(error_body={"models": entries})}) as server:
        assert len(had(server)) == 5000


@pytest.mark.parametrize(
    ("written", "count"),
    [
        ("26B-A4B", 26_000_000_000),
        ("235B-A22B", 235_000_000_000),
        ("3B", 3_000_000_000),
        ("270M", 270_000_000),
        ("1.5B", 1_500_000_000),
        ("8x7B", None),
        ("E4B", None),
        ("", None),
        (None, None),
        (7, None),
    ],
)
def test_parameters_are_all_weights_and_not_the_active_ones(written: Any, count: int | None):
    assert parameters(written) == count


def test_a_backend_that_waits_is_told_what_loads_and_what_is_loaded():
    about = {"chat": {"loaded": True}, "embed": {"loaded": True, "type": "embedding"}, "other": {"loaded": False}}
    with studio("chat", "embed", "other", about=about) as server:
        here = asking(server)
        assert io.submit(loaded_models(here.json)).result(20) == ["chat"]
        assert io.submit(is_loading(here.json, "other")).result(20) is True
        assert io.submit(is_loading(here.json, "chat")).result(20) is False
        assert io.submit(is_loading(here.json, "nobody")).result(20) is False


@pytest.mark.parametrize("listing", [None, [], {"data": [None, {"id": []}, {"state": "loaded", "type": "llm"}]}])
def test_a_backend_that_waits_is_not_hurt_by_nonsense(listing: Any):
    async def fetch(path: str) -> Any:
        return listing

    assert io.submit(loaded_models(fetch)).result(20) == []
    assert io.submit(is_loading(fetch, "x")).result(20) is False


# Load and unload.


def load(server: ScriptedServer, model: str, **options: Any) -> None:
    assert KIND.load is not None
    given = {"context_length": None, "keep_alive": None, **options}
    io.submit(KIND.load(asking(server), model, **given)).result(20)


def unload(server: ScriptedServer, model: str) -> None:
    assert KIND.unload is not None
    io.submit(KIND.unload(asking(server), model)).result(20)


UNLOADED = {"": {"loaded": False}}


def test_load_puts_a_model_into_memory_with_the_context_asked_for():
    with studio("a", "b", about=UNLOADED, load_s=0.05) as server:
        load(server, "a", context_length=16384)
        found = had(server)
    assert (found["a"].state, found["a"].context_window, found["b"].state) == ("loaded", 16384, "unloaded")


def test_a_loaded_model_is_not_loaded_a_second_time():
    with studio("a", about={"a": {"loaded": True, "context": 4096}}) as server:
        load(server, "a")
        load(server, "a", context_length=4096)
        assert server.loads == 0 and set(paths(server)) == {"/api/v1/models"}


def test_another_context_replaces_the_instance_instead_of_adding_one():
    with studio("a", about={"a": {"loaded": True, "context": 4096}}) as server:
        load(server, "a", context_length=8192)
        found = had(server)
    assert list(found) == ["a"] and found["a"].context_window == 8192
    assert found["a"].extras["instances"] == ("a",)


def test_unload_takes_every_instance_out_and_does_nothing_where_there_is_none():
    with studio("a", about={"a": {"loaded": True}}) as server:
        unload(server, "a")
        assert had(server)["a"].state == "unloaded"
        asked = len(server.requests)
        unload(server, "a")
        assert paths(server)[asked:] == ["/api/v1/models"]


def test_what_is_not_downloaded_is_an_error_with_the_closest_name():
    with studio("qwen/qwen3-8b", about=UNLOADED) as server:
        for verb in (load, unload):
            with pytest.raises(ModelNotFound, match=r"Did you mean 'qwen/qwen3-8b'") as caught:
                verb(server, "qwen/qwen3-8")
            assert caught.value.served == ("qwen/qwen3-8b",) and "lms get" in (caught.value.hint or "")


def test_a_load_that_fails_keeps_the_servers_words():
    about = {"a": {"loaded": False, "load_fails": "Failed to load model: insufficient memory"}}
    with studio("a", about=about) as server, pytest.raises(ServerError, match="insufficient memory"):
        load(server, "a")


def test_keep_alive_has_no_place_in_a_load():
    with studio("a", about=UNLOADED) as server, pytest.raises(BadInput, match="keep_alive") as caught:
        load(server, "a", keep_alive="10m")
    assert "ttl" in (caught.value.hint or "")


@pytest.mark.parametrize(("keep_alive", "ttl"), [("10m", 600), (90, 90), ("1h", 3600), ("45s", 45), (None, None)])
def test_an_older_one_loads_by_being_asked_for_one_token(keep_alive: Any, ttl: int | None):
    with studio("a", load_s=0.05, options={"version": "0.3"}) as server:
        load(server, "a", keep_alive=keep_alive)
        assert server.load_log == ["a"]
        body = server.chats[0].body
    assert body["max_tokens"] == 1 and body.get("ttl") == ttl


@pytest.mark.parametrize("keep_alive", [-1, "-1", 0, "soon", "", "nan", "inf"])
def test_a_keep_alive_that_is_no_time_is_refused_there(keep_alive: Any):
    with studio("a", load_s=0.05, options={"version": "0.3"}) as server, pytest.raises(BadInput):
        load(server, "a", keep_alive=keep_alive)


def test_an_older_one_says_what_it_has_no_way_to_do():
    with studio("a", load_s=1, options={"version": "0.3"}) as server:
        with pytest.raises(NotHere, match="context") as caught:
            load(server, "a", context_length=8192)
        assert "lms load a --context-length 8192" in (caught.value.hint or "")
        with pytest.raises(NotHere, match="unload"):
            unload(server, "a")
        with pytest.raises(NotHere, match="download"):
            pull(server, "new/model")


# Downloads.


def pull(server: ScriptedServer, model: str, **options: Any) -> list[tuple[str, int | None, int | None]]:
    assert KIND.pull is not None
    progress = KIND.pull(asking(server), model, options)

    async def read(progress: AsyncIterator[Any]) -> list[tuple[str, int | None, int | None]]:
        return [(step.status, step.completed_bytes, step.total_bytes) async for step in progress]

    return io.submit(read(progress)).result(30)


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mamba_nb.servers._lmstudio_verbs.LOOK_S", 0.01)


def test_a_download_tells_how_far_it_is_and_the_model_is_there_at_its_end():
    with studio("a", options={"download_bytes": 900, "download_looks": 2}) as server:
        assert pull(server, "ibm/granite-4-micro") == [
            ("downloading", 0, 900),
            ("downloading", 300, 900),
            ("completed", 900, 900),
        ]
        assert "ibm/granite-4-micro" in had(server)


def test_what_is_there_already_is_not_downloaded_again():
    with studio("qwen/qwen3-8b") as server:
        assert pull(server, "qwen/qwen3-8b") == [("already_downloaded", None, None)]


def test_a_quantisation_goes_along_and_nothing_else_does():
    with studio() as server:
        pull(server, "https://huggingface.co/x/y", quantization="Q4_K_M")
        assert server.requests[0].body == {"model": "https://huggingface.co/x/y", "quantization": "Q4_K_M"}
        with pytest.raises(BadInput, match="'quant'"):
            pull(server, "x/y", quant="Q4_K_M")


def test_a_download_that_fails_is_an_error():
    with studio(options={"download_ends": "failed"}) as server, pytest.raises(ServerFailed, match="download x/y"):
        pull(server, "x/y")


def test_a_model_that_is_nowhere_is_an_error_with_the_servers_words():
    with studio() as server, pytest.raises(ModelNotFound) as caught:
        pull(server, "nowhere")
    assert "was not found" in (caught.value.server_says or "")


def test_a_paused_download_is_waited_for_and_can_be_left():
    async def three(server: ScriptedServer) -> list[str]:
        assert KIND.pull is not None
        steps = []
        progress = KIND.pull(asking(server), "x/y", {})
        async for step in progress:
            steps.append(step.status)
            if len(steps) == 4:
                break
        return steps

    with studio(options={"download_ends": "paused", "download_looks": 1}) as server:
        assert io.submit(three(server)).result(20) == ["downloading", "paused", "paused", "paused"]


def test_looks_that_fail_for_a_while_do_not_end_a_download():
    with studio(options={"download_looks": 2}) as server:
        path = "/api/v1/models/download/status/job_0000000000"
        server.enqueue(*[Script(status=500, error_body="hiccup")] * 3, path=path)
        assert pull(server, "x/y")[-1][0] == "completed"
        server.enqueue(*[Script(status=500, error_body="hiccup")] * 9, path=path[:-1] + "1")
        with pytest.raises(ServerFailed, match="hiccup"):
            pull(server, "x/z")


@pytest.mark.parametrize("body", [{}, {"status": 5}, [], {"error": "No."}])
def test_a_reply_that_is_no_job_is_an_error_and_not_an_endless_wait(body: Any):
    scripts = {"/api/v1/models/download": Script(error_body=body)}
    with studio(scripts=scripts) as server, pytest.raises(ServerFailed):
        pull(server, "x/y")


def test_the_token_goes_along_and_is_not_shown():
    async def all_of(here: Asking) -> None:
        assert KIND.load is not None and KIND.unload is not None
        await KIND.load(here, "a", context_length=None, keep_alive=None)
        await KIND.unload(here, "a")

    with studio("a", about=UNLOADED, api_key="secret-token") as server:
        here = asking(server, key="secret-token")
        io.submit(all_of(here)).result(20)
        assert "secret-token" not in repr(here)
        assert {request.status for request in server.requests} == {200}
