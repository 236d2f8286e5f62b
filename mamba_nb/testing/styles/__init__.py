"""The kinds of servers that the scripted server can look like, one file each.

`get(name)` gives the style: `plain`, or the name of a kind of server such as `ollama` or `lmstudio`.
"""

from __future__ import annotations

from importlib import import_module

from mamba_nb.testing.styles.base import Reply, Streamed, Style

__all__ = ["NAMES", "Reply", "Streamed", "Style", "get"]

NAMES = (
    "plain",
    "ollama",
    "vllm",
    "lmstudio",
    "llamacpp",
    "sglang",
    "localai",
    "jan",
    "tgi",
    "llamaswap",
    "litellm",
    "koboldcpp",
    "textgenwebui",
    "dockermodelrunner",
    "lemonade",
    "mlxlm",
    "openai",
)


def get(name: str) -> Style:
    """The style of that name.

    Raises:
        ValueError: If there is none.
    """
    if name not in NAMES:
        raise ValueError(f"There is no server style {name!r}; there are {', '.join(NAMES)}.")
    style: Style = import_module(f"{__name__}.{name}").STYLE
    return style
