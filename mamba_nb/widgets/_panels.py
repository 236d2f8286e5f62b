"""Answers that grow, as what a front end needs to paint them: a whole snapshot, or what is new since the last one.

In: `PanelState` objects that the I/O loop writes. Out: JSON. Blocks of Markdown that further text cannot change are
rendered once and sent once; only the end of an answer travels as it grows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mamba_nb.compare.progress import Answer, PanelState
from mamba_nb.display import markdown, style
from mamba_nb.display.text import count, duration, figure, visible
from mamba_nb.records import Generation

__all__ = ["PanelFeed"]

MOST_TEXT = 400_000  # characters of one answer that a panel shows; the record has all of them


class PanelFeed:
    """What a front end has been told of some panels, and what it has not."""

    def __init__(self, states: Sequence[PanelState]) -> None:
        self._feeds = [_Feed(state, index) for index, state in enumerate(states)]
        self._size = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return all(feed.state.ended for feed in self._feeds)

    @property
    def due(self) -> bool:
        """Whether the synced state is so far behind that a view opened now would miss much of it."""
        return self._length() > 2 * self._size + 4_000

    def snapshot(self) -> list[dict[str, Any]]:
        """All panels as they are now; the next `delta` begins here."""
        whole = [feed.snapshot() for feed in self._feeds]
        self._size = self._length()
        return whole

    def delta(self) -> dict[str, Any]:
        """Panel -> what has changed since the last snapshot or delta; empty where nothing has."""
        changes = {str(index): change for index, feed in enumerate(self._feeds) if (change := feed.delta())}
        return changes

    def _length(self) -> int:
        return sum(len(feed.text) + len(feed.reasoning) for feed in self._feeds)


class _Feed:
    """One panel."""

    def __init__(self, state: PanelState, index: int) -> None:
        self.state = state
        self.index = index
        self.text = ""
        self.reasoning = ""
        self._version = -1
        self._answer: Answer | None = None
        self._final: Generation | None = None
        self._rendered = 0  # characters of the text that were rendered for good
        self._html = ""
        self._told: dict[str, Any] = {}

    def snapshot(self) -> dict[str, Any]:
        self._read()
        self._told = self._facts()
        return {**self._told, "html": self._html, "tail": self._tail(), "reasoning": self.reasoning}

    def delta(self) -> dict[str, Any]:
        if self.state.version == self._version:
            return {}
        before = (self._answer, self._final, self._html, self._tail(), self.reasoning)
        self._read()
        facts = self._facts()
        change: dict[str, Any] = {
            "set": {name: value for name, value in facts.items() if self._told.get(name) != value}
        }
        self._told = facts
        same = before[:2] == (self._answer, self._final)
        for name, old, new in (
            ("html", before[2], self._html),
            ("tail", before[3], self._tail()),
            ("reasoning", before[4], self.reasoning),
        ):
            if same and old != new and new.startswith(old):
                change[f"{name}+"] = new[len(old) :]
            elif old != new:
                change[name] = new
        return change if change["set"] or len(change) > 1 else {}

    def _read(self) -> None:
        """Take over what the I/O loop has written."""
        self._version = self.state.version
        answer = self.state.answer
        if answer is not self._answer:
            self._answer, self._final, self._rendered, self._html = answer, None, 0, ""
        if answer is None:
            self.text = self.reasoning = ""
            return
        final = answer.generation
        self.text = (final.text if final else "".join(list(answer.text)))[:MOST_TEXT]
        self.reasoning = visible((final.reasoning if final else "".join(list(answer.reasoning)))[:MOST_TEXT])
        if final is not None and final is not self._final:
            self._final, self._rendered = final, len(self.text)
            self._html = markdown.html(self.text) if self.text else ""
        elif final is None:
            self._render_more()

    def _render_more(self) -> None:
        if self._rendered > len(self.text):  # what came before was reasoning all along
            self._rendered, self._html = 0, ""
        end = markdown.stable_end(self.text, self._rendered)
        if end > self._rendered:
            self._html += markdown.html(self.text[self._rendered : end])
            self._rendered = end

    def _tail(self) -> str:
        return visible(self.text[self._rendered :])

    def _facts(self) -> dict[str, Any]:
        state, answer = self.state, self._answer
        facts: dict[str, Any] = {
            "label": visible(state.label),
            "model": visible(state.model),
            "server": state.server,
            "colour": style.model_class(self.index),
            "state": state.state,
            "context": None if state.context is None else count(state.context),
            "ended": state.n_ended,
            "total": state.n_total,
            "notes": [["warning", visible(text)] for text in state.warnings],
            "calls": [],
            "figures": [],
            "prompt": visible(answer.prompt[:2000]) if answer else "",
            "number": answer.number if answer else 0,
        }
        if answer is None:
            return facts
        final = answer.generation
        facts["figures"] = _of_record(final) if final else _so_far(answer)
        if final is not None:
            if final.error:
                facts["notes"] = [["failed", visible(final.error)], *facts["notes"]]
            facts["calls"] = [
                {"name": visible(call.name), "arguments": visible(call.arguments[:5000])} for call in final.tool_calls
            ]
        return facts


def _so_far(answer: Answer) -> list[Mapping[str, str]]:
    figures = []
    if answer.ttft_ms is not None:
        figures.append(_figure("TTFT", duration(answer.ttft_ms), "send to the first token of any kind"))
    if answer.tokens_per_s is not None:
        figures.append(_figure("", f"{figure(answer.tokens_per_s)} tok/s", "tokens so far over the time since sending"))
    elif answer.chunks_per_s is not None:
        figures.append(_figure("", f"{figure(answer.chunks_per_s)} chunks/s", "a chunk is not a token"))
    return figures


def _of_record(record: Generation) -> list[Mapping[str, str]]:
    figures = []
    if record.ttft_ms is not None:
        figures.append(_figure("TTFT", duration(record.ttft_ms), "send to the first token of any kind"))
    if record.output_tokens_per_s is not None:
        rate = f"{figure(record.output_tokens_per_s)} tok/s"
        figures.append(_figure("", rate, "completion tokens over the whole latency"))
    if record.completion_tokens is not None:
        figures.append(_figure("", f"{count(record.completion_tokens)} tokens", "by the server's count"))
    if record.latency_s is not None:
        figures.append(_figure("", duration(1000 * record.latency_s), "send to the end of the answer"))
    return figures


def _figure(name: str, value: str, says: str) -> Mapping[str, str]:
    return {"name": name, "value": value, "says": says}
