"""What a found server can do: each verb on each kind that has it, and a clear "not here" on the others."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
import time
from pathlib import Path

import pytest

from mamba_nb import embedded
from mamba_nb._bridge import Run
from mamba_nb.embedded import start_engine
from mamba_nb.errors import (
    AuthenticationFailed,
    BadInput,
    MambaError,
    ModelNotFound,
    NotHere,
    RunStopped,
    ServerError,
    ServerUnreachable,
)
from mamba_nb.servers import find_servers
from mamba_nb.servers.kinds import Sighting, kinds
from mamba_nb.servers.pulling import PullProgress
from mamba_nb.servers.server import Server
from mamba_nb.settings import EmbeddedSettings
from mamba_nb.testing import Script, ScriptedServer, closed_port

sys.path.insert(0, str(Path(__file__).parents[1]))
from kernels.driver import PROMPTLY_S, Kernel
from tiny_model import write_tiny_model

KEY = "sk-a-key-of-nobody"
VERBS = {
    "pull": lambda server: server.pull("m"),
    "load": lambda server: server.load("m"),
    "unload": lambda server: server.unload("m"),
    "tokenize": lambda server: server.tokenize("m", "hi"),
    "count_tokens": lambda server: server.count_tokens("m", "hi"),
    "metrics": lambda server: server.metrics(),
}


def only(*urls, **options) -> Server:
    """The one server that is found there."""
    (found,) = find_servers(hosts=[], urls=urls, **options)
    return found


def record(kind: str, base_url: str = "http://127.0.0.1:9/v1", **more) -> Server:
    sighting = Sighting(kind=kind, certainty="certain", evidence="a test said so")
    return Server(sighting=sighting, base_url=base_url, root=base_url.removesuffix("/v1"), **more)


class TestNotHere:
    @pytest.mark.parametrize("verb", VERBS)
    def test_each_kind_without_a_verb_says_so_and_names_those_that_have_it(self, verb):
        able = [kind.title for kind in kinds().values() if getattr(kind, verb) is not None]
        assert able, "no kind has it"
        for kind in kinds().values():
            if getattr(kind, verb) is not None:
                continue
            with pytest.raises(NotHere) as raised:
                VERBS[verb](record(kind.name))
            assert all(title in raised.value.hint for title in able)
            assert raised.value.base_url == "http://127.0.0.1:9/v1"

    def test_nothing_is_sent_for_it(self):
        with ScriptedServer(style="mlxlm", models=["m"]) as server:
            found, before = only(server.root), len(server.requests)
            with pytest.raises(NotHere, match="cannot download models"):
                found.pull("m")
            assert len(server.requests) == before


class TestPull:
    def test_it_is_a_run_of_steps_with_the_model_at_its_end(self):
        with ScriptedServer(style="ollama", models=["m"], options={"pull_bytes": 1000, "pull_s": 0.05}) as server:
            run = only(server.root).pull("fresh")
            steps = list(run)
            assert all(isinstance(step, PullProgress) and step.model == "fresh" for step in steps)
            assert steps[-1].status == "success"
            assert run.result().id == "fresh:latest"
            assert run.progress == steps[-1]

    def test_its_bar_is_painted_while_it_is_waited_for(self, capsys):
        with ScriptedServer(style="ollama", models=["m"], options={"pull_bytes": 5_000_000, "pull_s": 0.5}) as server:
            assert only(server.root).pull("fresh").result().id == "fresh:latest"
        shown = capsys.readouterr().err
        assert "fresh" in shown and "100%" in shown and "5.00M/5.00M" in shown

    def test_without_a_bar_nothing_is_printed(self, capsys):
        with ScriptedServer(style="ollama", models=["m"], options={"pull_bytes": 1000, "pull_s": 0.2}) as server:
            only(server.root).pull("fresh").result(show=False)
        assert capsys.readouterr() == ("", "")

    def test_cancelling_it_closes_the_connection_and_a_second_pull_goes_on(self):
        with ScriptedServer(style="ollama", models=["m"], options={"pull_bytes": 50_000_000, "pull_s": 3.0}) as server:
            found = only(server.root)
            run = found.pull("fresh")
            steps = iter(run)
            first = next(step for step in steps if step.completed_bytes)
            run.cancel()
            with pytest.raises(RunStopped):
                run.result()
            server.wait_idle()
            assert server.disconnects == 1
            assert run.partial.completed_bytes >= first.completed_bytes
            assert "fresh" not in server.models
            again = found.pull("fresh")
            resumed = next(step for step in again if step.completed_bytes)
            assert resumed.completed_bytes >= first.completed_bytes
            again.cancel()

    def test_a_model_that_is_not_there_to_pull_is_an_error_in_the_servers_words(self):
        options = {"registry": ["other"]}
        with ScriptedServer(style="ollama", options=options) as server, pytest.raises(MambaError) as raised:
            only(server.root).pull("nope").result()
        assert "nope" in str(raised.value)

    def test_an_interrupt_while_it_is_waited_for_stops_it(self):
        with ScriptedServer(style="ollama", models=["m"], options={"pull_bytes": 50_000_000, "pull_s": 10.0}) as server:
            run = only(server.root).pull("fresh")
            interrupt_when(lambda: run.progress is not None and run.progress.completed_bytes)
            with pytest.raises(KeyboardInterrupt) as raised:
                run.result()
            assert raised.value.run is run
            server.wait_idle()
            assert server.disconnects == 1

    def test_options_go_to_the_kind(self):
        with ScriptedServer(style="lmstudio", models=["m"]) as server:
            only(server.root).pull("ibm/granite-4-micro", quantization="Q4_K_M").result(show=False)
            (body,) = [request.body for request in server.requests if request.path.endswith("/download")]
        assert body["quantization"] == "Q4_K_M"

    @pytest.mark.parametrize("name", ["", "  ", None, 7])
    def test_a_name_that_is_none_is_refused_before_anything_is_sent(self, name):
        with pytest.raises(BadInput):
            record("ollama").pull(name)


class TestPullInACell:
    """In a real kernel: the bar, the square button, and a second pull that goes on."""

    def test_the_square_button_stops_it_and_a_second_pull_goes_on(self, tmp_path):
        options = {"pull_bytes": 50_000_000, "pull_s": 20.0}
        with Kernel(tmp_path) as kernel, ScriptedServer(style="ollama", models=["m"], options=options) as server:
            kernel.run("from mamba_nb.servers import find_servers")
            kernel.run(f"server = find_servers([], urls=[{server.root!r}])[0]")
            asked = len(server.requests)
            cells = kernel.queue("model = server.pull('fresh').result()", "after = 1")
            pull = server.wait_for_requests(asked + 1, 20)[asked]
            while len(pull.sent_at) < 4:  # the manifest, the weights' beginning, two parts of them
                time.sleep(0.01)
            began = kernel.interrupt()
            kernel.replies(cells)
            assert [cell.status for cell in cells] == ["error", "aborted"]
            assert "KeyboardInterrupt" in cells[0].error
            assert cells[0].replied_at - began < PROMPTLY_S
            server.wait_idle()
            assert server.disconnects == 1
            kernel.run("import sys; got = sys.last_value.partial.completed_bytes")
            assert 0 < kernel.value("got") < 50_000_000
            server.options["pull_s"] = 0.5
            kernel.run("steps = list(server.pull('fresh'))")
            assert kernel.value("next(s.completed_bytes for s in steps if s.completed_bytes) >= got")
            assert kernel.value("steps[-1].status") == "success"


def interrupt_when(ready) -> None:
    import _thread

    def watch():
        while not ready():
            time.sleep(0.01)
        _thread.interrupt_main()

    threading.Thread(target=watch, daemon=True).start()


class TestLoadAndUnload:
    def test_a_model_is_loaded_with_a_context_and_taken_out_again(self):
        with ScriptedServer(style="lmstudio", models=["m"], load_s=0.05) as server:
            found = only(server.root)
            loaded = found.load("m", context_length=8192)
            assert (loaded.state, loaded.context_window) == ("loaded", 8192)
            found.unload("m")
            assert found.refresh().model("m").state == "unloaded"

    def test_ollama_keeps_it_as_long_as_it_is_told(self):
        with ScriptedServer(style="ollama", models=["m"], load_s=0.05) as server:
            found = only(server.root)
            assert found.load("m", keep_alive="30m").loaded
            body = next(request.body for request in server.requests if request.path == "/api/generate")
            assert body["keep_alive"] == "30m"
            found.unload("m")
            assert not found.model("m").loaded

    def test_a_router_loads_and_unloads(self):
        with ScriptedServer(style="llamacpp", models=["a", "b"], options={"mode": "router"}, load_s=0.05) as server:
            found = only(server.root)
            assert found.load("a").loaded
            found.unload("a")
            assert found.refresh().model("a").state == "unloaded"

    def test_a_single_llama_cpp_says_that_it_cannot(self):
        with ScriptedServer(style="llamacpp", models=["m"]) as server, pytest.raises(NotHere):
            only(server.root).unload("m")

    @pytest.mark.parametrize("context_length", [0, -1, True, 1.5, "8192"])
    def test_a_context_that_is_none_is_refused(self, context_length):
        with pytest.raises(BadInput, match="context_length"):
            record("lmstudio").load("m", context_length=context_length)

    def test_an_unknown_model_is_told_with_the_closest_name(self):
        with ScriptedServer(style="ollama", models=["qwen3:8b"]) as server, pytest.raises(ModelNotFound):
            only(server.root).load("qwen3:8")


class TestTokensAndMetrics:
    @pytest.mark.parametrize("style", ["vllm", "llamacpp", "tgi", "koboldcpp"])
    def test_a_prompt_is_counted_with_its_template(self, style):
        with ScriptedServer(style=style, models=["m"]) as server:
            found = only(server.root)
            by_text = found.count_tokens("m", "Why is the sky blue?")
            by_messages = found.count_tokens("m", [{"role": "user", "content": "Why is the sky blue?"}])
        assert by_text == by_messages > 0

    @pytest.mark.parametrize("style", ["vllm", "llamacpp", "tgi", "koboldcpp", "sglang", "localai"])
    def test_a_text_becomes_token_ids(self, style):
        with ScriptedServer(style=style, models=["m"]) as server:
            tokens = only(server.root).tokenize("m", "Why is the sky blue?")
        assert tokens and all(isinstance(token, int) for token in tokens)

    @pytest.mark.parametrize(("style", "options"), [("vllm", {}), ("llamacpp", {"metrics": True}), ("sglang", {})])
    def test_live_figures_are_numbers_by_our_names(self, style, options):
        with ScriptedServer(style=style, models=["m"], options=options) as server:
            figures = only(server.root).metrics()
        assert {"requests_running", "requests_waiting"} <= set(figures)
        assert all(isinstance(value, float | int) for value in figures.values())

    def test_metrics_that_are_switched_off_are_not_here(self):
        with ScriptedServer(style="llamacpp", models=["m"]) as server, pytest.raises(NotHere, match="metrics"):
            only(server.root).metrics()

    def test_what_is_no_text_is_refused(self):
        with pytest.raises(BadInput):
            record("vllm").tokenize("m", 7)


class TestModelsAndBackends:
    def test_a_model_by_its_name_or_by_a_shorter_one(self):
        with ScriptedServer(style="ollama", models=["llama3.2"], about={"": {"num_ctx": 8192}}) as server:
            found = only(server.root)
            assert found.model("llama3.2:latest") == found.model("llama3.2")
            assert found.model("llama3.2").extras  # what takes a question of its own is there

    def test_an_unknown_name_is_told_with_the_closest(self):
        models = ["qwen3:8b", "gemma3:4b"]
        with ScriptedServer(style="vllm", models=models) as server, pytest.raises(ModelNotFound) as raised:
            only(server.root).model("qwen3:8")
        assert "Did you mean 'qwen3:8b'" in str(raised.value)

    def test_refresh_sees_what_has_changed_and_keeps_the_key(self):
        with ScriptedServer(style="vllm", models=["a"], api_key=KEY) as server:
            found = only(server.root, api_key=KEY)
            server.models = ("a", "b")
            again = found.refresh()
        assert [model.id for model in again.models] == ["a", "b"]
        assert again.key == KEY
        assert [model.id for model in found.models] == ["a"]

    def test_refresh_of_a_server_that_is_gone_is_an_error(self):
        with ScriptedServer(style="vllm", models=["a"]) as server:
            found = only(server.root)
        with pytest.raises(ServerUnreachable):
            found.refresh()

    def test_a_backend_for_the_only_model_answers(self):
        with (
            ScriptedServer(Script(text="Hello"), style="vllm", models=["a"], api_key=KEY) as server,
            only(server.root, api_key=KEY).backend() as backend,
        ):
            assert (backend.model, backend.server) == ("a", "vllm")
            assert backend.ask("Hi").text == "Hello"

    def test_of_several_models_one_must_be_named(self):
        with ScriptedServer(Script(text="Hello"), style="vllm", models=["a", "b"]) as server:
            found = only(server.root)
            with pytest.raises(BadInput, match="has 2 chat models") as raised:
                found.backend()
            assert "a, b" in raised.value.hint
            with found.backend("b", temperature=0.0) as backend:
                assert backend.ask("Hi").request.params["temperature"] == 0.0

    def test_a_server_without_models_says_so(self):
        with pytest.raises(BadInput, match="no chat model"):
            record("ollama").backend()


class TestErrors:
    @pytest.mark.parametrize("verb", ["metrics", "tokenize", "count_tokens"])
    def test_a_server_that_is_gone_is_this_packages_error(self, verb):
        with closed_port() as place, pytest.raises(ServerUnreachable):
            VERBS[verb](record("vllm", place.base_url))

    def test_so_it_is_for_a_download(self):
        with closed_port() as place, pytest.raises(ServerUnreachable):
            record("ollama", place.base_url).pull("m").result()

    def test_and_for_a_model(self):
        with closed_port() as place, pytest.raises(ServerUnreachable):
            record("ollama", place.base_url).model("m")

    def test_a_wrong_key_is_told_without_being_shown(self):
        with (
            ScriptedServer(style="llamacpp", models=["m"], api_key="right") as server,
            pytest.raises(AuthenticationFailed) as raised,
        ):
            record("llamacpp", server.base_url, key=KEY).tokenize("m", "hi")
        assert KEY not in str(raised.value)

    def test_a_server_that_fails_keeps_its_words(self):
        scripts = {"/tokenize": Script(status=500, error_body={"error": "out of paper"})}
        with (
            ScriptedServer(style="vllm", models=["m"], scripts=scripts) as server,
            pytest.raises(ServerError) as raised,
        ):
            record("vllm", server.base_url).tokenize("m", "hi")
        assert raised.value.server_says == "out of paper"

    def test_on_the_loop_a_verb_says_what_to_do(self):
        from mamba_nb.errors import WrongLoop

        async def work(_run):
            record("vllm").metrics()

        with pytest.raises(WrongLoop):
            Run(work, name="x").result(5)


class TestRecord:
    def test_its_key_is_shown_nowhere(self):
        server = record("vllm", key=KEY)
        shown = [repr(server), str(server), str(server._repr_mimebundle_()), server.to_frame().to_string()]
        assert not any(KEY in text for text in shown)

    def test_it_can_be_copied_and_compared(self):
        server = record("vllm", key=KEY)
        assert copy.deepcopy(server) == server == pickle.loads(pickle.dumps(server))

    def test_its_repr_is_one_true_line(self):
        with ScriptedServer(style="vllm", models=["a"]) as running:
            server = only(running.root)
        assert repr(server) == f"<Server vllm 0.32.0 · {running.base_url} · 1 model>"

    def test_what_its_kind_says_is_at_hand(self):
        server = record("ollama")
        assert (server.kind, server.certainty, server.evidence) == ("ollama", "certain", "a test said so")
        assert (server.version, server.mode, server.needs_key, server.usable) == (None, None, False, False)
        assert server.about.title == "Ollama"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    path = write_tiny_model(tmp_path_factory.mktemp("models") / "Tiny-Random.F32.gguf")
    yield start_engine(path, n_ctx=256, slots=2, settings=EmbeddedSettings())
    embedded.stop()


class TestTheEmbeddedEngine:
    """The real llama.cpp, in its own process."""

    def test_it_is_found_as_what_it_is_with_its_key(self, engine):
        found = find_servers()["embedded"]
        assert (found.base_url, found.certainty, found.usable) == (engine.base_url, "certain", True)
        assert [model.id for model in found.models] == [engine.model]
        assert found.model(engine.model).context_window == 256
        assert engine.api_key not in repr(found) + str(found._repr_mimebundle_())

    def test_it_counts_tokens_and_tells_its_figures(self, engine):
        found = find_servers()["embedded"]
        tokens = found.tokenize(engine.model, "hi")
        assert tokens and all(isinstance(token, int) for token in tokens)
        assert found.count_tokens(engine.model, "hi") > len(tokens)  # the template is counted too
        with found.backend() as backend:
            answer = backend.ask("hi", max_tokens=1)
        assert answer.usage.prompt_tokens == found.count_tokens(engine.model, "hi")

    def test_at_its_address_it_is_told_as_llama_cpp_that_belongs_here(self, engine):
        found = only(engine.base_url, api_key=engine.api_key)
        assert (found.kind, found.usable) == ("embedded", True)

    def test_without_its_key_it_says_that_it_wants_one(self, engine):
        found = only(engine.base_url)
        assert found.needs_key and not found.usable

    def test_it_is_not_there_when_it_has_ended(self, engine):
        embedded.stop()
        assert all(server.kind != "embedded" for server in find_servers())
