"""The README holds: every Python block runs, and its tables say what the code says."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from default_ports import servers_on_default_ports
from pydantic import SecretStr

REPO = Path(__file__).parents[1]
README = (REPO / "README.md").read_text("utf-8")


def blocks() -> Iterator[tuple[str, str]]:
    """Each Python block with the heading that it stands under."""
    heading, count = "", 0
    for found in re.finditer(
        r"^#+ (?P<heading>[^\n]+)$|^```python\n(?P<code>.*?)^```", README, re.MULTILINE | re.DOTALL
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


def test_each_block_is_run_by_one_of_the_two_tests():
    assert len(list(blocks())) == README.count("```python\n") == 13


def test_there_are_two_commands_that_make_their_own_environment():
    command = runpy.run_path(str(REPO / ".ci" / "readme.py"))["command"]
    for which, ending in (("quickstart", "python -m mamba_nb quickstart --execute out"), ("test", "pytest")):
        first, activate, install, *rest = command(which, README).split(" && ")
        assert (first, activate) == ("python3 -m venv .venv", ". .venv/bin/activate")
        assert install.startswith('pip install -e ".[')
        assert rest == [ending]


def test_the_options_table_is_what_the_settings_are():
    from mamba_nb import ModelBackendSettings

    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| `?\"?(.+?)\"?`? \| .+ \|$", README, re.MULTILINE)
    table = {name: default for name, kind, default in rows if kind.split()[0] in ("str", "SecretStr", "float", "int")}
    assert table == {name: str(field.default) for name, field in ModelBackendSettings.model_fields.items()}
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


def test_what_it_points_to_is_there():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (REPO / target).is_file(), target


def test_the_terms_of_the_weights_are_the_pinned_ones():
    from mamba_nb.embedded import SMOLLM2

    assert SMOLLM2.terms in README
    assert SMOLLM2.title in README
