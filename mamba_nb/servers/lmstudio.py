"""LM Studio: native facts under `/api/v0` and `/api/v1`, the OpenAI protocol under `/v1`.

It answers unknown paths with HTTP 200 and an `error`, so every reply is judged by its shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mamba_nb.servers.kinds import Fetch, Kind

LOCAL_MODEL = "local-model"  # LM Studio's own placeholder: whatever is loaded


async def is_loading(fetch: Fetch, model: str) -> bool:
    """Whether the model is not in memory yet, which with a request waiting means that it is being loaded."""
    states = {entry.get("id"): entry.get("state") for entry in await _entries(fetch)}
    return model in states and states[model] != "loaded"


async def loaded_models(fetch: Fetch) -> list[str]:
    """The language models in memory; embedding models are left out."""
    return [
        entry["id"]
        for entry in await _entries(fetch)
        if entry.get("state") == "loaded" and entry.get("type") in ("llm", "vlm")
    ]


async def _entries(fetch: Fetch) -> Sequence[Mapping[str, Any]]:
    """GET /api/v0/models (0.3.6 and later); nothing where the answer has another shape."""
    reply = await fetch("/api/v0/models")
    entries = reply.get("data") if isinstance(reply, Mapping) else None
    return [entry for entry in entries or () if isinstance(entry, Mapping)]


KIND = Kind(
    name="lmstudio",
    title="LM Studio",
    default_url="http://localhost:1234/v1",
    start="Start its server under Developer, Start server, or with `lms server start`",
    ports=(1234,),
    owned_by=("organization_owner", "organization-owner"),
    one_model_at_a_time=True,
    is_loading=is_loading,
    loaded_models=loaded_models,
)
