"""The tree of errors: each is also the builtin it resembles, says the remedy, and survives a pickle."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from mamba_nb import errors
from mamba_nb.errors import MambaError, ModelNotFound, closest

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, MambaError)]


def make(kind: type[MambaError]) -> MambaError:
    if kind is ModelNotFound:
        return ModelNotFound("qwen3:8", base_url="http://127.0.0.1:1/v1", served=["qwen3:8b"], hint="Pull it.")
    if kind is errors.MissingExtra:
        return errors.MissingExtra("The plot", package="altair", extra="plots")
    if kind is errors.RunStopped:
        return errors.RunStopped("It was stopped.", partial={"so": "far"}, hint="Look at .partial.")
    return kind("It went wrong.", hint="Do this.", base_url="http://127.0.0.1:1/v1", model="m", server_says="no")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
class TestEveryClass:
    def test_stands_in_the_tree_that_the_module_draws_with_its_builtin(self, kind):
        if kind is MambaError:
            return
        lines = [line for line in errors.__doc__.splitlines() if re.search(rf"\+-- {kind.__name__}\b", line)]
        assert len(lines) == 1
        if kind is not errors.ServerError:
            builtin = re.search(rf"{kind.__name__}\s+(\w+)", lines[0])[1]
            assert builtin in {base.__name__ for base in kind.__mro__ if base.__module__ == "builtins"}

    def test_is_public_and_has_a_docstring(self, kind):
        assert kind.__name__ in errors.__all__ and inspect.getdoc(kind)

    def test_survives_a_pickle(self, kind):
        error = make(kind)
        if isinstance(error, errors.ServerError):
            error.status, error.partial = 404, {"so": "far"}
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind and str(again) == str(error)
        assert vars(again) == vars(error)

    def test_says_message_hint_and_the_servers_words(self, kind):
        text = str(make(kind))
        assert text.splitlines()[0] == make(kind).message and make(kind).hint in text
        if make(kind).server_says:
            assert text.endswith("The server said: no")


def test_the_servers_words_are_not_said_twice():
    assert str(MambaError("It says no.", server_says="no")) == "It says no."


def test_the_names_are_sorted_and_there():
    assert errors.__all__ == sorted(errors.__all__)
    assert all(hasattr(errors, name) for name in errors.__all__)


def test_code_that_never_heard_of_this_package_can_catch_them():
    for kind, builtin in (
        (errors.ServerUnreachable, ConnectionError),
        (errors.ServerTimeout, TimeoutError),
        (errors.ModelNotFound, LookupError),
        (errors.AuthenticationFailed, PermissionError),
        (errors.BadInput, ValueError),
        (errors.WeightsMissing, FileNotFoundError),
    ):
        with pytest.raises(builtin):
            raise make(kind)


def test_an_unknown_model_says_what_to_type_next():
    error = ModelNotFound("qwen3:8", served=["qwen3:8b", "gemma3:4b"], base_url="http://127.0.0.1:11434/v1")
    assert "Did you mean 'qwen3:8b'?" in str(error) and "It has: qwen3:8b, gemma3:4b." in str(error)
    assert error.served == ("qwen3:8b", "gemma3:4b")


def test_a_long_list_of_models_is_cut():
    error = ModelNotFound("x", served=[f"model-{i}" for i in range(40)], base_url="u")
    assert "and 28 more" in str(error) and len(error.served) == 40


def test_a_missing_extra_says_the_pip_line():
    error = errors.MissingExtra("The plot", package="altair", extra="plots")
    assert (
        str(error) == 'The plot needs altair, which is not installed.\nInstall it with: pip install "mamba_nb[plots]"'
    )
    assert isinstance(error, ImportError)


def test_the_closest_name_is_near_or_none():
    assert closest("temprature", ["temperature", "top_p"]) == "temperature"
    assert closest("zzz", ["temperature"]) is None and closest("a", []) is None
