"""What an agent's run says while it goes on: plain values, stamped in seconds after the run began.

    StepStarted, TextDelta, ReasoningDelta, ReasoningEnded, ToolCalled, ToolReturned

A step is one request to the model and what it asked for; steps count from 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from mamba_nb.records import ReasoningDelta, ReasoningEnded, TextDelta

__all__ = ["AgentEvent", "StepStarted", "ToolCalled", "ToolReturned"]


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A request went out; text of an earlier step that was no final answer is not continued."""

    at_s: float
    step: int


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """The model asked for a tool, and it is about to run.

    Attributes:
        at_s: Seconds after the run began.
        step: The request whose reply asked for it.
        id: What its result will be matched by.
        name: The tool.
        arguments: By name; the raw text where it was no JSON object.
    """

    at_s: float
    step: int
    id: str
    name: str
    arguments: Mapping[str, Any] | str


@dataclass(frozen=True, slots=True)
class ToolReturned:
    """A tool's result, or why it has none; `error` is what the model is told then."""

    at_s: float
    step: int
    id: str
    name: str
    result: Any
    error: str | None = None


AgentEvent: TypeAlias = StepStarted | TextDelta | ReasoningDelta | ReasoningEnded | ToolCalled | ToolReturned
