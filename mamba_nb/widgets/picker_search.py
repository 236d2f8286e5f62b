"""Where a picker looks for servers, and what it found: discovery, with the keys that a reader gave for an address.

A key belongs to one address and is sent to no other.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import SecretStr

from mamba_nb.errors import BadInput, MambaError, ServerUnreachable
from mamba_nb.servers.candidates import revealed
from mamba_nb.servers.discovery import find, server_at
from mamba_nb.servers.found import Servers
from mamba_nb.servers.mending import bare_host, host_and_port, mended
from mamba_nb.servers.server import Server

if TYPE_CHECKING:
    from mamba_nb.embedded import Engine

__all__ = ["Search"]


class Search:
    """The places to look at and the keys for them; may be told of more while it looks.

    Args:
        hosts: Machines whose known ports to look at; None is this one, and what is configured.
        urls: Further addresses.

    Raises:
        BadInput: If one of them can be no address.
    """

    def __init__(self, hosts: str | Sequence[str] | None, urls: str | Sequence[str]) -> None:
        self.hosts = [hosts] if isinstance(hosts, str) else None if hosts is None else list(hosts)
        self.urls = [urls] if isinstance(urls, str) else list(urls)
        for host in self.hosts or ():
            host_and_port(host)
        for url in self.urls:
            mended(url)
        self._lock = threading.Lock()
        self._keys: dict[str, SecretStr] = {}

    def add(self, base_url: str, key: SecretStr | None) -> None:
        """Look at this address too, with its key where it has one."""
        self.urls.append(base_url)
        if key is not None:
            self.keep_key(base_url, key.get_secret_value())

    def keep_key(self, base_url: str, key: str) -> None:
        """Use this key at this address from now on.

        Raises:
            BadInput: If it is empty, or can be no key; it is not in the message.
        """
        text = revealed(key)
        if text is None:
            raise BadInput("There is no key in the field.", hint="Paste the server's key first.")
        with self._lock:
            self._keys[base_url] = SecretStr(text)

    def key_for(self, base_url: str) -> SecretStr | None:
        """The key that was given for this address."""
        return self._keys.get(base_url)

    async def everywhere(self) -> Servers:
        """What is there now; on the I/O loop, within 1.5 s, and a moment more where a key was given."""
        found = await find(self.hosts, urls=self.urls)
        servers = await asyncio.gather(*(self._with_its_key(server) for server in found))
        return replace(found, found=tuple(servers))

    async def at(self, url: str) -> tuple[Server, ...]:
        """The servers at an address, which is looked at from now on; on the I/O loop.

        Args:
            url: As a reader typed it.

        Raises:
            BadInput: If it can be no address.
            ServerError: If there is no model server; the message says what is there, the hint what to do.
        """
        if (host := bare_host(url)) is not None:
            around = await find([host])
            found = tuple(around)
            if not found:
                other = around.others[0] if around.others else None
                what = f"{other.url}: {other.what}." if other else f"{host}: no model server on the known ports."
                raise ServerUnreachable(what, hint=(other and other.hint) or "Name the port too.", base_url=url)
        else:
            mended(url)
            found = (await server_at(url),)
        with self._lock:
            self.urls += [server.base_url for server in found if server.base_url not in self.urls]
        return tuple([await self._with_its_key(server) for server in found])

    async def engine(self, engine: Engine) -> Server:
        """An embedded engine of this process as a server; a search of this machine finds it by itself."""
        self.keep_key(engine.base_url, engine.api_key)
        if self.hosts is not None and engine.base_url not in self.urls:
            self.urls.append(engine.base_url)
        return await server_at(engine.base_url, key=engine.api_key)

    async def again(self, server: Server) -> Server:
        """One server as it is now, asked with the key that was given for it.

        Raises:
            ServerError: If it does not answer any more.
        """
        key = self.key_for(server.base_url)
        return await server_at(server.base_url, key=key or server.key, trust_env=server.trust_env)

    async def _with_its_key(self, server: Server) -> Server:
        key = self.key_for(server.base_url)
        if key is None or server.key == key.get_secret_value():
            return server
        try:
            return await self.again(server)
        except MambaError:
            return server
