"""What a picker says: the search's outcome, how to start a server, what is known of a model, a plain copy.

Pure: records in, JSON or HTML out. Texts of foreign origin are made visible here, and escaped where they become HTML.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mamba_nb.backends.profiles import ModelProfile
from mamba_nb.backends.profiles_record import ABOUT
from mamba_nb.compare.progress import PanelState
from mamba_nb.display import html
from mamba_nb.display.panels import panels as panels_html
from mamba_nb.display.profiles_columns import MEANINGS, view
from mamba_nb.display.text import count, duration, esc, one_line, visible
from mamba_nb.servers.found import Servers
from mamba_nb.servers.kinds import kinds
from mamba_nb.servers.server import Server
from mamba_nb.servers.surroundings import SHOWN_STARTS, Surroundings, advice
from mamba_nb.widgets.picker_choices import place_of, server_id, state_of
from mamba_nb.widgets.picker_code import Chosen, python_lines

__all__ = ["LOOKING", "details", "help_for", "key_words", "outcome", "plain_copy", "unlisted"]

LOOKING = {"mark": "searching", "text": "Looking for model servers"}
SHOWN_FACTS = (
    "context_window",
    "context_max",
    "supports_tools",
    "supports_vision",
    "supports_json_schema",
    "supports_reasoning",
    "quantization",
    "parameters",
    "size_bytes",
    "memory_bytes",
    "runs_locally",
)
UNITS = {"size_bytes": "GB", "memory_bytes": "GB"}
NAMED = ("urls", "hosts", "settings", "OLLAMA_HOST", "OPENAI_BASE_URL")  # others are of no interest to a chooser


def outcome(servers: Servers) -> dict[str, str]:
    """What a search came to: the state whose shape stands before it, and the sentence."""
    took = duration(1000 * servers.took_s) if servers.took_s < 1 else f"{servers.took_s:.1f} s"
    where = f"{_counted(servers.places, 'place')} looked at in {took}"
    if not servers.found:
        return {"mark": "idle", "text": f"No model server was found: {where}"}
    models = _counted(sum(len(server.models) for server in servers), "model")
    asking = sum(state_of(server) in ("key needed", "key refused") for server in servers)
    more = f", {_counted(asking, 'server asks', 'servers ask')} for a key" if asking else ""
    return {"mark": "done", "text": f"{_counted(len(servers), 'server')}, {models}{more}: {where}"}


def help_for(servers: Servers) -> dict[str, Any]:
    """What to do where nothing was found, and what answered at the places that were named and is no model server.

    Returns:
        `starts`, each with a server's `title` and `how`; `advice`, sentences for where this kernel runs; `others`.
    """
    usual = set(advice(Surroundings(name="plain")))
    others = [other for other in servers.others if other.said_by in NAMED or other.said_by == other.url]
    starts = [{"title": kinds()[name].title, "how": kinds()[name].start} for name in SHOWN_STARTS]
    return {
        "starts": [] if servers.found else starts,
        "advice": [one_line(text) for text in servers.advice if text not in usual],
        "others": [one_line(str(other), 400) for other in others],
    }


def details(profile: ModelProfile) -> dict[str, Any]:
    """What is known of a model: each fact with its value and who says so.

    Returns:
        `facts`, each with `label`, `value`, `source` ("" where nobody says), `but` (what others say otherwise) and
        `says` (the evidence, a line a source); and `meanings` of the sources that occur.
    """
    facts = []
    for field in SHOWN_FACTS:
        cell = view(profile, field)
        if not cell.source and field not in SHOWN_FACTS[:4]:
            continue
        unit = UNITS.get(field, "") if cell.source else ""
        facts.append(
            {
                "label": ABOUT[field].label,
                "value": f"{visible(cell.value)} {unit}".strip(),
                "source": cell.source,
                "but": visible(cell.but),
                "says": visible("\n".join(cell.evidence)) or cell.why,
            }
        )
    sources = {source for field in SHOWN_FACTS for source in profile.said(field)}
    return {"facts": facts, "meanings": [f"{name}: {says}" for name, says in MEANINGS.items() if name in sources]}


def plain_copy(chosen: Chosen, title: str, panel: PanelState | None) -> str:
    """The choice and the test's answer as a page of HTML, for readers without a kernel."""
    name = f"<div><b><bdi>{esc(chosen.model)}</bdi></b> · {esc(title)} · <bdi>{esc(chosen.base_url)}</bdi></div>"
    code = f'<pre class="mn-text"><code>{esc(python_lines(chosen))}</code></pre>'
    return html.page(f"{name}\n{code}\n{panels_html([panel]) if panel is not None else ''}")


def _counted(number: int, one: str, more: str = "") -> str:
    return f"{count(number)} {one if number == 1 else more or f'{one}s'}"


def key_words(state: str, server: Server) -> dict[str, str]:
    """What the key field says of the key for a server: `server` (its id), `place`, `state`, and the words, `says`."""
    place = place_of(server.base_url)
    says = KEY_WORDS[state].format(place=place)
    return {"server": server_id(server.base_url), "place": place, "state": state, "says": says}


KEY_WORDS: Mapping[str, str] = {
    "none": "",
    "needed": "{place} asks for a key",
    "refused": "{place} refused the key",
    "given": "key given",
    "checking": "asking {place} with the key",
}


def unlisted(model: str) -> str:
    """That a chosen model is not listed any more."""
    return f"{one_line(model, 80)} is not listed any more by its server."
