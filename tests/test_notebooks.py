"""The quickstart, run as Run All runs it: every cell queued at once in a real kernel, on the real model."""

from __future__ import annotations

import time
from pathlib import Path

import nbformat
import pytest
from kernels.driver import Cell, Kernel

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
QUICKSTART = NOTEBOOKS[0]
MOST_S = 180.0


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_valid_and_committed_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook, relax_add_props=False)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    ids = [cell.id for cell in notebook.cells]
    assert len(ids) == len(set(ids))
    for cell in notebook.cells:
        assert cell.source.strip()
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert notebook.metadata.kernelspec.name == "python3"


@pytest.mark.real_model
@pytest.mark.timeout(MOST_S + 60)
def test_the_quickstart_runs_from_top_to_bottom_in_under_three_minutes(tmp_path):
    notebook = nbformat.read(QUICKSTART, as_version=4)
    sources = {cell.id: cell.source for cell in notebook.cells if cell.cell_type == "code"}
    with Kernel(tmp_path) as kernel:
        # The weights are fetched once, which is not what is timed here.
        kernel.replies(kernel.queue("from mamba_nb import embedded; embedded.resolve_weights(download=True)"), 150.0)
        began = time.monotonic()
        cells = dict(zip(sources, kernel.queue(*sources.values()), strict=True))
        kernel.replies(list(cells.values()), MOST_S)
        took_s = time.monotonic() - began
        assert [(cell.status, cell.error) for cell in cells.values()] == [("ok", "")] * len(cells)
        assert took_s < MOST_S

        assert "embedded" in last(cells["start"])["text/plain"]
        assert "done" in last(cells["ask"])["text/html"]

        live = cells["compare"].displayed
        assert len(live) > 2  # it was painted while the answers grew
        for name in ("temperature 0", "temperature 1.2", "simple words"):
            assert name in live[-1]["text/html"]
            assert name in last(cells["wide"])["text/html"]
            assert name in last(cells["summary"])["text/html"]
        assert "streaming" in "".join(bundle["text/html"] for bundle in live[:-1])
        assert live[-1]["text/html"].count("done") == 3

        assert kernel.value("len(frame), set(frame['status'])") == (9, {"done"})
        assert kernel.value("int(frame['text'].str.len().min())") > 0
        assert kernel.value("frame[['ttft_ms', 'tpot_ms', 'completion_tokens', 'load_s']].notna().all().all().item()")
        assert kernel.value("set(frame['finish_reason'])") <= {"stop", "length"}
        assert kernel.value("bool(frame.groupby('prompt_id')['text'].nunique().gt(1).all())")  # the variants differ
        assert "application/vnd.vegalite.v5+json" in last(cells["plot"])

        assert cells["agent"].printed.strip()
        assert cells["calls"].printed == "temperature_in(city='Oslo') -> '-2 degrees, snow'\n"
        assert kernel.value("embedded.stop()") == 1


def last(cell: Cell) -> dict[str, str]:
    return cell.displayed[-1]
