"""What engine is wanted: in goes what a person wrote, out comes an `EngineSpec`; nothing is started.

The weights are found here, or fetched where that was asked for, and the sizes settled: context of each slot, slots,
threads, and what the engine will take of memory.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_nb.embedded import machine
from mamba_nb.embedded.header import read_header
from mamba_nb.embedded.pinned import SMOLLM2, Pinned
from mamba_nb.embedded.weights import resolve_weights
from mamba_nb.errors import BadInput, EngineError, MissingExtra

if TYPE_CHECKING:
    from mamba_nb.settings import EmbeddedSettings

MOST_SLOTS = 64
MARGIN_BYTES = 64_000_000  # the engine's own code and scratch space
# What xllamacpp has wheels for: (sys.platform, machine).
WHEELS = {
    ("linux", "x86_64"),
    ("linux", "aarch64"),
    ("darwin", "x86_64"),
    ("darwin", "arm64"),
    ("win32", "amd64"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """What engine is wanted. Two askers with equal file, context, slots and threads share one.

    Attributes:
        model_path: The weights.
        model: The model's name on the wire.
        n_ctx: Context of each slot, in tokens.
        slots: How many requests run at once.
        threads: CPU threads, or None for llama.cpp's choice.
        memory_bytes: What it will take about, or None where the file's header does not tell.
    """

    model_path: Path
    model: str
    n_ctx: int
    slots: int
    threads: int | None = None
    memory_bytes: int | None = field(default=None, compare=False)

    @property
    def key(self) -> tuple[str, int, int, int | None]:
        """What makes two specs the same engine."""
        return str(self.model_path.resolve()), self.n_ctx, self.slots, self.threads


def check_installed() -> None:
    """Refuse where the engine's package is not installed; it is looked for, not imported.

    Raises:
        MissingExtra: If xllamacpp is not installed.
        EngineError: If there is no wheel of it for this platform.
    """
    if importlib.util.find_spec("xllamacpp") is not None:
        return
    here = (sys.platform, platform.machine().lower())
    if here not in WHEELS:
        raise EngineError(
            f"The embedded engine has no wheel (xllamacpp) for {platform.system()} on {platform.machine()}.",
            hint="Use any server instead: Ollama, LM Studio, llama.cpp's llama-server, vLLM.",
        )
    raise MissingExtra("The embedded engine", package="xllamacpp", extra="embedded")


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
            llama.cpp rounds it up to a multiple of 256; `Engine.n_ctx` is what is in force.
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


# By process id, since a fork may copy a lock that somebody holds.
_fetching: dict[int, threading.Lock] = {}


def _resolve_once(model: str | os.PathLike[str] | None, *, download: bool, **options: Any) -> Path:
    if not download:
        return resolve_weights(model, **options)
    with _fetching.setdefault(os.getpid(), threading.Lock()):  # two threads that ask at once fetch once
        return resolve_weights(model, download=True, **options)
