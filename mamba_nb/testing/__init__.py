"""A scripted OpenAI-compatible server for tests, notebooks and benchmarks.

    from mamba_nb.testing import Script, ScriptedServer

    with ScriptedServer(Script(text="Hi there", ttft_s=0.05, itl_s=0.01)) as server:
        ...  # anything that speaks the OpenAI protocol, at server.base_url

`Script` says what an answer contains, when, and how it goes wrong. `ScriptedServer` plays scripts on a free
port of 127.0.0.1 and logs every request, the time of every chunk and every client that hung up.
`ServerProcess` is the same server in a process of its own, where its time stamps cannot be bent by the
client's work. `tar_pit()` and `closed_port()` are places where nobody answers.

It needs only the standard library.
"""

from __future__ import annotations

from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.ports import Place, closed_port, tar_pit
from mamba_nb.testing.process import ServerProcess
from mamba_nb.testing.script import Script, split_pieces, words
from mamba_nb.testing.server import ScriptedServer

__all__ = [
    "LoggedRequest",
    "Place",
    "Script",
    "ScriptedServer",
    "ServerProcess",
    "closed_port",
    "split_pieces",
    "tar_pit",
    "words",
]
