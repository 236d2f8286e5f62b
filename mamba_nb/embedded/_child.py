"""The engine's own process: llama.cpp's server, watched so that it never outlives the process that asked for it.

In comes one line of JSON on stdin: the model's path and alias, the key, slots, context and threads, the parent's
process id. Out goes one line of JSON on stdout: `{"port": ..., "n_ctx": ..., "slots": ..., ...}` once the server
answers, or `{"error": ...}`. Everything that llama.cpp logs goes to stderr.

It ends when stdin does, and when its parent is no longer the process named: a forked survivor of the parent can
hold the pipe open, and a parent killed with -9 closes nothing by itself. Loading a model holds the GIL, so that no
Python thread can watch meanwhile; until the model is loaded a forked guard watches instead.

This file is run by its path and imports nothing of this package.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

WATCH_S = 0.5  # how often the parent is looked for
GUARD_S = 0.2  # the same while the model is being loaded
LOG_BYTES = 1_000_000  # the log is emptied when it is longer


def main() -> NoReturn:
    """Read the configuration, load the model, say so, and serve until the parent is gone."""
    if hasattr(signal, "SIGINT"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is meant for the cell, not for the engine
    config = _read_config()
    answers = os.dup(1)
    os.dup2(2, 1)  # llama.cpp prints to stdout too
    end_guard = _guard_while_loading(config["parent"], unused=answers)
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        ready = _serve(config)
    except ImportError as error:
        _answer(answers, {"error": str(error), "at": "import"})
        os._exit(1)
    except BaseException as error:
        _answer(answers, {"error": f"{type(error).__name__}: {error}", "at": "load"})
        os._exit(1)
    end_guard()
    _answer(answers, ready)
    os.close(answers)
    _live_with(config["parent"])


def _read_config() -> dict[str, Any]:
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 65536)
        if not piece:
            os._exit(0)  # the parent ended before it said what to do
        line += piece
    config: dict[str, Any] = json.loads(line)
    return config


def _answer(to: int, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # nobody reads any more: the watchers see to the rest
        os.write(to, json.dumps(message).encode() + b"\n")


# the engine


def _serve(config: dict[str, Any]) -> dict[str, Any]:
    """Load the model and start llama.cpp's server; give the facts that it declares once it answers."""
    if config.get("import_from"):
        sys.path.append(config["import_from"])
    import xllamacpp

    server = xllamacpp.Server(_params(xllamacpp, config))
    _keep.append(server)
    port = int(server.listening_address.rsplit(":", 1)[1])
    props = _get(port, "/props", config["api_key"])
    return {
        "port": port,
        "n_ctx": props["default_generation_settings"]["n_ctx"],
        "slots": props["total_slots"],
        "supports_tools": props.get("chat_template_caps", {}).get("supports_tools"),
        "supports_vision": props.get("modalities", {}).get("vision"),
        "build": getattr(xllamacpp, "__version__", None),
    }


_keep: list[Any] = []  # the server ends with its Python object


def _params(xllamacpp: Any, config: dict[str, Any]) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = config["model_path"]
    params.model_alias = {config["model"]}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [config["api_key"]]
    params.n_parallel = config["slots"]
    params.n_ctx = config["n_ctx"] * config["slots"]  # llama.cpp shares its context out among the slots
    params.cont_batching = True
    params.endpoint_metrics = True
    params.ui = False
    params.verbosity = 2  # errors and warnings
    # The default keeps up to 8 GB of old prompts in memory. A slot still reuses the prompt it has just seen.
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    # Fitting to a GPU reads the model twice; without one it only doubles the time to load.
    params.fit_params = any(_is_gpu(device) for device in xllamacpp.get_device_info())
    if config["threads"] is not None:
        params.cpuparams.n_threads = config["threads"]
        params.cpuparams_batch.n_threads = config["threads"]
    return params


def _is_gpu(device: dict[str, Any]) -> bool:
    return not str(device.get("type", "")).endswith("_CPU")


def _get(port: int, path: str, key: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    if response.status != 200:
        raise RuntimeError(f"{path} answered {response.status}: {body[:200]!r}")
    return json.loads(body)


# the watch


def _end_with_stdin() -> NoReturn:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os._exit(0)


def _live_with(parent: int) -> NoReturn:
    while os.getppid() == parent:
        time.sleep(WATCH_S)
        with contextlib.suppress(OSError):
            if os.fstat(2).st_size > LOG_BYTES:
                os.ftruncate(2, 0)
                os.lseek(2, 0, os.SEEK_SET)
    os._exit(0)


def _guard_while_loading(parent: int, unused: int) -> Any:
    """Fork a guard that kills this process if the parent ends; give the function that dismisses the guard.

    Windows has no fork: there the watch begins when the model is loaded.
    """
    if not hasattr(os, "fork"):
        return lambda: None
    engine = os.getpid()
    loaded, loading = os.pipe()  # the guard sees the end of `loading` when the engine is ready, or gone
    guard = os.fork()
    if guard == 0:
        os.close(unused)
        os.close(loading)
        _guard(engine, parent, loaded)
    os.close(loaded)

    def dismiss() -> None:
        os.close(loading)
        os.waitpid(guard, 0)

    return dismiss


def _guard(engine: int, parent: int, loaded: int) -> NoReturn:
    while True:
        ended = select.select([loaded, 0], [], [], GUARD_S)[0]
        if loaded in ended or os.getppid() != engine:
            os._exit(0)
        if 0 in ended or not _is_child_of(engine, parent):
            with contextlib.suppress(ProcessLookupError):
                os.kill(engine, signal.SIGKILL)
            os._exit(0)


def _is_child_of(engine: int, parent: int) -> bool:
    try:
        stat = Path(f"/proc/{engine}/stat").read_bytes()
        return int(stat.rpartition(b")")[2].split()[1]) == parent  # after the name: state, then the parent
    except OSError:  # no /proc here: whether a process with that number exists is the next best
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True


if __name__ == "__main__":
    main()
