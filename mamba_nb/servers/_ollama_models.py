"""Ollama's models as it declares them: `/api/tags` and `/api/ps` for all, `/api/show` for one.

In: JSON that a server wrote, of any shape. Out: `ServedModel`s, with None wherever something is missing or of the
wrong type.

    installed, size, family, quantisation, longest context, capabilities   GET /api/tags
    in memory, its size there, the context in force                       GET /api/ps
    the Modelfile's num_ctx, the exact number of weights                  POST /api/show

Older releases leave capabilities and the longest context out of `/api/tags`; `/api/show` has them.

Sources: Ollama's api/types.go (ListModelResponse, ProcessModelResponse, ShowResponse), server/routes.go (ListHandler,
PsHandler, GetModelInfo).
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mamba_nb.servers.asking import Asking
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.members import entries, listed, member, parameters_of, said, text, whole, words

__all__ = ["detail", "is_embedding_family", "models", "tagged"]

TAGS, PS, SHOW = "GET /api/tags", "GET /api/ps", "POST /api/show"
LOOK_AGAIN_S = 0.05
SHOW_S = 10.0  # it reads the model's file


def tagged(model: str) -> str:
    """The name with its tag: `llama3.2` means `llama3.2:latest`.

    Examples:
        >>> tagged("llama3.2"), tagged("llama3.2:1b"), tagged("localhost:5000/me/mine")
        ('llama3.2:latest', 'llama3.2:1b', 'localhost:5000/me/mine:latest')
    """
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def is_embedding_family(family: Any) -> bool:
    """Whether the architecture is one of those that only embed: `bert`, `nomic-bert`."""
    return isinstance(family, str) and family.lower().endswith("bert")


async def models(asking: Asking) -> list[ServedModel]:
    """Every installed model, and what is in memory without being installed any more.

    Without `/api/tags` (a proxy that lets `/v1` through alone) the ids of `/v1/models`.
    """
    tags, ps = await asyncio.gather(asking.json("/api/tags"), asking.json("/api/ps"))
    running = _by_name(ps)
    found = {name: _installed(entry) for name, entry in _by_name(tags).items()}
    if not isinstance(member(tags, "models"), list):
        found |= {tagged(entry["id"]).lower(): ServedModel(id=entry["id"]) for entry in await listed(asking)}
    for name, entry in running.items():
        if name not in found:
            found[name] = _of_details(ServedModel(id=_name(entry) or name), entry, PS)
    moving = await _moving(asking, running) if running else set()
    knows = isinstance(member(ps, "models"), list)
    return [_in_memory(model, running.get(name), name in moving, knows) for name, model in found.items()]


def _name(entry: Mapping[str, Any]) -> str | None:
    return text(entry.get("name")) or text(entry.get("model"))


def _by_name(reply: Any) -> dict[str, Mapping[str, Any]]:
    """Each entry once, by its name with its tag in small letters."""
    found: dict[str, Mapping[str, Any]] = {}
    for entry in entries(reply, "models"):
        if (name := _name(entry)) is not None:
            found.setdefault(tagged(name).lower(), entry)
    return found


def _installed(entry: Mapping[str, Any]) -> ServedModel:
    model = _of_details(ServedModel(id=_name(entry) or ""), entry, TAGS)
    remote = _is_remote(model.id, entry)
    model = said(
        model,
        TAGS,
        runs_locally=not remote,
        size_bytes=None if remote else whole(entry.get("size")),  # a cloud model is a file of some hundred bytes
        digest=text(entry.get("digest")),
        context_max=whole(member(entry, "details", "context_length")),
    )
    kept = {name: entry[name] for name in ("modified_at", "remote_host", "remote_model") if text(entry.get(name))}
    return _able(replace(model, extras={**model.extras, **kept}), entry.get("capabilities"), TAGS)


def _is_remote(name: str, entry: Mapping[str, Any]) -> bool:
    """Whether it runs in Ollama's cloud: by its host, or by a name such as `gpt-oss:120b-cloud`."""
    return text(entry.get("remote_host")) is not None or tagged(name).lower().endswith((":cloud", "-cloud"))


def _of_details(model: ServedModel, entry: Mapping[str, Any], endpoint: str) -> ServedModel:
    details = entry.get("details")
    family, quantization = text(member(details, "family")), text(member(details, "quantization_level"))
    return said(
        model,
        endpoint,
        family=family,
        parameters=parameters_of(member(details, "parameter_size")),
        quantization=None if quantization == "unknown" else quantization,
        task="embedding" if is_embedding_family(family) else None,
    )


def _able(model: ServedModel, declared: Any, endpoint: str) -> ServedModel:
    """What a list of capabilities says; what is not in a list that is there is declared not to be."""
    able = words(declared)
    if not able:
        return model
    chats, embeds = "completion" in able, "embedding" in able
    model = said(
        model,
        endpoint,
        task="chat" if chats else "embedding" if embeds else "other",
        supports_tools="tools" in able,
        supports_vision="vision" in able,
        supports_reasoning="thinking" in able,
        supports_embeddings=embeds,
    )
    return replace(model, extras={**model.extras, "capabilities": able})


async def _moving(asking: Asking, running: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Those that are just being loaded: until then their end is always the same time from now (server/routes.go)."""
    await asyncio.sleep(LOOK_AGAIN_S)
    asking.forget("/api/ps")
    later = _by_name(await asking.json("/api/ps"))
    return {
        name
        for name, entry in running.items()
        if name in later and later[name].get("expires_at") != entry.get("expires_at")
    }


def _in_memory(model: ServedModel, entry: Mapping[str, Any] | None, moving: bool, knows: bool) -> ServedModel:
    if entry is None:
        absent = knows and model.runs_locally is not False
        return said(model, PS, state="unloaded" if absent else None)
    context = whole(entry.get("context_length"))
    loading = moving or entry.get("context_length") == 0
    model = said(
        model,
        PS,
        state="loading" if loading else "loaded",
        context_window=context,
        memory_bytes=whole(entry.get("size")),
        digest=None if model.digest else text(entry.get("digest")),
    )
    kept: dict[str, Any] = {}
    if text(entry.get("expires_at")):
        kept["expires_at"] = entry["expires_at"]
    if (vram := whole(entry.get("size_vram"), 0)) is not None:
        kept["size_vram"] = vram
    return replace(model, extras={**model.extras, **kept})


# One model in full.


async def detail(asking: Asking, model: ServedModel) -> ServedModel:
    """The model with what `/api/show` adds; as it was where that says nothing.

    `extras["num_ctx"]` is the Modelfile's, which a request on `/v1` gets; `extras["parameters"]` all of the
    Modelfile's, as text.
    """
    try:
        answer = await asking.post("/api/show", {"model": model.id}, read_s=max(asking.read_s, SHOW_S))
    except Exception:  # this is an addition: without it the model is what the list said
        return model
    shown = answer.json if answer.ok else None
    if not isinstance(shown, Mapping):
        return model
    info = shown.get("model_info")
    family = text(member(info, "general.architecture"))
    model = _of_details(model, shown, SHOW) if model.family is None else model
    model = said(
        model,
        SHOW,
        family=family if model.family is None else None,
        parameters=whole(member(info, "general.parameter_count")),
        context_max=whole(member(info, f"{family}.context_length")) if family else None,
        runs_locally=False if _is_remote(model.id, shown) else None,
    )
    model = _able(model, shown.get("capabilities"), SHOW)
    parameters = _parameters(shown.get("parameters"))
    kept: dict[str, Any] = {"parameters": parameters} if parameters else {}
    if len(asked := parameters.get("num_ctx", ())) and asked[-1].isdecimal() and len(asked[-1]) < 12:
        kept["num_ctx"] = int(asked[-1])
    return replace(model, extras={**model.extras, **kept})


def _parameters(written: Any) -> dict[str, tuple[str, ...]]:
    r"""The Modelfile's parameters: a name, blanks, a value; a name may come several times.

    Examples:
        >>> _parameters('num_ctx                        8192\nstop                           "<|im_end|>"')
        {'num_ctx': ('8192',), 'stop': ('<|im_end|>',)}
    """
    found: dict[str, tuple[str, ...]] = {}
    for line in written.splitlines()[:200] if isinstance(written, str) else ():
        name, _, value = line.strip().partition(" ")
        if name and value.strip():
            found[name] = (*found.get(name, ()), _unquoted(value.strip()))
    return found


def _unquoted(value: str) -> str:
    try:
        parts = shlex.split(value)
    except ValueError:
        return value
    return parts[0] if len(parts) == 1 else value
