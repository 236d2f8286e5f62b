"""The profile table without a browser: what the reader does comes in as messages, what is shown is in `state`."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mamba_nb._bridge import runs
from mamba_nb.backends import ModelProfile, OpenAICompatibleBackend
from mamba_nb.compare.plan import variant
from mamba_nb.errors import BadInput
from mamba_nb.servers.discovery import find_servers
from mamba_nb.testing import Script, ScriptedServer, closed_port
from mamba_nb.widgets.profile_table import ProfileTable

sys.path.insert(0, str(Path(__file__).parent.parent / "probes"))
from scripted_model import able, but

KEY = "sk-hush-hush-1234567890"
HOSTILE = """<img src=x onerror="alert(1)">\x1b[31m\u202eevil"""


def until(condition, within_s=60.0):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.01)


@pytest.fixture
def tables() -> Iterator:
    made = []

    def table(*args, **kwargs) -> ProfileTable:
        made.append(ProfileTable(*args, **kwargs))
        return made[-1]

    yield table
    for each in made:
        each.close()
    until(lambda: not runs())


@pytest.fixture
def vllm() -> Iterator:
    with ScriptedServer(able, style="vllm", models=["llama3.2"], context_length=4_096) as server:
        yield server


@pytest.fixture
def backend(vllm) -> Iterator:
    with OpenAICompatibleBackend("llama3.2", vllm.base_url, server="vllm", max_retries=0) as made:
        yield made


def do(table, verb, **more):
    table._take(None, {"do": verb, **more}, [])


def settled(table):
    """The state once nothing is under way and all of it is painted."""
    table.wait(60)
    until(lambda: not table._painting)
    return table.state


def row(table, label):
    (found,) = [each for each in table.state["rows"] if each["label"] == label]
    return found


def probe_of(table, label):
    return table.state["probes"].get(row(table, label)["key"], {})


class TestModels:
    def test_names_profiles_backends_and_variants_stand_side_by_side_with_their_sources(self, tables, backend):
        mine = ModelProfile(name="mine", context_window=5)
        table = tables(["gpt-4o", mine, backend, variant("gpt-4o", temperature=0)])
        state = settled(table)
        assert [each["label"] for each in state["rows"]] == ["gpt-4o", "mine", "llama3.2", "gpt-4o, temperature=0"]
        assert [each["colour"] for each in state["rows"]] == ["mn-c0", "mn-c1", "mn-c2", "mn-c3"]
        cell = row(table, "llama3.2")["cells"]["context_window"]
        assert cell == {"mark": "", "tone": "", "text": "4,096", "source": "declared", "but": "claimed 8,192"}
        assert row(table, "gpt-4o")["cells"]["supports_tools"]["source"] == "claimed"
        assert row(table, "mine")["cells"]["supports_tools"]["why"].startswith("nobody says")
        assert row(table, "gpt-4o")["no_probe"].startswith("A name alone is looked up")
        assert row(table, "llama3.2")["no_probe"] == ""
        assert table.models[2] is backend and table.models[0] == "gpt-4o" and table.models[1] is mine

    def test_the_frames_have_what_is_shown_and_wait_for_the_servers(self, tables, backend):
        table = tables({"big": "gpt-4o", "here": backend})
        assert table.wide["context"].to_dict() == {"big": 128_000, "here": 4_096}
        tidy = table.frame.set_index(["model", "field"]).loc[("here", "context_window")]
        assert (tidy["number"], tidy["source"], tidy["disagrees"]) == (4_096, "declared", True)
        assert table.comparison.labels == ("big", "here")
        assert repr(table) == "<ProfileTable 2 models>"

    def test_no_models_is_an_empty_table(self, tables):
        table = tables()
        assert settled(table)["rows"] == [] and table.frame.empty and table.models == []
        assert "gpt-4o" in table.state["names"]

    @pytest.mark.parametrize("models", [4, ["gpt-4o", None], [""], ["ollama:"]])
    def test_what_is_no_model_is_refused(self, models):
        with pytest.raises(BadInput):
            ProfileTable(models)

    def test_fields_and_filters_that_do_not_exist_are_refused_with_the_closest_one(self):
        with pytest.raises(BadInput, match="Did you mean 'supports_tools'"):
            ProfileTable(fields=["suports_tools"])
        with pytest.raises(BadInput, match="Did you mean 'tools'"):
            ProfileTable(tols=True)

    def test_a_model_is_added_by_name_once_and_removed(self, tables):
        table = tables(["gpt-4o"])
        settled(table)
        do(table, "add", name=" claude-3-opus ")
        settled(table)
        assert [each["label"] for each in table.state["rows"]] == ["gpt-4o", "claude-3-opus"]
        do(table, "add", name="claude-3-opus")
        assert table.state["error"]["message"] == "'claude-3-opus' is in the table already."
        do(table, "remove", model=row(table, "gpt-4o")["key"])
        settled(table)
        assert table.state["error"] is None
        assert [(each["label"], each["colour"]) for each in table.state["rows"]] == [("claude-3-opus", "mn-c1")]
        table.remove("claude-3-opus")
        assert len(table.comparison) == 0
        with pytest.raises(BadInput, match="no model 'gpt-4o'"):
            table.remove("gpt-4o")

    def test_a_dead_server_is_a_row_with_its_note_and_can_be_asked_again(self, tables):
        with closed_port() as place:
            dead = OpenAICompatibleBackend("qwen3:8b", place.base_url, server="ollama")
            table = tables(["gpt-4o", dead])
            settled(table)
            assert row(table, "qwen3:8b")["notes"][0].startswith("Nothing is listening on 127.0.0.1")
            assert row(table, "qwen3:8b")["retry"] and not row(table, "gpt-4o")["retry"]
            port = place.port
        with ScriptedServer(able, style="ollama", models=["qwen3:8b"], port=port):
            do(table, "retry", model=row(table, "qwen3:8b")["key"])
            settled(table)
            assert row(table, "qwen3:8b")["notes"] == [] and not row(table, "qwen3:8b")["retry"]
        dead.close()

    def test_a_name_that_nobody_knows_is_a_row_that_says_so(self, tables):
        table = tables(["gpt-4.l"])
        settled(table)
        assert "Did you mean 'gpt-4.1'?" in row(table, "gpt-4.l")["notes"][0]
        assert not row(table, "gpt-4.l")["retry"]

    def test_found_servers_give_a_row_a_model_and_their_backends(self, tables, vllm):
        found = find_servers([], urls=[vllm.base_url])
        table = tables(found)
        settled(table)
        assert (row(table, "llama3.2")["server"], row(table, "llama3.2")["no_probe"]) == ("vllm", "")
        assert table.models[0].base_url == vllm.base_url
        do(table, "retry", model=row(table, "llama3.2")["key"])
        assert settled(table)["rows"][0]["cells"]["context_window"]["text"] == "4,096"

    def test_a_search_adds_what_it_finds_and_nothing_twice(self, tables, vllm, monkeypatch):
        monkeypatch.setenv("OPENAI_BASE_URL", vllm.base_url)
        addresses = lambda: [getattr(each, "base_url", None) for each in table.models]  # noqa: E731
        table = tables()
        for _ in range(2):
            do(table, "find")
            settled(table)
            assert addresses().count(vllm.base_url) == 1
            assert table.state["search_notes"][0][0] == "done" and not table.state["searching"]


class TestChoosing:
    def test_the_chosen_fields_are_the_columns_in_their_order(self, tables):
        table = tables(["gpt-4o"], fields=["vision", "context_window"])
        assert [each["field"] for each in settled(table)["columns"]] == ["supports_vision", "context_window"]
        do(table, "fields", fields=["size_bytes", "supports_tools"])
        assert [(each["title"], each["unit"]) for each in settled(table)["columns"]] == [("tools", ""), ("size", "GB")]
        do(table, "fields", fields=None)
        assert "supports_vision" in [each["field"] for each in settled(table)["columns"]]

    def test_only_differences_leaves_out_what_is_the_same_for_all(self, tables):
        table = tables(["gpt-4o", "gpt-4o-mini"], fields=["context", "tools", "input_price_usd"])
        settled(table)
        do(table, "differences", on=True)
        assert [each["title"] for each in settled(table)["columns"]] == ["price in"]
        assert ["idle", "2 columns are the same for all models and left out."] in table.state["notes"]

    def test_filters_say_how_many_they_left_out_and_why(self, tables):
        table = tables(["gpt-4o", "llama3.2", "zzzz"], tools=True)
        state = settled(table)
        assert [each["label"] for each in state["rows"]] == ["gpt-4o"]
        assert (state["left_out"], state["of"], state["filters"]) == (2, 3, {"tools": True})
        assert "2 of 3 left out by tools=True. Do not pass: llama3.2." in state["notes"][0][1]
        assert table.wide.index.tolist() == ["gpt-4o"] and table.models == ["gpt-4o"]
        do(table, "filter", name="unknown", value="keep")
        assert [each["label"] for each in settled(table)["rows"]] == ["gpt-4o", "zzzz"]
        do(table, "filter", name="min_context", value=-4)
        assert "min_context must be a number" in table.state["error"]["message"]
        do(table, "clear_filter")
        assert len(settled(table)["rows"]) == 3

    def test_sorting_goes_best_first_then_back_then_as_given_and_unknowns_stay_last(self, tables):
        table = tables(["gpt-4o", "zzzz", "claude-3-opus", "llama3.2"])
        settled(table)
        orders = []
        for _ in range(3):
            do(table, "sort", field="context_window")
            settled(table)
            orders.append([each["label"] for each in table.state["rows"]])
        assert orders == [
            ["claude-3-opus", "gpt-4o", "llama3.2", "zzzz"],
            ["llama3.2", "gpt-4o", "claude-3-opus", "zzzz"],
            ["gpt-4o", "zzzz", "claude-3-opus", "llama3.2"],
        ]
        do(table, "sort", field="model")
        assert settled(table)["rows"][0]["label"] == "claude-3-opus"
        assert table.wide.index[0] == "claude-3-opus"


class TestEvidence:
    def test_a_cell_opens_what_every_source_said(self, tables, backend):
        table = tables([backend])
        settled(table)
        key = row(table, "llama3.2")["key"]
        do(table, "evidence", model=key, field="context_window")
        shown = settled(table)["evidence"]
        assert (shown["title"], shown["label"]) == ("context", "llama3.2")
        assert [(each["source"], each["value"]) for each in shown["said"]] == [
            ("declared", "4,096 tokens"),
            ("claimed", "8,192 tokens"),
        ]
        assert shown["said"][0]["evidence"].startswith("GET /v1/models") and shown["said"][0]["at"]
        do(table, "evidence", model=key, field="context_window")
        assert settled(table)["evidence"] is None


class TestProbing:
    def test_the_request_count_comes_first_and_cancel_asks_nothing(self, tables, backend, vllm):
        table = tables([backend])
        settled(table)
        key = row(table, "llama3.2")["key"]
        do(table, "plan", model=key)
        until(lambda: probe_of(table, "llama3.2").get("phase") == "planned")
        assert probe_of(table, "llama3.2")["words"].startswith("at most ")
        assert " requests, about " in probe_of(table, "llama3.2")["words"]
        do(table, "stop", model=key)
        settled(table)
        assert table.state["probes"] == {}
        assert not [each for each in vllm.requests if each.method == "POST"]

    def test_the_count_follows_what_is_chosen_and_only_that_is_asked(self, tables, backend, vllm):
        table = tables([backend])
        settled(table)
        key = row(table, "llama3.2")["key"]
        plan = lambda: probe_of(table, "llama3.2")  # noqa: E731
        ticked = lambda: [each["name"] for each in plan()["choice"] if each["on"]]  # noqa: E731
        asked = lambda: [each for each in vllm.requests if each.method == "POST"]  # noqa: E731
        do(table, "plan", model=key)
        until(lambda: plan().get("phase") == "planned")
        assert len(ticked()) == 21
        do(table, "choose", model=key, names=[])
        until(lambda: plan()["words"] == "nothing is chosen to ask about")
        do(table, "probe", model=key)
        assert probe_of(table, "llama3.2")["phase"] == "planned" and not asked()
        do(table, "choose", model=key, names=["json_object", "stop", "no such thing"])
        until(lambda: ticked() == ["stop", "json_object"])
        # json_object sends two, stop one and the one it shares, and four are spare
        assert plan()["words"].startswith("at most 8 requests, about ")
        do(table, "probe", model=key)
        until(lambda: plan().get("phase") == "done")
        assert len(asked()) <= 8
        assert backend.profile.fact("supports_json_object").source == "verified"
        assert backend.profile.fact("supports_tools").source == "claimed"
        assert plan()["words"] == "2 of 2 found out"

        before = len(asked())  # what was left out stays left out, what is known is not ticked, and can be asked again
        do(table, "plan", model=key)
        until(lambda: plan().get("phase") == "planned")
        assert [each["name"] for each in plan()["choice"] if each["known"]] == ["stop", "json_object"]
        do(table, "choose", model=key, names=["stop"])
        until(lambda: plan()["words"].startswith("known already; asking again: at most 6 requests"))
        do(table, "probe", model=key)
        until(lambda: plan().get("phase") == "done")
        assert len(asked()) > before

    def test_what_was_left_out_for_one_model_is_left_out_for_the_next(self, tables, backend, vllm):
        other = OpenAICompatibleBackend("llama3.2", vllm.base_url.replace("127.0.0.1", "localhost"), server="vllm")
        with other:
            table = tables({"one": backend, "two": other})
            settled(table)
            keys = [row(table, name)["key"] for name in ("one", "two")]
            do(table, "plan", model=keys[0])
            until(lambda: probe_of(table, "one").get("phase") == "planned")
            do(table, "choose", model=keys[0], names=["tools", "vision"])
            do(table, "plan", model=keys[1])
            until(lambda: probe_of(table, "two").get("phase") == "planned")
            assert [each["name"] for each in probe_of(table, "two")["choice"] if each["on"]] == ["tools", "vision"]

    def test_verdicts_come_into_the_cells_and_stay_in_the_backends_profile(self, tables, backend):
        table = tables(["gpt-4o", backend])
        settled(table)
        key = row(table, "llama3.2")["key"]
        do(table, "plan", model=key)
        until(lambda: probe_of(table, "llama3.2").get("phase") == "planned")
        do(table, "probe", model=key)
        until(lambda: probe_of(table, "llama3.2").get("phase") == "done")
        cell = row(table, "llama3.2")["cells"]["supports_tools"]
        assert (cell["text"], cell["source"], cell["but"]) == ("yes", "verified", "claimed no")
        assert abs(cell["at"] - time.time()) < 120
        assert backend.profile.fact("supports_tools").source == "verified"
        assert table.wide.loc["llama3.2", "tools"]
        do(table, "evidence", model=key, field="supports_tools")
        shown = settled(table)["evidence"]
        titles = [each["title"] for each in shown["results"]]
        assert titles[0] == "tools" and "tool_choice: required" in titles
        exchange = shown["results"][0]["exchanges"][0]
        assert '"tools"' in exchange["request"] and "get_weather" in exchange["reply"] and exchange["at"]
        do(table, "evidence", model=key, field=None)
        assert len(settled(table)["evidence"]["results"]) > 15
        do(table, "plan", model=key)  # everything is known now
        until(lambda: probe_of(table, "llama3.2").get("phase") == "planned")
        assert probe_of(table, "llama3.2")["words"].startswith("known already; asking again: at most ")
        do(table, "stop", model=key)
        settled(table)
        assert probe_of(table, "llama3.2")["phase"] == "done"

    def test_stop_keeps_what_was_found_and_leaves_the_rest_unasked(self, tables):
        gate = threading.Event()
        slow = lambda body: None if gate.is_set() or not body.get("tools") else Script(text="x", ttft_s=60)  # noqa: E731
        with (
            ScriptedServer(but(prompt=slow), style="vllm", models=["m"], context_length=4_096) as server,
            OpenAICompatibleBackend("m", server.base_url, server="vllm", max_retries=0, timeout=90) as backend,
        ):
            table = tables([backend])
            settled(table)
            key = row(table, "m")["key"]
            do(table, "plan", model=key)
            until(lambda: probe_of(table, "m").get("phase") == "planned")
            do(table, "probe", model=key)
            until(lambda: probe_of(table, "m").get("field") == "supports_tools")
            assert row(table, "m")["cells"]["supports_json_schema"]["source"] == "verified"
            do(table, "stop", model=key)
            until(lambda: probe_of(table, "m").get("phase") == "stopped")
            assert row(table, "m")["cells"]["supports_json_schema"]["source"] == "verified"
            assert row(table, "m")["cells"]["supports_tools"]["text"] == "?"
            do(table, "plan", model=key)
            until(lambda: probe_of(table, "m").get("phase") == "planned")
            assert probe_of(table, "m")["words"].endswith(" known already")

    def test_a_server_killed_in_the_middle_gives_unknown(self, tables):
        server = ScriptedServer(able, style="vllm", models=["m"], context_length=4_096).start()
        killed = threading.Event()

        def dying(request):
            if request.body.get("response_format") and not killed.is_set():
                killed.set()
                threading.Thread(target=server.stop).start()
                return Script(text="x", ttft_s=30)
            return able(request)

        server.script = dying
        with OpenAICompatibleBackend("m", server.base_url, server="vllm", max_retries=0) as backend:
            table = tables([backend])
            settled(table)
            key = row(table, "m")["key"]
            do(table, "plan", model=key)
            until(lambda: probe_of(table, "m").get("phase") == "planned")
            do(table, "probe", model=key)
            until(lambda: probe_of(table, "m").get("phase") == "done")
            cells = row(table, "m")["cells"]
            assert cells["supports_json_schema"]["text"] == cells["supports_tools"]["text"] == "?"
            assert cells["supports_tools"]["source"] == "probed: unknown"
            assert "ended early" in probe_of(table, "m")["notes"][0]
        server.stop()

    def test_two_tables_on_one_backend_show_the_same_findings(self, tables, backend):
        one, other = tables([backend]), tables([backend])
        for table in (one, other):
            settled(table)
            do(table, "plan", model=row(table, "llama3.2")["key"])
        for table in (one, other):
            until(lambda table=table: probe_of(table, "llama3.2").get("phase") == "planned")
            do(table, "probe", model=row(table, "llama3.2")["key"])
        for table in (one, other):
            until(lambda table=table: probe_of(table, "llama3.2").get("phase") == "done")
            assert row(table, "llama3.2")["cells"]["supports_tools"]["source"] == "verified"

    def test_a_cell_that_is_run_again_stops_the_probe_and_the_table_stands(self, tables):
        with (
            ScriptedServer(Script(text="x", ttft_s=60), style="vllm", models=["m"]) as server,
            OpenAICompatibleBackend("m", server.base_url, server="vllm", timeout=90) as backend,
        ):
            table = tables([backend])
            settled(table)
            key = row(table, "m")["key"]
            do(table, "plan", model=key)
            until(lambda: probe_of(table, "m").get("phase") == "planned")
            do(table, "probe", model=key)
            until(lambda: any(each.method == "POST" for each in server.requests))
            table._stop_all()
            until(lambda: probe_of(table, "m").get("phase") == "stopped")
            assert [each["label"] for each in settled(table)["rows"]] == ["m"]

    def test_closing_the_table_stops_its_probe(self, tables):
        with (
            ScriptedServer(Script(text="x", ttft_s=60), style="vllm", models=["m"]) as server,
            OpenAICompatibleBackend("m", server.base_url, server="vllm", timeout=90) as backend,
        ):
            table = tables([backend])
            settled(table)
            key = row(table, "m")["key"]
            do(table, "plan", model=key)
            until(lambda: probe_of(table, "m").get("phase") == "planned")
            do(table, "probe", model=key)
            until(lambda: any(each.method == "POST" for each in server.requests))
            table.close()
            until(lambda: not runs())


class TestSafety:
    def test_hostile_names_are_made_visible_and_no_key_is_in_the_state(self, tables):
        script = Script(text=HOSTILE)
        with (
            ScriptedServer(script, style="vllm", models=[HOSTILE], api_key=KEY) as server,
            OpenAICompatibleBackend(HOSTILE, server.base_url, api_key=KEY, server="vllm") as backend,
        ):
            table = tables([backend, HOSTILE])
            state = settled(table)
            text = json.dumps(state, ensure_ascii=False)
            assert KEY not in text and KEY not in repr(table)
            assert "\x1b" not in text and "\u202e" not in text
            assert "<img" not in table._folded and "&lt;img" in table._folded

    @pytest.mark.parametrize(
        "message",
        [
            {"do": "sort", "field": "nothing"},
            {"do": "fields", "fields": ["nothing"]},
            {"do": "filter", "name": "nothing", "value": 1},
            {"do": "remove", "model": "m0"},
            {"do": "probe", "model": None},
            {"do": "evidence", "model": 4, "field": "supports_tools"},
            {"do": "explode"},
            {"do": "add", "nothing": 1},
            "no mapping",
        ],
    )
    def test_a_message_that_cannot_be_meant_changes_no_model(self, tables, message):
        table = tables(["gpt-4o"])
        settled(table)
        table._take(None, message, [])
        assert [each["label"] for each in settled(table)["rows"]] == ["gpt-4o"]

    def test_a_plain_copy_stands_ready_for_readers_without_a_kernel(self, tables):
        table = tables(["gpt-4o", "llama3.2"], tools=True)
        settled(table)
        assert "<details" in table._folded and "128,000" in table._folded
        assert "1 of 2 left out" in table._folded
