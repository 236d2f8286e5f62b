"""Agents on servers that differ: which tools are refused, how a structured answer is asked for, and who is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import NativeOutput, PromptedOutput, ToolOutput

from mamba_nb import Agent, embedded
from mamba_nb._agent.output_mode import choose
from mamba_nb.backends import Fact, ModelProfile, OpenAICompatibleBackend, create_ollama_backend
from mamba_nb.errors import AgentError, RequestRejected, ToolsNotSupported
from mamba_nb.testing import Script, ScriptedServer

NO_SCHEMA = {"error": {"message": "response_format of type json_schema is not supported", "type": "invalid_request"}}
NO_TOOLS = {"error": {"message": "scripted-model does not support tools", "type": "invalid_request_error"}}


class City(BaseModel):
    name: str
    people: int


PARIS = City(name="Paris", people=2)


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def plays(request: Any) -> Script:
    """A model that does what it is asked for, in whichever way."""
    body = request.body
    if "final_result" in [tool["function"]["name"] for tool in body.get("tools") or ()]:
        return Script(tool_calls=[{"name": "final_result", "arguments": {"name": "Paris", "people": 2}}])
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema", {})
    if "anyOf" in schema or '{"tool":' in body["messages"][0]["content"]:
        return Script(text='{"answer": {"name": "Paris", "people": 2}}')
    return Script(text='{"name": "Paris", "people": 2}')


@contextmanager
def backend_on(style: str = "plain", script: Any = plays, **options: Any) -> Iterator[tuple[Any, Any]]:
    with (
        ScriptedServer(script, style=style, options=options) as server,
        OpenAICompatibleBackend("scripted-model", server.base_url, max_retries=0) as backend,
    ):
        yield server, backend


def bodies(server: ScriptedServer) -> list[dict[str, Any]]:
    return [request.body for request in server.chats]


class TestTools:
    def test_the_refusal_names_the_models_of_this_server_that_can(self):
        about = {
            "smol": {"capabilities": ["completion"]},
            "qwen3:8b": {"capabilities": ["completion", "tools"]},
            "gemma3": {"capabilities": ["completion", "vision"]},
        }
        with (
            ScriptedServer(style="ollama", models=list(about), about=about) as server,
            create_ollama_backend("smol", base_url=server.base_url) as backend,
        ):
            with pytest.raises(ToolsNotSupported, match="declared") as caught:
                Agent(backend, tools=[add])
            assert str(caught.value).endswith("On this server these can: qwen3:8b.")
            assert server.chats == []

    @pytest.mark.parametrize("style", ["lmstudio", "llamacpp", "sglang"])
    def test_what_a_server_declares_refuses_tools_before_anything_is_sent(self, style):
        with backend_on(style) as (server, backend):
            with pytest.raises(ToolsNotSupported, match="declared"):
                Agent(backend, tools=[add])
            assert server.chats == []
            assert Agent(backend, tools=[add], tools_mode="prompted", output_type=City).run_sync("?").output == PARIS

    def test_a_toolset_is_refused_like_tools(self):
        from pydantic_ai import FunctionToolset

        with backend_on("llamacpp") as (_, backend), pytest.raises(ToolsNotSupported):
            Agent(backend, toolsets=[FunctionToolset([add])])

    def test_a_server_that_refuses_tools_only_when_asked_says_what_mends_it(self):
        with backend_on("vllm", tool_parser=None) as (_, backend):
            agent = Agent(backend, tools=[add])
            with pytest.raises(ToolsNotSupported, match="--tool-call-parser"):
                agent.run_sync("Go")

    def test_auto_is_native_where_nothing_speaks_against_it(self):
        with backend_on("vllm", Script(text="Three.")) as (server, backend):
            result = Agent(backend, tools=[add], tools_mode="auto").run_sync("Go")
            assert (result.output, result.tools_mode, result.notes) == ("Three.", "native", ())
            assert "tools" in bodies(server)[0]

    def test_auto_is_prompted_where_it_is_declared_that_there_are_none(self):
        with backend_on("llamacpp", Script(text='{"answer": "Three."}')) as (server, backend):
            result = Agent(backend, tools=[add], tools_mode="auto").run_sync("Go")
            assert (result.output, result.tools_mode, len(bodies(server))) == ("Three.", "prompted", 1)
            assert "prompted tools" in repr(result)

    def test_auto_goes_on_prompted_where_the_server_refuses_them_and_says_so(self):
        with backend_on("vllm", Script(text='{"answer": "Three."}'), tool_parser=None) as (server, backend):
            agent = Agent(backend, tools=[add], tools_mode="auto")
            result = agent.run_sync("Go")
            assert (result.output, result.tools_mode) == ("Three.", "prompted")
            assert result.usage.requests == 1 and len(result.started_at_s) == 1
            assert result.warnings[0].startswith("The server refused tools, so they went into the prompt")
            assert ["tools" in body for body in bodies(server)] == [True, False]
            assert repr(agent).endswith("tools add, auto>")

    def test_a_call_that_came_as_text_is_told(self):
        text = '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>'
        with backend_on(script=Script(text=text)) as (_, backend):
            result = Agent(backend, tools=[add]).run_sync("Go")
        assert result.tool_calls == ()
        assert "in plain text" in result.warnings[0]
        assert "! The model called add in plain text" in result._repr_mimebundle_()["text/plain"]

    def test_prompted_tools_do_without_a_schema_that_the_server_refuses(self):
        with backend_on(script=Script(text='{"answer": "Three."}')) as (server, backend):
            server.enqueue(Script(status=400, error_body=NO_SCHEMA))
            result = Agent(backend, tools=[add], tools_mode="prompted").run_sync("Go")
            assert result.output == "Three." and result.usage.requests == 1
            assert "refused a schema" in result.notes[0]
            assert ["response_format" in body for body in bodies(server)] == [True, False]


class TestOutputModes:
    @pytest.mark.parametrize(
        ("style", "options", "mode"),
        [
            ("ollama", {}, "native"),
            ("vllm", {}, "native"),
            ("vllm", {"tool_parser": None}, "native"),
            ("lmstudio", {}, "native"),
            ("llamacpp", {}, "native"),
            ("sglang", {}, "native"),
            ("plain", {}, "tool"),
        ],
    )
    def test_each_kind_of_server_is_asked_in_its_way_and_the_result_says_which(self, style, options, mode):
        with backend_on(style, **options) as (server, backend):
            result = Agent(backend, output_type=City).run_sync("Paris?")
            assert (result.output, result.output_mode) == (PARIS, mode)
            assert result.output_why
            assert ("response_format" in bodies(server)[-1]) is (mode == "native")
            words = {"native": "native schema", "tool": "output tool"}[mode]
            assert f"· {words} ·" in repr(result) and words in result._repr_mimebundle_()["text/plain"]

    def test_text_has_no_mode_to_tell(self):
        with backend_on(script=Script(text="Hi.")) as (_, backend):
            result = Agent(backend).run_sync("Hello")
        assert (result.output_mode, result.output_why, result.tools_mode) == ("text", None, None)

    @pytest.mark.parametrize(
        ("marker", "mode"), [(NativeOutput, "native"), (ToolOutput, "tool"), (PromptedOutput, "prompted")]
    )
    def test_what_the_output_type_says_itself_is_done(self, marker, mode):
        with backend_on("vllm") as (_, backend):
            result = Agent(backend, output_type=marker(City)).run_sync("Paris?")
        assert (result.output, result.output_mode, result.output_why) == (PARIS, mode, "output_type says so")

    def test_a_server_that_refuses_the_output_tool_gets_the_schema_in_the_prompt(self):
        with backend_on() as (server, backend):
            server.enqueue(Script(status=400, error_body=NO_TOOLS))
            result = Agent(backend, output_type=City).run_sync("Paris?")
            assert (result.output, result.output_mode) == (PARIS, "prompted")
            assert result.output_why == "the server refused the tool that the answer was to be"
            assert result.usage.requests == 1
            assert ["tools" in body for body in bodies(server)] == [True, False]
            assert "response_format" not in bodies(server)[1]

    def test_a_server_that_refuses_the_schema_gets_it_in_the_prompt(self):
        with backend_on("vllm") as (server, backend):
            server.enqueue(Script(status=400, error_body=NO_SCHEMA))
            result = Agent(backend, output_type=City).run_sync("Paris?")
            assert (result.output, result.output_mode) == (PARIS, "prompted")
            assert '"people"' in bodies(server)[1]["messages"][0]["content"]

    def test_a_guess_that_brings_no_call_is_given_up_for_a_schema_and_not_made_again(self):
        with backend_on() as (server, backend):
            server.enqueue(Script(text="Paris is large."), Script(text="Very large."))
            agent = Agent(backend, output_type=City)
            result = agent.run_sync("Paris?")
            assert (result.output, result.output_mode) == (PARIS, "native")
            assert "no call came" in result.output_why
            assert result.usage.requests == 3 and len(result.steps) == 3
            assert ["tools" in body for body in bodies(server)] == [True, True, False]
            assert agent.run_sync("Again?").usage.requests == 1

    def test_where_the_schema_is_refused_too_the_prompt_is_left(self):
        with backend_on() as (server, backend):
            server.enqueue(Script(text="Large."), Script(text="Large."), Script(status=400, error_body=NO_SCHEMA))
            result = Agent(backend, output_type=City).run_sync("Paris?")
            assert (result.output, result.output_mode, result.usage.requests) == (PARIS, "prompted", 3)

    def test_no_guess_is_made_where_tools_are_known_to_work(self):
        with backend_on(script=Script(text="Large.")) as (_, backend):
            backend.declared = {"supports_tools": Fact(True, "declared", "it says so")}
            with pytest.raises(AgentError, match="no usable answer") as caught:
                Agent(backend, output_type=City).run_sync("Paris?")
        assert caught.value.partial.output_mode == "tool"

    def test_a_mode_that_was_asked_for_is_not_changed(self):
        with backend_on("vllm") as (server, backend):
            server.enqueue(Script(status=400, error_body=NO_SCHEMA))
            with pytest.raises(RequestRejected):
                Agent(backend, output_type=NativeOutput(City)).run_sync("Paris?")

    def test_a_refused_answer_is_told_with_its_step(self):
        with backend_on("vllm") as (server, backend):
            server.enqueue(Script(text='{"name": "Paris", "people": "many"}'))
            result = Agent(backend, output_type=City).run_sync("Paris?")
        assert [step.refused is not None for step in result.steps] == [True, False]
        assert "people" in result.steps[0].refused

    def test_an_output_tool_that_was_refused_is_told_too(self):
        with backend_on() as (server, backend):
            server.enqueue(Script(tool_calls=[{"name": "final_result", "arguments": {"name": "Paris"}}]))
            result = Agent(backend, output_type=City).run_sync("Paris?")
        assert result.output == PARIS and "people" in result.steps[0].refused


class TestChoice:
    def profile(self, source: Any = "verified", **values: bool) -> ModelProfile:
        return ModelProfile(name="m").with_values(source, **values)

    def choice(self, profile: ModelProfile, server: str = "unknown", **how: bool) -> str:
        return choose(profile, server, **{"tools": False, "prompted_tools": False, **how}).mode

    def test_a_probe_wins_over_the_kind_of_server(self):
        assert self.choice(self.profile(), "ollama") == "native"
        assert self.choice(self.profile(supports_json_schema=False), "ollama") == "tool"
        assert self.choice(self.profile(supports_json_schema=False, supports_tools=False), "ollama") == "prompted"

    def test_the_kind_wins_over_a_table(self):
        assert self.choice(self.profile("claimed", supports_json_schema=False), "ollama") == "native"
        assert self.choice(self.profile("claimed", supports_json_schema=True)) == "native"

    def test_with_tools_a_schema_leaves_no_room_but_at_openai(self):
        assert self.choice(self.profile(supports_json_schema=True), "vllm", tools=True) == "tool"
        assert self.choice(self.profile(), "openai", tools=True) == "native"
        assert self.choice(self.profile(), "vllm", tools=True, prompted_tools=True) == "native"

    def test_the_reason_names_the_evidence(self):
        profile = ModelProfile(name="m").with_facts({"supports_json_schema": Fact(True, "verified", "2 of 2 fit")})
        assert choose(profile, "unknown", tools=False, prompted_tools=False).why == (
            "schemas work here: a probe showed it (2 of 2 fit)"
        )

    def test_json_is_asked_for_in_prompted_mode_where_a_probe_showed_that_it_works(self):
        profile = self.profile(supports_json_schema=False, supports_tools=False, supports_json_object=True)
        assert choose(profile, "unknown", tools=False, prompted_tools=False).json_object is True


class TestNames:
    def test_a_name_with_a_server_means_that_server(self):
        with ScriptedServer(Script(text="Hi."), style="ollama", models=["qwen3:8b"]) as server:
            for name in ("ollama/qwen3:8b", "ollama:qwen3:8b"):
                with Agent(name, base_url=server.base_url) as agent:
                    assert (agent.backend.model, agent.backend.server) == ("qwen3:8b", "ollama")
                    assert agent.run_sync("Hello").output == "Hi."

    def test_the_native_ollama_route_has_tools_and_schemas_too(self):
        about = {"qwen3:8b": {"capabilities": ["completion", "tools"]}}
        with (
            ScriptedServer(plays, style="ollama", models=["qwen3:8b"], about=about) as server,
            create_ollama_backend("qwen3:8b", base_url=server.base_url, num_ctx=8192) as backend,
        ):
            server.enqueue(Script(tool_calls=[{"name": "add", "arguments": {"a": 1, "b": 2}}]))
            server.enqueue(Script(text="Three."))
            result = Agent(backend, tools=[add]).run_sync("Go")
            assert [call.result for call in result.tool_calls] == [3]
            server.enqueue(Script(text='{"name": "Paris", "people": 2}'))
            assert Agent(backend, output_type=City).run_sync("Paris?").output == PARIS
            native = [request.body for request in server.requests if request.path == "/api/chat"]
            assert len(native) == 3
            assert native[0]["options"]["num_ctx"] == 8192 and "format" in native[-1]

    @pytest.mark.real_model
    def test_embedded_means_the_built_in_model(self):
        from mamba_nb.errors import WeightsMissing

        try:
            agent = Agent("embedded", max_tokens=8, temperature=0.0)
        except WeightsMissing as error:
            pytest.skip(f"the built-in model's weights are not here: {error}")
        try:
            assert agent.backend.server == "embedded" and agent.run_sync("Say hi.").output
        finally:
            agent.close()
            embedded.stop(agent.backend.model)
