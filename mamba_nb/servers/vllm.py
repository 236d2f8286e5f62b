"""vLLM: serves the models it was started with; opens its port only when they are loaded.

Sources: vLLM 0.32's entrypoints/serve/engine/protocol.py (an entry of `/v1/models`), entrypoints/serve/tokenize
(`/tokenize`), entrypoints/serve/middleware/authenticate.py (which paths a key guards), v1/metrics/loggers.py
(metrics), entrypoints/openai/chat_completion/protocol.py (parameters), and recorded replies of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from mamba_nb.servers.asking import Asking
from mamba_nb.servers.calling import call, failed
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Kind, Sighting
from mamba_nb.servers.members import listed, member, text, whole
from mamba_nb.servers.vllm_prometheus import highest, quantile, samples, total

OPENAPI_S = 1.0
"""Seconds to wait for `/openapi.json`, half a megabyte that is made at the first asking."""


async def recognise(asking: Asking) -> Sighting | None:
    """By `owned_by`, confirmed by `/version`; by the 401 beside an open `/version` where it wants a key.

    Forks and routers that keep `owned_by` and lack `max_model_len` or `/version` are likely ones.
    """
    answer = await asking.look("/v1/models")
    if answer is None:
        return None
    if answer.status == 401:
        if answer.json != {"error": "Unauthorized"} or (found := await version(asking)) is None:
            return None
        evidence = f'GET /v1/models is 401 {{"error": "Unauthorized"}} beside an open GET /version ({found})'
        return Sighting(kind="vllm", certainty="likely", evidence=evidence, version=found, needs_key=True)
    known = [entry for entry in await listed(asking) if entry.get("owned_by") == "vllm"]
    if not known:
        return None
    found = await version(asking)
    sure = found is not None and any("max_model_len" in entry for entry in known)
    evidence = 'GET /v1/models says owned_by "vllm"'
    evidence += f" and GET /version says {found}" if found else ", and GET /version says nothing"
    return Sighting(kind="vllm", certainty="certain" if sure else "likely", evidence=evidence, version=found)


async def version(asking: Asking) -> str | None:
    """`GET /version`, which answers without a key too."""
    return text(member(await asking.json("/version"), "version"))


async def models(asking: Asking) -> list[ServedModel]:
    """What it serves; all of it is loaded. An adapter has its base model's context and names it in `extras`."""
    known = await listed(asking)
    lengths = {entry["id"]: whole(entry.get("max_model_len")) for entry in known}
    about = await _task(asking)
    return [_model(entry, lengths, about) for entry in known]


def _model(entry: Mapping[str, Any], lengths: Mapping[str, int | None], about: Mapping[str, Any]) -> ServedModel:
    parent = text(entry.get("parent"))
    evidence = {"context_window": "GET /v1/models, max_model_len"}
    length = whole(entry.get("max_model_len"))
    if length is None and parent is not None:
        length, evidence["context_window"] = lengths.get(parent), f"GET /v1/models, max_model_len of {parent}"
    extras = {name: entry[name] for name in ("root", "parent") if text(entry.get(name)) is not None}
    declared = {name: value for name, value in about.items() if name != "said"}
    evidence |= dict.fromkeys((name for name in declared if name != "task"), about.get("said", ""))
    return ServedModel(
        id=entry["id"], state="loaded", context_window=length, evidence=evidence, extras=extras, **declared
    )


async def _task(asking: Asking) -> dict[str, Any]:
    """What kind of model it serves, by the paths it has: chat is there for generating models only."""
    document = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(OPENAPI_S):
            document = await asking.json("/openapi.json")
    paths = member(document, "paths")
    if not isinstance(paths, Mapping) or not paths:
        return {}
    embeds = "/v1/embeddings" in paths
    said = f"GET /openapi.json {'lists' if embeds else 'does not list'} /v1/embeddings"
    if "/v1/chat/completions" in paths:
        return {"task": "chat", "supports_embeddings": embeds, "said": said}
    if embeds:
        return {"task": "embedding", "supports_embeddings": True, "supports_tools": False, "said": said}
    return {"task": "other", "supports_embeddings": False, "said": said}


async def tokenize(asking: Asking, model: str, text: str) -> list[int]:
    """A text as token ids, without the special tokens that a prompt begins with; raises what `call` raises."""
    body = {"model": model, "prompt": text, "add_special_tokens": False}
    return await token_ids(asking, "/tokenize", body, kind="vllm", model=model)


async def token_ids(asking: Asking, path: str, body: Mapping[str, Any], *, kind: str, model: str) -> list[int]:
    """The `tokens` of an answer; for SGLang too, whose path took over vLLM's shape."""
    answer = await call(asking, path, body, kind=kind, model=model, verb="tokenize", no_path=("Not Found",))
    tokens = member(answer.json, "tokens")
    ids = [whole(token, 0) for token in tokens] if isinstance(tokens, list) else [None]
    if None in ids:
        raise failed(asking, kind, model, "tokenize", answer.text)
    return [token for token in ids if token is not None]


async def count_tokens(
    asking: Asking, model: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> int:
    """Tokens of a chat request with its template and tools, as the server itself counts them."""
    body: dict[str, Any] = {"model": model, "messages": list(messages), "add_generation_prompt": True}
    if tools:
        body["tools"] = list(tools)
    answer = await call(
        asking, "/tokenize", body, kind="vllm", model=model, verb="count tokens", no_path=("Not Found",)
    )
    count = whole(member(answer.json, "count"), 0)
    if count is None:
        raise failed(asking, "vllm", model, "count tokens", answer.text)
    return count


async def metrics(asking: Asking) -> dict[str, float]:
    """Its live figures; what it does not tell is left out.

    requests_running      `vllm:num_requests_running`, over all engines
    requests_waiting      `vllm:num_requests_waiting`
    cache_usage           `vllm:kv_cache_usage_perc`, before `vllm:gpu_cache_usage_perc`: share of the KV cache in
                          use, 0 to 1, of the fullest engine
    prompt_tokens_total   `vllm:prompt_tokens_total`, since the start
    output_tokens_total   `vllm:generation_tokens_total`
    ttft_s_mean           `vllm:time_to_first_token_seconds`: sum by count, since the start
    ttft_s_p50            the same histogram's median, linear inside its bucket
    """
    asking.forget("/metrics")
    answer = await asking.look("/metrics")
    if answer is None or answer.status != 200:
        return {}
    known = samples(answer.text)
    seconds = "vllm:time_to_first_token_seconds"
    count, spent = total(known, f"{seconds}_count"), total(known, f"{seconds}_sum")
    found = {
        "requests_running": total(known, "vllm:num_requests_running"),
        "requests_waiting": total(known, "vllm:num_requests_waiting"),
        "cache_usage": highest(known, "vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        "prompt_tokens_total": total(known, "vllm:prompt_tokens_total", "vllm:prompt_tokens"),
        "output_tokens_total": total(known, "vllm:generation_tokens_total", "vllm:generation_tokens"),
        "ttft_s_mean": spent / count if count and spent is not None else None,
        "ttft_s_p50": quantile(known, seconds, 0.5),
    }
    return {name: value for name, value in found.items() if value is not None}


_STRUCTURED = "vLLM ignores it since 0.32: use `response_format`, or `structured_outputs` in `extra_body`."
_FIXED = "vLLM's context is set when it starts: `--max-model-len`."

KIND = Kind(
    name="vllm",
    title="vLLM",
    default_url="http://localhost:8000/v1",
    start="Start vLLM with `vllm serve MODEL` (it opens its port only when the model is loaded)",
    ports=(8000,),
    owned_by=("vllm",),
    slots=4,  # continuous batching; more at once is fine for it, but shares out the speed of each answer
    holds_schemas=True,  # xgrammar
    recognise=recognise,
    models=models,
    version=version,
    tokenize=tokenize,
    count_tokens=count_tokens,
    metrics=metrics,
    ignores={
        "guided_json": _STRUCTURED,
        "guided_regex": _STRUCTURED,
        "guided_choice": _STRUCTURED,
        "guided_grammar": _STRUCTURED,
        "guided_json_object": _STRUCTURED,
        "guided_decoding_backend": _STRUCTURED,
        "guided_whitespace_pattern": _STRUCTURED,
        "num_ctx": _FIXED,
        "n_ctx": _FIXED,
        "keep_alive": "vLLM keeps its model loaded until it ends.",
        "think": 'Use `chat_template_kwargs={"enable_thinking": False}` in `extra_body`, or `reasoning_effort`.',
        "num_predict": "Use `max_tokens`.",
    },
    renames={"repeat_penalty": "repetition_penalty"},
)
