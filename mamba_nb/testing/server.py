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
from typing import Literal, Self, TypeAlias

from mamba_nb.testing import styles
from mamba_nb.testing.answering import Answering
from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.models import ModelRoom
from mamba_nb.testing.script import Script
from mamba_nb.testing.wire import Connection, HttpRequest

__all__ = ["ScriptSource", "ScriptedServer"]

CHAT = "/v1/chat/completions"

ScriptSource: TypeAlias = Script | Callable[[LoggedRequest], Script]


class ScriptedServer:
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
        style: `plain`, `ollama`, `vllm`, `lmstudio` or `llamacpp`: how it words errors and what else it has.
        log_path: Where the log is to be had over HTTP, or None for nowhere.

    Attributes:
        created: Start time in seconds since the epoch, as `created` in `/v1/models`.
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
        style: str = "plain",
        log_path: str | None = None,
    ) -> None:
        self.style = styles.get(style)
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
        self.log_path = log_path
        self.created = int(time.time())
        self.started_at = 0.0
        self._port = port
        self._queue: deque[tuple[str, str | None, ScriptSource]] = deque()
        self._log: list[LoggedRequest] = []
        self._changed = threading.Condition()
        self._active = 0
        self._peak = 0
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
        """`http://127.0.0.1:PORT/v1`."""
        return f"{self.root}/v1"

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

    # What it saw.

    @property
    def requests(self) -> list[LoggedRequest]:
        """Every request so far, in the order of arrival."""
        return list(self._log)

    @property
    def chats(self) -> list[LoggedRequest]:
        """The requests for chat completions among them."""
        return [request for request in self.requests if request.path.endswith("/chat/completions")]

    @property
    def disconnects(self) -> int:
        """How many clients went away before the end of their answer."""
        return sum(request.disconnected for request in self.requests)

    @property
    def active(self) -> int:
        """How many requests are being answered or wait for their answer."""
        return self._active

    @property
    def peak_active(self) -> int:
        """The most requests that were active at once."""
        return self._peak

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

    def clear(self) -> None:
        """Forget the log; requests under way are still finished."""
        with self._changed:
            self._log.clear()
            self._peak = self._active

    def wait_for_requests(
        self, count: int, timeout_s: float = 10.0, *, chats_only: bool = False
    ) -> list[LoggedRequest]:
        """Wait until so many requests have come.

        Returns:
            The requests.

        Raises:
            TimeoutError: If they did not come in time.
        """

        def seen() -> list[LoggedRequest]:
            return self.chats if chats_only else self.requests

        self._wait(lambda: len(seen()) >= count, timeout_s, lambda: f"{count} requests were awaited")
        return seen()

    def wait_for_disconnects(self, count: int = 1, timeout_s: float = 10.0) -> None:
        """Wait until so many clients have gone away before the end of their answer.

        Raises:
            TimeoutError: If they did not in time.
        """
        self._wait(lambda: self.disconnects >= count, timeout_s, lambda: f"{count} disconnects were awaited")

    def wait_for_tokens(self, count: int, timeout_s: float = 10.0) -> None:
        """Wait until so many tokens have been sent, over all requests.

        Raises:
            TimeoutError: If they were not in time.
        """
        self._wait(
            lambda: sum(len(request.token_sent_at) for request in self.requests) >= count,
            timeout_s,
            lambda: f"{count} tokens were awaited",
            look_up_s=0.005,
        )

    def wait_idle(self, timeout_s: float = 10.0) -> None:
        """Wait until no request is being answered.

        Raises:
            TimeoutError: If some still are.
        """
        self._wait(lambda: self._active == 0, timeout_s, lambda: f"{self._active} requests are still active")

    def _wait(
        self, done: Callable[[], bool], timeout_s: float, what: Callable[[], str], look_up_s: float = 0.1
    ) -> None:
        end = time.monotonic() + timeout_s
        with self._changed:
            while not done():
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"{what()}; after {timeout_s} s there were: {self.requests}")
                self._changed.wait(min(left, look_up_s))

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
        with self._changed:
            self._log.append(entry)
            self._active += 1
            self._peak = max(self._peak, self._active)
            self._changed.notify_all()
        try:
            await self._answering.answer(connection, entry)
        finally:
            with self._changed:
                if entry.ended_at is None:
                    entry.ended_at = time.monotonic()
                    entry.disconnected = connection.gone and not connection.closed_here
                self._active -= 1
                self._changed.notify_all()
