"""Ollama told from its imitators, its models as it declares them, and its verbs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import pytest

from mamba_nb._bridge import io
from mamba_nb.errors import BadInput, MambaError, ModelNotFound, NotHere, ServerFailed, StreamInterrupted
from mamba_nb.servers import ollama
from mamba_nb.servers._ollama_models import detail, models
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import kinds
from mamba_nb.servers.pulling import PullProgress
from mamba_nb.testing import Script, ScriptedServer, closed_port

KIND = ollama.KIND
PAGE = "<html><body>Welcome</body></html>"
PLAIN = {"Content-Type": "text/plain; charset=utf-8"}
RUNNING = Script(error_body="Ollama is running", headers=PLAIN)


def done(work: Coroutine[Any, Any, Any]) -> Any:
    return io.submit(work).result(20)


def asking(server: Any, **more: Any) -> Asking:
    return Asking(root=server.root, base_url=server.base_url, **more)


def listed(server: Any) -> dict[str, ServedModel]:
    return {model.id: model for model in done(models(asking(server)))}


def raw(**replies: Any) -> ScriptedServer:
    """A server of no kind with these replies; `api_tags` stands for `/api/tags`, `root` for `/`."""
    scripts = {
        "/" if name == "root" else "/" + name.replace("_", "/"): (
            reply if isinstance(reply, Script) else Script(error_body=reply)
        )
        for name, reply in replies.items()
    }
    return ScriptedServer(models=[], scripts=scripts)


def seen(server: Any) -> list[str]:
    return [request.path for request in server.requests]


async def pulled(server: Any, model: str, **options: Any) -> list[PullProgress]:
    return [progress async for progress in KIND.pull(asking(server), model, options)]


class TestRecognise:
    def test_it_is_certain_by_three_marks_and_asks_nothing_twice(self):
        with ScriptedServer(style="ollama", models="m") as server:
            ask = asking(server)
            sighting = done(KIND.recognise(ask))
            assert (sighting.kind, sighting.certainty, sighting.version) == ("ollama", "certain", "0.33.0")
            assert sighting.evidence == (
                'GET /api/version is {"version": "0.33.0"}; GET / says Ollama is running; GET /api/status has cloud'
            )
            assert done(KIND.version(ask)) == "0.33.0"
            assert sorted(seen(server)) == ["/", "/api/status", "/api/version", "/v1/models"]

    @pytest.mark.parametrize(
        ("models", "options", "certainty"),
        [
            pytest.param([], {}, "certain", id="nothing is installed"),
            pytest.param(["ann/mine"], {}, "certain", id="another namespace than library"),
            pytest.param(["m"], {"version": "0.9.0"}, "certain", id="too old for /api/status"),
            pytest.param(["m"], {"version": "0.33.0-rc2"}, "certain", id="a candidate"),
            pytest.param(["m"], {"hides_root": True}, "likely", id="a proxy hides the root"),
            pytest.param([], {"hides_root": True, "version": "0.9.0"}, "likely", id="data: null and a version"),
            pytest.param(["m"], {"hides_root": True, "version": "0.9.0"}, "likely", id="library and a version"),
        ],
    )
    def test_how_surely(self, models, options, certainty):
        with ScriptedServer(style="ollama", models=models, options=options) as server:
            assert done(KIND.recognise(asking(server))).certainty == certainty

    def test_the_port_decides_nothing(self):
        with ScriptedServer(style="plain", models="m") as server:
            assert done(KIND.recognise(asking(server))) is None

    def test_it_asks_one_path_more_where_there_is_no_version(self):
        with ScriptedServer(style="vllm", models="m") as server:
            assert done(KIND.recognise(asking(server))) is None
            assert seen(server) == ["/v1/models"]  # its owner says enough
        with ScriptedServer(style="plain", models="m") as server:
            assert done(KIND.recognise(asking(server))) is None
            assert seen(server) == ["/v1/models", "/api/version"]

    @pytest.mark.parametrize("style", [name for name in kinds() if name not in ("ollama", "embedded", "compatible")])
    def test_no_other_kind_is_taken_for_it(self, style):
        with ScriptedServer(style=style, models="m") as server:
            assert done(KIND.recognise(asking(server))) is None

    @pytest.mark.parametrize(
        "replies",
        [
            pytest.param(
                {
                    "v1_models": {"object": "list", "data": [{"id": "m", "object": "model"}]},
                    "api_version": {"version": "0.9.0"},
                    "root": RUNNING,
                    "api_status": Script(status=404, error_body={"error": {"code": 404, "message": "Not Found"}}),
                },
                id="LocalAI with its flag",
            ),
            pytest.param(
                {
                    "v1_models": {"object": "list", "data": [{"id": "m", "owned_by": "lemonade"}]},
                    "api_version": {"version": "0.16.1"},
                    "root": RUNNING,
                },
                id="Lemonade",
            ),
            pytest.param(
                {
                    "v1_models": {"object": "list", "data": []},
                    "api_version": {"version": "0.1.0"},
                    "root": Script(error_body="Docker Model Runner is running", headers=PLAIN),
                    "api_status": Script(status=404, error_body="404 page not found"),
                },
                id="Docker Model Runner without a model",
            ),
            pytest.param(
                {
                    "v1_models": {"object": "list", "data": [{"id": "m", "owned_by": "llama-swap"}]},
                    "api_version": {"version": "v1", "commit": "a", "build_date": "b"},
                    "root": RUNNING,
                },
                id="llama-swap",
            ),
            pytest.param(
                {
                    "v1_models": {"object": "list", "data": [{"id": "m", "owned_by": "x"}]},
                    "api_version": {"version": "0.6.4"},
                    "root": Script(error_body='"Ollama is running"', headers={"Content-Type": "application/json"}),
                },
                id="SGLang's quotes",
            ),
            pytest.param(
                {
                    "v1_models": {"object": "list", "data": []},
                    "api_version": {"version": "0.9.0"},
                    "root": Script(error_body="Ollama is running", headers={"Content-Type": "text/html"}),
                    "api_status": Script(status=404, error_body="404 page not found"),
                },
                id="the words in a page",
            ),
            pytest.param(
                {
                    "v1_models": {"object": "list", "data": []},
                    "api_version": {"version": "0.9.0", "commit": "a"},
                    "root": RUNNING,
                    "api_status": Script(status=404, error_body="404 page not found"),
                },
                id="a version with a commit",
            ),
            pytest.param({"api_version": {"version": "0.33.0"}, "root": PAGE}, id="an app with a version"),
            pytest.param({"api_version": {"version": 33}, "root": RUNNING}, id="a number"),
            pytest.param({"api_version": {"version": "<script>"}, "root": RUNNING}, id="no version at all"),
            pytest.param({"api_version": {"version": "1" * 500}, "root": RUNNING}, id="a long one"),
            pytest.param({"api_version": ["version"], "root": RUNNING}, id="a list"),
            pytest.param({"api_version": "null", "root": RUNNING}, id="null"),
            pytest.param({"v1_models": PAGE, "api_version": PAGE, "root": PAGE}, id="pages everywhere"),
            pytest.param({"v1_models": {"data": [None, 7, {"owned_by": []}]}, "api_version": {}}, id="odd entries"),
            pytest.param(
                {"v1_models": Script(status=403, error_body="", headers={"Server": "AirTunes/1"})}, id="AirPlay"
            ),
        ],
    )
    def test_imitators_and_nonsense(self, replies):
        with raw(**replies) as server:
            assert done(KIND.recognise(asking(server))) is None

    def test_what_refuses_the_host_name_is_a_guess(self):
        refusal = Script(status=403, error_body=b"")
        with raw(v1_models=refusal, api_version=refusal) as server:
            sighting = done(KIND.recognise(asking(server)))
            assert (sighting.certainty, sighting.version) == ("guess", None)

    def test_where_nobody_answers_it_is_not(self):
        with closed_port() as port:
            root = f"http://127.0.0.1:{port.port}"
            assert done(KIND.recognise(Asking(root=root, base_url=root + "/v1"))) is None


class TestModels:
    def test_two_lists_become_one(self):
        about = {
            "llama3.2": {"parameter_size": "3.2B", "num_ctx": 8192, "vram": 11},
            "nomic-embed-text": {"parameter_size": "137M", "quantization": "F16", "context_max": 2048, "size": 274},
            "big:cloud": {"remote_host": "https://ollama.com:443"},
        }
        with ScriptedServer(Script(text="a"), style="ollama", models=list(about), about=about) as server:
            done(KIND.load(asking(server), "llama3.2", context_length=None, keep_alive=None))
            found = listed(server)
            assert not [path for path in seen(server) if "show" in path]
        llama, nomic, cloud = (
            found["llama3.2:latest"],
            found["nomic-embed-text:latest"],
            found["big:cloud"],
        )
        assert (llama.state, llama.task, llama.context_window, llama.context_max) == ("loaded", "chat", 8192, 131_072)
        assert (llama.size_bytes, llama.memory_bytes) == (2_019_393_189, 2_019_393_189 + 8192 * 114_688)
        assert (llama.parameters, llama.quantization, llama.family) == (3_200_000_000, "Q4_K_M", "llama")
        assert (llama.supports_tools, llama.supports_vision, llama.supports_reasoning) == (True, False, False)
        assert (llama.supports_embeddings, llama.runs_locally) == (False, True)
        assert len(llama.digest) == 64 and llama.extras["size_vram"] == 11
        assert llama.evidence["context_window"] == "GET /api/ps"
        assert llama.evidence["context_max"] == "GET /api/tags"
        assert (nomic.state, nomic.task, nomic.context_window) == ("unloaded", "embedding", None)
        assert (nomic.parameters, nomic.size_bytes, nomic.supports_embeddings) == (137_000_000, 274, True)
        assert (cloud.runs_locally, cloud.size_bytes, cloud.state) == (False, None, None)
        assert cloud.facts()["runs_locally"].source == "declared"

    def test_a_model_that_is_being_loaded_says_so(self):
        with ScriptedServer(style="ollama", models="m", load_s=3600) as server:

            async def both() -> list[ServedModel]:
                load = asyncio.ensure_future(KIND.load(asking(server), "m", context_length=None, keep_alive=None))
                await asyncio.to_thread(server.wait_for_requests, 1)
                while not server.room.loading:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                try:
                    return await models(asking(server))
                finally:
                    load.cancel()

            (model,) = done(both())
            assert (model.state, model.loaded) == ("loading", False)

    def test_a_loaded_one_stays_loaded_when_looked_at_twice(self):
        with ScriptedServer(style="ollama", models="m") as server:
            done(KIND.load(asking(server), "m", context_length=8192, keep_alive="10m"))
            assert listed(server)["m:latest"].state == "loaded"

    def test_what_is_in_memory_and_not_installed_is_there_too(self):
        entry = {"name": "gone:1b", "size": 7, "context_length": 512, "expires_at": "x", "details": {"family": "qwen3"}}
        with raw(api_tags={"models": []}, api_ps={"models": [entry]}) as server:
            (model,) = listed(server).values()
        assert (model.id, model.state, model.context_window, model.memory_bytes) == ("gone:1b", "loaded", 512, 7)
        assert (model.family, model.runs_locally) == ("qwen3", None)

    def test_names_are_matched_with_their_tag_and_whatever_their_case(self):
        tags = {"models": [{"name": "Mine:latest"}, {"model": "other:7b"}]}
        running = {"models": [{"name": "mine", "context_length": 512, "expires_at": "x"}]}
        with raw(api_tags=tags, api_ps=running) as server:
            found = listed(server)
        assert {name: model.state for name, model in found.items()} == {"Mine:latest": "loaded", "other:7b": "unloaded"}

    def test_an_older_server_says_less_and_show_says_the_rest(self):
        about = {"m": {"capabilities": ["completion", "thinking"], "num_ctx": 8192, "context_max": 40_960}}
        with ScriptedServer(style="ollama", models="m", about=about, options={"version": "0.20.0"}) as server:
            model = listed(server)["m:latest"]
            assert (model.supports_tools, model.task, model.context_max) == (None, None, None)
            model = done(detail(asking(server), model))
        assert (model.supports_tools, model.supports_reasoning, model.task) == (False, True, "chat")
        assert (model.context_max, model.parameters) == (40_960, 3_212_749_888)
        assert model.extras["num_ctx"] == 8192
        assert model.evidence["context_max"] == model.evidence["parameters"] == "POST /api/show"
        assert model.evidence["quantization"] == "GET /api/tags"

    def test_the_oldest_say_by_the_family_that_they_embed(self):
        with raw(api_tags={"models": [{"name": "n", "details": {"family": "nomic-bert"}}]}, api_ps={}) as server:
            assert listed(server)["n"].task == "embedding"

    def test_behind_a_proxy_that_lets_v1_through_alone_there_are_names(self):
        with raw(v1_models={"data": [{"id": "m:latest"}]}) as server:
            (model,) = listed(server).values()
        assert (model.id, model.state, model.runs_locally) == ("m:latest", None, None)

    @pytest.mark.parametrize("name", ["gpt-oss:120b-cloud", "kimi:cloud", "x:Cloud"])
    def test_a_cloud_model_is_told_by_its_name_too(self, name):
        with raw(api_tags={"models": [{"name": name, "size": 384}]}) as server:
            assert listed(server)[name].runs_locally is False

    @pytest.mark.parametrize(
        "tags",
        [
            None,
            [],
            "text",
            PAGE,
            {"models": None},
            {"models": {"name": "m"}},
            {"models": [None, 3, "m", [], {}, {"name": None}, {"name": 7}, {"name": "  "}]},
            {"error": "no"},
        ],
    )
    def test_lists_of_another_shape_are_no_models(self, tags):
        with raw(api_tags=tags if tags is not None else "null", api_ps=tags or "null", v1_models=PAGE) as server:
            assert listed(server) == {}

    def test_fields_of_the_wrong_type_are_none(self):
        odd = {
            "name": "m",
            "size": "5 GB",
            "digest": 12,
            "details": {"family": ["llama"], "parameter_size": {}, "quantization_level": 4, "context_length": "131072"},
            "capabilities": [None, 3, {}],
            "remote_host": None,
        }
        running = {"name": "m", "size": -1, "context_length": 4096.5, "size_vram": True, "expires_at": 7}
        worse = {"name": "n", "details": "none", "capabilities": "tools", "size": True, "digest": ""}
        largest = {"name": "o", "size": 10**400, "details": {"parameter_size": "9" * 400 + "B"}}
        with raw(api_tags={"models": [odd, worse, largest]}, api_ps={"models": [running]}) as server:
            found = listed(server)
        assert {name: model.facts().keys() for name, model in found.items()} == {
            "m": {"runs_locally"},
            "n": {"runs_locally"},
            "o": {"runs_locally"},
        }
        assert found["m"].state == "loaded"

    def test_five_thousand_models_are_one_call_a_list(self):
        tags = {"models": [{"name": f"m{n}:1b", "size": n + 1} for n in range(5000)]}
        with raw(api_tags=tags, api_ps={"models": []}) as server:
            found = listed(server)
            assert seen(server) in (["/api/tags", "/api/ps"], ["/api/ps", "/api/tags"])
        assert len(found) == 5000 and found["m4999:1b"].size_bytes == 5000

    @pytest.mark.parametrize(
        "shown", [PAGE, "null", [], {}, {"model_info": 3, "capabilities": {}, "parameters": ["num_ctx 5"]}]
    )
    def test_a_model_in_full_that_says_nothing_leaves_it_as_it_was(self, shown):
        with raw(api_show=shown) as server:
            model = ServedModel(id="m", family="llama")
            assert done(detail(asking(server), model)) == model

    def test_so_does_a_server_that_is_gone(self):
        with closed_port() as port:
            root = f"http://127.0.0.1:{port.port}"
            model = ServedModel(id="m")
            assert done(detail(Asking(root=root, base_url=root + "/v1"), model)) == model

    def test_the_modelfiles_parameters(self):
        written = 'num_ctx                        many\nstop   "<a>"\nstop   "<b c>"\n\nbroken\nseed 4 2\nx "open'
        shown = {"parameters": written, "model_info": {"general.architecture": "a", "a.context_length": 2.5}}
        with raw(api_show=shown) as server:
            model = done(detail(asking(server), ServedModel(id="m")))
        assert model.extras == {
            "parameters": {"num_ctx": ("many",), "stop": ("<a>", "<b c>"), "seed": ("4 2",), "x": ('"open',)}
        }
        assert (model.family, model.context_max) == ("a", None)


class TestPull:
    def test_progress_is_summed_over_layers(self):
        with ScriptedServer(style="ollama", models=[], options={"pull_bytes": 3_000_000}) as server:
            came = done(pulled(server, "new:1b"))
            assert server.models == ("new:1b",)
        assert (came[0].status, came[0].fraction, came[0].total_bytes) == ("pulling manifest", None, None)
        assert (came[1].completed_bytes, came[1].model) == (0, "new:1b")
        assert (came[-1].status, came[-1].completed_bytes, came[-1].total_bytes) == ("success", 3_000_000, 3_000_000)
        completed = [progress.completed_bytes for progress in came[1:]]
        assert completed == sorted(completed)

    def test_layers_known_late_and_counted_once(self):
        body = [
            {"status": "pulling manifest"},
            {"status": "pulling aa", "digest": "sha256:aa", "total": 100, "completed": 40},
            {"status": "pulling bb", "digest": "sha256:bb", "total": 50},
            {"status": "pulling aa", "digest": "sha256:aa", "total": 100, "completed": 90},
            {"status": "pulling model", "total": 10, "completed": 99},
            {"status": "pulling model", "digest": "sha256:cc", "total": 20, "completed": 5},
            {"status": 7, "total": "many", "completed": None},
            {"status": "success"},
        ]
        text = "\n".join(map(json.dumps, body)) + "\n\nnot json\n[]\n"
        with raw(api_pull=text) as server:
            came = done(pulled(server, "m"))
        assert [(p.completed_bytes, p.total_bytes) for p in came] == [
            (None, None),
            (40, 100),
            (40, 150),
            (90, 150),
            (100, 160),  # a layer is never more than whole
            (105, 180),
            (105, 180),
            (105, 180),
        ]

    def test_a_name_that_the_library_does_not_have(self):
        with (
            ScriptedServer(style="ollama", models="m", options={"registry": []}) as server,
            pytest.raises(ModelNotFound) as caught,
        ):
            done(pulled(server, "nope"))
        assert caught.value.server_says == "pull model manifest: file does not exist"
        assert "https://ollama.com/search" in caught.value.hint

    @pytest.mark.parametrize(
        ("says", "hint"),
        [
            ("write /models/x: no space left on device", "Free some space"),
            ("pull model manifest: dial tcp: lookup registry.ollama.ai: no such host", "HTTPS_PROXY"),
            ("pull model manifest: 412: requires a newer version of Ollama.", "Update Ollama"),
            ("max retries exceeded: EOF", "what has come so far is kept"),
            ({"message": "an object"}, "what has come so far is kept"),
        ],
    )
    def test_an_error_in_the_stream_is_ours_with_ollamas_words(self, says, hint):
        with raw(api_pull=json.dumps({"error": says})) as server, pytest.raises(ServerFailed) as caught:
            done(pulled(server, "m"))
        assert hint in caught.value.hint
        assert (says if isinstance(says, str) else says["message"]) in caught.value.server_says
        assert caught.value.model == "m"

    def test_a_stream_that_ends_early_is_no_success(self):
        with raw(api_pull='{"status": "pulling manifest"}\n') as server, pytest.raises(StreamInterrupted) as caught:
            done(pulled(server, "m"))
        assert "what has come so far is kept" in caught.value.hint

    def test_who_leaves_cancels_and_the_next_pull_goes_on(self):
        options = {"pull_s": 1.0, "pull_bytes": 100_000_000}

        async def part(server: ScriptedServer) -> int:
            stream = KIND.pull(asking(server), "m", {})
            async for progress in stream:
                if (progress.completed_bytes or 0) >= 20_000_000:
                    break
            await stream.aclose()
            return progress.completed_bytes

        with ScriptedServer(style="ollama", models=[], options=options) as server:
            reached = done(part(server))
            server.wait_for_disconnects(1)
            server.wait_idle()
            assert server.models == ()
            _, again, *_ = done(pulled(server, "m"))
            assert again.completed_bytes >= reached

    def test_a_pull_that_failed_is_taken_up_again(self):
        with ScriptedServer(style="ollama", models=[], options={"pull_error": "unexpected EOF"}) as server:
            with pytest.raises(ServerFailed, match="could not pull m"):
                done(pulled(server, "m"))
            assert done(pulled(server, "m"))[-1].status == "success"

    def test_options_that_it_has_no_place_for_are_refused_unsent(self):
        with ScriptedServer(style="ollama", models=[]) as server:
            with pytest.raises(BadInput, match="quantization='Q4_K_M'"):
                done(pulled(server, "m", quantization="Q4_K_M"))
            assert server.requests == []
            done(pulled(server, "m", insecure=True))
            assert server.requests[0].body == {"model": "m", "insecure": True}

    def test_what_is_no_ollama_has_no_pull(self):
        with raw() as server, pytest.raises(MambaError):
            done(pulled(server, "m"))


class TestLoad:
    def test_a_context_and_a_time(self):
        with ScriptedServer(style="ollama", models="m") as server:
            done(KIND.load(asking(server), "m", context_length=8192, keep_alive="30m"))
            assert server.requests[0].body == {
                "model": "m",
                "stream": False,
                "options": {"num_ctx": 8192},
                "keep_alive": "30m",
            }
            model = listed(server)["m:latest"]
            assert (model.state, model.context_window) == ("loaded", 8192)

    @pytest.mark.parametrize(
        ("given", "sent"), [(90, 90), (90.4, 90), (0.2, 1), (-1, -1), (float("inf"), -1), ("1h30m", "1h30m")]
    )
    def test_times_as_ollama_takes_them(self, given, sent):
        with ScriptedServer(style="ollama", models="m") as server:
            done(KIND.load(asking(server), "m", context_length=None, keep_alive=given))
            assert server.requests[0].body["keep_alive"] == sent

    @pytest.mark.parametrize("given", ["soon", "10", True, float("nan"), 0, [], "-"])
    def test_times_that_cannot_be_meant(self, given):
        with ScriptedServer(style="ollama", models="m") as server:
            with pytest.raises(BadInput, match="keep_alive"):
                done(KIND.load(asking(server), "m", context_length=None, keep_alive=given))
            assert server.requests == []

    @pytest.mark.parametrize("given", [0, -4, 1.5, True, "8192"])
    def test_contexts_that_cannot_be_meant(self, given):
        with (
            ScriptedServer(style="ollama", models="m") as server,
            pytest.raises(BadInput, match="context_length must be"),
        ):
            done(KIND.load(asking(server), "m", context_length=given, keep_alive=None))

    def test_an_embedding_model_loads_by_its_own_route(self):
        about = {"bert": {"capabilities": ["embedding"]}}
        with ScriptedServer(style="ollama", models="bert", about=about) as server:
            done(KIND.load(asking(server), "bert", context_length=512, keep_alive=None))
            assert seen(server) == ["/api/generate", "/api/embed"]
            assert listed(server)["bert:latest"].context_window == 512

    def test_a_model_that_is_not_installed_is_told_with_those_that_are(self):
        with (
            ScriptedServer(style="ollama", models=["qwen3:8b", "llama3.2"]) as server,
            pytest.raises(ModelNotFound) as caught,
        ):
            done(KIND.load(asking(server), "qwen3:8", context_length=None, keep_alive=None))
        assert "Did you mean 'qwen3:8b'? It has: qwen3:8b, llama3.2:latest." in str(caught.value)
        assert "`ollama pull qwen3:8`" in caught.value.hint
        assert caught.value.server_says == "model 'qwen3:8' not found"

    def test_too_little_memory_is_told_in_its_words(self):
        with (
            ScriptedServer(style="ollama", models="m", about={"m": {"most_num_ctx": 8192}}) as server,
            pytest.raises(ServerFailed) as caught,
        ):
            done(KIND.load(asking(server), "m", context_length=65_536, keep_alive=None))
        assert caught.value.server_says.startswith("model requires more system memory")

    @pytest.mark.parametrize("reply", [PAGE, "null", "[]", {"error": "odd"}])
    def test_an_answer_of_another_shape_is_no_load(self, reply):
        with raw(api_generate=reply) as server, pytest.raises(MambaError):
            done(KIND.load(asking(server), "m", context_length=None, keep_alive=None))

    def test_unload(self):
        with ScriptedServer(style="ollama", models="m") as server:
            done(KIND.load(asking(server), "m", context_length=None, keep_alive=None))
            done(KIND.unload(asking(server), "m"))
            assert server.loaded_models == []
            assert listed(server)["m:latest"].state == "unloaded"
            with pytest.raises(ModelNotFound, match="It has: m:latest"):
                done(KIND.unload(asking(server), "n"))

    def test_a_server_without_the_route_has_no_such_verb(self):
        missing = Script(status=404, error_body="404 page not found")
        with raw(api_generate=missing) as server, pytest.raises(NotHere):
            done(KIND.unload(asking(server), "m"))


class TestWaiting:
    def test_odd_answers_mean_that_nothing_is_loaded(self):
        for reply in (None, [], {"models": None}, {"models": [None, 3, {}, {"name": 7}]}):

            async def fetch(path: str, reply: Any = reply) -> Any:
                return reply

            assert done(KIND.loaded_models(fetch)) == []
            assert done(KIND.is_loading(fetch, "m")) is True

    def test_embedding_models_are_no_chat_models(self):
        async def fetch(path: str) -> Any:
            return {"models": [{"name": "a"}, {"name": "b", "details": {"family": "nomic-bert"}}]}

        assert done(KIND.loaded_models(fetch)) == ["a"]

    def test_a_name_with_and_without_its_tag(self):
        async def fetch(path: str) -> Any:
            return {"models": [{"name": "hf.co/Ann/M:latest", "context_length": 1, "expires_at": "x"}]}

        assert done(KIND.is_loading(fetch, "hf.co/ann/M")) is False
        assert done(KIND.is_loading(fetch, "hf.co/ann/M:7b")) is True


class TestParameters:
    @pytest.mark.parametrize(
        "name",
        [
            *("tool_choice", "parallel_tool_calls", "n", "top_k", "min_p", "repeat_penalty", "chat_template_kwargs"),
            *("num_ctx", "keep_alive", "logit_bias"),
        ],
    )
    def test_what_v1_ignores_is_known_with_what_to_do_instead(self, name):
        assert KIND.ignores[name].endswith(".")

    def test_max_completion_tokens_has_another_name_here(self):
        assert KIND.renames == {"max_completion_tokens": "max_tokens"}

    @pytest.mark.parametrize("name", ["temperature", "seed", "stop", "tools", "response_format", "logprobs", "top_p"])
    def test_what_it_honours_is_in_no_table(self, name):
        assert name not in KIND.ignores and name not in KIND.refuses
