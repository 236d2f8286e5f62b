"""The models of a profile table: what was given, what is known of it by now, and who can be asked about it.

In go names, backends, profiles, variants and servers, as `compare_profiles` takes them; out come `Entry` objects, one a
model. `Entry.read` asks what there is to ask and blocks, so it runs on a worker thread.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mamba_nb._bridge import Run
from mamba_nb.backends.backend import OpenAICompatibleBackend
from mamba_nb.backends.comparing import compare_profiles
from mamba_nb.backends.comparing_record import ProfileRow
from mamba_nb.backends.names import parse_model_name
from mamba_nb.backends.profiles_record import ModelProfile
from mamba_nb.errors import BadInput, MambaError
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.server import Server

if TYPE_CHECKING:
    from mamba_nb.widgets.profile_table_probe import Probing

__all__ = ["Entry", "entries"]

NAME_ALONE = "A name alone is looked up, and nobody is asked. Add it with its server, as in ollama:{name}, to probe it."
NO_SERVER = "This is a profile without a server, so there is nobody to ask."

_numbers = itertools.count(1)


class Entry:
    """One model of the table.

    Args:
        given: A name, a backend, a `ModelProfile`, a `ServedModel`, a variant, or a `Server` with one model or none.
        label: A label of the giver's own, or None.

    Attributes:
        key: Its name between kernel and front end.
        given: What was given.
        label: The giver's own label, or None.
        place: Its place among all models that the table ever had, from 0: it keeps its colour by it.
        row: What is known of it; None until it was asked for the first time.
        asking: Whether that is under way.
        run: The work of asking, or None.
        probing: Its probe, planned, under way or ended; None where there was none.
        probed: The one before that, which counts again if this one is given up before it began.
        backend: Who is asked; None for a name that is only looked up, and before a name's server was turned into one.
    """

    def __init__(self, given: Any, label: str | None = None) -> None:
        self.key = f"m{next(_numbers)}"
        self.given = given
        self.label = label
        self.place = 0
        self.row: ProfileRow | None = None
        self.asking = False
        self.run: Run[Any, Any] | None = None
        self.probing: Probing | None = None
        self.probed: Probing | None = None
        self.backend, self._owned = _backend_of(given), False

    @property
    def title(self) -> str:
        """What to call it before anything is known of it."""
        return self.label or _name_of(self.given)

    @property
    def is_live(self) -> bool:
        """Whether a server stands behind it, so that it can be asked again."""
        return self.backend is not None or isinstance(self.given, Server) or _names_server(_inner(self.given))

    @property
    def why_no_probe(self) -> str | None:
        """Why it cannot be probed; None where it can."""
        if self.backend is not None:
            return None
        if isinstance(self.given, Server):
            return "This server lists no model."
        inner = _inner(self.given)
        if not isinstance(inner, str):
            return NO_SERVER
        return "Its server was not reached." if _names_server(inner) else NAME_ALONE.format(name=inner)

    @property
    def model(self) -> Any:
        """What `compare` and `compare_profiles` can take for it."""
        return self.backend if isinstance(self.given, Server) and self.backend is not None else self.given

    def read(self, *, again: bool = False) -> None:
        """Ask what there is to ask, and keep it as `row`; what fails is a note there. Blocks for some seconds at most.

        Args:
            again: Whether the server is to be asked anew.
        """
        try:
            source = self._source(again)
            row = self._compared(source)
            if self.backend is not None and not isinstance(source, Server) and not (self.backend.declared or row.notes):
                self._ask_again(self.backend)  # it is there, and said nothing: it may have been too slow once
                row = self._compared(source)
            if isinstance(source, Server) and not source.models and source.problems:
                row = replace(row, notes=source.problems)
        except MambaError as error:
            row = self._failed(" ".join(str(error).split()))
        except Exception as error:  # a server said something that nobody foresaw: the row says so, the table stands
            row = self._failed(f"{type(error).__name__}: {error}")
        self.row = row

    def close(self) -> None:
        """Stop what is under way; close what was made here. Blocks until its connections have ended."""
        for work in (self.run, self.probing):
            if work is not None:
                work.cancel()
        if self._owned and self.backend is not None:
            self.backend.close()

    def _compared(self, source: Any) -> ProfileRow:
        return compare_profiles([source] if self.label is None else {self.label: source}).rows[0]

    def _source(self, again: bool) -> Any:
        if isinstance(self.given, Server) and self.probing is None:
            return self._refreshed(self.given) if again else self.given  # as it was found: nobody is asked again
        if self.backend is None and _names_server(inner := _inner(self.given)):
            from mamba_nb.backends.factories import backend_for

            self.backend, self._owned = backend_for(inner), True
        elif self.backend is not None and again:
            self._ask_again(self.backend)
        if isinstance(self.given, Server):
            return self.backend or self.given
        if self._owned and self.backend is not None:
            return self.backend if isinstance(self.given, str) else replace(self.given, backend=self.backend)
        return self.given

    def _refreshed(self, server: Server) -> Any:
        """The server as it is now, with the same model."""
        now = server.refresh()
        wanted = {model.id for model in server.models}
        models = tuple(model for model in now.models if not wanted or model.id in wanted)[:1]
        if wanted and not models:
            return self.backend  # it says that the server does not list it any more
        self.given = replace(now, models=models)
        self.backend = _backend_of(self.given)
        return self.given

    def _ask_again(self, backend: OpenAICompatibleBackend) -> None:
        async def declare(_run: Run[Any, Any]) -> Any:
            return await backend.declare(again=True)

        Run(declare, name=f"profile {backend.base_url}").result()

    def _failed(self, note: str) -> ProfileRow:
        old = self.row
        profile = old.profile if old is not None else ModelProfile(name=None, requested=_name_of(self.given))
        if old is None and self.backend is None and isinstance(self.given, str):
            (known, *_) = compare_profiles([_claimed(self.given)]).rows
            profile = known.profile
        server = old.server if old is not None else _server_of(self.given)
        return ProfileRow(label=self.title, model=_name_of(self.given), server=server, profile=profile, notes=(note,))


def entries(models: Any) -> list[Entry]:
    """The entries for what was given; a server gives one a model.

    Raises:
        BadInput: If something is no model, or a name is empty.
    """
    return [entry for label, model in _pairs(models) for entry in _entries(model, label)]


def _pairs(models: Any) -> Iterator[tuple[str | None, Any]]:
    if models is None:
        return
    if isinstance(models, Mapping):
        yield from ((str(label), model) for label, model in models.items())
    elif isinstance(models, Iterable) and not isinstance(models, str | Server):
        yield from ((None, model) for model in models)
    else:
        yield (None, models)


def _entries(model: Any, label: str | None) -> Iterator[Entry]:
    inner = _inner(model)
    if isinstance(inner, str):
        if not inner.strip():
            raise BadInput("A model's name must not be empty.", hint='Write it as in "gpt-4o" or "ollama:llama3.2".')
        parse_model_name(inner)  # a server without a model is refused here, before anything is shown
        yield Entry(model.strip() if isinstance(model, str) else model, label)
    elif isinstance(model, Server):
        for one in model.models or (None,):
            own = label if len(model.models) < 2 or not label or one is None else f"{label}: {one.id}"
            yield Entry(replace(model, models=(one,) if one is not None else ()), own)
    elif isinstance(inner, OpenAICompatibleBackend | ModelProfile | ServedModel):
        yield Entry(model, label)
    else:
        raise BadInput(
            f"ProfileTable takes names, backends, profiles and servers. What came: {type(model).__name__}.",
            hint='For instance ProfileTable(["gpt-4o", create_ollama_backend("llama3.2")]).',
        )


def _inner(given: Any) -> Any:
    """What a variant is a variant of; anything else is itself."""
    return given if isinstance(given, str | OpenAICompatibleBackend) else getattr(given, "backend", given)


def _backend_of(given: Any) -> OpenAICompatibleBackend | None:
    if isinstance(given, Server):
        return given.backend(given.models[0].id) if given.models else None
    inner = _inner(given)
    return inner if isinstance(inner, OpenAICompatibleBackend) else None


def _names_server(given: Any) -> bool:
    return isinstance(given, str) and parse_model_name(given).server is not None


def _server_of(given: Any) -> str | None:
    if isinstance(given, Server):
        return given.kind
    return parse_model_name(given).server if isinstance(given, str) else None


def _claimed(name: str) -> str:
    return parse_model_name(name).model or name


def _name_of(given: Any) -> str:
    if isinstance(given, Server):
        return given.models[0].id if given.models else "?"
    inner = _inner(given)
    if isinstance(inner, str):
        return _claimed(inner)
    if isinstance(inner, ModelProfile):
        return inner.requested or "?"
    return str(getattr(inner, "model", None) or getattr(inner, "id", "?"))
