"""vLLM, as recorded from vLLM 0.32.0 (SmolLM2 on CPU).

Sources: recorded replies, which the tests hold it against; for what they do not show, vLLM's
`entrypoints/openai/models/serving.py` (adapters), `v1/metrics/loggers.py` (histograms), `entrypoints/pooling`.

What is its own: the head of a stream leaves at once, `content: ""` first, `stop_reason` and `token_ids` beside the
finish reason, `[DONE]` even after an error, FastAPI's `detail` for wrong paths, a key that guards `/v1` only, an
optional model name, and no `/v1/embeddings` beside a chat model.

about           context_length (`max_model_len`), root (where the weights are; the id is the served name), parent (makes
                it an adapter of that model), vision (takes images)
options         tool_parser   "hermes"; None is a server without `--tool-call-parser`, which refuses tools
                task          "generate"; "embed", "classify", "score" are pooling models, without chat
                metrics       "old" for the metric names of earlier releases
                cache_usage   share of the KV cache that `/metrics` says is in use, 0 to 1

While it loads, vLLM refuses connections: see `vllm_loading`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mamba_nb.testing.styles import vllm_native as native
from mamba_nb.testing.styles.base import Reply, Style
from mamba_nb.testing.styles.vllm_checks import refuse
from mamba_nb.testing.styles.vllm_metrics import metrics
from mamba_nb.testing.styles.vllm_play import play
from mamba_nb.testing.styles.vllm_shapes import (
    FINGERPRINT,
    NOT_FOUND,
    VERSION,
    bad_json,
    choice,
    entry,
    error,
    last_touch,
    unknown_model,
)

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer


def _begin(server: ScriptedServer) -> None:
    server.state |= {"pieces": {}, "answers": 0, "prompt_tokens": 0, "generation_tokens": 0}
    if server.options.get("task") == "embed":
        server.embeddings = True


STYLE = Style(
    name="vllm",
    owned_by="vllm",
    headers={"Server": "uvicorn"},
    stream_type="text/event-stream; charset=utf-8",
    reasoning_field="reasoning",
    null_content_first=False,
    head_first=True,
    finish_delta={"content": ""},
    message_extras={"content": "", **dict.fromkeys(("refusal", "annotations", "audio", "function_call", "reasoning"))},
    fingerprint=FINGERPRINT,
    chunk_fingerprint="last",
    done_after_error=True,
    needs_model=False,
    embeddings=False,
    health=lambda server, request: Reply(200, b""),
    routes={
        ("GET", "/version"): lambda server, request: Reply(200, {"version": VERSION}),
        ("GET", "/ping"): lambda server, request: Reply(200, b""),
        ("POST", "/ping"): lambda server, request: Reply(200, b""),
        ("GET", "/load"): lambda server, request: Reply(200, {"server_load": server.room.busy}),
        ("GET", "/openapi.json"): native.openapi,
        ("GET", "/metrics"): metrics,
        ("POST", "/tokenize"): native.tokenize,
        ("POST", "/detokenize"): native.detokenize,
        ("POST", "/v1/completions"): native.completions,
        ("POST", "/v1/responses"): native.responses,
        ("POST", "/v1/messages"): native.messages,
        ("POST", "/v1/embeddings"): native.embed,
    },
    begin=_begin,
    refuse_chat=refuse,
    play=play,
    error=error,
    not_found=lambda method, path: NOT_FOUND,
    not_allowed=lambda method, path, allowed: Reply(
        405, {"detail": "Method Not Allowed"}, {"Allow": ", ".join(allowed)}
    ),
    unauthorized=lambda key: Reply(401, {"error": "Unauthorized"}),
    unknown_model_reply=unknown_model,
    bad_json=bad_json,
    no_messages=lambda missing: None,  # refused in vllm_checks, whose words need the whole body
    no_embeddings=lambda: NOT_FOUND,
    model_entry=entry,
    one_model=None,
    choice=choice,
    guarded=lambda path: path.startswith(("/v1", "/v2", "/inference", "/cohere")),
    answer_id=lambda number: f"chatcmpl-{native.checksum(number)}",
    last_touch=last_touch,
)
