"""The embedded engine: llama.cpp's own server in a child process, with a small model that is fetched once.

    from mamba_nb import embedded
    embedded.start_engine(download=True)     a running engine: .base_url, .api_key, .model
    embedded.status()                        what runs here, with its memory
    embedded.stop()                          ends it

`mamba_nb.backends.create_embedded_backend()` is what most people want: the same engine behind a backend. Names load
on first use, and the engine's own package (`xllamacpp`, the extra `embedded`) only ever in the child process.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mamba_nb.embedded.engine import (
        DECLARED,
        Declared,
        Engine,
        EngineStatus,
        ensure_engine,
        plan_engine,
        start_engine,
        status,
        stop,
    )
    from mamba_nb.embedded.pinned import SMOLLM2, Pinned
    from mamba_nb.embedded.process import EngineSpec
    from mamba_nb.embedded.weights import cache_folder, resolve_weights

__all__ = [
    "DECLARED",
    "SMOLLM2",
    "Declared",
    "Engine",
    "EngineSpec",
    "EngineStatus",
    "Pinned",
    "cache_folder",
    "ensure_engine",
    "plan_engine",
    "resolve_weights",
    "start_engine",
    "status",
    "stop",
]

_HOMES = {
    **dict.fromkeys(
        (
            "DECLARED",
            "Declared",
            "Engine",
            "EngineStatus",
            "ensure_engine",
            "plan_engine",
            "start_engine",
            "status",
            "stop",
        ),
        "engine",
    ),
    **dict.fromkeys(("SMOLLM2", "Pinned"), "pinned"),
    "EngineSpec": "process",
    **dict.fromkeys(("cache_folder", "resolve_weights"), "weights"),
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
