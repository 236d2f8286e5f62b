"""The widgets in Notebook 7 and in Voila: drawn, one action in each, Stop of a run, a key that goes nowhere."""

from __future__ import annotations

import pytest
import workbench

# What the front ends say and fetch by themselves, with any notebook.
SAID = {
    "notebook": ("reading 'schema'", "filebrowser:open-path"),
    "voila": ("net::ERR_FAILED", "getter for the shared module"),
}
FETCHED = {"notebook": (), "voila": ("fontawesome", "mathjax")}
CELLS = ("picker", "table", "view", "panels", "plain", "vote", "chat")


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with workbench.serving(tmp_path_factory.mktemp("elsewhere")) as running:
        yield running


@pytest.mark.parametrize("frontend", ["notebook", "voila"])
def test_each_widget_is_drawn_and_works(opening, jupyter, servers, tmp_path, frontend):
    for file in jupyter("light").root.glob("votes-*.jsonl"):
        file.unlink()
    with opening(servers.cells(*CELLS), frontend=frontend) as page:
        if frontend == "notebook":  # Voila runs the cells by itself
            page.run_all()
            assert page.errors() == []
        workbench.answered(page)
        workbench.unlock(page)
        workbench.pick(page)
        workbench.add_profile(page, "claude-3-opus")
        workbench.run_view(page)
        workbench.vote(page)
        workbench.say(page, "hello")
        before = len(servers.open.chats)
        workbench.stop_view(page)
        servers.open.wait_idle()
        long = [request for request in servers.open.chats[before:] if request.prompt == workbench.LONG]
        assert [request.disconnected for request in long] == [True, True]
        page.page.screenshot(path=tmp_path / f"{frontend}.png", full_page=True)
        assert workbench.TYPED not in page.page.content()
        assert [said for said in page.console if not any(part in said for part in SAID[frontend])] == []
        assert [url for url in page.external if not any(part in url for part in FETCHED[frontend])] == []
