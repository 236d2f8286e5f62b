"""mlx-lm."""

from __future__ import annotations

from mamba_nb.servers.kinds import Kind

KIND = Kind(
    name="mlxlm",
    title="mlx-lm",
    default_url="http://localhost:8080/v1",
    start="Start it with `mlx_lm.server --model MODEL`",
    ports=(8080,),
)
