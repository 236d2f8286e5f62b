"""Toolsets, MCP servers, and tools that wait for other work: what pydantic-ai has is passed through."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic_ai import FunctionToolset, RunContext

from mamba_nb import Agent, run_sync
from mamba_nb.backends import OpenAICompatibleBackend
from mamba_nb.errors import BadInput, RunStopped
from mamba_nb.testing import Script, ScriptedServer

LONG_S = 30.0
MCP_SERVER = '''
"""An MCP server over stdin and stdout, with one tool."""
from mcp.server.{module} import {name}
server = {name}("weather")

@server.tool()
def get_weather(city: str) -> str:
    """The weather in a city now."""
    return f"Rain in {{city}}."

server.run("stdio")
'''


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def call(name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(Script(text="It is done.")) as running:
        yield running


@pytest.fixture
def backend(server: ScriptedServer) -> Iterator[OpenAICompatibleBackend]:
    with OpenAICompatibleBackend("scripted-model", server.base_url, max_retries=0) as made:
        yield made


class TestToolsets:
    def test_a_function_toolset_is_offered_called_and_named(self, server, backend):
        server.enqueue(Script(tool_calls=[call("add", a=1, b=2), call("key")]))

        def key(context: RunContext[str]) -> str:
            """The key."""
            return context.deps

        agent = Agent(backend, toolsets=[FunctionToolset([add, key])])
        result = agent.run_sync("Go", deps="secret")
        assert [(use.name, use.result, use.valid) for use in result.tool_calls] == [
            ("add", 3, True), ("key", "secret", True),
        ]  # fmt: skip
        assert [tool["function"]["name"] for tool in server.chats[0].body["tools"]] == ["add", "key"]
        assert repr(agent).endswith("tools add, key>")

    def test_toolsets_stand_beside_tools_and_go_into_the_prompt_too(self, server, backend):
        server.script = Script(text='{"answer": "Yes."}')
        server.enqueue(Script(text='{"tool": "add", "arguments": {"a": 1, "b": 2}}'))
        agent = Agent(backend, tools=[print_it], toolsets=[FunctionToolset([add])], tools_mode="prompted")
        result = agent.run_sync("Go")
        assert (result.output, result.tool_calls[0].result) == ("Yes.", 3)
        assert '"tool": "print_it"' in server.chats[0].body["messages"][0]["content"]

    @pytest.mark.parametrize("wrong", [FunctionToolset([add]), "server.py", [3], ["server.py"]])
    def test_what_is_no_toolset_is_refused(self, backend, wrong):
        with pytest.raises(BadInput, match="toolset"):
            Agent(backend, toolsets=wrong)

    def test_an_unknown_tool_and_wrong_arguments_are_told_from_valid_calls(self, server, backend):
        server.enqueue(Script(tool_calls=[call("add", a="one", b=2)]), Script(tool_calls=[call("subtract", a=1)]))
        result = Agent(backend, tools=[add], retries=3).run_sync("Go")
        assert [use.valid for use in result.tool_calls] == [False, False]

    def test_an_mcp_server_over_stdio_is_a_toolset(self, server, backend, tmp_path):
        pytest.importorskip("fastmcp", reason='the MCP client is not installed: pip install "pydantic-ai-slim[mcp]"')
        from fastmcp.client.transports import StdioTransport
        from pydantic_ai.mcp import MCPToolset

        try:
            from mcp.server.mcpserver import MCPServer  # noqa: F401

            names = {"module": "mcpserver", "name": "MCPServer"}
        except ImportError:
            names = {"module": "fastmcp", "name": "FastMCP"}
        script = tmp_path / "weather.py"
        script.write_text(MCP_SERVER.format(**names))
        server.enqueue(Script(tool_calls=[call("get_weather", city="Paris")]))
        toolset = MCPToolset(StdioTransport(sys.executable, [str(script)], keep_alive=False))
        result = Agent(backend, toolsets=[toolset]).run_sync("Umbrella?")
        assert [str(use) for use in result.tool_calls] == ["get_weather(city='Paris') -> 'Rain in Paris.'"]
        assert server.chats[0].body["tools"][0]["function"]["description"] == "The weather in a city now."


class TestToolsThatWait:
    def test_a_sync_tool_may_wait_for_a_coroutine(self, server, backend):
        server.enqueue(Script(tool_calls=[call("fetch")]))

        def fetch() -> str:
            """Fetch."""
            return run_sync(slowly())

        async def slowly() -> str:
            await asyncio.sleep(0)
            return "fetched"

        assert Agent(backend, tools=[fetch]).run_sync("Go").tool_calls[0].result == "fetched"

    def test_many_sync_tools_that_run_agents_at_once_do_not_wait_for_each_other(self, server, backend):
        inner = Agent(backend)
        both = threading.Barrier(3)

        def ask_other(n: int) -> str:
            """Ask."""
            both.wait(LONG_S)
            return inner.run_sync(str(n)).output

        server.enqueue(Script(tool_calls=[call("ask_other", n=n) for n in range(3)]))
        result = Agent(backend, tools=[ask_other]).run_sync("Go")
        assert [use.result for use in result.tool_calls] == ["It is done."] * 3

    def test_a_result_that_comes_after_the_stop_is_dropped(self, server, backend):
        server.enqueue(Script(tool_calls=[call("wait")]))
        entered, leave, left = threading.Event(), threading.Event(), threading.Event()

        def wait() -> str:
            """Wait."""
            entered.set()
            leave.wait(LONG_S)
            left.set()
            return "late"

        run = Agent(backend, tools=[wait]).run("Go")
        assert entered.wait(LONG_S)
        run.cancel()
        with pytest.raises(RunStopped) as caught:
            run.result(LONG_S)
        took_s = caught.value.partial.took_s
        leave.set()
        assert left.wait(LONG_S)
        assert run.partial.tool_calls[0].result is None and run.partial.tool_calls[0].took_s is None
        assert str(run.partial.tool_calls[0]) == "wait() -> no result"
        assert run.partial.took_s == took_s and len(server.chats) == 1


def print_it(text: str) -> str:
    """Print a text."""
    return text
