"""A comparison's wall time, and model loads, against the servers' own."""

from __future__ import annotations

import time
from contextlib import ExitStack

import mamba_nb as mb
from mamba_nb.backends import OpenAICompatibleBackend
from mamba_nb.testing import Script, ServerProcess

PROMPTS = [f"prompt {n}" for n in range(8)]


def test_three_servers_take_as_long_as_the_slowest_alone(told):
    """The whole verb, warm-ups included, against the time that each server spent on its requests, warm-up included."""
    scripts = [Script(text=["word "] * 20, ttft_s=ttft_s, itl_s=0.02) for ttft_s in (0.05, 0.1, 0.2)]
    with ExitStack() as stack:
        servers = [stack.enter_context(ServerProcess(script, models=("m",))) for script in scripts]
        backends = [stack.enter_context(OpenAICompatibleBackend("m", server.base_url)) for server in servers]
        mb.compare(backends, "first", live=False)  # imports are not what is measured
        before = [len(server.log()) for server in servers]
        began = time.perf_counter()
        grid = mb.compare(backends, PROMPTS, live=False)
        wall_s = time.perf_counter() - began
        own_s = [
            sum(entry.ended_at - entry.received_at for entry in server.log()[skip:])
            for server, skip in zip(servers, before, strict=True)
        ]
    assert grid.count("done") == 3 * len(PROMPTS)
    ratio = wall_s / max(own_s)
    told(
        f"3 servers: wall {wall_s:.2f} s, slowest alone {max(own_s):.2f} s: ratio {ratio:.3f} "
        f"(one after another: {sum(own_s) / max(own_s):.2f})"
    )
    assert ratio <= 1.05
