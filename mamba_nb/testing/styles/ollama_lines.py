"""One native answer of the Ollama style: lines of JSON at the script's pace, or one object.

In: a script and the request. Out: bytes when they are due; the last object has the counts, and the durations in
nanoseconds. Faults of the script are played as far as a stream of lines has them.

Sources: Ollama's `server/routes.go` (ChatHandler, GenerateHandler, streamResponse), `api/types.go` (Metrics).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.chunks import Answer
from mamba_nb.testing.events import to_json
from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.script import Script
from mamba_nb.testing.styles.base import Reply, Streamed
from mamba_nb.testing.styles.ollama_calls import call_of, logprobs_of
from mamba_nb.testing.styles.ollama_facts import stays_for
from mamba_nb.testing.styles.ollama_library import native, native_error

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

__all__ = ["Lines", "Shape", "broken", "nanoseconds"]

LEAST_NS = 1_000_000  # nothing takes no time at all, and a zero would be left out

Shape = Callable[[dict[str, Any]], dict[str, Any]]


async def broken() -> AsyncIterator[bytes]:
    """A connection that breaks."""
    raise ConnectionResetError
    yield b""


class Lines:
    """The lines of one answer.

    Args:
        server: Who answers.
        request: Whose log gets the time of each token.
        script: What to say.
        model: The model, by its served name.
        body: The request.
        began: When it came, on the monotonic clock.
        stays_s: Seconds for which the model stays in memory afterwards.
        head: What each line begins with.
        shape: What was said, as this route writes it.
    """

    def __init__(
        self,
        server: ScriptedServer,
        request: LoggedRequest,
        script: Script,
        model: str,
        body: Mapping[str, Any],
        began: float,
        stays_s: float,
        head: Callable[[], dict[str, Any]],
        shape: Shape,
    ) -> None:
        options = body.get("options") if isinstance(body.get("options"), Mapping) else None
        most = options.get("num_predict") if options else None
        asked = {key: body.get(key) for key in ("messages", "logprobs", "top_logprobs")}
        self._server, self._request, self._script, self._model = server, request, script, model
        self._began, self._stays_s, self._head, self._shape = began, stays_s, head, shape
        self._loaded = began
        self._asked = asked
        self._answer = Answer(
            script=replace(script, reasoning_field=_field(script), tool_call_style="whole"),
            style=server.style,
            body={**asked, "max_tokens": most} if isinstance(most, int) and most > 0 else asked,
            id="",
            model=model,
            created=0,
        )

    async def whole(self) -> Reply | Streamed:
        """The answer as one object."""
        answer, script = self._answer, self._script
        async with self._server.room.enter(self._model):
            self._loaded = time.monotonic()
            if script.fault in ("cut", "reset", "eof_no_done"):
                await asyncio.sleep(answer.due_s(len(answer.deltas)))
                return Streamed(broken())
            if script.fault == "error_mid_stream":
                await asyncio.sleep(answer.due_s(len(answer.deltas) // 2))
                return native_error(500, self._error())
            await asyncio.sleep(answer.due_s(len(answer.deltas)))
            together: dict[str, Any] = {}
            logprobs: list[Any] = []
            for place, delta in enumerate(answer.deltas):
                for name, value in self._said(place, delta).items():
                    together[name] = together[name] + value if name in together else value
                logprobs += logprobs_of(delta, self._asked)
            self._request.token_sent_at.append(time.monotonic())
            extra = {"logprobs": logprobs} if logprobs else {}
            return native({**self._head(), **self._shape(together), **self._end(), **extra})

    async def encoded(self) -> AsyncIterator[bytes]:
        """The answer line by line, at the script's pace, faults included."""
        async with self._server.room.enter(self._model):
            self._loaded = start = time.monotonic()
            for at_s, line, token in self._due():
                await asyncio.sleep(max(0.0, start + at_s - time.monotonic()))
                if line is None:
                    raise ConnectionResetError
                if token:
                    self._request.token_sent_at.append(time.monotonic())
                yield line

    def _due(self) -> Iterator[tuple[float, bytes | None, bool]]:
        """Each line, when it is due and whether it carries a token; None where the connection breaks."""
        answer, fault = self._answer, self._script.fault
        last = len(answer.deltas)
        at = last // 2 if self._script.fault_after is None else self._script.fault_after
        if fault in ("no_finish", "eof_no_done") and self._script.fault_after is None:
            at = last
        ends_early = fault in ("cut", "reset", "error_mid_stream", "no_finish", "eof_no_done")
        for place, delta in enumerate(answer.deltas[:at] if ends_early else answer.deltas):
            if fault == "garbage_line" and place == at:
                yield answer.due_s(place), b'{"model": not json\n', False
            line = {**self._head(), **self._shape(self._said(place, delta)), "done": False}
            if logprobs := logprobs_of(delta, self._asked):
                line["logprobs"] = logprobs
            yield answer.due_s(place), to_json(line) + b"\n", True
        end_s = answer.due_s(min(at, last) if ends_early else last)
        if fault in ("cut", "reset"):
            yield end_s, None, False
        elif fault == "error_mid_stream":
            yield end_s, to_json({"error": self._error()}) + b"\n", False
        elif not ends_early:
            yield end_s, to_json({**self._head(), **self._shape({}), **self._end()}) + b"\n", False

    def _error(self) -> str:
        given = self._script.error_body
        found = given.get("error") if isinstance(given, Mapping) else given
        found = found.get("message") if isinstance(found, Mapping) else found
        return str(found or "an error was encountered while running the model: unexpected EOF")

    def _said(self, place: int, delta: Mapping[str, Any]) -> dict[str, Any]:
        if "reasoning" in delta:
            return {"content": "", "thinking": delta["reasoning"]}
        if "tool_calls" in delta:
            return {"content": "", "tool_calls": [call_of(part) for part in delta["tool_calls"]]}
        return {"content": delta.get("content", "")}

    def _end(self) -> dict[str, Any]:
        """What the last object says: why it ended, counts, and durations in nanoseconds. A zero is left out."""
        answer, script = self._answer, self._script
        stays_for(self._server, self._model, self._stays_s)
        now, first_s = time.monotonic(), answer.due_s(0)
        prompt = max(0, answer.prompt_tokens - (script.cached_tokens or 0))
        numbers = {
            "total_duration": nanoseconds(now - self._began),
            "load_duration": nanoseconds(self._loaded - self._began),
            "prompt_eval_count": prompt,
            "prompt_eval_duration": nanoseconds(first_s),
            "eval_count": answer.completion_tokens,
            "eval_duration": nanoseconds(answer.due_s(len(answer.deltas)) - first_s),
        }
        if script.usage == "none":
            numbers["prompt_eval_count"] = numbers["eval_count"] = 0
        reason = "stop" if answer.finish_reason == "tool_calls" else answer.finish_reason
        return {"done": True, "done_reason": reason, **{name: n for name, n in numbers.items() if n}}


def _field(script: Script) -> Any:
    return script.reasoning_field if script.reasoning_field in ("think", "think_close_only") else "reasoning"


def nanoseconds(seconds: float) -> int:
    """Seconds as Ollama counts them; never none."""
    return max(LEAST_NS, round(seconds * 1e9))
