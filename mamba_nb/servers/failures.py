"""What goes wrong on the way to a server, turned into this package's errors.

In: an exception of the openai client, of httpx2 or aiohttp below it, or of the operating system. Out: one error
of `mamba_nb.errors` that says the cause and the fix. What a server itself says is judged in `replies`.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from mamba_nb._http import is_this_machine
from mamba_nb.errors import (
    AuthenticationFailed,
    MambaError,
    ServerFailed,
    ServerTimeout,
    ServerUnreachable,
    StreamInterrupted,
)
from mamba_nb.servers.kinds import kinds
from mamba_nb.servers.replies import (
    from_reply,
    judged,
    no_openai_api,
    proxy_in_the_way,
    retry_after_s,
    server_message,
)
from mamba_nb.servers.where import Where, readable

__all__ = [
    "Where",
    "from_reply",
    "interrupted",
    "is_tls",
    "no_credentials",
    "retry_after_s",
    "safe_cause",
    "server_message",
    "timed_out",
    "translate",
]

NO_ROUTE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.EADDRNOTAVAIL)


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
        return judged(response.status_code, _payload(response), where, response.headers)
    chain = _chain(error)
    names = {cls.__name__ for link in chain for cls in type(link).__mro__}
    text = readable(_innermost_text(chain), where)
    if names & {"NoJson", "APIResponseValidationError", "JSONDecodeError"}:
        return no_openai_api(where, str(error))
    if names & {"ProxyError", "ClientProxyConnectionError", "ClientHttpProxyError"}:
        return proxy_in_the_way(where, reason=text)
    if is_tls(error):
        return _tls(where, text)
    if names & {"ServerDisconnectedError", "ClientPayloadError", "ReadError", "RemoteProtocolError"} or any(
        isinstance(link, ConnectionResetError | BrokenPipeError) for link in chain
    ):
        return interrupted(where)
    if "ClientConnectorDNSError" in names or "gaierror" in names:
        return _unreachable(where, f"The name {where.host!r} is not known.", "Check the spelling of base_url.")
    if "ConnectionTimeoutError" in names:  # aiohttp's; the openai client's ConnectTimeout says nothing of the kind
        return _unreachable(
            where,
            f"No connection to {where.place} came about in time.",
            # llama.cpp's server, for one, waits for the end of a line that a TLS greeting never has.
            ("If the server speaks plain HTTP, write http://, not https://. " if where.is_tls else "")
            + "Is the address right, and is the machine on? A firewall may be dropping the call.",
        )
    refused = any(isinstance(link, ConnectionRefusedError) for link in chain)
    if not refused and (no_route := [link for link in chain if isinstance(link, OSError) and link.errno in NO_ROUTE]):
        return _unreachable(where, f"There is no way to {where.place} ({no_route[0].strerror}).", "Check the network.")
    if names & {"ConnectError", "ClientConnectorError", "ConnectionRefusedError"}:
        return _unreachable(where)
    if names & {"TimeoutException", "TimeoutError", "APITimeoutError"}:
        return timed_out(where)
    if "APIConnectionError" in names or isinstance(error, OSError):
        return _unreachable(where)
    if "OpenAIError" in names and "credentials" in str(error).lower():
        return no_credentials(where)
    return ServerFailed(
        f"The request to {where.base_url} failed: {type(error).__name__}: {readable(str(error), where)}",
        base_url=where.base_url,
        model=where.model,
    )


def safe_cause(error: BaseException, where: Where) -> BaseException | None:
    """The exception to raise from, or None where it repeats the key: a traceback shows the whole chain."""
    return None if where.key and any(where.key in str(link) for link in _chain(error)) else error


def timed_out(where: Where, *, after_first_byte: bool = False, loading_s: float | None = None) -> ServerTimeout:
    """Silence for longer than the timeout.

    Args:
        where: Which server was silent.
        after_first_byte: Whether a part of the answer had come.
        loading_s: How long it was waited for, where the server said that it was loading the model.
    """
    if loading_s is not None:
        return ServerTimeout(
            f"{where.server} at {where.base_url} was still loading {where.model} after {loading_s:.0f} s.",
            hint="Look at its log: it may be short of memory. A model that is loaded beforehand answers at once.",
            base_url=where.base_url,
            model=where.model,
        )
    seconds = f"{where.timeout_s:g} s" if where.timeout_s is not None else "the timeout"
    since = "went silent in the middle of its answer for" if after_first_byte else "did not answer within"
    return ServerTimeout(
        f"{where.server} at {where.base_url} {since} {seconds}.",
        hint="It may be loading the model or reading a long prompt. Raise timeout=, or try again.",
        base_url=where.base_url,
        model=where.model,
    )


def interrupted(where: Where, *, empty: bool = False) -> StreamInterrupted:
    """The connection ended before the answer did, or before anything of it came."""
    came = "before anything of the answer came" if empty else "before the answer was finished"
    return StreamInterrupted(
        f"{where.server} at {where.base_url} closed the stream {came}.",
        hint="It may have run out of memory or crashed; its log says more. The text so far is in .partial.",
        base_url=where.base_url,
        model=where.model,
    )


def no_credentials(where: Where) -> AuthenticationFailed:
    """A host that wants a key, and there is none to send."""
    return AuthenticationFailed(
        f"{where.base_url} needs an API key, and none was given.",
        hint="Pass api_key=..., or set MAMBA_MODEL_BACKEND__API_KEY.",
        base_url=where.base_url,
        model=where.model,
    )


def is_tls(error: BaseException) -> bool:
    """Whether a failure is one of TLS: of a certificate, or of a server that does not speak it."""
    return any("SSLError" in {cls.__name__ for cls in type(link).__mro__} for link in _chain(error))


def _tls(where: Where, text: str) -> ServerUnreachable:
    if "certificate" in text.lower():
        return _unreachable(
            where,
            f"The certificate of {where.place} is not trusted ({text}).",
            "Point the environment variable SSL_CERT_FILE to a file that has it.",
        )
    return _unreachable(where, f"{where.place} does not speak TLS.", "Use http://, not https://.")


def _unreachable(where: Where, message: str | None = None, hint: str | None = None) -> ServerUnreachable:
    if message is None:
        message = f"Nothing is listening on {where.place}."
        by_port = (kind for kind in kinds().values() if f":{where.port}/" in (kind.default_url or ""))
        kind = where.kind or next(by_port, None)
        start = kind.start if kind else "Start the server"
        instead = ', or use the embedded model: create_embedded_backend() or "embedded".'
        hint = start + (instead if is_this_machine(where.host) else ", and check the address.")
        if meant := where.meant:
            hint = f"Did you mean {meant!r}? {where.model!r} was taken for a model there. {hint}"
    return ServerUnreachable(message, hint=hint, base_url=where.base_url, model=where.model)


def _payload(response: object) -> object:
    """The body of a reply with an error status: parsed JSON, else its text."""
    try:
        return response.json()  # type: ignore[attr-defined]
    except ValueError:
        pass
    except Exception:  # the body was not read; the status still tells
        return ""
    return response.text  # type: ignore[attr-defined]


def _chain(error: BaseException) -> list[BaseException]:
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links


def _innermost_text(chain: Sequence[BaseException]) -> str:
    return next((str(link) for link in reversed(chain) if str(link)), "")
