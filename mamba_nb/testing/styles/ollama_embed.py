"""`POST /api/embed` and `/api/embeddings` of the Ollama style.

Sources: Ollama's `server/routes.go` (EmbedHandler, EmbeddingsHandler), `api/types.go` (EmbedResponse).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.embeddings import vector
from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.styles import ollama_refusals as refusals
from mamba_nb.testing.styles.base import Reply
from mamba_nb.testing.styles.ollama_facts import context_of, match, put_in_force
from mamba_nb.testing.styles.ollama_library import asked_model, native, native_error, not_found
from mamba_nb.testing.styles.ollama_lines import nanoseconds

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

__all__ = ["embed", "embed_old"]


async def embed(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """`POST /api/embed`: a vector a text; a text that is too long is cut unless `truncate` is false."""
    began = time.monotonic()
    given, asked = request.body.get("input"), asked_model(request)
    texts = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    if (given is not None and not isinstance(given, str | list)) or not all(isinstance(text, str) for text in texts):
        return native_error(400, "invalid input type")
    model = match(asked, server.models)
    if model is None:
        return not_found(asked)
    if not server.embeddings:
        return native_error(400, "this model does not support embeddings")
    options = request.body.get("options") if isinstance(request.body.get("options"), Mapping) else {}
    context = context_of(server, model, options)
    if (refusal := refusals.of_scheduler(server, model, context)) is not None:
        return native_error(*refusal)
    pieces = [text.split() for text in texts]
    if request.body.get("truncate") is False and any(len(words) > context for words in pieces):
        return native_error(400, "the input length exceeds the context length")
    put_in_force(server, model, context)
    async with server.room.enter(model):
        loaded = time.monotonic()
        vectors = [
            _embedding(server, text if len(words) <= context else " ".join(words[:context]), request.body)
            for text, words in zip(texts, pieces, strict=True)
        ]
    if not vectors:
        return native({"model": asked, "embeddings": []})
    return native(
        {
            "model": asked,
            "embeddings": vectors,
            "total_duration": nanoseconds(time.monotonic() - began),
            "load_duration": nanoseconds(loaded - began),
            "prompt_eval_count": sum(min(len(words), context) for words in pieces),
        }
    )


def _embedding(server: ScriptedServer, text: str, body: Mapping[str, Any]) -> list[float]:
    whole = vector(text, server.embedding_dimensions)
    most = body.get("dimensions")
    if isinstance(most, int) and 0 < most < len(whole):
        length = math.hypot(*whole[:most]) or 1.0
        return [number / length for number in whole[:most]]
    return list(whole)


async def embed_old(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """`POST /api/embeddings`, the older one: one prompt, one vector."""
    model = match(asked_model(request), server.models)
    if model is None:
        return native_error(404, f'model "{asked_model(request)}" not found, try pulling it first')
    prompt = request.body.get("prompt")
    text = prompt if isinstance(prompt, str) else ""
    return native({"embedding": list(vector(text, server.embedding_dimensions)) if text else []})
