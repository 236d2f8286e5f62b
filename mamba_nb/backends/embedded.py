"""The embedded engine as a backend: it finds its engine again, or a new one, before every request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mamba_nb.backends.backend import OpenAICompatibleBackend
from mamba_nb.errors import MambaError, ServerUnreachable
from mamba_nb.servers.facts import Fact, now

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from mamba_nb.embedded import Engine
    from mamba_nb.records import Generation

__all__ = ["EmbeddedBackend"]


class EmbeddedBackend(OpenAICompatibleBackend):
    """A backend for the embedded engine; made by `create_embedded_backend`.

    An engine that was stopped, or died, is started again by the next request, on another port and with another
    key; after a fork the child starts its own.

    Args:
        engine: A running engine.
        **options: Anything that OpenAICompatibleBackend takes besides model, address and key.
    """

    def __init__(self, engine: Engine, **options: Any) -> None:
        super().__init__(engine.model, engine.base_url, api_key=engine.api_key, server="embedded", **options)
        self._follow(engine)

    async def generate(self, *args: Any, **kwargs: Any) -> Generation:
        """The one request path; an engine that died a moment ago, and was not missed yet, is asked for anew."""
        address = self.base_url
        try:
            return await super().generate(*args, **kwargs)
        except ServerUnreachable:  # nothing was sent
            await self._ready()
            if self.base_url == address:
                raise
        return await super().generate(*args, **kwargs)

    async def _ready(self) -> AsyncOpenAI:
        from mamba_nb.embedded import ensure_engine

        self._check_open()
        engine = await ensure_engine(self._spec)
        if engine.base_url != self.base_url:
            self._clients.forget()  # its connections died with the engine
            self._follow(engine)
        return await super()._ready()

    def _follow(self, engine: Engine) -> None:
        self._spec = engine.spec
        self.base_url = self._questions.base_url = engine.base_url
        self._key = self._questions.key = engine.api_key
        self.slots = engine.slots
        moment = now()
        self._from_engine = {
            name: Fact(fact.value, "declared", fact.evidence, moment)
            for name, fact in engine.declared.items()
            if fact.value is not None
        }
        self._declared.facts = {**self._declared.facts, **self._from_engine}

    async def _ask_facts(self) -> tuple[str | None, Mapping[str, Fact] | None]:
        """What the engine declared when it started, and what its list of models says besides; never starts it."""
        kind, facts = await super()._ask_facts()
        return kind, {**(facts or {}), **self._from_engine}

    async def _explained(self, client: AsyncOpenAI, error: MambaError) -> MambaError:
        if isinstance(error, ServerUnreachable):
            return error  # the engine is started anew, and no other server takes its place
        return await super()._explained(client, error)
