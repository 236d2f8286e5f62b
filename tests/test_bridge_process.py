"""The bridge and the process it lives in: forks, the interpreter's end, interrupts, and uvloop.

Each test is a script with a process of its own, held to an empty standard error.
"""

from __future__ import annotations

import os
import sys
import textwrap
import time

import pytest
from kernels.scripts import run_script

from mamba_nb.testing import Script, ScriptedServer, words

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
needs_uvloop = pytest.mark.skipif(sys.platform == "win32", reason="uvloop does not exist on Windows")

COUNTING = """
import asyncio, os, signal, sys, threading, time
from mamba_nb._bridge import Run, foreign, in_thread, io, on_fork, run_in_background, run_sync, runs
from mamba_nb.errors import RunStopped

def print(*values):      # whole lines, whichever thread they come from
    os.write(1, (" ".join(map(str, values)) + "\\n").encode())

async def seven(pause_s=0.0):
    await asyncio.sleep(pause_s)
    return 7

def counting(count=3, pause_s=0.01):
    seen = []
    async def work(run):
        try:
            for number in range(count):
                await asyncio.sleep(pause_s)
                seen.append(number)
                run.emit(number)
            return sum(seen)
        finally:
            print(f"counted {len(seen)}" if len(seen) == count else "cancelled")
    return Run(work, name="counting", partial=lambda: list(seen))
"""


def script(body: str) -> str:
    return COUNTING + textwrap.dedent(body)


# forks


@needs_fork
def test_a_fork_during_a_run_harms_neither_side():
    out = run_script(
        script(
            """
            run = counting(40, 0.02)
            ended = counting(1)
            ended.result()
            background = run_sync(seven())
            time.sleep(0.1)
            child = os.fork()
            if child == 0:
                for use in (run.result, run.done, run.cancelled, lambda: run.partial, lambda: iter(run), ended.result):
                    try:
                        use()
                    except RuntimeError as error:
                        assert "Start a new one here" in str(error), error
                    else:
                        os._exit(1)
                assert run.cancel() is False and "counting" in repr(run)
                assert list(runs(ended=True)) == []
                assert counting(2).result() == 1 and list(counting(2)) == [0, 1] and run_sync(seven()) == 7
                assert run_in_background(len, "abc").result() == 3
                sys.exit(0)          # the whole way out: atexit, finalisers
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            print("the child is done", run.done())
            print(run.result(), run_sync(seven()))
            """
        )
    )
    assert out.splitlines() == ["counted 1", "counted 2", "counted 2", "the child is done False", "counted 40", "780 7"]


@needs_fork
def test_a_reading_begun_in_the_parent_ends_at_once_in_the_child():
    out = run_script(
        script(
            """
            parent = os.getpid()
            run = counting(20, 0.02)
            reading = iter(run)
            print("read", next(reading))
            child = os.fork()
            if child == 0:
                try:
                    print(list(reading))
                except RuntimeError as error:
                    print(str(error).replace(str(parent), "1").replace(str(os.getpid()), "2"))
                os._exit(0)
            os.waitpid(child, 0)
            print("read", len(list(reading)), "more")
            """
        )
    )
    assert out.splitlines() == [
        "read 0",
        "counting was started by process 1, this is 2: a Run stays with the process that made it. "
        "Start a new one here.",
        "counted 20",
        "read 19 more",
    ]


@needs_fork
def test_multiprocessing_by_fork_works_beside_a_run():
    out = run_script(
        script(
            """
            import multiprocessing

            def ask(number):
                return run_sync(seven()) * number

            run = counting(40, 0.02)
            time.sleep(0.1)
            with multiprocessing.get_context("fork").Pool(2) as pool:
                print(pool.map(ask, [1, 2, 3]))
                pool.close()
                pool.join()
            print(run.result())
            """
        )
    )
    assert out.splitlines() == ["[7, 14, 21]", "counted 40", "780"]


@needs_fork
def test_a_fork_hook_is_called_in_the_child_before_its_first_work():
    out = run_script(
        script(
            """
            on_fork(lambda: print("forgotten in", "child" if os.getpid() != parent else "parent"))
            parent = os.getpid()
            run_sync(seven())
            child = os.fork()
            if child == 0:
                print(run_sync(seven()))
                os._exit(0)
            os.waitpid(child, 0)
            """
        )
    )
    assert out.splitlines() == ["forgotten in child", "7"]


@needs_fork
def test_a_fork_inside_a_tool_thread_and_inside_a_foreign_coroutine_can_work_too():
    out = run_script(
        script(
            """
            def forks():
                child = os.fork()
                if child == 0:
                    print(run_sync(seven()))
                    os._exit(0)
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

            async def coroutine():
                return forks()

            print(run_in_background(forks).result(), run_sync(coroutine()))
            """
        )
    )
    assert out.splitlines() == ["7", "7", "0 0"]


# the interpreter's end


def test_the_interpreter_ends_promptly_and_in_silence_with_a_run_under_way():
    begin = time.monotonic()
    out = run_script(
        script(
            """
            run = counting(1, 60)
            other = run_in_background(time.sleep, 60)

            async def waits():
                await asyncio.sleep(60)

            waiting = Run(lambda run: waits(), name="foreign", on=foreign)
            time.sleep(0.1)
            """
        )
    )
    assert out == "cancelled\n"
    assert time.monotonic() - begin < 20


def test_the_interpreter_ends_in_silence_in_the_middle_of_a_reading():
    out = run_script(
        script(
            """
            reader = iter(counting(1000, 0.001))
            next(reader)

            async def begin():
                global kept
                kept = counting(1000, 0.001).__aiter__()
                return await kept.__anext__()

            print(asyncio.run(begin()))
            """
        )
    )
    assert out.splitlines() == ["0", "cancelled", "cancelled"]


def test_an_error_that_ends_the_script_cancels_and_keeps_its_own_traceback_only():
    out = run_script(
        script(
            """
            run = counting(1, 60)
            time.sleep(0.1)
            sys.exit("the script's own error")
            """
        ),
        stderr="the script's own error\n",
        status=1,
    )
    assert out == "cancelled\n"


# interrupts


INTERRUPTED = {
    "result": "run.result()",
    "for": "[event for event in run]",
    "run_sync(run)": "run_sync(run)",
    "under asyncio.run": "asyncio.run(blocking(run))",
}


@pytest.mark.parametrize("reading", INTERRUPTED.values(), ids=INTERRUPTED.keys())
def test_an_interrupt_of_a_blocking_wait_cancels_and_hands_over_what_there_is(reading):
    out = run_script(
        script(
            f"""
            async def blocking(run):
                return run.result()

            run = counting(1000, 0.1)
            at = []

            def interrupt():
                at.append(time.monotonic())
                os.kill(os.getpid(), signal.SIGINT)

            threading.Timer(0.45, interrupt).start()
            try:
                {reading}
            except KeyboardInterrupt as interrupt:
                took = time.monotonic() - at[0]
                print(took < 10, interrupt.run is run, interrupt.partial == list(range(len(interrupt.partial))),
                      len(interrupt.partial) > 0, run.state, list(runs()), signal.getsignal(signal.SIGINT).__name__)
            print(run_sync(seven()))
            """
        )
    )
    assert out.splitlines() == ["cancelled", "True True True True stopped [] default_int_handler", "7"]


def test_an_interrupt_of_an_awaited_run_under_asyncio_run_cancels_it():
    out = run_script(
        script(
            """
            async def main():
                await counting(1, 60)

            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                asyncio.run(main())
            except KeyboardInterrupt:
                print("interrupted")
            time.sleep(0.2)
            """
        )
    )
    assert sorted(out.splitlines()) == ["cancelled", "interrupted"]


@pytest.mark.parametrize("kind", ["a coroutine", "a task of another loop", "a task of a stopped loop", "nested"])
def test_an_interrupt_of_run_sync_cancels_what_it_waits_for(kind):
    out = run_script(
        script(
            f"""
            kind = {kind!r}

            async def long():
                try:
                    await asyncio.sleep(60)
                finally:
                    print("cancelled")

            async def make():
                return asyncio.create_task(long())

            async def nested():
                run_sync(await make())

            threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT)).start()
            loop = asyncio.new_event_loop()
            begin = time.monotonic()
            try:
                if kind == "a coroutine":
                    run_sync(long())
                elif kind == "a task of another loop":
                    threading.Thread(target=loop.run_forever).start()
                    run_sync(asyncio.run_coroutine_threadsafe(make(), loop).result())
                elif kind == "a task of a stopped loop":
                    run_sync(loop.create_task(long()))
                else:
                    asyncio.run(nested())
            except KeyboardInterrupt:
                print("interrupted", time.monotonic() - begin < 10)
            time.sleep(0.2)
            if loop.is_running():
                loop.call_soon_threadsafe(loop.stop)
                while loop.is_running():
                    time.sleep(0.01)
            loop.close()
            """
        )
    )
    assert sorted(out.splitlines()) == ["cancelled", "interrupted True"]


def test_a_users_own_interrupt_handler_is_left_alone():
    out = run_script(
        script(
            """
            signal.signal(signal.SIGINT, lambda *_: print("mine"))
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            print(counting(3, 0.1).result())
            """
        )
    )
    assert out.splitlines() == ["mine", "counted 3", "3"]


# uvloop


@needs_uvloop
def test_a_program_on_uvloop_awaits_runs():
    out = run_script(
        script(
            """
            import uvloop

            async def main():
                print(await counting(3), [event async for event in counting(2)], run_sync(seven()))
                print(await asyncio.gather(counting(1), counting(1)), type(io.loop).__module__)
                run = counting(1, 60)
                try:
                    await asyncio.wait_for(run, 0.1)
                except TimeoutError:
                    print("late")
                try:
                    run_sync(asyncio.create_task(seven()))
                except RuntimeError as error:
                    print(str(error).splitlines()[1])

            uvloop.run(main())
            """
        )
    )
    assert sorted(out.splitlines()) == sorted(
        [
            *["counted 3", "counted 2", "3 [0, 1] 7", "counted 1", "counted 1", "[0, 0] asyncio.unix_events"],
            *["late", "cancelled", "Write `await task` instead of run_sync(task)."],
        ]
    )


@needs_uvloop
def test_with_uvloops_policy_the_private_loops_are_uvloops_too():
    out = run_script(
        script(
            """
            import uvloop

            asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
            print(counting(3).result(), list(counting(2)), run_sync(seven()), type(io.loop).__module__)

            async def leave():
                raise SystemExit(3)

            try:
                run_sync(leave())
            except SystemExit:
                print(run_sync(seven()), type(foreign.loop).__module__)

            async def main():
                return await counting(3), [event async for event in counting(2)]

            print(asyncio.run(main()))
            run = counting(60, 0.02)
            child = os.fork()
            if child == 0:
                print(run_sync(seven()))
                os._exit(0)
            os.waitpid(child, 0)
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                run.result()
            except KeyboardInterrupt as interrupt:
                print("interrupted", len(interrupt.partial) > 0)
            left = counting(1, 60)
            """
        )
    )
    assert out.splitlines() == [
        *["counted 3", "counted 2", "3 [0, 1] 7 uvloop", "7 uvloop"],
        *["counted 3", "counted 2", "(3, [0, 1])"],
        *["7", "cancelled", "interrupted True", "cancelled"],
    ]


# the same with connections


@pytest.fixture
def server():
    with ScriptedServer(Script(text=words(60), itl_s=0.02)) as running:
        yield running


def backend_script(server: ScriptedServer, body: str) -> str:
    opening = f"""
    import os, sys, threading, time
    from mamba_nb.backends import OpenAICompatibleBackend
    backend = OpenAICompatibleBackend(model="scripted-model", base_url={server.base_url!r})
    """
    return textwrap.dedent(opening) + textwrap.dedent(body)


def test_the_interpreter_ends_in_silence_in_the_middle_of_a_stream_and_the_server_sees_it(server):
    body = """
    run = backend.stream("Hello")
    next(reader := iter(run))
    """
    assert run_script(backend_script(server, body)) == ""
    server.wait_idle(5)
    assert server.disconnects == 1


@needs_fork
def test_a_fork_in_the_middle_of_a_stream_leaves_the_stream_whole_and_the_child_free_to_ask(server):
    body = """
    run = backend.stream("Hello")
    reader = iter(run)
    next(reader)
    child = os.fork()
    if child == 0:
        assert backend.ask("from the child").text.endswith("word59")
        sys.exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(status, run.result().text.endswith("word59"), backend.ask("again").text.endswith("word59"))
    backend.close()
    """
    assert run_script(backend_script(server, body)) == "0 True True\n"
    assert (len(server.requests), server.disconnects) == (3, 0)
