"""The facts at the head of a GGUF file, read without loading the model.

In goes a path, out comes a `Header`: the model's name, the context it was trained for, and how many bytes one
token takes in the cache. A file that is not a GGUF is an `EngineError`; a fact that the header does not give in a
form known here is None, since llama.cpp itself has the last word on what it can load.

The layout is that of the GGUF specification, versions 2 and 3: magic, version, number of tensors, number of
key-value pairs, then the pairs. The vocabulary comes last and is long, so reading stops where it begins.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mamba_nb.errors import EngineError

MAGIC = b"GGUF"
CACHE_BYTES = 2  # llama.cpp keeps keys and values as 16-bit floats
SANE_LENGTH = 1_000_000  # no name and no list before the vocabulary is longer

_NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_TEXT, _LIST = 8, 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a GGUF file says of itself; None where it does not.

    Attributes:
        name: The model's name as its makers wrote it.
        context: Tokens of context the model was trained for.
        cache_bytes_per_token: Memory one token of context takes. An upper bound: models with sliding windows or
            compressed attention need less.
    """

    name: str | None
    context: int | None
    cache_bytes_per_token: int | None


def read_header(path: Path) -> Header:
    """Read the head of a GGUF file.

    Raises:
        EngineError: If the file is not a GGUF file, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            _check_magic(path, file.read(32))
            file.seek(len(MAGIC))
            return _header(_pairs(file))
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror or error}.") from error


def _check_magic(path: Path, start: bytes) -> None:
    if start.startswith(MAGIC):
        return
    if start.startswith(b"version https://git-lfs"):
        raise EngineError(
            f"{path} is a Git LFS pointer, not the model itself.", hint="Fetch the real file with: git lfs pull"
        )
    what = f"it begins with {start[:4]!r}" if start else "it is empty"
    raise EngineError(
        f"{path} is not a GGUF file: {what}, and a GGUF file with {MAGIC!r}.",
        hint="llama.cpp loads GGUF files only; models in other formats have to be converted first.",
    )


def _pairs(file: BinaryIO) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    try:
        version, _tensors, count = struct.unpack("<IQQ", file.read(20))
        if version not in (2, 3):
            return {}
        for _ in range(count):
            key = _text(file)
            if key.startswith("tokenizer."):
                break
            pairs[key] = _value(file, _number(file, 4))
    except (struct.error, ValueError):
        pass  # cut off or unknown: what was read so far is still true
    return pairs


def _header(pairs: dict[str, Any]) -> Header:
    kind = pairs.get("general.architecture")
    name, context = pairs.get("general.name"), pairs.get(f"{kind}.context_length")
    return Header(
        name=name if isinstance(name, str) else None,
        context=context if isinstance(context, int) else None,
        cache_bytes_per_token=_cache_bytes(pairs, f"{kind}."),
    )


def _cache_bytes(pairs: dict[str, Any], prefix: str) -> int | None:
    layers, heads = pairs.get(prefix + "block_count"), pairs.get(prefix + "attention.head_count")
    width = pairs.get(prefix + "embedding_length")
    shared = pairs.get(prefix + "attention.head_count_kv", heads)
    if isinstance(heads, list):  # one count per layer
        heads = max(heads, default=0)
    if not (isinstance(layers, int) and isinstance(heads, int) and isinstance(width, int) and heads):
        return None
    key = pairs.get(prefix + "attention.key_length", width // heads)
    value = pairs.get(prefix + "attention.value_length", width // heads)
    if not (isinstance(key, int) and isinstance(value, int)):
        return None
    if isinstance(shared, list):
        return sum(shared) * (key + value) * CACHE_BYTES
    return layers * shared * (key + value) * CACHE_BYTES if isinstance(shared, int) else None


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _TEXT:
        return _text(file)
    if kind == _LIST:
        kind, count = _number(file, 4), _length(file)
        return [_value(file, kind) for _ in range(count)]
    return _number(file, kind)


def _number(file: BinaryIO, kind: int) -> Any:
    if kind not in _NUMBERS:
        raise ValueError(f"unknown value type {kind}")
    form = _NUMBERS[kind]
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]


def _text(file: BinaryIO) -> str:
    return file.read(_length(file)).decode("utf-8", "replace")


def _length(file: BinaryIO) -> int:
    length: int = _number(file, 10)
    if length > SANE_LENGTH:
        raise ValueError(f"a length of {length}")
    return length
