"""Ollama: native facts under `/api`, the OpenAI protocol under `/v1`."""

from __future__ import annotations

from mamba_nb.servers.kinds import Fetch, Kind


async def is_loading(fetch: Fetch, model: str) -> bool:
    """Whether the model is not in memory yet: `/api/ps` lists it, with its context, once it is.

    Source: Ollama server/routes.go (PsHandler), api/types.go (ProcessModelResponse).
    """
    listed = {entry.get("name"): entry for entry in (await fetch("/api/ps")).get("models") or ()}
    entry = listed.get(model) or listed.get(f"{model}:latest")
    return entry is None or not entry.get("context_length", 1)


async def loaded_models(fetch: Fetch) -> list[str]:
    """The models in memory, by `/api/ps`."""
    return [entry["name"] for entry in (await fetch("/api/ps")).get("models") or ()]


KIND = Kind(
    name="ollama",
    title="Ollama",
    default_url="http://localhost:11434/v1",
    start="Start Ollama with `ollama serve`",
    one_model_at_a_time=True,
    is_loading=is_loading,
    loaded_models=loaded_models,
)
