"""What goes wrong, said in this package's words: every failure of a request becomes one error with its remedy.

The bodies are those that servers really send; where they come from is written beside them.
"""

from __future__ import annotations

import errno
import json
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import aiohttp
import httpx2
import openai
import pytest

from mamba_nb import errors
from mamba_nb.servers.failures import Where, from_reply, interrupted, server_message, timed_out, translate
from mamba_nb.servers.kinds import kind_of
from mamba_nb.servers.replies import retry_after_s

URL = "http://127.0.0.1:11434/v1"
HERE = Where(base_url=URL, model="llama3.2", timeout_s=30.0)
KEY = "sk-local-1234567890abcdef"


def where(url: str = URL, server: str | None = None, **more) -> Where:
    return Where(base_url=url, model="llama3.2", kind=kind_of(server), timeout_s=30.0, **more)


def status_error(status: int, body: object, headers: dict | None = None) -> openai.APIStatusError:
    """What the openai client raises for a reply with this status and body."""
    content = body if isinstance(body, str) else json.dumps(body)
    request = httpx2.Request("POST", f"{URL}/chat/completions")
    response = httpx2.Response(status, content=content.encode(), headers=headers or {}, request=request)
    return openai.APIStatusError("no", response=response, body=None)


def sdk_error(*causes: BaseException) -> openai.APIConnectionError:
    """The openai client's error over what lay below it, the innermost last."""
    error = openai.APIConnectionError(request=httpx2.Request("POST", URL))
    link: BaseException = error
    for cause in causes:
        link.__cause__ = cause
        link = cause
    return error


def aiohttp_connect_error(reason: OSError, kind: type = aiohttp.ClientConnectorError) -> aiohttp.ClientConnectorError:
    key = aiohttp.client_reqrep.ConnectionKey("127.0.0.1", 11434, False, True, None, None, None)
    error = kind(key, reason)
    error.__cause__ = reason
    return error


def refused() -> openai.APIConnectionError:
    reason = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 11434)")
    return sdk_error(httpx2.ConnectTimeout("so the transport maps it"), aiohttp_connect_error(reason))


def overflow_sizes(error: BaseException) -> tuple[int | None, int | None]:
    assert isinstance(error, errors.ContextOverflow)
    return error.prompt_tokens, error.context


class TestOnTheWay:
    def test_nothing_listening_names_the_place_and_how_to_start_the_server(self):
        error = translate(refused(), where(server="ollama"))
        assert type(error) is errors.ServerUnreachable and isinstance(error, ConnectionError)
        assert error.message == "Nothing is listening on 127.0.0.1:11434."
        assert "ollama serve" in error.hint and "create_embedded_backend()" in error.hint
        assert (error.base_url, error.model) == (URL, "llama3.2")

    @pytest.mark.parametrize(
        ("url", "start"),
        [
            (URL, "ollama serve"),
            ("http://localhost:8000/v1", "vllm serve MODEL"),
            ("http://localhost:1234/v1", "lms server start"),
            ("http://localhost:8080/v1", "llama-server -m FILE.gguf"),
        ],
    )
    def test_an_unknown_server_is_guessed_by_its_usual_port(self, url, start):
        assert start in translate(refused(), where(url)).hint

    def test_on_another_machine_the_embedded_model_is_no_remedy(self):
        assert "embedded" not in translate(refused(), where("http://192.168.1.7:8000/v1")).hint

    def test_an_address_of_ipv6_is_written_as_one(self):
        assert translate(refused(), where("http://[::1]:8000/v1")).message == "Nothing is listening on [::1]:8000."

    def test_plain_exceptions_of_the_operating_system_are_understood(self):
        assert type(translate(ConnectionRefusedError(errno.ECONNREFUSED, "refused"), HERE)) is errors.ServerUnreachable
        assert type(translate(TimeoutError(), HERE)) is errors.ServerTimeout
        assert type(translate(ConnectionResetError(errno.ECONNRESET, "reset"), HERE)) is errors.StreamInterrupted
        assert type(translate(BrokenPipeError(), HERE)) is errors.StreamInterrupted

    def test_a_timeout_says_how_long(self):
        error = timed_out(where(server="ollama"))
        assert error.message == f"Ollama at {URL} did not answer within 30 s."
        assert isinstance(error, TimeoutError) and "timeout=" in error.hint
        assert "went silent" in timed_out(HERE, after_first_byte=True).message

    def test_loading_for_too_long_is_told_from_silence(self):
        error = timed_out(where(server="ollama"), loading_s=600.2)
        assert error.message == f"Ollama at {URL} was still loading llama3.2 after 600 s."

    def test_https_where_no_connection_comes_about_hints_at_http(self):
        slow = sdk_error(httpx2.ConnectTimeout(""), aiohttp.ConnectionTimeoutError("timeout"))
        assert "write http://, not https://" in translate(slow, Where(base_url="https://127.0.0.1:8080/v1")).hint
        assert "http://" not in translate(slow, Where(base_url="http://127.0.0.1:8080/v1")).hint

    @pytest.mark.parametrize(
        ("model", "meant"),
        [("olama/llama3.2", "ollama/llama3.2"), ("embeded", "embedded"), ("lm-studio:qwen3", "lmstudio:qwen3")],
    )
    def test_a_server_in_a_models_name_that_is_spelt_wrong_is_told(self, model, meant):
        refused = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        hint = translate(refused, Where(base_url=URL, model=model)).hint
        assert hint.startswith(f"Did you mean {meant!r}? {model!r} was taken for a model there.")

    @pytest.mark.parametrize("model", ["llama3.2", "llama2:7b", "llava:7b", "openai/gpt-oss-20b", "qwen3:8b", "ollama"])
    def test_a_models_own_name_is_not_taken_for_a_server(self, model):
        refused = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        assert "Did you mean" not in translate(refused, Where(base_url=URL, model=model)).hint

    def test_a_read_timeout_of_the_sdk_is_a_timeout(self):
        below = openai.APITimeoutError(request=httpx2.Request("POST", URL))
        below.__cause__ = httpx2.ReadTimeout("silent")
        assert type(translate(below, HERE)) is errors.ServerTimeout

    def test_a_connection_that_takes_too_long_is_no_silent_server(self):
        error = translate(sdk_error(httpx2.ConnectTimeout(""), aiohttp.ConnectionTimeoutError("timeout")), HERE)
        assert type(error) is errors.ServerUnreachable
        assert error.message == "No connection to 127.0.0.1:11434 came about in time."

    def test_an_unknown_name_says_so(self):
        reason = OSError(-2, "Name or service not known")
        cause = aiohttp_connect_error(reason, aiohttp.ClientConnectorDNSError)
        error = translate(sdk_error(httpx2.ConnectError(""), cause), where("http://gpu-bax:8000/v1"))
        assert type(error) is errors.ServerUnreachable
        assert error.message == "The name 'gpu-bax' is not known." and "spelling" in error.hint

    @pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ENETUNREACH])
    def test_no_way_to_the_host_is_told_from_nothing_listening(self, number):
        reason = OSError(number, "No route to host")
        error = translate(sdk_error(aiohttp_connect_error(reason)), where("http://192.168.1.7:8000/v1"))
        assert error.message == "There is no way to 192.168.1.7:8000 (No route to host)."

    def test_https_to_a_server_that_speaks_http_says_which_scheme_to_use(self):
        reason = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:992)")
        error = translate(sdk_error(httpx2.ConnectError(""), reason), where("https://127.0.0.1:8000/v1"))
        assert type(error) is errors.ServerUnreachable
        assert str(error) == "127.0.0.1:8000 does not speak TLS.\nUse http://, not https://."

    def test_a_certificate_that_is_not_trusted_is_named(self):
        reason = ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate")
        error = translate(sdk_error(httpx2.ConnectError(""), reason), where("https://gpu.lan/v1"))
        assert "certificate of gpu.lan:443 is not trusted" in error.message and "SSL_CERT_FILE" in error.hint

    @pytest.mark.parametrize(
        "cause",
        [
            aiohttp.ServerDisconnectedError(),
            aiohttp.ClientPayloadError("Response payload is not completed"),
            httpx2.ReadError("cut"),
            httpx2.RemoteProtocolError("Server disconnected without sending a response."),
            ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        ],
        ids=lambda cause: type(cause).__name__,
    )
    def test_a_connection_that_breaks_is_an_interrupted_stream(self, cause):
        error = translate(sdk_error(httpx2.ConnectTimeout("so the transport maps it"), cause), HERE)
        assert type(error) is errors.StreamInterrupted and isinstance(error, ConnectionError)
        assert ".partial" in error.hint

    def test_an_interruption_before_anything_came_says_that(self):
        assert "before anything of the answer came" in interrupted(HERE, empty=True).message

    def test_a_proxy_that_fails_is_named_without_its_password(self, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", "http://ann:secret@proxy.corp:3128")
        cause = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.1', 3128)")
        error = translate(sdk_error(httpx2.ProxyError("no"), cause), where(proxied=True))
        assert type(error) is errors.ProxyInTheWay
        assert "http://proxy.corp:3128 took the call" in error.message and "Connect call failed" in error.message
        assert "NO_PROXY=localhost,127.0.0.1,::1" in error.hint
        assert "secret" not in str(error) and "ann" not in str(error)

    @pytest.mark.parametrize("status", [502, 503, 504])
    def test_a_page_instead_of_an_answer_comes_from_something_in_between(self, status):
        body = "<html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1>nginx</body></html>"
        error = translate(status_error(status, body), HERE)
        assert type(error) is errors.ProxyInTheWay and error.status == status
        assert error.server_says == "502 Bad Gateway Bad Gateway nginx"

    def test_a_proxy_that_wants_a_password_is_a_proxy(self):
        assert type(translate(status_error(407, "Proxy Authentication Required"), HERE)) is errors.ProxyInTheWay

    def test_no_credentials_says_how_to_pass_them(self):
        error = translate(
            openai.OpenAIError("Missing credentials. Please pass an `api_key`."), where("https://api.openai.com/v1")
        )
        assert type(error) is errors.AuthenticationFailed and "api_key=" in error.hint

    def test_an_error_of_this_package_passes_through(self):
        error = errors.BadInput("no")
        assert translate(error, HERE) is error

    def test_anything_else_is_a_failure_that_names_it(self):
        error = translate(ZeroDivisionError("division by zero"), HERE)
        assert type(error) is errors.ServerFailed and "ZeroDivisionError: division by zero" in error.message


class TestEnvelopes:
    @pytest.mark.parametrize(
        ("payload", "words"),
        [
            ({"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}, "Loading model"),
            ({"error": "Unauthorized"}, "Unauthorized"),
            ({"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}, "too long"),
            ({"detail": "Not Found"}, "Not Found"),
            ({"detail": [{"loc": ["body"], "msg": "field required"}]}, "[{'loc': ['body'], 'msg': 'field required'}]"),
            ({"error": {"type": "overloaded"}}, "{'type': 'overloaded'}"),
            ({"error": None, "message": "later"}, "later"),
            ("404 page not found\n", "404 page not found"),
            ("", ""),
            (None, ""),
        ],
    )
    def test_the_servers_words_are_found_in_every_envelope(self, payload, words):
        assert server_message(payload) == words

    @pytest.mark.parametrize(
        "body",
        [
            {"error": {"message": "boom", "type": "server_error", "code": 500}},
            {"error": "boom"},
            {"object": "error", "message": "boom", "type": "InternalServerError", "code": 500},
            {"detail": "boom"},
            "boom",
        ],
    )
    def test_a_status_500_keeps_the_words_of_every_envelope(self, body):
        error = translate(status_error(500, body), HERE)
        assert type(error) is errors.ServerFailed and error.status == 500
        assert error.message == f"The server at {URL} failed (500): boom" and error.server_says == "boom"

    def test_a_status_without_a_body_says_so(self):
        assert "without a word" in translate(status_error(500, ""), HERE).message

    def test_a_page_is_shown_as_its_words(self):
        body = "<!DOCTYPE html><html><script>evil()</script><body>Internal <b>error</b></body></html>"
        assert translate(status_error(500, body), HERE).server_says == "Internal error"

    def test_long_words_are_cut(self):
        assert len(translate(status_error(500, "x" * 10_000), HERE).server_says) < 600

    def test_an_error_inside_a_reply_with_status_200_is_judged_by_its_code(self):
        error = from_reply({"error": {"message": "slow down", "code": 429}}, HERE)
        assert type(error) is errors.RateLimited and error.status == 429

    def test_an_error_in_mid_stream_without_a_code_is_a_failure(self):
        error = from_reply({"error": {"message": "boom"}}, HERE)
        assert type(error) is errors.ServerFailed and error.status is None
        assert error.message == f"The server at {URL} reported an error: boom"

    @pytest.mark.parametrize(
        "payload", ["<html>Welcome</html>", "Ollama is running", {"status": "ok"}, {"choices": None}, [], None]
    )
    def test_a_reply_that_is_neither_answer_nor_error_is_another_api(self, payload):
        error = from_reply(payload, where("http://127.0.0.1:8888"))
        assert type(error) is errors.EndpointNotFound and isinstance(error, LookupError)
        assert "not in the OpenAI protocol" in error.message
        assert "base_url='http://127.0.0.1:8888/v1'" in error.hint


class TestWrongPath:
    @pytest.mark.parametrize(
        ("status", "body"),
        [
            pytest.param(404, "404 page not found", id="Ollama"),
            pytest.param(405, "405 method not allowed", id="Ollama, method"),
            pytest.param(404, {"detail": "Not Found"}, id="vLLM 0.32.0, recorded: not_found"),
            pytest.param(405, {"detail": "Method Not Allowed"}, id="vLLM 0.32.0, recorded: method_not_allowed"),
            pytest.param(
                404, {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}, id="llama.cpp"
            ),
            pytest.param(404, "", id="no body"),
        ],
    )
    def test_every_servers_not_found_says_the_path_is_wrong(self, status, body):
        error = translate(status_error(status, body), where("http://127.0.0.1:8000"))
        assert type(error) is errors.EndpointNotFound
        assert "base_url='http://127.0.0.1:8000/v1'" in error.hint

    def test_lmstudio_says_it_with_status_200(self):
        body = {"error": "Unexpected endpoint or method. (POST /chat/completions)"}
        error = from_reply(body, where("http://127.0.0.1:1234"))
        assert type(error) is errors.EndpointNotFound
        assert "base_url='http://127.0.0.1:1234/v1'" in error.hint and error.server_says == body["error"]

    @pytest.mark.parametrize(
        ("given", "likely"),
        [
            ("http://127.0.0.1:11434", "http://127.0.0.1:11434/v1"),
            ("http://127.0.0.1:11434/api", "http://127.0.0.1:11434/v1"),
            ("http://127.0.0.1:8000/v1/v1", "http://127.0.0.1:8000/v1"),
            ("http://127.0.0.1:1234/api/v0", "http://127.0.0.1:1234/v1"),
            ("http://gate.corp/vllm", "http://gate.corp/vllm/v1"),
        ],
    )
    def test_the_likely_address_is_worked_out_from_the_one_given(self, given, likely):
        assert f"base_url={likely!r}" in translate(status_error(404, ""), where(given)).hint

    def test_with_the_usual_path_the_question_is_whether_it_is_a_model_server(self):
        assert "is it a model server" in translate(status_error(404, ""), HERE).hint

    def test_a_redirect_names_its_target_and_is_not_followed(self):
        error = translate(status_error(307, "", {"location": "https://other.example/v1"}), HERE)
        assert type(error) is errors.EndpointNotFound and "https://other.example/v1" in error.hint


class TestModels:
    @pytest.mark.parametrize(
        ("status", "body"),
        [
            pytest.param(
                404,
                {
                    "error": {
                        "message": "model 'nope' not found",
                        "type": "not_found_error",
                        "param": None,
                        "code": None,
                    }
                },
                id="Ollama 0.33",
            ),
            pytest.param(
                404,
                {"error": {"message": 'model "nope" not found, try pulling it first', "type": "api_error"}},
                id="older Ollama",
            ),
            pytest.param(404, {"error": "model 'nope' not found"}, id="Ollama, native"),
            pytest.param(
                404,
                {
                    "error": {
                        "message": "The model `nope` does not exist. Valid aliases: smollm2.",
                        "type": "NotFoundError",
                        "param": "model",
                        "code": 404,
                    }
                },
                id="vLLM 0.32.0, recorded: chat_unknown_model",
            ),
            pytest.param(
                404,
                {
                    "object": "error",
                    "message": "The model `nope` does not exist.",
                    "type": "NotFoundError",
                    "code": 404,
                },
                id="older vLLM",
            ),
            pytest.param(
                400,
                {"error": {"code": 400, "message": "model 'nope' not found", "type": "invalid_request_error"}},
                id="llama.cpp router",
            ),
            pytest.param(
                404,
                {"error": {"message": "The model 'nope' does not exist", "param": "model", "code": "model_not_found"}},
                id="SGLang",
            ),
            pytest.param(404, "no router for requested model", id="llama-swap"),
            pytest.param(
                400,
                {"error": {"message": "/chat/completions: Invalid model name passed in model=nope. Call `/v1/models`"}},
                id="LiteLLM",
            ),
            pytest.param(
                404,
                {
                    "error": {
                        "message": "The model `nope` does not exist or you do not have access to it.",
                        "type": "invalid_request_error",
                        "param": None,
                        "code": "model_not_found",
                    }
                },
                id="OpenAI",
            ),
        ],
    )
    def test_every_servers_unknown_model_is_one_error(self, status, body):
        error = translate(status_error(status, body), HERE)
        assert type(error) is errors.ModelNotFound and isinstance(error, LookupError)
        assert error.model == "llama3.2" and error.status == status

    def test_ollama_is_told_to_pull_it(self):
        assert "`ollama pull llama3.2`" in from_reply({"error": "model 'x' not found"}, where(server="ollama")).hint

    @pytest.mark.parametrize("status", [404, 400])
    def test_lmstudio_without_a_loaded_model_says_how_to_load_one(self, status):
        body = {
            "error": {
                "message": "No models loaded. Please load a model in the developer page or use the 'lms load' command.",
                "type": "invalid_request_error",
                "param": "model",
                "code": None,
            }
        }
        error = translate(status_error(status, body), where(server="lmstudio"))
        assert type(error) is errors.ModelNotFound and "lms load" in error.hint

    def test_words_about_a_model_that_is_there_are_not_taken_for_that(self):
        words = "The chat template of the model was not found in the tokenizer."
        assert type(translate(status_error(400, {"error": words}), HERE)) is errors.RequestRejected


class TestKeys:
    @pytest.mark.parametrize(
        "body",
        [
            pytest.param({"error": "Unauthorized"}, id="vLLM 0.32.0, recorded: tools_auth_missing_models"),
            pytest.param(
                {"error": {"message": "Invalid API Key", "type": "authentication_error", "code": 401}}, id="llama.cpp"
            ),
            pytest.param(
                {
                    "error": {
                        "type": "invalid_request",
                        "code": "invalid_api_key",
                        "message": "An LM Studio API token is required to make requests to this server, but none was "
                        "provided using the Authorization header using the 'Bearer' scheme",
                    }
                },
                id="LM Studio 0.4",
            ),
            pytest.param({"error": "unauthorized", "signin_url": "https://ollama.com/connect"}, id="Ollama cloud"),
            pytest.param("", id="no body"),
        ],
    )
    def test_every_servers_refusal_says_how_to_pass_a_key(self, body):
        error = translate(status_error(401, body), HERE)
        assert type(error) is errors.AuthenticationFailed and isinstance(error, PermissionError)
        assert "wants an API key" in error.message and "api_key=" in error.hint

    def test_a_key_that_was_refused_is_said_to_be(self):
        error = translate(status_error(401, {"error": "Unauthorized"}), where(key=KEY))
        assert "wants another API key" in error.message and "was refused" in error.hint

    def test_openais_refusal_from_an_address_that_is_not_openais_is_noticed(self):
        says = "Incorrect API key provided: not-need*d. You can find your API key at https://platform.openai.com."
        error = translate(status_error(401, {"error": {"message": says}}), HERE)
        assert "comes from OpenAI" in error.hint and "not-need*d" not in str(error)

    def test_a_bare_403_is_ollamas_about_the_host_name(self):
        error = translate(status_error(403, ""), where("http://ollama.example.org/v1"))
        assert type(error) is errors.AuthenticationFailed
        assert "'ollama.example.org'" in error.message and "OLLAMA_ORIGINS" in error.hint

    def test_a_403_with_words_does_not_ask_for_a_key(self):
        error = translate(status_error(403, {"error": {"message": "Country not supported"}}), HERE)
        assert type(error) is errors.AuthenticationFailed and "does not allow this request" in error.message

    @pytest.mark.parametrize(
        "says",
        [
            f"Incorrect API key provided: {KEY}.",
            f"Received API Key = {KEY}, Key Hash (Token) = 88dc28d0f030c55ed4ab77ed8faf0981",
            f"bad header 'Authorization: Bearer {KEY}'",
            f"I got {KEY} from you",
        ],
    )
    @pytest.mark.parametrize("status", [400, 401, 429, 500])
    def test_a_key_that_the_server_repeats_is_taken_out(self, says, status):
        error = translate(status_error(status, {"error": {"message": says}}), where(key=KEY))
        assert KEY not in str(error) and KEY not in repr(error) and KEY not in str(vars(error))

    @pytest.mark.parametrize("says", ["Incorrect API key provided: sk-abcd1234efgh.", "Bearer sk-abcd1234efgh is bad"])
    def test_what_looks_like_a_key_is_taken_out_though_it_is_not_ours(self, says):
        assert "abcd1234" not in str(translate(status_error(401, {"error": says}), HERE))

    def test_where_does_not_show_its_key(self):
        assert KEY not in repr(where(key=KEY))


class TestOverflow:
    @pytest.mark.parametrize(
        ("status", "body", "sizes"),
        [
            pytest.param(
                400,
                {
                    "error": {
                        "code": 400,
                        "message": "request (454 tokens) exceeds the available context size (256 tokens), "
                        "try increasing it",
                        "type": "exceed_context_size_error",
                        "n_prompt_tokens": 454,
                        "n_ctx": 256,
                    }
                },
                (454, 256),
                id="llama.cpp",
            ),
            pytest.param(
                400,
                {
                    "error": {
                        "message": "This model's maximum context length is 2048 tokens. However, your prompt contains "
                        "at least 2049 input tokens, which exceeds this limit even without any output tokens. Please "
                        "reduce the length of the input prompt. (parameter=input_tokens, value=2049)",
                        "type": "BadRequestError",
                        "param": "input_tokens",
                        "code": 400,
                    }
                },
                (2049, 2048),
                id="vLLM 0.32.0, recorded: chat_prompt_over_context",
            ),
            pytest.param(
                400,
                {
                    "object": "error",
                    "message": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens "
                    "(4500 in the messages, 500 in the completion). Please reduce the length of the messages.",
                    "type": "BadRequestError",
                    "code": 400,
                },
                (4500, 4096),
                id="older vLLM",
            ),
            pytest.param(
                400,
                {
                    "error": {
                        "message": "max_tokens=100000 cannot be greater than max_model_len=2048. Please request fewer "
                        "output tokens. (parameter=max_tokens, value=100000)",
                        "type": "BadRequestError",
                        "param": "max_tokens",
                        "code": 400,
                    }
                },
                (None, 2048),
                id="vLLM 0.32.0, recorded: chat_max_tokens_over",
            ),
            pytest.param(
                400,
                {"error": "Cannot truncate prompt with n_keep (15028) >= n_ctx (4096)"},
                (15028, 4096),
                id="LM Studio",
            ),
            pytest.param(
                400,
                {
                    "error": "Trying to keep the first 5212 tokens when context the overflows. However, the model is "
                    "loaded with context length of only 4096 tokens, which is not enough."
                },
                (5212, 4096),
                id="older LM Studio",
            ),
            pytest.param(400, {"error": "Context size has been exceeded"}, (None, None), id="LM Studio with MLX"),
            pytest.param(
                400,
                {
                    "object": "error",
                    "message": "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
                },
                (9000, 8192),
                id="SGLang",
            ),
            pytest.param(
                400,
                {
                    "object": "error",
                    "message": "Requested token count exceeds the model's maximum context length of "
                    "8192 tokens. You requested a total of 9000 tokens.",
                },
                (None, 8192),
                id="SGLang, prompt and answer",
            ),
            pytest.param(
                400,
                {
                    "error": "the prompt is longer than the context length currently available to the model; "
                    "shorten the prompt"
                },
                (None, None),
                id="Ollama, native with truncate: false",
            ),
        ],
    )
    def test_every_servers_overflow_is_one_error_with_its_numbers(self, status, body, sizes):
        error = translate(status_error(status, body), HERE)
        assert isinstance(error, ValueError) and overflow_sizes(error) == sizes and error.status == status
        assert "Shorten the prompt" in error.hint and error.server_says

    def test_the_numbers_stand_in_the_message(self):
        body = {"error": "Cannot truncate prompt with n_keep (15028) >= n_ctx (4096)"}
        message = translate(status_error(400, body), HERE).message
        assert message == f"The prompt has 15,028 tokens; the context in force at {URL} is 4,096."

    def test_an_overflow_told_in_mid_stream_has_its_numbers_too(self):
        body = {"error": {"code": 400, "message": "exceed_context_size", "n_prompt_tokens": 454, "n_ctx": 256}}
        assert overflow_sizes(from_reply(body, HERE)) == (454, 256)


class TestRefusals:
    @pytest.mark.parametrize(
        ("status", "says", "remedy"),
        [
            (400, "registry.ollama.ai/library/gemma3:4b does not support tools", "tools_mode"),
            (
                400,
                '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
                "--tool-call-parser llama3_json",
            ),
            (400, 'tool_choice="required" requires --tool-call-parser to be set', "--tool-call-parser llama3_json"),
            (500, "tools param requires --jinja flag", "--jinja"),
        ],
    )
    def test_a_model_without_tools_is_told_with_its_remedy(self, status, says, remedy):
        error = translate(status_error(status, {"error": {"message": says}}), HERE)
        assert type(error) is errors.ToolsNotSupported and remedy in error.hint

    def test_a_rate_limit_keeps_how_long_to_wait(self):
        error = translate(status_error(429, {"error": {"message": "slow down"}}, {"retry-after": "7"}), HERE)
        assert type(error) is errors.RateLimited and error.retry_after_s == 7.0 and error.status == 429

    def test_no_quota_left_is_told_from_too_fast(self):
        body = {"error": {"message": "You exceeded your current quota: insufficient_quota"}}
        assert "quota" in translate(status_error(429, body), HERE).hint

    def test_another_4xx_is_a_refusal_with_the_servers_words(self):
        # vLLM 0.32.0, recorded: chat_bad_temperature.
        says = "temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)"
        error = translate(status_error(400, {"error": {"message": says, "code": 400}}), HERE)
        assert type(error) is errors.RequestRejected and isinstance(error, ValueError) and says in error.message

    def test_a_server_that_is_still_loading_says_so(self):
        body = {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}
        error = translate(status_error(503, body), where(server="llamacpp"))
        assert type(error) is errors.ServerFailed and error.message == f"llama.cpp at {URL} is still loading its model."

    def test_the_embedded_engine_begins_its_sentence_with_a_capital(self):
        assert timed_out(where(server="embedded")).message.startswith("The embedded engine at ")


class TestRetryAfter:
    def test_seconds_are_read(self):
        assert retry_after_s({"retry-after": "2"}) == 2.0
        assert retry_after_s({"retry-after": "0.5"}) == 0.5

    def test_a_date_is_read_as_seconds_from_now(self):
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
        assert 55 < retry_after_s({"retry-after": date}) <= 60

    @pytest.mark.parametrize("value", ["", "soon", format_datetime(datetime.now(UTC) - timedelta(1), usegmt=True)])
    def test_nonsense_and_the_past_are_none(self, value):
        assert retry_after_s({"retry-after": value}) is None

    def test_a_negative_number_is_now(self):
        assert retry_after_s({"retry-after": "-3"}) == 0.0
