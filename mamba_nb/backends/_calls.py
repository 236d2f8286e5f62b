"""Tool calls put together from their pieces, whatever the server does to index and id.

In: the members of `delta.tool_calls`, in the order they came. Out: ToolCallDeltas whose index counts the calls
in the order they began and whose id belongs to one call alone.

What servers do: pieces keyed by index (OpenAI, vLLM, llama.cpp, LM Studio); whole calls in one piece (Ollama);
no index; every call at index 0; no id, the same id twice, a new id on every piece (older vLLM); the name again
on every piece; arguments as an object instead of JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from mamba_nb.records import ToolCallDelta


@dataclass(slots=True)
class _Call:
    id: str
    given_id: str  # as the server wrote it; may be empty, or another call's
    name: str = ""
    arguments: str = ""

    def is_whole(self) -> bool:
        try:
            from_json(self.arguments)
        except ValueError:
            return False
        return True


class CallReader:
    """Reads the tool calls of one answer."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._at: dict[Any, int] = {}  # the server's index -> the call that it stands for now

    def feed(self, piece: Mapping[str, Any], at_s: float) -> ToolCallDelta:
        """Read one piece, which belongs to the call at its index, or begins a new one."""
        function = piece.get("function")
        function = function if isinstance(function, dict) else {}
        name, given_id = str(function.get("name") or ""), str(piece.get("id") or "")
        arguments = _as_text(function.get("arguments"))
        wire = piece.get("index")
        wire = wire if isinstance(wire, int) else None
        place = self._at.get(wire) if wire is not None else len(self._calls) - 1
        if place is None or place < 0 or self._begins_anew(self._calls[place], wire, name, given_id):
            place = len(self._calls)
            self._calls.append(_Call(self._id_for(given_id), given_id))
        self._at[wire] = place
        call = self._calls[place]
        if name == call.name:
            name = ""  # the same again
        call.given_id = call.given_id or given_id
        call.name += name
        call.arguments += arguments
        return ToolCallDelta(at_s, place, call.id, name, arguments)

    def _begins_anew(self, call: _Call, wire: Any, name: str, given_id: str) -> bool:
        other_id = bool(given_id and call.given_id and given_id != call.given_id)
        if not name:
            return wire is None and other_id
        if not call.name:
            return False
        if other_id:
            return True
        return bool(call.arguments) if name != call.name else call.is_whole()

    def _id_for(self, given_id: str) -> str:
        """An id that no other call has: what answers a call is matched by it."""
        taken = {call.id for call in self._calls}
        if given_id and given_id not in taken:
            return given_id
        number = len(self._calls)
        while f"call_{number}" in taken:
            number += 1
        return f"call_{number}"


def _as_text(arguments: Any) -> str:
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return json.dumps(arguments, ensure_ascii=False)
