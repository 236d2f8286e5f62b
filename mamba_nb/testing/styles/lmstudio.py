"""LM Studio, as of 0.4.

Sources: LM Studio's documentation (`1_developer/2_rest/list.md`, `endpoints.mdx`, `3_openai-compat`), the SDK's probe
of `/lmstudio-greeting` (lmstudio-python, `json_api.py`), and its issue tracker for the words of errors.

What is its own: HTTP 200 with `{"error": "Unexpected endpoint or method. ..."}` for every path that it does not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.styles.base import Reply, Style, plain_error

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

MODEL_CONTEXT = 131_072
SIZE = 2_489_894_976

NO_MODELS = "No models loaded. Please load a model in the developer page or use the 'lms load' command."
NO_TOKEN = (
    "An LM Studio API token is required to make requests to this server, but none was provided using the "
    "Authorization header using the 'Bearer' scheme"
)


def _unexpected(method: str, path: str) -> Reply:
    return Reply(200, {"error": f"Unexpected endpoint or method. ({method} {path})"})


def _unauthorized(key: str | None) -> Reply:
    message = NO_TOKEN if key is None else "The LM Studio API token is not valid."
    return Reply(401, {"error": {"type": "invalid_request", "code": "invalid_api_key", "message": message}})


def _unknown_model(model: str, served: Sequence[str]) -> Reply:
    return plain_error(404, NO_MODELS, param="model")


def _v0(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """`GET /api/v0/models`, 0.3.6 and later."""
    return Reply(200, {"object": "list", "data": [_v0_entry(server, model) for model in server.models]})


def _v0_entry(server: ScriptedServer, model: str) -> dict[str, Any]:
    entry = {
        "id": model,
        "object": "model",
        "type": "llm",
        "publisher": model.partition("/")[0] if "/" in model else "lmstudio-community",
        "arch": "llama",
        "compatibility_type": "gguf",
        "quantization": "Q4_K_M",
        "state": "loaded" if server.is_loaded(model) else "not-loaded",
        "max_context_length": MODEL_CONTEXT,
    }
    if server.is_loaded(model):
        entry["loaded_context_length"] = server.context_length
    return entry


def _v1(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """`GET /api/v1/models`, 0.4 and later."""
    return Reply(200, {"models": [_v1_entry(server, model) for model in server.models]})


def _v1_entry(server: ScriptedServer, model: str) -> dict[str, Any]:
    config = {"context_length": server.context_length, "eval_batch_size": 512, "parallel": server.slots or 4}
    return {
        "type": "llm",
        "publisher": model.partition("/")[0] if "/" in model else "lmstudio-community",
        "key": model,
        "display_name": model,
        "architecture": "llama",
        "quantization": {"name": "Q4_K_M", "bits_per_weight": 4},
        "size_bytes": SIZE,
        "params_string": "3B",
        "loaded_instances": [{"id": model, "config": config}] if server.is_loaded(model) else [],
        "max_context_length": MODEL_CONTEXT,
        "format": "gguf",
        "capabilities": {"vision": False, "trained_for_tool_use": False},
        "description": None,
    }


STYLE = Style(
    name="lmstudio",
    owned_by="organization_owner",
    headers={"X-Powered-By": "Express"},
    reasoning_field="reasoning_content",
    null_content_first=False,
    needs_model=False,
    health=None,
    routes={
        ("GET", "/lmstudio-greeting"): lambda server, request: Reply(200, {"lmstudio": True}),
        ("GET", "/api/v0/models"): _v0,
        ("GET", "/api/v1/models"): _v1,
    },
    not_found=_unexpected,
    not_allowed=lambda method, path, allowed: _unexpected(method, path),
    unauthorized=_unauthorized,
    unknown_model_reply=_unknown_model,
    model_entry=lambda server, model: {"id": model, "object": "model", "owned_by": server.owned_by},
    guarded=lambda path: path != "/lmstudio-greeting",
)
