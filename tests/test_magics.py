"""`%%ask`, `%%compare` and `%mamba` in a real IPython shell."""

from __future__ import annotations

import atexit
from typing import Any, ClassVar

import pandas as pd
import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from mamba_nb.backends import OpenAICompatibleBackend
from mamba_nb.errors import BadInput, ServerUnreachable
from mamba_nb.magics import MambaMagics, interpolated
from mamba_nb.records import Comparison, Generation
from mamba_nb.testing import Script, ScriptedServer, closed_port


@pytest.fixture(scope="module")
def one_shell():
    shell = InteractiveShell()
    shell.history_manager.enabled = False
    shell.run_line_magic("load_ext", "mamba_nb")
    yield shell
    atexit.unregister(shell.atexit_operations)
    shell.atexit_operations()


@pytest.fixture
def shell(one_shell):
    one_shell.reset(new_session=False)
    MambaMagics(one_shell).register()  # what a test chose with `use` is not the next one's
    return one_shell


@pytest.fixture
def server():
    with ScriptedServer(Script(echo=True), models=["one", "two"]) as running:
        yield running


@pytest.fixture
def b(server, shell):
    with OpenAICompatibleBackend("one", server.base_url, max_retries=0) as backend:
        shell.user_ns["b"] = backend
        yield backend


class TestAsk:
    def test_the_cells_text_is_asked_and_the_answer_returned_and_kept(self, shell, b, server):
        shell.user_ns["city"] = "Paris"
        answer = shell.run_cell_magic("ask", "b -o kept --system 'Be brief' --max-tokens 9", "Where is {city}?\n")
        assert isinstance(answer, Generation) and answer.text == "Where is Paris?"
        assert shell.user_ns["kept"] is answer
        sent = server.chats[-1].body
        assert sent["max_tokens"] == 9 and sent["messages"][0] == {"role": "system", "content": "Be brief"}

    def test_a_backend_of_the_users_stays_open(self, shell, b):
        shell.run_cell_magic("ask", "b", "Hi")
        assert not b.closed

    def test_without_a_model_the_configured_one_is_asked(self, shell, server, monkeypatch):
        monkeypatch.setenv("MAMBA_MODEL_BACKEND__BASE_URL", server.base_url)
        monkeypatch.setenv("MAMBA_MODEL_BACKEND__MODEL", "two")
        assert shell.run_cell_magic("ask", "", "Hi").model == "two"

    def test_the_model_of_use_is_asked(self, shell, b):
        assert shell.run_line_magic("mamba", "use b") is b
        assert shell.run_cell_magic("ask", "", "Hi").base_url == b.base_url
        assert shell.run_line_magic("mamba", "use") is b

    def test_a_failure_is_raised_and_not_only_printed(self, shell):
        with closed_port() as place, OpenAICompatibleBackend("m", place.base_url, max_retries=0) as dead:
            shell.user_ns["dead"] = dead
            with pytest.raises(ServerUnreachable):
                shell.run_cell_magic("ask", "dead", "Hi")

    @pytest.mark.parametrize(
        ("line", "cell", "words"),
        [
            ("b", "  \n", "no prompt"),
            ("b --max-tokens many", "Hi", "invalid int value"),
            ("b --bogus", "Hi", "unrecognized arguments"),
            ("b --system 'open", "Hi", "no closing quotation"),
            ("b -o 9x", "Hi", "name of a variable"),
        ],
    )
    def test_what_cannot_be_meant_is_a_usage_error(self, shell, b, line, cell, words):
        with pytest.raises(UsageError, match=words):
            shell.run_cell_magic("ask", line, cell)

    def test_a_parameter_out_of_range_is_told(self, shell, b):
        with pytest.raises(BadInput, match="temperature"):
            shell.run_cell_magic("ask", "b --temperature 9", "Hi")


class TestCompare:
    def test_prompts_stand_between_dashes(self, shell, b, server):
        shell.user_ns["x"] = 7
        grid = shell.run_cell_magic("compare", "b b -o grid --repeats 2", "One {x}\n---\nTwo\n  with more\n")
        assert isinstance(grid, Comparison) and shell.user_ns["grid"] is grid
        assert grid.labels == ("one", "one (2)") and len(grid) == 8
        assert {cell.prompt for cell in grid} == {"One 7", "Two\n  with more"}

    def test_a_cell_without_a_prompt_is_a_usage_error(self, shell, b):
        with pytest.raises(UsageError, match="no prompt"):
            shell.run_cell_magic("compare", "b", "---\n")
        with pytest.raises(UsageError, match="required: models"):
            shell.run_cell_magic("compare", "", "Hi")


class TestMamba:
    def test_an_unknown_command_gets_the_closest_one(self, shell):
        with pytest.raises(UsageError, match="Did you mean doctor"):
            shell.run_line_magic("mamba", "docter")
        with pytest.raises(UsageError, match="required: command"):
            shell.run_line_magic("mamba", "")

    def test_a_name_that_means_nothing_is_refused_by_use(self, shell):
        with pytest.raises(BadInput):
            shell.run_line_magic("mamba", "use ollama:")

    def test_doctor_servers_and_profiles_give_their_objects(self, shell, server):
        report = shell.run_line_magic("mamba", f"doctor {server.base_url}")
        assert any(finding.server.base_url == server.base_url for finding in report.findings)
        assert hasattr(shell.run_line_magic("mamba", "servers"), "to_frame")
        assert hasattr(shell.run_line_magic("mamba", "profiles gpt-4o"), "to_frame")


@pytest.mark.parametrize("name", ["ask", "compare"])
def test_help_lists_every_option(shell, name):
    text = shell.magics_manager.magics["cell"][name].__doc__
    assert all(option in text for option in ("--system", "-o NAME", "--max-tokens", "--temperature"))


def test_loading_the_extension_gives_frames_their_accessor(shell):
    assert hasattr(pd.DataFrame({"a": [1]}), "mamba")


class TestInterpolation:
    VARIABLES: ClassVar[dict[str, Any]] = {
        "word": "hi",
        "row": {"name": "Ann"},
        "items": ["a", "b"],
        "frame": pd.DataFrame({"n": [1]}),
    }

    @pytest.mark.parametrize(
        ("text", "filled"),
        [
            ("Say {word}", "Say hi"),
            ("{row[name]} has {items[1]}", "Ann has b"),
            ("{frame.shape}", "(1, 1)"),
            ('{"a": 1} {} { word }', '{"a": 1} {} { word }'),
            ("{{word}}", "{word}"),
            ("no braces", "no braces"),
        ],
    )
    def test_variables_are_filled_in_and_other_braces_stay(self, text, filled):
        assert interpolated(text, self.VARIABLES) == filled

    def test_a_variable_that_is_not_there_gets_the_closest_name(self):
        with pytest.raises(BadInput, match="Did you mean 'word'") as caught:
            interpolated("Say {wrd}", self.VARIABLES)
        assert "{{wrd}}" in caught.value.hint
