"""The live view in a real JupyterLab: while it streams, after it, and in the saved notebook."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

HOSTILE = (
    """<img src=x onerror="window.harmed = 1"><script>window.harmed = 2</script></div><style>*{display:none}</style>"""
)

# A comparison of three models that streams until the test says that it has seen enough.
CELL = """
import time
from pathlib import Path
from mamba_nb.compare.progress import PanelState
from mamba_nb.display.live import choose_view
from mamba_nb.records import Generation, Request, TextDelta, Usage

seen = Path({seen!r})
labels = ["qwen3:8b", "llama3.2", "gone"]
panels = [PanelState(label, model=label, server="ollama", context=4096) for label in labels]
view = choose_view(None, panels)
request = Request(model="m", messages=({{"role": "user", "content": "Why is the sky blue?"}},))

def generation(**kwargs):
    return Generation(request=request, base_url="http://127.0.0.1:11434/v1", server="ollama", model="m", **kwargs)

answers = [panel.begin("Why is the sky blue?") for panel in panels[:2]]
panels[2].begin("Why is the sky blue?").end(
    generation(status="failed", error="Nothing is listening on 127.0.0.1:11434.", error_type="ServerUnreachable")
)
pieces = [{hostile!r}, " costs $5 or $6, x_1^2. "]
stamps = []
deadline = time.monotonic() + 60
while not seen.exists() and time.monotonic() < deadline:
    at_s = 0.2 + 0.1 * len(stamps)
    stamps.append(at_s)
    for answer in answers:
        answer.feed(TextDelta(at_s, pieces[len(stamps) % 2] * 5))
    view.paint()
    time.sleep(0.1)
for answer in answers:
    answer.end(
        generation(
            text="".join(answer.text),
            text_at_s=tuple(stamps),
            finish_at_s=stamps[-1],
            latency_s=2.0,
            usage=Usage(prompt_tokens=7, completion_tokens=50),
        )
    )
view.close()
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_panels_grow_in_the_page_and_stay_once_in_the_saved_notebook(lab, tmp_path: Path, theme: str) -> None:
    seen = tmp_path / "seen"
    notebook = lab([CELL.format(seen=str(seen), hostile=HOSTILE), "print('the next cell ran')"], theme=theme)

    notebook.start_all()
    panels = notebook.locator(".mamba-nb .mn-panel")
    expect(panels).to_have_count(3)
    expect(panels.nth(0)).to_contain_text("streaming")
    expect(panels.nth(0)).to_contain_text("chunks/s")
    expect(panels.nth(2)).to_contain_text("failed")
    notebook.picture(tmp_path / f"streaming-{theme}.png")
    long_before = len(panels.nth(0).inner_text())
    expect(panels.nth(0)).to_contain_text("characters before this")  # it grows past what one paint carries
    seen.touch()
    notebook.wait()

    expect(panels).to_have_count(3)
    expect(panels.nth(0)).to_contain_text("done")
    expect(panels.nth(0)).to_contain_text("25.0 tok/s")
    expect(panels.nth(0)).not_to_contain_text("characters before this")
    assert len(panels.nth(0).inner_text()) > long_before
    notebook.picture(tmp_path / f"after-{theme}.png")

    # JupyterLab sets a pre in its code font and breaks it anywhere; an answer is prose.
    look = "e => [getComputedStyle(e).fontFamily, getComputedStyle(e).wordBreak, getComputedStyle(e).lineHeight]"
    assert panels.nth(0).locator(".mn-answer pre").evaluate(look) == panels.nth(0).evaluate(look)

    page = notebook.page
    assert page.evaluate("window.harmed") is None
    assert notebook.locator(".mamba-nb img, .mamba-nb script, .mamba-nb mjx-container").count() == 0
    assert notebook.errors() == []
    assert notebook.external == []
    assert notebook.console == []

    outputs = notebook.save().cells[0].outputs
    assert [output.output_type for output in outputs] == ["display_data"]
    assert outputs[0].data["text/html"].count('class="mn-panel') == 3
    assert "characters before this" not in outputs[0].data["text/html"]
    assert outputs[0].data["text/plain"].startswith("● qwen3:8b · ollama: done, TTFT 200 ms, 25.0 tok/s")


def test_an_answer_follows_its_end_while_it_grows_and_begins_at_its_top_when_done(lab, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    notebook = lab([CELL.format(seen=str(seen), hostile="line\n" * 5)])

    notebook.start_all()
    answer = notebook.locator(".mn-answer").first
    expect(answer).to_contain_text("characters before this")
    # How far the answer's end lies below the box's lower edge, in pixels.
    below = "box => box.firstElementChild.getBoundingClientRect().bottom - box.getBoundingClientRect().bottom"
    assert answer.evaluate(below) < 20
    assert answer.evaluate("box => box.clientHeight") <= 24 * 14 + 1
    seen.touch()
    notebook.wait()

    assert answer.evaluate("box => box.scrollTop") == 0
    assert answer.evaluate(below) > 1000


def test_a_saved_notebook_that_is_not_trusted_still_tells_everything(lab, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    seen.touch()
    first = lab(
        [CELL.format(seen=str(seen), hostile=HOSTILE).replace("while not seen.exists()", "while len(stamps) < 3")]
    )
    first.run_all()
    saved = first.save()
    saved.cells[0].metadata.pop("trusted", None)
    saved.cells[0].source += "\n# changed, so that no signature fits"

    second = lab(saved)
    output = second.locator(".jp-OutputArea-output")
    for words in ("qwen3:8b", "done", "TTFT 200 ms", "25.0 tok/s", "Nothing is listening on 127.0.0.1:11434."):
        expect(output).to_contain_text(words)
    second.picture(tmp_path / "untrusted.png")
    assert second.page.evaluate("window.harmed") is None
    assert second.external == []


PLOT = """
from mamba_nb.display.plots import latency
from mamba_nb.records import Cell, Comparison, Generation, Request, Usage

def cell(label, ttft_s):
    generation = Generation(
        request=Request(model=label, messages=()), base_url="http://127.0.0.1/v1", server="ollama", model=label,
        text_at_s=(ttft_s, 1.0), finish_at_s=1.0, latency_s=1.0, usage=Usage(completion_tokens=20),
    )
    return Cell(label=label, variant=None, prompt_id=0, prompt="p", repeat=0, generation=generation)

labels = ("qwen", "<b>llama</b>")
comparison = Comparison(cells=(cell(labels[0], 0.2), cell(labels[1], 0.4)), labels=labels, planned=2)
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_plot_and_the_summary_need_no_network(lab, tmp_path: Path, theme: str) -> None:
    notebook = lab([PLOT, "comparison", "latency(comparison)"], theme=theme)
    notebook.run_all()

    expect(notebook.locator(".mn-table tbody tr")).to_have_count(2)
    expect(notebook.locator(".mn-table tbody tr").nth(1)).to_contain_text("<b>llama</b>")
    drawn = notebook.locator(".vega-embed svg, .vega-embed canvas").first
    expect(drawn).to_be_visible()
    notebook.picture(tmp_path / f"plot-{theme}.png")
    assert notebook.errors() == []
    assert notebook.external == []
    assert notebook.console == []
