"""What panels that stream cost: bytes, paints per second, kernel CPU and lag, beside full values in the same run.

A kernel of its own runs the panels and a thread that lets answers grow; what it sends is read from its IOPub socket, as
a server would read it. The words are time stamps: lag is the age of the newest one when its message is read.
"""

from __future__ import annotations

import json
import re
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from jupyter_client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

SECONDS = 10
STAMP = re.compile(r"\d{10}\.\d\d")

SETUP = """
import json, threading, time
from mamba_nb.compare.progress import PanelState
from mamba_nb.records import Generation, Request, TextDelta
from mamba_nb.widgets.panels import Panels


class FullPanels(Panels):
    def paint(self, *, final=False, **changes):
        if final or self._feed.delta():
            self._sync(**changes)


def measure(kind, panels, words_per_s, words_per_chunk, seconds):
    states = [PanelState(f"model {number}", model="m", server="s") for number in range(panels)]
    widget = kind(states)
    print(json.dumps({"comm": widget.model_id}), flush=True)
    answers = [state.begin("Why?") for state in states]
    cpu, began, words = time.process_time(), time.monotonic(), 0
    widget.start()
    while (at := time.monotonic() - began) < seconds:
        while words < at * words_per_s:
            words += words_per_chunk
            for answer in answers:
                text = f"{time.time():.2f} " * words_per_chunk
                answer.feed(TextDelta(at, text + "\\n\\n" * (words % 80 < words_per_chunk)))
        time.sleep(0.002)
    for state, answer in zip(states, answers):
        request = Request(model="m", messages=())
        text = "".join(answer.text)
        answer.end(Generation(request=request, base_url="http://s/v1", server="s", model="m", text=text))
    while widget.state["panels"][-1]["state"] != "done":
        time.sleep(0.01)
    time.sleep(0.2)
    size = sum(len("".join(answer.text).encode()) for answer in answers)
    print(json.dumps({"cpu_s": time.process_time() - cpu, "text": size}), flush=True)
    widget.close()
"""


@dataclass
class Cost:
    """What one run cost."""

    bytes: int = 0
    messages: int = 0
    lags_ms: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    text: int = 0

    def __str__(self) -> str:
        lags = sorted(self.lags_ms)
        return (
            f"{self.bytes / 1000:.0f} kB for {self.text / 1000:.1f} kB of text ({self.bytes / self.text:.1f} times), "
            f"{self.messages / SECONDS:.1f} paints/s, kernel CPU {100 * self.cpu_s / SECONDS:.1f} %, "
            f"lag p50 {statistics.median(lags):.0f} ms, p95 {lags[int(0.95 * len(lags))]:.0f} ms"
        )


@pytest.fixture(scope="module")
def client() -> Any:
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        client.execute_interactive(SETUP, timeout=60, store_history=False)
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def measured(client: BlockingKernelClient, call: str) -> Cost:
    """Run a measurement in the kernel, and read what it sends to the widget's comm, as bytes."""
    client.execute(call, store_history=False)
    cost, comm = Cost(), None
    socket, session = client.iopub_channel.socket, client.session
    deadline = time.monotonic() + SECONDS + 60
    while time.monotonic() < deadline:
        if not socket.poll(1000):
            continue
        frames = socket.recv_multipart()
        now = time.time()
        message = session.deserialize(session.feed_identities(frames)[1])
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            for line in content["text"].splitlines():
                said = json.loads(line)
                comm = said.pop("comm", comm)
                for name, value in said.items():
                    setattr(cost, name, value)
        elif kind == "error":
            raise AssertionError(content["evalue"])
        elif kind == "comm_msg" and content["comm_id"] == comm:
            cost.bytes += sum(map(len, frames))
            cost.messages += 1
            if stamps := STAMP.findall(json.dumps(content["data"])):
                cost.lags_ms.append(1000 * (now - max(map(float, stamps))))
        elif kind == "status" and content["execution_state"] == "idle" and cost.text:
            return cost
    raise AssertionError("the kernel did not finish")


CASES = {"one answer of 20 kB in 10 s": (1, 144, 1), "4 panels at 50 tokens a second": (4, 50, 1)}


@pytest.mark.parametrize(("panels", "words_per_s", "words_per_chunk"), CASES.values(), ids=CASES)
def test_deltas_cost_a_part_of_full_values(told, client, panels, words_per_s, words_per_chunk):
    arguments = f"{panels}, {words_per_s}, {words_per_chunk}, {SECONDS}"
    deltas = measured(client, f"measure(Panels, {arguments})")
    full = measured(client, f"measure(FullPanels, {arguments})")
    told(f"deltas: {deltas}")
    told(f"full values: {full}")
    assert deltas.bytes <= 12 * deltas.text
    assert deltas.messages / SECONDS <= 11  # ten a second, and the state now and then
    assert deltas.bytes < full.bytes / 2
