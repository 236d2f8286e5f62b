"""A chat as Python that asks the same again, without the widget. No key is ever in it."""

from __future__ import annotations

import keyword
import pprint
from collections.abc import Mapping, Sequence
from typing import Any

from mamba_nb.widgets.chat_asking import Answerer
from mamba_nb.widgets.chat_turns import Turn

__all__ = ["as_code"]

WIDTH = 100
KEY_VARIABLE = "MAMBA_MODEL_BACKEND__API_KEY"
RETRIES = 3  # of a backend where none were given
TIMEOUT_S = 30.0


def as_code(answerer: Answerer, turns: Sequence[Turn], system: str | None) -> str:
    """Python that puts the questions again, in their order, to the same model.

    Args:
        answerer: Who was asked.
        turns: The conversation; what was given at its start stands in the code as it is.
        system: The system prompt, or None.
    """
    given = [turn for turn in turns if not turn.generations]
    asked = [turn for turn in turns if turn.generations and turn.content is not None]
    has_key = answerer.backend is not None and answerer.backend.api_key_given and answerer.server != "embedded"
    lines = [*["import os", ""] * has_key, "import mamba_nb as mb", "", *_backend_lines(answerer)]
    questions = [turn.content for turn in asked]
    if answerer.agent is not None:
        return "\n".join([*lines, *_agent_lines(answerer, questions, system, bool(given))]) + "\n"
    messages = [message for turn in given for message in turn.messages]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    lines += ["", f"messages = {_literal(messages)}"]
    if questions:
        lines += [
            f"for question in {_literal(questions)}:",
            '    messages.append({"role": "user", "content": question})',
            f"    answer = backend.ask(messages{_keywords(answerer.params)})",
            '    messages.append({"role": "assistant", "content": answer.text})',
            "    print(answer.text)",
        ]
    return "\n".join(lines) + "\n"


def _backend_lines(answerer: Answerer) -> list[str]:
    backend = answerer.backend
    given = [f"    {name}={_literal(value)}," for name, value in (backend.params if backend else {}).items()]
    if backend is None or backend.server == "embedded":
        weights = (answerer.name or "").partition(":")[2]
        return ["backend = mb.create_embedded_backend(", *[f"    {weights!r},"] * bool(weights), *given, ")"]
    options: dict[str, Any] = {"base_url": backend.base_url}
    if backend.server != "unknown":
        options["server"] = backend.server
    if backend.timeout != TIMEOUT_S:
        options["timeout"] = backend.timeout
    if backend.max_retries != RETRIES:
        options["max_retries"] = backend.max_retries
    head = [f"    {name}={value!r}," for name, value in options.items()]
    key = [f"    api_key=os.environ[{KEY_VARIABLE!r}],"] * backend.api_key_given
    return ["backend = mb.OpenAICompatibleBackend(", f"    {backend.model!r},", *head, *key, *given, ")"]


def _agent_lines(answerer: Answerer, questions: Sequence[Any], system: str | None, has_given: bool) -> list[str]:
    tools = [name for name in answerer.tools if name.isidentifier() and not keyword.iskeyword(name)]
    options = [f"tools=[{', '.join(tools)}]"] * bool(tools) + [f"system={system!r}"] * bool(system)
    lines = ["", "# The agent's own instructions and output type are not copied" + _and_tools(tools)]
    lines.append(f"agent = mb.Agent({', '.join(['backend', *options])})")
    if has_given:
        lines.append("# What was said before the first question here is not copied: give it as message_history.")
    lines.append("result = None")
    if questions:
        lines += [
            f"for question in {_literal(questions)}:",
            f"    result = agent.run_sync(question, message_history=result{_keywords(answerer.params)})",
            "    print(result.output)",
        ]
    return lines


def _and_tools(tools: Sequence[str]) -> str:
    return "; its tools are your functions of these names." if tools else "."


def _keywords(params: Mapping[str, Any]) -> str:
    return "".join(f", {name}={_literal(value)}" for name, value in params.items())


def _literal(value: Any) -> str:
    """The value as Python; what no terminal shows is an escape in it."""
    return pprint.pformat(value, width=WIDTH, sort_dicts=False)
