"""SGLang: serves the one model it was started with; opens its port when the engine is up.

Sources: SGLang 0.5's srt/entrypoints/http_server.py (`/model_info`, `/server_info`, the key's middleware),
srt/entrypoints/openai/serving_tokenize.py (`/tokenize`), srt/observability (metrics).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mamba_nb._look import Answer
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Kind, Sighting, kind_from_models
from mamba_nb.servers.members import listed, member, said, text, truth, whole
from mamba_nb.servers.vllm import token_ids
from mamba_nb.servers.vllm_prometheus import highest, quantile, samples, total

INFO, OLD_INFO = "/model_info", "/get_model_info"


async def recognise(asking: Asking) -> Sighting | None:
    """By `owned_by`, confirmed by the shape of `/model_info`; by that shape alone where nobody owns the models.

    One that wants a key is a guess: it refuses in vLLM's words, but without an open `/version`.
    """
    answer = await asking.look("/v1/models")
    if answer is not None and answer.status == 401:
        return await _refusing(asking, answer)
    if answer is None or answer.status != 200:
        return None
    known = await listed(asking)
    owned = any(entry.get("owned_by") == "sglang" for entry in known)
    if not owned and kind_from_models({"data": known}, answer.headers) is not None:
        return None
    path, info = await _info(asking)
    if not owned and info is None:
        return None
    sees = [*(['GET /v1/models says owned_by "sglang"'] if owned else [])]
    sees += [f"GET {path} has model_path and is_generation"] if info else []
    found = await version(asking)
    certainty: Any = "certain" if owned and info else "likely"
    return Sighting(kind="sglang", certainty=certainty, evidence=" and ".join(sees), version=found)


async def _refusing(asking: Asking, answer: Answer) -> Sighting | None:
    if answer.json != {"error": "Unauthorized"} or answer.headers.get("server") != "uvicorn":
        return None
    health, other = await asking.look("/health"), await asking.look("/version")
    if health is None or health.status != 200 or health.body or other is None or other.status != 401:
        return None
    evidence = 'GET /v1/models and GET /version are 401 {"error": "Unauthorized"}, and GET /health is open and empty'
    return Sighting(kind="sglang", certainty="guess", evidence=evidence, needs_key=True)


async def _info(asking: Asking) -> tuple[str, Mapping[str, Any] | None]:
    """`/model_info`, or what it was called before; None where neither has its shape."""
    for path in (INFO, OLD_INFO):
        info = await asking.json(path)
        if text(member(info, "model_path")) is not None and truth(member(info, "is_generation")) is not None:
            return path, info
    return INFO, None


async def version(asking: Asking) -> str | None:
    """The `version` of `/server_info`, which is long and has more in it than anybody should see."""
    return text(member(await asking.json("/server_info"), "version"))


async def models(asking: Asking) -> list[ServedModel]:
    """What it serves, all of it loaded, with what `/model_info` says of the base model.

    `is_generation` false is an embedding model. `tool_call_parser` null means that calls come back as text, so
    tools are declared not to work; a server too old to have that field says nothing about it.
    """
    path, info = await _info(asking)
    info = info or {}
    found = []
    for entry in await listed(asking):
        parent = text(entry.get("parent"))
        extras: dict[str, Any] = {"parent": parent} if parent else {}
        extras |= {name: info[name] for name in ("tool_call_parser", "reasoning_parser") if text(info.get(name))}
        model = ServedModel(id=entry["id"], state="loaded", extras=extras)
        model = said(model, "GET /v1/models, max_model_len", context_window=whole(entry.get("max_model_len")))
        found.append(_declared(model, path, info))
    return found


def _declared(model: ServedModel, path: str, info: Mapping[str, Any]) -> ServedModel:
    makes_text = truth(info.get("is_generation"))
    if makes_text is not None:
        model = replace(model, task="chat" if makes_text else "embedding")
        model = said(model, f"GET {path}, is_generation", supports_embeddings=not makes_text)
    model = said(
        model,
        f"GET {path}, has_image_understanding",
        supports_vision=truth(info.get("has_image_understanding")),
    )
    model = said(model, f"GET {path}, model_type", family=text(info.get("model_type")))
    if makes_text is False:
        return said(model, f"GET {path}, is_generation", supports_tools=False)
    if "tool_call_parser" not in info:
        return model
    parser = text(info["tool_call_parser"])
    words = f"tool_call_parser is {parser}" if parser else "tool_call_parser is null: calls come back as text"
    return said(model, f"GET {path}, {words}", supports_tools=parser is not None)


async def tokenize(asking: Asking, model: str, text: str) -> list[int]:
    """A text as token ids, without special tokens; raises what `call` raises (older servers have no such path)."""
    body = {"model": model, "prompt": text, "add_special_tokens": False}
    return await token_ids(asking, "/tokenize", body, kind="sglang", model=model)


_COPIES = ("tp_rank", "pp_rank", "moe_ep_rank")


async def metrics(asking: Asking) -> dict[str, float]:
    """Its live figures, where it was started with `--enable-metrics`; what it does not tell is left out.

    Every rank of a tensor-parallel group repeats the same figure, so ranks count once; data-parallel ones are summed.

    requests_running      `sglang:num_running_reqs`
    requests_waiting      `sglang:num_queue_reqs`
    cache_usage           `sglang:token_usage`: share of the KV cache in use, 0 to 1, of the fullest rank
    prompt_tokens_total   `sglang:prompt_tokens_total`, since the start
    output_tokens_total   `sglang:generation_tokens_total`
    output_tokens_per_s   `sglang:gen_throughput`, as the server measures it
    ttft_s_mean           `sglang:time_to_first_token_seconds`: sum by count, since the start
    ttft_s_p50            the same histogram's median, linear inside its bucket
    """
    asking.forget("/metrics")
    answer = await asking.look("/metrics")
    if answer is None or answer.status != 200:
        return {}
    known = [sample for sample in samples(answer.text) if not sample.labels.get("priority")]

    def of(*names: str) -> float | None:
        return total(known, *names, copies=_COPIES)

    seconds = "sglang:time_to_first_token_seconds"
    count, spent = of(f"{seconds}_count"), of(f"{seconds}_sum")
    found = {
        "requests_running": of("sglang:num_running_reqs"),
        "requests_waiting": of("sglang:num_queue_reqs"),
        "cache_usage": highest(known, "sglang:token_usage"),
        "prompt_tokens_total": of("sglang:prompt_tokens_total"),
        "output_tokens_total": of("sglang:generation_tokens_total"),
        "output_tokens_per_s": of("sglang:gen_throughput"),
        "ttft_s_mean": spent / count if count and spent is not None else None,
        "ttft_s_p50": quantile(known, seconds, 0.5),
    }
    return {name: value for name, value in found.items() if value is not None}


_FIXED = "SGLang's context is set when it starts: `--context-length`."

KIND = Kind(
    name="sglang",
    title="SGLang",
    default_url="http://localhost:30000/v1",
    start="Start it with `python -m sglang.launch_server --model-path MODEL`",
    ports=(30000,),
    slots=4,
    owned_by=("sglang",),
    holds_schemas=True,  # xgrammar
    recognise=recognise,
    models=models,
    version=version,
    tokenize=tokenize,
    metrics=metrics,
    ignores={
        "guided_json": "Use `response_format`.",
        "guided_regex": "Use `regex` in `extra_body`.",
        "guided_grammar": "Use `ebnf` in `extra_body`.",
        "guided_choice": "Use `regex` in `extra_body`, with the choices between bars.",
        "num_ctx": _FIXED,
        "n_ctx": _FIXED,
        "keep_alive": "SGLang keeps its model loaded until it ends.",
        "think": 'Use `chat_template_kwargs={"enable_thinking": False}` in `extra_body`.',
        "num_predict": "Use `max_tokens`.",
    },
    renames={"repeat_penalty": "repetition_penalty"},
)
