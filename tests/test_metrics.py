"""The definitions of TTFT, ITL, TPOT and throughput, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_nb import metrics


def test_ttft_is_the_first_chunk():
    assert metrics.ttft_ms([0.25, 0.5, 2.0]) == 250.0
    assert metrics.ttft_ms((0.0,)) == 0.0
    assert metrics.ttft_ms([]) is None


def test_itl_is_the_gap_between_neighbours():
    assert metrics.itl_ms([0.25, 0.5, 1.0, 1.0]) == [250.0, 500.0, 0.0]
    assert metrics.itl_ms([0.25]) == [] and metrics.itl_ms([]) == []


@pytest.mark.parametrize(
    ("chunk_at_s", "end_at_s", "completion_tokens", "expected_ms"),
    [
        pytest.param([0.25, 0.5, 0.75], 0.75, 3, 250.0, id="one token per chunk"),
        pytest.param([0.25, 0.5, 0.75], 1.25, 3, 500.0, id="the finish reason comes later"),
        pytest.param([0.5, 1.0], 1.0, 5, 125.0, id="two chunks, five tokens"),
        pytest.param([0.5, 1.0], 1.0, 2, 500.0, id="two tokens"),
        pytest.param([0.5], 0.5, 1, None, id="a single token has no gap"),
        pytest.param([0.5], 1.5, 9, None, id="a single chunk has no interval, however many tokens"),
        pytest.param([0.5, 1.0], 1.0, 1, None, id="two chunks said to be one token"),
        pytest.param([0.5, 1.0], None, 5, None, id="no finish reason"),
        pytest.param([0.5, 1.0], 1.0, None, None, id="nobody counted"),
        pytest.param([], 0.5, 0, None, id="an empty answer"),
    ],
)
def test_tpot_leaves_the_first_token_out(chunk_at_s, end_at_s, completion_tokens, expected_ms):
    assert metrics.tpot_ms(chunk_at_s, end_at_s, completion_tokens) == expected_ms


def test_an_end_before_the_last_chunk_is_refused():
    with pytest.raises(ValueError, match="on one clock"):
        metrics.tpot_ms([0.5, 1.0], 0.9, 3)


@pytest.mark.parametrize(
    ("tokens", "latency_s", "expected"),
    [(50, 2.0, 25.0), (1, 0.5, 2.0), (0, 2.0, None), (None, 2.0, None), (5, None, None)],
)
def test_throughput_is_over_the_whole_latency(tokens, latency_s, expected):
    assert metrics.output_tokens_per_s(tokens, latency_s) == expected


def test_a_latency_of_nothing_gives_no_throughput():
    assert metrics.output_tokens_per_s(5, 0.0) is None


def test_decoding_speed_is_the_inverse_of_tpot():
    assert metrics.decode_tokens_per_s(20.0) == 50.0
    assert metrics.decode_tokens_per_s(None) is None and metrics.decode_tokens_per_s(0.0) is None


def test_percentiles_by_hand():
    assert metrics.percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.5
    assert metrics.percentile([1.0, 2.0, 3.0, 4.0], 95) == pytest.approx(3.85)
    assert metrics.percentile([7.0], 95) == 7.0
    assert metrics.percentile([1.0, 2.0], 0) == 1.0 and metrics.percentile([1.0, 2.0], 100) == 2.0
    assert metrics.percentile([], 50) is None


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.integers(0, 100))
def test_percentiles_are_numpys(values, q):
    assert metrics.percentile(values, q) == pytest.approx(float(np.percentile(values, q)), rel=1e-9, abs=1e-6)
