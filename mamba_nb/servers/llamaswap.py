"""llama-swap."""

from __future__ import annotations

from mamba_nb.servers.kinds import Kind

KIND = Kind(
    name="llamaswap",
    title="llama-swap",
    default_url="http://localhost:8080/v1",
    start="Start it with `llama-swap --config FILE`",
    ports=(8080,),
    one_model_at_a_time=True,
    owned_by=("llama-swap",),
)
