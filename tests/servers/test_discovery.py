"""Looking around: what is found, what else answers, where keys go, and that it is over in time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from mamba_nb._bridge import Run, run_in_background
from mamba_nb.errors import BadInput, ServerUnreachable, WrongLoop
from mamba_nb.servers import find_servers
from mamba_nb.servers.candidates import Candidate, Keys, known_ports, plan
from mamba_nb.servers.discovery import find, server_at
from mamba_nb.servers.kinds import kinds
from mamba_nb.servers.mending import Address
from mamba_nb.testing import Script, ScriptedServer, closed_port, tar_pit
from mamba_nb.testing.decoys import NAMES as DECOYS
from mamba_nb.testing.decoys import decoy

sys.path.insert(0, str(Path(__file__).parents[1]))
from default_ports import servers_on_default_ports

KEY = "sk-a-key-of-nobody"
SLACK_S = 8.0  # what a busy test machine may add to any time


def only(*urls, **options):
    """A look at these addresses and at nothing else."""
    return find_servers(hosts=[], urls=urls, **options)


@contextlib.contextmanager
def on_port(port, style, **options):
    """A server on a port of its kind's, or a skip where that is taken."""
    server = ScriptedServer(style=style, port=port, **options)
    try:
        server.start()
    except OSError as error:
        pytest.skip(f"port {port}, the default of {style}, is taken here: {error.strerror or error}")
    try:
        yield server
    finally:
        server.stop()


class TestOnThisMachine:
    def test_servers_on_their_default_ports_are_found_without_a_word(self):
        with servers_on_default_ports() as servers:
            found = find_servers()
            assert {"ollama", "vllm", "lmstudio"} <= {server.kind for server in found}
            assert found["ollama"].base_url == servers.ollama.base_url
            assert [model.id for model in found["lmstudio"].models] == ["qwen/qwen3-8b"]
            assert found["vllm"].latency_ms > 0
            assert found.advice == ()
            frame = found.to_frame()
            assert set(frame.loc[frame["kind"] == "ollama", "model"]) == {"llama3.2:latest"}
        for server in (servers.ollama, servers.vllm, servers.lmstudio):
            assert {request.headers.get("authorization") for request in server.requests} == {None}

    def test_a_configured_address_on_a_known_port_is_the_same_server_and_asked_once(self, monkeypatch):
        monkeypatch.setenv("MAMBA_MODEL_BACKEND__BASE_URL", "http://localhost:11434/v1")
        monkeypatch.setenv("MAMBA_MODEL_BACKEND__API_KEY", KEY)
        monkeypatch.setenv("OLLAMA_HOST", "0.0.0.0")
        with servers_on_default_ports() as servers:
            found = find_servers()
            assert [server.kind for server in found].count("ollama") == 1
            assert found["ollama"].key == KEY
            paths = [request.path for request in servers.ollama.requests]
            assert paths.count("/v1/models") == 1
            assert not any(KEY in str(request.headers) for request in servers.vllm.requests)

    def test_a_shared_port_tells_what_listens_there(self):
        with on_port(8080, "localai", models=["m"]):
            assert find_servers()["localai"].base_url == "http://127.0.0.1:8080/v1"

    def test_docker_model_runner_is_found_where_its_own_paths_are(self):
        with on_port(12434, "dockermodelrunner", models=["ai/smollm2"]):
            assert find_servers()["dockermodelrunner"].base_url == "http://127.0.0.1:12434/engines/v1"

    def test_a_key_demand_on_jans_port_is_jan_at_a_guess(self):
        with on_port(1337, "plain", models=["m"], api_key=KEY):
            found = find_servers()["jan"]
            assert (found.certainty, found.needs_key) == ("guess", True)

    def test_a_hosts_known_ports_are_looked_at_and_no_others(self):
        with on_port(11434, "ollama", models=["m"]) as server:
            found = find_servers(hosts=["127.0.0.1"])
            assert [one.kind for one in found if one.root == server.root] == ["ollama"]
            assert found.places == len(known_ports())


class TestWhatIsConfigured:
    def test_the_settings_address_is_looked_at_with_its_key(self, monkeypatch):
        with ScriptedServer(style="vllm", models=["m"], api_key=KEY) as server:
            monkeypatch.setenv("MAMBA_MODEL_BACKEND__BASE_URL", server.base_url)
            monkeypatch.setenv("MAMBA_MODEL_BACKEND__API_KEY", KEY)
            found = next(one for one in find_servers() if one.base_url == server.base_url)
            assert (found.kind, found.usable, found.problems) == ("vllm", True, ())
            assert KEY not in repr(found)

    def test_the_default_address_of_the_settings_is_nobodys_wish(self):
        assert not any(candidate.named for candidate in plan(None, (), None, {}).candidates)

    def test_a_toml_file_is_read_too(self, monkeypatch, tmp_path):
        with ScriptedServer(style="plain", models=["m"]) as server:
            path = tmp_path / "mamba.toml"
            path.write_text(f'[model_backend]\nbase_url = "{server.base_url}"\n')
            monkeypatch.setenv("MAMBA_CONFIG", str(path))
            assert any(one.base_url == server.base_url for one in find_servers())

    @pytest.mark.parametrize("form", ["127.0.0.1:{port}", "http://127.0.0.1:{port}/", "0.0.0.0:{port}", ":{port}"])
    def test_ollama_host_is_looked_at(self, monkeypatch, form):
        with ScriptedServer(style="ollama", models=["m"]) as server:
            monkeypatch.setenv("OLLAMA_HOST", form.format(port=server.port))
            assert any(one.base_url == server.base_url for one in find_servers())

    def test_openai_base_url_is_looked_at_without_the_environments_openai_key(self, monkeypatch):
        with ScriptedServer(style="plain", models=["m"], api_key="other") as server:
            monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
            monkeypatch.setenv("OPENAI_API_KEY", KEY)
            found = next(one for one in find_servers() if one.base_url == server.base_url)
            assert found.needs_key
            assert not any(KEY in str(request.headers) for request in server.requests)

    def test_openai_itself_is_asked_only_where_it_is_configured_and_with_its_own_key(self):
        def openai(environ):
            hosts = [(c.root, c.key) for c in plan(None, (), None, environ).candidates if "openai" in c.root]
            return hosts

        assert openai({"OPENAI_API_KEY": KEY}) == []
        assert openai({"OPENAI_BASE_URL": "https://api.openai.com/v1", "OPENAI_API_KEY": KEY}) == [
            ("https://api.openai.com", KEY)
        ]

    def test_settings_that_cannot_be_read_are_told_and_stop_nothing(self, monkeypatch):
        monkeypatch.setenv("MAMBA_MODEL_BACKEND__TIMEOUT", "soon")
        with ScriptedServer(style="ollama", models=["m"]) as server:
            found = find_servers(urls=[server.root])
        assert any(one.kind == "ollama" for one in found)
        assert any(other.url == "settings" and "timeout" in other.what for other in found.others)

    def test_an_address_in_the_environment_that_is_none_is_told(self, monkeypatch):
        monkeypatch.setenv("OPENAI_BASE_URL", "ftp://nowhere")
        assert any(other.url == "OPENAI_BASE_URL" for other in find_servers().others)

    def test_a_configured_address_where_nothing_is_is_told(self, monkeypatch):
        with closed_port() as place:
            monkeypatch.setenv("MAMBA_MODEL_BACKEND__BASE_URL", place.base_url)
            other = next(other for other in find_servers().others if other.said_by == "settings")
        assert (other.url, other.what) == (place.root, "nothing is listening there")


class TestKeys:
    def test_a_kinds_own_key_goes_to_a_server_told_as_of_its_kind_that_asks_for_one(self, monkeypatch):
        monkeypatch.setenv("LM_API_TOKEN", KEY)
        monkeypatch.setenv("VLLM_API_KEY", "sk-of-vllm")
        with (
            ScriptedServer(style="lmstudio", models=["m"], api_key=KEY) as lmstudio,
            ScriptedServer(style="vllm", models=["m"], api_key="sk-of-vllm") as vllm,
            ScriptedServer(style="plain", models=["m"], api_key="other") as plain,
            ScriptedServer(style="vllm", models=["m"]) as open_vllm,
        ):
            found = only(lmstudio.root, vllm.root, plain.root, open_vllm.root)
            assert {one.kind: one.usable for one in found} == {"lmstudio": True, "vllm": True, "compatible": False}
            assert found["lmstudio"].key == KEY
            sent = {server: {r.headers.get("authorization") for r in server.requests} for server in (plain, open_vllm)}
            assert sent == {plain: {None}, open_vllm: {None}}
            assert not any("sk-of-vllm" in str(request.headers) for request in lmstudio.requests)
            assert not any(KEY in str(request.headers) for request in vllm.requests)

    def test_a_kinds_own_key_does_not_leave_this_machine_for_a_host_that_was_only_looked_at(self):
        keys = Keys(by_kind={"vllm": KEY})
        address = Address(root="http://gpu-box:8000", base_urls=("http://gpu-box:8000/v1",))
        looked_at = Candidate(addresses=(address,), said_by="port 8000", host="gpu-box")
        named = Candidate(addresses=(address,), said_by="urls", named=True)
        assert keys.meant_for("vllm", looked_at, "gpu-box") is None
        assert keys.meant_for("vllm", named, "gpu-box") == KEY
        assert keys.meant_for("vllm", looked_at, "127.0.0.1") == KEY
        assert keys.meant_for("lmstudio", named, "gpu-box") is None
        assert KEY not in repr(keys) + repr(named)

    def test_the_given_key_goes_to_the_given_addresses(self):
        with ScriptedServer(style="litellm", models=["m"], api_key=KEY) as server:
            found = only(server.root, api_key=KEY)
            assert (found[0].kind, found[0].usable) == ("litellm", True)

    def test_elsewhere_the_given_key_waits_until_a_model_server_asks_for_one(self):
        address = Address(root="http://127.0.0.1:8000", base_urls=("http://127.0.0.1:8000/v1",))
        unnamed = Candidate(addresses=(address,), said_by="port 8000", later=KEY)
        assert Keys().meant_for("vllm", unnamed, "127.0.0.1") == KEY
        assert Keys().meant_for("compatible", unnamed, "127.0.0.1") is None
        assert all(candidate.key is None for candidate in plan(None, (), KEY, {}).candidates)
        assert all(candidate.later == KEY for candidate in plan(None, (), KEY, {}).candidates)

    def test_a_refused_key_is_told(self):
        with ScriptedServer(style="vllm", models=["m"], api_key="right") as server:
            (found,) = only(server.root, api_key="wrong")
        assert found.problems == ("It asks for a key, and refused the one that was given.",)
        assert "wrong" not in repr(found) + str(found._repr_mimebundle_())

    def test_a_redirect_to_another_host_gets_no_key(self):
        with decoy("redirect") as place:
            found = only(place.root, api_key=KEY)
            assert place.target.seen == []
        assert "another host, localhost" in found.others[0].what

    def test_a_secret_str_is_a_key_too(self):
        from pydantic import SecretStr

        with ScriptedServer(style="vllm", models=["m"], api_key=KEY) as server:
            assert only(server.root, api_key=SecretStr(KEY))[0].usable


class TestWhatElseIsThere:
    @pytest.mark.parametrize(
        ("name", "told"),
        [
            ("web_page", 'a web page: "Grafana <b>"'),
            ("single_page_app", 'a web page: "Open WebUI"'),
            ("login_page", "asks for a login"),
            ("json_api", "no list of models"),
            ("json_list", "no list of models"),
            ("json_data", "no list of models"),
            ("car_models", "no list of models"),
            ("odd_list", "no list of models"),
            ("deep_json", "says JSON and sends something else"),
            ("broken_json", "says JSON and sends something else"),
            ("plain_text", "plain text"),
            ("empty", "empty answer"),
            ("not_unicode", "something else"),
            ("garbage", "does not speak HTTP"),
            ("self_signed", "certificate is self-signed"),
            ("speaks_tls", "certificate is self-signed"),
            ("redirect", "sends callers on to another host"),
            ("to_a_page", "sends callers on to /login"),
            ("huge_body", "more than a list of models can have"),
            ("closes", "closes the connection without an answer"),
            ("cut", "breaks off its answer"),
            ("fastapi", "FastAPI"),
            ("proxy_502", "proxy's error page, status 502"),
            ("fails", "status 500"),
            ("airplay", "refuses to answer, status 403"),
            ("error_200", "no list of models"),
        ],
    )
    def test_each_is_told_as_what_it_is(self, name, told):
        with decoy(name) as place:
            found = only(place.root, api_key=KEY)
        assert len(found) == 0
        (other,) = found.others
        assert told in other.what
        assert other.said_by == "urls"
        assert KEY not in str(found.others) + str(found._repr_mimebundle_())

    @pytest.mark.parametrize(
        ("name", "told"),
        [
            ("drip", "answers so slowly"),
            ("drip_head", "does not answer in time"),
            ("silent", "does not answer in time"),
        ],
    )
    def test_the_slow_ones_are_told_and_time_is_kept(self, name, told):
        with decoy(name) as place:
            began = time.monotonic()
            found = only(place.root, timeout=0.6)
            assert time.monotonic() - began < 0.6 + SLACK_S
        assert told in found.others[0].what

    def test_all_of_them_at_once_hide_no_server(self):
        with contextlib.ExitStack() as stack:
            places = [stack.enter_context(decoy(name)) for name in DECOYS]
            server = stack.enter_context(ScriptedServer(style="ollama", models=["m"]))
            began = time.monotonic()
            found = only(*(place.root for place in places), server.root)
            assert time.monotonic() - began < 1.5 + SLACK_S
            assert [one.kind for one in found if one.usable] == ["ollama"]
            assert len(found) + len(found.others) == len(DECOYS) + 1

    def test_a_tar_pit_is_told_within_the_time(self):
        with tar_pit() as one, tar_pit() as two, tar_pit() as three:
            began = time.monotonic()
            found = only(one.root, two.root, three.root)
            assert time.monotonic() - began < 1.5 + SLACK_S
        assert [other.what for other in found.others] == ["accepts connections and does not answer in time"] * 3

    def test_a_server_whose_native_list_comes_too_late_has_the_names_of_its_models(self):
        with ScriptedServer(style="lmstudio", models=["m"]) as server:
            for path in ("/api/v1/models", "/api/v0/models"):
                server.scripts[path] = Script(never=True)
            (found,) = only(server.root, timeout=3)
        assert (found.kind, [model.id for model in found.models]) == ("lmstudio", ["m"])
        assert "No more than the names of its models came in time" in found.problems[0]

    def test_a_server_that_cannot_be_told_apart_in_time_is_compatible_at_a_guess(self):
        with ScriptedServer(style="plain", models=["m"]) as server:
            for path in (
                "/lmstudio-greeting",
                "/api/extra/version",
                "/.well-known/localai.json",
                "/api/version",
                "/info",
            ):
                server.scripts[path] = Script(never=True)
            (found,) = only(server.root, timeout=3)
        assert (found.kind, found.certainty) == ("compatible", "guess")

    def test_a_server_that_dies_between_two_calls_is_no_exception(self):
        with ScriptedServer(style="ollama", models=["m"]) as server:
            server.scripts["/api/version"] = Script(status=500, fault="reset")
            found = only(server.root)
        assert [one.kind for one in found] == ["compatible"]

    def test_a_web_app_on_a_known_port_is_told_and_a_closed_one_is_not(self):
        with contextlib.ExitStack() as stack:
            try:
                place = stack.enter_context(decoy("json_401", port=5001))
            except OSError:
                pytest.skip("port 5001 is taken here")
            found = find_servers()
            assert not any(one.root == place.root for one in found), "any API may ask for a key"
            (other,) = [other for other in found.others if place.root in other.url]
            assert "refuses to answer" in other.what and f"urls=['{place.base_url}']" in other.hint
            assert all(seen.key is None for seen in place.seen)

    def test_five_thousand_models_are_listed_in_time(self):
        names = [f"model-{number}" for number in range(5000)]
        with ScriptedServer(style="vllm", models=names) as server:
            began = time.monotonic()
            (found,) = only(server.root)
            took = time.monotonic() - began
        assert len(found.models) == 5000
        assert took < 1.5 + SLACK_S
        assert len(found._repr_mimebundle_()["text/html"]) < 100_000
        assert len(only()._repr_mimebundle_()["text/html"]) > 0
        assert len(found.to_frame()) == 5000

    def test_a_host_that_is_not_known_is_one_line(self):
        found = find_servers(hosts=["no-such-host.invalid"], timeout=1.0)
        (other,) = found.others
        assert other.url == "no-such-host.invalid"

    def test_a_host_without_any_server_is_one_line(self):
        found = find_servers(hosts=["127.0.0.77"], timeout=1.0)
        assert [other.url for other in found.others] == ["127.0.0.77"]
        assert "nothing is listening on the known ports" in found.others[0].what


class TestAddresses:
    @pytest.mark.parametrize(
        "form", ["{root}", "{root}/v1/v1", "{root}/v1/chat/completions", "{root}/ui/", "{root}/v1/"]
    )
    def test_forms_of_one_address_lead_to_one_server(self, form):
        with ScriptedServer(style="ollama", models=["m"]) as server:
            (found,) = only(form.format(root=server.root))
            assert found.base_url == server.base_url

    def test_a_base_address_without_v1_is_found_where_only_that_answers(self):
        with ScriptedServer(style="plain", models=["m"]) as server:
            server.scripts["/v1/models"] = Script(status=404, error_body="404 page not found")
            server.scripts["/models"] = Script(
                error_body={"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "me"}]}
            )
            (found,) = only(server.root)
            assert found.base_url == server.root

    def test_a_server_on_ipv6_alone_is_found_by_the_name_localhost(self):
        if not socket.has_ipv6:
            pytest.skip("this Python has no IPv6")
        try:
            listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
        with listener, ipv6_server(listener) as port:
            (found,) = only(f"http://localhost:{port}/v1")
            assert found.base_url == f"http://[::1]:{port}/v1"

    def test_the_same_server_by_two_names_is_one(self):
        with ScriptedServer(style="ollama", models=["m"]) as server:
            found = only(server.root, f"http://localhost:{server.port}", f"0.0.0.0:{server.port}")
            assert len(found) == 1
            assert [request.path for request in server.requests].count("/v1/models") == 1

    def test_two_servers_with_the_same_models_on_two_ports_are_two(self):
        with ScriptedServer(style="vllm", models=["m"]) as one, ScriptedServer(style="vllm", models=["m"]) as two:
            assert len(only(one.root, two.root)) == 2


@contextlib.contextmanager
def ipv6_server(listener):
    """A list of models on an IPv6 socket; the scripted server listens on IPv4."""
    body = json.dumps({"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "me"}]}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    miss = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                if request := connection.recv(65_536):
                    connection.sendall(head % len(body) + body if b"/v1/models" in request.split(b"\r\n")[0] else miss)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


PROPS = {"default_generation_settings": {"n_ctx": 4096}, "total_slots": 1}


class TestChildrenOfOtherServers:
    def llama_cpp_with(self, path):
        server = ScriptedServer(style="llamacpp", models=["m"])
        server.scripts["/props"] = Script(error_body={**PROPS, "model_path": path})
        return server

    def test_a_llama_cpp_that_ollama_started_is_left_to_ollama(self):
        path = "/home/me/.ollama/models/blobs/sha256-dde5aa3fc5ff"
        with ScriptedServer(style="ollama", models=["m"]) as parent, self.llama_cpp_with(path) as child:
            found = only(parent.root, child.root)
        assert [one.kind for one in found] == ["ollama"]
        assert "Ollama started" in found.others[0].what

    def test_without_the_parent_it_stays_with_a_warning(self):
        with self.llama_cpp_with("/home/me/.ollama/models/blobs/sha256-dde5aa3fc5ff") as child:
            (found,) = only(child.root)
        assert found.kind == "llamacpp" and "Ollama's store" in found.problems[0]

    def test_a_file_of_ones_own_is_nobodys_child(self):
        with self.llama_cpp_with("/data/smollm2.gguf") as server:
            assert only(server.root)[0].problems == ()


class TestArguments:
    @pytest.mark.parametrize(
        "options",
        [
            {"hosts": 7},
            {"hosts": [7]},
            {"hosts": [""]},
            {"urls": [None]},
            {"urls": ["ftp://x"]},
            {"urls": ["http://u:p@h"]},
            {"hosts": [], "api_key": "with a space"},
            {"hosts": [], "api_key": 7},
            {"hosts": [], "timeout": 0},
            {"hosts": [], "timeout": -1},
            {"hosts": [], "timeout": True},
            {"hosts": [], "timeout": "1"},
            {"hosts": [], "timeout": float("nan")},
        ],
        ids=str,
    )
    def test_a_silly_argument_is_refused(self, options):
        with pytest.raises(BadInput):
            find_servers(**options)

    def test_a_single_text_is_a_list_of_one(self):
        with ScriptedServer(style="ollama", models=["m"]) as server:
            assert len(find_servers([], urls=server.root)) == 1

    def test_nothing_to_look_at_is_nothing_found(self):
        found = only()
        assert (len(found), found.places, bool(found)) == (0, 0, False)
        assert found.advice

    def test_each_port_is_looked_at_once_and_every_kinds_port_is(self):
        ports = known_ports()
        assert len(ports) == len(set(ports))
        assert {11434, 8000, 1234, 8080, 30000, 1337, 4000, 5001, 5000, 12434, 13305} <= set(ports)
        assert set(ports) == {port for kind in kinds().values() for port in kind.ports}
        candidates = plan(None, (), None, {}).candidates
        assert len({candidate.place for candidate in candidates}) == len(candidates) == len(ports)


class TestHowItRuns:
    def test_it_works_in_a_thread_and_in_the_background(self):
        with ScriptedServer(style="ollama", models=["m"]) as server:
            run = run_in_background(find_servers, [], urls=[server.root])
            assert len(run.result(10)) == 1

    def test_it_is_there_for_code_on_the_loop(self):
        with ScriptedServer(style="ollama", models=["m"]) as server:

            async def look(_run):
                return await find([], urls=[server.root]), await server_at(server.root)

            found, one = Run(look, name="look").result(10)
        assert found[0].base_url == one.base_url

    def test_on_the_loop_the_blocking_verb_says_what_to_use(self):
        async def look(_run):
            find_servers([])

        with pytest.raises(WrongLoop, match="await find"):
            Run(look, name="look").result(10)

    def test_a_cancelled_look_leaves_no_question_under_way(self):
        with decoy("silent") as place:

            async def look(_run):
                return await find([], urls=[place.root], timeout=30)

            run = Run(look, name="look")
            while not place.seen:
                time.sleep(0.01)
            run.cancel()
            deadline = time.monotonic() + 5

            async def left(_run):
                return [task for task in asyncio.all_tasks() if "_look" in repr(task.get_coro())]

            while Run(left, name="left").result(5) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert Run(left, name="left").result(5) == []

    def test_a_named_bare_host_is_looked_at_on_its_known_ports(self):
        with on_port(11434, "ollama", models=["m"]) as server:

            async def look(_run):
                return await server_at("127.0.0.1")

            found = Run(look, name="look").result(10)
            assert found.root in (server.root, *(f"http://127.0.0.1:{port}" for port in known_ports()))

    def test_a_bare_host_without_a_server_says_so(self):
        async def look(_run):
            return await server_at("127.0.0.77")

        with pytest.raises(ServerUnreachable, match="known ports"):
            Run(look, name="look").result(10)


class TestOrderAndLooks:
    def test_usable_ones_come_first_and_then_the_order_of_the_kinds(self):
        with (
            ScriptedServer(style="llamacpp", models=["m"]) as llamacpp,
            ScriptedServer(style="ollama", models=[]) as empty,
            ScriptedServer(style="vllm", models=["m"]) as vllm,
        ):
            found = only(llamacpp.root, empty.root, vllm.root)
        assert [one.kind for one in found] == ["vllm", "llamacpp", "ollama"]

    def test_it_is_a_sequence(self):
        with ScriptedServer(style="vllm", models=["m"]) as server:
            found = only(server.root)
        assert found and len(found) == 1 and found[0] is found["vllm"] is next(iter(found)) and found[:1] == (found[0],)
        with pytest.raises(KeyError, match="Did you mean 'ollama'"):
            found["olama"]
        with pytest.raises(IndexError):
            found[1]

    def test_the_tables(self):
        about = {"m": {"context_length": 4096}}
        with (
            ScriptedServer(style="vllm", models=["m", "n"], about=about) as vllm,
            ScriptedServer(style="ollama", models=[]) as empty,
        ):
            found = only(vllm.root, empty.root)
        frame = found.to_frame()
        assert list(frame["kind"]) == ["vllm", "vllm", "ollama"]
        assert list(frame["model"].isna()) == [False, False, True]
        assert frame.loc[0, "context_window"] == 4096
        assert str(frame["context_window"].dtype) == "Int64" and str(frame["supports_tools"].dtype) == "boolean"
        one_each = found.servers_frame()
        assert list(one_each["models"]) == [2, 0]
        assert list(one_each["needs_key"]) == [False, False]
        assert list(one_each["certainty"]) == ["certain", "certain"]

    def test_what_servers_wrote_is_escaped(self):
        evil = "<script>alert(1)</script>"
        with ScriptedServer(style="vllm", models=[evil]) as server, decoy("web_page") as page:
            found = only(server.root, page.root)
        for shown in (found, found[0]):
            bundle = shown._repr_mimebundle_()
            assert "<script>" not in bundle["text/html"]
        assert "&lt;script&gt;" in found._repr_mimebundle_()["text/html"]
        assert "Grafana &lt;b&gt;" in found._repr_mimebundle_()["text/html"]

    def test_the_empty_result_says_what_to_do(self):
        with closed_port() as place:
            bundle = only(place.root)._repr_mimebundle_()
        for text in bundle.values():
            assert "No model server was found (1 place looked at" in text
            assert "nothing is listening there" in text
            assert "embedded" in text
