"""What a look around found: the model servers, what else answered there, and what to do where there is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from mamba_nb.errors import closest
from mamba_nb.servers.kinds import NAMES
from mamba_nb.servers.server import Server

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Other", "Servers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """Something that is no model server, or that could not be told in time.

    Attributes:
        url: Where it is; the name of the setting where that is no address.
        what: What it is, in a few words: `a web page: "Grafana"`, `accepts connections and never answers`.
        hint: What to do, or None.
        said_by: Who named it: `port 8080`, `settings`, `OLLAMA_HOST`, `urls`, ...
    """

    url: str
    what: str
    hint: str | None = None
    said_by: str = ""

    def __str__(self) -> str:
        return f"{self.url}: {self.what}" + (f". {self.hint}" if self.hint else "")


@dataclass(frozen=True, kw_only=True)
class Servers(Sequence[Server]):
    """The model servers that were found, those that can be used first; true where there is one.

        servers = find_servers()
        servers                    a table in a cell
        servers[0].models          of the first
        servers["ollama"]          the first of that kind
        servers.to_frame()         one row a model

    Attributes:
        found: The servers.
        others: What else answered, told as what it is, and named addresses where nothing is.
        advice: What to do, where no server was found; each a sentence or two.
        places: How many places were looked at.
        took_s: How long that took, in seconds.
    """

    found: tuple[Server, ...] = ()
    others: tuple[Other, ...] = ()
    advice: tuple[str, ...] = ()
    places: int = 0
    took_s: float = 0.0

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Server]:
        return iter(self.found)

    @overload
    def __getitem__(self, place: int | str) -> Server: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Server, ...]: ...

    def __getitem__(self, place: int | str | slice) -> Server | tuple[Server, ...]:
        if not isinstance(place, str):
            return self.found[place]
        for server in self.found:
            if server.kind == place:
                return server
        near = closest(place, NAMES) if place not in NAMES else None
        have = ", ".join(dict.fromkeys(server.kind for server in self.found)) or "none"
        raise KeyError(
            f"No {place} was found." + (f" Did you mean {near!r}?" if near else "") + f" What was found: {have}."
        )

    def get(self, kind: str) -> Server | None:
        """The first server of a kind, such as `"ollama"`; None where none was found."""
        return next((server for server in self.found if server.kind == kind), None)

    def to_frame(self) -> pd.DataFrame:
        """One row a server and model; a server without models has one row, its model missing.

        Columns: `kind`, `base_url`, `version`, `model`, `state`, `task`, `context_window` (in force, tokens),
        `context_max` (tokens), `max_output_tokens`, `size_bytes`, `memory_bytes`, `parameters`, `quantization`,
        `family`, `supports_tools`, `supports_vision`, `supports_reasoning`, `supports_embeddings`, `runs_locally`,
        `digest`. What a server does not say is missing.
        """
        from mamba_nb.display import servers

        return servers.models_frame(self.found)

    def servers_frame(self) -> pd.DataFrame:
        """One row a server.

        Columns: `kind`, `certainty`, `evidence`, `base_url`, `version`, `mode`, `needs_key`, `has_key`, `latency_ms`,
        `models` and `loaded` (counts; `loaded` is missing where the server does not say), `problems`.
        """
        from mamba_nb.display import servers

        return servers.servers_frame(self.found)

    def __repr__(self) -> str:
        listed = ", ".join(f"{server.kind} at {server.base_url}" for server in self.found[:4])
        more = f" and {len(self.found) - 4} more" if len(self.found) > 4 else ""
        return f"<Servers {listed}{more}>" if listed else f"<Servers none · {self.places} places looked at>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from mamba_nb.display import servers

        return {"text/plain": servers.servers_text(self), "text/html": servers.servers_html(self)}
