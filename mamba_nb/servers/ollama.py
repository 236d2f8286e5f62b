"""Ollama: native facts under `/api`, the OpenAI protocol under `/v1`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from mamba_nb.servers.kinds import Fetch, Kind

LOOK_AGAIN_S = 0.05


async def is_loading(fetch: Fetch, model: str) -> bool:
    """Whether the model is not in memory yet, or has only just come there.

    `/api/ps` does not list a model that waits for its turn. It lists one that is being loaded just like one in
    use, except for its end: until its first request is done, `expires_at` is always the same time from now,
    so it differs from one look to the next.

    Source: Ollama server/routes.go (PsHandler), server/sched.go (load).
    """
    before = await _entry(fetch, model)
    if before is None or not before.get("context_length", 1):
        return True
    await asyncio.sleep(LOOK_AGAIN_S)
    after = await _entry(fetch, model)
    return after is None or before.get("expires_at") != after.get("expires_at")


async def _entry(fetch: Fetch, model: str) -> Mapping[str, Any] | None:
    names = (model, f"{model}:latest")
    entries = (await fetch("/api/ps")).get("models") or ()
    return next((entry for entry in entries if entry.get("name") in names), None)


async def loaded_models(fetch: Fetch) -> list[str]:
    """The models in memory, by `/api/ps`."""
    return [entry["name"] for entry in (await fetch("/api/ps")).get("models") or ()]


KIND = Kind(
    name="ollama",
    title="Ollama",
    default_url="http://localhost:11434/v1",
    start="Start Ollama with `ollama serve`",
    ports=(11434,),
    owned_by=("library",),
    one_model_at_a_time=True,
    is_loading=is_loading,
    loaded_models=loaded_models,
)
