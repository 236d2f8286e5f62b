"""JSON answers: an object of any shape, and one that a schema prescribes.

The schema's keys are in no prompt: a model that gives them was held to the schema. Only answers that came to their
end are judged; one that was cut is asked for again with more tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json

from mamba_nb.probes.asking import Asker
from mamba_nb.probes.capability import Capability
from mamba_nb.probes.findings import Finding
from mamba_nb.probes.judging import nothing_to_judge, quoted, refused
from mamba_nb.probes.replies import Reply

__all__ = ["CAPABILITIES", "SCHEMA", "fits_schema", "judge_object", "judge_schema"]

COLOURS = ["red", "green", "blue"]
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": COLOURS}, "amount": {"type": "integer"}},
    "required": ["colour", "amount"],
    "additionalProperties": False,
}
SCHEMA_PROMPTS = ("Tell me about a box of pencils.", "What is in a toolbox?")
OBJECT_PROMPTS = (
    "Describe a cat as a JSON object.",
    'Answer in JSON with the keys "name" and "age": who is Tom, aged 7?',
)
FEWEST_TOKENS, MORE_TOKENS = 128, 384
NO_JSON = re.compile(r"response_format|json_object|json_schema|structured output|guided", re.IGNORECASE)
FENCE = re.compile(r"^```(?:json)?\s*(.*?)\s*```$", re.DOTALL)


async def _object(asker: Asker, _found: Mapping[str, Finding]) -> Finding:
    wanted = {"type": "json_object"}
    replies: list[Reply] = []
    for prompt, tokens in zip(OBJECT_PROMPTS, (FEWEST_TOKENS, MORE_TOKENS), strict=True):
        replies.append(await asker.chat(prompt, max_tokens=tokens, response_format=wanted))
        finding = judge_object(replies)
        if finding.verdict == "yes" or replies[-1].error is not None:
            break
    return finding


async def _schema(asker: Asker, _found: Mapping[str, Finding]) -> Finding:
    wanted = {"type": "json_schema", "json_schema": {"name": "contents", "strict": True, "schema": SCHEMA}}
    replies: list[Reply] = []
    for prompt in SCHEMA_PROMPTS:
        replies.append(await asker.chat(prompt, max_tokens=FEWEST_TOKENS, response_format=wanted))
        if replies[-1].error is not None:
            return judge_schema(replies)
    for prompt in SCHEMA_PROMPTS:
        if judge_schema(replies).verdict != "unknown" or replies[-1].error is not None:
            break
        replies.append(await asker.chat(prompt, max_tokens=MORE_TOKENS, response_format=wanted))
    return judge_schema(replies)


def judge_object(replies: Sequence[Reply]) -> Finding:
    """Whether the last answer that came to its end is a JSON object and nothing else."""
    if (refusal := _refusal(replies, "json_object")) is not None:
        return refusal
    if (nothing := _nothing(replies)) is not None:
        return nothing
    ended = [reply for reply in replies if not reply.cut]
    if not ended:
        return Finding("unknown", "Every answer was cut before its end.")
    text = ended[-1].text.strip()
    if isinstance(_json(text), dict):
        return Finding("yes", "The answer is a JSON object and nothing else.", fact=True)
    if (match := FENCE.match(text)) and isinstance(_json(match[1]), dict):
        return Finding(
            "partly", "The answer is a JSON object in a code fence: the server does not enforce it.", fact=False
        )
    return Finding(
        "no", f"The server took `response_format`, and the answer is no JSON: {quoted(text, 60)}.", fact=False
    )


def judge_schema(replies: Sequence[Reply]) -> Finding:
    """Whether the answers that came to their end fit the schema."""
    if (refusal := _refusal(replies, "json_schema")) is not None:
        return refusal
    if (nothing := _nothing(replies)) is not None:
        return nothing
    ended = [reply.text.strip() for reply in replies if not reply.cut]
    if not ended:
        return Finding("unknown", "Every answer was cut before its end, so that none could be held against the schema.")
    fit = [text for text in ended if fits_schema(_json(text))]
    if len(fit) == len(ended):
        return Finding("yes", f"{len(fit)} of {len(ended)} answers fit a schema that no prompt mentions.", fact=True)
    wrong = next(text for text in ended if text not in fit)
    if fit:
        return Finding(
            "partly", f"{len(fit)} of {len(ended)} answers fit the schema; not {quoted(wrong, 60)}.", fact=False
        )
    return Finding("no", f"The server took the schema and did not hold to it: {quoted(wrong, 60)}.", fact=False)


def fits_schema(value: Any) -> bool:
    """Whether a value fits `SCHEMA`.

    Examples:
        >>> fits_schema({"colour": "red", "amount": 2}), fits_schema({"colour": "red", "amount": True})
        (True, False)
    """
    if not isinstance(value, dict) or set(value) != {"colour", "amount"}:
        return False
    amount = value["amount"]
    whole = isinstance(amount, int) and not isinstance(amount, bool)
    return value["colour"] in COLOURS and (whole or (isinstance(amount, float) and amount.is_integer()))


def _refusal(replies: Sequence[Reply], kind: str) -> Finding | None:
    for reply in replies:
        if refused(reply, NO_JSON):
            return Finding("no", f"The server refused `{kind}`: {quoted(reply.says)}.", fact=False)
    return None


def _nothing(replies: Sequence[Reply]) -> Finding | None:
    return next((nothing for reply in replies if (nothing := nothing_to_judge(reply)) is not None), None)


def _json(text: str) -> Any:
    try:
        return from_json(text)
    except ValueError:
        return None


CAPABILITIES = (
    Capability(
        name="json_object",
        title="JSON object",
        group="json",
        ask=_object,
        requests=2,
        tokens=250,
        field="supports_json_object",
        param="response_format",
    ),
    Capability(
        name="json_schema",
        title="JSON schema",
        group="json",
        ask=_schema,
        requests=4,
        tokens=400,
        field="supports_json_schema",
        param="response_format",
    ),
)
