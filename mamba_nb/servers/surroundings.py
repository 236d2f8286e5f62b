"""Where this kernel runs, as far as it changes what "localhost" means, and what to do where no server was found.

In: the environment and a few files, both as arguments so that each case can be tried. Out: sentences.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mamba_nb.servers.kinds import kinds

__all__ = ["Surroundings", "advice", "surroundings"]

Read = Callable[[str], str | None]

OPEN_UP = (
    "A server there must listen beyond its own loopback: OLLAMA_HOST=0.0.0.0 for Ollama, Serve on Local Network in LM "
    "Studio, --host 0.0.0.0 for vLLM and llama.cpp."
)
EMBEDDED = 'Without any server, the embedded model answers here: create_embedded_backend(), or the name "embedded".'
SHOWN_STARTS = ("ollama", "lmstudio", "vllm", "llamacpp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where this process runs.

    Attributes:
        name: `plain`, `docker`, `wsl`, `kubernetes`, `jupyterhub`, `binder`, `colab`, `kaggle`, `codespaces`.
        host: The address of the machine around it, where that can be told, else None.
    """

    name: str
    host: str | None = None


# Name -> variables of which one is enough. Hosted notebooks run in containers, so they come first.
BY_VARIABLE = (
    ("colab", ("COLAB_RELEASE_TAG", "COLAB_BACKEND_VERSION")),
    ("kaggle", ("KAGGLE_KERNEL_RUN_TYPE",)),
    ("binder", ("BINDER_SERVICE_HOST", "BINDER_LAUNCH_HOST", "BINDER_REPO_URL")),
    ("jupyterhub", ("JUPYTERHUB_API_URL", "JUPYTERHUB_SERVICE_PREFIX", "JUPYTERHUB_USER")),
    ("codespaces", ("CODESPACES",)),
    ("kubernetes", ("KUBERNETES_SERVICE_HOST",)),
)


def surroundings(environ: Mapping[str, str], read: Read | None = None) -> Surroundings:
    """Where this process runs.

    Args:
        environ: The environment.
        read: Path -> the file's text, or None where there is no such file; None reads this machine's.
    """
    read = read or _read
    for name, variables in BY_VARIABLE:
        if any(environ.get(variable) for variable in variables):
            return Surroundings(name=name)
    if _in_container(read):
        return Surroundings(name="docker", host="host.docker.internal")
    if environ.get("WSL_DISTRO_NAME") or "microsoft" in (read("/proc/version") or "").lower():
        return Surroundings(name="wsl", host=_gateway(read("/proc/net/route") or ""))
    return Surroundings(name="plain")


def advice(where: Surroundings) -> tuple[str, ...]:
    """What to do where no server was found, one or two sentences an entry."""
    if where.name == "docker":
        return (
            'This kernel runs in a container, where "localhost" is the container itself. Look at the machine around '
            "it: find_servers(hosts=['host.docker.internal']). On Linux the container needs "
            "--add-host=host.docker.internal:host-gateway for that name.",
            OPEN_UP,
            EMBEDDED,
        )
    if where.name == "wsl":
        host = where.host or "the Windows host's address"
        return (
            f'This kernel runs in WSL, where "localhost" may not be Windows. Look there: '
            f"find_servers(hosts=[{host!r}]), or switch on networkingMode=mirrored in .wslconfig.",
            OPEN_UP,
            EMBEDDED,
        )
    if where.name in HOSTED:
        return (
            f'This kernel runs on {HOSTED[where.name]}: "localhost" is that machine, not your own computer, and a '
            "server on your own computer cannot be reached from here.",
            "Start a server on this machine, or give the address of one that it can reach: "
            "find_servers(urls=['https://...'], api_key='...').",
            EMBEDDED,
        )
    starts = [f"{kinds()[name].title}: {kinds()[name].start}." for name in SHOWN_STARTS]
    return (
        "No model server answers on the ports that they use. " + " ".join(starts),
        "One that runs elsewhere: find_servers(hosts=['gpu-box']), or find_servers(urls=['http://gpu-box:9000/v1']).",
        EMBEDDED,
    )


HOSTED = {
    "colab": "Google Colab",
    "kaggle": "Kaggle",
    "binder": "Binder",
    "jupyterhub": "a JupyterHub",
    "codespaces": "GitHub Codespaces",
    "kubernetes": "Kubernetes",
}


def _in_container(read: Read) -> bool:
    if read("/.dockerenv") is not None or read("/run/.containerenv") is not None:
        return True
    groups = read("/proc/1/cgroup") or ""
    return any(word in groups for word in ("docker", "containerd", "kubepods", "libpod"))


def _gateway(routes: str) -> str | None:
    """The default gateway in the text of /proc/net/route, which in WSL is Windows; numbers there are little-endian."""
    for line in routes.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 2 and fields[1] == "00000000":
            try:
                return socket.inet_ntoa(struct.pack("<L", int(fields[2], 16)))
            except (ValueError, struct.error):
                return None
    return None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text("utf-8", "replace")[:100_000]
    except OSError:
        return None
