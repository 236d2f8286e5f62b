"""Where sync meets async: two private loops, work in progress, and the way back.

Every connection lives on one event loop in one daemon thread, made on first use. Only this package's own
code runs there, so the time stamps taken on it are not bent by anybody else's. Coroutines that come from
outside (`run_sync`'s argument, an agent's async tools) run on a second loop of the same make.

A `Run` is work in progress. It starts when it is made, its events are read once, its result as often as
one likes, and it can be cancelled from any thread. Whoever waits for one does so in short steps, so that
an interrupt gets through; and an interrupt always cancels.
"""

from __future__ import annotations

from mamba_nb._bridge.loops import PrivateLoop, foreign, io, on_exit, on_fork, refuse_on_private_loops
from mamba_nb._bridge.run import Run, RunList, runs, wait_with_ticks
from mamba_nb._bridge.sync import run_sync
from mamba_nb._bridge.threads import call_in_thread, cancel_runs_of, in_thread, run_in_background
from mamba_nb._bridge.waiting import STEP_S

__all__ = [
    "STEP_S",
    "PrivateLoop",
    "Run",
    "RunList",
    "call_in_thread",
    "cancel_runs_of",
    "foreign",
    "in_thread",
    "io",
    "on_exit",
    "on_fork",
    "refuse_on_private_loops",
    "run_in_background",
    "run_sync",
    "runs",
    "wait_with_ticks",
]
