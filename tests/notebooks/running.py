"""A notebook, executed as Run All executes it: every cell queued at once in a real kernel.

    with run_all("04_profiles_and_probes", tmp_path) as executed:
        assert "verified" in executed.seen("report")
        assert executed.value("len(frame)") == 3

Every cell must end well and within the product's limit. What it printed and displayed is there by the cell's id, and
the kernel is still there for questions about what the cells left behind.
"""

from __future__ import annotations

import contextlib
import html
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from kernels.driver import Cell, Kernel

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
MOST_CELL_S = 60.0  # what the product promises of each cell, on a quiet machine
FETCH_S = 150.0
FETCH = "from mamba_nb import embedded; embedded.resolve_weights(download=True)"
TAG = re.compile(r"<style.*?</style>|<[^>]*>", re.DOTALL)


@dataclass(slots=True)
class Executed:
    """What came of a notebook.

    Attributes:
        kernel: The kernel that ran it, still alive inside the `with` block.
        cells: The code cells by their id, in order.
        took_s: Seconds that each cell took, by its id.
    """

    kernel: Kernel
    cells: dict[str, Cell] = field(default_factory=dict)
    took_s: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long all cells took together."""
        return sum(self.took_s.values())

    def last(self, cell_id: str) -> dict[str, Any]:
        """The last MIME bundle that a cell displayed."""
        return self.cells[cell_id].displayed[-1]

    def seen(self, cell_id: str) -> str:
        """What a reader sees of a cell at the end, as text: what it printed, then what it displayed last."""
        cell = self.cells[cell_id]
        bundle = cell.displayed[-1] if cell.displayed else {}
        shown = bundle.get("text/html") or bundle.get("text/markdown") or bundle.get("text/plain", "")
        return cell.printed + html.unescape(TAG.sub(" ", shown))

    def value(self, expression: str) -> Any:
        """The value of an expression in the notebook's kernel, as far as its repr is a literal."""
        return self.kernel.value(expression)


@contextlib.contextmanager
def run_all(name: str, folder: Path, *, before: str = FETCH) -> Iterator[Executed]:
    """Run all cells of a notebook in a new kernel.

    Args:
        name: The notebook's file name without its ending.
        folder: An empty folder, which is the kernel's working folder.
        before: Code that runs first and is not timed; the weights are fetched once, which no cell should wait for.

    Yields:
        What came of it.

    Raises:
        AssertionError: A cell failed, or took longer than the product promises.
    """
    sources = code_cells(name)
    with Kernel(folder) as kernel:
        for prepared in kernel.replies(kernel.queue(before), FETCH_S):
            assert prepared.status == "ok", f"{prepared.error}\n{prepared.printed}\n{kernel.log}"
        executed = Executed(kernel)
        since = time.monotonic()
        executed.cells.update(zip(sources, kernel.queue(*sources.values()), strict=True))
        for cell_id, cell in executed.cells.items():
            kernel.replies([cell], MOST_CELL_S * 5)
            executed.took_s[cell_id], since = cell.replied_at - since, cell.replied_at
            assert (cell_id, cell.status, cell.error) == (cell_id, "ok", ""), f"{cell.printed}\n{kernel.log}"
        slow = {cell_id: round(took, 1) for cell_id, took in executed.took_s.items() if took > MOST_CELL_S * busy()}
        assert not slow, f"Cells of {name} that took longer than {MOST_CELL_S:g} s: {slow}"
        print(f"{name}: {executed.seconds:.1f} s, the longest cell {max(executed.took_s.values()):.1f} s")
        yield executed


def code_cells(name: str) -> dict[str, str]:
    """The sources of a notebook's code cells by their id, in order."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    return {cell.id: cell.source for cell in notebook.cells if cell.cell_type == "code"}


def busy() -> float:
    """How many times longer things take because of what else runs on this machine, 1 at least."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
