"""The embedded engine: llama.cpp's own server in a child process, with a small model that is fetched once.

    from mamba_nb import embedded
    embedded.start_engine(download=True)     a running engine: .base_url, .api_key, .model
    embedded.status()                        what runs here, with its memory
    embedded.stop()                          ends it

`mamba_nb.backends.create_embedded_backend()` is what most people want: the same engine behind a backend. Names load
on first use, and the engine's own package (`xllamacpp`, the extra `embedded`) only ever in the child process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mamba_nb._lazy import lazily

if TYPE_CHECKING:
    from mamba_nb.embedded.engine import DECLARED, Declared, Engine, EngineStatus
    from mamba_nb.embedded.pinned import SMOLLM2, Pinned
    from mamba_nb.embedded.plan import EngineSpec, plan_engine
    from mamba_nb.embedded.running import engines, ensure_engine, start_engine, status, stop
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
    "engines",
    "ensure_engine",
    "plan_engine",
    "resolve_weights",
    "start_engine",
    "status",
    "stop",
]

_HOMES = {
    "DECLARED": "engine",
    "SMOLLM2": "pinned",
    "Declared": "engine",
    "Engine": "engine",
    "EngineSpec": "plan",
    "EngineStatus": "engine",
    "Pinned": "pinned",
    "cache_folder": "weights",
    "engines": "running",
    "ensure_engine": "running",
    "plan_engine": "plan",
    "resolve_weights": "weights",
    "start_engine": "running",
    "status": "running",
    "stop": "running",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
