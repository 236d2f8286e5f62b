"""What differs between two answers, word by word."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import TypeAlias

from mamba_nb.display.text import count, visible

__all__ = ["MOST_WORDS", "Parts", "word_diff"]

Parts: TypeAlias = list[tuple[bool, str]]
"""Pieces of an answer in order: whether the piece is in this answer only, and its text."""

MOST_WORDS = 20_000  # of one answer; more would take minutes

# Scripts that set no blanks between words are compared character by character.
WORD = re.compile(
    r"(?:[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+|[^\w\s])\s*"
)


def word_diff(one: str, other: str) -> tuple[Parts, Parts, str]:
    """Mark the words that only one of two answers has.

    Returns:
        The pieces of each answer, and in words how alike they are. Both lists are empty where there is nothing to mark:
        the answers are the same, one is empty, or one is too long.

    Examples:
        >>> word_diff("The sky is blue.", "The sky is red.")[0]
        [(False, 'The sky is '), (True, 'blue'), (False, '.')]
    """
    words = [WORD.findall(text.strip()) for text in (one, other)]
    if any(len(side) > MOST_WORDS for side in words):
        return [], [], f"Too long to mark word by word: more than {count(MOST_WORDS)} words."
    if not all(words):
        return [], [], "There is nothing to mark: an answer is empty."
    bare = [[word.rstrip() for word in side] for side in words]
    if bare[0] == bare[1]:
        return [], [], "The two answers are the same, word for word."
    first: Parts = []
    second: Parts = []
    same = 0
    for kind, a, to_a, b, to_b in SequenceMatcher(None, bare[0], bare[1]).get_opcodes():
        alike = kind == "equal"
        same += to_a - a if alike else 0
        _add(first, not alike, words[0][a:to_a])
        _add(second, not alike, words[1][b:to_b])
    share = 200 * same / (len(words[0]) + len(words[1]))
    return first, second, f"{share:.0f} % of the words are the same, in the same order."


def _add(parts: Parts, only: bool, words: list[str]) -> None:
    """The next piece; a mark does not take in the blanks that follow it."""
    text = visible("".join(words))
    bare = text.rstrip() if only else text
    for mark, piece in ((only, bare), (False, text[len(bare) :])):
        if piece and parts and parts[-1][0] == mark:
            parts[-1] = (mark, parts[-1][1] + piece)
        elif piece:
            parts.append((mark, piece))
