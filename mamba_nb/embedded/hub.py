"""Weights from the Hugging Face hub, for whoever has huggingface_hub installed.

In goes `hf:owner/name/file.gguf`, out comes the path of the file in the hub's own cache. Tokens, mirrors
(`HF_ENDPOINT`) and the cache's place are huggingface_hub's own settings.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from mamba_nb.errors import BadInput, EngineError, MissingExtra, WeightsMissing

PREFIX = "hf:"


def from_hub(name: str, *, download: bool) -> Path:
    """The file that `name` means, from the hub's cache or, where `download` allows it, from the hub.

    Raises:
        BadInput: If the name is not `hf:owner/name/file.gguf`.
        MissingExtra: Without huggingface_hub.
        WeightsMissing: If the file is not in the cache and nothing was to be fetched.
        EngineError: If the hub does not give the file.
    """
    repository, file = split(name)
    if importlib.util.find_spec("huggingface_hub") is None:
        error = MissingExtra(repr(name), package="huggingface_hub", extra="embedded")
        error.hint = "Install it with: pip install huggingface_hub"
        raise error
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    # Looked up here first: even with local_files_only, hf_hub_download asks the hub for other things.
    cached = try_to_load_from_cache(repository, file)
    if isinstance(cached, str):
        return Path(cached)
    if not download:
        raise WeightsMissing(
            f"{name} is not on this machine, and nothing is fetched without being asked for.",
            hint=f"To fetch it once, type: create_embedded_backend({name!r})",
        )
    try:
        return Path(hf_hub_download(repo_id=repository, filename=file))
    except Exception as error:  # no network, gated or unknown repositories: the words of huggingface_hub say which
        raise EngineError(f"The hub did not give {name}.", server_says=str(error)) from error


def split(name: str) -> tuple[str, str]:
    """Repository and file of `hf:owner/name/file.gguf`; the file may be in a folder.

    Examples:
        >>> split("hf:HuggingFaceTB/SmolLM2-135M-Instruct-GGUF/smollm2-135m-instruct-q8_0.gguf")
        ('HuggingFaceTB/SmolLM2-135M-Instruct-GGUF', 'smollm2-135m-instruct-q8_0.gguf')
    """
    parts = name.removeprefix(PREFIX).strip("/").split("/")
    if len(parts) < 3 or not all(parts) or not parts[-1].lower().endswith(".gguf"):
        raise BadInput(f"{name!r} does not name a GGUF file on the hub.", hint="Write it as hf:owner/name/file.gguf")
    return "/".join(parts[:2]), "/".join(parts[2:])
