"""Ollama's own stream: lines of JSON in, the same StreamEvents out as from `/v1`.

Each line is turned into the chunk that Ollama's `/v1` would have made of it and read by the reader of those, so
`<think>` tags, halves of characters, tool calls and errors in mid-stream are treated alike.

Sources: Ollama, api/types.go (ChatResponse, Metrics, Logprob), server/routes.go (ChatHandler, streamResponse),
openai/openai.go (ToChatCompletion: a finish reason of `stop` is `tool_calls` where there were any).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mamba_nb.backends._reader import StreamFault, StreamReader
from mamba_nb.records import StreamEvent

# Ollama's names, in nanoseconds -> ours, in milliseconds.
DURATIONS = {
    "load_duration": "load_ms",
    "prompt_eval_duration": "prompt_ms",
    "eval_duration": "decode_ms",
    "total_duration": "total_ms",
}
FACTS = ("done_reason", "prompt_eval_count", "eval_count", "remote_model", "remote_host")


class NativeReader(StreamReader):
    """Reads one answer of `/api/chat`, streamed or whole; its attributes are those of StreamReader.

    `facts` has the server's durations under its own names, in nanoseconds, and `load_ms`, `prompt_ms`, `decode_ms`
    and `total_ms` made from them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._called = False

    def whole(self, body: Any, at_s: float) -> list[StreamEvent]:
        """Read a whole reply, as a request that is not streamed gives.

        Raises:
            StreamFault: If it is an error, or no answer.
        """
        if not isinstance(body, dict) or not isinstance(body.get("message"), dict) or body.get("error"):
            raise StreamFault(body)
        events: list[StreamEvent] = []
        self._chunk(body, at_s, events)
        events += self._think.flush(at_s)
        self.done = True
        return events

    def _chunk(self, chunk: Mapping[str, Any], at_s: float, events: list[StreamEvent]) -> None:
        if chunk.get("error"):
            raise StreamFault(chunk)
        super()._chunk(self._as_openai(chunk), at_s, events)
        if chunk.get("done") is True:
            self.done = True
            self._keep_facts(chunk)

    def _as_openai(self, line: Mapping[str, Any]) -> dict[str, Any]:
        message = line.get("message")
        message = message if isinstance(message, dict) else {}
        delta: dict[str, Any] = {"content": message.get("content"), "reasoning": message.get("thinking")}
        if isinstance(calls := message.get("tool_calls"), list):
            delta["tool_calls"] = [_call(call) for call in calls if isinstance(call, dict)]
            self._called = self._called or bool(delta["tool_calls"])
        choice: dict[str, Any] = {"index": 0, "delta": delta}
        if isinstance(logprobs := line.get("logprobs"), list):
            choice["logprobs"] = {"content": logprobs}
        chunk: dict[str, Any] = {"model": line.get("model"), "choices": [choice]}
        if line.get("done") is True:
            reason = line.get("done_reason")
            reason = reason if isinstance(reason, str) and reason else "stop"  # none before 0.1.38
            choice["finish_reason"] = "tool_calls" if reason == "stop" and self._called else reason
            chunk["usage"] = {
                "prompt_tokens": line.get("prompt_eval_count"),
                "completion_tokens": line.get("eval_count"),
            }
        return chunk

    def _keep_facts(self, line: Mapping[str, Any]) -> None:
        self.facts.update((name, line[name]) for name in FACTS if line.get(name) is not None)
        for name, ours in DURATIONS.items():
            value = line.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                self.facts[name] = value
                self.facts[ours] = value / 1e6


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call as `/v1` writes it. Ollama's calls come whole; their index says nothing that their order does not."""
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    arguments = function.get("arguments")
    return {
        "id": call.get("id"),
        "function": {"name": function.get("name"), "arguments": {} if arguments is None else arguments},
    }
