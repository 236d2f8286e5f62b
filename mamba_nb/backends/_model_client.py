"""One model on one server, asked on the I/O loop: messages in, stream events and a Generation out.

The verbs that a cell calls stand on this, in `backend.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mamba_nb import _http
from mamba_nb.backends import _call_as_text, _truncation
from mamba_nb.backends._builder import GenerationBuilder
from mamba_nb.backends._declared import PATIENCE_S, Declared, ask
from mamba_nb.backends._exchange import OPENAI, Exchange, Route
from mamba_nb.backends._exchange_client import ClientKeeper
from mamba_nb.backends._native_ollama import check_native, native_route, wants_native
from mamba_nb.backends._params import LOADING
from mamba_nb.backends._questions import Questions
from mamba_nb.backends._translate import refuse_native
from mamba_nb.backends.profiles import Fact
from mamba_nb.errors import BackendClosed, EndpointNotFound, MambaError, ModelNotFound
from mamba_nb.records import Generation, Message, Request, StreamEvent
from mamba_nb.servers import failures
from mamba_nb.servers.enriching import enriched
from mamba_nb.servers.kinds import is_same_model, root_of
from mamba_nb.servers.lmstudio import LOCAL_MODEL
from mamba_nb.servers.where import Where

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from mamba_nb._bridge import Run

__all__ = ["ModelClient"]


class ModelClient:
    """The one way to a model: every question to its server goes through here.

    Args:
        model: The model's name on the wire.
        base_url: The server's OpenAI address.
        params: Checked parameters, sent with every request.
        timeout_s: The longest silence allowed, in seconds.
        max_retries: Further attempts after a connect error or a status of 429, 502, 503 or 504.
        server: The kind of server, where it was given.
        key: The key to send, or None.
        headers: Further HTTP headers.
        trust_env: Whether proxies from the environment are used; None decides by the host.
        native: Whether to ask Ollama at its own route; None decides by the parameters.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        params: Mapping[str, Any],
        *,
        timeout_s: float,
        max_retries: int,
        server: str | None,
        key: str | None,
        headers: Mapping[str, str],
        trust_env: bool | None,
        native: bool | None,
    ) -> None:
        self.model = model
        self.base_url = base_url
        self.timeout = timeout_s
        self.max_retries = max_retries
        self.params = params
        self._declared = Declared()
        self._key = key
        self._headers = headers
        self._trust_env = trust_env
        self._native = native
        self._questions = Questions(
            model=model,
            base_url=base_url,
            kind=server or ("openai" if self._is_openais else None),
            key=key,
            proxied=_http.uses_proxies(base_url, trust_env),
            timeout_s=timeout_s,
            max_retries=max_retries,
            trust_env=trust_env,
        )
        check_native(native, params, self._questions.about)
        self._closed = False
        self._clients = ClientKeeper()

    # what is known

    @property
    def server(self) -> str:
        """The kind of server: as given, else as its replies have shown so far, else `unknown`."""
        return self._questions.kind or "unknown"

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._closed

    @property
    def api_key_given(self) -> bool:
        """Whether a key was given; the key itself is never shown."""
        return self._key is not None

    def where(self) -> Where:
        """Which server and model, for an error's message."""
        return self._questions.where()

    @property
    def declared(self) -> Mapping[str, Fact]:
        """What the server has said of the model so far, by the profile's names; set it and nothing is asked."""
        return self._declared.facts

    @declared.setter
    def declared(self, facts: Mapping[str, Fact]) -> None:
        self._declared.facts, self._declared.fixed = facts, True

    async def declare(self, again: bool = False) -> Mapping[str, Fact]:
        """Ask the server what it declares of the model, on the I/O loop.

        Args:
            again: Whether to ask anew where the answer is known.

        Returns:
            Facts by the field names of a ModelProfile; what was known before where the server does not answer
            within 1.5 s.
        """
        if (again and not self._declared.fixed) or self._declared.due:
            began, kind, facts = asyncio.get_running_loop().time(), None, None
            with contextlib.suppress(TimeoutError, MambaError):
                async with asyncio.timeout(PATIENCE_S):
                    kind, facts = await self._ask_facts()
            self._questions.kind = self._questions.kind or kind
            self._declared.take(facts, asyncio.get_running_loop().time() - began)
        return self.declared

    async def _ask_facts(self) -> tuple[str | None, Mapping[str, Fact] | None]:
        if self._is_openais:
            # Its list of models has names and dates alone.
            return "openai", {"runs_locally": Fact(False, "declared", "the host is OpenAI's")}
        if self.model == LOCAL_MODEL:
            await self._questions.resolve(await self._ready())
        model = self._questions.resolved or self.model
        return await ask(self._questions.asking(), self._questions.kind, model)

    @property
    def _is_openais(self) -> bool:
        return _http.is_openai_host(urlsplit(self.base_url).hostname or "")

    # the request

    async def generate(
        self,
        messages: tuple[Message, ...],
        params: Mapping[str, Any],
        *,
        run: Run[StreamEvent, Generation] | None = None,
        streamed: bool = True,
        emit: Callable[[StreamEvent], None] | None = None,
        on_state: Callable[[str], None] | None = None,
        on_builder: Callable[[GenerationBuilder], None] | None = None,
    ) -> Generation:
        """The one request path: everything that asks a model goes through here, on the I/O loop.

        Args:
            messages: From `messages_from`.
            params: Checked parameters.
            run: Gets the events and the state, where there is one.
            streamed: Whether to ask for a stream.
            emit: Gets the events, where there is no run.
            on_state: Gets the state, where there is no run.
            on_builder: Gets the builder before anything is sent, to read what had come if this is cancelled.
        """
        # Who asks without the backend's own parameters must still find the model as they load it.
        params = {**{name: self.params[name] for name in LOADING if name in self.params}, **params}
        client = await self._ready()
        try:
            with self._clients.ended_by_close(self._closed_error):
                builder = await self._answer(client, messages, params, run, streamed, emit, on_state, on_builder)
        except MambaError as error:
            raise await self._explained(client, error) from error.__cause__
        if self._questions.kind is None and builder.server != "unknown":
            self._questions.kind = builder.server
        self._declared.was_loaded(params.get("num_ctx"))
        self._warn_of_what_came(builder)
        await self._warn_of_cut_prompt(builder)
        return builder.freeze()

    async def _answer(
        self,
        client: AsyncOpenAI,
        messages: tuple[Message, ...],
        params: Mapping[str, Any],
        run: Run[StreamEvent, Generation] | None,
        streamed: bool,
        emit: Callable[[StreamEvent], None] | None,
        on_state: Callable[[str], None] | None,
        on_builder: Callable[[GenerationBuilder], None] | None,
    ) -> GenerationBuilder:
        model = await self._questions.resolve(client)
        route = await self._route_for(client, params)
        sent = route.write(model, messages, params, kind=self._questions.about, streamed=streamed)
        request = Request(model=model, messages=messages, params=sent.params)
        builder = GenerationBuilder(request, base_url=self.base_url, server=self.server)
        builder.warnings += sent.warnings
        if on_builder is not None:
            on_builder(builder)

        def set_state(state: str) -> None:
            if run is not None:
                run.state = state
            if on_state is not None:
                on_state(state)

        exchange = Exchange(
            client=client,
            route=route,
            body=sent.body,
            where=self.where(),
            timeout_s=self.timeout,
            max_retries=self.max_retries,
            is_loading=lambda: self._questions.is_loading(client),
            emit=emit or (run.emit if run is not None else _ignore),
            on_state=set_state,
        )
        await exchange.run(builder)
        return builder

    async def _route_for(self, client: AsyncOpenAI, params: Mapping[str, Any]) -> Route:
        """The way to ask with these parameters."""
        if not wants_native(self._native, params):
            return OPENAI
        if self._questions.kind is None and not self._native:
            await self._questions.served(client)
            if await self._questions.learn_kind() is None:
                refuse_native(params, None)
        check_native(self._native, params, self._questions.about)
        return native_route(self.base_url)

    async def _explained(self, client: AsyncOpenAI, error: MambaError) -> MambaError:
        """The error with what the server, or this machine, can add to it."""
        if isinstance(error, ModelNotFound):
            return await self._questions.with_served(client, error)
        if isinstance(error, EndpointNotFound) and self._native:
            error.message = f"There is no Ollama at {root_of(self.base_url)}: POST /api/chat is not there."
            error.hint = "native=True, num_ctx, keep_alive and think are for Ollama alone."
        return await enriched(error, self.where())

    def _warn_of_what_came(self, builder: GenerationBuilder) -> None:
        asked, answered = builder.request.model, builder.model
        if answered and not is_same_model(asked, answered):
            builder.warnings.append(f"Asked for {asked!r}, answered by {answered!r}: the server took another model.")
        tools = _call_as_text.offered(builder.request.params)
        if tools and not builder.called and (calls := _call_as_text.calls_in_text(builder.text, tools)):
            builder.warnings.append(_call_as_text.warning(calls))

    async def _warn_of_cut_prompt(self, builder: GenerationBuilder) -> None:
        """Say so where the server may have cut the prompt in silence; after the clock has stopped."""
        kind = self._questions.about
        if kind is None:
            return
        asking, model = self._questions.asking(), builder.request.model
        warning = await _truncation.alarm(
            builder.request.messages,
            builder.outcome(),
            kind,
            lambda: _truncation.context_in_force(asking, kind, model),
        )
        if warning is not None:
            builder.warnings.append(warning)

    # the connection

    async def _ready(self) -> AsyncOpenAI:
        """The client: built off the loop on first use, and again after a fork."""
        self._check_open()
        try:
            return await self._clients.ready(self._build)
        except Exception as error:
            raise failures.translate(error, self.where()) from failures.safe_cause(error, self.where())

    async def _build(self) -> AsyncOpenAI:
        # Silence between bytes is watched by the exchange; this timeout is for connecting alone.
        client = await asyncio.to_thread(
            _http.build_client,
            self.base_url,
            self._key,
            connect_timeout_s=min(_http.CONNECT_TIMEOUT_S, self.timeout),
            headers=self._headers,
            trust_env=self._trust_env,
        )
        _http.close_when_gone(self, client)
        return client

    def _check_open(self) -> None:
        if self._closed:
            raise self._closed_error()

    def _closed_error(self) -> BackendClosed:
        return BackendClosed(
            f"This backend for {self.model} at {self.base_url} is closed.",
            hint="Make a new one, or call close() later.",
            base_url=self.base_url,
            model=self.model,
        )

    async def aclose(self) -> None:
        """`close` on the I/O loop."""
        self._closed = True
        await self._clients.close()


def _ignore(_event: StreamEvent) -> None:
    pass
