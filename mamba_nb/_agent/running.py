"""One run of an agent, on the loop for foreign code: pydantic-ai's loop driven to its end, its failures explained.

In: a `Task`, all that a run needs. Out: the `AgentResult`, or this package's error with what there was in `.partial`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

from mamba_nb import _bridge
from mamba_nb._agent.limits import Limits
from mamba_nb._agent.model import DaemonThreads, make_model
from mamba_nb._agent.output_mode import Choice, after_no_call, choose, instead_of, is_known
from mamba_nb._agent.progress import Progress
from mamba_nb._agent.result import AgentResult, OutputMode, OutputT
from mamba_nb.backends.backend import OpenAICompatibleBackend
from mamba_nb.errors import AgentError, BadInput, MambaError

if TYPE_CHECKING:
    from pydantic_ai import Agent as PydanticAgent
    from pydantic_ai.messages import UserContent

__all__ = ["Task"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Generic[OutputT]):
    """What one run is to do.

    Attributes:
        engine: pydantic-ai's agent.
        backend: Who is asked.
        given_mode: How the answer is asked for, where its type says so; None chooses.
        own_tools: Whether there are tools besides one that the answer may be.
        limits: How much it may take.
        content: The prompt, in pydantic-ai's form.
        deps: What tools find as `context.deps`.
        instructions: Instructions for this run, after the agent's own.
        learned: How the answer was asked for when it first came; shared by the runs of an agent, which begin with it
            where else they would guess.
    """

    engine: PydanticAgent[Any, OutputT]
    backend: OpenAICompatibleBackend
    given_mode: OutputMode | None
    own_tools: bool
    limits: Limits
    content: str | Sequence[UserContent] | None
    deps: Any
    instructions: str | None = None
    learned: list[Choice]

    async def run(self, progress: Progress[OutputT]) -> AgentResult[OutputT]:
        """Do it; `progress` has what there is at every moment."""
        steps = progress.steps
        progress.choice = await self._choice(steps.prompted)
        steps.holds_schema = not is_known(self.backend.profile.fact("supports_json_schema"), False)
        error: Exception
        try:
            return await self._to_the_end(progress)
        except asyncio.CancelledError:
            progress.stopped()
            raise
        except Exception as failure:
            progress.failed(failure)
            error = self._ours(failure, progress)
            progress.failed_with(error)
            if isinstance(error, AgentError):
                error.partial = progress.result()
            if error is failure and progress.steps.failure is None:
                raise  # a tool's own, with its own traceback
        raise error  # out of `except`: the wrapper must not hang on our error as its context

    async def _to_the_end(self, progress: Progress[OutputT]) -> AgentResult[OutputT]:
        while True:
            first = len(progress.steps.generations)
            try:
                result = await self._go(progress)
            except Exception as failure:
                if (instead := self._instead(failure, progress, first)) is None:
                    raise
                progress.choice = instead
            else:
                if not self.learned and self.given_mode is None:
                    self.learned.append(progress.choice)
                return result

    def _instead(self, failure: Exception, progress: Progress[OutputT], first: int) -> Choice | None:
        """Another way to ask for the answer, where this one did not work at all; None where it did, or none is left.

        Args:
            failure: What went wrong.
            progress: The run so far.
            first: Where the requests of this way begin.
        """
        from pydantic_ai import exceptions

        steps, choice = progress.steps, progress.choice
        if self.given_mode is not None or self.own_tools:
            return None
        replies = steps.generations[first:]
        if steps.failure is not None:
            instead = instead_of(choice, steps.failure) if len(replies) <= 1 else None
            if instead is not None:
                steps.forget(first)
            return instead
        if isinstance(failure, exceptions.UnexpectedModelBehavior) and not any(each.tool_calls for each in replies):
            return after_no_call(choice)
        return None

    async def _go(self, progress: Progress[OutputT]) -> AgentResult[OutputT]:
        steps = progress.steps
        with self.engine.using_thread_executor(DaemonThreads()):
            async with self.engine.iter(
                self.content,
                message_history=progress.history or None,
                deps=self.deps,
                instructions=self.instructions,
                model=make_model(steps, progress.choice),
                usage_limits=self.limits.for_engine(),
                infer_name=False,
            ) as going:
                progress.going = going
                async for node in going:
                    if self.engine.is_model_request_node(node):
                        progress.note_request(node.request.parts)
                    elif self.engine.is_call_tools_node(node):
                        async with node.stream(going.ctx) as events:
                            async for event in events:
                                progress.note(event)
        assert going.result is not None
        return progress.done(going.result.output)

    async def _choice(self, prompted_tools: bool) -> Choice:
        """How the answer is asked for, by what is known now."""
        if self.given_mode == "text":
            return Choice("text")
        if self.backend.server == "unknown":
            # The list of models shows the kind of most servers. If it fails, the run will say what is wrong.
            with contextlib.suppress(MambaError):
                await asyncio.wrap_future(_bridge.io.submit(self.backend.alist_models()))
        chosen = choose(self.backend.profile, self.backend.server, tools=self.own_tools, prompted_tools=prompted_tools)
        if self.given_mode is not None:
            return Choice(self.given_mode, "output_type says so", chosen.json_object)
        return self.learned[0] if chosen.guessed and self.learned else chosen

    # what a failure means

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
        return error

    def _explained(self, failure: Exception) -> tuple[str, str | None]:
        """What a failure of pydantic-ai's means, and what to do."""
        from pydantic_ai import exceptions

        if isinstance(failure, exceptions.UsageLimitExceeded):
            return self.limits.explained(str(failure))
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


def _why_refused(cause: BaseException | None) -> str:
    """What was wrong with the last reply, on one line."""
    said = " ".join(str(cause).split()) if cause is not None else ""
    return f"The last one was refused: {said[:300]}" if said else ""
