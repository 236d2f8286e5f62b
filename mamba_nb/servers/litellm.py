"""LiteLLM proxy."""

from __future__ import annotations

from mamba_nb.servers.kinds import Kind

KIND = Kind(
    name="litellm",
    title="LiteLLM proxy",
    default_url="http://localhost:4000/v1",
    start="Start it with `litellm --config FILE`",
    ports=(4000,),
    slots=4,
)
