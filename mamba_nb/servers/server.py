"""A server that was found: what it is, what it has, and what only some servers can do.

In: what discovery saw. Out: a record, and verbs that either work here or say clearly that they do not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from mamba_nb._bridge import Run
from mamba_nb._look import StatusError
from mamba_nb.errors import BadInput, MambaError, ModelNotFound, NotHere
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Kind, Sighting, is_same_model, kinds
from mamba_nb.servers.pulling import PullProgress
from mamba_nb.servers.server_pull import PullRun
from mamba_nb.servers.where import Where

if TYPE_CHECKING:
    import pandas as pd

    from mamba_nb.backends.backend import OpenAICompatibleBackend

__all__ = ["Server"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Server:
    """One running model server.

        server = find_servers()["ollama"]
        server.models, server.model("llama3.2")
        server.pull("llama3.2").result()        with a progress bar; an interrupt stops it, a second pull goes on
        server.load("llama3.2", context_length=16_384)
        server.backend("llama3.2").ask("Hello")

    A record of what was seen when it was made: `refresh()` gives a new one. The verbs block; `pull` gives a Run.

    Attributes:
        sighting: What it was told as, how surely, and by what.
        base_url: Its OpenAI address, ready for a backend.
        root: Where its native paths begin.
        latency_ms: How long its list of models took, in milliseconds; None where it gave none.
        models: The models it has; empty where it lists none.
        problems: What is wrong with it, each with what to do.
        key: The key to send to it, or None; never shown.
        trust_env: Whether proxies from the environment count on the way to it; None decides by the host.
    """

    sighting: Sighting
    base_url: str
    root: str
    latency_ms: float | None = None
    models: tuple[ServedModel, ...] = ()
    problems: tuple[str, ...] = ()
    key: str | None = field(default=None, repr=False, compare=False)
    trust_env: bool | None = field(default=None, repr=False, compare=False)

    @property
    def kind(self) -> str:
        """The name of its kind, as of the files in `mamba_nb/servers`."""
        return self.sighting.kind

    @property
    def about(self) -> Kind:
        """What its kind is like."""
        return kinds()[self.kind]

    @property
    def certainty(self) -> Literal["certain", "likely", "guess"]:
        """How sure its kind is."""
        return self.sighting.certainty

    @property
    def evidence(self) -> str:
        """What was seen that tells its kind, in words."""
        return self.sighting.evidence

    @property
    def version(self) -> str | None:
        """Its version, or None where it does not say."""
        return self.sighting.version

    @property
    def mode(self) -> str | None:
        """`router` for a llama.cpp that starts others, else None."""
        return self.sighting.mode

    @property
    def needs_key(self) -> bool:
        """Whether it asks for a key; `usable` says whether it got one."""
        return self.sighting.needs_key

    @property
    def usable(self) -> bool:
        """Whether it listed a model to ask."""
        return bool(self.models)

    # What it has.

    def model(self, name: str) -> ServedModel:
        """One model with all that the server declares of it, also what takes a question of its own.

        Args:
            name: Its id, or the way that servers shorten one (`llama3.2` for `llama3.2:latest`).

        Raises:
            ModelNotFound: If the server has no such model; the message has the closest name.
        """
        return self._block(lambda asking: self._detailed(asking, name), "model", name)

    def refresh(self) -> Server:
        """This server as it is now.

        Raises:
            ServerError: If it does not answer any more, or something else answers.
        """
        from mamba_nb.servers.discovery import server_at

        async def look(_run: Run[Any, Server]) -> Server:
            return await server_at(self.base_url, key=self.key, trust_env=self.trust_env)

        return Run(look, name=f"refresh {self.base_url}").result()

    def backend(self, model: str | None = None, **options: Any) -> OpenAICompatibleBackend:
        """A backend for one of its models.

        Args:
            model: Its name; None is the only model, or the only chat model that is loaded.
            **options: As `OpenAICompatibleBackend` takes them (`temperature=`, `timeout=`, ...).

        Raises:
            BadInput: If `model` is left out and there is more than one to choose from.
        """
        from mamba_nb.backends.backend import OpenAICompatibleBackend

        options = {"api_key": self.key, "server": self.kind, "trust_env": self.trust_env, **options}
        return OpenAICompatibleBackend(model or self._only_model(), self.base_url, **options)

    def to_frame(self) -> pd.DataFrame:
        """Its models as a table; the columns are those of `Servers.to_frame`."""
        from mamba_nb.display import servers

        return servers.models_frame([self])

    # What only some can do.

    def pull(self, model: str, **options: Any) -> PullRun:
        """Download a model on the server.

            server.pull("llama3.2").result()           waits, with a progress bar
            for step in server.pull("llama3.2"): ...   each step as it comes

        Cancelling it, or an interrupt while it is waited for, closes the connection, and the server stops. A second
        pull goes on where the first one stopped, where the server can do that.

        Args:
            model: The model's name as the server's makers write it.
            **options: The server's own (`quantization="Q4_K_M"` for LM Studio).

        Returns:
            A Run of `PullProgress` whose result is the model, or None where the server does not list it.

        Raises:
            NotHere: If this kind of server cannot download models.
        """
        pull = self.about.pull
        if pull is None:
            raise self._not_here("pull", "download models", model)
        _check_name(model)

        async def work(run: Run[PullProgress, ServedModel | None]) -> ServedModel | None:
            asking = self._asking()
            run.state = "pulling"
            try:
                async with contextlib.aclosing(pull(asking, model, options)) as steps:  # type: ignore[type-var]
                    async for step in steps:
                        run.emit(step)
                asking.forget()
                return await self._find(asking, model)
            except Exception as error:
                raise self._translated(error, model) from _cause(error)
            finally:
                asking.leave()

        return PullRun(work, model=model, server=self.about.title)

    def load(
        self, model: str, *, context_length: int | None = None, keep_alive: str | float | None = None
    ) -> ServedModel:
        """Load a model and wait until it is in memory.

        Args:
            model: Its name.
            context_length: Tokens of context to load it with; None is the server's own choice.
            keep_alive: How long it stays in memory without use, as the server writes it (`"30m"`, seconds, -1 for
                ever).

        Returns:
            The model as the server declares it now, with the context that is in force.

        Raises:
            NotHere: If this kind of server cannot be told to.
            BadInput: If the kind has no place for an argument.
            ModelNotFound: If the server has no such model.
        """
        load = self.about.load
        if load is None:
            raise self._not_here("load", "load models on request", model)
        _check_name(model)
        if context_length is not None and (
            not isinstance(context_length, int) or isinstance(context_length, bool) or context_length < 1
        ):
            raise BadInput(f"context_length must be a whole number of tokens above 0; this is {context_length!r}.")

        async def work(asking: Asking) -> ServedModel:
            await load(asking, model, context_length=context_length, keep_alive=keep_alive)
            asking.forget()
            return await self._detailed(asking, model)

        return self._block(work, "load", model)

    def unload(self, model: str) -> None:
        """Take a model out of memory.

        Raises:
            NotHere: If this kind of server cannot be told to.
        """
        unload = self.about.unload
        if unload is None:
            raise self._not_here("unload", "unload models on request", model)
        _check_name(model)
        self._block(lambda asking: unload(asking, model), "unload", model)

    def tokenize(self, model: str, text: str) -> list[int]:
        """A text as token ids.

        Raises:
            NotHere: If this kind of server has no such endpoint.
        """
        tokenize = self.about.tokenize
        if tokenize is None:
            raise self._not_here("tokenize", "show its tokens", model)
        if not isinstance(text, str):
            raise BadInput(f"tokenize takes a text; this is {type(text).__name__}.")
        return self._block(lambda asking: tokenize(asking, model, text), "tokenize", model)

    def count_tokens(
        self,
        model: str,
        messages: str | Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> int:
        """The exact number of prompt tokens of a chat request, the model's template included.

        Args:
            model: Its name.
            messages: The messages, or a text, which is one of the user's.
            tools: Tools that go with them.

        Raises:
            NotHere: If this kind of server cannot tell.
        """
        count = self.about.count_tokens
        if count is None:
            raise self._not_here("count_tokens", "count the tokens of a prompt", model)
        wanted = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
        return self._block(lambda asking: count(asking, model, wanted, list(tools)), "count_tokens", model)

    def metrics(self) -> dict[str, float]:
        """Its live figures: `requests_running`, `requests_waiting`, `cache_usage` (0 to 1) and what else it tells.

        Raises:
            NotHere: If this kind of server has none, or has them switched off.
        """
        metrics = self.about.metrics
        if metrics is None:
            raise self._not_here("metrics", "tell its live figures")

        async def work(asking: Asking) -> dict[str, float]:
            figures = dict(await metrics(asking))
            if not figures and asking.failures:
                raise next(iter(asking.failures.values()))
            return figures

        return self._block(work, "metrics")

    # How it looks.

    def __repr__(self) -> str:
        version = f" {self.version}" if self.version else ""
        models = "1 model" if len(self.models) == 1 else f"{len(self.models)} models"
        return f"<Server {self.kind}{version} · {self.base_url} · {models}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from mamba_nb.display import servers

        return {"text/plain": servers.server_text(self), "text/html": servers.server_html(self)}

    # The work, on the I/O loop.

    def _asking(self) -> Asking:
        return Asking(
            root=self.root, base_url=self.base_url, key=self.key, connect_s=5.0, read_s=30.0, trust_env=self.trust_env
        )

    def _block(self, work: Callable[[Asking], Awaitable[T]], verb: str, model: str | None = None) -> T:
        async def call(_run: Run[Any, T]) -> T:
            asking = self._asking()
            try:
                return await work(asking)
            except Exception as error:
                raise self._translated(error, model) from _cause(error)
            finally:
                asking.leave()

        return Run(call, name=f"{verb} {model or self.base_url}").result()

    def _translated(self, error: Exception, model: str | None) -> MambaError:
        from mamba_nb.servers.failures import translate
        from mamba_nb.servers.replies import judged

        where = Where(base_url=self.base_url, model=model, kind=self.about, key=self.key)
        if isinstance(error, StatusError):
            return judged(error.status, error.payload, where, {})
        return translate(error, where)

    async def _now(self, asking: Asking) -> Sequence[ServedModel]:
        from mamba_nb.servers.discovery_visit import plain_models

        return await (self.about.models or plain_models)(asking)

    async def _find(self, asking: Asking, name: str) -> ServedModel | None:
        models = await self._now(asking)
        exact = next((model for model in models if model.id == name), None)
        return exact or next((m for m in models if is_same_model(name, m.id) or is_same_model(m.id, name)), None)

    async def _detailed(self, asking: Asking, name: str) -> ServedModel:
        model = await self._find(asking, name)
        if model is None:
            if (failure := asking.failures.get("/v1/models")) is not None:
                raise failure
            raise ModelNotFound(name, base_url=self.base_url, served=[known.id for known in await self._now(asking)])
        return await self.about.detail(asking, model) if self.about.detail is not None else model

    def _only_model(self) -> str:
        chat = [model for model in self.models if model.task in (None, "chat")]
        loaded = [model for model in chat if model.loaded]
        for choice in (chat, loaded):
            if len(choice) == 1:
                return choice[0].id
        if not chat:
            raise BadInput(f"{self!r} lists no chat model.", hint="Name one: server.backend('llama3.2').")
        names = ", ".join(model.id for model in chat[:8])
        raise BadInput(f"{self!r} has {len(chat)} chat models: name one of them.", hint=f"It has: {names}.")

    def _not_here(self, verb: str, what: str, model: str | None = None) -> NotHere:
        able = [kind.title for kind in kinds().values() if getattr(kind, verb) is not None]
        hint = f"Servers that can: {', '.join(able)}." if able else None
        title = self.about.title.replace("the server", "This server")
        return NotHere(f"{title} at {self.base_url} cannot {what}.", hint=hint, base_url=self.base_url, model=model)


def _check_name(model: object) -> None:
    if not isinstance(model, str) or not model.strip():
        raise BadInput(f"model must be the name of a model; this is {model!r}.")


def _cause(error: Exception) -> BaseException | None:
    return error.__cause__ if isinstance(error, MambaError) else error
