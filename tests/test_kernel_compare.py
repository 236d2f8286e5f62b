"""`compare` in a real kernel: the live view in the cell, the square button, Run All."""

from __future__ import annotations

import os
import time

import pytest
from kernels.driver import PROMPTLY_S, Kernel

from mamba_nb.testing import Script, ScriptedServer, words

SETUP = """
import mamba_nb as mb
from mamba_nb.backends import OpenAICompatibleBackend
backend = OpenAICompatibleBackend("m", {base_url!r})
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    python = os.environ.get("MAMBA_TEST_KERNEL_PYTHON")
    with Kernel(tmp_path_factory.mktemp("kernel"), python=python) as running:
        yield running


@pytest.fixture
def server(kernel):
    with ScriptedServer(Script(text=words(30), itl_s=0.02), models=("m",)) as running:
        kernel.run(SETUP.format(base_url=running.base_url))
        yield running
        kernel.run("backend.close()")


def html_of(cell):
    return [bundle["text/html"] for bundle in cell.displayed if "text/html" in bundle]


def test_the_live_view_grows_in_the_cell_and_ends_with_the_whole_answer(kernel, server):
    (cell,) = kernel.replies(kernel.queue("grid = mb.compare(backend, 'Count.')"))
    assert cell.status == "ok", cell.error
    painted = html_of(cell)
    assert len(painted) > 3
    assert words(30)[-1].strip() in painted[-1]
    assert kernel.value("grid.count('done')") == 1


def test_an_interrupted_comparison_keeps_what_finished_and_the_queued_cells_get_their_replies(kernel, server):
    cells = kernel.queue("mb.compare(backend, [str(n) for n in range(40)], max_concurrency=1)", "after = 1", "more = 2")
    server.wait_for_requests(4, 20, chats_only=True)  # the warm-up, and two prompts answered
    began = kernel.interrupt()
    kernel.replies(cells)
    assert [cell.status for cell in cells] == ["error", "aborted", "aborted"]
    assert "KeyboardInterrupt" in cells[0].error
    assert cells[0].replied_at - began < PROMPTLY_S
    server.wait_idle()
    assert server.disconnects == 1
    assert "stopped" in html_of(cells[0])[-1]
    kernel.run("import sys; grid = sys.last_value.partial")
    assert kernel.value("grid.count('done')") >= 2
    assert kernel.value("grid.count('stopped')") == 1
    assert kernel.value("grid.planned") == 40
    assert kernel.value("mb.runs(ended=True)[-1].partial == grid")
    assert kernel.value("backend.ask('Still there?').status") == "done"


def test_a_comparison_awaited_in_a_cell_can_be_interrupted_too(kernel, server):
    cells = kernel.queue("run = mb.start_compare(backend, [str(n) for n in range(40)])\nawait run", "after = 1")
    server.wait_for_requests(3, 20, chats_only=True)
    began = kernel.interrupt()
    kernel.replies(cells)
    assert [cell.status for cell in cells] == ["error", "aborted"]
    assert cells[0].replied_at - began < PROMPTLY_S
    server.wait_idle()
    assert kernel.value("run.partial.count('done')") >= 1


def test_run_all_runs_every_cell_in_order(kernel, server):
    server.script = Script(text="ok")
    cells = kernel.queue(*[f"grids = mb.compare(backend, 'prompt {n}', live=False)" for n in range(5)], "done = True")
    kernel.replies(cells)
    assert [cell.status for cell in cells] == ["ok"] * 6
    asked = [entry.prompt for entry in server.chats if entry.prompt != "Hi"]
    assert asked == [f"prompt {n}" for n in range(5)]


def test_a_blocking_verb_in_a_cell_leaves_no_output_of_its_own(kernel, server):
    server.script = Script(text="ok")
    (cell,) = kernel.replies(kernel.queue("answer = backend.ask('x')"))
    assert cell.status == "ok"
    assert cell.printed == "" and cell.displayed == []


def test_an_ask_that_is_interrupted_closes_the_connection(kernel, server):
    server.script = Script(text="x", ttft_s=60)
    (cell,) = cells = kernel.queue('backend.ask("slow")')
    server.wait_for_requests(1, 20, chats_only=True)
    time.sleep(0.2)
    began = kernel.interrupt()
    kernel.replies(cells)
    assert "KeyboardInterrupt" in cell.error
    assert cell.replied_at - began < PROMPTLY_S
    server.wait_for_disconnects(1)
