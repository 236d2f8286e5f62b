"""The notebooks that teach one idea each, run as Run All runs them: what their texts promise, their cells show."""

from __future__ import annotations

import pytest
from notebooks.running import run_all

pytestmark = [pytest.mark.real_model, pytest.mark.timeout(1200)]

PROBED = ["system_prompt", "json_schema", "tools", "context", "overflow"]


def test_profiles_and_probes(tmp_path):
    with run_all("04_profiles_and_probes", tmp_path) as executed:
        assert "claimed" in executed.seen("claimed") and "unknown" not in executed.seen("fact")
        assert executed.value("get_profile('llama3.2').fact('context_window').source") == "claimed"
        assert "declared" in executed.seen("declared")
        assert executed.value("profile.context_window < needed < profile.context_max")
        assert f"in force {executed.value('profile.context_window'):,} tokens" in executed.seen("context")
        assert f"The prompt has {executed.value('needed'):,} tokens" in executed.seen("overflow")

        assert "my-own-model" in executed.seen("compare")
        kept = executed.value("compare_profiles(table.labels[:4], tools=True, min_context=32_000).labels")
        assert kept == ("gpt-4o", "claude-3-opus")
        left_out = executed.seen("filter")
        assert "3 of 5 left out" in left_out and "Not known: my-own-model" in left_out

        assert "requests" in executed.seen("plan")
        assert set(PROBED) <= set(executed.value("list(report)"))
        assert executed.value("{name: report[name].verdict for name in ('json_schema', 'tools', 'context')}") == {
            "json_schema": "yes", "tools": "no", "context": "yes",
        }  # fmt: skip
        assert executed.value("report['context'].value") == executed.value("profile.context_window")
        assert "asked: What is the weather" in executed.seen("evidence")
        assert executed.seen("verified").startswith("False verified ")
        assert "{'verified': False, 'declared': False}" in executed.seen("verified")
        assert widget(executed, "table") and executed.value("len(profiles.wide)") == 3


def test_compare_models(tmp_path):
    with run_all("05_compare_models", tmp_path) as executed:
        assert executed.value("(len(comparison), comparison.count('done'))") == (24, 24)
        assert executed.value("sorted(set(comparison.prompt_ids))") == ["light", "rain", "sea", "train"]
        assert executed.value("comparison.to_frame()['concurrency'].unique().tolist()") == [1]
        for name in ("plain", "brief", "warm"):
            assert name in executed.seen("wide") and name in executed.seen("summary")
        distinct = "frame.groupby(['label', 'prompt_id'])['text'].nunique().groupby('label').max().to_dict()"
        assert executed.value(distinct)["plain"] == 1 < executed.value(distinct)["warm"]

        ended = executed.value("ended.map(lambda reasons: reasons.count('stop')).to_dict()")
        table = executed.last("share")["text/html"]
        for label, number in ended.items():
            assert label in table and f"{number / 4:.2f}" in table
        assert {"application/vnd.vegalite.v5+json", "image/svg+xml"} <= set(executed.last("plot"))

        notes = executed.seen("notes")
        for said in ("Different temperature", "Stopped at the token limit", "shared a server"):
            assert said in notes
        assert "24 done> True" in executed.seen("save") and (tmp_path / "monday.jsonl").exists()
        assert widget(executed, "view")


def test_agents_and_tools(tmp_path):
    with run_all("06_agents_and_tools", tmp_path) as executed:
        assert "cannot call tools: declared" in executed.seen("refused")
        assert "temperature_in" in executed.seen("auto")
        assert executed.value("(result.tools_mode, result.tool_calls[0].arguments)") == ("prompted", {"city": "Oslo"})
        assert "temperature_in(city='Oslo') -> '-2 degrees, snow'" in executed.seen("calls")
        events = executed.seen("events")
        places = [events.index(name) for name in ("StepStarted", "ToolCalled", "ToolReturned", "TextDelta")]
        assert places == sorted(places)
        assert executed.seen("typed").startswith("native - schemas work here")
        assert executed.value("(type(found.output).__name__, found.output.name)") == ("City", "Oslo")

        refused, answered = executed.cells["retry"].printed.splitlines()
        assert refused.endswith("failed: The warehouse is busy. Ask again.") and answered.endswith("-> 12")
        assert "came to no answer" in executed.seen("limits") and "-> 12" in executed.seen("limits")

        assert executed.value("(len(talk), len(talk.messages))") == (2, 4)
        fruit = executed.value("[word for word in talk.results[0].output.split() if word.isalpha()]")
        assert any(word in executed.value("talk.results[1].output") for word in fruit)
        first, second, total = executed.cells["talk-usage"].printed.splitlines()
        assert int(second.split()[0]) > int(first.split()[0])  # the first turn went along
        assert total == f"{executed.value('talk.usage.total_tokens')} in all"

        judged = executed.value("runs.to_frame()[['label', 'prompt_id', 'right_tool']].values.tolist()")
        assert [row[2] for row in judged if row[1] == 0] == [True, True]
        assert {row[2] for row in judged} <= {True, False}
        assert "right tool" in executed.seen("runs")
        assert "tools temperature_in, prompted" in executed.last("toolset")["text/plain"]


def test_dataframes(tmp_path):
    with run_all("07_dataframes", tmp_path) as executed:
        index = executed.value("list(orders.index)")
        for name in ("answers", "first", "table", "short"):
            assert executed.value(f"list({name}.index)") == index
            assert "Not asked" in executed.value(f"{name}.loc['o-08', 'answer_error']")
        assert executed.value("answers['answer'].notna().sum().item()") == 4
        assert executed.value("{name: str(table[name].dtype) for name in ('item', 'quantity', 'city')}") == {
            "item": "str", "quantity": "Int64", "city": "str",
        }  # fmt: skip
        assert "quantity Int64" in " ".join(executed.seen("types").split())
        assert executed.value("set(table['item'].dropna()) <= {'chair', 'lamp', 'table'}")

        right = executed.value("readings.eq(truth, axis=0).sum().to_dict()")
        assert right["examples"] > right["question"]  # what the text says to look for

        assert executed.value("short['answer_error'].notna().all().item()") is True
        assert "no valid Order" in executed.value("short.loc['o-17', 'answer_error']")
        assert executed.value("list(missing.index)") == ["o-17", "o-12", "o-31", "o-25"]
        assert executed.value("bill['total'].notna().all().item()") and executed.value("len(bill)") == 4
        assert executed.value("bill.groupby('city')['total'].sum().sum().item()") == executed.value(
            "(bill['quantity'] * bill['price']).sum().item()"
        )
        assert executed.value("(len(figures), set(figures['status']))") == (8, {"done"})
        for name in ("plain", "examples"):
            assert name in executed.seen("compare") and name in executed.seen("pivot")


def test_blind_votes(tmp_path):
    with run_all("08_blind_votes", tmp_path) as executed:
        assert executed.value("(len(comparison), comparison.count('done'))") == (24, 24)
        assert widget(executed, "view") and widget(executed, "result")
        assert executed.seen("rule") == "2"
        assert "3 of 8 voted" in executed.last("resume")["text/plain"]
        assert executed.value("repr(view)") == "<VoteView 8 of 8 voted>"

        counted = executed.value("view.votes.drop_duplicates('item')['kind'].value_counts().to_dict()")
        assert sum(counted.values()) == 8 and counted["win"] >= 6
        rated = executed.value("view.ratings().to_dict('list')")
        assert sum(rated["rating"]) == pytest.approx(3000) and sum(rated["wins"]) == counted["win"]
        assert executed.value("view.ratings().eval('low < rating < high').all().item()")
        assert rated["model"][0] in executed.seen("ratings")
        executed.kernel.run("from mamba_nb.compare.votes import longer_wins, verdict; given = view._session.counted")
        assert executed.value("longer_wins(given).share") < 0.5  # the text says that this rule wants it short
        assert executed.value("verdict(given, comparison.labels).state") in ("leading", "even")  # and names no winner
        assert not list(tmp_path.glob("votes*"))


def widget(executed, cell_id: str) -> bool:
    """Whether a cell displayed a widget."""
    return any("application/vnd.jupyter.widget-view+json" in bundle for bundle in executed.cells[cell_id].displayed)
