"""The models that a comparison can choose from: those given in code, and those found on servers.

In go names, backends and variants, and what discovery found. Out come the choices as JSON, and for a chosen one what
`make_plan` takes. Backends made here are kept, so that a second run uses the same connections, and closed here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from mamba_nb._bridge import Run
from mamba_nb.backends.backend import OpenAICompatibleBackend
from mamba_nb.compare.plan import ModelLike, Variant
from mamba_nb.display.text import one_line
from mamba_nb.errors import BadInput
from mamba_nb.servers.found import Servers
from mamba_nb.widgets.picker_choices import choices, find_choice

__all__ = ["LEAST", "MOST", "Models"]

LEAST, MOST = 2, 6
EMBEDDED = "embedded"  # the id of the built-in model, and its name


class Models:
    """What can be chosen, and what is.

    Args:
        given: Names, backends or variants from code; the first six of them are chosen.

    Attributes:
        chosen: Ids, in the order of choosing.
        found: What discovery found, or None before it.
    """

    def __init__(self, given: ModelLike | Iterable[ModelLike] | None) -> None:
        one = isinstance(given, str | OpenAICompatibleBackend | Variant)
        self._given: dict[str, ModelLike] = {}
        for place, model in enumerate([given] if one else given or ()):  # type: ignore[arg-type]
            if not isinstance(model, str | OpenAICompatibleBackend | Variant):
                raise BadInput(
                    f"Model {place} is {type(model).__name__}: a model is a name, a backend or a variant.",
                    hint='For example "ollama/llama3.2", a backend, or variant(backend, temperature=0).',
                )
            self._given[f"given-{place}"] = model
        self.chosen: list[str] = list(self._given)[:MOST]
        self.found: Servers | None = None
        self._made: dict[str, OpenAICompatibleBackend] = {}

    def choices(self) -> list[dict[str, Any]]:
        """All choices as JSON, in the form of `picker_choices.choices`: given ones first."""
        listed = [_given_choice(name, model) for name, model in self._given.items()]
        listed += choices(self.found or ())
        if EMBEDDED not in (*self._given.values(), *(server.kind for server in self.found or ())):
            listed.append(_choice(EMBEDDED, EMBEDDED, "built in", "runs beside this kernel"))
        return listed

    def choose(self, which: str, on: bool) -> None:
        """Choose a model, or leave it."""
        if not on:
            self.chosen = [name for name in self.chosen if name != which]
        elif which not in self.chosen:
            if len(self.chosen) >= MOST:
                raise BadInput(f"{MOST} models are chosen, which is the most.", hint="Leave one first.")
            if not any(choice["id"] == which and not choice["disabled"] for choice in self.choices()):
                raise BadInput("That model is not there any more.", hint="Look again with Find models.")
            self.chosen.append(which)

    def name(self, which: str) -> str:
        """What a column of this model is called."""
        model = self._given.get(which)
        if model is None:
            return next((str(choice["name"]) for choice in self.choices() if choice["id"] == which), which)
        return model.name if isinstance(model, Variant) else model if isinstance(model, str) else model.model

    def model(self, which: str) -> ModelLike:
        """What to give to `make_plan` for a chosen model; building a backend takes a moment."""
        if which in self._given:
            return self._given[which]
        if which == EMBEDDED:
            return EMBEDDED
        if which not in self._made:
            found = find_choice(self.found or (), which)
            if found is None:
                raise BadInput(f"{self.name(which)} is not there any more.", hint="Look again with Find models.")
            server, model = found
            self._made[which] = server.backend(model.id)
        return self._made[which]

    def close(self) -> None:
        """Close the backends that were made here, and do not wait for it."""
        made, self._made = self._made, {}
        for backend in made.values():
            with contextlib.suppress(Exception):  # the loop may be gone, at the interpreter's end
                Run(_closing(backend), name=f"close {backend.base_url}")


def _closing(backend: OpenAICompatibleBackend) -> Any:
    return lambda _run: backend.aclose()


def _given_choice(which: str, model: ModelLike) -> dict[str, Any]:
    if isinstance(model, Variant):
        of = model.backend if isinstance(model.backend, str) else model.backend.model
        return _choice(which, model.name, f"variant of {of}", "")
    if isinstance(model, str):
        return _choice(which, model, "", "")
    where = "" if model.server == "unknown" else model.server
    return _choice(which, model.model, where, urlsplit(model.base_url).netloc)


def _choice(which: str, name: str, title: str, place: str) -> dict[str, Any]:
    name, title, place = one_line(name), one_line(title), one_line(place)
    return {
        "id": which,
        "name": name,
        "title": title,
        "place": place,
        "mark": "idle",
        "facts": [],
        "disabled": None,
        "search": f"{name} {title} {place}".lower(),
    }
