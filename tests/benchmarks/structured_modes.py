"""How a structured answer is asked for on each kind of server, and how often one comes: 20 tries each.

The built-in model answers everywhere: as itself, and behind each personality, which refuses and declares what that
kind of server does. What a personality holds to a schema, the engine behind it holds to that schema; what it passes
on as tools or as a prompt reaches the model so. A rate therefore says how the mode that was chosen does with a model
of 135 million parameters.

python -m pytest tests/benchmarks/structured_modes.py -s
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from mamba_nb import Agent, AgentResult, embedded
from mamba_nb.backends import OpenAICompatibleBackend, create_embedded_backend
from mamba_nb.errors import MambaError, ToolsNotSupported, WeightsMissing
from mamba_nb.testing import Script, ScriptedServer

TRIES = 20
ANIMALS = (
    *("cat", "dog", "eagle", "salmon", "ant", "frog", "horse", "owl", "shark", "bee"),
    *("cow", "snake", "penguin", "whale", "mouse", "bear", "parrot", "tortoise", "spider", "goat"),
)
PERSONALITIES: dict[str, tuple[str, dict[str, Any]]] = {
    "ollama": ("ollama", {}),
    "vllm, with a tool parser": ("vllm", {}),
    "vllm, without one": ("vllm", {"tool_parser": None}),
    "lmstudio": ("lmstudio", {}),
    "llamacpp": ("llamacpp", {}),
    "sglang": ("sglang", {}),
    "plain": ("plain", {}),
}
PASSED_ON = ("response_format", "tools", "tool_choice")


class Animal(BaseModel):
    """What an animal is like."""

    legs: int
    moves: Literal["walks", "flies", "swims"]


def note(text: str) -> str:
    """Keep a note."""
    return text


pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def model() -> Iterator[OpenAICompatibleBackend]:
    try:
        backend = create_embedded_backend(max_tokens=48, temperature=0.7, timeout=300.0, download=False)
    except WeightsMissing as error:
        pytest.skip(f"the built-in model's weights are not here: {error}")
    yield backend
    backend.close()
    embedded.stop(backend.model)


def mind(model: OpenAICompatibleBackend) -> Callable[[Any], Script]:
    """A script that says what the built-in model says."""

    def answer(request: Any) -> Script:
        params = {name: request.body[name] for name in PASSED_ON if name in request.body}
        try:
            said = model.ask(request.body["messages"], **params)
        except MambaError as error:  # the engine's own refusal of tools or of what its model made of them
            return Script(status=500, error_body={"error": {"message": str(error), "type": "server_error"}})
        calls = [{"name": call.name, "arguments": call.arguments} for call in said.tool_calls]
        return Script(text=said.text or None, tool_calls=calls, finish_reason=said.finish_reason)

    return answer


def tried(backend: OpenAICompatibleBackend, **options: Any) -> str:
    """The mode and how many of the tries were valid, as one line."""
    agent = Agent(backend, output_type=Animal, retries=1, **options)
    results: list[AgentResult[Any]] = []
    for animal in ANIMALS[:TRIES]:
        run = agent.run(f"What is a {animal} like: its number of legs, and how it moves?")
        try:
            results.append(run.result())
        except ToolsNotSupported:
            raise
        except MambaError:
            if run.partial is not None:
                results.append(run.partial)
    done = [result for result in results if result.status == "done"]
    at_once = sum(len(result.generations) == 1 for result in done)
    mode = results[-1].output_mode
    return f"{mode:<8}  {len(done):>2} of {TRIES} valid, {at_once:>2} at the first try   {results[-1].output_why}"


def test_without_tools(model, told):
    told(f"structured answers of {model.model}, {TRIES} tries each")
    line = tried(model)
    told(f"{'embedded':<26}{line}")
    assert line.startswith(f"native    {TRIES} of")
    for name, (style, options) in PERSONALITIES.items():
        with (
            ScriptedServer(mind(model), style=style, options=options) as server,
            OpenAICompatibleBackend("scripted-model", server.base_url, timeout=300.0, max_retries=0) as backend,
        ):
            line = tried(backend)
        told(f"{name:<26}{line}")
        assert line.startswith(f"native    {TRIES} of {TRIES}")


def test_with_a_tool_beside_the_answer(model, told):
    """Only the mode: whether the smallest model minds its tools is another question."""
    told("with a tool beside the answer, tools_mode='auto'")
    script = Script(text='{"answer": {"legs": 4, "moves": "walks"}}')
    for name, (style, options) in PERSONALITIES.items():
        with (
            ScriptedServer(script, style=style, options=options) as server,
            OpenAICompatibleBackend("scripted-model", server.base_url, max_retries=0) as backend,
        ):
            run = Agent(backend, output_type=Animal, tools=[note], tools_mode="auto").run("What is a cat like?")
            try:
                result = run.result()
            except MambaError:
                result = run.partial
            told(f"{name:<26}{result.output_mode:<8}  tools {result.tools_mode:<9} {result.output_why}")
            assert result.tools_mode == (
                "native" if name in ("ollama", "vllm, with a tool parser", "plain") else "prompted"
            )
