"""How much one run may take: requests, tool calls, tokens; and what to say where a limit ended it.

The requests and the calls are counted by pydantic-ai, the tokens by `Steps`: pydantic-ai throws away an answer that
has come where it was the one that crossed the limit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from mamba_nb.errors import BadInput

if TYPE_CHECKING:
    from pydantic_ai.usage import UsageLimits

__all__ = ["UNSET", "Limits", "check_count"]

UNSET: Any = type("Unset", (), {"__repr__": lambda self: "the agent's own"})()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one run; None is no limit.

    Attributes:
        max_steps: Most requests to the model.
        max_tool_calls: Most calls of tools that return.
        max_total_tokens: No further request once so many tokens were used, of prompts and answers together.
    """

    max_steps: int | None = 20
    max_tool_calls: int | None = None
    max_total_tokens: int | None = None

    def __post_init__(self) -> None:
        check_count("max_steps", self.max_steps, 1)
        check_count("max_tool_calls", self.max_tool_calls, 0)
        check_count("max_total_tokens", self.max_total_tokens, 1)

    def but(self, **given: Any) -> Limits:
        """These limits with those laid over them that were given."""
        return replace(self, **{name: value for name, value in given.items() if value is not UNSET})

    def for_engine(self) -> UsageLimits:
        """The limits that pydantic-ai holds."""
        from pydantic_ai.usage import UsageLimits

        return UsageLimits(request_limit=self.max_steps, tool_calls_limit=self.max_tool_calls)

    def explained(self, said: str) -> tuple[str, str]:
        """What a limit's error of pydantic-ai's means, and what to do."""
        if "tool_calls_limit" in said:
            counted = re.search(r"tool_calls=(\d+)", said)
            wanted = f"{int(counted[1]):,} in all" if counted else "more"
            return (
                f"The agent wanted a tool call too many, {wanted}: max_tool_calls allows {self.max_tool_calls:,}.",
                "Look at .partial.tool_calls for what it tried; max_tool_calls= allows more.",
            )
        return (
            f"The agent made {self.max_steps:,} request{'' if self.max_steps == 1 else 's'} and came to no answer.",
            "Look at .partial.tool_calls for what it tried; max_steps= allows more.",
        )


LIMITS = tuple(field.name for field in fields(Limits))


def check_count(name: str, value: Any, least: int) -> None:
    """Refuse what is no whole number of at least `least`; None is no limit, where there may be none."""
    if value is None and name in LIMITS:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadInput(f"{name} must be a whole number from {least}; this is {value!r}.")
