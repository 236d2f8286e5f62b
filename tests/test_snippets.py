"""The snippets of the reference documentation, run as written, against servers on the default ports."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from default_ports import LLAMA, Servers, servers_on_default_ports
from kernels.driver import Kernel

SNIPPET = """\
from mamba_nb import Agent, AgentSettings
from mamba_nb.backends import (
    OpenAICompatibleBackend, create_ollama_backend, create_vllm_backend, create_lmstudio_backend,
    ModelProfile, get_profile, list_profiles, register_profile, get_profiles_by_provider, check_server_health,
)

settings = AgentSettings(model_backend={"base_url": "http://localhost:11434/v1", "model": "llama3.2", "temperature": 0.7})
agent = Agent(settings=settings)
result = agent.run_sync("Hello!")          # in a script, in a cell, in a click handler, inside a tool
print(result.output)

Agent("llama3.2", tools=[])                # positional model; settings then come from the environment
create_ollama_backend("llama3.2")          # http://localhost:11434/v1
create_vllm_backend("meta-llama/Llama-3.2-3B-Instruct")   # http://localhost:8000/v1
create_lmstudio_backend()                  # http://localhost:1234/v1, model "local-model" = whatever is loaded
OpenAICompatibleBackend(model="my-model", base_url="http://localhost:8000/v1", api_key="optional-key",
                        temperature=0.7, max_tokens=4096)
get_profile("gpt-4o").context_window       # also max_output_tokens, supports_tools, supports_vision, provider
"""  # noqa: E501 - as it is written there


@pytest.fixture
def servers() -> Iterator[Servers]:
    with servers_on_default_ports() as running:
        yield running


def run(code: str) -> str:
    """Run a script as a user would, hold it to a clean end, and give what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_snippet_runs_as_a_script_and_sends_what_the_settings_say(servers):
    assert run(SNIPPET) == "Hello from a script.\n"
    (chat,) = servers.ollama.chats
    assert chat.body["model"] == "llama3.2"
    assert chat.body["temperature"] == 0.7
    assert chat.body["messages"] == [{"role": "user", "content": "Hello!"}]
    assert servers.vllm.chats == servers.lmstudio.chats == []


def test_the_snippet_runs_in_a_cell(servers, tmp_path):
    with Kernel(tmp_path) as kernel:
        first, second = kernel.replies(kernel.queue(SNIPPET, "print('the next cell')"))
    assert (first.status, first.printed, first.error) == ("ok", "Hello from a script.\n", "")
    assert second.printed == "the next cell\n"


def test_the_agent_runs_in_a_click_handler(servers, tmp_path):
    with Kernel(tmp_path) as kernel:
        kernel.run(SNIPPET)
        kernel.run(
            "import ipywidgets\n"
            "button, heard = ipywidgets.Button(), []\n"
            "button.on_click(lambda _: heard.append(agent.run_sync('Hello!').output))"
        )
        click = kernel.click(kernel.value("button.model_id"))
        kernel.wait(lambda: click.idle, "the click to be over")
        assert kernel.value("heard") == ["Hello from a script."]


def test_the_agent_runs_inside_a_tool_of_another_agent(servers):
    from mamba_nb.testing import Script

    servers.ollama.enqueue(
        Script(tool_calls=[{"name": "ask_the_other", "arguments": "{}"}]),
        Script(text="the inner answer"),
        Script(text="the outer answer"),
    )
    code = """
from mamba_nb import Agent
inner = Agent("llama3.2")

def ask_the_other() -> str:
    '''Ask the other one.'''
    return inner.run_sync("Hello!").output

import warnings
warnings.simplefilter("ignore")  # the table claims that llama3.2 has no tools
result = Agent("llama3.2", tools=[ask_the_other]).run_sync("Go on.")
print(result.output)
print(result.tool_calls[0].result)
"""
    assert run(code) == "the outer answer\nthe inner answer\n"


def test_each_factory_talks_to_its_default_address(servers):
    from mamba_nb.backends import (
        OpenAICompatibleBackend,
        create_lmstudio_backend,
        create_ollama_backend,
        create_vllm_backend,
    )

    made = [
        (create_ollama_backend("llama3.2"), "http://localhost:11434/v1", servers.ollama, "llama3.2"),
        (create_vllm_backend(LLAMA), "http://localhost:8000/v1", servers.vllm, LLAMA),
        (create_lmstudio_backend(), "http://localhost:1234/v1", servers.lmstudio, "qwen/qwen3-8b"),
    ]
    for backend, base_url, server, model in made:
        with backend:
            assert backend.base_url == base_url
            assert backend.ask("Hello!").text == "Hello from a script."
        (chat,) = server.chats
        assert chat.body["model"] == model
        assert "temperature" not in chat.body  # a factory sends no sampling parameter that was not given
    with OpenAICompatibleBackend(
        model="my-model",
        base_url="http://localhost:8000/v1",
        api_key="optional-key",
        temperature=0.7,
        max_tokens=4096,
    ) as backend:
        assert backend.ask("Hello!").text == "Hello from a script."
    sent = servers.vllm.chats[-1]
    assert (sent.body["model"], sent.body["temperature"]) == ("my-model", 0.7)
    assert 4096 in (sent.body.get("max_tokens"), sent.body.get("max_completion_tokens"))
    assert sent.headers["authorization"] == "Bearer optional-key"
    assert "optional-key" not in repr(backend)


def test_check_server_health_is_a_coroutine_function(servers):
    from mamba_nb import run_sync
    from mamba_nb.backends import check_server_health

    health = run_sync(check_server_health("http://localhost:11434/v1"))
    assert health
    assert health.models == ("llama3.2:latest",)


def test_the_profile_functions_say_what_the_reference_says():
    from mamba_nb.backends import ModelProfile, get_profile, get_profiles_by_provider, list_profiles, register_profile

    gpt = get_profile("gpt-4o")
    assert isinstance(gpt, ModelProfile)
    assert (gpt.context_window, gpt.supports_tools, gpt.supports_vision, gpt.provider) == (
        128_000,
        True,
        True,
        "openai",
    )
    assert gpt.max_output_tokens == 16_384
    assert gpt.fact("supports_tools").source == "claimed"
    assert (gpt.name, get_profile("gpt-4o-2024-11-20").requested) == ("gpt-4o", "gpt-4o-2024-11-20")
    assert list_profiles()[:8] == [
        "gpt-4o",
        "gpt-4o-mini",
        "gpt-4-turbo",
        "gpt-3.5-turbo",
        "claude-3-5-sonnet",
        "claude-3-opus",
        "llama3.2",
        "llama3.2:70b",
    ]
    assert [profile.name for profile in get_profiles_by_provider("anthropic")] == ["claude-3-5-sonnet", "claude-3-opus"]
    assert callable(register_profile)


@pytest.mark.parametrize("name", ["MAMBA_MODEL_BACKEND__BASE_URL", "mamba_model_backend__base_url"])
def test_an_agent_by_name_takes_its_address_from_the_environment(name, monkeypatch):
    from mamba_nb import Agent
    from mamba_nb.testing import Script, ScriptedServer

    with ScriptedServer(Script(text="elsewhere"), models=["llama3.2"]) as server:
        monkeypatch.setenv(name, server.base_url)
        agent = Agent("llama3.2", tools=[])
        assert agent.run_sync("Hello!").output == "elsewhere"
        assert server.chats[0].body["temperature"] == 0.7  # an Agent sends the settings' value


def test_the_readme_has_the_snippet_as_it_is():
    readme = Path(__file__).parents[1] / "README.md"
    assert f"```python\n{SNIPPET}```" in readme.read_text("utf-8").replace(os.linesep, "\n")
