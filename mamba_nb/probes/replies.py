"""One answer as a probe sees it: bytes of a reply in, a `Reply` out. Pure.

Beside text, reasoning and calls, a probe needs what a Generation leaves out: in which field the reasoning came, where
the token counts were, how many choices and pieces there were.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from mamba_nb.backends._builder import GenerationBuilder
from mamba_nb.backends._reader import StreamFault, StreamReader
from mamba_nb.errors import MambaError
from mamba_nb.records import Generation, Request, ToolCall

__all__ = ["BrokenOff", "Reply", "failed_reply", "is_stream", "read_reply", "reply_of_generation"]

REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
IN_TEXT = "<think> tags in the text"
MOST_SHOWN = 600  # characters of each part in the evidence


class BrokenOff(Exception):
    """A stream ended before the answer did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer, or what went wrong.

    Attributes:
        text: The visible answer.
        reasoning: The reasoning, whichever way it came.
        reasoning_field: Where it came: a member of the message, or tags in the text. None where there was none.
        tool_calls: Whole calls.
        finish_reason: As the server gave it.
        prompt_tokens: The server's count; None where it gave none.
        completion_tokens: The same for the answer.
        usage_place: Where the counts came in a stream: on its own chunk, on each chunk, on the last; None for none.
        logprobs: As they came, or None.
        choices: How many answers there were.
        pieces: Chunks that carried something of the answer; 0 where it came whole.
        streamed: Whether it came as a stream.
        body: The whole reply as JSON where it was not streamed, else None.
        error: What went wrong, or None.
    """

    text: str = ""
    reasoning: str = ""
    reasoning_field: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    usage_place: str | None = None
    logprobs: Any = None
    choices: int = 0
    pieces: int = 0
    streamed: bool = False
    body: Any = None
    error: MambaError | None = None

    @property
    def cut(self) -> bool:
        """Whether the token limit ended it."""
        return self.finish_reason == "length"

    @property
    def burnt(self) -> bool:
        """Whether it reasoned until the token limit and said nothing."""
        return self.cut and bool(self.reasoning) and not self.text.strip() and not self.tool_calls

    @property
    def says(self) -> str:
        """The server's own words where it refused or failed; empty where it answered."""
        if self.error is None:
            return ""
        return self.error.server_says or self.error.message

    def shown(self) -> str:
        """The answer for the evidence, cut to a readable length."""
        if self.error is not None:
            return _short(self.says)
        if self.body is not None and not self.choices:
            return _short(json.dumps(self.body, ensure_ascii=False))
        parts: dict[str, Any] = {"content": _short(self.text)}
        if self.reasoning:
            parts[f"reasoning, in {self.reasoning_field or 'the answer'}"] = _short(self.reasoning)
        if self.tool_calls:
            parts["tool_calls"] = [{"name": call.name, "arguments": call.arguments} for call in self.tool_calls]
        if self.choices > 1:
            parts["choices"] = self.choices
        if self.logprobs:
            parts["logprobs"] = len(self.logprobs)
        parts["finish_reason"] = self.finish_reason
        parts["prompt_tokens"], parts["completion_tokens"] = self.prompt_tokens, self.completion_tokens
        return _short(json.dumps(parts, ensure_ascii=False), 3 * MOST_SHOWN)


def failed_reply(error: MambaError) -> Reply:
    """The reply that an error stands for."""
    return Reply(error=error)


def reply_of_generation(generation: Generation) -> Reply:
    """The reply of a request that went through the backend's own path."""
    return Reply(
        text=generation.text,
        reasoning=generation.reasoning,
        tool_calls=generation.tool_calls,
        finish_reason=generation.finish_reason,
        prompt_tokens=generation.prompt_tokens,
        completion_tokens=generation.completion_tokens,
        logprobs=generation.logprobs,
        choices=1,
        pieces=len(generation.chunk_at_s),
        streamed=bool(generation.chunk_at_s),
    )


def is_stream(data: bytes | bytearray) -> bool:
    """Whether bytes are a `text/event-stream`, by how they begin."""
    return data.lstrip().startswith((b"data:", b":", b"event:", b"id:", b"retry:"))


def read_reply(data: bytes) -> Reply:
    """The reply in the bytes of a chat completion, streamed or whole.

    Raises:
        StreamFault: If it is an error, or no completion.
        BrokenOff: If it is a stream that ended before the answer did.
    """
    reader = StreamReader()
    builder = GenerationBuilder(Request(model="", messages=()), base_url="", server="unknown")
    streamed = is_stream(data)
    body: Any = None
    pieces = 0
    if streamed:
        chunks = list(_chunks(data))
        for event in [*reader.feed(data, 0.0), *reader.close(0.0)]:
            builder.add(event)
        if reader.finish_reason is None and not reader.done:
            raise BrokenOff
        pieces = sum(map(_carries, chunks))
        choices = len({choice.get("index") or 0 for chunk in chunks for choice in _choices(chunk)})
    else:
        try:
            body = from_json(data)
        except ValueError:
            raise StreamFault(data[:1000].decode("utf-8", "replace")) from None
        for event in reader.whole(body, 0.0):
            builder.add(event)
        chunks = [body]
        choices = len(_choices(body))
    read = builder.freeze()
    named = next((name for chunk in chunks for choice in _choices(chunk) if (name := _reasoning_field(choice))), None)
    return Reply(
        text=read.text,
        reasoning=read.reasoning,
        reasoning_field=named or (IN_TEXT if read.reasoning else None),
        tool_calls=read.tool_calls,
        finish_reason=read.finish_reason or reader.finish_reason,
        prompt_tokens=read.prompt_tokens,
        completion_tokens=read.completion_tokens,
        usage_place=_usage_place(chunks) if streamed else None,
        logprobs=reader.logprobs,
        choices=choices,
        pieces=pieces,
        streamed=streamed,
        body=body,
    )


def _chunks(data: bytes) -> Iterator[Mapping[str, Any]]:
    for line in data.split(b"\n"):
        if line.startswith(b"data:"):
            try:
                chunk = from_json(line[5:].strip())
            except ValueError:
                continue
            if isinstance(chunk, dict):
                yield chunk


def _choices(chunk: Any) -> list[Mapping[str, Any]]:
    found = chunk.get("choices") if isinstance(chunk, Mapping) else None
    return [choice for choice in found if isinstance(choice, Mapping)] if isinstance(found, list) else []


def _message(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    message = choice.get("delta") or choice.get("message")
    return message if isinstance(message, Mapping) else {}


def _reasoning_field(choice: Mapping[str, Any]) -> str | None:
    message = _message(choice)
    return next((name for name in REASONING_FIELDS if isinstance(message.get(name), str) and message[name]), None)


def _carries(chunk: Mapping[str, Any]) -> bool:
    fields = ("content", "tool_calls", *REASONING_FIELDS)
    return any(_message(choice).get(name) for choice in _choices(chunk) for name in fields)


def _usage_place(chunks: list[Mapping[str, Any]]) -> str | None:
    """Where the counts are that say something: older Ollama fills `usage` with zeros on every chunk."""
    told = [chunk for chunk in chunks if _counts(chunk.get("usage"))]
    if not told:
        return None
    if len(told) > 1:
        return "each chunk"
    return "the chunk with the finish reason" if _choices(told[0]) else "a chunk of its own"


def _counts(usage: Any) -> bool:
    return isinstance(usage, Mapping) and any(usage.get(name) for name in ("prompt_tokens", "completion_tokens"))


def _short(text: str, most: int = MOST_SHOWN) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"
