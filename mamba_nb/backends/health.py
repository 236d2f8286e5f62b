"""Whether a server answers: one GET of its model list, judged by its shape."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from mamba_nb._bridge import Run
from mamba_nb.servers import failures

__all__ = ["ServerHealth", "check_server_health", "health_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerHealth:
    """How a server is; true where it answered as an OpenAI-compatible server does.

    Attributes:
        base_url: Its OpenAI address.
        ok: Whether it answered with a list of models.
        latency_ms: How long that took, in milliseconds; None where it did not answer.
        models: The ids that it lists; empty where it lists none.
        error: What is wrong and what to do, or None.
    """

    base_url: str
    ok: bool
    latency_ms: float | None = None
    models: tuple[str, ...] = ()
    error: str | None = None

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        if not self.ok:
            return f"<ServerHealth {self.base_url} · not ok: {self.error}>"
        return f"<ServerHealth {self.base_url} · ok · {len(self.models)} models · {self.latency_ms:.0f} ms>"


async def health_of(list_models: Callable[[], Awaitable[Sequence[str]]], where: failures.Where) -> ServerHealth:
    """Ask for the list of models and say how it went."""
    began = time.monotonic()
    try:
        models = await list_models()
    except Exception as error:
        return ServerHealth(base_url=where.base_url, ok=False, error=str(failures.translate(error, where)))
    return ServerHealth(
        base_url=where.base_url,
        ok=True,
        latency_ms=1000 * (time.monotonic() - began),
        models=tuple(models),
    )


async def check_server_health(base_url: str, *, api_key: str | None = None, timeout: float = 5.0) -> ServerHealth:
    """Whether a model server answers at an address.

        health = await check_server_health("http://localhost:11434/v1")
        if not health: print(health.error)

    Args:
        base_url: The server's OpenAI address, `/v1` included.
        api_key: Its key, if it wants one.
        timeout: Seconds to wait at most.

    Returns:
        A `ServerHealth`, true where the server answered. A server that is down is no exception here.

    Raises:
        BadInput: If the address is none.
    """
    from mamba_nb.backends.backend import OpenAICompatibleBackend

    backend = OpenAICompatibleBackend("any", base_url, api_key=api_key, timeout=timeout, max_retries=0)

    async def check(_run: Run[object, ServerHealth]) -> ServerHealth:
        try:
            async with asyncio.timeout(timeout):
                return await health_of(backend.alist_models, backend.where())
        except TimeoutError:
            error = failures.timed_out(backend.where())
            return ServerHealth(base_url=backend.base_url, ok=False, error=str(error))
        finally:
            await backend.aclose()

    return await Run(check, name=f"health of {base_url}")
