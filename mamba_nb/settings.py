"""Settings: which model, at which address, with what patience; and where each value came from.

In go the constructor's arguments, the environment, `.env` files and one TOML file; out comes a checked
`AgentSettings`, or a `SettingsError` that names the field, the rule and what came. Sources in order, the
first that has a field wins, field by field:

    constructor    AgentSettings(model_backend={"timeout": 60.0}); a dict, or a section object's set fields
    environment    MAMBA_MODEL_BACKEND__TIMEOUT=60, or the whole section as JSON in MAMBA_MODEL_BACKEND
    .env           the same names, from `.env` in the working folder or from `_env_file=`
    TOML           the file named by MAMBA_CONFIG: tables [model_backend] and [embedded]
    defaults

Names in the environment may be in any case. Keys that nobody knows are ignored in the environment, in `.env` and in
the TOML file, and refused in the constructor. An empty string means None where None is allowed, and is
an error elsewhere: `MAMBA_MODEL_BACKEND__API_KEY=` switches off a key that a later source holds.

Everything is read when an `AgentSettings` is made, nothing at import. No key appears in a repr, an error or
`explain()`.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias, final

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from mamba_nb import _address
from mamba_nb.errors import SettingsError, closest

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AgentSettings", "EmbeddedSettings", "ModelBackendSettings", "check_base_url"]

EnvFile: TypeAlias = str | os.PathLike[str]

PREFIX = "MAMBA_"
CONFIG_VARIABLE = "MAMBA_CONFIG"
_DOTENV = Path(".env")


class _Origin(NamedTuple):
    """Where a value came from: `constructor`, `environment` or a file, and the variable's name where it has one."""

    place: str
    variable: str | None = None

    @property
    def source(self) -> str:
        """The cell in `explain()`."""
        return f"environment {self.variable}" if self.place == "environment" else self.place

    def __str__(self) -> str:
        place = f"the {self.place}" if self.place in ("constructor", "environment") else self.place
        return f"{self.variable} in {place}" if self.variable else place


class _Layer(NamedTuple):
    """One source: section -> field -> value, and how to name the place of a field."""

    values: Mapping[str, Mapping[str, Any]]
    origin: Callable[[str, str], _Origin]


class _Section(BaseModel):
    """A group of settings that takes what it is given, checks it, and reads no environment."""

    model_config = ConfigDict(
        extra="forbid", validate_assignment=True, hide_input_in_errors=True, str_strip_whitespace=True
    )
    _title: ClassVar[str]

    def __init__(self, /, **values: Any) -> None:
        _fill(self, values, {})

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Show plain types and defaults where an editor asks for the signature; pydantic's own lists its validators."""
        cls.__signature__ = Signature(
            [
                Parameter(name, Parameter.KEYWORD_ONLY, default=field.default, annotation=field.annotation)
                for name, field in cls.model_fields.items()
            ]
        )

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            return super().__setattr__(name, value)
        except ValidationError as error:
            refusal = _refusal(type(self), error, {})
        raise refusal

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any, info: ValidationInfo) -> Any:
        """An empty string is None where None is the default, numpy's numbers are Python's, True is no number."""
        if type(value).__module__ == "numpy" and hasattr(value, "item"):
            value = value.item()
        if isinstance(value, bool):  # pydantic would read True as 1
            raise ValueError("a truth value is not a number")
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(text, str) and not text.strip() and cls.model_fields[str(info.field_name)].default is None:
            return None
        return value


class ModelBackendSettings(_Section):
    """The model to talk to and how; alone it takes only what it is given and reads no environment.

    Attributes:
        model: The model's name on the server; not empty.
        base_url: The server's OpenAI-compatible address, `http` or `https`, usually ending in `/v1`. Slashes
            at the end are dropped.
        api_key: The key, or None for a server without one. Its value is shown nowhere;
            `api_key.get_secret_value()` gives it.
        temperature: From 0.0 to 2.0.
        max_tokens: The longest answer in tokens, or None for the server's own limit.
        timeout: The longest silence allowed, in seconds.
        max_retries: How often a request that never began is tried again; 0 or more.

    Raises:
        SettingsError: If a value breaks its rule, or an option does not exist.
    """

    _title = "model_backend"

    model: str = Field("llama3.2", min_length=1, description="a model's name, not empty")
    base_url: str = Field("http://localhost:11434/v1", description="an address such as http://localhost:11434/v1")
    api_key: SecretStr | None = Field(None, description="a key of printable ASCII characters without spaces, or None")
    temperature: float = Field(0.7, ge=0.0, le=2.0, allow_inf_nan=False, description="a number from 0.0 to 2.0")
    max_tokens: int | None = Field(None, gt=0, description="a whole number of tokens greater than 0, or None")
    timeout: float = Field(30.0, gt=0.0, allow_inf_nan=False, description="a number of seconds greater than 0")
    max_retries: int = Field(3, ge=0, description="a whole number, 0 or more")

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            model: str = ...,
            base_url: str = ...,
            api_key: SecretStr | str | None = ...,
            temperature: float = ...,
            max_tokens: int | None = ...,
            timeout: float = ...,
            max_retries: int = ...,
        ) -> None: ...

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str) -> str:
        return _address.checked(value)

    @field_validator("api_key")
    @classmethod
    def _sendable_key(cls, value: SecretStr | None) -> SecretStr | None:
        """Drop the line break that a pasted key brings; what cannot stand in a header is refused here, unseen."""
        if value is None:
            return None
        key = value.get_secret_value().strip()
        if not all("!" <= character <= "~" for character in key):
            raise ValueError("not a header value")
        return SecretStr(key)


class EmbeddedSettings(_Section):
    """The embedded engine's model and size; alone it takes only what it is given and reads no environment.

    Attributes:
        model_path: The weights (GGUF), or None for the default model. `~` is the home folder. Whether the file
            exists is checked when the engine starts.
        n_ctx: Context of each slot, in tokens.
        slots: How many requests run at once; 1 to 64.
        threads: CPU threads, or None for the engine's choice.
        cache_dir: Where fetched weights are kept, or None for the user's cache folder.

    Raises:
        SettingsError: If a value breaks its rule, or an option does not exist.
    """

    _title = "embedded"

    model_path: Path | None = Field(None, description="the path of a GGUF file, or None")
    n_ctx: int = Field(2048, gt=0, description="a whole number of tokens greater than 0")
    slots: int = Field(4, ge=1, le=64, description="a whole number from 1 to 64")
    threads: int | None = Field(None, gt=0, description="a whole number greater than 0, or None")
    cache_dir: Path | None = Field(None, description="the path of a folder, or None")

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            model_path: str | os.PathLike[str] | None = ...,
            n_ctx: int = ...,
            slots: int = ...,
            threads: int | None = ...,
            cache_dir: str | os.PathLike[str] | None = ...,
        ) -> None: ...

    @field_validator("model_path", "cache_dir")
    @classmethod
    def _at_home(cls, value: Path | None) -> Path | None:
        try:
            return value and value.expanduser()
        except RuntimeError:
            raise ValueError("no such home folder") from None


_SECTIONS: dict[str, type[_Section]] = {"model_backend": ModelBackendSettings, "embedded": EmbeddedSettings}


@final
class AgentSettings(BaseSettings):
    """All settings, merged field by field from the constructor, the environment, `.env`, TOML and defaults.

    Args:
        model_backend: Options of `ModelBackendSettings`, as a dict or as an object. Options that are not
            given come from the other sources; of an object, only the fields that were set count.
        embedded: Options of `EmbeddedSettings`, likewise.
        _env_file: The `.env` file or files to read instead of `.env` in the working folder; None reads none. A
            single file must exist. Of several, those that exist are read, and later ones win.
        _env_file_encoding: Their encoding; UTF-8 without it.

    Raises:
        SettingsError: If a value breaks its rule, a constructor's option does not exist, or a named file cannot
            be read.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        validate_assignment=True,
        hide_input_in_errors=True,
    )

    model_backend: ModelBackendSettings = Field(default_factory=ModelBackendSettings)
    embedded: EmbeddedSettings = Field(default_factory=EmbeddedSettings)

    # Dotted field -> the value as loaded and its source; an assignment since then shows as a difference.
    _loaded: dict[str, tuple[Any, str]] = PrivateAttr(default_factory=dict)

    def __init__(
        self,
        *,
        model_backend: ModelBackendSettings | Mapping[str, Any] | None = None,
        embedded: EmbeddedSettings | Mapping[str, Any] | None = None,
        _env_file: EnvFile | Sequence[EnvFile] | None = _DOTENV,
        _env_file_encoding: str | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise _unknown_argument(next(iter(unknown)))
        given = _given({"model_backend": model_backend, "embedded": embedded})
        layers = [given, *_read(_env_file, _env_file_encoding)]
        sections: dict[str, Any] = {}
        loaded: dict[str, tuple[Any, str]] = {}
        for name, section in _SECTIONS.items():
            values, origins = _merged(layers, name)
            sections[name] = made = section.__new__(section)
            _fill(made, values, origins)
            for field in section.model_fields:
                source = origins[field].source if field in origins else "default"
                loaded[f"{name}.{field}"] = getattr(made, field), source
        super().__init__(**sections)
        self._loaded = loaded

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The merged sections alone: `__init__` has read the other sources, so that it knows where values are from."""
        return (init_settings,)

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            return super().__setattr__(name, value)
        except ValidationError as error:
            inner = [item.get("ctx", {}).get("error") for item in error.errors(include_url=False)]
        for problem in inner:
            if isinstance(problem, SettingsError):
                raise problem
        raise _unknown_argument(name) if name not in _SECTIONS else _not_a_section(name, value, "")

    def __eq__(self, other: object) -> bool:
        """Whether all values are equal, wherever they came from."""
        if not isinstance(other, AgentSettings):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _SECTIONS)

    def explain(self) -> pd.DataFrame:
        """Every field with its value and where that came from.

        Returns:
            One row a field: `field` (dotted), `value` (keys as `***`), `source` (`constructor`,
            `environment MAMBA_...`, a file's path, `default`, or `assignment` where it was changed later).
        """
        import pandas as pd

        fields, values, sources = [], [], []
        for name in _SECTIONS:
            for field, value in getattr(self, name):
                loaded, source = self._loaded.get(f"{name}.{field}", (value, "constructor"))
                fields.append(f"{name}.{field}")
                values.append(
                    "***" if isinstance(value, SecretStr) else str(value) if isinstance(value, Path) else value
                )
                sources.append(source if value == loaded else "assignment")
        return pd.DataFrame({"field": fields, "value": pd.Series(values, dtype=object), "source": sources})


def check_base_url(base_url: str) -> str:
    """The address without slashes at its end, if it can be a server's.

    Args:
        base_url: What a user gave: `http` or `https`, a host, usually a path ending in `/v1`.

    Raises:
        SettingsError: If it is not text, has no scheme or host, carries a user name, a query or a fragment, or has an
            endpoint such as `/chat/completions` pasted on.

    Examples:
        >>> check_base_url("http://localhost:8000/v1/")
        'http://localhost:8000/v1'
    """
    try:
        return _address.checked(base_url)
    except _address.Refused as error:
        problem = error
    raise SettingsError(f"base_url {problem.rule}. What came: {_shown('base_url', base_url)}.", hint=problem.hint)


def _given(sections: Mapping[str, Any]) -> _Layer:
    values: dict[str, dict[str, Any]] = {}
    for name, value in sections.items():
        if isinstance(value, _SECTIONS[name]):
            values[name] = {field: getattr(value, field) for field in value.model_fields_set}
        elif isinstance(value, Mapping):
            values[name] = {str(key): item for key, item in value.items()}
        elif value is not None:
            raise _not_a_section(name, value, "")
    return _Layer(values, lambda section, field: _Origin("constructor"))


def _read(env_file: EnvFile | Sequence[EnvFile] | None, encoding: str | None) -> Iterator[_Layer]:
    """The environment, the `.env` files and the TOML file, in order of rank."""
    environment = EnvSettingsSource(AgentSettings)
    yield _variables(environment, None)
    config = environment.env_vars.get(CONFIG_VARIABLE.lower())
    for path in _env_files(env_file):
        problem = None
        try:
            # utf-8-sig reads UTF-8 with and without the mark that some editors put first
            source = DotEnvSettingsSource(AgentSettings, env_file=path, env_file_encoding=encoding or "utf-8-sig")
        except (OSError, UnicodeError, LookupError) as error:
            problem = type(error).__name__ if isinstance(error, UnicodeError) else str(error)
        if problem:
            raise SettingsError(f"The file {path} cannot be read as {encoding or 'UTF-8'} text: {problem}.")
        yield _variables(source, str(path))
        config = config if config is not None else source.env_vars.get(CONFIG_VARIABLE.lower())
    if config and config.strip():
        yield _toml(Path(config.strip()).expanduser())


def _env_files(env_file: EnvFile | Sequence[EnvFile] | None) -> list[Path]:
    """The files that exist, the strongest first."""
    if env_file is None:
        return []
    if isinstance(env_file, (str, os.PathLike)):
        path = Path(env_file).expanduser()
        if path.is_file() or path.is_fifo():
            return [path]
        if env_file is _DOTENV:
            return []
        raise SettingsError(
            f"The file {path} does not exist; it was named by _env_file. Looked in {Path.cwd()}.",
            hint="Without _env_file, `.env` is read where it exists; _env_file=None reads no file.",
        )
    paths = [Path(item).expanduser() for item in env_file]
    return [path for path in reversed(paths) if path.is_file() or path.is_fifo()]


def _variables(source: EnvSettingsSource, file: str | None) -> _Layer:
    """The layer of an environment (`file` None) or of a `.env` file."""
    names = {name: value for name, value in source.env_vars.items() if value is not None}
    bare = source.env_vars.keys() - names.keys()

    def origin(section: str, field: str) -> _Origin:
        whole = f"{PREFIX}{section}".upper()
        part = f"{whole}__{field}".upper()
        variable = part if part.lower() in names else whole
        return _Origin(file or "environment", variable)

    for section in _SECTIONS:
        whole = names.get(f"{PREFIX}{section}".lower())
        if whole is not None and not _is_json_object(whole):
            raise SettingsError(
                f"{origin(section, '')} must hold a JSON object. What came is not shown.",
                hint=f"Set single options by variables such as {PREFIX}{section.upper()}__"
                f"{next(iter(_SECTIONS[section].model_fields)).upper()}.",
            )
    found = source()
    values = {
        # A name one level too deep makes a dict, and one without "=" in a .env file a bare None: neither is a value.
        section: {
            field: value
            for field, value in found.get(section, {}).items()
            if not isinstance(value, dict) and f"{PREFIX}{section}__{field}".lower() not in bare
        }
        for section in _SECTIONS
    }
    return _Layer(values, origin)


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _toml(path: Path) -> _Layer:
    problem = ""
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except FileNotFoundError:
        problem = "does not exist"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        problem = f"is not TOML: {error}"
    if problem:
        raise SettingsError(f"The file {path}, named by {CONFIG_VARIABLE}, {problem}.")
    for section in _SECTIONS:
        if not isinstance(values.get(section, {}), dict):
            raise _not_a_section(section, values[section], f" in {path}")
    return _Layer(
        {section: values.get(section, {}) for section in _SECTIONS}, lambda section, field: _Origin(str(path))
    )


def _merged(layers: Sequence[_Layer], name: str) -> tuple[dict[str, Any], dict[str, _Origin]]:
    """The section's values and their origins; the first layer keeps its unknown keys, to be refused."""
    values: dict[str, Any] = {}
    origins: dict[str, _Origin] = {}
    for rank, layer in enumerate(layers):
        for field, value in layer.values.get(name, {}).items():
            if field not in values and (rank == 0 or field in _SECTIONS[name].model_fields):
                values[field] = value
                origins[field] = layer.origin(name, field)
    return values, origins


def _fill(section: _Section, values: Mapping[str, Any], origins: Mapping[str, _Origin]) -> None:
    try:
        return BaseModel.__init__(section, **values)
    except ValidationError as error:
        refusal = _refusal(type(section), error, origins)
    raise refusal  # outside of `except`: pydantic's error holds the key, and must not hang on ours as its context


def _refusal(section: type[_Section], error: ValidationError, origins: Mapping[str, _Origin]) -> SettingsError:
    """One line for each wrong value: the field, the rule, what came, from where."""
    lines, hints = [], []
    for item in error.errors(include_url=False):
        field = str(item["loc"][0])
        if item["type"] in ("extra_forbidden", "no_such_attribute"):
            near = closest(field, section.model_fields)
            lines.append(f"{section._title} has no option {field!r}." + (f" Did you mean {near!r}?" if near else ""))
            hints.append(f"Its options are {', '.join(section.model_fields)}.")
            continue
        cause = item.get("ctx", {}).get("error")
        refused = cause if isinstance(cause, _address.Refused) else None
        rule = refused.rule if refused else f"must be {section.model_fields[field].description}"
        came = (
            f"{_shown(field, item['input'])}, from {origins[field]}"
            if field in origins
            else _shown(field, item["input"])
        )
        lines.append(f"{section._title}.{field} {rule}. What came: {came}.")
        if refused and refused.hint:
            hints.append(refused.hint)
    return SettingsError("\n".join(lines), hint=" ".join(dict.fromkeys(hints)) or None)


def _shown(field: str, value: Any) -> str:
    if field == "api_key" or isinstance(value, SecretStr):
        return "a value that is not shown"
    return _address.shown(value) if field == "base_url" else _shortened(repr(value))


def _shortened(text: str, most: int = 100) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _unknown_argument(name: str) -> SettingsError:
    for section, kind in _SECTIONS.items():
        if name in kind.model_fields:
            return SettingsError(
                f"AgentSettings has no option {name!r}; {section} has it.",
                hint=f"Write AgentSettings({section}={{{name!r}: ...}}).",
            )
    near = closest(name, [*_SECTIONS, "_env_file", "_env_file_encoding"])
    return SettingsError(
        f"AgentSettings has no option {name!r}." + (f" Did you mean {near!r}?" if near else ""),
        hint=f"Its options are {', '.join(_SECTIONS)}.",
    )


def _not_a_section(name: str, value: Any, where: str) -> SettingsError:
    # Only the type is named: whatever stands in the wrong place may hold a key.
    return SettingsError(
        f"{name}{where} must be a table of options or {_SECTIONS[name].__name__}. What came: {type(value).__name__}.",
        hint=f"Write AgentSettings({name}={{{next(iter(_SECTIONS[name].model_fields))!r}: ...}}).",
    )
