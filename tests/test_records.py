"""The spine's data: figures computed from raw stamps, and records that survive being saved."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pandas as pd
import pytest

from mamba_nb.records import Cell, Comparison, Generation, Request, ToolCall, Usage, text_of

ASKED = Request(
    model="qwen3:4b",
    messages=({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}),
    params={"temperature": 0.5, "stop": ["END"], "extra_body": {"top_k": 5}},
)
ANSWER = Generation(  # reasons at 0.5 and 0.75 s, speaks at 1.0 and 1.5 s, is done at 2.0 s
    request=ASKED,
    base_url="http://127.0.0.1:11434/v1",
    server="ollama",
    model="qwen3:4b",
    text="It is. 😀",
    reasoning="Hm.",
    tool_calls=(ToolCall(id="x", name="f", arguments='{"a": 1}'),),
    text_at_s=(1.0, 1.5),
    reasoning_at_s=(0.5, 0.75),
    tool_at_s=(1.75,),
    finish_at_s=2.0,
    latency_s=2.0,
    usage=Usage(prompt_tokens=12, completion_tokens=7, cached_tokens=3, reasoning_tokens=2),
    finish_reason="stop",
    warnings=("Something to know.",),
    server_facts={"timings": {"predicted_n": 7}},
    logprobs=[{"token": "It", "logprob": -0.25}],
    load_s=1.25,
    concurrency=2,
    started_at="2026-11-22T10:00:00.000+00:00",
)
FAILED = Generation(
    request=ASKED,
    base_url="http://127.0.0.1:1/v1",
    server="unknown",
    model="qwen3:4b",
    status="failed",
    error="Nothing is listening on 127.0.0.1:1.",
    error_type="ServerUnreachable",
)


def cell(generation: Generation = ANSWER, **more) -> Cell:
    return Cell(
        **{"label": "qwen3:4b", "variant": None, "prompt_id": 0, "prompt": "Why?", "repeat": 0, **more},
        generation=generation,
    )


class TestRequest:
    def test_prompt_and_system_are_the_last_and_the_first_of_their_kind(self):
        assert (ASKED.prompt, ASKED.system) == ("Why?", "Be brief.")
        longer = replace(
            ASKED,
            messages=(*ASKED.messages, {"role": "assistant", "content": "So."}, {"role": "user", "content": "And?"}),
        )
        assert (longer.prompt, longer.system) == ("And?", "Be brief.")

    def test_a_developer_message_is_a_system_message(self):
        assert Request(model="m", messages=({"role": "developer", "content": "Be brief."},)).system == "Be brief."

    def test_without_messages_of_that_kind_there_are_none(self):
        request = Request(model="m", messages=({"role": "assistant", "content": "So."},))
        assert (request.prompt, request.system) == ("", None)

    def test_images_are_left_out_of_the_text(self):
        parts = [
            {"type": "text", "text": "What "},
            {"type": "image_url", "image_url": {}},
            {"type": "text", "text": "is it?"},
        ]
        assert Request(model="m", messages=({"role": "user", "content": parts},)).prompt == "What is it?"
        assert text_of(None) == "" and text_of(["loose"]) == ""

    def test_records_are_frozen(self):
        for record, name in ((ASKED, "model"), (ANSWER, "text"), (cell(), "label"), (Usage(), "prompt_tokens")):
            with pytest.raises(FrozenInstanceError):
                setattr(record, name, "x")


class TestFigures:
    def test_every_kind_of_token_counts_for_the_first_and_the_gaps(self):
        assert ANSWER.chunk_at_s == (0.5, 0.75, 1.0, 1.5, 1.75)
        assert (ANSWER.ttft_ms, ANSWER.ttft_text_ms) == (500.0, 1000.0)
        assert ANSWER.itl_ms == (250.0, 250.0, 500.0, 250.0)
        assert ANSWER.itl_p50_ms == 250.0 and ANSWER.itl_p95_ms == pytest.approx(462.5)

    def test_tpot_and_the_speeds_by_hand(self):
        assert ANSWER.tpot_ms == 250.0  # (2.0 - 0.5) s over 6 further tokens
        assert ANSWER.decode_tokens_per_s == 4.0
        assert ANSWER.output_tokens_per_s == 3.5  # 7 tokens in 2 s

    def test_counts_are_the_servers(self):
        assert (ANSWER.prompt_tokens, ANSWER.completion_tokens, ANSWER.token_source) == (12, 7, "usage")

    def test_what_nobody_said_is_none(self):
        bare = replace(ANSWER, usage=None)
        assert (bare.prompt_tokens, bare.completion_tokens, bare.token_source) == (None, None, None)
        assert bare.tpot_ms is None and bare.output_tokens_per_s is None and bare.decode_tokens_per_s is None
        assert bare.ttft_ms == 500.0

    def test_an_answer_that_was_not_streamed_has_no_ttft(self):
        whole = replace(ANSWER, text_at_s=(), reasoning_at_s=(), tool_at_s=(), finish_at_s=None)
        assert whole.ttft_ms is None and whole.itl_p50_ms is None and whole.tpot_ms is None
        assert whole.output_tokens_per_s == 3.5

    def test_a_failure_has_no_figures(self):
        assert FAILED.ttft_ms is None and FAILED.latency_s is None and FAILED.output_tokens_per_s is None

    def test_the_repr_is_one_true_line(self):
        assert repr(ANSWER) == "<Generation qwen3:4b · 7 tokens · TTFT 500 ms · 3.5 tok/s>"
        assert repr(FAILED) == "<Generation qwen3:4b · failed: ServerUnreachable>"
        assert str(ANSWER) == "It is. 😀"


class TestRoundTrip:
    @pytest.mark.parametrize("generation", [ANSWER, FAILED], ids=["done", "failed"])
    def test_a_generation_survives_json(self, generation):
        data = json.loads(json.dumps(generation.to_dict()))
        assert Generation.from_dict(data) == generation

    @pytest.mark.parametrize("again", [lambda x: pickle.loads(pickle.dumps(x)), copy.copy, copy.deepcopy])
    def test_a_generation_survives_pickle_and_copy(self, again):
        _ = ANSWER.chunk_at_s  # computed once and kept
        assert again(ANSWER) == ANSWER and again(ANSWER).ttft_ms == 500.0

    def test_figures_are_not_stored_but_computed_again(self):
        assert not {"ttft_ms", "itl_ms", "chunk_at_s"} & ANSWER.to_dict().keys()
        assert Generation.from_dict(ANSWER.to_dict()).tpot_ms == 250.0

    def test_fields_of_a_later_version_are_left_out(self):
        assert Generation.from_dict({**ANSWER.to_dict(), "energy_j": 3.0}) == ANSWER

    def test_fields_that_an_earlier_version_did_not_have_take_their_defaults(self):
        data = {"request": FAILED.to_dict()["request"], "base_url": "u", "server": "s", "model": "m"}
        assert Generation.from_dict(data) == Generation(request=ASKED, base_url="u", server="s", model="m")

    def test_a_comparison_survives_its_file(self, tmp_path):
        grid = Comparison(
            cells=(cell(), cell(FAILED, label="b", variant="cold", prompt_id="second", repeat=1)),
            labels=("qwen3:4b", "b"),
            planned=4,
            wall_s=2.5,
            notes=("Different temperatures.",),
            started_at="2026-11-22T10:00:00+00:00",
        )
        path = grid.save(tmp_path / "grid.jsonl")
        assert Comparison.load(path) == grid
        assert [file.name for file in tmp_path.iterdir()] == ["grid.jsonl"]
        assert len(path.read_text("utf-8").splitlines()) == 3

    def test_an_empty_comparison_survives_too(self, tmp_path):
        grid = Comparison(cells=(), labels=("a",), planned=2)
        assert Comparison.load(grid.save(tmp_path / "grid.jsonl")) == grid

    def test_saving_again_replaces_the_file(self, tmp_path):
        path = tmp_path / "grid.jsonl"
        Comparison(cells=(cell(), cell()), labels=("a",), planned=2).save(path)
        Comparison(cells=(), labels=("a",), planned=2).save(path)
        assert len(Comparison.load(path)) == 0

    def test_labels_of_prompts_from_pandas_survive(self, tmp_path):
        ids = [np.int64(7), "a", 1.5, ("x", np.int64(2)), pd.Timestamp("2026-11-22")]
        grid = Comparison(cells=tuple(cell(prompt_id=i) for i in ids), labels=("a",), planned=5)
        loaded = Comparison.load(grid.save(tmp_path / "grid.jsonl"))
        assert loaded.prompt_ids == (7, "a", 1.5, ("x", 2), "2026-11-22 00:00:00")

    @pytest.mark.parametrize("text", ["", "{}\n", "not json\n", "[1]\n", '{"format": "other"}\n', "null\n"])
    def test_another_file_is_refused_by_name(self, text, tmp_path):
        path = tmp_path / "other.jsonl"
        path.write_text(text)
        with pytest.raises(ValueError, match=r"other\.jsonl is not a saved comparison"):
            Comparison.load(path)

    def test_a_newer_format_is_refused(self, tmp_path):
        path = tmp_path / "newer.jsonl"
        path.write_text('{"format": "mamba_nb.comparison", "version": 99}\n')
        with pytest.raises(ValueError, match="format 99"):
            Comparison.load(path)


class TestComparison:
    def test_counts_labels_and_repr(self):
        grid = Comparison(
            cells=(cell(), cell(FAILED), cell(replace(ANSWER, status="stopped"), prompt_id=1)),
            labels=("a", "b"),
            planned=4,
        )
        assert len(grid) == 3 and [c.prompt_id for c in grid] == [0, 0, 1] and grid.prompt_ids == (0, 1)
        assert (grid.count("done"), grid.count("failed"), grid.count("stopped")) == (1, 1, 1)
        assert repr(grid) == "<Comparison 2 models · 2 prompts · 1 done · 1 failed · 1 stopped · 1 not run>"
        assert grid.generations[1] is FAILED
