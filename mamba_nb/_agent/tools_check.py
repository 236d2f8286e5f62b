"""Whether tools can be given to a model on its server, before anything is sent; and who can take them instead.

What the server declares, or a probe has verified, decides; what a table merely claims is said and not held to. Tools
are never left out in silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mamba_nb._bridge import Run, foreign, io
from mamba_nb._http import is_local_host
from mamba_nb.errors import MambaError, ToolsNotSupported
from mamba_nb.servers.facts import RANK
from mamba_nb.servers.kinds import is_same_model

if TYPE_CHECKING:
    from mamba_nb.backends.backend import OpenAICompatibleBackend

__all__ = ["ToolsClaimedMissing", "cannot_call_tools", "refusal", "warn_of_claim"]

MOST_S = 1.5  # how long the search for other models may take
MOST_NAMES = 8


class ToolsClaimedMissing(UserWarning):
    """The built-in table says that this model has no tools; they are sent all the same."""


def cannot_call_tools(backend: OpenAICompatibleBackend) -> bool:
    """Whether it is declared or verified that this model cannot call tools here."""
    fact = backend.profile.fact("supports_tools")
    return fact.value is False and fact.rank >= RANK["declared"]


def refusal(backend: OpenAICompatibleBackend) -> ToolsNotSupported | None:
    """The error that refuses tools, with the models on this server that can call them; None where nothing does.

    Asks a local server for its list of models, for 1.5 s at most.
    """
    if not cannot_call_tools(backend):
        return None
    fact = backend.profile.fact("supports_tools")
    return ToolsNotSupported(
        f"{_where(backend)} cannot call tools: {fact.source}{_because(fact.evidence)}.",
        hint=f'Give tools_mode="prompted", which works with any model, or choose a model with tools.{_able(backend)}',
        base_url=backend.base_url,
        model=backend.model,
    )


def warn_of_claim(backend: OpenAICompatibleBackend, *, stacklevel: int) -> None:
    """Say so where a table, and nobody better, claims that this model has no tools."""
    fact = backend.profile.fact("supports_tools")
    if fact.value is not False or fact.rank >= RANK["declared"]:
        return
    warnings.warn(
        f"{_where(backend)} is said to have no tools{_because(fact.evidence)}. They are sent all the same; if the "
        'model does not call them, give tools_mode="prompted".',
        ToolsClaimedMissing,
        stacklevel=stacklevel + 1,
    )


def _where(backend: OpenAICompatibleBackend) -> str:
    return f"{backend.model} at {backend.base_url}"


def _because(evidence: str | None) -> str:
    return f" ({evidence})" if evidence else ""


def _able(backend: OpenAICompatibleBackend) -> str:
    """Who else is there that can, as a sentence with a blank before it; empty where that cannot be told."""
    where = backend.where()
    if not is_local_host(where.host) or io.is_current_thread() or foreign.is_current_thread():
        return ""
    run: Run[Any, list[str]] = Run(lambda _run: _models_with_tools(backend), name=f"models at {backend.base_url}")
    with contextlib.suppress(MambaError):  # it was stopped from elsewhere
        if names := run.result():
            return f" On this server these can: {_listed(names)}."
    return ""


async def _models_with_tools(backend: OpenAICompatibleBackend) -> list[str]:
    from mamba_nb.servers.discovery import server_at

    where = backend.where()
    with contextlib.suppress(Exception):  # an error without this addition is better than another error
        async with asyncio.timeout(MOST_S):
            server = await server_at(where.base_url, key=where.key)
            return [
                model.id
                for model in server.models
                if model.supports_tools and not is_same_model(backend.model, model.id)
            ]
    return []


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMES])
    return shown if len(names) <= MOST_NAMES else f"{shown} and {len(names) - MOST_NAMES} more"
