"""One place looked at: what is known of it by now can be read at any time, so that a deadline cuts nothing short.

In: a `Candidate`. Out: a `Server`, an `Other`, or nothing where nobody is.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from mamba_nb._http import is_local_host, uses_proxies
from mamba_nb._look import Answer
from mamba_nb.servers import discovery_others as others
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.candidates import KEY_VARIABLES, Candidate, Keys
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.found import Other
from mamba_nb.servers.identify import LISTING, identify, is_model_list, parent_of
from mamba_nb.servers.kinds import Sighting, kinds
from mamba_nb.servers.members import entries, listed, member, text
from mamba_nb.servers.mending import Address, port_of
from mamba_nb.servers.server import Server

__all__ = ["AT_HAND_S", "Names", "Visit", "plain_models"]

AT_HAND_S = 0.25  # how long a second connection may take where the first one came about
GRACE_S = 0.05  # how long the likelier of two addresses may take longer to connect


class Names:
    """Hosts' names resolved once, however many of their ports are looked at."""

    def __init__(self) -> None:
        self._found: dict[str, asyncio.Future[list[str]]] = {}

    async def addresses(self, host: str) -> list[str]:
        """The IP addresses of a host, at most three; raises OSError where there are none."""
        if host not in self._found:
            self._found[host] = asyncio.ensure_future(self._resolve(host))
        return await asyncio.shield(self._found[host])

    async def _resolve(self, host: str) -> list[str]:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))[:3]


class Visit:
    """A look at one place.

    Args:
        candidate: The place.
        keys: Keys that wait for their kind.
        names: Shared by all visits of one look around.
        connect_s: Seconds to wait for a connection.
        read_s: Seconds to wait for each answer.
        trust_env: Whether proxies from the environment count; None decides by the host.
        known: What it is, where that is known beforehand.
    """

    def __init__(
        self,
        candidate: Candidate,
        keys: Keys,
        *,
        names: Names | None = None,
        connect_s: float = 1.0,
        read_s: float = 3.0,
        trust_env: bool | None = None,
        known: Sighting | None = None,
    ) -> None:
        self.candidate = candidate
        self.keys = keys
        self.names = names or Names()
        self.connect_s, self.read_s, self.trust_env = connect_s, read_s, trust_env
        self.reached: str | None = None  # the root that took a connection
        self.failure: BaseException | None = None
        self.listing: Answer | None = None
        self.sighting: Sighting | None = known
        self.version: str | None = None
        self.models: tuple[ServedModel, ...] | None = None
        self.parent: str | None = None
        self.problems: list[str] = []
        self.ended = False
        self._asking: Asking | None = None
        self._asked: list[Asking] = []
        self._at_hand = False  # whether a connection came about already

    async def run(self) -> None:
        """Look; what goes wrong is kept, not raised."""
        try:
            addresses = await self._reach()
            if not addresses:
                return
            await asyncio.to_thread(import_module, "aiohttp")  # a third of a second, the first time
            await self._find_the_list(addresses)
            if others.may_be_tls(self.listing, self.failure) and addresses[0].root.startswith("http:"):
                await self._try_tls(addresses)
            if self._asking is None or self.failure is not None:
                return
            if self.sighting is None:
                self.sighting = await identify(self._asking)
            if self.sighting is not None:
                await self._open()
                await self._read()
        finally:
            self.ended = True

    def leave(self) -> None:
        """Drop the questions that are under way."""
        for asking in self._asked:
            asking.leave()

    def outcome(self) -> Server | Other | None:
        """What is known by now."""
        if (sighting := self._told()) is not None and self._asking is not None and not self._any_api(sighting):
            return self._server(sighting, self._asking)
        if self.listing is not None:
            return self._other(others.answered(self.listing))
        if self.reached is None:
            if not self.candidate.named:
                return None
            return self._other(others.failed(self.failure, self.candidate.root, connected=False))
        return self._other(others.failed(self.failure, self.reached))

    # On the way.

    async def _reach(self) -> Sequence[Address]:
        """The addresses at the first host that takes a connection; those behind a proxy are not tried beforehand."""
        addresses = self.candidate.addresses
        first = addresses[0].root
        host = urlsplit(first).hostname or ""
        if uses_proxies(first, self.trust_env) or not is_local_host(host):
            self.reached = first
            return [address for address in addresses if urlsplit(address.root).hostname == host]
        hosts = list(dict.fromkeys(urlsplit(address.root).hostname or "" for address in addresses))
        try:
            async with asyncio.timeout(self.connect_s):
                taken = await _first_open([self._connects(host, port_of(first)) for host in hosts])
        except TimeoutError:
            return ()
        except OSError as error:
            self.failure = error
            return ()
        there = [address for address in addresses if urlsplit(address.root).hostname == hosts[taken]]
        self.reached = there[0].root
        self._at_hand = True
        return there

    async def _connects(self, host: str, port: int) -> None:
        error: OSError = ConnectionRefusedError()
        for address in await self.names.addresses(host):
            try:
                _, writer = await asyncio.open_connection(address, port)
            except OSError as refused:
                error = refused
                continue
            writer.close()
            return
        raise error

    async def _find_the_list(self, addresses: Sequence[Address]) -> None:
        """Settle on the first OpenAI address that lists models, or might if it were given a key."""
        for address in addresses:
            for base_url in address.base_urls:
                asking = self._ask(address.root, base_url)
                answer = await asking.look(LISTING)
                if answer is None:
                    self.failure = asking.failures.get(LISTING)
                    if self._asking is not None:
                        self.failure = None  # the address as it was given did answer
                        return
                    if others.is_refusal(self.failure):
                        self.reached = None
                    return
                if self._asking is None or _settles(answer):
                    self._asking, self.listing = asking, answer
                if _settles(answer) or answer.status not in (200, 404, 405):
                    return

    async def _try_tls(self, addresses: Sequence[Address]) -> None:
        """Look again by https; what was found by http stays where that is no better."""
        before = self._asking, self.listing, self.failure, self.reached
        self._asking, self.listing, self.failure = None, None, None
        await self._find_the_list([_secure(address) for address in addresses])
        if self.listing is None and not others.is_of_tls(self.failure):
            self._asking, self.listing, self.failure, self.reached = before
        elif self.reached is not None:
            self.reached = self.reached.replace("http:", "https:", 1)

    async def _open(self) -> None:
        """Offer the key that is meant for a server of this kind, where it asks for one."""
        assert self._asking is not None and self.sighting is not None and self.listing is not None
        if not self.sighting.needs_key:
            return
        host = urlsplit(self._asking.root).hostname or ""
        key = self.keys.meant_for(self.sighting.kind, self.candidate, host)
        if key is None or key == self._asking.key:
            return
        asking = self._ask(self._asking.root, self._asking.base_url, key)
        answer = await asking.look(LISTING)
        if answer is None or answer.status in (401, 403):
            self.problems.append("It asks for a key, and refused the one that was offered.")
            return
        self._asking, self.listing = asking, answer
        if self.sighting.certainty == "guess" and (better := await identify(asking)) is not None:
            self.sighting = replace(better, needs_key=True)

    async def _read(self) -> None:
        """The version and the models."""
        assert self._asking is not None and self.sighting is not None
        kind, asking = kinds()[self.sighting.kind], self._asking
        if self.sighting.version is None and kind.version is not None:
            with contextlib.suppress(Exception):  # it stays unknown
                self.version = await kind.version(asking)
        try:
            self.models = tuple(await (kind.models or plain_models)(asking))
        except Exception:
            self.problems.append("Its list of models could not be read.")
            self.models = ()
        if kind.name == "llamacpp":
            self.parent = parent_of(member(await asking.json("/props"), "model_path"))

    def _ask(self, root: str, base_url: str, key: str | None = None) -> Asking:
        asking = Asking(
            root=root,
            base_url=base_url,
            key=key or self.candidate.key,
            connect_s=min(self.connect_s, AT_HAND_S) if self._at_hand else self.connect_s,
            read_s=self.read_s,
            trust_env=self.trust_env,
        )
        self._asked.append(asking)
        return asking

    # At the end.

    def _told(self) -> Sighting | None:
        if self.sighting is not None or self.ended or not is_model_list(self.listing):
            return self.sighting
        return Sighting(kind="compatible", certainty="guess", evidence="a list of models; time ran out before more")

    def _any_api(self, sighting: Sighting) -> bool:
        """Whether it is no more than something on a known port that asks for a key: any API does that."""
        vague = sighting.kind == "compatible" and sighting.certainty == "guess" and sighting.needs_key
        return vague and not self.candidate.named and not is_model_list(self.listing)

    def _server(self, sighting: Sighting, asking: Asking) -> Server:
        if sighting.version is None and self.version is not None:
            sighting = replace(sighting, version=self.version)
        latency_ms = self.listing.latency_ms if self.listing is not None and self.listing.status == 200 else None
        return Server(
            sighting=sighting,
            base_url=asking.base_url,
            root=asking.root,
            latency_ms=latency_ms,
            models=self.models if self.models is not None else self._named(),
            problems=tuple(self._wrong(sighting, asking)),
            key=asking.key,
            trust_env=self.trust_env,
        )

    def _named(self) -> tuple[ServedModel, ...]:
        """The models by their names, from the first answer that came."""
        found = entries(self.listing.json, "data") if is_model_list(self.listing) and self.listing else []
        return tuple(ServedModel(id=name) for entry in found if (name := text(entry.get("id"))))

    def _wrong(self, sighting: Sighting, asking: Asking) -> Iterator[str]:
        """What is wrong with it, each with what to do."""
        yield from self.problems
        about = kinds()[sighting.kind]
        if self.models is None:
            what = "No more than the names of its models" if self._named() else "No list of its models"
            yield f"{what} came in time. Look again with find_servers(timeout=5)."
        refused = self.listing is not None and self.listing.status in (401, 403)
        if refused and asking.key and not self.problems:
            yield "It asks for a key, and refused the one that was given."
        elif refused and not self.problems:
            variable = KEY_VARIABLES.get(sighting.kind)
            other = f" or set {variable}" if variable else ""
            yield f"It asks for a key. Pass api_key= with urls=[{asking.base_url!r}]{other}."
        elif self.listing is not None and self.listing.status == 503:
            yield "It is still loading its model. Look again in a moment."
        elif self.models == () and not self.problems:
            pulls = " or server.pull('...')" if about.pull is not None else ""
            yield f"It has no models. {HOW_TO_GET_ONE.get(sighting.kind, 'Load one in it')}{pulls}."
        if self.parent is not None:
            yield (
                f"Its model file lies in {kinds()[self.parent].title}'s store: it may be that server's own child, "
                "which ends when its parent likes. Use the parent's address."
            )

    def _other(self, told: others.Told) -> Other:
        url = self._asking.base_url if self._asking is not None else self.reached or self.candidate.root
        return Other(url=url, what=told.what, hint=told.hint, said_by=self.candidate.said_by)


HOW_TO_GET_ONE: Mapping[str, str] = {
    "ollama": "Get one with `ollama pull llama3.2`",
    "lmstudio": "Get one in its Discover page, or with `lms get`",
    "localai": "Get one with `local-ai run`",
    "dockermodelrunner": "Get one with `docker model pull ai/smollm2`",
}


def _secure(address: Address) -> Address:
    return Address(
        root=address.root.replace("http:", "https:", 1),
        base_urls=tuple(url.replace("http:", "https:", 1) for url in address.base_urls),
    )


async def plain_models(asking: Asking) -> list[ServedModel]:
    """The models by their ids, where nothing more is known of the kind."""
    return [ServedModel(id=entry["id"]) for entry in await listed(asking)]


def _settles(answer: Answer) -> bool:
    """Whether this is the address to stay with: a list, a refusal for want of a key, a server that is still loading."""
    return is_model_list(answer) or answer.status in (401, 403, 503) or answer.headers.get("server") == "llama.cpp"


async def _first_open(attempts: Sequence[Coroutine[Any, Any, None]]) -> int:
    """The place of the first attempt that succeeds; one before it in the list has a moment more.

    Raises:
        OSError: What the first of them raised, if none succeeds.
    """
    tasks = [asyncio.ensure_future(attempt) for attempt in attempts]
    try:
        while not any(_succeeded(task) for task in tasks) and not all(task.done() for task in tasks):
            await asyncio.wait([task for task in tasks if not task.done()], return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            await asyncio.wait(tasks[:1], timeout=GRACE_S)
        for place, task in enumerate(tasks):
            if _succeeded(task):
                return place
        await tasks[0]
        raise AssertionError
    finally:
        for task in tasks:
            task.cancel()


def _succeeded(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None
