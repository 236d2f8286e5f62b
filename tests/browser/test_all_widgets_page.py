"""Every widget in one notebook: Run All, an action in each, saved and opened without a kernel, a reload, a restart."""

from __future__ import annotations

import copy
import json
import warnings

import nbformat
import pytest
import workbench
from playwright.sync_api import expect
from workbench import KEYS, LONG, PANELS, QUESTION, WIDGETS, button

KERNEL_IDLE = """() => {
    const kernel = window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel;
    return kernel?.connectionStatus === 'connected' && kernel.status === 'idle';
}"""
NO_SESSION = "() => window.jupyterapp.shell.currentWidget.sessionContext.session === null"
TRUSTED = """() => window.jupyterapp.shell.currentWidget.content.widgets
    .filter(cell => cell.model.type === 'code').map(cell => cell.model.trusted)"""
# What ipywidgets' own extension says of a notebook without any kernel, whatever its widgets are.
WITHOUT_KERNEL = {"Cannot read properties of null (reading 'kernel')"}
COPY = "details.mamba-nb.mn-fold"
# What the plain copies say, in the order of the cells.
COPIES = ["locked-model", "claude-3-opus", QUESTION, "**two** says", "2 votes", "hello"]


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with workbench.serving(tmp_path_factory.mktemp("workbench")) as running:
        yield running


@pytest.fixture(scope="module")
def page(opening, servers):
    """The notebook after Run All, and an action in each widget."""
    with opening(servers.cells()) as opened:
        for file in opened.path.parent.glob("votes-*.jsonl"):
            file.unlink()
        opened.run_all()
        workbench.answered(opened)
        clean(opened)
        workbench.unlock(opened)
        workbench.pick(opened)
        workbench.add_profile(opened, "claude-3-opus")
        workbench.run_view(opened)
        workbench.vote(opened)
        workbench.vote(opened)
        workbench.say(opened, "hello")
        expect(opened.locator(COPY)).to_have_count(len(COPIES))
        yield opened


@pytest.fixture(scope="module")
def saved(page):
    """The notebook's file as JupyterLab saves it by default."""
    return page.save()


def clean(page) -> None:
    assert page.errors() == []
    assert page.console == []
    assert page.external == []


def read_copies(inside) -> None:
    """The plain copies are folded; unfolded, each says what its widget said."""
    folds = inside.locator(COPY)
    expect(folds).to_have_count(len(COPIES))
    for place, words in enumerate(COPIES):
        fold = folds.nth(place)
        assert not fold.evaluate("fold => fold.open")
        fold.locator("summary").first.click()
        expect(fold.get_by_text(words).first).to_be_visible()


def has_no_key(text: str) -> bool:
    return not any(key in text for key in KEYS)


def test_all_are_drawn_and_each_does_what_it_is_asked_to(page, servers, tmp_path):
    workbench.answered(page)
    clean(page)
    assert servers.keys_sent() == set(KEYS)
    cell = page.locator(".jp-Cell", has=page.page.locator(".mn-cv"))
    expect(cell.locator(".mn-panel:visible")).to_have_count(2)  # the folded copy is not seen
    page.picture(tmp_path / "all.png")


def test_no_key_stands_in_what_is_saved(page, saved):
    assert "widgets" not in saved.metadata
    assert has_no_key(json.dumps(saved))
    folder = page.path.parent
    votes = "".join(file.read_text() for file in folder.glob("votes-*.jsonl"))
    records = (folder / "workbench.jsonl").read_text()
    assert votes and QUESTION in records
    assert has_no_key(votes) and has_no_key(records)


def test_without_any_kernel_the_plain_copies_show_the_results(opening, saved, tmp_path):
    with opening(saved, kernel=False) as alone:
        read_copies(alone)
        alone.picture(tmp_path / "alone.png")
        assert alone.page.evaluate(NO_SESSION)
        assert alone.locator(".mn-widget").count() == 0
        assert set(alone.console) <= WITHOUT_KERNEL
        assert alone.external == []


def test_so_they_do_in_a_notebook_that_is_not_trusted(opening, saved, tmp_path):
    changed = copy.deepcopy(saved)
    changed.cells.append(nbformat.v4.new_markdown_cell("Whoever wrote this is not known here."))
    with opening(changed, kernel=False) as alone:
        assert set(alone.page.evaluate(TRUSTED)) == {False}
        read_copies(alone)
        alone.picture(tmp_path / "untrusted.png")
        assert set(alone.console) <= WITHOUT_KERNEL
        assert alone.external == []


def test_and_in_a_page_that_nbconvert_made(browser, saved, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nbconvert's own
        from nbconvert import HTMLExporter

        html, _ = HTMLExporter().from_notebook_node(saved)
    file = tmp_path / "notebook.html"
    file.write_text(html)
    asked: list[str] = []
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    try:
        page.route("http*://**", lambda route: (asked.append(route.request.url), route.abort()))
        page.goto(file.as_uri())
        read_copies(page)
        page.screenshot(path=tmp_path / "nbconvert.png", full_page=True)
        # What stands for a widget says nothing that was true only when the cell had run.
        shown = " ".join(page.locator(".jp-OutputArea-output").all_inner_texts())
        assert "0 answers" not in shown and "0 questions" not in shown and "nothing chosen" not in shown
    finally:
        page.close()
    assert [url for url in asked if "mathjax" not in url and "require" not in url] == []  # the two are nbconvert's


def test_saved_with_its_state_each_widget_shows_it_and_does_nothing(page, opening, tmp_path):
    with_state = page.save_with_widget_state()
    assert "widgets" in with_state.metadata
    assert has_no_key(json.dumps(with_state))
    with opening(with_state) as again:  # a kernel that knows nothing of it
        again.wait_for_saved_widgets()
        workbench.answered(again)
        expect(again.locator(".mn-picker .mn-panel strong")).to_have_text("locked-model")
        expect(again.locator(WIDGETS["table"])).to_contain_text("claude-3-opus")
        expect(again.locator(".mn-cv .mn-panel strong")).to_have_text(["one", "two"])
        expect(again.locator(".mn-vote")).to_contain_text("2 of 2 voted")
        expect(again.locator(".mn-chat .mn-answered strong")).to_have_text("one")
        press_all(again)
        again.picture(tmp_path / "state.png")
        clean(again)


def press_all(inside) -> None:
    """Something in each widget, with no kernel behind it."""
    picker, view, chat = (inside.locator(WIDGETS[name]) for name in ("picker", "view", "chat"))
    button(picker, "Refresh").click()
    button(view, "Pin: one").click()
    field = inside.locator(WIDGETS["table"]).locator(".mn-add input")
    field.fill("gpt-4o-mini")
    field.press("Enter")
    inside.locator(".mn-vote").get_by_role("checkbox").click()
    chat.get_by_label("Message").fill("hello?")
    chat.get_by_label("Message").press("Enter")


def test_after_a_reload_all_show_what_they_showed_and_react(page, tmp_path):
    page.save()
    page.page.reload(wait_until="load")
    page.page.wait_for_function(KERNEL_IDLE)
    workbench.answered(page)
    page.picture(tmp_path / "reloaded.png")
    expect(page.locator(".mn-picker .mn-panel strong")).to_have_text("locked-model")
    workbench.pick(page)
    workbench.add_profile(page, "gpt-4o-mini")
    workbench.run_view(page, "Why is grass green?")
    workbench.say(page, "hello again")
    clean(page)
    page.save()


def test_after_a_kernel_restart_nothing_throws_and_the_cells_run_again(page, tmp_path):
    page.restart_kernel()
    page.page.wait_for_function(KERNEL_IDLE)
    press_all(page)
    page.picture(tmp_path / "restarted.png")
    clean(page)
    page.run_all()
    workbench.answered(page)
    workbench.run_view(page)
    workbench.say(page, "hello")
    expect(page.locator(".mn-vote")).to_contain_text("2 of 2 voted")  # the votes were found again
    clean(page)


def test_the_square_button_stops_the_panels_of_a_blocking_cell(opening, servers, tmp_path):
    run = f'live = mb.compare(models, {LONG!r}, live="widget")'
    after = 'import sys\nprint(sys.last_value.partial.count("stopped"), mb.runs())'
    begun = len(servers.open.chats)
    with opening([*servers.cells()[:1], run, "print('never')"]) as page:
        page.start_all()
        panels = page.locator(PANELS)
        for place in (0, 1):
            expect(panels.nth(place)).to_contain_text("word word")
        page.page.locator(
            '[data-jp-item-name="interrupt"] jp-button, [data-jp-item-name="interrupt"] button'
        ).first.click()
        for place in (0, 1):
            expect(panels.nth(place)).to_contain_text("stopped")
        page.wait()
        assert page.errors() == ["cell 1: KeyboardInterrupt: "]
        page.picture(tmp_path / "square.png")
        servers.open.wait_idle()
        long = [request for request in servers.open.chats[begun:] if request.prompt == LONG]
        assert [request.disconnected for request in long] == [True, True]
        expect(page.locator(COPY)).to_have_count(1)
        page.run_cell(2, after)
        expect(page.locator(".jp-OutputArea-output").last).to_contain_text("2 <no runs under way>")
        assert page.console == []
