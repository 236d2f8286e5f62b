"""Print one of the README's two commands: `quickstart` or `test`. They stand there once, so nothing can drift."""

from __future__ import annotations

import re
import sys
from pathlib import Path

MARKS = {"quickstart": "quickstart --execute", "test": "&& pytest"}


def command(which: str, readme: str) -> str:
    """The one line of a `bash` block that holds the mark.

    Raises:
        SystemExit: If there is not exactly one.
    """
    blocks = re.findall(r"^```bash\n(.*?)^```", readme, flags=re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines() if MARKS[which] in line]
    if len(lines) != 1:
        raise SystemExit(f"The README has {len(lines)} commands with {MARKS[which]!r}; it must have one.")
    return lines[0]


if __name__ == "__main__":
    print(command(sys.argv[1], (Path(__file__).resolve().parents[1] / "README.md").read_text("utf-8")))
