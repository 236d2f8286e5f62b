"""Where settings come from: the environment, `.env` files and one TOML file, each as a layer of values.

In: the sections and their fields. Out: layers in order of rank, and the values that win with the place each is from.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from pydantic import BaseModel
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource

from mamba_nb.errors import SettingsError

__all__ = ["DOTENV", "EnvFile", "Layer", "Origin", "merged", "not_a_section", "read"]

EnvFile: TypeAlias = str | os.PathLike[str]
Sections: TypeAlias = Mapping[str, type[BaseModel]]

PREFIX = "MAMBA_"
CONFIG_VARIABLE = "MAMBA_CONFIG"
DOTENV = Path(".env")


class Origin(NamedTuple):
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


class Layer(NamedTuple):
    """One source: section -> field -> value, and how to name the place of a field."""

    values: Mapping[str, Mapping[str, Any]]
    origin: Callable[[str, str], Origin]


def read(
    settings: type[BaseSettings], sections: Sections, env_file: EnvFile | Sequence[EnvFile] | None, encoding: str | None
) -> Iterator[Layer]:
    """The environment, the `.env` files and the TOML file, in order of rank."""
    environment = EnvSettingsSource(settings)
    yield variables(sections, environment, None)
    config = environment.env_vars.get(CONFIG_VARIABLE.lower())
    for path in env_files(env_file):
        problem = None
        try:
            # utf-8-sig reads UTF-8 with and without the mark that some editors put first
            source = DotEnvSettingsSource(settings, env_file=path, env_file_encoding=encoding or "utf-8-sig")
        except (OSError, UnicodeError, LookupError) as error:
            problem = type(error).__name__ if isinstance(error, UnicodeError) else str(error)
        if problem:
            raise SettingsError(f"The file {path} cannot be read as {encoding or 'UTF-8'} text: {problem}.")
        yield variables(sections, source, str(path))
        config = config if config is not None else source.env_vars.get(CONFIG_VARIABLE.lower())
    if config and config.strip():
        yield toml(sections, Path(config.strip()).expanduser())


def env_files(env_file: EnvFile | Sequence[EnvFile] | None) -> list[Path]:
    """The files that exist, the strongest first."""
    if env_file is None:
        return []
    if isinstance(env_file, (str, os.PathLike)):
        path = Path(env_file).expanduser()
        if path.is_file() or path.is_fifo():
            return [path]
        if env_file is DOTENV:
            return []
        raise SettingsError(
            f"The file {path} does not exist; it was named by _env_file. Looked in {Path.cwd()}.",
            hint="Without _env_file, `.env` is read where it exists; _env_file=None reads no file.",
        )
    paths = [Path(item).expanduser() for item in env_file]
    return [path for path in reversed(paths) if path.is_file() or path.is_fifo()]


def variables(sections: Sections, source: EnvSettingsSource, file: str | None) -> Layer:
    """The layer of an environment (`file` None) or of a `.env` file."""
    names = {name: value for name, value in source.env_vars.items() if value is not None}
    bare = source.env_vars.keys() - names.keys()

    def origin(section: str, field: str) -> Origin:
        whole = f"{PREFIX}{section}".upper()
        part = f"{whole}__{field}".upper()
        variable = part if part.lower() in names else whole
        return Origin(file or "environment", variable)

    for section in sections:
        whole = names.get(f"{PREFIX}{section}".lower())
        if whole is not None and not is_json_object(whole):
            raise SettingsError(
                f"{origin(section, '')} must hold a JSON object. What came is not shown.",
                hint=f"Set single options by variables such as {PREFIX}{section.upper()}__"
                f"{next(iter(sections[section].model_fields)).upper()}.",
            )
    found = source()
    values = {
        # A name one level too deep makes a dict, and one without "=" in a .env file a bare None: neither is a value.
        section: {
            field: value
            for field, value in found.get(section, {}).items()
            if not isinstance(value, dict) and f"{PREFIX}{section}__{field}".lower() not in bare
        }
        for section in sections
    }
    return Layer(values, origin)


def is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def toml(sections: Sections, path: Path) -> Layer:
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
    for section in sections:
        if not isinstance(values.get(section, {}), dict):
            raise not_a_section(section, sections[section], values[section], f" in {path}")
    return Layer({section: values.get(section, {}) for section in sections}, lambda section, field: Origin(str(path)))


def merged(section: type[BaseModel], layers: Sequence[Layer], name: str) -> tuple[dict[str, Any], dict[str, Origin]]:
    """The section's values and their origins; the first layer keeps its unknown keys, to be refused."""
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for rank, layer in enumerate(layers):
        for field, value in layer.values.get(name, {}).items():
            if field not in values and (rank == 0 or field in section.model_fields):
                values[field] = value
                origins[field] = layer.origin(name, field)
    return values, origins


def not_a_section(name: str, section: type[BaseModel], value: Any, where: str) -> SettingsError:
    # Only the type is named: whatever stands in the wrong place may hold a key.
    return SettingsError(
        f"{name}{where} must be a table of options or {section.__name__}. What came: {type(value).__name__}.",
        hint=f"Write AgentSettings({name}={{{next(iter(section.model_fields))!r}: ...}}).",
    )
