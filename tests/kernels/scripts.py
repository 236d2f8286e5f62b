"""Run a few lines in a Python process of their own, for what a test process cannot do to itself."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def run_script(script: str, *, stderr: str = "", status: int = 0, timeout_s: float = 60.0) -> str:
    """Run a script and hold it to a clean end.

    Args:
        script: The lines; indentation common to all of them is taken off.
        stderr: All that it may write there. Anything else, a traceback at exit for one, fails the test.
        status: The exit status to expect.
        timeout_s: Seconds after which it is killed, and the test fails.

    Returns:
        What it wrote to standard output.
    """
    done = subprocess.run(
        [sys.executable, "-W", "default", "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert (done.stderr, done.returncode) == (stderr, status), f"{done.stdout}\n{done.stderr}"
    return done.stdout
