"""Blind votes: the answers of a comparison side by side without names, a choice by key, then who they were."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mamba_nb._bridge import Run, run_in_background
from mamba_nb.compare import votes as stats
from mamba_nb.compare.votes_file import VotesFile, find_file
from mamba_nb.compare.votes_items import Ballot, items_of
from mamba_nb.display.text import visible
from mamba_nb.errors import BadInput, MissingExtra
from mamba_nb.records import Comparison
from mamba_nb.widgets import vote_shown
from mamba_nb.widgets._base import MambaWidget, script, sheet
from mamba_nb.widgets._painter import painter
from mamba_nb.widgets.vote_frames import ratings_frame, votes_frame
from mamba_nb.widgets.vote_session import Session, checked_items

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["VoteView"]

LOOK_S = 0.5  # between looks at a comparison that runs
PAUSE_S = 0.2  # from a vote to working out the ratings


class VoteView(MambaWidget):
    """Vote blind on the answers of a comparison.

        grid = compare(["ollama/qwen3:8b", "ollama/llama3.2"], prompts)
        view = VoteView(grid)
        view                        # vote; then, in another cell:
        view.votes                  # a DataFrame
        view.ratings()              # Bradley-Terry, with 95 % intervals

    Answers stand in an order shuffled for each item, as rendered Markdown, without names, timings or reasoning, which
    are not in the page either until the vote is locked. With the widget in focus: 1 to 4 choose an answer, 0 is a tie,
    b or - says that all are bad, s skips, u takes back what is not locked, Enter locks, and then goes on.

    Of more than four models each item shows four, drawn by the seed. An answer that failed takes no part. Votes are
    saved one by one, and found again after a kernel restart: an item is known by its prompt and answers.

    Args:
        comparison_or_run: A Comparison, or the Run of `start_compare`: an item can be voted on as soon as all its
            answers are there.
        path: The file of votes. None takes one beside the notebook, whose name the widget shows; False saves nothing.
        seed: Of the order of the answers and of the bootstrap. None shuffles by the items themselves: also the same
            after a restart.
        items: How many items to vote on, or the prompt ids to vote on; None for all. A number is drawn by the seed,
            or while the comparison runs, the first.

    Raises:
        BadInput: If there is nothing to compare, or the file at `path` is not one of votes on this comparison.
    """

    _esm = script("vote")
    _css = sheet("vote")

    def __init__(
        self,
        comparison_or_run: Comparison | Run[Any, Comparison],
        *,
        path: str | os.PathLike[str] | Literal[False] | None = None,
        seed: int | None = None,
        items: int | Iterable[Any] | None = None,
    ) -> None:
        wanted = checked_items(items)
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
            raise BadInput(f"seed must be a whole number or None; this is {seed!r}.")
        self._run: Run[Any, Comparison] | None = comparison_or_run if isinstance(comparison_or_run, Run) else None
        comparison, running = self._comparison(comparison_or_run)
        if len(comparison.labels) < 2:
            raise BadInput(
                "There is one model; a vote needs two at least.",
                hint='For example compare(["ollama/llama3.2", "embedded"], prompts).',
            )
        self._labels = comparison.labels
        self._seed = seed
        self._session = Session(self._labels, seed, wanted)
        self._file: VotesFile | None = None
        self._unsaved: list[Ballot] = []
        self._view: Literal["vote", "revealed", "results"] = "vote"
        self._running = running
        self._next_look = 0.0
        self._since = time.monotonic()
        self._seen = False
        self._reckoning: Run[Any, None] | None = None
        self._rating = False
        self._to_rate: list[Ballot] | None = None
        found = items_of(comparison, running=running)
        if path is not False:
            self._file = find_file(comparison, path, [item.key for item in found], whole=not running)
            self._session.take(self._file.news())
        self._resumed = len(self._session.ballots)
        self._planned = comparison.planned // len(self._labels)
        self._found = len(found)
        self._session.offer(found, running=running)
        self._session.advance()
        super().__init__(run=str(time.time_ns()), turn=0, each=True, error=None, standings=None, reveal=None)
        self._open()
        if running:
            painter.add(self._look)

    # what people read

    @property
    def votes(self) -> pd.DataFrame:
        """All votes, one row a pair of models.

        Of more than two answers a choice gives several rows: the chosen one with each other one. A tie gives each pair,
        without a winner, and so does a vote that all are bad.

        Returns:
            The columns `model_a`, `model_b` (in the comparison's order), `winner` (missing for none), `kind` (`win`,
            `tie`, `both_bad`), `prompt`, `order` (the models as shown, first to last, between bars), `seconds` from
            showing to locking, `prompt_id`, `repeat`, `item` (what tells whether rows are of one vote), `voted_at`.
        """
        with self._lock:
            return votes_frame(self._session.counted, self._labels)

    def ratings(self) -> pd.DataFrame:
        """Bradley-Terry ratings with bootstrap intervals of 95 %.

        Returns:
            One row a model, the highest first: `model`, `rating` (the mean is 1000, 400 points more is chosen ten times
            as often), `low`, `high`, and of its votes `votes`, `wins`, `ties`, `losses`. Votes that all are bad are in
            `votes` alone. A model without a vote has no rating.

        Raises:
            MissingExtra: Without evalica: pip install "mamba_nb[stats]".
        """
        with self._lock:
            ballots = self._session.counted
        return ratings_frame(ballots, self._labels, stats.ratings(ballots, self._labels, seed=self._seed))

    def vote_by(
        self, choose: Callable[[str, list[str]], int | Literal["tie"] | None], *, most: int | None = None
    ) -> pd.DataFrame:
        """Let a function vote in the place of a person: a rule, or another model as judge.

            view.vote_by(lambda prompt, answers: min(range(len(answers)), key=lambda at: len(answers[at])))

        Args:
            choose: Gets a prompt and its answers in the order in which they are shown, without names; gives the place
                of the best, from 0, `"tie"`, or None where all are bad. What it raises ends the voting; the votes
                until then are kept.
            most: How many votes at most; None for all that are left.

        Returns:
            All votes, as `votes` has them.

        Raises:
            BadInput: If `choose` gives something else.
        """
        given = 0
        while most is None or given < most:
            with self._lock:
                self._save(self._read_others)
                item = self._session.advance()
                texts = [cell.generation.text for cell in self._session.shown]
            if item is None:
                break
            began = time.monotonic()
            place = choose(item.prompt, texts)  # not under the lock: a judging model takes its time
            choice = "bad" if place is None else place + 1 if type(place) is int else place
            with self._lock:
                if self._session.current is not item:
                    continue  # somebody has voted on it meanwhile
                if not self._session.choose(choice):
                    raise BadInput(
                        f"A vote on {len(texts)} answers is a place from 0 to {len(texts) - 1}, "
                        f'"tie", or None where all are bad; this is {place!r}.'
                    )
                self._keep(time.monotonic() - began)
            given += 1
        with self._lock:
            self._view = "vote"
            self._session.advance()
            self._open()
        return self.votes

    def __repr__(self) -> str:
        with self._lock:
            n, total = len(self._session.counted), len(self._session.items)
        return f"<VoteView {n} of {total} voted{' · more to come' if self._running else ''}>"

    def close(self) -> None:
        """Take the widget away; the comparison goes on where it runs."""
        self._stop_all()
        super().close()

    def _stop_all(self) -> None:
        self._running = False

    # a comparison that runs

    @staticmethod
    def _comparison(given: Any) -> tuple[Comparison, bool]:
        if isinstance(given, Comparison):
            return given, False
        if isinstance(given, Run):
            ended = given.done()  # asked first: what ends in between is looked at once more
            if isinstance(partial := given.partial, Comparison):
                return partial, not ended
        raise BadInput(
            f"A vote is on a Comparison, or on the Run of start_compare; this is {type(given).__name__}.",
            hint="VoteView(compare(models, prompts))",
        )

    def _look(self) -> bool:
        """Take over the answers that are there by now, on the painter's thread; whether more will come."""
        began = time.monotonic()
        if self._run is None or not self._running:
            return False
        if began < self._next_look:
            return True
        comparison, running = self._comparison(self._run)
        found = items_of(comparison, running=running)
        with self._lock:
            before = self._progress()
            self._running, self._found = running, len(found)
            self._session.offer(found, running=running)
            if self._session.current is None and self._view == "vote":
                self._session.advance()
                if self._session.current is not None or not running:
                    self._open()
            if self._progress() != before:
                if self._phase() == "open":
                    self._tell(**self._progress())
                else:
                    self.show(n=self.state["n"] + 1, **self._progress())
        self._next_look = time.monotonic() + max(LOOK_S, 20 * (time.monotonic() - began))
        return running

    # what is shown

    def _progress(self) -> dict[str, Any]:
        session = self._session
        total = len(session.items)
        if self._running:
            wanted = session.wanted if isinstance(session.wanted, int) else self._planned
            total = max(total, min(wanted, self._planned))
        return {
            "voted": len(session.counted),
            "total": total,
            "left": session.left,
            "ready": len(session.items) if self._running else None,
            "skipped": session.skipped,
            "out": 0 if self._running else max(0, self._planned - self._found),
            "saved": self._saved(),
        }

    def _saved(self) -> str:
        if self._file is None:
            return "Votes are not saved: they are in this kernel only."
        name = visible(str(self._file.path))
        if self._unsaved:
            return f"Votes not in {name} yet, but in this kernel: {len(self._unsaved)}."
        others = len(self._session.ballots) - len(self._session.counted)
        parts = [f"Votes are saved in {name}"]
        parts += [f"{self._resumed} of them from before"] if self._resumed else []
        parts += [f"{others} on other answers, not counted"] if others and not self._running else []
        parts += [f"{self._file.unread} lines could not be read"] if self._file.unread else []
        return "; ".join(parts) + "."

    def _phase(self) -> str:
        if self._view != "vote":
            return self._view
        if self._session.current is not None:
            return "open"
        if self._running:
            return "waiting"
        return "results" if self._session.items else "empty"

    def _open(self) -> None:
        """Show the open item, or where there is none what stands in its place: the whole state, without names."""
        session = self._session
        phase = self._phase()
        if phase == "results":
            self._results()
            return
        self._since, self._seen = time.monotonic(), False
        item = {"answers": []} if session.current is None else vote_shown.blind(session.current.prompt, session.shown)
        self._whole(phase=phase, item={**item, "id": self.state["turn"] + 1})

    def _whole(self, **changes: Any) -> None:
        """The whole state, as one turn that follows another."""
        fresh = {"choice": None, "reveal": None, "standings": None, "error": None, **self._progress()}
        self.show(**{**fresh, "turn": self.state["turn"] + 1, "n": self.state["n"] + 1, **changes})

    def _tell(self, **changes: Any) -> None:
        """Change what is shown without sending the answers again: a delta, which the state has too."""
        with self._lock:
            self.state.update(changes, n=self.state["n"] + 1)
            self.send(
                {"kind": "delta", "n": self.state["n"], "run": self.state["run"], "panels": {}, "set": dict(changes)}
            )

    def _results(self) -> None:
        """Show who wins in the place of an item, and leave it as plain HTML too."""
        self._view = "results"
        self._session.current = None
        self._whole(phase="results", item={"answers": [], "id": 0}, standings=self._reckon())

    def _reckon(self) -> dict[str, Any]:
        """What the votes say without ratings; these take a second, and come after."""
        self._to_rate = ballots = self._session.counted
        if not self._rating:
            self._rating = True
            self._reckoning = run_in_background(self._rate)
        return vote_shown.standings(ballots, self._labels, None, pending=True)

    def _rate(self) -> None:
        """Work out the ratings, in a thread of its own; one at a time, and none that nobody would see."""
        while True:
            time.sleep(PAUSE_S)  # a quick voter has gone on by then
            with self._lock:
                ballots, self._to_rate = self._to_rate, None
                if ballots is None or self._view == "vote":
                    self._rating = False
                    return
            rated, note = None, ""
            try:
                rated = stats.ratings(ballots, self._labels, seed=self._seed)
            except MissingExtra as error:
                note = f"{error.message} {error.hint}"
            shown = vote_shown.standings(ballots, self._labels, rated, note)
            with self._lock:
                if self._to_rate is None:
                    self._rated(shown, len(ballots))

    def _rated(self, shown: dict[str, Any], voted: int) -> None:
        if self._view == "revealed":
            self._tell(standings=shown)
        elif self._view == "results":  # perhaps before the front end hears deltas
            self.show(standings=shown, n=self.state["n"] + 1)
            self.fold(vote_shown.result_html(shown, voted), "The result of the blind votes")

    # what the voter does; `at` is the turn that was in sight, so that a late key does nothing to the next item

    def _at(self, at: Any, phase: str) -> bool:
        return bool(at == self.state["turn"] and self._phase() == phase)

    def _do_seen(self, at: Any = None) -> None:
        with self._lock:
            if self._at(at, "open") and not self._seen:
                self._since, self._seen = time.monotonic(), True

    def _do_choose(self, at: Any = None, choice: Any = None) -> None:
        with self._lock:
            if self._at(at, "open") and self._session.choose(choice):
                self._tell(choice=choice)

    def _do_undo(self, at: Any = None) -> None:
        with self._lock:
            if not self._at(at, "open"):
                return
            if self._session.undo():
                self._open()
            else:
                self._tell(choice=None)

    def _do_skip(self, at: Any = None) -> None:
        with self._lock:
            if self._at(at, "open"):
                self._session.skip()
                self._open()

    def _do_lock(self, at: Any = None) -> None:
        with self._lock:
            if not self._at(at, "open") or self._session.choice is None:
                return
            error = self._save(self._read_others)
            item, cells = self._session.current, self._session.shown
            if item is not None and item.key in self._session.ballots:  # voted on in another widget meanwhile
                self._session.advance()
                self._open()
                return
            error = self._keep(time.monotonic() - self._since) or error
            if not self.state["each"]:
                self._session.advance()
                self._open()
                self._tell(error=error)
                return
            self._view = "revealed"
            self._tell(
                phase="revealed",
                turn=self.state["turn"] + 1,
                reveal=vote_shown.unblinded(cells, self._labels),
                standings=self._reckon(),
                error=error,
                **self._progress(),
            )

    def _do_next(self, at: Any = None) -> None:
        with self._lock:
            if self._at(at, "revealed"):
                self._view = "vote"
                self._session.advance()
                self._open()

    def _do_results(self, at: Any = None) -> None:
        with self._lock:
            if at == self.state["turn"] and self._phase() in ("open", "revealed", "waiting"):
                self._results()

    def _do_resume(self, at: Any = None) -> None:
        """Back to voting; what was skipped comes again where nothing else is left."""
        with self._lock:
            if not self._at(at, "results"):
                return
            if self._session.left == self._session.skipped:
                self._session.forget_skips()
            self._view = "vote"
            self.fold("", "")
            self._session.advance()
            self._open()

    def _do_each(self, at: Any = None, on: Any = None) -> None:
        self._tell(each=bool(on))

    def _do_whole(self) -> None:
        with self._lock:
            self.show(n=self.state["n"] + 1)

    # the file

    def _save(self, step: Callable[[], None]) -> dict[str, str | None] | None:
        """A step with the file; what is wrong with it must not keep anybody from voting."""
        try:
            step()
        except (OSError, BadInput) as error:
            place = visible(str(self._file.path if self._file else Path()))
            return {
                "message": f"{place} cannot be used: {visible(_why(error))}",
                "hint": "The votes are kept in this kernel, and written with the next one if that works again.",
                "says": None,
            }
        return None

    def _keep(self, seconds: float) -> dict[str, str | None] | None:
        """Make the choice a vote and save it; what is wrong with the file."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        ballot = self._session.lock(round(seconds, 3), now)
        if ballot is None or self._file is None:
            return None
        self._unsaved.append(ballot)
        return self._save(self._write)

    def _read_others(self) -> None:
        if self._file is not None:
            self._session.take(self._file.news())

    def _write(self) -> None:
        while self._file is not None and self._unsaved:
            self._file.append(self._unsaved[0])
            self._unsaved.pop(0)


def _why(error: OSError | BadInput) -> str:
    """What is wrong, without the number and the path that the system's own words have."""
    return f"{error.strerror}." if isinstance(error, OSError) and error.strerror else str(error)
