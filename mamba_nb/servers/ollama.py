"""Ollama: native facts under `/api`, the OpenAI protocol under `/v1`.

In: one server's paths. Out: whether it is Ollama, what its models are, and its verbs (`_ollama_verbs`).

Much imitates parts of it: LocalAI answers `/api/tags`, `/api/version` and, with a flag, even `/` in its words;
Lemonade, Docker Model Runner, KoboldCpp and SGLang have some of its paths. `/api/status` nobody imitates, and neither
the plain-text 404 of an Ollama that is too old for it.

Sources: Ollama's server/routes.go (the paths, 404, allowedHostsMiddleware, PsHandler), server/sched.go (when
`expires_at` is set), openai/openai.go (ListCompletion, ChatCompletionRequest: what `/v1` does not take).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from mamba_nb._look import Answer
from mamba_nb.servers._ollama_models import detail, is_embedding_family, models, tagged
from mamba_nb.servers._ollama_verbs import load, pull, unload
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.kinds import Fetch, Kind, Sighting
from mamba_nb.servers.members import entries, member, text

__all__ = ["KIND", "is_loading", "loaded_models", "recognise", "version"]

LOOK_AGAIN_S = 0.05
VERSION = re.compile(r"v?\d+(\.\d+)*[\w.+-]{0,40}")
STATUS_SINCE = (0, 16, 2)  # the release that brought /api/status
PLAIN_404 = "404 page not found"

# Owners in GET /v1/models that are other kinds' own; Ollama's is `library` or the namespace of a model's name.
OTHERS = frozenset({"vllm", "sglang", "llamacpp", "llama-swap", "lemonade", "docker", "koboldcpp"})


async def recognise(asking: Asking) -> Sighting | None:
    """By `/api/version` with nothing but a version, `/` in plain text, and `/api/status`.

    Certain where `/` is as it should be and `/api/status` is there (or missing in Ollama's words, before 0.16.2);
    likely where something in front hides `/`; a guess where it refuses the host name before it says anything.
    """
    listing = await asking.look("/v1/models")
    if listing is None or listing.headers.get("server") == "llama.cpp":
        return None
    owners = {owner for entry in entries(listing.json, "data")[:50] if (owner := text(entry.get("owned_by")))}
    if owners & OTHERS:
        return None
    named = await asking.look("/api/version")
    if _refuses_the_host(listing) and _refuses_the_host(named):
        return Sighting(kind="ollama", certainty="guess", evidence="403 without a word, as to a foreign host name")
    said = _version(named)
    if said is None:
        return None
    root, status = await asyncio.gather(asking.look("/"), asking.look("/api/status"))
    evidence = [f'GET /api/version is {{"version": "{said}"}}']
    greets = root is not None and root.status == 200 and _is_plain(root) and root.text.strip() == "Ollama is running"
    if greets:
        evidence.append("GET / says Ollama is running")
    has_status = status is not None and isinstance(member(status.json, "cloud", "disabled"), bool)
    if has_status:
        evidence.append("GET /api/status has cloud")
    no_status = status is not None and status.status == 404 and status.text.strip() == PLAIN_404
    unowned = _is_unowned(listing)
    certain = greets and (has_status or (no_status and _is_before(said, STATUS_SINCE)))
    likely = has_status or (greets and no_status) or unowned or "library" in owners
    if not (certain or likely):
        return None
    if not certain and "library" in owners:
        evidence.append("GET /v1/models has owned_by library")
    return Sighting(
        kind="ollama",
        certainty="certain" if certain else "likely",
        evidence="; ".join(evidence),
        version=said,
        needs_key=listing.status == 401,
    )


def _version(answer: Answer | None) -> str | None:
    """The version, where it is all that the answer says."""
    found = answer.json if answer is not None and answer.status == 200 else None
    if not isinstance(found, Mapping) or set(found) != {"version"}:
        return None
    said = found["version"]
    return said if isinstance(said, str) and VERSION.fullmatch(said) else None


def _is_plain(answer: Answer) -> bool:
    return answer.headers.get("content-type", "").startswith("text/plain")


def _is_unowned(listing: Answer) -> bool:
    """`data: null`, which is how Ollama lists no model at all."""
    found = listing.json
    return isinstance(found, Mapping) and found.get("object") == "list" and "data" in found and found["data"] is None


def _is_before(said: str, wanted: tuple[int, ...]) -> bool:
    numbers = tuple(int(number[:9]) for number in re.findall(r"\d+", said.partition("-")[0])[:3])
    return numbers < wanted


def _refuses_the_host(answer: Answer | None) -> bool:
    """403, empty, and no name of a server: Ollama's middleware, and hardly anybody else."""
    return answer is not None and answer.status == 403 and not answer.body and "server" not in answer.headers


async def version(asking: Asking) -> str | None:
    """By `/api/version`."""
    return _version(await asking.look("/api/version"))


# What a backend asks while it waits.


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
    wanted = tagged(model).lower()
    found = entries(await fetch("/api/ps"), "models")
    return next((entry for entry in found if tagged(text(entry.get("name")) or "").lower() == wanted), None)


async def loaded_models(fetch: Fetch) -> list[str]:
    """The models in memory, by `/api/ps`; embedding models are left out where their family shows them."""
    return [
        name
        for entry in entries(await fetch("/api/ps"), "models")
        if (name := text(entry.get("name"))) and not is_embedding_family(member(entry, "details", "family"))
    ]


NATIVE = "Use create_ollama_backend(..., native=True): Ollama's own route takes it."
NOWHERE = "Ollama has nothing for it on any route; leave it out."
SCHEMA = "Use response_format with a JSON schema."

# What the request struct of `/v1/chat/completions` does not have, openai/openai.go (ChatCompletionRequest).
IGNORES = {
    "tool_choice": "The model chooses: leave the tools out where none may be called, or ask for one in the prompt.",
    "parallel_tool_calls": "The model decides; leave it out.",
    "n": "It gives one answer a request: send the request several times.",
    "top_k": NATIVE,
    "min_p": NATIVE,
    "repeat_penalty": NATIVE,
    "repetition_penalty": "Its name here is repeat_penalty. " + NATIVE,
    "typical_p": NATIVE,
    "num_ctx": "Use create_ollama_backend(..., num_ctx=8192): Ollama's own route takes it.",
    "keep_alive": 'Use create_ollama_backend(..., keep_alive="30m"): Ollama\'s own route takes it.',
    "think": 'Use create_ollama_backend(..., think=False), or reasoning_effort="none".',
    "truncate": NATIVE,
    "shift": NATIVE,
    "options": NATIVE,
    "chat_template_kwargs": 'For enable_thinking=False use reasoning_effort="none"; the rest it has no way to take.',
    "logit_bias": NOWHERE,
    "thinking_token_budget": "Use reasoning_effort with low, medium or high.",
    "reasoning_budget_tokens": "Use reasoning_effort with low, medium or high.",
    "thinking_budget_tokens": "Use reasoning_effort with low, medium or high.",
    "guided_json": SCHEMA,
    "guided_choice": SCHEMA,
    "guided_regex": SCHEMA,
    "guided_grammar": SCHEMA,
    "structured_outputs": SCHEMA,
    "grammar": SCHEMA,
    "min_tokens": NOWHERE,
    "ignore_eos": NOWHERE,
    "stop_token_ids": "Use stop with the texts of these tokens.",
    "prediction": NOWHERE,
    "modalities": NOWHERE,
    "verbosity": "Say in the prompt how long the answer should be.",
    "service_tier": NOWHERE,
    "store": NOWHERE,
    "metadata": NOWHERE,
    "user": NOWHERE,
}

KIND = Kind(
    name="ollama",
    title="Ollama",
    default_url="http://localhost:11434/v1",
    start="Start Ollama with `ollama serve`",
    ports=(11434,),
    owned_by=("library",),
    one_model_at_a_time=True,
    holds_schemas=True,  # `format`, a grammar of llama.cpp
    recognise=recognise,
    models=models,
    detail=detail,
    version=version,
    pull=pull,
    load=load,
    unload=unload,
    ignores=IGNORES,
    renames={"max_completion_tokens": "max_tokens"},
    is_loading=is_loading,
    loaded_models=loaded_models,
)
