"""One notebook with every widget in it, the servers that its models are on, and one action for each widget."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, expect

from mamba_nb.testing import Script, ScriptedServer

# Keys of nobody: one is typed into the picker, one given in code, one stands in the environment. None is in a cell.
TYPED, GIVEN, ENVIRONMENT = "sk-typed-5f1c90", "sk-given-77ab3e", "sk-environment-c3d2"
KEYS = (TYPED, GIVEN, ENVIRONMENT)
QUESTION = "Why is the sky blue?"
LONG = "Tell me a long story."

SETUP = """
import os
from pathlib import Path

given, environment = Path({keys!r}).read_text().split()
os.environ["MAMBA_MODEL_BACKEND__API_KEY"] = environment
os.environ["MAMBA_MODEL_BACKEND__BASE_URL"] = {url!r}

import mamba_nb as mb
models = [mb.create_vllm_backend(name, base_url={url!r}, api_key=given) for name in ("one", "two")]
"""
CELLS = {
    "picker": "picker = mb.BackendPicker(hosts=[], urls=[{locked!r}])\npicker",
    "table": 'table = mb.ProfileTable(["gpt-4o", models[0]])\ntable',
    "view": "view = mb.CompareView(models)\nview",
    "panels": 'live = mb.compare(models, "Why is the sky blue?", live="widget")',
    "plain": 'grid = mb.compare(models, ["Why is the sky blue?", "Why is grass green?"])\ngrid',
    "vote": "vote = mb.VoteView(grid)\nvote",
    "chat": 'chat = mb.ChatView(models[0], system="Be brief.")\nchat',
    "magics": "%load_ext mamba_nb",
    "ask": "%%ask one -o answer\nWhy is the sky blue?",
    "saved": 'grid.save("workbench.jsonl")\nlen(grid)',
}
WIDGETS = {
    "picker": ".mn-picker",
    "table": ".mn-widget:has(.mn-add)",
    "view": ".mn-cv",
    "vote": ".mn-vote",
    "chat": ".mn-chat",
}
PANELS = ".mn-widget:not(.mn-cv, .mn-vote, .mn-picker, .mn-chat) > .mn-grid > .mn-panel"  # of the blocking cell


def answer(request: Any) -> Script:
    """What both models say: in no time, but for the question that takes minutes."""
    if request.prompt == LONG:
        return Script(text="word " * 5_000, itl_s=0.05)
    return Script(text=f"**{request.model}** says that light is scattered.", reasoning="Let me think.")


def answered(inside: Any) -> None:
    """All widgets are there, and the panels of the blocking cell have their answers."""
    for selector in WIDGETS.values():
        expect(inside.locator(selector)).to_have_count(1)
        expect(inside.locator(selector)).to_be_visible()
    expect(inside.locator(f"{PANELS} strong")).to_have_text(["one", "two"])
    expect(inside.locator(".mn-cv .mn-panel")).to_have_count(2)


@dataclass
class Servers:
    """Where the models are.

    Attributes:
        open: Two models that answer whoever asks.
        locked: One model behind the key `TYPED`.
        keys: The file with the keys that the notebook reads.
    """

    open: ScriptedServer
    locked: ScriptedServer
    keys: Path

    def cells(self, *names: str) -> list[str]:
        """The notebook's cells: the first sets up, then the named ones; all where none is named."""
        places = {"url": self.open.base_url, "locked": self.locked.base_url, "keys": str(self.keys)}
        return [SETUP.format(**places), *(CELLS[name].format(**places) for name in names or CELLS)]

    def keys_sent(self) -> set[str]:
        """The keys that have come with a question."""
        chats = [*self.open.chats, *self.locked.chats]
        return {request.headers.get("authorization", "").removeprefix("Bearer ") for request in chats}


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Servers]:
    """The servers, for as long as the block lasts."""
    keys = folder / "keys"
    keys.write_text(f"{GIVEN}\n{ENVIRONMENT}\n")
    with (
        ScriptedServer(answer, style="vllm", models=["one", "two"]) as open_to_all,
        ScriptedServer(answer, style="vllm", models=["locked-model"], api_key=TYPED) as locked,
    ):
        yield Servers(open_to_all, locked, keys)


# One action for each widget. `inside` is a page, or the notebook in it.


def button(inside: Any, name: str) -> Locator:
    """A button by its whole name."""
    return inside.get_by_role("button", name=name, exact=True)


def unlock(inside: Any) -> None:
    """Give the picker the key that its server asks for."""
    picker = inside.locator(".mn-picker").first
    field = picker.get_by_label("Key for 127.0.0.1")
    expect(picker.locator(".mn-status")).to_contain_text("looked at in")
    if field.count() == 0:  # it looks for a second or so, which is little on a busy machine
        button(picker, "Refresh").click()
    field.fill(TYPED)
    button(picker, "Give key").click()
    expect(picker).to_contain_text("key given")


def pick(inside: Any) -> None:
    """Choose the picker's model, and test it."""
    picker = inside.locator(".mn-picker").first
    name = picker.get_by_label("Model", exact=True)
    name.click()
    name.fill("locked")
    name.press("Enter")
    button(picker, "Test").click()
    expect(picker.locator(".mn-panel")).to_contain_text("done")
    expect(picker.locator(".mn-panel strong")).to_have_text("locked-model")


def add_profile(inside: Any, name: str) -> None:
    """Add a model to the table."""
    table = inside.locator(WIDGETS["table"]).first
    field = table.locator(".mn-add input")
    field.fill(name)
    field.press("Enter")
    expect(table.locator("tbody th", has_text=name)).to_have_count(1)


def run_view(inside: Any, prompt: str = QUESTION) -> None:
    """Ask all models of the CompareView."""
    view = inside.locator(".mn-cv").first
    view.get_by_label("Prompt").fill(prompt)
    button(view, "Run").click()
    for place, name in enumerate(("one", "two")):
        panel = view.locator(".mn-panel").nth(place)
        expect(panel).to_contain_text("done")
        expect(panel.locator("strong")).to_have_text(name)


def stop_view(inside: Any) -> None:
    """Ask for something long, and stop it in the middle."""
    view = inside.locator(".mn-cv").first
    view.get_by_label("Prompt").fill(LONG)
    button(view, "Run").click()
    panels = view.locator(".mn-panel")
    expect(panels.nth(0)).to_contain_text("word word")
    expect(panels.nth(1)).to_contain_text("word word")
    button(view, "Stop").click()
    expect(panels.nth(0)).to_contain_text("stopped")
    expect(panels.nth(1)).to_contain_text("stopped")


def vote(inside: Any) -> None:
    """Vote on the open item, and see who it was."""
    booth = inside.locator(".mn-vote").first
    expect(booth.locator(".mn-ballot")).to_have_count(2)
    booth.locator(".mn-ballot .mn-head").first.click()
    keys = booth.page.keyboard
    keys.press("1")
    expect(booth.locator(".mn-ballot").first).to_contain_text("chosen")
    keys.press("Enter")
    expect(booth.locator(".mn-vote-who")).to_have_count(2)
    keys.press("Enter")
    expect(booth.locator(".mn-vote-who")).to_have_count(0)


def say(inside: Any, text: str) -> None:
    """Put a question to the chat."""
    chat = inside.locator(".mn-chat").first
    before = chat.locator(".mn-answered").count()
    chat.get_by_label("Message").fill(text)
    chat.get_by_label("Message").press("Enter")
    expect(chat.locator(".mn-answered")).to_have_count(before + 1)
    expect(chat.locator(".mn-answered").last.locator("strong")).to_have_text("one")
    expect(button(chat, "Send")).to_be_visible()
