"""The engines of this process: asked for by what they are to be, started once, shared, looked at, stopped.

    plan_engine     what was written -> EngineSpec     finds the weights, may fetch them; blocks
    ensure_engine   EngineSpec -> Engine               starts it, or finds it running; for the I/O loop
    start_engine    both, blocking, with one line of progress
    status, stop    what runs, and its end

An engine belongs to the process that started it: after a fork, the child has none and may start its own. One that
died is noticed, and started again, when it is asked for the next time.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from mamba_nb._bridge import STEP_S, _refuse_on_private_loops
from mamba_nb.embedded import machine
from mamba_nb.embedded.header import read_header
from mamba_nb.embedded.pinned import SMOLLM2, Pinned
from mamba_nb.embedded.process import MARGIN_BYTES, EngineProcess, EngineSpec, check_installed
from mamba_nb.embedded.progress import Progress
from mamba_nb.embedded.weights import resolve_weights
from mamba_nb.errors import BadInput

if TYPE_CHECKING:
    from mamba_nb.settings import EmbeddedSettings

LOADING = "loading model"
READY = "ready"
MOST_SLOTS = 64


class Declared(NamedTuple):
    """A fact the engine declares about its model, and what that rests on."""

    value: Any
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Engine:
    """A running engine: where it is, and what it declares.

    Attributes:
        base_url: Its OpenAI-compatible address on loopback.
        api_key: The key it wants; random, and in no repr.
        model: The model's name on the wire.
        model_path: The weights it has loaded.
        n_ctx: Context of each slot in force, in tokens.
        slots: How many requests it works on at once.
        pid: Its process id.
        load_s: Seconds from the spawn until it answered.
        spec: What was asked for; `ensure_engine(engine.spec)` gives this engine again, or its successor.
        declared: Facts for the model's profile, by the profile's own names.
    """

    base_url: str
    api_key: str = field(repr=False)
    model: str
    model_path: Path
    n_ctx: int
    slots: int
    pid: int
    load_s: float
    spec: EngineSpec
    declared: Mapping[str, Declared]

    def __repr__(self) -> str:
        return f"<Engine {self.model} · {self.base_url} · {self.slots} slots x {self.n_ctx} tokens · pid {self.pid}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """What one engine is and takes.

    Attributes:
        model: The model's name on the wire.
        base_url: Its address.
        pid: Its process id.
        model_path: The weights it has loaded.
        n_ctx: Context of each slot, in tokens.
        slots: How many requests it works on at once.
        memory_mb: Resident memory in MB (10^6 bytes), the mapped weights included; None where it cannot be read.
        uptime_s: Seconds since it was ready.
    """

    model: str
    base_url: str
    pid: int
    model_path: Path
    n_ctx: int
    slots: int
    memory_mb: float | None
    uptime_s: float

    def __repr__(self) -> str:
        memory = "memory unknown" if self.memory_mb is None else f"{self.memory_mb:.0f} MB"
        return (
            f"<EngineStatus {self.model} · {self.base_url} · {self.slots} slots x {self.n_ctx} tokens · {memory} · "
            f"up {self.uptime_s:.0f} s · pid {self.pid}>"
        )


# what is wanted


def plan_engine(
    model: str | os.PathLike[str] | None = None,
    *,
    n_ctx: int | None = None,
    slots: int | None = None,
    threads: int | None = None,
    download: bool = False,
    settings: EmbeddedSettings | None = None,
    pinned: Pinned = SMOLLM2,
    say: Callable[[str], None] = print,
) -> EngineSpec:
    """Find the weights and settle the sizes; nothing is started yet. Blocks while weights are checked or fetched.

    Args:
        model: A path, `hf:owner/name/file.gguf`, the built-in model's name, or None: see `resolve_weights`.
        n_ctx: Context of each slot, in tokens; None takes the settings', at most what the model was trained for.
        slots: How many requests run at once; None takes the settings'.
        threads: CPU threads; None takes the settings', else what a container allows, else llama.cpp's choice.
        download: Whether weights that are not here may be fetched.
        settings: The `embedded` part of `AgentSettings`; None reads it from the usual sources.
        pinned: The built-in model.
        say: Gets the sentence that is printed before anything is fetched.

    Raises:
        BadInput: If a size is not a count, or the context is longer than the model was trained for.
        MissingExtra: If xllamacpp is not installed.
        WeightsMissing: If there are no weights and none may be fetched.
        EngineError: If the file is not a GGUF, or fetching it failed.
    """
    check_installed()
    if settings is None:
        from mamba_nb.settings import AgentSettings

        settings = AgentSettings().embedded
    for name, given, most in (("n_ctx", n_ctx, None), ("slots", slots, MOST_SLOTS), ("threads", threads, None)):
        _check_count(name, given, most)
    path = _resolve_once(model, download=download, settings=settings, pinned=pinned, say=say)
    header = read_header(path)
    chosen = n_ctx is not None or "n_ctx" in settings.model_fields_set
    context = settings.n_ctx if n_ctx is None else n_ctx
    if header.context is not None and context > header.context:
        if chosen:
            raise BadInput(
                f"n_ctx is {context}, but {path.name} was trained for {header.context} tokens of context.",
                hint=f"Give n_ctx={header.context} or less; it counts for each slot.",
            )
        context = header.context
    slots = settings.slots if slots is None else slots
    memory = None
    if header.cache_bytes_per_token is not None:
        memory = path.stat().st_size + header.cache_bytes_per_token * context * slots + MARGIN_BYTES
    return EngineSpec(
        model_path=path,
        model=pinned.model if path.name == pinned.file_name else model_name(path),
        n_ctx=context,
        slots=slots,
        threads=threads or settings.threads or machine.usable_cpus(),
        memory_bytes=memory,
    )


def model_name(path: Path) -> str:
    """The name on the wire for a file of weights: its own name in lower case, quantisation left out.

    Examples:
        >>> model_name(Path("Qwen3-0.6B-Q8_0.gguf"))
        'qwen3-0.6b'
        >>> model_name(Path("SmolLM2-135M-Instruct.Q4_1.gguf"))
        'smollm2-135m-instruct'
    """
    stem = path.stem.lower()
    return re.sub(r"[.-]((ud-)?i?q\d\w*|mxfp4\w*|b?f16|f32)(-\d+-of-\d+)?$", "", stem) or stem


def _check_count(name: str, value: Any, most: int | None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or (most is not None and value > most):
        rule = "a whole number greater than 0" if most is None else f"a whole number from 1 to {most}"
        raise BadInput(f"{name} must be {rule}. What came: {value!r}.")


def _resolve_once(model: str | os.PathLike[str] | None, *, download: bool, **options: Any) -> Path:
    if not download:
        return resolve_weights(model, **options)
    with _here().fetching:  # two threads that ask at once fetch once
        return resolve_weights(model, download=True, **options)


# the engines of this process


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
            self.future.set_result(_engine(self.process, facts, self.ready_at - started))
        except BaseException as error:
            self.future.set_exception(error)


class _Registry:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.fetching = threading.Lock()
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
    _refuse_on_private_loops("start_engine", "use `await ensure_engine(spec)`")
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


# what an engine declares


def _engine(process: EngineProcess, facts: Mapping[str, Any], load_s: float) -> Engine:
    spec = process.spec
    return Engine(
        base_url=f"http://127.0.0.1:{facts['port']}/v1",
        api_key=process.api_key,
        model=spec.model,
        model_path=spec.model_path,
        n_ctx=facts["n_ctx"],
        slots=facts["slots"],
        pid=process.pid,
        load_s=load_s,
        spec=spec,
        declared=declared(facts["n_ctx"], tools=facts["supports_tools"], vision=facts["supports_vision"]),
    )


def declared(n_ctx: int | None, *, tools: bool | None, vision: bool | None) -> Mapping[str, Declared]:
    """The facts for a profile, from what llama.cpp says of the model it has loaded."""
    no_tools = "; without them llama.cpp ignores `tools` and `tool_choice` in silence" if tools is False else ""
    return MappingProxyType(
        {
            "supports_tools": Declared(tools, f"/props: chat_template_caps.supports_tools is {tools}{no_tools}"),
            "supports_json_schema": Declared(True, "llama.cpp constrains sampling by a grammar made from the schema"),
            "supports_vision": Declared(vision, f"/props: modalities.vision is {vision}"),
            "context_window": Declared(n_ctx, f"/props: default_generation_settings.n_ctx is {n_ctx} for each slot"),
        }
    )


DECLARED = declared(None, tools=False, vision=False)
"""What the engine declares with the built-in model loaded; the context is known once it runs."""
