"""Answers that are held to a pydantic model, as columns: a field a column, in the type that fits it.

In: a model class, and texts. Out: dtypes by column, and a mapping of values a row, or None where there is none.
"""

from __future__ import annotations

import enum
import re
import types
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from mamba_nb.errors import BadInput

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["columns_of", "parsed"]

FENCE = re.compile(r"^\s*```(?:json)?\s*(.*?)\s*```\s*$", re.DOTALL)
DTYPES: Mapping[type, str] = {
    bool: "boolean",
    int: "Int64",
    float: "Float64",
    str: "str",
    datetime: "datetime64[us]",
}


def columns_of(output: type[BaseModel], prefix: str = "") -> dict[str, tuple[str, str]]:
    """Column name -> the field and the dtype of its column.

    Raises:
        BadInput: If it is no pydantic model, or one without fields.
    """
    fields = getattr(output, "model_fields", None)
    if not isinstance(output, type) or not fields:
        raise BadInput(f"output must be a pydantic model with fields; this is {output!r}.")
    return {f"{prefix}{name}": (name, dtype_of(field.annotation)) for name, field in fields.items()}


def dtype_of(annotation: Any) -> str:
    """The dtype for values of this type; `object` where none fits better.

    Examples:
        >>> dtype_of(int), dtype_of(Literal["a", "b"]), dtype_of(list[str])
        ('Int64', 'str', 'object')
    """
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [part for part in get_args(annotation) if part is not type(None)]
        return dtype_of(inner[0]) if len(inner) == 1 else "object"
    if get_origin(annotation) is Literal:
        kinds = {type(value) for value in get_args(annotation)}
        return dtype_of(kinds.pop()) if len(kinds) == 1 else "object"
    if isinstance(annotation, type):
        if issubclass(annotation, enum.Enum):
            return "str" if all(isinstance(member.value, str) for member in annotation) else "object"
        if annotation is date:
            return "datetime64[us]"
        return DTYPES.get(annotation, "object")
    return "object"


def parsed(
    output: type[BaseModel], texts: Sequence[str | None], errors: list[str | None], cut: Sequence[object]
) -> list[Mapping[str, Any] | None]:
    """The values of each answer, or None; what is wrong with an answer is written into `errors` at its place.

    `cut` says of each answer whether it ended at `max_tokens`.
    """
    from pydantic import ValidationError

    rows: list[Mapping[str, Any] | None] = []
    for place, text in enumerate(texts):
        rows.append(None)
        if errors[place] is not None or text is None:
            continue
        match = FENCE.match(text)
        try:
            answer = output.model_validate_json(match.group(1) if match else text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            errors[place] = (
                f"{'It was cut at max_tokens before it was whole: raise max_tokens. ' if cut[place] else ''}"
                f"The answer is no valid {output.__name__}: {f'{where}: ' if where else ''}{first['msg']}. "
                f"It began: {text[:80]!r}"
            )
            continue
        rows[place] = {name: _plain(getattr(answer, name)) for name in output.model_fields}
    return rows


def _plain(value: Any) -> Any:
    """What a column holds: an enum's value, a nested model as a dict."""
    if isinstance(value, enum.Enum):
        return value.value
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return value
