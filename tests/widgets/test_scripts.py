"""What the widgets' scripts may use: the browser, and the model they are given; nothing of one front end, nothing afar.

So they work wherever anywidget does: JupyterLab, Notebook, Voila, VS Code, Colab.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mamba_nb
from mamba_nb.widgets import _base
from mamba_nb.widgets._base import MambaWidget

PACKAGE = Path(mamba_nb.__file__).parent
STATIC = PACKAGE / "widgets" / "static"
SCRIPTS = sorted(STATIC.glob("*.js"))
SHEETS = sorted([*STATIC.glob("*.css"), *PACKAGE.glob("display/*.css")])

FETCHES = (
    r"\bfetch\s*\(|XMLHttpRequest|WebSocket|EventSource|sendBeacon|importScripts|\bimport\s*\(|\bimport\s+[\w{*'\"]"
)
AFAR = r"https?:|//[\w-]+\.\w+/|\burl\s*\(|@import"
FRONT_ENDS = r"\b(window|globalThis|self)\s*\.\s*(Jupyter|IPython|jupyterapp|require|define|google|_JUPYTERLAB)\b"
GLOBALS = r"(?<![\w.])(Jupyter|IPython|jupyterapp|requirejs|require|define|google|acquireVsCodeApi)\s*[.(]"
STORES = r"localStorage|sessionStorage|indexedDB|document\.cookie"  # a key must not stay in the browser


def code(path: Path) -> str:
    """The script without its comments."""
    return re.sub(r"(?m)(^|\s)//.*$", "", path.read_text("utf-8"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
@pytest.mark.parametrize("what", [FETCHES, AFAR, FRONT_ENDS, GLOBALS, STORES])
def test_a_script_uses_the_browser_and_its_model_alone(path, what):
    assert re.findall(what, code(path)) == []


@pytest.mark.parametrize("path", SHEETS, ids=lambda path: path.name)
def test_a_sheet_fetches_nothing(path):
    assert re.findall(AFAR, re.sub(r"(?s)/\*.*?\*/", "", path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    ("what", "line"),
    [
        (FETCHES, 'await fetch("x")'),
        (FETCHES, 'import { h } from "./h.js"'),
        (AFAR, "const at = `https://${host}`"),
        (FRONT_ENDS, "window.Jupyter.notebook"),
        (GLOBALS, 'require(["base/js/namespace"])'),
        (STORES, "localStorage.setItem('k', key)"),
    ],
)
def test_the_patterns_find_what_they_are_for(what, line):
    assert re.search(what, line)


def test_each_widget_is_one_module_that_exports_what_anywidget_calls():
    widgets = [path.stem for path in SCRIPTS if path.stem != "shared"]
    assert widgets == ["chat", "compare_view", "panels", "picker", "profile_table", "vote"]
    for name in widgets:
        whole = _base.script(name)
        assert whole.count("export default") == 1
        assert re.search(r"\brender\s*\(", whole)


def test_the_widgets_are_anywidgets_own_and_bring_no_extension():
    assert MambaWidget._model_module.default_value == "anywidget"
    assert MambaWidget._view_module.default_value == "anywidget"
    assert not [path for path in PACKAGE.rglob("*") if path.name in ("labextension", "nbextension", "package.json")]
