"""Tool calls that came as plain text are told from answers that only look like them."""

from __future__ import annotations

import json

import pytest

from mamba_nb.backends._call_as_text import calls_in_text, offered, warning

TOOLS = ["get_weather", "add"]
CALL = {"name": "get_weather", "arguments": {"city": "Paris"}}
TEXT = json.dumps(CALL)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"  {TEXT}\n",
        f"<tool_call>\n{TEXT}\n</tool_call>",
        f"<tool_call>{TEXT}",  # the closing tag is a stop word of some servers
        f"[TOOL_CALLS] [{TEXT}]",
        f"[TOOL_CALLS]{TEXT}",
        f"```json\n{TEXT}\n```",
        f"<|python_tag|>{TEXT}",
        '{"name": "get_weather", "parameters": {"city": "Paris"}}',
        '{"type": "function", "function": {"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}}',
        '<function=get_weather>{"city": "Paris"}</function>',
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>",
    ],
)
def test_every_way_of_writing_one_call_is_that_call(text):
    (call,) = calls_in_text(text, TOOLS)
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris"})


@pytest.mark.parametrize(
    "text",
    [
        f'<tool_call>{TEXT}</tool_call>\n<tool_call>{{"name": "add", "arguments": {{"a": 1}}}}</tool_call>',
        json.dumps([CALL, {"name": "add", "arguments": {"a": 1}}]),
        '<function=get_weather>{"city": "Paris"}</function><function=add>{"a": 1}</function>',
    ],
)
def test_several_calls_come_in_their_order(text):
    assert [call.name for call in calls_in_text(text, TOOLS)] == ["get_weather", "add"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "It is sunny in Paris.",
        f"I will call {TEXT}",
        f"<tool_call>{TEXT}</tool_call> Done.",
        '{"name": "other_tool", "arguments": {}}',
        f'[{TEXT}, {{"name": "other_tool", "arguments": {{}}}}]',
        f'[{TEXT}, "and more"]',
        '{"name": "get_weather"}',
        '{"name": "get_weather", "arguments": [1]}',
        '{"city": "Paris"}',
        '{"name": "get_weather", "arguments": {"city": ',
        "[]",
        "null",
        "17",
        "<tool_call></tool_call>",
        "<function=get_weather>not json</function>",
        TEXT + " " * 20_001 + TEXT,
    ],
)
def test_an_answer_is_no_call(text):
    assert calls_in_text(text, TOOLS) == ()


def test_without_tools_nothing_is_a_call():
    assert calls_in_text(TEXT, []) == ()


def test_the_offered_tools_are_read_from_the_request_whatever_it_holds():
    tools = [{"type": "function", "function": {"name": "add"}}, {"type": "web_search"}, "odd", {"function": None}]
    assert offered({"tools": tools}) == ["add"] and offered({}) == [] and offered({"tools": None}) == []


def test_the_warning_names_each_tool_once_and_what_to_do():
    calls = calls_in_text(json.dumps([CALL, CALL]), TOOLS)
    assert warning(calls).count("get_weather") == 1 and "--tool-call-parser" in warning(calls)
