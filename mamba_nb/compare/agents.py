"""The same agent on several models, side by side: `compare(models, prompts, agent=factory)`.

In: a function from a backend to an `Agent`, and what is expected of it. Out: for each cell a `Generation` that stands
for the whole run (`agents_record`), and a grid that makes columns of it.

What is expected of a prompt is a tool's name, or a name and arguments; `[]` is "no tool at all", None is not judged.

    right tool         the tools called are those expected, and no others
    right arguments    for each expected call, a call of that tool has the arguments that were named
    valid arguments    every call was of a tool that there is, with arguments that it takes
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from mamba_nb._agent.events import AgentEvent, StepStarted, ToolCalled, ToolReturned
from mamba_nb._agent.result import AgentResult
from mamba_nb.backends.backend import OpenAICompatibleBackend
from mamba_nb.compare.agents_expected import Expected
from mamba_nb.compare.agents_grid import AgentComparison
from mamba_nb.compare.agents_record import arguments_json, generation_of
from mamba_nb.errors import AgentError, BadInput, MambaError
from mamba_nb.records import (
    Comparison,
    Generation,
    Message,
    Status,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    text_of,
)

if TYPE_CHECKING:
    from mamba_nb._bridge import Run
    from mamba_nb.agent import Agent
    from mamba_nb.backends._builder import GenerationBuilder
    from mamba_nb.compare.plan import Plan

__all__ = ["AgentComparison", "AgentFactory", "AgentRuns", "make_runs"]

AgentFactory = Callable[[OpenAICompatibleBackend], "Agent[Any]"]
Place = tuple[int, int, int]  # column, row, repeat


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentColumn:
    """One model's agent, or why it has none; and the request parameters that the comparison gives it."""

    agent: Agent[Any] | None
    error: MambaError | None
    params: Mapping[str, Any]


class AgentRuns:
    """Runs the agents of one comparison; on the I/O loop, each run itself on the loop for foreign code.

    Args:
        columns: One a model or variant.
        expected: What is expected of each prompt, in their order.

    Attributes:
        results: Place in the grid -> what the run came to.
    """

    def __init__(self, columns: Sequence[AgentColumn], expected: Sequence[Expected | None]) -> None:
        self.columns = tuple(columns)
        self.expected = tuple(expected)
        self.results: dict[Place, AgentResult[Any]] = {}

    def refusal(self, index: int) -> MambaError | None:
        """Why this model has no agent; None where it has one."""
        return self.columns[index].error

    def comparison(self, grid: Comparison, plan: Plan) -> AgentComparison:
        """The grid with each run's own result."""
        results = {
            (plan.columns[column].label, plan.rows[row].prompt_id, repeat): result
            for (column, row, repeat), result in sorted(self.results.items())
        }
        return AgentComparison(**{each.name: getattr(grid, each.name) for each in fields(Comparison)}, results=results)

    async def ask(
        self,
        place: Place,
        messages: Sequence[Message],
        *,
        emit: Callable[[StreamEvent], None],
        on_state: Callable[[str], None],
        on_builder: Callable[[Growing], None],
        blank: Callable[[], GenerationBuilder],
    ) -> Generation:
        """One run, as a generation.

        Args:
            place: Its place in the grid.
            messages: What is asked: an optional system message, then turns that end with the user's.
            emit: Gets the run's events as stream events.
            on_state: Gets what is being waited for.
            on_builder: Gets what can be frozen at any moment, once there is a run.
            blank: Makes the record of a run that never came to a request.

        Raises:
            MambaError: Whatever ended the run; the exception of a tool as an AgentError.
        """
        column = self.columns[place[0]]
        assert column.agent is not None
        content, history, instructions = _split(messages)
        run, _ = column.agent._start(
            content,
            history=history,
            deps=None,
            limits={},
            params=column.params,
            instructions=instructions,
            on_state=on_state,
        )
        growing = Growing(run, self, place, blank)
        on_builder(growing)
        reader = _Reader(emit)
        try:
            async for event in run:
                reader.take(event)
                on_state(run.state)  # again: a piece of a call counts as streaming
            await run
        except (MambaError, asyncio.CancelledError):
            raise
        except Exception as error:
            raise AgentError(
                f"A tool ended the run: {type(error).__name__}: {error}",
                hint="A tool that raises pydantic_ai.ModelRetry tells the model, and the run goes on.",
                base_url=column.agent.backend.base_url,
                model=column.agent.backend.model,
            ) from error
        return growing.freeze("done")


class Growing:
    """A run under way that can be made a generation at any moment, as a `GenerationBuilder` can."""

    def __init__(
        self,
        run: Run[AgentEvent, AgentResult[Any]],
        runs: AgentRuns,
        place: Place,
        blank: Callable[[], GenerationBuilder],
    ) -> None:
        self._run = run
        self._runs = runs
        self._place = place
        self._blank = blank

    def freeze(self, status: Status = "done", *, error: BaseException | None = None) -> Generation:
        """The record of what has come so far."""
        result: AgentResult[Any] | None = self._run.partial
        if result is None or not result.generations:
            return self._blank().freeze(status, error=error)
        self._runs.results[self._place] = result
        return generation_of(result, status, error=error, expected=self._runs.expected[self._place[1]])


def make_runs(
    factory: Any,
    columns: Sequence[tuple[OpenAICompatibleBackend, Mapping[str, Any]]],
    prompts: Sequence[Sequence[Message]],
    expected: Sequence[Expected | None],
) -> AgentRuns:
    """Make the agents; what can be refused is refused here.

    Args:
        factory: From a backend to an Agent on that backend.
        columns: Each model's backend, and the request parameters that the comparison adds.
        prompts: The messages of each prompt.
        expected: What is expected of each prompt.

    Raises:
        BadInput: If the factory gives no agent, or one on another backend; or a prompt is no question for an agent.
    """
    from mamba_nb.agent import Agent

    if not callable(factory) or isinstance(factory, Agent):
        raise BadInput(
            f"agent must be a function from a backend to an Agent; this is {type(factory).__name__}.",
            hint="For example agent=lambda backend: Agent(backend, tools=[get_weather]).",
        )
    for messages in prompts:
        _split(messages)
    made = []
    for backend, params in columns:
        agent: Any = None
        error: MambaError | None = None
        try:
            agent = factory(backend)
        except BadInput:
            raise
        except MambaError as failure:  # this model cannot, the others may
            error = failure
        if error is None and (not isinstance(agent, Agent) or agent.backend is not backend):
            what = "on another backend" if isinstance(agent, Agent) else f"a {type(agent).__name__}"
            raise BadInput(
                f"agent= gave {what} for {backend.model}; it must give an Agent on the backend that it gets.",
                hint="For example agent=lambda backend: Agent(backend, tools=[get_weather]).",
            )
        made.append(AgentColumn(agent=agent, error=error, params=params))
    _check_names([column.agent for column in made if column.agent is not None], expected)
    return AgentRuns(made, expected)


def _check_names(agents: Sequence[Agent[Any]], expected: Iterable[Expected | None]) -> None:
    from mamba_nb.errors import closest

    if not agents or not all(agent._names_are_whole for agent in agents):
        return
    known = list(dict.fromkeys(name for agent in agents for name in agent.tool_names))
    for each in expected:
        for call in each.calls if each is not None else ():
            if call.name not in known:
                near = closest(call.name, known)
                raise BadInput(
                    f"expect= names a tool {call.name!r} that no agent has."
                    + (f" Did you mean {near!r}?" if near else ""),
                    hint=f"The agents have: {', '.join(known) or 'no tools'}.",
                )


class _Reader:
    """Turns an agent's events into those of one stream."""

    def __init__(self, emit: Callable[[StreamEvent], None]) -> None:
        self._emit = emit
        self._calls = 0
        self._has_text = False

    def take(self, event: AgentEvent) -> None:
        if isinstance(event, ToolCalled):
            self._emit(ToolCallDelta(event.at_s, self._calls, event.id, event.name, arguments_json(event.arguments)))
            self._calls += 1
        elif isinstance(event, StepStarted):
            if self._has_text:  # text before a call is not continued
                self._emit(TextDelta(event.at_s, "\n\n"))
            self._has_text = False
        elif not isinstance(event, ToolReturned):
            self._has_text = self._has_text or isinstance(event, TextDelta)
            self._emit(event)


def _split(messages: Sequence[Message]) -> tuple[Any, list[Any], str | None]:
    """A conversation as an agent takes it: the last question, the turns before it, the instructions."""
    from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart

    from mamba_nb._agent.input import content_from

    heads = [text_of(each.get("content")) for each in messages if each["role"] in ("system", "developer")]
    turns = [each for each in messages if each["role"] not in ("system", "developer")]
    if not turns or turns[-1]["role"] != "user" or any(_is_no_turn(each) for each in turns):
        raise BadInput(
            "An agent's prompt is a conversation of user and assistant that ends with the user.",
            hint="Calls of tools are the agent's own to make.",
        )
    history: list[Any] = []
    for each in turns[:-1]:
        if each["role"] == "user":
            history.append(ModelRequest(parts=[UserPromptPart(content_from(each["content"], None) or "")]))
        else:
            history.append(ModelResponse(parts=[TextPart(text_of(each.get("content")))]))
    return turns[-1]["content"], history, "\n\n".join(heads) or None


def _is_no_turn(message: Message) -> bool:
    return message["role"] not in ("user", "assistant") or bool(message.get("tool_calls"))
