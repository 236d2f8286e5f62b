"""What can go wrong, as one tree.

Every error says what happened and where, then what to do next. Each class is also the builtin it
resembles, so code that never heard of this package (`except ConnectionError`) still works.

    MambaError
    +-- SettingsError            ValueError         an option is wrong; nothing was sent
    +-- BadInput                 ValueError         a prompt, count or model list is wrong; nothing was sent
    +-- MissingExtra             ImportError        an optional dependency is not installed
    +-- BackendClosed            RuntimeError       a verb was used after close()
    +-- WrongLoop                RuntimeError       a blocking call where it could never return
    +-- RunStopped               RuntimeError       the work was cancelled; what finished is in .partial
    +-- AgentError               RuntimeError      the model came to no usable answer; .partial has the steps
    +-- ToolsNotSupported        ValueError         this model cannot call tools on this server
    +-- NotHere                  NotImplementedError  this server has no such endpoint
    +-- EngineError              RuntimeError       the embedded engine did not start or died
    |   +-- WeightsMissing       FileNotFoundError  no weights on disk, and fetching was not asked for
    +-- ServerError                                 the server, or the way to it, failed
        +-- ServerUnreachable    ConnectionError    nothing is listening there
        +-- ProxyInTheWay        ConnectionError    a proxy answered instead of the server
        +-- ServerTimeout        TimeoutError       silence for longer than the timeout
        +-- StreamInterrupted    ConnectionError    the stream ended before the answer did
        +-- EndpointNotFound     LookupError        the URL path is wrong
        +-- ModelNotFound        LookupError        the server does not have this model
        +-- AuthenticationFailed PermissionError    a key is missing or wrong
        +-- ContextOverflow      ValueError         the prompt does not fit the context in force
        +-- RateLimited          RuntimeError       the server asks for fewer requests
        +-- RequestRejected      ValueError         the server refused the request for another reason
        +-- ServerFailed         RuntimeError       the server failed for another reason

The translation of foreign exceptions (openai, httpx2, aiohttp, the operating system) into this tree is
`mamba_nb.servers.failures.translate`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any

__all__ = [
    "AgentError",
    "AuthenticationFailed",
    "BackendClosed",
    "BadInput",
    "ContextOverflow",
    "EndpointNotFound",
    "EngineError",
    "MambaError",
    "MissingExtra",
    "ModelNotFound",
    "NotHere",
    "ProxyInTheWay",
    "RateLimited",
    "RequestRejected",
    "RunStopped",
    "ServerError",
    "ServerFailed",
    "ServerTimeout",
    "ServerUnreachable",
    "SettingsError",
    "StreamInterrupted",
    "ToolsNotSupported",
    "WeightsMissing",
    "WrongLoop",
    "closest",
    "listed",
]


class MambaError(Exception):
    """The root of the tree.

    Args:
        message: What happened, and where.
        hint: What to do or type next.
        base_url: The server's address, where one is concerned.
        model: The model's name on the wire, where one is concerned.
        server_says: The server's own words, kept as they came.
    """

    hint: str | None
    base_url: str | None
    model: str | None
    server_says: str | None

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        base_url: str | None = None,
        model: str | None = None,
        server_says: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.base_url = base_url
        self.model = model
        self.server_says = server_says

    def __str__(self) -> str:
        lines = [self.message]
        if self.hint:
            lines.append(self.hint)
        if self.server_says and self.server_says not in self.message:
            lines.append(f"The server said: {self.server_says}")
        return "\n".join(lines)


class SettingsError(MambaError, ValueError):
    """An option is wrong. The message names the field, the rule and what came."""


class BadInput(MambaError, ValueError):
    """An argument is wrong; it was refused before anything was sent."""


class MissingExtra(MambaError, ImportError):
    """A name needs an optional dependency that is not installed; the hint is the pip line."""

    def __init__(self, what: str, *, package: str, extra: str) -> None:
        super().__init__(
            f"{what} needs {package}, which is not installed.",
            hint=f'Install it with: pip install "mamba_nb[{extra}]"',
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), package="", extra=""), ("",), {**self.__dict__, "args": self.args}


class BackendClosed(MambaError, RuntimeError):
    """A verb was used after `close()`."""


class WrongLoop(MambaError, RuntimeError):
    """A blocking call was made where waiting would stop the very work waited for."""


class RunStopped(MambaError, RuntimeError):
    """The work was cancelled before it ended.

    Attributes:
        partial: What had been finished by then (a `Generation`, a `Comparison`), or None.
    """

    def __init__(self, message: str, *, partial: Any = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.partial = partial


class AgentError(MambaError, RuntimeError):
    """The model did not come to an answer that can be used; the cause says more.

    Attributes:
        partial: The `AgentResult` so far: messages, tool calls and generations; its output is None.
    """

    partial: Any = None


class ToolsNotSupported(MambaError, ValueError):
    """Tools were given for a model that cannot call them on this server."""


class NotHere(MambaError, NotImplementedError):
    """The server is fine, but it has no endpoint for this verb."""


class EngineError(MambaError, RuntimeError):
    """The embedded engine could not be started, or died."""


class WeightsMissing(EngineError, FileNotFoundError):
    """The embedded model's weights are not on this machine and were not to be fetched."""


class ServerError(MambaError):
    """A server, or the way to it, failed.

    Attributes:
        status: The HTTP status that came, or None where none did.
        partial: What the server had sent by then (a `Generation`), or None.
    """

    status: int | None = None
    partial: Any = None


class ServerUnreachable(ServerError, ConnectionError):
    """Nothing is listening at the address."""


class ProxyInTheWay(ServerError, ConnectionError):
    """A proxy took a call that was meant for the server."""


class ServerTimeout(ServerError, TimeoutError):
    """The server was silent for longer than `timeout` seconds."""


class StreamInterrupted(ServerError, ConnectionError):
    """The connection ended before the answer did; `.partial` keeps what came."""


class EndpointNotFound(ServerError, LookupError):
    """The URL path is wrong for this server."""


class ModelNotFound(ServerError, LookupError):
    """The server does not have the model.

    Attributes:
        served: The ids that it does have, as far as known.
    """

    served: tuple[str, ...] = ()

    def __init__(
        self,
        model: str,
        *,
        base_url: str,
        served: Iterable[str] = (),
        hint: str | None = None,
        server_says: str | None = None,
    ) -> None:
        served = tuple(served)
        near = closest(model, served)
        message = f"{base_url} does not have a model called {model!r}."
        if near:
            message += f" Did you mean {near!r}?"
        if served:
            message += f" It has: {listed(served)}."
        super().__init__(message, hint=hint, base_url=base_url, model=model, server_says=server_says)
        self.served = served

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), base_url=self.base_url or ""), (self.model,), {**self.__dict__, "args": self.args}


class AuthenticationFailed(ServerError, PermissionError):
    """The server wants a key, or another one."""


class ContextOverflow(ServerError, ValueError):
    """The prompt does not fit the context in force.

    Attributes:
        prompt_tokens: Tokens in the prompt, or None where the server did not say.
        context: Tokens the server can hold for one request, or None where it did not say.
    """

    prompt_tokens: int | None = None
    context: int | None = None


class RateLimited(ServerError, RuntimeError):
    """The server asks for fewer requests.

    Attributes:
        retry_after_s: Seconds to wait as the server gave them, or None.
    """

    retry_after_s: float | None = None


class RequestRejected(ServerError, ValueError):
    """The server refused the request; its own words say why.

    Attributes:
        lacking: What the model or its server cannot do (`vision`, `thinking`, `embeddings`), or None.
    """

    lacking: str | None = None


class ServerFailed(ServerError, RuntimeError):
    """The server failed; its own words say how."""


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name nearest to `name`, else the first that contains it, or None where there is neither.

    Examples:
        >>> closest("qwen3:8", ["qwen3:8b", "gemma3:4b"])
        'qwen3:8b'
        >>> closest("granite", ["qwen3:8b", "ibm/granite-4-micro"])
        'ibm/granite-4-micro'
        >>> closest("zzz", ["qwen3:8b"]) is None
        True
    """
    names = list(known)
    if matches := get_close_matches(name, names, n=1, cutoff=0.6):
        return matches[0]
    part = name.casefold()
    return next((each for each in names if len(part) > 3 and part in each.casefold()), None)


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names for a sentence, cut where there are many.

    Examples:
        >>> listed(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
