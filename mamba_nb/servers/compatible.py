"""Whatever else speaks the OpenAI protocol: never told as certain, for others may have shapes of their own."""

from __future__ import annotations

from collections.abc import Mapping

from mamba_nb.servers.asking import Asking
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Kind, Sighting
from mamba_nb.servers.members import listed, member, text, whole


async def recognise(asking: Asking) -> Sighting | None:
    """By a list of models in OpenAI's form, or by OpenAI's form of error where a key is missing.

    An empty list, or one that is null, is a guess, and so is a 401.
    """
    answer = await asking.look("/v1/models")
    if answer is None or not isinstance(answer.json, Mapping):
        return None
    if answer.status in (401, 403):
        if text(member(answer.json, "error", "message")) is None:
            return None
        evidence = f"GET /v1/models is {answer.status} with an error in OpenAI's form"
        return Sighting(kind="compatible", certainty="guess", evidence=evidence, needs_key=True)
    if answer.status != 200 or not isinstance(answer.json.get("data", ""), list | None):
        return None
    if await listed(asking):
        return Sighting(kind="compatible", certainty="likely", evidence="GET /v1/models is a list of models")
    if answer.json.get("data") or answer.json.get("object") != "list":
        return None
    return Sighting(kind="compatible", certainty="guess", evidence="GET /v1/models is an empty list of models")


# What servers call the context of a model in its entry of `/v1/models`, beside OpenAI's own fields.
_LENGTHS = ("max_model_len", "context_length", "context_window", "max_context_length")


async def models(asking: Asking) -> list[ServedModel]:
    """Its models, with a context where an entry has one under a name that servers use for it."""
    found = []
    for entry in await listed(asking):
        name = next((name for name in _LENGTHS if whole(entry.get(name)) is not None), None)
        length = whole(entry.get(name)) if name else None
        evidence = {"context_window": f"GET /v1/models, {name}"} if name else {}
        found.append(ServedModel(id=entry["id"], context_window=length, evidence=evidence))
    return found


KIND = Kind(
    name="compatible",
    title="the server",
    default_url=None,
    start="Start the server",
    recognise=recognise,
    models=models,
)
