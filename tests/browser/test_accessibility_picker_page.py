"""The picker and the profile table in each of their states: axe-core, the keyboard alone, 200 % zoom, both themes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from mamba_nb.testing import Script, ScriptedServer, closed_port, tar_pit

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "probes"))
from package_index import PackageIndex
from scripted_model import able

KEY = "sk-a-key-of-nobody-4711"
SETUP = """
import os
os.environ.update({environment!r})
from mamba_nb.backends import OpenAICompatibleBackend
from mamba_nb.widgets import BackendPicker, ProfileTable
def pick(*urls):
    return BackendPicker(hosts=[], urls=urls)
"""
TABLE = """
live = OpenAICompatibleBackend("llama3.2", {live!r}, server="vllm", timeout=90)
gone = OpenAICompatibleBackend("qwen3:8b", {gone!r}, server="ollama")
ProfileTable(["gpt-4o", live, gone])
"""
MOVING = """root => [...root.querySelectorAll("*")].map(e => getComputedStyle(e))
    .filter(style => style.animationName !== "none" || parseFloat(style.transitionDuration)).length"""
FOCUSED = """() => {
    const e = document.activeElement;
    return e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent;
}"""
ZOOMED = {"width": 320, "height": 700}  # what is left of 640 pixels at 200 %


def violations(page, root):
    """What axe-core finds in a widget, serious or worse, told with the place."""
    page.page.evaluate("document.body.style.minHeight = '100vh'")  # JupyterLab's has none: all would count as hidden
    found = Axe().run(page.page, context=f".jp-Notebook {root}")
    return [
        f"{each['id']} ({each['impact']}): {each['help']}: {node['html'][:200]}"
        for each in found.response["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def choose(page, picker, text):
    field = picker.get_by_label("Model", exact=True)
    field.click()
    field.fill(text)
    page.page.keyboard.press("Enter")


def reachable(page, widget):
    """Nothing that can be used hangs out of the widget at its side, unless it can be scrolled to."""
    page.page.set_viewport_size(ZOOMED)
    page.page.wait_for_timeout(200)
    lost = widget.evaluate("""root => {
        const edge = root.getBoundingClientRect().right + 1;
        const scrolls = (e) => e !== root &&
            (/(auto|scroll)/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
        return [...root.querySelectorAll("button, input, select, summary, [role=option], b, dd, p")]
            .filter(e => e.checkVisibility() && e.getBoundingClientRect().right > edge && !scrolls(e))
            .map(e => e.outerHTML.slice(0, 120));
    }""")
    page.page.set_viewport_size({"width": 1100, "height": 900})
    return lost


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_picker_in_all_its_states(lab, theme, tmp_path):
    slow = Script(text="word " * 3000, itl_s=0.05)
    refusal = {"error": {"message": "CUDA out of memory. Tried to allocate 2.00 GiB"}}
    about = {"nomic-embed-text": {"capabilities": ["embedding"]}}
    with (
        tar_pit() as pit,
        closed_port() as nowhere,
        PackageIndex(sends=20_000_000) as index,
        ScriptedServer(slow, style="ollama", models=["llama3.2", "nomic-embed-text"], about=about, load_s=5) as ollama,
        ScriptedServer(Script(status=500, error_body=refusal), style="vllm", models=["too-big"]) as bad,
        ScriptedServer(Script(text="Hello *there*."), style="vllm", models=["secret"], api_key=KEY) as locked,
    ):
        environment = {**index.environment, "MAMBA_EMBEDDED__CACHE_DIR": str(tmp_path / "empty")}
        urls = [ollama.base_url, bad.base_url, locked.base_url]
        cells = [f"pick('http://127.0.0.1:{pit.port}')", f"pick({nowhere.base_url!r})", f"pick(*{urls!r})"]
        page = lab([SETUP.format(environment=environment), *cells], theme=theme)
        page.run_all()
        _searching, empty, picker = (page.locator(".mn-picker").nth(n) for n in range(3))
        expect(picker.locator(".mn-status")).to_contain_text("3 servers")
        expect(empty).to_contain_text("ollama serve")
        expect(picker).to_contain_text("asks for a key")
        found = {"first": violations(page, ".mn-picker")}

        empty.locator(".mn-offer button").click()
        expect(empty.locator(".mn-offer")).to_contain_text("20 of 93 MB")
        expect(empty.get_by_role("progressbar")).to_have_attribute("aria-valuenow", re.compile("2[12]"))
        found["fetching"] = violations(page, ".mn-picker")
        empty.locator(".mn-offer").get_by_role("button", name="Stop").click()
        expect(empty.locator(".mn-offer")).to_contain_text("Stopped")
        index.sends = None
        empty.locator(".mn-offer button").click()
        expect(empty.locator(".mn-offer")).to_contain_text("No matching distribution")
        picker.get_by_label("Model", exact=True).click()
        found["list"] = violations(page, ".mn-picker")
        page.page.keyboard.press("Escape")

        choose(page, picker, "llama3.2")
        picker.get_by_role("button", name="Test").click()
        expect(picker.locator(".mn-panel")).to_contain_text("loading model")
        found["loading"] = violations(page, ".mn-picker")
        expect(picker.locator(".mn-panel")).to_contain_text("streaming")
        found["streaming"] = violations(page, ".mn-picker")
        assert reachable(page, picker) == []
        picker.get_by_role("button", name="Stop").click()
        expect(picker.locator(".mn-panel")).to_contain_text("stopped")
        choose(page, picker, "too-big")
        picker.get_by_role("button", name="Test").click()
        expect(picker.locator(".mn-panel")).to_contain_text("Unload other models")
        picker.get_by_label("Temperature").fill("3")
        picker.get_by_label("Another address").fill("ftp://x")
        page.page.keyboard.press("Enter")
        expect(picker).to_contain_text("must start with http")
        expect(picker).to_contain_text("from 0.0 to 2.0")
        picker.get_by_role("button", name="Copy as code").click()
        found["failed"] = violations(page, ".mn-picker")
        assert reachable(page, picker) == [] and reachable(page, empty) == []
        assert {state: each for state, each in found.items() if each} == {}
        assert (page.console, page.external, page.errors()) == ([], [], [])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_table_in_all_its_states(lab, theme, tmp_path):
    gate = tmp_path / "gate"

    def model(request):
        return able(request) if len(server.requests) < 12 or gate.exists() else Script(text="late", ttft_s=60)

    with closed_port() as nowhere, ScriptedServer(model, style="vllm", models=["llama3.2"]) as server:
        environment = {"MAMBA_PROBE_CACHE": str(tmp_path / "probes")}
        cells = [SETUP.format(environment=environment), "ProfileTable()"]
        page = lab([*cells, TABLE.format(live=server.base_url, gone=nowhere.base_url)], theme=theme, width=1100)
        page.run_all()
        table = page.locator(".mn-profiling").nth(1)
        row = table.locator("tbody tr", has=page.page.locator("th", has_text="llama3.2"))
        expect(row).to_contain_text("4,096")
        expect(table).to_contain_text("Nothing is listening")
        found = {"first": violations(page, ".mn-profiling")}

        # The keyboard alone: plan, choose, probe, stop.
        keys = page.page.keyboard
        probe = row.get_by_role("button", name="Probe llama3.2")
        probe.focus()
        keys.press("Enter")
        expect(row).to_contain_text("at most 47 requests")
        expect(row.get_by_role("button", name="Probe llama3.2")).to_be_focused()
        keys.press("Tab")
        expect(row.get_by_role("button", name="Cancel llama3.2")).to_be_focused()
        keys.press("Tab")
        keys.press("Enter")
        menu = table.get_by_role("group", name="What to ask llama3.2")
        menu.get_by_label("same answer with the same seed").focus()
        keys.press("Space")
        expect(row).to_contain_text("at most 42 requests")
        expect(menu.get_by_label("same answer with the same seed")).to_be_focused()
        found["chosen"] = violations(page, ".mn-profiling")
        assert reachable(page, table) == []
        keys.press("Escape")
        expect(menu).to_be_hidden()
        expect(row.get_by_role("button", name="Choose what to ask llama3.2")).to_be_focused()
        keys.press("Shift+Tab")
        keys.press("Shift+Tab")
        keys.press("Enter")
        expect(row.get_by_role("progressbar")).to_be_visible()
        expect(row.get_by_role("button", name="Stop llama3.2")).to_be_focused()
        expect(row).to_contain_text(" of 20: ")
        found["probing"] = violations(page, ".mn-profiling")
        keys.press("Enter")
        expect(row).to_contain_text("stopped")
        gate.touch()
        row.locator(".mn-value").first.focus()
        assert row.locator(".mn-value").first.evaluate("e => getComputedStyle(e).outlineWidth") == "2px"
        keys.press("Enter")
        panel = table.locator(".mn-evidence-panel")
        expect(panel).to_contain_text("declared")
        table.get_by_role("button", name="Columns").click()
        table.get_by_role("button", name="Filter").click()
        found["evidence"] = violations(page, ".mn-profiling")
        panel.get_by_role("button", name="Close").focus()
        keys.press("Escape")
        expect(panel).to_be_hidden()
        expect(row.locator(".mn-value").first).to_be_focused()
        table.get_by_label("min context, tokens").fill("9000000")
        keys.press("Tab")
        expect(table.locator(".mn-empty")).to_contain_text("left out")
        found["filtered"] = violations(page, ".mn-profiling")
        assert reachable(page, table) == []
        assert {state: each for state, each in found.items() if each} == {}
        assert (page.console, page.external, page.errors()) == ([], [], [])


def test_the_picker_by_keyboard_alone(lab):
    """Tab goes through it in the order it is read in; what has the focus shows it; nothing moves by itself."""
    with ScriptedServer(Script(text="Hello."), style="ollama", models=["llama3.2", "qwen3:8b", "gemma3"]) as server:
        page = lab([SETUP.format(environment={}), f"picker = pick({server.base_url!r})\npicker"])
        page.run_all()
        picker = page.locator(".mn-picker")
        expect(picker.locator(".mn-status")).to_contain_text("3 models")
        page.page.emulate_media(reduced_motion="reduce")
        assert picker.evaluate(MOVING) == 0
        keys, field = page.page.keyboard, picker.get_by_label("Model", exact=True)
        field.focus()
        for key in ("ArrowDown", "ArrowDown", "ArrowDown"):
            keys.press(key)
        expect(picker.locator(".mn-option").nth(1)).to_have_class(re.compile("mn-active"))
        assert field.get_attribute("aria-activedescendant") == picker.locator(".mn-option").nth(1).get_attribute("id")
        keys.press("Escape")
        expect(field).to_have_attribute("aria-expanded", "false")
        expect(field).to_have_value("")
        for key in ("ArrowDown", "ArrowUp", "ArrowUp", "ArrowUp", "Enter"):  # the last one is the embedded model
            keys.press(key)
        expect(field).to_have_value(re.compile("^qwen3:8b"))
        order = []
        for _ in range(10):
            keys.press("Tab")
            order.append(page.page.evaluate(FOCUSED))
            width = page.page.evaluate("() => getComputedStyle(document.activeElement).outlineWidth")
            assert width == "2px", order[-1]
        place = f"Key for 127.0.0.1:{server.port}"
        assert order == ["Refresh", "Copy as code", "Another address", "Look there", place, "Give key", "Temperature",
                         "Max tokens", "Timeout, s", "Test prompt"]  # fmt: skip
        keys.press("Enter")
        expect(picker.locator(".mn-panel")).to_contain_text("done")
        assert page.console == []
