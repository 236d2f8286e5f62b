"""The environment that Binder builds, built without Docker, and notebooks run in it without a network.

    python3 .ci/binder.py

What is in `binder/` is read by repo2docker's own rules, then installed into a new virtual environment on top of what
repo2docker puts there itself, in a copy of the checkout that is the user's home, as on Binder. A Jupyter server is
started there in a network namespace that has nothing but loopback, and runs 00, 01 and 05 as Run All does. Said are the
times and the peak memory of server, kernel and engine together; the command fails where a cell fails, where the first
answer takes longer than 20 s, or where more than 1,000 MB are in use.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INSIDE = Path(__file__).with_name("binder_inside.py")
REPO2DOCKER = "jupyter-repo2docker==2026.4.0"
# What that release has in its environment for Python 3.12 before anything of ours is installed.
ITS_OWN = ["jupyterlab==4.4.9", "notebook==7.4.7", "ipykernel==7.0.1", "jupyterlab_server==2.27.3"]
NOTEBOOKS = ["00_quickstart", "01_ollama", "05_compare_models"]

# Run by repo2docker's own Python, in the checkout: what it would do with it.
RULES = """
import sys
from repo2docker.buildpacks import PythonBuildPack
pack = PythonBuildPack("a base image")
assert pack.detect(), "repo2docker does not take this for a Python repository"
assert pack.binder_dir == "binder", pack.binder_dir
assert pack.python_version == sys.argv[1], pack.python_version
steps = [command for _, command in pack.get_assemble_scripts()]
assert any('pip install --no-cache-dir -r "binder/requirements.txt"' in step for step in steps), steps
assert not pack._should_preassemble_pip, "the package would be installed before it is there"
assert pack.get_post_build_scripts() == ["binder/postBuild"], pack.get_post_build_scripts()
assert pack.get_start_script() is None
print("repo2docker: Python", pack.python_version + "; then", *steps, "binder/postBuild", sep="\\n  ")
"""


def main() -> int:
    """Build, then run; the exit status is 0 where all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", default=NOTEBOOKS, help="names without .ipynb")
    notebooks = parser.parse_args().notebooks
    with tempfile.TemporaryDirectory(prefix="mamba-binder-") as folder:
        home, venv = Path(folder, "home"), Path(folder, "venv")
        copy_checkout(home)
        check_rules(home, Path(folder, "rules"))
        build(home, venv)
        return run_without_network(home, venv, notebooks)


def copy_checkout(home: Path) -> None:
    """The files under version control, and new ones that are not ignored."""
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, home / name)


def check_rules(home: Path, venv: Path) -> None:
    """Let repo2docker itself say what it would do."""
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip(venv, REPO2DOCKER)
    subprocess.run([venv / "bin" / "python", "-c", RULES, wanted_python()], cwd=home, check=True)


def build(home: Path, venv: Path) -> None:
    """The steps of repo2docker, in its order."""
    began = time.monotonic()
    python = found_python(wanted_python())
    subprocess.run([python, "-m", "venv", venv], check=True)
    pip(venv, *ITS_OWN)
    pip(venv, "-r", "binder/requirements.txt", cwd=home)
    subprocess.run([venv / "bin" / "pip", "check"], check=True)
    subprocess.run([home / "binder" / "postBuild"], cwd=home, env=environment(home, venv), check=True)
    print(f"Built with {python} in {time.monotonic() - began:.0f} s.", flush=True)


def pip(venv: Path, *what: str, cwd: Path | None = None) -> None:
    """Install; what pip says is seen only where it fails."""
    command = [venv / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *what]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)


def wanted_python() -> str:
    """The version in runtime.txt, such as 3.12."""
    return (ROOT / "binder" / "runtime.txt").read_text().strip().removeprefix("python-")


def found_python(version: str) -> str:
    """That Python, or the one that runs this where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    for candidate in (shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python3"))):
        if candidate and subprocess.run([candidate, "-c", ""], capture_output=True).returncode == 0:
            return str(candidate)
    print(f"There is no Python {version} here; {sys.version.split()[0]} takes its place.", flush=True)
    return sys.executable


def environment(home: Path, venv: Path) -> dict[str, str]:
    """Nothing of the caller's but what pip needs to find its index."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name == "LANG"}
    path = f"{venv / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    return {**kept, "HOME": str(home), "PATH": path, "PIP_CONFIG_FILE": pip_settings()}


def pip_settings() -> str:
    """The caller's pip settings, which are looked for in the home folder, and home is elsewhere."""
    if configured := os.environ.get("PIP_CONFIG_FILE"):
        return configured
    own = [Path.home() / ".config" / "pip" / "pip.conf", Path.home() / ".pip" / "pip.conf"]
    return next((str(path) for path in own if path.is_file()), "")


def run_without_network(home: Path, venv: Path, notebooks: list[str]) -> int:
    """Run the notebooks in a network namespace of their own."""
    command = [str(venv / "bin" / "python"), str(INSIDE), str(home), *notebooks]
    apart = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], capture_output=True).returncode:
        print("SKIPPED: this machine allows no network namespace, so the network is there.", flush=True)
        apart = []
    return subprocess.run([*apart, *command], cwd=home, env=environment(home, venv)).returncode


if __name__ == "__main__":
    raise SystemExit(main())
