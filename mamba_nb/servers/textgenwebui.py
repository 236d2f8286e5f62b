"""text-generation-webui."""

from __future__ import annotations

from mamba_nb.servers.kinds import Kind

KIND = Kind(
    name="textgenwebui",
    title="text-generation-webui",
    default_url="http://localhost:5000/v1",
    start="Start it with `--api`",
    ports=(5000,),
)
