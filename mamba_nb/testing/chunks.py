"""A script turned into bytes: the events of a stream, or one whole answer.

In: an `Answer` (script, style, request). Out: `Event` values with the SSE text and the second, counted from
the answer's start, at which it is due; or a dict for an answer that is not streamed. Pure: no clock, no
socket.

The shapes are OpenAI's chat completion objects. What the kinds of servers do differently is in `styles`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mamba_nb.testing.events import ASCII, COMPACT, Event, comment
from mamba_nb.testing.log import count_words
from mamba_nb.testing.script import Script
from mamba_nb.testing.styles.base import Style
from mamba_nb.testing.tokens import deltas_of, halves, logprob_of

__all__ = ["Answer"]


@dataclass(slots=True, kw_only=True)
class Answer:
    """One answer to one request: what is to be said, before it is cut into bytes.

    Attributes:
        script: What to say.
        style: How this kind of server says it.
        body: The request's JSON.
        id: The completion's id.
        model: The model's name in the reply.
        created: Seconds since the epoch.
    """

    script: Script
    style: Style
    body: Mapping[str, Any]
    id: str
    model: str
    created: int
    deltas: list[dict[str, Any]] = field(init=False)
    finish_reason: str | None = field(init=False)
    choices: int = field(init=False)

    def __post_init__(self) -> None:
        script, body = self.script, self.body
        deltas = list(deltas_of(script, self.style, body))
        finish = script.finish_reason or ("tool_calls" if script.tool_calls else "stop")
        most = body.get("max_tokens") or body.get("max_completion_tokens")
        if script.obey_max_tokens and isinstance(most, int) and 0 < most < len(deltas):
            deltas, finish = deltas[:most], "length"
        if script.fault == "half_emoji":
            deltas = [half for delta in deltas for half in halves(delta)]
        n = body.get("n") or 1
        self.deltas = deltas
        self.finish_reason = finish
        self.choices = n if self.style.takes_n and isinstance(n, int) and n > 0 else 1

    # Counts and times.

    @property
    def prompt_tokens(self) -> int:
        """Tokens in the prompt, by the script or by counting words."""
        return count_words(self.body) if self.script.prompt_tokens is None else self.script.prompt_tokens

    @property
    def completion_tokens(self) -> int:
        """Tokens in all choices, by the script or by counting what is sent."""
        said = self.script.completion_tokens
        return len(self.deltas) * self.choices if said is None else said

    def due_s(self, token: int) -> float:
        """When a token is due, in seconds after the answer's start; after the last one, when that was."""
        token = max(0, min(token, len(self.deltas) - 1))
        script = self.script
        stall = script.stall_s if script.stall_s and token >= self._place(script.stall_after) else 0.0
        return script.ttft_s + token * script.itl_s + stall

    def _place(self, after: int | None) -> int:
        return len(self.deltas) // 2 if after is None else after

    def usage(self, tokens: int | None = None) -> dict[str, Any]:
        """Token counts: of the whole answer, or after so many tokens."""
        completion = self.completion_tokens if tokens is None else tokens
        usage: dict[str, Any] = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens + completion,
        }
        if self.script.cached_tokens is not None or self.style.cached_tokens:
            usage["prompt_tokens_details"] = {"cached_tokens": self.script.cached_tokens or 0}
        return usage

    def timings(self) -> Mapping[str, Any] | None:
        """llama.cpp's timings where the script or the style has them."""
        if self.script.timings is not None or self.style.timings is None:
            return self.script.timings
        ttft_s = self.due_s(0)
        return self.style.timings(
            self.prompt_tokens, self.completion_tokens, ttft_s, self.due_s(len(self.deltas)) - ttft_s
        )

    # A whole answer.

    def whole(self) -> dict[str, Any]:
        """The answer as one chat completion object."""
        message: dict[str, Any] = {"role": "assistant", "content": None, **self.style.message_extras}
        calls: dict[int, dict[str, Any]] = {}
        for delta in self.deltas:
            for name in ("content", "reasoning", "reasoning_content"):
                if name in delta:
                    message[name] = (message.get(name) or "") + delta[name]
            for part in delta.get("tool_calls", ()):
                call = calls.setdefault(part["index"], {"type": "function", "function": {"name": "", "arguments": ""}})
                if "id" in part:
                    call["id"] = part["id"]
                for name, value in part["function"].items():
                    call["function"][name] += value
        if calls:
            message["tool_calls"] = [calls[index] for index in sorted(calls)]
        elif message["content"] is None:
            message["content"] = ""
        finish = None if self.script.fault == "no_finish" else self.finish_reason
        logprobs = self._logprobs([d["content"] for d in self.deltas if "content" in d])
        logged = {"logprobs": logprobs} if logprobs is not None or self.style.null_logprobs else {}
        reply: dict[str, Any] = {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [
                {"index": index, "message": message, **logged, "finish_reason": finish} for index in range(self.choices)
            ],
        }
        if self.style.fingerprint:
            reply["system_fingerprint"] = self.style.fingerprint
        if self.script.usage != "none":
            reply["usage"] = self.usage()
        if (timings := self.timings()) is not None:
            reply["timings"] = timings
        return self._touched(reply)

    def _logprobs(self, texts: list[str]) -> dict[str, Any] | None:
        if not (self.script.logprobs and self.body.get("logprobs") and texts):
            return None
        top = self.body.get("top_logprobs")
        return {"content": [logprob_of(text, top if isinstance(top, int) else 0) for text in texts]}

    # A stream.

    def events(self) -> Iterator[Event]:
        """The stream, event by event, faults included."""
        script, last = self.script, len(self.deltas)
        fault, at = script.fault, self._fault_place()
        yield from self._opening()
        for token, delta in enumerate(self.deltas):
            if fault == "garbage_line" and token == at:
                yield Event(b"this line is no field of an event stream\ndata: {not json\n\n", self.due_s(token))
            elif fault is not None and token == at and fault in _ENDS_EARLY:
                break
            if script.keepalive_between and token:
                yield Event(comment(token, last), self.due_s(token - 1) + script.itl_s / 2)
            yield from self._token(token, delta)
        yield from self._ending(self.due_s(at if fault in _ENDS_EARLY else last))

    def _fault_place(self) -> int:
        script = self.script
        if script.fault_after is None and script.fault in ("no_finish", "eof_no_done"):
            return len(self.deltas)
        return self._place(script.fault_after)

    def _opening(self) -> Iterator[Event]:
        script, style, first_s = self.script, self.style, self.due_s(0)
        for i in range(script.keepalive_comments):
            yield Event(comment(i + 1, script.keepalive_comments), first_s * i / script.keepalive_comments)
        if script.blank_choices_first:
            yield self._event([], first_s)
        if style.role_alone:
            null = style.null_content_first if script.null_content_first is None else script.null_content_first
            delta = {"role": "assistant", "content": None if null else ""}
            for index in range(self.choices):
                yield self._event([style.choice(index, dict(delta), None, None)], first_s, tokens=0)

    def _token(self, token: int, delta: dict[str, Any]) -> Iterator[Event]:
        style = self.style
        sent = dict(delta)
        if style.content_always:
            sent.setdefault("content", "")
        if self.script.role_every_chunk or (token == 0 and not style.role_alone):
            sent = {"role": "assistant", **sent}
        logprobs = self._logprobs([delta["content"]] if "content" in delta else [])
        finishes = self._finishes_with(token)
        for index in range(self.choices):
            done = token * self.choices + index + 1
            final = finishes and index == self.choices - 1
            yield self._event(
                [style.choice(index, sent, logprobs, self.finish_reason if finishes else None)],
                self.due_s(token),
                tokens=done,
                token=True,
                usage=self._usage_at_the_finish() if final else None,
                last=final and not self._own_usage_chunk,
            )

    def _finishes_with(self, token: int) -> bool:
        return self.script.finish_with_last_token and token == len(self.deltas) - 1 and self.script.fault != "no_finish"

    @property
    def _usage_asked(self) -> bool:
        options = self.body.get("stream_options")
        return self.script.force_usage or (isinstance(options, dict) and bool(options.get("include_usage")))

    @property
    def _own_usage_chunk(self) -> bool:
        return self._usage_asked and self.script.usage in _LAST_CHUNK

    def _usage_at_the_finish(self) -> dict[str, Any] | None:
        return self.usage() if self._usage_asked and self.script.usage == "finish_chunk" else None

    def _ending(self, at_s: float) -> Iterator[Event]:
        script, style, fault = self.script, self.style, self.script.fault
        if fault in ("cut", "reset"):
            yield Event(b"", at_s, then="cut" if fault == "cut" else "reset")
            return
        if fault == "error_mid_stream":
            body = script.error_body
            if body is None:
                body = style.error(500, "The model stopped in the middle of the answer.").body
            yield self._sse(body if isinstance(body, str) else COMPACT.encode(body), at_s)
            if style.done_after_error:
                yield self._sse("[DONE]", at_s)
            return
        if fault == "eof_no_done":
            return
        if fault != "no_finish" and not (script.finish_with_last_token and self.deltas):
            yield from self._finish(at_s)
        if self._own_usage_chunk:
            yield self._event([], at_s, usage=self.usage(), last=True)
        if fault != "no_done":
            yield self._sse("[DONE]", at_s)

    def _finish(self, at_s: float) -> Iterator[Event]:
        for index in range(self.choices):
            delta = {} if self.script.tool_calls else dict(self.style.finish_delta)
            if self.script.role_every_chunk:
                delta = {"role": "assistant", **delta}
            choice = self.style.choice(index, delta, None, self.finish_reason)
            final = index == self.choices - 1
            yield self._event(
                [choice],
                at_s,
                tokens=self.completion_tokens,
                usage=self._usage_at_the_finish() if final else None,
                last=final and not self._own_usage_chunk,
            )

    def _event(
        self,
        choices: list[dict[str, Any]],
        at_s: float,
        *,
        tokens: int = 0,
        token: bool = False,
        usage: dict[str, Any] | None = None,
        last: bool = False,
    ) -> Event:
        script, style = self.script, self.style
        chunk: dict[str, Any] = {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
        }
        if style.chunk_fingerprint == "every" or (last and style.chunk_fingerprint == "last"):
            chunk["system_fingerprint"] = style.fingerprint
        chunk["choices"] = choices
        if usage is not None:
            chunk["usage"] = usage
        elif script.usage in _EVERY_CHUNK and self._usage_asked:
            chunk["usage"] = self._running(tokens)
        if last and (timings := self.timings()) is not None:
            chunk["timings"] = timings
        if script.extra_chunk_fields:
            chunk.update(script.extra_chunk_fields)
        chunk = self._touched(chunk)
        encoder = ASCII if script.fault == "half_emoji" else COMPACT
        return self._sse(encoder.encode(chunk), at_s, token=token)

    def _touched(self, reply: dict[str, Any]) -> dict[str, Any]:
        touch = self.style.last_touch
        return reply if touch is None else touch(reply, self.body, self.script)

    def _running(self, tokens: int) -> dict[str, Any] | None:
        if self.script.usage == "each":
            return self.usage(tokens)
        if self.script.usage == "zero_each":
            return {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        return None

    def _sse(self, data: str, at_s: float, *, token: bool = False) -> Event:
        end = "\r\n" if self.script.fault == "crlf" else "\n"
        space = "" if self.script.fault == "no_space" else " "
        return Event(f"data:{space}{data}{end}{end}".encode(), at_s, token, final=data == "[DONE]")


_ENDS_EARLY = ("cut", "reset", "error_mid_stream", "no_finish", "eof_no_done")
_EVERY_CHUNK = ("each", "zero_each", "null_each")
_LAST_CHUNK = ("last", *_EVERY_CHUNK)
