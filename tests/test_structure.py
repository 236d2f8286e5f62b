"""How the package hangs together: who imports whom, what importing it costs, and which names it offers."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import mamba_nb
import mamba_nb.backends
import mamba_nb.embedded
import mamba_nb.probes
import mamba_nb.servers
import mamba_nb.testing
import mamba_nb.widgets

PACKAGE = Path(mamba_nb.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# Rooms from the ground up. Each may import, when it is itself imported, what stands above it here, and its own row.
FLOORS: list[set[str]] = [
    {"errors", "records", "metrics", "_address", "_frontend", "_lazy", "_storage", "_text"},
    {"settings", "_sources"},
    {"_bridge", "_http", "_look"},
    {"servers"},
    {"embedded"},
    {"backends"},
    {"probes"},
    {"doctor", "compare", "agent", "_agent"},
    {"display"},
    {"widgets", "magics", "pandas", "cli", "quickstart", "__main__"},
]
STANDING_APART = {"testing"}  # imports nothing of the package, and is imported by none of it
HEAVY = {"openai", "pandas", "ipywidgets", "IPython", "pydantic_ai", "xllamacpp"}
OUTSIDE = HEAVY | {"aiohttp", "httpx2", "anywidget", "altair"}
CORE = set().union(*FLOORS[:8])


def room_of(path: Path) -> str:
    """The first part of the path inside the package: a room is a module or a folder."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """The modules that importing this one imports; what stands under TYPE_CHECKING or in functions does not count."""
    found: set[str] = set()

    def visit(nodes: list[ast.stmt]) -> None:
        for node in nodes:
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: imports are absolute"
                found.update({node.module} if node.module != "mamba_nb" else {f"mamba_nb.{a.name}" for a in node.names})
            elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
                visit([*node.body, *node.orelse])
            elif isinstance(node, ast.Try):
                visit([*node.body, *node.orelse, *node.finalbody])
            elif isinstance(node, ast.ClassDef | ast.With):
                visit(node.body)

    visit(ast.parse(path.read_text("utf-8")).body)
    return found


def floor_of(room: str) -> int | None:
    return next((height for height, rooms in enumerate(FLOORS) if room in rooms), None)


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


class TestDirections:
    @pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
    def test_a_module_imports_only_what_stands_before_it(self, path):
        room = room_of(path)
        if room == "__init__":
            assert not {name for name in imports_of(path) if name.startswith("mamba_nb")}
            return
        own = {name.split(".")[1] for name in imports_of(path) if name.startswith("mamba_nb.")} - {room}
        if room in STANDING_APART:
            assert own == set()
            return
        here = floor_of(room)
        assert here is not None, f"{room} has no floor in this test yet"
        too_high = {other for other in own if floor_of(other) is None or floor_of(other) > here}
        assert not too_high, f"{path.name} imports {too_high}, which stand above {room}"

    @pytest.mark.parametrize("room", sorted(FLOORS[0]))
    def test_the_ground_needs_only_the_standard_library(self, room):
        foreign = {name.split(".")[0] for name in imports_of(PACKAGE / f"{room}.py")} - sys.stdlib_module_names
        assert foreign <= {"mamba_nb"}

    @pytest.mark.parametrize("path", [path for path in MODULES if room_of(path) in CORE], ids=lambda path: path.name)
    def test_no_core_module_loads_a_heavy_library_when_imported(self, path):
        if room_of(path) == "_agent":  # loaded with the first Agent that is made
            return
        assert not {name.split(".")[0] for name in imports_of(path)} & OUTSIDE


class TestImport:
    def test_importing_the_package_loads_none_of_its_heavy_libraries(self):
        heavy = {*HEAVY, "pydantic", "numpy", "aiohttp", "httpx2", "asyncio"}
        code = f"before = set(sys.modules); import mamba_nb; print({heavy!r} & (set(sys.modules) - before))"
        loaded = run(f"import sys; {code}")
        assert loaded == "set()\n"

    @pytest.mark.parametrize(
        "rooms",
        ["backends", "servers", "probes", "doctor", "compare", "embedded", "records", "errors", "_bridge", "settings"],
    )
    def test_loading_a_room_loads_none_of_those_a_notebook_waits_for(self, rooms):
        assert run(f"import sys, mamba_nb.{rooms}; print({HEAVY!r} & set(sys.modules))") == "set()\n"

    def test_importing_it_starts_no_thread_reads_no_setting_and_prints_nothing(self):
        code = """
        import os, threading
        class Watched(dict):
            def __getitem__(self, name):
                if name.startswith(("MAMBA", "OPENAI", "OLLAMA")): raise AssertionError(name)
                return dict.__getitem__(self, name)
            get = lambda self, name, default=None: self[name] if name in self else default
        os.environ["MAMBA_MODEL_BACKEND__MODEL"] = "x"
        os.environ = Watched(os.environ)
        import mamba_nb, mamba_nb.backends, mamba_nb.compare, mamba_nb.backends.backend, mamba_nb.settings
        assert threading.active_count() == 1
        """
        assert run(code) == ""


class TestNames:
    @staticmethod
    def declared(module) -> dict[str, str]:
        """The names imported under TYPE_CHECKING, with where from: what a type checker sees."""
        tree = ast.parse(Path(module.__file__).read_text("utf-8"))
        block = next(
            node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        return {
            alias.name: node.module
            for node in ast.walk(block)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }

    @pytest.mark.parametrize(
        "module",
        [mamba_nb, mamba_nb.backends, mamba_nb.testing, mamba_nb.servers, mamba_nb.probes, mamba_nb.widgets],
        ids=lambda m: m.__name__,
    )
    def test_all_is_sorted_and_every_name_is_there(self, module):
        names = [name for name in module.__all__ if name != "__version__"]
        assert names == sorted(names) and len(set(names)) == len(names)
        for name in module.__all__:
            assert getattr(module, name) is not None
        assert set(module.__all__) <= set(dir(module))

    @pytest.mark.parametrize("module", [mamba_nb, mamba_nb.backends], ids=lambda m: m.__name__)
    def test_what_loads_on_first_use_is_what_a_type_checker_sees(self, module):
        declared = self.declared(module)
        assert set(declared) == set(module.__all__) - {"__version__"}
        for name, home in declared.items():
            if name not in ("compare", "doctor"):  # rooms that can be called
                assert getattr(module, name) is getattr(importlib.import_module(home), name)

    @pytest.mark.parametrize("module", [mamba_nb, mamba_nb.backends], ids=lambda m: m.__name__)
    def test_an_unknown_name_is_an_attribute_error(self, module):
        with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
            module.nonsense  # noqa: B018

    def test_every_public_name_has_a_docstring(self):
        assert [
            name for name in mamba_nb.__all__ if name != "__version__" and not getattr(mamba_nb, name).__doc__
        ] == []

    @pytest.mark.parametrize(
        "code",
        [
            "import mamba_nb; print(callable(mamba_nb.compare))",
            "from mamba_nb import compare; print(callable(compare))",
            "import mamba_nb.compare; print(callable(mamba_nb.compare))",
            "from mamba_nb.compare import verbs; import mamba_nb; print(callable(mamba_nb.compare))",
            "import mamba_nb; mamba_nb.start_compare; print(callable(mamba_nb.compare))",
            "from mamba_nb import *; print(callable(compare))",
            "import mamba_nb.compare.plan; from mamba_nb import compare; print(callable(compare))",
        ],
    )
    def test_compare_can_be_called_however_it_was_imported(self, code):
        assert run(code) == "True\n"

    def test_the_version_is_that_of_the_distribution(self):
        from importlib.metadata import version

        assert mamba_nb.__version__ == version("mamba_nb")

    def test_it_is_typed(self):
        assert (PACKAGE / "py.typed").exists()


class TestModules:
    @pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
    def test_every_module_begins_with_a_docstring(self, path):
        docstring = ast.get_docstring(ast.parse(path.read_text("utf-8")))
        assert docstring and docstring.splitlines()[0].endswith((".", ":")), "the first line is a sentence"

    def test_every_module_can_be_imported(self):
        names = [m.name for m in pkgutil.walk_packages([str(PACKAGE)], "mamba_nb.") if not m.name.endswith("__main__")]
        for name in names:
            if name != "mamba_nb.embedded._child":  # runs as a program
                importlib.import_module(name)
        assert len(names) > 50

    def test_nothing_of_the_package_imports_what_this_project_left_behind(self):
        for path in MODULES:
            assert not {name.split(".")[0] for name in imports_of(path)} & {"httpx", "requests", "respx"}, path
