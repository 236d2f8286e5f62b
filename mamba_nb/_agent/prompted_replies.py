"""Replies to a request that `_agent.prompted_tools` wrote: text in, a call of a tool or an answer out.

Replies come cut short, in a fence, or as no JSON at all where a server ignores the schema; each is read for what it can
be. `AnswerStream` gives the answer out while it grows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from mamba_nb._agent.prompted_tools import Prompted

__all__ = ["AnswerStream", "Reply", "read"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the model chose.

    Attributes:
        tool: The tool's name, or None for an answer.
        arguments: The call's arguments as JSON text; cut short where the reply was.
        answer: The answer's text, or its JSON text where the answer has a schema; empty for a call.
        cut: Whether the reply ended before its JSON did.
    """

    tool: str | None = None
    arguments: str = ""
    answer: str = ""
    cut: bool = False


def read(text: str, request: Prompted) -> Reply:
    """Read the model's reply.

    A reply that is no such JSON (a server that ignores `response_format`) is the answer as it stands.
    """
    value, cut = _json_in(text)
    if request.response_format is None and (cut or not isinstance(value, Mapping) or [*value] != ["answer"]):
        return Reply(answer=text.strip())
    if isinstance(value, Mapping):
        if isinstance(value.get("tool"), str):
            arguments = value.get("arguments")
            if cut:
                _, _, rest = text.partition('"arguments"')
                return Reply(tool=value["tool"], arguments=rest.lstrip(" \t\r\n:"), cut=True)
            return Reply(tool=value["tool"], arguments=json.dumps({} if arguments is None else arguments))
        if "answer" in value:
            answer = value["answer"]
            if not isinstance(answer, str) or not request.answers_in_text:
                answer = json.dumps(answer, ensure_ascii=False)
                if cut:  # its own end is missing, and must stay missing
                    answer = text.partition('"answer"')[2].lstrip(" \t\r\n:")
            return Reply(answer=answer, cut=cut)
    return Reply(answer=text.strip(), cut=cut)


class AnswerStream:
    """Gives the answer's text out as it grows, where the answer is text; of a call, and of JSON, it gives nothing."""

    def __init__(self, request: Prompted) -> None:
        self._wanted = request.answers_in_text
        self._plain = request.response_format is None
        self._text = ""
        self._given = 0

    def feed(self, piece: str) -> str:
        """The text of the answer that the piece adds."""
        self._text += piece
        if not self._wanted:
            return ""
        if self._plain:
            return self._new(self._text.lstrip())
        try:
            value = from_json(self._text, allow_partial="trailing-strings")
        except ValueError:
            return ""
        answer = value.get("answer") if isinstance(value, Mapping) else None
        return self._new(answer) if isinstance(answer, str) else ""

    def rest(self, reply: Reply) -> str:
        """What `feed` has not given yet, once the reply was read."""
        return self._new(reply.answer) if reply.tool is None else ""

    def restart(self) -> None:
        """What came so far was no answer."""
        self._text, self._given = "", 0

    def _new(self, answer: str) -> str:
        new = answer[self._given :]
        self._given += len(new)
        return new


def _json_in(text: str) -> tuple[Any, bool]:
    """The JSON object in the text, and whether its end is missing; None where there is no object."""
    start = text.find("{")
    if start < 0:
        return None, False
    try:
        return json.JSONDecoder(strict=False).raw_decode(text, start)[0], False
    except ValueError:
        pass
    try:
        return from_json(text[start:], allow_partial="trailing-strings"), True
    except ValueError:
        return None, False
