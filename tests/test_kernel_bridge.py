"""The bridge in real Jupyter kernels, with cells queued up as Run All queues them.

The kernel is that of the Python which runs the tests, or of MAMBA_TEST_KERNEL_PYTHON. With
MAMBA_TEST_TIMINGS=FILE the time that every interrupt took is appended to that file, one JSON line each.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kernels.driver import PROMPTLY_S, Cell, Kernel

from mamba_nb.testing import Script, ScriptedServer, words

KERNEL_PYTHON = os.environ.get("MAMBA_TEST_KERNEL_PYTHON", sys.executable)  # read before a fixture cleans up
TIMINGS = os.environ.get("MAMBA_TEST_TIMINGS")

SETUP = """
import asyncio, os, signal, sys, threading, time
import mamba_nb
from mamba_nb._bridge import Run, foreign, in_thread, io, run_in_background, run_sync, runs, wait_with_ticks

async def seven(pause_s=0.05):
    await asyncio.sleep(pause_s)
    return 7

cancelled = []

async def long():
    print("waiting", flush=True)
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        cancelled.append("long")
        raise

def counting(count=3, pause_s=0.01):
    seen = []
    async def work(run):
        try:
            for number in range(count):
                await asyncio.sleep(pause_s)
                seen.append(number)
                run.emit(number)
            return sum(seen)
        except asyncio.CancelledError:
            cancelled.append("counting")
            raise
    return Run(work, name="counting", partial=lambda: list(seen))
"""


@contextlib.contextmanager
def started(folder: Path, *, uvloop: bool = False) -> Iterator[Kernel]:
    with Kernel(folder, python=KERNEL_PYTHON, uvloop=uvloop) as kernel:
        kernel.run(SETUP)
        kernel.replies(kernel.queue("run_sync(7)"))  # for its first traceback IPython loads and parses a lot
        yield kernel


@pytest.fixture(scope="module")
def shared_kernel(tmp_path_factory):
    with started(tmp_path_factory.mktemp("kernel")) as kernel:
        yield kernel


@pytest.fixture
def kernel(shared_kernel):
    """The kernel that most tests share; nothing may be left running in it."""
    shared_kernel.run("cancelled.clear()")
    yield shared_kernel
    assert shared_kernel.value("runs().cancel(), [str(run) for run in runs()]") == (0, [])


@pytest.fixture
def own_kernel(tmp_path):
    """A kernel for a test that leaves traces in it."""
    with started(tmp_path) as kernel:
        yield kernel


def dedent(code: str) -> str:
    return textwrap.dedent(code).strip()


def printed(cells: list[Cell]) -> list[str]:
    return [cell.printed.strip() for cell in cells]


def numbered(count: int) -> list[str]:
    return [f"print({number})" for number in range(count)]


def assert_all_run(kernel: Kernel, *cells: str, expect: list[str]) -> None:
    """Queue cells with six more behind them; all run, in order."""
    replies = kernel.replies(kernel.queue(*cells, *numbered(6)))
    assert [cell.status for cell in replies] == ["ok"] * len(replies), [cell.error for cell in replies]
    assert printed(replies) == [*expect, "0", "1", "2", "3", "4", "5"]


def assert_interrupted(
    kernel: Kernel,
    cell: str,
    *,
    error: str = "KeyboardInterrupt",
    note: str = "",
    ready: Callable[[], bool] = lambda: True,
) -> None:
    """Interrupt a cell with three queued behind: it ends soon, they are aborted, the next one runs."""
    first, *behind = kernel.queue(dedent(cell), *numbered(3))
    kernel.until_printed(first, "waiting", ready)
    time.sleep(0.3)
    pressed = kernel.interrupt()
    kernel.replies([first, *behind])
    took_s = first.replied_at - pressed
    record(kernel, note or cell, took_s)
    assert took_s < PROMPTLY_S
    assert (first.status, first.error.split(":")[0]) == ("error", error), first
    assert [cell.status for cell in behind] == ["aborted"] * 3
    assert kernel.value("run_sync(seven())") == 7


def record(kernel: Kernel, what: str, took_s: float) -> None:
    if TIMINGS:
        line = {"ipykernel": ".".join(map(str, kernel.version)), "what": what, "took_s": round(took_s, 3)}
        with Path(TIMINGS).open("a") as file:
            file.write(json.dumps(line) + "\n")


def test_the_kernel_is_the_one_that_was_asked_for(kernel):
    assert kernel.value("sys.executable") == KERNEL_PYTHON


# run_sync, wherever it is called


def test_run_sync_and_runs_in_cells_with_others_queued_behind(kernel):
    assert_all_run(
        kernel,
        "print(run_sync(seven()))",
        "print(run_sync(counting()), list(counting()))",
        "print(await counting(), [event async for event in counting()])",
        "print(await asyncio.gather(counting(), counting(4)))",
        "print(run_sync(seven()), await seven(), run_sync(seven()))",
        expect=["7", "3 [0, 1, 2]", "3 [0, 1, 2]", "[3, 6]", "7 7 7"],
    )


def test_run_sync_in_a_thread_and_in_a_sync_tool(kernel):
    assert_all_run(
        kernel,
        dedent(
            """
            found = []
            thread = threading.Thread(target=lambda: found.append(run_sync(seven())))
            thread.start(); thread.join(); print(found)
            """
        ),
        dedent(
            """
            def tool():
                return run_sync(seven())

            async def agent(run):
                return await in_thread(tool)

            print(Run(agent, name="agent", on=foreign).result(), await Run(agent, name="agent"))
            """
        ),
        expect=["[7]", "7 7"],
    )


BUTTON = dedent(
    """
    import ipywidgets
    button = ipywidgets.Button(description="Go")
    found = []

    def handler(_button):
        found.append((run_sync(seven()), counting().result(), list(counting(2))))

    button.on_click(handler)
    print(button.model_id)
    """
)


@pytest.mark.parametrize("shell", ["main", "subshell"])
def test_run_sync_in_a_click_handler_with_cells_queued_around(kernel, shell):
    subshell_id = kernel.new_subshell() if shell == "subshell" else None
    if shell == "subshell" and subshell_id is None:
        assert kernel.version < (7, 0)
        return
    model_id = kernel.run(BUTTON).printed.strip()
    before = kernel.queue("time.sleep(0.2)", "await asyncio.sleep(0.2)", "run_sync(seven(0.2))")
    for _ in range(3):
        kernel.click(model_id, subshell_id=subshell_id)
    cells = kernel.replies([*before, *kernel.queue(*numbered(6))])
    assert [cell.status for cell in cells] == ["ok"] * 9
    kernel.until("len(found) == 3")
    assert kernel.value("found") == [(7, 3, [0, 1])] * 3


# a task of the running loop: nest-asyncio's case


TASK_CELLS = [
    "print(run_sync(asyncio.create_task(seven())))",
    "print(run_sync(asyncio.create_task(seven())), await seven())",
    "print(run_sync(asyncio.ensure_future(seven())), run_sync(seven()))",
]


def test_a_task_of_the_running_loop_with_cells_queued_behind(own_kernel):
    assert_all_run(own_kernel, *TASK_CELLS, expect=["7", "7 7", "7 7"])
    assert_all_run(own_kernel, *TASK_CELLS, *TASK_CELLS, expect=["7", "7 7", "7 7"] * 2)
    assert own_kernel.value("asyncio._nest_asyncio2 is not None") is True


def test_a_task_of_the_running_loop_in_a_click_handler(own_kernel):
    model_id = own_kernel.run(
        dedent(
            """
            import ipywidgets
            button = ipywidgets.Button()
            found = []

            def handler(_button):
                found.append(run_sync(asyncio.ensure_future(seven(), loop=asyncio.get_running_loop())))

            button.on_click(handler)
            print(button.model_id)
            """
        )
    ).printed.strip()
    for _ in range(3):
        own_kernel.click(model_id)
    cells = own_kernel.replies(own_kernel.queue(*numbered(6)))
    assert [cell.status for cell in cells] == ["ok"] * 6
    own_kernel.until("len(found) == 3")
    assert own_kernel.value("found") == [7, 7, 7], own_kernel.log


def test_beside_a_user_who_has_applied_nest_asyncio_our_verbs_work(own_kernel):
    own_kernel.run("running = counting(30, 0.02)\nimport nest_asyncio\nnest_asyncio.apply()")
    assert_all_run(
        own_kernel,
        "print(running.result(), list(running) == list(range(30)))",
        "print(run_sync(seven()))",
        "print(run_sync(counting()), list(counting()))",
        "print(await counting(), [event async for event in counting()])",
        "print(run_sync(seven()), await seven())",
        expect=["435 True", "7", "3 [0, 1, 2]", "3 [0, 1, 2]", "7 7"],
    )


def test_beside_nest_asyncio_a_task_of_the_running_loop_is_refused_on_ipykernel_7(own_kernel):
    own_kernel.run("import nest_asyncio\nnest_asyncio.apply()")
    if own_kernel.version < (7, 0):
        assert_all_run(own_kernel, *TASK_CELLS, expect=["7", "7 7", "7 7"])
        return
    cell = dedent(
        """
        task = asyncio.create_task(seven())
        try:
            run_sync(task)
        except RuntimeError as error:
            print(type(error).__name__, str(error).splitlines()[1])
        """
    )
    remedy = "WrongLoop Write `await task` instead of run_sync(task). "
    remedy += "Or restart the kernel and leave out nest_asyncio.apply()."
    assert_all_run(own_kernel, cell, cell, "print(await task)", expect=[remedy, remedy, "7"])


# interrupts


BLOCKING = {
    "run.result()": "run.result()",
    "for event in run": "for event in run: pass",
    "run_sync(run)": "run_sync(run)",
    "a verb that paints while it waits": "wait_with_ticks(run, lambda: None)",
    "run.result() in a cell with an await": "await asyncio.sleep(0)\nrun.result()",
    "for event in run, in a cell with an await": "await asyncio.sleep(0)\nfor event in run: pass",
}


@pytest.mark.parametrize("code", BLOCKING.values(), ids=BLOCKING.keys())
def test_an_interrupt_of_a_blocking_wait(kernel, code):
    note = next(name for name, value in BLOCKING.items() if value == code)
    assert_interrupted(kernel, f"run = counting(1000, 0.05)\nprint('waiting', flush=True)\n{code}", note=note)
    assert kernel.value("cancelled, run.state, list(runs())") == (["counting"], "stopped", [])
    assert len(kernel.value("run.partial")) > 0


def test_what_was_finished_hangs_on_the_interrupt(kernel):
    cell = """
    run = counting(1000, 0.05)
    print("waiting", flush=True)
    try:
        run.result()
    except KeyboardInterrupt as interrupt:
        kept = interrupt.run is run, interrupt.partial == run.partial, len(interrupt.partial) > 0
        raise
    """
    assert_interrupted(kernel, cell, note="run.result(), its parts kept")
    assert kernel.value("kept") == (True, True, True)


AWAITING = {
    "await run": "await run",
    "async for event in run": "async for event in run: pass",
    "await gather(run, run)": "await asyncio.gather(run, counting(1, 60))",
}


@pytest.mark.parametrize("code", AWAITING.values(), ids=AWAITING.keys())
def test_an_interrupt_of_an_awaited_run(kernel, code):
    note = next(name for name, value in AWAITING.items() if value == code)
    cell = f"run = counting(1, 60)\nprint('waiting', flush=True)\n{code}"
    assert_interrupted(kernel, cell, error="CancelledError", note=note)
    assert set(kernel.value("cancelled")) == {"counting"}
    assert kernel.value("run.state") == "stopped"


def test_an_interrupt_of_run_sync_of_a_coroutine(kernel):
    assert_interrupted(kernel, "run_sync(long())", note="run_sync(coroutine)")
    assert_interrupted(kernel, "await asyncio.sleep(0)\nrun_sync(long())", note="run_sync(coroutine), with an await")
    assert kernel.value("cancelled") == ["long", "long"]


def test_an_interrupt_of_run_sync_of_a_task_of_the_running_loop(own_kernel):
    assert_interrupted(own_kernel, "run_sync(asyncio.create_task(long()))", note="run_sync(task)")
    assert own_kernel.value("cancelled") == ["long"]


def test_an_interrupt_of_a_blocking_click_handler(kernel):
    model_id = kernel.run(
        dedent(
            """
            import ipywidgets
            button = ipywidgets.Button()

            def handler(_button):
                print("waiting", flush=True)
                counting(1, 60).result()

            button.on_click(handler)
            print(button.model_id)
            """
        )
    ).printed.strip()
    click = kernel.click(model_id)
    kernel.until_printed(click, "waiting")
    time.sleep(0.3)
    pressed = kernel.interrupt()
    (behind,) = kernel.replies(kernel.queue("print(run_sync(seven()), cancelled)"))
    record(kernel, "run.result() in a click handler, and the next cell", behind.replied_at - pressed)
    assert behind.printed == "7 ['counting']\n"


def test_an_interrupt_of_a_coroutine_that_blocks_its_loop(own_kernel):
    cell = """
    async def blocks():
        print("waiting", flush=True)
        time.sleep(20)

    run_sync(blocks())
    """
    assert_interrupted(own_kernel, cell, note="run_sync(coroutine that blocks)")


@pytest.mark.parametrize("code", ["run.result()", "await run", "for event in run: pass"])
def test_the_server_sees_the_disconnect(kernel, code):
    with ScriptedServer(Script(text=words(1000), itl_s=0.05)) as server:
        kernel.run(
            "from mamba_nb.backends import OpenAICompatibleBackend\n"
            f"backend = OpenAICompatibleBackend(model='scripted-model', base_url={server.base_url!r})"
        )
        error = "CancelledError" if "await" in code else "KeyboardInterrupt"
        cell = f"run = backend.stream('Hello')\nprint('waiting', flush=True)\n{code}"
        assert_interrupted(kernel, cell, error=error, note=f"{code} of a stream", ready=lambda: server.active == 1)
        kernel.wait(lambda: server.disconnects == 1, "the server to see the disconnect")
        assert len(server.requests) == 1
        assert 0 < len(kernel.value("run.partial.text")) < 5000
        kernel.run("backend.close()")


# stop buttons, and what is left over


STOP = dedent(
    """
    import ipywidgets
    stop = ipywidgets.Button(description="Stop")
    stop.on_click(lambda _button: runs().cancel())
    print(stop.model_id)
    """
)


def test_a_stop_button_ends_what_runs_in_the_background(kernel):
    model_id = kernel.run(STOP).printed.strip()
    kernel.run("run = counting(1, 60)")
    kernel.click(model_id)
    kernel.until("cancelled")
    assert kernel.value("run.state, cancelled") == ("stopped", ["counting"])


def test_a_stop_button_ends_an_awaited_run(kernel):
    model_id = kernel.run(STOP).printed.strip()
    subshell_id = kernel.new_subshell() if kernel.version >= (7, 0) else None
    (cell,) = kernel.queue("print('waiting', flush=True)\nawait counting(1, 4)")
    kernel.until_printed(cell, "waiting")
    kernel.click(model_id, subshell_id=subshell_id)
    kernel.replies([cell])
    if kernel.version >= (7, 0):
        assert cell.error.startswith("RunStopped: counting was stopped")
    else:
        assert cell.status == "ok"  # ipykernel 6 handles no click before the cell has ended
    kernel.run("runs().cancel()")


def test_runs_lists_what_a_cell_left_behind_and_stops_it(kernel):
    for _ in range(3):
        kernel.run("run = counting(1, 60)")
    assert kernel.run("runs()").displayed[0]["text/plain"].count("counting") == 3
    assert kernel.value("runs().cancel()") == 3
    kernel.until("len(cancelled) == 3")
    assert kernel.value("cancelled, list(runs())") == (["counting"] * 3, [])


def test_what_a_coroutine_prints_appears_under_the_cell_that_called_run_sync(kernel):
    cell = "async def says(what):\n    print(what)\n\nrun_sync(says({0}))\nrun_in_background(print, {0}).result()"
    cells = kernel.replies(kernel.queue(*[cell.format(number) for number in range(4)]))
    assert printed(cells) == [f"{number}\n{number}" for number in range(4)]


# forks, uvloop, the end


@pytest.mark.skipif(sys.platform == "win32", reason="this system cannot fork")
def test_a_fork_during_a_run_harms_neither_side(own_kernel):
    cell = dedent(
        """
        run = counting(40, 0.02)
        time.sleep(0.1)
        child = os.fork()
        if child == 0:
            try:
                run.result()
            except RuntimeError:
                os._exit(run_sync(seven()) + counting(3).result())
            os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), run.done())
        """
    )
    pool = dedent(
        """
        import multiprocessing
        def ask(number):
            return run_sync(seven()) * number
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(ask, [1, 2, 3]))
        """
    )
    own_kernel.run("import warnings; warnings.simplefilter('ignore', DeprecationWarning)")  # 3.12 warns of any fork
    assert_all_run(own_kernel, cell, pool, "print(run.result())", expect=["10 False", "[7, 14, 21]", "780"])


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop does not exist on Windows")
def test_in_a_kernel_whose_loop_is_uvloops(tmp_path):
    with started(tmp_path, uvloop=True) as kernel:
        assert_all_run(
            kernel,
            "print(type(asyncio.get_running_loop()).__module__, type(io.loop).__module__)",
            "print(run_sync(seven()), await counting(), list(counting()), [event async for event in counting()])",
            "task = asyncio.create_task(seven())\ntry:\n    run_sync(task)\n"
            "except RuntimeError as error:\n    print(error, await task)",
            expect=[
                "uvloop uvloop",
                "7 3 [0, 1, 2] [0, 1, 2]",
                "uvloop's event loop cannot run nested.\nWrite `await task` instead of run_sync(task). 7",
            ],
        )
        waiting = "print('waiting', flush=True)\n"
        assert_interrupted(kernel, f"{waiting}counting(1, 60).result()", note="run.result() on uvloop")
        assert_interrupted(
            kernel, f"{waiting}await counting(1, 60)", error="CancelledError", note="await run on uvloop"
        )
        assert kernel.value("cancelled") == ["counting", "counting"]


def test_a_kernel_with_a_run_under_way_shuts_down_promptly(tmp_path):
    with ScriptedServer(Script(text=words(1000), itl_s=0.05)) as server, started(tmp_path) as kernel:
        kernel.run(
            "from mamba_nb.backends import OpenAICompatibleBackend\n"
            f"backend = OpenAICompatibleBackend(model='scripted-model', base_url={server.base_url!r})\n"
            "run = backend.stream('Hello')"
        )
        kernel.wait(lambda: server.active == 1, "the request")
        begin = time.monotonic()
        kernel.ask_to_shut_down()
        assert time.monotonic() - begin < PROMPTLY_S
        kernel.wait(lambda: server.disconnects == 1, "the server to see the disconnect")
        assert "Traceback" not in kernel.log
        assert "Unclosed" not in kernel.log
