"""LocalAI."""

from __future__ import annotations

from mamba_nb.servers.kinds import Kind

KIND = Kind(
    name="localai",
    title="LocalAI",
    default_url="http://localhost:8080/v1",
    start="Start it with `local-ai run`",
    ports=(8080,),
)
