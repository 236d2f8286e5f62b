"""Agents in a real kernel: events in a cell, the square button in the middle of a tool, a conversation that goes on."""

from __future__ import annotations

import os
from typing import Any

import pytest
from kernels.driver import PROMPTLY_S, Kernel

from mamba_nb.testing import Script, ScriptedServer

SETUP = """
import asyncio, threading
import mamba_nb as mb
from mamba_nb.agent import Agent, StepStarted, ToolCalled, ToolReturned
from mamba_nb.records import TextDelta
from mamba_nb.backends import OpenAICompatibleBackend

entered, leave, cancelled = threading.Event(), threading.Event(), threading.Event()

def wait() -> str:
    "Wait."
    entered.set()
    leave.wait(60)
    return "late"

async def wait_async() -> str:
    "Wait."
    entered.set()
    try:
        await asyncio.sleep(60)
    finally:
        cancelled.set()

def add(a: int, b: int) -> int:
    "Add."
    return a + b

backend = OpenAICompatibleBackend("m", {base_url!r}, max_retries=0)
agent = Agent(backend, tools=[wait, wait_async, add])
"""
READ = """
for event in agent.run_stream("Go"):
    print(type(event).__name__, getattr(event, "text", getattr(event, "name", "")), flush=True)
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    python = os.environ.get("MAMBA_TEST_KERNEL_PYTHON")
    with Kernel(tmp_path_factory.mktemp("kernel"), python=python) as running:
        running.replies(running.queue("1 / 0"))  # the first traceback loads what colours it, which takes a while
        yield running


@pytest.fixture
def server(kernel):
    with ScriptedServer(Script(text="It is done."), models=("m",)) as running:
        kernel.run(SETUP.replace("{base_url!r}", repr(running.base_url)))
        yield running
        kernel.run("leave.set(); backend.close()")


def call(name: str, /, **arguments: Any) -> Script:
    return Script(tool_calls=[{"name": name, "arguments": arguments}])


def test_events_come_in_a_cell_and_the_result_is_shown_as_html(kernel, server):
    server.enqueue(call("add", a=1, b=2))
    cell = kernel.run(READ)
    assert cell.printed.split("\n")[:5] == [
        "StepStarted ", "ToolCalled add", "ToolReturned add", "StepStarted ", "TextDelta It",
    ]  # fmt: skip
    server.enqueue(call("add", a=1, b=2))
    cell = kernel.run("agent.run_sync('Go')")
    (bundle,) = cell.displayed
    assert "mn-run" in bundle["text/html"] and "step 1: add(a=1, b=2) -> 3" in bundle["text/plain"]


@pytest.mark.parametrize("tool", ["wait", "wait_async"])
def test_the_square_button_in_the_middle_of_a_tool_ends_the_cell_at_once(kernel, server, tool):
    server.enqueue(call(tool))
    cells = kernel.queue(READ, "after = 1")
    kernel.until_printed(cells[0], f"ToolCalled {tool}")
    began = kernel.interrupt()
    kernel.replies(cells)
    assert [cell.status for cell in cells] == ["error", "aborted"]
    assert "KeyboardInterrupt" in cells[0].error
    assert cells[0].replied_at - began < PROMPTLY_S
    kernel.run("import sys; partial = sys.last_value.partial")
    assert kernel.value("(partial.status, partial.tool_calls[0].name, partial.tool_calls[0].result)") == (
        "stopped", tool, None,
    )  # fmt: skip
    assert kernel.value("len(mb.runs())") == 0
    if tool == "wait_async":
        kernel.until("cancelled.is_set()")
    assert len(server.chats) == 1
    assert kernel.value("agent.run_sync('Still there?').output") == "It is done."


def test_an_awaited_run_can_be_stopped_in_a_tool_too(kernel, server):
    server.enqueue(call("wait"))
    (cell,) = kernel.queue("result = await agent.run('Go')")
    kernel.wait(lambda: bool(server.chats), "a request")
    kernel.wait(lambda: server.chats[0].ended_at is not None, "an answer")
    began = kernel.interrupt()
    kernel.replies([cell])
    assert cell.status == "error" and cell.replied_at - began < PROMPTLY_S
    assert kernel.value("(await agent.run('And now?')).output") == "It is done."


def test_a_conversation_goes_on_after_the_square_button(kernel, server):
    server.enqueue(call("wait"))
    (cell,) = kernel.queue("talk = agent.conversation()\ntalk.ask('Go')")
    kernel.wait(lambda: bool(server.chats) and server.chats[0].ended_at is not None, "an answer")
    kernel.interrupt()
    kernel.replies([cell])
    assert "KeyboardInterrupt" in cell.error
    assert kernel.value("(talk.ask('And now?').output, [r.status for r in talk.results])") == (
        "It is done.", ["stopped", "done"],
    )  # fmt: skip


def test_a_tool_may_wait_for_another_agent_in_a_kernel(kernel, server):
    server.enqueue(call("ask_other"), Script(text="Inner."))
    kernel.run(
        "def ask_other() -> str:\n    'Ask.'\n    return Agent(backend).run_sync('Why?').output\n"
        "result = Agent(backend, tools=[ask_other]).run_sync('Go')"
    )
    assert kernel.value("(result.tool_calls[0].result, result.output)") == ("Inner.", "It is done.")
