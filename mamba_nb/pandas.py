"""`import mamba_nb.pandas` gives every DataFrame `df.mamba`: a column of prompts in, columns of answers out.

    import mamba_nb.pandas
    reviews.mamba.ask("Summarise in five words: {text}", model="ollama/llama3.2")
    reviews.mamba.compare("Summarise: {text}", models=["ollama/llama3.2", "embedded"])

Order and index are kept, a failure is a value in an error column, and nothing that was answered is lost.
"""

from __future__ import annotations

import contextlib
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from mamba_nb._bridge import Run, refuse_on_private_loops, wait_with_ticks
from mamba_nb._frontend import bar_class
from mamba_nb.compare.engine import Engine
from mamba_nb.compare.plan import ModelLike, make_plan
from mamba_nb.display.frames import to_frame
from mamba_nb.display.structured import columns_of, parsed
from mamba_nb.display.text import storable
from mamba_nb.errors import BadInput
from mamba_nb.records import Comparison, Generation

if TYPE_CHECKING:
    from pydantic import BaseModel

    from mamba_nb.settings import AgentSettings

__all__ = ["MambaAccessor"]


@pd.api.extensions.register_dataframe_accessor("mamba")
class MambaAccessor:
    """Prompts from a DataFrame's rows, answers beside them."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def ask(
        self,
        prompt: str,
        model: ModelLike | None = None,
        *,
        column: str = "answer",
        output: type[BaseModel] | None = None,
        prefix: str = "",
        system: str | None = None,
        max_concurrency: int | None = None,
        progress: bool = True,
        settings: AgentSettings | None = None,
        **params: Any,
    ) -> pd.DataFrame:
        """Ask one model about every row.

        Args:
            prompt: A text with columns in braces (`"Summarise: {text}"`), or the name of a column of prompts.
            model: A name, a backend or a variant; None is the configured model.
            column: What to call the new column.
            output: A pydantic model that each answer is held to; its fields become typed columns instead.
            prefix: Put before the names of those columns.
            system: A system message for every row.
            max_concurrency: Most requests at once; None takes the number the server works on at once.
            progress: Whether to show a progress bar.
            settings: Where a plain name finds its address and key; None reads the environment.
            **params: Request parameters (`temperature`, `max_tokens`, ...).

        Returns:
            A copy with the new columns. A row whose prompt has a missing value is not asked. `<column>_error` says
            what went wrong with a row, and is missing where nothing did.

        Raises:
            BadInput: If an argument is wrong, or a new column would hide one that is there; nothing has been sent.
            KeyboardInterrupt: On an interrupt; `.partial` is the frame with the answers so far.
        """
        error_column = f"{column}_error"
        fields = columns_of(output, prefix) if output is not None else {}
        self._refuse_to_hide([*fields, error_column] if output is not None else [column, error_column])
        if output is not None:
            params["response_format"] = output
        rows = _Rows(self._frame, prompt)

        def framed(comparison: Comparison | None) -> pd.DataFrame:
            answers = rows.answers(comparison)
            errors = [rows.error(position, answers.get(position)) for position in range(len(self._frame))]
            texts = [answer.text if (answer := answers.get(i)) else None for i in range(len(self._frame))]
            result = self._frame.copy()
            if output is None:
                result[column] = _texts(
                    [text if error is None else None for text, error in zip(texts, errors, strict=True)],
                    result.index,
                )
            else:
                cut = [(answer := answers.get(i)) and answer.finish_reason == "length" for i in range(len(texts))]
                values = parsed(output, texts, errors, cut)
                for name, (field, dtype) in fields.items():
                    result[name] = pd.Series([row and row[field] for row in values], index=result.index, dtype=dtype)
            result[error_column] = _texts(errors, result.index)
            return result

        if rows.empty:
            return framed(None)
        return framed(
            _run([_chosen(model, settings)], rows, 1, system, max_concurrency, settings, params, progress, framed)
        )

    def compare(
        self,
        prompt: str,
        models: Sequence[ModelLike],
        *,
        repeats: int = 1,
        wide: bool = False,
        system: str | None = None,
        max_concurrency: int | None = None,
        progress: bool = True,
        settings: AgentSettings | None = None,
        **params: Any,
    ) -> pd.DataFrame:
        """Put every row's prompt to several models.

        Args:
            prompt: As for `ask`.
            models: Names, backends or variants.
            repeats: How often each prompt is put to each model.
            wide: Whether to give this frame with a column of answers a model, instead of the long table.
            system: A system message for every row.
            max_concurrency: Most requests at once on one server.
            progress: Whether to show a progress bar.
            settings: Where plain names find their address and key.
            **params: Request parameters for every model.

        Returns:
            Long: one row an answer, with this frame's index and the columns of `Comparison.to_frame()`. Wide: a copy
            of this frame with one column a model, and `<model>_error` beside it.

        Raises:
            BadInput: If an argument is wrong; nothing has been sent.
            KeyboardInterrupt: On an interrupt; `.partial` is the frame so far.
        """
        if wide and repeats != 1:
            raise BadInput(
                "A wide table has one answer a model and row: repeats must be 1.", hint="Leave out wide=True."
            )
        rows = _Rows(self._frame, prompt)

        def framed(comparison: Comparison | None) -> pd.DataFrame:
            return self._wide(comparison, rows) if wide else self._long(comparison)

        if rows.empty:
            return framed(None)
        return framed(_run(list(models), rows, repeats, system, max_concurrency, settings, params, progress, framed))

    def _long(self, comparison: Comparison | None) -> pd.DataFrame:
        table = to_frame(comparison or Comparison(cells=(), labels=(), planned=0))
        table.index = self._frame.index[table["prompt_id"].to_numpy(dtype="int64")]
        return table.drop(columns="prompt_id")

    def _wide(self, comparison: Comparison | None, rows: _Rows) -> pd.DataFrame:
        labels = comparison.labels if comparison else ()
        self._refuse_to_hide([name for label in labels for name in (label, f"{label}_error")])
        result = self._frame.copy()
        for label in labels:
            answers = rows.answers(comparison, label)
            errors = [rows.error(position, answers.get(position)) for position in range(len(result))]
            result[label] = _texts(
                [
                    answers[position].text if position in answers and error is None else None
                    for position, error in enumerate(errors)
                ],
                result.index,
            )
            result[f"{label}_error"] = _texts(errors, result.index)
        return result

    def _refuse_to_hide(self, names: Iterable[str]) -> None:
        there = [name for name in names if name in self._frame.columns]
        if there:
            raise BadInput(
                f"The DataFrame has a column {there[0]!r} already.",
                hint='Call the new one something else: column="...", or prefix="..." for the fields of output=.',
            )


class _Rows:
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

    def error(self, position: int, answer: Generation | None) -> str | None:
        """What went wrong with a row, or None."""
        if position in self.skipped:
            return "Not asked: a value that the prompt needs is missing."
        if answer is None:
            return "Not asked: it was stopped before."
        if answer.status == "done":
            return None
        return answer.error or "Stopped before the answer was whole."


def _run(
    models: list[ModelLike],
    rows: _Rows,
    repeats: int,
    system: str | None,
    max_concurrency: int | None,
    settings: AgentSettings | None,
    params: Mapping[str, Any],
    progress: bool,
    framed: Any,
) -> Comparison:
    """The comparison behind both verbs, with a progress bar while it runs."""
    plan = make_plan(
        models,
        rows.frame,
        column=rows.prompt if rows.is_column else None,
        template=None if rows.is_column else rows.prompt,
        repeats=repeats,
        system=system,
        max_concurrency=max_concurrency,
        settings=settings,
        params=params,
    )
    refuse_on_private_loops("df.mamba", "call it in run_in_background(...)")
    engine = Engine(plan)
    with _bar(len(plan), shown=progress) as moved:

        async def work(run: Run[Any, Comparison]) -> Comparison:
            run.state = "streaming"
            return await engine.run()

        try:
            return wait_with_ticks(
                Run(work, name=f"df.mamba, {len(plan)} answers", partial=engine.comparison),
                lambda: moved(engine.finished),
            )
        except KeyboardInterrupt as interrupt:
            interrupt.partial = framed(engine.comparison())  # type: ignore[attr-defined]
            raise


@contextlib.contextmanager
def _bar(total: int, *, shown: bool) -> Iterator[Any]:
    with bar_class()(total=total, unit="answer", disable=not shown) as bar:

        def moved(done: int) -> None:
            if done != bar.n:
                bar.update(done - bar.n)

        yield moved
        moved(total)


def _chosen(model: ModelLike | None, settings: AgentSettings | None) -> ModelLike:
    if model is not None:
        return model
    from mamba_nb.settings import AgentSettings

    return (settings or AgentSettings()).model_backend.model


def _columns_in(template: str) -> set[str]:
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError:
        return set()  # the plan says what is wrong with it
    return {re.split(r"[.\[]", name)[0] for name in fields}


def _texts(values: Sequence[str | None], index: pd.Index[Any]) -> pd.Series[Any]:
    return pd.Series([None if value is None else storable(value) for value in values], index=index, dtype="str")
