"""Answers that grow, as what a front end needs to paint them: a whole snapshot, or what is new since the last one.

In: `PanelState` objects that the I/O loop writes. Out: JSON. Blocks of Markdown that further text cannot change are
rendered once and sent once; only the end of an answer travels as it grows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mamba_nb.compare.progress import Answer, PanelState
from mamba_nb.display import markdown, style
from mamba_nb.display.text import UNKNOWN, count, duration, figure, one_line, visible
from mamba_nb.records import Generation, Usage

__all__ = ["PanelFeed"]

MOST_TEXT = 400_000  # characters of one answer that a panel shows; the record has all of them
MOST_ARGUMENTS = 5_000  # characters of a tool call's arguments
MOST_PROMPT = 2_000
GROWING = ("html", "tail", "reasoning")


class PanelFeed:
    """What a front end has been told of some panels, and what it has not.

    Args:
        states: What the panels show, in their order.
        colours: The place of each model in the order of the colours; None takes the panels' order.
    """

    def __init__(self, states: Sequence[PanelState], colours: Sequence[int] | None = None) -> None:
        places = range(len(states)) if colours is None else colours
        self._feeds = [_Feed(state, place) for state, place in zip(states, places, strict=True)]
        self._size = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return all(feed.state.ended for feed in self._feeds)

    @property
    def due(self) -> bool:
        """Whether the synced state is so far behind that a copy of it would miss much."""
        return self._length() > 2 * self._size + 4_000

    def put(self, index: int, state: PanelState) -> None:
        """Show another state in a panel."""
        feed = self._feeds[index]
        if feed.state is not state:
            feed.state, feed.stale = state, True

    def tell(self, index: int, **facts: Any) -> None:
        """Say more of a panel, as JSON; it stands beside what the panel says itself, and wins over it."""
        feed = self._feeds[index]
        if any(feed.extra.get(name, feed) != value for name, value in facts.items()):
            feed.extra, feed.stale = {**feed.extra, **facts}, True

    def snapshot(self) -> list[dict[str, Any]]:
        """All panels as they are now; the next `delta` begins here."""
        for feed in self._feeds:
            feed.look()
        self._size = self._length()
        return self.told()

    def told(self) -> list[dict[str, Any]]:
        """All panels as the front end has them: the last snapshot, and the deltas since."""
        return [dict(feed.told) for feed in self._feeds]

    def delta(self) -> dict[str, Any]:
        """Panel -> what has changed since the last snapshot or delta; empty where nothing has."""
        return {str(index): change for index, feed in enumerate(self._feeds) if (change := feed.delta())}

    def _length(self) -> int:
        return sum(len(feed.text) + len(feed.reasoning) for feed in self._feeds)


class _Feed:
    """One panel."""

    def __init__(self, state: PanelState, place: int) -> None:
        self.state = state
        self.extra: dict[str, Any] = {}
        self.stale = True  # what is shown has changed in another way than by growing
        self.text = ""
        self.reasoning = ""
        self.told: dict[str, Any] = {}
        self._place = place
        self._version = -1
        self._answer: Answer | None = None
        self._final: Generation | None = None
        self._rendered = 0  # characters of the text that were rendered for good
        self._html = ""

    def look(self) -> None:
        """Take over what the I/O loop has written."""
        self.stale, self._version = False, self.state.version
        self._read()
        self.told = {
            **self._facts(),
            **self.extra,
            "html": self._html,
            "tail": visible(self.text[self._rendered :]),
            "reasoning": self.reasoning,
        }

    def delta(self) -> dict[str, Any]:
        if not self.stale and self.state.version == self._version:
            return {}
        before = self.told
        self.look()
        changed = {name: value for name, value in self.told.items() if before.get(name, self) != value}
        change: dict[str, Any] = {}
        for name in GROWING:
            if name in changed:
                new, old = changed.pop(name), before.get(name, "")
                grown = old and new.startswith(old)
                change[f"{name}+" if grown else name] = new[len(old) :] if grown else new
        return {**change, "set": changed} if changed or change else {}

    def _read(self) -> None:
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

    def _facts(self) -> dict[str, Any]:
        state, answer = self.state, self._answer
        final = answer.generation if answer else None
        return {
            "label": one_line(state.label),
            "model": one_line(state.model),
            "server": one_line(state.server),
            "colour": style.model_class(self._place),
            "state": state.state,
            "context": None if state.context is None else count(state.context),
            "ended": state.n_ended,
            "total": state.n_total,
            "notes": _notes(state, final),
            "calls": _calls(final),
            "figures": _figures(answer),
            "thinking": _thinking(answer, final) if self.reasoning else "",
            "empty": final is not None and final.status == "done" and not final.text and not final.tool_calls,
            "prompt": visible(answer.prompt[:MOST_PROMPT]) if answer else "",
            "number": answer.number if answer else 0,
        }


def _notes(state: PanelState, final: Generation | None) -> list[list[str]]:
    """What to know of the answer and of its column: pairs of kind and text."""
    notes = []
    if final is not None and final.error:
        notes.append(["warning" if final.status == "done" else final.status, visible(final.error)])
    if final is not None and len(final.text) > MOST_TEXT:
        notes.append(["warning", f"Shown: {count(MOST_TEXT)} of {count(len(final.text))} characters."])
    if state.n_total > 1:
        for n, status in ((state.n_failed, "failed"), (state.n_stopped, "stopped")):
            notes += [[status, f"{count(n)} of {count(state.n_total)} {status}"]] * bool(n)
    return notes + [["warning", visible(text)] for text in state.warnings]


def _calls(final: Generation | None) -> list[Mapping[str, str]]:
    return [
        {"name": one_line(call.name), "arguments": visible(call.arguments[:MOST_ARGUMENTS])}
        for call in (final.tool_calls if final else ())
    ]


def _thinking(answer: Answer | None, final: Generation | None) -> str:
    """How much reasoning there is: in tokens where the server counts them."""
    usage: Usage | None = final.usage if final else answer.usage if answer else None
    if usage is not None and usage.reasoning_tokens:
        return _so_many(usage.reasoning_tokens, "token")
    pieces = (final.reasoning,) if final else list(answer.reasoning) if answer else ()
    return _so_many(sum(map(len, pieces)), "character")


def _so_many(number: int, unit: str) -> str:
    return f"{count(number)} {unit}{'' if number == 1 else 's'}"


def _figures(answer: Answer | None) -> list[Mapping[str, str]]:
    """The same four at all times, so that nothing moves when one becomes known."""
    final = answer.generation if answer else None
    ttft = final.ttft_ms if final else answer.ttft_ms if answer else None
    latency = final.latency_s if final else None
    tokens = final.completion_tokens if final else answer.usage.completion_tokens if answer and answer.usage else None
    why = "nothing was asked" if answer is None else "not known yet" if final is None else "it was not measured"
    no_count = "the server did not count" if final else why
    return [
        _figure("TTFT", None if ttft is None else duration(ttft), "send to the first token of any kind", why),
        _rate(answer, final, no_count),
        _figure("", None if tokens is None else _so_many(tokens, "token"), "by the server's count", no_count, "tokens"),
        _figure("", None if latency is None else duration(1000 * latency), "send to the end of the answer", why, "s"),
    ]


def _rate(answer: Answer | None, final: Generation | None, why: str) -> Mapping[str, str]:
    counted = final.output_tokens_per_s if final else answer.tokens_per_s if answer else None
    chunks = answer.chunks_per_s if answer and not final else None
    if counted is None and chunks is not None:
        return _figure("", f"{figure(chunks)} chunks/s", "a chunk can carry several tokens", why)
    says = "completion tokens over the whole latency" if final else "tokens so far over the time since send"
    return _figure("", None if counted is None else f"{figure(counted)} tok/s", says, why, "tok/s")


def _figure(name: str, value: str | None, says: str, why_unknown: str, unit: str = "") -> Mapping[str, str]:
    if value is None:
        return {"name": name, "value": f"{UNKNOWN} {unit}".strip(), "says": why_unknown}
    return {"name": name, "value": value, "says": says}
