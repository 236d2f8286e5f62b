"""What is expected of an agent on each prompt, in the forms people write it, and whether it was done.

    "get_weather"                                   this tool, whatever its arguments
    ("get_weather", {"city": "Paris"})              this tool with these arguments, whatever others it has
    {"tool": "get_weather", "arguments": {...}}     the same
    ["add", ("get_weather", {...})]                 all of these
    []                                              no tool at all
    None                                            not judged

An argument's expected value may be a function that judges it. Texts are compared without regard to case and to blanks
at their ends; numbers by value.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mamba_nb._agent.result import ToolUse
from mamba_nb.errors import BadInput, closest

__all__ = ["Expected", "ExpectedCall", "expectations", "judged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedCall:
    """One call that should be made; None for `arguments` leaves them open."""

    name: str
    arguments: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The calls that one prompt should bring; none is "no tool at all"."""

    calls: tuple[ExpectedCall, ...]


def expectations(expect: Any, prompts: Any, prompt_ids: Sequence[Any]) -> list[Expected | None]:
    """What is expected of each prompt, in their order.

    Args:
        expect: A mapping from prompt ids; a list or Series with one item a prompt; the name of a column where the
            prompts are a DataFrame; with one prompt also what is expected of it. None judges nothing.
        prompts: The prompts as they were given.
        prompt_ids: Their labels.

    Raises:
        BadInput: If it fits none of these.
    """
    if expect is None:
        return [None] * len(prompt_ids)
    if _is_pandas(prompts, "DataFrame") and isinstance(expect, str):
        columns = [str(name) for name in prompts.columns]
        if expect not in columns:
            near = closest(expect, columns)
            raise BadInput(
                f"expect= names a column {expect!r} that the DataFrame does not have."
                + (f" Did you mean {near!r}?" if near else ""),
                hint=f"It has: {', '.join(columns)}.",
            )
        given = list(prompts[expect])
    elif _is_pandas(expect, "Series"):
        given = [expect.get(prompt_id) for prompt_id in prompt_ids]
    elif isinstance(expect, Mapping) and not ({"tool", "name"} & set(expect)):
        if unknown := [key for key in expect if key not in prompt_ids]:
            raise BadInput(
                f"expect= has {unknown[0]!r}, which is no prompt's id.",
                hint=f"The ids are {', '.join(map(repr, list(prompt_ids)[:12]))}.",
            )
        given = [expect.get(prompt_id) for prompt_id in prompt_ids]
    elif len(prompt_ids) == 1 and not (isinstance(expect, list) and len(expect) == 1):
        given = [expect]
    elif isinstance(expect, Sequence) and not isinstance(expect, str | tuple) and len(expect) == len(prompt_ids):
        given = list(expect)
    else:
        raise BadInput(
            f"expect= must say what each of the {len(prompt_ids)} prompts should bring.",
            hint='For example ["get_weather", ("add", {"a": 1, "b": 2}), [], None], or a mapping from prompt ids.',
        )
    return [_expected(each) for each in given]


def judged(expected: Expected, calls: Sequence[ToolUse]) -> dict[str, bool | None]:
    """Whether the right tools were called, and with the right arguments; None where that was left open."""
    made = {call.name for call in calls}
    asked = [call for call in expected.calls if call.arguments is not None]
    return {
        "right_tool": made == {call.name for call in expected.calls},
        "right_arguments": all(any(_fits(want, call) for call in calls) for want in asked) if asked else None,
    }


def _expected(value: Any) -> Expected | None:
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is getattr(_pandas(), "NA", _NOT):
        return None
    if isinstance(value, list):
        return Expected(calls=tuple(_call(each) for each in value))
    return Expected(calls=(_call(value),))


def _call(value: Any) -> ExpectedCall:
    name: Any = None
    arguments: Any = None
    if isinstance(value, str):
        name = value
    elif isinstance(value, Callable) and hasattr(value, "__name__"):  # type: ignore[arg-type]
        name = value.__name__
    elif isinstance(value, tuple) and len(value) == 2:
        name, arguments = value
        name = getattr(name, "__name__", name)
    elif isinstance(value, Mapping):
        name, arguments = value.get("tool", value.get("name")), value.get("arguments")
    if not isinstance(name, str) or not name or not isinstance(arguments, Mapping | None):
        raise BadInput(
            f"expect= has {value!r}, which is no call.",
            hint='A call is "get_weather", or ("get_weather", {"city": "Paris"}).',
        )
    return ExpectedCall(name=name, arguments=arguments)


def _fits(want: ExpectedCall, call: ToolUse) -> bool:
    if call.name != want.name or not isinstance(call.arguments, Mapping):
        return False
    given = call.arguments
    return all(name in given and _same(value, given[name]) for name, value in (want.arguments or {}).items())


def _same(want: Any, given: Any) -> bool:
    if callable(want):
        return bool(want(given))
    if isinstance(want, str) and isinstance(given, str):
        return want.strip().casefold() == given.strip().casefold()
    if isinstance(want, bool) or isinstance(given, bool):
        return want is given
    if isinstance(want, Mapping) and isinstance(given, Mapping):
        return set(want) == set(given) and all(_same(want[name], given[name]) for name in want)
    if isinstance(want, list | tuple) and isinstance(given, list | tuple):
        return len(want) == len(given) and all(map(_same, want, given))
    return bool(want == given)


_NOT = object()


def _pandas() -> Any:
    return sys.modules.get("pandas")  # whoever has a DataFrame has imported it


def _is_pandas(value: Any, kind: str) -> bool:
    pandas = _pandas()
    return pandas is not None and isinstance(value, getattr(pandas, kind))
