"""The scripted server in a process of its own, so that the client's work cannot bend its time stamps.

In: what `ScriptedServer` takes, as far as it is data. Out: an address, and the log over HTTP. The stamps are
readings of `time.monotonic()`, one clock for all processes of a machine on Linux and macOS.

    with ServerProcess(Script(text=words(100), itl_s=0.01)) as server:
        ...
        first = server.log()[0].token_sent_at[0]

The child ends with its parent, however that dies: it reads the pipe on its standard input to the end, and it
looks once a second whether it has another parent now (a process that was forked meanwhile may hold the pipe open).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.script import Script

__all__ = ["LOG_PATH", "ServerProcess", "options_from", "wait_for_the_end"]

LOG_PATH = "/_log"


class ServerProcess:
    """A `ScriptedServer` in a child process.

    Args:
        script: What it answers; a function cannot travel to another process.
        start_timeout_s: How long the child may take to be ready.
        **options: As `ScriptedServer` takes them; `scripts` as plain `Script` values.

    Raises:
        TypeError: If an option is not data.
    """

    def __init__(self, script: Script | None = None, *, start_timeout_s: float = 30.0, **options: Any) -> None:
        scripts = options.pop("scripts", None) or {}
        if "models" in options and not isinstance(options["models"], str | None):
            options["models"] = list(options["models"])
        for given in (script, *scripts.values()):
            if given is not None and not isinstance(given, Script):
                raise TypeError(f"A script for another process must be a Script, not {given!r}.")
        self._config = json.dumps(
            {
                "script": None if script is None else script.to_dict(),
                "scripts": {name: value.to_dict() for name, value in scripts.items()},
                **options,
            }
        )
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = f"{self.base_url} · process {self.pid}" if self._process else "not running"
        return f"<ServerProcess {state}>"

    def start(self) -> Self:
        """Start the child; returns when requests can come.

        Raises:
            RuntimeError: If it runs already, or the child did not get ready.
        """
        if self._process is not None:
            raise RuntimeError(f"{self!r} is running already.")
        command = [sys.executable, "-m", "mamba_nb.testing", "--child-of", str(os.getpid())]
        # A session of its own: an interrupt meant for a notebook kernel's group must not end the server.
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self._process = process
        impatience = threading.Timer(self._start_timeout_s, process.kill)
        impatience.start()
        try:
            assert process.stdin is not None and process.stdout is not None
            with contextlib.suppress(BrokenPipeError):  # a child that died at once says why below
                process.stdin.write(self._config.encode() + b"\n")
                process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"The server's process ended before it was ready, with code {process.wait()}.")
            self._port = json.loads(line)["port"]
        except BaseException:
            self.stop()
            raise
        finally:
            impatience.cancel()
        return self

    def stop(self) -> None:
        """End the child and wait for it; a second call does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    @property
    def pid(self) -> int:
        """The child's process id.

        Raises:
            RuntimeError: If it does not run.
        """
        if self._process is None:
            raise RuntimeError("The server's process does not run: use `with ServerProcess(...) as server`.")
        return self._process.pid

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def root(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:PORT/v1`."""
        return f"{self.root}/v1"

    def state(self) -> dict[str, Any]:
        """The child's counters and its log as JSON data: requests, active, connections, loads, now."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", LOG_PATH)
            data: dict[str, Any] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return data

    def log(self) -> list[LoggedRequest]:
        """Every request so far, keys masked, without `raw_body`."""
        return [LoggedRequest(**entry) for entry in self.state()["requests"]]

    def wait_idle(self, timeout_s: float = 10.0) -> None:
        """Wait until no request is being answered.

        Raises:
            TimeoutError: If some still are.
        """
        end = time.monotonic() + timeout_s
        while active := self.state()["active"]:
            if time.monotonic() > end:
                raise TimeoutError(f"{active} requests are still active after {timeout_s} s.")
            time.sleep(0.02)


def options_from(config: bytes) -> dict[str, Any]:
    """The options of a `ScriptedServer` from the line that `ServerProcess` writes to its child."""
    options: dict[str, Any] = json.loads(config)
    if options.get("script") is not None:
        options["script"] = Script(**options["script"])
    options["scripts"] = {name: Script(**data) for name, data in options.get("scripts", {}).items()}
    return options


def wait_for_the_end(done: threading.Event, *, stdin: bool, parent: int | None) -> None:
    """Return when there is no reason to go on serving.

    Args:
        done: Set from outside to end.
        stdin: End with standard input too.
        parent: End when this is no longer the parent process; None: whoever that is. Windows never gives a
            process another parent, so there standard input alone decides.
    """
    if stdin:
        threading.Thread(target=_read_to_the_end, args=(done.set,), daemon=True).start()
    while not done.wait(1.0):
        if parent is not None and sys.platform != "win32" and os.getppid() != parent:
            return


def _read_to_the_end(then: Callable[[], None]) -> None:
    # os.read and not sys.stdin: a thread inside a buffered reader stops the interpreter from ending.
    with contextlib.suppress(OSError):
        while os.read(0, 65536):
            pass
    then()
