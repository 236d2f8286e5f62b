"""What Ollama says no to, and in which words: one function a reason, each gives the status and the words or None.

Sources: Ollama's `server/routes.go` (ChatHandler, handleScheduleError, allowedHostsMiddleware), `server/sched.go`,
`server/images.go` (CheckCapabilities), `openai/openai.go` (FromChatRequest), `api/types.go` (ThinkValue).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.styles.base import Reply
from mamba_nb.testing.styles.ollama_facts import (
    capabilities,
    context_of,
    cut_prompt,
    full_name,
    is_at_least,
    is_remote,
    said,
)

if TYPE_CHECKING:
    from mamba_nb.testing.script import Script
    from mamba_nb.testing.server import ScriptedServer

__all__ = [
    "Refusal",
    "foreign_host",
    "of_capabilities",
    "of_context",
    "of_images",
    "of_logprobs",
    "of_scheduler",
    "of_think",
    "of_v1",
    "thinks_native",
    "thinks_v1",
]

Refusal = tuple[int, str]

TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust the "
    "context length in settings, or use a model with a longer context length"
)
NO_MEMORY = "model requires more system memory (11.6 GiB) than is available (7.4 GiB)"
BUSY = "server busy, please try again.  maximum pending requests exceeded"
IMAGE_URL = "image URLs are not currently supported, please use base64 encoded data instead"
NO_VISION = "this model is missing data required for image input"
LEVELS = ("low", "medium", "high", "max")
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "ultra", "max")
IMAGE_TYPES = ("jpeg", "jpg", "png", "webp")


def foreign_host(server: ScriptedServer, request: LoggedRequest) -> Reply | None:
    """403 without a word for a Host header that is neither an address nor a local name.

    The real one knows its own host name; here any name without a dot counts as that.
    """
    if server.options.get("any_host"):
        return None
    host = request.headers.get("host", "").lower()
    name = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.rpartition(":")[0] or host
    if ":" not in name and ("." not in name or name.endswith((".localhost", ".local", ".internal"))):
        return None
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return Reply(403, b"")
    return None if address.is_loopback or address.is_private or address.is_unspecified else Reply(403, b"")


def of_capabilities(
    server: ScriptedServer, model: str, asked: str, body: Mapping[str, Any], thinks: bool | None
) -> Refusal | None:
    """What the model cannot do: chat, call tools, think, where `about` says what it can."""
    known = capabilities(server, model)
    if thinks and "thinking" not in known and said(server, model, "capabilities") is not None:
        return 400, f'"{asked}" does not support thinking'
    if "completion" not in known:
        return 400, f'"{asked}" does not support chat'
    if body.get("tools") and "tools" not in known:
        return 400, f"{full_name(model)} does not support tools"
    return None


def thinks_native(body: Mapping[str, Any]) -> bool | None:
    """Whether `think` asks for thinking; None where nothing is said."""
    think = body.get("think")
    return None if think is None else bool(think)


def thinks_v1(body: Mapping[str, Any]) -> bool | None:
    """The same for `/v1`, which knows `reasoning_effort` and `reasoning.effort` alone."""
    effort = _effort(body)
    return None if effort is None else effort != "none"


def _effort(body: Mapping[str, Any]) -> str | None:
    effort = body.get("reasoning_effort")
    if effort is None and isinstance(body.get("reasoning"), Mapping):
        effort = body["reasoning"].get("effort")
    return effort if isinstance(effort, str) and effort else None


def of_think(body: Mapping[str, Any]) -> Refusal | None:
    """A value of `think` that it does not know."""
    think = body.get("think")
    if isinstance(think, str) and think not in LEVELS:
        return 400, f'invalid think value: "{think}" (must be "high", "medium", "low", "max", true, or false)'
    return None


def of_effort(body: Mapping[str, Any]) -> Refusal | None:
    """A `reasoning_effort` that it does not know."""
    effort = _effort(body)
    if effort is None or effort in EFFORTS:
        return None
    listed = ", ".join(f'"{name}"' for name in reversed(EFFORTS[1:]))
    return 400, f"invalid reasoning value: '{effort}' (must be {listed}, or \"none\")"


def of_scheduler(server: ScriptedServer, model: str, context: int) -> Refusal | None:
    """A full queue, a model that does not fit into memory, one that runs elsewhere and asks who is there."""
    if is_remote(server, model) and server.options.get("signed_in") is False:
        return 401, "unauthorized"
    most = server.options.get("max_queue")
    room = server.room
    full = server.slots is not None and room.busy >= server.slots
    waiting = server.active - room.busy - 1
    if server.options.get("busy") or (most is not None and full and waiting >= most):
        return 503, BUSY
    error = said(server, model, "load_error")
    largest = said(server, model, "most_num_ctx")
    if error or (largest is not None and context > largest):
        return 500, error if isinstance(error, str) else NO_MEMORY
    return None


def of_context(
    server: ScriptedServer, script: Script, model: str, body: Mapping[str, Any], context: int
) -> Refusal | None:
    """A prompt that is too long and must not be cut: `truncate: false` and `shift: false`, native route only."""
    keeps = body.get("truncate") is False and body.get("shift") is False
    if keeps and cut_prompt(server, script, body.get("messages"), context) is not None:
        return 400, TOO_LONG
    return None


def of_images(server: ScriptedServer, model: str, body: Mapping[str, Any]) -> Refusal | None:
    """Addresses of images, data that is none, and images for a model that `about` gives no sight."""
    sent = False
    for url in _image_urls(body.get("messages")):
        kind = next((kind for kind in IMAGE_TYPES if url.startswith(f"data:image/{kind};base64,")), None)
        if kind is None and not url.startswith("data:;base64,"):
            remote = url.startswith(("http://", "https://")) and is_at_least(server, "0.13")
            return 400, IMAGE_URL if remote else "invalid image input"
        sent = True
    messages = body.get("messages")
    sent = sent or any(isinstance(m, Mapping) and m.get("images") for m in messages or () if isinstance(messages, list))
    known = said(server, model, "capabilities")
    return (500, NO_VISION) if sent and known is not None and "vision" not in known else None


def _image_urls(messages: Any) -> Iterator[str]:
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, Mapping) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, Mapping) and part.get("type") == "image_url":
                given = part.get("image_url")
                yield str(given.get("url", "") if isinstance(given, Mapping) else given)


def of_v1(server: ScriptedServer, model: str, body: Mapping[str, Any]) -> Refusal | None:
    """The first refusal of a request on `/v1`, or None."""
    return (
        of_logprobs(body)
        or of_effort(body)
        or of_images(server, model, body)
        or of_capabilities(server, model, str(body.get("model")), body, thinks_v1(body))
        or of_scheduler(server, model, context_of(server, model))
    )


def of_logprobs(body: Mapping[str, Any]) -> Refusal | None:
    """Alternatives that are too many."""
    top = body.get("top_logprobs")
    return (400, "top_logprobs must be between 0 and 20") if isinstance(top, int) and not 0 <= top <= 20 else None
