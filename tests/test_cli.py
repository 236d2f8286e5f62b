"""The command line, run as commands; and the quickstart notebook, copied, executed and opened."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from tiny_model import write_tiny_model

from mamba_nb import quickstart
from mamba_nb.backends import get_profile, list_profiles
from mamba_nb.errors import BadInput, MissingExtra


def command(*arguments: str, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "mamba_nb", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=150,
        env={**os.environ, "COLUMNS": "100", "TERM": "dumb", **environment},
    )
    assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
    return done


def write(path: Path, *sources: str) -> Path:
    cells = [new_markdown_cell("# A title"), *map(new_code_cell, sources)]
    nbformat.write(new_notebook(cells=cells), path)
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "Tiny-Random.F32.gguf")


def test_profiles_prints_a_row_a_model():
    printed = command("profiles").stdout
    for name in list_profiles():
        (row,) = re.findall(rf"^ +{re.escape(name)} +\w+ .*$", printed, re.MULTILINE)
        assert f"{get_profile(name).context_window:,}" in row
    (llama,) = re.findall(r"^ +llama3\.2 .*$", printed, re.MULTILINE)
    assert llama.split() == ["llama3.2", "ollama", "8,192", "\N{EN DASH}", "no", "no"]


def test_help_and_version_do_not_need_a_model():
    listed = command("--help").stdout
    for name in ("quickstart", "profiles", "--version"):
        assert name in listed
    assert "--execute" in command("quickstart", "--help").stdout
    assert re.fullmatch(r"mamba_nb \d+\.\d+\.\d+\n", command("--version").stdout)


def test_a_mistyped_command_is_refused():
    assert "quikstart" in command("quikstart", status=2).stderr


def test_a_missing_extra_is_named_with_its_pip_line_before_anything_is_done(tmp_path):
    code = "import sys; sys.modules['altair'] = None; from mamba_nb.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "quickstart", "--execute", "out"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "The quickstart needs altair, which is not installed.\n"
        'Install it with: pip install "mamba_nb[embedded,notebook,plots]"\n'
    )
    assert list(tmp_path.iterdir()) == []


def test_the_extras_that_are_installed_are_enough():
    quickstart.check_extras(to_execute=True)
    quickstart.check_extras(to_execute=False)


def test_a_missing_extra_is_also_an_import_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "jupyterlab", None)
    with pytest.raises(ImportError) as caught:
        quickstart.check_extras(to_execute=False)
    assert isinstance(caught.value, MissingExtra)
    quickstart.check_extras(to_execute=True)  # which does not open it


def test_the_notebook_is_found_and_is_a_notebook():
    found = quickstart.source()
    assert found.name == quickstart.NAME
    assert nbformat.read(found, as_version=4).cells[0].source.startswith("# Quickstart")


def test_a_copy_is_laid_once_and_an_edited_one_is_left_alone(tmp_path):
    path, is_new = quickstart.lay_copy(tmp_path)
    assert (path, is_new) == (tmp_path / "00_quickstart.ipynb", True)
    assert path.read_bytes() == quickstart.source().read_bytes()
    assert os.access(path, os.W_OK)
    path.write_text("mine")
    assert quickstart.lay_copy(tmp_path) == (path, False)
    assert path.read_text() == "mine"


def test_tutorials_copies_every_notebook_once(tmp_path):
    command = [sys.executable, "-m", "mamba_nb", "tutorials", "--no-open", "--to", str(tmp_path / "mine")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == names
    assert names[:2] == ["00_quickstart.ipynb", "01_ollama.ipynb"]
    (tmp_path / "mine" / names[1]).write_text("mine")
    again = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert again.stdout.count("as you left it") == len(names)
    assert (tmp_path / "mine" / names[1]).read_text() == "mine"


def test_a_copy_that_cannot_be_written_is_an_error_with_the_folder(tmp_path):
    with pytest.raises(BadInput, match=r"cannot be written to .*nowhere"):
        quickstart.lay_copy(tmp_path / "nowhere")


def test_execute_writes_the_executed_notebook_and_a_page_that_fetches_nothing(tmp_path):
    notebook = write(
        tmp_path / "small.ipynb",
        "import os, sys; print(sys.executable); print(os.getcwd())",
        "from IPython.display import HTML, display\ndisplay(HTML('<b>bold</b><script>harm()</script>'))\n'$a$ & <i>'",
    )
    original, lines = notebook.read_bytes(), []
    done = quickstart.execute(notebook, tmp_path / "a" / "out", folder=tmp_path, say=lines.append)
    assert notebook.read_bytes() == original
    assert (done.notebook, done.page) == (tmp_path / "a/out/small.ipynb", tmp_path / "a/out/small.html")
    assert done.cells == 2
    assert [re.sub(r" +\d+\.\d s", "", line) for line in lines] == [
        "cell 1 of 2  import os, sys; print(sys.executable); print(os.getcwd())",
        "cell 2 of 2  from IPython.display import HTML, display",
    ]
    executed = nbformat.read(done.notebook, as_version=4)
    nbformat.validate(executed)
    assert executed.cells[1].outputs[0].text == f"{sys.executable}\n{tmp_path}\n"
    page = done.page.read_text("utf-8")
    assert "<b>bold</b>" in page
    assert "&lt;i&gt;" in page
    assert "<script" not in page
    assert not re.search(r"""(src|href)=["']?https?://""", page)


def test_execute_runs_this_python_whatever_kernel_is_registered(tmp_path, monkeypatch):
    spec = tmp_path / "share" / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-c", "raise SystemExit('the wrong kernel')"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Wrong", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    notebook = write(tmp_path / "small.ipynb", "import mamba_nb, sys; print(sys.executable)")
    done = quickstart.execute(notebook, tmp_path / "out")
    assert nbformat.read(done.notebook, as_version=4).cells[1].outputs[0].text == f"{sys.executable}\n"


def test_a_failing_cell_is_shown_with_its_error_and_what_ran_is_written(tmp_path):
    notebook = write(tmp_path / "small.ipynb", "print('fine')", "total = 1\ntotal / 0", "print('never')")
    with pytest.raises(quickstart.CellFailed) as caught:
        quickstart.execute(notebook, tmp_path / "out")
    assert str(caught.value) == (
        "Cell 2 failed:\n\n    total = 1\n    total / 0\n\nZeroDivisionError: division by zero\n"
        f"The notebook as far as it came: {tmp_path / 'out' / 'small.ipynb'}"
    )
    cells = nbformat.read(caught.value.written.notebook, as_version=4).cells
    assert cells[1].outputs[0].text == "fine\n"
    assert cells[2].outputs[0].ename == "ZeroDivisionError"
    assert cells[3].outputs == []
    assert "ZeroDivisionError" in caught.value.written.page.read_text("utf-8")


def test_a_kernel_that_dies_is_an_error_and_not_a_wait(tmp_path):
    notebook = write(tmp_path / "small.ipynb", "import os; os._exit(3)")
    with pytest.raises(quickstart.CellFailed, match="did not run to its end"):
        quickstart.execute(notebook, tmp_path / "out")


def test_results_that_cannot_be_written_are_an_error(tmp_path):
    notebook = write(tmp_path / "small.ipynb", "1")
    (tmp_path / "out").write_text("a file")
    with pytest.raises(BadInput, match="cannot be made a folder"):
        quickstart.execute(notebook, tmp_path / "out")


def test_quickstart_ends_with_an_error_when_a_cell_fails(tmp_path, tiny):
    """The weights are there when the command looks at them, and are no model when the notebook loads them."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(tiny.read_bytes()[:2000])
    done = command("quickstart", "--execute", "out", status=1, MAMBA_EMBEDDED__MODEL_PATH=str(broken))
    assert f"Weights: {broken}" in done.stdout
    assert "Cell 1 failed:" in done.stderr
    assert "create_embedded_backend()" in done.stderr
    assert "EngineError" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out" / "00_quickstart.ipynb").is_file()


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_quickstart_opens_jupyterlab_on_a_copy_in_the_current_folder(tmp_path, tiny):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    homes = {name: str(tmp_path / "jupyter" / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")}
    work = tmp_path / "work"
    work.mkdir()
    options = ["--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mamba_nb", "quickstart", "--", *options, "--ServerApp.port_retries=0"],
            cwd=work,
            env={**os.environ, **homes, "JUPYTER_TOKEN": "t", "MAMBA_EMBEDDED__MODEL_PATH": str(tiny)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}/api/contents/00_quickstart.ipynb?content=0&token=t"
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            with contextlib.suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(url) as reply:
                assert json.load(reply)["writable"] is True
                break
            time.sleep(0.2)
        assert f"Notebook: {work / '00_quickstart.ipynb'}\n" in log.read_text()
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    finally:
        process.kill()
        process.wait()
