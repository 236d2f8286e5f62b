"""What people give an agent, checked and turned into what pydantic-ai and the backends take.

Everything that can be refused is refused here, before anything is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mamba_nb._agent.result import AgentResult
from mamba_nb.backends._prompt import messages_from
from mamba_nb.backends.backend import OpenAICompatibleBackend
from mamba_nb.backends.factories import backend_for
from mamba_nb.errors import BadInput
from mamba_nb.servers.kinds import kind_by_address
from mamba_nb.settings import AgentSettings

if TYPE_CHECKING:
    from pydantic_ai import Agent as PydanticAgent
    from pydantic_ai.messages import ModelMessage, UserContent

__all__ = [
    "backend_from",
    "checked_tools",
    "checked_toolsets",
    "content_from",
    "engine_from",
    "history_from",
    "name_of",
    "names_in",
]


def backend_from(model: str | None, settings: AgentSettings | None, options: dict[str, Any]) -> OpenAICompatibleBackend:
    """The backend for a model given by name, or by the settings alone; the options win over the settings."""
    if settings is None:
        settings = AgentSettings()
    elif not isinstance(settings, AgentSettings):
        raise BadInput(
            f"settings must be AgentSettings; this is {type(settings).__name__}.",
            hint='For example AgentSettings(model_backend={"model": "llama3.2"}).',
        )
    chosen = settings.model_backend
    if model is None:
        options.setdefault("server", kind_by_address(options.get("base_url", chosen.base_url)))
        return OpenAICompatibleBackend.from_settings(settings, **options)
    if not isinstance(model, str):
        raise BadInput(f"model must be a name or a backend; this is {type(model).__name__}.")
    given = {
        "temperature": chosen.temperature,
        "max_tokens": chosen.max_tokens,
        "timeout": chosen.timeout,
        "max_retries": chosen.max_retries,
    }
    return backend_for(model, settings, **{**given, **options})


def engine_from(*, tools: Sequence[Any], toolsets: Sequence[Any], **options: Any) -> PydanticAgent[Any, Any]:
    """pydantic-ai's agent, without a model: each run brings its own."""
    import pydantic_ai.models.openai  # noqa: F401 - now, and not on the loop at the first run
    from pydantic_ai import Agent as PydanticAgent
    from pydantic_ai.exceptions import UserError

    try:
        return PydanticAgent(tools=tools, toolsets=toolsets or None, **options)
    except UserError as error:
        raise BadInput(str(error)) from error


def checked_tools(tools: Any) -> list[Any]:
    """The tools, each a function or a pydantic-ai tool."""
    if isinstance(tools, str | Mapping) or not isinstance(tools, Sequence):
        raise BadInput(
            f"tools must be a list of functions; this is {type(tools).__name__}.",
            hint="Write tools=[get_weather].",
        )
    for tool in tools:
        if not callable(tool) and not hasattr(tool, "function_schema"):
            raise BadInput(f"A tool is a function or a pydantic_ai.Tool; this is {type(tool).__name__}: {tool!r}.")
    return list(tools)


def checked_toolsets(toolsets: Any) -> list[Any]:
    """The toolsets, each pydantic-ai's own (MCP servers among them) or a function that gives one."""
    if isinstance(toolsets, str | Mapping) or not isinstance(toolsets, Sequence):
        raise BadInput(
            f"toolsets must be a list of pydantic-ai's toolsets; this is {type(toolsets).__name__}.",
            hint='Write toolsets=[MCPToolset("server.py")].',
        )
    for toolset in toolsets:
        if not callable(toolset) and not hasattr(toolset, "get_tools"):
            raise BadInput(
                f"A toolset is one of pydantic-ai's; this is {type(toolset).__name__}.",
                hint="Functions go into tools=[...]; an MCP server is pydantic_ai.mcp.MCPToolset(...).",
            )
    return list(toolsets)


def names_in(toolset: Any) -> list[str]:
    """What a repr says of a toolset: the names of its functions where it holds some, else its own."""
    functions = getattr(toolset, "tools", None)
    if isinstance(functions, Mapping) and functions:
        return [str(name) for name in functions]
    return [str(getattr(toolset, "id", None) or getattr(toolset, "label", None) or type(toolset).__name__)]


def name_of(tool: Any) -> str:
    """What the model calls the tool."""
    return str(getattr(tool, "name", None) or getattr(tool, "__name__", None) or type(tool).__name__)


def content_from(prompt: Any, history: Any) -> str | list[UserContent] | None:
    """The prompt in pydantic-ai's form; paths, bytes and addresses become images."""
    from pydantic_ai.messages import BinaryContent, ImageUrl

    if prompt is None and history:
        return None
    if isinstance(prompt, str):
        messages_from(prompt)  # refuses an empty one
        return prompt
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes) or not prompt:
        raise BadInput(
            f"A prompt is text, or a list that mixes text and images; this is {type(prompt).__name__}.",
            hint="An earlier conversation goes into message_history.",
        )
    content: list[UserContent] = []
    for part in messages_from([{"role": "user", "content": list(prompt)}])[0]["content"]:
        if part["type"] == "text":
            content.append(part["text"])
        elif part["type"] == "image_url":
            url = part["image_url"]["url"]
            content.append(BinaryContent.from_data_uri(url) if url.startswith("data:") else ImageUrl(url=url))
        else:
            raise BadInput(f"A prompt's parts are text and images; this is {part['type']!r}.")
    return content


def history_from(given: Any) -> list[ModelMessage]:
    """The conversation as pydantic-ai's messages."""
    from pydantic import ValidationError
    from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelRequest, ModelResponse

    if given is None:
        return []
    if isinstance(given, AgentResult):
        return list(given.messages)
    try:
        if isinstance(given, str | bytes):
            return ModelMessagesTypeAdapter.validate_json(given)
        if isinstance(given, Sequence) and all(isinstance(item, ModelRequest | ModelResponse) for item in given):
            return list(given)
        return ModelMessagesTypeAdapter.validate_python(given)
    except ValidationError as error:
        raise BadInput(
            f"message_history is not a conversation: {error.errors(include_url=False)[0]['msg']}.",
            hint="Hand back an earlier result, or its .messages.",
        ) from error
