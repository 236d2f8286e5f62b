"""What can be wrong with a server, its models and the surroundings: one small check each.

In: what was found. Out: problems, each with the command that mends it. Nothing here opens a connection.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import urlsplit

from mamba_nb._http import is_local_host, proxy_for
from mamba_nb.doctor.report import Problem
from mamba_nb.errors import closest, listed
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import is_same_model
from mamba_nb.servers.server import Server

__all__ = ["of_configuration", "of_proxies", "of_server"]

SMALL_CONTEXT = 8_192  # tokens; where a model could hold more than this and is given less, people run into the end


def of_server(server: Server) -> tuple[Problem, ...]:
    """What is wrong with one server."""
    return tuple(problem for check in CHECKS for problem in check(server))


def _said_by_discovery(server: Server) -> Iterator[Problem]:
    for text in server.problems:
        what, _, fix = text.partition(". ")
        yield Problem(
            severity="warning", what=f"{_title(server)}: {what.rstrip('.')}.", fix=fix or "Its log says more."
        )


def _no_models(server: Server) -> Iterator[Problem]:
    if server.models or server.sighting.needs_key:
        return
    fixes = {
        "ollama": "`ollama pull llama3.2`, or server.pull('llama3.2').",
        "lmstudio": "Download one in LM Studio, or `lms get qwen/qwen3-8b`.",
    }
    yield Problem(
        severity="warning",
        what=f"{_title(server)} has no model.",
        fix=fixes.get(server.kind, "Its own documentation says how to add one."),
    )


def _small_context(server: Server) -> Iterator[Problem]:
    for model in server.models:
        in_force, most = model.context_window, model.context_max
        if model.task == "embedding" or not in_force or not most:
            continue
        if model.loaded is not False and in_force <= SMALL_CONTEXT and most >= 2 * in_force:
            yield Problem(
                severity="warning",
                what=f"{model.id} on {_title(server)} has a context of {in_force:,} tokens; it can hold {most:,}."
                + (" Ollama drops what is older without saying so." if server.kind == "ollama" else ""),
                fix=_more_context(server, model),
            )


def _more_context(server: Server, model: ServedModel) -> str:
    wanted = min(model.context_max or 0, 4 * (model.context_window or 0))
    return {
        "ollama": f"create_ollama_backend({model.id!r}, num_ctx={wanted}), or start Ollama with "
        f"OLLAMA_CONTEXT_LENGTH={wanted}.",
        "lmstudio": f"`lms load {model.id} --context-length {wanted}`, or server.load({model.id!r}, "
        f"context_length={wanted}).",
        "llamacpp": f"Restart llama-server with `-c {wanted}`; the slots (`-np`) share it.",
        "embedded": f"create_embedded_backend(n_ctx={wanted}).",
        "vllm": f"Restart vLLM with `--max-model-len {wanted}`.",
    }.get(server.kind, "Start it with a larger context.")


def _off_the_machine(server: Server) -> Iterator[Problem]:
    away = [model.id for model in server.models if model.runs_locally is False]
    if away:
        yield Problem(
            severity="warning",
            what=f"{_title(server)} passes prompts for {listed(away)} on to another machine.",
            fix="Choose another model for what must stay here.",
        )


CHECKS: tuple[Callable[[Server], Iterator[Problem]], ...] = (
    _said_by_discovery,
    _no_models,
    _small_context,
    _off_the_machine,
)


def of_configuration(base_url: str, model: str | None, source: str, servers: list[Server]) -> Iterator[Problem]:
    """Whether the address and the model that somebody configured are there.

    Args:
        base_url: The address.
        model: The model that was configured beside it; None where none was.
        source: Who says so, for the message (`MAMBA_MODEL_BACKEND__BASE_URL`, `--url`).
        servers: What was found.
    """
    server = next((server for server in servers if _same_place(server.base_url, base_url)), None)
    if server is None:
        yield Problem(
            severity="error",
            what=f"No model server answers at {base_url} ({source}).",
            fix="Start it, or correct the address." + _instead(servers),
        )
        return
    if server.base_url != base_url.rstrip("/") and urlsplit(server.base_url).path != urlsplit(base_url).path:
        yield Problem(
            severity="error",
            what=f"The address {base_url} ({source}) has not the path of {_title(server)}.",
            fix=f"Use {server.base_url}.",
        )
    ids = [each.id for each in server.models]
    if model is None or not ids or any(is_same_model(model, each) for each in ids):
        return
    near = closest(model, ids)
    yield Problem(
        severity="error",
        what=f"{_title(server)} does not have the configured model {model!r}. It has: {listed(ids)}.",
        fix=f"Did you mean {near!r}?" if near else "Configure one of these, or install it there.",
    )


def of_proxies(servers: list[Server], environ: Mapping[str, str] | None = None) -> Iterator[Problem]:
    """Whether a proxy would take calls that other programs make to a server on this machine."""
    environ = os.environ if environ is None else environ
    caught = [
        server.base_url
        for server in servers
        if is_local_host(urlsplit(server.base_url).hostname or "") and proxy_for(server.base_url)
    ]
    if caught:
        yield Problem(
            severity="warning",
            what=f"The proxy {proxy_for(caught[0])} takes other programs' calls to {listed(caught)}; this package "
            "goes past it.",
            fix="Set NO_PROXY=localhost,127.0.0.1,::1",
        )


def _same_place(one: str, other: str) -> bool:
    first, second = urlsplit(one), urlsplit(other)
    return (_host(first.hostname), first.port) == (_host(second.hostname), second.port)


def _host(name: str | None) -> str:
    return "127.0.0.1" if name in ("localhost", "::1", "0.0.0.0", "::", None) else name


def _instead(servers: list[Server]) -> str:
    return f" Running: {listed([server.base_url for server in servers])}." if servers else ""


def _title(server: Server) -> str:
    return f"{server.about.opening} at {server.base_url}"
