"""Votes on disk: JSON lines, the first about the comparison, then one a ballot, each appended as it is given.

A line is written at once, so that two widgets on one file do not cut each other's. A line that was cut short, by a
crash or a full disk, is left out and counted, and the next one begins on a line of its own. The first ballot of an
item counts: a vote that is locked stays.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mamba_nb._storage import plain
from mamba_nb.compare.votes_items import Ballot, digest
from mamba_nb.errors import BadInput
from mamba_nb.records import Comparison

__all__ = ["VotesFile", "find_file"]

FORMAT = "mamba_nb.votes"
VERSION = 1


class VotesFile:
    """The votes of one comparison, read as they come and added to.

    Args:
        path: Where they are; the file is made with the first vote.
        labels: The comparison's labels.

    Attributes:
        unread: How many lines could not be read.

    Raises:
        BadInput: If there is a file that holds something else, or votes on other models.
    """

    def __init__(self, path: str | os.PathLike[str], labels: Sequence[str]) -> None:
        self.path = Path(path)
        self.labels = tuple(labels)
        self.unread = 0
        self._read = 0  # bytes
        self._first = True
        self._waiting: list[Ballot] = self._take_new()

    def news(self) -> list[Ballot]:
        """The ballots added since the last call, by whomever; the first call gives all.

        Raises:
            BadInput: If the file holds something else by now.
            OSError: If it cannot be read.
        """
        before, self._waiting = self._waiting, []
        return before + self._take_new()

    def append(self, ballot: Ballot) -> None:
        """Add a ballot at the end; it is on its way to the disk when this returns.

        Raises:
            OSError: If it cannot be written.
        """
        lines = [json.dumps(plain(asdict(ballot)))]
        end = _last_byte(self.path)
        if not end:
            lines.insert(0, json.dumps({"format": FORMAT, "version": VERSION, "labels": list(self.labels)}))
        text = ("\n" if end not in (b"", b"\n") else "") + "".join(f"{line}\n" for line in lines)
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            written = os.write(handle, text.encode("ascii"))
            if written < len(text):
                raise OSError(f"only {written} of {len(text)} bytes could be written")
        finally:
            os.close(handle)

    def _take_new(self) -> list[Ballot]:
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                if size < self._read:  # another file by now
                    self._read, self._first = 0, True
                file.seek(self._read)
                data = file.read()
        except FileNotFoundError:
            return []
        *lines, last = data.split(b"\n")
        self._read += len(data) - len(last)
        if last and ((self._first and not lines) or _json(last) is not None):  # whole, but for its end
            lines.append(last)
            self._read += len(last)
        ballots = []
        for line in lines:
            if not line.strip():
                continue
            if self._first:
                self._check_head(_json(line))
                self._first = False
            elif (ballot := self._ballot(_json(line))) is not None:
                ballots.append(ballot)
        return ballots

    def _check_head(self, head: Any) -> None:
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            raise BadInput(
                f"{self.path} holds something else than votes; nothing was written to it.",
                hint="Give another path, or path=False to keep the votes in memory.",
            )
        if not isinstance(head.get("version"), int) or head["version"] > VERSION:
            raise BadInput(
                f"{self.path} has format {head.get('version')!r}; this version of mamba_nb reads up to {VERSION}.",
                hint="Update mamba_nb, or give another path.",
            )
        if set(head.get("labels") or ()) != set(self.labels):
            raise _other(self.path, head.get("labels") or (), self.labels)

    def _ballot(self, line: Any) -> Ballot | None:
        """The ballot in a line; what cannot be one is counted and left out."""
        if isinstance(line, dict) and line.get("format") == FORMAT:
            return None  # two widgets made the file at once
        try:
            ballot = Ballot(
                **{
                    **{name: line[name] for name in Ballot.__slots__},
                    "order": tuple(line["order"]),
                    "chars": tuple(map(int, line["chars"])),
                    "seconds": float(line["seconds"]),
                }
            )
        except (KeyError, TypeError, ValueError):
            self.unread += 1
            return None
        sound = (
            2 <= len(ballot.order) == len(ballot.chars) == len(set(ballot.order))
            and set(ballot.order) <= set(self.labels)
            and ballot.kind in ("win", "tie", "both_bad")
            and (ballot.winner in ballot.order if ballot.kind == "win" else ballot.winner is None)
            and all(isinstance(text, str) for text in (ballot.item, ballot.prompt, ballot.voted_at))
        )
        self.unread += not sound
        return ballot if sound else None


def find_file(
    comparison: Comparison, path: str | os.PathLike[str] | None, keys: Iterable[str], *, whole: bool = True
) -> VotesFile:
    """The file for a comparison's votes.

    Without a path it stands in the working folder, which is the notebook's own: the `votes-*.jsonl` there that has
    votes on these very answers, else a new one named after the comparison.

    Args:
        comparison: What is voted on.
        path: A file, or None.
        keys: The keys of its items.
        whole: Whether these are all items. If not, votes on others do not make a file another comparison's.

    Raises:
        BadInput: If the file at `path` is not one of votes on this comparison.
    """
    known = set(keys)
    if path is not None:
        file = VotesFile(path, comparison.labels)
        if whole and not _fits(file, known):
            raise _other(file.path, (), ())
        return file
    ours = Path(f"votes-{_name(comparison)}.jsonl")
    files: dict[Path, VotesFile] = {}
    for candidate in [ours, *sorted(Path().glob("votes-*.jsonl"))]:
        with contextlib.suppress(BadInput, OSError):
            files[candidate] = file = VotesFile(candidate, comparison.labels)
            if any(ballot.item in known for ballot in file._waiting):
                return file
    if ours in files and (not whole or _fits(files[ours], known)):
        return files[ours]
    number = 2
    while ours.exists():
        ours = Path(f"votes-{_name(comparison)}-{number}.jsonl")
        number += 1
    return VotesFile(ours, comparison.labels)


def _last_byte(path: Path) -> bytes:
    """The last byte, which is an end of line unless the last line was cut short; nothing without a file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            return file.read()
    except FileNotFoundError:
        return b""


def _fits(file: VotesFile, known: set[str]) -> bool:
    return not file._waiting or any(ballot.item in known for ballot in file._waiting)


def _name(comparison: Comparison) -> str:
    """The same for a comparison that runs and for what it becomes."""
    if comparison.started_at is not None:
        return digest([list(comparison.labels), comparison.started_at])[:8]
    return digest([[cell.label, cell.prompt, cell.generation.text] for cell in comparison.cells])[:8]


def _json(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _other(path: Path, there: Iterable[str], here: Iterable[str]) -> BadInput:
    models = f" There it is {', '.join(map(str, there))}; here {', '.join(here)}." if there else ""
    return BadInput(
        f"{path} holds votes on another comparison, and nothing was written to it.{models}",
        hint="Give another path, or path=False to keep the votes in memory.",
    )
