"""vLLM's small shapes: its two error envelopes, an entry of `/v1/models`, what it adds to answers and chunks.

In: a status and words, a model, an answer in OpenAI's own shape. Out: the same as vLLM 0.32.0 gave it in recorded
replies.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import count_words
from mamba_nb.testing.script import Script, split_pieces
from mamba_nb.testing.styles.base import Reply, plain_model_entry

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

VERSION = "0.32.0"
FINGERPRINT = "vllm-0.32.0-dd8cb623"
NOT_FOUND = Reply(404, {"detail": "Not Found"})

_TYPES = {400: "BadRequestError", 404: "NotFoundError", 500: "InternalServerError"}


def error(status: int, message: str, *, type: str | None = None, param: str | None = None, code: Any = None) -> Reply:
    """An error of vLLM's own checks."""
    kind = type or _TYPES.get(status, "InternalServerError" if status >= 500 else "BadRequestError")
    return Reply(status, {"error": {"message": message, "type": kind, "param": param, "code": status}})


def refused(message: str, param: str | None = None, value: Any = None) -> Reply:
    """A 400 of its own checks; the parameter and its value stand behind the words, where there are any."""
    shown = f", value={value}" if value is not None else ""
    return error(400, f"{message} (parameter={param}{shown})" if param else message, param=param)


def invalid(where: Mapping[str, Any]) -> Reply:
    """A 400 of the body's validation."""
    return error(400, f"1 validation error:\n  {dict(where)}", type="Bad Request", param=str(where["loc"]))


def bad_json(detail: str) -> Reply:
    """A body that is no JSON; the location is the character at which reading stopped."""
    said, _, at = detail.partition(": line ")
    place = re.search(r"\(char (\d+)\)", at)
    return invalid(
        {
            "type": "json_invalid",
            "loc": f"body.{place.group(1) if place else 0}",
            "msg": "JSON decode error",
            "input": "<dict of 0 items>",
            "ctx": {"error": said},
        }
    )


def unknown_model(model: str, served: Sequence[str]) -> Reply:
    """404 with the names that it serves."""
    return error(404, f"The model `{model}` does not exist. Valid aliases: {', '.join(served)}.", param="model")


def context_of(server: ScriptedServer, model: str) -> int:
    """`max_model_len` of a model."""
    length: int = server.said_of(model, "context_length", server.context_length)
    return length


def entry(server: ScriptedServer, model: str) -> dict[str, Any]:
    """One entry of `/v1/models`; an adapter's has a parent and no length of its own."""
    permission = {
        "id": f"modelperm-{zlib.crc32(model.encode()):016x}",
        "object": "model_permission",
        "created": server.created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    parent = server.said_of(model, "parent")
    return {
        **plain_model_entry(server, model),
        "root": server.said_of(model, "root", model),
        "parent": parent,
        "max_model_len": None if parent else context_of(server, model),
        "permission": [permission],
    }


def prompt_tokens(body: Mapping[str, Any]) -> int:
    """Tokens of a chat request: the words of its messages and of its tools; the same in `usage` and `/tokenize`."""
    return count_words(body) + len(tool_pieces(body))


def tool_pieces(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The tools of a request as words; none where they are not shown to the model."""
    tools = body.get("tools")
    return split_pieces(str(tools)) if isinstance(tools, list) and tools and body.get("tool_choice") != "none" else ()


def choice(index: int, delta: dict[str, Any], logprobs: Any, finish_reason: str | None) -> dict[str, Any]:
    """One choice of a chunk."""
    if "tool_calls" in delta:
        delta = {**delta, "content": None, "tool_calls": [_call(part) for part in delta["tool_calls"]]}
    made = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
    if finish_reason is not None:
        made["stop_reason"] = None
    if "role" not in delta:
        made["token_ids"] = None
    return made


def _call(part: dict[str, Any]) -> dict[str, Any]:
    """A piece of a tool call; the one with the name has no arguments at all."""
    function = {name: value for name, value in part["function"].items() if value or name != "arguments"}
    return {**part, "function": function}


def last_touch(reply: dict[str, Any], body: Mapping[str, Any], script: Script) -> dict[str, Any]:
    """What vLLM adds to a whole answer or to a chunk, whose `object` tells which it is."""
    stopped_by = getattr(script, "stopped_by", None)
    choices = reply["choices"]
    if reply["object"] == "chat.completion":
        for made in choices:
            made |= {"stop_reason": stopped_by, "token_ids": None, "routed_experts": None}
        if "usage" in reply:
            reply["usage"] = {"prompt_tokens_details": None, "completion_tokens_details": None, **reply["usage"]}
        return {**reply, **_WHOLE}
    if choices and "role" in choices[0]["delta"]:
        reply |= {"prompt_token_ids": None, "prompt_text": None}
    if choices and reply.get("usage"):
        reply["usage"]["completion_tokens_details"] = None
    for made in choices:
        if "stop_reason" in made:
            made["stop_reason"] = stopped_by
    return reply


_EMPTY = ("service_tier", "prompt_logprobs", "prompt_token_ids", "prompt_text", "kv_transfer_params")
_WHOLE = dict.fromkeys((*_EMPTY, "ec_transfer_params", "metrics"))
