"""vLLM: serves the models it was started with; opens its port only when they are loaded."""

from __future__ import annotations

from mamba_nb.servers.kinds import Kind

KIND = Kind(
    name="vllm",
    title="vLLM",
    default_url="http://localhost:8000/v1",
    start="Start vLLM with `vllm serve MODEL` (it opens its port only when the model is loaded)",
    ports=(8000,),
    owned_by=("vllm",),
    slots=4,  # continuous batching; more at once is fine for it, but shares out the speed of each answer
)
