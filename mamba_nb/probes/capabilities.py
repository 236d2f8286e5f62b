"""Every capability, in the order in which it is asked and shown; what depends on others comes after them."""

from __future__ import annotations

from collections.abc import Iterable

from mamba_nb.errors import BadInput, closest
from mamba_nb.probes import (
    context,
    embedding,
    output,
    reasoning,
    repeating,
    sampling,
    stop,
    streaming,
    structured,
    system,
    tool_choice,
    tools,
    vision,
)
from mamba_nb.probes.capability import Capability

__all__ = ["CAPABILITIES", "chosen"]

CAPABILITIES: tuple[Capability, ...] = tuple(
    capability
    for room in (
        streaming,
        reasoning,
        system,
        stop,
        repeating,
        sampling,
        structured,
        tools,
        tool_choice,
        vision,
        embedding,
        context,
        output,
    )
    for capability in room.CAPABILITIES
)


def chosen(only: str | Iterable[str] | None, skip: str | Iterable[str] | None) -> tuple[Capability, ...]:
    """The capabilities that are meant.

    Args:
        only: Names of capabilities, or of groups (`tools`, `json`, `streaming`, ...); None means all.
        skip: The same, to be left out.

    Raises:
        BadInput: If a name is none, with the closest one; or if nothing is left.
    """
    kept = set(_meant(only, "only") if only is not None else (each.name for each in CAPABILITIES))
    kept -= set(_meant(skip, "skip") if skip is not None else ())
    if not kept:
        raise BadInput("only= and skip= leave nothing to probe.")
    return tuple(each for each in CAPABILITIES if each.name in kept)


def _meant(names: str | Iterable[str], which: str) -> Iterable[str]:
    for name in [names] if isinstance(names, str) else names:
        found = [each.name for each in CAPABILITIES if name in (each.name, each.group)]
        if not found:
            known = list(dict.fromkeys(word for each in CAPABILITIES for word in (each.name, each.group)))
            near = closest(str(name), known)
            raise BadInput(
                f"{which}= names no capability: {name!r}." + (f" Did you mean {near!r}?" if near else ""),
                hint=f"They are: {', '.join(each.name for each in CAPABILITIES)}.",
            )
        yield from found
