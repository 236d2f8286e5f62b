"""What only the server, or this machine, can add to an error: which servers run, which models can do it.

In: an error of a request that has failed. Out: the same error with a fuller hint. Runs on the I/O loop, asks at most
`MOST_S` seconds, and never raises: an error without an addition is better than another error.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from mamba_nb._http import is_local_host, is_this_machine
from mamba_nb.errors import (
    ContextOverflow,
    MambaError,
    RequestRejected,
    ServerError,
    ServerFailed,
    ServerUnreachable,
    ToolsNotSupported,
    listed,
)
from mamba_nb.servers.kinds import is_same_model
from mamba_nb.servers.where import Where

if TYPE_CHECKING:
    from mamba_nb.servers.facts import ServedModel
    from mamba_nb.servers.server import Server

__all__ = ["enriched"]

MOST_S = 1.5
MOST_NAMES = 8

CAN = {"vision": "supports_vision", "embeddings": "supports_embeddings", "thinking": "supports_reasoning"}


async def enriched(error: MambaError, where: Where) -> MambaError:
    """The error with what can be found out now added to its hint.

    Args:
        error: What is about to be raised; it is changed in place.
        where: Which call failed; only local servers are asked.
    """
    add = _addition(error)
    if add is None or not is_local_host(where.host):
        return error
    with contextlib.suppress(Exception):
        async with asyncio.timeout(MOST_S):
            if more := await add(error, where):
                error.hint = f"{error.hint} {more}" if error.hint else more
    return error


def _addition(error: MambaError) -> Callable[[MambaError, Where], Awaitable[str | None]] | None:
    if isinstance(error, ServerUnreachable):
        return _running
    if isinstance(error, ToolsNotSupported) or (isinstance(error, RequestRejected) and error.lacking in CAN):
        return _able
    if isinstance(error, ContextOverflow):
        return _context_max
    if isinstance(error, ServerFailed) and "memory" in error.message + (error.hint or ""):
        return _in_memory
    return None


async def _running(error: MambaError, where: Where) -> str | None:
    """Which servers do run here: somebody whose call was refused wants to know."""
    from mamba_nb.servers.discovery import find
    from mamba_nb.servers.surroundings import advice, surroundings

    if not is_this_machine(where.host) or (isinstance(error, ServerError) and error.status is not None):
        return None
    servers = await find(timeout=MOST_S - 0.2)
    others = [server for server in servers if server.base_url != where.base_url]
    if not others:
        around = surroundings(os.environ)
        return advice(around)[0] if around.name != "plain" else None  # "localhost" may not be where they look for it
    return "Running here: " + ", ".join(f"{one.about.title} at {one.base_url}" for one in others[:MOST_NAMES]) + "."


async def _able(error: MambaError, where: Where) -> str | None:
    wanted = "supports_tools" if isinstance(error, ToolsNotSupported) else CAN[getattr(error, "lacking", None) or ""]
    able = [model.id for model in (await _server(where)).models if getattr(model, wanted)]
    if not able:
        return None
    return f"On this server these are declared to: {listed(able, MOST_NAMES)}."


async def _context_max(error: MambaError, where: Where) -> str | None:
    most = (await _model(where)).context_max
    in_force = error.context if isinstance(error, ContextOverflow) else None
    return f"The model itself can hold {most:,} tokens." if most and most > (in_force or 0) else None


async def _in_memory(error: MambaError, where: Where) -> str | None:
    loaded = [
        f"{model.id} ({model.memory_bytes / 1e9:.1f} GB)" if model.memory_bytes else model.id
        for model in (await _server(where)).models
        if model.loaded
    ]
    return f"In memory now: {listed(loaded, MOST_NAMES)}." if loaded else None


async def _server(where: Where) -> Server:
    from mamba_nb.servers.discovery import server_at

    return await server_at(where.base_url, key=where.key)


async def _model(where: Where) -> ServedModel:
    server = await _server(where)
    found = next(model for model in server.models if where.model and is_same_model(where.model, model.id))
    if found.context_max is None and server.about.detail is not None:
        from mamba_nb.servers.asking import Asking

        asking = Asking(root=server.root, base_url=server.base_url, key=where.key)
        return await server.about.detail(asking, found)
    return found
