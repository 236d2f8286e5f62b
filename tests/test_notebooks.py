"""The notebooks as they are committed, and the quickstart, run as Run All runs it on the real model."""

from __future__ import annotations

import json
import re

import nbformat
import pytest
from notebooks.running import NOTEBOOKS, busy, run_all

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
WITH_OUTPUTS = {"00_quickstart", "05_compare_models"}  # they read well where nobody can run them
MOST_S = 180.0

A_MACHINES_PATH = re.compile(r"(?<![\w./:])(?:/(?:home|Users|root|tmp|opt|work|var|mnt|private)/|[A-Z]:\\{1,2}\w)")
A_KEY = re.compile(r"\bsk-\w{8}|\bBearer\s+\w|\bapi_key\W{1,4}['\"]\w", re.IGNORECASE)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_is_valid_and_committed_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook, relax_add_props=False)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    ids = [cell.id for cell in notebook.cells]
    assert len(ids) == len(set(ids))
    assert all(cell.source.strip() for cell in notebook.cells)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if path.stem in WITH_OUTPUTS and any(cell.outputs for cell in code):
        has_presentable_outputs(code)
        return
    for cell in code:
        assert not cell.outputs
        assert cell.execution_count is None


def has_presentable_outputs(code: list[nbformat.NotebookNode]) -> None:
    """Outputs of one real run from top to bottom, with nothing in them that is of one machine or of one user alone."""
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        for output in cell.outputs:
            assert output.output_type != "error", cell.id
            said = json.dumps(output, ensure_ascii=False)
            assert not (found := A_MACHINES_PATH.search(said)), (cell.id, found)
            assert not (found := A_KEY.search(said)), (cell.id, found)


@pytest.mark.parametrize(
    "output",
    [
        {"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []},
        {"output_type": "stream", "name": "stdout", "text": "kept in /home/ada/models"},
        {"output_type": "stream", "name": "stdout", "text": "kept in C:\\Users\\ada"},
        {"output_type": "stream", "name": "stdout", "text": "Authorization: Bearer abc"},
        {"output_type": "stream", "name": "stdout", "text": "api_key='abc'"},
    ],
)
def test_outputs_that_are_not_presentable_are_found(output):
    shown = nbformat.v4.new_output("stream", name="stdout", text="http://127.0.0.1:8080/v1, /props, 3/tmp/4, no key")
    has_presentable_outputs([nbformat.v4.new_code_cell("1", execution_count=1, outputs=[shown])])
    with pytest.raises(AssertionError):
        has_presentable_outputs(
            [nbformat.v4.new_code_cell("1", execution_count=1, outputs=[nbformat.from_dict(output)])]
        )


@pytest.mark.real_model
@pytest.mark.timeout(900)
def test_the_quickstart_runs_from_top_to_bottom_in_under_three_minutes(tmp_path):
    with run_all("00_quickstart", tmp_path) as executed:
        assert executed.seconds < MOST_S * busy()

        assert "embedded" in executed.last("start")["text/plain"]
        assert "done" in executed.last("ask")["text/html"]

        live = executed.cells["compare"].displayed
        assert len(live) > 2  # it was painted while the answers grew
        for name in ("temperature 0", "temperature 1.2", "simple words"):
            assert name in live[-1]["text/html"]
            assert name in executed.last("wide")["text/html"]
            assert name in executed.last("summary")["text/html"]
        assert "streaming" in "".join(bundle["text/html"] for bundle in live[:-1])
        assert live[-1]["text/html"].count("done") == 3

        assert executed.value("len(frame), set(frame['status'])") == (9, {"done"})
        assert executed.value("int(frame['text'].str.len().min())") > 0
        figures = ["ttft_ms", "tpot_ms", "completion_tokens", "load_s"]
        assert executed.value(f"frame[{figures}].notna().all().all().item()")
        assert executed.value("set(frame['finish_reason'])") <= {"stop", "length"}
        assert executed.value("bool(frame.groupby('prompt_id')['text'].nunique().gt(1).all())")  # the variants differ
        assert "application/vnd.vegalite.v5+json" in executed.last("plot")

        assert executed.cells["agent"].printed.strip()
        assert executed.cells["calls"].printed == "temperature_in(city='Oslo') -> '-2 degrees, snow'\n"
        assert executed.value("embedded.stop()") == 1
