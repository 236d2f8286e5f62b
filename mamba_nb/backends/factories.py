"""Backends by the kind of server, and by name: the one place that turns `ollama:llama3.2` into a backend."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mamba_nb.backends.backend import OpenAICompatibleBackend
from mamba_nb.backends.embedded import EmbeddedBackend
from mamba_nb.backends.names import parse_model_name
from mamba_nb.servers.kinds import kind_by_address, kinds
from mamba_nb.servers.lmstudio import LOCAL_MODEL

if TYPE_CHECKING:
    from mamba_nb.settings import AgentSettings

__all__ = [
    "backend_for",
    "create_embedded_backend",
    "create_lmstudio_backend",
    "create_ollama_backend",
    "create_vllm_backend",
]


def create_ollama_backend(model: str = "llama3.2", **options: Any) -> OpenAICompatibleBackend:
    """A backend for Ollama, on `http://localhost:11434/v1` unless `base_url=` says otherwise.

        create_ollama_backend("llama3.2", num_ctx=8192).ask("Hello").text

    Args:
        model: As `ollama list` shows it; without a tag, `:latest` is meant.
        **options: Anything that OpenAICompatibleBackend takes. `num_ctx=8192`, `keep_alive="30m"` and `think=False`
            send the requests to Ollama's own route, since `/v1` ignores them; so does `native=True`. That route also
            tells the server's own times (`Generation.server_facts`: `load_ms`, `prompt_ms`, `decode_ms`), and where
            no temperature is given it takes the Modelfile's, while `/v1` takes 1.0.
    """
    return _create("ollama", model, options)


def create_vllm_backend(model: str, **options: Any) -> OpenAICompatibleBackend:
    """A backend for vLLM, on `http://localhost:8000/v1` unless `base_url=` says otherwise.

        create_vllm_backend("meta-llama/Llama-3.2-3B-Instruct", temperature=0).ask("Hello").text

    Args:
        model: The name it was started with, or its `--served-model-name`.
        **options: Anything that OpenAICompatibleBackend takes.
    """
    return _create("vllm", model, options)


def create_lmstudio_backend(model: str = LOCAL_MODEL, **options: Any) -> OpenAICompatibleBackend:
    """A backend for LM Studio, on `http://localhost:1234/v1` unless `base_url=` says otherwise.

        create_lmstudio_backend().ask("Hello").text

    Args:
        model: The model's key; `local-model` is whatever language model is loaded, looked up at the first request.
        **options: Anything that OpenAICompatibleBackend takes.
    """
    return _create("lmstudio", model, options)


def create_embedded_backend(
    model: str | os.PathLike[str] | None = None,
    *,
    n_ctx: int | None = None,
    slots: int | None = None,
    threads: int | None = None,
    download: bool = True,
    **options: Any,
) -> OpenAICompatibleBackend:
    """A backend for the embedded engine: llama.cpp in a child process, with a small model of its own.

        create_embedded_backend().ask("Hello").text

    The engine is started on the first call and shared by all backends of this process that ask for the same
    model; it ends with the process, or by `mamba_nb.embedded.stop()`. Where the weights are not on this machine
    yet, calling this is the consent to fetch them once (93 MB), which is said first.

    Args:
        model: A GGUF file, or `hf:repo/file.gguf`; None is the embedded default, SmolLM2-135M-Instruct.
        n_ctx: Context for one request, in tokens; None takes the settings' value.
        slots: Requests worked on at once; None takes the settings' value.
        threads: CPU threads; None lets llama.cpp choose.
        download: Whether weights may be fetched; False raises WeightsMissing instead.
        **options: Anything that OpenAICompatibleBackend takes besides model, address and key.

    Raises:
        MissingExtra: Without `xllamacpp`: pip install "mamba_nb[embedded]".
        WeightsMissing: If the weights are not there and were not to be fetched.
        EngineError: If the engine does not start; the message says why.
    """
    from mamba_nb import embedded

    engine = embedded.start_engine(model, n_ctx=n_ctx, slots=slots, threads=threads, download=download)
    return EmbeddedBackend(engine, **options)


def backend_for(name: str, settings: AgentSettings | None = None, **options: Any) -> OpenAICompatibleBackend:
    """The backend that a model name means.

        backend_for("ollama/llama3.2").ask("Hello").text

    `ollama:llama3.2` and `ollama/llama3.2` name a server and a model on it (also vllm, lmstudio, llamacpp and
    embedded); `embedded` alone is the embedded default; anything else is a model on the configured address.
    Address, key, timeout and retries come from the settings, sampling does not.

    Args:
        name: The name, as `Agent(str)` and `compare([str])` take it.
        settings: Where the configured address comes from; None reads the environment.
        **options: Constructor arguments that win over all that.

    Raises:
        BadInput: If the name is none.
        WeightsMissing: For the embedded engine without weights: a name never fetches them.
    """
    parsed = parse_model_name(name)
    if parsed.server == "embedded":
        from mamba_nb import embedded

        engine = embedded.start_engine(parsed.model, settings=settings.embedded if settings else None)
        return EmbeddedBackend(engine, **options)
    if parsed.server is not None:
        return _create(parsed.server, parsed.model or LOCAL_MODEL, options)
    from mamba_nb.settings import AgentSettings

    chosen = (settings or AgentSettings()).model_backend
    given: dict[str, Any] = {
        "base_url": chosen.base_url,
        "api_key": chosen.api_key,
        "timeout": chosen.timeout,
        "max_retries": chosen.max_retries,
        "server": kind_by_address(chosen.base_url),
    }
    return OpenAICompatibleBackend(parsed.model or name, **{**given, **options})


def _create(server: str, model: str, options: dict[str, Any]) -> OpenAICompatibleBackend:
    return OpenAICompatibleBackend(model, **{"base_url": kinds()[server].default_url, "server": server, **options})
