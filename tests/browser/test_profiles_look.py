"""The profile table and its Styler in a real JupyterLab: legible, marked, escaped, with evidence at a key press."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

HOSTILE = """<img src=x onerror="window.harmed = 1"><script>window.harmed = 2</script>"""

CELLS = [
    f"""
from mamba_nb.backends import ModelProfile, compare_profiles, create_vllm_backend, get_profile
from mamba_nb.testing import ScriptedServer

local = get_profile("llama3.2:3b").with_values(
    "declared", evidence="GET /api/ps", as_of="2026-11-22T10:00:00+00:00",
    context_window=4096, context_max=131072, supports_tools=True, quantization="Q4_K_M", parameters=3212749888,
    size_bytes=2019393189, runs_locally=True, input_price_usd=0.0, output_price_usd=0.0,
).with_values("verified", evidence="called get_weather with valid arguments", as_of="2026-11-22T10:01:00+00:00",
    supports_tools=True, supports_json_schema=True)
hostile = ModelProfile(name={HOSTILE!r}).with_values("declared", evidence={HOSTILE!r}, quantization={HOSTILE!r})
with ScriptedServer(style="vllm", models=["Qwen/Qwen3-8B"], context_length=40_960) as server:
    backend = create_vllm_backend("Qwen/Qwen3-8B", base_url=server.base_url)
    comparison = compare_profiles(["gpt-4o", "claude-3-opus", local, backend, hostile, "gpt-4.l"])
    backend.close()
comparison
""",
    "comparison.style()",
    "local",
    "comparison.filter(tools=True, min_context=32_000)",
]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1100, 600])
def test_a_table_of_profiles_is_legible_and_harms_nothing(lab, tmp_path: Path, theme: str, width: int) -> None:
    page = lab(CELLS, theme=theme, width=width)
    page.run_all()
    assert page.errors() == []
    tables = page.locator(".mn-facts")
    expect(tables).to_have_count(4)
    ours, styled = tables.nth(0), tables.nth(1)
    for table in (ours, styled):
        # the value, the source below it, and what another source says
        edge = table.locator("td.mn-differs", has_text="4,096")
        expect(edge).to_contain_text("declared")
        expect(edge).to_contain_text("claimed 8,192")
        assert edge.evaluate("cell => getComputedStyle(cell).borderLeftWidth") == "2px"
        quiet = table.locator(".mn-source").last
        assert quiet.evaluate("e => getComputedStyle(e).fontSize") == "12px"
        assert quiet.evaluate("e => getComputedStyle(e).display") == "block"
        expect(table.locator("td", has_text="✓ yes").first).to_be_visible()
        expect(table.locator("td", has_text="✕").first).to_contain_text("no")
        live = table.locator("tr", has_text="Qwen/Qwen3-8B")
        expect(live).to_contain_text("vllm")
        expect(live).to_contain_text("40,960")
    page.picture(tmp_path / f"profiles-{theme}-{width}.png")
    cell = ours.locator("td.mn-differs summary", has_text="4,096")
    evidence = ours.locator("td.mn-differs", has_text="4,096").locator(".mn-evidence")
    expect(evidence).to_be_hidden()
    cell.focus()
    cell.press("Enter")
    expect(evidence).to_be_visible()
    expect(evidence).to_contain_text("GET /api/ps")
    expect(evidence).to_contain_text("built-in table")
    page.picture(tmp_path / f"evidence-{theme}-{width}.png")
    assert page.page.evaluate("window.harmed") is None
    assert page.external == []
