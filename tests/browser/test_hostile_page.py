"""Every hostile payload on every surface in a real browser: nothing runs, nothing is fetched, the layout holds.

The records and the widgets are made from `tests/hostile.py` and `tests/hostile_surfaces.py`. Many records are on a page
with the style sheet once: a notebook would lay out all of them anew with each further one, and take minutes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile_surfaces as made
import nbconvert
import pytest
from hostile import HOST, PAYLOADS
from playwright.sync_api import expect

from mamba_nb.display import style
from mamba_nb.widgets.panels import Panels

TESTS = Path(__file__).resolve().parents[1]
MOST_HIGH = 2_500  # pixels of one output: what is long scrolls in its box
# Of a widget: it shows many panels, turns or rows.
WIDGET_HIGH = {"chat, given": 200_000, "chat, tools": 60_000, "profile_table": 20_000}

BEGIN = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
import contextlib, time
import hostile_surfaces as made
from hostile import PAYLOADS
from IPython.display import display
from mamba_nb.display.text import storable

def show(make, payloads):
    pages = [made.html_of(make(payload)) for payload in payloads]
    sheet = pages[0][pages[0].index("<style>") : pages[0].index("</style>") + len("</style>")]
    display({{"text/html": sheet + "".join(page.replace(sheet, "") for page in pages), "text/plain": ""}}, raw=True)
"""
RECORDS = {
    **{
        f"generation, {status}": f"lambda payload: made.generation(payload, {status!r})"
        for status in ("done", "failed")
    },
    "comparison": "made.grid",
    "agent comparison": "made.agent_grid",
    "servers": "made.servers",
    "server": "made.server",
    "profiles": "made.profiles",
    "profile": "lambda payload: made.profiles(payload).rows[0].profile",
    "probe report": "made.probe_report",
    "doctor": "made.doctor_report",
    "agent result": "made.agent_result",
    "agent result, failed": "lambda payload: made.agent_result(payload, 'failed')",
    "agent conversation": "made.conversation",
    "live panels": "made.LivePanels",
}
CHAT = """
from mamba_nb import Agent, OpenAICompatibleBackend
from mamba_nb.testing import Script, ScriptedServer
from mamba_nb.widgets.chat import ChatView

def number_in(request):
    said = [m for m in request.body["messages"] if m["role"] == "user"][-1]["content"]
    return int(str(said).split()[-1])

def quietly(chat, text):
    with contextlib.suppress(Exception):
        chat.send(text).result(60)
    while chat.state["running"]:
        time.sleep(0.01)

some = [p for p in PAYLOADS if p == storable(p)]
"""
# What each widget's cells make.
WIDGETS = {
    "panels": """
from mamba_nb.display.live import HtmlView
from mamba_nb.records import TextDelta
from mamba_nb.widgets.panels import Panels
states = [state for payload in PAYLOADS[::16] for state in made.states(payload)]
view = HtmlView(states)
view.paint()
panels = Panels(states[::2])
display(panels)
panels.start()
for number, payload in enumerate(PAYLOADS[::8]):
    for state in states:
        if state.answer.generation is None:
            state.answer.feed(TextDelta(0.3 + number, payload))
    view.paint()
    time.sleep(0.02)
panels.finish()
view.close()
""",
    "chat, given": CHAT
    + """
said = []
for payload in PAYLOADS:
    call = {"id": "c", "type": "function", "function": {"name": payload, "arguments": payload}}
    said += [{"role": "user", "content": payload}, {"role": "assistant", "content": payload, "tool_calls": [call]},
             {"role": "tool", "tool_call_id": "c", "content": payload}, {"role": "assistant", "content": payload}]
backend = OpenAICompatibleBackend("<img src=x onerror=window.harmed=1>" * 3, "http://127.0.0.1:9/v1", server="vllm")
backend.declared = {}
chat = ChatView(backend, messages=said, system=PAYLOADS[0])
display(chat)
""",
    "chat, streamed": CHAT
    + """
def script(request):
    payload = some[number_in(request)]
    half = len(payload) // 2
    return Script(text=(payload[:half], payload[half:], "\\n\\n", payload), reasoning=payload or "x", itl_s=0.02,
                  model_in_reply=payload)

server = ScriptedServer(script, style="vllm").start()
chat = ChatView(OpenAICompatibleBackend("m", server.base_url, max_retries=0))
display(chat)
for number in range(0, len(some), 5):
    quietly(chat, f"{some[number]} {number}")
""",
    "chat, errors": CHAT
    + """
def script(request):
    payload = some[number_in(request)]
    return Script(status=400, error_body={"error": {"message": payload, "type": payload, "code": payload}})

server = ScriptedServer(script, style="vllm").start()
chat = ChatView(OpenAICompatibleBackend("m", server.base_url, max_retries=0))
display(chat)
for number in range(0, len(some), 5):
    quietly(chat, str(number))
""",
    "chat, tools": CHAT
    + """
def say(text: str) -> str:
    '''Say it again.'''
    return text

def script(request):
    if any(message["role"] == "tool" for message in request.body["messages"]):
        return Script(text="done")
    return Script(tool_calls=[{"name": "say", "arguments": {"text": payload}} for payload in some])

server = ScriptedServer(script, style="vllm").start()
chat = ChatView(Agent(OpenAICompatibleBackend("m", server.base_url, max_retries=0), tools=[say]))
display(chat)
quietly(chat, "go")
""",
    "vote": """
from mamba_nb.widgets.vote import VoteView
for start in range(0, len(PAYLOADS), 12):
    joined = "\\n\\n".join(PAYLOADS[start : start + 12])
    view = VoteView(made.grid(joined), path=False, seed=start)
    display(view)
    with contextlib.suppress(Exception):
        view._take(None, {"do": "choose", "at": view.state.get("turn"), "choice": 1}, [])
        view._take(None, {"do": "lock", "at": view.state.get("turn")}, [])
""",
    "profile_table": """
from mamba_nb.widgets.profile_table import ProfileTable
table = ProfileTable([made.profiles(payload).rows[0].profile for payload in PAYLOADS])
display(table)
""",
    "picker": """
from mamba_nb.testing import ScriptedServer
from mamba_nb.widgets.picker import BackendPicker
names = [payload for payload in PAYLOADS if payload == storable(payload) and payload.strip()]
server = ScriptedServer(style="vllm", models=names).start()
picker = BackendPicker(hosts=[], urls=[server.base_url])
display(picker)
""",
    "compare_view": """
from mamba_nb import OpenAICompatibleBackend
from mamba_nb.testing import Script, ScriptedServer
from mamba_nb.widgets.compare_view import CompareView
some = [payload for payload in PAYLOADS if payload == storable(payload) and payload.strip()]
places = range(0, len(some), len(some) // 6 + 1)
scripts = {some[at]: Script(text="\\n\\n".join(some[at : at + 40]), reasoning=some[at], itl_s=0.01) for at in places}
server = ScriptedServer(scripts=scripts, style="vllm").start()
view = CompareView([OpenAICompatibleBackend(name, server.base_url) for name in scripts], [some[3], some[60]])
display(view)
view._take(None, {"do": "run", "prompt": some[3], "all": True}, [])
deadline = time.monotonic() + 60
while len(view.comparison.cells) < 12 and time.monotonic() < deadline:
    time.sleep(0.1)
""",
}
RENDER = """async ([script, states]) => {
    const at = URL.createObjectURL(new Blob([script], { type: 'text/javascript' }));
    const { default: widget } = await import(at);
    const none = () => {};
    for (const state of states) {
        const model = { get: name => (name === 'state' ? state : undefined),
            on: none, off: none, send: none, set: none, save_changes: none };
        const el = document.body.appendChild(document.createElement('div'));
        await widget.initialize?.({ model });
        await widget.render({ model, el });
    }
    await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
}"""
# The rest of the plain outputs: all payloads in one of them.
WHOLE = """
from dataclasses import replace
grids = [made.grid(payload) for payload in PAYLOADS]
cells = tuple(replace(grid.cells[0], label=payload, prompt_id=0) for payload, grid in zip(PAYLOADS, grids))
whole = replace(grids[0], cells=cells, labels=PAYLOADS, planned=len(cells), notes=())
display(whole.to_frame(), whole.summary(), whole.to_wide())
display(made.ProfileComparison(rows=tuple(made.profiles(payload).rows[0] for payload in PAYLOADS)).style())
display(whole.plot())
"""

# What no payload may have brought into the page, and what it may have pushed out of its place.
LOOK = """most => {
    const wrong = [];
    const roots = [...document.querySelectorAll('.mamba-nb')];
    const banned = new Set(['script', 'iframe', 'object', 'embed', 'applet', 'img', 'image', 'svg', 'math', 'link',
        'meta', 'base', 'form', 'video', 'audio', 'source', 'template', 'frame', 'frameset', 'portal', 'marquee',
        'dialog', 'plaintext', 'xmp', 'noscript', 'mjx-container']);
    const addresses = new Set(['src', 'srcset', 'srcdoc', 'action', 'formaction', 'ping', 'poster', 'data',
        'background']);
    const cells = [...document.querySelectorAll('.jp-Cell')];
    const say = (root, what) => wrong.push(`cell ${cells.indexOf(root.closest('.jp-Cell'))}: ${what}`);
    for (const root of roots) {
        const begins = root.innerText.slice(0, 100);
        for (const element of root.querySelectorAll('*')) {
            const tag = element.localName, outer = () => element.outerHTML.slice(0, 200);
            if (banned.has(tag)) say(root, `an element: ${outer()}`);
            if (tag === 'style' && !element.textContent.startsWith('.mamba-nb')) say(root, `a sheet: ${outer()}`);
            for (const attribute of element.attributes) {
                if (/^on/i.test(attribute.name)) say(root, `a handler: ${outer()}`);
                if (addresses.has(attribute.name)) say(root, `an address: ${outer()}`);
                if (attribute.name === 'style' && /url|expression|fixed|import/i.test(attribute.value))
                    say(root, `a style: ${outer()}`);
            }
            const schemes = ['http:', 'https:', 'mailto:'];
            if (tag === 'a' && element.hasAttribute('href') && !schemes.includes(element.protocol))
                say(root, `a link: ${outer()}`);
        }
        const box = root.getBoundingClientRect();
        // A folded copy has all of a conversation, and is opened on purpose.
        const parts = selector => root.querySelectorAll(selector).length;
        const high = most * Math.max(1, parts('.mn-turn'), parts('tbody tr') / 15, parts('.mn-panel') / 2);
        if (box.height > high && !root.closest('.mn-fold')) say(root, `${Math.round(box.height)} px high: ${begins}`);
        if (root.scrollWidth > root.clientWidth + 1)
            say(root, `${root.scrollWidth - root.clientWidth} px too wide: ${begins}`);
        const area = root.closest('.jp-OutputArea-output')?.getBoundingClientRect();
        const scrolls = root.localName === 'table';  // a Styler is a table alone, and its output scrolls
        if (area && !scrolls && box.right > area.right + 1) say(root, `beyond its output: ${begins}`);
    }
    if (document.documentElement.scrollWidth > innerWidth) wrong.push('the page is too wide');
    for (const outer of document.querySelectorAll('.jp-NotebookPanel-notebook .jp-WindowedPanel-outer'))
        if (outer.scrollWidth > outer.clientWidth + 1) wrong.push('the notebook is too wide');
    if (window.harmed !== undefined) wrong.push('a script ran');
    if (({}).harmed !== undefined) wrong.push('every object was changed');
    return [roots.length, [...new Set(wrong)]];
}"""
OPEN = "() => document.querySelectorAll('.mamba-nb details').forEach(fold => { fold.open = true; })"


def looked_at(notebook, least_roots: int, most_high: int = MOST_HIGH) -> None:
    """Nothing has run, been fetched or moved."""
    roots, wrong = notebook.page.evaluate(LOOK, most_high)
    assert wrong == []
    assert roots >= least_roots
    assert notebook.external == []
    assert notebook.dialogs == []
    assert notebook.errors() == []
    assert [said for said in notebook.console if "widget" not in said.lower()] == []


@pytest.fixture
def opened(lab):
    """Opens a notebook, runs it, and keeps the dialogs that it shows."""

    def start(cells: list[str]):
        notebook = lab([BEGIN, *cells, "print('the cell ' + 'after it')"], width=900)
        notebook.dialogs = []
        notebook.page.on("dialog", lambda dialog: (notebook.dialogs.append(dialog.message), dialog.dismiss()))
        notebook.run_all(240)
        expect(notebook.locator(".jp-OutputArea-output", has_text="the cell after it")).to_have_count(1)
        return notebook

    return start


def alone(browser, html: str) -> tuple[Any, list[str]]:
    """A page of nothing but this HTML, and the addresses that it asked for."""
    page = browser.new_page(viewport={"width": 900, "height": 900})
    asked: list[str] = []
    page.route("**/*", lambda route: (asked.append(route.request.url), route.abort())[1])
    page.set_content(html, wait_until="domcontentloaded")
    return page, asked


@pytest.mark.timeout(200)
def test_a_record_shows_every_payload_as_text(browser) -> None:
    sheet = f"<style>{style.css()}</style>"
    for name, make in RECORDS.items():
        pages = [made.html_of(eval(make, {"made": made})(payload)) for payload in PAYLOADS]
        page, asked = alone(browser, sheet + "".join(each.replace(sheet, "") for each in pages))
        for most_high in (MOST_HIGH, 2 * MOST_HIGH):  # as it comes, and with every fold open
            roots, wrong = page.evaluate(LOOK, most_high)
            assert (name, roots, wrong, asked) == (name, len(PAYLOADS), [], [])
            page.evaluate(OPEN)
        page.close()


@pytest.mark.timeout(200)
def test_the_records_in_a_notebook_and_in_its_export(opened, browser) -> None:
    """Each payload in one of the outputs, in the front end's own style and with its own scripts around it."""
    step = len(RECORDS)
    cells = [f"show({make}, PAYLOADS[{place}::{step}])" for place, make in enumerate(RECORDS.values())]
    notebook = opened([*cells, WHOLE])
    looked_at(notebook, len(PAYLOADS))
    notebook.page.evaluate(OPEN)
    looked_at(notebook, len(PAYLOADS), most_high=2 * MOST_HIGH)

    # nbconvert's page brings scripts of its own from elsewhere; no payload may bring any.
    saved, _ = nbconvert.HTMLExporter().from_notebook_node(notebook.save())
    page, asked = alone(browser, saved)
    roots, wrong = page.evaluate(LOOK, MOST_HIGH)
    page.close()
    assert wrong == [] and roots >= len(PAYLOADS)
    assert not [url for url in asked if HOST in url]


@pytest.mark.timeout(200)
def test_panels_show_every_payload_as_text(browser) -> None:
    """The script of the streaming panels, with the state that the kernel made of each payload, in a page of its own."""
    states = [dict(made.surfaces_of(payload, "panels widget"))["state"] for payload in PAYLOADS]
    page, asked = alone(browser, f"<style>{Panels._css}</style>")
    page.evaluate(RENDER, [Panels._esm, states])
    for most_high in (MOST_HIGH, 2 * MOST_HIGH):
        roots, wrong = page.evaluate(LOOK, most_high)
        assert (roots, wrong, asked) == (len(PAYLOADS), [], [])
        page.evaluate(OPEN)
    page.close()


@pytest.mark.timeout(200)
@pytest.mark.parametrize("widget", WIDGETS)
def test_a_widget_shows_every_payload_as_text(opened, widget: str) -> None:
    notebook = opened([WIDGETS[widget]])
    notebook.page.wait_for_timeout(500)  # the last frame
    notebook.page.evaluate(OPEN)
    looked_at(notebook, 1, most_high=WIDGET_HIGH.get(widget, 6_000))
