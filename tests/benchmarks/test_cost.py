"""CPU per streamed chunk, and requests per second, against the openai SDK's own in the same run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import openai
import pytest

from mamba_nb._bridge import Run
from mamba_nb.backends import OpenAICompatibleBackend
from mamba_nb.backends._prompt import messages_from
from mamba_nb.testing import Script, ServerProcess

CHUNKS = 1500
PACED_S = 0.001  # chunks that come one by one, as a model writes them, not in one burst
REQUESTS = 300
ROUNDS = 3
MESSAGES = [{"role": "user", "content": "Count."}]


def cpu_us_per_chunk(read: Callable[[], int]) -> float:
    """CPU time of this process a chunk, in microseconds; the best of a few rounds after one to warm up."""
    read()
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        chunks = read()
        best = min(best, (time.process_time() - began) / chunks * 1e6)
    return best


@pytest.mark.parametrize("itl_s", [PACED_S, 0.0], ids=["one by one", "in bursts"])
def test_a_chunk_costs_at_most_a_quarter_of_the_sdk_iterators(told, itl_s):
    with ServerProcess(Script(text=["word "] * CHUNKS, itl_s=itl_s), models=("m",)) as server:
        with asyncio.Runner() as runner:
            client = openai.AsyncOpenAI(base_url=server.base_url, api_key="none", max_retries=0)

            async def iterate() -> int:
                stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
                return len([chunk async for chunk in stream])

            sdk = cpu_us_per_chunk(lambda: runner.run(iterate()))
            runner.run(client.close())
        with OpenAICompatibleBackend("m", server.base_url) as backend:
            ours = cpu_us_per_chunk(lambda: len(backend.ask("Count.").text_at_s))
    told(f"CPU per chunk: SDK iterator {sdk:.0f} us, ours with events and stamps {ours:.0f} us: ratio {ours / sdk:.2f}")
    assert ours <= sdk / 4


def per_s(run: Callable[[Callable[[], Awaitable[object]]], None], ask: Callable[[], Awaitable[object]]) -> float:
    best = 0.0
    for _ in range(ROUNDS):
        began = time.perf_counter()
        run(ask)
        best = max(best, REQUESTS / (time.perf_counter() - began))
    return best


async def one_after_another(ask: Callable[[], Awaitable[object]]) -> None:
    for _ in range(REQUESTS):
        await ask()


def test_whole_requests_are_faster_than_the_sdks_own(told):
    """Requests that are not streamed, one after another on one connection."""
    with ServerProcess(Script(text="yes"), models=("m",)) as server:
        with asyncio.Runner() as runner:
            client = openai.AsyncOpenAI(base_url=server.base_url, api_key="none", max_retries=0)

            async def create() -> object:
                return await client.chat.completions.create(model="m", messages=MESSAGES)

            sdk = per_s(lambda ask: runner.run(one_after_another(ask)), create)
            runner.run(client.close())
        with OpenAICompatibleBackend("m", server.base_url) as backend:
            messages = messages_from("Count.")

            async def ours_once() -> object:
                return await backend.generate(messages, {}, streamed=False)

            ours = per_s(lambda ask: Run(lambda _run: one_after_another(ask), name="requests").result(), ours_once)
    told(f"requests per second: SDK default {sdk:.0f}, ours {ours:.0f}: {ours / sdk:.2f} times")
    assert ours >= 1.6 * sdk
