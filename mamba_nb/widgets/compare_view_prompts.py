"""The prompts of a comparison: given ones to step through, and those that were typed."""

from __future__ import annotations

from itertools import count
from typing import Any

from mamba_nb.compare.plan import Row, rows_of
from mamba_nb.display.text import storable, visible
from mamba_nb.errors import BadInput

__all__ = ["Prompts"]


class Prompts:
    """Prompts in their order, one of them at hand.

    Args:
        prompts: As `compare` takes them, or None; with `column` and `template` for a DataFrame.
        system: A system message for every prompt.

    Attributes:
        rows: All prompts so far.
        n_given: How many of them were given; the others were typed.
        at: The place of the one at hand; the number of prompts while a new one is being typed.

    Raises:
        BadInput: If the prompts are none.
    """

    def __init__(self, prompts: Any, *, column: str | None, template: str | None, system: str | None) -> None:
        if prompts is None and (column is not None or template is not None):
            raise BadInput("column= and template= are for prompts in a DataFrame.")
        self._system = system
        self.rows: list[Row] = []
        if prompts is not None:
            self.rows = list(rows_of(prompts, column=column, template=template, system=system))
        self.n_given = len(self.rows)
        self.at = 0

    @property
    def row(self) -> Row | None:
        """The prompt at hand, or None while a new one is being typed."""
        return self.rows[self.at] if self.at < len(self.rows) else None

    def step(self, by: int) -> Row | None:
        """Go on, or back."""
        self.at = max(0, min(len(self.rows) - 1, self.at + by))
        return self.row

    def ask(self, text: str) -> Row:
        """The prompt with this text: one that is there, or a new one, which is at hand from now on."""
        if not text.strip():
            raise BadInput("There is no prompt.", hint="Type one, then press Run.")
        row = self.row
        if row is not None and row.text == text:
            return row
        for place, row in enumerate(self.rows):
            if row.text == text:
                self.at = place
                return row
        ids = {str(row.prompt_id) for row in self.rows}
        prompt_id = next(number for number in count(len(self.rows)) if str(number) not in ids)
        (new,) = rows_of([storable(text)], system=self._system)
        self.rows.append(Row(prompt_id=prompt_id, text=new.text, messages=new.messages))
        self.at = len(self.rows) - 1
        return self.rows[-1]

    def find(self, prompt_id: Any, text: str) -> Row | None:
        """The prompt that an answer belongs to."""
        return next((row for row in self.rows if row.prompt_id == prompt_id and row.text == text), None)

    def to_json(self, typed: str | None = None) -> dict[str, Any]:
        """What is shown: the text at hand, which one of how many it is, and how many were given."""
        text = typed if typed is not None else self.row.text if self.row else ""
        return {
            "text": visible(text),
            "own": visible(self.row.text) if self.row else "",
            "at": self.at + 1 if self.row else 0,
            "total": len(self.rows),
            "given": self.n_given,
        }
