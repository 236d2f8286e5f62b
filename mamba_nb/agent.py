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

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias

from mamba_nb import _bridge
from mamba_nb._agent import tools_check
from mamba_nb._agent.conversation import AgentConversation
from mamba_nb._agent.events import AgentEvent, StepStarted, ToolCalled, ToolReturned
from mamba_nb._agent.input import (
    backend_from,
    checked_tools,
    checked_toolsets,
    content_from,
    engine_from,
    history_from,
    name_of,
    names_in,
)
from mamba_nb._agent.limits import UNSET, Limits, check_count
from mamba_nb._agent.model import Steps
from mamba_nb._agent.output_mode import Choice, given_mode
from mamba_nb._agent.progress import Progress
from mamba_nb._agent.result import AgentResult, AgentStep, AgentUsage, OutputT, StepTiming, ToolUse
from mamba_nb._agent.running import Task
from mamba_nb._agent.tools_check import ToolsClaimedMissing
from mamba_nb._bridge import Run
from mamba_nb.backends._params import checked
from mamba_nb.backends.backend import OpenAICompatibleBackend
from mamba_nb.errors import AgentError, BadInput, ToolsNotSupported, closest
from mamba_nb.settings import AgentSettings

if TYPE_CHECKING:
    from pydantic_ai.output import OutputSpec

__all__ = [
    "Agent",
    "AgentConversation",
    "AgentError",
    "AgentEvent",
    "AgentResult",
    "AgentStep",
    "AgentUsage",
    "StepStarted",
    "StepTiming",
    "ToolCalled",
    "ToolReturned",
    "ToolUse",
    "ToolsClaimedMissing",
    "ToolsNotSupported",
]

ToolsMode: TypeAlias = Literal["native", "prompted", "auto"]
TOOLS_MODES = ("native", "prompted", "auto")
BACKEND_OPTIONS = ("base_url", "api_key", "timeout", "max_retries", "server", "headers", "trust_env", "native")


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
        toolsets: pydantic-ai's toolsets, `pydantic_ai.mcp.MCPToolset` for an MCP server among them. They are opened
            for each run and closed at its end.
        output_type: What the answer is: text, a pydantic model, or another of pydantic-ai's output types. How it is
            asked for (a schema that the server holds to, a tool, the prompt) goes by what is declared or verified of
            the model; `result.output_mode` and `result.output_why` say which, and why.
        system: Instructions, sent as the system message with each request and not kept in the history.
        tools_mode: `"native"` sends tools as the protocol has them. `"prompted"` puts them into the prompt and holds
            the reply to a JSON schema: for models whose template has no tools. `"auto"` is native, and prompted where
            the model is known to have no tools or its server refuses them; `result.tools_mode` says which.
        retries: How often the model may mend a wrong answer or a wrong call, for each tool and for the answer.
        max_steps: Most requests to the model in one run; None is no limit.
        max_tool_calls: Most tool calls that return, in one run; None is no limit.
        max_total_tokens: No further request in a run that has used so many tokens, of prompts and answers together;
            None is no limit.
        **options: With a name: what OpenAICompatibleBackend takes (`base_url`, `timeout`, `temperature`, ...); it wins
            over the settings. With a backend: request parameters.

    Raises:
        BadInput: If an argument is wrong; nothing has been sent then.
        ToolsNotSupported: With tools in native mode, if the server declares, or a probe has verified, that this model
            cannot call them; the message names the models on that server that can. Where a table merely claims so,
            `ToolsClaimedMissing` warns and they are sent.

    Attributes:
        backend: Who is asked.
        tool_names: The tools it offers, in their order; those of an MCP server are not known before it is asked.
    """

    def __init__(
        self,
        model: str | OpenAICompatibleBackend | None = None,
        *,
        settings: AgentSettings | None = None,
        tools: Sequence[Any] = (),
        toolsets: Sequence[Any] = (),
        output_type: OutputSpec[OutputT] = str,  # type: ignore[assignment]
        system: str | Callable[..., Any] | None = None,
        tools_mode: ToolsMode = "native",
        retries: int = 1,
        max_steps: int | None = 20,
        max_tool_calls: int | None = None,
        max_total_tokens: int | None = None,
        **options: Any,
    ) -> None:
        if tools_mode not in TOOLS_MODES:
            near = closest(str(tools_mode), TOOLS_MODES)
            raise BadInput(
                f"tools_mode must be one of {', '.join(TOOLS_MODES)}; this is {tools_mode!r}."
                + (f" Did you mean {near!r}?" if near else "")
            )
        check_count("retries", retries, 0)
        self._limits = Limits(max_steps=max_steps, max_tool_calls=max_tool_calls, max_total_tokens=max_total_tokens)
        tools, toolsets = checked_tools(tools), checked_toolsets(toolsets)
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
        self.tool_names = [*map(name_of, tools), *(name for toolset in toolsets for name in names_in(toolset))]
        self._names_are_whole = not toolsets
        self._given_mode = given_mode(output_type)
        self._learned: list[Choice] = []
        self._refuse_tools()
        if self.tool_names and tools_mode == "native":
            tools_check.warn_of_claim(self.backend, stacklevel=2)
        self._engine = engine_from(
            tools=tools, toolsets=toolsets, output_type=output_type, instructions=system, retries=retries
        )

    # the verbs

    def run(
        self,
        prompt: str | Sequence[Any] | None = None,
        *,
        message_history: AgentResult[Any] | Sequence[Any] | str | bytes | None = None,
        deps: Any = None,
        max_steps: int | None = UNSET,
        max_tool_calls: int | None = UNSET,
        max_total_tokens: int | None = UNSET,
        **params: Any,
    ) -> Run[AgentEvent, AgentResult[OutputT]]:
        """Start a run.

            result = await agent.run("What is the weather in Paris?")

        Args:
            prompt: Text, or a list that mixes text with images (paths, bytes, addresses); None goes on from the
                history.
            message_history: An earlier result or its `.messages` (also as JSON): the conversation to go on with.
            deps: What tools find as `context.deps`.
            max_steps: As for the agent, for this run.
            max_tool_calls: As for the agent, for this run.
            max_total_tokens: As for the agent, for this run.
            **params: Request parameters for this run; they win over the backend's own.

        Returns:
            A Run of AgentEvents whose result is the AgentResult. Its `.partial` is an AgentResult of what there is
            so far. The exception of a tool ends the run as it is, unless it is `pydantic_ai.ModelRetry`.

        Raises:
            BadInput: If an argument is wrong; nothing has been sent then.
            ToolsNotSupported: If it has become known that this model cannot call tools.
        """
        limits = {"max_steps": max_steps, "max_tool_calls": max_tool_calls, "max_total_tokens": max_total_tokens}
        return self._start(prompt, history=message_history, deps=deps, limits=limits, params=params)[0]

    def run_stream(
        self,
        prompt: str | Sequence[Any] | None = None,
        *,
        message_history: AgentResult[Any] | Sequence[Any] | str | bytes | None = None,
        deps: Any = None,
        **options: Any,
    ) -> Run[AgentEvent, AgentResult[OutputT]]:
        """Start a run to read its events: the same work as `run`, named for what you do with it.

            for event in agent.run_stream("What is the weather in Paris?"):
                ...

        Takes, gives and raises what `run` does. The events come as the server sends them: `TextDelta`,
        `ReasoningDelta`, `ToolCalled`, `ToolReturned`, and a `StepStarted` before each request.
        """
        return self.run(prompt, message_history=message_history, deps=deps, **options)

    def run_sync(
        self,
        prompt: str | Sequence[Any] | None = None,
        *,
        message_history: AgentResult[Any] | Sequence[Any] | str | bytes | None = None,
        deps: Any = None,
        **options: Any,
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
        return self.run(prompt, message_history=message_history, deps=deps, **options).result()

    def conversation(
        self,
        messages: AgentResult[Any] | Sequence[Any] | str | bytes | None = None,
        *,
        deps: Any = None,
    ) -> AgentConversation[OutputT]:
        """Begin a conversation, whose turns know of each other.

            talk = agent.conversation()
            talk.ask("Do I need an umbrella in Paris?")
            talk.ask("And tomorrow?")

        Args:
            messages: An earlier result, its `.messages` or a conversation's, also as JSON: what to go on with.
            deps: What tools find as `context.deps`, unless a turn gives its own.

        Raises:
            BadInput: If the messages are no conversation.
        """
        return AgentConversation(self, messages=messages, deps=deps)

    def close(self) -> None:
        """Close the backend, if the agent made it; the verbs raise BackendClosed from then on."""
        if self._owns_backend:
            self.backend.close()

    def __enter__(self) -> Agent[OutputT]:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        tools = f"tools {', '.join(self.tool_names)}" if self.tool_names else "no tools"
        if self.tool_names and self._tools_mode != "native":
            tools += f", {self._tools_mode}"
        return f"<Agent {self.backend.model} · {self.backend.server} · {self.backend.base_url} · {tools}>"

    # the work

    def _start(
        self,
        prompt: Any,
        *,
        history: Any,
        deps: Any,
        limits: Mapping[str, Any],
        params: Mapping[str, Any],
        instructions: str | None = None,
        on_state: Callable[[str], None] | None = None,
    ) -> tuple[Run[AgentEvent, AgentResult[OutputT]], Callable[[], str]]:
        """Check everything and start; gives the Run, and what tells the text of an answer that was broken off."""
        content, messages = content_from(prompt, history), history_from(history)
        wanted = {**self.backend.params, **self._params, **checked(params)}
        has_tools = bool(self.tool_names)
        task = Task(
            engine=self._engine,
            backend=self.backend,
            given_mode=self._given_mode,
            own_tools=has_tools,
            limits=self._limits.but(**limits),
            content=content,
            deps=deps,
            instructions=instructions,
            learned=self._learned,
        )
        self._refuse_tools()
        prompted = has_tools and (
            self._tools_mode == "prompted"
            or (self._tools_mode == "auto" and tools_check.cannot_call_tools(self.backend))
        )
        progress: list[Progress[OutputT]] = []

        async def work(run: Run[AgentEvent, AgentResult[OutputT]]) -> AgentResult[OutputT]:
            def take_state(state: str) -> None:
                run.state = state
                if on_state is not None:
                    on_state(state)

            steps = Steps(
                backend=self.backend,
                params=wanted,
                emit=run.emit,
                on_state=take_state,
                began=run.started,
                prompted=prompted,
                may_prompt=has_tools and self._tools_mode == "auto",
                most_tokens=task.limits.max_total_tokens,
            )
            progress.append(Progress(steps, messages, has_tools=has_tools))
            return await task.run(progress[0])

        def partial() -> AgentResult[Any] | None:
            return progress[0].result() if progress else None

        def growing() -> str:
            return progress[0].growing if progress else ""

        return Run(work, name=f"agent {self.backend.model}", on=_bridge.foreign, partial=partial), growing

    def _refuse_tools(self) -> None:
        """Refuse tools that are known not to work."""
        native = self.tool_names and self._tools_mode == "native"
        if native and (error := tools_check.refusal(self.backend)) is not None:
            raise error
