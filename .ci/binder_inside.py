"""Notebooks run on a Jupyter server as a browser would run them, with the memory of the whole tree of processes.

    python binder_inside.py HOME NOTEBOOK...

The kernel's messages go through the server's own web socket; all cells are sent at once.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import websocket_connect

MOST_MB = 1_000.0  # of a session on Binder, with room left for the user's own data
FIRST_ANSWER_S = 20.0
CELL_S = 60.0
OPENS_ON = "/lab/tree/notebooks/00_quickstart.ipynb"
TOKEN = uuid.uuid4().hex


def main(home: Path, names: list[str]) -> int:
    """Run them one after the other, each in a kernel of its own; 0 where all is well."""
    apart = only_loopback()
    print("Network: loopback only." if apart else "Network: as it is.")
    port = free_port()
    server = subprocess.Popen(
        [
            "jupyter",
            "lab",
            "--no-browser",
            "--allow-root",
            "--ip=127.0.0.1",
            f"--port={port}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={TOKEN}",
            "--ServerApp.log_level=ERROR",
        ],
        cwd=home,
    )
    memory = Memory(server.pid)
    try:
        troubles = asyncio.run(run_all(f"http://127.0.0.1:{port}", home, names, memory))
    finally:
        server.terminate()
        server.wait(30)
    print(f"Peak memory of server, kernel and engine: {memory.peak_mb:.0f} MB (PSS).")
    if memory.peak_mb > MOST_MB:
        troubles.append(f"{memory.peak_mb:.0f} MB are more than {MOST_MB:.0f}")
    print(*(f"FAILED: {trouble}" for trouble in troubles), sep="\n")
    return 1 if troubles else 0


async def run_all(url: str, home: Path, names: list[str], memory: Memory) -> list[str]:
    """The troubles, none where all went well."""
    began = time.monotonic()
    while True:
        try:
            await api(url, "GET", "/api/status")
            break
        except OSError:
            if time.monotonic() - began > 60:
                return ["the server did not start in 60 s"]
            await asyncio.sleep(0.1)
    print(f"Server up after {time.monotonic() - began:.1f} s.")
    troubles = []
    page = await api(url, "GET", OPENS_ON)
    if "jupyter-config-data" not in page:
        troubles.append(f"{OPENS_ON}, which the README's buttons open, is no JupyterLab: {page[:200]}")
    for name in names:
        memory.start()
        cells = await run_notebook(url, home, f"notebooks/{name}.ipynb")
        used = memory.stop()
        took = max(cell["ended_s"] for cell in cells)
        print(f"{name}: {len(cells)} cells, {took:.1f} s, at most {used:.0f} MB (PSS).", flush=True)
        before = 0.0
        for cell in cells:
            if cell["status"] != "ok":
                troubles.append(f"{name}, cell {cell['id']}: {cell['error']}")
            if cell["ended_s"] - before > CELL_S:
                troubles.append(f"{name}, cell {cell['id']}: {cell['ended_s'] - before:.0f} s")
            before = cell["ended_s"]
            if (name, cell["id"]) == ("00_quickstart", "ask"):
                print(f"First answer {cell['ended_s']:.1f} s after the first cell was sent.", flush=True)
                if cell["ended_s"] > FIRST_ANSWER_S:
                    troubles.append(f"the first answer took longer than {FIRST_ANSWER_S:.0f} s")
    return troubles


async def run_notebook(url: str, home: Path, path: str) -> list[dict[str, Any]]:
    """Each code cell's id, status, error and the seconds at its end."""
    notebook = json.loads((home / path).read_text("utf-8"))
    wanted = {"path": path, "name": "", "type": "notebook", "kernel": {"name": "python3"}}
    session = json.loads(await api(url, "POST", "/api/sessions", json.dumps(wanted)))
    kernel = session["kernel"]["id"]
    line = await websocket_connect(f"{url.replace('http', 'ws')}/api/kernels/{kernel}/channels?token={TOKEN}")
    began = time.monotonic()
    cells: dict[str, dict[str, Any]] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        message = uuid.uuid4().hex
        cells[message] = {"id": cell["id"], "status": "no reply", "error": "no reply", "ended_s": 0.0}
        await line.write_message(json.dumps(execute(message, cell)))
    waiting = set(cells)
    while waiting:
        raw = await asyncio.wait_for(line.read_message(), timeout=300)
        if raw is None:
            break
        if isinstance(raw, bytes):
            continue  # buffers of a widget
        message = json.loads(raw)
        about = message.get("parent_header", {}).get("msg_id")
        if message["header"]["msg_type"] == "execute_reply" and about in waiting:
            waiting.discard(about)
            content = message["content"]
            error = f"{content.get('ename', content['status'])}: {content.get('evalue', '')}"
            cells[about] |= {"status": content["status"], "error": error, "ended_s": time.monotonic() - began}
    line.close()
    await api(url, "DELETE", f"/api/sessions/{session['id']}")
    return list(cells.values())


def execute(message: str, cell: dict[str, Any]) -> dict[str, Any]:
    """The request that a front end sends for a cell."""
    source = cell["source"]
    return {
        "header": {"msg_id": message, "msg_type": "execute_request", "username": "", "session": "s", "version": "5.3"},
        "parent_header": {},
        "metadata": {"cellId": cell["id"]},
        "content": {
            "code": source if isinstance(source, str) else "".join(source),
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
        },
        "channel": "shell",
    }


async def api(url: str, method: str, path: str, body: str | None = None) -> str:
    """What the server says."""
    reply = await AsyncHTTPClient().fetch(
        url + path,
        method=method,
        body=body,
        headers={"Authorization": f"token {TOKEN}"},
        raise_error=False,
        request_timeout=60,
    )
    if reply.code == 599:
        raise OSError(str(reply.error))
    return reply.body.decode()


class Memory:
    """The proportional set size of a process and all that came from it, looked at four times a second."""

    def __init__(self, pid: int) -> None:
        self.peak_mb = 0.0
        self._pid = pid
        self._ended = threading.Event()
        self._most = 0.0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look."""
        self._ended.clear()
        self._most = 0.0
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """The most since the start, in MB."""
        self._ended.set()
        assert self._thread is not None
        self._thread.join()
        self.peak_mb = max(self.peak_mb, self._most)
        return self._most

    def _look(self) -> None:
        while not self._ended.wait(0.25):
            self._most = max(self._most, sum(pss_mb(pid) for pid in tree(self._pid)))


def tree(root: int) -> set[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError, ValueError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, new = set[int](), [root]
    while new:
        found.add(pid := new.pop())
        new += children.get(pid, [])
    return found


def pss_mb(pid: int) -> float:
    """0 where the process has just ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    kib = sum(float(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib * 1024 / 1e6


def only_loopback() -> bool:
    """Bring loopback up in a new network namespace; whether nothing else can be reached."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        named_flags = struct.pack("16sh", b"lo", 0)
        flags = struct.unpack("16sh", fcntl.ioctl(any_socket, 0x8913, named_flags))[1]  # SIOCGIFFLAGS
        if not flags & 1:
            fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", flags | 1))  # SIOCSIFFLAGS, IFF_UP
    return [name for _, name in socket.if_nameindex()] == ["lo"] or not routes()


def routes() -> bool:
    """Whether there is a way out of this machine."""
    return len(Path("/proc/net/route").read_text().splitlines()) > 1


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2:]))
