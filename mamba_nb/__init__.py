"""Choose between language models in a notebook.

    import mamba_nb as mb

    mb.compare(["ollama/llama3.2", "embedded"], "Why is the sky blue?")

    backend = mb.create_embedded_backend()
    backend.ask("Hello").text

Names load on first use; importing this package does no work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mamba_nb._bridge import Run as Run
    from mamba_nb._bridge import run_in_background as run_in_background
    from mamba_nb._bridge import run_sync as run_sync
    from mamba_nb._bridge import runs as runs
    from mamba_nb.agent import Agent as Agent
    from mamba_nb.agent import AgentConversation as AgentConversation
    from mamba_nb.agent import AgentResult as AgentResult
    from mamba_nb.backends.backend import OpenAICompatibleBackend as OpenAICompatibleBackend
    from mamba_nb.backends.comparing import ProfileComparison as ProfileComparison
    from mamba_nb.backends.comparing import compare_profiles as compare_profiles
    from mamba_nb.backends.factories import create_embedded_backend as create_embedded_backend
    from mamba_nb.backends.factories import create_lmstudio_backend as create_lmstudio_backend
    from mamba_nb.backends.factories import create_ollama_backend as create_ollama_backend
    from mamba_nb.backends.factories import create_vllm_backend as create_vllm_backend
    from mamba_nb.backends.health import check_server_health as check_server_health
    from mamba_nb.backends.profiles import ModelProfile as ModelProfile
    from mamba_nb.backends.profiles import get_profile as get_profile
    from mamba_nb.backends.profiles import list_profiles as list_profiles
    from mamba_nb.compare.agents_grid import AgentComparison as AgentComparison
    from mamba_nb.compare.plan import variant as variant
    from mamba_nb.compare.verbs import compare as compare
    from mamba_nb.compare.verbs import start_compare as start_compare
    from mamba_nb.doctor.examine import doctor as doctor
    from mamba_nb.errors import MambaError as MambaError
    from mamba_nb.probes.report import ProbeReport as ProbeReport
    from mamba_nb.probes.verbs import plan_probe as plan_probe
    from mamba_nb.probes.verbs import probe as probe
    from mamba_nb.records import Comparison as Comparison
    from mamba_nb.records import Generation as Generation
    from mamba_nb.records import Request as Request
    from mamba_nb.servers.discovery import find_servers as find_servers
    from mamba_nb.servers.found import Servers as Servers
    from mamba_nb.servers.server import Server as Server
    from mamba_nb.settings import AgentSettings as AgentSettings
    from mamba_nb.settings import EmbeddedSettings as EmbeddedSettings
    from mamba_nb.settings import ModelBackendSettings as ModelBackendSettings
    from mamba_nb.widgets.chat import ChatView as ChatView
    from mamba_nb.widgets.compare_view import CompareView as CompareView
    from mamba_nb.widgets.picker import BackendPicker as BackendPicker
    from mamba_nb.widgets.profile_table import ProfileTable as ProfileTable
    from mamba_nb.widgets.vote import VoteView as VoteView

__version__ = "0.1.0"

_HOMES = {
    "Agent": "agent",
    "AgentComparison": "compare.agents_grid",
    "AgentConversation": "agent",
    "AgentResult": "agent",
    "AgentSettings": "settings",
    "BackendPicker": "widgets.picker",
    "ChatView": "widgets.chat",
    "CompareView": "widgets.compare_view",
    "Comparison": "records",
    "EmbeddedSettings": "settings",
    "Generation": "records",
    "MambaError": "errors",
    "ModelBackendSettings": "settings",
    "ModelProfile": "backends.profiles",
    "OpenAICompatibleBackend": "backends.backend",
    "ProbeReport": "probes.report",
    "ProfileComparison": "backends.comparing",
    "ProfileTable": "widgets.profile_table",
    "Request": "records",
    "Run": "_bridge",
    "Server": "servers.server",
    "Servers": "servers.found",
    "VoteView": "widgets.vote",
    "check_server_health": "backends.health",
    "compare": "compare",
    "compare_profiles": "backends.comparing",
    "create_embedded_backend": "backends.factories",
    "create_lmstudio_backend": "backends.factories",
    "create_ollama_backend": "backends.factories",
    "create_vllm_backend": "backends.factories",
    "doctor": "doctor",
    "find_servers": "servers.discovery",
    "get_profile": "backends.profiles",
    "list_profiles": "backends.profiles",
    "plan_probe": "probes.verbs",
    "probe": "probes.verbs",
    "run_in_background": "_bridge",
    "run_sync": "_bridge",
    "runs": "_bridge",
    "start_compare": "compare.verbs",
    "variant": "compare.plan",
}

_CALLABLE_ROOMS = {"compare", "doctor"}  # verb and room share the name: the module itself can be called

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: Any = import_module(f"{__name__}.{_HOMES[name]}")
    if name not in _CALLABLE_ROOMS:
        value = getattr(value, name)
    globals()[name] = value
    return value


def load_ipython_extension(ipython: Any) -> None:
    """`%load_ext mamba_nb`: the magics %%ask, %%compare and %mamba, and `df.mamba` on every DataFrame.

    Args:
        ipython: The running shell.
    """
    from importlib import import_module

    from mamba_nb.magics import MambaMagics

    import_module("mamba_nb.pandas")  # registers `df.mamba`
    MambaMagics(ipython).register()


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
