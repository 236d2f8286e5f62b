"""The comparison, the vote and the chat for everybody: axe-core in every state, narrow pages, the keyboard alone."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, expect

SERVER = """
import mamba_nb as mb
from mamba_nb.testing import Script, ScriptedServer

TEXT = "# A heading\\n\\n*Words*, a [link](https://example.org) and `code`.\\n\\n| a | b |\\n|---|---|\\n| 1 | 2 |\\n"

def add(a: int, b: int) -> int:
    "Add two numbers."
    return a + b

def answer(request):
    asked = str(request.body["messages"][-1]["content"])
    if "long" in asked:
        return Script(text="word " * 5000, itl_s=0.05)
    if "break" in asked:
        return Script(text="half of this never comes", fault="cut", fault_after=2)
    if "add" in asked and request.body.get("tools"):
        return Script(reasoning="hm", tool_calls=[{"name": "add", "arguments": {"a": 1, "b": 2}}])
    return Script(text=TEXT * 8, reasoning="Let me think. " * 60)

server = ScriptedServer(answer, style="llamacpp", models=["one", "two"]).start()
options = dict(server="llamacpp", max_retries=0)
models = [mb.OpenAICompatibleBackend(name, server.base_url, **options) for name in server.models]
"""
COMPARE = "view = mb.CompareView(models, ['Why is the sky blue?', 'Why is grass green?'], max_concurrency=2)\nview"
VOTE = """
grid = mb.compare(models, ["Why is the sky blue?", "Why is grass green?", "Why is snow white?"], live=False)
vote = mb.VoteView(grid, path=False)
vote
"""
EMPTY_VOTE = "mb.VoteView(mb.compare(models, 'break off', live=False), path=False)"
CHAT = """
ollama = ScriptedServer(answer, style="ollama", models=["one"], context_length=4096).start()
backend = mb.create_ollama_backend("one", base_url=ollama.base_url, max_retries=0)
chat = mb.ChatView(mb.Agent(backend, tools=[add]), system="Be brief.")
chat
"""

# What can be used and is cut off at a side: not in sight of a narrow page, and not brought into sight by scrolling.
CUT_OFF = """root => {
    const edge = root.getBoundingClientRect(), page = document.documentElement.clientWidth;
    const inside = box => box.left >= edge.left - 1 && box.right <= Math.min(edge.right, page) + 1;
    return [...root.querySelectorAll('button, input, select, textarea, summary, [tabindex="0"]')]
        .filter(each => each.checkVisibility({ visibilityProperty: true }) && !each.closest('.mn-scroll, .mn-hidden'))
        .filter(each => !inside(each.getBoundingClientRect())).map(each => each.outerHTML.slice(0, 200));
}"""
COUNT_CHATTER = """root => {
    window.said = [];
    const regions = root.querySelectorAll('[aria-live], [role=status], [role=alert]');
    for (const region of regions)
        new MutationObserver(() => window.said.push(region.textContent))
            .observe(region, { childList: true, characterData: true, subtree: true });
}"""


def violations(page: Any) -> list[str]:
    """What axe-core finds in the outputs, serious or worse, told with the place."""
    found = Axe().run(page, context=".jp-Notebook .jp-OutputArea-output .mamba-nb")
    return [
        f"{each['id']} ({each['impact']}): {node['html'][:200]}"
        for each in found.response["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def fine(notebook: Any, widget: Locator) -> None:
    widget.wait_for()
    assert violations(notebook.page) == []
    assert widget.evaluate(CUT_OFF) == []
    assert widget.evaluate("root => root.scrollWidth <= root.clientWidth + 1")


def clean(notebook: Any) -> None:
    assert notebook.errors() == []
    assert notebook.console == []
    assert notebook.external == []


LOOKS = pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 400)])


@LOOKS
def test_no_state_of_the_comparison_has_a_serious_violation(lab, theme: str, width: int) -> None:
    notebook = lab([SERVER, COMPARE], theme=theme, width=width)
    notebook.run_all()
    view = notebook.locator(".mn-cv")
    prompt, progress = view.get_by_label("Prompt"), view.locator(".mn-cv-progress")
    view.locator("summary", has_text="Models").click()
    fine(notebook, view)

    prompt.fill("  ")
    view.get_by_role("button", name="Run this one").click()
    expect(view.get_by_role("alert")).to_contain_text("There is no prompt.")
    fine(notebook, view)

    prompt.fill("a long one")
    view.get_by_role("button", name="Run this one").click()
    expect(view.locator(".mn-panel").nth(1)).to_contain_text("word word")
    fine(notebook, view)
    view.get_by_role("button", name="Stop").click()
    expect(view.locator(".mn-panel").nth(1)).to_contain_text("stopped")

    prompt.fill("break off")
    view.get_by_role("button", name="Run this one").click()
    expect(progress).to_have_text("2 of 2 answers")
    expect(view.locator(".mn-panel").first).to_contain_text("failed")
    prompt.fill("Why is the sky blue?")
    view.get_by_role("button", name="Run this one").click()
    expect(view.locator(".mn-panel").first).to_contain_text("3 of 3")
    expect(view.locator(".mn-panel").nth(1)).to_contain_text("A heading")
    expect(view.get_by_role("button", name="Run this one")).to_be_visible()
    view.get_by_role("button", name="Mark differences").click()
    expect(view.locator(".mn-cv-says")).not_to_be_empty()
    view.get_by_role("button", name="Pin: two").click()
    expect(view.get_by_role("button", name="Pin: two")).to_have_attribute("aria-pressed", "true")
    view.locator(".mn-think summary").first.click()
    fine(notebook, view)
    clean(notebook)


@LOOKS
def test_no_state_of_the_vote_has_a_serious_violation(lab, theme: str, width: int) -> None:
    notebook = lab([SERVER, VOTE, EMPTY_VOTE], theme=theme, width=width)
    notebook.run_all()
    booth = notebook.locator(".mn-vote").first
    expect(booth.locator(".mn-ballot")).to_have_count(2)
    expect(notebook.locator(".mn-vote").nth(1)).to_contain_text("There is nothing to vote on.")
    fine(notebook, booth)
    booth.get_by_role("button", name="Answer 2 is best").click()
    expect(booth.locator(".mn-chosen")).to_have_count(1)
    booth.get_by_role("button", name="Lock").click()
    expect(booth.locator(".mn-vote-who")).to_have_count(2)
    expect(booth.locator(".mn-table tbody tr")).to_have_count(2)
    notebook.page.wait_for_timeout(300)  # the names have come in by then
    fine(notebook, booth)
    booth.get_by_role("button", name="Next").click()
    booth.get_by_role("button", name="Skip").click()
    expect(booth.locator(".mn-vote-count")).to_contain_text("1 skipped")
    booth.get_by_role("button", name="Show the result").click()
    expect(booth.get_by_role("button", name="Go on voting")).to_be_visible()
    expect(booth.locator(".mn-ballot")).to_have_count(0)
    notebook.locator(".mn-fold > summary").click()
    fine(notebook, booth)
    clean(notebook)


@LOOKS
def test_no_state_of_the_chat_has_a_serious_violation(lab, theme: str, width: int) -> None:
    notebook = lab([SERVER, CHAT], theme=theme, width=width)
    notebook.run_all()
    chat = notebook.locator(".mn-chat")
    field, states = chat.get_by_label("Message"), chat.locator(".mn-answered > .mn-head .mn-state")
    fine(notebook, chat)

    field.fill("add 1 and 2")
    field.press("Enter")
    expect(states).to_have_text(["●done", "●done"])
    chat.locator(".mn-callcard > summary").click()
    chat.locator(".mn-think > summary").first.click()
    field.fill("a long one")
    field.press("Enter")
    expect(chat.locator(".mn-answered").last).to_contain_text("word word")
    fine(notebook, chat)
    chat.get_by_role("button", name="Stop").click()
    expect(states.last).to_have_text("■stopped")
    field.fill("break off")
    field.press("Enter")
    expect(chat.locator(".mn-error")).to_be_visible()
    chat.get_by_role("button", name="Edit", exact=True).first.click()
    chat.locator("summary", has_text="System prompt").click()
    notebook.page.evaluate("navigator.clipboard.writeText = () => Promise.reject(); document.execCommand = () => false")
    chat.get_by_role("button", name="Copy as messages").click()
    expect(chat.get_by_label("The browser kept the clipboard to itself")).to_be_visible()
    notebook.locator(".mn-fold:not(.mn-system) > summary").click()
    fine(notebook, chat)
    clean(notebook)


def test_a_comparison_by_keyboard_alone_and_what_a_screen_reader_hears_of_it(lab) -> None:
    notebook = lab([SERVER, COMPARE])
    notebook.run_all()
    view, keys = notebook.locator(".mn-cv"), notebook.page.keyboard
    view.evaluate(COUNT_CHATTER)
    cells = notebook.page.locator(".jp-Notebook .jp-Cell").count()
    view.get_by_label("Prompt").focus()
    keys.press("Control+a")
    keys.type("a long one")
    keys.press("Control+Enter")
    expect(view.locator(".mn-panel").first).to_contain_text("word " * 30)
    keys.press("Tab")
    expect(view.get_by_role("button", name="Stop")).to_be_focused()
    keys.press("Enter")
    expect(view.locator(".mn-panel").nth(1)).to_contain_text("stopped")
    expect(view.get_by_role("button", name="Run this one")).to_be_focused()
    # It hears that it runs and how it ended, not each of the paints between.
    notebook.page.wait_for_function("() => window.said.some(text => text.includes('one: stopped, two: stopped'))")
    assert len(notebook.page.evaluate("window.said")) <= 3

    # On to the panel's own buttons, each of which can be reached and pressed.
    again = view.get_by_role("button", name="Ask again: one")
    for _ in range(12):
        keys.press("Tab")
        if again.evaluate("button => button === document.activeElement"):
            break
    expect(again).to_be_focused()
    keys.press("Space")
    expect(view.locator(".mn-panel").first).to_contain_text("2 of 2")
    assert notebook.page.locator(".jp-Notebook .jp-Cell").count() == cells
    clean(notebook)
