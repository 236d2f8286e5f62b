"""The embedded engine: this package's own llama.cpp, on a free port with a random key.

In: one server's paths. Out: what llama.cpp declares there, and that it runs on this machine. It is never found by
looking: whoever started it knows where it is, and anybody else would see a llama.cpp that asks for a key.
"""

from __future__ import annotations

from dataclasses import replace

from mamba_nb.servers import llamacpp
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Kind


async def models(asking: Asking) -> list[ServedModel]:
    """The one model, as llama.cpp declares it."""
    return [
        replace(model, runs_locally=True, evidence={**model.evidence, "runs_locally": "this package started it here"})
        for model in await llamacpp.models(asking)
    ]


KIND = Kind(
    name="embedded",
    title="the embedded engine",
    default_url=None,
    start="Start it with `create_embedded_backend()`",
    slots=4,
    holds_schemas=True,  # a grammar on the sampler
    models=models,
    version=llamacpp.version,
    count_tokens=llamacpp.count_tokens,
    tokenize=llamacpp.tokenize,
    metrics=llamacpp.metrics,
    ignores={**llamacpp.KIND.ignores, "num_ctx": "Start the engine with n_ctx=N.", "keep_alive": "It keeps its model."},
    renames=llamacpp.KIND.renames,
)
