"""Members of JSON that a server wrote, read as what they should be, or not at all.

In: values of any type. Out: the value where it is of the right type and makes sense, else None (or nothing): a
server's nonsense is never an error of ours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from mamba_nb.servers.asking import Asking
from mamba_nb.servers.facts import ServedModel

__all__ = [
    "ANY",
    "bytes_of",
    "entries",
    "listed",
    "member",
    "number",
    "owners",
    "parameters_of",
    "quantization_of",
    "said",
    "text",
    "truth",
    "whole",
    "words",
]

ANY = 10**9  # for texts that may be as long as they like
MOST = 2**53  # above it a JSON number is no exact count any more

_QUANTITY = re.compile(r"\s*([\d.]+)\s*([a-z]*)\s*", re.IGNORECASE)
_COUNTS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_SIZES = {"": 1, "b": 1} | {
    f"{letter}{mark}": base**power
    for power, letter in enumerate("kmgt", start=1)
    for mark, base in (("b", 1000), ("ib", 1024))
}
_QUANTIZATION = re.compile(r"(?i)(?:^|[-_.:/])((?:UD-)?(?:I?Q\d[A-Z0-9_]*|BF16|F16|F32|MXFP4\w*))(?:\.gguf)?$")


def text(value: Any, most: int = 2000) -> str | None:
    """A string that is not empty, and not so long that it is no name of anything."""
    return value if isinstance(value, str) and value.strip() and len(value) <= most else None


def whole(value: Any, least: int = 1) -> int | None:
    """A whole number from `least` on; `4096.0` is one, `True` and `"4096"` are not.

    Examples:
        >>> whole(4096), whole(4096.0), whole(True), whole("4096"), whole(0), whole(0, 0)
        (4096, 4096, None, None, None, 0)
    """
    known = number(value, least)
    return int(known) if known is not None and known == int(known) else None


def number(value: Any, least: float = 0.0) -> float | None:
    """A finite number from `least` on."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if least <= value <= MOST and math.isfinite(value) else None


def truth(value: Any) -> bool | None:
    """True or False, where it is one of them."""
    return value if isinstance(value, bool) else None


def words(value: Any) -> tuple[str, ...]:
    """The strings of a list."""
    return tuple(word for word in value if isinstance(word, str)) if isinstance(value, list) else ()


def member(value: Any, *path: str) -> Any:
    """What stands at the end of a path of names, or None where the path ends early."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def entries(value: Any, name: str | None = None) -> list[Mapping[str, Any]]:
    """The objects of a list, or of the list that stands under a name."""
    found = value if name is None else member(value, name)
    return [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []


def parameters_of(value: Any) -> int | None:
    """A count of weights as servers write it.

    Examples:
        >>> parameters_of("361.82 M"), parameters_of("8B"), parameters_of(135000000), parameters_of("large")
        (361820000, 8000000000, 135000000, None)
    """
    return _quantity(value, _COUNTS)


def bytes_of(value: Any) -> int | None:
    """A size as servers write it.

    Examples:
        >>> bytes_of("256.35 MiB"), bytes_of("1 GB"), bytes_of(1024), bytes_of("")
        (268802458, 1000000000, 1024, None)
    """
    return _quantity(value, _SIZES)


def _quantity(value: Any, units: Mapping[str, int]) -> int | None:
    if not isinstance(value, str):
        return whole(value)
    found = _QUANTITY.fullmatch(value)
    unit = units.get(found[2].lower()) if found else None
    try:
        return whole(round(float(found[1]) * unit)) if found and unit else None
    except (ValueError, OverflowError):  # 1.2.3, or a number of a thousand digits
        return None


def quantization_of(name: Any) -> str | None:
    """The quantisation at the end of a file's or a checkpoint's name.

    Examples:
        >>> quantization_of("unsloth/Qwen3-0.6B-GGUF:Q4_K_M"), quantization_of("smollm2-Q8_0.gguf")
        ('Q4_K_M', 'Q8_0')
        >>> quantization_of("openai/gpt-4o") is None
        True
    """
    found = _QUANTIZATION.search(name[-200:]) if isinstance(name, str) else None
    return found[1] if found else None


def said(model: ServedModel, endpoint: str, **facts: Any) -> ServedModel:
    """The model with what an endpoint says of it; what is None is left as it was."""
    known = {name: value for name, value in facts.items() if value is not None}
    if not known:
        return model
    return replace(model, evidence={**model.evidence, **dict.fromkeys(known, endpoint)}, **known)


async def listed(asking: Asking) -> list[Mapping[str, Any]]:
    """The entries of GET /v1/models that have an `id`, each id once."""
    found: dict[str, Mapping[str, Any]] = {}
    for entry in entries(await asking.json("/v1/models"), "data"):
        if (name := text(entry.get("id"))) is not None:
            found.setdefault(name, entry)
    return list(found.values())


async def owners(asking: Asking, *allowed: str) -> bool:
    """Whether GET /v1/models leaves it open that its owner is one of these.

    It does where every `owned_by` is one of them, where there is none, where the list is empty, and where there is no
    list at all (a key is asked for, say). `""` stands for an entry without `owned_by`.
    """
    found = entries(await asking.json("/v1/models"), "data")
    return all(_owner(entry) in allowed for entry in _some(found))


def _owner(entry: Mapping[str, Any]) -> str:
    owner = entry.get("owned_by")
    return owner if isinstance(owner, str) else ""


def _some(found: list[Mapping[str, Any]], most: int = 50) -> Iterable[Mapping[str, Any]]:
    """Enough of a list to judge it by."""
    return found[:most]
