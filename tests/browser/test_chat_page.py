"""The chat in a real JupyterLab: typing, Stop, errors, editing, a second view, a reload, the saved notebook."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

KEY = "sk-0123456789abcdef"

# Answers by what is asked: a long one, one that breaks off once, calls of a tool, else Markdown.
CELL = f"""
import time
from mamba_nb import Agent, OpenAICompatibleBackend
from mamba_nb.testing import Script, ScriptedServer, words
from mamba_nb.widgets.chat import ChatView

broken = []

def script(request):
    last = request.body["messages"][-1]
    said = str(last["content"])
    if last["role"] == "tool":
        return Script(text="The sum is **3**.")
    if "add" in said:
        call = {{"name": "add", "arguments": {{"a": 1, "b": 2}}}}
        return Script(text="I add.", reasoning="They want a sum.", tool_calls=[call])
    if "long" in said:
        return Script(text=words(20000), itl_s=0.02)
    if "break" in said and not broken:
        broken.append(1)
        return Script(text="half of this never comes", fault="cut", fault_after=2)
    return Script(text=f"You said **{{said}}**.", reasoning="Let me see.", prompt_tokens=100)

def add(a: int, b: int) -> int:
    '''Add two numbers.'''
    return a + b

server = ScriptedServer(script, style="ollama", models=["qwen3:8b"], context_length=4096).start()
backend = OpenAICompatibleBackend("qwen3:8b", server.base_url, max_retries=0, api_key={KEY!r})
chat = ChatView(backend, system="Be brief.")
chat
"""
AGENT = "agent_chat = ChatView(Agent(backend, tools=[add]))\nagent_chat"


def ask(chat: Locator, text: str) -> None:
    field = chat.get_by_label("Message")
    field.fill(text)
    field.press("Enter")


def states(chat: Locator) -> Locator:
    return chat.locator(".mn-answered > .mn-head .mn-state")


def test_a_conversation_by_keyboard(lab) -> None:
    notebook = lab([CELL, "print('cell after it')"])
    notebook.run_all()
    chat = notebook.locator(".mn-chat")
    expect(chat).to_contain_text("Nothing asked yet.")
    field = chat.get_by_label("Message")

    # Shift+Enter breaks the line; Enter sends, and the field is empty and still has the focus.
    field.click()
    field.press_sequentially("one")
    field.press("Shift+Enter")
    field.press_sequentially("two")
    expect(field).to_have_value("one\ntwo")
    field.press("Enter")
    expect(chat.locator(".mn-answered strong")).to_have_text("one two")
    expect(states(chat)).to_have_text(["●done"])
    expect(field).to_have_value("")
    expect(field).to_be_focused()
    expect(chat.locator(".mn-used")).to_have_text("context 107 of 4,096 tokens")
    expect(chat.locator(".mn-think pre")).to_be_hidden()
    assert notebook.locator(".jp-OutputArea-output", has_text="cell after it").count() == 1

    # Up in the empty field edits the last question; Escape leaves it.
    field.press("ArrowUp")
    expect(field).to_have_value("one\ntwo")
    expect(chat).to_contain_text("Editing question 1")
    field.press("Escape")
    expect(field).to_have_value("")

    # Escape stops.
    ask(chat, "a long one")
    expect(chat.locator(".mn-answered").nth(1)).to_contain_text("word5")
    expect(chat.get_by_role("button", name="Stop")).to_be_visible()
    field.press("Escape")
    expect(states(chat)).to_have_text(["●done", "■stopped"])
    expect(chat.get_by_role("button", name="Send")).to_be_visible()
    # Nothing of it was taken for one of the notebook's own keys.
    assert notebook.page.evaluate("window.jupyterapp.shell.currentWidget.content.widgets.length") == 2
    assert notebook.console == []
    assert notebook.external == []


def test_stop_error_retry_edit_and_undo_by_mouse(lab) -> None:
    notebook = lab([CELL])
    notebook.run_all()
    chat = notebook.locator(".mn-chat")
    field = chat.get_by_label("Message")

    ask(chat, "a long one")
    expect(chat.locator(".mn-answered")).to_contain_text("word5")
    chat.get_by_role("button", name="Stop").click()
    expect(states(chat)).to_have_text(["■stopped"])

    ask(chat, "break off")
    failure = chat.locator(".mn-error")
    expect(failure).to_contain_text("closed the stream before the answer was finished")
    chat.get_by_role("button", name="Retry").click()
    expect(failure).to_have_count(0)
    expect(chat.locator(".mn-answered").nth(1)).to_contain_text("You said break off.")

    chat.get_by_role("button", name="Edit", exact=True).first.click()
    expect(chat).to_contain_text("Editing question 1 of 2. Sending it takes away what came after it.")
    field.fill("short")
    chat.get_by_role("button", name="Send").click()
    expect(chat.locator(".mn-answered")).to_have_count(1)
    expect(chat.locator(".mn-answered")).to_contain_text("You said short.")
    chat.get_by_role("button", name="Undo").click()
    expect(chat.locator(".mn-answered")).to_have_count(2)
    expect(chat.locator(".mn-answered").nth(1)).to_contain_text("You said break off.")
    chat.get_by_role("button", name="Start over").click()
    expect(chat).to_contain_text("Nothing asked yet.")
    chat.get_by_role("button", name="Undo").click()
    expect(chat.locator(".mn-answered")).to_have_count(2)
    assert notebook.console == []


def test_an_agents_calls_are_cards_between_its_steps(lab) -> None:
    notebook = lab([CELL, AGENT])
    notebook.run_all()
    chat = notebook.locator(".mn-chat").nth(1)
    expect(chat).to_contain_text("agent with add")
    ask(chat, "add 1 and 2")
    expect(states(chat)).to_have_text(["●done", "●done"])
    card = chat.locator(".mn-answered").nth(0).locator(".mn-callcard")
    expect(card).to_contain_text("calls add ● returned")
    expect(card.locator("pre").first).to_be_hidden()
    card.locator("summary").focus()
    notebook.page.keyboard.press("Enter")
    expect(card.locator("pre")).to_have_text(['{\n  "a": 1,\n  "b": 2\n}', "3"])
    expect(chat.locator(".mn-answered").nth(1)).to_contain_text("The sum is 3.")
    assert notebook.console == []


def test_every_view_shows_the_same_also_after_a_reload_in_mid_answer(lab) -> None:
    notebook = lab([CELL, "chat"])
    notebook.run_all()
    first, second = (notebook.locator(".mn-chat").nth(place) for place in (0, 1))
    second.locator("summary", has_text="System prompt").click()
    second.locator(".mn-system textarea").fill("Be loud.")
    ask(second, "hello")
    expect(first.locator(".mn-answered")).to_contain_text("You said hello.")
    expect(first.locator(".mn-system summary")).to_contain_text("Be loud.")
    assert first.locator(".mn-log").inner_text() == second.locator(".mn-log").inner_text()

    ask(first, "a long one")
    expect(second.locator(".mn-answered").nth(1)).to_contain_text("word5")
    notebook.save()
    notebook.page.reload()
    long = notebook.locator(".mn-chat").first.locator(".mn-answered").nth(1)
    expect(long).to_contain_text("word200")
    text = long.locator(".mn-tail, .mn-md").all_inner_texts()
    said = "".join(text).split()
    assert said == [f"word{number}" for number in range(len(said))]
    notebook.locator(".mn-chat").first.get_by_role("button", name="Stop").click()
    expect(states(notebook.locator(".mn-chat").nth(1)).nth(1)).to_have_text("■stopped")
    assert notebook.external == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_is_copied_and_what_a_saved_notebook_has(lab, tmp_path: Path, theme: str) -> None:
    notebook = lab([CELL, AGENT, "import json\nprint('said ' + json.dumps(chat.messages))"], theme=theme, width=600)
    page = notebook.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    notebook.run_all()
    chat = notebook.locator(".mn-chat").first
    ask(chat, "hello")
    expect(states(chat)).to_have_text(["●done"])

    chat.get_by_role("button", name="Copy as messages").click()
    expect(chat).to_contain_text("Copied as messages.")
    assert json.loads(page.evaluate("navigator.clipboard.readText()")) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "You said **hello**."},
    ]
    chat.get_by_role("button", name="Copy as code").click()
    expect(chat).to_contain_text("Copied as code.")
    code = page.evaluate("navigator.clipboard.readText()")
    assert "for question in ['hello']:" in code
    assert KEY not in code
    chat.get_by_role("button", name="Copy", exact=True).click()
    expect(chat).to_contain_text("Copied the answer.")
    assert page.evaluate("navigator.clipboard.readText()") == "You said **hello**."

    # Where the browser keeps the clipboard to itself, the text can be copied by hand.
    page.evaluate("navigator.clipboard.writeText = () => Promise.reject(); document.execCommand = () => false")
    chat.get_by_role("button", name="Copy as messages").click()
    expect(chat.get_by_label("The browser kept the clipboard to itself: copy it from here")).to_have_value(
        page.evaluate("navigator.clipboard.readText()")
        and json.dumps(
            [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "hello"},
                {"role": "assistant", "content": "You said **hello**."},
            ],
            indent=2,
        )
    )
    expect(chat).not_to_contain_text("Copied the answer.")
    notebook.picture(tmp_path / f"chat-{theme}.png")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")

    saved = notebook.save()
    assert KEY not in json.dumps({**saved, "cells": [{**cell, "source": ""} for cell in saved.cells]})
    copy = saved.cells[0].outputs[-1].data["text/html"]
    for words in ("hello", "You said **hello**.", "Be brief.", "plain HTML"):
        assert words in copy
    assert notebook.console == []
    assert notebook.external == []
