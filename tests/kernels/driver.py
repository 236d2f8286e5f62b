"""A real ipykernel, driven as a notebook front end drives it.

In: a Python executable with ipykernel in it, and cells. Out: for every cell its reply and what it printed.
Cells are sent at once and queue up in the kernel, as Run All does; clicks are comm messages, as the front end
sends them; interrupts are SIGINT. Every wait has an end, and says what is missing when it comes to that.
"""

from __future__ import annotations

import ast
import contextlib
import os
import queue
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

LAUNCH = "from ipykernel.kernelapp import launch_new_instance; launch_new_instance()"
LAUNCH_ON_UVLOOP = f"import uvloop; uvloop.install(); {LAUNCH}"
PATIENCE_S = 40.0
PROMPTLY_S = 10.0  # for what takes a second at most, where other work may share the machine


@dataclass
class Cell:
    """What came back for one message.

    Attributes:
        status: `ok`, `error` or `aborted`, as in the reply; None while there is none.
        printed: Its output to stdout and stderr.
        error: Class and message of the exception, where there was one.
        replied_at: When the reply came, on `time.monotonic`'s clock.
        idle: Whether the kernel has said that it is through with it. Of a click during a cell, ipykernel 7.4
            says nothing.
        displayed: The MIME bundles that it displayed.
    """

    status: str | None = None
    printed: str = ""
    error: str = ""
    replied_at: float = 0.0
    idle: bool = False
    displayed: list[Any] = field(default_factory=list)


class Kernel:
    """A running kernel; use it in a `with` block.

    Args:
        folder: An empty folder for its connection file, profile and log.
        python: The executable; None takes the one that runs the tests.
        uvloop: Whether the kernel's own event loop is uvloop's.
    """

    def __init__(self, folder: Path, *, python: str | None = None, uvloop: bool = False) -> None:
        self.folder = folder
        self._argv = [python or sys.executable, "-c", LAUNCH_ON_UVLOOP if uvloop else LAUNCH, "-f", "{connection_file}"]
        self._cells: dict[str, Cell] = {}

    def __enter__(self) -> Self:
        names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
        homes = {name: str(self.folder / name.lower()) for name in names}
        self._manager = KernelManager(connection_file=str(self.folder / "kernel.json"), transport="tcp")
        self._manager._kernel_spec = KernelSpec(argv=self._argv, display_name="test", language="python")
        self._log = (self.folder / "kernel.log").open("w")
        self._manager.start_kernel(
            cwd=str(self.folder), env={**os.environ, **homes}, stdout=self._log, stderr=self._log
        )
        self._client = self._manager.client()
        self._client.start_channels()
        try:
            self._client.wait_for_ready(timeout=PATIENCE_S)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        version = self.run("import ipykernel; print(ipykernel.__version__)").printed
        self.version = tuple(int(part) for part in version.split(".")[:2])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.stop_channels()
        with contextlib.suppress(RuntimeError):
            self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()
        self._manager.context.destroy(linger=0)
        self._log.close()

    # Sending.

    def queue(self, *cells: str) -> list[Cell]:
        """Send cells at once; gives what will be filled when their replies come."""
        return [self._expect(self._client.execute(code, store_history=False)) for code in cells]

    def click(self, model_id: str, *, subshell_id: str | None = None) -> Cell:
        """Click an `ipywidgets.Button`, as the front end does; on a subshell, as JupyterLab does with ipykernel 7."""
        return self.tell(model_id, {"event": "click"}, subshell_id=subshell_id)

    def tell(self, model_id: str, said: dict[str, Any], *, subshell_id: str | None = None) -> Cell:
        """Send a widget a message of its own, as its script does."""
        content = {"comm_id": model_id, "data": {"method": "custom", "content": said}}
        message = self._client.session.msg("comm_msg", content)
        if subshell_id is not None:
            message["header"]["subshell_id"] = subshell_id
        self._client.shell_channel.send(message)
        return self._expect(message["header"]["msg_id"])

    def new_subshell(self) -> str | None:
        """The id of a new subshell, or None where this kernel has none."""
        message = self._client.session.msg("create_subshell_request", {})
        self._client.control_channel.send(message)
        with contextlib.suppress(queue.Empty):
            while True:
                reply = self._client.get_control_msg(timeout=5)
                if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                    return reply["content"].get("subshell_id")
        return None

    def interrupt(self) -> float:
        """Press the square button; gives the time on `time.monotonic`'s clock."""
        self._manager.interrupt_kernel()
        return time.monotonic()

    def ask_to_shut_down(self) -> None:
        """End the kernel as the front end does, and wait for the process to end."""
        self._client.shutdown()
        self.wait(lambda: not self._manager.is_alive(), "the kernel's end")

    # Waiting.

    def run(self, code: str) -> Cell:
        """Run one cell, which must succeed."""
        (cell,) = self.replies(self.queue(code))
        assert cell.status == "ok", f"{cell.error}\n{cell.printed}\n{self.log}"
        return cell

    def value(self, expression: str) -> Any:
        """The value of an expression in the kernel, as far as its repr is a literal."""
        return ast.literal_eval(self.run(f"print(repr(({expression})))").printed)

    def until(self, expression: str) -> None:
        """Run cells until an expression is true in the kernel."""
        end = time.monotonic() + PATIENCE_S
        while not self.value(f"bool({expression})"):
            assert time.monotonic() < end, f"Waited {PATIENCE_S:g} s in vain for {expression}.\n{self.log}"
            time.sleep(0.05)

    def replies(self, cells: list[Cell], timeout_s: float = PATIENCE_S) -> list[Cell]:
        """Wait until each cell has a reply and the kernel is through with it."""
        self.wait(lambda: all(cell.status and cell.idle for cell in cells), "a reply to each cell", timeout_s)
        return cells

    def wait(self, condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
        """Read messages until a condition holds; fails loudly when the time is over."""
        end = time.monotonic() + timeout_s
        while not condition():
            got = self._read()
            if not got and time.monotonic() > end:
                states = "\n".join(f"{number}: {cell}" for number, cell in list(enumerate(self._cells.values()))[-8:])
                raise AssertionError(f"Waited {timeout_s:g} s in vain for {what}.\n{states}\n{self.log}")

    def until_printed(self, cell: Cell, text: str, also: Callable[[], bool] = lambda: True) -> None:
        """Wait until a cell has printed something, and something else is true too, while the cell is still running."""
        self.wait(lambda: bool(cell.status) or (text in cell.printed and also()), f"{text!r} to be printed")
        assert not cell.status, f"It ended too early.\n{cell}\n{self.log}"

    @property
    def log(self) -> str:
        """What the kernel's process wrote outside any cell."""
        self._log.flush()
        return (self.folder / "kernel.log").read_text()

    def _expect(self, message_id: str) -> Cell:
        cell = self._cells[message_id] = Cell()
        return cell

    def _read(self) -> bool:
        """Take in what has come; waits a moment where nothing has."""
        got = False
        for message in self._messages():
            got = True
            cell = self._cells.get(message["parent_header"].get("msg_id"))
            if cell is not None:
                _take(cell, message["msg_type"], message["content"])
        return got

    def _messages(self) -> Iterator[dict[str, Any]]:
        client = self._client
        for get, timeout_s in ((client.get_shell_msg, 0.01), (client.get_iopub_msg, 0.01)):
            with contextlib.suppress(queue.Empty):
                while True:
                    yield get(timeout=timeout_s)


def _take(cell: Cell, kind: str, content: dict[str, Any]) -> None:
    if kind == "execute_reply":
        cell.status, cell.replied_at = content["status"], time.monotonic()
    elif kind == "stream":
        cell.printed += content["text"]
    elif kind == "error":
        cell.error = f"{content['ename']}: {content['evalue']}"
    elif kind in ("display_data", "execute_result", "update_display_data"):
        cell.displayed.append(content["data"])
    elif kind == "status":
        cell.idle = content["execution_state"] == "idle"
