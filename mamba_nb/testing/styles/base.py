"""The shape of a server style: what differs between the kinds of servers, as data and small functions.

A style says how one kind of server words its errors, what it puts into chunks, which further paths it has.
The defaults here are OpenAI's own shapes. Functions that answer a path take the server and the request and
return a `Reply`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.script import ReasoningField, Script, ToolCallStyle

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

__all__ = ["Reply", "Route", "Streamed", "Style", "plain_choice"]


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. A dict or list as body is sent as JSON, text as text/plain, bytes as they are."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer that comes in pieces; each is sent as soon as it is there, as one chunk."""

    pieces: AsyncIterator[bytes]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Answered = Reply | Streamed
Route = Callable[["ScriptedServer", LoggedRequest], Answered | Awaitable[Answered]]


def plain_error(
    status: int, message: str, *, type: str | None = None, param: str | None = None, code: Any = None
) -> Reply:
    """OpenAI's error envelope."""
    kind = type or ("invalid_request_error" if status < 500 else "server_error")
    return Reply(status, {"error": {"message": message, "type": kind, "param": param, "code": code}})


def plain_not_found(method: str, path: str) -> Reply:
    """OpenAI's words for a path that it does not have."""
    return plain_error(404, f"Invalid URL ({method} {path})")


def plain_not_allowed(method: str, path: str, allowed: Sequence[str]) -> Reply:
    """OpenAI's words for a method that the path does not take."""
    reply = plain_error(405, f"Not allowed to {method} on {path} (HINT: Perhaps you meant to use a different method?)")
    return Reply(reply.status, reply.body, {"Allow": ", ".join(allowed)})


def plain_unauthorized(key: str | None) -> Reply:
    """OpenAI's two refusals; the key itself is not repeated, whole or in part."""
    if key is None:
        return plain_error(401, "You didn't provide an API key.")
    return plain_error(401, "Incorrect API key provided.", code="invalid_api_key")


def plain_unknown_model(model: str, served: Sequence[str]) -> Reply:
    """OpenAI's words for a model that it does not have."""
    message = f"The model `{model}` does not exist or you do not have access to it."
    return plain_error(404, message, code="model_not_found")


def plain_missing_model(served: Sequence[str]) -> Reply:
    """OpenAI's words where the request names no model."""
    return plain_error(400, "you must provide a model parameter")


def plain_loading() -> Reply:
    """What a server says that is up and not ready: llama-server's words, which others took over."""
    return Reply(503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}})


def plain_bad_json(detail: str) -> Reply:
    """OpenAI's words for a body that it cannot read."""
    return plain_error(400, "We could not parse the JSON body of your request. " + detail)


def plain_no_messages(missing: bool) -> Reply:
    """OpenAI's words for a chat request without messages, or with an empty list of them."""
    if not missing:
        message = (
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead."
        )
        return plain_error(400, message, param="messages", code="empty_array")
    return plain_error(
        400, "Missing required parameter: 'messages'.", param="messages", code="missing_required_parameter"
    )


def plain_model_entry(server: ScriptedServer, model: str) -> dict[str, Any]:
    """One entry of `/v1/models` as OpenAI gives it."""
    return {"id": model, "object": "model", "created": server.created, "owned_by": server.owned_by}


def plain_models(server: ScriptedServer, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole of `/v1/models`."""
    return {"object": "list", "data": entries}


def plain_choice(index: int, delta: dict[str, Any], logprobs: Any, finish_reason: str | None) -> dict[str, Any]:
    """One choice of a chunk, as OpenAI gives it."""
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}


def plain_health(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """`GET /health` of llama-server and mlx-lm."""
    return Reply(200, {"status": "ok"})


def plain_one_model(server: ScriptedServer, model: str) -> Reply:
    """`GET /v1/models/{model}` as OpenAI and Ollama have it."""
    served = server.style.match(model, server.models)
    if served is None:
        return server.style.unknown_model_reply(model, server.models)
    return Reply(200, server.style.model_entry(server, served))


def exact_name(model: str, served: Sequence[str]) -> str | None:
    """The served model of that name, or None."""
    return model if model in served else None


def under_v1(path: str) -> bool:
    """Whether a key is asked for at this path."""
    return path.startswith("/v1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How one kind of server behaves around the answer itself.

    Attributes:
        name: The style's name.
        owned_by: `owned_by` in `/v1/models`.
        headers: On every response.
        json_type: Content-Type of JSON.
        stream_type: Content-Type of a stream.
        closes_after_error: Whether an error is the last answer on its connection.
        reasoning_field: Where reasoning travels unless the script says.
        tool_call_style: How tool calls travel unless the script says.
        null_content_first: Whether the first chunk says `content: null`.
        role_alone: Whether the first chunk carries the role alone, before the first token.
        content_always: Whether every delta has `content`, if only an empty one.
        head_first: Whether the head of a stream leaves before the first token is there.
        finish_delta: The delta beside the finish reason of an answer without tool calls.
        message_extras: Further fields of the message in whole answers.
        null_logprobs: Whether whole answers say `logprobs: null` where there are none.
        cached_tokens: Whether usage always has `prompt_tokens_details`.
        fingerprint: `system_fingerprint` of whole answers, or None.
        chunk_fingerprint: Where it rides in streams: on every chunk, on the last one, or nowhere.
        done_after_error: Whether `[DONE]` follows an error in mid-stream.
        unknown_model: `404` refuses a model that is not served, `ignore` answers with the first one.
        needs_model: Whether a request without `model` is refused.
        names_served_model: Whether the reply names the model that answers, not the name asked for.
        takes_n: Whether `n` is honoured.
        embeddings: Whether `/v1/embeddings` is there.
        without_v1: Whether the `/v1` paths are there without the prefix too.
        takes_x_api_key: Whether the key may come as `X-Api-Key`.
        health: Answers `GET /health`, or None where the server has no such path.
        routes: Further paths, by method and path; one that ends in `/*` stands for every path below it.
        api_path: Where its OpenAI paths begin, for `base_url`.
        v1_too: Further prefixes that mean `/v1`.
        begin: Called when the server starts, to fill `server.state`.
        refuse_chat: Looks at a chat request whose model is served; None lets it pass.
        play: The script as this server would play it for this request: server, script, body, model.
        last_touch: What the server adds to a whole answer or to a chunk, told apart by `object`: gets it, the request's
            body and the script, and returns what is sent.
        no_messages: Words the refusal of a chat request whose messages are missing (True) or empty (False);
            None where it is not refused.
    """

    name: str
    owned_by: str
    headers: Mapping[str, str] = field(default_factory=dict)
    json_type: str = "application/json"
    stream_type: str = "text/event-stream"
    closes_after_error: bool = False
    reasoning_field: ReasoningField = "reasoning"
    tool_call_style: ToolCallStyle = "pieces"
    null_content_first: bool = True
    role_alone: bool = True
    content_always: bool = False
    head_first: bool = False
    finish_delta: Mapping[str, Any] = field(default_factory=dict)
    message_extras: Mapping[str, Any] = field(default_factory=dict)
    null_logprobs: bool = True
    cached_tokens: bool = False
    fingerprint: str | None = None
    chunk_fingerprint: Literal["every", "last", "none"] = "none"
    done_after_error: bool = False
    unknown_model: Literal["404", "ignore"] = "404"
    needs_model: bool = True
    names_served_model: bool = False
    takes_n: bool = True
    embeddings: bool = True
    without_v1: bool = False
    takes_x_api_key: bool = False
    health: Route | None = plain_health
    routes: Mapping[tuple[str, str], Route] = field(default_factory=dict)
    api_path: str = "/v1"
    v1_too: tuple[str, ...] = ()
    begin: Callable[[ScriptedServer], None] | None = None
    refuse_chat: Callable[[ScriptedServer, LoggedRequest], Reply | None] | None = None
    play: Callable[[ScriptedServer, Script, Mapping[str, Any], str], Script] | None = None
    last_touch: Callable[[dict[str, Any], Mapping[str, Any], Script], dict[str, Any]] | None = None
    error: Callable[..., Reply] = plain_error
    not_found: Callable[[str, str], Reply] = plain_not_found
    not_allowed: Callable[[str, str, Sequence[str]], Reply] = plain_not_allowed
    unauthorized: Callable[[str | None], Reply] = plain_unauthorized
    unknown_model_reply: Callable[[str, Sequence[str]], Reply] = plain_unknown_model
    missing_model: Callable[[Sequence[str]], Reply] = plain_missing_model
    loading: Callable[[], Reply] = plain_loading
    bad_json: Callable[[str], Reply] = plain_bad_json
    no_messages: Callable[[bool], Reply | None] = plain_no_messages
    no_embeddings: Callable[[], Reply] = lambda: plain_not_found("POST", "/v1/embeddings")
    model_entry: Callable[[ScriptedServer, str], dict[str, Any]] = plain_model_entry
    models: Callable[[ScriptedServer, list[dict[str, Any]]], dict[str, Any]] = plain_models
    one_model: Callable[[ScriptedServer, str], Reply] | None = plain_one_model
    choice: Callable[[int, dict[str, Any], Any, str | None], dict[str, Any]] = plain_choice
    match: Callable[[str, Sequence[str]], str | None] = exact_name
    guarded: Callable[[str], bool] = under_v1
    answer_id: Callable[[int], str] = lambda number: f"chatcmpl-{number:016x}"
    timings: Callable[[int, int, float, float], dict[str, Any]] | None = None
