"""What a kind's verbs send, and what is wrong where the answer is not what it should be.

In: a path and a body. Out: the answer, or one of this package's errors, which keeps the server's own words.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, cast

from mamba_nb import _look
from mamba_nb._look import Answer, StatusError
from mamba_nb.errors import BadInput, MambaError, ModelNotFound, NotHere, RequestRejected, ServerFailed
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.failures import safe_cause, translate
from mamba_nb.servers.kinds import kind_of
from mamba_nb.servers.replies import judged, server_message
from mamba_nb.servers.where import Where, readable

__all__ = ["call", "failed", "no_place", "stream", "where_is"]

LOAD_S = 600.0
"""How long a load may take, in seconds."""


def where_is(asking: Asking, kind: str, model: str | None = None) -> Where:
    """Which call is meant, for an error's words."""
    return Where(base_url=asking.base_url, model=model, kind=kind_of(kind), key=asking.key)


async def call(
    asking: Asking,
    path: str,
    body: Mapping[str, Any] | None,
    *,
    kind: str,
    model: str | None = None,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
    read_s: float = 30.0,
    verb: str = "this",
    no_path: tuple[str, ...] = (),
) -> Answer:
    """Ask once; anything but a status from 200 to 299 is an error.

    Args:
        asking: The server.
        path: Where.
        body: Sent as JSON.
        kind: The kind's name.
        model: The model meant, where one is: a 404 then means that the server does not have it.
        method: The HTTP method.
        headers: Further ones.
        read_s: Seconds to wait for the answer.
        verb: What is being done, for the error's words (`unload a model`).
        no_path: What the server says to a path that it does not know; then it is too old for the verb.

    Raises:
        NotHere: If the server does not have this path.
        ModelNotFound: If it does not have the model.
        AuthenticationFailed: If it wants a key, or another one.
        ServerError: Whatever else is wrong.
    """
    where = where_is(asking, kind, model)
    try:
        answer = await _look.look(
            asking.url(path),
            method=method,
            body=body,
            key=asking.key,
            headers=headers,
            connect_s=max(asking.connect_s, 3.0),
            read_s=read_s,
            trust_env=asking.trust_env,
        )
    except Exception as error:
        raise translate(error, where) from safe_cause(error, where)
    if answer.ok:
        return answer
    payload = answer.json if answer.json is not None else answer.text
    raise _refused(answer.status, payload, where, verb, no_path, answer.headers)


async def stream(
    asking: Asking,
    path: str,
    body: Mapping[str, Any],
    *,
    kind: str,
    model: str,
    verb: str,
    no_path: tuple[str, ...] = (),
    silence_s: float = 60.0,
) -> AsyncIterator[bytes]:
    """Each line of an answer as it comes; raises what `call` raises."""
    where = where_is(asking, kind, model)
    lines = cast("AsyncGenerator[bytes]", asking.lines(path, body, silence_s=silence_s))
    async with contextlib.aclosing(lines):  # so that leaving early closes the connection at once
        while True:
            try:
                line = await anext(lines)
            except StopAsyncIteration:
                return
            except StatusError as error:
                raise _refused(error.status, error.payload, where, verb, no_path, {}) from None
            except Exception as error:
                raise translate(error, where) from safe_cause(error, where)
            yield line


def failed(asking: Asking, kind: str, model: str | None, what: str, says: Any = None) -> ServerFailed:
    """The server took the call and could not do it."""
    where = where_is(asking, kind, model)
    words = readable(server_message(says), where) if says else None
    return ServerFailed(
        f"{where.server} at {asking.base_url} could not {what}.",
        hint="Its log says more." if not words else None,
        base_url=asking.base_url,
        model=model,
        server_says=words or None,
    )


def no_place(kind: str, instead: Mapping[str, str], **given: Any) -> None:
    """Refuse arguments of a verb that this kind has no place for.

    Args:
        kind: The kind's name.
        instead: Argument -> what to do instead, one sentence.
        given: What was given; None is nothing.

    Raises:
        BadInput: If one of `instead` was given.
    """
    for name, hint in instead.items():
        if given.get(name) is not None:
            title = getattr(kind_of(kind), "title", kind)
            raise BadInput(f"{title} has no place for {name} when it loads a model.", hint=hint)


def _refused(
    status: int, payload: Any, where: Where, verb: str, no_path: tuple[str, ...], headers: Mapping[str, str]
) -> MambaError:
    says = readable(server_message(payload), where)
    if status in (405, 501) or (status == 404 and (where.model is None or says in no_path)):
        return NotHere(
            f"{where.server} at {where.base_url} has no way to {verb}.",
            hint="A newer version of it may.",
            base_url=where.base_url,
            model=where.model,
            server_says=says or None,
        )
    if status == 404 and where.model is not None:
        return ModelNotFound(where.model, base_url=where.base_url, served=where.served, server_says=says or None)
    if status in (400, 409, 422):
        rejected = RequestRejected(
            f"{where.server} at {where.base_url} refused to {verb}.",
            base_url=where.base_url,
            model=where.model,
            server_says=says or None,
        )
        rejected.status = status
        return rejected
    return judged(status, payload, where, headers)
