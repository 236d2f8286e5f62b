"""Backends for probes of the scripted server: no retries, so that a failure is seen at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from mamba_nb.backends import OpenAICompatibleBackend
from mamba_nb.testing import ScriptedServer


@pytest.fixture
def scripted() -> Iterator[Callable[..., tuple[ScriptedServer, OpenAICompatibleBackend]]]:
    """Gives a running server that plays a model, and a backend for it."""
    with ExitStack() as stack:

        def start(
            script: Any, *, timeout: float = 10.0, max_retries: int = 0, server: str | None = None, **options: Any
        ) -> tuple[ScriptedServer, OpenAICompatibleBackend]:
            playing = stack.enter_context(ScriptedServer(script, **options))
            backend = OpenAICompatibleBackend(
                playing.models[0], playing.base_url, timeout=timeout, max_retries=max_retries, server=server
            )
            stack.enter_context(backend)
            return playing, backend

        yield start
