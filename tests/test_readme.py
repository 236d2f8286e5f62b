"""The README holds: every block of Python runs, cells in a real kernel, and its tables say what the code says."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from default_ports import servers_on_default_ports
from kernels.driver import Kernel
from pydantic import SecretStr
from tiny_model import write_tiny_model

REPO = Path(__file__).parents[1]
README = (REPO / "README.md").read_text("utf-8")


def blocks(languages: str = "python") -> Iterator[tuple[str, str]]:
    """Each block of a language with the heading that it stands under."""
    heading, count = "", 0
    for found in re.finditer(
        rf"^#+ (?P<heading>[^\n]+)$|^```(?:{languages})\n(?P<code>.*?)^```", README, re.MULTILINE | re.DOTALL
    ):
        if found["heading"]:
            heading, count = found["heading"], 0
        else:
            count += 1
            yield f"{heading} {count}", found["code"]


def needs_weights(code: str) -> bool:
    return "create_embedded_backend(" in code or '"embedded"' in code


def parameters(*, with_weights: bool) -> list[object]:
    return [pytest.param(code, id=name) for name, code in blocks() if needs_weights(code) == with_weights]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    for trouble in ("Traceback", "Warning", "Exception ignored", "Task was destroyed"):
        assert trouble not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("code", parameters(with_weights=False))
def test_a_block_runs_as_it_stands(code):
    with servers_on_default_ports():
        run(code)


@pytest.mark.real_model
@pytest.mark.parametrize("code", parameters(with_weights=True))
def test_a_block_with_the_embedded_model_runs_as_it_stands(code):
    printed = run(code)
    if "temperature_in" in code:
        assert "temperature_in(city='Oslo') -> '-2 degrees, snow'" in printed


def cells(block: str) -> list[str]:
    """The cells of a block: a line of magic after an empty line begins another one."""
    return [cell.strip() for cell in re.split(r"\n\s*\n(?=%)", block) if cell.strip()]


def test_the_cells_run_in_a_notebook(tmp_path, monkeypatch):
    """With a model of noise in the embedded engine, which loads at once."""
    monkeypatch.setenv("MAMBA_EMBEDDED__MODEL_PATH", str(write_tiny_model(tmp_path / "Tiny-Random.F32.gguf")))
    with servers_on_default_ports() as servers, Kernel(tmp_path) as kernel:
        kernel.run("text = 'The ferry was cancelled because of strong wind.'")
        asked, compared, *found = [kernel.run(cell) for _, block in blocks("ipython|text") for cell in cells(block)][1:]
        assert kernel.value("answer.text") == "Hello from a script."
        assert "strong wind" in servers.ollama.chats[0].prompt
        assert "Hello from a script." in asked.displayed[-1]["text/html"]
        assert all(name in compared.displayed[-1]["text/html"] for name in ("llama3.2", "embedded"))
        assert "ollama" in found[0].displayed[-1]["text/html"]
        names = "type(picker).__name__, type(view).__name__, list(table.frame['model'].unique())"
        assert kernel.value(names) == ("BackendPicker", "CompareView", ["gpt-4o", "llama3.2"])
        assert kernel.value("__import__('mamba_nb').embedded.stop()") == 1


def test_each_block_is_run_by_one_of_the_tests():
    fences = re.findall(r"^```(\w+)\n", README, re.MULTILINE)
    assert len(list(blocks())) == fences.count("python") >= 13
    assert len(list(blocks("ipython|text"))) == fences.count("ipython") + fences.count("text") >= 2
    assert set(fences) <= {"python", "ipython", "text", "bash"}
    assert any("%%compare" in cell for _, block in blocks("ipython|text") for cell in cells(block))


def test_there_are_two_commands_that_make_their_own_environment():
    command = runpy.run_path(str(REPO / ".ci" / "readme.py"))["command"]
    for which, ending in (("quickstart", "python -m mamba_nb quickstart --execute out"), ("test", "pytest")):
        first, activate, install, *rest = command(which, README).split(" && ")
        assert (first, activate) == ("python3 -m venv .venv", ". .venv/bin/activate")
        assert install.startswith('pip install -e ".[')
        assert rest == [ending]


def test_the_options_table_is_what_the_settings_are():
    from mamba_nb import ModelBackendSettings

    section = README.split("| option | type | default | rule |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| `?\"?(.+?)\"?`? \| (.+) \|$", section, re.MULTILINE)
    assert len(rows) == section.count("\n| `") == 7
    for name, kind, default, rule in rows:
        field = ModelBackendSettings.model_fields[name]
        assert default == str(field.default), name
        kinds = [type(None) if each == "None" else each for each in kind.split(" or ")]
        held = getattr(field.annotation, "__args__", (field.annotation,))
        assert [each if each is type(None) else each.__name__ for each in held] == kinds, name
        bounds = [
            getattr(limit, word) for limit in field.metadata for word in ("ge", "gt", "le") if hasattr(limit, word)
        ]
        assert [float(number) for number in re.findall(r"\d+(?:\.\d+)?", rule)] == bounds, name
        assert ("> 0" in rule) == any(hasattr(limit, "gt") for limit in field.metadata), name
    assert [name for name, *_ in rows] == list(ModelBackendSettings.model_fields)
    assert isinstance(ModelBackendSettings(api_key="k").api_key, SecretStr)


def test_the_variables_it_names_are_read():
    from mamba_nb import EmbeddedSettings

    named = re.search(r"`MAMBA_EMBEDDED__MODEL_PATH`, (.+?)\. A", README, re.DOTALL)
    assert named is not None
    fields = ["MODEL_PATH", *re.findall(r"`__(\w+)`", named[1])]
    assert fields == [name.upper() for name in EmbeddedSettings.model_fields]


def test_the_figures_it_explains_are_columns_of_the_frame():
    from mamba_nb.display.frames import COLUMNS

    section = README.split("## What the figures mean")[1].split("\n## ")[0]
    named = [
        name for row in re.findall(r"^\| (`.+?) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    ]
    assert len(named) == 11
    assert set(named) <= {column.name for column in COLUMNS}


def test_the_errors_it_names_exist():
    from mamba_nb import errors

    section = README.split("## Troubleshooting")[1].split("\n## ")[0]
    named = re.findall(r"^\| `([A-Z]\w+)`", section, re.MULTILINE)
    assert len(named) == 10
    assert set(named) <= set(errors.__all__)


def test_the_terms_of_the_weights_are_the_pinned_ones():
    from mamba_nb.embedded import SMOLLM2

    assert SMOLLM2.terms in README
    assert SMOLLM2.title in README
