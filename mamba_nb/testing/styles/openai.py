"""OpenAI, as a stand-in on this machine: its shapes and its refusals, and nobody's data.

Sources: OpenAI's API reference (models, chat completions, error codes, rate limits) and the words of its replies as
users quote them.

What is its own: `/v1/models` has no context length, reasoning models refuse `max_tokens`, headers with a request id,
the time it took and what is left of the limits, 429 `insufficient_quota`.

about           reasoning (True for o1 and later and GPT-5 and later, by the name)
options         no_quota      every chat request is 429 `insufficient_quota`
                rate_limited  every chat request is 429 with `Retry-After`
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import LoggedRequest, count_words
from mamba_nb.testing.script import Script
from mamba_nb.testing.styles.base import Reply, Style, plain_error

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

REASONING = re.compile(r"(?:ft:)?(?:o\d|gpt-[5-9])(?![a-z])")
NO_MAX_TOKENS = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
)
NO_QUOTA = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this error, "
    "read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
)
NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're accessing the API "
    "from your browser and are prompted for a username and password. You can obtain an API key from "
    "https://platform.openai.com/account/api-keys."
)
WRONG_KEY = (
    "Incorrect API key provided: {masked}. You can find your API key at https://platform.openai.com/account/api-keys."
)
FOREIGN = ("top_k", "min_p", "repeat_penalty", "repetition_penalty", "num_ctx", "keep_alive", "think", "guided_json")


def _unauthorized(key: str | None) -> Reply:
    """OpenAI repeats the key with stars in the middle; nothing of it is repeated here but its length, up to 20."""
    if key is None:
        return plain_error(401, NO_KEY)
    masked = "*" * min(20, len(key))
    return plain_error(401, WRONG_KEY.format(masked=masked), code="invalid_api_key")


def _refuse(server: ScriptedServer, request: LoggedRequest) -> Reply | None:
    body, model = request.body, str(request.body.get("model"))
    if server.options.get("no_quota"):
        return plain_error(429, NO_QUOTA, type="insufficient_quota", code="insufficient_quota")
    if server.options.get("rate_limited"):
        words = f"Rate limit reached for {model} on requests per min (RPM): Limit 3, Used 3, Requested 1."
        reply = plain_error(429, words, type="requests", code="rate_limit_exceeded")
        return replace(reply, headers={"Retry-After": "1", "x-ratelimit-remaining-requests": "0"})
    for name in FOREIGN:
        if name in body:
            return plain_error(400, f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
    if server.said_of(model, "reasoning", REASONING.match(model) is not None):
        if body.get("max_tokens") is not None:
            return plain_error(400, NO_MAX_TOKENS, param="max_tokens", code="unsupported_parameter")
        if body.get("temperature") not in (None, 1, 1.0):
            words = (
                f"Unsupported value: 'temperature' does not support {body['temperature']} with this model. "
                "Only the default (1) value is supported."
            )
            return plain_error(400, words, param="temperature", code="unsupported_value")
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        words = "Invalid value for 'top_logprobs': 'top_logprobs' requires 'logprobs' to be set to true."
        return plain_error(400, words, param="top_logprobs")
    most, prompt = server.context_length, count_words(body)
    if prompt > most:
        words = (
            f"This model's maximum context length is {most} tokens. However, your messages resulted in {prompt} "
            "tokens. Please reduce the length of the messages."
        )
        return plain_error(400, words, param="messages", code="context_length_exceeded")
    return None


def _play(server: ScriptedServer, script: Script, body: Mapping[str, Any], model: str) -> Script:
    """Usage is null on every chunk until the last; every answer has its own headers."""
    number = len(server.chats)
    headers = {
        "x-request-id": f"req_{zlib.crc32(str(number).encode()):032x}",
        "openai-processing-ms": str(int(1000 * script.ttft_s)),
        "openai-version": "2020-10-01",
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-remaining-requests": "9999",
        **script.headers,
    }
    return replace(script, headers=headers, usage="null_each" if script.usage == "last" else script.usage)


STYLE = Style(
    name="openai",
    owned_by="openai",
    null_content_first=False,
    message_extras={"refusal": None, "annotations": []},
    cached_tokens=True,
    fingerprint="fp_scripted00",
    chunk_fingerprint="every",
    health=None,
    refuse_chat=_refuse,
    play=_play,
    unauthorized=_unauthorized,
    answer_id=lambda number: f"chatcmpl-{zlib.crc32(str(number).encode()):029x}",
)
