"""Two places where no server answers: one that takes a request and stays silent, one where nobody listens."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Place", "closed_port", "tar_pit"]


@dataclass(frozen=True, slots=True)
class Place:
    """An address on the loopback interface."""

    port: int

    @property
    def root(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:PORT/v1`."""
        return f"{self.root}/v1"


@contextmanager
def tar_pit() -> Iterator[Place]:
    """A place that takes connections and requests and never answers.

    The operating system accepts the connections; nothing of ours ever reads them. They are reset at the end.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        yield Place(listener.getsockname()[1])


@contextmanager
def closed_port() -> Iterator[Place]:
    """A place where nothing listens: connections are refused.

    The port stays bound without listening, so no other program can take it meanwhile.
    """
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield Place(holder.getsockname()[1])
