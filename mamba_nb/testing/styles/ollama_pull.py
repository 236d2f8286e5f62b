"""`POST /api/pull` of the Ollama style: layers that come in steps, can be left and taken up again, and can fail.

What came of a layer stays in `server.state["pulled"]`, so a second pull goes on where the first one was left.

Sources: Ollama's `server/images.go` (PullModel), `server/download.go` (one line every 60 ms and layer),
`api/types.go` (ProgressResponse: no `completed` while it is 0), `server/routes.go` (streamResponse, waitForStream).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.events import to_json
from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.styles.base import Reply, Streamed
from mamba_nb.testing.styles.ollama_facts import match, said, tagged
from mamba_nb.testing.styles.ollama_library import NDJSON, add, asked_model, native, native_error, size_of

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

__all__ = ["pull"]

SMALL_LAYERS = (1_429, 7_711, 487)  # template, license, configuration
STEPS = 10
SMALL = 1_000_000  # bytes that come at once


async def pull(server: ScriptedServer, request: LoggedRequest) -> Reply | Streamed:
    """Download a model; it is served afterwards."""
    asked = asked_model(request)
    if not asked or any(sign in asked for sign in " \\\"'?*"):
        return native_error(400, "invalid model name")
    lines = _lines(server, asked)
    if request.body.get("stream") is not False:
        return Streamed(_encoded(lines), headers=NDJSON)
    last: dict[str, Any] = {}
    async for line in lines:
        last = line
    return native_error(500, last["error"]) if "error" in last else native(last)


async def _encoded(lines: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    async for line in lines:
        yield to_json(line) + b"\n"


async def _lines(server: ScriptedServer, asked: str) -> AsyncIterator[dict[str, Any]]:
    yield {"status": "pulling manifest"}
    known = server.options.get("registry")
    if known is not None and match(asked, known) is None:
        yield {"error": "pull model manifest: file does not exist"}
        return
    layers = _layers(server, asked)
    total = sum(size for _, size in layers)
    pulled: dict[str, int] = server.state["pulled"]
    fails_at = _where_it_fails(server, total)
    for digest, size in layers:
        layer = {"status": f"pulling {digest.removeprefix('sha256:')[:12]}", "digest": digest, "total": size}
        yield _progress(layer, pulled.get(digest, 0))
        while (done := pulled.get(digest, 0)) < size:
            step = size - done if size < SMALL or size - done < size // STEPS * 2 else size // STEPS
            await asyncio.sleep(server.options.get("pull_s", 0.0) * step / total)
            pulled[digest] = done + step
            yield _progress(layer, pulled[digest])
            if fails_at is not None and sum(pulled.get(name, 0) for name, _ in layers) >= fails_at:
                server.state["pull_failures"] += 1
                yield {"error": server.options.get("pull_error", "max retries exceeded: unexpected EOF")}
                return
    yield {"status": "verifying sha256 digest"}
    yield {"status": "writing manifest"}
    add(server, asked)
    yield {"status": "success"}


def _progress(layer: dict[str, Any], completed: int) -> dict[str, Any]:
    return {**layer, "completed": completed} if completed else layer


def _layers(server: ScriptedServer, asked: str) -> list[tuple[str, int]]:
    """Digest and size of each layer, the weights first."""
    whole = int(said(server, asked, "size", server.options.get("pull_bytes", size_of(server, asked))))
    sizes = (whole - sum(SMALL_LAYERS), *SMALL_LAYERS) if whole > sum(SMALL_LAYERS) else (whole,)
    return [
        (f"sha256:{hashlib.sha256(f'{tagged(asked)}/{place}'.encode()).hexdigest()}", size)
        for place, size in enumerate(sizes)
    ]


def _where_it_fails(server: ScriptedServer, total: int) -> float | None:
    """After how many bytes this pull fails, or None."""
    times = server.options.get("pull_failures", 1 if "pull_error" in server.options else 0)
    return total * float(server.options.get("pull_fails_at", 0.5)) if server.state["pull_failures"] < times else None
