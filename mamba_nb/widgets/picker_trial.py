"""One short question to one model, as it streams: what the Test button does.

In: a backend and a prompt. Out: a `PanelState` that grows while the answer comes, and then how it ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mamba_nb._bridge import Run
from mamba_nb.backends._builder import GenerationBuilder
from mamba_nb.backends._prompt import messages_from
from mamba_nb.backends.backend import OpenAICompatibleBackend
from mamba_nb.compare.progress import PanelState
from mamba_nb.errors import MambaError
from mamba_nb.records import Generation, Request

__all__ = ["PROMPT", "Trial"]

PROMPT = "Say hello in one short sentence."


class Trial:
    """A test under way; it starts when it is made.

    Args:
        backend: Who is asked, with the backend's own parameters.
        prompt: What.
        context: Tokens of context in force, where the server says; None where it does not.
        must_load: Whether the server says that the model is not in memory: then the wait is told as loading.
        on_end: Called once at its end, on a thread of its own, with the error or None.

    Attributes:
        panel: What is shown.
        backend: As given.

    Raises:
        BadInput: If the prompt is empty; nothing has been sent then.
    """

    def __init__(
        self,
        backend: OpenAICompatibleBackend,
        prompt: str,
        *,
        context: int | None,
        must_load: bool,
        on_end: Callable[[MambaError | None], None],
    ) -> None:
        self.backend = backend
        self.panel = PanelState(backend.model, model=backend.model, server=backend.server, context=context)
        self._messages = messages_from(prompt, None)
        self._prompt = prompt
        self._must_load = must_load
        self._on_end = on_end
        self._builder: GenerationBuilder | None = None
        self.run: Run[None, None] = Run(self._work, name=f"test {backend.model}")

    def stop(self) -> None:
        """Stop it; the server sees the connection close."""
        self.run.cancel()

    async def _work(self, _run: Run[None, None]) -> None:
        answer, backend = self.panel.begin(self._prompt), self.backend
        answer.state = "loading model" if self._must_load else "waiting"

        def say(state: str) -> None:
            if not (self._must_load and state == "waiting"):
                answer.state = state

        def keep(builder: GenerationBuilder) -> None:
            self._builder = builder

        error: MambaError | None = None
        generation: Generation | None = None
        try:
            generation = await backend.generate(
                self._messages, backend.params, emit=answer.feed, on_state=say, on_builder=keep
            )
        except MambaError as failure:
            error, generation = failure, self._so_far().freeze("failed", error=failure)
        except asyncio.CancelledError:
            generation = self._so_far().freeze("stopped")
            raise
        finally:
            self.panel.server = backend.server
            answer.end(generation or self._so_far().freeze("failed"))
            asyncio.get_running_loop().run_in_executor(None, self._on_end, error)

    def _so_far(self) -> GenerationBuilder:
        """What had come; an empty one where the request never began."""
        if self._builder is None:
            request = Request(model=self.backend.model, messages=self._messages, params=dict(self.backend.params))
            self._builder = GenerationBuilder(request, base_url=self.backend.base_url, server=self.backend.server)
        return self._builder
