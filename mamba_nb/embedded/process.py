"""One engine in a process of its own: from the spawn, through loading, to its end.

In goes a `EngineSpec`, out come the facts that the engine declares once it answers, or an `EngineError` that says
why it does not. The parent's side of `_child.py`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

from mamba_nb.embedded import machine
from mamba_nb.embedded.plan import EngineSpec
from mamba_nb.errors import EngineError

CHILD = Path(__file__).with_name("_child.py")
KILLED_S = 5.0  # how long a killed process may take to be gone
TAIL_BYTES = 16_384
TAIL_LINES = 6


def check_memory(spec: EngineSpec) -> None:
    """Refuse an engine that would not fit into the memory that is free now.

    Raises:
        EngineError: If it takes more than there is; both numbers are in the message.
    """
    available = machine.available_memory_bytes()
    if spec.memory_bytes is None or available is None or spec.memory_bytes <= available:
        return
    raise EngineError(
        f"{spec.model} with {spec.slots} slots of {spec.n_ctx} tokens takes about {_mb(spec.memory_bytes)}; "
        f"{_mb(available)} are free.",
        hint="Give a smaller n_ctx or fewer slots, a smaller model, or end other engines: mamba_nb.embedded.stop().",
        model=spec.model,
    )


class EngineProcess:
    """The process of one engine. `start` is called once, from a thread that may block; `stop` from anywhere."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.api_key = secrets.token_urlsafe(24)
        self._lock = threading.Lock()
        self._stopped = False
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id, or 0 before there is one."""
        return self._process.pid if self._process is not None else 0

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> dict[str, Any]:
        """Spawn the process and wait until the engine answers.

        Returns:
            What it declares: `port`, `n_ctx` of each slot, `slots`, `supports_tools`, `supports_vision`, `build`.

        Raises:
            EngineError: If it does not fit, does not load, or dies; `server_says` has the end of its log.
        """
        check_memory(self.spec)
        process = self._spawn()
        said: dict[str, Any] = {}
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(OSError, ValueError):  # it died, or was stopped: said so below
            process.stdin.write(self._config())
            said = json.loads(process.stdout.readline() or b"{}")
        process.stdout.close()
        if "port" in said:
            return said
        failure = self._failure(process, said)
        self.stop()
        raise failure

    def stop(self) -> None:
        """End the process and wait until it is gone. It holds nothing that would have to be saved."""
        with self._lock:
            self._stopped = True
            process, log = self._process, self._log
        if process is None:
            return
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(KILLED_S)
        if process.stdin is not None:
            process.stdin.close()
        if log is not None:
            log.close()

    def _spawn(self) -> subprocess.Popen[bytes]:
        if not sys.executable:
            raise EngineError("Python does not know where its own program is (sys.executable is empty).")
        with self._lock:
            if self._stopped:
                raise self._was_stopped()
            self._log = tempfile.TemporaryFile()  # noqa: SIM115  # a pipe would have to be read, or block the engine
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", str(CHILD)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._log,
                    bufsize=0,
                    # Its threads spin while they wait for each other, by default so long that with another busy
                    # process (a browser, say) they mostly wait; not at all costs three quarters of the speed alone.
                    env={"GOMP_SPINCOUNT": "30000", **os.environ},
                    **_apart(),
                )
            except OSError as error:
                self._log.close()
                raise EngineError(f"The engine's process could not be started: {error.strerror or error}.") from error
            return self._process

    def _config(self) -> bytes:
        found = importlib.util.find_spec("xllamacpp")
        origin = found.origin if found is not None else None
        config = {
            "parent": os.getpid(),
            "model_path": str(self.spec.model_path),
            "model": self.spec.model,
            "api_key": self.api_key,
            "n_ctx": self.spec.n_ctx,
            "slots": self.spec.slots,
            "threads": self.spec.threads,
            "import_from": str(Path(origin).parents[1]) if origin else None,
        }
        return json.dumps(config).encode() + b"\n"

    # what went wrong

    def _failure(self, process: subprocess.Popen[bytes], said: dict[str, Any]) -> EngineError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(KILLED_S)
        if self._stopped:
            return self._was_stopped()
        log = self._tail()
        says = "\n".join(log[-TAIL_LINES:]) or None
        path, model = self.spec.model_path, self.spec.model
        if said.get("at") == "import":
            return EngineError(
                f"xllamacpp is installed, but does not load here: {said['error']}",
                hint='Install it again for this Python: pip install --force-reinstall "mamba_nb[embedded]"',
                server_says=says,
            )
        if "error" in said:
            causes = [line for line in log if "error loading model" in line] or log or [said["error"]]
            return EngineError(
                f"llama.cpp could not load {path}: {causes[0]}",
                hint="The file may be incomplete, or of a kind that this llama.cpp does not know yet.",
                model=model,
                server_says=says,
            )
        ending, hint = _ending(process.returncode)
        return EngineError(
            f"The embedded engine {ending} while loading {path} ({self._size()}).",
            hint=hint,
            model=model,
            server_says=says,
        )

    def _was_stopped(self) -> EngineError:
        return EngineError(f"The embedded engine was stopped while it was loading {self.spec.model}.")

    def _size(self) -> str:
        try:
            return _mb(self.spec.model_path.stat().st_size)
        except OSError:
            return "size unknown"

    def _tail(self) -> list[str]:
        """The last lines of the log, without llama.cpp's stamps and without the key."""
        with contextlib.suppress(OSError, ValueError):  # closed meanwhile
            if self._log is not None:
                end = self._log.seek(0, 2)
                self._log.seek(max(0, end - TAIL_BYTES))
                text = self._log.read().decode(errors="replace").replace(self.api_key, "***")
                return [re.sub(r"^\d[\d.]* [A-Z] ", "", line).strip() for line in text.splitlines() if line.strip()]
        return []


def _apart() -> dict[str, Any]:
    """Popen options that keep the square button's interrupt, meant for the cell, away from the engine."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def _ending(code: int | None) -> tuple[str, str]:
    if code is None:
        return "did not answer", "Call mamba_nb.embedded.stop() and try again."
    if code >= 0:
        return f"ended with code {code}", "Its last words may say why."
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hints = {
        "SIGKILL": "Mostly the system ran out of memory. Give a smaller n_ctx, fewer slots or a smaller model.",
        "SIGILL": "This processor lacks instructions that the xllamacpp wheel was built for.",
    }
    return f"was ended by {name}", hints.get(name, "Its last words may say why.")


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
