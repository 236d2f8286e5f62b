"""The built-in rows, and which row a name belongs to.

In goes a name in lower case, out comes its row. The rules are strict: what is not surely the same model is another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mamba_nb.backends.profiles_record import ModelProfile

__all__ = ["DATE", "EVIDENCE", "HOSTED", "RELEASES", "bare", "built_in", "match"]

EVIDENCE = "built-in table"
DATE = "2026-11-22"

HOSTED = ("openai", "anthropic")
"""Sellers of fixed models: a tag on their names (`gpt-4o:extended`) is another offer, not a build of the same one."""

# name                provider     family     context  output  tools  vision schema  The makers' published figures.
_TABLE: tuple[tuple[Any, ...], ...] = (
    ("gpt-4o", "openai", "gpt-4o", 128_000, 16_384, True, True, True),
    ("gpt-4o-mini", "openai", "gpt-4o", 128_000, 16_384, True, True, True),
    ("gpt-4-turbo", "openai", "gpt-4", 128_000, 4_096, True, True, False),
    ("gpt-3.5-turbo", "openai", "gpt-3.5", 16_385, 4_096, True, False, False),
    ("claude-3-5-sonnet", "anthropic", "claude-3", 200_000, 8_192, True, True, None),
    ("claude-3-opus", "anthropic", "claude-3", 200_000, 4_096, True, True, None),
    ("llama3.2", "ollama", "llama", 8_192, None, False, False, None),
    ("llama3.2:70b", "ollama", "llama", 131_072, None, True, False, None),
)

# Dated releases that are known to differ from the row they belong to.
RELEASES: Mapping[str, Mapping[str, Any]] = {
    "gpt-4o-2024-05-13": {"max_output_tokens": 4_096, "supports_json_schema": False},
    "gpt-4-turbo-preview": {"supports_vision": False},
    "gpt-3.5-turbo-0613": {"context_window": 4_096},
    "gpt-3.5-turbo-0301": {"context_window": 4_096, "supports_tools": False},
}

_PREFIXES = {"openai": "openai", "anthropic": "anthropic", "ollama": "ollama", "library": "ollama"}
_RELEASE = re.compile(r"[-@](\d{4}-\d\d-\d\d|\d{8}|\d{4}|v\d+|latest|preview)")
_BUILD = re.compile(r"(-(instruct|chat|it))?(-(i?q\d\w*|bf16|fp?16|f32|fp8|int[48]|mxfp4|nvfp4|qat|gguf|mlx))*")


def built_in() -> dict[str, ModelProfile]:
    """The rows by name, each value claimed on the table's word."""
    rows = {}
    for name, provider, family, context, output, tools, vision, schema in _TABLE:
        rows[name] = ModelProfile(name=name).with_values(
            "claimed",
            evidence=EVIDENCE,
            as_of=DATE,
            provider=provider,
            family=family,
            context_window=context,
            max_output_tokens=output,
            supports_tools=tools,
            supports_vision=vision,
            supports_json_schema=schema,
            supports_reasoning=False,  # no model of the table writes its reasoning apart from its answer
            runs_locally=False if provider in HOSTED else None,  # their weights are not to be had
        )
    return rows


def match(name: str, rows: Mapping[str, ModelProfile]) -> ModelProfile | None:
    """The row that a name, in lower case, belongs to: its own, else the longest one that fits, else None."""
    if name in rows:
        return rows[name]
    near = [(key, row) for key, row in rows.items() if _belongs(bare(name, row), key, row)]
    return max(near, key=lambda pair: len(pair[0]))[1] if near else None


def bare(name: str, row: ModelProfile) -> str:
    """The name without a prefix that is the row's own provider."""
    if found := re.match(r"([a-z]+)[:/](.+)", name):
        prefix, rest = found.groups()
        if _PREFIXES.get(prefix) == row.provider is not None:
            return str(rest)
    return name


def _belongs(name: str, key: str, row: ModelProfile) -> bool:
    if not name.startswith(key):
        return False
    ending = name[len(key) :]
    if not ending or _RELEASE.fullmatch(ending):
        return True
    if row.provider in HOSTED:
        return False
    if ":" in key:
        return bool(_BUILD.fullmatch(ending))
    return bool(re.fullmatch(r":[^:/\s]+", ending))
