"""Servers and their models as HTML, as text and as pandas tables.

In go `Server` and `Servers` records, out come strings and DataFrames. Everything that a server wrote (its models'
names, its version, a page's title) is escaped. What a server does not say is an en dash whose title says so, and
missing in tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mamba_nb.display.html import page
from mamba_nb.display.pieces import NAME_CHARS as LONGEST_NAME
from mamba_nb.display.pieces import named, note, state_mark, table_box
from mamba_nb.display.text import UNKNOWN, count, duration, esc, figure, one_line, pad, storable, width
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.found import Other, Servers
from mamba_nb.servers.server import Server

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "MODEL_COLUMNS",
    "SERVER_COLUMNS",
    "models_frame",
    "server_html",
    "server_text",
    "servers_frame",
    "servers_html",
    "servers_text",
]

MODELS_SHOWN = 4  # of each server in the table of servers
MOST_ROWS = 60  # of the table of one server's models
NAME_CHARS = 60

# How a model's state is shown: as one of the states that everything here has, with the server's own word.
STATES = {
    "loaded": "done",
    "loading": "loading model",
    "downloading": "loading model",
    "failed": "failed",
    "sleeping": "waiting",
    "unloaded": "idle",
}


# The pandas tables.


@dataclass(frozen=True, slots=True)
class _Field:
    """One column: its name, pandas' dtype, how it is read."""

    name: str
    dtype: str
    get: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Row:
    server: Server
    model: ServedModel | None


def _of_server(name: str, dtype: str = "str") -> _Field:
    return _Field(name, dtype, lambda row: getattr(row.server if isinstance(row, _Row) else row, name))


def _of_model(name: str, dtype: str, attribute: str | None = None) -> _Field:
    return _Field(name, dtype, lambda row: getattr(row.model, attribute or name, None))


def _loaded_count(server: Server) -> int | None:
    known = [model.loaded for model in server.models if model.loaded is not None]
    return sum(known) if known else None


SERVER_COLUMNS = (
    _of_server("kind"),
    _of_server("certainty"),
    _of_server("evidence"),
    _of_server("base_url"),
    _of_server("version"),
    _of_server("mode"),
    _of_server("needs_key", "boolean"),
    _Field("has_key", "boolean", lambda server: server.key is not None),
    _of_server("latency_ms", "float64"),
    _Field("models", "Int64", lambda server: len(server.models)),
    _Field("loaded", "Int64", _loaded_count),
    _Field("problems", "str", lambda server: " ".join(server.problems) or None),
)
MODEL_COLUMNS = (
    _of_server("kind"),
    _of_server("base_url"),
    _of_server("version"),
    _of_model("model", "str", "id"),
    _of_model("state", "str"),
    _of_model("task", "str"),
    *(_of_model(name, "Int64") for name in ("context_window", "context_max", "max_output_tokens")),
    *(_of_model(name, "Int64") for name in ("size_bytes", "memory_bytes", "parameters")),
    *(_of_model(name, "str") for name in ("quantization", "family")),
    *(_of_model(f"supports_{name}", "boolean") for name in ("tools", "vision", "reasoning", "embeddings")),
    _of_model("runs_locally", "boolean"),
    _of_model("digest", "str"),
)


def servers_frame(servers: Sequence[Server]) -> pd.DataFrame:
    """One row a server."""
    return _frame(SERVER_COLUMNS, servers)


def models_frame(servers: Sequence[Server]) -> pd.DataFrame:
    """One row a server and model, and one for a server without models."""
    return _frame(MODEL_COLUMNS, [_Row(server, model) for server in servers for model in server.models or (None,)])


def _frame(columns: Sequence[_Field], rows: Sequence[Any]) -> pd.DataFrame:
    import pandas as pd

    table = {}
    for column in columns:
        values = [column.get(row) for row in rows]
        if column.dtype == "str":
            values = [storable(value) if isinstance(value, str) else None for value in values]
        table[column.name] = pd.Series(values, dtype=column.dtype)
    return pd.DataFrame(table)


# A look around.


def servers_html(servers: Servers) -> str:
    """The servers as a table, what else answered below it; without a server, what to do."""
    below = "".join(note(kind, text) for kind, text in _below(servers))
    if not servers.found:
        return page(f'<div class="mn-notes">{note("idle", _none_found(servers))}{below}</div>')
    rows = "".join(_server_row(server) for server in servers)
    return page(
        f'<div {table_box("Servers")}><table class="mn-table">\n'
        '<thead><tr><th scope="col" class="mn-label">server</th>'
        '<th scope="col" class="mn-left">base_url</th><th scope="col" class="mn-left">version</th>'
        '<th scope="col" class="mn-left">key</th><th scope="col">list <span>ms</span></th>'
        '<th scope="col" class="mn-left">models <span>in memory first, context in force</span></th></tr></thead>\n'
        f'<tbody>\n{rows}</tbody></table></div>\n<div class="mn-notes">{below}</div>'
    )


def servers_text(servers: Servers) -> str:
    """The same as aligned text."""
    lines = [] if servers.found else [_none_found(servers)]
    if servers.found:
        table = [["server", "", "base_url", "version", "key", "list ms", "models"]]
        for server in servers:
            models = [_model_text(model) for model in _first(server.models)]
            names = ", ".join(models) + _left_out(server.models)
            latency = UNKNOWN if server.latency_ms is None else figure(server.latency_ms)
            version = one_line(server.version or UNKNOWN, 20)
            name = server.kind + (f" {one_line(server.mode, 20)}" if server.mode else "")
            table.append([name, server.certainty, one_line(server.base_url), version, _key(server), latency, names])
        lines += _aligned(table, right={5})
    lines += [f"{'!' if kind == 'warning' else '○'} {one_line(text)}" for kind, text in _below(servers)]
    return "\n".join(lines)


def _server_row(server: Server) -> str:
    mode = f' <span class="mn-quiet">{named(server.mode, 30)}</span>' if server.mode else ""
    latency = (
        f"<td>{figure(server.latency_ms)}</td>"
        if server.latency_ms is not None
        else f'<td title="it gave no list of models">{UNKNOWN}</td>'
    )
    key = _key(server)
    unknown = f'<td class="mn-left" title="it asks for a key">{UNKNOWN}</td>'
    models = unknown if key == "needed" else f'<td class="mn-left">{_models(server.models)}</td>'
    evidence = esc(one_line(server.evidence, LONGEST_NAME))
    key_class = ' class="mn-warn"' if key == "needed" else ' class="mn-quiet"' if key == "none" else ""
    return (
        f'<tr><th scope="row" class="mn-label" title="{evidence}"><b>{esc(server.kind)}</b>{mode} '
        f'<span class="mn-quiet">·&nbsp;{server.certainty}</span></th>'
        f'<td class="mn-left">{named(server.base_url, NAME_CHARS)}</td>{_known(server.version, "mn-left")}'
        f'<td class="mn-left"><span{key_class}>{key}</span></td>{latency}'
        f"{models}</tr>\n"
    )


def _models(models: Sequence[ServedModel]) -> str:
    if not models:
        return '<span class="mn-quiet">none</span>'
    lines = []
    for model in _first(models):
        context = f' <span class="mn-quiet">ctx {count(model.context_window)}</span>' if model.context_window else ""
        lines.append(f"{_mark(model)}{named(model.id, NAME_CHARS)}{context}")
    if left := _left_out(models):
        lines.append(f'<span class="mn-quiet">{left.strip()}</span>')
    return "<br>".join(lines)


def _mark(model: ServedModel) -> str:
    """The shape of a model's state; nothing where the server does not say."""
    return state_mark(STATES.get(model.state, "idle")) + " " if model.state else ""


def _first(models: Sequence[ServedModel]) -> list[ServedModel]:
    """Those in memory, then the others, as many as are shown."""
    order = {"loaded": 0, "loading": 1}
    return sorted(models, key=lambda model: order.get(model.state or "", 2))[:MODELS_SHOWN]


def _left_out(models: Sequence[ServedModel]) -> str:
    left = len(models) - MODELS_SHOWN
    return f" and {count(left)} more" if left > 0 else ""


def _model_text(model: ServedModel) -> str:
    context = f" ctx {count(model.context_window)}" if model.context_window else ""
    state = f" ({model.state})" if model.state in ("loaded", "loading", "failed") else ""
    return f"{one_line(model.id, NAME_CHARS)}{state}{context}"


def _key(server: Server) -> str:
    if server.needs_key and not server.usable:
        return "needed"
    return "given" if server.key is not None else "none"


def _below(servers: Servers) -> Iterable[tuple[str, str]]:
    for server in servers:
        for problem in server.problems:
            yield "warning", f"{server.kind} at {one_line(server.base_url, LONGEST_NAME)}: {problem}"
    for advice in servers.advice:
        yield "idle", advice
    for other in servers.others:
        yield "idle", _other(other)


def _other(other: Other) -> str:
    return str(other) + ("" if other.said_by in ("", other.url) else f" [{other.said_by}]")


def _none_found(servers: Servers) -> str:
    places = "1 place" if servers.places == 1 else f"{count(servers.places)} places"
    return f"No model server was found ({places} looked at, {duration(1000 * servers.took_s)})."


# One server.


def server_html(server: Server) -> str:
    """One server: a line about it, and its models as a table."""
    version = f" {named(server.version, NAME_CHARS)}" if server.version else ""
    mode = f" {named(server.mode, NAME_CHARS)}" if server.mode else ""
    head = (
        f'<div class="mn-name"><b>{esc(server.about.title)}</b>{version}{mode} '
        f'<span class="mn-quiet">·&nbsp;{named(server.base_url)}</span></div>\n'
        f'<div class="mn-name mn-quiet">{server.certainty}: {named(server.evidence)}</div>\n'
    )
    table = _models_table(server) if server.models else ""
    notes = "".join(note("warning", problem) for problem in server.problems)
    if not server.models and not notes:
        notes = note("idle", "It lists no models.")
    if len(server.models) > MOST_ROWS:
        notes += note("idle", f"{count(len(server.models) - MOST_ROWS)} more models: server.to_frame() has them all.")
    return page(f'{head}{table}<div class="mn-notes">{notes}</div>')


def server_text(server: Server) -> str:
    """The same as text."""
    lines = [
        one_line(f"{server.about.title} {server.version or ''}", 2 * NAME_CHARS) + f" · {one_line(server.base_url)}"
    ]
    lines.append(f"{server.certainty}: {one_line(server.evidence)}")
    if server.models:
        table = [["model", "state", "context", "max", "size", "parameters", "quant", "can"]]
        table += [[text for _, text in _cells(model)] for model in server.models[:MOST_ROWS]]
        lines += _aligned(table, right={2, 3, 4, 5})
    lines += [f"! {one_line(problem)}" for problem in server.problems]
    return "\n".join(lines)


def _models_table(server: Server) -> str:
    head = (
        '<th scope="col" class="mn-label">model</th><th scope="col" class="mn-left">state</th>'
        '<th scope="col">context <span>tokens, in force</span></th>'
        '<th scope="col">context <span>tokens, at most</span></th>'
        '<th scope="col">size <span>on disk</span></th><th scope="col">parameters</th>'
        '<th scope="col" class="mn-left">quantization</th><th scope="col" class="mn-left">declared to do</th>'
    )
    rows = []
    for model in server.models[:MOST_ROWS]:
        cells = "".join(_cell(place, text) for place, text in _cells(model)[2:])
        state = (
            f'<td class="mn-left">{_mark(model)}{named(model.state, 30)}</td>'
            if model.state
            else _known(None, "mn-left")
        )
        rows.append(f'<tr><th scope="row" class="mn-label">{named(model.id, 2 * NAME_CHARS)}</th>{state}{cells}</tr>\n')
    return (
        f'<div {table_box("Models")}><table class="mn-table">\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{''.join(rows)}</tbody></table></div>\n"
    )


def _cells(model: ServedModel) -> list[tuple[str, str]]:
    """What each column of a model's row says, with the column's class."""
    size = None if model.size_bytes is None else bytes_text(model.size_bytes)
    parameters = None if model.parameters is None else parameters_text(model.parameters)
    can = [
        word
        for word, able in (
            ("chat", model.task == "chat" or None),
            ("tools", model.supports_tools),
            ("vision", model.supports_vision),
            ("reasoning", model.supports_reasoning),
            ("embeddings", model.supports_embeddings or model.task == "embedding"),
        )
        if able
    ]
    where = ["not on this machine"] if model.runs_locally is False else []
    return [
        ("", one_line(model.id, NAME_CHARS)),
        ("mn-left", one_line(model.state or UNKNOWN, NAME_CHARS)),
        ("", UNKNOWN if model.context_window is None else count(model.context_window)),
        ("", UNKNOWN if model.context_max is None else count(model.context_max)),
        ("", size or UNKNOWN),
        ("", parameters or UNKNOWN),
        ("mn-left", one_line(model.quantization, 20) if model.quantization else UNKNOWN),
        ("mn-left", ", ".join(can + where) or UNKNOWN),
    ]


def _cell(css: str, text: str) -> str:
    title = ' title="the server does not say"' if text == UNKNOWN else ""
    kind = f' class="{css}"' if css else ""
    return f"<td{kind}{title}>{esc(text)}</td>"


def _known(text: str | None, css: str) -> str:
    return _cell(css, one_line(text, 30) if text else UNKNOWN)


def bytes_text(size: int) -> str:
    """Bytes in the unit that reads best, of 1000 each.

    Examples:
        >>> bytes_text(2_019_393_189), bytes_text(412_416)
        ('2.02 GB', '412 kB')
    """
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{figure(size / factor)} {unit}"
    return f"{size} B"


def parameters_text(parameters: int) -> str:
    """A count of weights as models' makers write it.

    Examples:
        >>> parameters_text(3_212_749_888), parameters_text(134_515_008)
        ('3.21B', '135M')
        >>> parameters_text(8_000_000_000)
        '8B'
    """
    for unit, factor in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if parameters >= factor:
            return f"{parameters / factor:.3g}{unit}"
    return str(parameters)


def _aligned(table: list[list[str]], right: set[int]) -> list[str]:
    widths = [max(map(width, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(pad(cell, widths[place], right=place in right) for place, cell in enumerate(row)).rstrip()
        for row in table
    ]
