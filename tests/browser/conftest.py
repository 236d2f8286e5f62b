"""A real JupyterLab in a real browser: a private server, one page, a notebook made of the cells a test gives.

    def test_something(lab):
        page = lab(["1 + 1"])
        page.run_all()
        assert page.locator(".jp-OutputArea-output").inner_text() == "2"

    def test_elsewhere(opening):
        with opening(["1 + 1"], frontend="notebook") as page:  # or "voila"; or kernel=False
            ...

The server listens on 127.0.0.1 with a random token, reads and keeps nothing of the user's, and ends with the
session. The page may reach nothing else: what it tries is refused and kept in `page.external`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Route, expect, sync_playwright

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
PLACES = {"lab": "/doc/tree/", "notebook": "/notebooks/", "voila": "/voila/render/"}
SCROLLER = ".jp-NotebookPanel-notebook .jp-WindowedPanel-outer"
KERNEL = {"name": "python3", "display_name": "Python 3"}
# JupyterLab's own complaint, where a restart overtakes a request of its debugger.
OF_A_RESTART = "Could not restore the debugger state"
# What stands for a widget that JupyterLab has given up; and, until then, for one that it looks for.
WIDGET_LOST, WIDGET_SOUGHT = "Error displaying widget: model not found", "Loading widget..."
NOT_FOUND = "widget model not found"  # what it says then on the console
MOST_PIXELS = 12_000  # Chromium paints no more in one picture

expect.set_options(timeout=30_000)

KERNEL_IDLE = """() => {
    const kernel = window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel;
    return !!kernel && kernel.connectionStatus === 'connected' && kernel.status === 'idle';
}"""
SPINNER_GONE = "() => !document.querySelector('#loading:not([style*=none])')"
OPEN_WITHOUT_KERNEL = """async path => {
    const app = await new Promise(done => {
        const look = () => window.jupyterapp ? done(window.jupyterapp) : setTimeout(look, 50);
        look();
    });
    await app.restored;
    const kernelPreference = { shouldStart: false, canStart: true, autoStartDefault: false };
    const panel = await app.commands.execute('docmanager:open', { path, factory: 'Notebook', kernelPreference });
    await panel.revealed;
}"""
RUN_ALL = "() => { window.cellsRun = window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => true); }"
RUN_CELL = """async ([place, source]) => {
    const { content, sessionContext } = window.jupyterapp.shell.currentWidget;
    const run = command => window.jupyterapp.commands.execute(command);
    await sessionContext.ready;
    content.activeCellIndex = Math.min(place, content.widgets.length - 1);
    if (place >= content.widgets.length) await run('notebook:insert-cell-below');
    if (source !== null) content.activeCell.model.sharedModel.setSource(source);
    await run('notebook:run-cell');
}"""
CELLS_RUN = """most => Promise.race([window.cellsRun,
    new Promise((_, no) => setTimeout(() => no(new Error(`cells still running after ${most} ms`)), most))])"""
CELL_ERRORS = """() => window.jupyterapp.shell.currentWidget.content.widgets.flatMap((cell, i) =>
    (cell.model.sharedModel.outputs ?? []).filter(output => output.output_type === 'error')
        .map(output => `cell ${i}: ${output.ename}: ${output.evalue}`))"""
TOGGLE_SAVING_STATE = "() => window.jupyterapp.commands.execute('@jupyter-widgets/jupyterlab-manager:saveWidgetState')"
HIDDEN_HEIGHT = """scroller => Math.max(0, ...[...document.querySelectorAll(scroller)]
    .map(element => element.scrollHeight - element.clientHeight))"""


class JupyterServer:
    """A Jupyter server with a home of its own."""

    def __init__(self, home: Path, theme: str) -> None:
        self.root = home / "notebooks"
        self.root.mkdir(parents=True)
        self.token = secrets.token_hex(24)
        self._home = home
        settings = home / "config" / "labconfig" / "default_setting_overrides.json"
        settings.parent.mkdir(parents=True)
        settings.write_text(
            json.dumps(
                {
                    "@jupyterlab/apputils-extension:themes": {"theme": THEMES[theme]},
                    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
                    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
                    # Else only the cells in sight are in the page, and a picture has no end.
                    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none", "scrollPastEnd": False},
                }
            )
        )

    def __enter__(self) -> JupyterServer:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        places = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "IPYTHONDIR": "ipython",
        }
        environment = {**os.environ, **{name: str(self._home / place) for name, place in places.items()}}
        command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root"]
        command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
        command += [f"--ServerApp.root_dir={self.root}", "--LabApp.expose_app_in_browser=True"]
        command += ["--JupyterNotebookApp.expose_app_in_browser=True"]
        self._log = (self._home / "server.log").open("wb")
        self._process = subprocess.Popen(
            command,
            env=environment | {"JUPYTER_TOKEN": self.token},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline = time.monotonic() + 60
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                self.api("GET", "/api/status")
                return self
            time.sleep(0.2)
        self.__exit__()
        raise RuntimeError("The Jupyter server did not start:\n" + (self._home / "server.log").read_text()[-4000:])

    def __exit__(self, *_exc: object) -> None:
        with contextlib.suppress(OSError):
            self.end_kernels()
            self.api("POST", "/api/shutdown")
        for end in (lambda: None, self._process.terminate, self._process.kill):
            end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(15)
                break
        self._log.close()

    def api(self, method: str, path: str) -> Any:
        request = urllib.request.Request(
            self.url + path, method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=20) as reply:
            return json.loads(reply.read() or b"null")

    def end_kernels(self, but: Collection[str] = ()) -> None:
        """Kernels run in sessions of their own, so they are ended by name; those in `but` go on."""
        for kernel in self.api("GET", "/api/kernels"):
            if kernel["id"] not in but:
                self.api("DELETE", f"/api/kernels/{kernel['id']}")


class NotebookPage:
    """One notebook in the browser.

    Attributes:
        page: The Playwright page.
        external: Addresses other than the server's own that the page tried to reach.
        console: Errors of the browser's console and of the page's scripts, but for what JupyterLab says of a restart.
    """

    def __init__(
        self, page: Page, server: JupyterServer, path: Path, *, frontend: str = "lab", kernel: bool = True
    ) -> None:
        self.page = page
        self.path = path
        self.external: list[str] = []
        self.console: list[str] = []
        page.set_default_timeout(60_000)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.console.append(str(error)))
        page.route("**/*", self._only_local)
        place = PLACES[frontend] + urllib.parse.quote(path.name) if kernel else f"/lab/workspaces/{path.stem}"
        page.goto(f"{server.url}{place}?token={server.token}", wait_until="load")
        if frontend == "voila":  # it runs the cells by itself, behind a spinner
            page.wait_for_function(SPINNER_GONE)
            return
        if not kernel:
            page.evaluate(OPEN_WITHOUT_KERNEL, path.name)
        page.locator(SCROLLER).wait_for()
        if kernel:
            page.wait_for_function(KERNEL_IDLE)

    def _hear(self, said: ConsoleMessage) -> None:
        if said.type == "error" and not said.text.startswith(OF_A_RESTART):
            self.console.append(said.text)

    def _only_local(self, route: Route) -> None:
        if urllib.parse.urlsplit(route.request.url).hostname in (None, "127.0.0.1"):  # None: data:, blob:
            route.continue_()
        else:
            self.external.append(route.request.url)
            route.abort()

    def locator(self, selector: str, **kwargs: Any) -> Locator:
        """Elements in the notebook."""
        return self.page.locator(f".jp-Notebook {selector}", **kwargs)

    def start_all(self) -> None:
        """Run all cells, and do not wait for them."""
        self.page.evaluate(RUN_ALL)

    def wait(self, most_s: float = 120) -> None:
        """Wait until the cells started by `start_all` have ended and the kernel is idle."""
        self.page.evaluate(CELLS_RUN, most_s * 1000)
        self.page.wait_for_function(KERNEL_IDLE)

    def run_all(self, most_s: float = 120) -> None:
        """Run all cells to their end."""
        self.start_all()
        self.wait(most_s)

    def run_cell(self, place: int, source: str | None = None) -> None:
        """Run one cell, counted from 0, to its end; with `source` in it, and after the last one a new cell."""
        self.page.evaluate(RUN_CELL, [place, source])

    def errors(self) -> list[str]:
        """The cells' errors, in order."""
        return list(self.page.evaluate(CELL_ERRORS))

    def restart_kernel(self) -> None:
        """Restart the kernel without asking, as "Restart Kernel" does once it was confirmed."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")

    def save(self) -> nbformat.NotebookNode:
        """Save the notebook, and read the file back."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        return nbformat.read(self.path, as_version=4)

    def save_with_widget_state(self) -> nbformat.NotebookNode:
        """`save` with "Save Widget State Automatically" on, which JupyterLab does not by itself."""
        self.page.evaluate(TOGGLE_SAVING_STATE)
        try:
            return self.save()
        finally:
            self.page.evaluate(TOGGLE_SAVING_STATE)

    def wait_for_saved_widgets(self, tries: int = 3) -> None:
        """Wait until the widgets of a notebook saved with their state are shown, by a kernel that never made them.

        JupyterLab takes such a notebook for restored when its kernel has connected, and from then on gives a widget
        two seconds to be read from the file. Where that was too short the page is loaded again, as its reader would.
        """
        lost, sought = (self.page.get_by_text(text, exact=True) for text in (WIDGET_LOST, WIDGET_SOUGHT))
        for _ in range(tries):
            expect(self.locator(".mn-widget").or_(lost).first).to_be_visible()
            expect(sought).to_have_count(0)
            if not lost.count():
                return
            self.console[:] = [said for said in self.console if NOT_FOUND not in said]
            self.page.reload(wait_until="load")
            self.page.wait_for_function(KERNEL_IDLE)
        raise AssertionError(f"JupyterLab showed no saved widgets in {tries} tries: {self.console}")

    def picture(self, path: Path) -> Path:
        """A picture of the whole notebook: the window grows until nothing has to be scrolled."""
        width = (self.page.viewport_size or {"width": 1100})["width"]
        height = 900
        for _ in range(3):  # a new height can change the layout, and so the height, again
            self.page.set_viewport_size({"width": width, "height": height})
            self.page.wait_for_timeout(150)
            height = min(height + self.page.evaluate(HIDDEN_HEIGHT, SCROLLER), MOST_PIXELS)
        self.page.locator(".jp-NotebookPanel").screenshot(path=path, animations="disabled")
        return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.fail("These tests drive a Chromium, and none is on the PATH. On Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS, headless=True)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], JupyterServer]]:
    """Gives the server with a theme, started once a session and theme."""
    servers: dict[str, JupyterServer] = {}
    with contextlib.ExitStack() as stack:

        def start(theme: str) -> JupyterServer:
            if theme not in servers:
                servers[theme] = stack.enter_context(JupyterServer(tmp_path_factory.mktemp(f"jupyter-{theme}"), theme))
            return servers[theme]

        yield start


@pytest.fixture
def lab(
    browser: Browser, jupyter: Callable[[str], JupyterServer], request: pytest.FixtureRequest
) -> Iterator[Callable[..., NotebookPage]]:
    """Opens a notebook made of the given cells, or a copy of one on disk, in JupyterLab."""
    used: set[JupyterServer] = set()
    with contextlib.ExitStack() as stack:

        def start(
            notebook: list[str] | nbformat.NotebookNode, *, theme: str = "light", width: int = 1100
        ) -> NotebookPage:
            server = jupyter(theme)
            used.add(server)
            path = _written(notebook, server, request.node.name.split("[")[0][:60])
            page = browser.new_page(viewport={"width": width, "height": 900})
            stack.callback(page.close)
            return NotebookPage(page, server, path)

        yield start
    for server in used:
        server.end_kernels()


@pytest.fixture(scope="session")
def opening(browser: Browser, jupyter: Callable[[str], JupyterServer]) -> Callable[..., Any]:
    """Opens a notebook for as long as a `with` block lasts, so that several tests can share one.

    Takes what `lab` takes, and `frontend`: "lab", "notebook" or "voila"; and in JupyterLab `kernel`: False opens the
    notebook without one.
    """

    @contextlib.contextmanager
    def start(
        notebook: list[str] | nbformat.NotebookNode,
        *,
        frontend: str = "lab",
        kernel: bool = True,
        theme: str = "light",
        width: int = 1100,
    ) -> Iterator[NotebookPage]:
        server = jupyter(theme)
        path = _written(notebook, server, frontend)
        before = {kernel["id"] for kernel in server.api("GET", "/api/kernels")}
        page = browser.new_page(viewport={"width": width, "height": 900})
        try:
            yield NotebookPage(page, server, path, frontend=frontend, kernel=kernel)
        finally:
            page.close()
            server.end_kernels(but=before)

    return start


def _written(notebook: list[str] | nbformat.NotebookNode, server: JupyterServer, name: str) -> Path:
    """The notebook as a new file in the server's folder."""
    if isinstance(notebook, list):
        cells = [nbformat.v4.new_code_cell(source) for source in notebook]
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
    path = server.root / f"{name}-{secrets.token_hex(3)}.ipynb"
    nbformat.write(notebook, path)
    return path
