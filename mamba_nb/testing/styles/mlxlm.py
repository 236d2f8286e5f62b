"""mlx-lm's server, as of 0.32.

Source: mlx-lm's mlx_lm/server.py (APIHandler): headers of Python's own HTTP server,
entries of `/v1/models` without an owner, error bodies, comments while it reads the prompt, `max_tokens` 512.

What is its own: a model that it does not know is looked for on the Hugging Face hub, `default_model` is the one that it
was started with, one answer whatever `n` says, no embeddings, no key. `/chat/completions` without `/v1` is left out.

options         prompt_steps   comments `: keepalive done/all` before the first token of a stream; 0 by default
                unhealthy      `/health` is 503 {"status": "unavailable"}
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.script import Script
from mamba_nb.testing.styles.base import Reply, Style
from mamba_nb.testing.tokens import deltas_of

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

OUTPUT = 512  # `--max-tokens` by default
FINGERPRINT = "0.32.2-0.30.1-macOS-26.1-arm64-arm-64bit-applegpu_g16s"
DEFAULT = "default_model"


def _error(status: int, message: str, *, type: str | None = None, param: str | None = None, code: Any = None) -> Reply:
    return Reply(status, {"error": message})


def _match(model: str, served: Sequence[str]) -> str | None:
    if model == DEFAULT:
        return served[0] if served else None
    return model if model in served else None


def _unknown(model: str, served: Sequence[str]) -> Reply:
    """What the hub says to a name that it does not have either."""
    words = (
        "401 Client Error. Repository Not Found for url: "
        f"https://huggingface.co/api/models/{model}/revision/main. "
        "Please make sure you specified the correct `repo_id`."
    )
    return _error(404, words)


def _health(server: ScriptedServer, request: LoggedRequest) -> Reply:
    if server.options.get("unhealthy"):
        return Reply(503, {"status": "unavailable"})
    return Reply(200, {"status": "ok"})


def _one_model(server: ScriptedServer, model: str) -> Reply:
    """Still a list, of the one or of none."""
    found = [_entry(server, name) for name in server.models if name == model]
    return Reply(200, {"object": "list", "data": found})


def _entry(server: ScriptedServer, model: str) -> dict[str, Any]:
    return {"id": model, "object": "model", "created": server.created}


def _refuse(server: ScriptedServer, request: LoggedRequest) -> Reply | None:
    """It reads these before anything else; a wrong one ends the connection there, here it is 400."""
    body = request.body
    top, most = body.get("top_logprobs"), body.get("max_tokens")
    if isinstance(top, int) and not 0 < top <= 10 and top != -1:
        return _error(400, f"top_logprobs must be between 1 and 10 but got {top:,}")
    if isinstance(most, int) and most < 0:
        return _error(400, "max_tokens must be a non-negative integer")
    return None


def _play(server: ScriptedServer, script: Script, body: Mapping[str, Any], model: str) -> Script:
    """`max_completion_tokens` wins over `max_tokens`, and without either the answer ends at 512 tokens."""
    most = body.get("max_completion_tokens")
    most = body.get("max_tokens") if most is None else most
    most = OUTPUT if most is None else most
    steps = server.options.get("prompt_steps", 0)
    if steps and body.get("stream"):
        script = replace(script, keepalive_comments=steps)
    if not script.obey_max_tokens or not isinstance(most, int) or most <= 0:
        return script
    length = sum(1 for _ in deltas_of(script, server.style, body))
    if most < length and not script.tool_calls:
        left = max(0, most - len(script.reasoning))
        script = replace(script, text=(script.text or ())[:left], finish_reason="length")
    return replace(script, obey_max_tokens=False)


STYLE = Style(
    name="mlxlm",
    owned_by="",
    headers={"Server": "BaseHTTP/0.6 Python/3.13.5", "Access-Control-Allow-Origin": "*"},
    reasoning_field="reasoning",
    tool_call_style="whole",
    null_content_first=False,
    role_alone=False,
    content_always=True,
    finish_delta={"role": "assistant", "content": "", "reasoning": "", "tool_calls": []},
    null_logprobs=False,
    fingerprint=FINGERPRINT,
    chunk_fingerprint="every",
    needs_model=False,
    takes_n=False,
    embeddings=False,
    health=_health,
    refuse_chat=_refuse,
    play=_play,
    error=_error,
    not_found=lambda method, path: Reply(404, b"Not Found", {"Content-Type": "application/json"}),
    not_allowed=lambda method, path, allowed: Reply(404, b"Not Found", {"Content-Type": "application/json"}),
    unknown_model_reply=_unknown,
    bad_json=lambda detail: _error(400, f"Invalid JSON in request body: {detail}"),
    no_messages=lambda missing: _error(500, "Request did not contain messages") if missing else None,
    no_embeddings=lambda: Reply(404, b"Not Found", {"Content-Type": "application/json"}),
    model_entry=_entry,
    one_model=_one_model,
    guarded=lambda path: False,
    match=_match,
    answer_id=lambda number: f"chatcmpl-{uuid.UUID(int=number)}",
)
