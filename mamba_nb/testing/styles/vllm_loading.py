"""A server that loads before it listens, as vLLM and SGLang do: connections are refused until it is ready.

In: what `ScriptedServer` takes, and how long loading lasts. Out: a server whose port is closed at first.

Source: vLLM's `entrypoints/launchers/launcher.py` binds the port early and listens when the engine is up.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mamba_nb.testing.ports import closed_port
from mamba_nb.testing.server import ScriptedServer

__all__ = ["opens_later"]


@contextmanager
def opens_later(after_s: float, script: Any = None, *, style: str = "vllm", **options: Any) -> Iterator[ScriptedServer]:
    """A server that refuses connections for so long; its address holds from the beginning.

    Args:
        after_s: Seconds until it listens.
        script: As for `ScriptedServer`.
        style: As for `ScriptedServer`.
        **options: Its further ones.
    """
    leaving, known = threading.Event(), threading.Event()
    made: list[ScriptedServer] = []

    def load() -> None:
        with closed_port() as place:
            made.append(ScriptedServer(script, style=style, port=place.port, **options))
            known.set()
            leaving.wait(after_s)
        if not leaving.is_set():
            made[0].start()

    thread = threading.Thread(target=load, name="loading-server", daemon=True)
    thread.start()
    known.wait()
    try:
        yield made[0]
    finally:
        leaving.set()
        thread.join()
        made[0].stop()
