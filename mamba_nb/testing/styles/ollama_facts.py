"""What the Ollama style knows of its models and of itself: names, capabilities, the context in force, who is in memory.

In: the server, its `about` and `options`. Out: values that the native and the OpenAI paths both build on. A token is
a word here, as everywhere in the scripted server.

Sources: Ollama's `server/routes.go` (modelOptions, PsHandler), `server/prompt.go` (chatPrompt), `llm/llama_server.go`
(the cut of a prompt that is still too long), `api/types.go` (Duration, ModelDetails).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import text_of
from mamba_nb.testing.script import Script

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

__all__ = [
    "capabilities",
    "context_of",
    "cut_prompt",
    "digest_of",
    "family_of",
    "full_name",
    "is_at_least",
    "is_remote",
    "keep_alive_s",
    "match",
    "put_in_force",
    "said",
    "seen_messages",
    "stays_for",
    "sweep",
    "unload",
]

VERSION = "0.33.0"
SIZE = 2_019_393_189
MODEL_CONTEXT = 131_072
KEEP_ALIVE_S = 300.0
FOREVER_S = 292 * 365 * 86_400.0  # Go's longest duration
NUM_KEEP = 4
UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


# Names.


def tagged(model: str) -> str:
    """The name with its tag: `x` means `x:latest`."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def match(model: str, served: Sequence[str]) -> str | None:
    """The served name that is meant, whatever the case of its letters; None where there is none."""
    wanted = tagged(model).lower()
    return next((name for name in served if tagged(name).lower() == wanted), None)


def full_name(model: str) -> str:
    """The name with registry and namespace, as Ollama's scheduler writes it into its errors.

    Examples:
        >>> full_name("llama3.2")
        'registry.ollama.ai/library/llama3.2:latest'
    """
    parts = tagged(model).split("/")
    before = ("registry.ollama.ai", "library")[: max(0, 3 - len(parts))]
    return "/".join((*before, *parts))


def namespace_of(model: str) -> str:
    """Who owns the model: `library` where the name does not say."""
    parts = model.split("/")
    return parts[-2] if len(parts) > 1 else "library"


# What is said of a model.


def said(server: ScriptedServer, model: str, name: str, default: Any = None) -> Any:
    """What a created model brought along, else what `about` says, with and without the tag."""
    bare = model.removesuffix(":latest")
    for key in dict.fromkeys((model, bare, tagged(model))):
        for known in (server.state.get("about", {}).get(key), server.about.get(key)):
            if known is not None and name in known:
                return known[name]
    return server.said_of("", name, default)


def capabilities(server: ScriptedServer, model: str) -> list[str]:
    """What it is declared to do; by default chat and tools, thinking where the script thinks, or embedding by name."""
    known = said(server, model, "capabilities")
    if known is not None:
        return list(known)
    if "embed" in model.lower():
        return ["embedding"]
    script = server.scripts.get(model, server.script)
    thinks = isinstance(script, Script) and bool(script.reasoning)
    return ["completion", "tools", *(["thinking"] if thinks else [])]


def is_remote(server: ScriptedServer, model: str) -> bool:
    """Whether it runs in Ollama's cloud."""
    return bool(said(server, model, "remote_host"))


def family_of(server: ScriptedServer, model: str) -> str:
    """Its architecture's name."""
    default = "nomic-bert" if "embedding" in capabilities(server, model) else "llama"
    return str(said(server, model, "family", default))


def digest_of(server: ScriptedServer, model: str) -> str:
    """The manifest's SHA-256, without its prefix."""
    return str(said(server, model, "digest", hashlib.sha256(tagged(model).encode()).hexdigest()))


# Versions.


def version_of(server: ScriptedServer) -> str:
    """The version it says it is."""
    return str(server.options.get("version", VERSION))


def is_at_least(server: ScriptedServer, wanted: str) -> bool:
    """Whether its version is that one or a later one."""
    return _numbers(version_of(server)) >= _numbers(wanted)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("-")[0])[:3])


# Memory.


def unload(server: ScriptedServer, model: str) -> None:
    """Take it out of memory."""
    while model in server.room.loaded:
        server.room.loaded.remove(model)
    for kept in ("context", "ends"):
        server.state[kept].pop(model, None)


def sweep(server: ScriptedServer) -> None:
    """Take out of memory what was to be kept for a time that is over."""
    now = datetime.now(UTC)
    for model, end in list(server.state["ends"].items()):
        if end <= now and not server.room.busy:
            unload(server, model)


def stays_for(server: ScriptedServer, model: str, seconds: float) -> None:
    """Keep it in memory for so long from now; none at all takes it out."""
    if seconds <= 0:
        unload(server, model)
    else:
        server.state["ends"][model] = datetime.now(UTC) + timedelta(seconds=min(seconds, FOREVER_S))


def keep_alive_s(given: Any, default: float = KEEP_ALIVE_S) -> float:
    """`keep_alive` as seconds: `"10m"`, `"1h30m"`, 3600, 0, -1 for ever.

    Raises:
        ValueError: In Go's words, for what it cannot read.

    Examples:
        >>> keep_alive_s("10m"), keep_alive_s(0), keep_alive_s(None, 300.0)
        (600.0, 0.0, 300.0)
    """
    if given is None:
        return default
    if isinstance(given, int | float) and not isinstance(given, bool):
        return FOREVER_S if given < 0 else float(int(given))
    if not isinstance(given, str):
        raise ValueError(f"Unsupported type: '{'bool' if isinstance(given, bool) else type(given).__name__}'")
    sign, rest = (-1, given[1:]) if given.startswith("-") else (1, given.removeprefix("+"))
    if rest == "0":
        return 0.0
    parts = re.findall(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)", rest)
    if not parts or "".join(number + unit for number, unit in parts) != rest:
        missing = re.fullmatch(r"\d+\.?\d*", rest) is not None
        raise ValueError(f'time: {"missing unit in" if missing else "invalid"} duration "{given}"')
    seconds = sum(float(number) * UNITS_S[unit] for number, unit in parts)
    return FOREVER_S if sign < 0 else seconds


# The context.


def context_of(server: ScriptedServer, model: str, options: Mapping[str, Any] | None = None) -> int:
    """Tokens of context that a request gets: its own `num_ctx`, else the Modelfile's, else the server's; capped."""
    asked = (options or {}).get("num_ctx")
    if not isinstance(asked, int) or isinstance(asked, bool) or asked <= 0:
        asked = said(server, model, "num_ctx") or server.context_length
    return int(min(asked, said(server, model, "context_max", MODEL_CONTEXT)))


def put_in_force(server: ScriptedServer, model: str, context: int) -> None:
    """Make this the model's context; another one than it was loaded with makes it load again."""
    sweep(server)
    before = server.state["context"].get(model)
    if before is not None and before != context and model in server.room.loaded:
        unload(server, model)
    server.state["context"][model] = context


def seen_messages(messages: Sequence[Any], context: int) -> list[Any]:
    """What is left of a chat whose prompt does not fit: all system messages, and the rest from the end.

    The last message always stays, and a tool's result stays with the call that asked for it.

    Examples:
        >>> old, new = {"role": "user", "content": "a b c"}, {"role": "user", "content": "d e"}
        >>> seen_messages([old, new], 4) == [new]
        True
    """
    messages = list(messages)
    kept = messages
    for place in range(len(messages)):
        start = _start_of_block(messages, place)
        system = [message for message in messages[:start] if _role(message) == "system"]
        kept = system + messages[start:]
        if words_of(kept) <= context:
            break
    return kept


def _start_of_block(messages: Sequence[Any], place: int) -> int:
    start = place
    while start > 0 and _role(messages[start]) == "tool":
        start -= 1
    return start


def _role(message: Any) -> str:
    return str(message.get("role", "")) if isinstance(message, Mapping) else ""


def words_of(messages: Sequence[Any]) -> int:
    """Tokens of these messages."""
    return sum(len(text_of(message.get("content")).split()) for message in messages if isinstance(message, Mapping))


def cut_prompt(server: ScriptedServer, script: Script, messages: Any, context: int) -> int | None:
    """Tokens that are left of a prompt which does not fit; None where it fits.

    First the oldest messages go. What is still too long is cut in the middle: since llama-server runs the models, to
    its first four tokens and half of the rest of the context; before, to the context.
    """
    messages = messages if isinstance(messages, list) else []
    whole = words_of(messages) if script.prompt_tokens is None else script.prompt_tokens
    if whole <= context:
        return None
    left = words_of(seen_messages(messages, context)) if script.prompt_tokens is None else whole
    if left <= context:
        return left
    return NUM_KEEP + (context - NUM_KEEP) // 2 if is_at_least(server, "0.30") else context
