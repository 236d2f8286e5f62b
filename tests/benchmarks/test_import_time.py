"""`import mamba_nb` over a bare interpreter: at most 100 ms."""

from __future__ import annotations

import subprocess
import sys
import time

MOST_MS = 100.0
TRIES = 9


def fastest_ms(code: str) -> float:
    """The fastest of several runs of a fresh interpreter, in milliseconds."""
    times = []
    for _ in range(TRIES):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - began)
    return 1000 * min(times)


def test_importing_the_package_costs_little(told):
    bare, ours, openai = fastest_ms("pass"), fastest_ms("import mamba_nb"), fastest_ms("import openai")
    told(f"import: bare {bare:.0f} ms, mamba_nb +{ours - bare:.0f} ms, openai +{openai - bare:.0f} ms")
    assert ours - bare <= MOST_MS
