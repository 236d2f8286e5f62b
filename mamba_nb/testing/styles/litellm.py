"""LiteLLM's proxy, as of 1.109.

Sources: LiteLLM's litellm/proxy/proxy_server.py (`/v1/models`, `/model/info`, the words for a key that is missing and
for an unknown model), litellm/proxy/health_endpoints (`/health/*`), litellm/proxy/common_request_processing.py (the
headers of a completion), litellm/proxy/_types.py (public paths).

What is its own: every model is `owned_by: openai`, `"I'm alive!"`, FastAPI's `detail` for wrong paths, codes as text,
`x-litellm-version` and `x-litellm-model-id` on completions. `GET /health` asks every model; nobody should.

`about`: `info` (members of `model_info`, over the defaults), `litellm_model`, `api_base`.
`options`: `docs` (a page at `/`), `info_needs_admin` (`/model/info` is refused), `version_header` (on every answer).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.script import Script
from mamba_nb.testing.styles.base import Reply, Style
from mamba_nb.testing.styles.passing_on import page

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

VERSION = "1.109.1"
CREATED = 1677610602
PUBLIC = ("/", "/health/liveliness", "/health/liveness", "/health/readiness", "/openapi.json")
NOT_FOUND = Reply(404, {"detail": "Not Found"})


def _begin(server: ScriptedServer) -> None:
    if server.options.get("version_header"):
        server.headers = {**server.headers, "x-litellm-version": VERSION}


def _error(status: int, message: str, *, type: str | None = None, param: str | None = None, code: Any = None) -> Reply:
    return Reply(
        status, {"error": {"message": message, "type": type or "None", "param": param or "None", "code": str(status)}}
    )


def _unauthorized(key: str | None) -> Reply:
    says = "No api key passed in." if key is None else "Invalid proxy server token passed."
    return _error(401, f"Authentication Error, {says}", type="auth_error")


def _unknown_model(model: str, served: Sequence[str]) -> Reply:
    says = f"Invalid model name passed in model={model}. Call `/v1/models` to view available models for your key."
    return _error(400, f"/chat/completions: {says}", type="invalid_request_error")


def _info(server: ScriptedServer, request: LoggedRequest) -> Reply:
    if server.options.get("info_needs_admin"):
        return _error(401, "Authentication Error, user not allowed to access this route.", type="auth_error")
    return Reply(200, {"data": [_entry(server, model) for model in server.models]})


def _entry(server: ScriptedServer, model: str) -> dict[str, Any]:
    behind = server.said_of(model, "litellm_model", f"openai/{model}")
    params = {"model": behind, **({"api_base": base} if (base := server.said_of(model, "api_base")) else {})}
    info = {
        "id": f"id-of-{model}",
        "db_model": False,
        "key": behind,
        "max_tokens": 16_384,
        "max_input_tokens": 128_000,
        "max_output_tokens": 16_384,
        "input_cost_per_token": 2.5e-06,
        "output_cost_per_token": 1e-05,
        "litellm_provider": behind.partition("/")[0],
        "mode": "chat",
        "supports_function_calling": True,
        "supports_vision": True,
        "supports_reasoning": False,
    }
    return {
        "model_name": model,
        "litellm_params": params,
        "model_info": {**info, **server.said_of(model, "info", {})},
    }


def _play(server: ScriptedServer, script: Script, body: Mapping[str, Any], model: str) -> Script:
    headers = {"x-litellm-version": VERSION, "x-litellm-model-id": f"id-of-{model}", **script.headers}
    return replace(script, headers=headers)


STYLE = Style(
    name="litellm",
    owned_by="openai",
    headers={"Server": "uvicorn"},
    without_v1=True,
    health=None,
    begin=_begin,
    play=_play,
    routes={
        ("GET", "/"): lambda server, request: (
            page("LiteLLM API") if server.options.get("docs") else Reply(200, b'"LiteLLM: RUNNING"')
        ),
        ("GET", "/health"): lambda server, request: Reply(200, {"healthy_endpoints": [], "unhealthy_endpoints": []}),
        ("GET", "/health/liveliness"): lambda server, request: Reply(200, b'"I\'m alive!"'),
        ("GET", "/health/liveness"): lambda server, request: Reply(200, b'"I\'m alive!"'),
        ("GET", "/health/readiness"): lambda server, request: Reply(
            200, {"status": "healthy", "db": "Not connected", "litellm_version": VERSION}
        ),
        ("GET", "/model/info"): _info,
        ("GET", "/v1/model/info"): _info,
    },
    error=_error,
    not_found=lambda method, path: NOT_FOUND,
    not_allowed=lambda method, path, allowed: Reply(405, {"detail": "Method Not Allowed"}),
    unauthorized=_unauthorized,
    unknown_model_reply=_unknown_model,
    missing_model=lambda served: _unknown_model("None", served),
    model_entry=lambda server, model: {
        "id": model,
        "object": "model",
        "created": CREATED,
        "owned_by": server.owned_by,
    },
    models=lambda server, entries: {"data": entries, "object": "list"},
    guarded=lambda path: path not in PUBLIC,
)
