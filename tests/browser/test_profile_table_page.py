"""The profile table in a real JupyterLab: choosing, sorting, filtering, evidence, a probe with Stop, and afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

MODELS = str(Path(__file__).parent.parent / "probes")
HOSTILE = """<img src=x onerror="window.harmed = 1"><script>window.harmed = 2</script>"""
KEY = "sk-hush-hush-1234567890"
KERNEL_IS_IDLE = """() => {
    const kernel = window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel;
    return kernel?.connectionStatus === 'connected' && kernel.status === 'idle';
}"""

# A server whose model can all that a probe asks for; after three requests it is slow, until `gate` is there.
SETUP = """
import sys
from pathlib import Path
sys.path.insert(0, {models!r})
from scripted_model import able
from mamba_nb.backends import OpenAICompatibleBackend
from mamba_nb.testing import Script, ScriptedServer, closed_port
from mamba_nb.widgets.profile_table import ProfileTable

folder = Path({folder!r})
seen, gate, key = [], folder / "gate", (folder / "key").read_text()
def model(request):
    seen.append(request)
    return able(request) if len(seen) < 4 or gate.exists() else Script(text="late", ttft_s=60)

server = ScriptedServer(model, style="vllm", models=["llama3.2"], context_length=4_096, api_key=key).start()
backend = OpenAICompatibleBackend("llama3.2", server.base_url, api_key=key, server="vllm", timeout=90)
holder = closed_port()
gone = OpenAICompatibleBackend("qwen3:8b", holder.__enter__().base_url, server="ollama")
hostile = {hostile!r}
"""
TABLE = 'table = ProfileTable(["gpt-4o", "claude-3-opus", backend, gone, hostile])\ntable'


def setup(folder: Path) -> str:
    (folder / "key").write_text(KEY)
    return SETUP.format(models=MODELS, hostile=HOSTILE, folder=str(folder))


def row(page, name):
    return page.locator(".mn-profile-table tbody tr", has=page.page.locator("th", has_text=name))


def harmless(page):
    assert page.page.evaluate("window.harmed") is None
    assert page.errors() == []
    assert page.external == []
    assert page.console == []


@pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 600), ("light", 600), ("dark", 1200)])
def test_the_table_is_read_sorted_and_filtered(lab, tmp_path: Path, theme: str, width: int) -> None:
    page = lab([setup(tmp_path), TABLE], theme=theme, width=width)
    page.run_all()
    live = row(page, "llama3.2")
    expect(live).to_contain_text("4,096")
    expect(live.locator("td.mn-differs", has_text="4,096")).to_contain_text("claimed 8,192")
    expect(page.locator(".mn-note-row", has_text="Nothing is listening").first).to_be_visible()
    expect(row(page, "qwen3:8b").get_by_role("button", name="Retry")).to_be_enabled()
    page.picture(tmp_path / f"table-{theme}-{width}.png")

    heads = page.locator(".mn-profile-table thead th")
    context = page.locator("th[aria-sort]", has_text="context").first
    context.get_by_role("button").press("Enter")
    expect(context).to_have_attribute("aria-sort", "descending")
    expect(page.locator(".mn-profile-table tbody th").first).to_contain_text("claude-3-opus")
    context.get_by_role("button").click()
    expect(context).to_have_attribute("aria-sort", "ascending")
    expect(page.locator(".mn-profile-table tbody th").first).to_contain_text("llama3.2")
    assert heads.first.evaluate("e => getComputedStyle(e).position") == "sticky"

    page.locator(".mn-actions button", has_text="Filter").click()
    page.locator(".mn-filters select").first.select_option("yes")
    expect(page.locator(".mn-actions button", has_text="Filter · 3 of 5 left out")).to_be_visible()
    expect(page.locator(".mn-widget .mn-notes", has_text="Do not pass: llama3.2").last).to_be_visible()
    page.locator(".mn-actions button", has_text="Columns").click()
    page.locator(".mn-choices label", has_text="vision").click()
    expect(page.locator("th[aria-sort]", has_text="vision")).to_have_count(0)
    page.picture(tmp_path / f"filter-{theme}-{width}.png")
    page.locator(".mn-menu button", has_text="Clear filter").click()
    expect(live).to_be_visible()

    value = live.locator("td.mn-differs button")
    value.press("Enter")
    panel = page.locator(".mn-evidence-panel")
    expect(panel).to_contain_text("declared 4,096 tokens")
    expect(panel).to_contain_text("built-in table")
    expect(value).to_have_attribute("aria-expanded", "true")
    page.picture(tmp_path / f"evidence-{theme}-{width}.png")
    panel.get_by_role("button", name="Close").press("Enter")
    expect(panel).to_be_hidden()
    harmless(page)


def test_a_probe_tells_its_cost_shows_what_it_finds_and_stops(lab, tmp_path: Path) -> None:
    page = lab([setup(tmp_path), TABLE, "table"], width=1200)
    page.run_all()
    live = row(page, "llama3.2").first
    live.get_by_role("button", name="Probe").click()
    expect(live).to_contain_text("at most")
    expect(live).to_contain_text("requests, about")
    page.picture(tmp_path / "planned.png")
    place = live.get_by_role("button", name="Probe").bounding_box()
    live.get_by_role("button", name="Probe").click()
    stop = live.get_by_role("button", name="Stop")
    expect(stop).to_be_visible()
    assert stop.bounding_box() == place
    expect(live).to_contain_text("3 of at most")
    page.picture(tmp_path / "probing.png")
    expect(stop).to_be_focused()
    stop.press("Enter")
    expect(live).to_contain_text("stopped")
    page.picture(tmp_path / "stopped.png")

    (tmp_path / "gate").touch()
    live.get_by_role("button", name="Probe").click()
    expect(live).to_contain_text("known already")
    live.get_by_role("button", name="Probe").click()
    expect(live).to_contain_text("probed")
    expect(live).to_contain_text("verified just now")
    live.get_by_role("button", name="probed").click()
    panel = page.locator(".mn-evidence-panel").first
    expect(panel).to_contain_text("tool_choice: required")
    panel.locator("summary").first.click()
    expect(panel.locator(".mn-exchange").first).to_contain_text("asked")
    page.picture(tmp_path / "done.png")

    # a second view of the same widget, and a reload, show the same
    expect(row(page, "llama3.2")).to_have_count(2)
    expect(row(page, "llama3.2").nth(1)).to_contain_text("verified just now")
    harmless(page)
    saved = page.save()
    assert KEY not in json.dumps(saved)
    folded = "".join(output.data.get("text/html", "") for cell in saved.cells for output in cell.outputs)
    assert "verified" in folded and "<details" in folded
    page.page.reload()
    expect(row(page, "llama3.2").first).to_contain_text("verified")
    assert page.page.evaluate("window.harmed") is None


def test_models_are_added_found_retried_and_removed(lab, tmp_path: Path) -> None:
    page = lab([setup(tmp_path), "table = ProfileTable()\ntable"], width=1200)
    page.run_all()
    expect(page.locator(".mn-empty")).to_contain_text("No models yet")
    page.picture(tmp_path / "empty.png")
    name = page.locator(".mn-add input")
    name.fill("gpt-4o")
    name.press("Enter")
    expect(row(page, "gpt-4o")).to_contain_text("128,000")
    name.fill("gpt-4o")
    page.locator(".mn-add button").click()
    expect(page.locator(".mn-error")).to_contain_text("in the table already")
    name.fill(HOSTILE)
    name.press("Enter")
    expect(row(page, "onerror")).to_have_count(1)
    expect(page.locator(".mn-error")).to_have_count(0)
    page.locator("[data-name=find]").first.click()
    expect(page.locator(".mn-widget .mn-notes").last).to_contain_text("server")
    row(page, "onerror").get_by_role("button", name="Remove").click()
    expect(row(page, "onerror")).to_have_count(0)
    expect(name).to_be_focused()
    page.picture(tmp_path / "added.png")
    harmless(page)


def test_a_probe_goes_on_under_a_reload_and_ends_when_its_cell_is_run_again(lab, tmp_path: Path) -> None:
    page = lab([setup(tmp_path), "table = ProfileTable([backend])\ntable"], width=1200)
    page.run_all()
    page.save()  # a page that is loaded again has the outputs that were saved
    live = row(page, "llama3.2")
    live.get_by_role("button", name="Probe").click()
    expect(live).to_contain_text("at most")
    live.get_by_role("button", name="Probe").click()
    expect(live).to_contain_text("3 of at most")
    page.page.reload(wait_until="load")
    expect(live.get_by_role("progressbar")).to_be_visible()
    expect(live).to_contain_text("3 of at most")
    page.page.wait_for_function(KERNEL_IS_IDLE)
    live.get_by_role("button", name="Stop").click()
    expect(live).to_contain_text("stopped")

    live.get_by_role("button", name="Probe").click()
    expect(live).to_contain_text("at most")
    live.get_by_role("button", name="Probe").click()
    expect(live.get_by_role("button", name="Stop")).to_be_visible()
    page.run_all()  # another server, another table: the first probe has nobody to show it to
    expect(live.get_by_role("button", name="Probe")).to_be_enabled()
    assert page.errors() == []
    assert page.console == []


def test_a_name_of_thousands_of_letters_breaks_nothing(lab, tmp_path: Path) -> None:
    cells = [setup(tmp_path), 'table = ProfileTable(["gpt-4o", "x" * 5000, "y " * 2500])\ntable']
    page = lab(cells, width=600)
    page.run_all()
    table = page.locator(".mn-profiling")
    expect(table.locator("tbody th")).to_have_count(3)
    expect(table.get_by_role("button", name="Remove gpt-4o")).to_be_visible()
    assert table.locator("tbody th").nth(1).bounding_box()["width"] < 300
    assert table.evaluate("e => e.scrollWidth <= e.clientWidth")
    assert table.bounding_box()["height"] < 2500
    harmless(page)
