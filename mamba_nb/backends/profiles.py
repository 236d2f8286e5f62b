"""What is known about a model before it is asked: context, tools, vision, and how far each fact can be trusted.

In goes a model's name, out comes a `ModelProfile` with plain attribute values; None means unknown, so
`if not profile.supports_tools` does the safe thing. `profile.fact("supports_tools")` adds where the value is from:

    verified    a probe on this server showed it
    declared    the server's own API says so
    claimed     the table below, or whoever registered the profile, says so
    unknown     nobody says; the value is None

`with_facts` lays better facts over worse ones and never the other way round.

Matching: the exact name first, in any case, then the longest row whose family the name belongs to.

    hosted names     row + a date, a version, `-latest` or `-preview`       gpt-4o-mini-2024-07-18 -> gpt-4o-mini
    tagged names     row + `:` + any tag                                   llama3.2:3b -> llama3.2
    a tag's builds   row with a tag + `-instruct`, a quantisation, ...     llama3.2:70b-instruct-q4_K_M -> llama3.2:70b

Any other ending is another model (`gpt-4o-audio-preview`, `llama3.2-vision:11b`), and another model is unknown. A
prefix is dropped only where it is the row's own provider (`openai/gpt-4o`, `ollama:llama3.2`):
`meta-llama/Llama-3.2-3B-Instruct` is not Ollama's `llama3.2` and stays unknown.

Counts are tokens. Nothing here opens a socket.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from mamba_nb.errors import BadInput, closest
from mamba_nb.servers.facts import RANK as _RANK
from mamba_nb.servers.facts import Fact, Source

__all__ = [
    "FACT_FIELDS",
    "Fact",
    "ModelProfile",
    "Source",
    "get_profile",
    "get_profiles_by_provider",
    "list_profiles",
    "register_profile",
]

_UNKNOWN = Fact(None, "unknown")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ModelProfile:
    """What is known about one model; None is unknown.

    Attributes:
        name: The row of the table that matched, or None where none did. For a new profile: its name.
        requested: The name that was asked for; `name` where nothing was asked.
        provider: Whose name this is: `openai`, `anthropic`, or `ollama` for a name from Ollama's library.
        family: The architecture's or series' name, such as `gpt-4o`, `claude-3` or `llama`.
        context_window: Tokens that prompt and answer can have together, at most; a server may allow less.
        max_output_tokens: Tokens of the longest answer.
        supports_tools: Whether it calls tools.
        supports_vision: Whether it reads images.
        supports_json_schema: Whether an answer can be held to a JSON schema.
        supports_reasoning: Whether it reasons in a field or between tags of its own before it answers.
        facts: The facts behind the values; use `fact(name)`. A value without one counts as claimed.
    """

    name: str | None
    requested: str | None = None
    provider: str | None = None
    family: str | None = None
    context_window: int | None = None
    max_output_tokens: int | None = None
    supports_tools: bool | None = None
    supports_vision: bool | None = None
    supports_json_schema: bool | None = None
    supports_reasoning: bool | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.requested is None:
            object.__setattr__(self, "requested", self.name)
        for name in FACT_FIELDS:
            _check(name, getattr(self, name))
        # A value changed by `dataclasses.replace` must not keep the old value's evidence.
        kept = {name: fact for name, fact in self.facts.items() if fact.rank and fact.value == getattr(self, name)}
        object.__setattr__(self, "facts", kept)

    def fact(self, name: str) -> Fact:
        """A field's value with its source, evidence and date.

        Raises:
            BadInput: If no such fact exists.
        """
        _known(name)
        value = getattr(self, name)
        return _UNKNOWN if value is None else self.facts.get(name) or Fact(value, "claimed")

    def with_facts(self, facts: Mapping[str, Fact] | ModelProfile) -> ModelProfile:
        """The profile with other facts laid over its own, field by field; the better source wins, then the newcomer.

        Args:
            facts: Field name -> `Fact`, or another profile. A fact without a value changes nothing: a probe that
                failed is no "no".

        Raises:
            BadInput: If a field does not exist, or a value is of the wrong type.
        """
        if isinstance(facts, ModelProfile):
            facts = {name: facts.fact(name) for name in FACT_FIELDS}
        for name in facts:
            _known(name)
        better = {name: fact for name, fact in facts.items() if fact.rank and fact.rank >= self.fact(name).rank}
        values = {name: fact.value for name, fact in better.items()}
        return replace(self, **values, facts={**self.facts, **better})

    def with_values(
        self, source: Source, /, *, evidence: str | None = None, as_of: str | None = None, **values: Any
    ) -> ModelProfile:
        """`with_facts` for several values from one source.

        Examples:
            >>> profile = get_profile("llama3.2").with_values("declared", evidence="GET /props", context_window=4096)
            >>> profile.context_window, profile.fact("context_window").source
            (4096, 'declared')
        """
        return self.with_facts({name: Fact(value, source, evidence, as_of) for name, value in values.items()})

    def __repr__(self) -> str:
        name = self.requested if self.name in (None, self.requested) else f"{self.requested} ({self.name})"
        parts = [name, *(text for label, text in self._known_values() if label != "family")]
        sources = {self.fact(field).source for field in FACT_FIELDS} - {"unknown"}
        parts.append("+".join(sorted(sources, key=lambda source: -_RANK[source])) or "unknown")
        return f"<ModelProfile {' · '.join(str(part) for part in parts)}>"

    def _known_values(self) -> list[tuple[str, str]]:
        """Field and short text of each known value, in the order of the fields."""
        texts = []
        for name in FACT_FIELDS:
            value, label = getattr(self, name), _LABELS.get(name, "")
            if value is not None:
                shown = _YES_NO[value] if isinstance(value, bool) else f"{value:,}" if isinstance(value, int) else value
                texts.append((name, f"{label} {shown}".strip()))
        return texts

    def __str__(self) -> str:
        """A plain table: field, value, source, evidence."""
        rows = [("field", "value", "source", "evidence")]
        for name in FACT_FIELDS:
            fact = self.fact(name)
            value = f"{fact.value:,}" if type(fact.value) is int else str(fact.value)
            about = fact.evidence or ""
            rows.append((name, value, fact.source, f"{about}, {fact.as_of}".strip(", ") if fact.as_of else about))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()
            for row in rows
        ]
        head = self.requested if self.name == self.requested else f"{self.requested} (row: {self.name or 'none'})"
        return "\n".join([str(head), *lines])


FACT_FIELDS: tuple[str, ...] = tuple(
    each.name for each in fields(ModelProfile) if each.name not in ("name", "requested", "facts")
)
"""The fields of a `ModelProfile` that have a fact, in order."""

_YES_NO = {True: "yes", False: "no"}
_LABELS = {
    "context_window": "context",
    "max_output_tokens": "max output",
    "supports_tools": "tools",
    "supports_vision": "vision",
    "supports_json_schema": "JSON schema",
    "supports_reasoning": "reasoning",
}

_TABLE_DATE = "2026-11-22"

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
_RELEASES: dict[str, dict[str, Any]] = {
    "gpt-4o-2024-05-13": {"max_output_tokens": 4_096, "supports_json_schema": False},
    "gpt-4-turbo-preview": {"supports_vision": False},
    "gpt-3.5-turbo-0613": {"context_window": 4_096},
    "gpt-3.5-turbo-0301": {"context_window": 4_096, "supports_tools": False},
}

# Sellers of fixed models: a tag on their names (`gpt-4o:extended`) is another offer, not a build of the same one.
_HOSTED = ("openai", "anthropic")
_PREFIXES = {"openai": "openai", "anthropic": "anthropic", "ollama": "ollama", "library": "ollama"}

_RELEASE = re.compile(r"[-@](\d{4}-\d\d-\d\d|\d{8}|\d{4}|v\d+|latest|preview)")
_BUILD = re.compile(r"(-(instruct|chat|it))?(-(i?q\d\w*|bf16|fp?16|f32|fp8|int[48]|mxfp4|nvfp4|qat|gguf|mlx))*")


def _built_in() -> dict[str, ModelProfile]:
    rows = {}
    for name, provider, family, context, output, tools, vision, schema in _TABLE:
        rows[name] = ModelProfile(name=name).with_values(
            "claimed",
            evidence="built-in table",
            as_of=_TABLE_DATE,
            provider=provider,
            family=family,
            context_window=context,
            max_output_tokens=output,
            supports_tools=tools,
            supports_vision=vision,
            supports_json_schema=schema,
            supports_reasoning=False,  # no model of the table writes its reasoning apart from its answer
        )
    return rows


def get_profile(name: str) -> ModelProfile:
    """What is claimed about a model.

    Args:
        name: The model's name as a server or a seller writes it; upper and lower case are one.

    Returns:
        The profile of the row that matched, with `.requested` as given. Without a match every fact is None and
        of source `unknown`, and `.name` is None.

    Raises:
        BadInput: If the name is not text or is empty.

    Examples:
        >>> get_profile("gpt-4o").context_window
        128000
        >>> get_profile("llama3.2-vision:11b").supports_vision is None
        True
    """
    if not isinstance(name, str) or not name.strip():
        raise BadInput(f"A model's name must be text that is not empty. What came: {name!r}.")
    requested = name.strip()
    row = _match(requested.lower())
    if row is None:
        return ModelProfile(name=None, requested=requested)
    profile = replace(row, requested=requested)
    release = _RELEASES.get(_bare(requested.lower(), row))
    if release and _BUILT_IN.get(str(row.name)) is row:
        evidence = "built-in table, this release"
        return profile.with_values("claimed", evidence=evidence, as_of=_TABLE_DATE, **release)
    return profile


def list_profiles() -> list[str]:
    """The names of all rows: the built-in ones, then the registered ones."""
    return [str(row.name) for row in _rows.values()]


def get_profiles_by_provider(provider: str) -> list[ModelProfile]:
    """All rows of one provider, in the order of `list_profiles()`; empty where there is none.

    Args:
        provider: `openai`, `anthropic`, `ollama` (names from Ollama's library) or a registered one, in any case.

    Raises:
        BadInput: If it is not text.
    """
    if not isinstance(provider, str):
        raise BadInput(f"A provider must be text. What came: {provider!r}.")
    wanted = provider.strip().lower()
    return [row for row in _rows.values() if row.provider is not None and row.provider.lower() == wanted]


def register_profile(profile: ModelProfile | str, /, **values: Any) -> ModelProfile:
    """Add a row, or replace the row of that name, for this process. Safe from any thread.

    Args:
        profile: A profile with a name, or a name.
        **values: Fields to set, as in `register_profile("my-model", context_window=32_768, supports_tools=True)`.

    Returns:
        The row as registered. A value without a fact is claimed, on the word of whoever registered it.

    Raises:
        BadInput: If the name is empty, a field does not exist, or a value is of the wrong type.

    Examples:
        >>> row = register_profile("my-model", provider="mine", context_window=32_768)
        >>> get_profile("my-model:latest").context_window
        32768
    """
    global _rows
    if isinstance(profile, str):
        profile = ModelProfile(name=profile.strip())
    if not isinstance(profile, ModelProfile) or not profile.name or not profile.name.strip():
        raise BadInput(f"register_profile needs a name or a ModelProfile that has one. What came: {profile!r}.")
    for name in values:
        _known(name)
    row = replace(profile, **values, requested=profile.name)
    own = {
        name: Fact(value, "claimed", "register_profile")
        for name in FACT_FIELDS
        if (value := getattr(row, name)) is not None
    }
    row = replace(row, facts={**own, **row.facts})
    with _lock:
        _rows = {**_rows, profile.name.lower(): row}  # a new dict: readers hold the old one and need no lock
    return row


def _match(name: str) -> ModelProfile | None:
    rows = _rows
    if name in rows:
        return rows[name]
    near = [(key, row) for key, row in rows.items() if _belongs(_bare(name, row), key, row)]
    return max(near, key=lambda pair: len(pair[0]))[1] if near else None


def _bare(name: str, row: ModelProfile) -> str:
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
    if row.provider in _HOSTED:
        return False
    if ":" in key:
        return bool(_BUILD.fullmatch(ending))
    return bool(re.fullmatch(r":[^:/\s]+", ending))


def _known(name: str) -> None:
    if name not in FACT_FIELDS:
        near = closest(str(name), FACT_FIELDS)
        raise BadInput(
            f"A profile has no fact {name!r}." + (f" Did you mean {near!r}?" if near else ""),
            hint=f"Its facts are {', '.join(FACT_FIELDS)}.",
        )


def _check(name: str, value: Any) -> None:
    if value is None:
        return
    if name.startswith("supports_"):
        right, rule = isinstance(value, bool), "True, False or None"
    elif name in ("provider", "family"):
        right, rule = isinstance(value, str) and bool(value.strip()), "text or None"
    else:
        right = isinstance(value, int) and not isinstance(value, bool) and value > 0
        rule = "a whole number of tokens greater than 0, or None"
    if not right:
        raise BadInput(f"{name} must be {rule}. What came: {value!r}.")


_BUILT_IN = _built_in()
_rows: dict[str, ModelProfile] = dict(_BUILT_IN)
_lock = threading.Lock()
