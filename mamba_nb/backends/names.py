"""How a model's name is read: the one function that every verb uses.

In goes a string that a user typed; out comes a `ModelName`: which kind of server is meant, if the name says so, and
which model there.

    "ollama:llama3.2:70b"                  server ollama, model llama3.2:70b
    "vllm/meta-llama/Llama-3.2-3B"         server vllm, model meta-llama/Llama-3.2-3B
    "lmstudio"                             server lmstudio, model local-model: whatever is loaded there
    "embedded"                             the embedded engine with its default model (model None)
    "embedded:~/models/my.gguf"            the embedded engine with those weights; `embedded:hf:repo/file.gguf` too
    "llama3.2", "openai/gpt-oss-20b"       no server: a model id on the configured `base_url`

A name has a server only if the part before its first `:` or `/` is one of `SERVERS`, spelled as there. Everything
else is a model id, slashes and colons included. `openai` is never a server: a prompt meant for this machine must not
leave it because a model's id begins with that word.

Nothing here looks at a server: whether the model exists is seen at the first request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from mamba_nb.errors import BadInput
from mamba_nb.servers.kinds import IN_NAMES

__all__ = ["LOCAL_MODEL", "SERVERS", "ModelName", "parse_model_name"]

SERVERS = IN_NAMES

LOCAL_MODEL = "local-model"
"""LM Studio's name for whatever is loaded; it becomes the model's own id at the first request."""


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model's name in its two parts.

    Attributes:
        server: One of `SERVERS`, or None for the configured `base_url`.
        model: The model's id on that server; for `embedded` a path or an `hf:` reference, or None for the
            default model. Only `embedded` has None.
    """

    server: str | None
    model: str | None

    def __str__(self) -> str:
        return ":".join(part for part in (self.server, self.model) if part is not None)


def parse_model_name(name: Any) -> ModelName:
    """Read a model's name.

    Args:
        name: A model id, or `server:model` or `server/model`; the first separator counts. Spaces around it are
            dropped. `embedded` and `lmstudio` may stand alone.

    Returns:
        The server, if the name says one, and the model.

    Raises:
        BadInput: If the name is not text or is empty, or names a server but no model.

    Examples:
        >>> parse_model_name("ollama/llama3.2:70b")
        ModelName(server='ollama', model='llama3.2:70b')
        >>> parse_model_name("openai/gpt-oss-20b")
        ModelName(server=None, model='openai/gpt-oss-20b')
        >>> parse_model_name("embedded")
        ModelName(server='embedded', model=None)
    """
    if not isinstance(name, str):
        raise BadInput(
            f"A model's name must be text. What came: {type(name).__name__}.",
            hint='Write it as in "llama3.2" or "ollama:llama3.2"; a file of weights is "embedded:PATH".',
        )
    text = name.strip()
    if not text:
        raise BadInput("A model's name must not be empty.", hint='Write it as in "llama3.2" or "ollama:llama3.2".')
    server, separator, model = _split(text)
    if server not in SERVERS:
        return ModelName(None, text)
    if not separator and server == "embedded":
        return ModelName(server, None)
    if not separator and server == "lmstudio":
        return ModelName(server, LOCAL_MODEL)
    if not model:
        raise BadInput(
            f"{text!r} names a server but no model.",
            hint=f'Write "{server}:MODEL"' + (f', or "{server}" alone.' if server in ("embedded", "lmstudio") else "."),
        )
    return ModelName(server, model)


def _split(text: str) -> tuple[str, str, str]:
    head, separator, rest = text, "", ""
    if found := re.search("[:/]", text):
        head, separator, rest = text[: found.start()], found[0], text[found.end() :]
    return head, separator, rest.strip()
