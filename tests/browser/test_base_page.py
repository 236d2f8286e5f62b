"""What every widget can rely on, in a real JupyterLab: messages that arrive, keys that stay, a kernel that goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

# Panels that grow until they are stopped, in a thread; nothing of them needs a server.
GROWING = """
import threading, time
from mamba_nb.compare.progress import PanelState
from mamba_nb.records import Generation, Request, TextDelta
from mamba_nb.widgets.panels import Panels

stops = []

def growing(label):
    state, stop = PanelState(label, model="m", server="s"), threading.Event()
    widget = Panels([state], on_stop=stop.set)
    stops.append(stop)

    def grow():
        answer, began = state.begin("Why?"), time.monotonic()
        while not stop.wait(0.05):
            answer.feed(TextDelta(time.monotonic() - began, "word "))
        text, request = "".join(answer.text), Request(model="m", messages=())
        end = dict(base_url="http://s/v1", server="s", model="m", text=text, status="stopped")
        answer.end(Generation(request=request, **end))

    threading.Thread(target=grow, daemon=True).start()
    widget.start()
    return widget
"""


SAME_TEXT = """() => {
    const texts = [...document.querySelectorAll('.mn-widget .mn-answer')].map(answer => answer.innerText.trim());
    return texts.length === 2 && texts[0] === texts[1] && texts[0].endsWith('word');
}"""
FOLD = "from mamba_nb.display import html; one.fold(html.page('plain'), 'Copy')"


def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("PICTURES", tmp_path))
    folder.mkdir(exist_ok=True)
    return folder


def test_a_click_in_a_page_that_was_loaded_again_arrives(lab) -> None:
    notebook = lab([GROWING, "growing('first')", "second = growing('second'); second"])
    notebook.run_all()
    widgets = notebook.locator(".mn-widget")
    expect(widgets.nth(1)).to_contain_text("word word")
    # What is painted from now on is published for the shell that took this click: the page's own.
    widgets.nth(0).get_by_role("button", name="Stop").click()
    expect(widgets.nth(0)).to_contain_text("stopped")
    notebook.page.wait_for_timeout(300)
    notebook.save()
    notebook.page.reload(wait_until="load")
    expect(widgets.nth(1)).to_contain_text("streaming")
    widgets.nth(1).get_by_role("button", name="Stop").click()
    expect(widgets.nth(1)).to_contain_text("stopped")
    assert notebook.console == []


@pytest.mark.parametrize("frontend", ["lab", "notebook"])
def test_the_front_ends_keys_stay_away_while_a_widget_has_the_focus(opening, frontend: str) -> None:
    with opening([GROWING, "growing('one')", "3"], frontend=frontend) as notebook:
        notebook.run_all()
        cells = notebook.locator(".jp-CodeCell")
        expect(cells).to_have_count(3)
        notebook.locator(".mn-widget").get_by_role("button", name="Stop").focus()
        for key in ("a", "b", "x", "d", "d", "Shift+m", "ControlOrMeta+Enter"):
            notebook.page.keyboard.press(key)
        notebook.locator(".mn-answer").focus()
        for key in ("d", "d", "x"):
            notebook.page.keyboard.press(key)
        notebook.page.wait_for_timeout(300)
        expect(cells).to_have_count(3)
        expect(notebook.locator(".mn-widget")).to_contain_text("streaming")
        changed = "() => window.jupyterapp.shell.currentWidget.context.model.dirty"
        assert notebook.page.evaluate(changed)
        notebook.page.keyboard.press("ControlOrMeta+s")
        notebook.page.wait_for_function(changed.replace("=> ", "=> !"))


def test_a_widget_that_is_shown_twice_is_one_and_leaves_two_copies(lab, tmp_path: Path) -> None:
    notebook = lab([GROWING, "one = growing('one'); one", "one"])
    notebook.run_all()
    widgets = notebook.locator(".mn-widget")
    expect(widgets).to_have_count(2)
    expect(widgets.nth(1)).to_contain_text("word word")
    notebook.page.wait_for_function(SAME_TEXT)
    notebook.run_cell(2, f"stops[-1].set(); time.sleep(1)\n{FOLD}; one")
    expect(notebook.locator(".mn-fold")).to_have_count(2)
    expect(widgets.nth(0)).to_contain_text("stopped")
    notebook.picture(pictures(tmp_path) / "base-twice.png")
    assert notebook.console == []


def test_what_is_shown_when_the_kernel_goes(lab, tmp_path: Path) -> None:
    notebook = lab([GROWING, "growing('one')"])
    notebook.run_all()
    widget = notebook.locator(".mn-widget")
    expect(widget).to_contain_text("word word")
    notebook.restart_kernel()
    expect(widget).to_contain_text("No kernel stands behind this view")
    expect(widget).to_contain_text("stopped")
    expect(widget.get_by_role("button", name="Stop")).to_be_disabled()
    notebook.picture(pictures(tmp_path) / "base-gone.png")
    notebook.run_all()
    expect(widget).to_contain_text("streaming")
    expect(widget).not_to_contain_text("No kernel")
    assert notebook.console == []
