"""pydantic-ai's model, answered by a backend: its requests go down this package's one request path.

pydantic-ai's own `OpenAIChatModel` turns its messages, tools and output schemas into a chat request and the reply back
into its messages. Its openai client gets a transport that opens no connection: it takes the request's JSON, has the
backend generate on the I/O loop (streamed: reader, retries, patience, errors and stamps are the backend's), and gives
the finished answer back as one JSON completion. Events reach the run while the answer grows, without an SDK object a
chunk.

Why so, and not a `Model` of our own: the mapping is some thousands of lines that change from one minor version to the
next (retry notes, instruction changes, framing, file parts), and what a subclass of `Model` must handle is private. The
seam used here, a client's transport, is public in both libraries, and what crosses it is OpenAI's wire format.

Tools for models that have none (`tools_mode="prompted"`) are added at the same seam, by `_agent.prompted_tools`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mamba_nb import _bridge
from mamba_nb._agent.events import AgentEvent, StepStarted
from mamba_nb._agent.output_mode import Choice, refused_schema
from mamba_nb._agent.prompted_replies import AnswerStream, Reply, read
from mamba_nb._agent.prompted_tools import Prompted, prompted
from mamba_nb._agent.result import ToolUse
from mamba_nb.backends._params import PARAMS, checked
from mamba_nb.errors import AgentError, MambaError, ToolsNotSupported
from mamba_nb.records import Generation, Message, ReasoningDelta, ReasoningEnded, StreamEvent, TextDelta

if TYPE_CHECKING:
    import httpx2
    from pydantic_ai.models.openai import OpenAIChatModel

    from mamba_nb.backends._builder import GenerationBuilder
    from mamba_nb.backends.backend import OpenAICompatibleBackend

__all__ = ["DaemonThreads", "Steps", "make_model"]

SYSTEM = "mamba_nb"  # pydantic-ai's name for the provider; what it sends back to a server it knows by it
FINISH_REASONS = ("stop", "length", "tool_calls", "content_filter")
# The field in which a server of this kind takes reasoning back. Where it is not known, none is sent: strict
# servers refuse unknown members of a message.
REASONING_FIELDS = {
    "ollama": "reasoning",
    "vllm": "reasoning",
    "lmstudio": "reasoning",
    "llamacpp": "reasoning_content",
    "embedded": "reasoning_content",
}


@dataclass
class Steps:
    """One run of an agent on one backend: the steps made so far, and the way to make the next.

    Attributes:
        backend: Who is asked.
        params: Checked request parameters; what a step needs (tools, schema) is laid over them.
        emit: Gets the run's events.
        on_state: Gets what is being waited for.
        began: The run's start, on the monotonic clock.
        prompted: Whether tools go into the prompt.
        may_prompt: Whether they may go there once the server has refused them.
        holds_schema: Whether a reply with prompted tools is held to a schema; the prompt shows its shape anyway.
        most_tokens: No further request is made once so many tokens were used, of prompts and answers together.
        generations: The replies, one a request, failed ones included.
        starts: When each request was made, in seconds after the run began.
        builder: The reply that is growing now.
        shown: The text of the latest reply as it was given out.
        tool_uses: The calls of tools so far.
        notes: What a reader must know of the run.
        failure: What ended the last request, as this package's error.
    """

    backend: OpenAICompatibleBackend
    params: Mapping[str, Any]
    emit: Callable[[AgentEvent], None]
    on_state: Callable[[str], None]
    began: float
    prompted: bool = False
    may_prompt: bool = False
    holds_schema: bool = True
    most_tokens: int | None = None
    generations: list[Generation] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    builder: GenerationBuilder | None = None
    shown: list[str] = field(default_factory=list)
    tool_uses: list[ToolUse] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failure: MambaError | None = None

    @property
    def step(self) -> int:
        """The number of the latest request, from 1; 0 before the first."""
        return len(self.generations) + (self.builder is not None)

    def now_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.began

    def all_generations(self) -> tuple[Generation, ...]:
        """The replies so far; one that is still growing, or was stopped, as far as it came."""
        builder = self.builder
        return (*self.generations, *([builder.freeze("stopped")] if builder is not None else []))

    async def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a chat request of pydantic-ai's: what its transport does. On the foreign loop.

        Args:
            body: The request in OpenAI's form.

        Returns:
            A completion in OpenAI's form.

        Raises:
            MambaError: What went wrong; `failure` keeps it, since the libraries above wrap it.
        """
        try:
            self._check_tokens()
            if not (self.prompted and body.get("tools")):
                try:
                    return await self._answer_native(body)
                except ToolsNotSupported as error:
                    if not (self.may_prompt and body.get("tools")):
                        raise
                    self._go_on_prompted(error)
            return await self._answer_prompted(body)
        except MambaError as error:
            self.failure = error
            raise

    def forget(self, first: int) -> None:
        """Forget the requests from this place on: the server refused them, and another way is tried."""
        del self.generations[first:], self.starts[first:]
        self.failure = None

    def _check_tokens(self) -> None:
        if self.most_tokens is None or not self.generations:
            return
        counts = [(each.prompt_tokens, each.completion_tokens) for each in self.generations]
        used = sum((prompt or 0) + (answer or 0) for prompt, answer in counts)
        if used >= self.most_tokens:
            raise AgentError(
                f"The run has used {used:,} tokens in {len(counts)} requests; max_total_tokens allows "
                f"{self.most_tokens:,}.",
                hint="What it came to is in .partial; max_total_tokens= allows more.",
                base_url=self.backend.base_url,
                model=self.backend.model,
            )
        if any(None in pair for pair in counts):
            self._note("The server does not count every request's tokens, so max_total_tokens counts too few.")

    def _go_on_prompted(self, error: ToolsNotSupported) -> None:
        self.prompted = True
        self._leave_out_refused()
        self._note(f"The server refused tools, so they went into the prompt: {error.message}")

    def _leave_out_refused(self) -> None:
        if self.generations and self.generations[-1].status == "failed":
            del self.generations[-1], self.starts[-1]

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    async def _answer_native(self, body: Mapping[str, Any]) -> dict[str, Any]:
        params = {name: value for name, value in body.items() if name not in ("model", "messages", "stream")}
        generation = await self._generate(body["messages"], params, self._emit_plain)
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in generation.tool_calls
        ]
        return self._completion(generation, generation.text, calls)

    async def _answer_prompted(self, body: Mapping[str, Any]) -> dict[str, Any]:
        request = prompted(body)
        generation, reply = await self._ask_prompted(request)
        if request.repeats(reply):
            generation, reply = await self._ask_prompted(prompted(body, answer_only=True))
        if reply.tool is None:
            return self._completion(generation, reply.answer, [])
        if reply.cut:
            raise AgentError(
                f"The reply of {generation.model} ended before its call of {reply.tool!r} was whole.",
                hint="Raise max_tokens, or make the tool's arguments shorter."
                if generation.finish_reason == "length"
                else None,
                base_url=self.backend.base_url,
                model=generation.model,
            )
        call = {"name": reply.tool, "arguments": reply.arguments}
        call_id = f"call_{len(self.generations)}"
        return self._completion(generation, None, [{"id": call_id, "type": "function", "function": call}])

    async def _ask_prompted(self, request: Prompted) -> tuple[Generation, Reply]:
        stream = AnswerStream(request)

        def emit(event: StreamEvent | ReasoningEnded) -> None:
            if isinstance(event, TextDelta):
                self._emit_text(stream.feed(event.text))
                return
            if isinstance(event, ReasoningEnded):
                stream.restart()
            self._emit_plain(event)

        form = request.response_format if self.holds_schema else None
        params = {"response_format": dict(form)} if form is not None else {}
        try:
            generation = await self._generate(request.messages, params, emit)
        except MambaError as error:
            if form is None or not refused_schema(error):
                raise
            self.holds_schema = False
            self._leave_out_refused()
            self._note("The server refused a schema, so calls and answer stand in the prompt alone.")
            return await self._ask_prompted(request)
        reply = read(generation.text, request)
        self._emit_text(stream.rest(reply))
        return generation, reply

    async def _generate(
        self,
        messages: Sequence[Message],
        params: Mapping[str, Any],
        emit: Callable[[StreamEvent], None],
    ) -> Generation:
        known = {name: value for name, value in params.items() if name in PARAMS}
        extra = {name: value for name, value in params.items() if name not in PARAMS}
        wanted = {**self.params, **checked(known)}
        if extra:
            wanted["extra_body"] = {**extra, **wanted.get("extra_body", {})}
        work = self.backend.generate(
            tuple(messages), wanted, emit=emit, on_state=self.on_state, on_builder=self._take_builder
        )
        # Cancelling this wait cancels the work on the I/O loop, and the server sees the connection close.
        future = _bridge.io.submit(work)
        try:
            generation = await asyncio.wrap_future(future)
        except MambaError as error:
            if self.builder is not None:
                self.generations.append(self.builder.freeze("failed", error=error))
                self.builder = None
            raise
        self.generations.append(generation)
        self.builder = None
        return generation

    def _take_builder(self, builder: GenerationBuilder) -> None:
        if self.builder is None:  # an embedded engine that had died is asked twice for one answer
            self.starts.append(self.now_s())
        self.builder = builder
        self.shown.clear()
        self.emit(StepStarted(self.starts[-1], self.step))

    def _emit_text(self, text: str) -> None:
        if text:
            self.shown.append(text)
            self.emit(TextDelta(self.now_s(), text))

    def _emit_plain(self, event: StreamEvent | ReasoningEnded) -> None:
        # Stamped anew, on the I/O loop: one clock for the whole run. The generation keeps its own stamps.
        if isinstance(event, TextDelta):
            self._emit_text(event.text)
        elif isinstance(event, ReasoningDelta):
            self.emit(ReasoningDelta(self.now_s(), event.text))
        elif isinstance(event, ReasoningEnded):
            self.shown.clear()
            self.emit(ReasoningEnded(self.now_s()))

    def _completion(self, generation: Generation, text: str | None, calls: list[dict[str, Any]]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text or None}
        if calls:
            message["tool_calls"] = calls
        if generation.reasoning:
            message[REASONING_FIELDS.get(self.backend.server, "reasoning_content")] = generation.reasoning
        reason = generation.finish_reason
        completion: dict[str, Any] = {
            "id": f"mamba-{len(self.generations)}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": generation.model,
            "choices": [
                {"index": 0, "message": message, "finish_reason": reason if reason in FINISH_REASONS else "stop"}
            ],
        }
        if generation.usage is not None:
            prompt, answer = generation.prompt_tokens or 0, generation.completion_tokens or 0
            completion["usage"] = {
                "prompt_tokens": prompt,
                "completion_tokens": answer,
                "total_tokens": prompt + answer,
            }
        return completion


def make_model(steps: Steps, choice: Choice) -> OpenAIChatModel:
    """pydantic-ai's model for one run; a few milliseconds, no connection.

    Args:
        steps: What answers its requests.
        choice: How structured output is asked for.
    """
    import httpx2
    from openai import AsyncOpenAI
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.profiles.openai import OpenAIModelProfile
    from pydantic_ai.providers.openai import OpenAIProvider
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    backend = steps.backend
    client = AsyncOpenAI(
        base_url=backend.base_url,
        api_key="not-sent",  # the backend has the key; nothing that this client adds leaves the process
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=_transport(steps.answer), trust_env=False),
    )
    reasoning_field = REASONING_FIELDS.get(backend.server)
    profile = OpenAIModelProfile(
        # With prompted tools the schema is written into the prompt at this package's own seam, whoever holds to it.
        default_structured_output_mode="native" if choice.mode == "text" or steps.prompted else choice.mode,
        supports_json_schema_output=True,
        supports_json_object_output=choice.json_object,
        openai_chat_thinking_field=reasoning_field,
        openai_chat_send_back_thinking_parts="auto" if reasoning_field else False,
    )
    if backend.server == "openai":
        return OpenAIChatModel(backend.model, provider=OpenAIProvider(openai_client=client), profile=profile)
    local = OpenAIModelProfile(
        openai_supports_strict_tool_definition=False,
        # Strict templates take one system message, at the start.
        openai_chat_supports_multiple_system_messages=False,
        supports_inline_system_prompts=False,
        default_framing_announcement="never",
    )
    return OpenAIChatModel(
        backend.model,
        provider=OpenAICompatibleProvider(SYSTEM, openai_client=client),
        profile=OpenAIModelProfile(**profile, **local),
    )


def _transport(answer: Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]) -> httpx2.AsyncBaseTransport:
    import httpx2

    class Transport(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(200, json=await answer(json.loads(await request.aread())))

    return Transport()


class DaemonThreads(concurrent.futures.Executor):
    """Runs each sync tool in a daemon thread of its own.

    anyio's worker threads, pydantic-ai's default, hold up a cancelled run, and the interpreter's exit, until the tool
    returns.
    """

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        """Start the function; cancelling the future cancels the Runs that its thread waits for."""
        future = _bridge.call_in_thread(function, *args, **kwargs)
        future.add_done_callback(_cancel_what_it_waits_for)
        return future


def _cancel_what_it_waits_for(future: concurrent.futures.Future[Any]) -> None:
    if future.cancelled():
        _bridge.cancel_runs_of(future)
