"""A running engine as a record: where it is, what it takes, and what it declares about its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from mamba_nb.embedded.plan import EngineSpec
from mamba_nb.embedded.process import EngineProcess


class Declared(NamedTuple):
    """A fact the engine declares about its model, and what that rests on."""

    value: Any
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Engine:
    """A running engine: where it is, and what it declares.

    Attributes:
        base_url: Its OpenAI-compatible address on loopback.
        api_key: The key it wants; random, and in no repr.
        model: The model's name on the wire.
        model_path: The weights it has loaded.
        n_ctx: Context of each slot in force, in tokens.
        slots: How many requests it works on at once.
        pid: Its process id.
        load_s: Seconds from the spawn until it answered.
        spec: What was asked for; `ensure_engine(engine.spec)` gives this engine again, or its successor.
        declared: Facts for the model's profile, by the profile's own names.
    """

    base_url: str
    api_key: str = field(repr=False)
    model: str
    model_path: Path
    n_ctx: int
    slots: int
    pid: int
    load_s: float
    spec: EngineSpec
    declared: Mapping[str, Declared]

    def __repr__(self) -> str:
        return f"<Engine {self.model} · {self.base_url} · {self.slots} slots x {self.n_ctx} tokens · pid {self.pid}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """What one engine is and takes.

    Attributes:
        model: The model's name on the wire.
        base_url: Its address.
        pid: Its process id.
        model_path: The weights it has loaded.
        n_ctx: Context of each slot, in tokens.
        slots: How many requests it works on at once.
        memory_mb: Resident memory in MB (10^6 bytes), the mapped weights included; None where it cannot be read.
        uptime_s: Seconds since it was ready.
    """

    model: str
    base_url: str
    pid: int
    model_path: Path
    n_ctx: int
    slots: int
    memory_mb: float | None
    uptime_s: float

    def __repr__(self) -> str:
        memory = "memory unknown" if self.memory_mb is None else f"{self.memory_mb:.0f} MB"
        return (
            f"<EngineStatus {self.model} · {self.base_url} · {self.slots} slots x {self.n_ctx} tokens · {memory} · "
            f"up {self.uptime_s:.0f} s · pid {self.pid}>"
        )


def engine_record(process: EngineProcess, facts: Mapping[str, Any], load_s: float) -> Engine:
    """The record of an engine that answers, from its process and what that said when it was ready."""
    spec = process.spec
    return Engine(
        base_url=f"http://127.0.0.1:{facts['port']}/v1",
        api_key=process.api_key,
        model=spec.model,
        model_path=spec.model_path,
        n_ctx=facts["n_ctx"],
        slots=facts["slots"],
        pid=process.pid,
        load_s=load_s,
        spec=spec,
        declared=declared(facts["n_ctx"], tools=facts["supports_tools"], vision=facts["supports_vision"]),
    )


def declared(n_ctx: int | None, *, tools: bool | None, vision: bool | None) -> Mapping[str, Declared]:
    """The facts for a profile, from what llama.cpp says of the model it has loaded."""
    no_tools = "; without them llama.cpp ignores `tools` and `tool_choice` in silence" if tools is False else ""
    return MappingProxyType(
        {
            "supports_tools": Declared(tools, f"/props: chat_template_caps.supports_tools is {tools}{no_tools}"),
            "supports_json_schema": Declared(True, "llama.cpp constrains sampling by a grammar made from the schema"),
            "supports_vision": Declared(vision, f"/props: modalities.vision is {vision}"),
            "context_window": Declared(n_ctx, f"/props: default_generation_settings.n_ctx is {n_ctx} for each slot"),
        }
    )


DECLARED = declared(None, tools=False, vision=False)
"""What the engine declares with the built-in model loaded; the context is known once it runs."""
