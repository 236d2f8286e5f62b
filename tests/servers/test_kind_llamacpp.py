"""llama.cpp as a kind: the embedded engine for real, then one model and a router as personalities."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from tiny_model import write_tiny_model

from mamba_nb import embedded
from mamba_nb._bridge import io
from mamba_nb.embedded import Engine, start_engine
from mamba_nb.errors import AuthenticationFailed, BadInput, ModelNotFound, NotHere, RequestRejected, ServerFailed
from mamba_nb.servers import _llamacpp_router
from mamba_nb.servers import embedded as embedded_kind
from mamba_nb.servers._llamacpp_figures import figures_of, together
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Kind, Sighting
from mamba_nb.servers.llamacpp import (
    KIND,
    count_tokens,
    is_loading,
    loaded_models,
    recognise,
    tokenize,
    version,
)
from mamba_nb.settings import EmbeddedSettings
from mamba_nb.testing import Script, ScriptedServer

HEADED = "GET /v1/models has the header Server: llama.cpp"
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why is grass green? äöü 🌱"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": "Look a word up.",
            "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
        },
    }
]


def asking(server: ScriptedServer, **options: Any) -> Asking:
    return Asking(root=server.root, base_url=server.base_url, **options)


def wait(work: Any) -> Any:
    return io.submit(work).result(60)


def told(server: ScriptedServer, **options: Any) -> Sighting | None:
    sighting: Sighting | None = wait(recognise(asking(server, **options)))
    return sighting


def had(here: Asking, kind: Kind = KIND) -> dict[str, ServedModel]:
    assert kind.models is not None
    return {model.id: model for model in wait(kind.models(here))}


def paths(server: ScriptedServer) -> list[str]:
    return [request.path for request in server.requests]


@contextlib.contextmanager
def llama(*names: str, **options: Any) -> Iterator[ScriptedServer]:
    with ScriptedServer(style="llamacpp", models=names or ("tiny",), **options) as server:
        yield server


@contextlib.contextmanager
def router(*names: str, **options: Any) -> Iterator[ScriptedServer]:
    chosen = {"mode": "router", "metrics": True, **options.pop("options", {})}
    with ScriptedServer(style="llamacpp", models=names or ("tiny", "other"), options=chosen, **options) as server:
        yield server


# The real engine.


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path = write_tiny_model(tmp_path_factory.mktemp("models") / "Tiny-Tools.F32.gguf", tools=True)
    yield start_engine(path, n_ctx=1024, slots=2, settings=EmbeddedSettings())
    embedded.stop()


@pytest.fixture
def real(engine: Engine) -> Asking:
    return Asking(root=engine.base_url.removesuffix("/v1"), base_url=engine.base_url, key=engine.api_key, read_s=30.0)


def prompt_tokens(engine: Engine, **body: Any) -> int:
    """What the engine itself says that a chat request took."""
    request = urllib.request.Request(
        engine.base_url + "/chat/completions",
        data=json.dumps({"model": engine.model, "max_tokens": 1, **body}).encode(),
        headers={"Authorization": f"Bearer {engine.api_key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        count: int = json.loads(response.read())["usage"]["prompt_tokens"]
    return count


def test_the_real_engine_is_told_by_its_header(real: Asking):
    sighting = wait(recognise(real))
    assert (sighting.kind, sighting.certainty, sighting.mode, sighting.needs_key) == (
        "llamacpp",
        "certain",
        None,
        False,
    )
    assert sighting.evidence == HEADED
    assert sighting.version is None and wait(version(real)) is None  # this build says b0-unknown


def test_without_its_key_the_real_engine_is_told_all_the_same(real: Asking):
    sighting = wait(recognise(Asking(root=real.root, base_url=real.base_url)))
    assert (sighting.kind, sighting.certainty, sighting.needs_key) == ("llamacpp", "certain", True)


def test_the_real_engine_declares_its_model(real: Asking, engine: Engine):
    model = had(real)[engine.model]
    assert (model.state, model.task, model.quantization) == ("loaded", "chat", "all F32")
    assert (model.context_window, model.context_max) == (1024, 1024)
    # 354 tokens and a width of 64: embedding and output have 22,656 each; each of two layers has four matrices of
    # 64 x 64, three of 64 x 96 and two norms of 64; there is a last norm. Four bytes each.
    assert model.parameters == 2 * 22_656 + 2 * (16_384 + 18_432 + 128) + 64
    assert model.size_bytes == 4 * model.parameters
    assert (model.supports_tools, model.supports_vision, model.runs_locally) == (True, False, None)
    assert model.extras["slots"] == 2 and str(model.extras["model_path"]).endswith("Tiny-Tools.F32.gguf")
    assert model.evidence["context_window"] == "GET /v1/models, meta"


def test_the_embedded_kind_says_that_it_runs_here(real: Asking, engine: Engine):
    model = had(real, embedded_kind.KIND)[engine.model]
    assert model.runs_locally is True and model.context_window == 1024 and "runs_locally" in model.evidence
    assert embedded_kind.KIND.recognise is None and embedded_kind.KIND.load is None


@pytest.mark.parametrize("tools", [[], TOOLS], ids=["without tools", "with tools"])
def test_a_prompt_is_counted_as_the_answer_counts_it(real: Asking, engine: Engine, tools: list[Any]):
    body = {"messages": MESSAGES, **({"tools": tools} if tools else {})}
    assert wait(count_tokens(real, engine.model, MESSAGES, tools)) == prompt_tokens(engine, **body)


@pytest.mark.parametrize("tools", [[], TOOLS], ids=["without tools", "with tools"])
def test_the_older_way_of_counting_agrees(real: Asking, engine: Engine, tools: list[Any]):
    from mamba_nb.servers import llamacpp

    body = {"model": engine.model, "messages": MESSAGES, **({"tools": tools} if tools else {})}
    counted = wait(llamacpp._count_prompt(real, engine.model, body))
    assert counted == wait(count_tokens(real, engine.model, MESSAGES, tools))


def test_a_text_becomes_tokens(real: Asking, engine: Engine):
    # The vocabulary has three special tokens, 256 bytes, then the characters from `!` on, and the space at its end.
    first = 3 + 256 - ord("!")
    assert wait(tokenize(real, engine.model, "hi")) == [353, first + ord("h"), first + ord("i")]
    assert wait(tokenize(real, engine.model, "")) == []


def test_figures_count_what_was_asked(real: Asking, engine: Engine):
    assert KIND.metrics is not None
    before = wait(KIND.metrics(real))
    asked = prompt_tokens(engine, messages=[{"role": "user", "content": "A question that nobody asked before"}])
    after = wait(KIND.metrics(real))
    seen = ("prompt_tokens_total", "cached_prompt_tokens_total")
    assert sum(after[name] - before[name] for name in seen) == asked
    assert after["output_tokens_total"] - before["output_tokens_total"] == 1
    assert (after["requests_running"], after["requests_waiting"]) == (0, 0)
    assert {"prompt_tokens_per_s", "output_tokens_per_s", "longest_tokens"} <= after.keys()


def test_the_real_engine_has_one_model_and_says_so(real: Asking, engine: Engine):
    assert KIND.load is not None and KIND.unload is not None
    wait(KIND.load(real, engine.model, context_length=None, keep_alive=None))
    for work in (
        KIND.load(real, "another", context_length=None, keep_alive=None),
        KIND.unload(real, engine.model),
        read(KIND, real, "user/repo"),
    ):
        with pytest.raises(NotHere, match="started with one model") as caught:
            wait(work)
        assert "router" in (caught.value.hint or "")


def test_the_real_engine_says_what_is_wrong_with_a_request(real: Asking, engine: Engine):
    with pytest.raises(RequestRejected, match="must contain 'content'"):
        wait(count_tokens(real, engine.model, [{"no": "role"}], []))


# Is it llama.cpp?


def test_the_header_tells_it_in_two_questions():
    with llama() as server:
        assert told(server) == Sighting(kind="llamacpp", certainty="certain", evidence=HEADED, version="b11434-7e4c0a9")
        assert paths(server) == ["/v1/models", "/props"]


def test_a_router_is_told_as_one():
    with router() as server:
        sighting = told(server)
    assert sighting is not None and (sighting.mode, sighting.version) == ("router", "b11434-7e4c0a9")


def test_while_it_loads_it_is_told_and_has_no_models():
    with llama(loading_s=600) as server:
        sighting = told(server)
        assert sighting is not None and (sighting.certainty, sighting.needs_key) == ("certain", False)
        assert had(asking(server)) == {}


def test_behind_a_proxy_that_hides_the_header_its_owner_and_its_props_tell_it():
    with llama(headers={"Server": "nginx"}) as server:
        sighting = told(server)
        assert sighting is not None and sighting.certainty == "certain" and "GET /props" in sighting.evidence
    props = Script(status=404, error_body="no")
    with llama(headers={"Server": "nginx"}, scripts={"/props": props}) as server:
        sighting = told(server)
        assert sighting is not None and (sighting.certainty, sighting.evidence) == ("likely", "owned_by is llamacpp")


@pytest.mark.parametrize("owner", ["llama-swap", "lemonade", "docker"])
def test_a_gateway_that_passes_the_header_on_is_not_taken_for_it(owner: str):
    with llama(owned_by=owner) as server:
        assert told(server) is None
        assert paths(server) == ["/v1/models"]


@pytest.mark.parametrize("style", ["plain", "ollama", "vllm", "lmstudio", "sglang", "openai", "mlxlm", "koboldcpp"])
def test_no_other_kind_is_taken_for_it(style: str):
    with ScriptedServer(style=style) as server:
        assert told(server) is None
        assert paths(server) == ["/v1/models"]


@pytest.mark.parametrize("body", ["", "[]", "null", '{"data": 3}', '{"data": [null, {"owned_by": ["llamacpp"]}]}'])
def test_nonsense_is_nobody_and_raises_nothing(body: str):
    with ScriptedServer(style="plain", scripts={"/v1/models": Script(error_body=body or " ")}) as server:
        assert told(server) is None


# One model.


def test_all_that_it_declares_is_there_in_our_words():
    about = {
        "tiny": {"vision": True, "tools": True, "reasoning": True, "context_max": 32768, "parameters": 8_030_261_312}
    }
    with llama(about=about, context_length=4096, slots=3) as server:
        model = had(asking(server))["tiny"]
        assert sorted(paths(server)) == ["/props", "/v1/models"]
    assert (model.context_window, model.context_max, model.parameters) == (4096, 32768, 8_030_261_312)
    assert (model.supports_vision, model.supports_tools, model.supports_reasoning) == (True, True, True)
    assert (model.quantization, model.size_bytes, model.digest) == ("Q4_K - Medium", 98_000_000, None)
    assert model.extras["slots"] == 3 and model.extras["model_path"] == "/models/tiny.gguf"
    assert model.evidence["supports_tools"] == "GET /props, chat_template_caps"


def test_without_props_the_list_alone_is_believed():
    with llama(scripts={"/props": Script(status=404, error_body="no")}) as server:
        model = had(asking(server))["tiny"]
    assert (model.state, model.context_window, model.supports_tools) == ("loaded", 4096, None)


def test_an_older_build_tells_its_context_in_props_alone():
    entry = {"id": "m.gguf", "owned_by": "llamacpp", "meta": {"n_ctx_train": 2048, "n_params": 7, "size": 9}}
    with llama(scripts={"/v1/models": Script(error_body={"data": [entry]})}, context_length=512) as server:
        model = had(asking(server))["m.gguf"]
    assert (model.context_window, model.context_max, model.quantization) == (512, 2048, "Q4_K - Medium")
    assert model.evidence["context_window"] == "GET /props, default_generation_settings"


def test_a_server_that_sleeps_says_so():
    with llama(options={"sleeping": True}) as server:
        assert had(asking(server))["tiny"].state == "sleeping"


def test_what_has_the_wrong_type_counts_as_unsaid():
    meta = {"n_ctx": "256", "n_ctx_train": True, "n_params": -1, "size": 1e400, "ftype": 7}
    entry = {"id": "odd", "meta": meta, "aliases": [1, {}], "architecture": {"input_modalities": "text"}}
    props = {
        "default_generation_settings": [],
        "chat_template_caps": {"supports_tools": "yes"},
        "modalities": None,
        "total_slots": "4",
        "model_path": {},
        "build_info": 3,
        "is_sleeping": 1,
    }
    listing = '{"data": [null, 3, {"id": null}, ' + json.dumps(entry).replace("Infinity", "1e400") + "]}"
    scripts = {"/v1/models": Script(error_body=listing), "/props": Script(error_body=props)}
    with llama(scripts=scripts) as server:
        found = had(asking(server))
    assert list(found) == ["odd"] and found["odd"].facts() == {}
    assert (found["odd"].state, dict(found["odd"].extras)) == ("loaded", {})


def test_a_model_that_only_decides_is_no_chat_model():
    entry = {"id": "judge", "architecture": {"input_modalities": ["text"], "output_modalities": ["decisions"]}}
    with llama(scripts={"/v1/models": Script(error_body={"data": [entry]})}) as server:
        assert had(asking(server))["judge"].task == "other"


# Tokens.


def test_a_build_without_its_own_count_writes_the_prompt_and_counts_that():
    with llama(options={"input_tokens": False}) as server:
        counted = wait(count_tokens(asking(server), "tiny", MESSAGES, TOOLS))
        asked = paths(server)
        sent = server.requests[-1].body
    assert asked == ["/v1/chat/completions/input_tokens", "/apply-template", "/tokenize"]
    assert (sent["add_special"], sent["parse_special"]) == (True, True)
    assert counted == 1 + len(" ".join(str(m["content"]) for m in MESSAGES).split())  # one begins every prompt


def test_a_build_without_either_says_that_it_cannot_count():
    with llama(options={"input_tokens": False, "template": False}) as server, pytest.raises(NotHere):
        wait(count_tokens(asking(server), "tiny", MESSAGES, []))


@pytest.mark.parametrize("body", [{}, {"input_tokens": "9"}, {"input_tokens": True}, []])
def test_a_count_that_is_none_is_an_error(body: Any):
    scripts = {"/v1/chat/completions/input_tokens": Script(error_body=body)}
    with llama(scripts=scripts) as server, pytest.raises(ServerFailed, match="count tokens"):
        wait(count_tokens(asking(server), "tiny", MESSAGES, []))


@pytest.mark.parametrize("tokens", [None, "abc", [1, "2"], [{"piece": "a"}], [True]])
def test_tokens_that_are_none_are_an_error(tokens: Any):
    scripts = {"/tokenize": Script(error_body={"tokens": tokens})}
    with llama(scripts=scripts) as server, pytest.raises(ServerFailed, match="tokenise"):
        wait(tokenize(asking(server), "tiny", "hi"))


def test_tokens_with_their_pieces_are_read_too():
    scripts = {"/tokenize": Script(error_body={"tokens": [{"id": 5, "piece": "h"}, {"id": 6, "piece": [226]}]})}
    with llama(scripts=scripts) as server:
        assert wait(tokenize(asking(server), "tiny", "hi")) == [5, 6]


def test_a_key_that_is_refused_is_told_and_not_shown():
    with llama(api_key="right") as server, pytest.raises(AuthenticationFailed) as caught:
        wait(tokenize(asking(server, key="wrong-and-long"), "tiny", "hi"))
    assert "wrong-and-long" not in str(caught.value)


# Figures.


def test_without_the_switch_there_are_no_figures_and_the_hint_says_which():
    assert KIND.metrics is not None
    with llama() as server, pytest.raises(NotHere) as caught:
        wait(KIND.metrics(asking(server)))
    assert "`--metrics`" in (caught.value.hint or "") and "metrics endpoint" in (caught.value.server_says or "")


def test_figures_have_our_names_and_nonsense_is_left_out():
    text = (
        "# HELP llamacpp:requests_processing Number.\n"
        "llamacpp:requests_processing 2\n"
        "llamacpp:requests_deferred{} 1e0\r\n"
        "llamacpp:predicted_tokens_seconds NaN\n"
        "llamacpp:prompt_tokens_seconds +Inf\n"
        "llamacpp:prompt_tokens_total many\n"
        'llamacpp:spec_decode_num_accepted_tokens_per_pos_total{position="0"} 4\n'
        "llamacpp:something_new 5\n"
        "vllm:num_requests_running 9\n"
        "llamacpp:tokens_predicted_total 7 1395066363000\n"
    )
    assert figures_of(text) == {"requests_running": 2, "requests_waiting": 1, "output_tokens_total": 7}
    assert figures_of("") == {} and figures_of("<html>") == {}


def test_figures_of_several_are_sums_and_maxima_and_no_averages():
    one = {"requests_running": 1.0, "longest_tokens": 50.0, "busy_slots_per_decode": 1.5}
    two = {"requests_running": 2.0, "longest_tokens": 40.0, "busy_slots_per_decode": 2.5}
    assert together([one, two]) == {"requests_running": 3, "longest_tokens": 50}
    assert together([one]) == one and together([]) == {}


# The router.


def test_a_router_lists_every_state_and_asks_loaded_models_what_they_are_like():
    about = {
        "a": {"loaded": True, "tools": True, "context": 2048},
        "b": {},
        "c": {"status": "sleeping"},
        "d": {"status": "downloaded"},
        "user/repo:Q4": {"loaded": True, "context": 512},
    }
    with router(*about, about=about, options={"loaded_info": False}) as server:
        found = had(asking(server))
        assert sorted(paths(server)) == [
            "/props",
            "/props?model=a&autoload=false",
            "/props?model=user/repo:Q4&autoload=false",
            "/v1/models",
        ]
        assert server.loads == 0
    states = {name: model.state for name, model in found.items()}
    assert states == {"a": "loaded", "b": "unloaded", "c": "sleeping", "d": "unloaded", "user/repo:Q4": "loaded"}
    assert (found["a"].context_window, found["a"].supports_tools) == (2048, True)
    assert (found["user/repo:Q4"].context_window, found["b"].context_window) == (512, None)
    assert found["a"].evidence["context_window"] == "GET /props?model=a, default_generation_settings"


def test_a_router_of_a_newer_build_lists_what_is_loaded_in_full():
    with router("a", "b", about={"a": {"loaded": True}}) as server:
        found = had(asking(server))
    assert (found["a"].size_bytes, found["b"].size_bytes) == (98_000_000, None)
    assert found["a"].evidence["size_bytes"] == "GET /v1/models, meta"


def test_a_router_with_very_many_loaded_models_is_asked_about_some_and_about_the_rest_one_by_one():
    assert KIND.detail is not None
    names = [f"m{i}" for i in range(40)]
    with router(*names, about={"": {"loaded": True}}, options={"loaded_info": False}) as server:
        here = asking(server)
        found = had(here)
        assert len([path for path in paths(server) if "model=" in path]) == 16
        assert found["m39"].context_window is None
        assert wait(KIND.detail(here, found["m39"])).context_window == 4096
        assert wait(KIND.detail(here, found["m0"])) is found["m0"]


def load(server: ScriptedServer, model: str, **options: Any) -> None:
    assert KIND.load is not None
    given = {"context_length": None, "keep_alive": None, **options}
    wait(KIND.load(asking(server), model, **given))


def test_load_waits_until_the_model_is_in_memory():
    with router(load_s=0.2) as server:
        load(server, "tiny")
        assert server.loaded_models == ["tiny"]
        assert had(asking(server))["tiny"].state == "loaded"
        load(server, "tiny")
        assert server.load_log == ["tiny"]
        assert [path for path in paths(server) if path == "/models/load"] == ["/models/load"]


def test_load_joins_one_that_is_under_way():
    async def twice(server: ScriptedServer) -> None:
        assert KIND.load is not None
        both = (KIND.load(asking(server), "tiny", context_length=None, keep_alive=None) for _ in range(3))
        await asyncio.gather(*both)

    with router(load_s=0.2) as server:
        wait(twice(server))
        assert server.load_log == ["tiny"]


def test_a_load_that_fails_says_with_which_code():
    with router(load_s=0.1, about={"tiny": {"load_fails": 137}}) as server:
        with pytest.raises(ServerFailed, match="could not load tiny") as caught:
            load(server, "tiny")
        assert "ended with code 137" in (caught.value.hint or "")
        failed = had(asking(server))["tiny"]
    assert (failed.state, failed.extras["exit_code"]) == ("failed", 137)


def test_unload_waits_until_it_is_gone_and_does_nothing_where_it_is_not_there():
    assert KIND.unload is not None
    with router(about={"tiny": {"loaded": True}}) as server:
        wait(KIND.unload(asking(server), "tiny"))
        assert had(asking(server))["tiny"].state == "unloaded"
        wait(KIND.unload(asking(server), "tiny"))
        assert paths(server).count("/models/unload") == 1


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_a_model_that_the_router_does_not_know_is_an_error_with_the_closest_name(verb: str):
    assert KIND.load is not None and KIND.unload is not None
    with router("qwen3-8b", "tiny") as server, pytest.raises(ModelNotFound, match="Did you mean 'qwen3-8b'") as caught:
        if verb == "load":
            load(server, "qwen3-8")
        else:
            wait(KIND.unload(asking(server), "qwen3-8"))
    assert caught.value.served == ("qwen3-8b", "tiny")


@pytest.mark.parametrize(("name", "value"), [("context_length", 8192), ("keep_alive", "5m")])
def test_what_the_routers_own_settings_decide_is_refused(name: str, value: Any):
    with router() as server:
        with pytest.raises(BadInput, match=name):
            load(server, "tiny", **{name: value})
        assert server.requests == []


def test_a_backend_that_waits_is_told_what_a_router_loads():
    about = {"a": {"status": "loading"}, "b": {"loaded": True}, "c": {}, "d": {"status": "sleeping"}}
    with router(*about, about=about) as server:
        here = asking(server)
        loading = {name: wait(is_loading(here.json, name)) for name in (*about, "nobody")}
        assert loading == {"a": True, "b": False, "c": True, "d": False, "nobody": False}
        assert wait(loaded_models(here.json)) == ["b"]
    with llama() as server:
        here = asking(server)
        assert wait(loaded_models(here.json)) == ["tiny"] and wait(is_loading(here.json, "tiny")) is False


def test_tokens_and_figures_go_through_the_router():
    assert KIND.metrics is not None
    with router("a", "b", about={"": {"loaded": True}}) as server:
        here = asking(server)
        assert len(wait(tokenize(here, "b", "two words"))) == 2
        assert wait(count_tokens(here, "a", MESSAGES, [])) > 0
        figures = wait(KIND.metrics(here))
        assert [path for path in paths(server) if path.startswith("/metrics")] == [
            "/metrics?model=a&autoload=false",
            "/metrics?model=b&autoload=false",
        ]
    assert figures["requests_running"] == 0 and "busy_slots_per_decode" not in figures


# Downloads through the router.


async def read(kind: Kind, here: Asking, model: str, **options: Any) -> list[Any]:
    assert kind.pull is not None
    return [step async for step in kind.pull(here, model, options)]


NEW = "ggml-org/tiny-GGUF:Q4_K_M"


@pytest.mark.parametrize("silent", [False, True], ids=["by events", "by its list"])
def test_a_download_tells_how_far_it_is_and_the_model_is_there_at_its_end(silent: bool, monkeypatch):
    monkeypatch.setattr(_llamacpp_router, "QUIET_S", 0.05 if silent else 5.0)
    pace = {"download_bytes": 900, "download_steps": 3, "download_step_s": 0.3, "download_silent": silent}
    with router(options=pace) as server:
        steps = wait(read(KIND, asking(server), NEW))
        assert NEW in had(asking(server))
        assert "/models/unload" not in paths(server)
    sizes = [step.completed_bytes for step in steps if step.completed_bytes is not None]
    assert sizes == sorted(sizes) and sizes and set(sizes) <= {300, 600, 900}
    assert {step.total_bytes for step in steps} <= {None, 900}
    assert (steps[0].status, steps[-1].status) == ("downloading", "download_finished")


@pytest.mark.parametrize("silent", [False, True], ids=["by events", "by its list"])
def test_a_download_that_fails_is_an_error(silent: bool, monkeypatch):
    monkeypatch.setattr(_llamacpp_router, "QUIET_S", 0.05 if silent else 5.0)
    fails = {"download_fails": True, "download_silent": silent}
    with router(options=fails) as server, pytest.raises(ServerFailed, match="could not download"):
        wait(read(KIND, asking(server), NEW))


def test_leaving_a_download_ends_it_on_the_server():
    async def leave(here: Asking) -> None:
        assert KIND.pull is not None
        steps = KIND.pull(here, NEW, {})
        async with contextlib.aclosing(steps):
            async for _ in steps:
                break

    with router(options={"download_step_s": 60}) as server:
        wait(leave(asking(server)))
        assert server.state["downloads"] == {}
        assert paths(server).count("/models/unload") == 1
        assert NEW not in had(asking(server))


def test_cancelling_a_download_ends_it_on_the_server_too():
    async def cancel(here: Asking) -> None:
        assert KIND.pull is not None
        begun = asyncio.Event()

        async def watch() -> None:
            async for _ in KIND.pull(here, NEW, {}):
                begun.set()

        task = asyncio.create_task(watch())
        await begun.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    with router(options={"download_step_s": 60}) as server:
        wait(cancel(asking(server)))
        assert server.state["downloads"] == {}


def test_what_cannot_be_downloaded_is_an_error_with_the_servers_words():
    with router() as server:
        with pytest.raises(RequestRejected, match="download a model") as caught:
            wait(read(KIND, asking(server), "nowhere"))
        assert "model validation failed" in (caught.value.server_says or "")
        assert "/models/unload" not in paths(server)


def test_what_is_there_already_is_not_downloaded_again():
    with router() as server:
        assert [step.status for step in wait(read(KIND, asking(server), "tiny"))] == ["already downloaded"]
        with pytest.raises(BadInput, match="quantization"):
            wait(read(KIND, asking(server), NEW, quantization="Q4"))


@pytest.mark.parametrize(
    ("data", "sizes"),
    [
        ({"u1": {"done": 1, "total": 4}, "u2": {"done": 2, "total": 6}}, (3, 10)),
        ({"progress": {"u1": {"done": 1, "total": 4}}}, (1, 4)),
        ({"u1": {"done": "1", "total": 4}, "u2": None, "u3": {"done": 2, "total": 2}}, (2, 2)),
        ({}, None),
        ([], None),
        (None, None),
        ({"progress": 5}, None),
    ],
)
def test_progress_is_the_sum_over_files_in_either_shape(data: Any, sizes: tuple[int, int] | None):
    progress = _llamacpp_router._progress("m", data)
    assert (None if progress is None else (progress.completed_bytes, progress.total_bytes)) == sizes
