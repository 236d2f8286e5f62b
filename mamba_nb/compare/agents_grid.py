"""A grid of agents' runs: a Comparison whose tables also say which tools were called, and whether rightly."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from mamba_nb._agent.result import AgentResult
from mamba_nb.errors import BadInput
from mamba_nb.records import Comparison

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AgentComparison"]


@dataclass(frozen=True, kw_only=True)
class AgentComparison(Comparison):
    """A grid of agents' runs: models or variants, by prompts, by repeats.

    What a Comparison has, and in its tables also `right_tool`, `right_arguments`, `valid_arguments`, `tools_called`,
    `calls`, `steps`, `tools_s`, `output_mode` and `tools_mode`.

    Attributes:
        results: (label, prompt_id, repeat) -> the run's own `AgentResult`, as far as it came; not kept in a file.
    """

    results: Mapping[tuple[str, Any, int], AgentResult[Any]] = field(default_factory=dict, compare=False, repr=False)

    def result(self, label: str, prompt_id: Any = 0, repeat: int = 0) -> AgentResult[Any]:
        """One run, with its steps and calls.

        Raises:
            BadInput: If the grid has no such cell, or it was read from a file, which keeps the answers alone.
        """
        try:
            return self.results[label, prompt_id, repeat]
        except KeyError:
            raise BadInput(
                f"There is no run of {label!r} on prompt {prompt_id!r}, repeat {repeat}.",
                hint=f"Labels: {', '.join(self.labels)}. Prompts: {', '.join(map(repr, self.prompt_ids[:12]))}.",
            ) from None

    def __repr__(self) -> str:
        return super().__repr__().replace("<Comparison", "<AgentComparison", 1)

    def to_frame(self) -> pd.DataFrame:
        """One row a run, the columns of a Comparison and those of agents.

        Returns:
            `ttft_ms` is the first token of the first step; `latency_s` the whole run, tools included;
            `completion_tokens` those of all steps; `tpot_ms` is missing where a run has several steps.
        """
        from mamba_nb.display import agents_frames

        return agents_frames.to_frame(self)

    def summary(self) -> pd.DataFrame:
        """One row a model or variant: the columns of a Comparison, and shares from 0 to 1 of what was right."""
        from mamba_nb.display import agents_frames

        return agents_frames.summary(self)

    def to_wide(self, value: str = "text") -> pd.DataFrame:
        """One row a prompt and repeat, one column a model or variant; `value` is any column of `to_frame()`."""
        from mamba_nb.display import agents_frames

        return agents_frames.to_wide(self, value)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from mamba_nb.display import agents_frames

        return {"text/plain": agents_frames.text(self), "text/html": agents_frames.html(self)}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> AgentComparison:
        """Read what `save` wrote; `results` are not in the file.

        Raises:
            ValueError: If the file is not a saved comparison, or is of a newer format.
        """
        grid = super().load(path)
        return cls(**{each.name: getattr(grid, each.name) for each in fields(Comparison)})
