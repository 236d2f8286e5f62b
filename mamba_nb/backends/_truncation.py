"""The alarm for prompts that a server has cut, or may have cut, without saying so.

In: a question and its answer, and the kind of server. Out: a warning with the remedy, or None. The server is asked
for its context only where the answer looks suspicious, after the clock has stopped, and for a second at most.

    Ollama                   drops the oldest messages, then cuts the middle of the prompt; HTTP 200, `stop`
    text-generation-webui    drops the oldest text; HTTP 200
    LM Studio                may answer HTTP 200 with nothing at all
    any                      `stop` exactly where the context ends

Nothing here is sure of a count: `prompt_tokens` leaves out what Ollama had in its cache, and no tokenizer is at hand.
So there is an alarm only where a lower bound of the prompt's length is above the context, or where the counts are
those that only a cut leaves.

Sources: Ollama, server/prompt.go (chatPrompt), llm/llama_server.go (completionPromptForRequest,
contextShiftPromptLimit: half of the context is freed, `num_keep` tokens are kept); lmstudio-bug-tracker 2339.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from mamba_nb.backends._declared import served_as
from mamba_nb.records import Message, text_of
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.kinds import Kind, is_same_model

__all__ = ["Lengths", "Outcome", "alarm", "context_in_force", "lengths_of"]

MOST_S = 1.0
SILENT = ("ollama", "textgenwebui")
KEPT_AT_MOST = 16  # tokens above half of the context: half of `num_keep`, which is 4, or 24 in some Modelfiles
LEAST_TOTAL = 64  # smaller totals are equal to a context by chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How long a prompt is, in tokens, by three rules of thumb; images are left out.

    Attributes:
        words: One for each word: no tokenizer in use makes fewer.
        pieces: One for each word, number and run of punctuation, more for scripts without spaces: nearly none does.
        about: A quarter of the bytes, the usual estimate; half as many are possible.
    """

    words: int
    pieces: int
    about: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is known of an answer.

    Attributes:
        model: The model asked for.
        prompt_tokens: By the server's count, or None.
        completion_tokens: The same of the answer.
        finish_reason: As the server gave it.
        empty: Whether there is no text, no reasoning and no tool call.
        num_ctx: The context that was asked for, or None.
    """

    model: str
    prompt_tokens: int | None
    completion_tokens: int | None
    finish_reason: str | None
    empty: bool
    num_ctx: int | None = None

    @property
    def total(self) -> int | None:
        """Tokens of prompt and answer, where both were counted."""
        if self.prompt_tokens is None or self.completion_tokens is None:
            return None
        return self.prompt_tokens + self.completion_tokens


async def alarm(
    messages: Sequence[Message],
    outcome: Outcome,
    kind: Kind | None,
    context: Callable[[], Awaitable[int | None]],
) -> str | None:
    """The warning that this answer needs, or None.

    Args:
        messages: What was asked.
        outcome: What came.
        kind: The kind of server, or None.
        context: Asks the server for its context in force, in tokens; called at most once.
    """
    name = kind.name if kind is not None else None
    lengths = lengths_of(messages) if name in SILENT else None
    if kind is None or not _suspicious(name, lengths, outcome):
        return None
    try:
        async with asyncio.timeout(MOST_S):
            tokens = await context()
    except Exception:  # a server that does not say its context gives no ground for an alarm
        return None
    if tokens is None or tokens < 1:
        return None
    if lengths is not None and _was_cut(lengths, outcome, tokens):
        return _cut_words(kind, lengths, outcome, tokens)
    if name == "lmstudio" and outcome.empty and (outcome.prompt_tokens or 0) >= tokens:
        return (
            f"LM Studio answered with nothing: it loaded {outcome.model} with a context of {tokens:,} tokens, and "
            f"the prompt has {outcome.prompt_tokens:,}. Load it with more: "
            f"`lms load {outcome.model} --context-length {_enough(outcome.prompt_tokens or 0)}`."
        )
    if outcome.finish_reason == "stop" and outcome.total == tokens and not outcome.empty:
        return (
            f"The answer ended where the context of {tokens:,} tokens ended, so it may have been cut there, though "
            f"{kind.title} says `stop`. Load the model with a larger context, or ask for less."
        )
    return None


def _suspicious(name: str | None, lengths: Lengths | None, outcome: Outcome) -> bool:
    """Whether it is worth asking for the context; cheap, and right more often than not."""
    prompt, total = outcome.prompt_tokens, outcome.total
    if name == "lmstudio" and outcome.empty:
        return prompt is not None
    if total is not None and total >= LEAST_TOTAL and (_round(total) or _round(prompt or 1)):
        return True
    if lengths is None:
        return False
    if outcome.num_ctx is not None and lengths.about > 0.75 * outcome.num_ctx:
        return True
    return lengths.about >= LEAST_TOTAL and (prompt is None or prompt < 0.6 * lengths.about or prompt < lengths.words)


def _round(tokens: int) -> bool:
    """Whether it looks like somebody's choice of a context."""
    return tokens % 64 == 0 or tokens % 100 == 0


def _was_cut(lengths: Lengths, outcome: Outcome, context: int) -> bool:
    prompt = outcome.prompt_tokens
    if prompt is not None and prompt > context:  # then this is not the context that was in force
        return False
    if lengths.words > context:
        return True
    filled = prompt == context or outcome.total == context
    halved = prompt is not None and 0 <= prompt - context // 2 <= KEPT_AT_MOST
    if lengths.pieces > context:
        return filled or halved or prompt is None or prompt < 0.45 * lengths.pieces
    return (filled and lengths.about > 0.75 * context) or (halved and lengths.about > context)


def _cut_words(kind: Kind, lengths: Lengths, outcome: Outcome, context: int) -> str:
    needed = max(lengths.about, lengths.words, outcome.prompt_tokens or 0)
    said = (
        f"{kind.title}'s context for {outcome.model} is {context:,} tokens; your prompt is about "
        f"{_rounded(needed):,}. {kind.title} drops the oldest text without saying so."
    )
    more = _enough(max(needed, context))
    if kind.name == "ollama":
        return f"{said} Use num_ctx={more} (needs more memory) or set OLLAMA_CONTEXT_LENGTH."
    return f"{said} Load the model with a larger context ({more}), or shorten the prompt."


def _rounded(tokens: int) -> int:
    """Two figures: the estimate has no more."""
    unit = int(10 ** max(0, len(str(tokens)) - 2))
    return round(tokens / unit) * unit


def _enough(tokens: int) -> int:
    """A context that holds so many tokens and an answer: the next power of two that leaves a fifth."""
    return 1 << int(tokens * 1.25).bit_length()


PIECE = re.compile(r"[A-Za-z]+|\d{1,3}|[^\sA-Za-z\d]+")
RUN = re.compile(r"(\s)\s+|([^\w\s])\2{3,}")
LONG_WORD = 16  # characters; longer ones, outside ASCII, are of scripts without spaces


def lengths_of(messages: Sequence[Message]) -> Lengths:
    """How long the prompt is, earlier calls of tools included.

    Examples:
        >>> lengths_of([{"role": "user", "content": "Why is the sky blue?"}])
        Lengths(words=5, pieces=6, about=5)
    """
    words = pieces = size = 0
    for text in _texts(messages):
        text = RUN.sub(r"\1\2", text)  # indentation and rulers take few tokens
        words += len(text.split())
        size += len(text.encode("utf-8", "replace"))
        pieces += sum(map(_pieces, text.split()))
    return Lengths(words=words, pieces=pieces, about=size // 4)


def _pieces(word: str) -> int:
    """Tokens that a word has at least, as tokenizers in use cut it."""
    if word.isascii():
        return sum(1 if len(piece) < 24 else len(piece) // 8 for piece in PIECE.findall(word))
    return 1 if len(word) <= LONG_WORD else len(word) // 4


def _texts(messages: Sequence[Message]) -> list[str]:
    texts = [text_of(message.get("content")) for message in messages]
    for message in messages:
        texts += [
            json.dumps(call.get("function")) for call in message.get("tool_calls") or () if isinstance(call, dict)
        ]
    return texts


async def context_in_force(asking: Asking, kind: Kind, model: str) -> int | None:
    """Tokens of context that a model is loaded with, as the server says now; None where it does not."""
    if kind.name == "ollama":  # one request instead of one for each of its lists
        loaded = await asking.json("/api/ps")
        for entry in loaded.get("models") or () if isinstance(loaded, Mapping) else ():
            if isinstance(entry, Mapping) and is_same_model(model, str(entry.get("name"))):
                tokens = entry.get("context_length")
                return tokens if isinstance(tokens, int) else None
        return None
    served = await served_as(asking, kind, model)
    return served.context_window if served is not None else None
