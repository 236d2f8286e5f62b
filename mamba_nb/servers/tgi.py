"""TGI, Hugging Face's text-generation-inference: one model, whatever name the request gives.

Sources: TGI's docs/openapi.json (`/info`, `/tokenize`, `/chat_tokenize`, the parameters of a chat request) and
docs/source/reference/metrics.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mamba_nb.servers.asking import Asking
from mamba_nb.servers.calling import call, failed
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Kind, Sighting, kind_from_models
from mamba_nb.servers.members import entries, listed, member, said, text, whole
from mamba_nb.servers.vllm_prometheus import samples, total

ROUTER = "text-generation-router"


async def recognise(asking: Asking) -> Sighting | None:
    """By the shape of `/info`; releases from before `router` stood in it are likely ones."""
    answer = await asking.look("/v1/models")
    if answer is None or kind_from_models({"data": await listed(asking)}, answer.headers) is not None:
        return None
    info = await asking.json("/info")
    if text(member(info, "model_id")) is None or whole(member(info, "max_total_tokens")) is None:
        return None
    router = text(info.get("router"))
    if router is not None and not router.startswith(ROUTER):
        return None
    if router is None and _prompt_limit(info) == (None, ""):
        return None
    return Sighting(
        kind="tgi",
        certainty="certain" if router else "likely",
        evidence=f"GET /info has model_id, max_total_tokens{f' and router {router}' if router else ''}",
        version=text(info.get("version")),
        needs_key=answer.status in (401, 403),
    )


def _prompt_limit(info: Mapping[str, Any]) -> tuple[int | None, str]:
    """Tokens of the longest prompt, and what the field is called: `max_input_length` in releases before 2."""
    for name in ("max_input_tokens", "max_input_length"):
        if (limit := whole(info.get(name))) is not None:
            return limit, name
    return None, ""


async def version(asking: Asking) -> str | None:
    """The `version` of `/info`."""
    return text(member(await asking.json("/info"), "version"))


async def models(asking: Asking) -> list[ServedModel]:
    """The one model it has, by `/info`; `max_total_tokens` is the context, prompt and answer together.

    The longest prompt stands in `extras` as `max_input_tokens`.
    """
    info = await asking.json("/info")
    if not isinstance(info, Mapping) or (name := text(info.get("model_id"))) is None:
        return []
    limit, _ = _prompt_limit(info)
    kept = {key: info[key] for key in ("model_sha", "model_pipeline_tag", "model_dtype") if text(info.get(key))}
    task: Any = {"text-generation": "chat", "image-text-to-text": "chat"}.get(str(info.get("model_pipeline_tag")))
    extras = {**kept, **({"max_input_tokens": limit} if limit else {})}
    model = ServedModel(id=name, state="loaded", task=task, extras=extras)
    model = said(model, "GET /info, max_total_tokens", context_window=whole(info.get("max_total_tokens")))
    model = said(model, "GET /info, model_sha", digest=text(info.get("model_sha")))
    sees = True if info.get("model_pipeline_tag") == "image-text-to-text" else None
    return [said(model, "GET /info, model_pipeline_tag", supports_vision=sees)]


async def tokenize(asking: Asking, model: str, text: str) -> list[int]:
    """A text as token ids, special tokens included, as `/tokenize` gives it; raises what `call` raises."""
    answer = await call(asking, "/tokenize", {"inputs": text}, kind="tgi", model=None, verb="tokenize")
    found = [whole(token.get("id"), 0) for token in entries(answer.json)]
    ids = [token for token in found if token is not None]
    if not isinstance(answer.json, list) or len(ids) != len(answer.json):
        raise failed(asking, "tgi", model, "tokenize", answer.text)
    return ids


async def count_tokens(
    asking: Asking, model: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> int:
    """Tokens of a chat request with its template, by `/chat_tokenize`."""
    body: dict[str, Any] = {"model": model, "messages": list(messages)}
    if tools:
        body["tools"] = list(tools)
    answer = await call(asking, "/chat_tokenize", body, kind="tgi", model=None, verb="count tokens")
    tokens = member(answer.json, "tokenize_response")
    if not isinstance(tokens, list):
        raise failed(asking, "tgi", model, "count tokens", answer.text)
    return len(tokens)


async def metrics(asking: Asking) -> dict[str, float]:
    """Its live figures; what it does not tell is left out.

    requests_running      `tgi_batch_current_size`
    requests_waiting      `tgi_queue_size`
    prompt_tokens_total   sum of the histogram `tgi_request_input_length`, since the start
    output_tokens_total   sum of the histogram `tgi_request_generated_tokens`
    """
    asking.forget("/metrics")
    answer = await asking.look("/metrics")
    if answer is None or answer.status != 200:
        return {}
    known = samples(answer.text)
    found = {
        "requests_running": total(known, "tgi_batch_current_size"),
        "requests_waiting": total(known, "tgi_queue_size"),
        "prompt_tokens_total": total(known, "tgi_request_input_length_sum"),
        "output_tokens_total": total(known, "tgi_request_generated_tokens_sum"),
    }
    return {name: value for name, value in found.items() if value is not None}


_FIXED = "TGI's context is set when it starts: `--max-total-tokens`."

KIND = Kind(
    name="tgi",
    title="TGI",
    default_url="http://localhost:3000/v1",
    start="Start it with `text-generation-launcher --model-id MODEL`",
    ports=(3000, 8080),
    slots=4,
    recognise=recognise,
    models=models,
    version=version,
    tokenize=tokenize,
    count_tokens=count_tokens,
    metrics=metrics,
    ignores={
        "n": "TGI always gives one answer: ask several times.",
        "logit_bias": "TGI has no use for it.",
        "num_ctx": _FIXED,
        "n_ctx": _FIXED,
        "keep_alive": "TGI keeps its model loaded until it ends.",
        "parallel_tool_calls": "TGI decides by itself.",
        "reasoning_effort": "TGI has no such switch.",
    },
    renames={"max_completion_tokens": "max_tokens"},
)
