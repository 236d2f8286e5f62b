"""Scripted servers on the default ports of Ollama, vLLM and LM Studio, for code that names no address."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from mamba_nb.testing import Script, ScriptedServer

LLAMA = "meta-llama/Llama-3.2-3B-Instruct"


@dataclass(frozen=True, slots=True)
class Servers:
    """One of each kind, all saying the same."""

    ollama: ScriptedServer
    vllm: ScriptedServer
    lmstudio: ScriptedServer


@contextlib.contextmanager
def servers_on_default_ports(
    answer: str = "Hello from a script.", ollama: Sequence[str] = ("llama3.2",)
) -> Iterator[Servers]:
    """Start them, or skip the test where a port is taken: a server of the user's stays as it is.

    Args:
        answer: What each says to anything.
        ollama: The models that Ollama has.
    """
    script = Script(text=answer)
    wanted = {
        "ollama": ScriptedServer(script, style="ollama", models=list(ollama), port=11434),
        "vllm": ScriptedServer(script, style="vllm", models=[LLAMA, "my-model"], port=8000),
        "lmstudio": ScriptedServer(script, style="lmstudio", models=["qwen/qwen3-8b"], port=1234),
    }
    with contextlib.ExitStack() as stack:
        for name, server in wanted.items():
            try:
                stack.enter_context(server)
            except OSError as error:
                pytest.skip(f"port {server._port}, the default of {name}, is taken here: {error.strerror or error}")
        yield Servers(**wanted)
