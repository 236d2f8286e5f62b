"""How long a look around takes: nothing there, one server, twelve, and three tar-pits. And who is told as whom.

python -m pytest tests/benchmarks/test_discovery.py -s
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from statistics import median

import pytest

from mamba_nb.servers import find_servers
from mamba_nb.testing import ScriptedServer, ServerProcess, closed_port, styles, tar_pit
from mamba_nb.testing.decoys import NAMES as DECOYS
from mamba_nb.testing.decoys import decoy

CEILING_S = 1.5
TWELVE = ("ollama", "vllm", "lmstudio", "llamacpp", "sglang", "localai", "llamaswap", "litellm", "koboldcpp", "tgi")
TWELVE += ("lemonade", "dockermodelrunner")


def slack_s() -> float:
    """What the machine takes for a fixed piece of work, times five: a slow one has more to spare."""
    began = time.perf_counter()
    sum(number * number for number in range(2_000_000))
    return 5 * (time.perf_counter() - began)


def times_s(*urls: str, repeats: int = 5) -> tuple[list[float], int]:
    took, found = [], 0
    for _ in range(repeats):
        began = time.perf_counter()
        found = len(find_servers(hosts=[], urls=urls))
        took.append(time.perf_counter() - began)
    return took, found


def test_how_long_it_takes(told):
    most = CEILING_S + slack_s()
    with contextlib.ExitStack() as stack:
        closed = [stack.enter_context(closed_port()).root for _ in range(12)]
        servers = [stack.enter_context(ServerProcess(style=style, models=["one", "two"])) for style in TWELVE]
        pits = [stack.enter_context(tar_pit()).root for _ in range(3)]
        up = [server.base_url for server in servers]
        cases = {
            "0 servers, 12 closed ports": (closed, 0),
            "1 server": ([*up[:1], *closed[1:]], 1),
            "12 servers": (up, 12),
            "3 tar-pits": (pits, 0),
            "12 servers and 3 tar-pits": ([*up, *pits], 12),
        }
        find_servers(hosts=[], urls=up[:1])  # the first look imports what it needs
        for name, (urls, expected) in cases.items():
            took, found = times_s(*urls)
            told(f"{name:28} {1000 * median(took):7.0f} ms at the median, {1000 * max(took):7.0f} ms at most")
            assert found == expected
            assert max(took) < most


@pytest.mark.parametrize("style", [None, "ollama"])
def test_the_first_look_of_a_fresh_interpreter(told, style):
    code = (
        "import time; import mamba_nb.servers as s; began = time.perf_counter();"
        "found = s.find_servers(hosts=[], urls={urls!r});"
        "print(len(found), time.perf_counter() - began)"
    )
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(closed_port() if style is None else ServerProcess(style=style, models=["m"]))
        ended = subprocess.run(
            [sys.executable, "-c", code.format(urls=[place.base_url])], capture_output=True, text=True, timeout=60
        )
    assert ended.returncode == 0, ended.stderr
    found, took = ended.stdout.split()
    told(f"first look, {style or 'nothing there'}: {1000 * float(took):.0f} ms")
    assert int(found) == (0 if style is None else 1)
    assert float(took) < CEILING_S + slack_s()


def test_the_confusion_matrix(told):
    """Every personality and every decoy, and what each was told as: what stands off the diagonal is an error."""
    rows: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        places = {name: stack.enter_context(ScriptedServer(style=name, models=["one", "two"])) for name in styles.NAMES}
        decoys = {name: stack.enter_context(decoy(name)) for name in DECOYS}
        found = find_servers(hosts=[], urls=[place.root for place in (*places.values(), *decoys.values())], timeout=20)
    by_root = {server.root: server for server in found}
    for name, place in {**places, **decoys}.items():
        server = by_root.get(place.root)
        rows[name] = "no model server" if server is None else f"{server.kind} ({server.certainty})"
    for name, as_what in rows.items():
        told(f"{name:20} {as_what}")
    for name in styles.NAMES:
        expected = "compatible" if name in ("plain", "openai") else name
        assert rows[name].startswith(f"{expected} ("), (name, rows[name])
    named = {name: rows[name] for name in DECOYS if rows[name] != "no model server"}
    assert named == dict.fromkeys(("json_401", "json_403"), "compatible (guess)")
