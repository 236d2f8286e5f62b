"""LM Studio: native facts under `/api/v0` and `/api/v1`, the OpenAI protocol under `/v1`.

In: one server's paths. Out: whether it is LM Studio, its models with what it declares of them, and its verbs, which
stand in `_lmstudio_verbs`.

    0.4 and later     GET /api/v1/models; load, unload and downloads beside it
    0.3.6 and later   GET /api/v0/models
    before            GET /v1/models alone: names, without facts

It answers unknown paths with HTTP 200 and an `error`, so every reply is judged by its shape. It also writes an ERROR
line into its user's console for each of them, so the newest list is asked for first and an older one only where that
is not there.

Sources: LM Studio's documentation, `1_developer/2_rest/list.md` and `endpoints.mdx`; the SDK's probe of
`/lmstudio-greeting` (lmstudio-python, `src/lmstudio/json_api.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mamba_nb.servers import _lmstudio_verbs as verbs
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Fetch, Kind, Sighting, kind_from_models
from mamba_nb.servers.members import entries, listed, member, parameters_of, text, truth, whole, words

LOCAL_MODEL = "local-model"  # LM Studio's own placeholder: whatever is loaded
OWNERS = ("organization_owner", "organization-owner")
GREETING = "/lmstudio-greeting"
UNEXPECTED = "Unexpected endpoint or method."
TOKEN = "LM Studio API token"


# Is it LM Studio?


async def recognise(asking: Asking) -> Sighting | None:
    """Whether this is LM Studio: by its greeting, its words for unknown paths or for a missing token, or its lists.

    Beside GET /v1/models, the greeting alone is asked for; the native lists only where the greeting is hidden and
    `owned_by` is LM Studio's.
    """
    listing = await asking.look("/v1/models")
    if listing is not None:
        if listing.status == 401 and TOKEN in str(member(listing.json, "error", "message")):
            return _sighting("certain", f"GET /v1/models is 401 and asks for an {TOKEN}", needs_key=True)
        if kind_from_models({"data": entries(listing.json, "data")}, listing.headers) not in (None, "lmstudio"):
            return None
    needs_key = listing is not None and listing.status == 401
    greeting = await asking.look(GREETING)
    if greeting is not None and member(greeting.json, "lmstudio") is True:
        return _sighting("certain", f'GET {GREETING} is {{"lmstudio": true}}', needs_key=needs_key)
    ours = _is_ours(listing.json if listing is not None else None)
    for path, answer in (("/v1/models", listing), (GREETING, greeting)):
        if answer is not None and answer.status == 200 and _is_unexpected(answer.json):
            certainty = "certain" if ours else "likely"
            return _sighting(certainty, f'GET {path} is 200 with "{UNEXPECTED}"', needs_key=needs_key)
    native = await _native_list(asking) if ours else None
    if native is not None:
        return _sighting("certain", f"GET {native} has LM Studio's shape", needs_key=needs_key)
    return None


def _sighting(certainty: Any, evidence: str, *, needs_key: bool) -> Sighting:
    return Sighting(kind="lmstudio", certainty=certainty, evidence=evidence, needs_key=needs_key)


def _is_ours(listing: Any) -> bool:
    return any(entry.get("owned_by") in OWNERS for entry in entries(listing, "data")[:50])


def _is_unexpected(reply: Any) -> bool:
    said = member(reply, "error")
    return isinstance(said, str) and said.startswith(UNEXPECTED)


async def _native_list(asking: Asking) -> str | None:
    """The path of the newest list of its own that is there; None where there is none."""
    if _v1_entries(await asking.json(verbs.MODELS)) is not None:
        return verbs.MODELS
    if _v0_entries(await asking.json(verbs.OLD_MODELS)) is not None:
        return verbs.OLD_MODELS
    return None


def _v1_entries(reply: Any) -> list[Mapping[str, Any]] | None:
    """The entries of GET /api/v1/models, or None where the reply is none; an empty list is one."""
    if not isinstance(member(reply, "models"), list):
        return None
    found = entries(reply, "models")
    mine = [entry for entry in found if text(entry.get("key")) and "loaded_instances" in entry]
    return mine if mine or not found else None


def _v0_entries(reply: Any) -> list[Mapping[str, Any]] | None:
    """The entries of GET /api/v0/models, likewise."""
    if not isinstance(member(reply, "data"), list):
        return None
    found = entries(reply, "data")
    mine = [entry for entry in found if text(entry.get("id")) and ("state" in entry or "compatibility_type" in entry)]
    return mine if mine or not found else None


async def version(asking: Asking) -> str | None:
    """How new it is by the lists that it has; no path tells its number."""
    path = await _native_list(asking)
    return {verbs.MODELS: "0.4 or later", verbs.OLD_MODELS: "0.3.6 or later"}.get(path or "")


# What it has.


async def models(asking: Asking) -> list[ServedModel]:
    """All downloaded models, as the newest list there is declares them.

    Instances that were loaded under a name of their own are models too: requests can name them. Nothing where a token
    is asked for: the older lists would ask for it as well.
    """
    answer = await asking.look(verbs.MODELS)
    if answer is None or answer.status in (401, 403):
        return []
    found = _v1_entries(answer.json if answer.status == 200 else None)
    if found is not None:
        return _once(model for entry in found for model in _from_v1(entry))
    older = _v0_entries(await asking.json(verbs.OLD_MODELS))
    if older is not None:
        return _once(_from_v0(entry) for entry in older)
    return [ServedModel(id=entry["id"]) for entry in await listed(asking)]


def _once(models: Iterator[ServedModel]) -> list[ServedModel]:
    found: dict[str, ServedModel] = {}
    for model in models:
        found.setdefault(model.id, model)
    return list(found.values())


def _from_v1(entry: Mapping[str, Any]) -> list[ServedModel]:
    """A model of GET /api/v1/models, and each of its instances that has another name."""
    key = entry["key"]
    instances = verbs.instances_of(entry)
    first = next((one for one in instances if one["id"] == key), instances[0] if instances else None)
    named = [one for one in instances if one["id"] != key and one is not first]
    if first is not None and first["id"] != key:
        named.insert(0, first)
    return [_v1_model(entry, key, first, instances), *(_v1_model(entry, one["id"], one, instances) for one in named)]


def _v1_model(
    entry: Mapping[str, Any], name: str, instance: Mapping[str, Any] | None, instances: Sequence[Mapping[str, Any]]
) -> ServedModel:
    task = {"llm": "chat", "vlm": "chat", "embedding": "embedding", "embeddings": "embedding"}
    kind = text(entry.get("type"))
    facts = {
        "context_window": instance["context_length"] if instance is not None else None,
        "context_max": whole(entry.get("max_context_length")),
        "size_bytes": whole(entry.get("size_bytes")),
        "parameters": parameters(entry.get("params_string")),
        "quantization": _quantization(entry.get("quantization")),
        "family": text(entry.get("architecture")),
        "supports_tools": truth(member(entry, "capabilities", "trained_for_tool_use")),
        "supports_vision": truth(member(entry, "capabilities", "vision")),
        "supports_reasoning": _reasons(member(entry, "capabilities", "reasoning")),
        "supports_embeddings": task[kind] == "embedding" if kind in task else None,
    }
    said = {
        "context_window": "loaded_instances[].config.context_length",
        "context_max": "max_context_length",
        "parameters": "params_string",
        "family": "architecture",
        "supports_tools": "capabilities.trained_for_tool_use",
        "supports_vision": "capabilities.vision",
        "supports_reasoning": "capabilities.reasoning",
        "supports_embeddings": "type",
    }
    return _model(
        name,
        "loaded" if instances else "unloaded",
        task.get(kind or "", "other" if kind else None),
        facts,
        {field: f"GET {verbs.MODELS}, {said.get(field, field)}" for field in facts},
        {
            "key": entry["key"],
            "instance": instance["id"] if instance is not None else None,
            "instances": tuple(one["id"] for one in instances) or None,
            "slots": instance["parallel"] if instance is not None else None,
            "format": text(entry.get("format")),
            "publisher": text(entry.get("publisher")),
            "variant": text(entry.get("selected_variant")),
            "reasoning_options": words(member(entry, "capabilities", "reasoning", "allowed_options")) or None,
        },
    )


def _from_v0(entry: Mapping[str, Any]) -> ServedModel:
    kind = text(entry.get("type"))
    task = {"llm": "chat", "vlm": "chat", "embeddings": "embedding", "embedding": "embedding"}
    loaded = text(entry.get("state"))
    can = entry.get("capabilities")
    facts = {
        "context_window": whole(entry.get("loaded_context_length")),
        "context_max": whole(entry.get("max_context_length")),
        "quantization": _quantization(entry.get("quantization")),
        "family": text(entry.get("arch")),
        "supports_tools": "tool_use" in words(can) if isinstance(can, list) else None,
        "supports_vision": kind == "vlm" if kind in ("vlm", "llm") else None,
        "supports_embeddings": task[kind] == "embedding" if kind in task else None,
    }
    said = {
        "context_window": "loaded_context_length",
        "context_max": "max_context_length",
        "family": "arch",
        "supports_tools": "capabilities",
        "supports_vision": "type",
        "supports_embeddings": "type",
    }
    return _model(
        entry["id"],
        {"not-loaded": "unloaded"}.get(loaded or "", loaded),
        task.get(kind or "", "other" if kind else None),
        facts,
        {field: f"GET {verbs.OLD_MODELS}, {said.get(field, field)}" for field in facts},
        {"format": text(entry.get("compatibility_type")), "publisher": text(entry.get("publisher"))},
    )


def _model(
    name: str,
    state: str | None,
    task: Any,
    facts: Mapping[str, Any],
    evidence: Mapping[str, str],
    extras: Mapping[str, Any],
) -> ServedModel:
    return ServedModel(
        id=name,
        state=state,
        task=task,
        evidence={field: evidence[field] for field, value in facts.items() if value is not None},
        extras={field: value for field, value in extras.items() if value is not None},
        **facts,
    )


def parameters(value: Any) -> int | None:
    """How many weights a `params_string` means; of a mixture of experts all of them, not the active ones.

    Examples:
        >>> parameters("26B-A4B"), parameters("270M"), parameters("1.5B")
        (26000000000, 270000000, 1500000000)
        >>> parameters("8x7B") is None, parameters(None) is None  # experts share weights: no product
        (True, True)
    """
    return parameters_of(re.sub(r"-A[\d.]+[BM]$", "", value)) if isinstance(value, str) else None


def _quantization(value: Any) -> str | None:
    """`{"name", "bits_per_weight"}`, or the name alone in `/api/v0`."""
    return text(member(value, "name")) if isinstance(value, Mapping) else text(value)


def _reasons(value: Any) -> bool | None:
    """Whether `capabilities.reasoning` has a choice other than off; older versions do not say."""
    options = words(member(value, "allowed_options"))
    return any(option != "off" for option in options) if options else None


# While a backend waits.


async def is_loading(fetch: Fetch, model: str) -> bool:
    """Whether the model is not in memory yet, which with a request waiting means that it is being loaded."""
    states = [entry.get("state") for entry in await _entries(fetch) if entry.get("id") == model]
    return bool(states) and states[0] != "loaded"


async def loaded_models(fetch: Fetch) -> list[str]:
    """The language models in memory; embedding models are left out."""
    return [
        entry["id"]
        for entry in await _entries(fetch)
        if entry.get("state") == "loaded" and entry.get("type") in ("llm", "vlm") and text(entry.get("id"))
    ]


async def _entries(fetch: Fetch) -> Sequence[Mapping[str, Any]]:
    """GET /api/v0/models (0.3.6 and later); nothing where the answer has another shape."""
    return entries(await fetch(verbs.OLD_MODELS), "data")


_SERVER_SIDE = "Load the model with it: `lms load KEY --context-length N`, or `load(model, context_length=N)`."

KIND = Kind(
    name="lmstudio",
    title="LM Studio",
    default_url="http://localhost:1234/v1",
    start="Start its server under Developer, Start server, or with `lms server start`",
    ports=(1234,),
    slots=4,  # `parallel` of an instance with the llama.cpp engine
    owned_by=OWNERS,
    one_model_at_a_time=True,
    holds_schemas=True,  # a grammar of llama.cpp, Outlines for MLX
    recognise=recognise,
    models=models,
    version=version,
    pull=verbs.pull,
    load=verbs.load,
    unload=verbs.unload,
    # What its documentation of /v1/chat/completions does not name, it drops without a word.
    ignores={
        "n": "Send the request several times.",
        "logprobs": "Its chat endpoint gives none.",
        "top_logprobs": "Its chat endpoint gives none.",
        "parallel_tool_calls": "Tell the model in the prompt to call one tool at a time.",
        "chat_template_kwargs": "Switch reasoning in the model's own settings.",
        "thinking_token_budget": "Limit the answer with max_tokens.",
        "min_p": "Set it in the model's own settings.",
        "num_ctx": _SERVER_SIDE,
        "keep_alive": "Send ttl, in seconds, in extra_body.",
        "think": "Switch reasoning in the model's own settings.",
    },
    refuses={
        # lmstudio-bug-tracker 189 and 670
        "response_format=json_object": "Ask for a json_schema; without one of your own, `{}` allows any JSON.",
        "tool_choice=function": 'Send tool_choice="required", with that tool alone.',
    },
    renames={"max_completion_tokens": "max_tokens", "repetition_penalty": "repeat_penalty"},
    is_loading=is_loading,
    loaded_models=loaded_models,
)
