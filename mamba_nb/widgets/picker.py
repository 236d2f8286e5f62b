"""BackendPicker: which model, on which server, and with what; found, looked at, tried, and handed on as a backend.

    picker = BackendPicker()
    picker                          shows at once; servers are looked for in the background
    picker.backend.ask("Hello")     the backend of what was chosen; None before that
    picker.observe(lambda change: print(change.new), names="backend")

`picker_looking` finds servers (through `picker_search`) and shows them (`picker_choices`), the embedded model among
them (`picker_embedded`). Here a model is chosen, asked as a test (`picker_trial`), and told as code (`picker_code`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import traitlets

from mamba_nb._bridge import Run, in_thread
from mamba_nb.backends.backend import OpenAICompatibleBackend
from mamba_nb.backends.names import parse_model_name
from mamba_nb.backends.profiles import ModelProfile
from mamba_nb.errors import AuthenticationFailed, BadInput, MambaError, ModelNotFound, RunStopped, closest
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import is_same_model
from mamba_nb.servers.mending import mended
from mamba_nb.servers.server import Server
from mamba_nb.settings import AgentSettings
from mamba_nb.widgets import picker_words as words
from mamba_nb.widgets._base import script, sheet, told
from mamba_nb.widgets._painter import painter
from mamba_nb.widgets._panels import PanelFeed
from mamba_nb.widgets.picker_choices import choice_id, choices, find_choice
from mamba_nb.widgets.picker_code import Chosen, env_lines, python_lines
from mamba_nb.widgets.picker_embedded import embedded_backend
from mamba_nb.widgets.picker_fields import TIMEOUT_S, Options, accepted, given_in, shown
from mamba_nb.widgets.picker_looking import Looking
from mamba_nb.widgets.picker_search import Search
from mamba_nb.widgets.picker_trial import PROMPT, Trial

__all__ = ["BackendPicker"]

EMBEDDED = parse_model_name("embedded")
LISTED = {"servers", "choices"}
MANY = 200  # models; some hundred bytes each


class BackendPicker(Looking):
    """A model and its server, chosen by looking: shown in a cell, used as a backend in the next ones.

        picker = BackendPicker(urls=["http://gpu-box:9000/v1"])
        picker
        Agent(picker.backend)

    Servers are looked for in the background as soon as it is made. Nothing is sent to a model before Test is pressed
    or the backend is used. A key that is typed goes to its own server and nowhere else, and is kept in memory alone.

    Args:
        hosts: Machines whose known ports to look at; None looks at this machine, and at what is configured.
        urls: Further addresses to look at.
        model: The model to choose once it is found, as `choose` takes it; None leaves the choice to the reader.
        settings: Where its address, key, temperature, max_tokens, timeout and model come from, as far as they were
            set there; None takes what find_servers takes from the environment.

    Attributes:
        backend: The backend for the choice, the same object until the choice or what goes with it changes; None
            before one. A trait: `observe(handler, names="backend")` tells of each change, on the thread that made it.

    Raises:
        BadInput: If an address can be none.
    """

    _esm = script("picker")
    _css = sheet("picker")

    backend = traitlets.Instance(OpenAICompatibleBackend, allow_none=True, read_only=True)

    _trial: Trial | None = None

    def __init__(
        self,
        *,
        hosts: str | Sequence[str] | None = None,
        urls: str | Sequence[str] = (),
        model: str | None = None,
        settings: AgentSettings | None = None,
    ) -> None:
        search = Search(hosts, urls)
        given = settings.model_backend if settings is not None else None
        self._options = given_in(given) if given is not None else Options()
        self._wanted: tuple[str, str | None] | None = (model, None) if model is not None else None
        if given is not None and "base_url" in given.model_fields_set:
            search.add(given.base_url, given.api_key)
            if model is None and "model" in given.model_fields_set:
                self._wanted = (given.model, given.base_url)
        self._chosen: tuple[Server, ServedModel] | None = None
        self._weights: str | None = None
        self._feed: PanelFeed | None = None
        super().__init__(
            search,
            settings,
            run=str(time.time_ns()),
            chosen=None,
            note="",
            fields=dict(shown(self._options)),
            problems={},
            silence=f"{TIMEOUT_S:.0f}",
            prompt=PROMPT,
            running=False,
            panels=[],
            details=None,
            code=None,
        )
        self._do_refresh()

    # For code.

    @property
    def model(self) -> str | None:
        """The name of the chosen model on the wire; None before a choice."""
        chosen = self._chosen
        return None if chosen is None else chosen[1].id

    @property
    def profile(self) -> ModelProfile | None:
        """What is known of the chosen model, with sources, as `backend.profile` says it; None before a choice."""
        backend = self.backend
        return None if backend is None else backend.profile

    @property
    def settings(self) -> AgentSettings | None:
        """Settings with the choice, its key included as a SecretStr; None before a choice.

        What was not chosen here comes from the settings given, then from the environment. Settings always have a
        temperature: where the field is empty, that is theirs, while `backend` sends none.
        """
        chosen = self._chosen
        if chosen is None:
            return None
        server, model = chosen
        values = {"model": model.id, "base_url": server.base_url, "api_key": self._key(server), "max_tokens": None}
        values |= {**self._retries(), **self._options.given()}
        return AgentSettings(model_backend=values, embedded=self._base.embedded if self._base is not None else None)

    def choose(self, model: str, base_url: str | None = None) -> OpenAICompatibleBackend:
        """Choose from code, as a click would; waits for a search that is under way.

        Args:
            model: A model's name as its server lists it, or shortened as servers do (`llama3.2`); `ollama:llama3.2`
                looks at servers of that kind alone, and `embedded` starts the embedded engine. The first server that
                has it is taken.
            base_url: The server's address; one that was not found yet is looked at first.

        Returns:
            The backend.

        Raises:
            BadInput: If no server that was found has it, or it is no model to chat with.
            ModelNotFound: If the server at `base_url` does not have it.
            ServerError: If there is no model server at `base_url`.
            WeightsMissing: For `embedded` without weights: a name never fetches them.
        """
        searching = self._searching
        if searching is not None and not searching.done():
            with contextlib.suppress(RunStopped):  # another search took its place
                searching.result()
        if base_url is None and parse_model_name(model) == EMBEDDED:
            Run(lambda _run: self._start_embedded(download=False), name="start the embedded model").result()
        else:
            self._choose(*self._match(model, base_url))
        assert self.backend is not None
        return self.backend

    def close(self) -> None:
        """Stop what is under way and take the widget away; `backend` goes on working."""
        self._closed = True
        self._stop_all()
        super().close()

    def __repr__(self) -> str:
        backend = self.backend
        if backend is None:
            return "<BackendPicker nothing chosen>"
        return f"<BackendPicker {backend.model} · {backend.server} · {backend.base_url}>"

    # Choosing.

    def _do_choose(self, choice: str) -> None:
        found = find_choice(self._servers, choice)
        if found is None:
            raise BadInput("This model is not listed any more.", hint="Refresh, and choose again.")
        self._choose(*found)

    def _do_set(self, name: str, value: str) -> None:
        fields, problems = dict(self.state["fields"]), dict(self.state["problems"])
        problems.pop(name, None)
        try:
            typed: dict[str, Any] = {name: accepted(name, value)}
        except BadInput as refused:
            if name not in fields:
                raise
            self.show(fields={**fields, name: str(value)}, problems={**problems, name: refused.message})
            return
        options = replace(self._options, **typed)
        self.show(fields={**fields, name: shown(options)[name]}, problems=problems)
        if options != self._options:
            self._options = options
            self._remake()

    def _found_first(self) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is None or self._chosen is not None:
            return
        name, base_url = wanted
        try:
            if base_url is None and parse_model_name(name) == EMBEDDED:
                self._begin_embedded(download=False)
            else:
                self._choose(*self._match(name, base_url))
        except MambaError as error:
            self.show(error=told(error))

    def _match(self, name: str, base_url: str | None) -> tuple[Server, ServedModel]:
        """The server and model that a name means."""
        if base_url is not None:
            return self._match_at(name, base_url)
        kind, wanted = (parsed := parse_model_name(name)).server, parsed.model or name
        listed = [(s, model) for s in self._servers if kind in (None, s.kind) for model in s.models]
        exact = (pair for pair in listed if pair[1].id in (wanted, name))
        if found := next(exact, None) or next((pair for pair in listed if is_same_model(wanted, pair[1].id)), None):
            return found
        near = closest(wanted, [model.id for _, model in listed])
        hint = f"Did you mean {near!r}?" if near else "Start its server, or give its address: choose(model, base_url)."
        raise BadInput(f"No server that was found has {name!r}.", hint=hint)

    def _match_at(self, name: str, base_url: str) -> tuple[Server, ServedModel]:
        """The model at an address; a server that lists none is taken at the caller's word."""
        known = {url for address in mended(base_url) for url in address.base_urls}
        server = next((server for server in self._servers if server.base_url in known), None)
        if server is None:
            look: Run[Any, tuple[Server, ...]] = Run(lambda _run: self._search.at(base_url), name=f"look at {base_url}")
            found = look.result()
            self._add(found)
            server = found[0]
        if not server.models:
            return server, ServedModel(id=name)
        for same in (str.__eq__, is_same_model):
            for model in server.models:
                if same(name, model.id):
                    return server, model
        raise ModelNotFound(name, base_url=server.base_url, served=[model.id for model in server.models])

    def _choose(self, server: Server, model: ServedModel) -> None:
        (entry,) = choices([replace(server, models=(model,))])
        if entry["disabled"]:
            raise BadInput(f"{model.id} is {entry['disabled']}.", hint="Choose a model that chats.")
        with self._lock:
            before, self._chosen = self._chosen, (server, model)
            self._key_at = server.base_url
        if before is None or (before[0].base_url, before[1].id) != (server.base_url, model.id):
            self._remake()

    def _key_changed(self, server: Server) -> None:
        if self._chosen is not None and self._chosen[0].base_url == server.base_url:
            self._remake()

    def _remake(self) -> None:
        """A backend for the choice as it is now, and all that is shown of it."""
        chosen = self._chosen
        if chosen is None:
            return
        server, model = chosen
        options = self._options.given()
        own = embedded_backend(server.base_url, **options) if server.kind == "embedded" else None
        self._weights = own[1] if own is not None else None
        given = {"api_key": self._key(server), **self._retries(), **options}
        backend = own[0] if own is not None else server.backend(model.id, **given)
        self.set_trait("backend", backend)
        self._show_servers(error=None, details=None, **({} if self.state["running"] else {"panels": []}))
        self._leave_copy(None)
        self._begin("profile", partial(self._look_up, backend))

    async def _look_up(self, backend: OpenAICompatibleBackend) -> None:
        """Show what is known of the chosen model; reading it may ask the server and the disk."""
        facts = await in_thread(lambda: words.details(backend.profile))
        if self.backend is backend:
            await in_thread(self.show, details=facts)

    def _retries(self) -> dict[str, Any]:
        given = self._base.model_backend if self._base is not None else None
        return {"max_retries": given.max_retries} if given and "max_retries" in given.model_fields_set else {}

    # Testing.

    def _do_test(self, prompt: str = PROMPT) -> None:
        with self._lock:
            if self.state["running"] or self.backend is None or self._chosen is None:
                return
            _, model = self._chosen
            self._trial = trial = Trial(
                self.backend,
                prompt,
                context=model.context_window,
                must_load=model.state in ("unloaded", "loading", "sleeping"),
                on_end=lambda error: self._tested(trial, error),
            )
            self._feed = feed = PanelFeed([trial.panel])
            self.show(panels=feed.snapshot(), running=True, prompt=prompt, error=None, n=self.state["n"] + 1)
        painter.add(partial(self._tick, feed))

    def _do_stop(self) -> None:
        if self._trial is not None:
            self._trial.stop()

    def _tick(self, feed: PanelFeed) -> bool:
        with self._lock:
            if feed is not self._feed or self._closed:
                return False
            if feed.ended:
                self.show(panels=feed.snapshot(), running=False, n=self.state["n"] + 1)
                return False
            if feed.due:
                self._do_whole()
            elif change := feed.delta():
                self.state["n"] += 1  # the state itself stays unsent: the delta says it
                self.send({"kind": "delta", "n": self.state["n"], "run": self.state["run"], "panels": change})
            return True

    def _tested(self, trial: Trial, error: MambaError | None) -> None:
        """A test has ended: what it has shown of the server is worth a look."""
        if self._closed or trial is not self._trial or self._chosen is None:
            return
        server = self._chosen[0]
        self._leave_copy(trial)
        if isinstance(error, AuthenticationFailed):
            self._refusals[server.base_url] = "refused" if self._key(server) is not None else "needed"
            self._key_at = server.base_url
            self._show_servers()
        elif error is None:
            self._refusals.pop(server.base_url, None)
            self._begin("look again", partial(self._look_again, server))
            if trial.backend is self.backend:
                self._begin("profile", partial(self._look_up, trial.backend))

    def _stop_all(self) -> None:
        self._do_stop()
        super()._stop_all()

    # What is shown.

    def show(self, **changes: Any) -> None:
        """Change what is shown; while an answer grows, it travels with every change, since deltas stand on it.

        A long list stays where it is: what changes beside it travels alone.
        """
        with self._lock:
            if self._feed is not None and self.state.get("running") and "panels" not in changes:
                changes = {**changes, "panels": self._feed.snapshot(), "n": self.state["n"] + 1}
            old = self.state
            new = {name: value for name, value in changes.items() if name not in old or old[name] != value}
            if new and len(old.get("choices", ())) > MANY and LISTED.isdisjoint(new):
                n = old["n"] + 1
                old.update(new, n=n)  # a view that comes later finds it there
                self.send({"kind": "delta", "n": n, "run": old["run"], "panels": {}, "set": {**new, "n": n}})
            else:
                super().show(**changes)

    def _do_whole(self) -> None:
        """All that is shown, for a view that has missed something."""
        with self._lock:
            growing = {"panels": self._feed.snapshot()} if self._feed is not None and self.state["running"] else {}
            super().show(**growing, n=self.state["n"] + 1)

    def _choice_json(self) -> dict[str, Any]:
        if self._chosen is None:
            return {}
        server, model = self._chosen
        listed = find_choice(self._servers, choice_id(server.base_url, model.id))
        server, model = self._chosen = listed or self._chosen
        (entry,) = choices([replace(server, models=(model,))])
        lines = self._as_code(server, model)
        return {
            "chosen": entry,
            "note": words.unlisted(model.id) if listed is None and server.usable else "",
            "code": {"python": python_lines(lines), "env": env_lines(lines)},
        }

    def _as_code(self, server: Server, model: ServedModel) -> Chosen:
        return Chosen(
            model=model.id,
            base_url=server.base_url,
            kind=None if server.kind == "compatible" else server.kind,
            has_key=self._key(server) is not None,
            options=self._options,
            weights=self._weights,
        )

    def _leave_copy(self, trial: Trial | None) -> None:
        if self._chosen is None:
            return
        server, model = self._chosen
        copy = words.plain_copy(self._as_code(server, model), server.about.title, trial.panel if trial else None)
        title = "The choice, and the test's answer" if trial else "The choice"
        self.fold(copy, f"{title}, as plain HTML for readers without a kernel")
