"""What a server's own words mean, as a table: a pattern, and the error with its cause and its remedy.

In: the words of an error reply. Out: one error of `mamba_nb.errors`, or None where the table does not know them; the
first row that matches wins. The patterns match the texts of Ollama 0.33, vLLM 0.32, LM Studio 0.4, llama.cpp b11434,
SGLang 0.5 and OpenAI, and older ones where those differ. What only the server itself could add (which installed models
can do it) is added in `enriching`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

from mamba_nb.errors import (
    ContextOverflow,
    ModelNotFound,
    RateLimited,
    RequestRejected,
    ServerError,
    ServerFailed,
    ServerUnreachable,
    ToolsNotSupported,
)
from mamba_nb.servers.where import Where

__all__ = ["Said", "explained"]

Said: TypeAlias = ServerError | ToolsNotSupported
Row: TypeAlias = tuple[re.Pattern[str], Callable[[re.Match[str], Where, str], Said]]

# vLLM's --tool-call-parser by what the model's name contains; vLLM docs, features/tool_calling.
TOOL_PARSERS = (
    ("gpt-oss", "openai"),
    ("qwen3-coder", "qwen3_coder"),
    ("qwen", "hermes"),
    ("hermes", "hermes"),
    ("llama-4", "llama4_pythonic"),
    ("llama-3", "llama3_json"),
    ("llama3", "llama3_json"),
    ("mistral", "mistral"),
    ("mixtral", "mistral"),
    ("deepseek-v3", "deepseek_v3"),
    ("granite", "granite"),
    ("phi-4", "phi4_mini_json"),
)
CONTEXT_SIZES = (  # the text, then which group is the prompt and which the context
    (re.compile(r"request \((\d+) tokens\) exceeds the available context size \((\d+) tokens\)"), 1, 2),
    (re.compile(r"context length is (\d+) tokens.*?at least (\d+)", re.DOTALL), 2, 1),
    (re.compile(r"context length is (\d+) tokens.*?\((\d+) in the (?:messages|prompt)", re.DOTALL), 2, 1),
    (re.compile(r"n_keep \((\d+)\) >= n_ctx \((\d+)\)"), 1, 2),
    (re.compile(r"keep the first (\d+) tokens .*context length of only (\d+) tokens", re.DOTALL), 1, 2),
    (re.compile(r"input \((\d+) tokens\) is longer than the model's context length \((\d+) tokens\)"), 1, 2),
    (re.compile(r"maximum context length of (\d+) tokens"), None, 1),
    (re.compile(r"max_model_len=(\d+)"), None, 1),
)


def explained(says: str, where: Where) -> Said | None:
    """The error that these words mean, or None."""
    for pattern, make in ROWS:
        if match := pattern.search(says):
            return make(match, where, says)
    return None


def _about(where: Where, says: str) -> dict[str, Any]:
    return {"base_url": where.base_url, "model": where.model, "server_says": says}


def _name(where: Where) -> str:
    return f"{where.model!r}" if where.model else "the model"


# the context


def _too_long(match: re.Match[str], where: Where, says: str) -> ContextOverflow:
    error = ContextOverflow(
        f"The prompt does not fit the context that {where.base_url} has in force.",
        hint=f"Shorten the prompt or lower max_tokens, or {_larger_context(where, says)}.",
        **_about(where, says),
    )
    for pattern, prompt_group, context_group in CONTEXT_SIZES:
        if sizes := pattern.search(says):
            error.prompt_tokens = int(sizes.group(prompt_group)) if prompt_group else None
            error.context = int(sizes.group(context_group))
            break
    return error


def _larger_context(where: Where, says: str) -> str:
    kind = where.kind.name if where.kind else None
    if kind == "embedded":
        return "open the embedded engine with a larger one: create_embedded_backend(n_ctx=8192)"
    if kind == "lmstudio" or "n_keep" in says or "keep the first" in says:
        return f"load the model with a larger one: `lms load {where.model or 'KEY'} --context-length 16384`"
    if kind == "vllm" or "max_model_len" in says or "model's maximum context length" in says:
        return "restart vLLM with a larger `--max-model-len`"
    if kind == "ollama" or "adjust the context length in settings" in says:
        return f"ask for a larger one: create_ollama_backend({_name(where)}, num_ctx=16384)"
    if kind == "llamacpp" or "available context size" in says:
        return "restart llama-server with a larger `-c`, or fewer slots (`-np`), which share it"
    return (
        "start the server with a larger context "
        "(`-c` for llama.cpp, `--max-model-len` for vLLM, `--context-length` for LM Studio)"
    )


# the model


def _nothing_loaded(match: re.Match[str], where: Where, says: str) -> ModelNotFound:
    return ModelNotFound(
        where.model or "(none)",
        base_url=where.base_url,
        served=where.served,
        hint="LM Studio has no model loaded, and just-in-time loading is off or failed. Load one: `lms load KEY`, or "
        "find_servers()[i].load(KEY); or turn on just-in-time loading under Developer, Server settings.",
        server_says=says,
    )


def _no_model(match: re.Match[str], where: Where, says: str) -> ModelNotFound:
    name = where.kind.name if where.kind else None
    hint = None
    if name == "ollama" or "try pulling" in says:
        hint = f"Install it: `ollama pull {where.model}`, or find_servers()[i].pull({where.model!r})."
        if where.model and ":" not in where.model:
            hint += f" {where.model!r} means '{where.model}:latest'."
    elif name == "vllm":
        hint = f"Use one of these, or restart vLLM with `--served-model-name {where.model}`."
    return ModelNotFound(
        where.model or "(none)", base_url=where.base_url, served=where.served, hint=hint, server_says=says
    )


# what the model or its server cannot do


def _no_tools(where: Where, says: str, hint: str) -> ToolsNotSupported:
    return ToolsNotSupported(
        f"{where.model or 'The model'} cannot call tools at {where.base_url}.", hint=hint, **_about(where, says)
    )


def _no_parser(match: re.Match[str], where: Where, says: str) -> ToolsNotSupported:
    model = (where.model or "").lower()
    parser = next((parser for part, parser in TOOL_PARSERS if part in model), None)
    flags = f"--enable-auto-tool-choice --tool-call-parser {parser or 'PARSER'}"
    hint = f"This vLLM was started without tool calling. Restart it: `vllm serve {where.model or 'MODEL'} {flags}`"
    if parser is None:
        hint += " (hermes for Qwen and Hermes, llama3_json, mistral, qwen3_coder, openai for gpt-oss)"
    return _no_tools(where, says, hint + '. Or leave the tools out, or use Agent(..., tools_mode="prompted").')


def _no_jinja(match: re.Match[str], where: Where, says: str) -> ToolsNotSupported:
    return _no_tools(where, says, "Restart llama-server with `--jinja`.")


def _cannot(match: re.Match[str], where: Where, says: str) -> Said:
    """Ollama's `MODEL does not support WHAT`, by the capabilities its template and its file declare."""
    what = match.group("what").lower()
    if what == "tools":
        return _no_tools(
            where,
            says,
            'Choose a model whose template has tools, leave the tools out, or use Agent(..., tools_mode="prompted").',
        )
    if what in ("chat", "completion", "generate"):
        message = f"{_name(where)} does not answer prompts: it is an embedding model."
        hint = "Use backend.embed(...) with it, and a chat model for prompts."
    elif what == "thinking":
        message = f"{_name(where)} has no thinking to turn on."
        hint = "Leave think= and reasoning_effort= out, or pass think=False."
    elif what == "vision":
        return _no_images(match, where, says)
    else:
        message = f"{_name(where)} does not support {what} on this server."
        hint = "Choose another model; find_servers() shows what each declares."
    return _rejected(where, says, message[0].upper() + message[1:], hint, lacking=what)


def _old_thinking(match: re.Match[str], where: Where, says: str) -> RequestRejected:
    return _rejected(
        where,
        says,
        f"The copy of {_name(where)} on this server is too old to think.",
        f"Install it again: `ollama pull {where.model}`.",
        lacking="thinking",
    )


def _no_images(match: re.Match[str], where: Where, says: str) -> RequestRejected:
    name = _name(where)
    hint = "Choose a model that reads images, or leave them out."
    if "mmproj" in says:
        hint += " llama-server needs the model's projector too: `--mmproj FILE`."
    return _rejected(
        where, says, f"{name[0].upper()}{name[1:]} does not take images at {where.base_url}.", hint, lacking="vision"
    )


def _image_address(match: re.Match[str], where: Where, says: str) -> RequestRejected:
    return _rejected(
        where,
        says,
        f"{where.server} takes no addresses of images, only the images themselves.",
        "Give the file or its bytes: backend.ask([{'role': 'user', 'content': ['What is this?', Path('cat.png')]}]).",
    )


def _no_embeddings(match: re.Match[str], where: Where, says: str) -> RequestRejected:
    return _rejected(
        where,
        says,
        f"{where.base_url} does not embed.",
        "Start llama-server with `--embeddings` and an embedding model (`--pooling mean` where its pooling is none).",
        lacking="embeddings",
    )


def _bad_tool_call(match: re.Match[str], where: Where, says: str) -> ServerFailed:
    return ServerFailed(
        f"{_name(where).capitalize()} wrote something that is no valid tool call, and its server gave up on it.",
        hint="Try again, lower the temperature, or use a model that was trained for tools.",
        **_about(where, says),
    )


# the machine


def _queue_full(match: re.Match[str], where: Where, says: str) -> RateLimited:
    return RateLimited(
        f"Ollama's queue at {where.base_url} is full.",
        hint="Send fewer requests at once (max_concurrency=), or raise OLLAMA_NUM_PARALLEL or OLLAMA_MAX_QUEUE.",
        **_about(where, says),
    )


def _no_memory(match: re.Match[str], where: Where, says: str) -> ServerFailed:
    return ServerFailed(
        f"There is not enough memory for {_name(where)} at {where.base_url}.",
        hint="Unload other models, use a smaller quantisation, or a smaller context (num_ctx=, `-c`).",
        **_about(where, says),
    )


def _not_started(match: re.Match[str], where: Where, says: str) -> ServerFailed:
    return ServerFailed(
        f"{where.server} at {where.base_url} could not load {_name(where)}.",
        hint="Most often it is short of memory: unload other models, use a smaller quantisation or a smaller context. "
        "Its log says more.",
        **_about(where, says),
    )


def _speaks_tls(match: re.Match[str], where: Where, says: str) -> ServerUnreachable:
    return ServerUnreachable(f"{where.place} speaks TLS.", hint="Use https://, not http://.", **_about(where, says))


# the request


def _max_completion_tokens(match: re.Match[str], where: Where, says: str) -> RequestRejected:
    return _rejected(
        where,
        says,
        f"{_name(where)} takes max_completion_tokens instead of max_tokens.",
        "Pass max_completion_tokens=.",
    )


def _top_logprobs(match: re.Match[str], where: Where, says: str) -> RequestRejected:
    return _rejected(where, says, "top_logprobs needs logprobs=True beside it.", "Pass logprobs=True too.")


def _rejected(where: Where, says: str, message: str, hint: str, *, lacking: str | None = None) -> RequestRejected:
    error = RequestRejected(message, hint=hint, **_about(where, says))
    error.lacking = lacking
    return error


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE | re.DOTALL)


ROWS: tuple[Row, ...] = (
    (
        _pattern(
            r"exceeds the available context size|maximum context length|longer than the (model's )?context length"
            r"|n_keep .* n_ctx|context the overflows|Context size has been exceeded"
            r"|exceed_context_size|cannot be greater than max_model_len|input length exceeds the context"
        ),
        _too_long,
    ),
    (_pattern(r"requires --enable-auto-tool-choice|requires --tool-call-parser"), _no_parser),
    (_pattern(r"tools param requires --jinja"), _no_jinja),
    (_pattern(r"does not match the expected [\w-]+ format"), _bad_tool_call),
    (_pattern(r"full thinking support"), _old_thinking),
    (_pattern(r"does not support (?P<what>tools|thinking|completion|chat|generate|vision|insert|audio)"), _cannot),
    (_pattern(r"image URLs are not currently supported"), _image_address),
    (
        _pattern(r"image input is not supported|is not a multimodal model|not support (image|vision|multimodal)"),
        _no_images,
    ),
    (_pattern(r"does not support embeddings|Pooling type 'none' is not OAI compatible"), _no_embeddings),
    (_pattern(r"No models loaded"), _nothing_loaded),
    (
        _pattern(
            r"model ['\"`][^'\"`\n]+['\"`] (was )?not found|The model ['\"`][^'\"`\n]+['\"`] does not exist"
            r"|Invalid model (name|identifier)|model_not_found|no router for requested model|try pulling it first"
            # Jan, Docker Model Runner, Lemonade and others
            r"|No running session found for model|No models are available|^model not found"
        ),
        _no_model,
    ),
    (_pattern(r"maximum pending requests exceeded"), _queue_full),
    (
        _pattern(r"requires more system memory|out of memory|cannot allocate memory|unable to allocate"),
        _no_memory,
    ),
    (
        _pattern(
            r"timed out waiting for (the )?llama-?\w* ?(server|runner)|runner process (has )?terminated"
            r"|Failed to load (the )?model|model name=\S+ failed to load"
        ),
        _not_started,
    ),
    (_pattern(r"HTTP request (was sent )?to (an )?HTTPS (port|server)"), _speaks_tls),
    (_pattern(r"'max_tokens' is not supported with this model"), _max_completion_tokens),
    (
        _pattern(r"top_logprobs.{0,40}requires? .{0,4}logprobs|top_logprobs.{0,20}logprobs.{0,4} must be set"),
        _top_logprobs,
    ),
)
