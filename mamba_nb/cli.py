"""The command line: `python -m mamba_nb quickstart | tutorials | doctor | profiles`.

Commands print what a person needs and end with 0, or with 1 and an error that says what to do.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mamba_nb.errors import MambaError

if TYPE_CHECKING:
    from rich.console import Console

    from mamba_nb.backends.comparing_record import ProfileComparison

__all__ = ["app", "main"]

UNKNOWN_NUMBER = "–"  # noqa: RUF001
YES_NO = {True: "yes", False: "no", None: "?"}

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Choose between language models in a notebook.",
)


def main() -> None:
    """Run the command that the arguments name; an error of this package is printed without a traceback."""
    try:
        app()
    except MambaError as error:
        _console(stderr=True).print(str(error))
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Show the version and end.")] = False,
) -> None:
    if version:
        from mamba_nb import __version__

        print(f"mamba_nb {__version__}")
        raise typer.Exit


@app.command()
def quickstart(
    execute: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT", help="Run it without a browser; write the executed notebook and an HTML page to this folder."
        ),
    ] = None,
    jupyterlab_options: Annotated[
        list[str] | None, typer.Argument(metavar="-- OPTIONS", help="For JupyterLab, after two dashes.")
    ] = None,
) -> None:
    """Open the quickstart notebook in JupyterLab, on a small model that runs on this machine.

    The model's weights (93 MB) are fetched once. The notebook is copied to the current folder; your own copy is kept.
    """
    from mamba_nb import embedded
    from mamba_nb import quickstart as notebook

    console = _console()
    notebook.check_extras(to_execute=execute is not None)
    plan = embedded.plan_engine(download=True, say=console.print)
    console.print(f"Weights: {plan.model_path}")
    if execute is not None:
        done = notebook.execute(notebook.source(), execute, say=console.print)
        console.print(f"{done.cells} cells in {done.took_s:.0f} s. Written: {done.notebook} and {done.page}")
        return
    path, is_new = notebook.lay_copy(Path.cwd())
    console.print(f"Notebook: {path}" if is_new else f"Notebook: {path} (your copy, as you left it)")
    _open_in_jupyterlab(path, jupyterlab_options or [])


@app.command()
def tutorials(
    folder: Annotated[Path, typer.Option("--to", help="Where to copy them; it is made if need be.")] = Path(
        "tutorials"
    ),
    look: Annotated[bool, typer.Option("--open/--no-open", help="Open the first one in JupyterLab.")] = True,
    jupyterlab_options: Annotated[
        list[str] | None, typer.Argument(metavar="-- OPTIONS", help="For JupyterLab, after two dashes.")
    ] = None,
) -> None:
    """Copy all tutorial notebooks to a folder and open JupyterLab there; a copy of yours is kept as you left it."""
    from mamba_nb import quickstart as notebook
    from mamba_nb.errors import BadInput

    if look:
        notebook.check_extras(to_execute=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder} cannot be made a folder: {error.strerror or error}.") from error
    for name in notebook.tutorials():
        path, is_new = notebook.lay_copy(folder, name)
        _console().print(f"{path}" if is_new else f"{path} (your copy, as you left it)")
    if look:
        _open_in_jupyterlab(folder / notebook.NAME, jupyterlab_options or [])


@app.command()
def doctor(
    url: Annotated[str | None, typer.Option(metavar="ADDRESS", help="A server to look at besides.")] = None,
    host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Another machine, whose usual ports are looked at.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything that was found, as JSON.")] = False,
) -> None:
    """Say which model servers run, what is wrong, and the command that mends it; ends with 1 where something fails."""
    from mamba_nb.doctor.examine import doctor as examine

    report = examine(url, hosts=host or None)
    if as_json:
        import json

        print(json.dumps(report.to_dict(), indent=2))
    else:
        _console().print(str(report))
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def profiles(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAMES", help="Compare these: names to look up, or servers to ask, such as ollama:llama3.2."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every fact with its sources, as JSON.")] = False,
) -> None:
    """Show what is known of models, and who says so; without names, the built-in table."""
    if names or as_json:
        from mamba_nb.backends.comparing import compare_profiles
        from mamba_nb.backends.profiles import list_profiles

        _compare(compare_profiles(names or list_profiles()), as_json=as_json)
    else:
        _built_in_profiles()


def _built_in_profiles() -> None:
    from rich import box
    from rich.table import Table

    from mamba_nb.backends.profiles import get_profile, list_profiles

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("model", "provider"):
        table.add_column(name, no_wrap=True)
    for name in ("context", "max output"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("tools", "vision"):
        table.add_column(name, no_wrap=True)
    for name in list_profiles():
        profile = get_profile(name, catalogue=False)
        table.add_row(
            name,
            profile.provider or "?",
            _tokens(profile.context_window),
            _tokens(profile.max_output_tokens),
            YES_NO[profile.supports_tools],
            YES_NO[profile.supports_vision],
        )
    console = _console()
    console.print(table)
    console.print("Claims of a built-in table, in tokens. What a server declares of itself goes before them.")
    console.print("With sources, prices and the catalogue: python -m mamba_nb profiles gpt-4o gpt-4.1 ollama:llama3.2")


def _compare(comparison: ProfileComparison, *, as_json: bool) -> None:
    """One column a model, so that any number of facts fits a terminal; under each value stands its source."""
    if as_json:
        import json

        print(json.dumps(comparison.to_dict(), indent=2))
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from mamba_nb.display.profiles_columns import MEANINGS, shown, sources_of, view
    from mamba_nb.display.text import one_line

    columns = shown(comparison.rows)
    table = Table(box=box.SIMPLE_HEAD, show_lines=False)
    table.add_column("", no_wrap=True)
    for row in comparison:
        table.add_column(Text("\n".join(one_line(part) for part in (row.label, row.server) if part)), overflow="fold")
    for column in columns:
        cells = []
        for row in comparison:
            cell = view(row.profile, str(column.field))
            said = [cell.source, f"! {cell.but}" if cell.but else ""]
            cells.append(Text.assemble(cell.value, *((f"\n{line}", "dim") for line in said if line)))
        unit = (f"\n{column.unit}", "dim") if column.unit else ""
        table.add_row(Text.assemble(column.title, unit), *cells)
    console = _console()
    console.print(table)
    for source in sources_of(comparison, columns):
        console.print(f"{source}: {MEANINGS[source]}")
    for row in comparison:
        for text in row.notes:
            console.print(one_line(f"! {row.label}: {text}"))
    for text in comparison.notes:
        console.print(one_line(text))


def _tokens(count: int | None) -> str:
    return UNKNOWN_NUMBER if count is None else f"{count:,}"


def _console(*, stderr: bool = False) -> Console:
    """Prints text as it is: paths and errors are not markup, and lines break where the reader's window ends."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)


def _open_in_jupyterlab(path: Path, options: list[str]) -> None:
    # A kernel called python3 in the user's own folder must not stand in for the one beside this package.
    environment = {"JUPYTER_PREFER_ENV_PATH": "1", **os.environ}
    command = [sys.executable, "-m", "jupyterlab", *options, str(path)]
    if hasattr(os, "geteuid") and os.geteuid() == 0 and "--allow-root" not in options:
        print(f"You are root. If JupyterLab refuses that: python -m mamba_nb {sys.argv[1]} -- --allow-root")
    sys.stdout.flush()
    if os.name == "posix":
        os.execve(sys.executable, command, environment)  # so that Ctrl-C and signals are JupyterLab's alone
    sys.exit(subprocess.run(command, env=environment).returncode)
