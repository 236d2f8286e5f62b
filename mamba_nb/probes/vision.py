"""Vision: two pictures of one coloured shape each; naming both colours is no luck.

A server may also drop a picture without a word: then the prompt has as many tokens with it as without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mamba_nb.probes.asking import Asker
from mamba_nb.probes.capability import Capability
from mamba_nb.probes.findings import Finding
from mamba_nb.probes.judging import nothing_to_judge, quoted, refused
from mamba_nb.probes.picture import picture
from mamba_nb.probes.replies import Reply

__all__ = ["CAPABILITIES", "judge_vision"]

QUESTION = "What colour is the shape in this picture? Answer with one word."
PICTURES = (("red", (220, 20, 30), "circle"), ("blue", (20, 60, 220), "square"))
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "orange", "purple", "pink", "brown", "grey", "gray")
# llama.cpp: "image input is not supported"; vLLM: "is not a multimodal model"; Ollama: "does not support vision".
NO_IMAGES = re.compile(
    r"image input is not supported|not a multimodal model|(not|n't) support.{0,30}(vision|image|multimodal)"
    r"|(image|vision|multimodal|image_url).{0,60}(not supported|unsupported|not allowed|not enabled)|missing mmproj"
    r"|(content|messages).{0,80}must be a string|at most 0 image",
    re.IGNORECASE | re.DOTALL,
)
BLIND = re.compile(
    r"(can(no|')?t|unable to|do(n't| not)|not able to) (actually |directly )?(see|view|access|process)"
    r".{0,30}(image|picture|photo|visual|it\b)|(don't|do not|no) (see|have)? ?(any |an |a )?(image|picture)",
    re.IGNORECASE,
)
SLACK_TOKENS = 3  # by which a template may lengthen a message made of parts


async def _vision(asker: Asker, _found: Mapping[str, Finding]) -> Finding:
    replies: list[Reply] = []
    for name, colour, shape in PICTURES:
        reply = await asker.chat(_messages(picture(colour, shape)), max_tokens=32)
        replies.append(reply)
        if reply.error is not None or not _names(reply.text, name):
            break
    finding = judge_vision(replies)
    if finding.verdict == "unknown" and replies[-1].error is None and not replies[-1].burnt:
        finding = judge_vision(replies, await asker.chat(_messages(None), max_tokens=1, exact=True))
    return finding


def _messages(image: str | None) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": QUESTION}]
    if image is not None:
        parts.append({"type": "image_url", "image_url": {"url": image}})
    return [{"role": "user", "content": parts}]


def judge_vision(replies: Sequence[Reply], without: Reply | None = None) -> Finding:
    """Whether the colours were named.

    Args:
        replies: One for each of `PICTURES`, in their order; they may end with the first wrong one.
        without: The reply to the same question without a picture, for its token count; None before it was asked.
    """
    for reply in replies:
        if refused(reply, NO_IMAGES):
            return Finding("no", f"The server refused a picture: {quoted(reply.says)}.", fact=False)
        if (nothing := nothing_to_judge(reply)) is not None:
            return nothing
    right = [_names(reply.text, name) for reply, (name, _, _) in zip(replies, PICTURES, strict=False)]
    if len(right) == len(PICTURES) and all(right):
        return Finding("yes", "It named the colours of the shapes in two pictures.", fact=True)
    last = replies[-1]
    with_it, alone = last.prompt_tokens, without.prompt_tokens if without is not None else None
    if with_it and alone and with_it <= alone + SLACK_TOKENS:
        return Finding(
            "no",
            f"The server dropped the picture without a word: the prompt had {with_it:,} tokens with it and {alone:,} "
            "without.",
            fact=False,
        )
    if BLIND.search(last.text):
        return Finding("no", f"The model says that it sees no picture: {quoted(last.text, 80)}.", fact=False)
    return Finding(
        "unknown",
        f"The server took the picture, and the model named the wrong colour or none: {quoted(last.text, 60)}.",
    )


def _names(text: str, colour: str) -> bool:
    """Whether a text names this colour first of all."""
    found = re.findall(rf"\b({'|'.join(COLOURS)})", text.lower())
    return bool(found) and found[0] == colour


CAPABILITIES = (
    Capability(
        name="vision",
        title="vision",
        group="vision",
        ask=_vision,
        requests=3,
        tokens=1600,
        field="supports_vision",
    ),
)
