"""A comparison to work with: choose models, ask, watch, stop, ask one again, mark what differs.

    view = CompareView(["ollama/llama3.2", "embedded"], prompts)
    view                        in a cell
    view.comparison             all answers so far, of all its runs
    view.run.cancel()           what the Stop button does

What is pressed comes as a message and returns at once: the work is a Run, so Stop works on every kernel. The parts are
beside this file: the models (`compare_view_models`), the prompts (`_prompts`), one model's panel (`_slots`), one run
(`_round`), all answers (`_answers`), and what differs (`_diff`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mamba_nb._bridge import Run, run_in_background
from mamba_nb.backends._params import checked
from mamba_nb.compare.engine import GridEvent
from mamba_nb.compare.plan import ModelLike, Plan, Row, make_plan
from mamba_nb.display import html
from mamba_nb.display.text import storable, visible
from mamba_nb.errors import BadInput, MambaError
from mamba_nb.records import Comparison
from mamba_nb.servers.discovery import find
from mamba_nb.servers.found import Servers
from mamba_nb.widgets._base import script, sheet, told
from mamba_nb.widgets._painter import painter
from mamba_nb.widgets._panels import PanelFeed
from mamba_nb.widgets.compare_view_answers import Answers, inner, plain
from mamba_nb.widgets.compare_view_diff import word_diff
from mamba_nb.widgets.compare_view_models import LEAST, MOST, Models
from mamba_nb.widgets.compare_view_prompts import Prompts
from mamba_nb.widgets.compare_view_round import Round
from mamba_nb.widgets.compare_view_slots import Slot
from mamba_nb.widgets.panels import LivePanels

if TYPE_CHECKING:
    from mamba_nb.settings import AgentSettings

__all__ = ["CompareView"]

NO_DIFF = {"on": False, "a": "", "b": "", "parts": {}, "says": ""}


class CompareView(LivePanels):
    """Models side by side, with their answers streaming.

        view = CompareView(["ollama/llama3.2", "lmstudio"])
        view.comparison

    Args:
        models: Names, backends or variants to choose from, the first six of them chosen; None looks for servers.
        prompts: A string, a list of strings, a Series, a DataFrame or a list of conversations to step through; None
            begins with an empty prompt.
        column: The column of a DataFrame that holds the prompts.
        template: A prompt with a DataFrame's columns in braces: `"Summarise: {text}"`.
        system: A system message for every prompt.
        repeats: How often each prompt is put to each model in one run.
        max_concurrency: Most requests at once on one server; None takes the number it works on at once.
        settings: Where plain model names find their address and key; None reads the environment.
        **params: Request parameters for every model (`temperature`, `max_tokens`, ...); none is sent by default.

    Raises:
        BadInput: If an argument is wrong; nothing has been sent then.
    """

    _esm = script("compare_view")
    _css = sheet("compare_view")

    def __init__(
        self,
        models: ModelLike | Iterable[ModelLike] | None = None,
        prompts: Any = None,
        *,
        column: str | None = None,
        template: str | None = None,
        system: str | None = None,
        repeats: int = 1,
        max_concurrency: int | None = None,
        settings: AgentSettings | None = None,
        **params: Any,
    ) -> None:
        if not isinstance(repeats, int) or isinstance(repeats, bool) or repeats < 1:
            raise BadInput(f"repeats must be a whole number from 1; this is {repeats!r}.")
        self._options: dict[str, Any] = {
            "repeats": repeats,
            "max_concurrency": max_concurrency,
            "settings": settings,
            "params": checked(params),
        }
        self._models = Models(models)
        self._prompts = Prompts(prompts, column=column, template=template, system=system)
        self._answers = Answers()
        self._slots: dict[str, Slot] = {}
        self._round: Round | None = None
        self._asked: tuple[Slot, ...] = ()
        self._run: Run[GridEvent, Comparison] | None = None
        self._search: Run[Any, Servers] | None = None
        self._closed = False
        super().__init__(
            PanelFeed(()),
            running=False,
            progress="",
            order=[],
            prompt=self._prompts.to_json(),
            models=self._models_json(),
            diff=NO_DIFF,
            summary="",
            error=None,
        )
        self._arrange()
        if len(self._models.chosen) < LEAST:
            self._do_find()

    # What comes out.

    @property
    def comparison(self) -> Comparison:
        """All answers of all runs, so far; asked again, an answer is a further repeat."""
        with self._lock:
            asked = sorted((slot for slot in self._slots.values() if slot.place is not None), key=_place)
            ids = list(dict.fromkeys(row.prompt_id for row in self._prompts.rows))
            return self._answers.comparison([slot.label for slot in asked], ids)

    @property
    def run(self) -> Run[GridEvent, Comparison] | None:
        """The run under way, or the last one; None before the first."""
        return self._run

    def __repr__(self) -> str:
        return f"<CompareView {len(self._models.chosen)} models · {len(self._answers)} answers>"

    def _stop_all(self) -> None:
        for work in (self._run, self._search):
            if work is not None:
                work.cancel()

    def close(self) -> None:
        """Stop what is under way, close the backends that were made here, and take the widget away."""
        if not getattr(self, "_closed", True):
            self._closed = True
            self._stop_all()
            self._models.close()
        super().close()

    # What the front end asks for.

    def _do_find(self) -> None:
        with self._lock:
            if self._search is not None and not self._search.done():
                return
            self._search = Run(lambda _run: find(), name="find servers")
            self.show(models=self._models_json(), error=None)
        painter.add(self._found)

    def _found(self) -> bool:
        search = self._search
        if self._closed or search is None:
            return False
        if not search.done():
            return True
        with self._lock:
            try:
                self._models.found = search.result(timeout=0)
            except MambaError as error:
                self.show(error=told(error))
            self.show(models=self._models_json())
        return False

    def _do_choose(self, id: str = "", on: bool = True) -> None:
        with self._lock:
            if self._round is None:
                self._models.choose(str(id), bool(on))
                self._arrange(error=None)

    def _do_type(self, text: str = "") -> None:
        if isinstance(text, str):
            self.show(prompt=self._prompts.to_json(storable(text)))

    def _do_step(self, by: int = 1) -> None:
        with self._lock:
            row = self._prompts.step(1 if by > 0 else -1)
            if row is not None and self._round is None:
                for slot in self._chosen():
                    if not slot.pinned:
                        slot.show_latest(lambda cell: cell.prompt_id == row.prompt_id and cell.prompt == row.text)
            self._look()
            self.paint(prompt=self._prompts.to_json(), error=None)
            self._mark()

    def _do_run(self, prompt: str = "", all: bool = False) -> None:
        with self._lock:
            if self._round is not None:
                return
            chosen = self._chosen()
            if len(chosen) < LEAST:
                raise BadInput(
                    f"Choose {LEAST} to {MOST} models; {['none is', 'one is'][len(chosen)]} chosen.",
                    hint="Tick them under Models. Variants of one model can be given in code: variant(backend, ...).",
                )
            slots = [slot for slot in chosen if not slot.pinned]
            if not slots:
                raise BadInput("Every panel is pinned, so there is nobody to ask.", hint="Unpin one of them.")
            every = list(self._prompts.rows) if all else []
            self._begin(slots, every or [self._prompts.ask(prompt if isinstance(prompt, str) else "")])

    def _do_again(self, panel: str = "") -> None:
        with self._lock:
            slot = self._slots.get(str(panel))
            if self._round is not None or slot is None:
                return
            row = self._prompts.find(slot.cell.prompt_id, slot.cell.prompt) if slot.cell else self._prompts.row
            if row is None:
                raise BadInput("There is no prompt.", hint="Type one, then press Run.")
            self._begin([slot], [row])

    def _do_stop(self) -> None:
        if self._run is not None:
            self._run.cancel()

    def _do_pin(self, panel: str = "", on: bool = True) -> None:
        with self._lock:
            slot = self._slots.get(str(panel))
            if slot is not None:
                slot.pinned = bool(on)
                self._look()
                self.paint(order=self._order())

    def _do_browse(self, panel: str = "", by: int = 1) -> None:
        with self._lock:
            slot = self._slots.get(str(panel))
            if slot is not None:
                slot.browse(1 if by > 0 else -1)
                self._look()
                self.paint()
                self._mark()

    def _do_copy(self, panel: str = "", token: str = "") -> None:
        """The text as the model wrote it, for whoever asks; it is no part of the state."""
        slot = self._slots.get(str(panel))
        answer = slot.shown().answer if slot is not None else None
        if answer is not None:
            text = answer.generation.text if answer.generation else "".join(list(answer.text))
            self.send({"kind": "text", "token": str(token), "text": storable(text)})

    def _do_differ(self, a: str = "", b: str = "", on: bool = True) -> None:
        with self._lock:
            self.show(diff={**NO_DIFF, "on": bool(on), "a": str(a), "b": str(b)})
            self._mark()

    # A run.

    def _begin(self, slots: Sequence[Slot], rows: Sequence[Row]) -> None:
        options = self._options
        for slot in slots:
            if slot.place is None:
                slot.place = sum(other.place is not None for other in self._slots.values())
            slot.start(len(rows) * options["repeats"])
        self._round = Round(lambda: self._plan(slots, rows), f"compare {len(slots)} models, {len(rows)} prompts")
        self._run = self._round.run
        self._asked = tuple(slots)
        self._arrange(running=True, progress="", error=None, prompt=self._prompts.to_json())
        self._mark()
        painter.add(self._tick)

    def _plan(self, slots: Sequence[Slot], rows: Sequence[Row]) -> Plan:
        """What to ask, under this view's own labels; the rows are laid out already."""
        models = [self._models.model(slot.id) for slot in slots]
        plan = make_plan(models, "in place of the rows", **self._options)
        columns = [replace(column, label=slot.label) for slot, column in zip(slots, plan.columns, strict=True)]
        return replace(plan, columns=tuple(columns), rows=tuple(rows))

    def _tick(self) -> bool:
        """Ten times a second while a run is under way, on the painter's thread."""
        with self._lock:
            work = self._round
            if self._closed or work is None:
                return False
            over = work.is_over()  # asked before looking, so that nothing is missed
            for slot, state in zip(self._asked, work.states, strict=False):
                slot.follow(state)
            self._collect(work)
            if not over:
                self._look()
                self.paint(progress=work.progress)
                return True
            self._end(work)
        self.fold(plain(self.comparison), "The answers as plain HTML, for readers without a kernel")
        return False

    def _collect(self, work: Round) -> None:
        by_label = {slot.label: slot for slot in self._asked}
        while work.ended:
            cell = self._answers.add(work.ended.pop(0))
            by_label[cell.label].history.append(cell)

    def _end(self, work: Round) -> None:
        grid, plan = work.comparison(), work.plan
        if grid is not None and plan is not None:
            self._answers.add_run(plan, grid)
        places = {row.prompt_id: place for place, row in enumerate(plan.rows if plan is not None else ())}
        for slot in self._asked:  # side by side they end with the same prompt, whichever was answered last
            slot.end(lambda cell: places.get(cell.prompt_id, 0))
        self._round = None
        self._look()
        summary = inner(html.comparison(self.comparison)) if len(self._answers) else ""
        self._sync(running=False, progress=work.progress, error=work.error, summary=summary)
        self._mark()

    # What is shown.

    def _chosen(self) -> list[Slot]:
        return [self._slots[which] for which in self._models.chosen]

    def _arrange(self, **changes: Any) -> None:
        """The chosen models have changed, or their colours: panels anew."""
        for which in self._models.chosen:
            if which not in self._slots:
                self._slots[which] = Slot(which, self._label(self._models.name(which)))
        slots = self._chosen()
        free = sum(slot.place is not None for slot in self._slots.values())
        colours = [slot.place if slot.place is not None else free + at for at, slot in enumerate(slots)]
        self._feed = PanelFeed([slot.shown() for slot in slots], colours)
        self._look()
        self._sync(order=self._order(), models=self._models_json(), **changes)

    def _label(self, name: str) -> str:
        labels = {slot.label for slot in self._slots.values()}
        tries = [name, *(f"{name} ({number})" for number in range(2, len(labels) + 3))]
        return next(label for label in tries if label not in labels)

    def _look(self) -> None:
        """What each panel shows now, for the next paint."""
        for index, slot in enumerate(self._chosen()):
            self._feed.put(index, slot.shown())
            self._feed.tell(index, **slot.facts())

    def _order(self) -> list[int]:
        slots = self._chosen()
        return sorted(range(len(slots)), key=lambda index: not slots[index].pinned)

    def _models_json(self) -> dict[str, Any]:
        search, found = self._search, self._models.found
        return {
            "choices": self._models.choices(),
            "chosen": list(self._models.chosen),
            "searching": search is not None and not search.done(),
            "advice": [visible(text) for text in found.advice] if found is not None else [],
            "looked": found is not None,
            "most": MOST,
        }

    def _mark(self) -> None:
        """Mark what differs, where that is wanted and both answers are there; in a thread, since it takes a while."""
        diff = self.state["diff"]
        if not diff["on"]:
            return
        pair = [self._slots.get(diff[side]) for side in ("a", "b")]
        cells = [slot.cell if slot is not None else None for slot in pair]
        if pair[0] is pair[1] or not all(cells):
            says = "Choose two panels." if pair[0] is pair[1] else "What differs is marked when both have answered."
            self.show(diff={**diff, "parts": {}, "says": says})
            return
        self.show(diff={**diff, "parts": {}, "says": ""})
        run_in_background(self._mark_words, dict(self.state["diff"]), cells)

    def _mark_words(self, diff: dict[str, Any], cells: list[Any]) -> None:
        one, other, says = word_diff(*(cell.generation.text for cell in cells))
        with self._lock:
            now = [slot.cell if (slot := self._slots.get(diff[side])) else None for side in ("a", "b")]
            if self.state["diff"] == diff and all(cell is then for cell, then in zip(now, cells, strict=True)):
                parts = {diff["a"]: one, diff["b"]: other} if one or other else {}
                self.show(diff={**diff, "parts": parts, "says": says})


def _place(slot: Slot) -> int:
    return slot.place or 0
