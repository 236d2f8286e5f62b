"""The report: a mapping, facts, a frame, JSON, HTML and text; hostile words stay words."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from mamba_nb.display.probes import COLUMNS
from mamba_nb.errors import BadInput
from mamba_nb.probes import Evidence, ProbeReport, ProbeResult
from mamba_nb.servers.facts import Fact

HOSTILE = """<img src=x onerror="alert(1)"></td><script>alert(2)</script>\x1b[31m\u202e"""


def ago(**time: float) -> str:
    return (datetime.now(UTC) - timedelta(**time)).isoformat(timespec="seconds")


def result(capability: str, verdict: str, **more) -> ProbeResult:
    evidence = Evidence(request={"model": "m", "max_tokens": 8}, reply="OK", at=ago(minutes=3), latency_ms=213.4)
    common = {
        "title": capability.replace("_", " "),
        "why": "It was so.",
        "as_of": ago(minutes=3),
        "evidence": (evidence,),
    }
    return ProbeResult(**{**common, **more}, capability=capability, verdict=verdict)


def report(**more) -> ProbeReport:
    results = (
        result("streaming", "yes"),
        result("tools", "no", field="supports_tools", fact=False, why="It called nothing."),
        result("vision", "unknown", field="supports_vision"),
        result("context", "yes", field="context_window", fact=4096, value=4096, requests=4, seconds=1.25),
        result("n", "no"),
    )
    known = {
        "model": "llama3.2",
        "server": "ollama",
        "base_url": "http://127.0.0.1:11434/v1",
        "results": results,
        "claimed": {
            "supports_tools": Fact(False, "claimed", "built-in table"),
            "context_window": Fact(8192, "claimed"),
        },
        "declared": {"supports_tools": Fact(True, "declared", "POST /api/show", ago(minutes=3))},
        "ignored": {"n": "Ollama ignores `n`: ask several times."},
        "requests": 9,
        "seconds": 3.5,
    }
    return ProbeReport(**{**known, **more})


def test_it_is_a_mapping_of_results():
    made = report()
    assert list(made) == ["streaming", "tools", "vision", "context", "n"] and len(made) == 5
    assert made["tools"].verdict == "no" and "tools" in made and made.get("nothing") is None
    with pytest.raises(KeyError, match="Did you mean 'tools'"):
        made["tolls"]
    assert repr(made) == "<ProbeReport llama3.2 · ollama · 2 yes · 2 no · 1 unknown · 9 requests>"
    assert repr(made["context"]) == "<ProbeResult context: yes (4,096) · It was so.>"


def test_facts_hold_what_was_verified_and_the_profile_all_that_is_known():
    made = report()
    facts = made.facts()
    assert set(facts) == {"supports_tools", "context_window"}
    assert facts["supports_tools"].value is False and facts["supports_tools"].evidence == "probe: It called nothing"
    profile = made.profile
    assert (profile.supports_tools, profile.fact("supports_tools").source) == (False, "verified")
    assert (profile.context_window, profile.fact("context_window").source) == (4096, "verified")
    assert profile.fact("supports_vision").source == "claimed"  # what is unknown took nothing away


def test_the_frame_has_a_row_a_capability_and_missing_is_missing():
    frame = report().to_frame()
    assert list(frame.columns) == [column.name for column in COLUMNS]
    assert {str(frame[column.name].dtype) for column in COLUMNS} == {"str", "Int64", "float64", "boolean"}
    tools = frame.set_index("capability").loc["tools"]
    assert (tools.claimed, tools.declared, tools.verified, tools.verdict) == ("no", "yes", "no", "no")
    assert json.loads(tools.evidence)[0]["request"] == {"model": "m", "max_tokens": 8}
    rows = frame.set_index("capability")
    assert rows.verified.isna()["vision"] and rows.loc["context", "verified"] == "4096"
    assert rows.loc["context", ["claimed", "requests", "seconds"]].tolist() == ["8,192", 4, 1.25]
    assert rows.loc["n", "claimed"] == "no" and rows.claimed.isna()["streaming"]
    assert ProbeReport(model="m", server="x", base_url="u").to_frame().shape == (0, len(COLUMNS))


def test_json_and_back_is_the_same():
    made = report(from_cache=("tools",), notes=("It was ended early.",), digest="abc")
    assert ProbeReport.from_dict(json.loads(json.dumps(made.to_dict()))) == made


@pytest.mark.parametrize("data", [{}, [], None, {"format": "mamba_nb.probe_report", "version": 1}, {"version": 1}])
def test_what_is_no_report_is_refused(data):
    with pytest.raises(BadInput, match="report"):
        ProbeReport.from_dict(data)


def test_the_table_has_words_beside_marks_sources_ages_and_the_evidence():
    html = report()._repr_mimebundle_()["text/html"]
    for words in ("✓</span> yes", "✕</span> no", ">?</span>", "4,096", "8,192", "declared", "claimed", "3 min ago"):
        assert words in html, words
    assert "unknown: nothing was shown either way" in html
    assert html.count("<details>") == 5 and "213 ms" in html and "max_tokens" in html
    assert "POST /api/show" in html and "Ollama ignores `n`" in html
    # declared yes and claimed no against verified no; claimed 8,192 against 4,096: two cells are marked.
    assert html.count("mn-left mn-differs") == 2


def test_results_of_different_times_each_say_their_age():
    old = result("streaming", "yes", as_of=ago(days=3, minutes=1))
    made = report(results=(old, result("tools", "no")), from_cache=("streaming",))
    html = made._repr_mimebundle_()["text/html"]
    assert "3 d ago" in html and "3 min ago" in html
    assert "1 known from an earlier probe (again=True asks anew)" in html
    odd = report(results=(result("streaming", "yes", as_of="yesterday"),))
    assert odd._repr_mimebundle_()["text/html"]


def test_everything_that_a_model_or_server_wrote_is_escaped():
    evidence = Evidence(request={"messages": HOSTILE}, reply=HOSTILE, at=HOSTILE, error=HOSTILE)
    made = report(
        model=HOSTILE,
        server=HOSTILE,
        base_url=HOSTILE,
        results=(
            result("tools", "no", title=HOSTILE, why=HOSTILE, value="<b>bold</b>", as_of=HOSTILE, evidence=(evidence,)),
        ),
        declared={"supports_tools": Fact(HOSTILE, "declared", HOSTILE)},
        ignored={"tools": HOSTILE},
        notes=(HOSTILE,),
    )
    html = made._repr_mimebundle_()["text/html"]
    assert "<img" not in html and "<script" not in html and "<b>bold" not in html
    for text in (html, str(made)):
        assert "\x1b" not in text and "\u202e" not in text
    assert made.to_frame().shape[0] == 1


def test_the_text_for_a_terminal_is_aligned():
    lines = str(report(notes=("The probe was ended early.",))).splitlines()
    assert lines[0] == "llama3.2 · ollama · http://127.0.0.1:11434/v1"
    assert lines[1] == "2 yes, 2 no, 1 unknown · 9 requests in 3.50 s · verified 3 min ago"
    assert lines[2].split() == ["capability", "verified", "declared", "claimed", "what", "was", "seen"]
    assert lines[4].startswith("tools       ✕ no           yes       no       It called nothing.")
    assert lines[6].split()[:5] == ["context", "✓", "yes", "·", "4,096"]
    assert lines[-1] == "! The probe was ended early."


def test_an_empty_report_says_what_it_is():
    empty = ProbeReport(model="m", server="vllm", base_url="http://127.0.0.1:8000/v1")
    assert (
        "Nothing has been probed yet." in str(empty)
        and "Nothing has been probed yet." in empty._repr_mimebundle_()["text/html"]
    )
