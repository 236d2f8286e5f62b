"""`import mamba_nb.pandas` gives every DataFrame `df.mamba`: a column of prompts in, columns of answers out.

    import mamba_nb.pandas
    reviews.mamba.ask("Summarise in five words: {text}", model="ollama/llama3.2")
    reviews.mamba.compare("Summarise: {text}", models=["ollama/llama3.2", "embedded"])

Order and index are kept, a failure is a value in an error column, and nothing that was answered is lost.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from mamba_nb._bridge import Run, refuse_on_private_loops, wait_with_ticks
from mamba_nb._frontend import bar_class
from mamba_nb.compare.engine import Engine
from mamba_nb.compare.plan import ModelLike, Plan
from mamba_nb.display.frames import to_frame
from mamba_nb.display.structured import columns_of
from mamba_nb.errors import BadInput
from mamba_nb.pandas._columns import Output, Rows, new_columns, text_column
from mamba_nb.records import Comparison

if TYPE_CHECKING:
    from pydantic import BaseModel

    from mamba_nb.settings import AgentSettings

__all__ = ["MambaAccessor"]

OUTPUT_ERROR = "output_error"  # of the long table: `error` there is about asking
NOTHING = Comparison(cells=(), labels=(), planned=0)


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
        wanted = Output(output, columns_of(output, prefix)) if output is not None else None
        self._refuse_to_hide(new_columns(wanted, column))
        rows = Rows(self._frame, prompt)
        plan = rows.plan(
            [_chosen(model, settings)],
            system=system,
            max_concurrency=max_concurrency,
            settings=settings,
            params=_held_to(output, params),
        )

        def framed(comparison: Comparison | None) -> pd.DataFrame:
            result = self._frame.copy()
            rows.put_into(result, rows.answers(comparison), column, wanted)
            return result

        return framed(None) if rows.empty else _run(plan, framed, progress)

    def compare(
        self,
        prompt: str,
        models: Sequence[ModelLike],
        *,
        repeats: int = 1,
        wide: bool = False,
        output: type[BaseModel] | None = None,
        prefix: str = "",
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
            output: As for `ask`. In a wide table the columns are called `<model>_<field>`.
            prefix: As for `ask`.
            system: A system message for every row.
            max_concurrency: Most requests at once on one server.
            progress: Whether to show a progress bar.
            settings: Where plain names find their address and key.
            **params: Request parameters for every model.

        Returns:
            Long: one row an answer, with this frame's index and the columns of `Comparison.to_frame()`; with `output`
            also a typed column a field, and `output_error`, which says why those are missing. Wide: a copy of this
            frame with one column a model, and `<model>_error` beside it.

        Raises:
            BadInput: If an argument is wrong, or a new column would hide one that is there; nothing has been sent.
            KeyboardInterrupt: On an interrupt; `.partial` is the frame so far.
        """
        if wide and repeats != 1:
            raise BadInput(
                "A wide table has one answer a model and row: repeats must be 1.", hint="Leave out wide=True."
            )
        wanted = Output(output, columns_of(output, prefix)) if output is not None else None
        rows = Rows(self._frame, prompt)
        plan = rows.plan(
            list(models),
            repeats=repeats,
            system=system,
            max_concurrency=max_concurrency,
            settings=settings,
            params=_held_to(output, params),
        )
        labels = [column.label for column in plan.columns]
        if wide:
            self._refuse_to_hide(
                [name for label in labels for name in new_columns(wanted and wanted.under(label), label)]
            )
        elif wanted is not None:
            self._refuse_to_hide([*wanted.columns, OUTPUT_ERROR], to_frame(NOTHING).columns)

        def framed(comparison: Comparison | None) -> pd.DataFrame:
            return self._wide(comparison, rows, labels, wanted) if wide else self._long(comparison, rows, wanted)

        return framed(None) if rows.empty else _run(plan, framed, progress)

    def _long(self, comparison: Comparison | None, rows: Rows, output: Output | None) -> pd.DataFrame:
        table = to_frame(comparison or NOTHING)
        table.index = self._frame.index[table["prompt_id"].to_numpy(dtype="int64")]
        if output is not None:
            answers = [cell.generation for cell in (comparison or NOTHING).cells]
            errors = [rows.error(cell.prompt_id, cell.generation) for cell in (comparison or NOTHING).cells]
            for name, values in output.read(answers, errors, table.index).items():
                table[name] = values
            table[OUTPUT_ERROR] = text_column(errors, table.index)
        return table.drop(columns="prompt_id")

    def _wide(
        self, comparison: Comparison | None, rows: Rows, labels: Sequence[str], output: Output | None
    ) -> pd.DataFrame:
        result = self._frame.copy()
        for label in labels:
            rows.put_into(result, rows.answers(comparison, label), label, output and output.under(label))
        return result

    def _refuse_to_hide(self, names: Iterable[str], columns: Iterable[Any] | None = None) -> None:
        """Refuse names that a column of this frame has already, or one of `columns`."""
        there = set(self._frame.columns if columns is None else columns)
        if taken := [name for name in names if name in there]:
            raise BadInput(
                f"The {'DataFrame' if columns is None else 'long table'} has a column {taken[0]!r} already.",
                hint='Call the new one something else: column="...", prefix="..." for the fields of output=, or '
                "variant(backend, name=...) for a model.",
            )


def _run(plan: Plan, framed: Callable[[Comparison | None], pd.DataFrame], progress: bool) -> pd.DataFrame:
    """Run the grid behind both verbs, with a progress bar meanwhile."""
    refuse_on_private_loops("df.mamba", "call it in run_in_background(...)")
    engine = Engine(plan)
    with _bar(len(plan), shown=progress) as moved:

        async def work(run: Run[Any, Comparison]) -> Comparison:
            run.state = "streaming"
            return await engine.run()

        try:
            return framed(
                wait_with_ticks(
                    Run(work, name=f"df.mamba, {len(plan)} answers", partial=engine.comparison),
                    lambda: moved(engine.finished),
                )
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


def _held_to(output: type[BaseModel] | None, params: Mapping[str, Any]) -> dict[str, Any]:
    return {**params} if output is None else {**params, "response_format": output}


def _chosen(model: ModelLike | None, settings: AgentSettings | None) -> ModelLike:
    if model is not None:
        return model
    from mamba_nb.settings import AgentSettings

    return (settings or AgentSettings()).model_backend.model
