"""Every output and widget, looked at by axe-core in the real JupyterLab: no serious violation, in light and dark."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

SETUP = """
import mamba_nb as mb
from mamba_nb import OpenAICompatibleBackend
from mamba_nb.testing import Script, ScriptedServer

text = "# A heading\\n\\nSome *words* and `code`.\\n\\n- one\\n- two\\n"
server = ScriptedServer(Script(text=text, reasoning="hm"), style="vllm", models=["one", "two"]).start()
one, two = (OpenAICompatibleBackend(name, server.base_url) for name in ("one", "two"))
comparison = mb.compare([one, two], ["Why is the sky blue?", "Why is grass green?"], live=False)
"""
SURFACES = {
    "a generation": "comparison.generations[0]",
    "a comparison": "comparison",
    "live HTML": "mb.compare([one, two], 'Why?', live=True)",
    "live panels": "mb.compare([one, two], 'Why?', live='widget')",
    "servers": "mb.find_servers([], urls=[server.base_url])",
    "the doctor": "mb.doctor(server.base_url)",
    "profiles": "mb.compare_profiles(['gpt-4o', one])",
    "a probe": "mb.probe(one, only=['stop', 'json_object'], quiet=True).result()",
}


def violations(page: Any) -> list[str]:
    """What axe-core finds in the outputs, serious or worse, told with the place."""
    page.evaluate("document.body.style.minHeight = '100vh'")  # JupyterLab's has none: all would count as hidden
    found = Axe().run(page, context=".jp-Notebook .jp-OutputArea-output .mamba-nb")
    return [
        f"{each['id']} ({each['impact']}): {each['help']}: {node['html'][:200]}"
        for each in found.response["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_output_has_a_serious_violation(lab, theme):
    notebook = lab([SETUP, *SURFACES.values()], theme=theme)
    notebook.run_all()
    assert notebook.errors() == []
    assert notebook.locator(".jp-OutputArea-output .mamba-nb").count() >= len(SURFACES)
    assert violations(notebook.page) == []
    assert notebook.console == [] and notebook.external == []
