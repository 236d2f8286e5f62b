"""The small questions to a server, besides the chat itself: its models, its state, embeddings, token ids.

In: a client, and what the backend was told of the server. Out: plain values, or this package's errors. What the
replies show of the kind of server is kept here. Runs on the I/O loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic_core import from_json

from mamba_nb import _http
from mamba_nb.backends._declared import kind_at, root_for
from mamba_nb.backends._patience import with_retries
from mamba_nb.errors import EndpointNotFound, MambaError, ModelNotFound, NotHere, RequestRejected, ServerFailed
from mamba_nb.records import Message
from mamba_nb.servers import failures
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.kinds import Kind, kind_from_models, kind_of, root_of
from mamba_nb.servers.lmstudio import LOCAL_MODEL

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")

MOST_S = 5.0  # for what nobody asked for in so many words: lists of models, state
TOKENIZE_HINT = "llama.cpp and vLLM have one. Elsewhere, usage.prompt_tokens of an answer tells the count."
COUNT_HINT = "llama.cpp and vLLM can tell. Elsewhere, usage.prompt_tokens of an answer has the count."


@dataclass(slots=True, kw_only=True)
class Questions:
    """What is known of one server, and what can be asked of it.

    Attributes:
        model: The model asked for.
        base_url: The server's OpenAI address.
        kind: The name of its kind, or None until a reply has shown it.
        key: The key that is sent, or None.
        proxied: Whether proxies from the environment are used.
        trust_env: What was asked for in that matter; None decides by the host.
        timeout_s: The longest silence allowed.
        max_retries: Further attempts after a connect error or a status of 429, 502, 503, 504.
        resolved: The model's name on the wire, or None until the first request.
    """

    model: str
    base_url: str
    kind: str | None
    key: str | None = field(repr=False)
    proxied: bool
    timeout_s: float
    max_retries: int
    trust_env: bool | None = None
    resolved: str | None = None

    def where(self) -> failures.Where:
        """Which server and model, for an error's message."""
        return failures.Where(
            base_url=self.base_url,
            model=self.resolved or self.model,
            kind=self.about,
            timeout_s=self.timeout_s,
            key=self.key,
            proxied=self.proxied,
        )

    @property
    def about(self) -> Kind | None:
        """What its kind is like, where it is known."""
        return kind_of(self.kind)

    def asking(self, *, read_s: float = 3.0) -> Asking:
        """Its native paths, asked over the short way; nothing is kept from one such asking to the next."""
        return Asking(
            root=root_for(self.base_url, self.about),
            base_url=self.base_url,
            key=self.key,
            read_s=read_s,
            trust_env=self.trust_env,
        )

    async def learn_kind(self) -> Kind | None:
        """What its kind is like; asks where it is not known yet, and gives None where nothing tells it."""
        if self.kind is None:
            self.kind = await kind_at(self.asking())
        return self.about

    async def served(self, client: AsyncOpenAI, timeout_s: float | None = None, *, retries: int = 0) -> tuple[str, ...]:
        """The ids in GET /v1/models; learns the kind of server from the reply's shape."""
        allowed_s = timeout_s or self._aside_s
        data, headers = await self._asked(
            lambda: _http.fetch(client, "/models", timeout_s=allowed_s), retries=retries, timeout_s=allowed_s
        )
        try:
            listing: Any = from_json(data)
        except ValueError:
            listing = data.decode("utf-8", "replace")
        if not isinstance(listing, Mapping) or "data" not in listing:
            raise failures.from_reply(listing, self.where())
        if self.kind is None:
            self.kind = kind_from_models(listing, headers)
        entries = listing["data"] or ()  # Ollama sends null where nothing is installed
        return tuple(entry["id"] for entry in entries if isinstance(entry, Mapping) and entry.get("id"))

    async def with_served(self, client: AsyncOpenAI, error: ModelNotFound) -> MambaError:
        """The same error with the list of what the server has, where it can be had."""
        try:
            served = await self.served(client)
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

    async def resolve(self, client: AsyncOpenAI) -> str:
        """The model's name on the wire; LM Studio's `local-model` is looked up once."""
        if self.resolved is None:
            if self.model == LOCAL_MODEL and self.kind is None:
                await self.served(client)
            is_placeholder = self.model == LOCAL_MODEL and self.kind == "lmstudio"
            self.resolved = await self._loaded_model(client) if is_placeholder else self.model
        return self.resolved

    async def _loaded_model(self, client: AsyncOpenAI) -> str:
        kind = self.about
        loaded: Sequence[str] = ()
        if kind is not None and kind.loaded_models is not None:
            try:
                loaded = await kind.loaded_models(lambda path: self._native(client, path))
            except Exception as error:
                failure = failures.translate(error, self.where())
                if not isinstance(failure, LookupError):
                    raise failure from failures.safe_cause(error, self.where())
        if loaded:
            return loaded[0]
        served = await self.served(client)
        if len(served) == 1:  # just-in-time loading off: only what is loaded is listed
            return served[0]
        raise ModelNotFound(
            self.model,
            base_url=self.base_url,
            served=served,
            hint="LM Studio has no language model loaded. Load one with `lms load KEY`, or name one of these.",
        )

    async def is_loading(self, client: AsyncOpenAI) -> bool:
        """Whether the server says that it is loading the model."""
        try:
            if self.kind is None:
                await self.served(client)
            kind = self.about
            if kind is None or kind.is_loading is None:
                return False
            return await kind.is_loading(lambda path: self._native(client, path), self.resolved or self.model)
        except Exception:  # the question is a courtesy; without an answer the timeout stands
            return False

    async def embed(self, client: AsyncOpenAI, texts: list[str], params: Mapping[str, Any]) -> list[list[float]]:
        """One vector a text, in the order given.

        Raises:
            NotHere: If the server has no such endpoint for this model.
        """
        body = {"model": await self.resolve(client), "input": texts, "encoding_format": "float", **params}
        try:
            reply = await self._asked(
                lambda: _http.post_json(client, "/embeddings", body, timeout_s=self.timeout_s),
                retries=self.max_retries,
                wait_for_loading=True,
            )
        except ModelNotFound as error:
            raise await self.with_served(client, error) from error.__cause__
        except (EndpointNotFound, RequestRejected, ServerFailed) as error:
            if not isinstance(error, EndpointNotFound) and error.status != 501:
                raise
            raise self._not_here("embed", "Start it with an embedding model.", error) from error
        entries = reply.get("data") if isinstance(reply, Mapping) else None
        if not entries or not all(isinstance(entry, Mapping) and "embedding" in entry for entry in entries):
            raise failures.from_reply(reply, self.where())
        return [list(entry["embedding"]) for entry in sorted(entries, key=lambda entry: entry.get("index", 0))]

    async def tokenize(self, client: AsyncOpenAI, text: str) -> list[int]:
        """The text as token ids.

        Raises:
            NotHere: If the server has no such endpoint.
        """
        kind = await self.learn_kind()
        if kind is None or kind.tokenize is None:
            raise self._not_here("tokenize", TOKENIZE_HINT)
        tokenize, model = kind.tokenize, await self.resolve(client)
        return await self._native_verb("tokenize", lambda asking: tokenize(asking, model, text))

    async def count_tokens(
        self, client: AsyncOpenAI, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]
    ) -> int:
        """Tokens of a whole request, the model's template included.

        Raises:
            NotHere: If the server cannot tell.
        """
        kind = await self.learn_kind()
        if kind is None or kind.count_tokens is None:
            raise self._not_here("count tokens", COUNT_HINT)
        count, model = kind.count_tokens, await self.resolve(client)
        return await self._native_verb("count tokens", lambda asking: count(asking, model, messages, tools))

    async def _native_verb(self, verb: str, ask: Callable[[Asking], Awaitable[T]]) -> T:
        """The answer of a kind's own function, with the retries and the errors of the chat."""
        asking = self.asking(read_s=self.timeout_s)
        try:
            return await self._asked(lambda: ask(asking), retries=self.max_retries)
        except EndpointNotFound as error:
            raise self._not_here(verb, COUNT_HINT, error) from error

    async def _native(self, client: AsyncOpenAI, path: str) -> Any:
        return await _http.get_json(client, root_of(self.base_url) + path, timeout_s=self._aside_s)

    @property
    def _aside_s(self) -> float:
        return min(MOST_S, self.timeout_s)

    async def _asked(
        self,
        question: Callable[[], Awaitable[T]],
        *,
        retries: int,
        timeout_s: float | None = None,
        wait_for_loading: bool = False,
    ) -> T:
        """The answer to a question, with the same retries and the same errors as the chat's."""
        try:
            return await with_retries(
                question, max_retries=retries, on_loading=(lambda: None) if wait_for_loading else None
            )
        except Exception as error:
            where = replace(self.where(), timeout_s=timeout_s or self.timeout_s)
            raise failures.translate(error, where) from failures.safe_cause(error, where)

    def _not_here(self, verb: str, hint: str, error: BaseException | None = None) -> NotHere:
        return NotHere(
            f"{self.where().server} at {self.base_url} has no endpoint to {verb} with.",
            hint=hint,
            base_url=self.base_url,
            model=self.model,
            server_says=getattr(error, "server_says", None),
        )
