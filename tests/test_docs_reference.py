"""The reference holds: it is what the code says now, and leaves nothing out that the code does not say of itself."""

from __future__ import annotations

import inspect
import json
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

import mamba_nb
import mamba_nb.backends
from mamba_nb import errors

REPO = Path(__file__).parents[1]
PAGE = REPO / "notebooks" / "reference.ipynb"


@pytest.fixture(scope="module")
def generator() -> dict[str, Any]:
    before = list(sys.path)
    try:
        return runpy.run_path(str(REPO / ".ci" / "reference.py"))
    finally:
        sys.path[:] = before


def text() -> str:
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(PAGE.read_text("utf-8"))["cells"])


def test_the_page_is_what_the_code_says(generator):
    assert PAGE.read_text("utf-8") == generator["notebook"](), "write it anew: python .ci/reference.py"


def test_a_changed_option_and_a_changed_docstring_make_it_stale(generator, monkeypatch):
    monkeypatch.setattr(mamba_nb.ModelBackendSettings.model_fields["timeout"], "default", 31.0)
    assert "`31.0`" in generator["settings"]()
    monkeypatch.setattr(mamba_nb.variant, "__doc__", "Another text.")
    assert "Another text." in generator["names"](mamba_nb)


def test_every_public_name_has_its_line():
    page = text()
    for name in {*mamba_nb.__all__, *mamba_nb.backends.__all__} - {"__version__"}:
        assert re.search(rf"^- `{name}[(`]", page, re.MULTILINE), name
    for section in ("model_backend", "embedded"):
        for option in mamba_nb.AgentSettings.model_fields[section].annotation.model_fields:
            assert f"`MAMBA_{section}__{option}`".upper() in page


def test_every_error_has_a_remedy_and_a_place_in_the_tree(generator):
    classes = {name for name in errors.__all__ if inspect.isclass(getattr(errors, name))}
    assert set(generator["REMEDIES"]) == classes
    assert set(re.findall(r"^ *- `(\w+)`", generator["error_tree"](), re.MULTILINE)) == classes


def test_every_variable_that_is_read_is_named(generator):
    read = set()
    for path in Path(mamba_nb.__file__).parent.rglob("*.py"):
        if "testing" not in path.parts:
            read |= set(re.findall(r'environ(?:\.get\(|\[)"([A-Z_]+)"', path.read_text("utf-8")))
    outside = {"WSL_DISTRO_NAME"}  # set by the system, and only looked at to know where this runs
    assert set(generator["VARIABLES"]) == {*read, "MAMBA_CONFIG"} - outside
