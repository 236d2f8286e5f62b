"""What servers send that pass a chat on to a llama-server of their own: its chunks, its timings, perhaps its header.

Jan, llama-swap, Docker Model Runner and Lemonade do. Everything around the answer (lists, errors, keys) is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.script import Script
from mamba_nb.testing.styles import llamacpp
from mamba_nb.testing.styles.base import Reply

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

__all__ = ["LIKE_LLAMACPP", "forget", "known", "load", "page", "with_its_header"]

# The members of a style that are about the answer itself.
_ABOUT_ANSWERS = (
    *("reasoning_field", "tool_call_style", "null_content_first", "role_alone", "content_always", "finish_delta"),
    *("message_extras", "null_logprobs", "cached_tokens", "fingerprint", "chunk_fingerprint", "names_served_model"),
    *("takes_n", "choice", "answer_id", "timings"),
)
LIKE_LLAMACPP: dict[str, Any] = {name: getattr(llamacpp.STYLE, name) for name in _ABOUT_ANSWERS}


def with_its_header(server: ScriptedServer, script: Script, body: Mapping[str, Any], model: str) -> Script:
    """The script with `Server: llama.cpp` on the completion, as it comes from behind."""
    return replace(script, headers={"Server": "llama.cpp", **script.headers})


def known(server: ScriptedServer, name: Any) -> str | None:
    """The served model of that name, or None; whatever the type of the name."""
    return server.style.match(name, server.models) if isinstance(name, str) else None


async def load(server: ScriptedServer, model: str) -> None:
    """Load a model as a request would, and return when it is in memory."""
    async with server.room.enter(model):
        pass


def forget(server: ScriptedServer, model: str) -> bool:
    """Take a model out of memory; whether it was there."""
    if model not in server.room.loaded:
        return False
    server.room.loaded.remove(model)
    return True


def page(title: str) -> Reply:
    """A page of somebody's web interface."""
    return Reply(200, f"<!doctype html><html><head><title>{title}</title></head><body></body></html>")
