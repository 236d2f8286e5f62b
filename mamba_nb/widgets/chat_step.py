"""One reply of the model in a chat: what the front end gets of it, and the calls of tools that it asked for.

In: the answer's events, on the thread that reads them. Out: JSON, as a snapshot and then as what is new.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mamba_nb.agent import ToolCalled, ToolReturned
from mamba_nb.compare.progress import PanelState
from mamba_nb.display.text import duration, one_line, visible
from mamba_nb.records import Generation
from mamba_nb.widgets._panels import PanelFeed

__all__ = ["Step", "shown"]

MOST_SHOWN = 5_000  # characters of a call's arguments or result; the record has all of them


class Step:
    """One reply of the model: its text as it grows, its figures, and the calls it asked for.

    Args:
        label: The model's name for reading.
        model: Its name on the wire.
        server: The kind of server.
        **place: Where it belongs, for the front end.
    """

    def __init__(self, label: str, model: str, server: str, **place: Any) -> None:
        self._panel = PanelState(label, model=model, server=server)
        self._feed = PanelFeed([self._panel])
        self._feed.tell(0, kind="answer", **place)
        self.answer = self._panel.begin("")
        self.calls: list[dict[str, Any]] | None = None  # None: those of the record
        self.error: Mapping[str, str | None] | None = None
        self.empty: str | None = None
        self.given = False  # it stood in the conversation before: nothing was measured

    @property
    def due(self) -> bool:
        """Whether the synced state is far behind."""
        return self._feed.due

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._panel.ended

    @property
    def text(self) -> str:
        """The visible text so far."""
        final = self.answer.generation
        return final.text if final is not None else "".join(list(self.answer.text))

    def snapshot(self) -> dict[str, Any]:
        """All of it."""
        self._tell()
        return self._feed.snapshot()[0]

    def delta(self) -> dict[str, Any]:
        """What is new since the last snapshot or delta; empty where nothing is."""
        self._tell()
        change: dict[str, Any] = self._feed.delta().get("0", {})
        return change

    def told(self) -> dict[str, Any]:
        """All that snapshots and deltas have said."""
        return self._feed.told()[0]

    def end(self, generation: Generation, server: str = "") -> None:
        """The reply has ended; its error stands apart from its notes."""
        self._panel.server = server or self._panel.server
        self.answer.end(replace(generation, error=None))

    def call(self, event: ToolCalled) -> None:
        """It asked for a tool, which runs now."""
        if self.calls is None:
            self.calls = []
        self.calls.append(
            {
                "id": event.id,
                "name": one_line(event.name, 80),
                "arguments": shown(event.arguments),
                "result": None,
                "state": "running",
                "took": None,
                "at_s": event.at_s,
            }
        )

    def returned(self, event: ToolReturned) -> None:
        """A tool has a result, or none."""
        for call in self.calls or ():
            if call["id"] == event.id:
                failed = event.error is not None
                call["result"] = shown(event.error if failed else event.result)
                call["took"] = duration(1000 * (event.at_s - call["at_s"]))
                call["state"] = "failed" if failed else "done"

    def end_calls(self, state: str) -> None:
        """What has no result by now will have none."""
        for call in self.calls or ():
            if call["state"] == "running":
                call["state"] = state

    def say(self, state: str) -> None:
        """What is being waited for, as long as nothing has come."""
        answer = self.answer
        if not self.ended and not answer.chunks and answer.state not in (state, "reading prompt"):
            answer.state = state

    def _tell(self) -> None:
        facts: dict[str, Any] = {"error": self.error, "empty": self.empty, "calling": False}
        if self.calls is not None:
            facts["calls"] = [dict(call) for call in self.calls]
            facts["calling"] = any(call["state"] == "running" for call in self.calls)
        if self.given:
            facts["figures"] = []
        self._feed.tell(0, **facts)


def shown(value: Any) -> str:
    """A call's arguments or result, to read: text as it is, else JSON."""
    if not isinstance(value, str):
        try:
            value = json.dumps(value, indent=2, ensure_ascii=False, default=str)
        except (TypeError, ValueError, RecursionError):
            value = repr(value)
    return visible(value if len(value) <= MOST_SHOWN else value[: MOST_SHOWN - 1] + "…")
