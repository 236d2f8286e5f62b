"""Request parameters: what is taken, what is refused, and the form in which they travel."""

from __future__ import annotations

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_nb.backends._params import PARAMS, RANGES, checked, merged, to_wire
from mamba_nb.errors import BadInput


class TestChecked:
    def test_nothing_given_is_nothing_sent(self):
        assert checked({}) == {} and to_wire({}) == {}
        assert checked(dict.fromkeys(PARAMS)) == {}

    @pytest.mark.parametrize("name", ["temperature", "top_p", "presence_penalty", "frequency_penalty"])
    def test_whole_numbers_are_numbers(self, name):
        assert checked({name: 1}) == {name: 1}

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("temperature", 2.1),
            ("temperature", -0.1),
            ("temperature", "0.7"),
            ("temperature", True),
            ("temperature", float("nan")),
            ("temperature", float("inf")),
            ("temperature", 1j),
            ("top_p", 1.5),
            ("max_tokens", 0),
            ("max_tokens", -1),
            ("max_tokens", 1.0),
            ("max_tokens", True),
            ("max_completion_tokens", 0),
            ("seed", 1.5),
            ("seed", "1"),
            ("top_logprobs", 21),
            ("top_logprobs", -1),
            ("logprobs", 1),
            ("presence_penalty", 2.5),
            ("stop", 1),
            ("stop", ["a", 1]),
            ("stop", {"a"}),
            ("logit_bias", [1]),
            ("logit_bias", {"1": {1}}),
            ("tools", {"type": "function"}),
            ("tools", [len]),
            ("tool_choice", 1),
            ("parallel_tool_calls", "yes"),
            ("response_format", "json"),
            ("response_format", int),
            ("reasoning_effort", 1),
            ("extra_body", [("top_k", 1)]),
            ("extra_body", {"top_k": object()}),
        ],
    )
    def test_a_value_that_cannot_be_meant_is_refused_by_name(self, name, value):
        with pytest.raises(BadInput, match=name):
            checked({name: value})

    @pytest.mark.parametrize(("name", "limits"), RANGES.items())
    def test_the_limits_of_a_range_are_within_it(self, name, limits):
        for limit in limits:
            if limit != float("inf"):
                assert checked({name: limit}) == {name: limit}

    @given(st.floats(0, 2))
    def test_every_temperature_in_its_range_passes_unchanged(self, value):
        assert checked({"temperature": value}) == {"temperature": value}

    @given(
        st.one_of(st.floats(max_value=0, exclude_max=True), st.floats(min_value=2, exclude_min=True), st.just(np.nan))
    )
    def test_no_temperature_outside_its_range_passes(self, value):
        with pytest.raises(BadInput):
            checked({"temperature": value})

    @pytest.mark.parametrize(
        ("name", "near"),
        [("temprature", "temperature"), ("max_token", "max_tokens"), ("response_fromat", "response_format")],
    )
    def test_a_misspelt_name_is_guessed(self, name, near):
        with pytest.raises(BadInput, match=f"Did you mean '{near}'"):
            checked({name: 1})

    def test_a_servers_own_parameter_is_sent_to_extra_body(self):
        with pytest.raises(BadInput, match=r"extra_body=\{'typical_p': \.\.\.\}"):
            checked({"typical_p": 0.1})

    def test_several_answers_from_one_request_are_refused_with_the_way_to_get_them(self):
        with pytest.raises(BadInput, match="repeats=n"):
            checked({"n": 2})

    def test_the_message_says_what_it_must_be_in_words(self):
        with pytest.raises(BadInput, match=r"temperature must be a number; this is str: 'hot'"):
            checked({"temperature": "hot"})
        with pytest.raises(BadInput, match=r"max_tokens must be a whole number; this is float: 1\.5"):
            checked({"max_tokens": 1.5})
        with pytest.raises(BadInput, match=r"max_tokens must be at least 1; this is 0"):
            checked({"max_tokens": 0})
        with pytest.raises(BadInput, match=r"top_p must be from 0 to 1; this is 3"):
            checked({"top_p": 3})


class TestForm:
    @pytest.mark.parametrize(
        ("name", "value", "plain"),
        [
            ("max_tokens", np.int64(5), 5),
            ("seed", np.uint8(5), 5),
            ("temperature", np.float64(0.5), 0.5),
            ("temperature", np.float32(0.5), 0.5),
            ("temperature", np.int32(1), 1),
        ],
    )
    def test_numbers_of_numpy_become_pythons(self, name, value, plain):
        result = checked({name: value})[name]
        assert result == plain and type(result) is type(plain)

    def test_tuples_become_lists(self):
        tool = {"type": "function", "function": {"name": "f"}}
        assert checked({"stop": ("a", "b"), "tools": (tool,)}) == {"stop": ["a", "b"], "tools": [tool]}

    def test_a_pydantic_model_becomes_a_schema(self):
        class City(pydantic.BaseModel):
            name: str

        assert checked({"response_format": City})["response_format"] == {
            "type": "json_schema",
            "json_schema": {
                "name": "City",
                "schema": {
                    "title": "City",
                    "type": "object",
                    "properties": {"name": {"title": "Name", "type": "string"}},
                    "required": ["name"],
                },
            },
        }

    def test_values_are_copies(self):
        extra = {"options": {"num_ctx": 8192}}
        taken = checked({"extra_body": extra})
        extra["options"]["num_ctx"] = 1
        assert taken["extra_body"] == {"options": {"num_ctx": 8192}}

    def test_extra_body_is_laid_over_the_others(self):
        assert to_wire({"temperature": 0.5, "seed": 1, "extra_body": {"top_k": 5, "seed": 2}}) == {
            "temperature": 0.5,
            "seed": 2,
            "top_k": 5,
        }


class TestMerged:
    def test_what_is_given_wins(self):
        assert merged({"temperature": 0.1, "seed": 1}, {"temperature": 0.9}) == {"temperature": 0.9, "seed": 1}

    def test_extra_bodies_are_merged_and_the_originals_left_alone(self):
        base, given_now = {"extra_body": {"a": 1, "b": 1}}, {"extra_body": {"b": 2}}
        assert merged(base, given_now) == {"extra_body": {"a": 1, "b": 2}}
        assert base == {"extra_body": {"a": 1, "b": 1}} and given_now == {"extra_body": {"b": 2}}

    @pytest.mark.parametrize("base", [{}, {"extra_body": {"a": 1}}])
    @pytest.mark.parametrize("given_now", [{}, {"extra_body": {"a": 1}}])
    def test_one_extra_body_alone_stays_as_it_is(self, base, given_now):
        assert merged(base, given_now) == {**base, **given_now}
