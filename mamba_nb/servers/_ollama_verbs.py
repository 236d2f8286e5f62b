"""What Ollama does with a model besides answering: pull, load, unload.

In: one server's paths and a model's name. Out: progress, or nothing; whatever goes wrong is one of this package's
errors with Ollama's own words.

Sources: Ollama's api/types.go (ProgressResponse, GenerateRequest, EmbedRequest), server/images.go (PullModel),
server/routes.go (PullHandler, GenerateHandler, EmbedHandler, streamResponse).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, cast

from mamba_nb.errors import BadInput, MambaError, ModelNotFound, RequestRejected, ServerFailed
from mamba_nb.servers._ollama_models import tagged
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.calling import LOAD_S, call, failed, stream, where_is
from mamba_nb.servers.failures import interrupted
from mamba_nb.servers.members import entries, member, text, whole
from mamba_nb.servers.pulling import PullProgress
from mamba_nb.servers.where import readable

__all__ = ["load", "pull", "unload"]

OLLAMA = "ollama"
NO_PATH = ("404 page not found",)
SILENCE_S = 600.0  # checking the digest of a large model says nothing for minutes
GONE_S = 5.0

AGAIN = "Pull it again: what has come so far is kept."
HINTS = (  # what the words of a failed pull mean
    (r"file does not exist", "Its library has no model of this name; names and tags are at https://ollama.com/search."),
    (r"no space left|not enough (disk )?space", "Free some space on its disk, then pull again: what has come is kept."),
    (r"newer version of Ollama|412", "Update Ollama: this model needs a newer one."),
    (
        r"no such host|dial tcp|i/o timeout|connection (refused|reset)|TLS|proxyconnect|no route",
        "Ollama has no way to its library. Where a proxy is needed, start it with HTTPS_PROXY set. " + AGAIN,
    ),
    (r"unauthorized|401|403|forbidden", "Sign in on that machine with `ollama signin`; private models need it."),
)


async def pull(asking: Asking, model: str, options: Mapping[str, Any]) -> AsyncIterator[PullProgress]:
    """Download a model: `POST /api/pull`.

    Args:
        asking: The server.
        model: Its name in Ollama's library; without a tag `:latest` is meant.
        options: `insecure=True` allows a registry without TLS.

    Yields:
        How far it is; the bytes are summed over all of its layers, as far as they are known by now.

    Raises:
        BadInput: For another option.
        ModelNotFound: If the library has no such model.
        StreamInterrupted: If the connection ended before the download did. To leave early cancels the download;
            the next one goes on from there.
        ServerError: Whatever else goes wrong.
    """
    for name, value in options.items():
        if name != "insecure" or not isinstance(value, bool):
            raise BadInput(f"Ollama has no place for {name}={value!r} when it pulls a model.", hint="insecure=True is.")
    layers: dict[str, tuple[int, int]] = {}
    lines = stream(
        asking,
        "/api/pull",
        {"model": model, **options},
        kind=OLLAMA,
        model=model,
        verb="pull a model",
        no_path=NO_PATH,
        silence_s=SILENCE_S,
    )
    async with contextlib.aclosing(cast("AsyncGenerator[bytes]", lines)):
        async for line in lines:
            event = _read(line)
            if (error := event.get("error")) is not None:
                raise _not_pulled(asking, model, error)
            status = text(event.get("status")) or ""
            if (total := whole(event.get("total"))) is not None:
                layers[text(event.get("digest")) or status] = (min(whole(event.get("completed")) or 0, total), total)
            yield _progress(model, status, layers)
            if status == "success":
                asking.forget("/api/tags", "/v1/models")
                return
    stopped = interrupted(where_is(asking, OLLAMA, model))
    stopped.hint = AGAIN
    raise stopped


def _read(line: bytes) -> Mapping[str, Any]:
    """One line's object; nothing where it is none."""
    from pydantic_core import from_json

    try:
        event = from_json(line)
    except ValueError:
        return {}
    return event if isinstance(event, Mapping) else {}


def _progress(model: str, status: str, layers: Mapping[str, tuple[int, int]]) -> PullProgress:
    return PullProgress(
        model=model,
        status=status[:200],
        completed_bytes=sum(done for done, _ in layers.values()) if layers else None,
        total_bytes=sum(total for _, total in layers.values()) if layers else None,
    )


def _not_pulled(asking: Asking, model: str, error: Any) -> MambaError:
    says = error if isinstance(error, str) else str(member(error, "message") or error)
    hint = next((hint for words, hint in HINTS if re.search(words, says, re.IGNORECASE)), AGAIN)
    if "file does not exist" in says:
        return ModelNotFound(
            model, base_url=asking.base_url, hint=hint, server_says=readable(says, where_is(asking, OLLAMA, model))
        )
    found = failed(asking, OLLAMA, model, f"pull {model}", {"error": says})
    found.hint = hint
    return found


async def load(asking: Asking, model: str, *, context_length: int | None, keep_alive: str | float | None) -> None:
    """Load a model and wait until it is in memory: `POST /api/generate` without a prompt.

    Args:
        asking: The server.
        model: Its name.
        context_length: Tokens of context, `num_ctx`; None leaves it to the Modelfile and the server.
        keep_alive: How long it stays: seconds, a text such as `"30m"`, -1 for good; None leaves it to the server.

    Raises:
        BadInput: For a context or a time that cannot be meant.
        ModelNotFound: If it is not installed; the message lists what is.
        ServerError: If it does not load, for want of memory for instance.
    """
    body: dict[str, Any] = {"model": model, "stream": False}
    if context_length is not None:
        if whole(context_length) is None:
            raise BadInput(f"context_length must be a whole number of tokens, at least 1; this is {context_length!r}.")
        body["options"] = {"num_ctx": context_length}
    if keep_alive is not None:
        body["keep_alive"] = _kept(keep_alive)
    try:
        answer = await _ask(asking, "/api/generate", body, model, "load a model")
    except RequestRejected as error:
        if "does not support generate" not in (error.server_says or ""):
            raise
        answer = await _ask(asking, "/api/embed", {**body, "input": []}, model, "load a model")  # an embedding model
    if not isinstance(answer, Mapping) or answer.get("error"):
        raise failed(asking, OLLAMA, model, f"load {model}", answer)
    asking.forget("/api/ps")


def _kept(keep_alive: Any) -> str | float:
    """The time in one of Ollama's ways: text with its unit, or whole seconds."""
    if isinstance(keep_alive, str) and re.fullmatch(r"-?(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+", keep_alive):
        return keep_alive
    if isinstance(keep_alive, int | float) and not isinstance(keep_alive, bool) and not math.isnan(keep_alive):
        if keep_alive == 0:
            raise BadInput("keep_alive=0 unloads the model at once.", hint="Use unload() for that.")
        if keep_alive < 0 or math.isinf(keep_alive):
            return -1
        return max(1, round(keep_alive))
    raise BadInput(
        f"keep_alive must be seconds, or a time with its unit; this is {keep_alive!r}.",
        hint='For example "30m", "1h30m", 600, or -1 to keep it for good.',
    )


async def unload(asking: Asking, model: str) -> None:
    """Take a model out of memory: `POST /api/generate` with `keep_alive` 0; waits a little until it is gone.

    A model that is answering leaves when it has done so.

    Raises:
        ModelNotFound: If it is not installed; the message lists what is.
        ServerError: Whatever else goes wrong.
    """
    body = {"model": model, "keep_alive": 0, "stream": False}
    await _ask(asking, "/api/generate", body, model, "unload a model", read_s=30.0)
    wanted = tagged(model).lower()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GONE_S):
            while True:
                asking.forget("/api/ps")
                names = {
                    tagged(text(entry.get("name")) or "") for entry in entries(await asking.json("/api/ps"), "models")
                }
                if wanted not in {name.lower() for name in names}:
                    break
                await asyncio.sleep(0.1)
    asking.forget("/api/ps")


async def _ask(
    asking: Asking, path: str, body: Mapping[str, Any], model: str, verb: str, *, read_s: float = LOAD_S
) -> Any:
    """Ask, and say which models there are where this one is not."""
    try:
        answer = await call(asking, path, body, kind=OLLAMA, model=model, read_s=read_s, verb=verb, no_path=NO_PATH)
    except ModelNotFound as error:
        asking.forget("/api/tags")
        served = [
            name for entry in entries(await asking.json("/api/tags"), "models") if (name := text(entry.get("name")))
        ]
        found = ModelNotFound(
            model,
            base_url=asking.base_url,
            served=served,
            hint=f"Install it: `ollama pull {model}`, or pull({model!r}) on this server.",
            server_says=error.server_says,
        )
        found.status = error.status
        raise found from None
    except ServerFailed as error:
        error.model = model
        raise
    return answer.json
