"""One model on one OpenAI-compatible server: a prompt in, stream events and a Generation out."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from mamba_nb import _http
from mamba_nb._bridge import Run, io
from mamba_nb.backends._builder import GenerationBuilder
from mamba_nb.backends._exchange import Exchange
from mamba_nb.backends._params import checked, merged, to_wire
from mamba_nb.backends._patience import with_retries
from mamba_nb.backends._prompt import Prompt, messages_from
from mamba_nb.backends.health import ServerHealth, health_of
from mamba_nb.backends.profiles import Fact, ModelProfile, get_profile
from mamba_nb.errors import (
    BackendClosed,
    BadInput,
    EndpointNotFound,
    MambaError,
    ModelNotFound,
    NotHere,
    ServerFailed,
    closest,
)
from mamba_nb.records import Generation, Message, Request, StreamEvent
from mamba_nb.servers import failures
from mamba_nb.servers.kinds import is_same_model, kind_from_models, kind_of, kinds, root_of
from mamba_nb.servers.lmstudio import LOCAL_MODEL

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from pydantic import SecretStr

    from mamba_nb.settings import AgentSettings, ModelBackendSettings

__all__ = ["OpenAICompatibleBackend", "checked_base_url"]

T = TypeVar("T")
ASIDE_TIMEOUT_S = 5.0  # for the small questions: lists of models, state


class OpenAICompatibleBackend:
    """One model on one server that speaks the OpenAI protocol.

        backend = OpenAICompatibleBackend(model="my-model", base_url="http://localhost:8000/v1")
        backend.ask("Hello").text

    `stream` and `complete` give a `Run`; the other verbs block. Nothing is sent before the first of them. A
    sampling parameter that was not given is not sent, so the server's own default holds.

    Args:
        model: The model's name on the wire; `local-model` on LM Studio means whatever is loaded.
        base_url: The server's OpenAI address, `/v1` included.
        api_key: Its key. None sends a placeholder (`OPENAI_API_KEY` to OpenAI's own hosts, and only there).
        temperature: From 0.0 to 2.0, sent with every request; None sends none.
        max_tokens: Most tokens to generate, sent with every request; None sends none.
        timeout: The longest silence allowed, in seconds, before the first byte and between chunks.
        max_retries: Further attempts after a connect error or a status of 429, 502, 503 or 504.
        server: The kind of server (`ollama`, `vllm`, `lmstudio`, `llamacpp`), where you know it.
        headers: Further HTTP headers for every request.
        trust_env: Whether proxies from the environment are used; None bypasses them for local hosts.
        **params: Further request parameters to send every time (`top_p`, `seed`, `stop`, `extra_body`, ...).

    Raises:
        BadInput: If an argument is wrong; nothing has been sent then.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        api_key: str | SecretStr | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        timeout: float = 30.0,
        max_retries: int = 3,
        server: str | None = None,
        headers: Mapping[str, str] | None = None,
        trust_env: bool | None = None,
        **params: Any,
    ) -> None:
        if not isinstance(model, str) or not model.strip():
            raise BadInput(f"model must be the name of a model; this is {model!r}.")
        if not isinstance(timeout, int | float) or isinstance(timeout, bool) or not timeout > 0:
            raise BadInput(f"timeout must be a number of seconds above 0; this is {timeout!r}.")
        if not isinstance(max_retries, int) or max_retries < 0:
            raise BadInput(f"max_retries must be a whole number from 0; this is {max_retries!r}.")
        if server is not None and kind_of(server) is None:
            raise BadInput(
                f"server must be one of {', '.join(kinds())}; this is {server!r}."
                + (f" Did you mean {near!r}?" if (near := closest(server, kinds())) else "")
            )
        self.model = model
        self.base_url = checked_base_url(base_url)
        self.timeout = float(timeout)
        self.max_retries = max_retries
        self.params = checked({"temperature": temperature, "max_tokens": max_tokens, **params})
        self._kind = server or ("openai" if _http.is_openai_host(urlsplit(self.base_url).hostname or "") else None)
        self.slots: int | None = None  # requests the server works on at once, where its maker knows
        self.declared: Mapping[str, Fact] = {}  # what the server says of the model, by the profile's names
        self._key = _revealed(api_key)
        self._headers = dict(headers or {})
        self._trust_env = trust_env
        self._resolved: str | None = None
        self._closed = False
        self._client: asyncio.Future[AsyncOpenAI] | None = None
        self._client_pid = 0
        self._busy: set[asyncio.Task[Any]] = set()  # tasks that wait for this server
        self._ended: set[asyncio.Task[Any]] = set()  # those of them that `close` has ended
        self._left_to_parent: list[Any] = []

    @classmethod
    def from_settings(
        cls, settings: AgentSettings | ModelBackendSettings | None = None, **changes: Any
    ) -> OpenAICompatibleBackend:
        """A backend from settings, temperature included.

        Args:
            settings: Where from; None reads the environment, `.env` and the file named by `MAMBA_CONFIG`.
            **changes: Constructor arguments that win over the settings.
        """
        from mamba_nb.settings import AgentSettings

        if settings is None:
            settings = AgentSettings()
        chosen = settings.model_backend if isinstance(settings, AgentSettings) else settings
        options: dict[str, Any] = {
            "model": chosen.model,
            "base_url": chosen.base_url,
            "api_key": chosen.api_key,
            "temperature": chosen.temperature,
            "max_tokens": chosen.max_tokens,
            "timeout": chosen.timeout,
            "max_retries": chosen.max_retries,
        }
        return cls(**{**options, **changes})

    @property
    def server(self) -> str:
        """The kind of server: as given, else as its replies have shown so far, else `unknown`."""
        return self._kind or "unknown"

    @property
    def profile(self) -> ModelProfile:
        """What is known of this model: what the table claims for its name, and what its server declares."""
        return get_profile(self._resolved or self.model).with_facts(self.declared)

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._closed

    @property
    def api_key_given(self) -> bool:
        """Whether a key was given; the key itself is never shown."""
        return self._key is not None

    # the verbs

    def stream(self, prompt: Prompt, *, system: str | None = None, **params: Any) -> Run[StreamEvent, Generation]:
        """Ask, and get the answer as it grows.

        Args:
            prompt: Text, or messages; a message's content may mix text and images (paths, bytes, addresses).
            system: A system message to put first.
            **params: Request parameters for this call; they win over the backend's own.

        Returns:
            A Run of StreamEvents whose result is the Generation.

        Raises:
            BadInput: If the prompt or a parameter is wrong; nothing has been sent then.
            BackendClosed: After `close()`.
        """
        return self._start(prompt, system, params, streamed=True)

    def complete(self, prompt: Prompt, *, system: str | None = None, **params: Any) -> Run[StreamEvent, Generation]:
        """Ask in one request that is not streamed; its Generation has a latency but no TTFT or ITL.

        Takes and raises what `stream` does.
        """
        return self._start(prompt, system, params, streamed=False)

    def ask(self, prompt: Prompt, *, system: str | None = None, **params: Any) -> Generation:
        """Ask and wait for the answer: `stream(prompt).result()`.

        Raises:
            ServerError: Whatever went wrong with the server; what had come is in `.partial`.
            KeyboardInterrupt: On an interrupt; the server sees the connection close.
        """
        return self.stream(prompt, system=system, **params).result()

    def list_models(self) -> list[str]:
        """The ids of the models that the server lists, in its order."""
        return self._block(self.alist_models, "list_models")

    async def alist_models(self) -> list[str]:
        """`list_models` on the I/O loop."""
        return list(await self._served(await self._ready(), self.timeout))

    def health_check(self) -> ServerHealth:
        """Whether the server answers, how fast, and with which models; never raises for a server that is down."""

        async def listed() -> tuple[str, ...]:
            return await self._served(await self._ready())

        return self._block(lambda: health_of(listed, self.where()), "health_check")

    def embed(self, texts: str | Sequence[str], **params: Any) -> list[list[float]]:
        """Embed texts.

        Args:
            texts: One text, or several.
            **params: Further members of the request (`dimensions`).

        Returns:
            One vector a text, in the order given.

        Raises:
            NotHere: If the server has no such endpoint for this model.
        """
        wanted = [texts] if isinstance(texts, str) else list(texts)
        if not wanted or not all(isinstance(text, str) and text for text in wanted):
            raise BadInput("embed takes a text or a list of texts, none of them empty.")

        async def embed() -> list[list[float]]:
            client = await self._ready()
            body = {"model": await self._resolve(client), "input": wanted, "encoding_format": "float", **params}
            try:
                reply = await self._aside(
                    lambda: _http.post_json(client, "/embeddings", body, timeout_s=self.timeout), wait_for_loading=True
                )
            except ModelNotFound as error:
                raise await self._with_served(client, error) from error.__cause__
            except (EndpointNotFound, ServerFailed) as error:
                if isinstance(error, ServerFailed) and error.status != 501:
                    raise
                raise self._not_here("embed", "Start it with an embedding model", error) from error
            entries = reply.get("data") if isinstance(reply, Mapping) else None
            if not entries or not all(isinstance(entry, Mapping) and "embedding" in entry for entry in entries):
                raise failures.from_reply(reply, self.where())
            return [list(entry["embedding"]) for entry in sorted(entries, key=lambda entry: entry.get("index", 0))]

        return self._block(embed, "embed")

    def tokenize(self, text: str) -> list[int]:
        """The text as token ids, where the server can tell (llama.cpp, vLLM).

        Raises:
            NotHere: If the server has no such endpoint.
        """

        async def tokenize() -> list[int]:
            client = await self._ready()
            if self._kind is None:
                await self._served(client)
            hint = "llama.cpp and vLLM have one. Elsewhere, usage.prompt_tokens of an answer tells the count"
            if self._kind not in ("llamacpp", "embedded", "vllm"):
                raise self._not_here("tokenize", hint)
            body = {"model": await self._resolve(client), "prompt": text, "content": text}
            path = root_of(self.base_url) + "/tokenize"
            try:
                reply = await self._aside(lambda: _http.post_json(client, path, body, timeout_s=self.timeout))
                return [int(token) for token in reply["tokens"]]
            except (EndpointNotFound, KeyError, TypeError) as error:
                raise self._not_here("tokenize", hint, error) from error

        return self._block(tokenize, "tokenize")

    def close(self) -> None:
        """Close the connections; the verbs raise BackendClosed from then on, as does what still runs.

        Closing twice is fine.
        """
        self._closed = True
        if self._client is not None and self._client_pid == os.getpid():
            run: Run[Any, None] = Run(lambda _run: self.aclose(), name=f"close {self.base_url}")
            if not io.is_current_thread():
                run.result(ASIDE_TIMEOUT_S)

    async def aclose(self) -> None:
        """`close` on the I/O loop."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None and self._client_pid == os.getpid():
            for task in self._busy - self._ended:
                self._ended.add(task)
                task.cancel()
            await (await client).close()

    def __enter__(self) -> OpenAICompatibleBackend:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = " · closed" if self._closed else ""
        return f"<Backend {self._resolved or self.model} · {self.server} · {self.base_url}{state}>"

    # the work, on the I/O loop

    def where(self) -> failures.Where:
        """Which server and model, for an error's message."""
        return failures.Where(
            base_url=self.base_url,
            model=self._resolved or self.model,
            kind=kind_of(self._kind),
            timeout_s=self.timeout,
            key=self._key,
            proxied=_http.uses_proxies(self.base_url, self._trust_env),
        )

    def _start(
        self, prompt: Prompt, system: str | None, params: Mapping[str, Any], *, streamed: bool
    ) -> Run[StreamEvent, Generation]:
        self._check_open()
        messages = messages_from(prompt, system)
        wanted = merged(self.params, checked(params))
        builders: list[GenerationBuilder] = []

        async def work(run: Run[StreamEvent, Generation]) -> Generation:
            return await self.generate(messages, wanted, run=run, streamed=streamed, on_builder=builders.append)

        def partial() -> Generation | None:
            return builders[0].freeze("stopped") if builders else None

        return Run(work, name=f"{'stream' if streamed else 'complete'} {self.model}", partial=partial)

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
        client = await self._ready()
        request = Request(model=await self._resolve(client), messages=messages, params=dict(params))
        builder = GenerationBuilder(request, base_url=self.base_url, server=self.server)
        if on_builder is not None:
            on_builder(builder)
        body: dict[str, Any] = {"model": request.model, "messages": list(messages), **to_wire(params)}
        if streamed:
            body["stream"] = True
            body.setdefault("stream_options", {"include_usage": True})

        def set_state(state: str) -> None:
            if run is not None:
                run.state = state
            if on_state is not None:
                on_state(state)

        exchange = Exchange(
            client=client,
            body=body,
            where=self.where(),
            timeout_s=self.timeout,
            max_retries=self.max_retries,
            is_loading=self._is_loading,
            emit=emit or (run.emit if run is not None else _ignore),
            on_state=set_state,
        )
        try:
            with self._ended_by_close():
                await exchange.run(builder)
        except ModelNotFound as error:
            raise await self._with_served(client, error) from error.__cause__
        if self._kind is None and builder.server != "unknown":
            self._kind = builder.server
        self._warn_of_other_model(builder, request.model)
        return builder.freeze()

    async def _ready(self) -> AsyncOpenAI:
        """The client: built off the loop on first use, and again after a fork."""
        self._check_open()
        if self._client_pid != os.getpid():
            self._left_to_parent.append(self._client)
            self._client, self._client_pid = None, os.getpid()
            self._busy, self._ended = set(), set()
        if self._client is None:
            # Silence between bytes is watched by the exchange; this timeout is for connecting alone.
            connect_s = min(_http.CONNECT_TIMEOUT_S, self.timeout)
            self._client = asyncio.ensure_future(self._build(connect_s))
        building = self._client
        try:
            return await asyncio.shield(building)
        except Exception as error:
            if self._client is building:
                self._client = None  # what was missing may be there next time
            raise failures.translate(error, self.where()) from failures.safe_cause(error, self.where())

    async def _build(self, connect_timeout_s: float) -> AsyncOpenAI:
        client = await asyncio.to_thread(
            _http.build_client,
            self.base_url,
            self._key,
            connect_timeout_s=connect_timeout_s,
            headers=self._headers,
            trust_env=self._trust_env,
        )
        _http.close_when_gone(self, client)
        return client

    async def _resolve(self, client: AsyncOpenAI) -> str:
        """The model's name on the wire; LM Studio's `local-model` is looked up once."""
        if self._resolved is None:
            if self.model == LOCAL_MODEL and self._kind is None:
                await self._served(client)
            is_placeholder = self.model == LOCAL_MODEL and self._kind == "lmstudio"
            self._resolved = await self._loaded_model(client) if is_placeholder else self.model
        return self._resolved

    async def _loaded_model(self, client: AsyncOpenAI) -> str:
        kind = kind_of(self._kind)
        loaded: Sequence[str] = ()
        if kind is not None and kind.loaded_models is not None:
            try:
                loaded = await kind.loaded_models(lambda path: self._fetch(client, path))
            except Exception as error:
                failure = failures.translate(error, self.where())
                if not isinstance(failure, LookupError):
                    raise failure from error
        if loaded:
            return loaded[0]
        served = await self._served(client)
        if len(served) == 1:  # just-in-time loading off: only what is loaded is listed
            return served[0]
        raise ModelNotFound(
            self.model,
            base_url=self.base_url,
            served=served,
            hint="LM Studio has no language model loaded. Load one with `lms load KEY`, or name one of these.",
        )

    async def _is_loading(self) -> bool:
        if self._client is None:
            return False
        client = await self._client
        try:
            if self._kind is None:
                await self._served(client)
            kind = kind_of(self._kind)
            if kind is None or kind.is_loading is None:
                return False
            return await kind.is_loading(lambda path: self._fetch(client, path), self._resolved or self.model)
        except Exception:  # the question is a courtesy; without an answer the timeout stands
            return False

    async def _fetch(self, client: AsyncOpenAI, path: str) -> Any:
        return await _http.get_json(client, root_of(self.base_url) + path, timeout_s=self._aside_timeout_s)

    @property
    def _aside_timeout_s(self) -> float:
        return min(ASIDE_TIMEOUT_S, self.timeout)

    async def _served(self, client: AsyncOpenAI, timeout_s: float | None = None) -> tuple[str, ...]:
        """The ids in GET /v1/models; learns the kind of server from the reply's shape."""
        allowed_s = timeout_s or self._aside_timeout_s
        retries = self.max_retries if timeout_s else 0  # only where it is the user's own question
        listing, headers = await self._aside(lambda: _listing(client, allowed_s), retries=retries, timeout_s=allowed_s)
        if not isinstance(listing, Mapping) or "data" not in listing:
            raise failures.from_reply(listing, self.where())
        if self._kind is None:
            self._kind = kind_from_models(listing, headers)
        entries = listing["data"] or ()  # Ollama sends null where nothing is installed
        return tuple(entry["id"] for entry in entries if isinstance(entry, Mapping) and entry.get("id"))

    async def _aside(
        self,
        question: Callable[[], Awaitable[T]],
        *,
        retries: int | None = None,
        timeout_s: float | None = None,
        wait_for_loading: bool = False,
    ) -> T:
        """Ask something besides the chat itself, with the same retries and the same errors."""
        try:
            return await with_retries(
                question,
                max_retries=self.max_retries if retries is None else retries,
                on_loading=_nothing if wait_for_loading else None,
            )
        except Exception as error:
            where = replace(self.where(), timeout_s=timeout_s or self.timeout)
            raise failures.translate(error, where) from failures.safe_cause(error, where)

    def _not_here(self, verb: str, hint: str, error: BaseException | None = None) -> NotHere:
        return NotHere(
            f"{self.where().server} at {self.base_url} has no endpoint to {verb} with.",
            hint=f"{hint}.",
            base_url=self.base_url,
            model=self.model,
            server_says=getattr(error, "server_says", None),
        )

    async def _with_served(self, client: AsyncOpenAI, error: ModelNotFound) -> MambaError:
        """The same error with the list of what the server has, where it can be had."""
        try:
            served = await self._served(client)
        except MambaError:
            return error
        fuller = ModelNotFound(
            error.model or self.model,
            base_url=self.base_url,
            served=served,
            hint=error.hint,
            server_says=error.server_says,
        )
        fuller.status, fuller.partial = error.status, error.partial
        return fuller

    def _warn_of_other_model(self, builder: GenerationBuilder, asked: str) -> None:
        answered = builder.model
        if answered and not is_same_model(asked, answered):
            builder.warnings.append(f"Asked for {asked!r}, answered by {answered!r}: the server took another model.")

    @contextlib.contextmanager
    def _ended_by_close(self) -> Iterator[None]:
        """What the current task does in this block, `close()` ends."""
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if task in self._ended and task.uncancel() == 0:  # else it was cancelled for another reason too
                raise self._closed_error() from None
            raise
        finally:
            self._busy.discard(task)
            self._ended.discard(task)

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

    def _block(self, work: Callable[[], Coroutine[Any, Any, T]], name: str) -> T:
        self._check_open()

        async def call(_run: Run[Any, T]) -> T:
            with self._ended_by_close():
                return await work()

        return Run(call, name=f"{name} {self.base_url}").result()


async def _listing(client: AsyncOpenAI, timeout_s: float) -> tuple[Any, Mapping[str, str]]:
    from pydantic_core import from_json

    async with asyncio.timeout(timeout_s):
        response = await _http.send(client, "/models", method="GET")
        try:
            data = await response.aread()
        finally:
            await response.aclose()
    try:
        return from_json(data), response.headers
    except ValueError:
        return data.decode("utf-8", "replace"), response.headers


def checked_base_url(base_url: Any) -> str:
    """The address without a trailing slash.

    Raises:
        BadInput: If it has no http or https scheme, no host, or a path that is an endpoint's.
    """
    if not isinstance(base_url, str) or not base_url.strip():
        raise BadInput(f"base_url must be an address such as 'http://localhost:8000/v1'; this is {base_url!r}.")
    url = base_url.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise BadInput(f"base_url is no address: {base_url!r} ({error}).") from error
    if "@" in url:
        raise BadInput(
            "base_url holds a user name or a password, which would be shown wherever the address is.",
            hint='Pass it as headers={"Authorization": "Basic ..."}, or a key as api_key=...',
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput(
            f"base_url must begin with http:// or https://; this is {base_url!r}.",
            hint=f"Did you mean 'http://{url}'?" if "://" not in url else None,
        )
    if parts.query or parts.fragment:
        raise BadInput(
            f"base_url must end with its path; this one goes on with {'?' if parts.query else '#'}.",
            hint=f"Use base_url={parts._replace(query='', fragment='').geturl()!r}.",
        )
    for ending in ("/chat/completions", "/completions", "/models", "/embeddings"):
        if parts.path.endswith(ending):
            raise BadInput(
                f"base_url ends in {ending}, which is one endpoint of the server.",
                hint=f"Use base_url={url.removesuffix(ending)!r}.",
                base_url=url,
            )
    return url


def _revealed(key: Any) -> str | None:
    if key is None:
        return None
    value = key.get_secret_value() if hasattr(key, "get_secret_value") else key
    if not isinstance(value, str):
        raise BadInput(f"api_key must be text; this is {type(value).__name__}.")
    return value or None


def _ignore(_event: StreamEvent) -> None:
    pass


def _nothing() -> None:
    pass
