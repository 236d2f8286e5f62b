"""Tools in the prompt: what the model is told and held to, and how its replies are read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import ModelRetry
from pydantic_ai.output import ToolOutput

from mamba_nb import Agent, embedded
from mamba_nb._agent.prompted_replies import AnswerStream, read
from mamba_nb._agent.prompted_tools import Prompted, prompted
from mamba_nb.agent import AgentError
from mamba_nb.backends import Fact, OpenAICompatibleBackend, create_embedded_backend
from mamba_nb.errors import ToolsNotSupported, WeightsMissing
from mamba_nb.records import ReasoningEnded, TextDelta
from mamba_nb.testing import Script, ScriptedServer

TEXT = {"type": "string"}


def shape(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def tool(name: str, description: str = "", **properties: Any) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": shape(**properties)},
    }


WEATHER = tool("get_weather", "The weather in a city now.", city=TEXT)
MULTIPLY = tool("multiply", "Multiply two numbers.", a={"type": "number"}, b={"type": "number"})
ASKED = {"role": "user", "content": "Rain in Paris?"}


def calls(*made: tuple[str, str, str]) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
            for id_, name, arguments in made
        ],
    }


def result(id_: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id_, "content": text}


def request(*messages: dict[str, Any], tools: Any = (WEATHER,), **more: Any) -> Prompted:
    return prompted({"messages": list(messages or (ASKED,)), "tools": list(tools), **more})


def schema(made: Prompted) -> Any:
    return made.response_format["json_schema"]["schema"]


class TestTheRequest:
    def test_each_tool_is_shown_as_the_reply_that_calls_it(self):
        made = request({"role": "system", "content": "Be brief."}, ASKED, tools=[WEATHER, MULTIPLY])
        assert made.messages == (
            {
                "role": "system",
                "content": "Be brief.\n\n"
                "You can use tools. Reply in JSON with one of these:\n"
                '{"tool": "get_weather", "arguments": {"city": string}} - The weather in a city now.\n'
                '{"tool": "multiply", "arguments": {"a": number, "b": number}} - Multiply two numbers.\n'
                '{"answer": "..."} - Answer the user.',
            },
            ASKED,
        )

    def test_parameters_are_described_where_the_tool_describes_them(self):
        city = {"type": "string", "description": "In English."}
        many = {"anyOf": [{"type": "array", "items": TEXT}, {"type": "null"}]}
        made = request(tools=[tool("f", "Do\n it.", city=city, kind={"enum": ["a", 1]}, many=many)])
        assert made.messages[0]["content"].splitlines()[1:3] == [
            '{"tool": "f", "arguments": {"city": string, "kind": "a"|1, "many": [string]|null}} - Do it.',
            "  city: In English.",
        ]

    def test_the_schema_leaves_a_call_of_each_tool_or_an_answer_the_name_first(self):
        made = request(tools=[WEATHER, MULTIPLY])
        assert made.response_format["type"] == "json_schema"
        assert schema(made) == {
            "anyOf": [
                shape(tool={"const": "get_weather"}, arguments=shape(city=TEXT)),
                shape(tool={"const": "multiply"}, arguments=shape(a={"type": "number"}, b={"type": "number"})),
                shape(answer=TEXT),
            ]
        }
        assert [list(each["properties"]) for each in schema(made)["anyOf"]] == [
            ["tool", "arguments"],
            ["tool", "arguments"],
            ["answer"],
        ]

    @pytest.mark.parametrize(
        ("choice", "kinds"),
        [
            pytest.param("auto", {"get_weather", "multiply", "answer"}, id="auto"),
            pytest.param("required", {"get_weather", "multiply"}, id="required: no answer"),
            pytest.param({"type": "function", "function": {"name": "multiply"}}, {"multiply"}, id="one tool"),
        ],
    )
    def test_the_choice_of_tool_narrows_the_schema_and_the_words(self, choice, kinds):
        made = request(tools=[WEATHER, MULTIPLY], tool_choice=choice)
        shapes = schema(made).get("anyOf", [schema(made)])
        assert {each["properties"].get("tool", {"const": "answer"})["const"] for each in shapes} == kinds
        system = made.messages[0]["content"]
        assert {name for name in ("get_weather", "multiply", '"answer"') if name in system} == {
            '"answer"' if kind == "answer" else kind for kind in kinds
        }

    def test_where_only_an_answer_is_left_text_is_asked_for_plainly(self):
        told = (ASKED, calls(("1", "get_weather", '{"city":"Paris"}')), result("1", "rain"))
        made = request({"role": "system", "content": "Be brief."}, *told, tool_choice="none")
        assert made.response_format is None
        assert made == prompted({"messages": [{"role": "system", "content": "Be brief."}, *told]}, answer_only=True)
        assert made.messages == (
            {"role": "system", "content": "Be brief.\n\nAnswer the question with the result of the tool."},
            ASKED,
            {"role": "assistant", "content": "I need the result of the tool."},
            {"role": "user", "content": "Result of get_weather: rain"},
        )
        assert read("It rains. ", made).answer == "It rains."
        assert read('{"answer": "It rains."}', made).answer == "It rains."
        assert [AnswerStream(made).feed(piece) for piece in (" It",)] == ["It"]

    def test_where_only_an_answer_with_a_schema_is_left_it_alone_is_allowed(self):
        city = {"type": "json_schema", "json_schema": {"name": "City", "schema": shape(name=TEXT)}}
        made = request(response_format=city, tool_choice="none")
        assert schema(made) == shape(answer=shape(name=TEXT))
        assert made.messages[0]["content"] == (
            'Answer the question with the result of the tool. Reply in JSON:\n{"answer": {"name": string}}'
        )

    def test_an_answer_with_a_schema_of_its_own_stands_in_the_reply(self):
        city = shape(name=TEXT, people={"type": "integer"})
        made = request(response_format={"type": "json_schema", "json_schema": {"name": "City", "schema": city}})
        assert schema(made)["anyOf"][1] == shape(answer=city)
        assert made.messages[0]["content"].endswith(
            '{"answer": {"name": string, "people": integer}} - Answer the user.'
        )

    def test_definitions_move_to_the_root_where_references_look_for_them(self):
        point = shape(x={"type": "number"})
        drawing = tool("draw", "Draw.")
        drawing["function"]["parameters"] = {
            **shape(at={"$ref": "#/$defs/Point"}, more={"type": "array", "items": {"$ref": "#/$defs/Line"}}),
            "$defs": {"Point": point, "Line": shape(start={"$ref": "#/$defs/Point"})},
        }
        made = request(tools=[drawing])
        assert schema(made)["$defs"] == {
            "draw.Point": point,
            "draw.Line": shape(start={"$ref": "#/$defs/draw.Point"}),
        }
        assert schema(made)["anyOf"][0]["properties"]["arguments"] == shape(
            at={"$ref": "#/$defs/draw.Point"}, more={"type": "array", "items": {"$ref": "#/$defs/draw.Line"}}
        )
        assert '"at": {"x": number}, "more": [{"start": {"x": number}}]' in made.messages[0]["content"]

    def test_a_schema_that_holds_itself_is_shown_and_does_not_loop(self):
        tree = tool("grow", "Grow.")
        tree["function"]["parameters"] = {
            **shape(root={"$ref": "#/$defs/Node"}),
            "$defs": {"Node": shape(left={"$ref": "#/$defs/Node"})},
        }
        assert '{"tool": "grow", "arguments": {"root": {"left":' in request(tools=[tree]).messages[0]["content"]


class TestTheConversation:
    def test_calls_and_results_are_plain_messages_by_turns(self):
        made = request(
            ASKED,
            calls(("1", "get_weather", '{"city":"Paris"}'), ("2", "get_weather", '{"city":"Rome"}')),
            result("1", "rain"),
            result("2", "sun"),
            {"role": "user", "content": "Be quick."},
        )
        assert made.messages[1:] == (
            ASKED,
            {
                "role": "assistant",
                "content": '{"tool": "get_weather", "arguments": {"city": "Paris"}}\n'
                '{"tool": "get_weather", "arguments": {"city": "Rome"}}',
            },
            {"role": "user", "content": "Result of get_weather: rain\n\nResult of get_weather: sun\n\nBe quick."},
        )

    def test_earlier_answers_are_shown_as_the_model_would_write_them(self):
        made = request(ASKED, {"role": "assistant", "content": "No."}, {"role": "user", "content": "And Rome?"})
        assert made.messages[2] == {"role": "assistant", "content": '{"answer": "No."}'}

    def test_pictures_stay_where_they_are(self):
        parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
        made = request({"role": "user", "content": parts}, {"role": "user", "content": "Well?"})
        assert [message["content"] for message in made.messages[1:]] == [parts, "Well?"]


class TestRepeats:
    DONE = (ASKED, calls(("1", "get_weather", '{"city":"Paris"}')), result("1", "rain"))
    AGAIN = '{"tool": "get_weather", "arguments": {"city": "Paris"}}'

    def test_the_same_call_with_the_same_arguments_is_a_repeat(self):
        made = request(*self.DONE)
        assert made.repeats(read(self.AGAIN, made))

    @pytest.mark.parametrize(
        ("messages", "text"),
        [
            pytest.param(DONE, '{"tool": "get_weather", "arguments": {"city": "Rome"}}', id="other arguments"),
            pytest.param((*DONE, {"role": "user", "content": "And now?"}), AGAIN, id="the user has spoken since"),
            pytest.param((*DONE[:2], result("1", '{"error":"try again"}')), AGAIN, id="it failed"),
            pytest.param(DONE, '{"answer": "rain"}', id="an answer"),
        ],
    )
    def test_nothing_else_is(self, messages, text):
        made = request(*messages)
        assert not made.repeats(read(text, made))

    def test_without_leave_to_answer_nothing_is(self):
        made = request(*self.DONE, tool_choice="required")
        assert not made.repeats(read(self.AGAIN, made))


class TestReading:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            pytest.param('{"tool": "f", "arguments": {"a": 1}}', ("f", '{"a": 1}', "", False), id="a call"),
            pytest.param('{"tool": "f"}', ("f", "{}", "", False), id="a call without arguments"),
            pytest.param('{"answer": "It rains."}', (None, "", "It rains.", False), id="an answer"),
            pytest.param('```json\n{"answer": "Yes"}\n```', (None, "", "Yes", False), id="in a fence"),
            pytest.param('{"answer": "two\nlines"}', (None, "", "two\nlines", False), id="a raw line end"),
            pytest.param("It rains.", (None, "", "It rains.", False), id="no JSON at all"),
            pytest.param('{"weather": "rain"}', (None, "", '{"weather": "rain"}', False), id="other JSON"),
            pytest.param("{rain} is {likely}", (None, "", "{rain} is {likely}", False), id="braces in text"),
            pytest.param('{"answer": "It rai', (None, "", "It rai", True), id="a cut answer"),
            pytest.param('{"tool": "f", "arguments": {"a": 1', ("f", '{"a": 1', "", True), id="a cut call"),
            pytest.param('{"tool": "get_w', ("get_w", "", "", True), id="a cut name"),
            pytest.param("", (None, "", "", False), id="nothing"),
        ],
    )
    def test_a_reply_is_a_call_an_answer_or_text(self, text, expected):
        reply = read(text, request())
        assert (reply.tool, reply.arguments, reply.answer, reply.cut) == expected

    def test_an_answer_with_a_schema_stays_json(self):
        city = {"type": "json_schema", "json_schema": {"name": "City", "schema": shape(name=TEXT)}}
        assert read('{"answer": {"name": "Åbo"}}', request(response_format=city)).answer == '{"name": "Åbo"}'

    def test_the_answers_text_is_given_out_as_it_grows(self):
        stream = AnswerStream(request())
        pieces = ['{"ans', 'wer": "It', " rai\\", "n", 's"', "}"]
        assert [stream.feed(piece) for piece in pieces] == ["", "It", " rai", "\n", "s", ""]
        assert stream.rest(read("".join(pieces), request())) == ""

    def test_of_a_call_nothing_is_given_out_and_of_plain_text_all_at_the_end(self):
        stream = AnswerStream(request())
        text = '{"tool": "f", "arguments": {"answer": "x"}}'
        assert stream.feed(text) == "" and stream.rest(read(text, request())) == ""
        stream.restart()
        assert stream.feed("It rains.") == "" and stream.rest(read("It rains.", request())) == "It rains."


# with an agent


def get_weather(city: str) -> str:
    """The weather in a city now."""
    return f"Rain in {city}."


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(Script(text='{"answer": "Take an umbrella."}')) as running:
        yield running


@pytest.fixture
def backend(server: ScriptedServer) -> Iterator[OpenAICompatibleBackend]:
    with OpenAICompatibleBackend("scripted-model", server.base_url, server="llamacpp", max_retries=0) as made:
        made.declared = {"supports_tools": Fact(False, "declared", "its template has none")}
        yield made


def call(name: str, /, **arguments: Any) -> Script:
    return Script(text=json.dumps({"tool": name, "arguments": arguments}))


class TestAgent:
    def test_a_tool_is_called_and_its_result_answered_without_tools_on_the_wire(self, server, backend):
        server.enqueue(call("get_weather", city="Paris"))
        found = Agent(backend, tools=[get_weather], tools_mode="prompted", system="Be brief.").run_sync("Umbrella?")
        assert found.output == "Take an umbrella."
        assert [str(used) for used in found.tool_calls] == ["get_weather(city='Paris') -> 'Rain in Paris.'"]
        first, second = (request.body for request in server.requests)
        assert sorted(first) == ["messages", "model", "response_format", "stream", "stream_options"]
        assert first["response_format"]["json_schema"]["strict"] is True
        assert [message["role"] for message in first["messages"]] == ["system", "user"]
        assert second["messages"][2:] == [
            {"role": "assistant", "content": '{"tool": "get_weather", "arguments": {"city": "Paris"}}'},
            {"role": "user", "content": "Result of get_weather: Rain in Paris."},
        ]
        assert repr(Agent(backend, tools=[get_weather], tools_mode="prompted")).endswith("tools get_weather, prompted>")

    def test_a_repeated_call_is_not_made_again_and_the_model_is_held_to_an_answer(self, server, backend):
        made: list[str] = []

        def look(city: str) -> str:
            """Look."""
            made.append(city)
            return "rain"

        server.enqueue(call("look", city="Paris"), call("look", city="Paris"), Script(text="Take an umbrella."))
        found = Agent(backend, tools=[look], tools_mode="prompted").run_sync("Umbrella?")
        assert (found.output, made) == ("Take an umbrella.", ["Paris"])
        assert found.usage.requests == 3 and found.usage.tool_calls == 1
        last = server.requests[2].body
        assert "response_format" not in last and "tools" not in last
        assert [message["content"] for message in last["messages"]] == [
            "Answer the question with the result of the tool.",
            "Umbrella?",
            "I need the result of the tool.",
            "Result of look: rain",
        ]

    def test_a_call_that_has_to_be_mended_may_be_repeated(self, server, backend):
        tries: list[str] = []

        def flaky(city: str) -> str:
            """Fail once."""
            tries.append(city)
            if len(tries) == 1:
                raise ModelRetry("Try that again.")
            return "rain"

        server.enqueue(call("flaky", city="Paris"), call("flaky", city="Paris"))
        found = Agent(backend, tools=[flaky], tools_mode="prompted").run_sync("Umbrella?")
        assert [used.error for used in found.tool_calls] == ["Try that again.", None]
        assert "Try that again." in server.requests[1].body["messages"][-1]["content"]

    def test_only_the_answers_text_is_streamed(self, server, backend):
        server.enqueue(call("get_weather", city="Paris"))
        run = Agent(backend, tools=[get_weather], tools_mode="prompted").run_stream("Umbrella?")
        texts = [event.text for event in run if isinstance(event, TextDelta)]
        assert texts == ["Take", " an", " umbrella."]

    def test_reasoning_that_shows_only_by_its_end_is_no_part_of_the_answer(self, server, backend):
        server.script = Script(
            reasoning='{"answer": "Hm"', text='{"answer": "Yes."}', reasoning_field="think_close_only"
        )
        run = Agent(backend, tools=[get_weather], tools_mode="prompted").run_stream("Umbrella?")
        texts = [event for event in run if isinstance(event, TextDelta | ReasoningEnded)]
        assert isinstance(texts[-2], ReasoningEnded) and texts[-1].text == "Yes."
        assert run.result().output == "Yes."

    def test_structured_output_is_the_answers_schema(self, server, backend):
        class City(BaseModel):
            name: str
            people: int

        server.enqueue(call("get_weather", city="Paris"), Script(text='{"answer": {"name": "Paris", "people": 2}}'))
        agent = Agent(backend, tools=[get_weather], tools_mode="prompted", output_type=City)
        assert agent.run_sync("Paris").output == City(name="Paris", people=2)
        answers = server.requests[0].body["response_format"]["json_schema"]["schema"]["anyOf"][1]
        assert answers == shape(answer=shape(name=TEXT, people={"type": "integer"}))

    def test_an_output_tool_is_a_tool_like_the_others(self, server, backend):
        class City(BaseModel):
            name: str

        server.enqueue(call("final_result", name="Paris"))
        agent = Agent(backend, tools=[get_weather], tools_mode="prompted", output_type=ToolOutput(City))
        assert agent.run_sync("Paris").output == City(name="Paris")
        shapes = server.requests[0].body["response_format"]["json_schema"]["schema"]["anyOf"]
        assert [each["properties"]["tool"]["const"] for each in shapes] == ["get_weather", "final_result"]

    def test_without_tools_nothing_is_added(self, server, backend):
        server.script = Script(text="Plain.")
        assert Agent(backend, tools_mode="prompted").run_sync("Hello!").output == "Plain."
        assert server.requests[0].body["messages"] == [{"role": "user", "content": "Hello!"}]
        assert "response_format" not in server.requests[0].body

    def test_a_server_that_ignores_the_schema_gives_its_text_as_the_answer(self, server, backend):
        server.script = Script(text="It rains.")
        run = Agent(backend, tools=[get_weather], tools_mode="prompted").run("Umbrella?")
        assert "".join(event.text for event in run if isinstance(event, TextDelta)) == "It rains."
        assert run.result().output == "It rains."

    def test_a_cut_answer_is_what_came_and_its_generation_says_why(self, server, backend):
        server.script = Script(text='{"answer": "Take an umb', finish_reason="length")
        found = Agent(backend, tools=[get_weather], tools_mode="prompted").run_sync("Umbrella?")
        assert found.output == "Take an umb"
        assert found.generations[0].finish_reason == "length"

    def test_a_cut_call_is_an_error_that_says_what_to_raise(self, server, backend):
        server.script = Script(text='{"tool": "get_weather", "arguments": {"city": "Par', finish_reason="length")
        with pytest.raises(AgentError, match="before its call of 'get_weather' was whole") as caught:
            Agent(backend, tools=[get_weather], tools_mode="prompted").run_sync("Umbrella?")
        assert "max_tokens" in str(caught.value)
        assert caught.value.partial is not None and len(caught.value.partial.generations) == 1

    def test_a_conversation_goes_on_in_the_other_mode(self, server, backend):
        server.enqueue(call("get_weather", city="Paris"))
        first = Agent(backend, tools=[get_weather], tools_mode="prompted").run_sync("Umbrella?")
        server.script = Script(text="Plain.")
        Agent(backend).run_sync("And now?", message_history=first)
        roles = [message["role"] for message in server.requests[-1].body["messages"]]
        assert roles == ["user", "assistant", "tool", "assistant", "user"]


@pytest.mark.real_model
def test_the_built_in_model_calls_a_tool_and_answers_with_its_result():
    weather = {"Oslo": "-3 °C, snow", "Lisbon": "24 °C, sunny"}

    def get_weather(city: str) -> str:
        """The weather in a city now."""
        return weather.get(city, "unknown")

    try:
        backend = create_embedded_backend(temperature=0, max_tokens=60, timeout=120.0, download=False)
    except WeightsMissing as error:
        pytest.skip(f"the built-in model's weights are not here: {error}")
    try:
        with pytest.raises(ToolsNotSupported, match="declared"):
            Agent(backend, tools=[get_weather])
        found = Agent(backend, tools=[get_weather], tools_mode="prompted").run_sync("What is the weather in Oslo?")
    finally:
        backend.close()
        embedded.stop(backend.model)
    assert [(used.name, used.arguments, used.result) for used in found.tool_calls] == [
        ("get_weather", {"city": "Oslo"}, "-3 °C, snow")
    ]
    assert "snow" in found.output
