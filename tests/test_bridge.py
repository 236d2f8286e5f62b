"""Run, in a plain process: its readings, its ends, and what is listed meanwhile.

The work is a coroutine function of the test's own that counts, so every expected value is known beforehand.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
import time

import pytest

from mamba_nb._bridge import Run, foreign, in_thread, io, run_in_background, runs, wait_with_ticks
from mamba_nb.errors import RunStopped, WrongLoop

LONG_S = 30.0


@pytest.fixture(autouse=True)
def nothing_left_running():
    yield
    gc.collect()
    left = runs()
    left.cancel()
    assert list(left) == []


class Counting:
    """Work that emits 0, 1, ..., then gives the sum; remembers whether it was cancelled."""

    def __init__(self, count: int = 3, pause_s: float = 0.0, error: Exception | None = None) -> None:
        self.count, self.pause_s, self.error = count, pause_s, error
        self.emitted: list[int] = []
        self.cancelled = threading.Event()

    async def __call__(self, run: Run[int, int]) -> int:
        run.state = "streaming"
        try:
            for number in range(self.count):
                await asyncio.sleep(self.pause_s)
                self.emitted.append(number)
                run.emit(number)
            if self.error is not None:
                raise self.error
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return sum(range(self.count))

    def start(self, **options) -> Run[int, int]:
        return Run(self, name="counting", partial=lambda: list(self.emitted), **options)


def until(condition, within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.01)


# the readings


def test_a_for_loop_reads_every_event_in_order():
    run = Counting(4).start()
    assert list(run) == [0, 1, 2, 3]
    assert run.result() == 6


def test_an_async_for_loop_reads_every_event_in_order():
    async def read() -> list[int]:
        return [event async for event in Counting(4, pause_s=0.01).start()]

    assert asyncio.run(read()) == [0, 1, 2, 3]


def test_an_async_for_loop_works_on_the_io_loop_itself():
    async def read() -> list[int]:
        return [event async for event in Counting(3, pause_s=0.01).start()]

    assert io.submit(read()).result(10) == [0, 1, 2]


def test_await_gives_the_result_and_so_does_every_later_reading():
    async def read() -> tuple[int, int]:
        run = Counting().start()
        return await run, await run

    assert asyncio.run(read()) == (3, 3)


def test_the_result_can_be_taken_as_often_as_one_likes():
    run = Counting().start()
    assert [run.result(), run.result(timeout=0), run.result()] == [3, 3, 3]


def test_gather_wait_for_and_ensure_future_take_a_run():
    async def read() -> list[int]:
        both = await asyncio.gather(Counting(3).start(), Counting(5).start())
        one = await asyncio.wait_for(Counting(4).start(), timeout=10)
        other = await asyncio.ensure_future(Counting(2).start())
        return [*both, one, other]

    assert asyncio.run(read()) == [3, 10, 6, 1]


@pytest.mark.parametrize("starter", [asyncio.run, lambda run: asyncio.Runner().run(run)])
def test_asyncio_run_wants_a_coroutine_and_says_so(starter):
    run = Counting().start()
    with pytest.raises((TypeError, ValueError), match="coroutine"):
        starter(run)
    gc.collect()
    assert run.result() == 3


def test_the_events_can_be_read_once_only():
    run = Counting().start()
    assert list(run) == [0, 1, 2]
    with pytest.raises(RuntimeError, match=r"have been read already.*run\.result\(\)"):
        iter(run)

    async def again() -> None:
        run.__aiter__()

    with pytest.raises(RuntimeError, match="have been read already"):
        asyncio.run(again())
    assert run.result() == 3


def test_a_refused_reading_does_not_use_up_the_events():
    run = Counting().start()

    async def read_wrongly() -> None:
        iter(run)

    with pytest.raises(WrongLoop, match="use `async for`"):
        io.submit(read_wrongly()).result(10)
    with pytest.raises(RuntimeError, match="no running event loop"):
        run.__aiter__()
    assert list(run) == [0, 1, 2]


def test_the_events_of_a_run_that_has_ended_are_still_there():
    run = Counting().start()
    run.result()
    assert list(run) == [0, 1, 2]


def test_a_run_is_neither_true_nor_false():
    run = Counting().start()
    with pytest.raises(TypeError, match=r"run\.result\(\)"):
        bool(run)
    run.result()


def test_a_failure_comes_out_of_every_reading():
    def start() -> Run[int, int]:
        return Counting(2, error=ValueError("no such model")).start()

    run = start()
    for _ in range(2):
        with pytest.raises(ValueError, match="no such model"):
            run.result()
    assert run.state == "failed"
    seen = []
    with pytest.raises(ValueError, match="no such model"):
        for event in start():
            seen.append(event)
    assert seen == [0, 1]

    async def awaited() -> int:
        return await start()

    async def iterated() -> None:
        async for _ in start():
            pass

    for reading in (awaited, iterated):
        with pytest.raises(ValueError, match="no such model"):
            asyncio.run(reading())


def test_gather_can_collect_failures():
    async def read() -> list[object]:
        good, bad = Counting(2).start(), Counting(1, error=ValueError("x")).start()
        return await asyncio.gather(good, bad, return_exceptions=True)

    one, error = asyncio.run(read())
    assert one == 1
    assert isinstance(error, ValueError)


def test_a_timeout_leaves_the_work_going():
    run = Counting(3, pause_s=0.1).start()
    with pytest.raises(
        TimeoutError, match=r"counting \(it goes on; \.cancel\(\) ends it\) has not ended after 0\.01 s"
    ):
        run.result(timeout=0.01)
    assert not run.done()
    assert run.result() == 3


def test_wait_for_cancels_what_is_late():
    work = Counting(1, pause_s=LONG_S)

    async def late() -> None:
        await asyncio.wait_for(work.start(), timeout=0.05)

    with pytest.raises(TimeoutError):
        asyncio.run(late())
    assert work.cancelled.wait(5)


# cancelling


def test_cancel_from_another_thread_ends_a_blocked_result():
    work = Counting(100, pause_s=0.05)
    run = work.start()
    threading.Timer(0.2, run.cancel).start()
    with pytest.raises(RunStopped, match="counting was stopped") as stopped:
        run.result()
    assert stopped.value.partial == work.emitted
    assert 1 <= len(work.emitted) < 100
    assert (run.state, run.done(), run.cancelled()) == ("stopped", True, True)
    assert run.cancel() is False


def test_cancel_from_another_thread_ends_an_await_and_both_loops():
    async def awaited() -> None:
        run = Counting(1, pause_s=LONG_S).start()
        threading.Timer(0.1, run.cancel).start()
        await run

    async def iterated() -> None:
        run = Counting(1, pause_s=LONG_S).start()
        threading.Timer(0.1, run.cancel).start()
        async for _ in run:
            pass

    for reading in (awaited, iterated):
        with pytest.raises(RunStopped):
            asyncio.run(reading())

    run = Counting(1, pause_s=LONG_S).start()
    threading.Timer(0.1, run.cancel).start()
    with pytest.raises(RunStopped):
        list(run)


def test_a_stopped_run_says_stopped_whatever_its_work_made_of_that():
    async def stubborn(run: Run[None, str]) -> str:
        try:
            await asyncio.sleep(LONG_S)
        except asyncio.CancelledError:
            return "swallowed"
        return "slept"

    run = Run(stubborn, name="stubborn")
    time.sleep(0.05)
    assert run.cancel() is True
    with pytest.raises(RunStopped):
        run.result()
    assert run.state == "stopped"


def test_an_error_while_cancelling_goes_to_the_log_at_debug_level_only(caplog):
    async def clumsy(run: Run[None, None]) -> None:
        try:
            await asyncio.sleep(LONG_S)
        finally:
            raise OSError("the socket was gone already")

    with caplog.at_level(logging.DEBUG, logger="mamba_nb"):
        run = Run(clumsy, name="clumsy")
        time.sleep(0.05)
        run.cancel()
        with pytest.raises(RunStopped):
            run.result()
        gc.collect()
    assert [(record.name, record.levelname) for record in caplog.records] == [("mamba_nb", "DEBUG")]


def test_what_the_work_puts_down_while_it_ends_is_in_the_partial():
    kept: list[str] = []

    async def careful(run: Run[None, None]) -> None:
        try:
            await asyncio.sleep(LONG_S)
        finally:
            await asyncio.sleep(0.1)
            kept.append("put down late")

    run = Run(careful, name="careful", partial=lambda: list(kept))
    time.sleep(0.05)
    run.cancel()
    with pytest.raises(RunStopped) as stopped:
        run.result()
    assert stopped.value.partial == ["put down late"]


def test_a_run_that_succeeded_has_its_result_as_partial_and_one_without_has_none():
    run = Counting(3).start()
    run.result()
    assert run.partial == 3
    slow = Run(Counting(1, pause_s=LONG_S), name="slow")
    assert slow.partial is None
    slow.cancel()


def test_leaving_a_for_loop_early_cancels_the_work():
    work = Counting(1000, pause_s=0.01)
    for event in work.start():
        if event == 2:
            break
    assert work.cancelled.wait(5)


def test_an_exception_in_the_body_of_a_for_loop_cancels_the_work():
    work = Counting(1000, pause_s=0.01)
    with pytest.raises(ZeroDivisionError):
        for event in work.start():
            event // 0
    assert work.cancelled.wait(5)


def test_leaving_an_async_for_loop_early_cancels_the_work():
    work = Counting(1000, pause_s=0.01)

    async def read() -> None:
        async for event in work.start():
            if event == 2:
                break

    asyncio.run(read())
    assert work.cancelled.wait(5)


def test_an_exception_in_the_body_of_an_async_for_loop_cancels_the_work():
    work = Counting(1000, pause_s=0.01)

    async def read() -> None:
        async for event in work.start():
            event // 0

    with pytest.raises(ZeroDivisionError):
        asyncio.run(read())
    assert work.cancelled.wait(5)


@pytest.mark.parametrize("reading", ["await", "async for"])
def test_cancelling_the_task_that_reads_cancels_the_work(reading):
    work = Counting(1, pause_s=LONG_S)

    async def read() -> None:
        run = work.start()
        if reading == "await":
            await run
        else:
            async for _ in run:
                pass

    async def main() -> None:
        task = asyncio.create_task(read())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert work.cancelled.wait(5)


def test_a_reader_whose_loop_is_gone_does_not_fail_the_work():
    work = Counting(20, pause_s=0.02)
    readers = []

    async def begin() -> None:
        reader = work.start().__aiter__()
        readers.append(reader)
        assert await reader.__anext__() == 0

    asyncio.run(begin())
    run = readers[0]._run
    assert run.result() == sum(range(20))


def test_the_end_of_a_with_block_cancels_what_is_left():
    work = Counting(1, pause_s=LONG_S)
    with work.start() as run:
        time.sleep(0.05)
    assert work.cancelled.wait(5)
    assert run.cancelled()


# who waits where


def test_result_on_a_private_loop_raises_with_the_remedy():
    run = Counting(1, pause_s=LONG_S).start()

    async def block() -> None:
        run.result()

    for loop in (io, foreign):
        with pytest.raises(WrongLoop, match="await it instead: `await run`"):
            loop.submit(block()).result(10)
    run.cancel()


def test_the_result_of_an_ended_run_can_be_taken_on_a_private_loop():
    run = Counting(3).start()
    run.result()

    async def read() -> int:
        return run.result()

    assert io.submit(read()).result(10) == 3


def test_a_run_awaited_by_another_run_is_cancelled_with_it():
    inner = Counting(1, pause_s=LONG_S)

    async def outer(_run: Run[None, int]) -> int:
        return await inner.start()

    run = Run(outer, name="outer")
    time.sleep(0.1)
    run.cancel()
    assert inner.cancelled.wait(5)


def test_ticks_come_on_the_waiting_thread_while_it_waits():
    threads = []
    value = wait_with_ticks(Counting(3, pause_s=0.15).start(), lambda: threads.append(threading.current_thread().name))
    assert value == 3
    assert len(threads) >= 3
    assert set(threads) == {threading.current_thread().name}


def test_a_tick_that_raises_cancels_the_work_and_hands_over_what_there_is():
    work = Counting(100, pause_s=0.01)

    def tick() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as failure:
        wait_with_ticks(work.start(), tick)
    assert work.cancelled.wait(5)
    assert failure.value.partial == work.emitted


def test_sys_exit_in_a_coroutine_ends_only_that_coroutine():
    async def leave(_run: Run[None, None]) -> None:
        raise SystemExit(3)

    for loop in (io, foreign):
        with pytest.raises(SystemExit):
            Run(leave, name="leaving", on=loop).result(10)
        assert Counting().start(on=loop).result(10) == 3


def test_a_coroutine_that_stops_its_loop_does_not_end_it():
    async def stop(_run: Run[None, str]) -> str:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return "still here"

    assert Run(stop, name="stopping", on=foreign).result(10) == "still here"


# runs()


def test_runs_lists_what_is_under_way_and_cancel_ends_it_all():
    first, second = Counting(1, pause_s=LONG_S), Counting(1, pause_s=LONG_S)
    one, two = first.start(), second.start()
    under_way = runs()
    assert list(under_way) == [one, two]
    assert repr(under_way).count("\n") == 1
    assert under_way.cancel() == 2
    assert first.cancelled.wait(5)
    assert second.cancelled.wait(5)
    assert list(runs()) == []
    assert repr(runs()) == "<no runs under way>"
    assert list(runs(ended=True))[-2:] == [one, two]


def test_a_run_that_has_given_its_result_is_not_listed_as_under_way():
    for _ in range(50):
        run = Counting(1).start()
        run.result()
        assert (list(runs()), run.state) == ([], "done")


def test_only_the_last_ten_ended_runs_are_kept():
    for _ in range(12):
        last = Counting(1).start()
        last.result()
    until(lambda: last in list(runs(ended=True)))
    assert len(runs(ended=True)) == 10


def test_the_repr_is_one_true_line():
    run = Counting(1, pause_s=LONG_S).start()
    until(lambda: run.state == "streaming")
    assert repr(run).startswith(f"<Run {run.number} counting · streaming · 0.")
    run.cancel()
    assert f"<Run {run.number} counting · stopped · " in repr(run)


# threads


def test_run_in_background_gives_a_run_of_a_blocking_verb():
    run = run_in_background(sorted, [3, 1, 2], reverse=True)
    assert run.result() == [3, 2, 1]
    assert run.name == "sorted"


def test_cancelling_a_verb_in_the_background_cancels_the_work_it_waits_for():
    work = Counting(1, pause_s=LONG_S)

    def verb() -> int:
        return work.start().result()

    run = run_in_background(verb)
    until(lambda: len(runs()) == 2)
    run.cancel()
    assert work.cancelled.wait(5)


def test_a_sync_function_in_a_thread_sees_the_context_of_its_caller():
    where = contextvars.ContextVar("where", default="nowhere")
    where.set("in the cell")

    async def work(_run: Run[None, tuple[str, str]]) -> tuple[str, str]:
        return where.get(), await in_thread(where.get)

    assert Run(work, name="context").result() == ("in the cell", "in the cell")


def test_sys_exit_in_a_thread_comes_out_of_the_wait_and_harms_no_loop():
    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        run_in_background(leave).result(10)
    assert Counting().start().result(10) == 3


# the io loop stays free


def longest_pause_s(seconds: float) -> float:
    """The longest that the io loop did not come round to a 5 ms tick, in seconds beyond those 5 ms."""

    async def tick() -> float:
        longest, last = 0.0, time.monotonic()
        end = last + seconds
        while last < end:
            await asyncio.sleep(0.005)
            now = time.monotonic()
            longest, last = max(longest, now - last - 0.005), now
        return longest

    return io.submit(tick()).result(60)


def test_the_io_loop_is_never_blocked_while_foreign_code_sleeps_and_runs_are_read():
    async def blocking(_run: Run[None, None]) -> None:
        time.sleep(0.3)  # noqa: ASYNC251 -- a user's blocking line is the point

    async def read() -> None:
        async for _ in Counting(200, pause_s=0.001).start():
            time.sleep(0.002)  # noqa: ASYNC251 -- a slow body

    pauses = []
    for _ in range(5):  # a busy machine may pause anything once; our own code would do it every time
        slow = Run(blocking, name="blocking", on=foreign)
        reader = threading.Thread(target=asyncio.run, args=(read(),))
        reader.start()
        pauses.append(longest_pause_s(0.4))
        slow.result()
        reader.join()
        if pauses[-1] <= 0.05:
            break
    assert min(pauses) <= 0.05
