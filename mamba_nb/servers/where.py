"""Which call is meant, and the words for it: what every error about a server is made from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from urllib.parse import urlsplit

from mamba_nb.servers.kinds import IN_NAMES, Kind

__all__ = ["Where", "is_html", "meant_name", "readable"]

# Keys that servers repeat in their errors: OpenAI's 401, LiteLLM's, and gateways that echo the header.
KEYS = (
    (re.compile(r"(?i)(api key(?: provided)?\s*[:=]?\s*|bearer\s+)(?=\S*[\d*])\S{8,}"), r"\1***"),
    (re.compile(r"\bsk-[\w.*-]{8,}"), "sk-***"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Which call failed.

    Attributes:
        base_url: The server's OpenAI address.
        model: The model asked for, or None.
        kind: What kind of server it is, where known.
        timeout_s: The longest silence that was allowed.
        key: The key that was sent, so that it can be taken out of what the server says; never shown.
        proxied: Whether proxies from the environment were used.
        served: The models that the server lists, where known.
    """

    base_url: str
    model: str | None = None
    kind: Kind | None = None
    timeout_s: float | None = None
    key: str | None = field(default=None, repr=False)
    proxied: bool = False
    served: Sequence[str] = ()

    @property
    def server(self) -> str:
        """How to call the server in a sentence that begins with it."""
        return self.kind.opening if self.kind else "The server"

    @property
    def is_tls(self) -> bool:
        """Whether the address is an https one."""
        return urlsplit(self.base_url).scheme == "https"

    @property
    def meant(self) -> str | None:
        """The model's name with its server spelt right, where it begins with something near a server's name."""
        return meant_name(self.model or "")

    @property
    def host(self) -> str:
        """The host's name or address."""
        return urlsplit(self.base_url).hostname or ""

    @property
    def place(self) -> str:
        """Host and port, as in an address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def port(self) -> int:
        """The port, the scheme's own where the address names none."""
        parts = urlsplit(self.base_url)
        return parts.port or (443 if parts.scheme == "https" else 80)


def is_html(text: str) -> bool:
    """Whether a text is a page."""
    return text.lstrip()[:200].lower().startswith(("<!doctype", "<html", "<head", "<body"))


def readable(text: str, where: Where, most: int = 500) -> str:
    """The words of a text that may be HTML, without keys, cut to a readable length."""
    if is_html(text):
        text = " ".join(re.sub(r"<[^>]*>", " ", re.sub(r"(?is)<(script|style).*?</\1>", " ", text)).split())
    if where.key:
        text = text.replace(where.key, "***")
    for pattern, instead in KEYS:
        text = pattern.sub(instead, text)
    return text if len(text) <= most else text[:most] + " ..."


def meant_name(name: str) -> str | None:
    """A model's name with its server spelt right, or None where it begins with nothing near a server's name.

    Examples:
        >>> meant_name("olama/llama3.2"), meant_name("embeded"), meant_name("llama3:8b")
        ('ollama/llama3.2', 'embedded', None)
    """
    head, separator, rest = re.fullmatch(r"([^:/]*)([:/]?)(.*)", name, re.DOTALL).groups()  # type: ignore[union-attr]
    known = IN_NAMES if separator else ("embedded", "lmstudio")  # these may stand alone
    if head in known or re.fullmatch(r"llama[\d.]*", head):  # Meta's models, not Ollama
        return None
    near = get_close_matches(head.casefold(), known, n=1, cutoff=0.75)
    return f"{near[0]}{separator}{rest}" if near else None
