"""The blind vote in a real JupyterLab: by keys and by buttons, before and after the reveal, again after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

HOSTILE = '<img src="https://example.com/x.png" onerror="window.harmed = 1"><script>window.harmed = 2</script>'

GRID = """
from mamba_nb.records import Cell, Comparison, Generation, Request, Usage
from mamba_nb.widgets.vote import VoteView

def cell(label, text, number):
    prompt = f"Prompt {{number}}: Why is the sky blue?"
    generation = Generation(
        request=Request(model=label, messages=({{"role": "user", "content": prompt}},)),
        base_url="http://127.0.0.1:11434/v1", server="ollama", model=label, text=text, text_at_s=(0.213, 1.0),
        finish_at_s=1.0, latency_s=1.25, usage=Usage(completion_tokens=50),
    )
    return Cell(label=label, variant=None, prompt_id=number, prompt=prompt, repeat=0, generation=generation)

TEXTS = [
    "Sunlight is **scattered** by the air. Blue light is scattered most.\\n\\n1. short waves\\n2. long waves\\n",
    "Because of *Rayleigh* scattering.\\n\\n```python\\nprint(1 / wavelength**4)\\n```\\n" + {more!r},
    "It is not blue at night.",
    "A very long answer. " * 300,
]
labels = {labels!r}
cells = [cell(label, TEXTS[at], n) for n in range({prompts}) for at, label in enumerate(labels)]
grid = Comparison(cells=tuple(cells), labels=labels, planned=len(cells), started_at="2026-01-02T03:04:05")
view = VoteView(grid)
view
"""


def source(prompts: int = 3, labels: tuple[str, ...] = ("qwen3:8b", "llama3.2"), more: str = "") -> str:
    return GRID.format(prompts=prompts, labels=labels, more=more)


def clean(notebook) -> None:
    assert notebook.errors() == []
    assert notebook.external == []
    assert notebook.console == []
    assert notebook.page.evaluate("window.harmed") is None


@pytest.fixture(autouse=True)
def no_votes_from_before(jupyter) -> None:
    for file in jupyter("light").root.glob("votes-*.jsonl"):
        file.unlink()


def test_keys_vote_lock_and_go_on_and_the_notebook_hears_none_of_them(lab, tmp_path: Path) -> None:
    notebook = lab([source(more=HOSTILE), "view.votes['kind'].tolist(), len(view.votes)"])
    notebook.run_all()
    booth = notebook.locator(".mn-vote").first
    expect(booth.locator(".mn-vote-count")).to_contain_text("1 of 3")
    expect(booth.locator(".mn-ballot")).to_have_count(2)
    before = notebook.page.content()
    for name in ("qwen3:8b", "llama3.2", "213 ms"):
        assert name not in booth.inner_html(), "blind"
    assert before.count("mn-ballot") >= 2
    cells = notebook.page.locator(".jp-Notebook .jp-Cell").count()

    booth.locator(".mn-ballot .mn-head").first.click()
    keys = notebook.page.keyboard
    keys.press("2")
    expect(booth.locator(".mn-ballot").nth(1)).to_contain_text("chosen")
    keys.press("u")
    expect(booth.locator(".mn-chosen")).to_have_count(0)
    keys.press("b")
    expect(booth.get_by_role("button", name="Both bad")).to_have_attribute("aria-pressed", "true")
    keys.press("1")
    top = booth.locator(".mn-answer").first.bounding_box()
    keys.press("Enter")
    expect(booth.locator(".mn-vote-who")).to_have_count(2)
    expect(booth).to_contain_text("TTFT 213 ms")
    expect(booth).to_contain_text("1 vote: too early to say who wins")
    assert booth.locator(".mn-answer").first.bounding_box() == top, "nothing jumps"
    keys.press("u")
    keys.press("Enter")
    expect(booth.locator(".mn-vote-count")).to_have_text("2 of 3")
    assert "qwen3:8b" not in booth.inner_html()
    keys.press("0")
    keys.press("Enter")
    expect(booth.locator(".mn-vote-count")).to_contain_text("2 of 3 voted")
    keys.press("Enter")
    expect(booth.locator(".mn-vote-count")).to_have_text(
        "3 of 3"
    )  # a key for an item that is not in sight yet is no vote
    keys.press("s")
    expect(booth.get_by_role("button", name="Vote on the 1 skipped")).to_be_visible()
    keys.press("Enter")
    expect(booth.locator(".mn-vote-count")).to_have_text("3 of 3")
    keys.press("-")
    keys.press("Enter")
    expect(booth.locator(".mn-vote-count")).to_contain_text("3 of 3 voted")
    keys.press("Enter")
    expect(booth.locator(".mn-table tbody tr")).to_have_count(2)
    expect(booth.locator(".mn-table tbody")).to_contain_text("(")
    expect(notebook.locator(".mn-fold")).to_contain_text("The result of the blind votes")

    assert notebook.page.locator(".jp-Notebook .jp-Cell").count() == cells
    notebook.run_cell(1)
    expect(notebook.locator(".jp-OutputArea-output").last).to_contain_text("(['win', 'tie', 'both_bad'], 3)")
    assert booth.locator("img, script").count() == 0
    clean(notebook)

    saved = notebook.save()
    assert any("The result of the blind votes" in str(output.data) for output in saved.cells[0].outputs)
    assert "mamba_nb.votes" in next(notebook.path.parent.glob("votes-*.jsonl")).read_text()


def test_buttons_do_the_same_and_votes_come_back_after_a_restart_and_a_reload(lab, tmp_path: Path) -> None:
    notebook = lab([source()])
    notebook.run_all()
    booth = notebook.locator(".mn-vote").first
    booth.get_by_role("button", name="Answer 2 is best").click()
    booth.get_by_role("button", name="Lock").click()
    expect(booth.locator(".mn-vote-who")).to_have_count(2)
    booth.get_by_role("button", name="Next").click()
    expect(booth.locator(".mn-vote-count")).to_contain_text("2 of 3")
    booth.get_by_role("button", name="Tie").click()
    expect(booth.get_by_role("button", name="Tie")).to_have_attribute("aria-pressed", "true")
    order = booth.locator(".mn-answer").all_inner_texts()

    notebook.restart_kernel()
    notebook.page.wait_for_timeout(1000)
    notebook.page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"
    )
    notebook.run_all()
    booth = notebook.locator(".mn-vote").first
    expect(booth.locator(".mn-vote-count")).to_contain_text("2 of 3")
    expect(booth).to_contain_text("1 of them from before")
    assert booth.locator(".mn-answer").all_inner_texts() == order
    assert notebook.errors() == [] and notebook.external == []


def test_two_views_of_one_vote_show_the_same(lab) -> None:
    notebook = lab([source(), "view"])
    notebook.run_all()
    first, second = notebook.locator(".mn-vote").nth(0), notebook.locator(".mn-vote").nth(1)
    first.get_by_role("button", name="Answer 1 is best").click()
    expect(second.locator(".mn-ballot").nth(0)).to_contain_text("chosen")
    second.get_by_role("button", name="Lock").click()
    expect(first.locator(".mn-vote-who")).to_have_count(2)
    first.get_by_label("Show the models after each vote").uncheck()
    expect(second.get_by_label("Show the models after each vote")).not_to_be_checked()
    first.get_by_role("button", name="Next").click()
    first.get_by_role("button", name="Tie").click()
    first.get_by_role("button", name="Lock").click()
    for booth in (first, second):
        expect(booth.locator(".mn-vote-count")).to_contain_text("3 of 3")
        expect(booth.locator(".mn-vote-who")).to_have_count(0)
    clean(notebook)

    first.get_by_role("button", name="Answer 2 is best").click()
    expect(second.locator(".mn-ballot").nth(1)).to_contain_text("chosen")
    notebook.save()
    notebook.page.reload()
    again = notebook.locator(".mn-vote").first
    expect(again.locator(".mn-vote-count")).to_have_text("3 of 3")
    expect(again.locator(".mn-ballot").nth(1)).to_contain_text("chosen")
    again.get_by_role("button", name="Lock").click()
    expect(again.locator(".mn-table tbody tr")).to_have_count(2)
    assert notebook.external == []


RUNNING = """
import mamba_nb as mb
from mamba_nb.backends import OpenAICompatibleBackend
from mamba_nb.testing import Script, ScriptedServer
from mamba_nb.widgets.vote import VoteView

server = ScriptedServer(Script(text=["one ", "two ", "three"], itl_s=1.5), models=("alpha", "beta")).__enter__()
backends = [OpenAICompatibleBackend(name, server.base_url, max_retries=0) for name in server.models]
run = mb.start_compare(backends, ["first", "second", "third"], max_concurrency=1)
view = VoteView(run)
view
"""


def test_a_comparison_that_runs_can_be_voted_on_while_it_runs(lab) -> None:
    notebook = lab([RUNNING])
    notebook.run_all()
    booth = notebook.locator(".mn-vote").first
    expect(booth).to_contain_text("An item can be voted on as soon as all its answers are there")
    expect(booth.locator(".mn-vote-count")).to_contain_text("1 of 3")
    expect(booth.locator(".mn-ballot")).to_have_count(2)
    booth.get_by_role("button", name="Tie").click()
    booth.get_by_role("button", name="Lock").click()
    booth.get_by_role("button", name="Next").click()
    expect(booth.locator(".mn-vote-count")).to_contain_text("2 of 3")
    expect(booth.locator(".mn-vote-count")).not_to_contain_text("ready")
    clean(notebook)


@pytest.mark.parametrize(("theme", "width"), [("light", 600), ("dark", 1200)])
def test_how_it_looks(lab, jupyter, tmp_path: Path, theme: str, width: int) -> None:
    for file in jupyter(theme).root.glob("votes-*.jsonl"):
        file.unlink()
    labels = ("qwen3:8b", "llama3.2", "a-rather-long-model-name-that-wraps:70b-instruct-q4_K_M", "gemma3")
    notebook = lab([source(8, labels)], theme=theme, width=width)
    notebook.run_all()
    booth = notebook.locator(".mn-vote").first
    expect(booth.locator(".mn-ballot")).to_have_count(4)
    booth.get_by_role("button", name="Answer 2 is best").click()
    expect(booth.locator(".mn-chosen")).to_have_count(1)
    notebook.picture(tmp_path / f"open-{theme}-{width}.png")
    for number in range(8):
        booth.get_by_role("button", name=f"Answer {1 + number % 2} is best").click()
        booth.get_by_role("button", name="Lock").click()
        expect(booth.locator(".mn-vote-who")).to_have_count(4)
        if number == 6:
            expect(booth.locator(".mn-table tbody")).to_contain_text(" to ")
            expect(booth).not_to_contain_text("Working out the ratings.")
            notebook.picture(tmp_path / f"revealed-{theme}-{width}.png")
        booth.get_by_role("button", name="Next" if number < 7 else "Result").click()
        expect(booth.locator(".mn-vote-who")).to_have_count(0)
    expect(booth.locator(".mn-ballot")).to_have_count(0)
    expect(booth).not_to_contain_text("Working out the ratings.")
    notebook.picture(tmp_path / f"result-{theme}-{width}.png")
    assert booth.evaluate("box => box.scrollWidth <= box.clientWidth")
    clean(notebook)
