"""Prompts in the forms people write them, turned into OpenAI messages.

A prompt is a string; or a list of messages; or messages whose content is a list that mixes text with images.
An image is a path, bytes, a data URI or an address: paths and bytes become data URIs here, since most local
servers take nothing else.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeAlias

from mamba_nb.errors import BadInput
from mamba_nb.records import Message

__all__ = ["Prompt", "messages_from"]

Prompt: TypeAlias = str | Sequence[Mapping[str, Any]]

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
SIGNATURES = (  # patterns of the first bytes
    (rb"\x89PNG\r\n\x1a\n", "image/png"),
    (rb"\xff\xd8\xff", "image/jpeg"),
    (rb"GIF8", "image/gif"),
    (rb"RIFF....WEBP", "image/webp"),
    (rb"BM", "image/bmp"),
)


def messages_from(prompt: Any, system: str | None = None) -> tuple[Message, ...]:
    """Turn a prompt into messages.

    Args:
        prompt: A string, or a list of messages (`{"role": ..., "content": ...}`); a message's content is a
            string or a list of strings, images and OpenAI content parts.
        system: A system message to put first; None adds none.

    Raises:
        BadInput: If it is none of these, is empty, or an image cannot be read.
    """
    if system is not None and not isinstance(system, str):
        raise BadInput(f"system must be text; this is {type(system).__name__}.")
    head = ({"role": "system", "content": system},) if system is not None else ()
    if isinstance(prompt, str):
        if not prompt.strip():
            raise BadInput("The prompt is empty.", hint='Write what to ask: backend.ask("Why is the sky blue?")')
        return (*head, {"role": "user", "content": prompt})
    if isinstance(prompt, Mapping):
        prompt = [prompt]
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes | bytearray):
        raise BadInput(
            f"A prompt is text or a list of messages; this is {type(prompt).__name__}.",
            hint='For example "Hello", or [{"role": "user", "content": "Hello"}].',
        )
    if not prompt:
        raise BadInput("The prompt is an empty list of messages.")
    return (*head, *(_message(message, place) for place, message in enumerate(prompt)))


def _message(message: Any, place: int) -> Message:
    if not isinstance(message, Mapping):
        raise BadInput(
            f"Message {place} is {type(message).__name__}, not a dict with role and content.",
            hint="To ask several prompts, use compare(models, prompts).",
        )
    role = message.get("role")
    if role not in ROLES:
        raise BadInput(f"Message {place} has role {role!r}; it must be one of {', '.join(ROLES)}.")
    content = message.get("content")
    if content is None and role != "assistant":  # which may have tool calls alone
        raise BadInput(f"Message {place}, of role {role}, has no content.")
    if content is not None and not isinstance(content, str):
        if not isinstance(content, Sequence) or isinstance(content, bytes | bytearray):
            content = [content]
        content = [_part(part, place) for part in content]
    others = {str(key): value for key, value in message.items() if key != "content"}
    try:
        json.dumps(others)
    except (TypeError, ValueError) as error:
        raise BadInput(f"Message {place} holds something that is not JSON: {error}.") from error
    return {**deepcopy(others), "content": content}


def _part(part: Any, place: int) -> Mapping[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, bytes | bytearray | os.PathLike):
        return _image(part)
    if isinstance(part, Mapping):
        if part.get("type") == "image" or ("image" in part and "type" not in part):
            return _image(part.get("image"))
        image = part.get("image_url")
        if part.get("type") == "image_url" or image is not None:
            url = image.get("url") if isinstance(image, Mapping) else image
            extra = {key: value for key, value in image.items() if key != "url"} if isinstance(image, Mapping) else {}
            return _image(url, extra)
        if "type" in part:
            return dict(part)
    raise BadInput(
        f"Message {place} holds a part that is neither text nor an image: {type(part).__name__}.",
        hint='Use text, a pathlib.Path, bytes, or {"type": "image_url", "image_url": {"url": ...}}.',
    )


def _image(image: Any, extra: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    is_address = isinstance(image, str) and image.startswith(("data:", "http://", "https://"))
    url = image if is_address else _data_uri(image)
    return {"type": "image_url", "image_url": {"url": url, **(extra or {})}}


def _data_uri(image: Any) -> str:
    if isinstance(image, bytes | bytearray):
        data, name = bytes(image), "the image"
    elif isinstance(image, str | os.PathLike):
        path = Path(image)
        try:
            data, name = path.read_bytes(), str(path)
        except OSError as error:
            raise BadInput(f"The image {path} cannot be read: {error.strerror}.") from error
    else:
        raise BadInput(f"An image is a path, bytes or an address; this is {type(image).__name__}.")
    kind = next((kind for signature, kind in SIGNATURES if re.match(signature, data, re.DOTALL)), None)
    if kind is None:
        raise BadInput(f"{name} is no PNG, JPEG, GIF, WebP or BMP image.")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
