"""From a logged request to an answer on the wire: the paths, the refusals, the pace.

In: a connection and the request that came on it. Out: bytes, at the times the script says, and the stamps
of each write in the log. Runs on the server's loop.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import time
import traceback
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mamba_nb.testing import embeddings
from mamba_nb.testing.chunks import Answer
from mamba_nb.testing.events import Event, fragments, to_json
from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.replies import WORDS, encoded, merged
from mamba_nb.testing.script import Script
from mamba_nb.testing.styles.base import Answered, Reply, Route, Streamed, Style
from mamba_nb.testing.wire import Connection

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

__all__ = ["Answering"]

CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"
MODELS = "/v1/models"
UNEXPECTED = {"error": "Unexpected endpoint or method. (POST /chat/completions)"}


class Answering:
    """Answers the requests of one server."""

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self._answers = 0

    @property
    def _style(self) -> Style:
        return self._server.style  # read anew: a style may put another in its place when the server starts

    async def answer(self, connection: Connection, entry: LoggedRequest) -> None:
        """Answer one request; returns when the last byte is written or the script closed the connection."""
        try:
            await self._answer(connection, entry)
        except Exception:
            if entry.status is not None:
                connection.abort()
                raise
            self._send(connection, entry, Reply(500, f"The script failed.\n{traceback.format_exc()}"))

    def send_log(self, connection: Connection, entry: LoggedRequest) -> None:
        """Answer with the log; this request does not enter it."""
        server = self._server
        log = {
            "requests": [request.to_dict() for request in server.requests],
            "active": server.active,
            "connections": server.connections,
            "loads": server.load_log,
            "now": time.monotonic(),
        }
        self._send(connection, entry, Reply(200, log))

    async def _answer(self, connection: Connection, entry: LoggedRequest) -> None:
        server, style = self._server, self._style
        path = entry.path.partition("?")[0]
        if style.without_v1 and f"/v1{path}" in _V1_PATHS:
            path = f"/v1{path}"
        for prefix in style.v1_too:
            if path.startswith(prefix + "/"):
                path = f"/v1{path.removeprefix(prefix)}"
        if time.monotonic() < server.started_at + server.loading_s and path != "/lmstudio-greeting":
            self._send(connection, entry, style.loading())
            return
        if (refusal := self._check_key(entry, path)) is not None:
            self._send(connection, entry, refusal)
        elif path == CHAT and entry.method == "POST":
            await self._chat(connection, entry)
        else:
            script = server.script_for(entry, path)
            if script is not None and await self._instead(connection, entry, script):
                return
            reply = await self._reply(entry, path)
            if script is not None:
                await asyncio.sleep(script.ttft_s)
                reply = replace(reply, headers={**reply.headers, **script.headers})
            if isinstance(reply, Streamed):
                await self._pass_on(connection, entry, reply)
            else:
                self._send(connection, entry, reply)

    def _check_key(self, entry: LoggedRequest, path: str) -> Reply | None:
        if self._server.api_key is None or not self._style.guarded(path):
            return None
        scheme, _, key = entry.headers.get("authorization", "").partition(" ")
        given = key.strip() if scheme.lower() == "bearer" else None
        given = given or (entry.headers.get("x-api-key") if self._style.takes_x_api_key else None)
        return None if given == self._server.api_key else self._style.unauthorized(given)

    # Whole answers.

    async def _reply(self, entry: LoggedRequest, path: str) -> Answered:
        answered = self._whole_reply(entry, path)
        return await answered if inspect.isawaitable(answered) else answered

    async def _pass_on(self, connection: Connection, entry: LoggedRequest, streamed: Streamed) -> None:
        entry.status = streamed.status
        connection.start(streamed.status, merged(self._server.headers, streamed.headers), length=None)
        pieces = streamed.pieces
        try:
            async for piece in pieces:
                entry.sent_at.append(time.monotonic())
                connection.send(piece)
                await connection.drain()
        except ConnectionResetError:  # how a route says that the server dies here
            entry.ended_at = time.monotonic()
            _end(connection, "cut")
            return
        finally:
            if inspect.isasyncgen(pieces):
                await pieces.aclose()  # now, and not when the collector finds it: it may hold a slot
        entry.ended_at = time.monotonic()
        connection.finish()

    def _whole_reply(self, entry: LoggedRequest, path: str) -> Answered | Awaitable[Answered]:
        routes = self._routes()
        route = routes.get((entry.method, path))
        if route is None:
            route = next(
                (
                    found
                    for (method, known), found in routes.items()
                    if method == entry.method and known.endswith("/*") and path.startswith(known[:-1])
                ),
                None,
            )
        if route is not None:
            if entry.method in ("POST", "DELETE") and (refusal := self._read_json(entry)) is not None:
                return refusal
            return route(self._server, entry)
        if entry.method == "HEAD" and (route := routes.get(("GET", path))) is not None:
            return route(self._server, entry)
        if entry.method == "GET" and path.startswith(MODELS + "/") and self._style.one_model is not None:
            return self._style.one_model(self._server, path.removeprefix(MODELS + "/"))
        if allowed := sorted({method for method, known in [*routes, ("POST", CHAT)] if known == path}):
            return self._style.not_allowed(entry.method, entry.path, allowed)
        return self._style.not_found(entry.method, entry.path)

    def _routes(self) -> dict[tuple[str, str], Route]:
        routes: dict[tuple[str, str], Route] = {
            ("GET", MODELS): _models,
            ("POST", EMBEDDINGS): embeddings.reply if self._server.embeddings else _no_embeddings,
        }
        if self._style.health is not None:
            routes["GET", "/health"] = self._style.health
        return {**routes, **self._style.routes}

    def _read_json(self, entry: LoggedRequest) -> Reply | None:
        """Put the JSON body into the log entry, or say what is wrong with it."""
        try:
            entry.body = json.loads(entry.raw_body or (b"{}" if entry.method == "DELETE" else b""))
        except (ValueError, RecursionError) as error:
            return self._style.bad_json(str(error))
        if not isinstance(entry.body, dict):
            return self._style.bad_json("It must be an object.")
        return None

    def _send(self, connection: Connection, entry: LoggedRequest, reply: Reply) -> None:
        body, kind = encoded(reply.body, self._style.json_type)
        headers = merged(self._server.headers, {"Content-Type": kind} if kind else {}, reply.headers)
        entry.status = reply.status
        last = reply.status >= 400 and self._style.closes_after_error
        connection.start(reply.status, headers, length=len(body), last=last)
        entry.ended_at = time.monotonic()
        entry.sent_at.append(entry.ended_at)
        connection.send(b"" if entry.method == "HEAD" else body)
        connection.finish()

    async def _instead(self, connection: Connection, entry: LoggedRequest, script: Script) -> bool:
        """Play the part of a script that needs no answer: silence, an HTTP error, a raw body."""
        if script.never:
            await asyncio.Event().wait()
        body: Any = script.error_body
        if script.fault == "error_200":
            body = UNEXPECTED if body is None else body
        elif script.status == 200 and (body is None or script.fault == "error_mid_stream"):
            return False
        await asyncio.sleep(script.ttft_s)
        if script.fault in ("cut", "reset"):
            _end(connection, "reset" if script.fault == "reset" else "cut")
            return True
        reply = self._style.error(script.status, WORDS.get(script.status, "Scripted error."))
        if body is not None:
            reply = Reply(script.status, body, reply.headers)
        self._send(connection, entry, replace(reply, headers={**reply.headers, **script.headers}))
        return True

    # Chat.

    async def _chat(self, connection: Connection, entry: LoggedRequest) -> None:
        server, style = self._server, self._style
        if (refusal := self._read_json(entry)) is not None:
            self._send(connection, entry, refusal)
            return
        body = entry.body
        asked = body["model"] if isinstance(body.get("model"), str) else None
        served = style.match(asked, server.models) if asked else None
        if (refusal := self._check_chat(body, served)) is not None:
            self._send(connection, entry, refusal)
            return
        script = server.script_for(entry, CHAT, served or asked)
        assert script is not None
        if await self._instead(connection, entry, script):
            return
        first = server.models[0] if server.models else "unknown"
        model = served or (asked if asked and not style.names_served_model else first)
        if style.refuse_chat is not None and (refusal := style.refuse_chat(server, entry)) is not None:
            self._send(connection, entry, refusal)
            return
        if style.play is not None:
            script = style.play(server, script, body, model)
        async with server.room.enter(model):
            self._answers += 1
            named = model if style.names_served_model or not asked else asked
            answer = Answer(
                script=script,
                style=style,
                body=body,
                id=style.answer_id(self._answers),
                model=script.model_in_reply or named,
                created=int(time.time()),
            )
            if body.get("stream") and script.fault != "json_instead_of_stream":
                await self._stream(connection, entry, answer)
            else:
                await self._whole(connection, entry, answer)

    def _check_chat(self, body: Mapping[str, Any], served: str | None) -> Reply | None:
        server, style = self._server, self._style
        messages = body.get("messages")
        if (not isinstance(messages, list) or not messages) and (
            refusal := style.no_messages(not isinstance(messages, list))
        ) is not None:
            return refusal
        model = body.get("model")
        if not isinstance(model, str) or not model:
            return style.missing_model(server.models) if style.needs_model else None
        if served is None and server.unknown_model == "404":
            return style.unknown_model_reply(model, server.models)
        return None

    async def _whole(self, connection: Connection, entry: LoggedRequest, answer: Answer) -> None:
        await asyncio.sleep(answer.due_s(len(answer.deltas)))
        body = to_json(answer.whole())
        script = answer.script
        headers = merged(self._server.headers, {"Content-Type": self._style.json_type}, script.headers)
        entry.status = 200
        connection.start(200, headers, length=len(body))
        entry.ended_at = time.monotonic()
        entry.sent_at.append(entry.ended_at)
        if script.fault in ("cut", "reset"):
            connection.send(body[: len(body) // 2])
            _end(connection, script.fault)
            return
        entry.token_sent_at.append(entry.ended_at)
        connection.send(body)
        connection.finish()

    async def _stream(self, connection: Connection, entry: LoggedRequest, answer: Answer) -> None:
        script, style = answer.script, answer.style
        start = time.monotonic()
        headers = merged(self._server.headers, {"Content-Type": style.stream_type}, script.headers)
        entry.status = 200
        connection.start(200, headers, length=None, now=style.head_first)
        for event in answer.events():
            # Even an event that is due lets the loop turn: other answers go on, a client that left is noticed.
            await asyncio.sleep(max(0.0, start + event.at_s - time.monotonic()))
            await self._write(connection, entry, event, script)
            if event.then is not None:
                entry.ended_at = time.monotonic()
                _end(connection, event.then)
                return
        entry.ended_at = entry.ended_at or time.monotonic()
        connection.finish()

    async def _write(self, connection: Connection, entry: LoggedRequest, event: Event, script: Script) -> None:
        pieces = fragments(event.data, script.fault) if script.fault else [event.data]
        for place, piece in enumerate(pieces):
            if place:
                await asyncio.sleep(0.001 if script.fault == "split_utf8" else 0)
            if place == len(pieces) - 1 and piece:
                # The stamp stands in the log before the bytes are out, so a client that has them can look.
                at = time.monotonic()
                entry.sent_at.append(at)
                if event.token:
                    entry.token_sent_at.append(at)
                if event.final:
                    entry.ended_at = at
            connection.send(piece)
        await connection.drain()


_V1_PATHS = (CHAT, EMBEDDINGS, MODELS, "/v1/health")


def _end(connection: Connection, how: str) -> None:
    if how == "reset":
        connection.abort(reset=True)
    else:
        connection.close()


def _models(server: ScriptedServer, request: LoggedRequest) -> Reply:
    entries = [server.style.model_entry(server, model) for model in server.models]
    return Reply(200, server.style.models(server, entries))


def _no_embeddings(server: ScriptedServer, request: LoggedRequest) -> Reply:
    return server.style.no_embeddings()
