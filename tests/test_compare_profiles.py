"""Profiles side by side: names, live backends and found servers; tables, filters, and what is hostile or missing."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time

import pandas as pd
import pytest
from tiny_model import write_tiny_model

from mamba_nb import embedded
from mamba_nb._bridge import run_in_background, runs
from mamba_nb.backends import (
    ModelProfile,
    OpenAICompatibleBackend,
    compare_profiles,
    create_embedded_backend,
    create_ollama_backend,
    create_vllm_backend,
    get_profile,
    list_profiles,
)
from mamba_nb.backends.comparing_record import ProfileComparison
from mamba_nb.backends.profiles_record import FACT_FIELDS
from mamba_nb.compare.plan import variant
from mamba_nb.display.profiles_columns import COLUMNS, value_text
from mamba_nb.errors import BadInput
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Sighting
from mamba_nb.servers.server import Server
from mamba_nb.testing import Script, ScriptedServer, closed_port, tar_pit

HOSTILE = """<img src=x onerror="alert(1)"><script>alert(2)</script>\x1b[31m\u202eevil"""


@pytest.fixture
def vllm():
    with ScriptedServer(Script(text="Hi"), style="vllm", models=["llama3.2"], context_length=4_096) as server:
        yield server


def declared(name: str, **values) -> ModelProfile:
    return get_profile(name).with_values("declared", evidence="GET /x", as_of="2026-11-22T10:00:00+00:00", **values)


def cell(comparison: ProfileComparison, model: str, field: str) -> pd.Series:
    frame = comparison.to_frame().set_index(["model", "field"])
    return frame.loc[(model, field)]


class TestNames:
    def test_the_documented_call_gives_a_row_a_name_in_the_order_given(self):
        comparison = compare_profiles(["gpt-4o", "claude-3-opus", "llama3.2"])
        assert comparison.labels == ("gpt-4o", "claude-3-opus", "llama3.2")
        wide = comparison.to_wide()
        assert list(wide["context"]) == [128_000, 200_000, 8_192]
        assert list(wide["tools"]) == [True, True, False]
        assert wide.loc["gpt-4o", "input_price_usd"] == 2.5
        assert wide["server"].isna().all()

    def test_a_name_that_nobody_knows_is_a_row_of_unknowns_with_the_closest_name(self):
        comparison = compare_profiles("gpt-4.l")
        row = comparison["gpt-4.l"]
        assert row.profile.known == ()
        assert "Did you mean 'gpt-4.1'?" in row.notes[0]
        assert comparison.to_wide().iloc[0].isna().all()
        assert compare_profiles("zzzzzz").rows[0].notes[0].startswith("Neither the table nor the catalogue knows 'zzzz")

    def test_the_same_name_twice_gets_labels_that_tell_the_rows_apart(self):
        assert compare_profiles(["gpt-4o", "gpt-4o", "gpt-4o"]).labels == ("gpt-4o", "gpt-4o (2)", "gpt-4o (3)")

    def test_a_mapping_gives_labels_of_ones_own(self):
        comparison = compare_profiles({"big": "gpt-4o", "small": get_profile("gpt-4o-mini")})
        assert comparison.labels == ("big", "small")
        assert comparison["small"].model == "gpt-4o-mini"

    def test_variants_and_profiles_are_taken_too(self):
        comparison = compare_profiles([variant("gpt-4o", temperature=0), ModelProfile(name="mine", context_window=5)])
        assert comparison.labels == ("gpt-4o, temperature=0", "mine")
        assert comparison.to_wide()["context"].tolist() == [128_000, 5]

    @pytest.mark.parametrize("models", [4, [4], ["gpt-4o", None], [["gpt-4o"]], {"a": 4}])
    def test_what_is_no_model_is_refused_by_its_type(self, models):
        with pytest.raises(BadInput, match="takes names, backends, profiles and servers"):
            compare_profiles(models)

    @pytest.mark.parametrize("models", ["", ["  "], ["ollama:"]])
    def test_an_empty_name_is_refused(self, models):
        with pytest.raises(BadInput):
            compare_profiles(models)

    def test_no_models_is_an_empty_table_that_says_what_to_type(self):
        comparison = compare_profiles([])
        assert len(comparison) == 0 and comparison.to_frame().empty and comparison.to_wide().empty
        for shown in comparison._repr_mimebundle_().values():
            assert "compare_profiles([" in shown
        assert "<table" in comparison.style().to_html()

    def test_a_row_that_is_not_there_is_refused_with_the_closest_label(self):
        comparison = compare_profiles(["gpt-4o", "claude-3-opus"])
        assert comparison[1] is comparison["claude-3-opus"]
        with pytest.raises(BadInput, match="Did you mean 'gpt-4o'"):
            comparison["gpt4o"]


class TestLive:
    def test_what_a_server_declares_stands_before_the_claim_and_the_claim_stays(self, vllm):
        with create_vllm_backend("llama3.2", base_url=vllm.base_url) as backend:
            comparison = compare_profiles(["gpt-4o", backend])
        row = comparison["llama3.2"]
        assert (row.server, row.base_url, row.notes) == ("vllm", vllm.base_url, ())
        assert row.profile.context_window == 4_096
        found = cell(comparison, "llama3.2", "context_window")
        assert (found["value"], found["number"], found["source"]) == ("4096", 4_096, "declared")
        assert found["disagrees"] and found["other_sources"] == "claimed 8192 (built-in table)"
        assert not cell(comparison, "gpt-4o", "context_window")["disagrees"]
        assert cell(comparison, "llama3.2", "supports_tools")["source"] == "claimed"
        html = comparison._repr_mimebundle_()["text/html"]
        assert "mn-differs" in html and "claimed 8,192" in html and "sources disagree" in html

    def test_a_local_model_costs_nothing_and_says_so(self, vllm):
        with create_vllm_backend("llama3.2", base_url=vllm.base_url) as backend:
            comparison = compare_profiles([backend, "llama3.2"])
        live, named = comparison.rows
        assert (live.profile.input_price_usd, live.profile.output_price_usd, live.profile.runs_locally) == (0, 0, True)
        assert live.profile.fact("input_price_usd").source == "declared"
        assert live.profile.fact("input_price_usd").evidence == "runs on this machine"
        assert named.profile.input_price_usd is None
        assert comparison.labels == ("llama3.2 (vllm)", "llama3.2")

    def test_a_server_of_unknown_kind_may_pass_requests_on_so_its_price_is_not_known(self):
        with (
            ScriptedServer(Script(text="Hi"), style="plain", models=["some-model"]) as server,
            OpenAICompatibleBackend("some-model", server.base_url) as backend,
        ):
            comparison = compare_profiles([backend])
        assert comparison.rows[0].profile.input_price_usd is None
        assert comparison.rows[0].notes == ()

    def test_two_servers_with_the_same_model_are_told_apart_by_their_addresses(self, vllm):
        with ScriptedServer(style="vllm", models=["llama3.2"], context_length=8_000) as other:
            backends = [create_vllm_backend("llama3.2", base_url=each.base_url) for each in (vllm, other)]
            comparison = compare_profiles(backends)
            for backend in backends:
                backend.close()
        assert comparison.to_wide()["context"].tolist() == [4_096, 8_000]
        assert len(set(comparison.labels)) == 2
        for label, each in zip(comparison.labels, (vllm, other), strict=True):
            assert label == f"llama3.2 (vllm) ({each.base_url.removeprefix('http://').removesuffix('/v1')})"

    def test_a_dead_server_is_a_row_with_what_is_claimed_and_a_note(self):
        with closed_port() as place, create_ollama_backend("llama3.2", base_url=place.base_url) as backend:
            comparison = compare_profiles([backend, "gpt-4o"])
        row = comparison["llama3.2"]
        assert row.server == "ollama" and row.profile.context_window == 8_192
        assert row.profile.fact("context_window").source == "claimed"
        assert row.notes[0].startswith("Nothing is listening on 127.0.0.1:")
        assert "Nothing is listening" in comparison._repr_mimebundle_()["text/html"]

    def test_servers_that_accept_and_never_answer_are_asked_all_at_once(self):
        with tar_pit() as place:
            backends = [OpenAICompatibleBackend(f"m{n}", place.base_url, timeout=60) for n in range(4)]
            began = time.monotonic()
            comparison = compare_profiles(backends)
            took_s = time.monotonic() - began
            for backend in backends:
                backend.close()
        for row in comparison:
            assert row.notes == (f"{place.base_url} did not answer in time; what is claimed for the name is shown.",)
        assert took_s < 9  # one after the other they would take 16 s
        assert not [run for run in runs() if "compare_profiles" in repr(run) or "health" in repr(run)]

    def test_a_server_that_wants_a_key_is_a_row_that_says_so_and_shows_none(self):
        with ScriptedServer(style="vllm", models=["llama3.2"], api_key="secret-key-1") as server:
            wrong = create_vllm_backend("llama3.2", base_url=server.base_url, api_key="secret-key-2")
            right = create_vllm_backend("llama3.2", base_url=server.base_url, api_key="secret-key-1")
            comparison = compare_profiles({"wrong": wrong, "right": right})
            wrong.close()
            right.close()
        assert comparison["right"].notes == () and comparison["right"].profile.context_window is not None
        assert comparison["wrong"].profile.context_window == 8_192 and "key" in comparison["wrong"].notes[0]
        everything = [repr(comparison), *comparison._repr_mimebundle_().values(), json.dumps(comparison.to_dict())]
        assert not any("secret-key" in text for text in [*everything, comparison.to_frame().to_csv()])

    def test_a_model_that_the_server_does_not_have_is_said_with_the_closest_one(self):
        with (
            ScriptedServer(style="vllm", models=["qwen3-8b", "gemma-3-4b"], context_length=4_096) as server,
            create_vllm_backend("qwen3-8", base_url=server.base_url) as backend,
        ):
            (row,) = compare_profiles(backend).rows
        assert "does not list 'qwen3-8'. Did you mean 'qwen3-8b'?" in row.notes[0]
        assert row.profile.context_window is None

    def test_a_name_with_a_server_before_it_is_asked_there(self, vllm, monkeypatch):
        monkeypatch.setattr("mamba_nb.backends.factories.kinds", lambda: {"vllm": _At(vllm.base_url)})
        (row,) = compare_profiles("vllm:llama3.2").rows
        assert (row.server, row.profile.context_window) == ("vllm", 4_096)

    def test_found_servers_give_a_row_a_model_and_are_not_asked_again(self):
        server = Server(
            sighting=Sighting(kind="ollama", certainty="certain", evidence="GET /"),
            base_url="http://127.0.0.1:1/v1",
            root="http://127.0.0.1:1",
            models=(
                ServedModel(id="llama3.2:3b", context_window=4_096, runs_locally=True, size_bytes=2_019_393_189),
                ServedModel(id="big:cloud", runs_locally=False, supports_tools=True),
            ),
        )
        told = Sighting(kind="vllm", certainty="certain", evidence="GET /version")
        empty = Server(sighting=told, base_url="http://127.0.0.1:2/v1", root="http://127.0.0.1:2")
        comparison = compare_profiles([server, empty, ServedModel(id="alone", context_max=9)])
        assert comparison.labels == ("llama3.2:3b", "big:cloud", "?", "alone")
        small, cloud, none, _alone = comparison.rows
        assert small.profile.context_window == 4_096 and small.profile.input_price_usd == 0.0
        assert cloud.profile.runs_locally is False and cloud.profile.input_price_usd is None
        assert none.notes == ("vLLM at http://127.0.0.1:2/v1 lists no model.",)
        assert compare_profiles({"here": server}).labels == ("here: llama3.2:3b", "here: big:cloud")

    def test_the_embedded_engine_declares_its_context_and_costs_nothing(self, tmp_path):
        path = write_tiny_model(tmp_path / "Tiny-Random.F32.gguf", context=1_024)
        try:
            with create_embedded_backend(path, n_ctx=512, slots=1) as backend:
                (row,) = compare_profiles(backend).rows
        finally:
            embedded.stop()
        profile = row.profile
        assert (row.server, profile.context_window, profile.fact("context_window").source) == (
            "embedded",
            512,
            "declared",
        )
        assert (profile.runs_locally, profile.input_price_usd, profile.output_price_usd) == (True, 0.0, 0.0)

    def test_an_embedded_engine_without_weights_is_a_row_with_a_note(self, tmp_path):
        (row,) = compare_profiles([f"embedded:{tmp_path / 'missing.gguf'}"]).rows
        assert row.server == "embedded" and row.profile.known == ()
        assert "missing.gguf" in row.notes[0]

    def test_it_works_in_the_background(self, vllm):
        with create_vllm_backend("llama3.2", base_url=vllm.base_url) as backend:
            assert run_in_background(compare_profiles, [backend]).result(20).rows[0].profile.context_window == 4_096


class _At:
    def __init__(self, url: str) -> None:
        self.default_url = url


class TestFrames:
    def test_the_tidy_table_has_one_row_a_model_and_field_whoever_says_nothing_included(self):
        frame = compare_profiles(["gpt-4o", "zzzzzz"]).to_frame()
        assert len(frame) == 2 * len(FACT_FIELDS)
        assert list(frame.columns) == [
            "model", "server", "field", "value", "number", "flag", "unit", "source", "evidence", "as_of", "disagrees",
            "other_sources",
        ]  # fmt: skip
        assert list(frame["field"][: len(FACT_FIELDS)]) == list(FACT_FIELDS)
        unknown = frame[frame["model"] == "zzzzzz"]
        assert set(unknown["source"]) == {"unknown"}
        assert unknown[["value", "number", "flag", "evidence", "as_of", "other_sources"]].isna().all().all()
        tools = frame.set_index(["model", "field"]).loc[("gpt-4o", "supports_tools")]
        assert (tools["value"], tools["flag"], tools["source"]) == ("True", True, "claimed")
        assert (tools["evidence"], tools["as_of"]) == ("built-in table", "2026-11-22")
        assert pd.isna(tools["number"]) and pd.isna(tools["unit"])
        price = frame.set_index(["model", "field"]).loc[("gpt-4o", "output_price_usd")]
        assert (price["number"], price["unit"]) == (10.0, "USD per million tokens")

    def test_the_wide_table_has_nullable_dtypes_and_unknown_is_never_false_or_nought(self):
        wide = compare_profiles(["llama3.2", "zzzzzz", declared("m", size_bytes=2_500_000_000)]).to_wide()
        assert list(wide.columns) == [column.name for column in COLUMNS]
        assert {name: str(dtype) for name, dtype in wide.dtypes.items()} == {
            "context": "Int64", "context_max": "Int64", "max_output": "Int64", "tools": "boolean", "vision": "boolean",
            "json_schema": "boolean", "reasoning": "boolean", "quantization": "str", "parameters": "Int64",
            "size_gb": "Float64", "input_price_usd": "Float64", "output_price_usd": "Float64", "local": "boolean",
            "server": "str",
        }  # fmt: skip
        assert wide.loc["llama3.2", "tools"] == False  # noqa: E712
        assert wide.loc["zzzzzz", "tools"] is pd.NA and wide.loc["llama3.2", "input_price_usd"] is pd.NA
        assert wide.loc["m", "size_gb"] == 2.5
        assert list(wide[wide["tools"] == False].index) == ["llama3.2"]  # noqa: E712
        assert wide.index.name == "model"

    def test_both_tables_survive_parquet(self, tmp_path):
        comparison = compare_profiles(["gpt-4o", "zzzzzz", declared("llama3.2", quantization="Q4\ud83d", parameters=7)])
        for name, frame in (("tidy", comparison.to_frame()), ("wide", comparison.to_wide())):
            frame.to_parquet(tmp_path / name)
            pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / name), frame)
            frame.to_csv(tmp_path / f"{name}.csv")

    def test_the_json_has_every_fact_and_what_worse_sources_said(self):
        data = json.loads(json.dumps(compare_profiles([declared("llama3.2", context_window=4_096)]).to_dict()))
        (model,) = data["models"]
        assert model["label"] == "llama3.2" and model["server"] is None
        assert model["facts"]["context_window"] == {
            "value": 4_096, "source": "declared", "evidence": "GET /x", "as_of": "2026-11-22T10:00:00+00:00",
            "disagrees": True,
            "others": [
                {"value": 8_192, "source": "claimed", "evidence": "built-in table", "as_of": "2026-11-22"},
            ],
        }  # fmt: skip
        assert "supports_embeddings" not in model["facts"]


class TestFilters:
    MODELS = (
        ModelProfile(name="all", supports_tools=True, context_window=64_000),
        ModelProfile(name="small", supports_tools=True, context_window=4_096),
        ModelProfile(name="no-tools", supports_tools=False, context_window=64_000),
        ModelProfile(name="tools?", context_window=64_000),
        ModelProfile(name="context?", supports_tools=True),
        ModelProfile(name="made-small", supports_tools=True, context_max=8_192),
        ModelProfile(name="made-large", supports_tools=True, context_max=131_072),
    )

    def test_only_what_is_known_to_pass_is_kept_and_the_rest_is_counted(self):
        comparison = compare_profiles(self.MODELS, tools=True, min_context=32_000)
        assert comparison.labels == ("all",)
        (note,) = comparison.notes
        assert note == (
            "6 of 7 left out by tools=True, min_context=32000. Do not pass: small, no-tools, made-small. "
            'Not known: tools? (tools), context? (min_context), made-large (min_context); unknown="keep" keeps them.'
        )
        assert note.replace('"', "&quot;") in comparison._repr_mimebundle_()["text/html"]

    def test_unknowns_are_kept_where_that_is_asked_for(self):
        comparison = compare_profiles(self.MODELS).filter(tools=True, min_context=32_000, unknown="keep")
        assert comparison.labels == ("all", "tools?", "context?", "made-large")
        assert comparison.notes[0].startswith("3 of 7 left out")

    @pytest.mark.parametrize(
        ("filters", "kept"),
        [
            ({"tools": False}, {"b"}),
            ({"vision": True}, {"a"}),
            ({"reasoning": True}, {"b"}),
            ({"json_schema": True}, {"a"}),
            ({"local": True}, {"a"}),
            ({"local": False}, {"b"}),
            ({"max_price_usd": 0}, {"a"}),
            ({"max_price_usd": 10}, {"a", "b"}),
            ({"max_price_usd": 9.99}, {"a"}),  # the dearer of the two prices decides
            ({"max_size_gb": 2.5}, {"a"}),
            ({"max_size_gb": 2.4}, set()),
            ({"min_output": 1_000}, {"b"}),
            ({"min_context": 4_096}, {"a", "b"}),
            ({"tools": None}, {"a", "b", "c"}),
            ({}, {"a", "b", "c"}),
        ],
    )
    def test_each_filter_by_hand(self, filters, kept):
        profiles = [
            ModelProfile(
                name="a",
                supports_vision=True,
                supports_json_schema=True,
                runs_locally=True,
                input_price_usd=0.0,
                output_price_usd=0.0,
                size_bytes=2_500_000_000,
                context_window=4_096,
                max_output_tokens=999,
            ),
            ModelProfile(
                name="b",
                supports_tools=False,
                supports_vision=False,
                supports_reasoning=True,
                runs_locally=False,
                input_price_usd=2.5,
                output_price_usd=10.0,
                context_window=128_000,
                max_output_tokens=1_000,
            ),
            ModelProfile(name="c"),
        ]
        assert set(compare_profiles(profiles, **filters).labels) == kept

    @pytest.mark.parametrize(
        ("filters", "message"),
        [
            ({"tool": True}, "no filter 'tool'. Did you mean 'tools'"),
            ({"min_contxt": 1}, "Did you mean 'min_context'"),
            ({"tools": 1}, "tools must be True, False or None"),
            ({"min_context": "32k"}, "min_context must be a number"),
            ({"min_context": True}, "min_context must be a number"),
            ({"max_price_usd": math.nan}, "max_price_usd must be a number"),
            ({"max_size_gb": -1}, "max_size_gb must be a number"),
            ({"unknown": "maybe"}, 'unknown must be "drop" or "keep"'),
        ],
    )
    def test_a_filter_that_cannot_be_meant_is_refused_before_anybody_is_asked(self, filters, message, vllm):
        with pytest.raises(BadInput, match=message):
            compare_profiles(["gpt-4o"]).filter(**filters)
        with create_vllm_backend("llama3.2", base_url=vllm.base_url) as backend, pytest.raises(BadInput, match=message):
            compare_profiles([backend], **filters)
        assert vllm.requests == []


class TestLook:
    def test_every_value_stands_with_its_word_and_its_source(self):
        html = compare_profiles(["gpt-4o", "llama3.2"])._repr_mimebundle_()["text/html"]
        for mark, word in (("✓", "yes"), ("✕", "no")):
            assert f'aria-hidden="true">{mark}</span> {word}</bdi> <span class="mn-source">claimed</span>' in html
        assert 'title="nobody says: JSON schema is not known">?</td>' in html
        assert "claimed yes: built-in table, 2026-11-22" in html
        assert "a table, a catalogue or a price list says so" in html

    def test_a_model_keeps_its_colour_when_others_are_filtered_out(self):
        comparison = compare_profiles(["llama3.2", "gpt-4o"])
        for shown in (comparison, comparison.filter(tools=True)):
            html = shown._repr_mimebundle_()["text/html"]
            assert '<span class="mn-dot mn-c1"></span><span><b><bdi>gpt-4o</bdi>' in html

    def test_hostile_names_and_values_are_escaped_everywhere(self):
        profile = ModelProfile(name=HOSTILE).with_values(
            "declared", evidence=HOSTILE, quantization=HOSTILE, digest=HOSTILE
        )
        comparison = compare_profiles({HOSTILE: profile, "x": HOSTILE, "gpt": "gpt-4o"})
        shown = comparison._repr_mimebundle_()
        for html in (shown["text/html"], comparison.style().to_html(), profile._repr_mimebundle_()["text/html"]):
            assert "&lt;script&gt;" in html or "&lt;img" in html
            assert "<script" not in html and "<img" not in html
        for text in (*shown.values(), comparison.style().to_html()):
            assert "\x1b" not in text and "\u202e" not in text
        assert "\x1b" not in shown["text/plain"]

    def test_the_styler_shows_words_sources_and_edges_and_its_data_is_text(self):
        styler = compare_profiles(["gpt-4o", declared("llama3.2", context_window=4_096, supports_tools=True)]).style()
        assert styler.data.loc["llama3.2", "tools"] == "✓ yes\ndeclared\n! claimed no"
        assert styler.data.loc["gpt-4o", "vision"] == "✓ yes\nclaimed"
        assert styler.data.loc["llama3.2", "JSON schema"] == "?"
        html = styler.to_html()
        assert (
            '<bdi>✓ yes</bdi> <span class="mn-source">declared</span> <span class="mn-but">! claimed no</span>' in html
        )
        assert html.count("mn-differs") >= 2
        assert "--mn-warn:" in html and 'class="mamba-nb' in html

    def test_the_text_for_a_terminal_has_a_letter_a_source_and_a_legend(self):
        lines = (
            compare_profiles(["gpt-4o", declared("llama3.2", context_window=4_096)])
            ._repr_mimebundle_()["text/plain"]
            .splitlines()
        )
        assert lines[0].split()[:2] == ["model", "context"]
        assert lines[2].startswith("gpt-4o") and "128,000 c" in lines[2] and "yes c" in lines[2]
        assert "! 4,096 d" in lines[3]
        assert lines[-1] == "! sources disagree; the better one is shown"
        assert any(line.startswith("d declared:") for line in lines)

    def test_a_very_long_table_is_cut_in_the_cell_and_whole_in_pandas(self):
        comparison = compare_profiles([ModelProfile(name=f"m{n}", context_window=n + 1) for n in range(130)])
        html = comparison._repr_mimebundle_()["text/html"]
        assert html.count("<tr>") == 1 + 100 and "30 more models are not shown here" in html
        assert len(comparison.to_wide()) == 130

    def test_a_column_of_which_nothing_is_known_or_that_only_repeats_is_left_out(self):
        text = compare_profiles(["gpt-4o"])._repr_mimebundle_()["text/plain"]
        assert "quantization" not in text and "max context" not in text
        text = compare_profiles([declared("m", context_window=4_096, context_max=8_192, quantization="Q4")])
        assert "max context" in text._repr_mimebundle_()["text/plain"]

    @pytest.mark.parametrize(
        ("field", "value", "text"),
        [
            ("parameters", 134_515_008, "135 M"),
            ("parameters", 3_212_749_888, "3.21 B"),
            ("parameters", 103_104, "103 k"),
            ("size_bytes", 412_416, "0.000412"),
            ("size_bytes", 17_990_911_801, "18.0"),
            ("input_price_usd", 0.0, "0"),
            ("input_price_usd", 2.5, "2.50"),
            ("input_price_usd", 0.075, "0.075"),
            ("context_window", 131_072, "131,072"),
        ],
    )
    def test_values_as_people_read_them(self, field, value, text):
        assert value_text(field, value) == text

    def test_the_age_of_what_was_verified_is_shown(self):
        moment = pd.Timestamp.now("UTC") - pd.Timedelta(minutes=3, seconds=5)
        profile = ModelProfile(name="m").with_values("verified", as_of=moment.isoformat(), supports_tools=True)
        assert "verified 3 min ago" in compare_profiles(profile)._repr_mimebundle_()["text/html"]


class TestCommand:
    @staticmethod
    def run(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "mamba_nb", "profiles", *arguments],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            env={**os.environ, "COLUMNS": "100", "TERM": "dumb"},
        )
        assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
        return done

    def test_named_models_are_compared_with_their_sources(self):
        printed = self.run("gpt-4o", "llama3.2", "gpt-4.l").stdout
        lines = printed.splitlines()
        (tools,) = [place for place, line in enumerate(lines) if line.split()[:1] == ["tools"]]
        assert lines[tools].split() == ["tools", "✓", "yes", "✕", "no", "?"]
        assert lines[tools + 1].split() == ["claimed", "claimed"]
        assert "claimed: a table, a catalogue or a price list says so" in printed
        assert "! gpt-4.l: Neither the table nor the catalogue knows" in printed

    def test_json_has_every_fact(self):
        data = json.loads(self.run("gpt-4o", "--json").stdout)
        assert data["models"][0]["facts"]["context_window"]["value"] == 128_000
        assert [model["label"] for model in json.loads(self.run("--json").stdout)["models"]] == list_profiles()

    def test_a_name_that_cannot_be_one_ends_with_status_1(self):
        assert "names a server but no model" in self.run("ollama:", status=1).stderr
