"""llama.cpp's `llama-server`: one model, or a router that starts one server a model.

In: one server's paths. Out: whether it is llama.cpp, its models with what it declares of them, its tokens and figures;
the verbs stand in `_llamacpp_router` (load, unload, download) and `_llamacpp_figures` (metrics).

    one model   GET /v1/models has one entry with `meta`; GET /props has the slots, the template's abilities, the file.
                Until the model is in memory every path is 503 `Loading model`.
    router      GET /props says `"role": "router"`; GET /models has a `status` an entry; GET /props?model=NAME is that
                of the model itself.

A context is that of one slot: what one request can have.

Sources: llama.cpp's `tools/server/README.md`, `server-http.cpp` (the header on every response), `server-context.cpp`
and `server-models.cpp`; a running server of build 11434.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from mamba_nb.errors import NotHere
from mamba_nb.servers import _llamacpp_figures as figures
from mamba_nb.servers import _llamacpp_router as router
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.calling import call, failed
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Fetch, Kind, Sighting, kind_from_models
from mamba_nb.servers.members import entries, listed, member, said, text, truth, whole, words

HEADER = "llama.cpp"
SEEN = f"the header Server: {HEADER}"
NO_PATH = ("File Not Found",)
MOST_LOADED = 16
"""Loaded models of a router that are asked for their own /props."""


# Is it llama.cpp?


async def recognise(asking: Asking) -> Sighting | None:
    """Whether this is llama-server: by the header on its every response, else by `owned_by` and the shape of /props.

    The `owned_by` of a gateway in front of it (llama-swap, Lemonade, Docker Model Runner) counts for more than the
    header, which they pass on.
    """
    listing = await asking.look("/v1/models")
    if listing is None:
        return None
    found = entries(listing.json, "data")
    headed = listing.headers.get("server") == HEADER
    if kind_from_models({"data": found}, {}) not in (None, "llamacpp"):
        return None
    owned = any(entry.get("owned_by") == "llamacpp" for entry in found[:50])
    if not headed and not owned:
        return None
    if listing.status in (401, 403):
        return _sighting("certain", f"GET /v1/models is {listing.status} with {SEEN}", needs_key=True)
    props = await asking.json("/props") if listing.status == 200 else None
    if headed:
        return _sighting("certain", f"GET /v1/models has {SEEN}", props)
    if member(props, "role") == "router" or isinstance(member(props, "default_generation_settings"), Mapping):
        return _sighting("certain", "owned_by is llamacpp, and GET /props has llama.cpp's shape", props)
    return _sighting("likely", "owned_by is llamacpp")


def _sighting(certainty: Any, evidence: str, props: Any = None, *, needs_key: bool = False) -> Sighting:
    return Sighting(
        kind="llamacpp",
        certainty=certainty,
        evidence=evidence,
        version=_build(props),
        mode="router" if member(props, "role") == "router" else None,
        needs_key=needs_key,
    )


def _build(props: Any) -> str | None:
    """`build_info`, which a build outside its makers' own pipeline leaves as `b0-unknown`."""
    build = text(member(props, "build_info"))
    return None if build is None or build.endswith("-unknown") else build


async def version(asking: Asking) -> str | None:
    """The build, such as `b11434-7e4c0a9`."""
    return _build(await asking.json("/props"))


# What it has.


async def models(asking: Asking) -> list[ServedModel]:
    """The model that it serves, or in router mode all that it knows; nothing while it is loading."""
    found = await listed(asking)
    props = await asking.json("/props") if found else None
    if member(props, "role") != "router":
        return [_declared(_listed(entry), props) for entry in found]
    models = [router.with_status(_listed(entry), entry) for entry in found]
    loaded = [model.id for model in models if model.state == "loaded"][:MOST_LOADED]
    own = dict(zip(loaded, await asyncio.gather(*(_own_props(asking, name) for name in loaded)), strict=True))
    return [_declared(model, own.get(model.id), f"GET /props?model={model.id}") for model in models]


async def detail(asking: Asking, model: ServedModel) -> ServedModel:
    """One model of a router with its own /props, which is asked for only where the model is in memory."""
    if model.state != "loaded" or "slots" in model.extras:
        return model
    if member(await asking.json("/props"), "role") != "router":
        return model
    return _declared(model, await _own_props(asking, model.id), f"GET /props?model={model.id}")


async def _own_props(asking: Asking, model: str) -> Any:
    """A model's /props through the router; `autoload=false`, so that a look never loads anything."""
    return await asking.json(f"/props?model={quote(model, safe='')}&autoload=false")


def _listed(entry: Mapping[str, Any]) -> ServedModel:
    """A model by its entry in GET /v1/models; `meta` is null while it is loading."""
    meta = member(entry, "meta")
    reads, writes = (words(member(entry, "architecture", f"{way}_modalities")) for way in ("input", "output"))
    model = ServedModel(
        id=str(entry["id"]),
        task="other" if writes and "text" not in writes else "chat",
        extras={"aliases": names} if (names := words(entry.get("aliases"))) else {},
    )
    model = said(model, "GET /v1/models, architecture", supports_vision="image" in reads if reads else None)
    return said(
        model,
        "GET /v1/models, meta",
        context_window=whole(member(meta, "n_ctx")),
        context_max=whole(member(meta, "n_ctx_train")),
        size_bytes=whole(member(meta, "size")),
        parameters=whole(member(meta, "n_params")),
        quantization=text(member(meta, "ftype")),
    )


def _declared(model: ServedModel, props: Any, path: str = "GET /props") -> ServedModel:
    """The model with what /props says of it."""
    if not isinstance(props, Mapping):
        return replace(model, state=model.state or "loaded")
    caps = member(props, "chat_template_caps")
    vision = truth(member(props, "modalities", "vision"))
    model = said(model, f"{path}, chat_template_caps", supports_tools=truth(member(caps, "supports_tools")))
    # A template without a switch for its effort may reason all the same, so nothing here says no.
    reasons = member(caps, "supports_reasoning_effort") is True or member(caps, "supports_preserve_reasoning") is True
    model = said(model, f"{path}, chat_template_caps", supports_reasoning=True if reasons else None)
    model = said(model, f"{path}, modalities", supports_vision=vision)
    if model.context_window is None:
        context = whole(member(props, "default_generation_settings", "n_ctx"))
        model = said(model, f"{path}, default_generation_settings", context_window=context)
    if model.quantization is None:
        model = said(model, path, quantization=text(member(props, "model_ftype")))
    extras = {
        "slots": whole(member(props, "total_slots")),
        "model_path": text(member(props, "model_path")),
        "alias": text(member(props, "model_alias")),
        "build": text(member(props, "build_info")),
    }
    sleeping = member(props, "is_sleeping") is True
    return replace(
        model,
        state="sleeping" if sleeping else model.state or "loaded",
        extras={**model.extras, **{name: value for name, value in extras.items() if value is not None}},
    )


# Tokens.


async def tokenize(asking: Asking, model: str, text: str) -> list[int]:
    """A text as token ids, without the tokens that begin a prompt.

    Raises:
        ServerError: If it does not answer, or not with tokens.
    """
    return await _tokens(asking, model, {"content": text, "model": model})


async def _tokens(asking: Asking, model: str, body: Mapping[str, Any]) -> list[int]:
    answer = await call(
        asking, "/tokenize", body, kind="llamacpp", model=model, verb="tokenise a text", no_path=NO_PATH
    )
    tokens = member(answer.json, "tokens")
    ids = [member(token, "id") if isinstance(token, Mapping) else token for token in tokens or ()]
    if not isinstance(tokens, list) or not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        raise failed(asking, "llamacpp", model, "tokenise a text", answer.json)
    return ids


async def count_tokens(
    asking: Asking, model: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> int:
    """The tokens of a chat request, its template and tools included: what `usage.prompt_tokens` will say.

    Newer builds count themselves; older ones write the prompt, which is then tokenised.

    Raises:
        NotHere: If the build has neither.
        ServerError: If it does not answer, or not with a count.
    """
    body: dict[str, Any] = {"model": model, "messages": list(messages)}
    if tools:
        body["tools"] = list(tools)
    try:
        answer = await call(
            asking,
            "/v1/chat/completions/input_tokens",
            body,
            kind="llamacpp",
            model=model,
            verb="count tokens",
            no_path=NO_PATH,
        )
    except NotHere:
        return await _count_prompt(asking, model, body)
    count = whole(member(answer.json, "input_tokens"), 0)
    if count is None:
        raise failed(asking, "llamacpp", model, "count tokens", answer.json)
    return count


async def _count_prompt(asking: Asking, model: str, body: Mapping[str, Any]) -> int:
    answer = await call(
        asking, "/apply-template", body, kind="llamacpp", model=model, verb="write out a prompt", no_path=NO_PATH
    )
    prompt = member(answer.json, "prompt")
    if not isinstance(prompt, str):
        raise failed(asking, "llamacpp", model, "write out a prompt", answer.json)
    # As a chat request does it: with the token that begins a prompt, and the template's own tokens as what they are.
    asked = {"content": prompt, "model": model, "add_special": True, "parse_special": True}
    return len(await _tokens(asking, model, asked))


# Figures.


async def metrics(asking: Asking) -> Mapping[str, float]:
    """Its live figures, by names of ours; a router's are those of its loaded models together.

    Raises:
        NotHere: If it was not started with `--metrics`.
        ServerError: If it does not answer.
    """
    asking.forget("/v1/models", "/props")
    if member(await asking.json("/props"), "role") != "router":
        return figures.figures_of((await _metrics(asking, "/metrics")).text)
    known = [router.with_status(_listed(entry), entry) for entry in await listed(asking)]
    loaded = [model.id for model in known if model.state == "loaded"][:MOST_LOADED]
    paths = [f"/metrics?model={quote(name, safe='')}&autoload=false" for name in loaded]
    answers = await asyncio.gather(*(_metrics(asking, path) for path in paths))
    return figures.together([figures.figures_of(answer.text) for answer in answers])


async def _metrics(asking: Asking, path: str) -> Any:
    try:
        return await call(asking, path, None, kind="llamacpp", method="GET", verb="tell its figures")
    except NotHere as error:
        error.hint = "Restart it with `--metrics`."
        raise


# While a backend waits.


async def is_loading(fetch: Fetch, model: str) -> bool:
    """Whether a router is loading the model, or has yet to: with a request waiting, it will.

    A server with one model needs no look: it answers 503 until it is ready.
    """
    for entry in entries(await fetch("/models"), "data"):
        if model == entry.get("id") or model in words(entry.get("aliases")):
            failed_before = member(entry, "status", "failed") is True
            waits = member(entry, "status", "value") in ("loading", "unloaded", "downloading", "downloaded")
            return waits and not failed_before
    return False


async def loaded_models(fetch: Fetch) -> list[str]:
    """The models in memory: the one that it serves, or those that a router has started."""
    return [
        entry["id"]
        for entry in entries(await fetch("/models"), "data")
        if text(entry.get("id")) and ("status" not in entry or member(entry, "status", "value") == "loaded")
    ]


_AT_START = "The context is set where it is started: `llama-server -c N`."

KIND = Kind(
    name="llamacpp",
    title="llama.cpp",
    default_url="http://localhost:8080/v1",
    start="Start it with `llama-server -m FILE.gguf`",
    ports=(8080,),
    owned_by=("llamacpp",),
    slots=4,  # `-np -1`, its default: four slots over one cache
    holds_schemas=True,  # a grammar on the sampler
    recognise=recognise,
    models=models,
    detail=detail,
    version=version,
    pull=router.pull,
    load=router.load,
    unload=router.unload,
    count_tokens=count_tokens,
    tokenize=tokenize,
    metrics=metrics,
    ignores={
        "num_ctx": _AT_START,
        "keep_alive": "It keeps its model; `--sleep-idle-seconds` at its start changes that.",
        "think": 'Send reasoning_effort="none", or extra_body={"chat_template_kwargs": {"enable_thinking": False}}.',
        "guided_json": "Send response_format with a json_schema.",
        "guided_choice": "Send response_format with a json_schema that has an enum.",
        "guided_regex": "Send a grammar in extra_body.",
        "structured_outputs": "Send response_format with a json_schema.",
    },
    renames={"repetition_penalty": "repeat_penalty", "thinking_token_budget": "reasoning_budget_tokens"},
    is_loading=is_loading,
    loaded_models=loaded_models,
)
