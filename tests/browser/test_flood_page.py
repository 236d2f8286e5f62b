"""Answers that are too large or too fast, from a real server, in the views that take one live."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from mamba_nb.testing import Script, ScriptedServer

WORDS = 100_000
SCRIPTS = {
    "wide": Script(text=["x" * 10_000] * 100, itl_s=0.02),  # 1 MB without a line break
    "fast": Script(text=["word "] * WORDS),  # as fast as they can be sent
}
# The longest that the page did not paint, in ms, from when this ran until `window.gap()` is asked.
WATCH = """() => {
    let longest = 0, before = performance.now();
    const step = now => { longest = Math.max(longest, now - before); before = now; requestAnimationFrame(step); };
    requestAnimationFrame(step);
    window.gap = () => longest;
}"""
STUCK_MS = 5_000  # a page that does not answer, not one that is slow
SHOWN = "Shown: 400,000 of 1,000,000 characters."


@pytest.fixture
def url() -> Iterator[str]:
    with ScriptedServer(scripts=SCRIPTS, style="llamacpp") as server:  # here: it does not share the kernel's lock
        yield server.base_url


def backends(url: str) -> str:
    made = [f"{name} = mamba_nb.OpenAICompatibleBackend({name!r}, {url!r}, server='llamacpp')" for name in SCRIPTS]
    return "\n".join(["import mamba_nb", *made])


def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("PICTURES", tmp_path))
    folder.mkdir(exist_ok=True)
    return folder


def check(notebook, cell: Locator, name: str) -> None:
    """Nothing froze, the page is no wider than the window, and the console is quiet."""
    gap = notebook.page.evaluate("window.gap()")
    print(f"{name}: the page was still for {gap:.0f} ms at most")
    assert gap < STUCK_MS
    assert cell.evaluate("element => element.scrollWidth <= element.clientWidth + 1")
    assert (notebook.console, notebook.external, notebook.errors()) == ([], [], [])


def test_comparing_two_floods(lab, url, tmp_path: Path) -> None:
    notebook = lab([backends(url), "view = mamba_nb.CompareView([wide, fast])\nview"])
    notebook.page.evaluate(WATCH)
    notebook.run_all()
    view = notebook.locator(".mn-cv")
    view.get_by_label("Prompt").fill("Go on.")
    view.get_by_role("button", name="Run", exact=True).click()
    panels = view.locator(".mn-panel")
    expect(panels.nth(1)).to_contain_text("streaming")
    notebook.picture(pictures(tmp_path) / "flood-compare.png")
    for place in (0, 1):
        expect(panels.nth(place)).to_contain_text("done", timeout=90_000)
    expect(panels.nth(0)).to_contain_text(SHOWN)
    notebook.picture(pictures(tmp_path) / "flood-compare-done.png")
    check(notebook, view, "CompareView")
    notebook.run_cell(2, "[len(one.text) for one in view.comparison.generations]")
    expect(notebook.locator(".jp-OutputArea-executeResult").last).to_contain_text(f"[1000000, {5 * WORDS}]")


def test_chatting_with_a_flood(lab, url, tmp_path: Path) -> None:
    notebook = lab([backends(url), "chats = [mamba_nb.ChatView(one) for one in (wide, fast)]\nchats[0]", "chats[1]"])
    notebook.page.evaluate(WATCH)
    notebook.run_all()
    chats = notebook.locator(".mn-chat")
    for place in (0, 1):
        chats.nth(place).get_by_label("Message").fill("Go on.")
        chats.nth(place).get_by_label("Message").press("Enter")
    for place in (0, 1):
        expect(chats.nth(place).locator(".mn-answered .mn-state")).to_have_text("●done", timeout=90_000)
    expect(chats.nth(0)).to_contain_text(SHOWN)
    notebook.picture(pictures(tmp_path) / "flood-chat-done.png")
    check(notebook, chats.nth(0), "ChatView")
