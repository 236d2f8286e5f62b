"""One model on one OpenAI-compatible server: a prompt in, stream events and a Generation out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from mamba_nb._bridge import Run, foreign, io, refuse_on_private_loops
from mamba_nb.backends._builder import GenerationBuilder
from mamba_nb.backends._declared import profile_of
from mamba_nb.backends._given import checked_base_url, revealed
from mamba_nb.backends._model_client import ModelClient
from mamba_nb.backends._native_ollama import check_native, wants_native
from mamba_nb.backends._params import checked, merged
from mamba_nb.backends._prompt import Prompt, messages_from
from mamba_nb.backends._translate import refuse
from mamba_nb.backends.health import ServerHealth, health_of
from mamba_nb.backends.profiles import ModelProfile
from mamba_nb.errors import BadInput, MambaError, closest
from mamba_nb.records import Generation, StreamEvent
from mamba_nb.servers.kinds import kind_of, kinds

if TYPE_CHECKING:
    from pydantic import SecretStr

    from mamba_nb.settings import AgentSettings, ModelBackendSettings

__all__ = ["OpenAICompatibleBackend"]

T = TypeVar("T")
CLOSING_S = 5.0  # how long `close` waits for the connections to end


class OpenAICompatibleBackend(ModelClient):
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
        native: Whether to ask Ollama at its own route, /api/chat, instead of `/v1`. None does so where `num_ctx`,
            `keep_alive` or `think` is given, which `/v1` has no place for.
        **params: Further request parameters to send every time (`top_p`, `seed`, `stop`, `extra_body`, ...). For
            Ollama alone: `num_ctx` (tokens of context to load the model with), `keep_alive` (how long it stays in
            memory afterwards: "30m", seconds, 0, or -1 for good), `think` (True, False, or a level).

    A parameter that this kind of server ignores is sent with a warning in the Generation; one that it always refuses
    is a BadInput.

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
        native: bool | None = None,
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
        super().__init__(
            model,
            checked_base_url(base_url),
            checked({"temperature": temperature, "max_tokens": max_tokens, **params}),
            timeout_s=float(timeout),
            max_retries=max_retries,
            server=server,
            key=revealed(api_key),
            headers=dict(headers or {}),
            trust_env=trust_env,
            native=native,
        )
        self.slots: int | None = None  # requests the server works on at once, where its maker knows

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
    def profile(self) -> ModelProfile:
        """What is known of this model: claimed for its name, declared by its server, verified by probes.

        The server is asked at the first reading, and again when the model was loaded since; for 1.5 s at most, and
        not on this package's own loops, where `await backend.declare()` asks. Never raises for a server that is down.
        """
        if self._declared.due and not self._closed and not (io.is_current_thread() or foreign.is_current_thread()):
            run: Run[Any, Any] = Run(lambda _run: self.declare(), name=f"profile {self.base_url}")
            with contextlib.suppress(MambaError):  # it was stopped from elsewhere
                run.result()
        return profile_of(self, self._questions.resolved or self.model)

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
        refuse_on_private_loops("ask", "use `await backend.stream(...)`")
        return self.stream(prompt, system=system, **params).result()

    def list_models(self) -> list[str]:
        """The ids of the models that the server lists, in its order."""
        return self._block(self.alist_models, "list_models")

    async def alist_models(self) -> list[str]:
        """`list_models` on the I/O loop."""
        return list(await self._questions.served(await self._ready(), self.timeout, retries=self.max_retries))

    def health_check(self) -> ServerHealth:
        """Whether the server answers, how fast, and with which models; never raises for a server that is down."""

        async def listed() -> tuple[str, ...]:
            return await self._questions.served(await self._ready())

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
            return await self._questions.embed(await self._ready(), wanted, params)

        return self._block(embed, "embed")

    def count_tokens(
        self, prompt: Prompt, tools: Sequence[Mapping[str, Any]] = (), *, system: str | None = None
    ) -> int:
        """Tokens that a prompt has on this server, the model's template included; nothing is generated.

        Args:
            prompt: Text or messages, as for `ask`.
            tools: Tools in OpenAI's form, where the request would have some.
            system: A system message to put first.

        Raises:
            NotHere: If the server cannot tell (Ollama, LM Studio); `usage.prompt_tokens` of an answer has the count.
        """
        messages = messages_from(prompt, system)
        offered = checked({"tools": list(tools)})["tools"]

        async def count() -> int:
            return await self._questions.count_tokens(await self._ready(), messages, offered)

        return self._block(count, "count_tokens")

    def tokenize(self, text: str) -> list[int]:
        """The text as token ids, where the server can tell (llama.cpp, vLLM).

        Raises:
            NotHere: If the server has no such endpoint.
        """

        async def tokenize() -> list[int]:
            return await self._questions.tokenize(await self._ready(), text)

        return self._block(tokenize, "tokenize")

    def close(self) -> None:
        """Close the connections; the verbs raise BackendClosed from then on, as does what still runs.

        Closing twice is fine.
        """
        self._closed = True
        if self._clients.is_there:
            run: Run[Any, None] = Run(lambda _run: self.aclose(), name=f"close {self.base_url}")
            if not (io.is_current_thread() or foreign.is_current_thread()):
                run.result(CLOSING_S)

    def __enter__(self) -> OpenAICompatibleBackend:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = " · closed" if self._closed else ""
        return f"<Backend {self._questions.resolved or self.model} · {self.server} · {self.base_url}{state}>"

    # how the verbs run

    def _start(
        self, prompt: Prompt, system: str | None, params: Mapping[str, Any], *, streamed: bool
    ) -> Run[StreamEvent, Generation]:
        self._check_open()
        messages = messages_from(prompt, system)
        wanted = merged(self.params, checked(params))
        check_native(self._native, wanted, self._questions.about)
        refuse(wanted, None if wants_native(self._native, wanted) else self._questions.about)
        builders: list[GenerationBuilder] = []

        async def work(run: Run[StreamEvent, Generation]) -> Generation:
            return await self.generate(messages, wanted, run=run, streamed=streamed, on_builder=builders.append)

        def partial() -> Generation | None:
            return builders[0].freeze("stopped") if builders else None

        return Run(work, name=f"{'stream' if streamed else 'complete'} {self.model}", partial=partial)

    def _block(self, work: Callable[[], Coroutine[Any, Any, T]], name: str) -> T:
        self._check_open()

        async def call(_run: Run[Any, T]) -> T:
            with self._clients.ended_by_close(self._closed_error):
                return await work()

        return Run(call, name=f"{name} {self.base_url}").result()
