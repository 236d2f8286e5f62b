"""The engines of this process: started once, shared, looked at, stopped.

    ensure_engine   EngineSpec -> Engine               starts it, or finds it running; for the I/O loop
    start_engine    what was written -> Engine         the same, blocking, with one line of progress
    status, stop    what runs, and its end

An engine belongs to the process that started it: after a fork, the child has none and may start its own. One that
died is noticed, and started again, when it is asked for the next time.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_nb._bridge import STEP_S, refuse_on_private_loops
from mamba_nb.embedded import machine
from mamba_nb.embedded.engine import Engine, EngineStatus, engine_record
from mamba_nb.embedded.pinned import SMOLLM2, Pinned
from mamba_nb.embedded.plan import EngineSpec, plan_engine
from mamba_nb.embedded.process import EngineProcess
from mamba_nb.embedded.progress import Progress

if TYPE_CHECKING:
    from mamba_nb.settings import EmbeddedSettings

LOADING = "loading model"
READY = "ready"


class _Entry:
    """One engine that was asked for: its process, and the future that becomes the `Engine`."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.process = EngineProcess(spec)
        self.future: concurrent.futures.Future[Engine] = concurrent.futures.Future()
        self.future.set_running_or_notify_cancel()  # so that no waiter's cancel reaches the others
        self.waiters = 0
        self.ready_at = 0.0

    def loading(self) -> bool:
        return not self.future.done()

    def usable(self) -> bool:
        return self.loading() or self.process.alive()

    def load(self) -> None:
        started = time.monotonic()
        try:
            facts = self.process.start()
            self.ready_at = time.monotonic()
            self.future.set_result(engine_record(self.process, facts, self.ready_at - started))
        except BaseException as error:
            self.future.set_exception(error)


class _Registry:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.entries: dict[tuple[Any, ...], _Entry] = {}

    def join(self, spec: EngineSpec) -> _Entry:
        """The entry for `spec`, as one more waiter; a new one where there is none, or where it died."""
        with self.lock:
            entry = self.entries.get(spec.key)
            if entry is None or not entry.usable():
                if entry is not None:
                    entry.process.stop()  # dead already: reaped, its files closed
                entry = _Entry(spec)
                threading.Thread(target=entry.load, name="mamba-nb-engine", daemon=True).start()
                self.entries[spec.key] = entry
            entry.waiters += 1
            return entry

    def leave(self, entry: _Entry) -> bool:
        """One waiter less. True where it was the last, and left while the model was loading: the process is to end."""
        with self.lock:
            entry.waiters -= 1
            given_up = entry.waiters == 0 and entry.loading()
            if given_up and self.entries.get(entry.spec.key) is entry:
                del self.entries[entry.spec.key]
        return given_up

    def ready(self) -> list[_Entry]:
        with self.lock:
            entries = list(self.entries.values())
        return [entry for entry in entries if not entry.loading() and entry.process.alive()]

    def take(self, wanted: Callable[[EngineSpec], bool]) -> list[_Entry]:
        with self.lock:
            keys = [key for key, entry in self.entries.items() if wanted(entry.spec)]
            return [self.entries.pop(key) for key in keys]


# By process id: a forked child finds none of its own, and leaves its parent's engines and locks untouched.
_registries: dict[int, _Registry] = {}
_exit_watched = False


def _here() -> _Registry:
    global _exit_watched
    registry = _registries.get(os.getpid())
    if registry is None:
        registry = _registries.setdefault(os.getpid(), _Registry())
        if not _exit_watched:
            _exit_watched = True
            atexit.register(stop)
    return registry


async def ensure_engine(spec: EngineSpec, *, on_state: Callable[[str], None] | None = None) -> Engine:
    """The engine for `spec`: the one that runs, or a new one as soon as it answers. Does not block its loop.

    Args:
        spec: From `plan_engine`, or `engine.spec` of an earlier engine.
        on_state: Told `loading model` where there is something to wait for, then `ready`; on the caller's loop.

    Raises:
        EngineError: If the engine does not start; the message says why.
    """
    registry = _here()
    entry = registry.join(spec)
    try:
        if entry.loading() and on_state is not None:
            on_state(LOADING)
        engine = await asyncio.wrap_future(entry.future)
    finally:
        if registry.leave(entry):
            threading.Thread(target=entry.process.stop, name="mamba-nb-engine-end", daemon=True).start()
    if on_state is not None:
        on_state(READY)
    return engine


def start_engine(
    model: str | os.PathLike[str] | EngineSpec | None = None,
    *,
    n_ctx: int | None = None,
    slots: int | None = None,
    threads: int | None = None,
    download: bool = False,
    settings: EmbeddedSettings | None = None,
    pinned: Pinned = SMOLLM2,
    say: Callable[[str], None] = print,
    show: bool = True,
    on_state: Callable[[str], None] | None = None,
) -> Engine:
    """Start the engine, or find it running, and wait until it answers. An interrupt ends what it was starting.

    Args:
        model: As for `plan_engine`, or a spec that it gave.
        n_ctx: As for `plan_engine`, like the other sizes, `download`, `settings`, `pinned` and `say`.
        slots: How many requests run at once.
        threads: CPU threads.
        download: Whether weights that are not here may be fetched.
        settings: The `embedded` part of `AgentSettings`.
        pinned: The built-in model.
        say: Gets the sentence that is printed before anything is fetched.
        show: Whether a wait of more than a second shows one line of progress.
        on_state: Told `loading model` where there is something to wait for, then `ready`; on this thread.

    Raises:
        WrongLoop: On one of this package's own loops.
        EngineError: If the engine does not start; beside it, what `plan_engine` raises.
    """
    refuse_on_private_loops("start_engine", "use `await ensure_engine(spec)`")
    if not isinstance(model, EngineSpec):
        model = plan_engine(
            model,
            n_ctx=n_ctx,
            slots=slots,
            threads=threads,
            download=download,
            settings=settings,
            pinned=pinned,
            say=say,
        )
    registry = _here()
    entry = registry.join(model)
    try:
        if entry.loading() and on_state is not None:
            on_state(LOADING)
        with Progress(f"Loading {entry.spec.model}", show=show) as progress:
            while entry.loading():
                concurrent.futures.wait([entry.future], timeout=STEP_S)
                progress.tick()
    finally:
        if registry.leave(entry):
            entry.process.stop()
    engine = entry.future.result()
    if on_state is not None:
        on_state(READY)
    return engine


def engines() -> list[Engine]:
    """The engines of this process that run now."""
    return [entry.future.result() for entry in _here().ready()]


def status() -> list[EngineStatus]:
    """The engines of this process that run now, with their memory."""
    return [_status(entry) for entry in _here().ready()]


def stop(model: str | os.PathLike[str] | None = None) -> int:
    """End engines and wait until they are gone, those that are still loading included.

    Args:
        model: The name on the wire or the path of the weights; None ends all of this process.

    Returns:
        How many were ended.
    """
    name = None if model is None else os.fspath(model)

    def wanted(spec: EngineSpec) -> bool:
        return name is None or name == spec.model or Path(name).expanduser().resolve() == spec.model_path.resolve()

    taken = _here().take(wanted)
    running = sum(entry.usable() for entry in taken)
    for entry in taken:
        entry.process.stop()
    return running


def _status(entry: _Entry) -> EngineStatus:
    engine = entry.future.result()
    memory = machine.process_memory_bytes(engine.pid)
    return EngineStatus(
        model=engine.model,
        base_url=engine.base_url,
        pid=engine.pid,
        model_path=engine.model_path,
        n_ctx=engine.n_ctx,
        slots=engine.slots,
        memory_mb=None if memory is None else memory / 1e6,
        uptime_s=time.monotonic() - entry.ready_at,
    )
