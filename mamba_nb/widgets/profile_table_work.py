"""The work behind a profile table: asking servers, looking for them, probing, and telling the front end what changed.

In go entries and the reader's choice; out comes `state`, painted ten times a second at most and only when something has
changed. All that takes time runs on worker threads; the lock of the widget guards what they share.
"""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import Any

from mamba_nb._bridge import Run, call_in_thread, foreign, io, run_in_background
from mamba_nb.backends.profiles import list_profiles
from mamba_nb.display import profiles as profiles_html
from mamba_nb.display.text import visible
from mamba_nb.errors import MambaError, RunStopped
from mamba_nb.servers.found import Servers
from mamba_nb.widgets._base import MambaWidget, told
from mamba_nb.widgets._painter import painter
from mamba_nb.widgets.profile_table_evidence import evidence, stored_results
from mamba_nb.widgets.profile_table_models import Entry, entries
from mamba_nb.widgets.profile_table_state import Choice, compared, compose, in_order, progress

__all__ = ["TableWork"]

FOLDED = "The profiles as plain HTML, for readers without a kernel"
QUIET = {"probes", "said"}  # parts that travel alone while a probe is under way


class TableWork(MambaWidget):
    """A table of entries that paints itself; `ProfileTable` adds what people and programs do with it."""

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self._entries: list[Entry] = []
        self._places = 0
        self._unwanted: set[str] = set()  # what the reader last left out of a probe
        self._open: tuple[str, str | None] | None = None
        self._search: Run[Any, Servers] | None = None
        self._taking_in: Run[Any, None] | None = None
        self._search_notes: list[list[str]] = []
        self._said = ""
        self._copy = ""
        self._dirty = False
        self._painting = False
        self._closed = False
        super().__init__(
            names=[visible(name) for name in [*list_profiles(), "embedded"]],
            searching=False,
            search_notes=[],
            evidence=None,
            probes={},
            said="",
            error=None,
            run=str(time.time_ns()),
            **compose([], self._choice),
        )

    def wait(self, timeout: float | None = None) -> None:
        """Wait until no server is being asked or looked for; a probe that is under way is not waited for.

        Args:
            timeout: Seconds to wait for each; None waits as long as it takes.

        Raises:
            TimeoutError: If the time is over first.
            KeyboardInterrupt: On an interrupt; what was being asked is cancelled.
        """
        if io.is_current_thread() or foreign.is_current_thread():
            return  # waiting there would never end: what is known by now has to do
        while work := self._asking():
            for run in work:
                with contextlib.suppress(MambaError):  # it was stopped, or its row says what went wrong
                    run.result(timeout)

    def _stop_all(self) -> None:
        """Stop what is under way: the search, what is being asked, the probes. What was found stays."""
        with self._lock:
            work = [self._search, *(part for entry in self._entries for part in (entry.run, entry.probing))]
        for each in work:
            if each is not None:
                each.cancel()

    def close(self) -> None:
        """Stop what is under way, and take the widget away."""
        if hasattr(self, "_lock"):  # what was refused when it was made is closed too, by ipywidgets
            with self._lock:
                self._closed = True
                if self._search is not None:
                    self._search.cancel()
                for entry in self._entries:
                    call_in_thread(entry.close)
        super().close()

    def _add(self, new: list[Entry]) -> None:
        with self._lock:
            for entry in new:
                entry.place, self._places = self._places, self._places + 1
                self._entries.append(entry)
                self._ask(entry)
            self._touch()

    def _ask(self, entry: Entry, *, again: bool = False) -> None:
        entry.asking = True
        entry.run = run_in_background(partial(self._read, entry, again=again))

    def _read(self, entry: Entry, *, again: bool = False) -> None:
        entry.read(again=again)
        with self._lock:
            entry.asking = False
        self._touch()

    def _remove(self, entry: Entry) -> None:
        self._entries.remove(entry)
        if self._open is not None and self._open[0] == entry.key:
            self._open = None
        call_in_thread(entry.close)
        self._touch()

    def _asking(self) -> list[Run[Any, Any]]:
        with self._lock:
            work = [entry.run for entry in self._entries if entry.asking and entry.run is not None]
            if self._search is not None and self._taking_in is not None:
                work.append(self._taking_in)
            return [run for run in work if not run.done()]

    def _entry(self, key: Any) -> Entry | None:
        return next((entry for entry in self._entries if entry.key == key), None)

    # painting

    def _touch(self) -> None:
        """Something has changed: paint at the next tick."""
        with self._lock:
            self._dirty = True
            if not self._painting and not self._closed:
                self._painting = True
                painter.add(self._tick)

    def _tick(self) -> bool:
        with self._lock:
            if self._closed:
                return False
            if self._dirty:
                self._dirty = self._painting = False  # a paint that fails is not the last one
                self._paint()
                self._painting = True
            busy = (
                self._dirty
                or bool(self._asking())
                or any(entry.asking or (entry.probing is not None and entry.probing.busy) for entry in self._entries)
            )
            if not busy:
                self._painting = False
                self._leave_copy()
            return busy

    def _paint(self) -> None:
        """Send what has changed; where only counts have, they go alone."""
        with self._lock:
            parts = self._parts()
            changed = {name: value for name, value in parts.items() if self.state.get(name) != value}
            if not changed:
                return
            n = self.state["n"] + 1
            if QUIET.issuperset(changed):
                self.state.update(changed, n=n)  # a view that comes later finds it there
                self.send({"kind": "delta", "n": n, "run": self.state["run"], "panels": {}, "set": changed})
            else:
                self.show(**changed, n=n)

    def _parts(self) -> dict[str, Any]:
        return {
            **compose(self._entries, self._choice),
            "probes": progress(self._entries),
            "searching": self._search is not None,
            "search_notes": self._search_notes,
            "evidence": self._evidence(),
            "said": self._said,
        }

    def _do_whole(self) -> None:
        with self._lock:
            self.show(**self._parts(), n=self.state["n"] + 1)

    def _evidence(self) -> dict[str, Any] | None:
        entry = self._entry(self._open[0]) if self._open is not None else None
        if self._open is None or entry is None or entry.row is None:
            return None
        found = compared(self._entries)[0]
        row = next((row for row in found.rows if row.place == entry.place), entry.row)
        field = self._open[1]
        about = evidence(row, field, self._results(entry))
        return {"model": entry.key, "field": field, "label": visible(row.label), **about}

    def _results(self, entry: Entry) -> dict[str, Any]:
        digest = entry.row.profile.digest if entry.row is not None else None
        stored = stored_results(entry.backend, digest) if entry.backend is not None else {}
        return {**stored, **(entry.probing.results if entry.probing is not None else {})}

    def _leave_copy(self) -> None:
        comparison = in_order(compared(self._entries)[0], self._choice)
        html = profiles_html.comparison(comparison) if comparison.rows else ""
        if html != self._copy:
            self._copy = html
            self.fold(html, FOLDED)

    def _found(self, search: Run[Any, Servers]) -> None:
        servers: Servers | None = None
        try:
            servers = search.result()
        except RunStopped:
            self._search_notes = [["stopped", "The search was stopped."]]
        except MambaError as error:
            self.show(error=told(error), n=self.state["n"] + 1)
        with self._lock:
            if servers is not None and not self._closed:
                self._take_in(servers)
            self._search = None
            self._touch()

    def _take_in(self, servers: Servers) -> None:
        have = {_place(entry) for entry in self._entries}
        new = [entry for entry in entries(list(servers)) if _place(entry) not in have]
        self._add(new)
        if servers:
            models = f"{len(new)} model{'' if len(new) == 1 else 's'} added"
            self._said = f"{models}, from {len(servers)} server{'' if len(servers) == 1 else 's'}"
            self._search_notes = [["done", f"{self._said}."]]
        else:
            self._said = "No server was found."
            self._search_notes = [["idle", f"No model server was found; {servers.places} places were looked at."]]
            self._search_notes += [["idle", visible(text)] for text in servers.advice]

    def _probed(self, entry: Entry) -> None:
        """The asking is over: from here on the backend's own profile has what was found."""
        entry.read(again=True)
        counts = entry.probing.found if entry.probing is not None else 0
        self._said = f"the probe of {visible(entry.title)} has ended: {counts} capabilities"


def _place(entry: Entry) -> tuple[str, str]:
    """Which model on which server, so that a second search adds nothing twice."""
    if entry.backend is not None:
        return (entry.backend.base_url, entry.backend.model)
    base_url = getattr(entry.given, "base_url", None)
    return (str(base_url), "") if base_url else ("", entry.key)
