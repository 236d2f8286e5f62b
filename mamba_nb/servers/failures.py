"""What goes wrong on the way to a server, turned into this package's errors.

In: an exception of the openai client, of httpx2 or aiohttp below it, or of the operating system; or the error
that a server put into a reply or a stream. Out: one error of `mamba_nb.errors` that says the cause and the fix
and keeps the server's own words. The patterns match the texts of Ollama 0.33, vLLM 0.32, LM Studio 0.4 and
llama.cpp b11434, and older ones where those differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mamba_nb._http import is_local_host, is_openai_host, is_this_machine, proxy_for
from mamba_nb.errors import (
    AuthenticationFailed,
    ContextOverflow,
    EndpointNotFound,
    MambaError,
    ModelNotFound,
    ProxyInTheWay,
    RateLimited,
    RequestRejected,
    ServerError,
    ServerFailed,
    ServerTimeout,
    ServerUnreachable,
    StreamInterrupted,
    ToolsNotSupported,
)
from mamba_nb.servers.kinds import Kind, kinds, root_of

__all__ = ["Where", "from_reply", "server_message", "translate"]

OVERFLOW = re.compile(
    r"exceeds the available context size|maximum context length|longer than the (model's )?context length"
    r"|longer than the context length|n_keep .* n_ctx|context the overflows|Context size has been exceeded"
    r"|exceed_context_size|cannot be greater than max_model_len|input length exceeds the context",
    re.IGNORECASE,
)
NO_MODEL = re.compile(
    r"model ['\"`]?.+?['\"`]? (was )?not found|The model [`'\"].*?[`'\"] does not exist|Invalid model name"
    r"|model_not_found|no router for requested model|No models loaded|try pulling it first",
    re.IGNORECASE | re.DOTALL,
)
NO_TOOLS = re.compile(
    r"does not support tools|requires --enable-auto-tool-choice|requires --tool-call-parser"
    r"|tools param requires --jinja",
    re.IGNORECASE,
)
WRONG_PATH = re.compile(
    r"^\s*(404 page not found|405 method not allowed|File Not Found|Not Found|Method Not Allowed)\s*$"
    r"|Unexpected endpoint or method",
    re.IGNORECASE,
)
CONTEXT_SIZES = (  # the text, then which group is the prompt and which the context
    (re.compile(r"request \((\d+) tokens\) exceeds the available context size \((\d+) tokens\)"), 1, 2),
    (re.compile(r"context length is (\d+) tokens.*?(?:at least|requested) (\d+)", re.DOTALL), 2, 1),
    (re.compile(r"n_keep \((\d+)\) >= n_ctx \((\d+)\)"), 1, 2),
    (re.compile(r"input \((\d+) tokens\) is longer than the model's context length \((\d+) tokens\)"), 1, 2),
    (re.compile(r"context length of only (\d+) tokens"), None, 1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Which call failed.

    Attributes:
        base_url: The server's OpenAI address.
        model: The model asked for, or None.
        kind: What kind of server it is, where known.
        timeout_s: The longest silence that was allowed.
        had_key: Whether a key was sent.
        served: The models that the server lists, where known.
    """

    base_url: str
    model: str | None = None
    kind: Kind | None = None
    timeout_s: float | None = None
    had_key: bool = False
    served: Sequence[str] = ()

    @property
    def server(self) -> str:
        """How to call the server in a sentence."""
        return self.kind.title if self.kind else "The server"


def translate(error: BaseException, where: Where) -> MambaError:
    """Turn any failure of a request into an error of this package; the caller raises it `from` the original.

    Args:
        error: What was raised: by the openai client, httpx2, aiohttp, the operating system or this package.
        where: Which call failed.
    """
    if isinstance(error, MambaError):
        return error
    response = getattr(error, "response", None)
    if response is not None and hasattr(response, "status_code"):
        return _from_response(response, where)
    chain = _chain(error)
    names = {cls.__name__ for link in chain for cls in type(link).__mro__}
    text = _innermost_text(chain)
    if "APIResponseValidationError" in names or "JSONDecodeError" in names:
        return _no_openai_api(where, text)
    if "ProxyError" in names or "ClientProxyConnectionError" in names:
        return _proxy(where, text)
    if _is_tls_mismatch(chain):
        return _unreachable(where, f"Use http://, not https://: {where.base_url} does not speak TLS.")
    if names & {"ServerDisconnectedError", "ClientPayloadError", "ReadError", "RemoteProtocolError"} or any(
        isinstance(link, ConnectionResetError | BrokenPipeError) for link in chain
    ):
        return interrupted(where)
    if "ClientConnectorDNSError" in names or "gaierror" in names:
        host = urlsplit(where.base_url).hostname
        return _unreachable(where, f"The name {host!r} is not known. Check the spelling of base_url.")
    if names & {"ConnectError", "ClientConnectorError", "ConnectionRefusedError"}:
        return _unreachable(where, None)
    if names & {"TimeoutException", "TimeoutError", "APITimeoutError"}:
        return timed_out(where)
    if "APIConnectionError" in names or isinstance(error, OSError):
        return _unreachable(where, None)
    if "OpenAIError" in names and "credentials" in str(error).lower():
        return AuthenticationFailed(
            f"{where.base_url} needs a key, and none was given.",
            hint="Pass api_key=..., or set MAMBA_MODEL_BACKEND__API_KEY.",
            base_url=where.base_url,
            model=where.model,
        )
    return ServerFailed(
        f"The request to {where.base_url} failed: {type(error).__name__}: {error}",
        base_url=where.base_url,
        model=where.model,
    )


def from_reply(payload: Any, where: Where, status: int = 200) -> ServerError | ToolsNotSupported:
    """The error that a server put into the body of a reply or into its stream.

    Args:
        payload: The parsed body or event, or its text.
        where: Which call it answered.
        status: The HTTP status it came with; an error with status 200 is judged by its words.
    """
    return _judge(status, server_message(payload), where, {})


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
                return str(value.get("message") or value)
            if value:
                return str(value)
        return str(dict(payload))
    return str(payload or "").strip()


def timed_out(where: Where, *, after_first_byte: bool = False) -> ServerTimeout:
    """Silence for longer than the timeout."""
    seconds = f"{where.timeout_s:g} s" if where.timeout_s is not None else "the timeout"
    since = "went silent in the middle of its answer for" if after_first_byte else "did not answer within"
    return ServerTimeout(
        f"{where.server} at {where.base_url} {since} {seconds}.",
        hint="It may be loading the model or reading a long prompt. Raise timeout=, or try again.",
        base_url=where.base_url,
        model=where.model,
    )


def interrupted(where: Where) -> StreamInterrupted:
    """The connection ended before the answer did."""
    return StreamInterrupted(
        f"{where.server} at {where.base_url} closed the stream before the answer was finished.",
        hint="It may have run out of memory or crashed; its log says more. The text so far is in .partial.",
        base_url=where.base_url,
        model=where.model,
    )


def _from_response(response: Any, where: Where) -> MambaError:
    """An HTTP status from 300 on."""
    try:
        text = response.text
    except Exception:  # the body was not read, or is no text; the status still tells
        text = ""
    try:
        payload: Any = response.json()
    except ValueError:
        payload = text
    error = _judge(response.status_code, server_message(payload), where, response.headers)
    if isinstance(error, ContextOverflow) and isinstance(payload, Mapping):
        details = payload.get("error")
        if isinstance(details, Mapping) and "n_ctx" in details:  # llama.cpp gives both numbers
            error.prompt_tokens, error.context = details.get("n_prompt_tokens"), details.get("n_ctx")
    if isinstance(error, ServerError):
        error.status = response.status_code
    return error


def _judge(status: int, says: str, where: Where, headers: Mapping[str, str]) -> ServerError | ToolsNotSupported:
    if 300 <= status < 400:
        target = headers.get("location", "another address")
        return _wrong_path(where, says, f"It redirects to {target}; redirects are not followed. Use that address.")
    if status in (502, 503, 504) and _is_html(says) and is_local_host(_host(where)):
        return _proxy(where, _plain(says))
    says = _plain(says)
    if OVERFLOW.search(says):
        return _overflow(where, says)
    if NO_TOOLS.search(says):
        return _no_tools(where, says)
    if NO_MODEL.search(says):
        return _no_model(where, says)
    if WRONG_PATH.search(says) or status in (404, 405):
        return _wrong_path(where, says)
    if status == 401 or (status == 403 and says):
        return _no_key(where, says)
    if status == 403:
        return AuthenticationFailed(
            f"{where.server} at {where.base_url} refused the host name {_host(where)!r} (403, without a word).",
            hint="Ollama does so with names it does not know: use its IP address or localhost, or set OLLAMA_ORIGINS.",
            base_url=where.base_url,
        )
    if status == 407:
        return _proxy(where, says)
    if status == 429:
        return _limited(where, says, headers)
    kwargs: dict[str, Any] = {"base_url": where.base_url, "model": where.model, "server_says": says}
    if 400 <= status < 500:
        return RequestRejected(f"{where.server} at {where.base_url} refused the request ({status}): {says}", **kwargs)
    return ServerFailed(f"{where.server} at {where.base_url} failed ({status}): {says or 'without a word'}", **kwargs)


def _overflow(where: Where, says: str) -> ContextOverflow:
    error = ContextOverflow(
        f"The prompt does not fit the context that {where.base_url} has in force.",
        hint="Shorten the prompt, lower max_tokens, or start the server with a larger context "
        "(`-c` for llama.cpp, `--max-model-len` for vLLM, `--context-length` for LM Studio).",
        base_url=where.base_url,
        model=where.model,
        server_says=says,
    )
    for pattern, prompt_group, context_group in CONTEXT_SIZES:
        if match := pattern.search(says):
            error.prompt_tokens = int(match.group(prompt_group)) if prompt_group else None
            error.context = int(match.group(context_group))
            break
    if error.context is not None:
        had = f"The prompt has {error.prompt_tokens:,} tokens" if error.prompt_tokens else "The prompt is too long"
        error.message = f"{had}; the context in force at {where.base_url} is {error.context:,}."
    return error


def _no_tools(where: Where, says: str) -> ToolsNotSupported:
    if "--enable-auto-tool-choice" in says or "--tool-call-parser" in says:
        hint = (
            "Restart it with `--enable-auto-tool-choice --tool-call-parser PARSER` (hermes, llama3_json, mistral, ...)."
        )
    elif "--jinja" in says:
        hint = "Restart llama-server with `--jinja`."
    else:
        hint = 'Choose a model whose template has tools, leave the tools out, or use Agent(..., tools_mode="prompted").'
    return ToolsNotSupported(
        f"{where.model or 'The model'} cannot call tools at {where.base_url}.",
        hint=hint,
        base_url=where.base_url,
        model=where.model,
        server_says=says,
    )


def _no_model(where: Where, says: str) -> ModelNotFound:
    name = where.kind.name if where.kind else None
    hint = None
    if name == "ollama":
        hint = f"Install it: `ollama pull {where.model}`."
    elif name == "vllm":
        hint = f"Use one of these, or restart vLLM with `--served-model-name {where.model}`."
    elif "No models loaded" in says:
        hint = "Load one with `lms load KEY`, or turn on just-in-time loading under Developer, Server settings."
    return ModelNotFound(
        where.model or "(none)", base_url=where.base_url, served=where.served, hint=hint, server_says=says
    )


def _wrong_path(where: Where, says: str, hint: str | None = None) -> EndpointNotFound:
    root = root_of(where.base_url)
    if hint is None:
        hint = (
            f"The OpenAI address of most servers ends in /v1: try base_url={root + '/v1'!r}."
            if not urlsplit(where.base_url).path.rstrip("/").endswith("/v1")
            else f"Is the path in {where.base_url} right, and is it a model server at all?"
        )
    return EndpointNotFound(
        f"There is no OpenAI endpoint at {where.base_url}.",
        hint=hint,
        base_url=where.base_url,
        model=where.model,
        server_says=says,
    )


def _no_openai_api(where: Where, says: str) -> EndpointNotFound:
    return EndpointNotFound(
        f"{where.base_url} answered, but not in the OpenAI protocol.",
        hint="Is it a model server? Its OpenAI address usually ends in /v1.",
        base_url=where.base_url,
        model=where.model,
        server_says=says[:300],
    )


def _no_key(where: Where, says: str) -> AuthenticationFailed:
    if "platform.openai.com" in says and not is_openai_host(_host(where)):
        hint = "The answer comes from OpenAI, not from a local server: check base_url."
    elif where.had_key:
        hint = "The key was refused. Pass another with api_key=..., or set MAMBA_MODEL_BACKEND__API_KEY."
    else:
        hint = "Pass api_key=..., or set MAMBA_MODEL_BACKEND__API_KEY."
    return AuthenticationFailed(
        f"{where.server} at {where.base_url} wants {'another' if where.had_key else 'an'} API key.",
        hint=hint,
        base_url=where.base_url,
        model=where.model,
        server_says=_without_keys(says),
    )


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


def _proxy(where: Where, says: str) -> ProxyInTheWay:
    proxy = proxy_for(where.base_url)
    return ProxyInTheWay(
        f"A proxy{f' ({proxy})' if proxy else ''} answered instead of {where.base_url}.",
        hint="Set NO_PROXY=localhost,127.0.0.1,::1. Local addresses bypass proxies unless trust_env=True was given.",
        base_url=where.base_url,
        model=where.model,
        server_says=says[:300],
    )


def _unreachable(where: Where, hint: str | None) -> ServerUnreachable:
    parts = urlsplit(where.base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if hint is None:
        by_port = next(
            (kind for kind in kinds().values() if kind.default_url and urlsplit(kind.default_url).port == port), None
        )
        kind = where.kind or by_port
        start = kind.start if kind else "Start the server"
        instead = ', or use the embedded model: create_embedded_backend() or "embedded".'
        hint = start + (instead if is_this_machine(parts.hostname or "") else ", and check the address.")
    return ServerUnreachable(
        f"Nothing is listening on {parts.hostname}:{port}.",
        hint=hint,
        base_url=where.base_url,
        model=where.model,
    )


def _host(where: Where) -> str:
    return urlsplit(where.base_url).hostname or ""


def _is_html(text: str) -> bool:
    return text.lstrip()[:200].lower().startswith(("<!doctype", "<html", "<head", "<body"))


def _plain(text: str, most: int = 500) -> str:
    """The words of a page that is HTML, cut to a readable length."""
    if _is_html(text):
        text = " ".join(re.sub(r"<[^>]*>", " ", re.sub(r"(?is)<(script|style).*?</\1>", " ", text)).split())
    return text if len(text) <= most else text[:most] + " ..."


def _without_keys(text: str) -> str:
    """OpenAI's 401 repeats a part of the key; take it out."""
    return re.sub(r"(?i)(api key provided:?|bearer)\s+\S+", r"\1 ***", text)


def _chain(error: BaseException) -> list[BaseException]:
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links


def _innermost_text(chain: Sequence[BaseException]) -> str:
    return next((str(link) for link in reversed(chain) if str(link)), "")


def _is_tls_mismatch(chain: Sequence[BaseException]) -> bool:
    return any("WRONG_VERSION_NUMBER" in str(link) or "record layer failure" in str(link).lower() for link in chain)
