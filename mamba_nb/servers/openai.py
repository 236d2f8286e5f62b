"""OpenAI itself."""

from __future__ import annotations

from mamba_nb.servers.kinds import Kind

KIND = Kind(
    name="openai",
    title="OpenAI",
    default_url="https://api.openai.com/v1",
    start="Check the network and https://status.openai.com",
    slots=4,
)
