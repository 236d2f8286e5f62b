"""Backends: one model on one server, what is known of it and of others, and whether the server answers.

Names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mamba_nb.backends.backend import OpenAICompatibleBackend
    from mamba_nb.backends.comparing import compare_profiles
    from mamba_nb.backends.comparing_record import ProfileComparison
    from mamba_nb.backends.factories import (
        backend_for,
        create_embedded_backend,
        create_lmstudio_backend,
        create_ollama_backend,
        create_vllm_backend,
    )
    from mamba_nb.backends.health import ServerHealth, check_server_health
    from mamba_nb.backends.profiles import (
        Fact,
        ModelProfile,
        get_profile,
        get_profiles_by_provider,
        list_profiles,
        register_profile,
    )

__all__ = [
    "Fact",
    "ModelProfile",
    "OpenAICompatibleBackend",
    "ProfileComparison",
    "ServerHealth",
    "backend_for",
    "check_server_health",
    "compare_profiles",
    "create_embedded_backend",
    "create_lmstudio_backend",
    "create_ollama_backend",
    "create_vllm_backend",
    "get_profile",
    "get_profiles_by_provider",
    "list_profiles",
    "register_profile",
]

_HOMES = {
    "OpenAICompatibleBackend": "backend",
    "ProfileComparison": "comparing_record",
    "ServerHealth": "health",
    "check_server_health": "health",
    "backend_for": "factories",
    "compare_profiles": "comparing",
    "create_embedded_backend": "factories",
    "create_lmstudio_backend": "factories",
    "create_ollama_backend": "factories",
    "create_vllm_backend": "factories",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'profiles')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
