"""Backends: one model on one server, what is known of it and of others, and whether the server answers.

Names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mamba_nb._lazy import lazily

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

__getattr__, __dir__ = lazily(__name__, {**dict.fromkeys(__all__, "profiles"), **_HOMES})
