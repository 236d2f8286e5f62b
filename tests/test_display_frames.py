"""The tables: hand-worked values, dtypes, missing values, round trips."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from mamba_nb.display.columns import COLUMNS, SUMMARY
from mamba_nb.display.costs import cost_usd
from mamba_nb.errors import BadInput
from mamba_nb.records import Cell, Comparison, Generation, Request, ToolCall, Usage

LOCAL = "http://127.0.0.1:11434/v1"
REQUEST = Request(model="qwen3:8b", messages=({"role": "user", "content": "Why is the sky blue?"},))

# One reasoning chunk at 0.125 s, text at 0.25 and 0.5 s, three tokens in 0.5 s.
DONE = Generation(
    request=REQUEST,
    base_url=LOCAL,
    server="ollama",
    model="qwen3:8b",
    text='Scattering, as in "blue".\nThat is it; , \t done.',
    reasoning="Let me think.",
    reasoning_at_s=(0.125,),
    text_at_s=(0.25, 0.5),
    finish_at_s=0.5,
    latency_s=0.5,
    usage=Usage(prompt_tokens=7, completion_tokens=3),
    finish_reason="stop",
    warnings=("the answer was cut at max_tokens", "a cold start"),
    load_s=1.5,
    concurrency=2,
    context=4096,
)
FAILED = Generation(
    request=REQUEST,
    base_url="http://127.0.0.1:8000/v1",
    server="vllm",
    model="llama",
    status="failed",
    error="The server was silent for 30 s.\nRaise timeout.",
    error_type="ServerTimeout",
)


def cell(label: str, generation: Generation, prompt_id: Any = 0, *, prompt: str = "p", repeat: int = 0) -> Cell:
    return Cell(label=label, variant=None, prompt_id=prompt_id, prompt=prompt, repeat=repeat, generation=generation)


def grid(*cells: Cell, planned: int | None = None) -> Comparison:
    labels = tuple(dict.fromkeys(c.label for c in cells))
    return Comparison(cells=cells, labels=labels, planned=len(cells) if planned is None else planned)


def answer(text: str = "x", *, latency_s: float = 1.0, tokens: int | None = 10, **kwargs: Any) -> Generation:
    """A done answer with one chunk half-way; the rate is tokens / latency."""
    usage = None if tokens is None else Usage(prompt_tokens=1, completion_tokens=tokens)
    return replace(
        DONE,
        text=text,
        reasoning="",
        reasoning_at_s=(),
        warnings=(),
        text_at_s=(latency_s / 2, latency_s),
        finish_at_s=latency_s,
        latency_s=latency_s,
        usage=usage,
        **kwargs,
    )


def test_a_done_answer_is_one_row_with_these_values():
    row = grid(cell("qwen", DONE)).to_frame().iloc[0].to_dict()

    assert {name: row[name] for name in row if not pd.isna(row[name])} == {
        "label": "qwen",
        "model": "qwen3:8b",
        "server": "ollama",
        "base_url": LOCAL,
        "prompt_id": 0,
        "prompt": "p",
        "repeat": 0,
        "text": 'Scattering, as in "blue".\nThat is it; , \t done.',
        "reasoning": "Let me think.",
        "finish_reason": "stop",
        "status": "done",
        "warnings": "the answer was cut at max_tokens; a cold start",
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "token_source": "usage",
        "ttft_ms": 125.0,
        "ttft_text_ms": 250.0,
        "tpot_ms": 187.5,  # (500 - 125) / (3 - 1)
        "itl_p50_ms": 187.5,  # gaps of 125 and 250
        "itl_p95_ms": 243.75,  # 125 + 0.95 * 125
        "latency_s": 0.5,
        "output_tokens_per_s": 6.0,
        "decode_tokens_per_s": pytest.approx(1000 / 187.5),
        "load_s": 1.5,
        "cost_usd": 0.0,
        "concurrency": 2,
        "context": 4096,
        "tool_calls": 0,
    }


def test_a_failed_answer_is_a_row_whose_figures_are_missing():
    row = grid(cell("llama", FAILED)).to_frame().iloc[0]

    assert row["status"] == "failed"
    assert row["error"] == "The server was silent for 30 s.\nRaise timeout."
    assert row["error_type"] == "ServerTimeout"
    missing = [name for name in row.index if pd.isna(row[name])]
    assert missing == [
        "variant", "reasoning", "finish_reason", "warnings", "prompt_tokens", "completion_tokens", "token_source",
        "ttft_ms", "ttft_text_ms", "tpot_ms", "itl_p50_ms", "itl_p95_ms", "latency_s", "output_tokens_per_s",
        "decode_tokens_per_s", "load_s", "concurrency", "context",
    ]  # fmt: skip


def test_columns_stand_in_the_documented_order_with_their_dtypes():
    frame = grid(cell("qwen", DONE), cell("llama", FAILED)).to_frame()

    assert list(frame) == [
        "label", "model", "variant", "server", "base_url", "prompt_id", "prompt", "repeat", "text", "reasoning",
        "finish_reason", "status", "error", "error_type", "warnings", "prompt_tokens", "completion_tokens",
        "token_source", "ttft_ms", "ttft_text_ms", "tpot_ms", "itl_p50_ms", "itl_p95_ms", "latency_s",
        "output_tokens_per_s", "decode_tokens_per_s", "load_s", "cost_usd", "concurrency", "context",
        "tool_calls",
    ]  # fmt: skip
    expected = {column.name: column.dtype for column in COLUMNS} | {"prompt_id": "int64"}
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == expected


def test_an_empty_comparison_is_an_empty_frame_with_the_same_dtypes():
    full, empty = grid(cell("qwen", DONE)), Comparison(cells=(), labels=(), planned=0)

    assert empty.to_frame().dtypes.to_dict() == full.to_frame().dtypes.to_dict()
    assert empty.summary().dtypes.to_dict() == full.summary().dtypes.to_dict()
    assert len(empty.to_frame()) == len(empty.summary()) == len(empty.to_wide()) == 0


def test_the_frame_survives_parquet(tmp_path):
    frame = grid(cell("qwen", DONE), cell("llama", FAILED)).to_frame()
    frame.to_parquet(tmp_path / "answers.parquet")
    assert_frame_equal(pd.read_parquet(tmp_path / "answers.parquet"), frame)


def test_the_frame_survives_csv(tmp_path):
    frame = grid(cell("qwen", DONE), cell("llama", replace(FAILED, text="none"))).to_frame()
    frame.to_csv(tmp_path / "answers.csv", index=False)
    assert_frame_equal(pd.read_csv(tmp_path / "answers.csv", dtype=frame.dtypes.to_dict()), frame)


def test_half_a_character_in_an_answer_does_not_lose_the_table(tmp_path):
    comparison = grid(cell("q\ud83d", replace(DONE, text="half: \ud83d."), "id\udc00"))
    frame = comparison.to_frame()
    frame.to_parquet(tmp_path / "answers.parquet")

    assert frame["text"].item() == "half: \ufffd."
    assert frame["prompt_id"].item() == "id\ufffd"


@pytest.mark.parametrize(
    ("ids", "dtype", "expected"),
    [
        pytest.param([3, 7], "int64", [3, 7], id="integers"),
        pytest.param(["a", "b"], "str", ["a", "b"], id="text"),
        pytest.param([1, "a"], "str", ["1", "a"], id="mixed kinds become text"),
        pytest.param([("a", 1), ("a", 2)], "str", ["('a', 1)", "('a', 2)"], id="a MultiIndex becomes text"),
        pytest.param(list(pd.Index([1.5, 2.5])), "float64", [1.5, 2.5], id="floats"),
    ],
)
def test_prompt_labels_keep_their_kind(ids, dtype, expected, tmp_path):
    frame = grid(*(cell("m", DONE, i, prompt=f"p{i}") for i in ids)).to_frame()
    frame.to_parquet(tmp_path / "answers.parquet")

    assert frame["prompt_id"].dtype == dtype
    assert frame["prompt_id"].tolist() == expected


def test_dates_as_prompt_labels_stay_dates():
    day = pd.Timestamp("2026-01-02")
    assert grid(cell("m", DONE, day)).to_frame()["prompt_id"].item() == day


def test_a_summary_row_by_hand():
    warned = replace(answer(latency_s=4.0, tokens=10), warnings=("a cold start",))
    comparison = grid(
        cell("m", answer(latency_s=1.0, tokens=10), 0),
        cell("m", answer(latency_s=2.0, tokens=40), 1),
        cell("m", warned, 2),
        cell("m", FAILED, 3),
        cell("m", replace(FAILED, status="stopped", error=None, error_type=None), 4),
    )
    row = comparison.summary().loc["m"].to_dict()

    assert row == {
        "model": "qwen3:8b, llama",
        "server": "ollama, vllm",
        "n": 5,
        "done": 3,
        "failed": 1,
        "stopped": 1,
        "ttft_ms_p50": 1000.0,  # of 500, 1000, 2000
        "ttft_ms_p95": 1900.0,  # 1000 + 0.9 * 1000
        "tpot_ms_p50": pytest.approx(500 / 9),  # of 500/9, 1000/39, 2000/9
        "output_tokens_per_s_p50": 10.0,  # of 10, 20, 2.5
        "decode_tokens_per_s_p50": pytest.approx(18.0),  # 1000 * 9 / 500
        "latency_s_p50": 2.0,
        "latency_s_p95": 3.8,  # 2 + 0.9 * 2
        "completion_tokens_p50": 10.0,
        "completion_tokens_total": 60,
        "load_s": 1.5,
        "cost_usd": 0.0,
        "notes": "a cold start (1 of 5); The server was silent for 30 s. (1 of 5)",
    }


def test_a_total_is_missing_where_one_of_its_parts_is():
    comparison = grid(cell("m", answer(tokens=10), 0), cell("m", answer(tokens=None), 1))
    row = comparison.summary().loc["m"]

    assert pd.isna(row["completion_tokens_total"])
    assert row["completion_tokens_p50"] == 10.0
    assert row["notes"] == "the server counted tokens in 1 of 2 answers only"


def test_the_summary_keeps_the_order_of_the_labels_and_a_row_for_one_without_answers():
    comparison = replace(grid(cell("b", DONE), cell("a", DONE)), labels=("b", "a", "not run"))
    table = comparison.summary()

    assert list(table.index) == ["b", "a", "not run"]
    assert table.loc["not run", "n"] == 0
    assert pd.isna(table.loc["not run", "ttft_ms_p50"])
    assert list(table) == [column.name for column in SUMMARY][1:]


def test_wide_puts_the_answers_side_by_side_in_the_order_of_the_labels():
    comparison = grid(
        cell("b", answer("b0"), "x"), cell("a", answer("a0"), "x"), cell("b", answer("b1"), "w"), cell("a", FAILED, "w")
    )
    wide = comparison.to_wide()

    assert list(wide) == ["b", "a"]
    assert wide.index.name == "prompt_id"
    assert wide["b"].to_dict() == {"x": "b0", "w": "b1"}
    assert wide["a"].to_dict() == {"x": "a0", "w": ""}
    assert comparison.to_wide("latency_s")["b"].to_dict() == {"x": 1.0, "w": 1.0}
    assert str(comparison.to_wide("completion_tokens").dtypes["a"]) == "Int64"


def test_wide_has_a_level_for_repeats_only_where_there_are_several():
    comparison = grid(*(cell("m", answer(f"{p}{r}"), p, repeat=r) for p in (0, 1) for r in (0, 1)))

    assert comparison.to_wide().index.names == ["prompt_id", "repeat"]
    assert comparison.to_wide().loc[(1, 0), "m"] == "10"


def test_wide_leaves_a_gap_where_a_run_was_stopped():
    wide = grid(cell("a", answer("a0"), 0), cell("b", answer("b0"), 0), cell("a", answer("a1"), 1)).to_wide()

    assert wide["a"].tolist() == ["a0", "a1"]
    assert pd.isna(wide.loc[1, "b"])


def test_wide_tells_prompts_with_the_same_label_apart():
    comparison = grid(
        cell("a", answer("a0"), "same", prompt="first"),
        cell("b", answer("b1"), "same", prompt="second"),
        cell("a", answer("a1"), "same", prompt="second"),
    )
    wide = comparison.to_wide()

    assert wide.index.names == ["prompt_id", "prompt"]
    assert wide.loc[("same", "second")].to_dict() == {"a": "a1", "b": "b1"}


def test_wide_keeps_both_answers_to_a_prompt_that_stands_twice_under_one_label():
    comparison = grid(*(cell("a", answer(text), "same") for text in ("one", "two")))
    assert comparison.to_wide()["a"].tolist() == ["one", "two"]


def test_wide_by_an_unknown_column_names_the_nearest():
    with pytest.raises(BadInput, match="Did you mean 'ttft_ms'") as caught:
        grid(cell("a", DONE)).to_wide("ttft")
    assert "latency_s" in str(caught.value)


def test_tool_calls_are_counted():
    calls = (ToolCall(id="1", name="f", arguments="{}"), ToolCall(id="2", name="g", arguments="{}"))
    assert grid(cell("a", replace(DONE, tool_calls=calls))).to_frame()["tool_calls"].item() == 2


MILLION = Usage(prompt_tokens=1_000_000, completion_tokens=1_000_000)
HOSTED = replace(
    DONE,
    base_url="https://api.openai.com/v1",
    server="openai",
    model="gpt-4o-mini-2024-07-18",
    usage=MILLION,
    started_at="2025-06-01T12:00:00+00:00",
)


@pytest.mark.parametrize(
    ("generation", "expected"),
    [
        pytest.param(DONE, 0.0, id="Ollama on this machine"),
        pytest.param(replace(DONE, base_url="http://192.168.1.7:8000/v1", server="vllm"), 0.0, id="private network"),
        pytest.param(replace(DONE, server="embedded"), 0.0, id="embedded"),
        pytest.param(replace(DONE, model="gpt-oss:120b-cloud"), None, id="Ollama's cloud models run elsewhere"),
        pytest.param(replace(DONE, server="unknown"), None, id="a gateway on this machine may charge"),
        pytest.param(replace(DONE, base_url="http://models.example.com/v1", server="vllm"), None, id="somebody's vLLM"),
        pytest.param(HOSTED, 0.75, id="gpt-4o-mini at $0.15 in and $0.60 out"),
        pytest.param(
            replace(HOSTED, usage=Usage(prompt_tokens=1_000_000, completion_tokens=0, cached_tokens=500_000)),
            0.1125,
            id="half of the prompt cached, at $0.075",
        ),
        pytest.param(replace(HOSTED, usage=None), None, id="no counts"),
        pytest.param(replace(HOSTED, model="unheard-of", request=REQUEST), None, id="no such model in the list"),
        pytest.param(
            replace(HOSTED, request=replace(REQUEST, params={"service_tier": "flex"})), None, id="another tier's price"
        ),
        pytest.param(replace(HOSTED, base_url="http://[::bad"), None, id="an address that is none"),
    ],
)
def test_cost_by_hand(generation, expected):
    assert cost_usd(generation) == (None if expected is None else pytest.approx(expected))


def test_importing_the_display_loads_no_heavy_library():
    code = (
        "import sys, mamba_nb.display.html, mamba_nb.display.live, mamba_nb.display.frames, mamba_nb.display.plots\n"
        "heavy = {'pandas', 'numpy', 'IPython', 'altair', 'tqdm', 'genai_prices', 'openai', 'ipywidgets'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
