"""A chat as plain HTML: the copy that a saved notebook shows without a kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mamba_nb.display import html
from mamba_nb.display.panels import note, state_mark
from mamba_nb.display.text import esc
from mamba_nb.widgets.chat_turns import Turn

__all__ = ["copy_html"]


def copy_html(turns: Iterable[Turn], system: str | None) -> str:
    """The conversation as a page, complete in itself; empty where nothing was said."""
    parts = [_box("System prompt", "", _text(system))] if system else []
    for turn in turns:
        for shown in turn.snapshot():
            parts.append(_question(shown) if shown["kind"] == "question" else _answer(turn, shown))
    return html.page("\n".join(parts)) if parts else ""


def _question(shown: Mapping[str, Any]) -> str:
    images = f'<div class="mn-quiet">{shown["images"]} images</div>' if shown["images"] else ""
    return _box("You", "", f"{_text(shown['text'])}{images}")


def _answer(turn: Turn, shown: Mapping[str, Any]) -> str:
    step = turn.steps[shown["step"] - 1]
    state = f'<div class="mn-state">{state_mark(shown["state"])} {esc(shown["state"])}</div>'
    figures = " ".join(f"<span>{esc(each['name'])} {esc(each['value'])}</span>" for each in shown["figures"])
    inner = f'<div class="mn-figures">{figures}</div>' if figures else ""
    if shown["reasoning"]:
        inner += (
            f'<div class="mn-think"><details><summary>thinking</summary>{_text(shown["reasoning"])}</details></div>'
        )
    said = (_text(step.text) if step.text else "") + "".join(_call(call) for call in shown["calls"])
    label = f"answer of {esc(shown['label'])}"
    inner += f'<div class="mn-answer" tabindex="0" role="region" aria-label="{label}"><div>{said}</div></div>'
    notes = [("idle", shown["empty"])] if shown["empty"] else []
    if error := shown["error"]:
        notes.append(("failed", "\n".join(part for part in (error["message"], error["hint"], error["says"]) if part)))
    notes += [(kind, text) for kind, text in shown["notes"]]
    below = "".join(note(kind, text) for kind, text in notes)
    return _box(shown["label"], state, f'{inner}<div class="mn-notes">{below}</div>')


def _call(call: Mapping[str, Any]) -> str:
    result = call.get("result")
    outcome = f'\n<pre class="mn-text mn-call">{esc(call.get("state", ""))}: {esc(result)}</pre>' if result else ""
    return f'<div><pre class="mn-text mn-call">{esc(call["name"])} {esc(call["arguments"])}</pre>{outcome}</div>'


def _text(text: str) -> str:
    return f'<div><pre class="mn-text" dir="auto">\n{esc(text)}</pre></div>'


def _box(who: str, state: str, inner: str) -> str:
    head = f'<div class="mn-head"><div class="mn-name"><b><bdi>{esc(who)}</bdi></b></div>{state}</div>'
    return f'<div class="mn-panel">{head}{inner}</div>'
