"""Benchmarks: ratios measured in one run, printed whether they hold or not. Run them on a quiet machine.

python -m pytest tests/benchmarks -s
"""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a line that stands in the report although pytest captures output."""

    def tell(line: str) -> None:
        with capsys.disabled():
            print(f"\n    {line}", end="")

    return tell
