"""Virtual environments with other Pythons and other versions of ipykernel, built once and kept.

They live in the folder MAMBA_TEST_ENVIRONMENTS, or in the user's cache. One is built again when this
checkout's dependencies change. The package itself is installed in each as an editable one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import platformdirs

REPO = Path(__file__).resolve().parents[2]
IPYKERNELS = ("6.31", "7.3", "7.4")
BESIDE = ("pytest>=8.3", "pytest-timeout>=2.3", 'uvloop>=0.21; sys_platform != "win32"')
PYTHONS = ("python3.11", "python3.12", "python3.13", "python3.14")


SURROUNDINGS = dict(os.environ)  # as they were before a fixture cleaned them up for the tests


def pythons() -> list[str]:
    """The Pythons to test with: this one, then MAMBA_TEST_PYTHONS (split at os.pathsep), else those on PATH."""
    named = SURROUNDINGS.get("MAMBA_TEST_PYTHONS")
    if named is not None:
        others = [python for python in named.split(os.pathsep) if python]
    else:
        own = f"python{sys.version_info.major}.{sys.version_info.minor}"
        others = [python for python in PYTHONS if python != own and shutil.which(python)]
    return [sys.executable, *others]


def version_of(python: str) -> str | None:
    """Such as `3.12.1`; None where the executable does not run, as a launcher without its Python."""
    ask = "import platform; print(platform.python_version())"
    try:
        done = subprocess.run([python, "-c", ask], env=SURROUNDINGS, capture_output=True, text=True, timeout=60)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def environment(python: str, ipykernel: str) -> str:
    """Build an environment, or find it again.

    Args:
        python: An executable.
        ipykernel: Major and minor version.

    Returns:
        The environment's own executable.

    Raises:
        RuntimeError: If it cannot be built; the message ends with what pip said.
    """
    folder = _cache() / f"python-{version_of(python)}-ipykernel-{ipykernel}-{_fingerprint()}"
    executable = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    complete = folder / "complete"
    if not complete.exists():
        shutil.rmtree(folder, ignore_errors=True)
        _run(python, "-m", "venv", str(folder))
        packages = [f"ipykernel=={ipykernel}.*", *BESIDE, "-e", str(REPO)]
        _run(str(executable), "-m", "pip", "install", "--quiet", *packages)
        complete.touch()
    return str(executable)


def _cache() -> Path:
    named = SURROUNDINGS.get("MAMBA_TEST_ENVIRONMENTS")
    folder = Path(named) if named else platformdirs.user_cache_path("mamba_nb") / "test-environments"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _fingerprint() -> str:
    """Of what is installed: this checkout, and the dependencies."""
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    return hashlib.sha256(repr((str(REPO), project["dependencies"], BESIDE)).encode()).hexdigest()[:10]


def _run(*command: str) -> None:
    done = subprocess.run(command, env=SURROUNDINGS, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
