"""`%load_ext mamba_nb`: `%%ask`, `%%compare` and `%mamba` in a notebook or in IPython.

In: a cell's text, with the notebook's variables in braces. Out: the same objects that the functions give, returned and
never only printed; errors are raised.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shlex
import string
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any, NoReturn

from IPython.core.error import UsageError

from mamba_nb._bridge import Run, wait_with_ticks
from mamba_nb.backends import OpenAICompatibleBackend
from mamba_nb.backends._params import checked, merged
from mamba_nb.backends._prompt import messages_from
from mamba_nb.backends.factories import backend_for
from mamba_nb.backends.names import parse_model_name
from mamba_nb.compare.progress import PanelState
from mamba_nb.compare.verbs import compare
from mamba_nb.display.live import View, choose_view
from mamba_nb.errors import BadInput, closest
from mamba_nb.records import Comparison, Generation, StreamEvent

__all__ = ["MambaMagics"]

VARIABLE = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*(?:\.[A-Za-z_]\w*|\[[^\[\]{}]+\])*)\}")
BETWEEN = re.compile(r"^\s*---\s*$", re.MULTILINE)
COMMANDS = ("doctor", "servers", "use", "profiles")


class _Parser(argparse.ArgumentParser):
    """Arguments of one magic; what is wrong with them is a UsageError, and never the end of the kernel."""

    def __init__(self, name: str, description: str) -> None:
        super().__init__(
            prog=name,
            description=description,
            add_help=False,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}. {self.format_usage().strip().capitalize()}")

    def parse(self, line: str) -> argparse.Namespace:
        try:
            words = shlex.split(line)
        except ValueError as error:  # a quotation mark that is not closed
            self.error(str(error).lower().rstrip("."))
        return self.parse_args(words)

    def answering(self) -> None:
        """The options of whatever asks a model."""
        self.add_argument("-o", "--output", metavar="NAME", help="keep the result in this variable")
        self.add_argument("--system", metavar="TEXT", help="a system message")
        self.add_argument("--temperature", type=float, metavar="T", help="from 0 to 2")
        self.add_argument("--max-tokens", type=int, metavar="N", help="most tokens to generate")


BRACES = "{name} stands for a variable of the notebook; {{ and }} are braces."
ASK = _Parser("%%ask", f"Put the cell's text to a model and see the answer grow. Returns the Generation.\n{BRACES}")
ASK.add_argument("model", nargs="?", help="a name such as ollama/llama3.2, or a variable that holds a backend")
ASK.answering()
COMPARE = _Parser(
    "%%compare",
    "Put the cell's text to several models side by side. Returns the Comparison.\n"
    f"A line of three dashes stands between prompts. {BRACES}",
)
COMPARE.add_argument("models", nargs="+", help="names, or variables that hold backends or variants")
COMPARE.add_argument("--repeats", type=int, default=1, metavar="N", help="how often each model gets each prompt")
COMPARE.answering()
MAMBA = _Parser(
    "%mamba",
    """Look round, or choose the model that %%ask uses.

    %mamba doctor [URL]       what runs, what is wrong, what mends it
    %mamba servers [HOST...]  the model servers that were found, with their models
    %mamba use [NAME]         the model for %%ask where none is named; without NAME: which one it is
    %mamba profiles [NAME...] what is known of these models
""",
)
MAMBA.add_argument("command", help=", ".join(COMMANDS))
MAMBA.add_argument("names", nargs="*")


def _documented(work: Callable[..., Any], parser: _Parser) -> Callable[..., Any]:
    """The function with its options in its docstring, which is what `?` shows."""

    @wraps(work)
    def magic(*args: Any) -> Any:
        return work(*args)

    magic.__doc__ = parser.format_help()
    return magic


class MambaMagics:
    """The magics of one shell.

    Args:
        shell: The running InteractiveShell.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self.model: str | OpenAICompatibleBackend | None = None  # what `%mamba use` chose

    def register(self) -> None:
        """Make them known to the shell; `%%ask?` and its like show each one's options."""
        for kind, name, work, parser in (
            ("cell", "ask", self.ask, ASK),
            ("cell", "compare", self.compare, COMPARE),
            ("line", "mamba", self.mamba, MAMBA),
        ):
            self._shell.register_magic_function(_documented(work, parser), kind, name)

    def ask(self, line: str, cell: str) -> Generation:
        """Put the cell's text to a model and see the answer grow."""
        given = ASK.parse(line)
        params = _given(temperature=given.temperature, max_tokens=given.max_tokens)
        prompt, system = self._text(cell), self._option(given.system)
        if not prompt:
            raise UsageError("The cell has no prompt: write it below the %%ask line.")
        with self._backend(given.model) as backend:
            generation = _watched(backend, prompt, system, params)
        self._keep(given.output, generation)
        return generation

    def compare(self, line: str, cell: str) -> Comparison:
        """Put the cell's text to several models side by side."""
        given = COMPARE.parse(line)
        prompts = [text for part in BETWEEN.split(cell) if (text := self._text(part))]
        if not prompts:
            raise UsageError("The cell has no prompt: write it below the %%compare line.")
        comparison = compare(
            [self._model(name) for name in given.models],
            prompts,
            repeats=given.repeats,
            system=self._option(given.system),
            **_given(temperature=given.temperature, max_tokens=given.max_tokens),
        )
        self._keep(given.output, comparison)
        return comparison

    def mamba(self, line: str) -> Any:
        """Look round, or choose the model that %%ask uses."""
        given = MAMBA.parse(line)
        if given.command not in COMMANDS:
            near = closest(given.command, COMMANDS)
            raise UsageError(
                f"There is no command {given.command!r}."
                + (f" Did you mean {near}?" if near else "")
                + f" The commands are {', '.join(COMMANDS)}; %mamba? explains them."
            )
        return getattr(self, f"_{given.command}")(*given.names)

    def _doctor(self, url: str | None = None) -> Any:
        from mamba_nb.doctor.examine import doctor

        return doctor(url)

    def _servers(self, *hosts: str) -> Any:
        from mamba_nb.servers import find_servers

        return find_servers(hosts or None)

    def _profiles(self, *names: str) -> Any:
        from mamba_nb.backends import compare_profiles, list_profiles

        return compare_profiles([self._model(name) for name in names] or list_profiles())

    def _use(self, name: str | None = None) -> str | OpenAICompatibleBackend | None:
        if name is not None:
            model = self._model(name)
            if isinstance(model, str):
                parse_model_name(model)  # a name that means nothing is refused now, not at the first question
            self.model = model
        return self.model

    # the parts

    @contextlib.contextmanager
    def _backend(self, name: str | None) -> Iterator[OpenAICompatibleBackend]:
        """The backend that is meant; one that was made for this cell is closed with it."""
        model = self._model(name) if name else self.model
        if isinstance(model, OpenAICompatibleBackend):
            yield model
            return
        made = OpenAICompatibleBackend.from_settings() if model is None else backend_for(model)
        with made:
            yield made

    def _model(self, name: str) -> Any:
        """A variable's backend, or the name as it stands."""
        value = self._shell.user_ns.get(name) if name.isidentifier() else None
        return value if value is not None and not isinstance(value, str) and _is_model(value) else name

    def _text(self, text: str) -> str:
        return interpolated(text.strip(), self._shell.user_ns)

    def _option(self, text: str | None) -> str | None:
        return None if text is None else interpolated(text, self._shell.user_ns)

    def _keep(self, name: str | None, value: Any) -> None:
        if name is None:
            return
        if not name.isidentifier():
            raise UsageError(f"-o takes the name of a variable; {name!r} is none.")
        self._shell.user_ns[name] = value


def interpolated(text: str, variables: Mapping[str, Any]) -> str:
    """The text with `{name}`, `{name.attribute}` and `{name[key]}` filled in; other braces stay as they are.

    Raises:
        BadInput: If there is no such variable.

    Examples:
        >>> interpolated('Say {word} as {{"json": 1}} or {"a": 2}', {"word": "hi"})
        'Say hi as {"json": 1} or {"a": 2}'
    """

    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        name = re.split(r"[.\[]", match[1])[0]
        if name not in variables:
            near = closest(name, [each for each in variables if not each.startswith("_")])
            raise BadInput(
                f"There is no variable {name!r}." + (f" Did you mean {near!r}?" if near else ""),
                hint=f"For the text {match[0]} itself write {{{match[0]}}}.",
            )
        found, _ = string.Formatter().get_field(match[1], (), variables)
        return str(found)

    return VARIABLE.sub(value, text)


def _is_model(value: Any) -> bool:
    from mamba_nb.compare.plan import Variant

    return isinstance(value, OpenAICompatibleBackend | Variant)


def _watched(
    backend: OpenAICompatibleBackend, prompt: str, system: str | None, params: Mapping[str, Any]
) -> Generation:
    """One answer, shown while it grows; the view goes when it is whole, since the answer itself is shown then."""
    panel = PanelState(backend.model, model=backend.model, server=backend.server, n_total=1)
    answer = panel.begin(prompt)
    messages, wanted = messages_from(prompt, system), merged(backend.params, checked(params))

    async def work(run: Run[StreamEvent, Generation]) -> Generation:
        def say(state: str) -> None:
            answer.state = state

        return await backend.generate(messages, wanted, emit=answer.feed, on_state=say)

    view: View = choose_view(None, [panel])
    try:
        generation = wait_with_ticks(Run(work, name=f"%%ask {backend.model}"), view.paint)
        answer.end(generation)
    except BaseException:
        view.close()
        raise
    view.clear()
    return generation


def _given(**params: Any) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}
