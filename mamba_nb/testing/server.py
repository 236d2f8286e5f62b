"""A scripted OpenAI-compatible server on 127.0.0.1, in a thread of its own.

In: scripts. Out: real HTTP answers, and a log of what was asked, what was sent when, and who hung up.

    with ScriptedServer(Script(text="Hi", ttft_s=0.05)) as server:
        ...  # anything that speaks the OpenAI protocol, at server.base_url
        assert server.requests[0].prompt == "Hello"

The log and all counters may be read from any thread, while the server runs and after it stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from mamba_nb.testing import styles
from mamba_nb.testing.answering import Answering
from mamba_nb.testing.http1 import HttpRequest
from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.models import ModelRoom
from mamba_nb.testing.script import Script
from mamba_nb.testing.watching import Watched
from mamba_nb.testing.wire import Connection

__all__ = ["ScriptSource", "ScriptedServer"]

CHAT = "/v1/chat/completions"

ScriptSource: TypeAlias = Script | Callable[[LoggedRequest], Script]


class ScriptedServer(Watched):
    """A server that says what it was told to, on a free port of the loopback interface.

    Args:
        script: What it answers: a `Script`, or a function from the logged request to one.
        models: The names it serves, beside those in `scripts`; None and no name there: `scripted-model`.
        api_key: Asked for as `Authorization: Bearer`, where the style asks for a key; None asks for none.
        owned_by: `owned_by` in `/v1/models`; None: the style's own.
        port: 0 for a free one.
        scripts: Scripts by model; a name that begins with `/` is a path instead, and its script's `status`,
            `error_body`, `headers`, `ttft_s` and `never` apply there.
        slots: How many answers are given at once; further requests wait. None: no limit.
        load_s: Seconds that the first request of a model waits for it to load. As in Ollama, loading goes on
            if that client leaves.
        one_model_at_a_time: A request for another model waits until the loaded one is idle and then swaps it.
        loading_s: Seconds after the start in which every path answers 503 `Loading model`.
        context_length: Tokens of context, where the style tells it.
        keep_alive_s: Seconds after which an idle connection is closed (llama-server and uvicorn: 5); None: never.
        headers: On every response; they win over the style's.
        unknown_model: `404` refuses models that are not served, `ignore` answers all the same. None: the
            style's own.
        embeddings: Whether there is `/v1/embeddings`; None: the style's own.
        embedding_dimensions: Length of the vectors.
        style: `plain`, or the name of a kind of server (`ollama`, `vllm`, `lmstudio`, ...): how it words errors and
            what else it has; or a `Style` of your own.
        about: Model -> what this kind of server says of it (`capabilities`, `context_max`, ...); the names are in
            the style's own docstring. What stands under `""` holds for every model.
        options: Switches of the style, by the names in its docstring.
        log_path: Where the log is to be had over HTTP, or None for nowhere.

    Attributes:
        script: The standing script; another one may be put in its place at any time.
        scripts: The same by model or path.
        created: Start time in seconds since the epoch, as `created` in `/v1/models`.
        state: What the style keeps while the server runs; empty at every start.
    """

    def __init__(
        self,
        script: ScriptSource | None = None,
        *,
        models: Iterable[str] | None = None,
        api_key: str | None = None,
        owned_by: str | None = None,
        port: int = 0,
        scripts: Mapping[str, ScriptSource] | None = None,
        slots: int | None = None,
        load_s: float = 0.0,
        one_model_at_a_time: bool = False,
        loading_s: float = 0.0,
        context_length: int = 4096,
        keep_alive_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        unknown_model: Literal["404", "ignore"] | None = None,
        embeddings: bool | None = None,
        embedding_dimensions: int = 8,
        style: str | styles.Style = "plain",
        about: Mapping[str, Mapping[str, Any]] | None = None,
        options: Mapping[str, Any] | None = None,
        log_path: str | None = None,
    ) -> None:
        super().__init__()
        self.style = styles.get(style) if isinstance(style, str) else style
        self.script: ScriptSource = Script() if script is None else script
        self.scripts: dict[str, ScriptSource] = dict(scripts or {})
        named = [name for name in self.scripts if not name.startswith("/")]
        given = ("scripted-model",) if models is None and not named else models or ()
        self.models = tuple(dict.fromkeys([*((given,) if isinstance(given, str) else given), *named]))
        self.api_key = api_key
        self.owned_by = self.style.owned_by if owned_by is None else owned_by
        self.slots = slots
        self.load_s = load_s
        self.one_model_at_a_time = one_model_at_a_time
        self.loading_s = loading_s
        self.context_length = context_length
        self.keep_alive_s = keep_alive_s
        self.headers = {**self.style.headers, **(headers or {})}
        self.unknown_model = unknown_model or self.style.unknown_model
        self.embeddings = self.style.embeddings if embeddings is None else embeddings
        self.embedding_dimensions = embedding_dimensions
        self.about = {name: dict(known) for name, known in (about or {}).items()}
        self.options: dict[str, Any] = dict(options or {})
        self.state: dict[str, Any] = {}
        self.log_path = log_path
        self.created = int(time.time())
        self.started_at = 0.0
        self._port = port
        self._queue: deque[tuple[str, str | None, ScriptSource]] = deque()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._open: set[Connection] = set()
        self._numbers = itertools.count()
        self._connections = 0
        self.room = ModelRoom(load_s=load_s, one_at_a_time=one_model_at_a_time, slots=slots)
        self._answering = Answering(self)

    # Life.

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        where = self.base_url if self._port else "not started"
        state = "" if self._thread else " · stopped" if self._port else ""
        return f"<ScriptedServer {self.style.name} · {where}{state} · {len(self._log)} requests>"

    def start(self) -> Self:
        """Listen; returns when requests can come. After `stop()` it listens on the same port again.

        Raises:
            OSError: If the port is taken.
            RuntimeError: If it runs already.
        """
        if self._thread is not None:
            raise RuntimeError(f"{self!r} is running already.")
        self.room = ModelRoom(load_s=self.load_s, one_at_a_time=self.one_model_at_a_time, slots=self.slots)
        self.state = {}
        if self.style.begin is not None:
            self.style.begin(self)
        ready: list[BaseException | None] = []
        listening = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready, listening), name="scripted-server", daemon=True)
        self._thread.start()
        listening.wait()
        if (error := ready[0]) is not None:
            self._thread.join()
            self._thread = None
            raise error
        return self

    def stop(self) -> None:
        """Close the port and every connection, and end the thread; a second call does nothing."""
        thread, loop, stopping = self._thread, self._loop, self._stopping
        if thread is None or loop is None or stopping is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop ended on its own
            loop.call_soon_threadsafe(stopping.set)
        thread.join()
        self._thread = None

    def _run(self, ready: list[BaseException | None], listening: threading.Event) -> None:
        try:
            asyncio.run(self._serve(ready, listening))
        except BaseException as error:
            if listening.is_set():
                raise
            ready.append(error)
            listening.set()

    async def _serve(self, ready: list[BaseException | None], listening: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        listener = await self._loop.create_server(self._new_connection, "127.0.0.1", self._port)
        self._port = listener.sockets[0].getsockname()[1]
        self.started_at = time.monotonic()
        ready.append(None)
        listening.set()
        await self._stopping.wait()
        # A closed listener takes no connection, and one that is half accepted would never be closed.
        while _accepting():  # noqa: ASYNC110  (asyncio tells of these tasks in no other way)
            await asyncio.sleep(0)
        listener.close()
        while self._open:
            for connection in list(self._open):
                connection.abort()
            await asyncio.sleep(0)
        self.room.close()

    def _new_connection(self) -> Connection:
        return Connection(self._handle, next(self._numbers), self._on_connection, self.keep_alive_s)

    def _on_connection(self, connection: Connection, opened: bool) -> None:
        if opened:
            self._open.add(connection)
            self._connections += 1
        else:
            self._open.discard(connection)

    # Where it is.

    @property
    def port(self) -> int:
        """The port it listens on.

        Raises:
            RuntimeError: If it was never started.
        """
        if not self._port:
            raise RuntimeError("The server has no port before it is started: use `with ScriptedServer(...) as server`.")
        return self._port

    @property
    def root(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """The OpenAI address: `http://127.0.0.1:PORT/v1` for most."""
        return self.root + self.style.api_path

    # What it says.

    def enqueue(self, *scripts: ScriptSource, model: str | None = None, path: str = CHAT) -> None:
        """Scripts for the next requests, one each, before the standing script has its turn again.

        Args:
            scripts: In the order of use.
            model: Only for requests of this model.
            path: Only for this path.
        """
        with self._changed:
            self._queue.extend((path, model, script) for script in scripts)

    def script_for(self, request: LoggedRequest, path: str, model: str | None = None) -> Script | None:
        """The script for a request; takes a queued one away. None for a path without one."""
        with self._changed:
            for place, (wanted_path, wanted_model, queued) in enumerate(self._queue):
                if wanted_path == path and wanted_model in (None, model):
                    del self._queue[place]
                    return queued(request) if callable(queued) else queued
        source = self.scripts.get(path)
        if source is None and path == CHAT:
            source = self.scripts.get(model or "", self.script)
        return source(request) if callable(source) else source

    # Its models.

    def said_of(self, model: str, name: str, default: Any = None) -> Any:
        """What `about` says of a model under that name, else of every model, else the default."""
        for known in (self.about.get(model), self.about.get("")):
            if known is not None and name in known:
                return known[name]
        return default

    @property
    def peak_answering(self) -> int:
        """The most chat answers that were given at once, those in the queue left out."""
        return self.room.peak

    @property
    def connections(self) -> int:
        """How many connections were opened so far."""
        return self._connections

    @property
    def loads(self) -> int:
        """How many times a model was loaded."""
        return len(self.room.loads)

    @property
    def load_log(self) -> list[str]:
        """The models loaded, in that order."""
        return list(self.room.loads)

    @property
    def loaded_models(self) -> list[str]:
        """The models in memory, those that are just loading left out."""
        return list(self.room.loaded)

    def is_loaded(self, model: str) -> bool:
        """Whether the model is in memory; where loading costs nothing it always is."""
        return model in self.room.loaded or not (self.load_s or self.one_model_at_a_time)

    # One request.

    async def _handle(self, connection: Connection, http: HttpRequest) -> None:
        entry = LoggedRequest(
            method=http.method,
            path=http.path,
            headers=http.headers,
            raw_body=http.body,
            connection=connection.number,
            received_at=http.at,
        )
        if self.log_path is not None and http.path == self.log_path:
            self._answering.send_log(connection, entry)
            return
        self._begin(entry)
        try:
            await self._answering.answer(connection, entry)
        finally:
            self._end(entry, client_left=connection.gone and not connection.closed_here)


def _accepting() -> bool:
    """Whether a client's connection is just being accepted."""
    return any(getattr(task.get_coro(), "__name__", "") == "_accept_connection2" for task in asyncio.all_tasks())
