"""KoboldCpp."""

from __future__ import annotations

from mamba_nb.servers.kinds import Kind

KIND = Kind(
    name="koboldcpp",
    title="KoboldCpp",
    default_url="http://localhost:5001/v1",
    start="Start it with `koboldcpp FILE.gguf`",
    ports=(5001,),
    owned_by=("koboldcpp",),
)
