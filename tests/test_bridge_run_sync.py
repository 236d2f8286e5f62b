"""run_sync in a plain process: what it takes, where it may be called, and what it says where it may not."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import threading
import time
import types
import warnings

import pytest
from kernels.scripts import run_script

from mamba_nb._bridge import Run, foreign, in_thread, io, run_sync, runs
from mamba_nb.errors import RunStopped, WrongLoop

LONG_S = 30.0


@pytest.fixture(autouse=True)
def nothing_left_running():
    yield
    gc.collect()
    left = runs()
    left.cancel()
    assert list(left) == []


async def seven(pause_s: float = 0.0) -> int:
    await asyncio.sleep(pause_s)
    return 7


async def fails() -> int:
    await asyncio.sleep(0)
    raise KeyError("gone")


class Patient:
    """A coroutine function that waits for long and remembers that it was cancelled."""

    def __init__(self) -> None:
        self.started, self.cancelled = threading.Event(), threading.Event()

    async def __call__(self) -> None:
        self.started.set()
        try:
            await asyncio.sleep(LONG_S)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@pytest.fixture
def other_loop():
    """A user's own event loop, running in a thread of the user's."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def task_on(loop: asyncio.AbstractEventLoop, function) -> asyncio.Task:
    async def make() -> asyncio.Task:
        return asyncio.create_task(function())

    return asyncio.run_coroutine_threadsafe(make(), loop).result(10)


# what it takes


def test_a_coroutine():
    assert run_sync(seven()) == 7


def test_a_run():
    async def work(_run: Run[None, int]) -> int:
        return await seven()

    assert run_sync(Run(work, name="work")) == 7


def test_a_concurrent_future():
    with concurrent.futures.ThreadPoolExecutor() as pool:
        assert run_sync(pool.submit(pow, 2, 10)) == 1024


def test_a_task_of_another_threads_running_loop(other_loop):
    assert run_sync(task_on(other_loop, lambda: seven(0.05))) == 7


def test_a_future_of_another_threads_running_loop(other_loop):
    future = other_loop.create_future()
    threading.Timer(0.1, lambda: other_loop.call_soon_threadsafe(future.set_result, 7)).start()
    assert run_sync(future) == 7


def test_a_task_that_has_ended(other_loop):
    task = task_on(other_loop, seven)
    assert [run_sync(task), run_sync(task)] == [7, 7]


def test_a_task_of_a_loop_that_stands_still():
    loop = asyncio.new_event_loop()
    task = loop.create_task(seven(0.05))
    assert run_sync(task) == 7
    loop.close()


def test_a_task_of_a_loop_that_stands_still_while_this_thread_runs_another():
    async def main() -> int:
        loop = asyncio.new_event_loop()
        value = run_sync(loop.create_task(seven(0.05)))
        loop.close()
        return value

    assert asyncio.run(main()) == 7


def test_a_plain_awaitable():
    class Later:
        def __await__(self):
            return seven().__await__()

    assert run_sync(Later()) == 7


def test_a_generator_based_coroutine():
    @types.coroutine
    def old_style():
        yield
        return 7

    assert run_sync(old_style()) == 7


@pytest.mark.parametrize("work", [seven, 7, None, [1], "seven"])
def test_what_cannot_be_awaited_is_refused_with_the_likely_mistake(work):
    with pytest.raises(TypeError, match=r"Did you call the function\?"):
        run_sync(work)


# how it ends


def test_an_exception_comes_out_as_it_is(other_loop):
    stopped = asyncio.new_event_loop()
    for work in (fails(), task_on(other_loop, fails), stopped.create_task(fails())):
        with pytest.raises(KeyError, match="gone"):
            run_sync(work)
    stopped.close()


def test_a_coroutine_is_cancelled_when_its_time_is_over():
    patient = Patient()
    with pytest.raises(TimeoutError, match=r"has not ended after 0\.1 s"):
        run_sync(patient(), timeout=0.1)
    assert patient.cancelled.wait(5)


def test_a_coroutines_own_timeout_error_is_not_taken_for_ours():
    async def slow_server() -> None:
        raise TimeoutError("the server was silent")

    with pytest.raises(TimeoutError, match="the server was silent"):
        run_sync(slow_server(), timeout=10)


def test_what_was_there_before_goes_on_when_the_time_is_over(other_loop):
    task = task_on(other_loop, lambda: seven(0.3))
    stopped = asyncio.new_event_loop()
    still = stopped.create_task(seven(0.3))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        release = threading.Event()
        future = pool.submit(release.wait, LONG_S)
        for work in (task, still, future):
            with pytest.raises(TimeoutError, match=r"has not ended after 0\.05 s"):
                run_sync(work, timeout=0.05)
        release.set()
        assert [run_sync(task), run_sync(still), run_sync(future)] == [7, 7, True]
    stopped.close()


def test_cancelled_work_raises_run_stopped_whatever_it_was(other_loop):
    future: concurrent.futures.Future[None] = concurrent.futures.Future()
    future.cancel()
    patient = Patient()
    task = task_on(other_loop, patient)
    patient.started.wait(10)
    threading.Timer(0.1, lambda: other_loop.call_soon_threadsafe(task.cancel)).start()

    async def gives_up() -> None:
        raise asyncio.CancelledError

    for work in (future, task, gives_up()):
        with pytest.raises(RunStopped):
            run_sync(work)


def test_a_task_of_a_closed_loop_is_refused():
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    loop.close()
    with pytest.raises(WrongLoop, match="loop is closed"):
        run_sync(future)


# where it is called


def test_in_a_thread():
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: run_sync(seven(0.02)), range(8))) == [7] * 8


def test_in_a_sync_function_under_a_running_loop():
    async def main() -> int:
        return run_sync(seven())

    assert asyncio.run(main()) == 7


def test_in_a_sync_tool_on_a_worker_thread_of_either_loop():
    def tool() -> int:
        return run_sync(seven())

    async def work(_run: Run[None, int]) -> int:
        return await in_thread(tool)

    for loop in (io, foreign):
        assert Run(work, name="agent", on=loop).result(10) == 7


def test_inside_a_foreign_coroutine_it_raises_with_the_remedy_and_closes_the_coroutine():
    inner = seven()

    async def nested() -> int:
        return run_sync(inner)

    with pytest.raises(WrongLoop, match=r"(?s)mamba-nb-foreign.*use `await`.*plain `def`"):
        run_sync(nested())
    assert inner.cr_frame is None  # closed: no "never awaited" warning comes from it


@pytest.mark.parametrize("kind", ["task", "future", "run"])
def test_on_a_private_loop_nothing_is_waited_for(kind, other_loop):
    patient = Patient()
    if kind == "task":
        work = task_on(other_loop, patient)
    elif kind == "future":
        work = asyncio.run_coroutine_threadsafe(patient(), other_loop)
    else:
        work = Run(lambda _run: patient(), name="patient")

    async def nested() -> None:
        run_sync(work)

    patient.started.wait(10)
    with pytest.raises(WrongLoop):
        io.submit(nested()).result(10)
    assert not work.done()
    work.cancel() if kind != "task" else other_loop.call_soon_threadsafe(work.cancel)
    assert patient.cancelled.wait(5)


def test_two_coroutines_share_one_loop_so_what_they_keep_between_calls_still_works():
    queue: asyncio.Queue[int] = asyncio.Queue()

    async def put() -> None:
        await queue.put(7)

    run_sync(put())
    assert run_sync(queue.get()) == 7


def test_the_context_of_the_caller_is_seen():
    where = contextvars.ContextVar("where")
    where.set("in the cell")

    async def look() -> str:
        return where.get()

    assert run_sync(look()) == "in the cell"


# a task of the running loop: nest-asyncio's case. In a process of its own, since it patches asyncio for good


def test_a_task_of_the_running_loop_is_finished_there():
    out = run_script(
        """
        import asyncio
        from mamba_nb._bridge import Run, run_sync

        async def seven():
            await asyncio.sleep(0.05)
            return 7

        async def fails():
            raise KeyError("gone")

        async def counting(run):
            for number in range(3):
                await asyncio.sleep(0.02)
                run.emit(number)
            return "counted"

        async def main():
            before = Run(counting, name="before")   # under way while asyncio is being patched
            print(run_sync(asyncio.create_task(seven())), asyncio._nest_asyncio2 is not None)
            future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.05, future.set_result, 8)
            print(run_sync(future))
            try:
                run_sync(asyncio.create_task(fails()))
            except KeyError as error:
                print(repr(error))
            late = asyncio.create_task(seven())
            try:
                run_sync(late, timeout=0.01)
            except TimeoutError as error:
                print(error)
            print(await late, list(before), before.result(), await Run(counting, name="after"), run_sync(seven()))

        asyncio.run(main())
        print([event for event in Run(counting, name="later")])
        """
    )
    assert out.splitlines() == [
        "7 True",
        "8",
        "KeyError('gone')",
        "The task has not ended after 0.01 s.",
        "7 [0, 1, 2] counted counted 7",
        "[0, 1, 2]",
    ]


def test_nest_asyncio_applied_by_the_user_outside_a_kernel_is_used_as_it_is():
    out = run_script(
        """
        import asyncio, nest_asyncio
        from mamba_nb._bridge import run_sync

        async def seven():
            await asyncio.sleep(0.05)
            return 7

        async def main():
            nest_asyncio.apply()
            print(run_sync(asyncio.create_task(seven())), run_sync(seven()))

        asyncio.run(main())
        """
    )
    assert out == "7 7\n"


def test_importing_and_using_the_bridge_patches_nothing():
    out = run_script(
        """
        import asyncio, sys
        from mamba_nb._bridge import run_sync

        async def seven():
            return 7

        print(run_sync(seven()), hasattr(asyncio, "_nest_patched"), [m for m in sys.modules if "nest_asyncio" in m])
        """
    )
    assert out == "7 False []\n"


# a coroutine that blocks the loop


def test_a_coroutine_that_blocks_the_foreign_loop_does_not_block_what_is_run_after_an_interrupt():
    out = run_script(
        """
        import os, signal, threading, time
        from mamba_nb._bridge import run_sync

        async def blocks():
            time.sleep(30)

        async def seven():
            return 7

        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        begin = time.monotonic()
        try:
            run_sync(blocks())
        except KeyboardInterrupt as interrupt:
            print(time.monotonic() - begin < 10, interrupt.run.name)
        print(run_sync(seven()))
        """,
        stderr="A coroutine blocks the event loop mamba-nb-foreign; what comes next runs on a new one.\n",
    )
    assert out == "True run_sync(blocks)\n7\n"


def test_no_warning_is_left_behind_by_a_refused_call():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        async def nested() -> None:
            run_sync(seven())

        with pytest.raises(WrongLoop):
            run_sync(nested())
        gc.collect()
        time.sleep(0.05)
    assert [str(warning.message) for warning in caught] == []
