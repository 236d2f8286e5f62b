"""OpenAI itself, told by its host alone.

Sources: OpenAI's API reference (chat completions, models) and the words of its own refusals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from mamba_nb._http import is_openai_host
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Kind, Sighting
from mamba_nb.servers.members import listed

_REASONING = re.compile(r"(?:ft:)?(?:o\d|gpt-[5-9])(?![a-z])", re.IGNORECASE)
_EMBEDDING = re.compile(r"(?:ft:)?text-embedding-|.*-similarity-", re.IGNORECASE)
_OTHER = re.compile(
    r"(?:dall-e|gpt-image|whisper|tts|sora|omni-moderation|text-moderation|babbage|davinci|chatgpt-image)"
    r"|.*-(?:transcribe|tts|realtime|audio)\b",
    re.IGNORECASE,
)


async def recognise(asking: Asking) -> Sighting | None:
    """By the host's name; whether it wants a key is seen at `GET /v1/models`."""
    host = urlsplit(asking.root).hostname or ""
    if not is_openai_host(host):
        return None
    answer = await asking.look("/v1/models")
    if answer is None:
        return None
    evidence = f"the host is {host}"
    return Sighting(kind="openai", certainty="certain", evidence=evidence, needs_key=answer.status in (401, 403))


async def models(asking: Asking) -> list[ServedModel]:
    """The models that the key may use. OpenAI declares no more than names, so the task is read from those."""
    return [
        ServedModel(id=entry["id"], task=_task(entry["id"]), runs_locally=False, evidence={"runs_locally": "the host"})
        for entry in await listed(asking)
    ]


def _task(name: str) -> Literal["chat", "embedding", "other"]:
    if _EMBEDDING.match(name):
        return "embedding"
    return "other" if _OTHER.match(name) else "chat"


def renames_for(model: str) -> Mapping[str, str]:
    """What a parameter is called for this model.

    The reasoning models (o1 and later, GPT-5 and later) answer `max_tokens` with 400 "Unsupported parameter:
    'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."

    Examples:
        >>> renames_for("gpt-5-mini"), renames_for("o3"), renames_for("gpt-4o"), renames_for("omni-moderation-latest")
        ({'max_tokens': 'max_completion_tokens'}, {'max_tokens': 'max_completion_tokens'}, {}, {})
    """
    return {"max_tokens": "max_completion_tokens"} if _REASONING.match(model.removeprefix("openai/")) else {}


_UNKNOWN = "OpenAI has no such parameter."
_CONTEXT = "The context belongs to the model; choose one with a longer one."

KIND = Kind(
    name="openai",
    title="OpenAI",
    default_url="https://api.openai.com/v1",
    start="Check the network and https://status.openai.com",
    slots=4,
    holds_schemas=True,
    recognise=recognise,
    models=models,
    refuses={
        "top_k": _UNKNOWN,
        "min_p": _UNKNOWN,
        "repeat_penalty": "OpenAI has `frequency_penalty` and `presence_penalty` instead.",
        "repetition_penalty": "OpenAI has `frequency_penalty` and `presence_penalty` instead.",
        "num_ctx": _CONTEXT,
        "n_ctx": _CONTEXT,
        "keep_alive": _UNKNOWN,
        "think": "Use `reasoning_effort`.",
        "chat_template_kwargs": "Use `reasoning_effort`.",
        "guided_json": "Use `response_format`.",
    },
    renames_for=renames_for,
)
