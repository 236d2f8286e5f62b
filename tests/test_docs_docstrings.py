"""Public docstrings hold: every example in them runs, as a doctest or as a block of code against running servers."""

from __future__ import annotations

import ast
import asyncio
import doctest
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from default_ports import servers_on_default_ports
from docs_blocks import Block, blocks, code_in, docstrings, own_verb
from pydantic import BaseModel
from tiny_model import write_tiny_model

import mamba_nb
import mamba_nb.backends
import mamba_nb.widgets
from mamba_nb import embedded

# An example leaves open what ends with the reader's process.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")

BLOCKS = blocks()
# Whose lines are ways to do the same, of which one is taken: each line runs by itself.
ONE_OF_EACH_LINE = {"mamba_nb.Run", "mamba_nb.Server.pull"}
# What is made by others, or is a set of options that the sections of its docstring list.
NEED_NO_EXAMPLE = {
    "AgentComparison",
    "AgentConversation",  # agent.conversation() has one
    "AgentResult",
    "EmbeddedSettings",
    "Fact",
    "Generation",
    "MambaError",
    "ModelBackendSettings",
    "ModelProfile",
    "ProfileComparison",
    "Request",
    "ServerHealth",
}


class City(BaseModel):
    name: str


def get_weather(city: str) -> str:
    """The weather in a city now."""
    return f"It rains in {city}."


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "Tiny-Random.F32.gguf")


@pytest.fixture(scope="module")
def servers() -> Iterator[None]:
    with servers_on_default_ports(ollama=["llama3.2", "qwen3:8b"]):
        yield
    embedded.stop()


@pytest.fixture
def surroundings(servers: None, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ollama, vLLM and LM Studio on their ports, and the embedded engine with a model that it loads at once."""
    monkeypatch.setenv("MAMBA_EMBEDDED__MODEL_PATH", str(tiny))


class Scene(dict[str, Any]):
    """The names that an example takes for granted: public ones, and things that a reader has made before."""

    def __init__(self, where: str) -> None:
        super().__init__(City=City, get_weather=get_weather, prompts=["Why is the sky blue?", "Name three rivers."])
        self["__builtins__"] = __builtins__
        self._where = where

    def __missing__(self, name: str) -> Any:
        from mamba_nb import Agent, AgentSettings, ChatView, VoteView, compare, compare_profiles, find_servers
        from mamba_nb.backends import create_ollama_backend

        made = {
            "agent": lambda: Agent("ollama:llama3.2", tools=[get_weather]),
            "backend": lambda: create_ollama_backend("llama3.2"),
            "b": lambda: self["backend"],
            "comparison": lambda: (
                compare_profiles(["gpt-4o", "gpt-4"])
                if "Profile" in self._where
                else compare("ollama/llama3.2", ["Why is the sky blue?"])
            ),
            "earlier": lambda: ChatView("ollama/llama3.2"),
            "reviews": frame,
            "run": lambda: self["backend"].stream("Hello"),
            "server": lambda: find_servers()["ollama"],
            "settings": AgentSettings,
            "view": lambda: VoteView(compare(["ollama/llama3.2", "ollama/qwen3:8b"], self["prompts"]), path=False),
        }
        if name in made:
            self[name] = made[name]()
            return self[name]
        for room in (mamba_nb, mamba_nb.backends):
            if name in room.__all__:
                return own_verb(getattr(room, name), name)
        raise KeyError(name)

    def close(self) -> None:
        for thing in self.values():
            if isinstance(thing, mamba_nb.OpenAICompatibleBackend | mamba_nb.Agent) or hasattr(thing, "comm"):
                thing.close()


def frame() -> Any:
    import pandas as pd

    return pd.DataFrame({"text": ["Broke after a day.", "Does what it should."]})


async def in_a_cell(code: str, scene: Scene) -> None:
    """Run code as a cell does: `await` works in it, and a loop is running."""
    compiled = compile(code, "docstring", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waiting = eval(compiled, scene)
    if compiled.co_flags & inspect.CO_COROUTINE:
        await waiting


def run_block(block: Block) -> None:
    parts = block.code.splitlines() if block.where in ONE_OF_EACH_LINE else [block.code]
    for part in parts:
        scene = Scene(block.where)
        try:
            asyncio.run(in_a_cell(part, scene))
        finally:
            scene.close()


def named(all_blocks: list[Block]) -> list[Any]:
    return [pytest.param(block, id=block.where.removeprefix("mamba_nb.")) for block in all_blocks]


@pytest.mark.parametrize("block", named(BLOCKS))
def test_a_block_runs_as_it_stands(block, surroundings):
    run_block(block)


def test_a_block_that_is_wrong_would_be_found(surroundings):
    with pytest.raises(AttributeError):
        run_block(Block("mamba_nb.Server", 'server.modles, server.model("llama3.2")'))
    with pytest.raises(mamba_nb.MambaError, match="qwen9"):
        run_block(Block("mamba_nb", 'backend_for("ollama/qwen9").ask("Hello").text'))
    with pytest.raises(TypeError):
        run_block(Block("mamba_nb.agent", 'result = await agent.run("Hello", wrong)'.replace("wrong", "'a', 'b', 'c'")))


def test_blocks_are_found_wherever_they_stand():
    text = "First line.\n\n    call(1)   says this\n\n    more()\n\nArgs:\n    x: call(2) it.\n\n    table   only\n"
    assert list(code_in(text)) == ["call(1)\n\nmore()\n"]
    assert list(code_in("One.\n\n    native   held to it\n    tool     called\n")) == []
    assert len(BLOCKS) >= 39
    assert {"mamba_nb", "mamba_nb.Agent.run", "mamba_nb.compare", "mamba_nb.pandas"} <= {b.where for b in BLOCKS}


def test_every_verb_shows_itself_working():
    texts = dict(docstrings())
    shown = {block.where for block in BLOCKS} | {name for name, text in texts.items() if ">>> " in text}
    public = {*mamba_nb.__all__, *mamba_nb.backends.__all__, *mamba_nb.widgets.__all__} - {"__version__"}
    lacking = {name for name in public if not {f"mamba_nb.{name}", f"mamba_nb.backends.{name}"} & shown}
    assert lacking <= NEED_NO_EXAMPLE
    assert public >= NEED_NO_EXAMPLE


def modules() -> list[str]:
    found = [each.name for each in pkgutil.walk_packages(mamba_nb.__path__, "mamba_nb.")]
    return [name for name in found if not name.endswith(("__main__", "_child"))]  # these run as programs


def test_every_doctest_holds():
    attempted = 0
    for name in modules():
        importlib.import_module(name)  # a room that can be called hides its module
        failed, tried = doctest.testmod(sys.modules[name])
        assert failed == 0, name
        attempted += tried
    assert attempted > 90


def test_the_tree_of_errors_in_the_docstring_is_the_classes():
    from mamba_nb import errors

    drawn = {}
    above: list[str] = ["MambaError"]
    for line in (errors.__doc__ or "").splitlines():
        head, mark, rest = line.partition("+-- ")
        if mark:
            depth = (len(head) - 4) // 4
            name, _, said = rest.partition(" ")
            above[depth + 1 :] = [name]
            drawn[name] = (above[depth], said.split()[0] if said.split()[0].endswith("Error") else None)
    for name, (parent, builtin) in drawn.items():
        bases = [base.__name__ for base in getattr(errors, name).__bases__]
        assert bases == [parent, builtin] if builtin else bases == [parent], name
    classes = {name for name in errors.__all__ if inspect.isclass(getattr(errors, name))}
    assert set(drawn) == classes - {"MambaError"}
