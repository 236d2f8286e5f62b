"""Stream events folded into one Generation: append to lists, freeze once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mamba_nb.backends._truncation import Outcome
from mamba_nb.records import (
    Finished,
    Generation,
    ReasoningDelta,
    ReasoningEnded,
    Request,
    Status,
    StreamEvent,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    UsageReport,
)


class GenerationBuilder:
    """Takes the events of one answer as they come; `freeze` gives the record, at any moment.

    Attributes:
        request: What was asked.
        base_url: The server's address.
        server: The kind of server, as far as known.
        warnings: What a reader must know; the backend adds to it.
    """

    def __init__(self, request: Request, *, base_url: str, server: str) -> None:
        self.request = request
        self.base_url = base_url
        self.server = server
        self.model: str | None = None
        self.warnings: list[str] = []
        self.started_at: str | None = None
        self.server_facts: Mapping[str, Any] = {}
        self.logprobs: Any = None
        self.latency_s: float | None = None
        self.streamed = True
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._text_at_s: list[float] = []
        self._reasoning_at_s: list[float] = []
        self._tool_at_s: list[float] = []
        self._calls: dict[int, list[str]] = {}
        self._usage: Usage | None = None
        self._finish: Finished | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing of an answer has come yet."""
        return not (self._text or self._reasoning or self._calls)

    @property
    def finished(self) -> bool:
        """Whether the finish reason has come."""
        return self._finish is not None

    @property
    def text(self) -> str:
        """The visible answer so far."""
        return "".join(self._text)

    @property
    def called(self) -> bool:
        """Whether a tool call has come."""
        return bool(self._calls)

    def outcome(self) -> Outcome:
        """What tells whether the prompt was cut."""
        return Outcome(
            model=self.request.model,
            prompt_tokens=self._usage.prompt_tokens if self._usage else None,
            completion_tokens=self._usage.completion_tokens if self._usage else None,
            finish_reason=self._finish.reason if self._finish else None,
            empty=self.empty,
            num_ctx=self.request.params.get("num_ctx"),
        )

    def add(self, event: StreamEvent) -> None:
        """Take one event in."""
        if isinstance(event, TextDelta):
            self._text.append(event.text)
            self._text_at_s.append(event.at_s)
        elif isinstance(event, ReasoningDelta):
            self._reasoning.append(event.text)
            self._reasoning_at_s.append(event.at_s)
        elif isinstance(event, ToolCallDelta):
            self._tool_at_s.append(event.at_s)
            call = self._calls.setdefault(event.index, [event.id, "", ""])
            call[1] += event.name
            call[2] += event.arguments
        elif isinstance(event, ReasoningEnded):
            self._reasoning, self._text = self._text, []
            self._reasoning_at_s, self._text_at_s = self._text_at_s, []
        elif isinstance(event, UsageReport):
            self._usage = event.usage
        elif isinstance(event, Finished):
            self._finish = event

    def freeze(self, status: Status = "done", *, error: BaseException | None = None) -> Generation:
        """The record of what has come so far."""
        streamed = self.streamed
        # A few servers send a last piece of text after the finish reason: the answer ends with the later one.
        ends = [at_s[-1] for at_s in (self._text_at_s, self._reasoning_at_s, self._tool_at_s) if at_s]
        end_at_s = max([*ends, self._finish.at_s]) if self._finish else None
        return Generation(
            request=self.request,
            base_url=self.base_url,
            server=self.server,
            model=self.model or self.request.model,
            text=self.text,
            reasoning="".join(self._reasoning),
            tool_calls=tuple(
                ToolCall(id=call[0], name=call[1], arguments=call[2]) for _, call in sorted(self._calls.items())
            ),
            text_at_s=tuple(self._text_at_s) if streamed else (),
            reasoning_at_s=tuple(self._reasoning_at_s) if streamed else (),
            tool_at_s=tuple(self._tool_at_s) if streamed else (),
            finish_at_s=end_at_s if streamed else None,
            latency_s=end_at_s if end_at_s is not None else self.latency_s,
            usage=self._usage,
            finish_reason=self._finish.reason if self._finish else None,
            status=status,
            error=str(error) if error is not None else None,
            error_type=type(error).__name__ if error is not None else None,
            warnings=tuple(dict.fromkeys(self.warnings)),
            server_facts=dict(self.server_facts),
            logprobs=self.logprobs,
            started_at=self.started_at,
        )
