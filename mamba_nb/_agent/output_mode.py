"""How an answer with a structure is asked for: by a JSON schema, by a tool, or in the prompt; and why so.

    native      the server holds the answer to a schema: probed, declared, or what its kind does for any model
    tool        the answer is the arguments of a tool: where a schema would leave no room for other tools' calls, and
                where tools are the better bet
    prompted    the schema stands in the prompt, and what comes is checked: where neither works

In: what is known of a model on its server. Out: a `Choice`. What a table merely claims counts least.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mamba_nb._agent.result import OutputMode
from mamba_nb.errors import MambaError, RequestRejected, ServerFailed, ToolsNotSupported
from mamba_nb.servers.facts import RANK
from mamba_nb.servers.kinds import kind_of

if TYPE_CHECKING:
    from mamba_nb.backends.profiles import Fact, ModelProfile

__all__ = ["Choice", "after_no_call", "choose", "given_mode", "instead_of", "is_known", "refused_schema"]

NO_SCHEMA = re.compile(r"response_format|json_object|json_schema|structured.?output|guided|grammar", re.IGNORECASE)
WORDS = {"verified": "a probe showed it", "declared": "the server declares it", "claimed": "a table says so"}


@dataclass(frozen=True, slots=True)
class Choice:
    """A way to ask for a structured answer.

    Attributes:
        mode: Which one.
        why: Why, in words; None for text.
        json_object: Whether a prompted answer can at least be held to be JSON.
        guessed: Whether nothing is known that speaks for it.
    """

    mode: OutputMode
    why: str | None = None
    json_object: bool = False
    guessed: bool = False


def given_mode(output_type: Any) -> OutputMode | None:
    """The mode that an output type says itself: `text` for text, that of pydantic-ai's markers; None for others."""
    from pydantic_ai.output import NativeOutput, PromptedOutput, TextOutput, ToolOutput

    if output_type is str or isinstance(output_type, TextOutput):
        return "text"
    if isinstance(output_type, NativeOutput):
        return "native"
    if isinstance(output_type, PromptedOutput):
        return "prompted"
    marked = output_type if isinstance(output_type, list | tuple) else [output_type]
    return "tool" if any(isinstance(each, ToolOutput) for each in marked) else None


def choose(profile: ModelProfile, server: str, *, tools: bool, prompted_tools: bool) -> Choice:
    """The way to ask this model on this server.

    Args:
        profile: What is known of it.
        server: The kind of server.
        tools: Whether the agent has tools of its own.
        prompted_tools: Whether these go into the prompt, where their calls and the answer share one schema.
    """
    schema, calls = profile.fact("supports_json_schema"), profile.fact("supports_tools")
    json_object = is_known(profile.fact("supports_json_object"), True)
    holds, why = _holds(schema, server)
    if tools and prompted_tools:  # a server that refuses their schema is asked again without it
        mode: OutputMode = "prompted" if is_known(schema, False) else "native"
        return Choice(mode, f"tools and answer share one schema; {why}", json_object)
    # Elsewhere than at OpenAI a schema is a grammar for the whole reply, and leaves no room for a call.
    if holds and (not tools or server == "openai"):
        return Choice("native", why)
    if tools:
        return Choice("tool", "held to a schema, a reply would have no room for the tools' calls" if holds else why)
    if calls.value is False:
        return Choice("prompted", f"{why}; no tools either: {_source(calls)}", json_object)
    said = f"tools: {_source(calls)}" if calls.rank else "tools are not ruled out"
    return Choice("tool", f"{why}; {said}", guessed=not is_known(calls, True) and not is_known(schema, False))


def instead_of(choice: Choice, error: MambaError) -> Choice | None:
    """What to try after the server refused the first request; None where nothing else is left."""
    if choice.mode == "tool" and isinstance(error, ToolsNotSupported):
        return Choice("prompted", "the server refused the tool that the answer was to be")
    if choice.mode == "native" and refused_schema(error):
        return Choice("prompted", "the server refused a schema")
    return None


def after_no_call(choice: Choice) -> Choice | None:
    """What to try where no reply had a call of the tool that the answer was to be; None where that was no guess."""
    if choice.mode != "tool" or not choice.guessed:
        return None
    return Choice("native", "no call came for an output tool, so the server was asked to hold to the schema")


def refused_schema(error: MambaError) -> bool:
    """Whether a server refused to hold an answer to a schema."""
    said = f"{error.message} {error.server_says or ''}"
    return isinstance(error, RequestRejected | ServerFailed) and NO_SCHEMA.search(said) is not None


def _holds(fact: Fact, server: str) -> tuple[bool, str]:
    if fact.rank >= RANK["declared"]:
        return bool(fact.value), f"schemas {'work' if fact.value else 'do not work'} here: {_source(fact)}"
    kind = kind_of(server)
    if kind is not None and kind.holds_schemas:
        return True, f"{kind.title} holds answers to a schema whatever the model"
    if fact.rank:
        return bool(fact.value), f"schemas {'work' if fact.value else 'do not work'}: {_source(fact)}"
    return False, "nothing is known of schemas here"


def _source(fact: Fact) -> str:
    said = WORDS.get(fact.source, fact.source)
    return f"{said} ({fact.evidence})" if fact.evidence else said


def is_known(fact: Fact, value: bool) -> bool:
    """Whether it is declared or verified to be so."""
    return fact.rank >= RANK["declared"] and fact.value is value
