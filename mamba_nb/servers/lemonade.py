"""Lemonade."""

from __future__ import annotations

from mamba_nb.servers.kinds import Kind

KIND = Kind(
    name="lemonade",
    title="Lemonade",
    default_url="http://localhost:13305/v1",
    start="Start it with `lemonade-server serve`",
    ports=(13305, 8000),
    owned_by=("lemonade",),
)
