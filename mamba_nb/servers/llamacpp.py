"""llama.cpp's `llama-server`: one model, answered with 503 `Loading model` until it is in memory."""

from __future__ import annotations

from mamba_nb.servers.kinds import Kind

KIND = Kind(
    name="llamacpp",
    title="llama.cpp",
    default_url="http://localhost:8080/v1",
    start="Start it with `llama-server -m FILE.gguf`",
    ports=(8080,),
    owned_by=("llamacpp",),
    slots=4,  # `-np -1`, its default: four slots over one cache
)
