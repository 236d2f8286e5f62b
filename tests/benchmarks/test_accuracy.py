"""What is measured, against the server's own send stamps: another process, the same clock, the live view on."""

from __future__ import annotations

import json
import textwrap
from itertools import pairwise
from statistics import median

from jupyter_client.manager import start_new_kernel

from mamba_nb.testing import Script, ServerProcess

STREAMS = 8
PROMPTS = 3 * STREAMS  # the first of each stream opens its connection, the others find it open
WITHIN_MS = 2.0
CELL = """
import json
import mamba_nb as mb
from mamba_nb.backends import OpenAICompatibleBackend
backend = OpenAICompatibleBackend("m", {base_url!r})
grid = mb.compare(backend, [f"prompt {{n}}" for n in range({prompts})], max_concurrency={streams}, live=True)
print("MEASURED" + json.dumps({{c.prompt: c.generation.text_at_s for c in grid}}))
backend.close()
"""


def measure(base_url: str) -> tuple[dict[str, list[float]], int]:
    """Run the comparison in a cell of a real kernel; gives the stamps, and how often the view was painted."""
    manager, client = start_new_kernel()
    paints, printed = 0, ""

    def take(message: dict) -> None:
        nonlocal paints, printed
        if message["msg_type"] in ("display_data", "update_display_data"):
            paints += 1
        elif message["msg_type"] == "stream":
            printed += message["content"]["text"]

    try:
        reply = client.execute_interactive(
            textwrap.dedent(CELL).format(base_url=base_url, streams=STREAMS, prompts=PROMPTS),
            output_hook=take,
            timeout=60,
        )
        assert reply["content"]["status"] == "ok", reply["content"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return json.loads(printed.split("MEASURED")[1]), paints


def test_ttft_and_itl_are_within_two_milliseconds_of_the_servers_own_stamps(told):
    script = Script(text=["word "] * 60, ttft_s=0.3, itl_s=0.03)
    with ServerProcess(script, models=("m",)) as server:
        measured, paints = measure(server.base_url)
        log = [entry for entry in server.log() if entry.path.endswith("/chat/completions")]
    truth = {str(entry.body["messages"][-1]["content"]): entry for entry in log}
    ttft_off, itl_off = [], []
    for prompt, at_s in measured.items():
        entry = truth[prompt]
        sent = entry.token_sent_at
        ttft_off.append(1000 * abs(at_s[0] - (sent[0] - entry.received_at)))
        ours = [b - a for a, b in pairwise(at_s)]
        theirs = [b - a for a, b in pairwise(sent)]
        assert len(ours) == len(theirs)
        itl_off += [1000 * abs(a - b) for a, b in zip(ours, theirs, strict=True)]
    told(
        f"{STREAMS} streams, view painted {paints} times: TTFT off by {median(ttft_off):.2f} ms (p50), "
        f"ITL off by {median(itl_off):.2f} ms (p50)"
    )
    assert paints > 10
    assert median(ttft_off) <= WITHIN_MS
    assert median(itl_off) <= WITHIN_MS
