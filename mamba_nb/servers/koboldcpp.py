"""KoboldCpp: one model of llama.cpp's kind, one answer at a time, the model's name in a request ignored.

Its imitation of Ollama (`/api/tags`, `/api/version`) says the same of every model, so nothing is read from there.

Sources: KoboldCpp's koboldcpp.py (do_GET: `/v1/models`, `/api/extra/version`, `/api/extra/true_max_context_length`,
`/api/extra/perf`; do_POST: `/api/extra/tokencount`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from mamba_nb.errors import NotHere
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.calling import call, failed, where_is
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Kind, Sighting
from mamba_nb.servers.members import ANY, listed, member, number, owners, said, text, truth, whole

VERSION = "/api/extra/version"
NOTHING = ("inactive", "koboldcpp/inactive")


async def recognise(asking: Asking) -> Sighting | None:
    """By `/api/extra/version`, which is public; asked where `/v1/models` leaves it open."""
    if not await owners(asking, "koboldcpp"):
        return None
    document = await asking.json(VERSION)
    if member(document, "result") != "KoboldCpp":
        return None
    return Sighting(
        kind="koboldcpp",
        certainty="certain",
        evidence=f'GET {VERSION} says "result": "KoboldCpp"',
        version=text(member(document, "version")),
        needs_key=member(document, "protected") is True and not asking.key,
    )


async def version(asking: Asking) -> str | None:
    """`version` of `/api/extra/version`; `/api/version` is the imitation's."""
    return text(member(await asking.json(VERSION), "version"))


async def models(asking: Asking) -> Sequence[ServedModel]:
    """The model it was started with first; in router mode the others after it, which are not in memory."""
    found, context, able = await asyncio.gather(
        listed(asking), asking.json("/api/extra/true_max_context_length"), asking.json(VERSION)
    )
    names = [entry["id"] for entry in found]
    first, others = names[:1], [ServedModel(id=name, state="unloaded") for name in names[1:]]
    return [_running(name, context, able) for name in first if name not in NOTHING] + others


def _running(name: str, context: Any, able: Any) -> ServedModel:
    model = said(ServedModel(id=name), "GET /v1/models", state="loaded")
    model = said(model, "GET /api/extra/true_max_context_length", context_window=whole(member(context, "value")))
    return said(model, f"GET {VERSION}", supports_vision=truth(member(able, "vision")))


async def tokenize(asking: Asking, model: str, content: str) -> list[int]:
    """`POST /api/extra/tokencount` without the tokens that begin a text."""
    return (await _count(asking, model, {"prompt": content, "special": False}))[0]


async def count_tokens(
    asking: Asking, model: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> int:
    """`POST /api/extra/tokencount` with messages, which newer versions put through their template.

    Raises:
        NotHere: If this version counts plain text only; then its answer does not repeat the prompt.
    """
    body = {"messages": list(messages), **({"tools": list(tools)} if tools else {})}
    ids, prompt = await _count(asking, model, body)
    if not prompt:
        where = where_is(asking, "koboldcpp", model)
        raise NotHere(
            f"This {where.server} counts the tokens of a text, not of a chat.",
            hint="A newer version of it does.",
            base_url=asking.base_url,
            model=model,
        )
    return len(ids)


async def _count(asking: Asking, model: str, body: Mapping[str, Any]) -> tuple[list[int], str | None]:
    """The token ids, and the prompt that they are of where the server says it."""
    answer = await call(asking, "/api/extra/tokencount", body, kind="koboldcpp", verb="count tokens")
    ids = member(answer.json, "ids")
    if not isinstance(ids, list) or any(whole(token, 0) is None for token in ids):
        raise failed(asking, "koboldcpp", model, "count tokens", answer.json)
    return [int(token) for token in ids], text(member(answer.json, "prompt"), ANY)


async def metrics(asking: Asking) -> Mapping[str, float]:
    """`/api/extra/perf`: what waits, and how fast its last answer was."""
    answer = await call(asking, "/api/extra/perf", None, method="GET", kind="koboldcpp", verb="tell its figures")
    names = {
        "requests_waiting": "queue",
        "requests_total": "total_gens",
        "last_prompt_tokens": "last_input_count",
        "last_output_tokens": "last_token_count",
        "last_prompt_tokens_per_s": "last_process_speed",
        "last_decode_tokens_per_s": "last_eval_speed",
        "uptime_s": "uptime",
    }
    figures = {name: number(member(answer.json, theirs)) for name, theirs in names.items()}
    idle = number(member(answer.json, "idle"))
    figures["requests_running"] = None if idle is None else 1.0 - min(idle, 1.0)
    return {name: float(value) for name, value in figures.items() if value is not None}


KIND = Kind(
    name="koboldcpp",
    title="KoboldCpp",
    default_url="http://localhost:5001/v1",
    start="Start it with `koboldcpp FILE.gguf`",
    ports=(5001,),
    owned_by=("koboldcpp",),
    recognise=recognise,
    models=models,
    version=version,
    tokenize=tokenize,
    count_tokens=count_tokens,
    metrics=metrics,
    ignores={"n": "Send as many requests."},  # its answer always has one choice: koboldcpp.py, generate_text
)
