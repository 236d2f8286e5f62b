"""TGI."""

from __future__ import annotations

from mamba_nb.servers.kinds import Kind

KIND = Kind(
    name="tgi",
    title="TGI",
    default_url="http://localhost:3000/v1",
    start="Start it with `text-generation-launcher --model-id MODEL`",
    ports=(3000, 8080),
    slots=4,
)
