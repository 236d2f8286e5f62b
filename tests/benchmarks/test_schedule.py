"""A comparison's wall time, and model loads, against the servers' own."""

from __future__ import annotations

from contextlib import ExitStack

import mamba_nb as mb
from mamba_nb.backends import OpenAICompatibleBackend
from mamba_nb.testing import Script, ServerProcess

PROMPTS = [f"prompt {n}" for n in range(6)]


def test_three_servers_take_as_long_as_the_slowest_alone(told):
    scripts = [Script(text=["word "] * 20, ttft_s=ttft_s, itl_s=0.02) for ttft_s in (0.05, 0.1, 0.2)]
    with ExitStack() as stack:
        servers = [stack.enter_context(ServerProcess(script, models=("m",))) for script in scripts]
        backends = [stack.enter_context(OpenAICompatibleBackend("m", server.base_url)) for server in servers]
        grid = mb.compare(backends, PROMPTS, live=False)
        own_s = []
        for server in servers:
            entries = [e for e in server.log() if e.body and e.body.get("messages", [{}])[-1].get("content") != "Hi"]
            own_s.append(sum(entry.ended_at - entry.received_at for entry in entries))
    assert grid.count("done") == 18
    ratio = grid.wall_s / max(own_s)
    told(
        f"3 servers: wall {grid.wall_s:.2f} s, slowest alone {max(own_s):.2f} s: ratio {ratio:.3f} "
        f"(one after another: {sum(own_s) / max(own_s):.2f})"
    )
    assert ratio <= 1.05
