"""LiteLLM's proxy: one address in front of many providers, which it lists as if they were OpenAI's.

What it declares of a model (`/model/info`, with a key where one is set) is its own table, looked up by the name of
the model behind; the limits are therefore the model's, not what a local server has in force. A name may stand for
several deployments: what they do not agree in is left out, and the smallest limit counts.

Sources: LiteLLM's litellm/proxy/proxy_server.py (`/v1/models`, `/model/info`), proxy/health_endpoints
(`/health/liveliness`, `/health/readiness`), proxy/common_request_processing.py (`x-litellm-version`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from mamba_nb._http import is_local_host
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Kind, Sighting
from mamba_nb.servers.members import entries, listed, member, number, owners, said, text, truth, whole

ALIVE = "I'm alive!"
VERSION_HEADER = "x-litellm-version"
# Providers that may as well run on this machine; of the others it is known that they do not.
AT_HOME = ("ollama", "ollama_chat", "vllm", "hosted_vllm", "lm_studio", "llamafile", "xinference", "openai_like")
INFO = "GET /model/info"


async def recognise(asking: Asking) -> Sighting | None:
    """By its version in a header, or by `/health/liveliness`, which is public."""
    answer = await asking.look("/v1/models")
    if answer is None:
        return None
    needs_key = answer.status == 401
    if version := text(answer.headers.get(VERSION_HEADER)):
        return Sighting(
            kind="litellm",
            certainty="certain",
            evidence=f"GET /v1/models has the header {VERSION_HEADER}",
            version=version,
            needs_key=needs_key,
        )
    if not await owners(asking, "openai"):
        return None
    alive = await asking.look("/health/liveliness")
    if alive is None or alive.status != 200 or alive.text.strip().strip('"') != ALIVE:
        return None
    return Sighting(
        kind="litellm",
        certainty="certain",
        evidence=f'GET /health/liveliness is "{ALIVE}"',
        version=text(alive.headers.get(VERSION_HEADER)),
        needs_key=needs_key,
    )


async def version(asking: Asking) -> str | None:
    """`litellm_version` of `/health/readiness`."""
    return text(member(await asking.json("/health/readiness"), "litellm_version"))


async def models(asking: Asking) -> Sequence[ServedModel]:
    """The names that it takes, with what its table says of the models behind them."""
    found, info = await asyncio.gather(listed(asking), asking.json("/model/info"))
    behind: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries(info, "data"):
        if (name := text(entry.get("model_name"))) is not None:
            behind.setdefault(name, []).append(entry)
    return [_model(entry["id"], behind.get(entry["id"], [])) for entry in found]


def _model(name: str, deployments: Sequence[Mapping[str, Any]]) -> ServedModel:
    if not deployments:
        return ServedModel(id=name)
    about = [member(deployment, "model_info") for deployment in deployments]
    mode = _agreed([text(member(info, "mode")) for info in about])
    extras = {
        "model": _agreed([text(member(deployment, "litellm_params", "model")) for deployment in deployments]),
        "provider": _agreed([text(member(info, "litellm_provider")) for info in about]),
        "input_cost_per_token": _agreed([number(member(info, "input_cost_per_token")) for info in about]),
        "output_cost_per_token": _agreed([number(member(info, "output_cost_per_token")) for info in about]),
    }
    return said(
        ServedModel(id=name, extras={key: value for key, value in extras.items() if value is not None}),
        INFO,
        context_max=_least([whole(member(info, "max_input_tokens")) for info in about]),
        max_output_tokens=_least([whole(member(info, "max_output_tokens")) for info in about]),
        supports_tools=_agreed([truth(member(info, "supports_function_calling")) for info in about]),
        supports_vision=_agreed([truth(member(info, "supports_vision")) for info in about]),
        supports_reasoning=_agreed([truth(member(info, "supports_reasoning")) for info in about]),
        supports_embeddings=None if mode is None else mode == "embedding",
        task=None if mode is None else mode if mode in ("chat", "embedding") else "other",
        runs_locally=_agreed([_at_home(deployment) for deployment in deployments]),
    )


def _agreed(values: Sequence[Any]) -> Any:
    """What all say, or None."""
    return values[0] if all(value == values[0] for value in values) else None


def _least(values: Sequence[int | None]) -> int | None:
    """The smallest of what is known, where all is known."""
    known = [value for value in values if value is not None]
    return min(known) if known and len(known) == len(values) else None


def _at_home(deployment: Mapping[str, Any]) -> bool | None:
    """False where the requests go to another machine, None where that is not said."""
    address = text(member(deployment, "litellm_params", "api_base"))
    if address is not None:
        try:
            host = urlsplit(address).hostname
        except ValueError:  # a port that is no number, brackets that do not close
            return None
        return None if host is None or is_local_host(host) else False
    provider = text(member(deployment, "model_info", "litellm_provider"))
    return None if provider is None or provider in AT_HOME else False


KIND = Kind(
    name="litellm",
    title="LiteLLM proxy",
    default_url="http://localhost:4000/v1",
    start="Start it with `litellm --config FILE`",
    ports=(4000,),
    slots=4,
    recognise=recognise,
    models=models,
    version=version,
)
