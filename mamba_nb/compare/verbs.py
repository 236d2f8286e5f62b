"""`compare` blocks and shows itself while it runs; `start_compare` gives a Run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from mamba_nb._bridge import Run, refuse_on_private_loops, wait_with_ticks
from mamba_nb.compare.engine import Engine, GridEvent
from mamba_nb.compare.plan import ModelLike, make_plan
from mamba_nb.records import Comparison

if TYPE_CHECKING:
    from mamba_nb.compare.agents import AgentFactory
    from mamba_nb.settings import AgentSettings

__all__ = ["compare", "start_compare"]


def compare(
    models: ModelLike | Iterable[ModelLike],
    prompts: Any,
    *,
    column: str | None = None,
    template: str | None = None,
    repeats: int = 1,
    system: str | None = None,
    seed: int | None = None,
    max_concurrency: int | None = None,
    settings: AgentSettings | None = None,
    live: bool | Literal["widget"] | None = None,
    agent: AgentFactory | None = None,
    expect: Any = None,
    **params: Any,
) -> Comparison:
    """Put the same prompts to several models at once, and wait for the answers.

        compare(["ollama/llama3.2", "embedded"], ["Why is the sky blue?", "Name three rivers."])

    Each (server, model) is warmed up by one short request before any clock starts. Servers work side by side; on
    one server there are at most `max_concurrency` requests at once, and a server that holds one model at a time
    gets one model after the other. A cell that fails is a row with its error. In a notebook the answers are shown
    as they grow, in a terminal there is a progress line.

    Args:
        models: Names, backends or variants; one, or several.
        prompts: A string, a list of strings, a Series, a DataFrame, or a list of conversations.
        column: The column of a DataFrame that holds the prompts.
        template: A prompt with a DataFrame's columns in braces: `"Summarise: {text}"`.
        repeats: How often each prompt is put to each model.
        system: A system message for every prompt.
        seed: Sent with every request; None sends none.
        max_concurrency: Most requests at once on one server; None takes the number it works on at once.
        settings: Where plain model names find their address and key; None reads the environment.
        live: Whether to show the run; None shows it in a notebook or a terminal. `"widget"` shows it in panels that
            stream, with Markdown and a Stop button, instead of plain HTML.
        agent: A function from a backend to an `Agent`, called once for each model: then agents answer, each with its
            tools, and the grid is an AgentComparison. A model whose agent is refused (it cannot call tools) is a
            column of failures.
        expect: With `agent`, which tools each prompt should bring: a mapping from prompt ids, a list with one item a
            prompt, or the name of a DataFrame's column. An item is a tool's name, `(name, arguments)`, a list of
            these, `[]` for no tool at all, or None for what is not judged.
        **params: Request parameters for every model (`temperature`, `max_tokens`, ...); none is sent by default.

    Returns:
        The grid of answers: `.to_frame()`, `.summary()`, `.to_wide()`, `.save(path)`.

    Raises:
        BadInput: If an argument is wrong; nothing has been sent then.
        KeyboardInterrupt: On an interrupt. What was finished is in the exception's `.partial`, the run in `.run`.
    """
    plan = make_plan(
        models,
        prompts,
        column=column,
        template=template,
        repeats=repeats,
        system=system,
        max_concurrency=max_concurrency,
        settings=settings,
        agent=agent,
        expect=expect,
        params={"seed": seed, **params},
    )
    engine = Engine(plan)
    refuse_on_private_loops("compare", "use `await start_compare(...)`")
    from mamba_nb.display.live import choose_view

    run: Run[GridEvent, Comparison] | None = None
    view = choose_view(live, engine.panels, on_stop=lambda: run.cancel() if run is not None else False)
    try:
        run = _start(engine)
        return wait_with_ticks(run, view.paint)
    except KeyboardInterrupt as interrupt:
        if not hasattr(interrupt, "partial"):  # it came while painting, not while waiting
            if run is not None:
                run.cancel()
            interrupt.run, interrupt.partial = run, engine.comparison()  # type: ignore[attr-defined]
        raise
    finally:
        view.close()


def start_compare(
    models: ModelLike | Iterable[ModelLike],
    prompts: Any,
    *,
    column: str | None = None,
    template: str | None = None,
    repeats: int = 1,
    system: str | None = None,
    seed: int | None = None,
    max_concurrency: int | None = None,
    settings: AgentSettings | None = None,
    agent: AgentFactory | None = None,
    expect: Any = None,
    **params: Any,
) -> Run[GridEvent, Comparison]:
    """Start a comparison and return at once.

        run = start_compare(["ollama/llama3.2", "embedded"], "Why is the sky blue?")
        run.result().to_frame()

    Takes what `compare` takes, but for `live`.

    Returns:
        A Run whose events are CellEvent (a stream event of one cell) and CellEnded, and whose result is the
        Comparison. Cancelled, its `.partial` has what was finished.

    Raises:
        BadInput: If an argument is wrong; nothing has been sent then.
    """
    plan = make_plan(
        models,
        prompts,
        column=column,
        template=template,
        repeats=repeats,
        system=system,
        max_concurrency=max_concurrency,
        settings=settings,
        agent=agent,
        expect=expect,
        params={"seed": seed, **params},
    )
    pending: list[Run[GridEvent, Comparison]] = []
    engine = Engine(plan, emit=lambda event: pending[0].emit(event))
    run = _start(engine, register=pending.append)
    return run


def _start(engine: Engine, register: Any = None) -> Run[GridEvent, Comparison]:
    async def work(run: Run[GridEvent, Comparison]) -> Comparison:
        if register is not None:
            register(run)
        run.state = "streaming"
        return await engine.run()

    plan = engine.plan
    return Run(
        work,
        name=f"compare {len(plan.columns)} models, {len(plan.rows)} prompts",
        partial=engine.comparison,
    )
