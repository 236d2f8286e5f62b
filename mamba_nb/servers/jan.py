"""Jan."""

from __future__ import annotations

from mamba_nb.servers.kinds import Kind

KIND = Kind(
    name="jan",
    title="Jan",
    default_url="http://localhost:1337/v1",
    start="Start its server in Jan under Settings, Local API Server",
    ports=(1337,),
)
