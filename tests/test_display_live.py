"""The live view's state, its painting, and where it shows itself."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
from dataclasses import replace

import nbformat
import pytest
from nbclient import NotebookClient

from mamba_nb.compare.progress import PanelState
from mamba_nb.display.live import HtmlView, LineView, NoView, choose_view
from mamba_nb.records import (
    Finished,
    Generation,
    ReasoningDelta,
    ReasoningEnded,
    Request,
    StateChange,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReport,
)

DONE = Generation(request=Request(model="m", messages=()), base_url="http://127.0.0.1/v1", server="ollama", model="m")
FAILED = replace(DONE, status="failed", error="gone", error_type="ServerUnreachable", warnings=("a cold start",))


def panel(n_total: int = 1, label: str = "qwen") -> PanelState:
    return PanelState(label, model="m", server="ollama", n_total=n_total)


def test_a_panel_ends_with_the_prompt_that_was_asked_last_whichever_was_answered_last():
    state = panel(3)
    answers = [state.begin(prompt) for prompt in ("first", "second", "third")]
    shown = [state.answer.prompt]
    for place in (2, 0, 1):
        answers[place].end(DONE)
        shown.append(state.answer.prompt)
    assert shown == ["first", "first", "second", "third"]


def test_an_answer_goes_through_its_states():
    state = panel()
    seen = [state.state]
    state.say("loading model")
    seen.append(state.state)
    answer = state.begin("p")
    seen.append(state.state)
    answer.feed(StateChange(0.1, "reading prompt"))
    seen.append(state.state)
    answer.feed(TextDelta(0.2, "x"))
    seen.append(state.state)
    answer.end(DONE)
    seen.append(state.state)
    assert seen == ["waiting", "loading model", "waiting", "reading prompt", "streaming", "done"]


@pytest.mark.parametrize(
    ("endings", "stopped_at_the_end", "expected"),
    [
        pytest.param([DONE, FAILED], False, "done", id="one of two failed"),
        pytest.param([FAILED, FAILED], False, "failed", id="all failed"),
        pytest.param([DONE, replace(DONE, status="stopped")], False, "stopped", id="one was stopped"),
        pytest.param([DONE], True, "stopped", id="stopped before the second began"),
        pytest.param([DONE, DONE], True, "done", id="a stop after the end changes nothing"),
    ],
)
def test_what_became_of_a_panel(endings, stopped_at_the_end, expected):
    state = panel(n_total=2)
    for generation in endings:
        state.begin("p").end(generation)
    if stopped_at_the_end:
        state.stop()
    assert state.state == expected
    assert state.ended


def test_rates_by_hand():
    answer = panel().begin("p")
    assert answer.chunks_per_s is None
    answer.feed(ReasoningDelta(0.5, "a"))
    assert answer.ttft_ms == 500.0
    assert answer.chunks_per_s is None
    answer.feed(ToolCallDelta(1.0, 0, "", "f", ""))
    answer.feed(TextDelta(1.5, "b"))
    answer.feed(Finished(1.5, "stop"))
    assert answer.chunks_per_s == 2.0  # two gaps of half a second
    assert answer.tokens_per_s is None


def test_tokens_are_a_live_figure_only_where_the_server_counts_as_it_goes():
    at_the_end, as_it_goes = panel().begin("p"), panel().begin("p")
    at_the_end.feed(TextDelta(0.5, "a"))
    at_the_end.feed(UsageReport(0.6, Usage(completion_tokens=10)))
    assert at_the_end.tokens_per_s is None
    for at_s in (0.5, 1.0):
        as_it_goes.feed(TextDelta(at_s, "a"))
        as_it_goes.feed(UsageReport(at_s, Usage(completion_tokens=int(20 * at_s))))
    assert as_it_goes.tokens_per_s == 20.0  # 20 tokens within a second after send


def test_one_answer_is_shown_until_it_ends_then_the_oldest_still_under_way():
    state = panel(n_total=4)
    first, second, third = (state.begin(prompt) for prompt in ("1", "2", "3"))
    assert state.answer is first
    second.end(DONE)
    assert state.answer is first
    first.end(DONE)
    assert state.answer is third
    third.end(DONE)
    assert state.answer is third
    assert state.state == "waiting"
    assert state.begin("4") is state.answer


def test_a_state_that_is_set_from_outside_is_painted():
    state = panel()
    answer = state.begin("p")
    before = state.version
    answer.state = "loading model"
    assert state.version > before
    assert state.state == "loading model"


def test_an_answer_that_ends_twice_is_counted_once():
    state = panel(n_total=2)
    answer = state.begin("p")
    answer.end(FAILED)
    answer.end(DONE)
    assert (state.n_done, state.n_failed, state.warnings) == (0, 1, ("a cold start",))


class Display:
    """Stands where IPython's display function stands, and keeps what it was given."""

    def __init__(self) -> None:
        self.bundles: list[dict[str, str]] = []

    def __call__(self, bundle, *, raw, display_id):
        assert raw and display_id
        self.bundles.append(bundle)
        return self

    def update(self, bundle, *, raw):
        assert raw
        self.bundles.append(bundle)


def test_nothing_is_painted_while_nothing_changes(monkeypatch: pytest.MonkeyPatch):
    shown = Display()
    monkeypatch.setattr("IPython.display.display", shown)
    state = panel()
    view = HtmlView([state])
    view.paint()
    view.paint()
    assert len(shown.bundles) == 1
    state.begin("p").feed(TextDelta(0.1, "x"))
    view.paint()
    view.paint()
    assert len(shown.bundles) == 2
    view.close()
    assert len(shown.bundles) == 3
    assert "■ qwen · ollama: stopped" in shown.bundles[-1]["text/plain"]


def test_outside_a_notebook_and_a_terminal_nothing_is_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(choose_view(None, [panel()]), NoView)
    assert isinstance(choose_view(False, [panel()]), NoView)
    assert isinstance(choose_view(True, [panel()]), LineView)


TERMINAL = """
from mamba_nb.compare.progress import PanelState
from mamba_nb.display.live import choose_view
import threading
states = [PanelState(label, model="m", server="s", n_total=2) for label in ("qwen", "evil\\x1b[31m")]
view = choose_view(None, states)
view.paint()
states[0].begin("p")
states[0].say("x")
view.paint()
view.close()
assert threading.active_count() == 1, threading.enumerate()
print("next line")
"""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="Windows has no pseudo-terminals")
def test_in_a_terminal_there_is_one_line():
    import fcntl
    import termios

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", TERMINAL], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = b""
    try:
        while chunk := os.read(ours, 4096):
            written += chunk
    except OSError:  # Linux's way to say that the other side is closed
        pass
    finally:
        os.close(ours)
    assert process.wait(30) == 0
    line, rest = written.decode().split("\r\n", 1)
    assert rest == "next line\r\n"
    assert line.split("\r")[-1].strip().endswith("■ qwen stopped · ■ evil\\x1b[31m stopped")
    assert "\x1b[31m" not in line


CELL = """
import threading
from mamba_nb.compare.progress import PanelState
from mamba_nb.display.live import choose_view
from mamba_nb.records import Generation, Request, ReasoningEnded, TextDelta

states = [PanelState("qwen", model="m", server="ollama")]
in_thread = []
thread = threading.Thread(target=lambda: in_thread.append(type(choose_view(None, states)).__name__))
thread.start()
thread.join()
view = choose_view(None, states)
answer = states[0].begin("p")
for at in range(3):
    answer.feed(TextDelta(at, f"piece {at} "))
    view.paint()
answer.end(
    Generation(request=Request(model="m", messages=()), base_url="http://127.0.0.1/v1", server="ollama", model="m",
               text="piece 0 piece 1 piece 2 ")
)
view.close()
(type(view).__name__, in_thread)
"""


def test_in_a_kernel_the_panels_stay_once_in_the_saved_notebook(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()

    shown, result = notebook.cells[0].outputs
    assert result.data["text/plain"] == "('HtmlView', ['NoView'])"
    assert shown.output_type == "display_data"
    assert shown.data["text/html"].count("piece 2") == 1
    assert shown.data["text/html"].count('class="mn-panel') == 1
    assert shown.data["text/plain"] == "● qwen · ollama: done\npiece 0 piece 1 piece 2 "


def test_text_before_a_late_closing_tag_moves_to_the_reasoning():
    answer = PanelState("m", model="m", server="ollama").begin("Why?")
    for event in (TextDelta(0.1, "Let me think."), ReasoningEnded(0.2), TextDelta(0.3, "Because.")):
        answer.feed(event)
    assert ("".join(answer.reasoning), "".join(answer.text)) == ("Let me think.", "Because.")
