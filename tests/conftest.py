"""Every test begins in an empty folder, with nothing in the environment that this package or its libraries read, and
with the built-in profiles alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mamba_nb.backends import profiles

READ = ("MAMBA_", "OPENAI_", "OLLAMA_", "LM_API_TOKEN", "VLLM_", "LLAMA_", "LEMONADE_", "SSL_CERT_")


@pytest.fixture(autouse=True)
def clean_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(READ) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(profiles, "_rows", dict(profiles._BUILT_IN))  # what a test registers goes with it
    monkeypatch.setenv("MAMBA_PROBE_CACHE", str(tmp_path / "probes"))
    monkeypatch.chdir(tmp_path)
