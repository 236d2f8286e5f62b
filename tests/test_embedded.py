"""The embedded engine, for real: llama.cpp in its own process, with a tiny random model.

What the model says is noise, so that these tests look at shapes, schemas, processes and errors. One test at the end
starts the built-in model.
"""

from __future__ import annotations

import _thread
import asyncio
import concurrent.futures
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tiny_model import write_tiny_model

from mamba_nb import embedded
from mamba_nb._bridge import io
from mamba_nb.backends import create_embedded_backend
from mamba_nb.embedded import Engine, EngineSpec, ensure_engine, plan_engine, start_engine
from mamba_nb.errors import BadInput, EngineError, MissingExtra, WeightsMissing, WrongLoop
from mamba_nb.settings import EmbeddedSettings

posix = pytest.mark.skipif(os.name != "posix", reason="signals, forks and FIFOs are POSIX")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "Tiny-Random.F32.gguf")


@pytest.fixture(autouse=True)
def no_engine_left() -> Iterator[None]:
    yield
    embedded.stop()
    assert engines_of(os.getpid()) == []


@pytest.fixture
def fifo_spec(tmp_path: Path) -> EngineSpec:
    """A model that never finishes loading: the engine blocks, holding the GIL, until somebody writes."""
    path = tmp_path / "endless.gguf"
    os.mkfifo(path)
    return EngineSpec(model_path=path, model="endless", n_ctx=256, slots=1)


def start(tiny: Path, **sizes: Any) -> Engine:
    return start_engine(tiny, **{"n_ctx": 256, "slots": 2, "settings": EmbeddedSettings(), **sizes})


def engines_of(parent: int) -> list[int]:
    """The engine processes under `parent` that run, their guards not counted."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(parent).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.status() != psutil.STATUS_ZOMBIE and any("_child.py" in word for word in child.cmdline()):
                    found.append(child.pid)
    return found


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ends_in_time(*pids: int) -> bool:
    """Whether the processes are gone within the five seconds that are promised; what is not is killed."""
    gone = wait_until(lambda: not any(map(runs, pids)), within_s=5)
    for pid in filter(runs, pids):
        os.kill(pid, signal.SIGKILL)
    return bool(gone)


def wait_until(condition: Callable[[], Any], within_s: float = 20.0) -> Any:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    return condition()


def call(engine: Engine, path: str, body: dict[str, Any] | None = None, *, key: str | None = None) -> Any:
    request = urllib.request.Request(
        engine.base_url.removesuffix("/v1") + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key or engine.api_key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        text = response.read()
    return json.loads(text) if text[:1] in (b"{", b"[") else text.decode()


def chat(engine: Engine, prompt: str, **options: Any) -> dict[str, Any]:
    body = {"model": engine.model, "messages": [{"role": "user", "content": prompt}], **options}
    reply: dict[str, Any] = call(engine, "/v1/chat/completions", body)
    return reply


# what it is


def test_it_answers_a_chat_over_http(tiny: Path) -> None:
    engine = start(tiny)
    reply = chat(engine, "Hello", max_tokens=5, temperature=0)
    assert reply["model"] == "tiny-random"
    assert reply["choices"][0]["message"]["role"] == "assistant"
    assert reply["usage"]["completion_tokens"] == 5


def test_it_is_called_by_its_alias_and_has_the_slots_and_the_context_that_were_asked_for(tiny: Path) -> None:
    engine = start(tiny, n_ctx=512, slots=3)
    assert (engine.model, engine.n_ctx, engine.slots) == ("tiny-random", 512, 3)
    [model] = call(engine, "/v1/models")["data"]
    assert (model["id"], model["meta"]["n_ctx"]) == ("tiny-random", 512)
    props = call(engine, "/props")
    assert (props["total_slots"], props["default_generation_settings"]["n_ctx"]) == (3, 512)
    assert "llamacpp:" in call(engine, "/metrics")


def test_it_listens_on_loopback_only(tiny: Path) -> None:
    engine = start(tiny)
    listening = [c.laddr.ip for c in psutil.Process(engine.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert listening == ["127.0.0.1"]


def test_a_wrong_key_is_refused_and_the_right_one_is_shown_nowhere(tiny: Path) -> None:
    engine = start(tiny)
    with pytest.raises(urllib.error.HTTPError) as refused:
        call(engine, "/v1/chat/completions", {"messages": []}, key="wrong")
    assert refused.value.code == 401
    refused.value.close()
    assert len(engine.api_key) >= 32
    shown = f"{engine!r} {embedded.status()!r} {psutil.Process(engine.pid).cmdline()}"
    assert engine.api_key not in shown


def test_it_obeys_a_json_schema(tiny: Path) -> None:
    engine = start(tiny, n_ctx=1024, slots=1)
    properties = {"colour": {"enum": ["red", "green", "blue"]}, "sure": {"type": "boolean"}}
    schema = {"type": "object", "properties": properties, "required": ["colour", "sure"], "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    reply = chat(engine, "Which colour?", response_format=wanted, max_tokens=400, seed=1)
    answer = json.loads(reply["choices"][0]["message"]["content"])
    assert answer.keys() == {"colour", "sure"}
    assert answer["colour"] in ("red", "green", "blue") and isinstance(answer["sure"], bool)


def test_it_declares_what_the_chat_template_can_do(tiny: Path, tmp_path: Path) -> None:
    without = start(tiny).declared
    assert without["supports_tools"].value is False
    assert "ignores `tools` and `tool_choice` in silence" in without["supports_tools"].evidence
    assert without["supports_json_schema"].value is True
    assert without["supports_vision"].value is False
    assert without["context_window"].value == 256
    with_tools = start(write_tiny_model(tmp_path / "tools.gguf", tools=True)).declared
    assert with_tools["supports_tools"].value is True
    assert embedded.DECLARED["supports_tools"].value is False
    assert embedded.DECLARED["context_window"].value is None


def test_the_engine_is_never_imported_into_the_users_process(tiny: Path) -> None:
    start(tiny)
    assert "xllamacpp" not in sys.modules


# sharing, stopping, restarting


def test_askers_for_the_same_engine_share_one_process(tiny: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.gguf"
    link.symlink_to(tiny)
    first, same, larger = start(tiny), start(link), start(tiny, n_ctx=512)
    assert same is first
    assert larger.pid != first.pid
    assert sorted(engines_of(os.getpid())) == sorted([first.pid, larger.pid])


def test_many_who_ask_at_once_get_one_process(tiny: Path) -> None:
    spec = plan_engine(tiny, n_ctx=256, slots=2, settings=EmbeddedSettings())

    async def ask_twice() -> list[Engine]:
        return await asyncio.gather(ensure_engine(spec), ensure_engine(spec))

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        blocking = [pool.submit(start, tiny) for _ in range(4)]
        on_loop = io.submit(ask_twice())
        engines = [*(future.result() for future in blocking), *on_loop.result()]
    assert len({engine.pid for engine in engines}) == 1
    assert engines_of(os.getpid()) == [engines[0].pid]


def test_states_are_told_while_it_loads_and_not_when_it_runs(tiny: Path) -> None:
    states: list[str] = []
    start(tiny, on_state=states.append)
    assert states == ["loading model", "ready"]
    start(tiny, on_state=states.append)
    assert states == ["loading model", "ready", "ready"]


def test_status_tells_what_runs_and_its_memory(tiny: Path) -> None:
    assert embedded.status() == []
    engine = start(tiny)
    [status] = embedded.status()
    assert (status.model, status.pid, status.base_url) == (engine.model, engine.pid, engine.base_url)
    assert (status.slots, status.n_ctx, status.model_path) == (2, 256, tiny)
    assert status.memory_mb is not None and 10 < status.memory_mb < 2000
    assert status.uptime_s >= 0
    assert repr(status).startswith(f"<EngineStatus tiny-random · {engine.base_url} · 2 slots x 256 tokens · ")


def test_stop_ends_the_named_engine_or_all_and_waits_until_they_are_gone(tiny: Path, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other.gguf")
    one, two = start(tiny), start(other)
    assert embedded.stop("nobody") == 0
    assert embedded.stop("tiny-random") == 1
    assert not runs(one.pid) and runs(two.pid)
    assert embedded.stop(other) == 1
    assert not runs(two.pid) and embedded.status() == []
    third = start(tiny)
    assert third.pid != one.pid
    assert embedded.stop() == 1


@posix
def test_an_engine_that_was_killed_is_noticed_and_started_again_when_asked_for(tiny: Path) -> None:
    engine = start(tiny)
    os.kill(engine.pid, signal.SIGKILL)
    assert wait_until(lambda: embedded.status() == [])
    successor = io.submit(ensure_engine(engine.spec)).result()
    assert successor.pid != engine.pid
    assert chat(successor, "Hello", max_tokens=2)["usage"]["completion_tokens"] == 2


# waiting, and giving up


@posix
def test_an_interrupt_while_it_loads_ends_the_process(fifo_spec: EngineSpec) -> None:
    interrupt = threading.Thread(
        target=lambda: (wait_until(lambda: engines_of(os.getpid())), _thread.interrupt_main()), daemon=True
    )
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        start_engine(fifo_spec, show=False)
    interrupt.join()
    assert engines_of(os.getpid()) == []


@posix
def test_only_the_last_waiter_to_leave_ends_the_loading(fifo_spec: EngineSpec) -> None:
    first, second = io.submit(ensure_engine(fifo_spec)), io.submit(ensure_engine(fifo_spec))
    [pid] = wait_until(lambda: engines_of(os.getpid()))
    first.cancel()
    time.sleep(0.3)
    assert runs(pid) and not second.done()
    second.cancel()
    assert wait_until(lambda: not runs(pid))


@posix
def test_stopping_an_engine_that_loads_tells_its_waiters(fifo_spec: EngineSpec) -> None:
    waiting = io.submit(ensure_engine(fifo_spec))
    wait_until(lambda: engines_of(os.getpid()))
    assert embedded.stop("endless") == 1
    with pytest.raises(EngineError, match="was stopped while it was loading endless"):
        waiting.result(10)


@posix
def test_an_engine_killed_while_it_loads_is_told_with_the_signal(fifo_spec: EngineSpec) -> None:
    waiting = io.submit(ensure_engine(fifo_spec))
    [pid] = wait_until(lambda: engines_of(os.getpid()))
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(EngineError, match=r"was ended by SIGKILL while loading .*endless\.gguf") as told:
        waiting.result(10)
    assert "ran out of memory" in str(told.value)


def test_the_blocking_form_is_refused_on_our_own_loop(tiny: Path) -> None:
    async def wrong() -> None:
        start(tiny)

    with pytest.raises(WrongLoop, match="await ensure_engine"):
        io.submit(wrong()).result(10)


# the engine never outlives its parent

PARENT = """
    import os, signal, sys, threading, time
    from pathlib import Path
    from mamba_nb import embedded
    from mamba_nb.settings import EmbeddedSettings

    def start():
        return embedded.start_engine(sys.argv[1], n_ctx=256, slots=1, settings=EmbeddedSettings(), show=False)

    def say(*words):
        print(*words, flush=True)
"""


@contextlib.contextmanager
def parent(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A Python process of its own that runs `code`; ended, with all it started, at the end of the block."""
    script = textwrap.dedent(PARENT) + textwrap.dedent(code)
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=os.name == "posix",
    )
    assert process.stdout is not None
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        with contextlib.suppress(AttributeError, ProcessLookupError):  # Windows has no groups; nobody is left
            os.killpg(process.pid, signal.SIGKILL)  # the forked survivors


def read(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


@posix
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_parent_ended_by_a_signal_leaves_no_engine(tiny: Path, how: signal.Signals) -> None:
    with parent("say(start().pid); time.sleep(60)", tiny) as process:
        pid = int(read(process)[0])
        assert runs(pid)
        process.send_signal(how)
        process.wait()
        assert ends_in_time(pid)


@pytest.mark.parametrize("ending", ["", "sys.exit(3)", "raise RuntimeError", "os._exit(0)"])
def test_a_parent_that_ends_by_itself_leaves_no_engine(tiny: Path, ending: str) -> None:
    code = f"""
        sys.stderr = open(os.devnull, "w")
        say(start().pid)
        {ending}
    """
    with parent(code, tiny) as process:
        pid = int(read(process)[0])
        process.wait(20)
        assert ends_in_time(pid)


SURVIVOR = """
    if (survivor := os.fork()) == 0:
        time.sleep(120)  # holds the engine's stdin open
        os._exit(0)
"""


@posix
def test_a_forked_survivor_of_the_parent_does_not_keep_the_engine(tiny: Path) -> None:
    code = "engine = start()" + textwrap.dedent(SURVIVOR) + "say(engine.pid, survivor)\ntime.sleep(60)"
    with parent(code, tiny) as process:
        pid, survivor = map(int, read(process))
        process.kill()
        process.wait()
        assert ends_in_time(pid)
        assert runs(survivor)


@posix
def test_nor_does_it_outlive_its_parent_while_it_is_loading(fifo_spec: EngineSpec) -> None:
    code = """
        spec = embedded.EngineSpec(model_path=Path(sys.argv[1]), model="endless", n_ctx=256, slots=1)
        threading.Thread(target=embedded.start_engine, args=(spec,), daemon=True).start()
        time.sleep(1)
    """
    code = textwrap.dedent(code) + textwrap.dedent(SURVIVOR) + "say(survivor)\ntime.sleep(60)"
    with parent(code, fifo_spec.model_path) as process:
        assert runs(int(read(process)[0]))
        [pid] = wait_until(lambda: engines_of(process.pid))
        wait_until(lambda: psutil.Process(pid).children())
        family = [pid, *(guard.pid for guard in psutil.Process(pid).children())]
        assert len(family) == 2
        process.kill()
        process.wait()
        assert ends_in_time(*family)


@posix
def test_the_guard_is_gone_once_the_model_is_loaded(tiny: Path) -> None:
    assert psutil.Process(start(tiny).pid).children() == []


@posix
def test_an_interrupt_of_the_parents_group_does_not_reach_the_engine(tiny: Path) -> None:
    code = """
        signal.signal(signal.SIGINT, lambda *_: say("interrupted"))
        engine = start()
        say(engine.pid)
        while True:
            time.sleep(0.1)
    """
    with parent(code, tiny) as process:
        pid = int(read(process)[0])
        os.killpg(process.pid, signal.SIGINT)
        assert read(process) == ["interrupted"]
        os.kill(pid, signal.SIGINT)  # not even its own
        time.sleep(0.3)
        assert runs(pid)


@posix
def test_a_forked_child_leaves_its_parents_engine_alone_and_may_start_its_own(tiny: Path) -> None:
    code = """
        engine = start()
        if os.fork() == 0:
            assert embedded.status() == [] and embedded.stop() == 0
            say("own", start().pid)
            sys.exit()  # through atexit
        os.wait()
        say("parent", engine.pid, *(status.pid for status in embedded.status()))
        time.sleep(60)
    """
    with parent(code, tiny) as process:
        _, own = read(process)
        _, pid, seen = read(process)
        assert own != pid == seen
        assert ends_in_time(int(own))
        assert runs(int(pid))


# what is refused


def test_a_missing_file_is_told_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="There is no file at") as told:
        start(tmp_path / "none.gguf")
    assert isinstance(told.value, FileNotFoundError)


def test_a_damaged_model_is_told_in_llama_cpps_words(tiny: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(tiny.read_bytes()[:200_000])
    with pytest.raises(EngineError, match=r"could not load .*error loading model: .*incomplete") as told:
        start(damaged)
    assert told.value.server_says is not None and "0.00." not in told.value.server_says


def test_an_engine_that_does_not_fit_into_memory_is_refused_with_both_numbers(tmp_path: Path) -> None:
    # 2 layers x 4 heads x (16 + 16) x 2 bytes = 512 bytes a token; 64 slots of 10^9 tokens take 32,768,000 MB.
    endless = write_tiny_model(tmp_path / "endless.gguf", context=1_000_000_000)
    with pytest.raises(EngineError, match=r"takes about 327680\d\d MB; \d+ MB are free") as told:
        start(endless, n_ctx=1_000_000_000, slots=64)
    assert "n_ctx" in str(told.value)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"n_ctx": 0}, "n_ctx must be a whole number greater than 0. What came: 0"),
        ({"n_ctx": "512"}, "What came: '512'"),
        ({"slots": 65}, "slots must be a whole number from 1 to 64"),
        ({"threads": True}, "threads must be a whole number"),
        ({"n_ctx": 1025}, "trained for 1024 tokens"),
        ({"settings": EmbeddedSettings(n_ctx=2048), "n_ctx": None}, "trained for 1024 tokens"),
    ],
)
def test_sizes_that_cannot_be_are_refused(tiny: Path, sizes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        start(tiny, **sizes)


def test_sizes_come_from_the_settings_and_a_short_model_shortens_the_default(tiny: Path) -> None:
    spec = plan_engine(tiny, settings=EmbeddedSettings(slots=3, threads=1))
    assert (spec.slots, spec.threads, spec.n_ctx) == (3, 1, 1024)
    assert plan_engine(settings=EmbeddedSettings(model_path=tiny, n_ctx=512)).n_ctx == 512
    assert plan_engine(tiny, n_ctx=128, slots=1, settings=EmbeddedSettings(slots=3)).slots == 1


def test_without_the_engines_package_the_pip_line_is_said(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingExtra, match=r'pip install "mamba_nb\[embedded\]"'):
        start(tiny)
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(EngineError, match=r"no wheel .* on riscv64"):
        start(tiny)


# the built-in model


@pytest.mark.real_model
def test_the_built_in_model_gives_a_sensible_answer() -> None:
    engine = start_engine(embedded.SMOLLM2.model, n_ctx=2048, slots=2, download=True, settings=EmbeddedSettings())
    assert engine.model == "smollm2-135m-instruct"
    question: dict[str, Any] = {"temperature": 0, "max_tokens": 24}
    reply = chat(engine, "What is 2+2?", **question)
    assert "4" in reply["choices"][0]["message"]["content"]
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    ignoring = chat(engine, "What is 2+2?", tools=[tool], tool_choice="required", **question)
    assert ignoring["usage"]["prompt_tokens"] == reply["usage"]["prompt_tokens"]
    assert "tool_calls" not in ignoring["choices"][0]["message"]
    assert engine.declared["supports_tools"].value is False


def test_a_backend_answers_again_after_its_engine_was_stopped_or_killed(tiny: Path) -> None:
    with create_embedded_backend(tiny, n_ctx=256, slots=1) as backend:
        first = backend.base_url
        assert backend.ask("Hi", max_tokens=4).status == "done"
        embedded.stop()
        assert backend.ask("Hi", max_tokens=4).status == "done"
        (engine,) = embedded.status()
        os.kill(engine.pid, signal.SIGKILL)
        wait_until(lambda: not runs(engine.pid))
        assert backend.ask("Hi", max_tokens=4).status == "done"
        assert backend.base_url != first
        assert backend.profile.fact("supports_tools").source == "declared"
