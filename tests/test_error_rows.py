"""The errors people meet most, each played with the exact words of the server: cause, fix, and its own words kept.

The rows are numbered as in the table of symptoms they come from; the bodies are those of Ollama 0.33, vLLM 0.32, LM
Studio 0.4, llama.cpp b11434 and OpenAI, and of older releases where those differ.
"""

from __future__ import annotations

import contextlib
import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from default_ports import servers_on_default_ports

from mamba_nb import errors
from mamba_nb.backends import OpenAICompatibleBackend
from mamba_nb.testing import Script, ScriptedServer, closed_port

MODEL = "qwen2.5:7b"
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


def openai_error(message: str, type: str = "invalid_request_error", code: Any = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


@dataclass(frozen=True)
class Row:
    number: int
    style: str
    status: int
    body: Any
    error: type[errors.MambaError]
    cause: str
    fix: str
    says: str | None = None  # None: the message in the body
    model: str = MODEL
    key: str | None = None


ROWS = [
    Row(3, "llamacpp", 404, "File Not Found", errors.EndpointNotFound, "no OpenAI endpoint", "base_url"),
    Row(3, "ollama", 404, "404 page not found", errors.EndpointNotFound, "no OpenAI endpoint", "base_url"),
    Row(3, "vllm", 404, {"detail": "Not Found"}, errors.EndpointNotFound, "no OpenAI endpoint", "base_url"),
    Row(3, "vllm", 405, {"detail": "Method Not Allowed"}, errors.EndpointNotFound, "no OpenAI endpoint", "base_url"),
    Row(
        3,
        "lmstudio",
        200,
        {"error": "Unexpected endpoint or method. (POST /chat/completions)"},
        errors.EndpointNotFound,
        "no OpenAI endpoint",
        "base_url",
    ),
    Row(
        5,
        "llamacpp",
        401,
        openai_error("Invalid API Key", "authentication_error", 401),
        errors.AuthenticationFailed,
        "wants an API key",
        "LLAMA_API_KEY",
    ),
    Row(
        5,
        "vllm",
        401,
        {"error": "Unauthorized"},
        errors.AuthenticationFailed,
        "wants another API key",
        "VLLM_API_KEY",
        key="wrong-key-123",
    ),
    Row(
        5,
        "lmstudio",
        401,
        {
            "error": {
                "type": "invalid_request",
                "code": "invalid_api_key",
                "message": "An LM Studio API token is required to make requests to this server, but none was provided "
                "using the Authorization header using the 'Bearer' scheme",
            }
        },
        errors.AuthenticationFailed,
        "wants an API key",
        "API tokens",
    ),
    Row(
        5,
        "plain",
        401,
        openai_error(
            "Incorrect API key provided: not-need*d. You can find your API key at "
            "https://platform.openai.com/account/api-keys.",
            code="invalid_api_key",
        ),
        errors.AuthenticationFailed,
        "API key",
        "comes from OpenAI, not from a local server",
        says="platform.openai.com",
    ),
    Row(
        6,
        "ollama",
        404,
        openai_error(f"model '{MODEL}' not found", "not_found_error"),
        errors.ModelNotFound,
        f"does not have a model called '{MODEL}'",
        f"ollama pull {MODEL}",
    ),
    Row(
        6,
        "ollama",
        404,
        openai_error('model "llama3.2" not found, try pulling it first', "api_error"),
        errors.ModelNotFound,
        "does not have a model called 'llama3.2'",
        "means 'llama3.2:latest'",
        model="llama3.2",
    ),
    Row(
        7,
        "vllm",
        404,
        openai_error(f"The model `{MODEL}` does not exist.", "NotFoundError", 404),
        errors.ModelNotFound,
        "It has: served-one, served-two",
        "--served-model-name",
    ),
    Row(
        8,
        "lmstudio",
        404,
        openai_error(
            "No models loaded. Please load a model in the developer page or use the 'lms load' command.",
        ),
        errors.ModelNotFound,
        "It has: served-one, served-two",
        "lms load",
    ),
    Row(
        11,
        "ollama",
        503,
        openai_error("server busy, please try again.  maximum pending requests exceeded", "api_error"),
        errors.RateLimited,
        "queue",
        "OLLAMA_NUM_PARALLEL",
    ),
    Row(
        12,
        "ollama",
        400,
        openai_error(f"registry.ollama.ai/library/{MODEL} does not support tools"),
        errors.ToolsNotSupported,
        "cannot call tools",
        'tools_mode="prompted"',
    ),
    Row(
        12,
        "ollama",
        400,
        openai_error(f"registry.ollama.ai/library/{MODEL} does not support tools", "api_error"),
        errors.ToolsNotSupported,
        "cannot call tools",
        "leave the tools out",
    ),
    Row(
        12,
        "ollama",
        400,
        openai_error(f'"{MODEL}" does not support thinking'),
        errors.RequestRejected,
        "no thinking to turn on",
        "think=False",
    ),
    Row(
        12,
        "ollama",
        400,
        openai_error('"nomic-embed-text" does not support chat'),
        errors.RequestRejected,
        "is an embedding model",
        "backend.embed",
        model="nomic-embed-text",
    ),
    Row(
        12,
        "ollama",
        400,
        openai_error("Pull the model again to get the latest version with full thinking support"),
        errors.RequestRejected,
        "too old to think",
        f"ollama pull {MODEL}",
    ),
    Row(
        13,
        "vllm",
        400,
        openai_error(
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
            "BadRequestError",
            400,
        ),
        errors.ToolsNotSupported,
        "cannot call tools",
        "--enable-auto-tool-choice --tool-call-parser hermes",
        model="Qwen/Qwen2.5-7B-Instruct",
    ),
    Row(
        13,
        "vllm",
        400,
        openai_error('tool_choice="required" requires --tool-call-parser to be set', "BadRequestError", 400),
        errors.ToolsNotSupported,
        "cannot call tools",
        "--tool-call-parser openai",
        model="openai/gpt-oss-20b",
    ),
    Row(
        15,
        "llamacpp",
        500,
        openai_error(
            "The model produced output that does not match the expected peg-native format", "server_error", 500
        ),
        errors.ServerFailed,
        "no valid tool call",
        "lower the temperature",
    ),
    Row(
        16,
        "llamacpp",
        500,
        openai_error("tools param requires --jinja flag", "server_error", 500),
        errors.ToolsNotSupported,
        "cannot call tools",
        "--jinja",
    ),
    Row(
        17,
        "llamacpp",
        400,
        {
            "error": {
                "code": 400,
                "message": "request (454 tokens) exceeds the available context size (256 tokens), try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 454,
                "n_ctx": 256,
            }
        },
        errors.ContextOverflow,
        "The prompt has 454 tokens; the context in force",
        "larger `-c`, or fewer slots (`-np`)",
    ),
    Row(
        18,
        "vllm",
        400,
        openai_error(
            "This model's maximum context length is 40960 tokens. However, your prompt contains at least 40961 input "
            "tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input "
            "prompt. (parameter=input_tokens, value=40961)",
            "BadRequestError",
            400,
        ),
        errors.ContextOverflow,
        "The prompt has 40,961 tokens; the context in force",
        "--max-model-len",
    ),
    Row(
        18,
        "vllm",
        400,
        openai_error(
            "max_tokens=100000 cannot be greater than max_model_len=2048. Please request fewer output tokens. "
            "(parameter=max_tokens, value=100000)",
            "BadRequestError",
            400,
        ),
        errors.ContextOverflow,
        "is 2,048",
        "lower max_tokens",
    ),
    Row(
        19,
        "lmstudio",
        400,
        {"error": "Cannot truncate prompt with n_keep (15028) >= n_ctx (4096)"},
        errors.ContextOverflow,
        "The prompt has 15,028 tokens; the context in force",
        f"lms load {MODEL} --context-length",
    ),
    Row(
        19,
        "lmstudio",
        400,
        {
            "error": "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded "
            "with context length of only 4096 tokens, which is not enough."
        },
        errors.ContextOverflow,
        "The prompt has 5,000 tokens; the context in force",
        "lms load",
    ),
    Row(
        21,
        "ollama",
        400,
        openai_error("image URLs are not currently supported, please use base64 encoded data instead"),
        errors.RequestRejected,
        "no addresses of images",
        "Path(",
    ),
    Row(
        21,
        "llamacpp",
        500,
        openai_error(
            "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
            "server_error",
            500,
        ),
        errors.RequestRejected,
        "does not take images",
        "--mmproj",
    ),
    Row(
        21,
        "vllm",
        400,
        openai_error("smollm2 is not a multimodal model", "BadRequestError", 400),
        errors.RequestRejected,
        "does not take images",
        "reads images",
    ),
    Row(
        23,
        "ollama",
        500,
        openai_error("model requires more system memory (10.2 GiB) than is available (4.1 GiB)", "api_error"),
        errors.ServerFailed,
        "not enough memory",
        "smaller quantisation",
    ),
    Row(
        23,
        "ollama",
        500,
        openai_error("cudaMalloc failed: out of memory", "api_error"),
        errors.ServerFailed,
        "not enough memory",
        "num_ctx=",
    ),
    Row(
        23,
        "ollama",
        500,
        openai_error("timed out waiting for llama-server to start", "api_error"),
        errors.ServerFailed,
        "could not load",
        "short of memory",
    ),
    Row(
        23,
        "ollama",
        500,
        openai_error("llama runner process has terminated: exit status 2", "api_error"),
        errors.ServerFailed,
        "could not load",
        "Its log says more",
    ),
    Row(
        23, "lmstudio", 400, {"error": "Failed to load model"}, errors.ServerFailed, "could not load", "short of memory"
    ),
    Row(
        27,
        "plain",
        400,
        "Client sent an HTTP request to an HTTPS server.",
        errors.ServerUnreachable,
        "speaks TLS",
        "Use https://, not http://",
    ),
    Row(
        28,
        "plain",
        400,
        openai_error("`top_logprobs` requires `logprobs` to be set to `true`"),
        errors.RequestRejected,
        "top_logprobs needs logprobs=True",
        "Pass logprobs=True too",
    ),
    Row(
        28,
        "plain",
        400,
        openai_error(
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            code="unsupported_parameter",
        ),
        errors.RequestRejected,
        "takes max_completion_tokens instead of max_tokens",
        "Pass max_completion_tokens=",
        model="o3",
    ),
]


def words_of(body: Any) -> str:
    """The server's own words in one of the envelopes above."""
    if isinstance(body, str):
        return body
    value = body.get("error", body.get("detail"))
    return value["message"] if isinstance(value, dict) else value


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"row-{row.number}-{row.style}-{row.error.__name__}")
def test_what_a_server_refuses_is_told_with_its_cause_its_fix_and_the_servers_words(row: Row, streamed: bool):
    script = Script(status=row.status, error_body=row.body)
    scripts = {"/chat/completions": script}
    with (
        ScriptedServer(
            script, style=row.style, models=["served-one", "served-two"], unknown_model="ignore", scripts=scripts
        ) as server,
        OpenAICompatibleBackend(
            row.model,
            server.root if row.number == 3 else server.base_url,
            api_key=row.key,
            server=None if row.style == "plain" else row.style,
            max_retries=0,
        ) as backend,
    ):
        run = backend.stream("Hi") if streamed else backend.complete("Hi")
        with pytest.raises(row.error) as caught:
            run.result(30)
    error = caught.value
    assert type(error) is row.error
    assert row.cause in error.message and row.fix in str(error), str(error)
    assert (row.says or words_of(row.body)) in (error.server_says or error.message)
    assert not row.key or row.key not in str(error) + repr(error)


def ask(base_url: str, *, prompt: str = "Hi", **options: Any) -> errors.MambaError:
    with (
        OpenAICompatibleBackend(MODEL, base_url, **{"max_retries": 0, **options}) as backend,
        pytest.raises(errors.MambaError) as caught,
    ):
        backend.ask(prompt)
    return caught.value


@contextlib.contextmanager
def answering(reply: str) -> Iterator[int]:
    """Something on a port that gives every connection the same bytes."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(reply.encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def ask_with_tools(base_url: str, model: str) -> errors.MambaError:
    with (
        OpenAICompatibleBackend(model, base_url, server="ollama", max_retries=0) as backend,
        pytest.raises(errors.MambaError) as caught,
    ):
        backend.ask("Hi", tools=[TOOL])
    return caught.value


def test_row_1_nothing_listens_there_and_what_runs_elsewhere_is_told():
    with closed_port() as place, ScriptedServer(style="ollama", models=[MODEL]) as other:
        error = ask(place.base_url)
        assert type(error) is errors.ServerUnreachable and isinstance(error, ConnectionError)
        assert "Nothing is listening on 127.0.0.1:" in error.message and "Start" in error.hint
        assert other.requests == []  # a free port is none of the known ones, and ports are not scanned


def test_row_1_the_servers_that_do_run_are_listed():
    with closed_port() as place, servers_on_default_ports() as running:
        error = ask(place.base_url)
    assert f"Ollama at {running.ollama.base_url}" in error.hint and f"vLLM at {running.vllm.base_url}" in error.hint


def test_row_12_the_models_that_can_call_tools_are_listed():
    about = {"plain": {"capabilities": ["completion"]}, "able": {"capabilities": ["completion", "tools"]}}
    with ScriptedServer(style="ollama", models=["plain", "able"], about=about) as server:
        error = ask_with_tools(server.base_url, "plain")
    assert type(error) is errors.ToolsNotSupported
    assert "On this server these are declared to: able:latest." in error.hint


def test_row_17_what_the_model_itself_could_hold_is_told():
    about = {"": {"context_max": 32_768}}
    with ScriptedServer(style="llamacpp", models=[MODEL], context_length=64, about=about) as server:
        error = ask(server.base_url, prompt="word " * 200)
    assert type(error) is errors.ContextOverflow and error.context == 64
    assert "The model itself can hold" in error.hint


def test_row_20_a_prompt_that_ollama_cut_is_a_warning():
    with (
        ScriptedServer(Script(text="Hi"), style="ollama", models=["llama3.2"], context_length=64) as server,
        OpenAICompatibleBackend("llama3.2", server.base_url, server="ollama") as backend,
    ):
        (warning,) = backend.ask("word " * 400).warnings
    assert "64 tokens" in warning and "without saying so" in warning and "num_ctx=" in warning


@pytest.mark.parametrize(
    ("server", "start"),
    [
        ("ollama", "ollama serve"),
        ("vllm", "opens its port only when the model is loaded"),
        ("lmstudio", "lms server start"),
        ("llamacpp", "llama-server -m"),
    ],
)
def test_row_1_each_kind_is_started_in_its_own_way(server, start):
    with closed_port() as place:
        error = ask(place.base_url, server=server)
    assert start in error.hint and "create_embedded_backend()" in error.hint


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # of aiohttp, for how the SDK's transport passes it a password
def test_row_2_a_proxy_that_takes_a_local_call_is_named_without_its_password(monkeypatch):
    page = "<html><body>Bad gateway</body></html>"
    with answering(f"HTTP/1.1 502 Bad Gateway\r\nContent-Length: {len(page)}\r\n\r\n{page}") as port:
        monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "")
        error = ask("http://127.0.0.1:9/v1", trust_env=True)
    assert type(error) is errors.ProxyInTheWay and "secret" not in str(error)
    assert f"127.0.0.1:{port}" in error.message and "NO_PROXY=localhost,127.0.0.1,::1" in error.hint
    assert error.server_says == "Bad gateway"


@pytest.mark.parametrize("path", ["/v1/v1", "/api", "/api/v1", "/openai"])
def test_row_3_a_path_too_many_gets_the_address_to_use(path):
    with ScriptedServer(style="ollama", models=[MODEL]) as server:
        error = ask(server.root + path)
    assert type(error) is errors.EndpointNotFound
    if path != "/openai":
        assert f"base_url='{server.root}/v1'" in error.hint


@pytest.mark.parametrize("body", [{"choices": None}, {"choices": [], "object": "x"}, {}])
def test_rows_3_and_25_an_answer_without_choices_is_no_type_error(body):
    with ScriptedServer(Script(error_body=body), models=[MODEL]) as server:
        for verb in ("stream", "complete"):
            with (
                OpenAICompatibleBackend(MODEL, server.base_url, max_retries=0) as backend,
                pytest.raises(errors.ServerError) as caught,
            ):
                getattr(backend, verb)("Hi").result(30)
            assert server.base_url in caught.value.message


def test_row_4_no_key_is_needed_and_the_environments_never_leaves_for_another_host(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-real-key-of-openai-1234")
    with ScriptedServer(Script(text="Hi"), models=[MODEL]) as server:
        with OpenAICompatibleBackend(MODEL, server.base_url) as backend:
            assert backend.ask("Hi").text == "Hi"
        assert "sk-real" not in json.dumps([request.headers for request in server.requests])


def test_row_9_silence_while_a_model_loads_says_that_it_loads():
    script = Script(text="Hi")
    with (
        ScriptedServer(script, style="ollama", models=[MODEL], load_s=2.0) as server,
        OpenAICompatibleBackend(MODEL, server.base_url, server="ollama", timeout=1) as backend,
    ):
        assert backend.ask("Hi").text == "Hi"  # it says that it is loading, so the wait goes on
    with ScriptedServer(Script(never=True), models=[MODEL]) as server:
        error = ask(server.base_url, timeout=0.3)
    assert type(error) is errors.ServerTimeout and "did not answer within 0.3 s" in error.message
    assert "timeout=" in error.hint


def test_row_10_a_server_that_loads_is_waited_for():
    with (
        ScriptedServer(Script(text="Hi"), style="llamacpp", models=[MODEL], loading_s=0.8) as server,
        OpenAICompatibleBackend(MODEL, server.base_url, max_retries=0, timeout=5) as backend,
    ):
        assert backend.ask("Hi").text == "Hi"


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_row_14_a_call_that_came_as_text_is_told(streamed):
    text = '<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call>'
    with (
        ScriptedServer(Script(text=text), style="vllm", models=[MODEL]) as server,
        OpenAICompatibleBackend(MODEL, server.base_url) as backend,
    ):
        run = (backend.stream if streamed else backend.complete)("Hi", tools=[TOOL], tool_choice="none")
        generation = run.result(30)
        assert generation.text == text and not generation.tool_calls
        assert any("plain text" in warning and "--tool-call-parser" in warning for warning in generation.warnings)
        assert not backend.ask("Hi").warnings  # without tools it is an answer like any other


def test_row_22_a_server_without_embeddings_says_what_to_start_it_with():
    body = {
        "error": {
            "code": 501,
            "message": "This server does not support embeddings. Start it with `--embeddings`",
            "type": "not_supported_error",
        }
    }
    scripts = {"/v1/embeddings": Script(status=501, error_body=body)}
    with (
        ScriptedServer(style="llamacpp", models=[MODEL], scripts=scripts) as server,
        OpenAICompatibleBackend(MODEL, server.base_url, max_retries=0) as backend,
        pytest.raises(errors.NotHere) as caught,
    ):
        backend.embed("Hi")
    assert "embed" in caught.value.message and "--embeddings" in str(caught.value)


def test_row_24_a_refusal_without_a_word_names_the_host():
    with ScriptedServer(Script(status=403, error_body=b""), style="ollama", models=[MODEL]) as server:
        error = ask(server.base_url, server="ollama")
    assert type(error) is errors.AuthenticationFailed
    assert "'127.0.0.1'" in error.message and "OLLAMA_ORIGINS" in error.hint


@pytest.mark.parametrize("fault", ["cut", "eof_no_done"])
def test_row_26_a_stream_that_breaks_off_keeps_what_came(fault):
    with ScriptedServer(Script(text=["One", " two", " three", " four"], fault=fault), models=[MODEL]) as server:
        error = ask(server.base_url)
    assert type(error) is errors.StreamInterrupted and "log" in error.hint
    assert error.partial.text.startswith("One")


def test_row_27_https_where_http_is_spoken():
    # What uvicorn says, in plain HTTP, when it is spoken to in TLS.
    with answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 30\r\n\r\nInvalid HTTP request received.") as port:
        error = ask(f"https://127.0.0.1:{port}/v1")
    assert type(error) is errors.ServerUnreachable and "http://" in error.hint
    assert isinstance(error.__cause__, Exception) and any(
        isinstance(link, ssl.SSLError) or "SSL" in type(link).__name__ for link in chain(error)
    )


def chain(error: BaseException) -> list[BaseException]:
    links = []
    while error is not None and error not in links:
        links.append(error)
        error = error.__cause__ or error.__context__
    return links
