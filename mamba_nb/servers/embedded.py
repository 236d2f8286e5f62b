"""The embedded engine: this package's own llama.cpp, on a free port with a random key."""

from __future__ import annotations

from mamba_nb.servers.kinds import Kind

KIND = Kind(
    name="embedded",
    title="the embedded engine",
    default_url=None,
    start="Start it with `create_embedded_backend()`",
    slots=4,
)
