"""text-generation-webui: one model at a time, which a person or `/v1/internal/model/load` chooses.

The model's name in a request is ignored, and a prompt that is too long is cut at its start without a word. It
nowhere says how long its context is.

Sources: text-generation-webui's modules/api/script.py (paths and keys; extensions/openai/script.py before 4.0),
modules/api/models.py (what is loaded), modules/api/typing.py (what a chat request may have).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from mamba_nb.errors import BadInput
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.calling import LOAD_S, call, failed, no_place
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Kind, Sighting
from mamba_nb.servers.members import ANY, listed, member, owners, said, text, whole, words

INFO = "/v1/internal/model/info"
LIST = "/v1/internal/model/list"
NOTHING = "None"  # the name of what is loaded where nothing is


async def recognise(asking: Asking) -> Sighting | None:
    """By `/v1/internal/model/info`, asked where the models' owner is `user` or there are none.

    Where a key is wanted, its API document (`/openapi.json`, public as FastAPI has it) names that path.
    """
    answer = await asking.look("/v1/models")
    if answer is None or not await owners(asking, "user"):
        return None
    if answer.status == 401:
        if member(answer.json, "detail") != "Unauthorized":
            return None
        if not isinstance(member(await asking.json("/openapi.json"), "paths", INFO), Mapping):
            return None
        return Sighting(
            kind="textgenwebui", certainty="certain", evidence=f"GET /openapi.json has {INFO}", needs_key=True
        )
    info = await asking.json(INFO)
    if not isinstance(info, Mapping) or not {"model_name", "lora_names"} <= info.keys():
        return None
    return Sighting(kind="textgenwebui", certainty="certain", evidence=f'GET {INFO} has "model_name" and "lora_names"')


async def models(asking: Asking) -> Sequence[ServedModel]:
    """What is loaded, and what could be (`/v1/internal/model/list`, which may want the key of its administrator)."""
    found, info, files = await asyncio.gather(listed(asking), asking.json(INFO), asking.json(LIST))
    loaded = text(member(info, "model_name"))
    loader = text(member(info, "loader"))
    names = [entry["id"] for entry in found] + list(words(member(files, "model_names")))
    if loaded:
        names.insert(0, loaded)
    return [_model(name, loaded, loader) for name in dict.fromkeys(names) if name.strip() and name != NOTHING]


def _model(name: str, loaded: str | None, loader: str | None) -> ServedModel:
    if loaded is None:
        return ServedModel(id=name)
    extras = {"loader": loader} if loader and name == loaded else {}
    return said(ServedModel(id=name, extras=extras), f"GET {INFO}", state="loaded" if name == loaded else "unloaded")


async def load(asking: Asking, model: str, *, context_length: int | None, keep_alive: str | float | None) -> None:
    """`POST /v1/internal/model/load`, which unloads the other one first.

    The context goes there as `ctx_size`; a version whose loader calls it otherwise ignores that, and none says what
    it took.
    """
    no_place("textgenwebui", {"keep_alive": "It keeps a model until another is loaded."}, keep_alive=keep_alive)
    body: dict[str, Any] = {"model_name": model}
    if context_length is not None:
        body["args"] = {"ctx_size": context_length}
    where: dict[str, Any] = {"kind": "textgenwebui", "verb": "load a model"}
    answer = await call(asking, "/v1/internal/model/load", body, read_s=LOAD_S, **where)
    if answer.json != "OK":
        raise failed(asking, "textgenwebui", model, f"load {model}", answer.json or answer.text)


async def unload(asking: Asking, model: str) -> None:
    """`POST /v1/internal/model/unload`, which unloads whatever is loaded.

    Raises:
        BadInput: If that is another model.
    """
    asking.forget(INFO)
    loaded = text(member(await asking.json(INFO), "model_name"))
    if loaded != model:
        now = f"{loaded!r} is" if loaded and loaded != NOTHING else "Nothing is"
        raise BadInput(f"{model!r} is not loaded. {now} in memory.", base_url=asking.base_url, model=model)
    await call(asking, "/v1/internal/model/unload", {}, kind="textgenwebui", verb="unload its model", read_s=60.0)


async def tokenize(asking: Asking, model: str, content: str) -> list[int]:
    """`POST /v1/internal/encode`, by the model that is loaded."""
    answer = await call(
        asking, "/v1/internal/encode", {"text": content}, kind="textgenwebui", verb="tokenize", read_s=60.0
    )
    tokens = member(answer.json, "tokens")
    if not isinstance(tokens, list) or any(whole(token, 0) is None for token in tokens):
        raise failed(asking, "textgenwebui", model, "tokenize", answer.json)
    return [int(token) for token in tokens]


async def count_tokens(
    asking: Asking, model: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> int:
    """The prompt that it would make (`/v1/internal/chat-prompt`), counted (`/v1/internal/token-count`)."""
    body = {"messages": list(messages), **({"tools": list(tools)} if tools else {})}
    where: dict[str, Any] = {"kind": "textgenwebui", "verb": "count tokens", "read_s": 60.0}
    made = await call(asking, "/v1/internal/chat-prompt", body, **where)
    prompt = text(member(made.json, "prompt"), ANY)
    if prompt is None:
        raise failed(asking, "textgenwebui", model, "make the prompt", made.json)
    counted = await call(asking, "/v1/internal/token-count", {"text": prompt}, **where)
    length = whole(member(counted.json, "length"), 0)
    if length is None:
        raise failed(asking, "textgenwebui", model, "count tokens", counted.json)
    return length


KIND = Kind(
    name="textgenwebui",
    title="text-generation-webui",
    default_url="http://localhost:5000/v1",
    start="Start it with `--api`",
    ports=(5000,),
    one_model_at_a_time=True,
    recognise=recognise,
    models=models,
    load=load,
    unload=unload,
    tokenize=tokenize,
    count_tokens=count_tokens,
    ignores={  # members that its ChatCompletionRequest does not have, or calls unused: modules/api/typing.py
        "n": "Send as many requests.",
        "response_format": "Ask for JSON in the prompt, or send its own `grammar_string`.",
        "parallel_tool_calls": "Say in the prompt how many calls are wanted.",
    },
)
