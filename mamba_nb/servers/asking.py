"""One server's paths, as a kind's functions see them: each GET is sent once and its answer kept.

In: the server's root address. Out: answers judged by whoever asked, since a status alone proves nothing (LM Studio
says 200 to every path).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mamba_nb import _look
from mamba_nb._look import Answer

__all__ = ["Asking"]


@dataclass(slots=True, kw_only=True)
class Asking:
    """Questions to one server.

    Attributes:
        root: The address at which its native paths begin, without a slash at its end.
        base_url: Its OpenAI address.
        key: Sent with every question, where there is one; never shown.
        connect_s: Seconds to wait for a connection.
        read_s: Seconds to wait for the whole answer.
        trust_env: Whether proxies from the environment count; None decides by the host.
        failures: Path -> why there was no answer.
    """

    root: str
    base_url: str
    key: str | None = field(default=None, repr=False)
    connect_s: float = 1.0
    read_s: float = 3.0
    trust_env: bool | None = None
    failures: dict[str, BaseException] = field(default_factory=dict)
    _answers: dict[str, asyncio.Task[Answer | None]] = field(default_factory=dict, repr=False)

    def url(self, path: str) -> str:
        """The whole address of a path: `/v1...` stands under `base_url`, everything else under `root`.

        Some servers have their OpenAI paths elsewhere (`/engines/v1`, `/api/v1`), and a path such as `/v1/models`
        means those.
        """
        if path == "/v1" or path.startswith("/v1/"):
            return self.base_url + path.removeprefix("/v1")
        return self.root + path

    async def look(self, path: str) -> Answer | None:
        """GET a path, once; None where no answer came, and why is in `failures`."""
        if path not in self._answers:
            self._answers[path] = asyncio.ensure_future(self._look(path))
        return await asyncio.shield(self._answers[path])

    async def json(self, path: str) -> Any:
        """GET a JSON document, once; None where there is none with a status of 200."""
        answer = await self.look(path)
        return answer.json if answer is not None and answer.status == 200 else None

    def forget(self, *paths: str) -> None:
        """Ask these paths anew next time; without any, all of them."""
        for path in paths or tuple(self._answers):
            self._answers.pop(path, None)
            self.failures.pop(path, None)

    def leave(self) -> None:
        """Drop the questions that are under way: nobody waits for them any more."""
        for task in self._answers.values():
            task.cancel()

    async def post(
        self, path: str, body: Mapping[str, Any], *, method: str = "POST", read_s: float | None = None
    ) -> Answer:
        """POST a JSON document; raises what `_look.look` raises."""
        return await _look.look(
            self.url(path),
            method=method,
            body=body,
            key=self.key,
            connect_s=max(self.connect_s, 3.0),
            read_s=read_s or self.read_s,
            trust_env=self.trust_env,
        )

    def lines(
        self, path: str, body: Mapping[str, Any] | None, *, method: str = "POST", silence_s: float = 60.0
    ) -> AsyncIterator[bytes]:
        """Each line of an answer as it comes; raises what `_look.lines` raises."""
        return _look.lines(
            self.url(path), method=method, body=body, key=self.key, silence_s=silence_s, trust_env=self.trust_env
        )

    async def _look(self, path: str) -> Answer | None:
        try:
            return await _look.look(
                self.url(path),
                key=self.key,
                connect_s=self.connect_s,
                read_s=self.read_s,
                trust_env=self.trust_env,
            )
        except Exception as error:  # whatever is wrong there is told by whoever needs this path
            self.failures[path] = error
            return None
