"""Facts and where they are from: what a server declares of its models, as values that can be weighed.

verified    a probe on this server showed it
declared    the server's own API says so
claimed     a table or a catalogue says so, for the model's name
unknown     nobody says; the value is None
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from mamba_nb.errors import BadInput

__all__ = ["RANK", "Fact", "ServedModel", "Source", "now"]

Source: TypeAlias = Literal["unknown", "claimed", "declared", "verified"]
RANK: dict[str, int] = {"unknown": 0, "claimed": 1, "declared": 2, "verified": 3}


@dataclass(frozen=True, slots=True)
class Fact:
    """One value and why to believe it.

    Attributes:
        value: The value, or None where it is unknown.
        source: `verified`, `declared`, `claimed` or `unknown`.
        evidence: What said so, in words (an endpoint, a probe's finding, a table), or None.
        as_of: When it said so, as an ISO 8601 date or time, or None.
    """

    value: Any
    source: Source
    evidence: str | None = None
    as_of: str | None = None

    def __post_init__(self) -> None:
        if self.source not in RANK:
            raise BadInput(f"A fact's source must be one of {', '.join(RANK)}. What came: {self.source!r}.")

    @property
    def rank(self) -> int:
        """How good the source is: 0 unknown, 1 claimed, 2 declared, 3 verified; a missing value is always 0."""
        return 0 if self.value is None else RANK[self.source]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """One model on one server, as the server declares it; None is "it does not say".

    Attributes:
        id: Its name on the wire.
        state: `loaded`, `loading`, `unloaded`, `sleeping`, `downloading`, `failed`, or None.
        task: `chat`, `embedding` or `other`.
        context_window: Tokens that prompt and answer can have together in one request, as it is loaded now.
        context_max: Tokens that the model was made for.
        max_output_tokens: Tokens of the longest answer that the server allows.
        size_bytes: Size of the weights on disk.
        memory_bytes: What it takes in memory now, the cache for its context included.
        parameters: How many weights it has.
        quantization: As the server writes it, such as `Q4_K_M`.
        family: The architecture's name, such as `llama`.
        digest: What tells this file from another of the same name.
        supports_tools: Whether it is declared to call tools.
        supports_vision: Whether it is declared to read images.
        supports_reasoning: Whether it is declared to reason before it answers.
        supports_embeddings: Whether it is declared to embed.
        runs_locally: False where the server passes the request on to another machine (Ollama's cloud models).
        evidence: Field -> the endpoint that says so, such as `GET /api/ps`.
        extras: What else is worth keeping, by the server's own names (`num_ctx` of a Modelfile, an instance's id).
    """

    id: str
    state: str | None = None
    task: Literal["chat", "embedding", "other"] | None = None
    context_window: int | None = None
    context_max: int | None = None
    max_output_tokens: int | None = None
    size_bytes: int | None = None
    memory_bytes: int | None = None
    parameters: int | None = None
    quantization: str | None = None
    family: str | None = None
    digest: str | None = None
    supports_tools: bool | None = None
    supports_vision: bool | None = None
    supports_reasoning: bool | None = None
    supports_embeddings: bool | None = None
    runs_locally: bool | None = None
    evidence: Mapping[str, str] = field(default_factory=dict)
    extras: Mapping[str, Any] = field(default_factory=dict)

    @property
    def loaded(self) -> bool | None:
        """Whether it is in memory; None where the server does not say."""
        return None if self.state is None else self.state == "loaded"

    def facts(self) -> dict[str, Fact]:
        """What is declared here as facts, by the field names of a `ModelProfile`; what is None is left out."""
        moment = now()
        return {
            name: Fact(value, "declared", self.evidence.get(name), moment)
            for name in FACTS
            if (value := getattr(self, name)) is not None
        }


FACTS = (
    "context_window",
    "context_max",
    "max_output_tokens",
    "size_bytes",
    "memory_bytes",
    "parameters",
    "quantization",
    "family",
    "digest",
    "supports_tools",
    "supports_vision",
    "supports_reasoning",
    "supports_embeddings",
    "runs_locally",
)
"""The fields of a `ServedModel` that are facts of a profile too."""


def now() -> str:
    """This moment as ISO 8601, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
