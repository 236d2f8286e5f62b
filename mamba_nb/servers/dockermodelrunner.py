"""Docker Model Runner: models as images, llama.cpp or vLLM behind, one process a model.

Its OpenAI paths stand under `/engines/v1`, and in newer versions under `/v1` too. `dmr` in its list says what the
image says; what a model was configured to run with (`/engines/_configure`) goes before.

Sources: docker/model-runner's pkg/inference/models/{api,http_handler}.go (lists, `/models/create`),
pkg/inference/scheduling/{api,http_handler}.go (`/engines/ps`, `/engines/df`, `/engines/unload`, `X-Preload-Only`),
pkg/distribution/internal/progress/reporter.go and pkg/inference/models/manager.go (progress), pkg/routing/router.go.
"""

from __future__ import annotations

import asyncio
import html
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from mamba_nb.servers.asking import Asking
from mamba_nb.servers.calling import LOAD_S, call, failed, no_place, stream
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Fetch, Kind, Sighting
from mamba_nb.servers.members import bytes_of, entries, listed, member, owners, parameters_of, said, text, whole
from mamba_nb.servers.pulling import PullProgress

PS = "/engines/ps"
CONFIGURED = "/engines/_configure"


async def recognise(asking: Asking) -> Sighting | None:
    """By `owned_by`, or by `/engines/df` where it has no model."""
    answer = await asking.look("/v1/models")
    if answer is None or answer.status != 200 or not await owners(asking, "docker"):
        return None
    found = entries(answer.json, "data")
    if any(isinstance(entry.get("dmr"), Mapping) for entry in found):
        return _sighting('GET /v1/models says "owned_by": "docker" and has "dmr"', "certain")
    if not found and not isinstance(member(answer.json, "data"), list):
        return None
    usage = await asking.json("/engines/df")
    if whole(member(usage, "models_disk_usage"), 0) is not None:
        return _sighting('GET /engines/df has "models_disk_usage"', "certain")
    return _sighting('GET /v1/models says "owned_by": "docker"', "likely") if found else None


def _sighting(evidence: str, certainty: Any) -> Sighting:
    return Sighting(kind="dockermodelrunner", certainty=certainty, evidence=evidence)


async def models(asking: Asking) -> Sequence[ServedModel]:
    """Every model on disk, with what its image says, what runs, and what it was configured with."""
    found, images, running, configured = await asyncio.gather(
        listed(asking), asking.json("/models"), asking.json(PS), asking.json(CONFIGURED)
    )
    by_name = {name: image for image in entries(images) for name in _names(image)}
    states = _states(running) if isinstance(running, list) else None
    contexts = _contexts(configured)
    return [_model(entry, by_name.get(entry["id"], {}), states, contexts) for entry in found]


def _names(image: Mapping[str, Any]) -> list[str]:
    """An image's tags and its digest."""
    tags = image.get("tags")
    names = [*(tags if isinstance(tags, list) else ()), image.get("id")]
    return [name for name in names if isinstance(name, str)]


def _states(running: Any) -> dict[str, str]:
    """Model -> state, of those that have a process."""
    return {
        name: "loading" if entry.get("loading") is True else "loaded"
        for entry in entries(running)
        if (name := text(entry.get("model_name")))
    }


def _contexts(configured: Any) -> dict[str, int]:
    """Model -> the context that it was configured to run with; the members are spelt as Go spells them."""
    return {
        name: context
        for entry in entries(configured)
        if (context := whole(member(entry, "Config", "context-size"))) is not None
        for name in (entry.get("Model"), entry.get("ModelID"))
        if isinstance(name, str)
    }


def _model(
    entry: Mapping[str, Any],
    image: Mapping[str, Any],
    states: Mapping[str, str] | None,
    contexts: Mapping[str, int],
) -> ServedModel:
    dmr, config = entry.get("dmr"), image.get("config")
    names = {entry["id"], *_names(image)}
    model = said(
        ServedModel(id=entry["id"]),
        "GET /models",
        digest=text(image.get("id")),
        context_window=whole(member(config, "context_size")),
        context_max=_trained(member(config, "gguf")),
        family=text(member(config, "architecture")),
        parameters=parameters_of(member(config, "parameters")),
        quantization=text(member(config, "quantization")),
        size_bytes=bytes_of(member(config, "size")),
    )
    model = said(
        model,
        "GET /v1/models",
        context_window=whole(member(dmr, "context_window")),
        family=text(member(dmr, "architecture")),
        parameters=parameters_of(member(dmr, "parameters")),
        quantization=text(member(dmr, "quantization")),
        size_bytes=bytes_of(member(dmr, "size")),
    )
    model = said(model, f"GET {CONFIGURED}", context_window=_first(contexts, names))
    if states is None:
        return model
    return said(model, f"GET {PS}", state=_first(states, names) or "unloaded")


def _trained(gguf: Any) -> int | None:
    """The context that the weights were made for, out of the file's own members, which are all text."""
    values = (
        [value for key, value in gguf.items() if str(key).endswith(".context_length")]
        if isinstance(gguf, Mapping)
        else []
    )
    return whole(int(values[0])) if values and isinstance(values[0], str) and values[0].isdecimal() else None


def _first(known: Mapping[str, Any], names: set[str]) -> Any:
    return next((known[name] for name in sorted(names) if name in known), None)


async def pull(asking: Asking, model: str, options: Mapping[str, Any]) -> AsyncIterator[PullProgress]:
    """`POST /models/create`: a line for every step of every layer.

    Args:
        asking: The server.
        model: A name of Docker Hub (`ai/smollm2`) or of Hugging Face (`hf.co/...`).
        options: Further members of the request (`bearer-token`).

    Raises:
        ModelNotFound: If there is no such image.
        ServerFailed: If the download failed, or ended without saying so.
    """
    layers: dict[str, int] = {}
    verb = "pull a model"
    body = {**options, "from": model}
    async for line in stream(asking, "/models/create", body, kind="dockermodelrunner", model=model, verb=verb):
        step = _step(line)
        kind, message = text(member(step, "type")), text(member(step, "message")) or ""
        if kind == "error":
            raise failed(asking, "dockermodelrunner", model, f"pull {model}", message or None)
        if kind == "progress" and (layer := text(member(step, "layer", "id"))):
            layers[layer] = max(layers.get(layer, 0), whole(member(step, "layer", "current"), 0) or 0)
        yield PullProgress(
            model=model,
            status="success" if kind == "success" else message or "pulling",
            completed_bytes=sum(layers.values()) if layers else None,
            total_bytes=whole(member(step, "total")),
        )
        if kind == "success":
            return
    raise failed(asking, "dockermodelrunner", model, f"finish the download of {model}")


def _step(line: bytes) -> Any:
    """One line of progress; it is escaped as for a page where the request accepts more than JSON."""
    words = line.decode("utf-8", "replace").strip()
    try:
        return json.loads(words if words.startswith("{") and "&#34;" not in words else html.unescape(words))
    except ValueError:
        return {"message": words[:200]}


async def load(asking: Asking, model: str, *, context_length: int | None, keep_alive: str | float | None) -> None:
    """A chat request that is marked to load the model and do nothing else."""
    no_place(
        "dockermodelrunner",
        {
            "context_length": "Set it with `docker model configure --context-size N MODEL`.",
            "keep_alive": "Set it with `docker model configure --keep-alive DURATION MODEL`.",
        },
        context_length=context_length,
        keep_alive=keep_alive,
    )
    await call(
        asking,
        "/v1/chat/completions",
        {"model": model, "messages": []},
        kind="dockermodelrunner",
        model=model,
        headers={"X-Preload-Only": "true"},
        read_s=LOAD_S,
        verb="load a model",
    )


async def unload(asking: Asking, model: str) -> None:
    """`POST /engines/unload`; a model that is answering stays.

    Raises:
        ServerFailed: If the model is in memory and stays there.
    """
    answer = await call(
        asking,
        "/engines/unload",
        {"all": False, "backend": "", "models": [model]},
        kind="dockermodelrunner",
        verb="unload a model",
        read_s=60.0,
    )
    if not whole(member(answer.json, "unloaded_runners")):
        asking.forget(PS)
        if model in _states(await asking.json(PS)):
            raise failed(asking, "dockermodelrunner", model, f"unload {model}", "it is answering a request")


async def is_loading(fetch: Fetch, model: str) -> bool:
    """Whether its process is being started."""
    return _states(await fetch(PS)).get(model) == "loading"


async def loaded_models(fetch: Fetch) -> list[str]:
    """The models that have a process, those for embeddings left out."""
    running = await fetch(PS)
    embedding = {entry.get("model_name") for entry in entries(running) if entry.get("mode") == "embedding"}
    return [name for name, state in _states(running).items() if state == "loaded" and name not in embedding]


KIND = Kind(
    name="dockermodelrunner",
    title="Docker Model Runner",
    default_url="http://localhost:12434/engines/v1",
    start="Start it with `docker model run MODEL` and turn on host-side TCP access",
    ports=(12434,),
    api_path="/engines/v1",
    owned_by=("docker",),
    holds_schemas=True,  # llama.cpp inside
    recognise=recognise,
    models=models,
    pull=pull,
    load=load,
    unload=unload,
    is_loading=is_loading,
    loaded_models=loaded_models,
)
