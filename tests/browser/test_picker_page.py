"""The picker in a real JupyterLab: the list, the key, the test, the code, and what a saved notebook keeps."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect

from mamba_nb.testing import Script, ScriptedServer, closed_port

KEY = "sk-a-key-of-nobody-4711"
HOSTILE = """<img src=x onerror="window.harmed = 1"><script>window.harmed = 2</script>\u202e"""
KERNEL_IS_IDLE = """() => {
    const kernel = window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel;
    return kernel?.connectionStatus === 'connected' && kernel.status === 'idle';
}"""
CELL = """
from mamba_nb.widgets.picker import BackendPicker
picker = BackendPicker(hosts=[], urls={urls!r})
picker
"""


@pytest.fixture
def ollama():
    about = {"nomic-embed-text": {"capabilities": ["embedding"]}}
    script = Script(text="Hello there, **reader**.", ttft_s=0.1)
    with ScriptedServer(script, style="ollama", models=["llama3.2", "qwen3:8b", "nomic-embed-text"], about=about) as it:
        yield it


@pytest.fixture
def locked():
    with ScriptedServer(Script(text="Hi."), style="vllm", models=["secret-model"], api_key=KEY) as it:
        yield it


def shown(lab, *servers, cells=(), **look):
    """A notebook with a picker that has found what there is, and the picker in it."""
    urls = [getattr(server, "base_url", server) for server in servers]
    page = lab([CELL.format(urls=urls), *cells], **look)
    page.run_all()
    picker = page.locator(".mn-picker").first
    expect(picker.locator(".mn-status")).to_contain_text("looked at in")
    return page, picker


def choose(page, picker, text):
    picker.get_by_label("Model", exact=True).click()
    picker.get_by_label("Model", exact=True).fill(text)
    page.page.keyboard.press("Enter")


def test_a_model_is_found_chosen_with_the_keyboard_tried_and_told_as_code(lab, ollama):
    page, picker = shown(lab, ollama, cells=["print(picker.backend)"])
    field = picker.get_by_role("combobox", name="Model")
    expect(picker.get_by_role("button", name="Test")).to_be_disabled()
    field.focus()
    page.page.keyboard.press("ArrowDown")
    expect(field).to_have_attribute("aria-expanded", "true")
    options = picker.get_by_role("option")
    expect(options).to_have_count(4)  # three models, and the embedded one
    expect(options.nth(0)).to_contain_text("llama3.2:latest")
    expect(options.nth(0)).to_contain_text("? of 131,072")
    expect(options.nth(2)).to_contain_text("which does not chat")
    page.page.keyboard.press("Escape")
    expect(field).to_have_attribute("aria-expanded", "false")

    page.page.keyboard.type("ollama qwen")
    expect(options).to_have_count(1)
    page.page.keyboard.press("Enter")
    expect(field).to_have_value(re.compile(r"^qwen3:8b · Ollama · 127\.0\.0\.1:\d+$"))
    expect(picker.locator(".mn-details")).to_contain_text("declared")

    picker.get_by_role("button", name="Test").click()
    panel = picker.locator(".mn-panel")
    expect(panel).to_contain_text("done")
    expect(panel.locator("strong")).to_have_text("reader")
    expect(panel).to_contain_text(re.compile(r"TTFT \d"))
    expect(panel).to_contain_text("tok/s")

    picker.get_by_role("button", name="Copy as code").click()
    lines = picker.get_by_label("The choice as Python")
    expect(lines).to_contain_text('model="qwen3:8b"')
    expect(picker.get_by_label("The choice as .env")).to_contain_text("MAMBA_MODEL_BACKEND__MODEL=qwen3:8b")
    page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    picker.get_by_role("button", name="Copy Python").click()
    assert page.page.evaluate("navigator.clipboard.readText()") == lines.inner_text()

    page.run_all()  # the picker's cell is run again; the next one sees that nothing is chosen yet
    assert page.errors() == []
    assert page.console == []
    assert page.external == []


def test_stop_stands_where_test_was_and_stops(lab, ollama):
    ollama.script = Script(text="word " * 2000, itl_s=0.05)
    page, picker = shown(lab, ollama, cells=["picker"])
    choose(page, picker, "llama3.2")
    place = picker.get_by_role("button", name="Test").bounding_box()
    picker.get_by_role("button", name="Test").click()
    panel = picker.locator(".mn-panel")
    expect(panel).to_contain_text("streaming")
    stop = picker.get_by_role("button", name="Stop")
    assert stop.bounding_box() == place
    other = page.locator(".mn-picker").nth(1).locator(".mn-panel")  # a second view of the same picker
    expect(other).to_contain_text("word word")
    stop.click()
    expect(panel).to_contain_text("stopped")
    expect(other).to_contain_text("stopped")
    assert panel.locator(".mn-answer").inner_text() == other.locator(".mn-answer").inner_text()
    ollama.wait_idle()
    assert any(request.disconnected for request in ollama.requests)
    assert page.console == []


def test_a_key_leaves_the_page_once_and_is_kept_nowhere(lab, locked):
    page = lab([CELL.format(urls=[locked.base_url])])
    sent, received = [], []

    def listen(socket):
        socket.on("framesent", lambda frame: sent.append(str(frame)))
        socket.on("framereceived", lambda frame: received.append(str(frame)))

    page.page.on("websocket", listen)
    page.page.reload(wait_until="load")
    page.page.wait_for_function(KERNEL_IS_IDLE)
    page.run_all()
    picker = page.locator(".mn-picker")
    expect(picker).to_contain_text(f"127.0.0.1:{locked.port} asks for a key")
    field = picker.get_by_label(f"Key for 127.0.0.1:{locked.port}")
    assert field.get_attribute("type") == "password"
    field.fill("sk-wrong-4712")
    page.page.keyboard.press("Enter")
    expect(field).to_have_value("")
    expect(picker).to_contain_text("refused the key")
    field.fill(KEY)
    picker.get_by_role("button", name="Give key").click()
    expect(field).to_have_value("")
    expect(picker).to_contain_text("key given")
    choose(page, picker, "secret")
    picker.get_by_role("button", name="Test").click()
    expect(picker.locator(".mn-panel")).to_contain_text("done")
    picker.get_by_role("button", name="Copy as code").click()
    expect(page.locator(".mn-fold > summary")).to_contain_text("the test's answer")

    assert KEY not in page.page.content()
    saved = json.dumps(page.save())
    for key in (KEY, "sk-wrong-4712"):
        assert key not in saved
        assert [key in frame for frame in sent].count(True) == 1
        assert not any(key in frame for frame in received)
    assert "secret-model" in saved
    assert page.console == []


def test_errors_stand_beside_their_field_with_their_fix(lab, ollama):
    page, picker = shown(lab, ollama)
    choose(page, picker, "llama3.2")
    picker.get_by_label("Another address").fill("ftp://x")
    page.page.keyboard.press("Enter")
    expect(picker).to_contain_text("Write it as http://localhost:8000/v1.")
    heat = picker.get_by_label("Temperature")
    heat.fill("3")
    page.page.keyboard.press("Tab")
    expect(picker).to_contain_text("must be a number from 0.0 to 2.0")
    expect(heat).to_have_attribute("aria-invalid", "true")
    expect(picker.get_by_role("button", name="Test")).to_be_disabled()
    heat.fill("0.5")
    page.page.keyboard.press("Tab")
    expect(heat).to_have_attribute("aria-invalid", "false")
    ollama.enqueue(Script(status=400, error_body={"error": {"message": HOSTILE}}))
    picker.get_by_role("button", name="Test").click()
    expect(picker.locator(".mn-panel")).to_contain_text("failed")
    expect(picker.locator(".mn-panel")).to_contain_text("window.harmed")
    assert page.page.evaluate("window.harmed") is None


def test_where_nothing_is_found_the_next_step_is_a_button(lab):
    with closed_port() as nowhere:
        page, picker = shown(lab, f"http://127.0.0.1:{nowhere.port}/v1")
        expect(picker).to_contain_text("No model server was found")
        expect(picker).to_contain_text("ollama serve")
        expect(picker.locator(".mn-offer button")).to_have_class(re.compile("mn-main"))
        expect(picker.locator(".mn-offer")).to_contain_text("without any server")
        assert page.console == []


def test_a_hostile_server_is_shown_and_does_nothing(lab):
    with ScriptedServer(Script(text=HOSTILE), models=[HOSTILE, "b" * 300], owned_by=HOSTILE) as server:
        page, picker = shown(lab, server)
        choose(page, picker, "onerror")
        picker.get_by_role("button", name="Test").click()
        expect(picker.locator(".mn-panel")).to_contain_text("done")
        picker.get_by_role("button", name="Copy as code").click()
        choose(page, picker, "bbb")
        assert page.page.evaluate("window.harmed") is None
        assert picker.locator("img, script").count() == 0
        assert picker.evaluate("e => e.scrollWidth <= e.clientWidth")
        assert (page.console, page.external) == ([], [])


def test_after_a_reload_the_state_is_shown_and_without_a_kernel_the_plain_copy(lab, ollama):
    page, picker = shown(lab, ollama)
    choose(page, picker, "llama3.2")
    picker.get_by_role("button", name="Test").click()
    expect(picker.locator(".mn-panel")).to_contain_text("done")
    expect(page.locator(".mn-fold > summary")).to_contain_text("The choice, and the test's answer")
    saved = page.save()
    page.page.reload(wait_until="load")
    again = page.locator(".mn-picker").first
    expect(again.get_by_label("Model", exact=True)).to_have_value(re.compile("llama3.2:latest"))
    expect(again.locator(".mn-panel strong")).to_have_text("reader")

    alone = lab(saved)  # opened with a kernel that knows nothing of it
    expect(alone.locator(".mn-fold")).to_be_visible()
    alone.locator(".mn-fold > summary").click()
    expect(alone.locator(".mn-fold")).to_contain_text("Hello there")
    expect(alone.locator(".mn-fold")).to_contain_text('model="llama3.2:latest"')


def test_a_test_under_way_is_seen_after_a_reload_and_ends_when_its_cell_is_run_again(lab, ollama):
    ollama.script = Script(text="word " * 5000, itl_s=0.05)
    page, picker = shown(lab, ollama)
    page.save()  # a page that is loaded again has the outputs that were saved
    choose(page, picker, "llama3.2")
    picker.get_by_role("button", name="Test").click()
    expect(picker.locator(".mn-panel")).to_contain_text("word word")
    page.page.reload(wait_until="load")
    expect(picker.locator(".mn-panel")).to_contain_text("word word")
    expect(picker.get_by_role("button", name="Stop")).to_be_visible()
    page.page.wait_for_function(KERNEL_IS_IDLE)
    page.run_all()
    expect(picker.get_by_role("button", name="Test")).to_be_disabled()  # a new one, with nothing chosen
    ollama.wait_idle()
    assert [request.disconnected for request in ollama.chats] == [True]
    assert page.console == []


def test_thousands_of_models_are_searched_and_a_name_without_end_stays_in_its_place(lab):
    names = [f"org/model-{number:04d}" for number in range(4999)]
    with ScriptedServer(Script(text="Hello."), models=[*names, "L" * 1900]) as server:
        page, picker = shown(lab, server)
        field = picker.get_by_label("Model", exact=True)
        field.click()
        expect(picker.locator(".mn-list")).to_contain_text("4,800 more: type to find them")
        choose(page, picker, "4321")
        expect(field).to_have_value(re.compile("model-4321"))
        picker.get_by_role("button", name="Test").click()
        expect(picker.locator(".mn-panel")).to_contain_text("done")
        choose(page, picker, "LLLL")
        expect(picker.locator(".mn-details")).to_contain_text("nobody says")
        picker.get_by_role("button", name="Test").click()
        expect(picker.locator(".mn-panel")).to_contain_text("done")
        assert picker.evaluate("e => e.scrollWidth <= e.clientWidth")
        assert picker.bounding_box()["height"] < 1500
        assert page.console == []
