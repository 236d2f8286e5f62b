"""What the scripted server saw: one record a request, filled in while the answer goes out.

All times are readings of `time.monotonic()`. On Linux and macOS that clock is the same in every process of
the machine, so a client in another process can compare its own stamps with these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["LoggedRequest"]

SECRET_HEADERS = ("authorization", "x-api-key", "api-key")


@dataclass(slots=True, kw_only=True)
class LoggedRequest:
    """One request and what became of it.

    Attributes:
        method: `GET`, `POST`, ...
        path: The path as asked for, query included.
        headers: Names in lower case. In this process the key is there to be looked at; neither the repr nor
            `to_dict()` shows it.
        body: The JSON body, or None where there was none or it was not JSON.
        raw_body: The body's bytes.
        connection: Which connection it came on, counted from 0; equal numbers mean a reused connection.
        received_at: When the request was complete.
        status: The HTTP status sent, or None while there is none.
        sent_at: When each piece of the body was written: every chunk, comments and `[DONE]` included.
        token_sent_at: When each chunk that carries a token was written.
        ended_at: When the answer was complete, or given up; None while it is going on.
        disconnected: Whether the client went away before the end.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: Any = field(default=None, repr=False)
    raw_body: bytes = field(default=b"", repr=False)
    connection: int = 0
    received_at: float = 0.0
    status: int | None = None
    sent_at: list[float] = field(default_factory=list, repr=False)
    token_sent_at: list[float] = field(default_factory=list, repr=False)
    ended_at: float | None = None
    disconnected: bool = False

    @property
    def model(self) -> str | None:
        """The model asked for, or None."""
        return self.body.get("model") if isinstance(self.body, dict) else None

    @property
    def prompt(self) -> str:
        """The text of the last user message; empty where there is none."""
        return last_user_text(self.body)

    @property
    def streamed(self) -> bool:
        """Whether a stream was asked for."""
        return isinstance(self.body, dict) and bool(self.body.get("stream"))

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON-able data, with the key masked and without `raw_body`."""
        data = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "raw_body"}
        data["headers"] = {name: "***" if name in SECRET_HEADERS else value for name, value in self.headers.items()}
        data["sent_at"] = list(self.sent_at)
        data["token_sent_at"] = list(self.token_sent_at)
        return data


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


def last_user_text(body: Any) -> str:
    """The text of the last user message of a chat request; empty where there is none."""
    messages = body.get("messages") if isinstance(body, dict) else None
    for message in reversed(messages) if isinstance(messages, list) else ():
        if isinstance(message, dict) and message.get("role") == "user":
            return text_of(message.get("content"))
    return ""


def count_words(body: Any) -> int:
    """The number of words in all messages: this server's count of prompt tokens."""
    messages = body.get("messages") if isinstance(body, dict) else None
    if not isinstance(messages, list):
        return 0
    return sum(len(text_of(message.get("content")).split()) for message in messages if isinstance(message, dict))
