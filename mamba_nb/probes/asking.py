"""The questions of a probe on the wire: a request in, a `Reply` out, with every exchange kept as evidence.

A probe asks the server itself, past the backend's translation of parameters: whether a server ignores a parameter can
only be seen by sending it. A failure is a `Reply` with an error, never an exception, and after certain failures
nothing more is asked. Models that reason get their reasoning switched off where the server can, and else more tokens.

Runs on the I/O loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mamba_nb import _http
from mamba_nb.backends._patience import SilenceWatch, with_retries
from mamba_nb.backends._reader import StreamFault
from mamba_nb.errors import (
    AuthenticationFailed,
    BackendClosed,
    EngineError,
    MambaError,
    ModelNotFound,
    ProxyInTheWay,
    RateLimited,
    RequestRejected,
    ServerTimeout,
    ServerUnreachable,
)
from mamba_nb.probes.findings import Evidence
from mamba_nb.probes.replies import BrokenOff, Reply, failed_reply, is_stream, read_reply, reply_of_generation
from mamba_nb.servers import failures
from mamba_nb.servers.facts import Fact, now

if TYPE_CHECKING:
    from mamba_nb.backends.backend import OpenAICompatibleBackend

__all__ = ["Asker", "LimitReached"]

THINKING_TOKENS = 1024  # for models that reason before they answer, where that cannot be switched off
MOST_REPLY_BYTES = 8_000_000
DONE = b"data: [DONE]"
DRAIN_S = 0.2  # after [DONE]: how long to wait for the end of the body, so that the connection can be used again
PATIENCE = 2  # timeouts, or refusals for too many requests, in a row before no more is asked
# After one of these no other request would fare better.
FINAL = (ServerUnreachable, AuthenticationFailed, ModelNotFound, ProxyInTheWay, BackendClosed, EngineError)
TIRING = (ServerTimeout, RateLimited)
MENDS: tuple[tuple[re.Pattern[str], str, str | None], ...] = (  # what a refusal says, the parameter, its other name
    (
        re.compile(r"max_completion_tokens. instead|use .?max_completion_tokens", re.I),
        "max_tokens",
        "max_completion_tokens",
    ),
    (
        re.compile(
            r"temperature.{0,80}(not support|unsupported|only the default)|(not support|unsupported).{0,80}temperature",
            re.I | re.S,
        ),
        "temperature",
        None,
    ),
    (re.compile(r"stream_options", re.I), "stream_options", None),
)


class LimitReached(Exception):
    """The plan's number of requests has been sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """What is to be asked, before it is fitted to what the server and the model were seen to need."""

    body: Mapping[str, Any]
    think: bool
    exact: bool
    enough: int | None


@dataclass(slots=True, kw_only=True)
class Asker:
    """Asks one backend's server.

    Attributes:
        backend: Whose server and model are asked.
        most: The most requests, by the plan; attempts that a 429 or 503 made necessary are one request.
        most_context: Tokens of the longest prompt that may be sent.
        said: Field of a ModelProfile -> what is declared or claimed of it.
        on_asked: Called after each request.
        asked: How many requests were sent so far.
        evidence: The exchanges since `begin`.
        gone: Why nothing more is asked, or None.
        thinks: Whether the model was seen to use up its tokens on reasoning.
        dropped: Parameters that the server refused and that are no longer sent.
    """

    backend: OpenAICompatibleBackend
    most: int
    most_context: int = 16_384
    said: Mapping[str, Fact] = field(default_factory=dict)
    on_asked: Callable[[], None] = lambda: None
    asked: int = 0
    evidence: list[Evidence] = field(default_factory=list)
    gone: MambaError | None = None
    thinks: bool = False
    dropped: set[str] = field(default_factory=set)
    kept: dict[str, Any] = field(default_factory=dict)
    _extra: dict[str, Any] = field(default_factory=dict)
    _renamed: dict[str, str] = field(default_factory=dict)
    _tired: int = 0

    def declared(self, name: str) -> Any:
        """What is declared, or else claimed, of a field; None where nobody says."""
        fact = self.said.get(name)
        return fact.value if fact is not None else None

    async def chat(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        *,
        think: bool = False,
        exact: bool = False,
        enough: int | None = None,
        keep: str | None = None,
        **body: Any,
    ) -> Reply:
        """One chat completion.

        Args:
            prompt: The user's text, or messages.
            think: Whether the model may reason; else it is kept from it where that can be done.
            exact: Whether `max_tokens` must go out as it is, even to a model that reasons first.
            enough: After so many events of a stream the connection is closed; None reads it to its end.
            keep: The name under which the reply is kept; asked again under that name it comes without a request,
                and its evidence with it.
            **body: Members of the request (`max_tokens`, `stream`, `tools`, ...). Temperature is 0 unless given.
        """
        if keep is not None and keep in self.kept:
            kept: tuple[Reply, tuple[Evidence, ...]] = self.kept[keep]
            self.evidence += kept[1]
            return kept[0]
        before = len(self.evidence)
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        wish = _Wish(body={"messages": messages, "temperature": 0, **body}, think=think, exact=exact, enough=enough)
        reply = await self._mended(wish)
        if reply.burnt and not think and not exact and not self.thinks:
            reply = await self._without_reasoning(wish)
        if keep is not None:
            self.kept[keep] = (reply, tuple(self.evidence[before:]))
        return reply

    async def _without_reasoning(self, wish: _Wish) -> Reply:
        """Ask again with reasoning switched off, or where the server has no such switch, with more tokens."""
        self.thinks = True
        self._extra = _off_switch(self.backend.server)
        reply = await self._mended(wish)
        if isinstance(reply.error, RequestRejected) and self.gone is None:
            self._extra = {}
            reply = await self._mended(wish)
        return reply

    async def _mended(self, wish: _Wish) -> Reply:
        """Ask; where parameters are refused that another name or none can do for, ask again."""
        reply = await self._once(wish)
        while isinstance(reply.error, RequestRejected) and self._mends(wish, reply.says):
            reply = await self._once(wish)
        return reply

    def _mends(self, wish: _Wish, says: str) -> bool:
        """Whether a refusal names a parameter that can do without its name; it does from now on."""
        for pattern, parameter, other in MENDS:
            known = parameter in self.dropped or parameter in self._renamed
            if parameter in wish.body and not known and pattern.search(says):
                if other is None:
                    self.dropped.add(parameter)
                else:
                    self._renamed[parameter] = other
                return True
        return False

    def _wire(self, wish: _Wish) -> dict[str, Any]:
        body = {name: value for name, value in wish.body.items() if name not in self.dropped}
        if self.thinks and not wish.think:
            body.update(self._extra)
        if self.thinks and not wish.exact and "max_tokens" in body:
            body["max_tokens"] = max(body["max_tokens"], THINKING_TOKENS)
        return {self._renamed.get(name, name): value for name, value in body.items()}

    async def _once(self, wish: _Wish) -> Reply:
        body = self._wire(wish)

        async def ask() -> Reply:
            data = await self._send("/chat/completions", body, enough=wish.enough)
            try:
                return read_reply(data)
            except BrokenOff:
                raise failures.interrupted(self.backend.where()) from None
            except StreamFault as fault:
                raise failures.from_reply(fault.payload, self.backend.where()) from None

        return await self._kept_as_evidence(body, ask)

    async def generate(self, prompt: str, **params: Any) -> Reply:
        """One answer through the backend's own path, as a user's request takes it."""
        body = {"messages": [{"role": "user", "content": prompt}], "temperature": 0, **params}
        wire = self._wire(_Wish(body=body, think=True, exact=True, enough=None))
        sent = {name: value for name, value in wire.items() if name != "messages"}

        async def ask() -> Reply:
            generation = await self.backend.generate(tuple(wire["messages"]), sent, streamed=False)
            return reply_of_generation(generation)

        return await self._kept_as_evidence(wire, ask)

    async def count(self, prompt: str) -> int | None:
        """Tokens of a prompt by the server's own count, its template included; None where it cannot tell."""
        if self.gone is not None:
            return None
        try:
            client = await self.backend._ready()
            return await self.backend._questions.count_tokens(client, ({"role": "user", "content": prompt},), ())
        except Exception:  # a courtesy: what it cannot count is counted by asking
            return None

    async def post(self, path: str, body: Mapping[str, Any]) -> Reply:
        """Any other endpoint; the answer is in `.body`."""

        async def ask() -> Reply:
            from pydantic_core import from_json

            data = await self._send(path, body)
            try:
                reply = from_json(data)
            except ValueError:
                reply = data[:1000].decode("utf-8", "replace")
            if not isinstance(reply, Mapping) or reply.get("error"):
                raise failures.from_reply(reply, self.backend.where())
            return Reply(body=reply)

        return await self._kept_as_evidence(body, ask, chat=False)

    async def _kept_as_evidence(
        self, body: Mapping[str, Any], ask: Callable[[], Awaitable[Reply]], *, chat: bool = True
    ) -> Reply:
        if self.gone is not None:
            return failed_reply(self.gone)
        if self.asked >= self.most:
            raise LimitReached
        self.asked += 1
        at, began = now(), time.monotonic()
        try:
            reply = await ask()
        except Exception as error:
            reply = failed_reply(failures.translate(error, self.backend.where()))
        latency_ms = round(1000 * (time.monotonic() - began), 1)
        self._tired = self._tired + 1 if isinstance(reply.error, TIRING) else 0
        if isinstance(reply.error, FINAL if chat else ServerUnreachable) or self._tired >= PATIENCE:
            self.gone = reply.error
        self.evidence.append(
            Evidence(
                request=_shortened({"model": self.backend.model, **body}),
                reply=self.safe(reply.shown()),
                error=type(reply.error).__name__ if reply.error is not None else None,
                at=at,
                latency_ms=latency_ms,
            )
        )
        self.on_asked()
        return reply

    def safe(self, text: str) -> str:
        """The text without the key, should the server have repeated it."""
        key = self.backend.where().key
        return text.replace(key, "***") if key else text

    async def _send(self, path: str, body: Mapping[str, Any], enough: int | None = None) -> bytes:
        """The whole answer's bytes; of a stream, no more than `enough` events where that is given."""
        backend = self.backend
        client = await backend._ready()
        questions = backend._questions
        wire = {"model": await questions.resolve(client), **body}
        watch = SilenceWatch(backend.timeout, lambda: questions.is_loading(client), lambda _state: None)
        data = bytearray()
        try:
            async with watch:
                response = await with_retries(
                    lambda: _http.send(client, path, wire),
                    max_retries=backend.max_retries,
                    watch=watch,
                    on_loading=lambda: None,
                )
                watch.accepted()
                try:
                    await _read(response.aiter_bytes(), data, watch, enough)
                finally:
                    with contextlib.suppress(Exception):  # closing a broken connection has nothing more to say
                        await response.aclose()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not watch.expired or (task is not None and task.cancelling()):
                raise
            loading_s = watch.waited_s if watch.loading else None
            raise failures.timed_out(backend.where(), after_first_byte=bool(data), loading_s=loading_s) from None
        return bytes(data)


async def _read(pieces: AsyncIterator[bytes], data: bytearray, watch: SilenceWatch, enough: int | None) -> None:
    async for piece in pieces:
        watch.heard(time.monotonic())
        data += piece
        if len(data) > MOST_REPLY_BYTES:
            raise ValueError(f"The answer has more than {MOST_REPLY_BYTES:,} bytes.")
        if enough is not None and is_stream(data) and data.count(b"data:") > enough:
            data += b"\n\n" + DONE + b"\n\n"
            return
        if DONE in piece:
            break
    with contextlib.suppress(Exception):  # the answer is whole; how the connection ends is of no interest
        async with asyncio.timeout(DRAIN_S):
            async for _ in pieces:
                pass


def _off_switch(server: str) -> dict[str, Any]:
    """What keeps a model from reasoning on this kind of server.

    Ollama: docs/capabilities/thinking.mdx, `reasoning_effort: none`. vLLM, SGLang, llama.cpp: a template's
    `enable_thinking`. OpenAI's models cannot be kept from it, only asked for less.
    """
    if server in ("ollama", "openai", "lmstudio"):
        return {"reasoning_effort": "low" if server == "openai" else "none"}
    return {"chat_template_kwargs": {"enable_thinking": False}}


def _shortened(value: Any, most: int = 200) -> Any:
    """JSON data with its long texts cut."""
    if isinstance(value, str):
        if len(value) <= most:
            return value
        kept = 40 if value.startswith("data:") else most // 2
        end = "" if value.startswith("data:") else value[-kept:]
        return f"{value[:kept]}… ({len(value):,} characters) …{end}"
    if isinstance(value, Mapping):
        return {str(key): _shortened(item, most) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(item, most) for item in value]
    return value
