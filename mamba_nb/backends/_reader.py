"""One reader for every server's stream: bytes in, StreamEvents out.

It does no I/O and reads no clock: the caller hands it bytes with the moment they arrived. It survives what
servers do to the protocol: roles repeated, content null, choices empty or absent, usage on its own chunk or on
each, reasoning in either field or between `<think>` tags, tool calls in pieces, whole or without ids, comments
that keep the connection alive, errors in mid-stream, and a JSON body where a stream was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from mamba_nb.backends._think import ThinkSplitter
from mamba_nb.records import (
    Finished,
    ReasoningDelta,
    StateChange,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReport,
)

MOST_LINE = 64_000_000  # bytes without a line end before the stream is given up as broken


class StreamFault(Exception):
    """The stream carried an error, or something that is no stream; `payload` is what it said."""

    def __init__(self, payload: Any) -> None:
        super().__init__(str(payload)[:300])
        self.payload = payload


class StreamReader:
    """Reads one answer.

    Attributes:
        finish_reason: As the server gave it, or None so far.
        done: Whether the closing `[DONE]` has come.
        model: The model that the server says it answered with, or None.
        facts: Its timings, fingerprint and metrics, as they came.
        logprobs: Token log probabilities collected so far, or None.
        malformed: Lines that were no JSON; they are skipped.
    """

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.done = False
        self.model: str | None = None
        self.facts: dict[str, Any] = {}
        self.logprobs: list[Any] | None = None
        self.malformed = 0
        self._rest = b""
        self._think = ThinkSplitter()
        self._call_ids: dict[int, str] = {}
        self._last_call = -1

    def feed(self, data: bytes, at_s: float) -> list[StreamEvent]:
        """Read what has arrived.

        Args:
            data: Bytes of a `text/event-stream`, cut anywhere.
            at_s: When they arrived, in seconds after send.

        Returns:
            The events in them, all stamped `at_s`.

        Raises:
            StreamFault: If the server reports an error.
        """
        events: list[StreamEvent] = []
        lines = (self._rest + data if self._rest else data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MOST_LINE:
            raise StreamFault(f"a line of more than {MOST_LINE:,} bytes")
        for line in lines:
            if line.startswith(b"data:"):
                self._data(line[5:].strip(), at_s, events)
            elif line.startswith(b"{"):  # an error without its `data:` prefix, as some proxies write it
                self._data(line.strip(), at_s, events)
        return events

    def close(self, at_s: float) -> list[StreamEvent]:
        """The stream has ended: read a last line without a line end, and give what was held back."""
        events = self.feed(b"\n", at_s) if self._rest else []
        events += self._think.flush(at_s)
        return events

    def whole(self, body: Any, at_s: float) -> list[StreamEvent]:
        """Read a whole reply, as a request that is not streamed gives, or a server that ignores `stream`.

        Raises:
            StreamFault: If it is an error, or no completion.
        """
        choices = body.get("choices") if isinstance(body, Mapping) else None
        if not choices:
            raise StreamFault(body)
        message = choices[0].get("message") or {}
        chunk = {**body, "choices": [{**choices[0], "delta": message}]}
        events: list[StreamEvent] = []
        self._chunk(chunk, at_s, events)
        events += self._think.flush(at_s)
        self.done = True
        return events

    def _data(self, data: bytes, at_s: float, events: list[StreamEvent]) -> None:
        if data == b"[DONE]":
            self.done = True
            return
        if not data:
            return
        try:
            chunk = from_json(data)
        except ValueError:
            self.malformed += 1
            return
        if isinstance(chunk, dict):
            self._chunk(chunk, at_s, events)

    def _chunk(self, chunk: Mapping[str, Any], at_s: float, events: list[StreamEvent]) -> None:
        if chunk.get("error") or chunk.get("object") == "error":
            raise StreamFault(chunk)
        if self.model is None:
            self.model = chunk.get("model") or None
        choices = chunk.get("choices")
        if choices:
            choice = choices[0]
            delta = choice.get("delta")
            if delta:
                self._delta(delta, at_s, events)
            if choice.get("logprobs"):
                self.logprobs = (self.logprobs or []) + list(choice["logprobs"].get("content") or ())
            if reason := choice.get("finish_reason"):
                events += self._think.flush(at_s)
                self.finish_reason = reason
                events.append(Finished(at_s, reason))
        if usage := chunk.get("usage"):
            self._usage(usage, at_s, events)
        for name in ("timings", "system_fingerprint", "metrics", "stats"):
            if (fact := chunk.get(name)) is not None:
                self.facts[name] = fact
        if "prompt_progress" in chunk:  # llama.cpp with return_progress
            self.facts["prompt_progress"] = chunk["prompt_progress"]
            events.append(StateChange(at_s, "reading prompt"))

    def _delta(self, delta: Mapping[str, Any], at_s: float, events: list[StreamEvent]) -> None:
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if reasoning and isinstance(reasoning, str):
            self._think.separate = True
            events.append(ReasoningDelta(at_s, reasoning))
        content = delta.get("content")
        if content:
            if not isinstance(content, str):  # a list of parts, which some gateways pass through
                content = "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))
            self._think.feed(content, at_s, events)
        if delta.get("refusal"):
            events.append(TextDelta(at_s, delta["refusal"]))
        for piece in delta.get("tool_calls") or ():
            events.append(self._tool_call(piece, at_s))

    def _tool_call(self, piece: Mapping[str, Any], at_s: float) -> ToolCallDelta:
        """A piece belongs to its index; without one, a new id or name begins a new call."""
        function = piece.get("function") or {}
        name, given_id = function.get("name") or "", piece.get("id") or ""
        index = piece.get("index")
        if index is None:
            begins = bool(name) or (given_id and given_id != self._call_ids.get(self._last_call))
            index = self._last_call + 1 if begins or self._last_call < 0 else self._last_call
        self._last_call = index
        if index not in self._call_ids:
            # Ids may be missing or repeated; what answers a call needs one of its own.
            self._call_ids[index] = (
                given_id if given_id and given_id not in self._call_ids.values() else f"call_{index}"
            )
        arguments = function.get("arguments")
        if isinstance(arguments, Mapping):  # an object instead of JSON text
            arguments = json.dumps(arguments)
        return ToolCallDelta(at_s, index, self._call_ids[index], name, arguments or "")

    def _usage(self, usage: Mapping[str, Any], at_s: float, events: list[StreamEvent]) -> None:
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if not prompt and not completion:
            return  # older Ollama fills usage with zeros on every chunk
        events.append(
            UsageReport(
                at_s,
                Usage(
                    prompt_tokens=prompt,
                    completion_tokens=completion,
                    cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
                    reasoning_tokens=(usage.get("completion_tokens_details") or {}).get("reasoning_tokens"),
                ),
            )
        )
