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

from collections.abc import Mapping, Sequence
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

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
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mamba_nb import _address
from mamba_nb._sources import DOTENV, PREFIX, EnvFile, Layer, Origin, merged, not_a_section, read
from mamba_nb.errors import SettingsError, closest

if TYPE_CHECKING:
    import os

    import pandas as pd

__all__ = ["AgentSettings", "EmbeddedSettings", "ModelBackendSettings", "check_base_url"]


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

    Examples:
        >>> settings = AgentSettings(model_backend={"model": "qwen3:8b", "timeout": 60})
        >>> settings.model_backend.model, settings.model_backend.timeout
        ('qwen3:8b', 60.0)
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
        _env_file: EnvFile | Sequence[EnvFile] | None = DOTENV,
        _env_file_encoding: str | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise _unknown_argument(next(iter(unknown)))
        given = _given({"model_backend": model_backend, "embedded": embedded})
        layers = [given, *read(AgentSettings, _SECTIONS, _env_file, _env_file_encoding)]
        sections: dict[str, Any] = {}
        loaded: dict[str, tuple[Any, str]] = {}
        for name, section in _SECTIONS.items():
            values, origins = merged(section, layers, name)
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
        raise _unknown_argument(name) if name not in _SECTIONS else not_a_section(name, _SECTIONS[name], value, "")

    def __eq__(self, other: object) -> bool:
        """Whether all values are equal, wherever they came from."""
        if not isinstance(other, AgentSettings):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _SECTIONS)

    def origins(self) -> dict[str, str]:
        """Where each field's value is from: `model_backend.base_url` -> the `source` of `explain()`."""
        return {
            f"{name}.{field}": self._source(f"{name}.{field}", value)
            for name in _SECTIONS
            for field, value in getattr(self, name)
        }

    def _source(self, field: str, value: Any) -> str:
        loaded, source = self._loaded.get(field, (value, "constructor"))
        return source if value == loaded else "assignment"

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
                fields.append(f"{name}.{field}")
                values.append(
                    "***" if isinstance(value, SecretStr) else str(value) if isinstance(value, Path) else value
                )
                sources.append(self._source(f"{name}.{field}", value))
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


def _given(sections: Mapping[str, Any]) -> Layer:
    values: dict[str, dict[str, Any]] = {}
    for name, value in sections.items():
        if isinstance(value, _SECTIONS[name]):
            values[name] = {field: getattr(value, field) for field in value.model_fields_set}
        elif isinstance(value, Mapping):
            values[name] = {str(key): item for key, item in value.items()}
        elif value is not None:
            raise not_a_section(name, _SECTIONS[name], value, "")
    return Layer(values, lambda section, field: Origin("constructor"))


def _fill(section: _Section, values: Mapping[str, Any], origins: Mapping[str, Origin]) -> None:
    try:
        return BaseModel.__init__(section, **values)
    except ValidationError as error:
        refusal = _refusal(type(section), error, origins)
    raise refusal  # outside of `except`: pydantic's error holds the key, and must not hang on ours as its context


def _refusal(section: type[_Section], error: ValidationError, origins: Mapping[str, Origin]) -> SettingsError:
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
