"""A probe's report in a real JupyterLab: legible in both themes, narrow and wide, its evidence behind a click."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

# A report of every verdict, with words that would be markup, beside what is declared and claimed.
CELL = """
from datetime import UTC, datetime
from mamba_nb.probes import Evidence, ProbeReport, ProbeResult
from mamba_nb.servers.facts import Fact

now = datetime.now(UTC).isoformat()
evidence = Evidence(request={"model": "m", "max_tokens": 8}, reply="<img src=x onerror='window.harmed = 1'>", at=now)

def row(capability, title, verdict, why, **more):
    more |= {"as_of": now, "evidence": (evidence,)}
    return ProbeResult(capability=capability, title=title, verdict=verdict, why=why, **more)

ProbeReport(
    model="smollm2-135m-instruct", server="embedded", base_url="http://127.0.0.1:38733/v1", requests=25, seconds=43.1,
    results=(
        row("streaming", "streaming", "yes", "The answer came in 32 pieces."),
        row("tools", "tools", "no", "Asked 3 ways, it called no tool and answered in text.", field="supports_tools",
            fact=False),
        row("tools_named", "tool_choice: a named tool", "partly", "A call came as text.", value="calls as text"),
        row("vision", "vision", "unknown", "The request failed.", field="supports_vision"),
        row("context", "context in force", "yes", "The server refuses more than 131,072 tokens.", value=131072,
            fact=131072, field="context_window"),
    ),
    declared={"supports_tools": Fact(True, "declared", "/props"), "context_window": Fact(131072, "declared")},
    claimed={"supports_tools": Fact(True, "claimed", "a table")},
)
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [600, 1100])
def test_the_report_is_legible_and_its_evidence_a_click_away(lab, tmp_path: Path, theme: str, width: int) -> None:
    notebook = lab([CELL], theme=theme, width=width)
    notebook.run_all()

    rows = notebook.locator(".mn-probes tbody tr")
    expect(rows).to_have_count(5)
    for place, words in enumerate(("✓ yes", "✕ no", "◐ partly", "?", "✓ yes · 131,072")):
        expect(rows.nth(place).locator("td").first).to_have_text(words)
    expect(notebook.locator(".mn-differs")).to_have_count(1)

    # Nothing is wider than the page, and a verdict stays on its line.
    assert notebook.locator(".mn-probes").evaluate("e => e.scrollWidth <= e.clientWidth + 1")
    height = "e => { const all = new Range(); all.selectNodeContents(e); return all.getBoundingClientRect().height; }"
    assert rows.nth(4).locator("td").first.evaluate(height) < 30
    edge = "e => getComputedStyle(e).borderLeftWidth"
    assert notebook.locator(".mn-differs").evaluate(edge) == "2px"
    # What was seen stands beside the verdict where there is room, else below it.
    top = "e => e.getBoundingClientRect().top"
    below = rows.nth(0).locator(".mn-seen").evaluate(top) - rows.nth(0).locator("th").evaluate(top)
    assert (below > 10) is (width == 600)

    exchange = rows.nth(1).locator(".mn-exchange")
    expect(exchange).to_be_hidden()
    rows.nth(1).locator("summary").click()
    expect(exchange).to_be_visible()
    expect(exchange).to_contain_text("onerror")
    notebook.picture(tmp_path / f"report-{theme}-{width}.png")
    assert notebook.page.evaluate("window.harmed") is None
    assert notebook.errors() == [] and notebook.external == [] and notebook.console == []


def test_the_report_is_a_table_for_a_screen_reader(lab) -> None:
    notebook = lab([CELL])
    notebook.run_all()
    table = notebook.page.get_by_role("table")
    expect(table).to_have_count(1)
    expect(table.get_by_role("columnheader")).to_have_text(
        ["capability", "verified", "declared", "claimed", "what was seen"]
    )
    expect(table.get_by_role("row")).to_have_count(6)
    expect(table.get_by_role("rowheader").nth(1)).to_have_text("tools")
