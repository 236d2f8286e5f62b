"""What one scripted answer says, when it says it, and how it goes wrong.

In: keyword arguments. Out: a frozen `Script` that a `ScriptedServer` plays to whoever asks. Times are in
seconds. Nothing here opens a socket; how a script becomes bytes is in `chunks`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias, get_args

__all__ = [
    "Fault",
    "ReasoningField",
    "Script",
    "ToolCallStyle",
    "UsagePlace",
    "split_pieces",
    "words",
]

ReasoningField: TypeAlias = Literal["reasoning", "reasoning_content", "think", "think_close_only"]
ToolCallStyle: TypeAlias = Literal["pieces", "whole", "no_ids"]
UsagePlace: TypeAlias = Literal["last", "each", "finish_chunk", "zero_each", "null_each", "none"]
Fault: TypeAlias = Literal[
    "error_mid_stream",
    "cut",
    "reset",
    "no_finish",
    "eof_no_done",
    "no_done",
    "json_instead_of_stream",
    "error_200",
    "garbage_line",
    "crlf",
    "no_space",
    "split_utf8",
    "drip",
    "half_emoji",
]

GREETING = "Hello from the scripted server."


@dataclass(frozen=True, kw_only=True)
class Script:
    """The behaviour of one answer.

    A token, here, is one piece of `reasoning`, of `text` or of a tool call; each travels in a chunk of its own.
    The clock starts when the request is complete, its model loaded and its slot free.

    Attributes:
        text: The visible answer: pieces as they are to be sent, or a string that is cut into words with
            their leading space. None: one greeting, or nothing where there are tool calls.
        reasoning: The reasoning, in pieces or as a string that is cut likewise.
        reasoning_field: Where reasoning travels: `reasoning` (Ollama, vLLM, mlx-lm), `reasoning_content`
            (llama-server, SGLang), `think` (between `<think>` tags in the content) or `think_close_only` (the
            same without the opening tag, as templates give that end with it). None: the server style's own.
        tool_calls: Each a mapping with `name`, `arguments` (JSON text, or a value that is written as JSON) and
            optionally `id`.
        tool_call_style: `pieces` (name first, then fragments of the arguments), `whole` (one chunk a call, as
            Ollama does) or `no_ids` (pieces, never an id). None: the server style's own.
        ttft_s: Seconds until the first token.
        itl_s: Seconds between tokens.
        finish_reason: None means `tool_calls` where there are tool calls, else `stop`; `length` where the
            request's max_tokens cut the answer, whatever stands here.
        finish_with_last_token: Put the finish reason on the last token's chunk, as Ollama before 0.32.6, and as
            vLLM where max_tokens cut the answer.
        obey_max_tokens: Whether `max_tokens` (or `max_completion_tokens`) of the request cuts the answer.
        usage: Where token counts travel in a stream: `last` (a chunk of its own with `choices: []`), `each`
            (running counts on every chunk and the last one), `finish_chunk` (on the chunk with the finish
            reason), `zero_each` (zeros on every chunk and true counts last, as older Ollama), `null_each`
            (`usage: null` on every chunk and true counts last, as OpenAI and TGI), `none` (never, whole
            answers included).
        force_usage: Send usage although the request did not ask with `stream_options.include_usage`.
        prompt_tokens: None: the number of words in the messages.
        completion_tokens: None: the number of tokens sent.
        cached_tokens: Prompt tokens said to come from the cache (`prompt_tokens_details.cached_tokens`).
        role_every_chunk: Repeat `role: assistant` on every chunk, as Ollama before 0.32.6.
        null_content_first: Whether the first chunk says `content: null` (True) or `content: ""` (False).
            None: the server style's own.
        blank_choices_first: Begin with a chunk whose `choices` are empty, as Azure does.
        keepalive_comments: So many SSE comment lines before the first token, as mlx-lm's `: keepalive 512/2048`.
        keepalive_between: A comment line before every further token too.
        fault: What goes wrong, or None. See below.
        fault_after: Tokens sent before the fault; None: half of them, or all for `no_finish`, `eof_no_done`.
        stall_s: Seconds of silence in the middle of the answer.
        stall_after: Tokens sent before the silence; None: half of them.
        never: Take the request and never answer.
        echo: Answer with the text of the last user message.
        status: HTTP status; anything but 200 sends `error_body` instead of an answer, after `ttft_s`.
        error_body: The exact body: text, bytes, or a value that is written as JSON. With status 200 it is sent
            in place of an answer. For `error_mid_stream` and `error_200` it is what they send. None: what the
            server style says for that status.
        headers: Further response headers; they win over the server's.
        logprobs: Whether a request for `logprobs` is granted. Every token then has the log probability -0.25,
            and its k-th alternative -(k + 1).
        model_in_reply: The `model` in the reply; None: the name asked for, or what the server style says.
        timings: llama.cpp's `timings`, on the last chunk. None: what the server style sends, if any.
        extra_chunk_fields: Merged into every chunk.

    Faults, with what the client of a stream sees; an answer that is not streamed knows `cut`, `reset`, `error_200`
    and `no_finish`:
        error_mid_stream: `data: {"error": ...}` after some tokens, then the end (vLLM adds `[DONE]`).
        cut: The connection is closed in the middle of the answer, in an orderly way as far as TCP goes.
        reset: The same with a TCP reset.
        no_finish: The stream ends with `[DONE]`, and no chunk had a finish reason.
        eof_no_done: The stream ends neatly without finish reason and without `[DONE]`, as Ollama does where it
            fails after the first token.
        no_done: All is there but `[DONE]`.
        json_instead_of_stream: A whole JSON completion where a stream was asked for.
        error_200: HTTP 200 with `{"error": "Unexpected endpoint or method. ..."}`, as LM Studio.
        garbage_line: A `data:` line in the middle that is not JSON, and a line that is no SSE field.
        crlf: Lines end with CR LF.
        no_space: `data:{...}` without the space.
        split_utf8: Every multi-byte character is cut across two TCP writes.
        drip: Every event comes in TCP writes of 7 bytes.
        half_emoji: Characters outside the basic plane come as two lone surrogate escapes in two chunks.

    Raises:
        ValueError: For an unknown name, a negative time or count.
    """

    text: str | Sequence[str] | None = None
    reasoning: str | Sequence[str] = ()
    reasoning_field: ReasoningField | None = None
    tool_calls: Sequence[Mapping[str, Any]] = ()
    tool_call_style: ToolCallStyle | None = None
    ttft_s: float = 0.0
    itl_s: float = 0.0
    finish_reason: str | None = None
    finish_with_last_token: bool = False
    obey_max_tokens: bool = True
    usage: UsagePlace = "last"
    force_usage: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    role_every_chunk: bool = False
    null_content_first: bool | None = None
    blank_choices_first: bool = False
    keepalive_comments: int = 0
    keepalive_between: bool = False
    fault: Fault | None = None
    fault_after: int | None = None
    stall_s: float = 0.0
    stall_after: int | None = None
    never: bool = False
    echo: bool = False
    status: int = 200
    error_body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    logprobs: bool = True
    model_in_reply: str | None = None
    timings: Mapping[str, Any] | None = None
    extra_chunk_fields: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise ValueError(f"Script.{name} is {value!r}; it must be one of {', '.join(allowed)}.")
        for name in ("ttft_s", "itl_s", "stall_s", "keepalive_comments", "fault_after", "stall_after"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"Script.{name} is {value!r}; it must not be negative.")
        if self.text is None:
            object.__setattr__(self, "text", () if self.tool_calls else GREETING)
        for name in ("text", "reasoning"):
            value = getattr(self, name)
            object.__setattr__(self, name, split_pieces(value) if isinstance(value, str) else tuple(value))
        for call in self.tool_calls:
            if not isinstance(call, Mapping) or "name" not in call:
                raise ValueError(f"A tool call must be a mapping with a name, not {call!r}.")
        object.__setattr__(self, "tool_calls", tuple(dict(call) for call in self.tool_calls))

    def to_dict(self) -> dict[str, Any]:
        """The script as JSON-able data; `Script(**data)` makes it again.

        Raises:
            TypeError: Where `error_body` is bytes, which JSON does not have.
        """
        if isinstance(self.error_body, bytes):
            raise TypeError("error_body is bytes; give it as text to send this script to another process.")
        return asdict(self)


_CHOICES: dict[str, tuple[str, ...]] = {
    "reasoning_field": get_args(ReasoningField),
    "tool_call_style": get_args(ToolCallStyle),
    "usage": get_args(UsagePlace),
    "fault": get_args(Fault),
}


def split_pieces(text: str) -> tuple[str, ...]:
    """The text cut into words with their leading space; joined again they are the text.

    Examples:
        >>> split_pieces("The capital is Paris.")
        ('The', ' capital', ' is', ' Paris.')
        >>> split_pieces("")
        ()
    """
    pieces = re.findall(r"\s*\S+", text)
    if rest := text[sum(map(len, pieces)) :]:
        pieces = [*pieces[:-1], pieces[-1] + rest] if pieces else [rest]
    return tuple(pieces)


def words(count: int, *, word: str = "word") -> tuple[str, ...]:
    """So many pieces of text, numbered, for answers whose length matters and whose content does not.

    Examples:
        >>> words(3)
        ('word0', ' word1', ' word2')
    """
    return tuple(f"{' ' if i else ''}{word}{i}" for i in range(count))
