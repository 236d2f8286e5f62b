"""An agent's result in a real JupyterLab: the answer, the steps, the cards; legible in both themes, narrow and wide."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

SETUP = """
from typing import Any
from pydantic import BaseModel
from pydantic_ai import ModelRetry
import mamba_nb as mb
from mamba_nb import Agent
from mamba_nb.backends import OpenAICompatibleBackend
from mamba_nb.testing import Script, ScriptedServer

server = ScriptedServer(style="vllm", models=("qwen3-8b-instruct",)).start()
backend = OpenAICompatibleBackend("qwen3-8b-instruct", server.base_url, server="vllm")

def get_weather(city: str, days: int = 1) -> dict[str, Any]:
    "The weather in a city."
    return {"city": city, "days": days, "sky": "rain", "wind": "12 km/h <img src=x onerror='window.harmed = 1'>"}

def book_table(place: str) -> str:
    "Book a table."
    raise ModelRetry("That place is closed.")

def call(name, /, **arguments):
    return {"name": name, "arguments": arguments}

class City(BaseModel):
    name: str
    people: int
    rivers: list[str]
"""
RESULT = """
server.enqueue(
    Script(
        reasoning="The user asks about Paris. I should look the weather up, and book a table.",
        text="Let me look that up.",
        tool_calls=[call("get_weather", city="Paris", days=3), call("book_table", place="Chez Paul")],
        prompt_tokens=1204, completion_tokens=61,
    ),
    Script(
        text="**Take an umbrella.** It rains for three days:\\n\\n- Monday: rain\\n- Tuesday: rain\\n\\n"
             "`Chez Paul` is closed. <img src=x onerror='window.harmed = 2'>",
        prompt_tokens=1392, completion_tokens=44,
    ),
)
Agent(backend, tools=[get_weather, book_table]).run_sync("Do I need an umbrella in Paris?")
"""
CITY = """
server.enqueue(Script(text='{"name": "Paris", "people": "many", "rivers": []}'),
               Script(text='{"name": "Paris", "people": 2102650, "rivers": ["Seine"]}'))
Agent(backend, output_type=City).run_sync("Paris")
"""
FAILED = """
server.enqueue(Script(tool_calls=[call("get_weather", city="Paris")]),
               Script(tool_calls=[call("get_weather", city="Rome")]))
run = Agent(backend, tools=[get_weather]).run("Go", max_steps=2)
try:
    run.result()
except mb.MambaError:
    pass
run.partial
"""
TALK = """
talk = Agent(backend).conversation()
server.enqueue(Script(text="Yes, take one."), Script(text="Tomorrow is dry."))
talk.ask("Do I need an umbrella in Paris?")
talk.ask("And tomorrow?")
talk
"""
GRID = """
def plays(request):
    if any(message["role"] == "tool" for message in request.body["messages"]):
        return Script(text="It rains.", prompt_tokens=90, completion_tokens=4)
    if request.body.get("tools"):
        return Script(tool_calls=[call("get_weather", city="Paris")], prompt_tokens=60, completion_tokens=12)
    return Script(text="ok")

server.script = plays
mb.compare([mb.variant(backend, temperature=0), mb.variant(backend, temperature=1)], ["Umbrella?", "Say hi."],
           agent=lambda backend: Agent(backend, tools=[get_weather]), live=False,
           expect=[("get_weather", {"city": "Paris"}), []])
"""
CELLS = [SETUP, RESULT, CITY, FAILED, TALK, GRID]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [600, 1200])
def test_results_are_legible_and_their_cards_open(lab, tmp_path: Path, theme: str, width: int) -> None:
    notebook = lab(CELLS, theme=theme, width=width)
    notebook.run_all()
    assert notebook.errors() == []

    runs = notebook.locator(".mn-run")
    expect(runs).to_have_count(5)
    first = runs.nth(0)
    expect(first.locator(".mn-run-answer strong")).to_have_text("Take an umbrella.")
    expect(first.locator(".mn-step-head b")).to_have_text(["Step 1", "Step 2"])
    expect(first.locator(".mn-card")).to_have_count(2)
    expect(runs.nth(1).locator(".mn-members dt").first).to_have_text("name")
    expect(runs.nth(1)).to_contain_text("Sent back: people")
    expect(runs.nth(2)).to_contain_text("made 2 requests and came to no answer")
    expect(notebook.locator(".mn-asked pre")).to_have_text(["Do I need an umbrella in Paris?", "And tomorrow?"])
    expect(notebook.locator(".mn-agents tbody tr")).to_have_count(2)

    # Nothing is wider than its panel, and the title of a card keeps to its line's start.
    for place in range(3):
        assert runs.nth(place).evaluate("e => e.scrollWidth <= e.clientWidth + 1")
    # A card is opened and closed with the keyboard.
    card = first.locator(".mn-card").nth(1)
    summary = card.locator("summary")
    was_open = card.evaluate("e => e.open")
    summary.focus()
    summary.press("Enter")
    assert card.evaluate("e => e.open") is not was_open
    summary.press("Enter")
    notebook.picture(tmp_path / f"agent-{theme}-{width}.png")
    assert notebook.page.evaluate("window.harmed") is None
    assert notebook.external == [] and notebook.console == []


def test_the_thinking_is_folded_and_a_saved_notebook_shows_the_same(lab) -> None:
    notebook = lab([SETUP, RESULT])
    notebook.run_all()
    thinking = notebook.locator(".mn-run .mn-think")
    expect(thinking.locator("pre")).to_be_hidden()
    thinking.locator("summary").click()
    expect(thinking.locator("pre")).to_contain_text("book a table")
    saved = notebook.save().cells[1].outputs[0]
    assert "mn-run" in saved["data"]["text/html"] and "step 1: get_weather(" in saved["data"]["text/plain"]
    notebook.page.reload(wait_until="load")
    expect(notebook.locator(".mn-run .mn-card")).to_have_count(2)
