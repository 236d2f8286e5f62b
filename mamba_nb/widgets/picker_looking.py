"""The half of the picker that looks: servers, addresses, keys, and the embedded model.

What a reader does comes as `_do_...`; each starts work in the background and returns. What was found is put together
and shown on other threads than the one whose clock counts. `picker.BackendPicker` is the half that chooses.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from mamba_nb._bridge import Run, in_thread
from mamba_nb.display.text import visible
from mamba_nb.errors import BadInput, MambaError
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.found import Servers
from mamba_nb.servers.server import Server
from mamba_nb.widgets import picker_words as words
from mamba_nb.widgets._base import MambaWidget, told
from mamba_nb.widgets.picker_choices import choices, server_id, servers_json, state_of
from mamba_nb.widgets.picker_embedded import Offer, offer, start
from mamba_nb.widgets.picker_search import Search

if TYPE_CHECKING:
    from mamba_nb.settings import AgentSettings

__all__ = ["Looking"]

MOST_ADDRESS = 500  # characters

_log = logging.getLogger("mamba_nb")


class Looking(MambaWidget):
    """Finds servers and shows them.

    Args:
        search: Where to look.
        base: The settings that were given, or None.
        **state: What the other half shows.
    """

    _closed = False  # here too, since a widget that was refused half-way is closed like any other
    _runs: Sequence[Run[Any, Any]] = ()

    def __init__(self, search: Search, base: AgentSettings | None, **state: Any) -> None:
        self._search = search
        self._base = base
        self._servers = Servers()
        self._listed: tuple[Servers, list[dict[str, Any]], list[dict[str, Any]]] | None = None  # as JSON
        self._key_at: str | None = None  # the address that the key field is for
        self._refusals: dict[str, str] = {}  # address -> what a test has shown of its key
        self._searching: Run[Any, Any] | None = None
        self._embedding: Run[Any, Any] | None = None
        super().__init__(
            search="searching",
            status=words.LOOKING,
            help={"starts": [], "advice": [], "others": []},
            servers=[],
            choices=[],
            key=None,
            url=_looked("", "idle"),
            embedded={"state": "idle", "button": "Use the embedded model", "says": "", "share": None, "error": None},
            error=None,
            **state,
        )

    # What the half that chooses does.

    def _choose(self, server: Server, model: ServedModel) -> None:
        """Take this model."""
        raise NotImplementedError

    def _found_first(self) -> None:
        """A search has ended: choose what was wanted from the beginning."""
        raise NotImplementedError

    def _key_changed(self, server: Server) -> None:
        """This server has a new key."""
        raise NotImplementedError

    def _choice_json(self) -> dict[str, Any]:
        """What is shown of the choice."""
        raise NotImplementedError

    # Searching.

    def _do_refresh(self) -> None:
        if self._searching is not None:
            self._searching.cancel()
        self.show(search="searching", status=words.LOOKING, error=None)
        self._searching = self._begin("look for servers", self._look_around)

    async def _look_around(self) -> None:
        servers = await self._search.everywhere()
        await in_thread(self._found, servers)

    def _found(self, servers: Servers) -> None:
        with self._lock:
            self._servers = servers
            self._show_servers(search="found" if servers.found else "none found", **self._outcome())
        about = offer(self._base.embedded if self._base is not None else None)
        if self.state["embedded"]["state"] in ("idle", "done"):
            runs = any(server.kind == "embedded" for server in servers)
            self.show(embedded=_face("done" if runs else "idle", about))
        self._found_first()

    # An address, a key.

    def _do_look(self, url: str) -> None:
        text = str(url).strip()
        if not text:
            raise BadInput("There is no address in the field.", hint="Write one such as localhost:8000.")
        if len(text) > MOST_ADDRESS:
            raise BadInput(
                f"This is no address: it has {len(text):,} characters.", hint="Write one such as gpu-box:8000."
            )
        self.show(url=_looked(text, "searching"), error=None)
        self._begin("look at an address", partial(self._look_at, text))

    async def _look_at(self, text: str) -> None:
        try:
            found = await self._search.at(text)
        except MambaError as error:
            await in_thread(self.show, url=_looked(text, "failed", told(error)))
            return
        await in_thread(self._add, found, url=_looked(text, "done"))

    def _do_key_for(self, server: str) -> None:
        self._key_at = self._server(server).base_url
        self._show_servers()

    def _do_key(self, server: str, key: str) -> None:
        found = self._server(server)
        self._search.keep_key(found.base_url, key)
        self._key_at = found.base_url
        self._refusals.pop(found.base_url, None)
        self.show(key=words.key_words("checking", found), error=None)
        self._begin("try a key", partial(self._look_again, found, after_key=True))

    async def _look_again(self, server: Server, *, after_key: bool = False) -> None:
        try:
            now = await self._search.again(server)
        except MambaError as error:
            if after_key:
                await in_thread(self._show_servers, error=told(error))
            return
        await in_thread(self._add, (now,))
        if after_key:
            await in_thread(self._key_changed, now)

    def _add(self, servers: Sequence[Server], **changes: Any) -> None:
        """Take servers in, each in the place where it stood, or at the end."""
        with self._lock:
            new = {server.base_url: server for server in servers}
            kept = [new.pop(server.base_url, server) for server in self._servers]
            self._servers = replace(self._servers, found=(*kept, *new.values()))
            if asking := [server for server in servers if state_of(server) in ("key needed", "key refused")]:
                self._key_at = asking[0].base_url
            self._show_servers(search="found", **self._outcome(), **changes)

    # The embedded model.

    def _do_embedded(self) -> None:
        if self._embedding is None or self._embedding.done():
            self._say_embedded("waiting", "Looking for the weights")
            self._begin_embedded(download=True)

    def _do_stop_embedded(self) -> None:
        if self._embedding is not None and self._embedding.cancel():
            self._say_embedded("stopped", "Stopped; nothing that came is kept")

    def _begin_embedded(self, *, download: bool) -> None:
        async def work() -> None:
            with contextlib.suppress(MambaError):  # it is shown in its own place
                await self._start_embedded(download=download)

        self._embedding = self._begin("start the embedded model", work)

    async def _start_embedded(self, *, download: bool) -> None:
        settings = self._base.embedded if self._base is not None else None
        try:
            engine = await start(settings, self._say_embedded, download=download)
            server = await self._search.engine(engine)
        except MambaError as error:
            about = await in_thread(offer, settings)
            await in_thread(self.show, embedded=_face("failed", about, told(error)))
            raise
        await in_thread(self._say_embedded, "done", f"{engine.model} is ready")
        await in_thread(self._add, (server,))
        await in_thread(self._choose, server, server.models[0])

    def _say_embedded(self, state: str, says: str, share: float | None = None) -> None:
        self.show(embedded={**self.state["embedded"], "state": state, "says": says, "share": share, "error": None})

    # What is shown.

    def _show_servers(self, **changes: Any) -> None:
        with self._lock:
            first_asking = (server.base_url for server in self._servers if state_of(server) == "key needed")
            if self._listed is None or self._listed[0] is not self._servers:  # a list may have thousands of models
                self._listed = (self._servers, servers_json(self._servers), choices(self._servers))
            listed = {
                "servers": self._listed[1],
                "choices": self._listed[2],
                "key": self._key_json(self._key_at or next(first_asking, None)),
            }
            self.show(**{**listed, **self._choice_json(), **changes})

    def _outcome(self) -> dict[str, Any]:
        return {"status": words.outcome(self._servers), "help": words.help_for(self._servers)}

    def _key_json(self, base_url: str | None) -> dict[str, str] | None:
        """What the key field is for, and what is known of its key; the key itself never."""
        server = next((server for server in self._servers if server.base_url == base_url), None)
        if server is None or server.kind == "embedded":  # its key is made up by its own process
            return None
        state = state_of(server)
        said = state.removeprefix("key ") if state.startswith("key ") else None
        has_key = self._key(server) is not None
        return words.key_words(self._refusals.get(server.base_url) or said or ("given" if has_key else "none"), server)

    # Small things.

    def _key(self, server: Server) -> SecretStr | None:
        given = self._search.key_for(server.base_url)
        return given or (SecretStr(server.key) if server.key is not None else None)

    def _server(self, wanted: str) -> Server:
        for server in self._servers:
            if server_id(server.base_url) == wanted:
                return server
        raise BadInput("This server is not listed any more.", hint="Refresh, and choose again.")

    def _begin(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> Run[Any, None]:
        """Start work in the background; what goes wrong with it is shown."""

        async def guarded(_run: Run[Any, None]) -> None:
            try:
                await work()
            except MambaError as error:
                await in_thread(self.show, error=told(error))
            except asyncio.CancelledError:
                raise
            except Exception as error:  # a run that nobody waits for would keep it to itself
                if not threading.main_thread().is_alive():  # the interpreter is ending: nobody is left to read it
                    return
                _log.warning("%s failed.", name, exc_info=True)
                said = {"message": f"{type(error).__name__}: {error}", "hint": None, "says": None}
                await in_thread(self.show, error=said)

        run: Run[Any, None] = Run(guarded, name=name)
        with self._lock:
            self._runs = [other for other in self._runs if not other.done()] + [run]
        return run

    def _stop_all(self) -> None:
        """Cancel all that is under way."""
        for run in self._runs:
            run.cancel()


def _looked(text: str, state: str, error: dict[str, str | None] | None = None) -> dict[str, Any]:
    """What is shown of an address and of the look there: without what may be a password or a key in it."""
    harmless = re.sub(
        r"[?#].*", "?***", re.sub(r"^([a-zA-Z]+://)?.*@", r"\1***@", text, flags=re.DOTALL), flags=re.DOTALL
    )
    said = {name: words and visible(words) for name, words in error.items()} if error is not None else None
    return {"text": visible(harmless), "state": state, "error": said}


def _face(state: str, about: Offer, error: dict[str, str | None] | None = None) -> dict[str, Any]:
    """What is shown of the embedded model where nothing is under way."""
    return {"state": state, "button": about.button, "says": about.says, "share": None, "error": error}
