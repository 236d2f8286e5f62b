"""What an answer cost in US dollars, where that is known.

A model on this machine or its private network costs nothing. A hosted one costs what `genai-prices` lists
for it (a claim, kept by others), on the day of the request and by the server's own token counts. Where the
provider, the model or a count is unknown, so is the cost.
"""

from __future__ import annotations

from datetime import datetime
from urllib.parse import urlsplit

from mamba_nb._http import is_local_host
from mamba_nb.backends.prices import ENGINES
from mamba_nb.records import Generation

__all__ = ["cost_usd"]

_LOCAL_SERVERS = ENGINES | {"ollama"}


def cost_usd(generation: Generation) -> float | None:
    """US dollars for one answer: 0.0 for a local model, None where the price is not known.

    A server of unknown kind on this machine may be a gateway to a hosted model, and Ollama's `:cloud` models
    run elsewhere: the cost of both is unknown.
    """
    if generation.server == "embedded":
        return 0.0
    if _is_local(generation.base_url):
        local = generation.server in _LOCAL_SERVERS and not _off_machine(generation)
        return 0.0 if local else None
    return _list_price(generation)


def _is_local(base_url: str) -> bool:
    try:
        host = urlsplit(base_url).hostname
    except ValueError:
        return False
    return host is not None and is_local_host(host)


def _off_machine(generation: Generation) -> bool:
    names = {generation.model, generation.request.model}
    return generation.server == "ollama" and any(name.endswith((":cloud", "-cloud")) for name in names)


def _list_price(generation: Generation) -> float | None:
    usage = generation.usage
    if usage is None or usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    if generation.request.params.get("service_tier") not in (None, "auto", "default"):
        return None  # flex and priority have prices of their own
    from genai_prices import Usage, calc_price

    counts = Usage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cache_read_tokens=usage.cached_tokens or 0,
    )
    for model in dict.fromkeys((generation.model, generation.request.model)):
        try:
            price = calc_price(
                counts,
                model,
                provider_api_url=generation.base_url,
                genai_request_timestamp=_when(generation),
            )
        except (LookupError, ValueError):
            continue
        return float(price.total_price)
    return None


def _when(generation: Generation) -> datetime | None:
    try:
        when = datetime.fromisoformat(generation.started_at) if generation.started_at else None
    except ValueError:
        return None
    return when if when is not None and when.tzinfo is not None else None
