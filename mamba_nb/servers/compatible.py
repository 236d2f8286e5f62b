"""Whatever else speaks the OpenAI protocol."""

from __future__ import annotations

from mamba_nb.servers.kinds import Kind

KIND = Kind(
    name="compatible",
    title="the server",
    default_url=None,
    start="Start the server",
)
