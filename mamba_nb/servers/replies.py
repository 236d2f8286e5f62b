"""What a server says is wrong, turned into this package's errors.

In: the status and body of a reply, or an error inside a stream. Out: one error of `mamba_nb.errors` that says
the cause and the fix and keeps the server's own words. The patterns match the texts of Ollama 0.33, vLLM 0.32,
LM Studio 0.4 and llama.cpp b11434, and older ones where those differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from mamba_nb._http import is_local_host, is_openai_host, proxy_for
from mamba_nb.errors import (
    AuthenticationFailed,
    ContextOverflow,
    EndpointNotFound,
    ProxyInTheWay,
    RateLimited,
    RequestRejected,
    ServerError,
    ServerFailed,
)
from mamba_nb.servers.explanations import Said, explained
from mamba_nb.servers.kinds import root_of
from mamba_nb.servers.where import Where, is_html, readable

__all__ = ["from_reply", "judged", "no_openai_api", "proxy_in_the_way", "retry_after_s", "server_message"]

WRONG_PATH = re.compile(
    r"^\s*(404 page not found|405 method not allowed|File Not Found|Not Found|Method Not Allowed)\s*$"
    r"|Unexpected endpoint or method",
    re.IGNORECASE,
)


def from_reply(payload: Any, where: Where, status: int = 200) -> Said:
    """The error that a server put into the body of a reply or into its stream.

    Args:
        payload: The parsed body or event, or its text.
        where: Which call it answered.
        status: The HTTP status it came with; an error with status 200 is judged by its code and its words.
    """
    if status == 200 and not _is_error(payload):
        return no_openai_api(where, server_message(payload))
    details = payload.get("error") if isinstance(payload, Mapping) else None
    code = details.get("code") if isinstance(details, Mapping) else None
    if isinstance(code, int) and not isinstance(code, bool) and 400 <= code < 600:
        status = code
    return judged(status, payload, where, {})


def judged(status: int, payload: Any, where: Where, headers: Mapping[str, str]) -> Said:
    """The error that a reply means, by its status and its words."""
    error = _judge(status, server_message(payload), where, headers)
    details = payload.get("error") if isinstance(payload, Mapping) else None
    if isinstance(error, ContextOverflow):
        if isinstance(details, Mapping) and "n_ctx" in details:  # llama.cpp gives both numbers
            error.prompt_tokens, error.context = details.get("n_prompt_tokens"), details.get("n_ctx")
        if error.context is not None:
            had = f"The prompt has {error.prompt_tokens:,} tokens" if error.prompt_tokens else "The prompt is too long"
            error.message = f"{had}; the context in force at {where.base_url} is {error.context:,}."
    if isinstance(error, ServerError):
        error.status = status if status != 200 else None
    return error


def server_message(payload: Any) -> str:
    """The server's own words out of an error body, whichever envelope it uses.

    The envelopes, in this order: `{"error": {"message"}}`, `{"error": "text"}`, `{"message"}`, `{"detail"}`,
    plain text.

    Examples:
        >>> server_message({"error": {"message": "Loading model", "code": 503}})
        'Loading model'
        >>> server_message({"detail": "Not Found"})
        'Not Found'
    """
    if isinstance(payload, Mapping):
        for key in ("error", "message", "detail"):
            value = payload.get(key)
            if isinstance(value, Mapping):
                return str(value.get("message") or dict(value))
            if value:
                return str(value)
        return str(dict(payload))
    return str(payload or "").strip()


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The Retry-After header in seconds; None where it is absent or a date in the past.

    Examples:
        >>> retry_after_s({"retry-after": "2"})
        2.0
    """
    value = headers.get("retry-after")
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    try:
        seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return None
    return seconds if seconds > 0 else None


def no_openai_api(where: Where, says: str) -> EndpointNotFound:
    """Something answered that is no model server, or not under this path."""
    return EndpointNotFound(
        f"{where.base_url} answered, but not in the OpenAI protocol.",
        hint=_other_path(where) or "Is it a model server? Its OpenAI address usually ends in /v1.",
        base_url=where.base_url,
        model=where.model,
        server_says=readable(says, where, 300),
    )


def proxy_in_the_way(where: Where, says: str = "", *, reason: str | None = None) -> ProxyInTheWay:
    """A proxy, or a gateway in front of the server, took the call and failed.

    Args:
        where: Which call it took.
        says: What it answered.
        reason: Why it could not be asked, where it did not answer.
    """
    proxy = proxy_for(where.base_url) if where.proxied else None
    why = f" ({reason})" if reason else ""
    if proxy:
        message = f"The proxy {proxy} took the call to {where.base_url}, and failed{why}."
        local = is_local_host(where.host)
        hint = f"Set NO_PROXY={'localhost,127.0.0.1,::1' if local else where.host}"
        hint += ", or leave out trust_env=True." if local else "."
    else:
        message = f"A proxy or gateway answered instead of the server at {where.base_url}{why}."
        hint = "The server behind it may be down. To go past a proxy, set NO_PROXY."
    return ProxyInTheWay(
        message, hint=hint, base_url=where.base_url, model=where.model, server_says=readable(says, where, 300) or None
    )


def _is_error(payload: Any) -> bool:
    """Whether a body that came with status 200 is an error at all; a page or another API's reply is none."""
    return isinstance(payload, Mapping) and any(payload.get(key) for key in ("error", "message", "detail"))


def _judge(status: int, says: str, where: Where, headers: Mapping[str, str]) -> Said:
    if 300 <= status < 400:
        target = readable(headers.get("location", "another address"), where)
        return _wrong_path(where, says, f"It redirects to {target}; redirects are not followed. Use that address.")
    local, page = is_local_host(where.host), is_html(says)
    if status == 407 or (local and page and (status in (502, 503, 504) or (where.proxied and status >= 400))):
        return proxy_in_the_way(where, says)
    says = readable(says, where)
    about: dict[str, Any] = {"base_url": where.base_url, "model": where.model, "server_says": says}
    if (known := explained(says, where)) is not None:
        return known
    if WRONG_PATH.search(says) or status in (404, 405):
        return _wrong_path(where, says)
    if status in (401, 403):
        return _no_access(status, where, says)
    if status == 429:
        return _limited(where, says, headers)
    at = f"{where.server} at {where.base_url}"
    if status == 503 and "loading model" in says.lower():
        return ServerFailed(f"{at} is still loading its model.", hint="Wait a little, and try again.", **about)
    if 400 <= status < 500:
        return RequestRejected(f"{at} refused the request ({status}): {says}", **about)
    if status == 200:
        return ServerFailed(f"{at} reported an error: {says or 'without a word'}", **about)
    return ServerFailed(f"{at} failed ({status}): {says or 'without a word'}", **about)


def _wrong_path(where: Where, says: str, hint: str | None = None) -> EndpointNotFound:
    return EndpointNotFound(
        f"There is no OpenAI endpoint at {where.base_url}.",
        hint=hint or _other_path(where) or f"Is the path in {where.base_url} right, and is it a model server at all?",
        base_url=where.base_url,
        model=where.model,
        server_says=says,
    )


def _other_path(where: Where) -> str | None:
    """The address to try instead, where the path is not the usual one."""
    parts = urlsplit(root_of(where.base_url))
    path = parts.path.rstrip("/")
    while path.endswith(("/v1", "/api", "/v0")):
        path = path.rpartition("/")[0]
    likely = parts._replace(path=path + "/v1").geturl()
    if likely == where.base_url.rstrip("/"):
        return None
    return f"The OpenAI address of most servers ends in /v1: try base_url={likely!r}."


# Where a kind's key is from, for whoever has to find it.
KEY_FROM = {
    "vllm": " It is what vLLM was started with: `--api-key` or VLLM_API_KEY.",
    "llamacpp": " It is what llama-server was started with: `--api-key` or LLAMA_API_KEY.",
    "lmstudio": " LM Studio makes it under Developer, Server settings, API tokens.",
    "jan": " Jan has it under Settings, Local API Server.",
    "litellm": " LiteLLM calls it a virtual key, or its master key.",
}


def _no_access(status: int, where: Where, says: str) -> AuthenticationFailed:
    at = f"{where.server} at {where.base_url}"
    message = f"{at} wants {'another' if where.key else 'an'} API key."
    if "platform.openai.com" in says and not is_openai_host(where.host):
        hint = "The answer comes from OpenAI, not from a local server: check base_url."
    elif status == 403 and not says:
        message = f"{at} refused the host name {where.host!r} (403, without a word)."
        hint = "Ollama does so with names it does not know: use its IP address or localhost, or set OLLAMA_ORIGINS."
    elif status == 403:
        message = f"{at} does not allow this request (403)."
        hint = "Its own words say why; a key is passed with api_key=..."
    elif where.key:
        hint = "The key was refused. Pass another with api_key=..., or set MAMBA_MODEL_BACKEND__API_KEY."
    else:
        hint = "Pass api_key=..., or set MAMBA_MODEL_BACKEND__API_KEY."
    kind = "lmstudio" if "LM Studio API token" in says else where.kind.name if where.kind else ""
    if status == 401 and "platform.openai.com" not in says:
        hint += KEY_FROM.get(kind, "")
    return AuthenticationFailed(message, hint=hint, base_url=where.base_url, model=where.model, server_says=says)


def _limited(where: Where, says: str, headers: Mapping[str, str]) -> RateLimited:
    error = RateLimited(
        f"{where.server} at {where.base_url} asks for fewer requests (429).",
        hint="The account has no quota left." if "insufficient_quota" in says else "Wait, or lower max_concurrency.",
        base_url=where.base_url,
        model=where.model,
        server_says=says,
    )
    error.retry_after_s = retry_after_s(headers)
    return error
