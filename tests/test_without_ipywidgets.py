"""A kernel without ipywidgets and anywidget: the verbs show plain display updates, a widget says what to install."""

from __future__ import annotations

import pytest
from kernels.driver import Kernel

from mamba_nb.testing import Script, ScriptedServer, words

WIDGETS = ("BackendPicker", "ChatView", "CompareView", "ProfileTable", "VoteView")
BEGIN = """
import sys
for name in ("ipywidgets", "anywidget"):
    sys.modules[name] = None  # importing it fails, as where it is not installed
import mamba_nb as mb
models = [mb.create_vllm_backend(name, base_url={base_url!r}) for name in ("one", "two")]
"""


@pytest.fixture(scope="module")
def server():
    script = Script(text=words(30), itl_s=0.02)
    with ScriptedServer(script, style="vllm", models=["one", "two"]) as running:
        yield running


@pytest.fixture(scope="module")
def kernel(tmp_path_factory, server):
    with Kernel(tmp_path_factory.mktemp("kernel")) as running:
        running.run(BEGIN.format(base_url=server.base_url))
        yield running


def html_of(cell):
    return [bundle.get("text/html", "") for bundle in cell.displayed]


@pytest.mark.parametrize("live", ["None", "'widget'"])
def test_a_comparison_is_painted_as_plain_html(kernel, live):
    cell = kernel.run(f"grid = mb.compare(models, 'Count.', live={live})")
    painted = html_of(cell)
    assert len(painted) > 3
    assert painted[-1].count(words(30)[-1].strip()) >= 2
    assert cell.printed == ""


def test_looking_round_and_the_magics_and_data_frames_work(kernel, server):
    found, doctor = kernel.replies(
        kernel.queue(f"mb.find_servers([], urls=[{server.base_url!r}])", f"mb.doctor({server.base_url!r})")
    )
    assert "one" in html_of(found)[-1] and server.base_url in html_of(doctor)[-1]
    kernel.run("%load_ext mamba_nb")
    asked = kernel.run("one, two = models").status, kernel.run("%%ask one -o answer\nCount.")
    assert len(html_of(asked[1])) > 3
    kernel.run("%%compare one two\nCount.")
    frame = "import pandas as pd\nout = pd.DataFrame({'t': ['a', 'b']}).mamba.ask('Count {t}.', model=models[0])"
    assert "Warning" not in kernel.run(frame).printed
    assert kernel.value("out['answer'].tolist()") == ["".join(words(30))] * 2
    assert "Warning" not in kernel.run("report = mb.probe(models[0], only=['stop']).result()").printed


@pytest.mark.parametrize("name", WIDGETS)
def test_a_widget_says_what_to_install(kernel, name):
    kernel.run(
        f"""
try:
    from mamba_nb import {name}
except ImportError as error:
    said = type(error).__name__, str(error)
"""
    )
    kind, text = kernel.value("said")
    assert kind == "MissingExtra"
    assert "anywidget, which is not installed" in text
    assert "pip install" in text
