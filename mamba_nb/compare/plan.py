"""What will be asked of whom: models and prompts in the forms people give them, turned into columns and rows.

Everything that can be refused is refused here, before anything is sent.
"""

from __future__ import annotations

import string
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from mamba_nb.backends._params import checked
from mamba_nb.backends._prompt import messages_from
from mamba_nb.backends.backend import OpenAICompatibleBackend
from mamba_nb.backends.factories import backend_for
from mamba_nb.errors import BackendClosed, BadInput, closest
from mamba_nb.records import Message, text_of

if TYPE_CHECKING:
    from mamba_nb.compare.agents import AgentRuns
    from mamba_nb.settings import AgentSettings

__all__ = ["Column", "ModelLike", "Plan", "Row", "Variant", "make_plan", "rows_of", "variant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One model under other conditions; made by `variant`."""

    backend: OpenAICompatibleBackend | str
    name: str
    system: str | None
    params: Mapping[str, Any]


ModelLike: TypeAlias = "str | OpenAICompatibleBackend | Variant"


def variant(
    backend: OpenAICompatibleBackend | str, *, name: str | None = None, system: str | None = None, **params: Any
) -> Variant:
    """One model under other conditions, for a column of its own in `compare`.

        compare([variant(b, temperature=0), variant(b, temperature=1, system="Be brief.")], prompts)

    Args:
        backend: The backend, or a model's name.
        name: What to call the column; None builds a name from what is different.
        system: A system message for this column.
        **params: Request parameters for this column; they win over the comparison's and the backend's.

    Raises:
        BadInput: If a parameter is unknown or cannot be meant.
    """
    params = checked(params)
    if name is None:
        parts = [f"{key}={value!r}" for key, value in params.items()]
        if system is not None:
            parts.append(f"system={_short(system)!r}")
        name = ", ".join(parts) or "as it is"
    return Variant(backend=backend, name=name, system=system, params=params)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One model or variant of the grid.

    Attributes:
        label: Its name, unlike all others.
        variant: The variant's own name, or None.
        backend: Who is asked.
        system: The system message for this column, or None.
        params: Checked request parameters, the backend's own included.
        owned: Whether the comparison made the backend, and so closes it.
    """

    label: str
    variant: str | None
    backend: OpenAICompatibleBackend
    system: str | None
    params: Mapping[str, Any]
    owned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One prompt: its label, its text for reading, and its messages without a system message of the column."""

    prompt_id: Any
    text: str
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The grid to run: columns by rows by repeats; `agents` run the cells, where it is agents that are compared."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    repeats: int
    max_concurrency: int | None
    agents: AgentRuns | None = None

    def __len__(self) -> int:
        return len(self.columns) * len(self.rows) * self.repeats

    def messages(self, column: Column, row: Row) -> tuple[Message, ...]:
        """What is sent: the column's system message takes the place of the row's own."""
        if column.system is None:
            return row.messages
        rest = row.messages
        if rest and rest[0].get("role") in ("system", "developer"):
            rest = rest[1:]
        return ({"role": "system", "content": column.system}, *rest)


def make_plan(
    models: ModelLike | Iterable[ModelLike],
    prompts: Any,
    *,
    column: str | None = None,
    template: str | None = None,
    repeats: int = 1,
    system: str | None = None,
    max_concurrency: int | None = None,
    settings: AgentSettings | None = None,
    agent: Any = None,
    expect: Any = None,
    params: Mapping[str, Any],
) -> Plan:
    """Check everything and lay the grid out; the arguments are those of `compare`."""
    for name, value in (("repeats", repeats), ("max_concurrency", max_concurrency)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise BadInput(f"{name} must be a whole number from 1; this is {value!r}.")
    common = checked(params)
    rows = tuple(rows_of(prompts, column=column, template=template, system=system))
    given = [models] if isinstance(models, str | OpenAICompatibleBackend | Variant) else list(models)
    if not given:
        raise BadInput(
            "There is no model to compare.", hint='For example compare(["ollama/llama3.2", "embedded"], prompts).'
        )
    columns = tuple(_columns(given, common, settings))
    plan = Plan(columns=columns, rows=rows, repeats=repeats, max_concurrency=max_concurrency)
    if agent is None:
        if expect is not None:
            raise BadInput("expect= says which tools an agent should call: give agent= too.")
        return plan
    from mamba_nb.compare.agents import make_runs
    from mamba_nb.compare.agents_expected import expectations

    added = [{**common, **(model.params if isinstance(model, Variant) else {})} for model in given]
    return replace(
        plan,
        agents=make_runs(
            agent,
            [(column.backend, params) for column, params in zip(columns, added, strict=True)],
            [row.messages for row in rows],
            expectations(expect, prompts, [row.prompt_id for row in rows]),
        ),
    )


def _columns(given: Sequence[Any], common: Mapping[str, Any], settings: AgentSettings | None) -> Iterator[Column]:
    seen: dict[str, int] = {}
    made: dict[str, OpenAICompatibleBackend] = {}
    for place, model in enumerate(given):
        chosen = model if isinstance(model, Variant) else None
        who = chosen.backend if chosen else model
        owned = isinstance(who, str)
        if isinstance(who, str):
            backend = made.get(who) or made.setdefault(who, backend_for(who, settings))
        elif isinstance(who, OpenAICompatibleBackend):
            backend = who
        else:
            raise BadInput(
                f"Model {place} is {type(who).__name__}: a model is a name, a backend or a variant.",
                hint='For example "ollama/llama3.2", a backend, or variant(backend, temperature=0).',
            )
        if backend.closed:
            raise BackendClosed(
                f"The backend for {backend.model} at {backend.base_url} is closed.", hint="Make a new one."
            )
        label = chosen.name if chosen else who if isinstance(who, str) else backend.model
        seen[label] = seen.get(label, 0) + 1
        yield Column(
            label=label if seen[label] == 1 else f"{label} ({seen[label]})",
            variant=chosen.name if chosen else None,
            backend=backend,
            system=chosen.system if chosen else None,
            params={**backend.params, **common, **(chosen.params if chosen else {})},
            owned=owned,
        )


def rows_of(
    prompts: Any, *, column: str | None = None, template: str | None = None, system: str | None = None
) -> Iterator[Row]:
    """The prompts of a grid, one row each, in their order.

    Args:
        prompts: A string, a list of strings or conversations, a Series or a DataFrame.
        column: The column of a DataFrame that holds the prompts; None finds it where there is no doubt.
        template: A prompt with a DataFrame's columns in braces, in the place of `column`.
        system: A system message for every prompt; None leaves them as they are.

    Raises:
        BadInput: If there is no prompt, or one cannot be sent.
    """
    if _is_pandas(prompts, "DataFrame"):
        pairs: Iterable[tuple[Any, Any]] = _from_frame(prompts, column, template)
    else:
        if column is not None or template is not None:
            raise BadInput("column= and template= are for prompts in a DataFrame.")
        pairs = _pairs(prompts)
    pairs = list(pairs)
    if not pairs:
        raise BadInput("There are no prompts.", hint="Give a string, a list of strings, a Series or a DataFrame.")
    for prompt_id, prompt in pairs:
        try:
            messages = messages_from(prompt, system)
        except BadInput as error:
            raise BadInput(f"Prompt {prompt_id!r}: {error.message}", hint=error.hint) from error
        yield Row(prompt_id=prompt_id, text=_readable(messages), messages=messages)


def _pairs(prompts: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(prompts, str):
        return [(0, prompts)]
    if _is_pandas(prompts, "Series"):
        return list(prompts.items())
    if isinstance(prompts, Mapping) or not isinstance(prompts, Iterable):
        raise BadInput(f"Prompts are a string, a list, a Series or a DataFrame; this is {type(prompts).__name__}.")
    listed = list(prompts)
    if listed and all(isinstance(item, Mapping) and "role" in item for item in listed):
        raise BadInput(
            "This is one conversation, a list of messages.",
            hint="Prompts are a list of conversations: put it into a list of its own, [[...]].",
        )
    return list(enumerate(listed))


def _from_frame(frame: Any, column: str | None, template: str | None) -> Iterable[tuple[Any, Any]]:
    columns = [str(name) for name in frame.columns]
    if column is not None and template is not None:
        raise BadInput("Give column= or template=, not both.")
    if template is None:
        if column is None:
            column = "prompt" if "prompt" in columns else columns[0] if len(columns) == 1 else None
        if column is None:
            raise BadInput(
                f"The DataFrame has the columns {', '.join(columns)}; which one holds the prompts?",
                hint='Say column="...", or template="Summarise: {text}".',
            )
        _check_columns([column], columns)
        return list(frame[column].items())
    try:
        names = [
            name.split(".")[0].split("[")[0] for _, name, _, _ in string.Formatter().parse(template) if name is not None
        ]
    except ValueError as error:
        raise BadInput(
            f"The template {template!r} is broken: {error}.", hint="A brace itself is written {{ or }}."
        ) from error
    if not names:
        raise BadInput(
            f"The template {template!r} names no column, so every prompt would be the same.",
            hint='For example template="Summarise: {text}".',
        )
    _check_columns(names, columns)
    records = frame.to_dict("records")
    return [
        (index, template.format(**{str(key): value for key, value in record.items()}))
        for index, record in zip(frame.index, records, strict=True)
    ]


def _check_columns(wanted: Iterable[str], there: Sequence[str]) -> None:
    for name in wanted:
        if name not in there:
            near = closest(name, there)
            raise BadInput(
                f"The DataFrame has no column {name!r}." + (f" Did you mean {near!r}?" if near else ""),
                hint=f"It has: {', '.join(there)}.",
            )


def _is_pandas(value: Any, kind: str) -> bool:
    pandas = sys.modules.get("pandas")  # whoever has a DataFrame has imported it
    return pandas is not None and isinstance(value, getattr(pandas, kind))


def _readable(messages: Sequence[Message]) -> str:
    asked = [message for message in messages if message.get("role") == "user"]
    return text_of((asked or list(messages))[-1].get("content"))


def _short(text: str, most: int = 24) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
