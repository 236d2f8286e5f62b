"""How soon the square button ends a cell, beside a cell that only sleeps in the same kernel."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from statistics import median

import pytest

from mamba_nb.testing import Script, ServerProcess, words

sys.path.insert(0, str(Path(__file__).parents[1]))
from kernels.driver import Kernel

TIMES = 7
MOST_S = 1.0  # what a person takes for at once, and the design's limit
CELLS = {
    "ask": "backend.ask('Why?')",
    "compare, live": "mb.compare([backend, variant], [str(n) for n in range(40)])",
    "await": "run = mb.start_compare(backend, ['1', '2'])\nawait run",
}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    with (
        Kernel(tmp_path_factory.mktemp("kernel")) as running,
        ServerProcess(Script(text=words(2000), itl_s=0.02), models=("m",)) as server,
    ):
        running.run("import time\nimport mamba_nb as mb\nfrom mamba_nb.backends import OpenAICompatibleBackend")
        running.run(f"backend = OpenAICompatibleBackend('m', {server.base_url!r})")
        running.run(f"variant = OpenAICompatibleBackend('m', {server.base_url!r}, temperature=0.7)")
        yield running
        running.run("backend.close()")


def took_s(kernel: Kernel, code: str) -> float:
    """From the button to the cell's reply."""
    (cell,) = kernel.queue(f"print('waiting')\n{code}")
    kernel.until_printed(cell, "waiting")
    time.sleep(0.5)
    pressed = kernel.interrupt()
    kernel.replies([cell])
    assert cell.status == "error" and cell.error.startswith(("KeyboardInterrupt", "CancelledError")), cell
    return cell.replied_at - pressed


@pytest.mark.parametrize("verb", CELLS)
def test_the_square_button_ends_a_verb_within_a_second(verb, kernel, told):
    own = median(took_s(kernel, "time.sleep(60)") for _ in range(TIMES))
    ours = [took_s(kernel, CELLS[verb]) for _ in range(TIMES)]
    told(f"{verb}: {median(ours):.3f} s at the median, {max(ours):.3f} s at most; a sleeping cell {own:.3f} s")
    assert median(ours) < MOST_S
