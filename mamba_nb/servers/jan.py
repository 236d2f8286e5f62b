"""Jan: llama.cpp behind a gateway that wants a key and knows the hosts it trusts.

Nothing of its answers is its own but their words. Its API document, which is public, bears its name; a gateway
that is set to another prefix still has it at the root.

Sources: Jan's src-tauri/src/core/server/proxy.rs (keys, hosts, `/models`), src-tauri/static/openapi.json
(`/models/available`, `/models/load`, `/models/unload`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mamba_nb.servers.asking import Asking
from mamba_nb.servers.calling import LOAD_S, call, failed, no_place
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Kind, Sighting
from mamba_nb.servers.members import entries, listed, member, owners, said, text, whole, words

REFUSALS = ("Missing authorization header", "Invalid or missing authorization token")
NO_PATH = ("Not Found",)


async def recognise(asking: Asking) -> Sighting | None:
    """By the words with which it asks for a key, or by the name of its API document.

    Its models are owned by `user`, as those of text-generation-webui are. The words alone are a guess; with the
    document it is likely.
    """
    answer = await asking.look("/v1/models")
    if answer is None:
        return None
    refused = answer.status == 401 and answer.text.strip() in REFUSALS
    if not refused and not (answer.status == 200 and await owners(asking, "user")):
        return None
    title = text(member(await asking.json("/openapi.json"), "info", "title")) or ""
    if title.startswith("Jan API"):
        return Sighting(
            kind="jan", certainty="likely", evidence=f"GET /openapi.json is titled {title[:60]!r}", needs_key=refused
        )
    if refused:
        return Sighting(
            kind="jan", certainty="guess", evidence=f"GET /v1/models says {answer.text.strip()!r}", needs_key=True
        )
    return None


async def models(asking: Asking) -> Sequence[ServedModel]:
    """Those in memory (`/v1/models`), and in newer versions those on disk (`/v1/models/available`)."""
    running = {
        entry["id"]: said(ServedModel(id=entry["id"]), "GET /v1/models", state="loaded")
        for entry in await listed(asking)
    }
    on_disk = {}
    for entry in entries(await asking.json("/v1/models/available"), "data"):
        if (name := text(entry.get("id"))) is not None:
            on_disk[name] = _on_disk(running.get(name) or ServedModel(id=name), entry)
    return list((running | on_disk).values())


def _on_disk(model: ServedModel, entry: Mapping[str, Any]) -> ServedModel:
    able = words(entry.get("capabilities"))
    embeds = "embedding" in able or "embeddings" in able
    return said(
        model,
        "GET /v1/models/available",
        state={"running": "loaded", "available": "unloaded"}.get(str(entry.get("status"))),
        size_bytes=whole(entry.get("size_bytes")),
        task=None if not able else "embedding" if embeds and "chat" not in able else "chat",
        supports_embeddings=True if embeds else None,
    )


async def load(asking: Asking, model: str, *, context_length: int | None, keep_alive: str | float | None) -> None:
    """`POST /v1/models/load`; its own default is a context of 4096 tokens."""
    no_place("jan", {"keep_alive": "Jan keeps a model until it is unloaded."}, keep_alive=keep_alive)
    body: dict[str, Any] = {"model": model}
    if context_length is not None:
        body["ctx_size"] = context_length
    answer = await call(
        asking,
        "/v1/models/load",
        body,
        kind="jan",
        model=model,
        read_s=LOAD_S,
        verb="load a model",
        no_path=NO_PATH,
    )
    if member(answer.json, "success") is not True:
        raise failed(asking, "jan", model, f"load {model}", answer.json)


async def unload(asking: Asking, model: str) -> None:
    """`POST /v1/models/unload`."""
    body = {"model": model}
    answer = await call(
        asking, "/v1/models/unload", body, kind="jan", model=model, verb="unload a model", no_path=NO_PATH
    )
    if member(answer.json, "success") is not True:
        raise failed(asking, "jan", model, f"unload {model}", answer.json)


KIND = Kind(
    name="jan",
    title="Jan",
    default_url="http://localhost:1337/v1",
    start="Start its server in Jan under Settings, Local API Server",
    ports=(1337,),
    holds_schemas=True,  # llama.cpp inside
    recognise=recognise,
    models=models,
    load=load,
    unload=unload,
)
