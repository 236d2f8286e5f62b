"""Which kind of server this is, by the shape of what it answers.

In: one server's paths (`Asking`). Out: a `Sighting`, or None where it is no model server. GET /v1/models is asked
first: every kind has it, and its `owned_by` or a header often settles the matter. Then only the kinds that are still
possible are asked, the likeliest first, each by its own `recognise`. LM Studio writes an error into its user's console
for every path that it does not know, so as few paths are asked as will do.

The port decides nothing. It moves a kind to the front, and where everything else is silent it makes a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from mamba_nb._http import is_openai_host
from mamba_nb._look import Answer
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.kinds import Kind, Sighting, kinds
from mamba_nb.servers.mending import port_of
from mamba_nb.servers.where import is_html

__all__ = ["LISTING", "identify", "is_model_list", "parent_of", "speaks_of_keys", "suspects"]

LISTING = "/v1/models"

GATEWAYS = ("llamaswap", "lemonade", "dockermodelrunner")
"""Kinds that pass on the header of a llama.cpp behind them; what their own list says counts for more."""

ORDER = (
    *("lmstudio", "koboldcpp", "localai", "vllm", "sglang", "llamaswap", "lemonade", "dockermodelrunner"),
    *("textgenwebui", "ollama", "llamacpp", "tgi", "litellm", "jan", "mlxlm", "openai"),
)
"""Where nothing points to a kind: those with a path of their very own first, Ollama after those that imitate it."""

HEADERS = (
    ("server", "llama.cpp", ("llamacpp",)),  # llama.cpp, tools/server/server-http.cpp
    ("x-powered-by", "express", ("lmstudio",)),
    ("server", "kobold", ("koboldcpp",)),  # koboldcpp.py, server_version
    ("server", "basehttp", ("mlxlm",)),  # mlx_lm/server.py stands on http.server
    ("x-litellm-", "", ("litellm",)),  # litellm/proxy/common_request_processing.py
)
"""Header, what it begins with, the kinds that send it."""

# A model's file in another server's own store: the llama.cpp that serves it is most likely that server's child.
STORES = (
    ("ollama", ("/.ollama/models/blobs/", "/ollama/models/blobs/", "/ollama/.ollama/models/")),
    ("jan", ("/jan/data/llamacpp/", "/jan/llamacpp/models/", "/jan/data/models/")),
    ("dockermodelrunner", ("/.docker/models/", "/models/bundles/")),
    ("lmstudio", ("/.lmstudio/models/", "/lm-studio/models/")),
    ("lemonade", ("/lemonade/models/", "/.cache/lemonade/")),
)


async def identify(asking: Asking) -> Sighting | None:
    """Tell what kind of server answers; None where it is no model server, or nothing answers.

    Args:
        asking: The server's paths. Its answers are kept there, so whoever goes on asks for none of them again.
    """
    listing = await asking.look(LISTING)
    if listing is None:
        return None
    for kind in suspects(listing, asking.root):
        if kind.recognise is None:
            continue
        try:
            sighting = await kind.recognise(asking)
        except Exception:  # a server's nonsense is not an error of ours
            continue
        if sighting is not None:
            return _with_key(sighting, listing)
    return await _by_its_list(asking, listing)


def suspects(listing: Answer, root: str) -> list[Kind]:
    """The kinds that the answer to GET /v1/models leaves possible, the likeliest first."""
    port, host = port_of(root), urlsplit(root).hostname or ""
    official = is_openai_host(host)
    judged = _in_a_list if is_model_list(listing) else _without_a_list
    points = {}
    for name in ORDER:
        kind = kinds()[name]
        told = judged(kind, listing, port in kind.ports)
        if name == "openai":
            told = 100 if official else None
        if told is not None:
            points[name] = told
    return [kinds()[name] for name in sorted(points, key=lambda name: -points[name])]


def _in_a_list(kind: Kind, listing: Answer, here: bool) -> int | None:
    """How much a list of models speaks for a kind; None where it cannot be one."""
    entries = [entry for entry in (listing.json.get("data") or ())[:50] if isinstance(entry, Mapping)]
    owners = {owner for entry in entries if isinstance(owner := entry.get("owned_by"), str) and owner}
    owned, headed = bool(owners & set(kind.owned_by)), _by_header(kind.name, listing.headers)
    if not entries:
        possible = kind.name not in NEVER_EMPTY or headed
    elif owners:
        possible = owned or headed or not kind.owned_by or (kind.name in FREE_OWNERS and here)
        possible = possible or (kind.name == "ollama" and not owners & _known_owners())
    else:
        possible = headed or not kind.owned_by
    if not possible:
        return None
    return 20 * owned + 10 * headed + 4 * here + (5 if owned and kind.name in GATEWAYS else 0)


def _without_a_list(kind: Kind, answer: Answer, here: bool) -> int | None:
    """How much an answer that is no list speaks for a kind; None where it cannot be one."""
    headed = _by_header(kind.name, answer.headers)
    api = isinstance(answer.json, Mapping)
    if answer.status in (401, 403):
        if kind.name == "lmstudio":
            possible = here or "LM Studio" in answer.text[:2000]
        elif kind.name in ("ollama", "dockermodelrunner", "mlxlm", "tgi"):  # they ask for no key of their own
            possible = here or (answer.status == 403 and kind.name == "ollama" and not answer.body)
        else:
            possible = here or kind.name == "jan" or (api and kind.name != "llamacpp")
    elif answer.ok:
        possible = api and (kind.name == "lmstudio" or here)
    elif answer.status in (404, 405):
        possible = kind.name in MAY_LACK_A_LIST and not is_html(answer.text)
    elif answer.status >= 500:
        possible = here and not is_html(answer.text)
    else:
        possible = False
    return 10 * headed + 4 * here if possible or headed else None


NEVER_EMPTY = ("vllm", "sglang", "koboldcpp", "tgi")
"""Kinds that always list a model."""

MAY_LACK_A_LIST = ("ollama", "koboldcpp", "tgi", "dockermodelrunner")
"""Kinds of which there are versions without GET /v1/models, or with it elsewhere."""

FREE_OWNERS = ("ollama", "lmstudio")
"""Kinds whose `owned_by` can be a name of the user's making: the namespace of an Ollama model, a publisher."""

GUESSED = ("jan", "lemonade")
"""Kinds that show nothing of their own without a key; where one is asked for on their own port, that is a guess."""


@cache
def _known_owners() -> frozenset[str]:
    return frozenset(owner for kind in kinds().values() for owner in kind.owned_by)


def _by_header(name: str, headers: Mapping[str, str]) -> bool:
    for header, begins, names in HEADERS:
        if name not in names:
            continue
        if header.endswith("-") and any(known.startswith(header) for known in headers):
            return True
        if begins and headers.get(header, "").lower().startswith(begins):
            return True
    return False


def is_model_list(answer: Answer | None) -> bool:
    """Whether an answer is a list of models as OpenAI's API has it; `data` may be null (Ollama without models).

    Other APIs have lists under `data` too, so the list or its entries must say what they are.
    """
    if answer is None or answer.status != 200 or not isinstance(answer.json, Mapping):
        return False
    listed, says_list = answer.json.get("data", ...), answer.json.get("object") == "list"
    if listed is None or listed == []:
        return says_list
    if not isinstance(listed, list):
        return False
    return any(
        isinstance(entry.get("id"), str) and (says_list or entry.get("object") == "model" or "owned_by" in entry)
        for entry in listed[:50]
        if isinstance(entry, Mapping)
    )


def speaks_of_keys(answer: Answer | None) -> bool:
    """Whether an answer refuses for want of a key, in the way an API does: JSON with an error in it."""
    if answer is None or answer.status not in (401, 403) or not isinstance(answer.json, Mapping):
        return False
    return bool({"error", "detail", "message"} & answer.json.keys())


def parent_of(model_path: Any) -> str | None:
    """The kind of server in whose own store a model's file lies, so that a llama.cpp with it is likely its child.

    Examples:
        >>> parent_of("/home/me/.ollama/models/blobs/sha256-dde5aa3fc5ff"), parent_of("/data/smollm2.gguf")
        ('ollama', None)
    """
    if not isinstance(model_path, str):
        return None
    path = model_path.replace("\\", "/").lower()
    return next((kind for kind, stores in STORES if any(store in path for store in stores)), None)


def _with_key(sighting: Sighting, listing: Answer) -> Sighting:
    """A list that is refused for want of a key says so, whoever told the kind."""
    if listing.status in (401, 403) and not sighting.needs_key:
        return replace(sighting, needs_key=True)
    return sighting


async def _by_its_list(asking: Asking, listing: Answer) -> Sighting | None:
    """What speaks the protocol and is of no kind that is known here."""
    path = urlsplit(asking.url(LISTING)).path
    if is_model_list(listing):
        recognise = kinds()["compatible"].recognise
        return await recognise(asking) if recognise is not None else None
    port = port_of(asking.root)
    at_home = next((name for name in GUESSED if port == kinds()[name].ports[0]), None)
    if at_home and listing.status in (401, 403) and not is_html(listing.text):
        evidence = f"port {port}, and GET {path} is {listing.status}: it asks for a key"
        return Sighting(kind=at_home, certainty="guess", evidence=evidence, needs_key=True)
    if speaks_of_keys(listing):
        return Sighting(
            kind="compatible",
            certainty="guess",
            evidence=f"GET {path} is {listing.status} with an error in JSON",
            needs_key=True,
        )
    return None
