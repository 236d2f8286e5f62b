"""Looking for model servers, on this machine and where one is told to.

In: hosts, addresses, or nothing. Out: `Servers`, in at most 1.5 s whatever is there: all places are looked at at once,
and what is known when time is up is what is told.

    find_servers()                          this machine's known ports, and what is configured
    find_servers(hosts=["gpu-box"])         the same ports there
    find_servers(urls=["gpu-box:9000"])     beside this machine, an address
    await server_at("localhost:1234")       one server, or an error that says what is there instead
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mamba_nb._bridge import Run, refuse_on_private_loops
from mamba_nb._http import is_this_machine
from mamba_nb.errors import BadInput, EndpointNotFound, MambaError, ServerUnreachable
from mamba_nb.servers import candidates, failures
from mamba_nb.servers.candidates import Candidate, Keys, named_at, revealed
from mamba_nb.servers.discovery_others import answered, failed
from mamba_nb.servers.discovery_visit import AT_HAND_S, Names, Visit
from mamba_nb.servers.found import Other, Servers
from mamba_nb.servers.kinds import NAMES, Sighting
from mamba_nb.servers.mending import Address, bare_host, port_of
from mamba_nb.servers.server import Server
from mamba_nb.servers.surroundings import OPEN_UP, advice, surroundings
from mamba_nb.servers.where import Where

if TYPE_CHECKING:
    from pydantic import SecretStr

__all__ = ["find", "find_servers", "server_at"]

TIMEOUT_S = 1.5
MARGIN_S = 0.05  # for putting the findings together
LEAST = 0.5  # the part of the time that is left for asking, whatever went before
ONE_ANSWER = 0.8  # the part of the time that a single answer may take, so that what comes slowly is told as that


def find_servers(
    hosts: str | Sequence[str] | None = None,
    *,
    urls: str | Sequence[str] = (),
    api_key: str | SecretStr | None = None,
    timeout: float = TIMEOUT_S,
) -> Servers:
    """Find the model servers that are running.

        servers = find_servers()
        backend = servers["ollama"].backend("llama3.2")

    Looks at the ports that model servers use on this machine, at the settings' address where one was set, and at
    `OLLAMA_HOST` and `OPENAI_BASE_URL`. What answers is told by the shape of its answers, not by its port. Nothing
    is sent but short GET requests, and never a key to something that it was not meant for.

    Args:
        hosts: Machines whose ports to look at instead of this one's and of what is configured; `"localhost"` among them
            is this machine again, and an empty list looks only at `urls`.
        urls: Further addresses; a missing or doubled `/v1`, a pasted page and the like are mended.
        api_key: The key for `urls`. A model server found elsewhere gets it only if it asks for a key.
        timeout: Seconds that the whole may take.

    Returns:
        `Servers`: a table in a cell, `.to_frame()`, and a sequence of `Server`. What else answered is in `.others`, and
        where no server was found, what to do is in `.advice`.

    Raises:
        BadInput: If an argument is wrong. Nothing that is found, or not found, is an exception.
    """
    refuse_on_private_loops("find_servers", "use `await find(...)` of mamba_nb.servers.discovery")

    async def work(_run: Run[Any, Servers]) -> Servers:
        return await find(hosts, urls=urls, api_key=api_key, timeout=timeout)

    return Run(work, name="find servers").result()


async def find(
    hosts: str | Sequence[str] | None = None,
    *,
    urls: str | Sequence[str] = (),
    api_key: str | SecretStr | None = None,
    timeout: float = TIMEOUT_S,
) -> Servers:
    """`find_servers` on the I/O loop."""
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise BadInput(f"timeout must be a number of seconds above 0; this is {timeout!r}.")
    began = time.monotonic()
    plan = await asyncio.to_thread(_planned, hosts, urls, api_key)
    # Loading libraries takes half a second the first time, on a slow disk more: then there is still time to ask.
    until = max(began + timeout, time.monotonic() + LEAST * timeout) - MARGIN_S
    visits = _visits(plan.candidates, plan.keys, timeout, with_embedded=hosts is None)
    tasks = [asyncio.ensure_future(visit.run()) for visit in visits]
    try:
        if tasks:
            await asyncio.wait(tasks, timeout=max(0.0, until - time.monotonic()))
    finally:
        for task, visit in zip(tasks, visits, strict=True):
            task.cancel()
            visit.leave()
    servers, others = _gathered(visits)
    others += [Other(url=place, what=problem, said_by=place) for place, problem in plan.complaints]
    return Servers(
        found=tuple(servers),
        others=tuple(others),
        advice=() if servers else advice(await asyncio.to_thread(surroundings, os.environ)),
        places=len(visits),
        took_s=time.monotonic() - began,
    )


async def server_at(
    url: str,
    *,
    key: str | SecretStr | None = None,
    trust_env: bool | None = None,
    connect_s: float = 1.0,
    read_s: float = 3.0,
) -> Server:
    """The model server at an address; on the I/O loop.

    Args:
        url: Its address, in any of the ways that `mending` understands; of a bare host, the known ports are looked at.
        key: Its key.
        trust_env: Whether proxies from the environment count; None decides by the host.
        connect_s: Seconds to wait for a connection.
        read_s: Seconds to wait for each answer.

    Raises:
        BadInput: If the address can be none.
        ServerUnreachable: If nothing listens there.
        EndpointNotFound: If what is there is no model server; the message says what it is.
        ServerError: Whatever else is wrong on the way.
    """
    if (host := bare_host(url)) is not None:
        around = await find([host], api_key=key, timeout=connect_s + read_s)
        if around:
            return around[0]
        told = around.others[0] if around.others else Other(url=host, what="nothing is listening on the known ports")
        raise ServerUnreachable(f"{told.url}: {told.what}.", hint=told.hint or "Name the port too.", base_url=url)
    candidate = named_at(url, "", key=revealed(key))
    visit = Visit(candidate, Keys(), connect_s=connect_s, read_s=read_s, trust_env=trust_env)
    try:
        await visit.run()
    finally:
        visit.leave()
    outcome = visit.outcome()
    if isinstance(outcome, Server):
        return _as_embedded(outcome)
    raise _nothing_there(visit, outcome)


# The pieces.


def _planned(hosts: Any, urls: Any, api_key: Any) -> candidates.Plan:
    """The places; beside it everything that blocks is done: reading .env and TOML files, loading what asks."""
    plan = candidates.plan(hosts, urls, api_key)
    if plan.candidates:
        import_module("aiohttp")
    return plan


def _visits(places: Sequence[Candidate], keys: Keys, timeout: float, *, with_embedded: bool) -> list[Visit]:
    names, answer_s = Names(), max(AT_HAND_S, ONE_ANSWER * timeout - AT_HAND_S)
    visits = [Visit(place, keys, names=names, connect_s=timeout, read_s=answer_s) for place in places]
    for base_url, key in _own_engines() if with_embedded else ():
        address = Address(root=base_url.removesuffix("/v1"), base_urls=(base_url,))
        place = Candidate(addresses=(address,), said_by="this process", named=True, key=key)
        if all(visit.candidate.place != place.place for visit in visits):
            visits.append(Visit(place, keys, names=names, connect_s=timeout, read_s=answer_s, known=EMBEDDED))
    return visits


EMBEDDED = Sighting(kind="embedded", certainty="certain", evidence="started by this process")


def _own_engines() -> list[tuple[str, str]]:
    """Address and key of each embedded engine of this process; nothing is loaded or started to know that."""
    running = sys.modules.get("mamba_nb.embedded.running")
    if running is None:
        return []
    return [(engine.base_url, engine.api_key) for engine in running.engines()]


def _as_embedded(server: Server) -> Server:
    """The same server as kind `embedded`, where it is this process's own engine."""
    if server.kind == "llamacpp" and any(server.base_url == base_url for base_url, _ in _own_engines()):
        return replace(server, sighting=replace(EMBEDDED, version=server.version, needs_key=server.needs_key))
    return server


def _gathered(visits: Sequence[Visit]) -> tuple[list[Server], list[Other]]:
    found: list[tuple[Visit, Server]] = []
    others: list[Other] = []
    for visit in visits:
        outcome = visit.outcome()
        if isinstance(outcome, Server):
            found.append((visit, _as_embedded(outcome)))
        elif outcome is not None:
            others.append(outcome)
    servers: list[Server] = []
    for visit, server in found:
        parent = visit.parent and next((other for _, other in found if other.kind == visit.parent), None)
        if parent and urlsplit(parent.root).hostname == urlsplit(server.root).hostname:
            title = parent.about.title
            what = f"a llama.cpp that {title} started for one of its models"
            others.append(Other(url=server.base_url, what=what, hint=f"Use {title} at {parent.base_url}."))
        elif not any(_is_same(server, other) for other in servers):
            servers.append(server)
    servers.sort(key=lambda server: (not server.usable, NAMES.index(server.kind), port_of(server.root)))
    return servers, others + _silent_hosts(visits)


def _is_same(one: Server, other: Server) -> bool:
    """Whether two addresses lead to one server: the same port of this machine, by its loopback and by another name."""
    return (
        port_of(one.root) == port_of(other.root)
        and urlsplit(one.root).path == urlsplit(other.root).path
        and (one.kind, one.version) == (other.kind, other.version)
        and [model.id for model in one.models] == [model.id for model in other.models]
        and all(_is_own(urlsplit(server.root).hostname or "") for server in (one, other))
    )


def _is_own(host: str) -> bool:
    """Whether a host is this machine, by whatever name or address: a local address is one that can be bound to."""
    if is_this_machine(host) or host == socket.gethostname().lower():
        return True
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as trial:
            trial.bind((str(ipaddress.ip_address(host)), 0))
    except (OSError, ValueError):
        return False
    return True


def _silent_hosts(visits: Sequence[Visit]) -> list[Other]:
    """One line for each host that was named and did not take a connection on any port."""
    by_host: dict[str, list[Visit]] = {}
    for visit in visits:
        if visit.candidate.host is not None:
            by_host.setdefault(visit.candidate.host, []).append(visit)
    silent = []
    for host, looked in by_host.items():
        if any(visit.reached is not None for visit in looked):
            continue
        error = next((visit.failure for visit in looked if visit.failure is not None), None)
        told = failed(error, host, connected=error is not None)
        what = told.what.replace("nothing is listening there", "nothing is listening on the known ports")
        silent.append(Other(url=host, what=what, hint=told.hint or OPEN_UP, said_by="hosts"))
    return silent


def _nothing_there(visit: Visit, outcome: Other | None) -> MambaError:
    """Why there is no server at an address that was asked for alone."""
    url = visit.candidate.addresses[0].base_urls[0]
    where = Where(base_url=url, key=visit.candidate.key)
    if visit.listing is None and visit.reached is None:
        return failures.translate(visit.failure or ConnectionRefusedError(), where)
    if visit.listing is None:
        told = failed(visit.failure, url)
        if isinstance(visit.failure, TimeoutError | None) or "certificate" in told.what or "TLS" in told.what:
            return failures.translate(visit.failure or TimeoutError(), where)
    else:
        told = answered(visit.listing)
    return EndpointNotFound(
        f"{outcome.url if outcome else url} is no model server: {told.what}.", hint=told.hint, base_url=url
    )
