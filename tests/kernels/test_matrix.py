"""The bridge's tests on every supported ipykernel, and on other Pythons.

    pytest -m matrix tests/kernels                     all of it; the first time a minute more for each environment
    pytest -m matrix tests/kernels -k "7.3"            one version

This Python meets each ipykernel; the other Pythons meet the newest one. Where the environments are kept, and which
Pythons there are, see `environments`. The kernel tests' driver stays in this environment.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from kernels.environments import IPYKERNELS, REPO, SURROUNDINGS, environment, pythons, version_of

OWN, *OTHERS = pythons()
PAIRS = [*((OWN, ipykernel) for ipykernel in IPYKERNELS), *((python, IPYKERNELS[-1]) for python in OTHERS)]

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(1200)]


def built(python: str, ipykernel: str) -> str:
    if version_of(python) is None:
        pytest.skip(f"{python} is on PATH, but does not run")
    return environment(python, ipykernel)


def files(pattern: str) -> list[str]:
    return sorted(str(path) for path in (REPO / "tests").glob(pattern))


def run_pytest(python: str, *arguments: str, **extra: str) -> None:
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=REPO, env={**SURROUNDINGS, **extra}, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(
    ("python", "ipykernel"), PAIRS, ids=[f"{python} ipykernel {version}" for python, version in PAIRS]
)
def test_the_kernel_tests_pass_with(python, ipykernel):
    run_pytest(sys.executable, *files("test_kernel_*.py"), MAMBA_TEST_KERNEL_PYTHON=built(python, ipykernel))


@pytest.mark.parametrize("python", OTHERS, ids=OTHERS)
def test_the_bridge_tests_pass_on(python):
    run_pytest(built(python, IPYKERNELS[-1]), "--noconftest", *files("test_bridge*.py"))
