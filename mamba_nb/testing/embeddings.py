"""`POST /v1/embeddings`: vectors that depend on the text alone, so equal texts are equally far from all others.

In: the request. Out: unit vectors made from SHA-256 of each text, as floats or base64 of little-endian
float32, as the request asks.
"""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.styles.base import Reply

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

__all__ = ["reply", "vector"]


def vector(text: str, dimensions: int = 8) -> tuple[float, ...]:
    """The unit vector of a text; every number is one that float32 can hold exactly.

    Examples:
        >>> vector("a") == vector("a"), vector("a") == vector("b"), len(vector("a", 3))
        (True, False, 3)
    """
    data = b""
    while len(data) < 4 * dimensions:
        data += hashlib.sha256(f"{len(data)}:{text}".encode("utf-8", "surrogatepass")).digest()
    numbers = [value / 2**31 for value in struct.unpack(f"<{dimensions}i", data[: 4 * dimensions])]
    length = math.hypot(*numbers) or 1.0
    packed = struct.pack(f"<{dimensions}f", *(number / length for number in numbers))
    return struct.unpack(f"<{dimensions}f", packed)


def reply(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """Answer the request, or refuse it in the style's words."""
    style, body = server.style, request.body
    model = body.get("model")
    if not isinstance(model, str) or not model:
        if style.needs_model:
            return style.missing_model(server.models)
        model = server.models[0] if server.models else "unknown"
    served = style.match(model, server.models)
    if served is None and server.unknown_model == "404":
        return style.unknown_model_reply(model, server.models)
    texts = _texts(body.get("input"))
    if texts is None:
        return style.error(400, "invalid input", param="input")
    how = body.get("encoding_format", "float")
    if how not in ("float", "base64"):
        message = f"Invalid value for 'encoding_format' = {how}. Supported values: ['float', 'base64']."
        return style.error(400, message, param="encoding_format")
    dimensions = body.get("dimensions") or server.embedding_dimensions
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector(text, dimensions), how)}
        for index, text in enumerate(texts)
    ]
    tokens = sum(len(text.split()) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Reply(200, {"object": "list", "data": data, "model": model, "usage": usage})


def _texts(given: Any) -> list[str] | None:
    """The texts of `input`: one text, several, one list of token ids or several; None for anything else."""
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list) or not given:
        return None
    if all(isinstance(item, str) for item in given):
        return given
    if all(isinstance(item, int) for item in given):
        return [" ".join(map(str, given))]
    if all(isinstance(item, list) for item in given):
        return [" ".join(map(str, item)) for item in given]
    return None


def _encoded(numbers: tuple[float, ...], how: str) -> list[float] | str:
    if how == "float":
        return list(numbers)
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
