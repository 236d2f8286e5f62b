"""Rows into prompts, and answers into columns beside them."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from mamba_nb.compare.plan import ModelLike, Plan, make_plan
from mamba_nb.display.structured import parsed
from mamba_nb.display.text import storable
from mamba_nb.errors import BadInput
from mamba_nb.records import Comparison, Generation

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["Output", "Rows", "new_columns", "text_column"]


@dataclass(frozen=True)
class Output:
    """What answers are held to, and the columns they become: name -> field and dtype."""

    model: type[BaseModel]
    columns: Mapping[str, tuple[str, str]]

    def under(self, label: str) -> Output:
        """The same with a model's name before each column's."""
        return replace(self, columns={f"{label}_{name}": column for name, column in self.columns.items()})

    def read(
        self, answers: Sequence[Generation | None], errors: list[str | None], index: pd.Index[Any]
    ) -> dict[str, pd.Series[Any]]:
        """The columns; what does not fit is written into `errors` at its place."""
        texts = [None if answer is None else answer.text for answer in answers]
        cut = [answer is not None and answer.finish_reason == "length" for answer in answers]
        values = parsed(self.model, texts, errors, cut)
        return {
            name: pd.Series([row and row[field] for row in values], index=index, dtype=dtype)
            for name, (field, dtype) in self.columns.items()
        }


class Rows:
    """Which rows are asked what."""

    def __init__(self, frame: pd.DataFrame, prompt: str) -> None:
        if not isinstance(prompt, str) or not prompt.strip():
            raise BadInput(
                f"The prompt must be a text with columns in braces, or a column's name; this is {prompt!r}.",
                hint='For example df.mamba.ask("Summarise: {text}").',
            )
        self.is_column = prompt in frame.columns
        self.prompt = prompt
        names = [prompt] if self.is_column else sorted(_columns_in(prompt))
        there = [name for name in names if name in frame.columns]
        missing = frame[there].isna().any(axis=1).to_numpy() if there else [False] * len(frame)
        self.skipped = {position for position, is_missing in enumerate(missing) if is_missing}
        self.asked = [position for position in range(len(frame)) if position not in self.skipped]
        self.frame = frame.iloc[self.asked].set_axis(self.asked, axis=0)
        if not len(frame):  # nothing to ask, but a column that is not there is wrong all the same
            wrong = [name for name in names if name not in frame.columns]
            if wrong:
                raise BadInput(f"The DataFrame has no column {wrong[0]!r}.")

    @property
    def empty(self) -> bool:
        """Whether there is nothing to ask."""
        return not self.asked

    def answers(self, comparison: Comparison | None, label: str | None = None) -> dict[int, Generation]:
        """Position in the frame -> the answer."""
        return {
            cell.prompt_id: cell.generation
            for cell in (comparison.cells if comparison else ())
            if label is None or cell.label == label
        }

    def put_into(
        self, result: pd.DataFrame, answers: Mapping[int, Generation], name: str, output: Output | None
    ) -> None:
        """Put answers beside their rows: as texts under `name`, or as what `output` makes of them; and the errors."""
        listed = [answers.get(position) for position in range(len(result))]
        errors = [self.error(position, answer) for position, answer in enumerate(listed)]
        if output is not None:
            for column, values in output.read(listed, errors, result.index).items():
                result[column] = values
        else:
            whole = [answer if error is None else None for answer, error in zip(listed, errors, strict=True)]
            texts = [None if answer is None else answer.text for answer in whole]
            result[name] = text_column(texts, result.index)
        result[f"{name}_error"] = text_column(errors, result.index)

    def plan(self, models: Sequence[ModelLike], **options: Any) -> Plan:
        """The grid to run, checked; where no row is asked, of a prompt that is never sent."""
        if self.empty:
            return make_plan(models, "-", **options)
        column, template = (self.prompt, None) if self.is_column else (None, self.prompt)
        return make_plan(models, self.frame, column=column, template=template, **options)

    def error(self, position: int, answer: Generation | None) -> str | None:
        """What went wrong with a row, or None."""
        if position in self.skipped:
            return "Not asked: a value that the prompt needs is missing."
        if answer is None:
            return "Not asked: it was stopped before."
        if answer.status == "done":
            return None
        return answer.error or "Stopped before the answer was whole."


def new_columns(output: Output | None, name: str) -> list[str]:
    """The columns that `put_into` makes."""
    return [*([name] if output is None else output.columns), f"{name}_error"]


def text_column(values: Sequence[str | None], index: pd.Index[Any]) -> pd.Series[Any]:
    """A column of texts, missing ones among them."""
    return pd.Series([None if value is None else storable(value) for value in values], index=index, dtype="str")


def _columns_in(template: str) -> set[str]:
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError:
        return set()  # the plan says what is wrong with it
    return {re.split(r"[.\[]", name)[0] for name in fields}
