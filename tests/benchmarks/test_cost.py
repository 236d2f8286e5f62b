"""CPU per streamed chunk, and requests per second and core, against the openai SDK's own in the same run.

Both sides take turns. A processor's speed may change twofold from one second to the next, so what counts is the ratio
within a round, and the middle one of all rounds. CPU time is this process's own; the server is another one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import openai
import pytest

from mamba_nb._bridge import Run
from mamba_nb.backends import OpenAICompatibleBackend
from mamba_nb.backends._prompt import messages_from
from mamba_nb.testing import Script, ServerProcess

CHUNKS = 2400
REQUESTS = 300
ROUNDS = 9
MESSAGES = [{"role": "user", "content": "Count."}]


def cpu_us(side: Callable[[], int]) -> float:
    """CPU time a unit of work, in microseconds; the side says how many units it did."""
    began = time.process_time()
    units = side()
    return 1e6 * (time.process_time() - began) / units


def rounds(sdk: Callable[[], int], ours: Callable[[], int]) -> tuple[float, float, float]:
    """CPU time a unit, in microseconds, of both sides, and ours over the SDK's: the medians of all rounds."""
    sdk(), ours()
    pairs = [(cpu_us(sdk), cpu_us(ours)) for _ in range(ROUNDS)]
    return median(one for one, _ in pairs), median(other for _, other in pairs), median(b / a for a, b in pairs)


@contextmanager
def sdk_client(base_url: str) -> Iterator[tuple[openai.AsyncOpenAI, asyncio.Runner]]:
    with asyncio.Runner() as runner:
        client = openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0)
        yield client, runner
        runner.run(client.close())


# Chunks that come in bursts cost the least; those of several answers at once, a token each few milliseconds, are what
# a comparison reads.
STREAMS = {"in one burst": (1, 0.0), "of eight paced answers": (8, 0.004)}


@pytest.mark.parametrize(("streams", "itl_s"), STREAMS.values(), ids=STREAMS)
def test_a_chunk_costs_at_most_a_quarter_of_the_sdk_iterators(told, streams, itl_s):
    with (
        ServerProcess(Script(text=["word "] * (CHUNKS // streams), itl_s=itl_s), models=("m",)) as server,
        sdk_client(server.base_url) as (client, runner),
        OpenAICompatibleBackend("m", server.base_url) as backend,
    ):

        async def iterate() -> int:
            stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            return len([chunk async for chunk in stream])

        async def iterate_all() -> int:
            return sum(await asyncio.gather(*(iterate() for _ in range(streams))))

        def ours() -> int:
            runs = [backend.stream("Count.") for _ in range(streams)]
            return sum(len(run.result().text_at_s) for run in runs)

        sdk_us, ours_us, ratio = rounds(lambda: runner.run(iterate_all()), ours)
    told(f"CPU per chunk: SDK iterator {sdk_us:.0f} us, ours {ours_us:.0f} us: ratio {ratio:.2f}")
    assert ratio <= 0.25


def test_whole_requests_per_core_are_more_than_the_sdks_own(told):
    """Requests that are not streamed, one after another on one connection."""
    with (
        ServerProcess(Script(text="yes"), models=("m",)) as server,
        sdk_client(server.base_url) as (client, runner),
        OpenAICompatibleBackend("m", server.base_url) as backend,
    ):
        messages = messages_from("Count.")

        async def create() -> int:
            for _ in range(REQUESTS):
                await client.chat.completions.create(model="m", messages=MESSAGES)
            return REQUESTS

        async def generate(_run: object) -> int:
            for _ in range(REQUESTS):
                await backend.generate(messages, {}, streamed=False)
            return REQUESTS

        sdk, ours, ratio = rounds(lambda: runner.run(create()), lambda: Run(generate, name="requests").result())
    told(f"requests per second and core: SDK {1e6 / sdk:.0f}, ours {1e6 / ours:.0f}: {1 / ratio:.2f} times")
    assert 1 / ratio >= 1.6
