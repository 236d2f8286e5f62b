"""Widgets in a real kernel, told to stop as their scripts tell them: on every kernel, and at once."""

from __future__ import annotations

import os

import pytest
from kernels.driver import Kernel

from mamba_nb.testing import Script, ScriptedServer, words

SETUP = """
from mamba_nb import CompareView, start_compare
from mamba_nb.backends import OpenAICompatibleBackend
one, two = (OpenAICompatibleBackend(name, {base_url!r}) for name in ("one", "two"))
view = CompareView([one, two])
view
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    python = os.environ.get("MAMBA_TEST_KERNEL_PYTHON")
    with Kernel(tmp_path_factory.mktemp("kernel"), python=python) as running:
        yield running


@pytest.fixture
def server(kernel):
    with ScriptedServer(Script(text=words(2000), itl_s=0.02), models=("one", "two")) as running:
        kernel.run(SETUP.format(base_url=running.base_url))
        yield running
        kernel.run("view.close(); one.close(); two.close()")


@pytest.mark.parametrize("on", ["the shell", "a subshell"])
def test_a_view_that_runs_is_stopped_by_its_button(kernel, server, on):
    subshell_id = kernel.new_subshell() if on == "a subshell" else None
    if on == "a subshell" and subshell_id is None:
        pytest.skip("this ipykernel has no subshells; a front end then sends to the shell, which is the other case")
    model_id = kernel.value("view.model_id")
    kernel.tell(model_id, {"do": "run", "prompt": "Count."}, subshell_id=subshell_id)
    # One after the other: nothing says that this server works on two at once.
    kernel.until("[p['state'] for p in view.state['panels']] == ['streaming', 'waiting']")
    assert kernel.value("view.state['running']")
    kernel.tell(model_id, {"do": "stop"}, subshell_id=subshell_id)
    kernel.until("not view.state['running']")
    server.wait_for_disconnects(1)
    assert kernel.value("[p['state'] for p in view.state['panels']]") == ["stopped", "idle"]
    assert kernel.value("view.comparison.count('stopped')") == 1
    assert kernel.value("1 + 1") == 2


def test_a_cell_that_is_run_again_ends_what_its_widget_was_doing(kernel, server):
    kernel.tell(kernel.value("view.model_id"), {"do": "run", "prompt": "Count."})
    kernel.until("view.state['running']")
    kernel.run("view._stop_all()")
    kernel.until("not view.state['running']")
    server.wait_idle(5)
