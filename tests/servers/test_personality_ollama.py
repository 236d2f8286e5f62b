"""The Ollama personality: its native routes, what `/v1` loses, and the refusals in Ollama's own words."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from mamba_nb.testing import LoggedRequest, Script, ScriptedServer, ServerProcess
from mamba_nb.testing.styles.ollama_facts import full_name, keep_alive_s, seen_messages

CHAT = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "Why is it blue"}]  # four words
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
PIXEL = "data:image/png;base64,iVBORw0KGgo="
TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust the "
    "context length in settings, or use a model with a longer context length"
)


def call(server: Any, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str | None, str]:
    """Status, content type, body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, response.getheader("content-type"), response.read().decode()
    finally:
        connection.close()


def got(server: Any, path: str) -> Any:
    return json.loads(call(server, "GET", path)[2])


def posted(server: Any, path: str, **body: Any) -> Any:
    return json.loads(call(server, "POST", path, body)[2])


def lines(server: Any, path: str, **body: Any) -> list[Any]:
    return [json.loads(line) for line in call(server, "POST", path, body)[2].splitlines()]


def chat(server: Any, model: str = "m", **body: Any) -> Any:
    return posted(server, "/api/chat", **{"model": model, "messages": QUESTION, "stream": False, **body})


def events(server: Any, **body: Any) -> list[Any]:
    raw = call(server, "POST", CHAT, {"model": "m", "messages": QUESTION, "stream": True, **body})[2]
    return [json.loads(line[6:]) if line != "data: [DONE]" else "[DONE]" for line in raw.split("\n\n") if line]


class TestWhoItIs:
    def test_its_four_marks(self):
        with ScriptedServer(style="ollama", models="m") as server:
            assert call(server, "GET", "/") == (200, "text/plain; charset=utf-8", "Ollama is running")
            assert call(server, "HEAD", "/")[0] == 200
            assert got(server, "/api/version") == {"version": "0.33.0"}
            assert got(server, "/api/status") == {"cloud": {"disabled": False, "source": "none"}}

    def test_owned_by_is_the_namespace_of_the_name(self):
        with ScriptedServer(style="ollama", models=["m", "ann/mine:7b"]) as server:
            assert [(m["id"], m["owned_by"]) for m in got(server, "/v1/models")["data"]] == [
                ("m:latest", "library"),
                ("ann/mine:7b", "ann"),
            ]

    @pytest.mark.parametrize("path", ["/", "/api/tags", "/v1/models"])
    def test_a_foreign_host_name_gets_403_and_no_word(self, path):
        with ScriptedServer(style="ollama", models="m") as server:
            assert call(server, "GET", path, Host="models.example.org") == (403, None, "")
            for host in ("localhost:11434", "box.local", "host.docker.internal:11434", "192.168.1.7", "[::1]:80"):
                assert call(server, "GET", path, Host=host)[0] == 200
            assert call(server, "GET", path, Host="8.8.8.8")[0] == 403

    def test_so_does_a_chat(self):
        with ScriptedServer(style="ollama", models="m") as server:
            body = {"model": "m", "messages": QUESTION}
            assert call(server, "POST", CHAT, body, Host="models.example.org") == (403, None, "")
            assert call(server, "POST", "/api/chat", body, Host="models.example.org") == (403, None, "")
        with ScriptedServer(style="ollama", models="m", options={"any_host": True}) as server:
            assert call(server, "POST", CHAT, body, Host="models.example.org")[0] == 200

    def test_it_runs_in_a_process_of_its_own_with_everything_said_as_json(self):
        about = {"m": {"num_ctx": 2048, "capabilities": ["completion"]}}
        with ServerProcess(
            Script(text="a b"), style="ollama", models=["m"], about=about, options={"version": "0.20.1"}
        ) as server:
            assert got(server, "/api/version") == {"version": "0.20.1"}
            assert chat(server)["message"] == {"role": "assistant", "content": "a b"}
            assert got(server, "/api/ps")["models"][0]["context_length"] == 2048


class TestModels:
    def test_a_list_says_size_digest_details_and_capabilities(self):
        about = {
            "m": {"size": 5, "digest": "ab", "family": "qwen3", "parameter_size": "8.0B", "context_max": 40960},
            "nomic-embed-text": {},
        }
        with ScriptedServer(style="ollama", models=["m", "nomic-embed-text"], about=about) as server:
            first, second = got(server, "/api/tags")["models"]
        assert (first["name"], first["size"], first["digest"]) == ("m:latest", 5, "ab")
        assert first["details"] == {
            "parent_model": "",
            "format": "gguf",
            "family": "qwen3",
            "families": ["qwen3"],
            "parameter_size": "8.0B",
            "quantization_level": "Q4_K_M",
            "context_length": 40960,
            "embedding_length": 3072,
        }
        assert (first["capabilities"], second["capabilities"]) == (["completion", "tools"], ["embedding"])

    def test_a_model_in_full(self):
        about = {"m": {"num_ctx": 8192, "parameters": {"stop": ["<a>", "<b>"], "temperature": 0.6}, "family": "gemma3"}}
        with ScriptedServer(style="ollama", models="m", about=about) as server:
            shown = posted(server, "/api/show", model="m")
            assert shown["parameters"].splitlines() == [
                'stop                           "<a>"',
                'stop                           "<b>"',
                "temperature                    0.6",
                "num_ctx                        8192",
            ]
            assert shown["model_info"]["general.architecture"] == "gemma3"
            assert shown["model_info"]["gemma3.context_length"] == 131_072
            assert shown["model_info"]["tokenizer.ggml.tokens"] == []
            assert posted(server, "/api/show", name="m:latest", verbose=True)["model_info"]["tokenizer.ggml.tokens"]
            status, _, body = call(server, "POST", "/api/show", {"model": "nope"})
            assert (status, json.loads(body)) == (404, {"error": "model 'nope' not found"})
            assert call(server, "POST", "/api/show", {})[0] == 400

    def test_a_cloud_model_says_where_it_runs(self):
        about = {"big:cloud": {"remote_host": "https://ollama.com:443", "remote_model": "big"}}
        with ScriptedServer(Script(text="a"), style="ollama", models="big:cloud", about=about) as server:
            (entry,) = got(server, "/api/tags")["models"]
            assert (entry["remote_host"], entry["remote_model"], entry["size"]) == (
                "https://ollama.com:443",
                "big",
                384,
            )
            assert chat(server, "big:cloud")["remote_host"] == "https://ollama.com:443"
            server.options["signed_in"] = False
            status, _, body = call(server, "POST", "/api/chat", {"model": "big:cloud", "messages": QUESTION})
            assert (status, json.loads(body)["error"]) == (401, "unauthorized")
            assert json.loads(body)["signin_url"].startswith("https://ollama.com/")

    def test_a_copy_a_variant_and_a_delete(self):
        with ScriptedServer(style="ollama", models="m", about={"m": {"family": "qwen3"}}) as server:
            assert call(server, "POST", "/api/copy", {"source": "m", "destination": "n"})[::2] == (200, "")
            made = lines(server, "/api/create", model="m-8k", **{"from": "m"}, parameters={"num_ctx": 8192})
            assert made[-1] == {"status": "success"}
            assert "num_ctx                        8192" in posted(server, "/api/show", model="m-8k")["parameters"]
            tags = {entry["name"]: entry for entry in got(server, "/api/tags")["models"]}
            assert set(tags) == {"m:latest", "n:latest", "m-8k:latest"}
            assert tags["n:latest"]["digest"] == tags["m:latest"]["digest"] != tags["m-8k:latest"]["digest"]
            assert tags["m-8k:latest"]["details"]["family"] == "qwen3"
            assert call(server, "DELETE", "/api/delete", {"model": "m"})[::2] == (200, "")
            assert call(server, "DELETE", "/api/delete", {"model": "m"})[0] == 404
            assert "m" not in server.models

    def test_the_variants_context_is_in_force_on_v1(self):
        with ScriptedServer(style="ollama", models="m", about={"m-8k": {"num_ctx": 8192}}) as server:
            lines(server, "/api/create", model="m-8k", **{"from": "m"}, parameters={"num_ctx": 8192})
            events(server, model="m-8k")
            assert got(server, "/api/ps")["models"][0]["context_length"] == 8192


class TestChat:
    def test_a_stream_is_a_line_a_token_and_counts_in_nanoseconds_last(self):
        script = Script(reasoning="Hm.", text="Blue sky", ttft_s=0.02, itl_s=0.01)
        with ScriptedServer(script, style="ollama", models="m") as server:
            status, kind, _ = call(server, "POST", "/api/chat", {"model": "m", "messages": QUESTION})
            assert (status, kind) == (200, "application/x-ndjson")
            *pieces, last = lines(server, "/api/chat", model="m", messages=QUESTION)
        assert [piece["message"] for piece in pieces] == [
            {"role": "assistant", "content": "", "thinking": "Hm."},
            {"role": "assistant", "content": "Blue"},
            {"role": "assistant", "content": " sky"},
        ]
        assert not any(piece["done"] for piece in pieces)
        assert (last["done"], last["done_reason"], last["message"]["content"]) == (True, "stop", "")
        assert (last["prompt_eval_count"], last["eval_count"]) == (4, 3)
        assert (last["prompt_eval_duration"], last["eval_duration"]) == (20_000_000, 20_000_000)  # 0.02 s, two gaps
        assert last["total_duration"] >= 40_000_000 and last["load_duration"] > 0

    def test_a_whole_answer_is_one_object(self):
        with ScriptedServer(Script(reasoning="Hm.", text="Blue sky"), style="ollama", models="m") as server:
            answer = chat(server, think=True)
        assert answer["message"] == {"role": "assistant", "content": "Blue sky", "thinking": "Hm."}
        assert answer["model"] == "m" and answer["done"] and answer["created_at"].endswith("Z")

    def test_a_tool_call_has_its_arguments_as_an_object(self):
        calls = [{"name": "f", "arguments": {"city": "Paris"}}, {"name": "g", "arguments": "{}"}]
        with ScriptedServer(Script(tool_calls=calls), style="ollama", models="m") as server:
            first, second, last = lines(server, "/api/chat", model="m", messages=QUESTION, tools=TOOLS)
            whole = chat(server, tools=TOOLS)
        function = {"index": 0, "name": "f", "arguments": {"city": "Paris"}}
        assert first["message"]["tool_calls"] == [{"id": "call_0", "function": function}]
        assert second["message"]["tool_calls"][0]["function"]["index"] == 1
        assert last["done_reason"] == "stop"  # the native route has no tool_calls reason
        assert [c["function"]["name"] for c in whole["message"]["tool_calls"]] == ["f", "g"]

    def test_num_predict_cuts_the_answer(self):
        with ScriptedServer(Script(text="a b c d"), style="ollama", models="m") as server:
            answer = chat(server, options={"num_predict": 2})
        assert (answer["message"]["content"], answer["done_reason"], answer["eval_count"]) == ("a b", "length", 2)

    def test_think_false_keeps_the_thinking_out_but_not_that_of_gpt_oss(self):
        about = {"gpt-oss": {"family": "gptoss"}}
        script = Script(reasoning="Hm.", text="a")
        with ScriptedServer(script, style="ollama", models=["m", "gpt-oss"], about=about) as server:
            assert "thinking" not in chat(server, think=False)["message"]
            assert chat(server, "gpt-oss", think=False)["message"]["thinking"] == "Hm."
            assert not any(
                "reasoning" in c["choices"][0]["delta"] for c in events(server, reasoning_effort="none")[:-1]
            )

    def test_log_probabilities(self):
        with ScriptedServer(Script(text="a b"), style="ollama", models="m") as server:
            first, _, _ = lines(server, "/api/chat", model="m", messages=QUESTION, logprobs=True, top_logprobs=2)
            assert first["logprobs"][0]["token"] == "a" and len(first["logprobs"][0]["top_logprobs"]) == 2
            assert len(chat(server, logprobs=True)["logprobs"]) == 2

    def test_without_messages_it_loads_and_with_keep_alive_0_it_unloads(self):
        with ScriptedServer(style="ollama", models="m") as server:
            assert chat(server, messages=[])["done_reason"] == "load"
            assert server.loaded_models == ["m"]
            assert chat(server, messages=[], keep_alive=0)["done_reason"] == "unload"
            assert posted(server, "/api/generate", model="m", keep_alive="10m")["done_reason"] == "load"
            assert posted(server, "/api/generate", model="m", keep_alive="0s")["done_reason"] == "unload"
            assert server.loaded_models == []

    def test_a_prompt_without_messages(self):
        with ScriptedServer(Script(text="a b"), style="ollama", models="m") as server:
            *pieces, last = lines(server, "/api/generate", model="m", prompt="one two three", system="four")
        assert [piece["response"] for piece in pieces] == ["a", " b"]
        assert (last["response"], last["prompt_eval_count"]) == ("", 4)

    def test_the_prompts_cached_part_is_not_counted(self):
        with ScriptedServer(Script(text="a", cached_tokens=4), style="ollama", models="m") as server:
            assert "prompt_eval_count" not in chat(server)

    def test_a_queued_script_plays_on_the_native_route_too(self):
        with ScriptedServer(Script(text="standing"), style="ollama", models="m") as server:
            server.enqueue(Script(text="queued"))
            assert [chat(server)["message"]["content"] for _ in range(2)] == ["queued", "standing"]

    def test_an_error_in_mid_stream_is_a_line(self):
        with ScriptedServer(Script(text="a b", fault="error_mid_stream"), style="ollama", models="m") as server:
            first, last = lines(server, "/api/chat", model="m", messages=QUESTION)
            assert (first["message"]["content"], list(last)) == ("a", ["error"])
            assert call(server, "POST", "/api/chat", {"model": "m", "messages": QUESTION, "stream": False})[0] == 500

    @pytest.mark.parametrize("fault", ["cut", "reset"])
    def test_a_connection_that_breaks(self, fault):
        with (
            ScriptedServer(Script(text="a b", fault=fault), style="ollama", models="m") as server,
            pytest.raises((http.client.IncompleteRead, ConnectionError)),
        ):
            lines(server, "/api/chat", model="m", messages=QUESTION)

    def test_a_client_that_leaves_frees_the_slot(self):
        with ScriptedServer(Script(text="a b", itl_s=3600), style="ollama", models="m", slots=1) as server:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
            connection.request("POST", "/api/chat", json.dumps({"model": "m", "messages": QUESTION}))
            assert connection.getresponse().readline()
            connection.close()
            server.wait_for_disconnects(1)
            server.wait_idle()
            server.script = Script(text="c")
            assert chat(server)["message"]["content"] == "c"

    def test_embeddings(self):
        with ScriptedServer(style="ollama", models="m", context_length=3) as server:
            answer = posted(server, "/api/embed", model="m", input=["a", "b b"])
            assert (len(answer["embeddings"]), len(answer["embeddings"][0])) == (2, 8)
            assert answer["prompt_eval_count"] == 3
            assert len(posted(server, "/api/embed", model="m", input="a", dimensions=3)["embeddings"][0]) == 3
            assert posted(server, "/api/embed", model="m", input="a b c d e")["prompt_eval_count"] == 3
            status, _, body = call(
                server, "POST", "/api/embed", {"model": "m", "input": "a b c d e", "truncate": False}
            )
            assert (status, json.loads(body)) == (400, {"error": "the input length exceeds the context length"})
            assert len(posted(server, "/api/embeddings", model="m", prompt="a")["embedding"]) == 8


class TestContext:
    def test_num_ctx_is_in_force_and_another_one_loads_again(self):
        with ScriptedServer(Script(text="a"), style="ollama", models="m", load_s=0.01) as server:
            for num_ctx in (8192, 8192, 16_384):
                chat(server, options={"num_ctx": num_ctx})
            assert got(server, "/api/ps")["models"][0]["context_length"] == 16_384
            assert server.loads == 2
            events(server)  # /v1 has no place for it: back to the default, and a load more
            assert got(server, "/api/ps")["models"][0]["context_length"] == 4096
            assert server.loads == 3

    def test_it_is_the_modelfiles_where_the_request_says_nothing_and_never_beyond_the_longest(self):
        about = {"m": {"num_ctx": 8192, "context_max": 10_000}}
        with ScriptedServer(style="ollama", models="m", about=about) as server:
            events(server)
            assert got(server, "/api/ps")["models"][0]["context_length"] == 8192
            chat(server, options={"num_ctx": 99_999})
            assert got(server, "/api/ps")["models"][0]["context_length"] == 10_000

    def test_more_context_takes_more_memory(self):
        with ScriptedServer(style="ollama", models="m") as server:
            sizes = []
            for num_ctx in (4096, 8192):
                chat(server, options={"num_ctx": num_ctx})
                sizes.append(got(server, "/api/ps")["models"][0]["size"])
        assert sizes[1] - sizes[0] == 4096 * 114_688

    @pytest.mark.parametrize(
        ("version", "left"),
        [("0.33.0", 4 + (100 - 4) // 2), ("0.12.0", 100)],  # recorded in logs as limit=2050 and limit=4096 of 4096
    )
    def test_a_message_that_does_not_fit_is_cut_in_silence(self, version, left):
        long = [{"role": "user", "content": "word " * 500}]
        options = {"version": version}
        with ScriptedServer(
            Script(text="a"), style="ollama", models="m", context_length=100, options=options
        ) as server:
            answer = chat(server, messages=long)
            *_, finish, usage, _ = events(server, messages=long, stream_options={"include_usage": True})
        assert (answer["prompt_eval_count"], answer["done_reason"]) == (left, "stop")
        assert (usage["usage"]["prompt_tokens"], finish["choices"][0]["finish_reason"]) == (left, "stop")

    def test_the_oldest_messages_go_first_and_the_system_prompt_stays(self):
        system, *rest = ({"role": role, "content": "w " * 40} for role in ("system", "user", "assistant", "user"))
        with ScriptedServer(Script(text="a"), style="ollama", models="m", context_length=100) as server:
            assert chat(server, messages=[system, *rest])["prompt_eval_count"] == 80
        assert seen_messages([system, *rest], 100) == [system, rest[-1]]

    def test_a_tools_result_stays_with_its_call(self):
        asked, called = {"role": "user", "content": "w " * 9}, {"role": "assistant", "content": "w", "tool_calls": [{}]}
        result = {"role": "tool", "content": "w " * 9}
        assert seen_messages([asked, called, result], 10) == [called, result]

    def test_what_must_not_be_cut_is_refused(self):
        with ScriptedServer(Script(text="a"), style="ollama", models="m", context_length=3) as server:
            body = {"model": "m", "messages": QUESTION, "truncate": False, "shift": False}
            status, _, raw = call(server, "POST", "/api/chat", body)
            assert (status, json.loads(raw)) == (400, {"error": TOO_LONG})
            assert call(server, "POST", "/api/chat", {**body, "options": {"num_ctx": 4}})[0] == 200

    def test_a_script_can_answer_from_what_the_model_sees(self):
        def script(request: LoggedRequest) -> Script:
            seen = " ".join(message["content"] for message in seen_messages(request.body["messages"], 100))
            return Script(text="7341" if "7341" in seen else "unknown")

        needle, filler = {"role": "user", "content": "7341"}, {"role": "user", "content": "w " * 98}
        with ScriptedServer(script, style="ollama", models="m", context_length=100) as server:
            assert chat(server, messages=[needle, filler])["message"]["content"] == "7341"
            assert chat(server, messages=[needle, filler, *QUESTION])["message"]["content"] == "unknown"


class TestMemory:
    def test_keep_alive_is_the_time_to_its_end(self):
        with ScriptedServer(Script(text="a"), style="ollama", models="m") as server:
            chat(server, keep_alive=-1)
            assert int(got(server, "/api/ps")["models"][0]["expires_at"][:4]) > 2300
            chat(server, keep_alive=0)
            assert got(server, "/api/ps") == {"models": []}

    @pytest.mark.parametrize(
        ("given", "seconds"),
        [("10m", 600.0), ("1h30m", 5400.0), (90, 90.0), ("1.5s", 1.5), (0, 0.0), (None, 300.0), ("250ms", 0.25)],
    )
    def test_keep_alive_by_hand(self, given, seconds):
        assert keep_alive_s(given, 300.0) == seconds

    @pytest.mark.parametrize(
        ("given", "words"),
        [("10", 'time: missing unit in duration "10"'), ("soon", 'time: invalid duration "soon"'), (True, "bool")],
    )
    def test_a_time_that_is_none_is_refused(self, given, words):
        with ScriptedServer(style="ollama", models="m") as server:
            status, _, body = call(server, "POST", "/api/generate", {"model": "m", "keep_alive": given})
        assert status == 400 and words in json.loads(body)["error"]

    def test_a_model_that_does_not_fit(self):
        with ScriptedServer(style="ollama", models="m", about={"m": {"most_num_ctx": 8192}}) as server:
            assert "error" not in chat(server)
            status, _, body = call(
                server, "POST", "/api/chat", {"model": "m", "messages": QUESTION, "options": {"num_ctx": 16_384}}
            )
            assert status == 500
            assert json.loads(body)["error"].startswith("model requires more system memory (")
        with ScriptedServer(style="ollama", models="m", about={"m": {"load_error": "boom"}}) as server:
            assert chat(server) == {"error": "boom"}
            assert posted(server, CHAT, model="m", messages=QUESTION)["error"]["type"] == "api_error"


ABOUT = {
    "m": {"capabilities": ["completion"]},
    "bert": {"capabilities": ["embedding"]},
    "able": {"capabilities": ["completion", "tools", "thinking", "vision"]},
}


class TestRefusals:
    @pytest.mark.parametrize(
        ("model", "body", "status", "words"),
        [
            ("m", {"tools": TOOLS}, 400, "registry.ollama.ai/library/m:latest does not support tools"),
            ("m", {"think": True, "reasoning_effort": "low"}, 400, '"m" does not support thinking'),
            ("bert", {}, 400, '"bert" does not support chat'),
            ("m", {"top_logprobs": 21}, 400, "top_logprobs must be between 0 and 20"),
            ("nope", {}, 404, "model 'nope' not found"),
            ("able", {"tools": TOOLS, "think": "high"}, 200, None),
            ("m", {"think": False}, 200, None),
        ],
    )
    def test_on_both_routes_in_the_same_words(self, model, body, status, words):
        with ScriptedServer(style="ollama", models=["m", "bert", "able"], about=ABOUT) as server:
            for path in ("/api/chat", CHAT):
                sent = {"model": model, "messages": QUESTION, "stream": False, **body}
                came, _, raw = call(server, "POST", path, sent)
                assert came == status
                if words is not None:
                    error = json.loads(raw)["error"]
                    assert (error if path == "/api/chat" else error["message"]).startswith(words)

    def test_each_route_reads_its_own_word_for_thinking(self):
        with ScriptedServer(style="ollama", models="m", about=ABOUT) as server:
            assert "choices" in posted(server, CHAT, model="m", messages=QUESTION, think=True)
            assert chat(server, reasoning_effort="low")["done"] is True
            assert chat(server, think="hard")["error"].startswith('invalid think value: "hard" (must be "high", ')
            effort = posted(server, CHAT, model="m", messages=QUESTION, reasoning_effort="hard")["error"]["message"]
            assert effort.startswith('invalid reasoning value: \'hard\' (must be "max", "ultra", ')

    def test_an_embedding_model_does_not_generate(self):
        with ScriptedServer(style="ollama", models="bert", about=ABOUT) as server:
            assert posted(server, "/api/generate", model="bert", prompt="a") == {
                "error": '"bert" does not support generate'
            }

    def test_images(self):
        def image(url: str) -> list[dict[str, Any]]:
            return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]

        with ScriptedServer(style="ollama", models=["m", "able"], about=ABOUT) as server:
            refused = posted(server, CHAT, model="able", messages=image("https://example.org/a.png"))["error"]
            assert refused["message"] == (
                "image URLs are not currently supported, please use base64 encoded data instead"
            )
            assert posted(server, CHAT, model="able", messages=image("data:,x"))["error"]["message"] == (
                "invalid image input"
            )
            assert "choices" in posted(server, CHAT, model="able", messages=image(PIXEL))
            blind = call(server, "POST", CHAT, {"model": "m", "messages": image(PIXEL)})
            assert blind[0] == 500 and "missing data required for image input" in blind[2]
            assert call(server, "POST", "/api/chat", {"model": "m", "messages": [{**QUESTION[0], "images": ["iV"]}]})[
                0
            ] == (500)

    def test_a_full_queue(self):
        words = "server busy, please try again.  maximum pending requests exceeded"
        with ScriptedServer(style="ollama", models="m", options={"busy": True}) as server:
            assert call(server, "POST", CHAT, {"model": "m", "messages": QUESTION})[0] == 503
            assert chat(server) == {"error": words}

    def test_tool_choice_n_and_max_completion_tokens_are_ignored(self):
        with ScriptedServer(Script(text="a b c"), style="ollama", models="m") as server:
            body = {"model": "m", "messages": QUESTION, "tools": TOOLS, "tool_choice": "required", "n": 3}
            answer = posted(server, CHAT, **body, max_completion_tokens=1)
            assert [choice["message"]["content"] for choice in answer["choices"]] == ["a b c"]
            assert posted(server, CHAT, **body, max_tokens=1)["choices"][0]["message"]["content"] == "a"


class TestV1:
    def test_an_error_in_mid_stream_is_lost(self):
        script = Script(text="a b c d", fault="error_mid_stream", fault_after=2)
        with ScriptedServer(script, style="ollama", models="m") as server:
            came = events(server)
        assert [c["choices"][0]["delta"].get("content") for c in came] == ["a", " b", ""]
        assert all(c["choices"][0]["finish_reason"] is None for c in came)  # and no [DONE]

    def test_chunks_before_0_32_6_repeat_the_role_and_finish_with_the_last_token(self):
        with ScriptedServer(Script(text="a b"), style="ollama", models="m", options={"version": "0.32.5"}) as server:
            first, second, done = events(server)
        assert [c["choices"][0]["delta"]["role"] for c in (first, second)] == ["assistant", "assistant"]
        assert (second["choices"][0]["finish_reason"], done) == ("stop", "[DONE]")

    @pytest.mark.parametrize(
        ("version", "status", "rich", "type", "words"),
        [
            ("0.33.0", 200, True, "not_found_error", "model 'nope' not found"),
            ("0.16.1", 404, False, "not_found_error", "model 'nope' not found"),
            ("0.5.7", 404, False, "api_error", 'model "nope" not found, try pulling it first'),
        ],
    )
    def test_older_releases(self, version, status, rich, type, words):
        with ScriptedServer(style="ollama", models="m", options={"version": version}) as server:
            assert call(server, "GET", "/api/status")[0] == status
            (entry,) = got(server, "/api/tags")["models"]
            assert ("capabilities" in entry, "context_length" in entry["details"]) == (rich, rich)
            assert ("capabilities" in posted(server, "/api/show", model="m")) == (version != "0.5.7")
            error = posted(server, CHAT, model="nope", messages=QUESTION)["error"]
        assert (error["type"], error["message"]) == (type, words)


class TestPull:
    def test_layers_come_by_digest_and_the_model_is_served_afterwards(self):
        with ScriptedServer(style="ollama", models=[], options={"pull_bytes": 3_000_000}) as server:
            manifest, *layers, verifying, writing, success = lines(server, "/api/pull", model="new:1b")
            assert (manifest, success) == ({"status": "pulling manifest"}, {"status": "success"})
            assert (verifying["status"], writing["status"]) == ("verifying sha256 digest", "writing manifest")
            totals = {layer["digest"]: layer["total"] for layer in layers}
            assert sum(totals.values()) == 3_000_000
            assert "completed" not in layers[0] and layers[0]["status"] == f"pulling {layers[0]['digest'][7:19]}"
            assert {layer["digest"]: layer.get("completed") for layer in layers} == totals
            assert [entry["id"] for entry in got(server, "/v1/models")["data"]] == ["new:1b"]

    def test_without_a_stream_only_the_last_object(self):
        with ScriptedServer(style="ollama", models=[], options={"registry": ["a"]}) as server:
            assert posted(server, "/api/pull", model="a", stream=False) == {"status": "success"}
            status, _, body = call(server, "POST", "/api/pull", {"model": "b", "stream": False})
            assert (status, json.loads(body)) == (500, {"error": "pull model manifest: file does not exist"})

    def test_an_error_after_the_start_is_a_line_of_a_200(self):
        with ScriptedServer(style="ollama", models=[], options={"registry": []}) as server:
            status, _, body = call(server, "POST", "/api/pull", {"model": "nope"})
        assert status == 200
        assert body.splitlines()[1] == '{"error":"pull model manifest: file does not exist"}'

    def test_a_pull_that_is_left_goes_on_where_it_was(self):
        with ScriptedServer(style="ollama", models=[], options={"pull_s": 1.0, "pull_bytes": 100_000_000}) as server:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
            connection.request("POST", "/api/pull", json.dumps({"model": "a"}))
            response = connection.getresponse()
            for _ in range(4):
                reached = json.loads(response.readline()).get("completed", 0)
            response.close()
            connection.close()
            server.wait_for_disconnects(1)
            server.wait_idle()
            assert server.models == ()
            _, again, *_ = lines(server, "/api/pull", model="a")
            assert again["completed"] >= reached > 0
            assert server.models == ("a",)

    def test_a_pull_that_fails_goes_on_too(self):
        options = {"pull_error": "max retries exceeded: EOF", "pull_fails_at": 0.3, "pull_bytes": 100_000_000}
        with ScriptedServer(style="ollama", models=[], options=options) as server:
            assert lines(server, "/api/pull", model="a")[-1] == {"error": "max retries exceeded: EOF"}
            _, again, *_, last = lines(server, "/api/pull", model="a")
            assert (again["completed"] >= 30_000_000, last) == (True, {"status": "success"})


@pytest.mark.parametrize(
    ("model", "full"),
    [
        ("m", "registry.ollama.ai/library/m:latest"),
        ("ann/m:7b", "registry.ollama.ai/ann/m:7b"),
        ("hf.co/ann/m", "hf.co/ann/m:latest"),
    ],
)
def test_a_name_in_full(model, full):
    assert full_name(model) == full
