"""What a running comparison shows of itself while it runs: one `PanelState` a model or variant.

In go the stream's events, on the thread that runs the requests. Out come plain attributes, which a painter
on another thread reads ten times a second. There is one writer and no lock: an attribute is assigned whole,
the lists of pieces only grow, and `version` rises after every change, so that a reader who sees an old
version has nothing to paint.

    panel = PanelState("qwen3:8b", model="qwen3:8b", server="ollama", n_total=12)
    panel.say("loading model")
    answer = panel.begin("Why is the sky blue?")    # sent
    answer.feed(event)                              # each StreamEvent as it comes
    answer.end(generation)                          # done, failed or stopped
    panel.stop()                                    # what is left will not run

Nothing here reads a clock, imports a display library or keeps a copy of a text.
"""

from __future__ import annotations

from collections.abc import Sequence

from mamba_nb.metrics import output_tokens_per_s
from mamba_nb.records import (
    Failed,
    Finished,
    Generation,
    ReasoningDelta,
    ReasoningEnded,
    StateChange,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReport,
)

__all__ = ["Answer", "PanelState"]


class Answer:
    """One answer under way.

    Attributes:
        prompt: The prompt as text, for reading.
        number: Which answer of the panel this is, from 1.
        state: `waiting`, `loading model`, `reading prompt`, `streaming`; then the generation's status. It may be set.
        text: Pieces of the visible answer, in order; append-only.
        reasoning: Pieces of the reasoning, in order; append-only.
        chunks: How many chunks have carried tokens of any kind.
        first_at_s: Arrival of the first of them, seconds after send; None before it.
        last_at_s: Arrival of the latest of them; None before the first.
        usage: The server's latest token counts, or None.
        counted_live: Whether counts come while the answer streams, so that they can be shown as a rate.
        generation: The finished record; None while the answer is under way.
    """

    __slots__ = (
        "_panel",
        "_state",
        "chunks",
        "counted_live",
        "first_at_s",
        "generation",
        "last_at_s",
        "number",
        "prompt",
        "reasoning",
        "text",
        "usage",
    )

    def __init__(self, panel: PanelState, prompt: str, number: int) -> None:
        self._panel = panel
        self.prompt = prompt
        self.number = number
        self._state = "waiting"
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.chunks = 0
        self.first_at_s: float | None = None
        self.last_at_s: float | None = None
        self.usage: Usage | None = None
        self.counted_live = False
        self.generation: Generation | None = None

    @property
    def state(self) -> str:
        """What is being waited for, or what became of it."""
        return self._state

    @state.setter
    def state(self, state: str) -> None:
        self._state = state
        self._panel.version += 1

    @property
    def ttft_ms(self) -> float | None:
        """Send to the first token of any kind, in milliseconds; None before it."""
        return None if self.first_at_s is None else 1000.0 * self.first_at_s

    @property
    def chunks_per_s(self) -> float | None:
        """Chunks per second since the first one; None before the second."""
        if self.first_at_s is None or self.last_at_s is None or self.last_at_s <= self.first_at_s:
            return None
        return (self.chunks - 1) / (self.last_at_s - self.first_at_s)

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens so far over the time since send, by the server's running count; None where it keeps none."""
        if not self.counted_live or self.usage is None:
            return None
        return output_tokens_per_s(self.usage.completion_tokens, self.last_at_s)

    def feed(self, event: StreamEvent) -> None:
        """Take in one event of this answer's stream. Call it on one thread only."""
        if isinstance(event, TextDelta):
            self.text.append(event.text)
            self._chunk(event.at_s)
        elif isinstance(event, ReasoningDelta):
            self.reasoning.append(event.text)
            self._chunk(event.at_s)
        elif isinstance(event, ToolCallDelta):
            self._chunk(event.at_s)
        elif isinstance(event, ReasoningEnded):  # what came before was reasoning all along
            self.reasoning, self.text = self.text, []
        elif isinstance(event, UsageReport):
            # A report on its own at the end counts nothing live; one that text follows does.
            self.usage = event.usage
        elif isinstance(event, StateChange):
            self._state = event.state
        elif isinstance(event, (Finished, Failed)):
            return  # the generation says it, in `end`
        self._panel.version += 1

    def _chunk(self, at_s: float) -> None:
        if self.first_at_s is None:
            self.first_at_s = at_s
        self.last_at_s = at_s
        self.chunks += 1
        self._state = "streaming"
        if self.usage is not None and self.usage.completion_tokens is not None:
            self.counted_live = True

    def end(self, generation: Generation) -> None:
        """The answer has ended: done, failed or stopped, as its record says."""
        if self.generation is not None:
            return
        self.generation = generation
        self._state = generation.status
        self._panel._ended(self, generation)


class PanelState:
    """One model's side of a running comparison.

    Args:
        label: The column's name: the model's short name, or the variant's.
        model: The model's name on the wire.
        server: The kind of server.
        n_total: How many answers the plan has for this panel.
        context: Tokens of context in force on the server; None if unknown.

    Attributes:
        n_done: Answers that ended well. `n_failed` and `n_stopped` count the others.
        warnings: What a reader must know of this column; each sentence once.
        answer: The answer to show: one stays until it has ended, then the oldest still under way; at the end the
            last one asked for, so that panels side by side end with the same prompt. None before the first.
        version: Rises with every change.
    """

    def __init__(
        self,
        label: str,
        *,
        model: str,
        server: str,
        n_total: int = 1,
        context: int | None = None,
    ) -> None:
        self.label = label
        self.model = model
        self.server = server
        self.n_total = n_total
        self.context = context
        self.n_done = 0
        self.n_failed = 0
        self.n_stopped = 0
        self.warnings: tuple[str, ...] = ()
        self.answer: Answer | None = None
        self.version = 0
        self._begun = 0
        self._phase = "waiting"
        self._halted = False
        self._open: list[Answer] = []
        self._last: Answer | None = None

    @property
    def n_ended(self) -> int:
        """Answers that have ended, in whatever way."""
        return self.n_done + self.n_failed + self.n_stopped

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._halted or self.n_ended >= self.n_total

    @property
    def state(self) -> str:
        """The panel's state in a word: the shown answer's, or once all have ended what became of them."""
        if self.ended:
            if self._halted or self.n_stopped:
                return "stopped"
            return "failed" if self.n_failed and not self.n_done else "done"
        answer = self.answer
        return answer.state if answer is not None and answer.generation is None else self._phase

    def say(self, state: str) -> None:
        """Set the state that holds while no answer is under way (`waiting`, `loading model`)."""
        self._phase = state
        self.version += 1

    def begin(self, prompt: str) -> Answer:
        """An answer is being asked for; feed it what comes."""
        self._phase = "waiting"
        self._begun += 1
        answer = Answer(self, prompt, self._begun)
        self._open.append(answer)
        self._last = answer
        if self.answer is None or self.answer.generation is not None:
            self.answer = answer
        self.version += 1
        return answer

    def warn(self, warnings: str | Sequence[str]) -> None:
        """Add what a reader must know before trusting this column; a sentence said before is left out."""
        new = (warnings,) if isinstance(warnings, str) else tuple(warnings)
        self.warnings = tuple(dict.fromkeys((*self.warnings, *new)))
        self.version += 1

    def stop(self) -> None:
        """The run was stopped: what has not ended will not. A panel that has ended stays as it is."""
        if not self.ended:
            self._halted = True
            self.version += 1

    def _ended(self, answer: Answer, generation: Generation) -> None:
        self._open.remove(answer)
        if answer is self.answer and self._open:
            self.answer = self._open[0]
        if generation.status == "done":
            self.n_done += 1
        elif generation.status == "failed":
            self.n_failed += 1
        else:
            self.n_stopped += 1
        if self.ended:
            self.answer = self._last
        self.warn(generation.warnings)
