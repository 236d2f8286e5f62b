"""What vLLM refuses of a chat request, in its words.

In: the request. Out: its refusal, or None. The texts are those of recorded replies of vLLM 0.32.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.styles.base import Reply
from mamba_nb.testing.styles.vllm_schemas import wrong_type
from mamba_nb.testing.styles.vllm_shapes import NOT_FOUND, context_of, error, invalid, prompt_tokens, refused

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

MOST_LOGPROBS = 20
AUTO = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
NO_TOOLS = "`tools` must not be an empty array. Either provide at least one tool or omit the field entirely."
OTHER_TOOL = "The tool specified in `tool_choice` does not match any of the specified `tools`"
EMPTY = "Cannot apply chat template to an empty conversation. Provide at least one message."
TOO_LONG = (
    "This model's maximum context length is {most} tokens. However, your prompt contains at least {least} input "
    "tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt."
)


def refuse(server: ScriptedServer, request: LoggedRequest) -> Reply | None:
    """The refusal of a chat request, or None."""
    body = request.body
    if server.options.get("task", "generate") != "generate":
        return NOT_FOUND
    asked = body.get("model")
    model = asked if isinstance(asked, str) and asked else (server.models or ("unknown",))[0]
    return (
        _messages(body)
        or _temperature(body)
        or _logprobs(body)
        or _tools(body, server.options.get("tool_parser", "hermes"))
        or _schema(body)
        or _images(server, body, model)
        or _lengths(body, context_of(server, model))
    )


def _messages(body: Mapping[str, Any]) -> Reply | None:
    messages = body.get("messages")
    if not isinstance(messages, list):
        size = f"<dict of {len(body)} items>"
        return invalid({"type": "missing", "loc": "body.messages", "msg": "Field required", "input": size})
    return None if messages else error(400, EMPTY)


def _temperature(body: Mapping[str, Any]) -> Reply | None:
    value = body.get("temperature")
    if isinstance(value, str):
        message = "Input should be a valid number, unable to parse string as a number"
        return invalid({"type": "float_parsing", "loc": "body.temperature", "msg": message, "input": value})
    if _number(value) and value < 0:
        shown = float(value)
        return refused(f"temperature must be non-negative, got {shown}.", "temperature", shown)
    return None


def _logprobs(body: Mapping[str, Any]) -> Reply | None:
    top = body.get("top_logprobs")
    if top and not body.get("logprobs"):
        return refused("when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs")
    if _number(top) and top > MOST_LOGPROBS:
        message = f"Requested sample logprobs of {top}, which is greater than max allowed: {MOST_LOGPROBS}"
        return refused(message, "logprobs", top)
    return None


def _tools(body: Mapping[str, Any], parser: str | None) -> Reply | None:
    tools, wanted = body.get("tools"), body.get("tool_choice")
    if tools is None:
        return None
    if not tools:
        return refused(NO_TOOLS, "tools")
    named = _named(wanted)
    if named is not None and named not in tool_names(tools):
        return refused(OTHER_TOOL, "tool_choice")
    if parser is not None or wanted == "none":
        return None
    if named is not None:
        return error(400, f'tool_choice=function "{named}" requires --tool-call-parser to be set')
    if wanted == "required":
        return error(400, 'tool_choice="required" requires --tool-call-parser to be set')
    return error(400, AUTO)


def _named(choice: Any) -> str | None:
    """The name in a `tool_choice` that names a function, or None."""
    function = choice.get("function") if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else None


def tool_names(tools: Any) -> dict[str, Any]:
    """Name -> parameters of the tools of a request."""
    functions = [tool.get("function") for tool in tools if isinstance(tool, Mapping)] if isinstance(tools, list) else []
    return {str(f["name"]): f.get("parameters") for f in functions if isinstance(f, Mapping) and "name" in f}


def schema_of(body: Mapping[str, Any]) -> Any:
    """The JSON schema that the answer must have, or None; `guided_json` is not read any more."""
    form = body.get("response_format")
    if isinstance(form, Mapping) and form.get("type") == "json_object":
        return {"type": "object", "properties": {"answer": {"type": "string"}}}
    if isinstance(form, Mapping) and form.get("type") == "json_schema":
        given = form.get("json_schema")
        return given.get("schema") if isinstance(given, Mapping) else None
    outputs = body.get("structured_outputs")
    return outputs.get("json") if isinstance(outputs, Mapping) else None


def _schema(body: Mapping[str, Any]) -> Reply | None:
    wrong = wrong_type(schema_of(body))
    return None if wrong is None else error(400, f"Grammar error: Invalid type: {wrong}")


def _images(server: ScriptedServer, body: Mapping[str, Any], model: str) -> Reply | None:
    if server.said_of(model, "vision", False):
        return None
    for message in body["messages"]:
        parts = message.get("content") if isinstance(message, Mapping) else None
        if isinstance(parts, list) and any(
            isinstance(part, Mapping) and part.get("type") == "image_url" for part in parts
        ):
            return error(400, f"{model} is not a multimodal model")
    return None


def _lengths(body: Mapping[str, Any], most: int) -> Reply | None:
    for name in ("max_tokens", "max_completion_tokens"):
        value = body.get(name)
        if not _number(value):
            continue
        if value < 1:
            return refused(f"{name} must be at least 1, got {value}.", name, value)
        if value > most:
            message = f"{name}={value} cannot be greater than max_model_len={most}. Please request fewer output tokens."
            return refused(message, name, value)
    if prompt_tokens(body) > most:
        return refused(TOO_LONG.format(most=most, least=most + 1), "input_tokens", most + 1)
    return None


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
