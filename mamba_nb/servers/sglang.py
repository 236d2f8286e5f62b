"""SGLang."""

from __future__ import annotations

from mamba_nb.servers.kinds import Kind

KIND = Kind(
    name="sglang",
    title="SGLang",
    default_url="http://localhost:30000/v1",
    start="Start it with `python -m sglang.launch_server --model-path MODEL`",
    ports=(30000,),
    slots=4,
    owned_by=("sglang",),
)
