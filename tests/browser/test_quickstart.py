"""The quickstart in a real JupyterLab, on the real model.

With MAMBA_TEST_PICTURES=FOLDER the picture of the live view while it streams is kept there; the README's is made so:

    MAMBA_TEST_PICTURES=notebooks/images pytest tests/browser/test_quickstart.py
"""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import expect

QUICKSTART = Path(__file__).parents[2] / "notebooks" / "00_quickstart.ipynb"
PICTURES = os.environ.get("MAMBA_TEST_PICTURES")  # read before a test's surroundings are cleaned
HERE = Path.cwd()

# Three panels at once in mid-answer, each with a line or two to show.
ALL_STREAM = """() => {
    const panels = [...document.querySelectorAll('.jp-Notebook .mn-panel')].slice(-3);
    return panels.length === 3 && panels.every(panel => panel.textContent.includes('streaming')
        && panel.querySelector('.mn-answer')?.textContent.length > 60);
}"""


@pytest.mark.real_model
@pytest.mark.timeout(400)
def test_the_quickstart_runs_in_jupyterlab_and_reaches_nothing_but_its_server(lab, tmp_path):
    notebook = lab(nbformat.read(QUICKSTART, as_version=4), width=1000)
    notebook.start_all()
    notebook.page.wait_for_function(ALL_STREAM, timeout=240_000)
    live = notebook.locator(".jp-Cell", has=notebook.page.locator(".mn-panel")).filter(has_text="compare(variants")
    live.screenshot(path=(HERE / PICTURES if PICTURES else tmp_path) / "live_view.png", animations="disabled")
    notebook.wait(300)

    assert notebook.errors() == []
    expect(live.locator(".mn-panel")).to_have_count(3)
    expect(live.locator(".mn-panel", has_text="done")).to_have_count(3)
    expect(notebook.locator(".jp-RenderedVegaCommon canvas, .jp-RenderedVegaCommon5 canvas").first).to_be_visible()
    expect(notebook.locator(".jp-OutputArea-output", has_text="temperature_in(city='Oslo')")).to_have_count(1)
    notebook.picture(tmp_path / "quickstart.png")
    assert notebook.external == []
    assert notebook.console == []
