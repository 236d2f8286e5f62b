"""The notebooks that come with the package: found, copied to where they can be edited, or run without a browser.

    source()                   the quickstart as it came with the package
    tutorials()                the names of all of them, in the order in which a person learns
    lay_copy(folder)           a copy to edit; one that is there already is left alone
    execute(notebook, out)     runs it in this very Python, and writes the executed notebook and an HTML page

The kernel of `execute` is the Python that calls it, whatever kernels are registered under the notebook's kernel name.
"""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mamba_nb.errors import BadInput, MambaError, MissingExtra

__all__ = ["NAME", "CellFailed", "Executed", "check_extras", "execute", "lay_copy", "source", "tutorials"]

NAME = "00_quickstart.ipynb"

CELL_S = 600.0  # the longest that one cell may take
START_S = 120.0  # the longest that the kernel may take to start
OUTPUT_S = 60.0  # how long to wait for outputs that follow a cell's reply, on a machine that is busy

# What has to be importable, and the extra it comes with.
_TO_LOOK_AT = {"jupyterlab": "notebook", "altair": "plots"}
_TO_EXECUTE = {"nbclient": "notebook", "nbconvert": "notebook", "ipykernel": "notebook", "altair": "plots"}


class CellFailed(MambaError, RuntimeError):
    """A cell of the notebook failed; the message has the cell and its error.

    Attributes:
        written: What was written all the same: the notebook with the error in it, and the page.
    """

    written: Executed


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """What a run left behind.

    Attributes:
        notebook: The executed notebook.
        page: The same as an HTML page.
        cells: How many code cells were run.
        took_s: Seconds from the kernel's start to the last cell's end.
    """

    notebook: Path
    page: Path
    cells: int
    took_s: float


def source(name: str = NAME) -> Path:
    """A notebook: inside the installed package, or in the checkout that an editable install points to.

    Raises:
        BadInput: If the package came without it.
    """
    package = Path(__file__).parent
    for path in (package / "_notebooks" / name, package.parent / "notebooks" / name):
        if path.is_file():
            return path
    raise BadInput(f"This installation of mamba_nb has no {name}.", hint="Install the package again.")


def tutorials() -> list[str]:
    """The names of all notebooks: the numbered ones in their order, then those to look things up in."""
    return sorted(path.name for path in source().parent.glob("*.ipynb"))


def check_extras(*, to_execute: bool) -> None:
    """Refuse before anything is fetched or started, naming all extras that the notebook needs.

    Args:
        to_execute: Whether it is to be run without a browser; else it is to be opened in JupyterLab.

    Raises:
        MissingExtra: With the one pip line that brings everything.
    """
    needs = _TO_EXECUTE if to_execute else _TO_LOOK_AT
    missing = [package for package in needs if find_spec(package) is None]
    if missing:
        # All three: whoever lacks one of them mostly lacks another.
        raise MissingExtra("The quickstart", package=missing[0], extra="embedded,notebook,plots")


def lay_copy(folder: Path, name: str = NAME) -> tuple[Path, bool]:
    """Put a copy where it can be edited and saved.

    Args:
        folder: Where to; it must exist.
        name: Which notebook.

    Returns:
        The copy's path, and whether it is new. A file of that name that is there already is never touched.

    Raises:
        BadInput: If the folder cannot be written.
    """
    path = folder / name
    try:
        with path.open("xb") as file, source(name).open("rb") as original:
            shutil.copyfileobj(original, file)
    except FileExistsError:
        return path, False
    except OSError as error:
        raise BadInput(
            f"The notebook cannot be written to {folder}: {error.strerror or error}.",
            hint="Change to a folder of your own and try again.",
        ) from error
    return path, True


def execute(
    notebook: Path, out: Path, *, folder: Path | None = None, say: Callable[[str], None] = lambda line: None
) -> Executed:
    """Run a notebook from top to bottom without a browser.

    Args:
        notebook: What to run; it is not changed.
        out: The folder for the executed notebook and its HTML page, both under the notebook's own name; it is
            made if need be, and files of these names in it are replaced.
        folder: The kernel's working folder; None takes the current one.
        say: Gets a line when a cell begins and ends.

    Raises:
        CellFailed: If a cell failed or took longer than 600 s, or the kernel died; what there is by then is written.
        BadInput: If `out` cannot be written.
    """
    from nbclient.exceptions import CellControlSignal, CellExecutionError, DeadKernelError

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{out} cannot be made a folder: {error.strerror or error}.") from error
    nbformat: Any = import_module("nbformat")
    node = nbformat.read(notebook, as_version=4)
    client = _client(node, folder or Path.cwd(), say)
    began = time.monotonic()
    failure: MambaError | None = None
    try:
        client.execute()
    except (CellControlSignal, CellExecutionError, DeadKernelError, RuntimeError) as error:
        failure = _failure(node, error)
    took_s = time.monotonic() - began
    written = Executed(
        notebook=out / notebook.name,
        page=(out / notebook.name).with_suffix(".html"),
        cells=sum(cell.cell_type == "code" for cell in node.cells),
        took_s=took_s,
    )
    try:
        nbformat.write(node, written.notebook)
        written.page.write_text(_page(node, notebook.stem), "utf-8")
    except OSError as error:
        raise BadInput(f"The results cannot be written to {out}: {error.strerror or error}.") from error
    if failure is not None:
        failed = CellFailed(failure.message, hint=f"The notebook as far as it came: {written.notebook}")
        failed.written = written
        raise failed
    return written


def _client(node: Any, folder: Path, say: Callable[[str], None]) -> Any:
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    class ThisPython(AsyncKernelManager):
        """Starts the Python that runs this, not whatever is registered under the notebook's kernel name."""

        @property
        def kernel_spec(self) -> KernelSpec:
            argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"]
            return KernelSpec(argv=argv, display_name="Python 3", language="python")

    places = [index for index, cell in enumerate(node.cells) if cell.cell_type == "code"]
    began: dict[int, float] = {}

    def start(cell: Any, cell_index: int) -> None:
        if cell.cell_type == "code":
            began[cell_index] = time.monotonic()

    def end(cell: Any, cell_index: int, **reply: Any) -> None:
        number, took_s = places.index(cell_index) + 1, time.monotonic() - began[cell_index]
        say(f"cell {number} of {len(places)}  {took_s:5.1f} s  {_first_line(cell.source)}")

    return NotebookClient(
        node,
        kernel_manager_class=ThisPython,
        timeout=CELL_S,
        startup_timeout=START_S,
        iopub_timeout=OUTPUT_S,
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=start,
        on_cell_executed=end,
    )


def _failure(node: Any, error: BaseException) -> MambaError:
    """What a person needs to know: the cell as it stands, and how its error ends."""
    for number, cell in enumerate((cell for cell in node.cells if cell.cell_type == "code"), 1):
        for output in cell.get("outputs", ()):
            if output.output_type == "error":
                what = re.sub(r"\x1b\[[\d;]*m", "", f"{output.ename}: {output.evalue}")
                return MambaError(f"Cell {number} failed:\n\n{_indented(cell.source)}\n\n{what}")
    return MambaError(f"The notebook did not run to its end: {str(error).strip() or type(error).__name__}")


def _first_line(text: str) -> str:
    line = next((line for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= 60 else f"{line[:59]}…"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


def _page(node: Any, title: str) -> str:
    nbconvert: Any = import_module("nbconvert")
    exporter = nbconvert.HTMLExporter(template_name="lab")
    page, _ = exporter.from_notebook_node(node, resources={"metadata": {"name": title}})
    # The template's scripts come from the network, and would set a model's dollar signs as mathematics.
    return re.sub(r"<script\b.*?</script>", "", page, flags=re.DOTALL | re.IGNORECASE)
