"""The doctor says what runs, what is wrong and what mends it; in a cell, on the command line and as JSON."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import mamba_nb as mb
from mamba_nb.doctor.checks import of_configuration, of_proxies, of_server
from mamba_nb.doctor.report import Problem, Report
from mamba_nb.errors import BadInput
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Sighting
from mamba_nb.servers.server import Server
from mamba_nb.testing import Script, ScriptedServer, closed_port, tar_pit

KEY = "sk-local-1234567890abcdef"


def found(kind: str = "ollama", *models: ServedModel, needs_key: bool = False, **more) -> Server:
    root = "http://127.0.0.1:11434"
    sighting = Sighting(kind=kind, certainty="certain", evidence="seen", version="1.0", needs_key=needs_key)
    return Server(sighting=sighting, base_url=f"{root}/v1", root=root, models=models, **more)


def whats(problems) -> list[str]:
    return [problem.what for problem in problems]


class TestChecks:
    def test_a_server_with_a_loaded_model_and_room_has_no_problem(self):
        assert (
            of_server(found("ollama", ServedModel(id="a", state="loaded", context_window=32768, context_max=131072)))
            == ()
        )

    @pytest.mark.parametrize(
        ("kind", "fix"),
        [
            ("ollama", "create_ollama_backend('a', num_ctx=16384)"),
            ("lmstudio", "`lms load a --context-length 16384`"),
            ("llamacpp", "`-c 16384`"),
            ("vllm", "`--max-model-len 16384`"),
            ("embedded", "create_embedded_backend(n_ctx=16384)"),
        ],
    )
    def test_a_small_context_in_force_is_told_with_each_servers_remedy(self, kind, fix):
        model = ServedModel(id="a", state="loaded", context_window=4096, context_max=131072)
        (problem,) = of_server(found(kind, model))
        assert problem.severity == "warning" and fix in problem.fix
        assert "context of 4,096 tokens; it can hold 131,072" in problem.what
        assert ("without saying so" in problem.what) == (kind == "ollama")

    @pytest.mark.parametrize(
        "model",
        [
            ServedModel(id="a", state="unloaded", context_window=4096, context_max=131072),
            ServedModel(id="a", state="loaded", context_window=4096, context_max=4096),
            ServedModel(id="a", state="loaded", context_window=4096),
            ServedModel(id="a", state="loaded", context_max=131072),
            ServedModel(id="a", state="loaded", task="embedding", context_window=512, context_max=8192),
        ],
        ids=["not loaded", "no more to have", "maximum unknown", "in force unknown", "embedding"],
    )
    def test_no_alarm_where_nothing_could_be_mended(self, model):
        assert of_server(found("ollama", model)) == ()

    def test_a_server_without_models_says_how_to_get_one(self):
        (problem,) = of_server(found("ollama"))
        assert "has no model" in problem.what and "ollama pull" in problem.fix

    def test_a_server_that_wants_a_key_is_told_once_and_not_blamed_for_an_empty_list(self):
        with ScriptedServer(style="vllm", models=["served"], api_key=KEY) as server:
            report = mb.doctor(server.base_url)
        (mine,) = [finding for finding in report.findings if finding.server.base_url == server.base_url]
        (problem,) = mine.problems
        assert problem.what == f"vLLM at {server.base_url}: It asks for a key." and "api_key=" in problem.fix

    def test_models_that_run_elsewhere_are_named(self):
        (problem,) = of_server(found("ollama", ServedModel(id="big:cloud", runs_locally=False)))
        assert "big:cloud" in problem.what and "another machine" in problem.what

    def test_what_discovery_says_is_kept(self):
        (problem,) = of_server(found("ollama", ServedModel(id="a"), problems=("It answers slowly.",)))
        assert problem.what == "Ollama at http://127.0.0.1:11434/v1: It answers slowly."


class TestConfiguration:
    HERE = found("ollama", ServedModel(id="llama3.2:latest"), ServedModel(id="qwen3:8b"))

    def problems(self, url: str, model: str | None) -> list[Problem]:
        return list(of_configuration(url, model, "environment MAMBA_MODEL_BACKEND__BASE_URL", [self.HERE]))

    @pytest.mark.parametrize("model", ["llama3.2", "llama3.2:latest", "qwen3:8b", None])
    def test_what_is_there_is_fine(self, model):
        assert self.problems("http://localhost:11434/v1", model) == []

    def test_a_model_that_is_not_there_gets_the_closest_name(self):
        (problem,) = self.problems("http://localhost:11434/v1", "qwen3:8")
        assert problem.severity == "error" and "It has: llama3.2:latest, qwen3:8b" in problem.what
        assert problem.fix == "Did you mean 'qwen3:8b'?"

    def test_an_address_without_a_server_says_what_runs_instead(self):
        (problem,) = self.problems("http://localhost:8000/v1", None)
        assert "MAMBA_MODEL_BACKEND__BASE_URL" in problem.what and "http://127.0.0.1:11434/v1" in problem.fix

    def test_a_path_that_is_missing_is_told(self):
        (problem,) = self.problems("http://localhost:11434", None)
        assert problem.severity == "error" and problem.fix == "Use http://127.0.0.1:11434/v1."


def test_a_proxy_that_takes_local_calls_is_told_without_its_password(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://user:secret@proxy.example:3128")
    (problem,) = of_proxies([found()])
    assert "http://proxy.example:3128" in problem.what and "secret" not in problem.what + problem.fix
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert list(of_proxies([found()])) == []


class TestDoctor:
    def test_a_server_that_is_asked_for_is_described(self):
        with ScriptedServer(style="vllm", models=["served"], context_length=2048) as server:
            report = mb.doctor(server.base_url)
        (mine,) = [finding for finding in report.findings if finding.server.base_url == server.base_url]
        told = mine.to_dict()
        assert (told["kind"], told["base_url"]) == ("vllm", server.base_url) and told["version"]
        assert {name: told["models"][0][name] for name in ("id", "loaded", "context_in_force")} == {
            "id": "served",
            "loaded": True,
            "context_in_force": 2048,
        }
        assert report.ok and bool(report)

    def test_an_address_where_nothing_listens_is_an_error(self):
        with closed_port() as place:
            report = mb.doctor(place.base_url)
        assert not report.ok and any(place.base_url in what for what in whats(report.all_problems))

    def test_a_port_that_never_answers_is_told_as_such_and_in_time(self):
        with tar_pit() as place:
            report = mb.doctor(place.base_url)
        assert not report.ok and any(str(place.port) in url for url in report.others)

    def test_a_pasted_path_is_mended(self):
        with ScriptedServer(style="ollama", models=["llama3.2"]) as server:
            report = mb.doctor(f"{server.root}/v1/chat/completions")
        assert any(finding.server.base_url == server.base_url for finding in report.findings)
        assert report.ok

    def test_settings_that_cannot_be_read_are_a_problem_and_no_exception(self, monkeypatch):
        monkeypatch.setenv("MAMBA_MODEL_BACKEND__TIMEOUT", "soon")
        report = mb.doctor()
        assert any("MAMBA_MODEL_BACKEND__TIMEOUT" in what for what in whats(report.problems)) and not report.ok

    def test_the_configured_model_is_looked_for(self, monkeypatch):
        with ScriptedServer(style="ollama", models=["llama3.2"]) as server:
            monkeypatch.setenv("MAMBA_MODEL_BACKEND__BASE_URL", server.base_url)
            monkeypatch.setenv("MAMBA_MODEL_BACKEND__MODEL", "lama3.2")
            report = mb.doctor()
        assert [problem.fix for problem in report.problems] == ["Did you mean 'llama3.2:latest'?"]

    def test_no_key_is_shown_anywhere(self, monkeypatch):
        with ScriptedServer(style="vllm", models=["served"], api_key=KEY) as server:
            monkeypatch.setenv("MAMBA_MODEL_BACKEND__BASE_URL", server.base_url)
            monkeypatch.setenv("MAMBA_MODEL_BACKEND__API_KEY", KEY)
            monkeypatch.setenv("MAMBA_MODEL_BACKEND__MODEL", "served")
            report = mb.doctor()
        shown = [repr(report), str(report), json.dumps(report.to_dict()), report._repr_mimebundle_()["text/html"]]
        assert all(KEY not in text for text in shown)
        assert report.ok and any(f.server.models for f in report.findings)

    def test_what_a_server_calls_its_models_is_escaped(self):
        name = '<img src=x onerror="alert(1)">'
        with ScriptedServer(style="vllm", models=[name]) as server:
            bundle = mb.doctor(server.base_url)._repr_mimebundle_()
        assert "<img" not in bundle["text/html"] and "&lt;img" in bundle["text/html"]

    @pytest.mark.parametrize("url", [7, "", "ftp://x"])
    def test_an_address_that_cannot_be_one_is_refused(self, url):
        with pytest.raises(BadInput):
            mb.doctor(url)

    def test_an_empty_report_reads_well(self):
        assert str(Report()).startswith("● 0 model servers running.")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mamba_nb", "doctor", *arguments], capture_output=True, text=True, timeout=60
    )


class TestCommand:
    def test_json_of_a_server_that_is_fine(self):
        with ScriptedServer(Script(text="x"), style="ollama", models=["llama3.2"]) as server:
            ended = command("--json", "--url", server.base_url)
        assert ended.returncode == 0, ended.stderr
        told = json.loads(ended.stdout)
        (mine,) = [each for each in told["servers"] if each["base_url"] == server.base_url]
        assert mine["kind"] == "ollama" and mine["models"][0]["id"] == "llama3.2:latest"
        assert {"id", "loaded", "context_in_force", "context_max"} <= mine["models"][0].keys()
        assert isinstance(mine["problems"], list)

    def test_text_and_status_of_an_address_where_nothing_listens(self):
        with closed_port() as place:
            ended = command("--url", place.base_url)
        assert ended.returncode == 1 and place.base_url in ended.stdout

    def test_an_address_that_cannot_be_one_ends_with_its_error(self):
        ended = command("--url", "ftp://x")
        assert ended.returncode == 1 and "http" in ended.stderr and "Traceback" not in ended.stderr
