"""The page on metrics: its cells work every figure out by hand, and no figure of the tables is left without a word."""

from __future__ import annotations

import nbformat
import pytest
from notebooks.running import NOTEBOOKS, run_all

from mamba_nb.display import agents_frames, frames

NUMBERS = ("Int64", "float64")


def prose() -> str:
    cells = nbformat.read(NOTEBOOKS / "metrics.ipynb", as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


@pytest.mark.real_model
@pytest.mark.timeout(400)
def test_every_figure_worked_out_by_hand_is_that_of_the_table(tmp_path):
    with run_all("metrics", tmp_path) as executed:
        assert "none left out" in executed.seen("all")
        checked = set(executed.value("sorted(checked)"))
        numbers = {
            column.name for table in (frames.COLUMNS, frames.SUMMARY) for column in table if column.dtype in NUMBERS
        }
        assert numbers <= checked
        assert "ttft_ms: " in executed.seen("waiting") and " in the table" in executed.seen("waiting")
        assert executed.value("len(answer.text_at_s) > 2 and answer.status == 'done'")
        assert executed.value("rated[0].model, rated[0].low < rated[0].rating < rated[0].high") == ("a", True)


def test_every_figure_has_its_definition():
    text = prose()
    for column in frames.COLUMNS:
        if column.dtype in NUMBERS:
            assert f"**`{column.name}`**" in text, column.name
    for name, (dtype, _, _) in agents_frames.COLUMNS.items():
        if dtype in (*NUMBERS, "boolean"):
            assert f"**`{name}`**" in text, name
    for column in frames.SUMMARY:
        if column.dtype in NUMBERS:
            stem, _, q = column.name.rpartition("_p")
            assert (stem and f"`_p{q}`" in text) or f"**`{column.name}`**" in text, column.name


def test_every_section_names_its_source():
    sections = prose().split("\n## ")[1:]
    titles = [section.splitlines()[0] for section in sections]
    assert titles[-1] == "Sources"
    for section in sections:
        title = section.splitlines()[0]
        if title not in ("Stamps", "Votes", "Live", "Sources"):
            assert "*Source.*" in section, title
