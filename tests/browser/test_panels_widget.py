"""compare(..., live="widget") in a real JupyterLab: streaming, reloading, saved with and without widget state."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

TEXT = "The sky is **blue**.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nprint(1)\n```\n\nThat is all."
WIDGET = "application/vnd.jupyter.widget-view+json"
HOSTILE = """<img src=x onerror="window.harmed=1"><script>window.harmed=2</script>[x](javascript:alert(1))"""

SERVER = """
from mamba_nb import OpenAICompatibleBackend, compare
from mamba_nb.testing import Script, ScriptedServer
server = ScriptedServer(scripts={scripts}, style="llamacpp").__enter__()
options = dict(server="llamacpp", api_key="sk-very-secret")
models = [OpenAICompatibleBackend(name, server.base_url, **options) for name in {names!r}]
"""
RUN = 'grid = compare(models, "Why is the sky blue?", live="widget")'


def start(scripts: dict[str, str]) -> str:
    """A cell that starts a server with these models; the values are calls of Script."""
    listed = "{" + ", ".join(f"{name!r}: {call}" for name, call in scripts.items()) + "}"
    return SERVER.format(scripts=listed, names=[*scripts])


def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("PICTURES", tmp_path))
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 600)])
def test_a_blocking_cell_shows_panels_that_stream_and_keeps_them(lab, tmp_path: Path, theme: str, width: int) -> None:
    notebook = lab(
        [
            start(
                {
                    "qwen3:8b": f"Script(text={TEXT!r}, reasoning='Let me think. ' * 20, itl_s=0.06)",
                    "llama3.2:3b": f"Script(text={HOSTILE!r}, itl_s=0.05)",
                }
            ),
            RUN,
            "grid.to_frame().shape",
        ],
        theme=theme,
        width=width,
    )
    notebook.start_all()
    panels = notebook.locator(".mn-widget .mn-panel")
    expect(panels.nth(0)).to_contain_text("streaming")
    notebook.wait()
    expect(panels).to_have_count(2)
    for place in (0, 1):
        expect(panels.nth(place)).to_contain_text("done")
        expect(panels.nth(place)).to_contain_text("tok/s")
    expect(panels.nth(0).locator("strong")).to_have_text("blue")
    expect(panels.nth(0).locator("td")).to_have_text(["1", "2"])
    expect(panels.nth(0).locator(".mn-think summary")).to_contain_text("thinking (280 characters)")
    expect(notebook.locator(".mn-widget").get_by_role("button", name="Stop")).to_be_disabled()
    notebook.picture(pictures(tmp_path) / f"panels-{theme}-{width}.png")

    assert notebook.page.evaluate("window.harmed") is None
    assert notebook.locator(".mn-widget img, .mn-widget script").count() == 0
    assert notebook.locator(".mn-widget a[href^=javascript]").count() == 0
    assert notebook.errors() == []
    assert notebook.external == []
    assert notebook.console == []


def test_a_notebook_saved_with_the_defaults_shows_the_answers_without_a_kernel(lab) -> None:
    notebook = lab([start({"one": f"Script(text={TEXT!r})", "two": "Script(text='Two.')"}), RUN])
    notebook.run_all()
    saved = notebook.save()
    assert "widgets" not in saved.metadata
    outputs = saved.cells[1].outputs
    assert "sk-very-secret" not in str(outputs)
    assert [sorted(output.data) for output in outputs] == [
        [WIDGET, "text/plain"],
        ["text/html", "text/plain"],
    ]
    folded = lab(saved).locator(".mn-fold")
    expect(folded).to_have_count(1)
    folded.locator("summary").first.click()
    expect(folded.locator(".mn-panel").nth(0)).to_contain_text("The sky is **blue**.")
    expect(folded.locator(".mn-panel").nth(1)).to_contain_text("Two.")


def test_a_notebook_saved_with_widget_state_shows_the_panels_without_a_kernel(lab) -> None:
    notebook = lab([start({"one": f"Script(text={TEXT!r})", "two": "Script(text='Two.')"}), RUN])
    notebook.run_all()
    expect(notebook.locator(".mn-widget .mn-panel").nth(1)).to_contain_text("done")
    saved = notebook.save_with_widget_state()
    [state] = saved.metadata["widgets"].values()
    [shown] = [output.data[WIDGET] for cell in saved.cells for output in cell.outputs if WIDGET in output.data]
    assert shown["model_id"] in state["state"]
    assert "sk-very-secret" not in str(saved.metadata)
    again = lab(saved)
    again.wait_for_saved_widgets()
    expect(again.locator(".mn-widget .mn-panel").nth(0).locator("strong")).to_have_text("blue")
    expect(again.locator(".mn-widget .mn-panel").nth(1)).to_contain_text("Two.")
    assert again.external == []


GROWING = """
import threading, time
from mamba_nb.compare.progress import PanelState
from mamba_nb.records import Generation, Request, TextDelta
from mamba_nb.widgets.panels import Panels

states = [PanelState(label, model="m", server="s") for label in ("fast", "wide")]
widget = Panels(states)
stop = threading.Event()

def grow():
    answers = [state.begin("Why?") for state in states]
    began = time.monotonic()
    while not stop.is_set():
        at = time.monotonic() - began
        for _ in range(100):
            if answers[0].chunks < 100_000:
                answers[0].feed(TextDelta(at, "word "))
        if answers[1].chunks < 100:
            answers[1].feed(TextDelta(at, "x" * 10_000))
        time.sleep(0.01)
    for state, answer in zip(states, answers):
        request = Request(model="m", messages=())
        text = "".join(answer.text)
        answer.end(Generation(request=request, base_url="http://s/v1", server="s", model="m", text=text))

threading.Thread(target=grow).start()
widget.start()
widget
"""
FRAMES = """() => new Promise((done) => {
    const gaps = [];
    let before = performance.now();
    const step = (now) => {
        gaps.push(now - before);
        before = now;
        if (gaps.length < 60) requestAnimationFrame(step); else done(gaps);
    };
    requestAnimationFrame(step);
})"""


def test_a_flood_leaves_the_page_usable(lab, tmp_path: Path) -> None:
    notebook = lab([GROWING, "stop.set()"])
    notebook.run_cell(0)
    panels = notebook.locator(".mn-widget .mn-panel")
    expect(panels.nth(0)).to_contain_text("word word word")
    expect(panels.nth(1)).to_contain_text("x" * 100_000)
    gaps = notebook.page.evaluate(FRAMES)
    print("frames, ms:", sorted(round(gap) for gap in gaps)[-5:])
    assert max(gaps) < 5_000  # a page that is stuck, not one that is slow
    notebook.picture(pictures(tmp_path) / "panels-flood.png")
    notebook.run_cell(1)
    for place in (0, 1):
        expect(panels.nth(place)).to_contain_text("done")
    expect(panels.nth(1)).to_contain_text("Shown: 400,000 of 1,000,000 characters.")
    assert notebook.console == []


def test_a_reload_in_mid_stream_goes_on(lab) -> None:
    notebook = lab([GROWING, "stop.set()"])
    notebook.run_cell(0)
    first = notebook.locator(".mn-widget .mn-panel").nth(0)
    expect(first).to_contain_text("word word word")
    notebook.save()
    notebook.page.reload(wait_until="load")
    expect(first).to_contain_text("word word word")
    expect(first).to_contain_text("streaming")
    notebook.run_cell(1, 'stop.set(); time.sleep(1); len("".join(states[0].answer.text))')
    expect(first).to_contain_text("done")
    length = int(notebook.locator(".jp-OutputArea-executeResult .jp-OutputArea-output").last.inner_text())
    shown = len(first.locator(".mn-answer").inner_text().strip())
    assert min(length, 400_000) - 1 <= shown + 1 <= min(length, 400_000) + 1
