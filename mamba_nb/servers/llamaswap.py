"""llama-swap: starts the server that a model needs, stops the one that is in the way, passes the request on.

What it lists is what its configuration says. A model that runs can be asked itself under `/upstream/<model>/`; one
that does not would be started by the question, so it is not asked.

Sources: llama-swap's internal/server/server.go (paths), api.go (`/v1/models`, `/running`, `/upstream`), apigroup.go
(`/api/version`, `/api/models/unload`), auth.go (keys).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

from mamba_nb.servers.asking import Asking
from mamba_nb.servers.calling import LOAD_S, call, failed, no_place
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Fetch, Kind, Sighting
from mamba_nb.servers.members import entries, listed, member, owners, parameters_of, said, text, truth, whole

REALM = 'realm="llama-swap"'
NO_PATH = ("404 page not found",)

State = Literal["loaded", "loading", "unloaded"]
STATES: Mapping[str, State] = {"ready": "loaded", "starting": "loading", "stopping": "unloaded", "stopped": "unloaded"}


async def recognise(asking: Asking) -> Sighting | None:
    """By `owned_by`, by the realm in which it asks for a key, or by `/running` where it lists no model."""
    answer = await asking.look("/v1/models")
    if answer is not None and answer.status == 401 and REALM in answer.headers.get("www-authenticate", ""):
        return _sighting(f"GET /v1/models asks for a key in the {REALM}", needs_key=True)
    if answer is None or answer.status != 200 or not await owners(asking, "llama-swap"):
        return None
    if entries(answer.json, "data"):
        return _sighting('GET /v1/models says "owned_by": "llama-swap"')
    if isinstance(member(answer.json, "data"), list) and isinstance(
        member(await asking.json("/running"), "running"), list
    ):
        return _sighting('GET /running is {"running": [...]}')
    return None


def _sighting(evidence: str, *, needs_key: bool = False) -> Sighting:
    return Sighting(kind="llamaswap", certainty="certain", evidence=evidence, needs_key=needs_key)


async def version(asking: Asking) -> str | None:
    """`/api/version`, which unlike Ollama's has `commit` and `build_date` too."""
    return text(member(await asking.json("/api/version"), "version"))


async def models(asking: Asking) -> Sequence[ServedModel]:
    """The configured models, those of its peers among them, with their states from `/running`."""
    found, running = await asyncio.gather(listed(asking), asking.json("/running"))
    states = None if not isinstance(running, Mapping) else _states(running)
    return [_model(entry, states) for entry in found]


def _states(running: Any) -> dict[str, State]:
    """Model -> state, of those that `/running` lists."""
    return {
        name: STATES.get(str(entry.get("state")), "loading")
        for entry in entries(running, "running")
        if (name := text(entry.get("model")))
    }


def _model(entry: Mapping[str, Any], states: Mapping[str, State] | None) -> ServedModel:
    own = member(entry, "meta", "llamaswap")
    peer = text(member(own, "peerID"))
    real = text(member(own, "modelID")) or entry["id"]  # an alias says which model it stands for
    able, inputs = entry.get("capabilities"), member(entry, "architecture", "input_modalities")
    images = truth(member(able, "vision"))
    if images is None and isinstance(inputs, list):
        images = "image" in inputs
    model = said(
        ServedModel(id=entry["id"]),
        "GET /v1/models",
        context_window=whole(entry.get("context_length")),
        context_max=whole(member(entry, "meta", "n_ctx_train")),
        supports_vision=images,
        supports_tools=truth(member(able, "function_calling")),
        supports_embeddings=truth(member(able, "embeddings")),
        task="other" if truth(member(able, "reranker")) else None,
        runs_locally=False if peer else None,
    )
    status = {"loaded": "loaded", "unloaded": "unloaded"}.get(str(member(entry, "status", "value")))
    model = said(model, "GET /v1/models", state=status)
    if states is None or peer:
        return model
    return said(model, "GET /running", state=states.get(real, "unloaded"))


async def detail(asking: Asking, model: ServedModel) -> ServedModel:
    """What the model's own server says of it, where that runs: `/upstream/<model>/v1/models`."""
    if model.state != "loaded" or model.runs_locally is False:
        return model
    path = _upstream(model.id)
    found = entries(await asking.json(path), "data")
    entry = next((entry for entry in found if entry.get("id") == model.id), found[0] if found else {})
    meta = entry.get("meta")
    return said(
        model,
        f"GET {path}",
        context_window=whole(member(meta, "n_ctx")) or whole(entry.get("max_model_len")),
        context_max=whole(member(meta, "n_ctx_train")),
        size_bytes=whole(member(meta, "size")),
        parameters=parameters_of(member(meta, "n_params")),
        quantization=text(member(meta, "ftype")),
    )


def _upstream(model: str) -> str:
    return f"/upstream/{quote(model, safe='/:@+')}/v1/models"


async def load(asking: Asking, model: str, *, context_length: int | None, keep_alive: str | float | None) -> None:
    """Ask the model's own server for anything: it is started first, and others may be stopped for it."""
    no_place(
        "llamaswap",
        {
            "context_length": "Set it in the command of its configuration (`-c` for llama-server).",
            "keep_alive": "Set `ttl` in its configuration.",
        },
        context_length=context_length,
        keep_alive=keep_alive,
    )
    try:
        await call(
            asking,
            _upstream(model),
            None,
            method="GET",
            kind="llamaswap",
            model=model,
            read_s=LOAD_S,
            verb="load a model",
        )
    except (LookupError, NotImplementedError, PermissionError, ValueError):
        # A refusal may be the model's own server's, which need not have this path; then it runs all the same.
        if (await _running(asking)).get(model) != "loaded":
            raise


async def unload(asking: Asking, model: str) -> None:
    """`POST /api/models/unload/<model>`; an older version can only stop all, which is done where this is all."""
    path = f"/api/models/unload/{quote(model, safe='/:@+')}"
    try:
        await call(asking, path, {}, kind="llamaswap", model=model, verb="unload one model", no_path=NO_PATH)
    except NotImplementedError:
        if set(await _running(asking)) != {model}:
            raise
        answer = await call(asking, "/unload", None, method="GET", kind="llamaswap", verb="unload models")
        if answer.text.strip() != "OK":
            raise failed(asking, "llamaswap", model, f"unload {model}", answer.text) from None


async def _running(asking: Asking) -> dict[str, State]:
    """The states as they are now."""
    return _states((await call(asking, "/running", None, method="GET", kind="llamaswap", verb="say what runs")).json)


async def is_loading(fetch: Fetch, model: str) -> bool:
    """Whether the server that the model needs is being started."""
    return _states(await fetch("/running")).get(model) == "loading"


async def loaded_models(fetch: Fetch) -> list[str]:
    """The models whose servers are ready."""
    return [name for name, state in _states(await fetch("/running")).items() if state == "loaded"]


KIND = Kind(
    name="llamaswap",
    title="llama-swap",
    default_url="http://localhost:8080/v1",
    start="Start it with `llama-swap --config FILE`",
    ports=(8080,),
    one_model_at_a_time=True,
    owned_by=("llama-swap",),
    recognise=recognise,
    models=models,
    detail=detail,
    version=version,
    load=load,
    unload=unload,
    is_loading=is_loading,
    loaded_models=loaded_models,
)
