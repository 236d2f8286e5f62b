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

from mamba_nb.backends._calls import CallReader
from mamba_nb.backends._think import ThinkSplitter
from mamba_nb.records import (
    Finished,
    ReasoningDelta,
    StateChange,
    StreamEvent,
    TextDelta,
    Usage,
    UsageReport,
)

MOST_LINE = 64_000_000  # bytes without a line end before the stream is given up as broken


class StreamFault(Exception):
    """The stream carried an error, or something that is no stream.

    Attributes:
        payload: What it said.
        events: What came before it in the same bytes.
    """

    def __init__(self, payload: Any) -> None:
        super().__init__(str(payload)[:300])
        self.payload = payload
        self.events: list[StreamEvent] = []


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
        self._rest: list[bytes] = []  # of a line that has not ended yet
        self._rest_size = 0
        self._choice_index: int | None = None
        self._think = ThinkSplitter()
        self._calls = CallReader()
        self._half_characters: dict[str, str] | None = None  # by field; None until a server sends such

    def feed(self, data: bytes, at_s: float) -> list[StreamEvent]:
        """Read what has arrived.

        Args:
            data: Bytes of a `text/event-stream`, cut anywhere.
            at_s: When they arrived, in seconds after send.

        Returns:
            The events in them, stamped `at_s`; a piece that was held back to see what it is keeps its own stamp.

        Raises:
            StreamFault: If the server reports an error.
        """
        events: list[StreamEvent] = []
        lines = data.split(b"\n")
        if self._rest and len(lines) > 1:
            lines[0] = b"".join([*self._rest, lines[0]])
            self._rest, self._rest_size = [], 0
        if rest := lines.pop():
            self._rest.append(rest)
            self._rest_size += len(rest)
            if self._rest_size > MOST_LINE:
                raise StreamFault(f"a line of more than {MOST_LINE:,} bytes")
        try:
            for line in lines:
                if line.startswith(b"data:"):
                    self._data(line[5:].strip(), at_s, events)
                elif line.startswith(b"{"):  # an error without its `data:` prefix, as some proxies write it
                    self._data(line.strip(), at_s, events)
                elif line.startswith(b"error:"):  # older llama.cpp: the error's members, without an envelope
                    self._error(line[6:].strip())
        except StreamFault as fault:
            fault.events = [*events, *self._think.flush(at_s)]
            raise
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
        choices = body.get("choices") if isinstance(body, dict) else None
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict) or body.get("error"):
            raise StreamFault(body)
        chunk = {**body, "choices": [{**choices[0], "delta": choices[0].get("message")}]}
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
            chunk = self._read_leniently(data)
        if isinstance(chunk, dict):
            self._chunk(chunk, at_s, events)

    def _read_leniently(self, data: bytes) -> Any:
        """JSON with characters cut in half: broken UTF-8, or lone surrogates as JavaScript servers write them."""
        try:
            chunk = json.loads(data.decode("utf-8", "replace"), strict=False)
        except ValueError:
            self.malformed += 1
            return None
        if self._half_characters is None:
            self._half_characters = {}
        return chunk

    def _error(self, data: bytes) -> None:
        try:
            payload = from_json(data)
        except ValueError:
            payload = data.decode("utf-8", "replace")
        enveloped = isinstance(payload, dict) and "error" in payload
        raise StreamFault(payload if enveloped else {"error": payload})

    def _chunk(self, chunk: Mapping[str, Any], at_s: float, events: list[StreamEvent]) -> None:
        if chunk.get("error") or chunk.get("object") == "error":
            raise StreamFault(chunk)
        if self.model is None and isinstance(model := chunk.get("model"), str):
            self.model = model or None
        if choices := chunk.get("choices"):
            self._choice(choices, at_s, events)
        elif choices is None and isinstance(chunk.get("message") or chunk.get("detail"), str):
            raise StreamFault(chunk)  # an error without an envelope
        usage = chunk.get("usage")
        if usage and isinstance(usage, dict):
            self._usage(usage, at_s, events)
        for name in ("timings", "system_fingerprint", "metrics", "stats"):
            if (fact := chunk.get(name)) is not None:
                self.facts[name] = fact
        if "prompt_progress" in chunk:  # llama.cpp with return_progress
            self.facts["prompt_progress"] = chunk["prompt_progress"]
            events.append(StateChange(at_s, "reading prompt"))

    def _choice(self, choices: Any, at_s: float, events: list[StreamEvent]) -> None:
        """The first choice seen is the answer; others, of a request for several (`n`), are left out."""
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                continue
            index = choice.get("index") or 0
            if index != self._choice_index:
                if self._choice_index is not None:
                    continue
                self._choice_index = index
            delta = choice.get("delta")
            if delta and isinstance(delta, dict):
                self._delta(delta, at_s, events)
            logprobs = choice.get("logprobs")
            if isinstance(logprobs, dict) and isinstance(content := logprobs.get("content"), list):
                if self.logprobs is None:
                    self.logprobs = []
                self.logprobs += content
            if (reason := choice.get("finish_reason")) and self.finish_reason is None:
                events += self._think.flush(at_s)
                self.finish_reason = str(reason)
                events.append(Finished(at_s, self.finish_reason))

    def _delta(self, delta: Mapping[str, Any], at_s: float, events: list[StreamEvent]) -> None:
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if reasoning and isinstance(reasoning, str):
            self._think.separate = True
            if self._half_characters is not None:
                reasoning = self._mended("reasoning", reasoning)
            if reasoning:
                events.append(ReasoningDelta(at_s, reasoning))
        content = delta.get("content")
        if content:
            if not isinstance(content, str):  # a list of parts, which some gateways pass through
                content = _text_of_parts(content)
            if self._half_characters is not None:
                content = self._mended("content", content)
            if content:
                self._think.feed(content, at_s, events)
        refusal = delta.get("refusal")
        if refusal and isinstance(refusal, str):
            events.append(TextDelta(at_s, refusal))
        if calls := delta.get("tool_calls"):
            for piece in calls if isinstance(calls, list) else ():
                if isinstance(piece, dict):
                    events.append(self._calls.feed(piece, at_s))

    def _mended(self, field: str, text: str) -> str:
        """The text with surrogate pairs joined; a first half at its end waits for the next piece."""
        assert self._half_characters is not None
        text = self._half_characters.pop(field, "") + text
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._half_characters[field], text = text[-1], text[:-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def _usage(self, usage: Mapping[str, Any], at_s: float, events: list[StreamEvent]) -> None:
        prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
        if not prompt and not completion:
            return  # older Ollama fills usage with zeros on every chunk
        counts = Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            cached_tokens=_count(usage.get("prompt_tokens_details"), "cached_tokens"),
            reasoning_tokens=_count(usage.get("completion_tokens_details"), "reasoning_tokens"),
        )
        events.append(UsageReport(at_s, counts))


def _text_of_parts(content: Any) -> str:
    parts = content if isinstance(content, list) else ()
    return "".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))


def _count(counts: Any, name: str) -> int | None:
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
