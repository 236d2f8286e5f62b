"""What answered and is no model server, told as what it is.

In: the answer to GET /v1/models, or why there was none. Out: a few words, and a hint where there is something to do.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from mamba_nb._look import Answer, TooLarge, TooSlow
from mamba_nb.servers.where import is_html

__all__ = ["Told", "answered", "failed", "is_of_tls", "is_refusal", "may_be_tls"]

TLS_RECORD = re.compile(r"\\x1[4-7]\\x03|[\x14-\x17]\x03[\x00-\x04]")
"""How a TLS record begins, whole or as Python writes it in an error's text."""


class Told(NamedTuple):
    """What something is, and what to do about it."""

    what: str
    hint: str | None = None


def answered(answer: Answer) -> Told:
    """What sends such an answer to GET /v1/models."""
    status, text = answer.status, answer.text
    if 300 <= status < 400:
        return _redirect(answer)
    if "sent an HTTP request to an HTTPS server" in text or "plain HTTP request was sent to HTTPS port" in text:
        return _speaks_tls(answer.url)
    if is_html(text):
        title = re.search(r"(?is)<title[^>]*>\s*(.*?)\s*</title>", text[:20_000])
        named = f': "{_short(html.unescape(title[1]))}"' if title and title[1] else ""
        if status in (502, 503, 504):
            return Told(f"a proxy's error page, status {status}", "What it passes calls to is not running.")
        if status in (401, 403, 407):
            return Told(f"a web page that asks for a login, status {status}{named}")
        hint = "Open WebUI stands in front of a model server: look for that one." if "Open WebUI" in named else None
        return Told(f"a web page{named}" + (f", status {status}" if status != 200 else ""), hint)
    if status in (401, 403):
        return Told(
            f"something that refuses to answer, status {status}",
            f"If it is a model server: find_servers(urls=[{answer.url.removesuffix('/models')!r}], api_key='...').",
        )
    if status == 404 and isinstance(answer.json, Mapping) and answer.json.get("detail") == "Not Found":
        return Told("a web application without GET /v1/models (FastAPI)")
    if status == 404:
        return Told("a web server without GET /v1/models")
    if status >= 500:
        return Told(f"a server that fails: status {status}")
    if answer.json is not None:
        return Told("an API of something else: its JSON is no list of models")
    if "json" in answer.headers.get("content-type", ""):
        return Told("an API that says JSON and sends something else")
    if not answer.body:
        return Told(f"a web server with an empty answer, status {status}")
    return Told("a web server that answers with plain text" if _is_text(answer) else "a server of something else")


def failed(error: BaseException | None, url: str, *, connected: bool = True) -> Told:
    """What was found where no answer came.

    Args:
        error: Why there was none; None is that time ran out.
        url: Where.
        connected: Whether a connection came about.
    """
    names = {cls.__name__ for cls in type(error).__mro__}
    text = f"{error} {error.__cause__ or ''}" if error is not None else ""
    if isinstance(error, TooSlow):
        return Told("answers so slowly that its list of models did not come in time")
    if error is None or "TimeoutError" in names:
        if not connected or "ConnectionTimeoutError" in names:
            return Told("no connection came about in time", "A firewall may be dropping the call.")
        return Told("accepts connections and does not answer in time")
    if isinstance(error, TooLarge):
        return Told("answers with more than a list of models can have")
    if "ClientConnectorCertificateError" in names or "certificate" in text.lower():
        self_signed = "self-signed" in text or "self signed" in text
        return Told(
            "its certificate is self-signed" if self_signed else "its certificate is not trusted",
            "Point the environment variable SSL_CERT_FILE to a file that has it.",
        )
    if "SSLError" in names or "ClientConnectorSSLError" in names:
        return Told("does not speak TLS", "Use http://, not https://.")
    if TLS_RECORD.search(text):
        return _speaks_tls(url)
    if names & {"ClientResponseError", "InvalidURL", "ContentEncodingError"}:
        return Told("does not speak HTTP")
    if "ClientPayloadError" in names:
        return Told("breaks off its answer")
    if names & {"ServerDisconnectedError", "ClientOSError", "ConnectionResetError"} and not is_refusal(error):
        return Told("closes the connection without an answer")
    if "ClientConnectorDNSError" in names or "gaierror" in names:
        return Told("no such host", "Check the spelling.")
    return Told("nothing is listening there")


def is_refusal(error: BaseException | None) -> bool:
    """Whether there was no connection at all: nothing listens, or there is no way there."""
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(names & {"ClientConnectorError", "ConnectionRefusedError", "gaierror", "ConnectionTimeoutError"}) and (
        not names & {"ClientSSLError", "ClientConnectorCertificateError", "ClientConnectorSSLError"}
    )


def may_be_tls(answer: Answer | None, error: BaseException | None) -> bool:
    """Whether a server that was asked in the clear may speak TLS: it says so, sends its callers there, or hangs up."""
    if answer is not None:
        return answered(answer).what == "speaks TLS"
    return failed(error, "").what in ("speaks TLS", "closes the connection without an answer")


def is_of_tls(error: BaseException | None) -> bool:
    """Whether a call by https failed on the certificate, so that TLS is spoken there."""
    return "certificate" in failed(error, "").what


def _redirect(answer: Answer) -> Told:
    target = urlsplit(urljoin(answer.url, answer.headers.get("location", "")))
    here = urlsplit(answer.url)
    if target.hostname and target.hostname != here.hostname:
        return Told(f"sends callers on to another host, {_short(target.hostname)}", "It was not followed.")
    if target.scheme == "https" and here.scheme == "http":
        return _speaks_tls(answer.url)
    return Told(f"sends callers on to {_short(target.path or '/')}")


def _speaks_tls(url: str) -> Told:
    parts = urlsplit(url)
    return Told("speaks TLS", f"Look there with find_servers(urls=['https://{parts.netloc}']).")


def _is_text(answer: Answer) -> bool:
    return "\N{REPLACEMENT CHARACTER}" not in answer.text and "\0" not in answer.text


def _short(text: str, most: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
