"""Embeddings: how long the vectors are, and whether related texts lie nearer than unrelated ones."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mamba_nb.errors import EndpointNotFound, NotHere
from mamba_nb.probes.asking import Asker
from mamba_nb.probes.capability import Capability
from mamba_nb.probes.findings import Finding
from mamba_nb.probes.judging import nothing_to_judge, quoted, refused
from mamba_nb.probes.replies import Reply

__all__ = ["CAPABILITIES", "TEXTS", "cosine", "judge_embeddings"]

TEXTS = (
    "The cat sleeps on the warm sofa.",
    "A kitten is napping on the couch.",
    "The central bank raised interest rates by half a percent.",
)
NO_EMBEDDINGS = re.compile(
    r"not support.{0,40}embed|embed.{0,40}not (support|enabled|available)|--embeddings|not an embedding model"
    r"|pooling type",
    re.IGNORECASE | re.DOTALL,
)


async def _embeddings(asker: Asker, _found: Mapping[str, Finding]) -> Finding:
    return judge_embeddings(await asker.post("/embeddings", {"input": list(TEXTS), "encoding_format": "float"}))


def judge_embeddings(reply: Reply) -> Finding:
    """Whether the reply holds one vector a text, and what they are worth."""
    if refused(reply, NO_EMBEDDINGS):
        return Finding("no", f"The server refused to embed: {quoted(reply.says)}.", fact=False)
    if isinstance(reply.error, EndpointNotFound | NotHere):
        return Finding(
            "no", f"The server has no endpoint for embeddings of this model: {quoted(reply.says)}.", fact=False
        )
    if (nothing := nothing_to_judge(reply)) is not None:
        return nothing
    vectors = _vectors(reply.body)
    if vectors is None:
        return Finding("unknown", f"The answer held no vectors of one length: {quoted(reply.shown(), 80)}.")
    length, related, other = len(vectors[0]), cosine(vectors[0], vectors[1]), cosine(vectors[0], vectors[2])
    if related is None or other is None:
        return Finding("partly", f"Vectors of {length:,} numbers came, all zero.", value=length)
    near = f"cosine {related:.2f} for related texts, {other:.2f} for unrelated ones"
    if related <= other:
        return Finding(
            "partly", f"Vectors of {length:,} numbers came, and meaning is not in them: {near}.", length, True
        )
    return Finding("yes", f"Vectors of {length:,} numbers; {near}.", value=length, fact=True)


def _vectors(body: Any) -> list[list[float]] | None:
    entries = body.get("data") if isinstance(body, Mapping) else None
    if not isinstance(entries, list) or len(entries) != len(TEXTS):
        return None
    vectors = [entry.get("embedding") if isinstance(entry, Mapping) else None for entry in entries]
    found: list[list[float]] = []
    for vector in vectors:
        if not isinstance(vector, list) or not vector or not all(isinstance(x, int | float) for x in vector):
            return None
        found.append([float(x) for x in vector])
    return found if len({len(vector) for vector in found}) == 1 else None


def cosine(a: Sequence[float], b: Sequence[float]) -> float | None:
    """The cosine of the angle between two vectors; None where one of them is zero.

    Examples:
        >>> cosine([1, 0], [1, 0]), cosine([1, 0], [0, 2]), cosine([0, 0], [1, 1]) is None
        (1.0, 0.0, True)
    """
    lengths = math.hypot(*a) * math.hypot(*b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else None


CAPABILITIES = (
    Capability(
        name="embeddings",
        title="embeddings",
        group="embeddings",
        ask=_embeddings,
        requests=1,
        tokens=40,
        field="supports_embeddings",
    ),
)
