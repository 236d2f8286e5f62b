from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from mamba_nb.backends.names import SERVERS, ModelName, parse_model_name
from mamba_nb.errors import BadInput


@pytest.mark.parametrize(
    ("name", "server", "model"),
    [
        ("llama3.2", None, "llama3.2"),
        ("llama3.2:70b", None, "llama3.2:70b"),
        ("meta-llama/Llama-3.2-3B-Instruct", None, "meta-llama/Llama-3.2-3B-Instruct"),
        ("hf.co/bartowski/Llama-3.2-3B-GGUF:Q4_K_M", None, "hf.co/bartowski/Llama-3.2-3B-GGUF:Q4_K_M"),
        ("/models/tiny.gguf", None, "/models/tiny.gguf"),
        ("local-model", None, "local-model"),
        ("openai/gpt-oss-20b", None, "openai/gpt-oss-20b"),
        ("openai:gpt-4o", None, "openai:gpt-4o"),
        ("anthropic/claude-3-opus", None, "anthropic/claude-3-opus"),
        ("Ollama/llama3.2", None, "Ollama/llama3.2"),
        ("ollama-fork/llama3.2", None, "ollama-fork/llama3.2"),
        ("lmstudio-community/gemma-3-4b", None, "lmstudio-community/gemma-3-4b"),
        (":70b", None, ":70b"),
        ("ollama:llama3.2", "ollama", "llama3.2"),
        ("ollama/llama3.2:70b", "ollama", "llama3.2:70b"),
        ("ollama:user/llama3.2:70b", "ollama", "user/llama3.2:70b"),
        ("ollama:openai/gpt-oss", "ollama", "openai/gpt-oss"),
        ("ollama/ollama", "ollama", "ollama"),
        ("vllm/meta-llama/Llama-3.2-3B-Instruct", "vllm", "meta-llama/Llama-3.2-3B-Instruct"),
        ("vllm:Qwen/Qwen3-8B", "vllm", "Qwen/Qwen3-8B"),
        ("lmstudio/google/gemma-4-26b", "lmstudio", "google/gemma-4-26b"),
        ("lmstudio", "lmstudio", "local-model"),
        ("lmstudio:local-model", "lmstudio", "local-model"),
        ("llamacpp:tiny", "llamacpp", "tiny"),
        ("embedded", "embedded", None),
        ("embedded:~/models/my.gguf", "embedded", "~/models/my.gguf"),
        ("embedded:/models/my.gguf", "embedded", "/models/my.gguf"),
        ("embedded//models/my.gguf", "embedded", "/models/my.gguf"),
        ("embedded:C:\\models\\my.gguf", "embedded", "C:\\models\\my.gguf"),
        ("embedded:hf:bartowski/Tiny-GGUF/tiny.gguf", "embedded", "hf:bartowski/Tiny-GGUF/tiny.gguf"),
        ("  ollama: llama3.2 \n", "ollama", "llama3.2"),
        (" llama3.2 ", None, "llama3.2"),
    ],
)
def test_a_name_is_split_on_its_first_separator_only_if_a_server_stands_before_it(name, server, model):
    assert parse_model_name(name) == ModelName(server, model)


@pytest.mark.parametrize("name", ["ollama", "vllm", "llamacpp"])
def test_a_server_alone_is_refused_with_the_form_to_type(name):
    with pytest.raises(BadInput, match=f"'{name}' names a server but no model") as caught:
        parse_model_name(name)
    assert caught.value.hint == f'Write "{name}:MODEL".'


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("end", [":", "/", ": "])
def test_a_server_with_an_empty_model_is_refused(server, end):
    with pytest.raises(BadInput, match="names a server but no model") as caught:
        parse_model_name(server + end)
    assert f'"{server}:MODEL"' in caught.value.hint


@pytest.mark.parametrize("name", ["", "   ", "\n\t"])
def test_an_empty_name_is_refused(name):
    with pytest.raises(BadInput, match="must not be empty"):
        parse_model_name(name)


@pytest.mark.parametrize("name", [None, 3, b"llama3.2", ["llama3.2"], Path("tiny.gguf")])
def test_a_name_that_is_not_text_is_refused_by_its_type(name):
    with pytest.raises(BadInput, match=f"What came: {type(name).__name__}"):
        parse_model_name(name)


@pytest.mark.parametrize("name", ["llama3.2:70b", "ollama:llama3.2:70b", "embedded", "embedded:hf:a/b.gguf"])
def test_a_name_written_with_a_colon_reads_back_as_itself(name):
    parsed = parse_model_name(name)
    assert str(parsed) == name
    assert pickle.loads(pickle.dumps(parsed)) == parsed
