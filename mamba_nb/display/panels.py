"""Answers side by side as HTML and as text: one panel a model.

In go `PanelState` objects of a comparison under way, or one finished `Generation`; out come strings. While
a comparison runs, a panel shows the end of a long answer, because the whole of it would travel again with
every paint; at the end it shows the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mamba_nb.compare.progress import Answer, PanelState
from mamba_nb.display import style
from mamba_nb.display.pieces import LABEL_CHARS, NAME_CHARS, SEPARATOR, named, note, state_mark, text_block
from mamba_nb.display.text import UNKNOWN, count, duration, esc, figure, one_line, visible
from mamba_nb.records import Generation, ToolCall, Usage

__all__ = ["TAIL_CHARS", "note", "of_generation", "panels", "panels_text", "state_mark"]

TAIL_CHARS = 4000  # how much of an answer's end is shown while it grows
PROMPT_CHARS = 400  # how much of a prompt: two lines of a wide panel


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """What one panel shows, gathered from a state or a record."""

    label: str
    model: str
    server: str
    state: str
    text: str = ""
    left_out: int = 0
    reasoning: str = ""
    reasoning_size: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    ttft_ms: float | None = None
    rate: float | None = None
    rate_unit: str = "tok/s"
    rate_says: str = ""
    tokens: int | None = None
    latency_s: float | None = None
    context: int | None = None
    prompt: str = ""
    number: int = 1
    ended: int = 0
    total: int = 1
    notes: list[tuple[str, str]] = field(default_factory=list)
    follow: bool = False
    alone: bool = False


def panels(states: Sequence[PanelState], *, live: bool = False) -> str:
    """The panels' HTML, without its style sheet.

    Args:
        states: One a model, in the order of their colours.
        live: Whether more is to come; then long answers are cut to their end, and boxes follow it.
    """
    views = [_view(state, live) for state in states]
    if len({view.model for view in views}) == 1 < len(views):  # variants of one model: repeating it says nothing
        views = [replace(view, model=view.label) for view in views]
    return grid([_panel(view, index) for index, view in enumerate(views)])


def of_generation(generation: Generation) -> str:
    """One finished answer as a panel's HTML, without its style sheet."""
    view = _View(
        label=generation.model,
        model=generation.model,
        server=generation.server,
        state=generation.status,
        ended=1,
        alone=True,
        notes=_notes_of(generation) + [("warning", warning) for warning in generation.warnings],
    )
    return grid([_panel(_with_ended(view, generation), 0)])


def grid(inner: Sequence[str]) -> str:
    """Panels in the shared grid."""
    return f'<div class="mn-grid">\n{"".join(inner)}</div>'


def panels_text(states: Sequence[PanelState]) -> str:
    """The panels as plain text: for readers without HTML, and for what a saved notebook keeps beside it."""
    return "\n\n".join(_plain(_view(state, live=False)) for state in states)


def _view(state: PanelState, live: bool) -> _View:
    answer = state.answer
    view = _View(
        label=state.label,
        model=state.model,
        server=state.server,
        state=state.state,
        context=state.context,
        ended=state.n_ended,
        total=state.n_total,
        notes=_notes(state, answer),
        follow=live,
    )
    if answer is None:
        return view
    view = replace(view, prompt=answer.prompt, number=answer.number)
    generation = answer.generation
    if generation is None:
        return _with_growing(view, answer, whole=not live)
    return _with_ended(view, generation, whole=not live)


def _with_ended(view: _View, generation: Generation, *, whole: bool = True) -> _View:
    text, left_out = (generation.text, 0) if whole else _tail([generation.text])
    rate, tokens, latency_s = generation.output_tokens_per_s, generation.completion_tokens, generation.latency_s
    says = (
        f"{count(tokens)} tokens in {figure(latency_s)} s" if tokens and latency_s else "the server counted no tokens"
    )
    return replace(
        view,
        text=text,
        left_out=left_out,
        reasoning=generation.reasoning if whole else _tail([generation.reasoning])[0],
        reasoning_size=_size([generation.reasoning], generation.usage),
        tool_calls=generation.tool_calls,
        ttft_ms=generation.ttft_ms,
        rate=rate,
        rate_says=says,
        tokens=tokens,
        latency_s=latency_s,
    )


def _with_growing(view: _View, answer: Answer, *, whole: bool) -> _View:
    text, left_out = ("".join(answer.text), 0) if whole else _tail(answer.text)
    view = replace(
        view,
        text=text,
        left_out=left_out,
        reasoning="".join(answer.reasoning) if whole else _tail(answer.reasoning)[0],
        reasoning_size=_size(answer.reasoning, answer.usage),
        ttft_ms=answer.ttft_ms,
    )
    tokens_per_s = answer.tokens_per_s
    if tokens_per_s is not None:
        return replace(view, rate=tokens_per_s, rate_says="completion tokens so far over the time since send")
    return replace(view, rate=answer.chunks_per_s, rate_unit="chunks/s", rate_says="a chunk can carry several tokens")


def _size(pieces: Sequence[str], usage: Usage | None) -> str:
    if usage is not None and usage.reasoning_tokens:
        return f"{count(usage.reasoning_tokens)} tokens"
    return f"{count(sum(map(len, pieces)))} characters"


def _tail(pieces: Sequence[str], most: int = TAIL_CHARS) -> tuple[str, int]:
    """The end of a text that is kept in pieces, and how many characters stand before it."""
    kept: list[str] = []
    length = 0
    index = len(pieces)
    while index and length < most:
        index -= 1
        kept.append(pieces[index])
        length += len(pieces[index])
    text = "".join(reversed(kept))
    before = sum(map(len, pieces[:index])) + max(0, length - most)
    return (text[-most:] if before else text), before


def _notes(state: PanelState, answer: Answer | None) -> list[tuple[str, str]]:
    notes: list[tuple[str, str]] = []
    if answer is not None and answer.generation is not None:
        notes += _notes_of(answer.generation)
    for n, status in ((state.n_failed, "failed"), (state.n_stopped, "stopped")):
        if n and state.n_total > 1:
            notes.append((status, f"{count(n)} of {count(state.n_total)} {status}"))
    return notes + [("warning", warning) for warning in state.warnings]


def _notes_of(generation: Generation) -> list[tuple[str, str]]:
    if generation.error is None:
        return []
    return [("warning" if generation.status == "done" else generation.status, generation.error)]


def _panel(view: _View, index: int) -> str:
    where = [view.model] * (view.model not in view.label) + [view.server] * bool(view.server)
    state = f'<div class="mn-state">{state_mark(view.state)} {esc(view.state)}</div>'
    quiet = "".join(f' <span class="mn-quiet">·&nbsp;{named(part, LABEL_CHARS)}</span>' for part in where)
    return f"""\
<div class="mn-panel {style.model_class(index)}" role="group" aria-label="{esc(one_line(view.label, NAME_CHARS))}">
{_bar(view)}
<div class="mn-head"><div class="mn-name"><b>{named(view.label, LABEL_CHARS)}</b>{quiet}</div> {state}</div>
<div class="mn-figures">{_figures(view)}</div>
<div class="mn-prompt">{_prompt(view)}</div>
<div class="mn-think">{_reasoning(view)}</div>
{_answer(view)}
<div class="mn-notes">{"".join(note(kind, text) for kind, text in view.notes)}</div>
</div>
"""


def _bar(view: _View) -> str:
    share = 1.0 if view.total < 2 else min(1.0, view.ended / view.total)
    role = f' role="progressbar" aria-valuemax="{view.total}" aria-valuenow="{view.ended}"' if view.total > 1 else ""
    return f'<div class="mn-bar"{role}><div style="width:{100 * share:.4g}%"></div></div>'


def _figures(view: _View) -> str:
    ended = view.state in ("done", "failed", "stopped")
    ttft = duration(view.ttft_ms) if view.ttft_ms is not None else None
    unit = view.rate_unit if ended or view.rate is not None else "chunks/s"
    rate = f"{figure(view.rate)} {unit}" if view.rate is not None else None
    no_ttft = "no token came, or nothing was streamed" if ended else "no token yet"
    no_rate = (view.rate_says or "nothing was asked") if ended else "not enough yet to tell"
    shown = [
        f"<span>TTFT {_known(ttft, no_ttft)}</span>",
        f"<span{_title(view.rate_says)}>{_known(rate, no_rate, unit)}</span>",
    ]
    if view.alone and view.tokens is not None:
        shown.append(f"<span><b>{count(view.tokens)} tokens</b></span>")
    if view.alone and view.latency_s is not None:
        shown.append(f"<span><b>{figure(view.latency_s)} s</b></span>")
    if view.context is not None:
        shown.append(f'<span class="mn-end" title="tokens of context in force">ctx <b>{count(view.context)}</b></span>')
    return f"{SEPARATOR}\n".join(shown)


def _known(value: str | None, why_not: str, unit: str = "") -> str:
    return f"<b>{value}</b>" if value is not None else f"<b{_title(why_not)}>{UNKNOWN}</b> {unit}".rstrip()


def _title(text: str) -> str:
    return f' title="{esc(text)}"' if text else ""


def _prompt(view: _View) -> str:
    if view.total < 2 or not view.prompt:
        return ""
    prompt = esc(one_line(view.prompt, PROMPT_CHARS))
    return f"<div>{count(view.number)} of {count(view.total)} · <bdi>{prompt}</bdi></div>"


def _reasoning(view: _View) -> str:
    if not view.reasoning:
        return ""
    thoughts = text_block(view.reasoning, "thinking")
    return f"<details><summary>thinking ({view.reasoning_size})</summary>{thoughts}</details>"


def _answer(view: _View) -> str:
    parts = []
    if view.left_out:
        parts.append(f'<div class="mn-quiet">… {count(view.left_out)} characters before this</div>\n')
    if view.text:
        # The box around it scrolls, and has the place in the order of the keyboard.
        parts.append(f'<pre class="mn-text" dir="auto">\n{esc(view.text)}</pre>')
    elif view.state == "done" and not view.tool_calls:
        parts.append('<div class="mn-quiet">No visible text came.</div>')
    parts += [
        f'\n<pre class="mn-text mn-call">{esc(call.name)}({esc(call.arguments)})</pre>' for call in view.tool_calls
    ]
    follow = " mn-follow" if view.follow else ""
    label = f"answer of {one_line(view.label, NAME_CHARS)}"
    return (
        f'<div class="mn-answer{follow}" tabindex="0" role="region" aria-label="{esc(label)}">'
        f"<div>{''.join(parts)}</div></div>"
    )


def _plain(view: _View) -> str:
    shape, _ = style.mark(view.state)
    head = [f"{shape} {one_line(view.label)} · {one_line(view.server)}: {one_line(view.state)}"]
    if view.ttft_ms is not None:
        head.append(f"TTFT {duration(view.ttft_ms)}")
    if view.rate is not None:
        head.append(f"{figure(view.rate)} {view.rate_unit}")
    lines = [", ".join(head)]
    if view.prompt and view.total > 1:
        lines.append(f"{count(view.number)} of {count(view.total)} · {one_line(view.prompt, 100)}")
    if view.text:
        lines.append(visible(view.text))
    lines += [f"{visible(call.name)}({visible(call.arguments)})" for call in view.tool_calls]
    lines += [f"{style.mark(kind)[0]} {visible(text)}" for kind, text in view.notes]
    return "\n".join(lines)
