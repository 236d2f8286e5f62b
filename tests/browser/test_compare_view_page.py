"""CompareView in a real JupyterLab: run, stop, mark differences, pin, copy, reload, and a notebook without a kernel."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

BLUE = "The sky is **blue** because air scatters short waves.\n\n- first point\n- second point\n\nThat is all."
RED = "The sky is **red** because air scatters long waves.\n\n- first point\n- third point\n\nThat is nearly all."
MINUS = "\N{MINUS SIGN}"

SERVER = """
import time
from mamba_nb import OpenAICompatibleBackend
from mamba_nb.testing import Script, ScriptedServer
from mamba_nb.widgets.compare_view import CompareView

server = ScriptedServer(scripts={scripts}, style="llamacpp").__enter__()
options = dict(server="llamacpp", api_key="sk-very-secret")
models = [OpenAICompatibleBackend(name, server.base_url, **options) for name in {names!r}]
"""


def start(names: dict[str, str]) -> str:
    """A cell that starts a server with these models; the values are calls of Script."""
    return SERVER.format(
        scripts="{" + ", ".join(f"{name!r}: {call}" for name, call in names.items()) + "}", names=[*names]
    )


QUICK = start(
    {
        "qwen3:8b": f"Script(text={BLUE!r}, reasoning='Let me think about it.', itl_s=0.01)",
        "llama3.2:3b": f"Script(text={RED!r}, itl_s=0.01)",
    }
)
SLOW = start(
    {
        "patient": "Script(text='word ' * 2000, itl_s=0.05)",
        "steady": "Script(text='more ' * 2000, itl_s=0.05)",
    }
)
# A cell's wait for what it ended; what is left after it is for the assertion to find.
ALL_ENDED = """
import mamba_nb, time
end = time.monotonic() + 20
while mamba_nb.runs() and time.monotonic() < end:
    time.sleep(0.05)
"""
BOTH_SAY_THE_SAME = """() => {
    const [first, , second] = [...document.querySelectorAll('.mn-cv .mn-answer')].map(box => box.innerText.trim());
    return !!second && first === second;
}"""


def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("PICTURES", tmp_path))
    folder.mkdir(exist_ok=True)
    return folder


def button(inside: Locator, name: str) -> Locator:
    return inside.get_by_role("button", name=name, exact=True)


def panel(notebook, place: int) -> Locator:
    return notebook.locator(".mn-cv .mn-panel").nth(place)


def ask(notebook, prompt: str, main: str = "Run") -> None:
    view = notebook.locator(".mn-cv")
    view.get_by_label("Prompt").fill(prompt)
    button(view, main).click()


@pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 600)])
def test_models_stream_side_by_side_and_what_differs_is_marked(lab, tmp_path: Path, theme: str, width: int) -> None:
    notebook = lab(
        [QUICK, "view = CompareView(models)\nview", "view.comparison.to_frame().shape"], theme=theme, width=width
    )
    notebook.run_all()
    notebook.picture(pictures(tmp_path) / f"compare-empty-{theme}-{width}.png")

    view = notebook.locator(".mn-cv")
    view.get_by_label("Prompt").fill("Why is the sky blue?")
    view.get_by_label("Prompt").press("Control+Enter")
    expect(panel(notebook, 0)).to_contain_text("done")
    expect(panel(notebook, 1)).to_contain_text("done")
    expect(panel(notebook, 0).locator("strong")).to_have_text("blue")
    expect(panel(notebook, 0).locator("summary")).to_contain_text("thinking (22 characters)")
    expect(panel(notebook, 1)).to_contain_text("tok/s")
    expect(view.locator(".mn-table tbody tr")).to_have_count(2)
    notebook.picture(pictures(tmp_path) / f"compare-done-{theme}-{width}.png")

    button(view, "Mark differences").click()
    expect(panel(notebook, 0).locator("del").first).to_have_text(f"{MINUS}blue")
    expect(panel(notebook, 1).locator("ins").first).to_have_text("+red")
    expect(view.locator(".mn-cv-says")).to_contain_text(f"{MINUS} only in qwen3:8b, + only in llama3.2:3b.")
    notebook.picture(pictures(tmp_path) / f"compare-diff-{theme}-{width}.png")
    button(view, "Mark differences").click()
    expect(panel(notebook, 0).locator("del")).to_have_count(0)

    assert notebook.console == []
    assert notebook.external == []
    assert notebook.errors() == []


def test_stop_stands_where_run_was_and_keeps_what_had_come(lab, tmp_path: Path) -> None:
    notebook = lab([SLOW, "view = CompareView(models)\nview", "print('another cell ran')"])
    notebook.run_all()
    view = notebook.locator(".mn-cv")
    ask(notebook, "Tell me more.")
    expect(panel(notebook, 0)).to_contain_text("word word word")
    expect(panel(notebook, 1)).to_contain_text("streaming")
    notebook.picture(pictures(tmp_path) / "compare-streaming.png")
    main = view.locator(".mn-cv-run .mn-button").first
    before = main.bounding_box()
    expect(main).to_have_text("Stop")
    main.click()
    expect(panel(notebook, 0)).to_contain_text("stopped")
    expect(panel(notebook, 1)).to_contain_text("stopped")
    expect(main).to_have_text("Run")
    assert main.bounding_box() == before
    expect(panel(notebook, 0)).to_contain_text("word word word")
    expect(view.locator(".mn-table tbody tr").first).to_contain_text("1 stopped")
    assert notebook.console == []
    assert notebook.external == []


def test_a_second_view_and_a_reload_in_mid_stream_go_on_from_where_it_is(lab, tmp_path: Path) -> None:
    notebook = lab([SLOW, "view = CompareView(models)\nview"])
    notebook.run_all()
    ask(notebook, "Tell me more.")
    answers = notebook.locator(".mn-cv .mn-answer")
    expect(answers.first).to_contain_text("word word word")

    notebook.run_cell(2, "view")
    expect(answers).to_have_count(4)
    expect(answers.nth(2)).to_contain_text("word word word")
    # Both views draw from one copy, and nothing is in it twice.
    notebook.page.wait_for_function(BOTH_SAY_THE_SAME)
    assert [set(answers.nth(place).inner_text().split()) for place in (0, 2)] == [{"word"}] * 2

    notebook.save()
    notebook.page.reload(wait_until="load")
    expect(answers).to_have_count(4)
    expect(answers.first).to_contain_text("word word word")
    length = len(answers.first.inner_text())
    expect(answers.first).to_contain_text("word " * (length // 5 + 20))
    notebook.locator(".mn-cv").first.get_by_role("button", name="Stop", exact=True).click()
    expect(notebook.locator(".mn-cv .mn-panel").nth(2)).to_contain_text("stopped")
    notebook.run_cell(2, f"{ALL_ENDED}view.comparison.generations[0].text")
    told = notebook.locator(".jp-OutputArea-executeResult .jp-OutputArea-output").last.inner_text().strip().strip("'")
    assert " ".join(told.split()) == " ".join(answers.first.inner_text().split())
    assert notebook.external == []


def test_prompts_are_stepped_through_and_answers_browsed_in_their_panels(lab, tmp_path: Path) -> None:
    cell = """
import pandas as pd
prompts = pd.DataFrame({"city": ["Rome", "Oslo", "Lima"]}, index=["it", "no", "pe"])
view = CompareView(models, prompts, template="Say something of {city}.")
view
"""
    echo = start({"one": "Script(echo=True)", "two": "Script(echo=True)"})
    notebook = lab([echo, cell, "view.comparison.to_wide()"])
    notebook.run_all()
    view = notebook.locator(".mn-cv")
    expect(view.get_by_label("Prompt")).to_have_value("Say something of Rome.")
    button(view, "Next").click()
    expect(view.get_by_label("Prompt")).to_have_value("Say something of Oslo.")
    button(view, "Run this one").click()
    expect(panel(notebook, 1).locator(".mn-answer")).to_contain_text("Oslo")
    button(view, "Run all 3").click()
    expect(view.locator(".mn-cv-progress")).to_have_text("6 of 6 answers")
    expect(panel(notebook, 0).locator(".mn-answer")).to_contain_text("Lima")
    expect(panel(notebook, 0)).to_contain_text("4 of 4")
    notebook.picture(pictures(tmp_path) / "compare-prompts.png")

    button(panel(notebook, 0), "Answer before this one: one").click()
    button(panel(notebook, 0), "Answer before this one: one").click()
    expect(panel(notebook, 0).locator(".mn-answer")).to_contain_text("Rome")
    expect(panel(notebook, 1).locator(".mn-answer")).to_contain_text("Lima")
    button(view, "Previous").click()  # a step takes all panels along
    for place in (0, 1):
        expect(panel(notebook, place).locator(".mn-answer")).to_contain_text("Rome")
    assert notebook.console == []
    assert notebook.external == []


def test_pin_ask_again_and_copy(lab, tmp_path: Path) -> None:
    counting = """
import itertools
numbers = itertools.count(1)
def count(request):
    return Script(text=f"**Answer** {next(numbers)}.")
"""
    notebook = lab(
        [counting + start({"one": "count", "two": "count"}), "view = CompareView(models, max_concurrency=1)\nview"]
    )
    notebook.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    notebook.run_all()
    view = notebook.locator(".mn-cv")
    ask(notebook, "Count.")
    expect(view.locator(".mn-cv-progress")).to_have_text("2 of 2 answers")
    button(panel(notebook, 1), "Pin: two").click()
    expect(panel(notebook, 0)).to_contain_text("two")
    kept = panel(notebook, 0).locator(".mn-answer").inner_text()
    other = panel(notebook, 1).locator(".mn-answer").inner_text()
    button(view, "Run").click()
    expect(panel(notebook, 1).locator(".mn-answer")).not_to_have_text(other)
    expect(panel(notebook, 1)).to_contain_text("2 of 2")
    assert panel(notebook, 0).locator(".mn-answer").inner_text() == kept
    notebook.picture(pictures(tmp_path) / "compare-pinned.png")

    # The keyboard alone: Enter on a button is the button's, not the notebook's.
    button(panel(notebook, 0), "Ask again: two").focus()
    notebook.page.keyboard.press("Enter")
    expect(panel(notebook, 0)).to_contain_text("2 of 2")
    expect(panel(notebook, 0).locator(".mn-answer")).not_to_have_text(kept)

    button(panel(notebook, 0), "Copy: two").click()
    expect(panel(notebook, 0).get_by_role("button", name="Copy: two")).to_have_text("Copied")
    assert notebook.page.evaluate("() => navigator.clipboard.readText()").startswith("**Answer** ")
    assert notebook.console == []
    assert notebook.external == []


HOSTILE = """<img src=x onerror="window.harmed=1"><script>window.harmed=2</script>[x](javascript:window.harmed=3)"""


def test_every_bad_answer_has_a_face(lab, tmp_path: Path) -> None:
    dies = "Script(text='one two three four', itl_s=0.01, fault='cut' * (request.prompt != 'Hi') or None)"
    cell = start(
        {
            "empty": "Script(text='')",
            "emoji": "Script(text='half \U0001f600 end', fault='half_emoji', usage='none')",
            "dies": f"lambda request: {dies}",
            "tools": "Script(text='', tool_calls=[{'name': 'weather', 'arguments': {'city': 'Oslo'}}])",
            HOSTILE: f"Script(text={HOSTILE!r})",
        }
    )
    gone = "models.append(OpenAICompatibleBackend('gone', 'http://127.0.0.1:9/v1', max_retries=0))"
    notebook = lab([cell + gone, "view = CompareView(models)\nview"])
    notebook.run_all()
    ask(notebook, "Go on.")
    expect(notebook.locator(".mn-cv-progress")).to_have_text("6 of 6 answers")
    expect(panel(notebook, 0)).to_contain_text("No visible text came.")
    expect(panel(notebook, 1).locator(".mn-answer")).to_contain_text("half \U0001f600 end")
    expect(panel(notebook, 2)).to_contain_text("failed")
    expect(panel(notebook, 2).locator(".mn-answer")).to_contain_text("one two")
    expect(panel(notebook, 3).locator(".mn-callcard summary")).to_have_text("calls weather")
    expect(panel(notebook, 4)).to_contain_text("<script>")
    expect(panel(notebook, 5)).to_contain_text("Nothing is listening on 127.0.0.1:9")
    notebook.picture(pictures(tmp_path) / "compare-bad.png")
    assert notebook.page.evaluate("window.harmed") is None
    assert notebook.console == []
    assert notebook.external == []


def test_a_cell_that_is_run_again_ends_what_its_last_run_began(lab, tmp_path: Path) -> None:
    notebook = lab([SLOW, "view = CompareView(models)\nview"])
    notebook.run_all()
    ask(notebook, "Tell me more.")
    expect(panel(notebook, 0)).to_contain_text("streaming")
    notebook.run_cell(1)
    notebook.run_cell(2, f"{ALL_ENDED}mamba_nb.runs()")
    listed = notebook.locator(".jp-OutputArea-executeResult .jp-OutputArea-output").last
    expect(listed).to_have_text("<no runs under way>")
    expect(panel(notebook, 0)).to_contain_text("idle")
    assert notebook.console == []


def test_a_saved_notebook_shows_the_answers_without_a_kernel_and_has_no_key(lab, tmp_path: Path) -> None:
    notebook = lab([QUICK, "view = CompareView(models)\nview"])
    notebook.run_all()
    ask(notebook, "Why is the sky blue?")
    expect(notebook.locator(".mn-fold")).to_have_count(1)
    saved = notebook.save()
    # The source holds the key that the test wrote there itself; nothing else does.
    assert "sk-very-secret" not in json.dumps([saved.cells[0].outputs, saved.cells[1], saved.metadata])
    folded = lab(saved).locator(".mn-fold")
    expect(folded.locator("summary").first).to_have_text("The answers as plain HTML, for readers without a kernel")
    folded.locator("summary").first.click()
    expect(folded.locator(".mn-panel").nth(1)).to_contain_text("air scatters long waves")
    expect(folded).to_contain_text("Why is the sky blue?")


def test_a_kernel_that_is_gone_is_said(lab, tmp_path: Path) -> None:
    notebook = lab([SLOW, "view = CompareView(models)\nview"])
    notebook.run_all()
    ask(notebook, "Tell me more.")
    expect(panel(notebook, 0)).to_contain_text("word word word")
    view = notebook.locator(".mn-cv")
    expect(view).not_to_contain_text("No kernel")
    notebook.restart_kernel()
    expect(view).to_contain_text("No kernel stands behind this view")
    expect(panel(notebook, 0)).to_contain_text("word word word")
    notebook.picture(pictures(tmp_path) / "compare-gone.png")


FOUND = """
from mamba_nb.servers.discovery import find
from mamba_nb.testing import Script, ScriptedServer
from mamba_nb.widgets import compare_view

names = ["qwen3:8b", "llama3.2:3b", "a-very-long-model-name-of-some-organisation/with-a-quantization-Q4_K_M:latest"]
server = ScriptedServer(Script(echo=True), models=names, style="ollama").__enter__()
compare_view.find = lambda: find([], urls=[server.base_url], timeout=20)
compare_view.CompareView()
"""


@pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 600)])
def test_models_that_were_found_are_ticked_and_asked(lab, tmp_path: Path, theme: str, width: int) -> None:
    notebook = lab([FOUND], theme=theme, width=width)
    notebook.run_all()
    view = notebook.locator(".mn-cv")
    boxes = view.get_by_role("checkbox")
    expect(boxes).to_have_count(4)
    ask(notebook, "Hello")
    expect(view.get_by_role("alert")).to_contain_text("Choose 2 to 6 models; none is chosen.")
    notebook.picture(pictures(tmp_path) / f"compare-models-{theme}-{width}.png")
    view.get_by_label("Filter").fill("QWEN ollama")
    expect(boxes.locator("visible=true")).to_have_count(1)
    view.get_by_label("Filter").fill("")
    boxes.nth(0).check()
    expect(view.locator(".mn-panel")).to_have_count(1)
    boxes.nth(1).focus()
    notebook.page.keyboard.press("Space")
    expect(view.locator(".mn-panel")).to_have_count(2)
    expect(boxes.nth(1)).to_be_focused()
    button(view, "Run").click()
    expect(view.locator(".mn-cv-progress")).to_have_text("2 of 2 answers")
    expect(view.locator(".mn-cv-models > summary")).to_contain_text("Models: qwen3:8b, llama3.2:3b")
    expect(panel(notebook, 1).locator(".mn-answer")).to_contain_text("Hello")
    assert notebook.console == []
    assert notebook.external == []
