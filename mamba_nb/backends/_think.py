"""Reasoning between `<think>` and `</think>`, told from the answer however the tags are cut.

A closing tag without its opening one makes all text before it reasoning (templates that open the tag in the
prompt do that), unless reasoning came in a field of its own. Only the first pair counts.

Every piece of content leaves a stamp, a tag too, if need be on an empty delta: it carried tokens, and the time
to first token and the gaps between chunks count them.
"""

from __future__ import annotations

from mamba_nb.records import ReasoningDelta, ReasoningEnded, StreamEvent, TextDelta

OPEN, CLOSE = "<think>", "</think>"


class ThinkSplitter:
    """Splits the content of one answer.

    Attributes:
        separate: Set when reasoning has come in its own field; tags in the content are then the answer's.
    """

    def __init__(self) -> None:
        self.separate = False
        self._state = "start"  # start -> thinking | untagged -> gap -> answer
        self._held = ""
        self._held_at_s: list[float] = []  # arrival of the pieces of which nothing was given out yet

    def feed(self, text: str, at_s: float, events: list[StreamEvent]) -> None:
        """Append the events of a piece of content; what may be the begin of a tag is held back."""
        if self._state == "answer" or (self._state == "untagged" and not self._held and "<" not in text):
            events.append(TextDelta(at_s, text))  # nearly every piece goes this way
            return
        first = len(events)
        if self._held:
            text, self._held = self._held + text, ""
        if self._state == "start":
            text = self._begin(text)
        if self._state in ("thinking", "untagged") and not self.separate:
            text = self._until_close(text, at_s, events)
        if self._state == "gap":  # white space between the reasoning and the answer belongs to neither
            text = text.lstrip()
            if text:
                self._state = "answer"
        if text and self._state != "start":
            events.append(TextDelta(at_s, text))
        if self._held_at_s or all(isinstance(event, ReasoningEnded) for event in events[first:]):
            self._stamp(at_s, events, first)

    def flush(self, at_s: float) -> list[StreamEvent]:
        """The end: what was held back was no tag after all."""
        held, self._held = self._held, ""
        if not held:
            return []
        kind = ReasoningDelta if self._state == "thinking" else TextDelta
        arrived_at_s, self._held_at_s = self._held_at_s or [at_s], []
        return [kind(arrived_at_s[0], held), *(kind(at, "") for at in arrived_at_s[1:])]

    def _stamp(self, at_s: float, events: list[StreamEvent], first: int) -> None:
        if len(events) == first and self._held:
            self._held_at_s.append(at_s)  # what it belongs to shows later
            return
        if all(isinstance(event, ReasoningEnded) for event in events[first:]):  # a tag, or white space after it
            events.append(ReasoningDelta(at_s, ""))
        if self._held_at_s:
            kind = ReasoningDelta if isinstance(events[first], ReasoningDelta) else TextDelta
            events[first:first] = [kind(at, "") for at in self._held_at_s]
            self._held_at_s = []

    def _begin(self, text: str) -> str:
        """Decide by the first characters; gives what is left to read, holding back what does not decide yet."""
        stripped = text.lstrip()
        if not self.separate and stripped.startswith(OPEN):
            self._state = "thinking"
            return stripped[len(OPEN) :]
        if not self.separate and OPEN.startswith(stripped):
            self._held = text
            return ""
        self._state = "untagged"
        return text

    def _until_close(self, text: str, at_s: float, events: list[StreamEvent]) -> str:
        """Give out what stands before the closing tag; gives what stands after it."""
        if "<" not in text:
            before, closed, after = text, False, ""
        else:
            before, tag, after = text.partition(CLOSE)
            closed = bool(tag)
            if not closed:
                before, self._held = _hold_back(text)
        if before:
            kind = ReasoningDelta if self._state == "thinking" else TextDelta
            events.append(kind(at_s, before))
        if closed:
            if self._state == "untagged":
                events.append(ReasoningEnded(at_s))
            self._state = "gap"
        return after


def _hold_back(text: str) -> tuple[str, str]:
    """The text without an end that may be the begin of the closing tag, and that end."""
    for length in range(min(len(CLOSE) - 1, len(text)), 0, -1):
        if CLOSE.startswith(text[-length:]):
            return text[:-length], text[-length:]
    return text, ""
