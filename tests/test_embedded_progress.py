"""The line that is shown while the engine loads: in a notebook, in a terminal, and nowhere else."""

from __future__ import annotations

import os
import struct
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

CODE = """
from mamba_nb.embedded import progress
progress.QUIET_S = {quiet_s}
with progress.Progress("Loading tiny", total={total}) as line:
    line.tick({done})
"""


def in_a_cell(code):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, timeout=60).execute()
    return notebook.cells[0].outputs


def test_in_a_notebook_it_is_plain_text_that_stays_and_no_widget():
    (output,) = in_a_cell(CODE.format(quiet_s=0.0, total=None, done=""))
    assert output["data"] == {"text/plain": "Loading tiny: 0 s"}


def test_a_download_says_how_much_of_it_has_come():
    (output,) = in_a_cell(CODE.format(quiet_s=0.0, total=200, done=50))
    assert output["data"] == {"text/plain": "Loading tiny: 0 s, 25 %"}


def test_a_short_wait_shows_nothing():
    assert in_a_cell(CODE.format(quiet_s=60.0, total=None, done="")) == []


def test_in_a_log_it_shows_nothing():
    code = CODE.format(quiet_s=0.0, total=None, done="")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_in_a_terminal_it_is_one_line_that_goes_away():
    import fcntl
    import termios

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))  # tqdm writes nothing into no room
    os.set_blocking(ours, False)
    code = CODE.format(quiet_s=0.0, total=None, done="")
    try:
        subprocess.run([sys.executable, "-c", code], stderr=theirs, check=True, timeout=60)
        shown = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "Loading tiny: 00:00" in shown
    assert "\n" not in shown.rstrip("\r\n ")
    assert shown.rsplit("\r", 2)[-2].strip() == ""  # wiped out at the end
