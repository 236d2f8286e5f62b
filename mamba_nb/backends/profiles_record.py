"""One model's profile: plain values, and behind each the facts that every source gave.

In go facts with their sources, out comes a `ModelProfile` whose attributes are the best-founded values. Nothing
that was said is lost: `said(field)` has the worse sources too, and `disagreements` those that contradict the best.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mamba_nb._text import printable
from mamba_nb.errors import BadInput, closest
from mamba_nb.servers.facts import RANK, Fact, Source

__all__ = ["ABOUT", "FACT_FIELDS", "About", "ModelProfile", "check_field"]

_UNKNOWN = Fact(None, "unknown")


@dataclass(frozen=True, slots=True)
class About:
    """What one field of a profile is like.

    Attributes:
        label: Its short name for people.
        kind: `flag` (True or False), `count` (a whole number above 0), `price` (a number from 0) or `text`.
        unit: What a count or a price is in, or None.
    """

    label: str
    kind: Literal["flag", "count", "price", "text"]
    unit: str | None = None


ABOUT: Mapping[str, About] = {
    "provider": About("provider", "text"),
    "family": About("family", "text"),
    "parameters": About("parameters", "count", "weights"),
    "quantization": About("quantization", "text"),
    "context_window": About("context", "count", "tokens"),
    "context_max": About("max context", "count", "tokens"),
    "max_output_tokens": About("max output", "count", "tokens"),
    "supports_tools": About("tools", "flag"),
    "supports_parallel_tools": About("parallel tools", "flag"),
    "supports_vision": About("vision", "flag"),
    "supports_json_object": About("JSON object", "flag"),
    "supports_json_schema": About("JSON schema", "flag"),
    "supports_reasoning": About("reasoning", "flag"),
    "supports_embeddings": About("embeddings", "flag"),
    "size_bytes": About("size", "count", "bytes"),
    "memory_bytes": About("memory", "count", "bytes"),
    "digest": About("digest", "text"),
    "runs_locally": About("local", "flag"),
    "input_price_usd": About("price in", "price", "USD per million tokens"),
    "output_price_usd": About("price out", "price", "USD per million tokens"),
}
"""What each field with a fact is like, in the order of the profile."""

FACT_FIELDS: tuple[str, ...] = tuple(ABOUT)
"""The fields of a `ModelProfile` that have a fact, in order."""

_YES_NO = {True: "yes", False: "no"}
_IN_REPR = (
    "provider",
    "context_window",
    "max_output_tokens",
    "supports_tools",
    "supports_vision",
    "supports_json_schema",
    "supports_reasoning",
)
# A price is a seller's, not the model's: two sellers do not contradict each other.
_NEVER_DISAGREE = ("input_price_usd", "output_price_usd")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ModelProfile:
    """What is known about one model; None is unknown.

    Attributes:
        name: The row of the table or of the catalogue that matched, or None where none did. For a new profile: its
            name.
        requested: The name that was asked for; `name` where nothing was asked.
        provider: Whose name this is: `openai`, `anthropic` or another seller, `ollama` for a name from Ollama's
            library, `huggingface` for a repository there.
        family: The architecture's or series' name, such as `gpt-4o`, `claude-3` or `llama`.
        parameters: How many weights it has.
        quantization: As the server writes it, such as `Q4_K_M`.
        context_window: Tokens that prompt and answer can have together: on a live server what is in force there,
            without one what its seller allows.
        context_max: Tokens that the model was made for; a server may have loaded it with fewer.
        max_output_tokens: Tokens of the longest answer.
        supports_tools: Whether it calls tools.
        supports_parallel_tools: Whether it calls several in one answer.
        supports_vision: Whether it reads images.
        supports_json_object: Whether an answer can be held to be JSON.
        supports_json_schema: Whether an answer can be held to a JSON schema.
        supports_reasoning: Whether it reasons in a field or between tags of its own before it answers.
        supports_embeddings: Whether it embeds texts.
        size_bytes: Bytes of its weights on disk.
        memory_bytes: Bytes that it takes in memory now, the cache for its context included.
        digest: What tells this file of weights from another of the same name.
        runs_locally: Whether it is computed on this machine or its private network.
        input_price_usd: US dollars for a million tokens of prompt; 0.0 where it runs locally.
        output_price_usd: US dollars for a million tokens of answer; 0.0 where it runs locally.
        facts: The facts behind the values; use `fact(name)`. A value without one counts as claimed.
        also: What worse sources said, best first; use `said(name)`.
    """

    name: str | None
    requested: str | None = None
    provider: str | None = None
    family: str | None = None
    parameters: int | None = None
    quantization: str | None = None
    context_window: int | None = None
    context_max: int | None = None
    max_output_tokens: int | None = None
    supports_tools: bool | None = None
    supports_parallel_tools: bool | None = None
    supports_vision: bool | None = None
    supports_json_object: bool | None = None
    supports_json_schema: bool | None = None
    supports_reasoning: bool | None = None
    supports_embeddings: bool | None = None
    size_bytes: int | None = None
    memory_bytes: int | None = None
    digest: str | None = None
    runs_locally: bool | None = None
    input_price_usd: float | None = None
    output_price_usd: float | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict, hash=False)
    also: Mapping[str, tuple[Fact, ...]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.requested is None:
            object.__setattr__(self, "requested", self.name)
        for name in FACT_FIELDS:
            _check(name, getattr(self, name))
        # A value changed by `dataclasses.replace` must not keep the old value's evidence.
        kept = {name: fact for name, fact in self.facts.items() if fact.rank and fact.value == getattr(self, name)}
        object.__setattr__(self, "facts", kept)
        also = {}
        for name, others in self.also.items():
            best = self.fact(name).rank
            if worse := tuple(fact for fact in others if 0 < fact.rank < best):
                also[name] = worse
        object.__setattr__(self, "also", also)

    def fact(self, name: str) -> Fact:
        """A field's value with its source, evidence and date.

        Raises:
            BadInput: If no such fact exists.
        """
        check_field(name)
        value = getattr(self, name)
        return _UNKNOWN if value is None else self.facts.get(name) or Fact(value, "claimed")

    def said(self, name: str) -> dict[Source, Fact]:
        """Everything that was said about a field, by source, the best first; empty where nobody said anything.

        Raises:
            BadInput: If no such fact exists.

        Examples:
            >>> profile = ModelProfile(name="m", context_window=128_000).with_values("declared", context_window=4096)
            >>> {source: fact.value for source, fact in profile.said("context_window").items()}
            {'declared': 4096, 'claimed': 128000}
        """
        facts = (self.fact(name), *self.also.get(name, ()))
        return {fact.source: fact for fact in facts if fact.rank}

    @property
    def known(self) -> tuple[str, ...]:
        """The fields that somebody says something of, in order."""
        return tuple(name for name in FACT_FIELDS if getattr(self, name) is not None)

    @property
    def disagreements(self) -> dict[str, tuple[Fact, ...]]:
        """The fields whose sources contradict each other, each with all that was said, the best first.

        Texts are compared without regard to case. Prices are not compared: they are their sellers'.
        """
        found = {}
        for name in self.also:
            said = tuple(self.said(name).values())
            if name not in _NEVER_DISAGREE and len({_comparable(fact.value) for fact in said}) > 1:
                found[name] = said
        return found

    def with_facts(self, facts: Mapping[str, Fact] | ModelProfile) -> ModelProfile:
        """The profile with other facts laid over its own, field by field; the better source wins, then the newcomer.

        A worse fact never takes a better one's place; it is kept beside it, for `said` and `disagreements`.

        Args:
            facts: Field name -> `Fact`, or another profile. A fact without a value changes nothing: a probe that
                failed is no "no".

        Raises:
            BadInput: If a field does not exist, or a value is of the wrong type.
        """
        if isinstance(facts, ModelProfile):
            new = {name: list(facts.said(name).values()) for name in FACT_FIELDS}
        else:
            new = {name: [fact] for name, fact in facts.items()}
        values, best, also = {}, dict(self.facts), dict(self.also)
        for name, said in new.items():
            check_field(name)
            for fact in said:
                _check(name, fact.value)
            if newcomers := {fact.source: fact for fact in said if fact.rank}:
                first, *others = sorted((self.said(name) | newcomers).values(), key=lambda fact: -fact.rank)
                values[name], best[name], also[name] = first.value, first, tuple(others)
        return replace(self, **values, facts=best, also=also)

    def with_values(
        self, source: Source, /, *, evidence: str | None = None, as_of: str | None = None, **values: Any
    ) -> ModelProfile:
        """`with_facts` for several values from one source.

        Examples:
            >>> profile = ModelProfile(name="m").with_values("declared", evidence="GET /props", context_window=4096)
            >>> profile.context_window, profile.fact("context_window").source
            (4096, 'declared')
        """
        return self.with_facts({name: Fact(value, source, evidence, as_of) for name, value in values.items()})

    def __repr__(self) -> str:
        name = self.requested if self.name in (None, self.requested) else f"{self.requested} ({self.name})"
        parts = [str(name), *(self._short(each) for each in _IN_REPR if getattr(self, each) is not None)]
        sources = {self.fact(each).source for each in FACT_FIELDS} - {"unknown"}
        parts.append("+".join(sorted(sources, key=lambda source: -RANK[source])) or "unknown")
        return printable(f"<ModelProfile {' · '.join(parts)}>")

    def _short(self, name: str) -> str:
        label = "" if name == "provider" else ABOUT[name].label
        value = getattr(self, name)
        return f"{label} {_YES_NO[value] if isinstance(value, bool) else _plain(value)}".strip()

    def __str__(self) -> str:
        """A plain table: field, value, source, evidence; what else was said stands behind the evidence."""
        rows = [("field", "value", "source", "evidence")]
        disagreements = self.disagreements
        for name in FACT_FIELDS:
            fact = self.fact(name)
            about = ", ".join(part for part in (fact.evidence, fact.as_of) if part)
            if name in disagreements:
                others = ", ".join(f"{other.source} {_plain(other.value)}" for other in disagreements[name][1:])
                about = f"{about}; but {others}" if about else f"but {others}"
            rows.append((name, _plain(fact.value), fact.source, about))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()
            for row in rows
        ]
        head = self.requested if self.name == self.requested else f"{self.requested} (row: {self.name or 'none'})"
        return "\n".join([str(head), *lines])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from mamba_nb.display import profiles

        return {"text/plain": repr(self), "text/html": profiles.of_profile(self)}


def check_field(name: str) -> None:
    """Refuse a name that is no field with a fact, with the closest one that is.

    Raises:
        BadInput: If it is none.
    """
    if name not in ABOUT:
        near = closest(str(name), FACT_FIELDS)
        raise BadInput(
            f"A profile has no fact {name!r}." + (f" Did you mean {near!r}?" if near else ""),
            hint=f"Its facts are {', '.join(FACT_FIELDS)}.",
        )


def _check(name: str, value: Any) -> None:
    if value is None:
        return
    about = ABOUT[name]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if about.kind == "flag":
        right, rule = isinstance(value, bool), "True, False or None"
    elif about.kind == "text":
        right, rule = isinstance(value, str) and bool(value.strip()), "text or None"
    elif about.kind == "price":
        right, rule = is_number and math.isfinite(value) and value >= 0, f"{about.unit}, 0 or more, or None"
    else:
        right = is_number and isinstance(value, int) and value > 0
        rule = f"a whole number of {about.unit} greater than 0, or None"
    if not right:
        raise BadInput(f"{name} must be {rule}. What came: {value!r}.")


def _comparable(value: Any) -> Any:
    return value.casefold().strip() if isinstance(value, str) else value


def _plain(value: Any) -> str:
    return f"{value:,}" if type(value) is int else str(value)
