"""Agents: a model that calls your functions until it has the answer.

    agent = Agent("llama3.2", tools=[get_weather])
    result = agent.run_sync("Do I need an umbrella in Paris?")
    result.output, result.tool_calls, result.timings

In go a model, tools and a prompt; out comes a `Run` of events whose result is an `AgentResult`. The loop (tools,
retries, structured output) is pydantic-ai's, on the loop for foreign code: async tools run there, sync tools each in a
thread. Every request to the model goes through the backend (`_agent.model`), so its errors, retries, patience and
figures are the backend's. pydantic-ai is imported when an Agent is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias

from mamba_nb import _bridge
from mamba_nb._agent.input import (
    backend_from,
    check_count,
    checked_tools,
    content_from,
    engine_from,
    history_from,
    name_of,
)
from mamba_nb._agent.model import DaemonThreads, OutputMode, Steps, make_model
from mamba_nb._agent.progress import Progress
from mamba_nb._agent.result import (
    AgentEvent,
    AgentResult,
    AgentUsage,
    OutputT,
    StepStarted,
    StepTiming,
    ToolCalled,
    ToolReturned,
    ToolUse,
)
from mamba_nb._bridge import Run
from mamba_nb.backends._params import checked
from mamba_nb.backends.backend import OpenAICompatibleBackend
from mamba_nb.errors import AgentError, BadInput, MambaError, ToolsNotSupported, closest
from mamba_nb.settings import AgentSettings

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, UserContent
    from pydantic_ai.output import OutputSpec

__all__ = [
    "Agent",
    "AgentError",
    "AgentEvent",
    "AgentResult",
    "AgentUsage",
    "StepStarted",
    "StepTiming",
    "ToolCalled",
    "ToolReturned",
    "ToolUse",
    "ToolsClaimedMissing",
]

ToolsMode: TypeAlias = Literal["native", "prompted"]
TOOLS_MODES = ("native", "prompted")
# Servers that hold an answer to a JSON schema whatever the model.
SCHEMA_SERVERS = ("ollama", "vllm", "lmstudio", "llamacpp", "embedded", "openai")
BACKEND_OPTIONS = ("base_url", "api_key", "timeout", "max_retries", "server", "headers", "trust_env")


class ToolsClaimedMissing(UserWarning):
    """The built-in table says that this model has no tools; they are sent all the same."""


class Agent(Generic[OutputT]):
    """A model with tools, instructions and a kind of answer.

        agent = Agent(settings=settings)
        agent = Agent("ollama:qwen3:8b", tools=[get_weather])
        agent = Agent(backend, output_type=City)
        agent = Agent("embedded", tools=[get_weather], tools_mode="prompted")

    Args:
        model: A name (`"llama3.2"`, `"ollama:llama3.2"`, `"embedded"`), or a backend; None is the settings' model. A
            name wins over the settings' one. A backend is asked as it is, with its own parameters and nothing added.
        settings: Address, key, temperature, max_tokens, timeout and max_retries for a model given by name; None reads
            the environment.
        tools: Functions, sync or async, with annotations and a docstring; also `pydantic_ai.Tool` objects. A first
            parameter annotated `pydantic_ai.RunContext` gets the run's context.
        output_type: What the answer is: text, a pydantic model, or another of pydantic-ai's output types.
        system: Instructions, sent as the system message with each request and not kept in the history.
        tools_mode: `"native"` sends tools as the protocol has them. `"prompted"` puts them into the prompt and holds
            the reply to a JSON schema: for models whose template has no tools.
        retries: How often the model may mend a wrong answer or a wrong call, for each tool and for the answer.
        max_steps: Most requests to the model in one run.
        **options: With a name: what OpenAICompatibleBackend takes (`base_url`, `timeout`, `temperature`, ...); it wins
            over the settings. With a backend: request parameters.

    Raises:
        BadInput: If an argument is wrong; nothing has been sent then.
        ToolsNotSupported: With tools in native mode, if the server declares, or a probe has verified, that this model
            cannot call them. Where a table merely claims so, `ToolsClaimedMissing` warns and they are sent.

    Attributes:
        backend: Who is asked.
    """

    def __init__(
        self,
        model: str | OpenAICompatibleBackend | None = None,
        *,
        settings: AgentSettings | None = None,
        tools: Sequence[Any] = (),
        output_type: OutputSpec[OutputT] = str,  # type: ignore[assignment]
        system: str | Callable[..., Any] | None = None,
        tools_mode: ToolsMode = "native",
        retries: int = 1,
        max_steps: int | None = 20,
        **options: Any,
    ) -> None:
        if tools_mode not in TOOLS_MODES:
            near = closest(str(tools_mode), TOOLS_MODES)
            raise BadInput(
                f"tools_mode must be one of {', '.join(TOOLS_MODES)}; this is {tools_mode!r}."
                + (f" Did you mean {near!r}?" if near else "")
            )
        check_count("retries", retries, 0)
        check_count("max_steps", max_steps, 1)
        tools = checked_tools(tools)
        self._params: Mapping[str, Any] = {}
        self._owns_backend = not isinstance(model, OpenAICompatibleBackend)
        if isinstance(model, OpenAICompatibleBackend):
            if settings is not None:
                raise BadInput("A backend has its own address and parameters: leave settings out, or give a name.")
            if given := next((name for name in options if name in BACKEND_OPTIONS), None):
                raise BadInput(f"{given} is the backend's: give it where the backend is made.")
            self.backend, self._params = model, checked(options)
        else:
            self.backend = backend_from(model, settings, options)
        self._tools_mode = tools_mode
        self._tool_names = [name_of(tool) for tool in tools]
        self._text_output = output_type is str
        self._mode: OutputMode | None = None
        self._max_steps = max_steps
        self._check_tools(stacklevel=3)
        self._engine = engine_from(tools=tools, output_type=output_type, instructions=system, retries=retries)

    # the verbs

    def run(
        self,
        prompt: str | Sequence[Any] | None = None,
        *,
        message_history: AgentResult[Any] | Sequence[Any] | str | bytes | None = None,
        deps: Any = None,
        **params: Any,
    ) -> Run[AgentEvent, AgentResult[OutputT]]:
        """Start a run.

            result = await agent.run("What is the weather in Paris?")

        Args:
            prompt: Text, or a list that mixes text with images (paths, bytes, addresses); None goes on from the
                history.
            message_history: An earlier result or its `.messages` (also as JSON): the conversation to go on with.
            deps: What tools find as `context.deps`.
            **params: Request parameters for this run; they win over the backend's own.

        Returns:
            A Run of AgentEvents whose result is the AgentResult. Its `.partial` is an AgentResult of what there is
            so far. The exception of a tool ends the run as it is, unless it is `pydantic_ai.ModelRetry`.

        Raises:
            BadInput: If an argument is wrong; nothing has been sent then.
            ToolsNotSupported: If it has become known that this model cannot call tools.
        """
        content = content_from(prompt, message_history)
        history = history_from(message_history)
        wanted = {**self.backend.params, **self._params, **checked(params)}
        self._check_tools(stacklevel=None)
        progress: list[Progress[OutputT]] = []

        async def work(run: Run[AgentEvent, AgentResult[OutputT]]) -> AgentResult[OutputT]:
            def on_state(state: str) -> None:
                run.state = state

            steps = Steps(
                backend=self.backend,
                params=wanted,
                emit=run.emit,
                on_state=on_state,
                began=run.started,
                prompted=self._tools_mode == "prompted",
            )
            progress.append(Progress(steps, history))
            return await self._work(content, history, deps, progress[0])

        def partial() -> AgentResult[Any] | None:
            return progress[0].result() if progress else None

        return Run(work, name=f"agent {self.backend.model}", on=_bridge.foreign, partial=partial)

    def run_stream(
        self,
        prompt: str | Sequence[Any] | None = None,
        *,
        message_history: AgentResult[Any] | Sequence[Any] | str | bytes | None = None,
        deps: Any = None,
        **params: Any,
    ) -> Run[AgentEvent, AgentResult[OutputT]]:
        """Start a run to read its events: the same work as `run`, named for what you do with it.

            for event in agent.run_stream("What is the weather in Paris?"):
                ...

        Takes, gives and raises what `run` does.
        """
        return self.run(prompt, message_history=message_history, deps=deps, **params)

    def run_sync(
        self,
        prompt: str | Sequence[Any] | None = None,
        *,
        message_history: AgentResult[Any] | Sequence[Any] | str | bytes | None = None,
        deps: Any = None,
        **params: Any,
    ) -> AgentResult[OutputT]:
        """Run and wait for the result: `run(...).result()`, in a script, a cell, a click handler or a sync tool.

        Takes what `run` does.

        Raises:
            ServerError: Whatever went wrong with the server.
            AgentError: If the model came to no usable answer; `.partial` has the messages so far.
            KeyboardInterrupt: On an interrupt; the run is cancelled, and `.partial` has what there was.
            WrongLoop: In an async tool; `await agent.run(...)` there.
        """
        # Asked first, so that nothing is sent for a result that could not be waited for.
        _bridge.refuse_on_private_loops("agent.run_sync", "use `await agent.run(...)`")
        return self.run(prompt, message_history=message_history, deps=deps, **params).result()

    def close(self) -> None:
        """Close the backend, if the agent made it; the verbs raise BackendClosed from then on."""
        if self._owns_backend:
            self.backend.close()

    def __enter__(self) -> Agent[OutputT]:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        tools = f"tools {', '.join(self._tool_names)}" if self._tool_names else "no tools"
        if self._tool_names and self._tools_mode == "prompted":
            tools += ", prompted"
        return f"<Agent {self.backend.model} · {self.backend.server} · {self.backend.base_url} · {tools}>"

    # the work, on the loop for foreign code

    async def _work(
        self,
        content: str | Sequence[UserContent] | None,
        history: list[ModelMessage],
        deps: Any,
        progress: Progress[OutputT],
    ) -> AgentResult[OutputT]:
        from pydantic_ai import UsageLimits

        if self._mode is None:
            self._mode = await self._output_mode()
        error: Exception
        try:
            with self._engine.using_thread_executor(DaemonThreads()):
                async with self._engine.iter(
                    content,
                    message_history=history or None,
                    deps=deps,
                    model=make_model(progress.steps, self._mode),
                    usage_limits=UsageLimits(request_limit=self._max_steps),
                    infer_name=False,
                ) as going:
                    progress.going = going
                    async for node in going:
                        if self._engine.is_call_tools_node(node):
                            async with node.stream(going.ctx) as events:
                                async for event in events:
                                    progress.note(event)
            assert going.result is not None
            return progress.done(going.result.output)
        except Exception as failure:
            progress.failed(failure)
            error = self._ours(failure, progress)
            if error is failure and progress.steps.failure is None:
                raise  # a tool's own, with its own traceback
        raise error  # out of `except`: the wrapper must not hang on our error as its context

    def _ours(self, failure: Exception, progress: Progress[OutputT]) -> Exception:
        """The failure as this package's error; one that a tool raised stays what it is."""
        from pydantic_ai import exceptions

        error: MambaError
        request_failed = progress.steps.failure
        if request_failed is not None and isinstance(failure, exceptions.ModelAPIError | MambaError):
            # With the cause that it has, and without the twenty frames of the libraries it came through.
            error = request_failed.with_traceback(None)
        elif isinstance(failure, exceptions.UserError):
            error = BadInput(str(failure))
            error.__cause__ = failure
        elif isinstance(failure, exceptions.AgentRunError):
            message, hint = self._explained(failure)
            error = AgentError(message, hint=hint, base_url=self.backend.base_url, model=self.backend.model)
            error.__cause__ = failure
        else:
            return failure
        if isinstance(error, AgentError):
            error.partial = progress.result()
        return error

    def _explained(self, failure: Exception) -> tuple[str, str | None]:
        """What a failure of pydantic-ai's means, and what to do."""
        from pydantic_ai import exceptions

        if isinstance(failure, exceptions.UsageLimitExceeded):
            return (
                f"The agent made {self._max_steps} requests and came to no answer.",
                "Look at .partial.tool_calls for what it tried; max_steps= allows more.",
            )
        if isinstance(failure, exceptions.OutputTokenLimitExceeded):
            return (
                f"The reply of {self.backend.model} was cut before it was whole.",
                "Raise max_tokens, or ask for less at once.",
            )
        why = _why_refused(failure.__cause__)
        return (
            f"{self.backend.model} gave no usable answer: {str(failure).rstrip('.')}." + (f" {why}" if why else ""),
            "The replies are in .partial.generations. retries= allows more tries; a simpler output_type or simpler "
            "arguments help small models.",
        )

    async def _output_mode(self) -> OutputMode:
        """How structured output is asked for, settled with the first run."""
        if self._text_output:
            return "native"
        if self.backend.server == "unknown":
            # The list of models shows the kind of most servers. If it fails, the run will say what is wrong.
            with contextlib.suppress(MambaError):
                await asyncio.wrap_future(_bridge.io.submit(self.backend.alist_models()))
        if self._tools_mode == "prompted" and self._tool_names:
            return "native"
        profile, server = self.backend.profile, self.backend.server
        holds = profile.supports_json_schema
        if holds is None:
            holds = server in SCHEMA_SERVERS
        # Elsewhere than at OpenAI a schema is a grammar for the whole reply, and leaves no room for a call.
        if holds and (not self._tool_names or server == "openai"):
            return "native"
        return "prompted" if profile.supports_tools is False and not self._tool_names else "tool"

    def _check_tools(self, *, stacklevel: int | None) -> None:
        """Refuse tools that are known not to work; warn where a table claims so, if a `stacklevel` is given."""
        if not self._tool_names or self._tools_mode == "prompted":
            return
        fact = self.backend.profile.fact("supports_tools")
        if fact.value is not False:
            return
        where = f"{self.backend.model} at {self.backend.base_url}"
        because = f" ({fact.evidence})" if fact.evidence else ""
        if fact.source in ("declared", "verified"):
            raise ToolsNotSupported(
                f"{where} cannot call tools: {fact.source}{because}.",
                hint='Give tools_mode="prompted", which works with any model, or choose a model with tools.',
                base_url=self.backend.base_url,
                model=self.backend.model,
            )
        if stacklevel is not None:
            warnings.warn(
                f"{where} is said to have no tools{because}. They are sent all the same; if the model does not "
                'call them, give tools_mode="prompted".',
                ToolsClaimedMissing,
                stacklevel=stacklevel,
            )


def _why_refused(cause: BaseException | None) -> str:
    """What was wrong with the last reply, on one line."""
    said = " ".join(str(cause).split()) if cause is not None else ""
    return f"The last one was refused: {said[:300]}" if said else ""
