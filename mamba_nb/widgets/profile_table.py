"""Profiles of several models side by side, to choose from, filter, sort and probe: `compare_profiles` to look at.

In go models as `compare_profiles` takes them, and what the reader picks; out come `.comparison`, `.frame` and `.wide`,
which have what is shown. Servers are asked and probed on worker threads; the table is painted ten times a second at
most, and only when something has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from mamba_nb._bridge import Run, run_in_background
from mamba_nb.backends.comparing_filters import Filters, checked_filters
from mamba_nb.backends.comparing_record import ProfileComparison
from mamba_nb.backends.profiles_record import FACT_FIELDS
from mamba_nb.display.text import visible
from mamba_nb.errors import BadInput, closest
from mamba_nb.probes.capabilities import CAPABILITIES
from mamba_nb.servers.found import Servers
from mamba_nb.widgets._base import script, sheet
from mamba_nb.widgets.profile_table_models import Entry, entries
from mamba_nb.widgets.profile_table_probe import Probing
from mamba_nb.widgets.profile_table_state import MODEL, Choice, column_of, compared, in_order
from mamba_nb.widgets.profile_table_work import TableWork

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ProfileTable"]

ALL = frozenset(each.name for each in CAPABILITIES)


class ProfileTable(TableWork):
    """What is known of several models, side by side, with sources; and a probe of each at hand.

        table = ProfileTable(["gpt-4o", create_ollama_backend("llama3.2")], tools=True)
        table
        table.frame

    The reader adds models by name or looks for running servers, chooses columns, filters and sorts, opens the evidence
    behind a value, and probes a model after seeing how many requests that takes. What a probe verified is kept for this
    server and model: `backend.profile` has it from then on.

    Args:
        models: Names, backends, `ModelProfile`s, variants and servers, mixed freely, as `compare_profiles` takes them;
            or a mapping from labels of your own to them. None begins with an empty table.
        fields: The columns to show: fields of a `ModelProfile` (`"supports_tools"`) or columns of `.wide` (`"tools"`).
            None shows those that are worth it.
        **filters: As for `ProfileComparison.filter`: `tools=True`, `min_context=32_000`, ...

    Raises:
        BadInput: If a model, a field or a filter cannot be meant. Nobody has been asked then.
    """

    _esm = script("profile_table")
    _css = sheet("profile_table")

    def __init__(self, models: Any = None, *, fields: Sequence[str] | None = None, **filters: Unpack[Filters]) -> None:
        checked_filters(filters)
        chosen = {name: value for name, value in filters.items() if value is not None}
        given = entries(models)
        super().__init__(Choice(fields=None if fields is None else _fields(fields), filters=chosen))
        self._add(given)

    # what a program reads and does

    @property
    def comparison(self) -> ProfileComparison:
        """The models shown, filtered and in the order shown, with all their facts and sources.

        Waits for servers that are still being asked: some seconds at most, as `compare_profiles` does.
        """
        self.wait()
        with self._lock:
            return in_order(compared(self._entries)[0], self._choice)

    @property
    def frame(self) -> pd.DataFrame:
        """`comparison.to_frame()`: one row a model and field, with value, source, evidence and disagreement."""
        return self.comparison.to_frame()

    @property
    def wide(self) -> pd.DataFrame:
        """`comparison.to_wide()`: one row a model, what is not known missing."""
        return self.comparison.to_wide()

    @property
    def models(self) -> list[Any]:
        """The models shown, in the order shown, as they were given; found ones as backends. `compare` takes them."""
        self.wait()
        with self._lock:
            whole, by_label = compared(self._entries)
            return [by_label[row.label].model for row in in_order(whole, self._choice).rows]

    def add(self, models: Any) -> None:
        """Add models, as the constructor takes them.

        Raises:
            BadInput: If something is no model.
        """
        self._add(entries(models))

    def remove(self, label: str) -> None:
        """Take the model with this label away; its probe is stopped.

        Raises:
            BadInput: If the table has no such label.
        """
        self.wait()
        with self._lock:
            _, by_label = compared(self._entries)
            if label not in by_label:
                near = closest(str(label), list(by_label))
                raise BadInput(
                    f"The table has no model {label!r}." + (f" Did you mean {near!r}?" if near else ""),
                    hint=f"It has: {', '.join(by_label) or 'none'}.",
                )
            self._remove(by_label[label])

    def __repr__(self) -> str:
        return f"<ProfileTable {len(self._entries)} model{'' if len(self._entries) == 1 else 's'}>"

    # what the reader does

    def _take(self, widget: Any, content: Any, buffers: Any) -> None:
        if self.state.get("error") is not None:
            self.show(error=None, n=self.state["n"] + 1)
        super()._take(widget, content, buffers)

    def _do_add(self, name: str = "") -> None:
        new = entries(str(name))
        with self._lock:
            have = {entry.given for entry in self._entries if isinstance(entry.given, str)}
            if new[0].given in have:
                raise BadInput(f"{new[0].given!r} is in the table already.")
            self._said = f"{visible(str(name))} added"
            self._search_notes = []
        self._add(new)

    def _do_remove(self, model: str = "") -> None:
        with self._lock:
            if (entry := self._entry(model)) is not None:
                self._said = f"{visible(entry.title)} removed"
                self._remove(entry)

    def _do_retry(self, model: str = "") -> None:
        with self._lock:
            if (entry := self._entry(model)) is not None and not entry.asking:
                self._ask(entry, again=True)
                self._touch()

    def _do_find(self) -> None:
        from mamba_nb.servers.discovery import find

        async def look(_run: Run[Any, Servers]) -> Servers:
            return await find()

        with self._lock:
            if self._search is not None:
                return
            self._search_notes = []
            self._search = Run(look, name="find servers")
            self._taking_in = run_in_background(self._found, self._search)
            self._touch()

    def _do_stop_find(self) -> None:
        with self._lock:
            if self._search is not None:
                self._search.cancel()

    def _do_fields(self, fields: Any = None) -> None:
        with self._lock:
            if fields is None:
                self._choice.fields = None
            else:
                chosen = {_field(str(name)) for name in fields}
                self._choice.fields = tuple(name for name in FACT_FIELDS if name in chosen)
            self._touch()

    def _do_differences(self, on: Any = False) -> None:
        with self._lock:
            self._choice.only_differences = bool(on)
            self._touch()

    def _do_filter(self, name: str = "", value: Any = None) -> None:
        changed = {**self._choice.filters, name: value}
        checked_filters(changed)
        with self._lock:
            self._choice.filters = {each: wanted for each, wanted in changed.items() if wanted is not None}
            self._touch()

    def _do_clear_filter(self) -> None:
        with self._lock:
            self._choice.filters = {}
            self._touch()

    def _do_sort(self, field: str = "") -> None:
        """Best first, then the other way, then the order given."""
        name = MODEL if field == MODEL else _field(str(field))
        with self._lock:
            choice, downwards = self._choice, name.startswith(("supports_", "context", "max_", "param"))
            if choice.sort != name:
                choice.sort, choice.down = name, downwards
            elif choice.down == downwards:
                choice.down = not downwards
            else:
                choice.sort, choice.down = None, False
            self._touch()

    def _do_evidence(self, model: str = "", field: str | None = None) -> None:
        with self._lock:
            wanted = (str(model), None if field is None else _field(str(field)))
            self._open = None if self._open == wanted or self._entry(model) is None else wanted
            self._touch()

    def _do_close_evidence(self) -> None:
        with self._lock:
            self._open = None
            self._touch()

    # probing

    def _do_plan(self, model: str = "") -> None:
        with self._lock:
            entry = self._entry(model)
            if entry is None or entry.backend is None or (entry.probing is not None and entry.probing.busy):
                return
            entry.probed = entry.probing
            entry.probing = Probing(
                entry.backend, unwanted=self._unwanted, changed=self._touch, ended=partial(self._probed, entry)
            )
            self._touch()

    def _do_choose(self, model: str = "", names: Any = ()) -> None:
        """What a planned probe asks about; what is left out stays left out in the next plans."""
        wanted = {str(name) for name in names}

        def choose(_entry: Entry, probing: Probing) -> None:
            self._unwanted = {name for name in ALL - wanted if name not in probing.known}
            probing.choose(wanted)

        self._with_probing(model, choose, "")

    def _do_probe(self, model: str = "") -> None:
        self._with_probing(model, lambda entry, probing: probing.start(), "probing {}")

    def _do_stop(self, model: str = "") -> None:
        self._with_probing(model, _give_up, "")

    def _with_probing(self, model: str, act: Callable[[Entry, Probing], None], said: str) -> None:
        with self._lock:
            entry = self._entry(model)
            if entry is not None and entry.probing is not None:
                act(entry, entry.probing)
                self._said = said.format(visible(entry.title)) or self._said
                self._touch()


def _give_up(entry: Entry, probing: Probing) -> None:
    """Stop a probe that is under way; forget one that had not begun."""
    probing.cancel()
    if probing.phase in ("planning", "planned"):
        entry.probing, entry.probed = entry.probed, None


def _fields(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_field(name) for name in ([names] if isinstance(names, str) else names)))


def _field(name: Any) -> str:
    """The field of a profile that a name means.

    Raises:
        BadInput: If it means none.
    """
    found = column_of(name) if isinstance(name, str) else None
    if found is None:
        near = closest(str(name), FACT_FIELDS)
        raise BadInput(
            f"There is no field {name!r}." + (f" Did you mean {near!r}?" if near else ""),
            hint=f"The fields are: {', '.join(FACT_FIELDS)}.",
        )
    return found
