"""Every hostile payload on every surface in a real JupyterLab: nothing runs, nothing is fetched, the layout holds.

One page a surface, all payloads on it. The records and the widgets are made in the kernel, from `tests/hostile.py` and
`tests/hostile_surfaces.py`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from playwright.sync_api import expect

TESTS = Path(__file__).resolve().parents[1]
CHUNK = 45  # JupyterLab shows 50 outputs of a cell
MOST_HIGH = 6_000  # pixels of one output: names, notes and errors are shown whole, answers scroll
HIGH = {"panels": 200_000, "live html": 200_000, "profile_table": 20_000}  # with hundreds of panels, or rows

BEGIN = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
import contextlib, time
import hostile_surfaces as made
from hostile import PAYLOADS
from IPython.display import display
from mamba_nb.display.text import storable
"""
RECORDS = {
    "generation": "made.generation(payload, ['done', 'failed', 'stopped'][number % 3])",
    "comparison": "made.grid(payload)",
    "servers": "made.servers(payload)",
    "server": "made.server(payload)",
    "profiles": "made.profiles(payload)",
    "profile": "made.profiles(payload).rows[0].profile",
    "probe report": "made.probe_report(payload)",
    "doctor": "made.doctor_report(payload)",
    "agent result": "made.agent_result(payload)",
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
# What each widget's cell makes, and how many roots it shows.
WIDGETS = {
    "live html": """
from mamba_nb.display.live import HtmlView
states = [state for payload in PAYLOADS[::6] for state in made.states(payload)]
view = HtmlView(states)
view.paint()
for state in states:
    state.say("streaming")
view.paint()
view.close()
""",
    "panels": """
from mamba_nb.records import TextDelta
from mamba_nb.widgets.panels import Panels
states = [state for payload in PAYLOADS for state in made.states(payload)[::2]]
panels = Panels(states)
display(panels)
panels.start()
for payload in PAYLOADS[:40]:
    for state in states[::8]:
        if state.answer.generation is None:
            state.answer.feed(TextDelta(0.3, payload))
    time.sleep(0.02)
panels.finish()
panels.fold("", "nothing")
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
# The widgets that stand in a module of their own, which may not be there yet.
MODULES = {name: f"mamba_nb.widgets.{name.partition(',')[0]}" for name in WIDGETS if name != "live html"}

# What no payload may have brought into the page, and what it may have pushed out of its place.
LOOK = """most => {
    const wrong = [];
    const roots = [...document.querySelectorAll('.jp-Notebook .mamba-nb')];
    const banned = new Set(['script', 'iframe', 'object', 'embed', 'applet', 'img', 'image', 'svg', 'math', 'link',
        'meta', 'base', 'form', 'video', 'audio', 'source', 'template', 'frame', 'frameset', 'portal', 'marquee',
        'dialog', 'plaintext', 'xmp', 'noscript', 'mjx-container']);
    const names = {'on': /^on/i};
    for (const root of roots) {
        for (const element of root.querySelectorAll('*')) {
            const tag = element.localName;
            if (banned.has(tag)) wrong.push(`an element: ${element.outerHTML.slice(0, 200)}`);
            if (tag === 'style' && !element.textContent.trim().startsWith('.mamba-nb'))
                wrong.push(`a style sheet: ${element.textContent.slice(0, 200)}`);
            for (const attribute of element.attributes) {
                if (names.on.test(attribute.name)) wrong.push(`a handler: ${element.outerHTML.slice(0, 200)}`);
                if (['src', 'srcset', 'srcdoc', 'action', 'formaction', 'ping', 'poster', 'data', 'background']
                    .includes(attribute.name)) wrong.push(`an address: ${element.outerHTML.slice(0, 200)}`);
                if (attribute.name === 'style' && /url|expression|fixed|import/i.test(attribute.value))
                    wrong.push(`a style: ${attribute.value.slice(0, 200)}`);
            }
            const schemes = ['http:', 'https:', 'mailto:'];
            if (tag === 'a' && element.hasAttribute('href') && !schemes.includes(element.protocol))
                wrong.push(`a link: ${element.outerHTML.slice(0, 200)}`);
        }
        const box = root.getBoundingClientRect();
        // A folded copy has all of a conversation, and is opened on purpose.
        if (box.height > most && !root.closest('.mn-fold'))
            wrong.push(`${Math.round(box.height)} px high: ${root.innerText.slice(0, 100)}`);
        if (root.scrollWidth > root.clientWidth + 1)
            wrong.push(`${root.scrollWidth - root.clientWidth} px too wide: ${root.innerText.slice(0, 100)}`);
        const area = root.closest('.jp-OutputArea-output').getBoundingClientRect();
        if (box.right > area.right + 1) wrong.push(`beyond its output: ${root.innerText.slice(0, 100)}`);
    }
    if (document.documentElement.scrollWidth > innerWidth) wrong.push('the page is too wide');
    for (const outer of document.querySelectorAll('.jp-NotebookPanel-notebook .jp-WindowedPanel-outer'))
        if (outer.scrollWidth > outer.clientWidth + 1) wrong.push('the notebook is too wide');
    if (window.harmed !== undefined) wrong.push('a script ran');
    if (({}).harmed !== undefined) wrong.push('every object was changed');
    return [roots.length, [...new Set(wrong)]];
}"""


def looked_at(notebook, dialogs: list[str], least_roots: int, most_high: int = MOST_HIGH) -> None:
    """Nothing has run, been fetched or moved."""
    roots, wrong = notebook.page.evaluate(LOOK, most_high)
    assert wrong == []
    assert roots >= least_roots
    assert notebook.external == []
    assert dialogs == []
    assert notebook.errors() == []
    assert [said for said in notebook.console if "widget" not in said.lower()] == []


@pytest.fixture
def page(lab):
    """Opens a notebook, and keeps the dialogs that it shows."""
    dialogs: list[str] = []

    def start(cells: list[str]):
        notebook = lab([BEGIN, *cells], width=900)
        notebook.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        notebook.run_all(240)
        return notebook

    return start, dialogs


@pytest.mark.timeout(300)
@pytest.mark.parametrize("record", RECORDS)
def test_a_record_shows_every_payload_as_text(page, record: str) -> None:
    start, dialogs = page
    from hostile import PAYLOADS

    cells = [
        f"for number, payload in enumerate(PAYLOADS[{at} : {at + CHUNK}]):\n    display({RECORDS[record]})"
        for at in range(0, len(PAYLOADS), CHUNK)
    ]
    notebook = start([*cells, "print('the cell ' + 'after it')"])
    expect(notebook.locator(".jp-OutputArea-output", has_text="the cell after it")).to_have_count(1)
    looked_at(notebook, dialogs, len(PAYLOADS) if record != "agent result" else 0)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("widget", WIDGETS)
def test_a_widget_shows_every_payload_as_text(page, widget: str) -> None:
    if widget in MODULES and importlib.util.find_spec(MODULES[widget]) is None:
        pytest.skip(f"there is no {MODULES[widget]} yet")
    start, dialogs = page
    notebook = start([WIDGETS[widget], "print('the cell ' + 'after it')"])
    expect(notebook.locator(".jp-OutputArea-output", has_text="the cell after it")).to_have_count(1)
    notebook.page.wait_for_timeout(500)  # the last frame
    for fold in notebook.locator(".mamba-nb details:not([open]) > summary").all()[:60]:
        if fold.is_visible():
            fold.evaluate("summary => { summary.parentElement.open = true; }")
    looked_at(notebook, dialogs, 1, most_high=HIGH.get(widget, MOST_HIGH))
