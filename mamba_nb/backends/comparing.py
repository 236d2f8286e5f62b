"""Profiles of several models side by side: names, live backends and found servers in, a `ProfileComparison` out.

    compare_profiles(["gpt-4o", "claude-3-opus", create_ollama_backend("llama3.2")])
    compare_profiles(find_servers(), tools=True, min_context=32_000)

A plain name is looked up and nobody is asked; so is a `ModelProfile`. A backend, and a name with a server before it
(`ollama:llama3.2`), is asked what its server declares: all of them at once. A server that does not answer is a row
with what is claimed for the name, and a note.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack
from urllib.parse import urlsplit

from mamba_nb._bridge import Run, refuse_on_private_loops
from mamba_nb._http import is_openai_host
from mamba_nb._look import look
from mamba_nb.backends.comparing_filters import Filters, checked_filters
from mamba_nb.backends.comparing_record import ProfileComparison, ProfileRow
from mamba_nb.backends.names import parse_model_name
from mamba_nb.backends.prices import local_facts, price_at
from mamba_nb.backends.profiles import get_profile, list_profiles
from mamba_nb.backends.profiles_record import ModelProfile
from mamba_nb.errors import BadInput, MambaError, closest
from mamba_nb.servers import failures, replies
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import is_same_model
from mamba_nb.servers.server import Server

if TYPE_CHECKING:
    from mamba_nb.backends.backend import OpenAICompatibleBackend

__all__ = ["ProfileComparison", "ProfileRow", "compare_profiles"]

ProfileLike: TypeAlias = "str | OpenAICompatibleBackend | ModelProfile | Server | ServedModel | Any"

ASKING_S = 1.5  # how long a server that declared nothing may take to say whether it is there


def compare_profiles(
    models: ProfileLike | Iterable[ProfileLike] | Mapping[str, ProfileLike], **filters: Unpack[Filters]
) -> ProfileComparison:
    """What is known of several models, side by side.

        compare_profiles(["gpt-4o", "claude-3-opus", "ollama:llama3.2"], tools=True, min_context=32_000)

    Args:
        models: Names, backends, `ModelProfile`s, variants, and servers as `find_servers()` gives them (each with all
            its models), mixed freely; or a mapping from labels of your own to them. A name with a server before it
            (`ollama:llama3.2`, `embedded`) is a backend there; any other name is looked up, and nobody is asked.
        **filters: As for `ProfileComparison.filter`.

    Returns:
        A `ProfileComparison`. Servers are asked all at once, each for some seconds at most; one that does not answer
        is a row with what is claimed and a note, and a name that nobody knows a row of unknowns.

    Raises:
        BadInput: If something is none of these, or a filter is wrong. Nobody has been asked then.
        KeyboardInterrupt: On an interrupt, while servers are asked.
    """
    refuse_on_private_loops("compare_profiles", "call it before or after, or give it profiles")
    checked_filters(filters)
    wanted = [each for label, model in _pairs(models) for each in _wanted(model, label)]
    with contextlib.ExitStack() as closing:
        live = [_opened(each, closing) for each in wanted]
        for each in live:  # the catalogue is read here, not on the loop that other requests run on
            get_profile(each.model)
        backends = {id(each.backend): each.backend for each in live if each.backend is not None}
        answers = _asked(list(backends.values()))
        rows = [_row(each, answers.get(id(each.backend))) for each in live]
    return ProfileComparison(rows=labelled(rows)).filter(**filters)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """One row to be, as it was given."""

    model: str
    label: str | None = None
    name: str | None = None  # names a server: a backend is to be made of it
    backend: OpenAICompatibleBackend | None = None
    profile: ModelProfile | None = None
    server: str | None = None
    base_url: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What came of asking a backend's server."""

    profile: ModelProfile | None = None
    note: str | None = None


def _pairs(models: Any) -> list[tuple[str | None, Any]]:
    from mamba_nb.backends.backend import OpenAICompatibleBackend

    if isinstance(models, Mapping):
        return [(str(label), model) for label, model in models.items()]
    if isinstance(models, str | OpenAICompatibleBackend | ModelProfile | Server | ServedModel):
        return [(None, models)]
    if not isinstance(models, Iterable):
        return [(None, models)]  # one variant, or something to refuse
    return [(None, model) for model in models]


def _wanted(model: Any, label: str | None) -> list[_Wanted]:
    from mamba_nb.backends.backend import OpenAICompatibleBackend

    if isinstance(model, str):
        name = str(model).strip()
        if not name:
            raise BadInput("A model's name must not be empty.", hint='Write it as in "gpt-4o" or "ollama:llama3.2".')
        parsed = parse_model_name(name)
        return [_Wanted(model=parsed.model or name, label=label, name=name if parsed.server else None)]
    if isinstance(model, OpenAICompatibleBackend):
        return [_Wanted(model=model.model, label=label, backend=model)]
    if isinstance(model, ModelProfile):
        return [_Wanted(model=model.requested or "?", label=label, profile=model)]
    if isinstance(model, Server):
        return [_served(each, model, label) for each in model.models] or [_empty(model, label)]
    if isinstance(model, ServedModel):
        return [_served(model, None, label)]
    inner = getattr(model, "backend", None)  # a variant: one model under other conditions
    if isinstance(inner, str | OpenAICompatibleBackend):
        (wanted,) = _wanted(inner, label)
        return [replace(wanted, label=label or f"{wanted.model}, {getattr(model, 'name', 'variant')}")]
    raise BadInput(
        f"compare_profiles takes names, backends, profiles and servers. What came: {type(model).__name__}.",
        hint='For instance compare_profiles(["gpt-4o", create_ollama_backend("llama3.2")]).',
    )


def _served(model: ServedModel, server: Server | None, label: str | None) -> _Wanted:
    """A model as a server has declared it; nobody is asked again."""
    declared = model.facts()
    profile = _overlaid(get_profile(model.id), declared)
    if server is None:
        return _Wanted(model=model.id, label=label, profile=profile)
    from mamba_nb.backends.verified import verified_facts

    profile = _overlaid(profile, local_facts(server.base_url, server.kind, declared))
    profile = _overlaid(profile, verified_facts(server.base_url, model.id, model.digest, declared=declared))
    label = label if len(server.models) == 1 else f"{label}: {model.id}" if label else None
    return _Wanted(model=model.id, label=label, profile=profile, server=server.kind, base_url=server.base_url)


def _empty(server: Server, label: str | None) -> _Wanted:
    return _Wanted(
        model="?",
        label=label,
        profile=ModelProfile(name=None, requested="?"),
        server=server.kind,
        base_url=server.base_url,
        notes=(f"{server.about.title} at {server.base_url} lists no model.",),
    )


def _opened(wanted: _Wanted, closing: contextlib.ExitStack) -> _Wanted:
    """A name that means a server, with a backend for it; one that cannot be made is a note."""
    if wanted.name is None:
        return wanted
    from mamba_nb.backends.factories import backend_for

    try:
        backend = closing.enter_context(backend_for(wanted.name))
    except MambaError as error:
        server = parse_model_name(wanted.name).server
        return replace(wanted, name=None, server=server, notes=(_one_line(str(error)),))
    return replace(wanted, model=backend.model, backend=backend)


def _asked(backends: list[OpenAICompatibleBackend]) -> dict[int, _Answer]:
    """What the servers say, asked all at once on the I/O loop."""
    if not backends:
        return {}

    async def ask_all(_run: Run[Any, list[_Answer]]) -> list[_Answer]:
        return await asyncio.gather(*map(_ask, backends))

    answers = Run(ask_all, name=f"compare_profiles of {len(backends)} backends").result()
    return {id(backend): answer for backend, answer in zip(backends, answers, strict=True)}


async def _ask(backend: OpenAICompatibleBackend) -> _Answer:
    try:
        declared = await backend.declare()
        profile = backend.profile
    except MambaError as error:
        return _Answer(note=_one_line(str(error)))
    return _Answer(profile=profile, note=None if declared else await _why_silent(backend))


async def _why_silent(backend: OpenAICompatibleBackend) -> str | None:
    """Why a server declares nothing of a model: it is not there, or does not have it; None where all is well."""
    where = backend.where()
    if is_openai_host(where.host):
        return None  # its list of models says nothing of them, so it was not asked
    try:
        answer = await look(f"{where.base_url}/models", key=where.key, read_s=ASKING_S, trust_env=where.proxied)
    except TimeoutError:
        return f"{where.base_url} did not answer in time; what is claimed for the name is shown."
    except Exception as error:  # a certificate, a broken reply: whatever it is, the row says it
        return _one_line(str(failures.translate(error, where)))
    if not answer.ok:
        return _one_line(str(replies.judged(answer.status, answer.json or answer.text, where, answer.headers)))
    served = _ids(answer.json)
    if served and not any(is_same_model(backend.model, each) for each in served):
        near = closest(backend.model, served)
        return f"{where.base_url} does not list {backend.model!r}." + (f" Did you mean {near!r}?" if near else "")
    return None


def _ids(listing: Any) -> list[str]:
    entries = listing.get("data") if isinstance(listing, Mapping) else None
    entries = entries if isinstance(entries, list) else []
    return [entry["id"] for entry in entries if isinstance(entry, Mapping) and isinstance(entry.get("id"), str)]


def _row(wanted: _Wanted, answer: _Answer | None) -> ProfileRow:
    """The row without its final label."""
    notes = list(wanted.notes)
    backend, server, base_url = wanted.backend, wanted.server, wanted.base_url
    profile = wanted.profile
    if backend is not None and answer is not None:
        profile, base_url = answer.profile, backend.base_url
        server = backend.server
        notes += [answer.note] if answer.note else []
    if profile is None:
        profile = get_profile(wanted.model)
    if backend is not None:
        declared = {name: fact for name in ("runs_locally",) if (fact := profile.said(name).get("declared"))}
        profile = _overlaid(profile, price_at(backend.base_url, profile.requested or wanted.model))
        profile = _overlaid(profile, local_facts(backend.base_url, server, declared))
    elif wanted.profile is None and profile.name is None and not notes:
        notes.append(_unknown_name(wanted.model))
    model = profile.requested or wanted.model
    return ProfileRow(
        label=wanted.label or model, model=model, server=server, base_url=base_url, profile=profile, notes=tuple(notes)
    )


def _overlaid(profile: ModelProfile, facts: Mapping[str, Any]) -> ModelProfile:
    """`with_facts`, where a server may have declared what no profile can hold: such a fact is left out."""
    for name, fact in facts.items():
        with contextlib.suppress(BadInput):
            profile = profile.with_facts({name: fact})
    return profile


def _unknown_name(name: str) -> str:
    from mamba_nb.backends import catalogue

    near = closest(name.lower(), [*list_profiles(), *catalogue.names()])
    meant = f" Did you mean {near!r}?" if near and near.lower() != name.lower() else ""
    return (
        f"Neither the table nor the catalogue knows {name!r}.{meant} A backend can be asked what its server declares."
    )


def labelled(rows: list[ProfileRow]) -> tuple[ProfileRow, ...]:
    """The rows with labels that tell them apart: by the server, else by its address, else by number."""
    labels = [row.label for row in rows]
    for tell in (lambda row: row.server, lambda row: urlsplit(row.base_url or "").netloc):
        double = {label for label in labels if labels.count(label) > 1}
        if not double:
            break
        labels = [
            f"{label} ({told})" if label in double and (told := tell(row)) else label
            for row, label in zip(rows, labels, strict=True)
        ]
    seen: dict[str, int] = {}
    final: list[ProfileRow] = []
    for row, label in zip(rows, labels, strict=True):
        seen[label] = seen.get(label, 0) + 1
        told = label if seen[label] == 1 else f"{label} ({seen[label]})"
        final.append(replace(row, label=told, place=len(final)))
    return tuple(final)


def _one_line(text: str) -> str:
    return " ".join(text.split())
