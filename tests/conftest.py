"""Every test begins in an empty folder, with nothing in the environment that this package or its libraries read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

READ = ("MAMBA_", "OPENAI_", "OLLAMA_", "LM_API_TOKEN", "VLLM_", "LLAMA_", "LEMONADE_", "SSL_CERT_")


@pytest.fixture(autouse=True)
def clean_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(READ) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MAMBA_PROBE_CACHE", str(tmp_path / "probes"))
    monkeypatch.chdir(tmp_path)
