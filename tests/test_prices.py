"""Prices: genai-prices' list as claims, nothing for a local model, and unknown where nobody knows."""

from __future__ import annotations

import socket

import genai_prices
import pytest

from mamba_nb.backends import get_profile
from mamba_nb.backends.prices import list_price, local_facts, local_price_facts, price_at
from mamba_nb.servers.facts import Fact


@pytest.mark.parametrize(
    ("name", "prompt", "answer"),
    [
        # OpenAI's and Anthropic's price lists, US dollars per million tokens
        ("gpt-4o", 2.5, 10.0),
        ("openai/gpt-4o-mini-2024-07-18", 0.15, 0.6),
        ("gpt-4.1", 2.0, 8.0),
        ("claude-3-opus", 15.0, 75.0),
        ("claude-3-5-sonnet@20240620", 3.0, 15.0),
        # dearer above 200,000 tokens; the price is that of shorter prompts
        ("claude-sonnet-4-5", 3.0, 15.0),
        ("gemini-2.5-pro", 1.25, 10.0),
    ],
)
def test_a_hosted_model_has_its_list_price(name, prompt, answer):
    profile = get_profile(name)
    assert (profile.input_price_usd, profile.output_price_usd) == (prompt, answer)
    fact = profile.fact("input_price_usd")
    assert fact.source == "claimed"
    assert fact.evidence.startswith(f"genai-prices {genai_prices.__version__}: ")


def test_the_price_of_a_short_prompt_is_what_the_package_itself_computes():
    usage = genai_prices.Usage(input_tokens=1_000, output_tokens=1_000)
    price = genai_prices.calc_price(usage, "claude-sonnet-4-5", provider_id="anthropic")
    profile = get_profile("claude-sonnet-4-5")
    assert profile.input_price_usd == pytest.approx(1_000 * float(price.input_price))
    assert profile.output_price_usd == pytest.approx(1_000 * float(price.output_price))
    assert profile.fact("input_price_usd").evidence.endswith("6 for prompts above 200,000 tokens")


@pytest.mark.parametrize(
    "name",
    ["llama3.2", "llama3.2:70b", "qwen3:8b", "nonsense", "gpt-4o-audio-preview", "gpt-4o:extended", "gpt-oss:20b"],
)
def test_an_unknown_price_is_none_and_never_zero(name):
    profile = get_profile(name)
    assert profile.input_price_usd is None and profile.output_price_usd is None
    assert profile.fact("input_price_usd") == Fact(None, "unknown")


def test_a_price_that_the_list_does_not_have_is_unknown():
    assert list_price("gpt-4o-nonsense", "openai") == {}
    assert list_price("gpt-4o", "nobody") == {}
    embedding = list_price("text-embedding-3-small", "openai")  # it has no answer to pay for
    assert embedding["input_price_usd"].value == 0.02 and "output_price_usd" not in embedding


def test_a_seller_is_found_by_its_address():
    assert price_at("https://api.openai.com/v1", "gpt-4o")["output_price_usd"].value == 10.0
    assert price_at("http://127.0.0.1:11434/v1", "gpt-4o") == {}
    assert price_at("https://models.example.com/v1", "gpt-4o") == {}


def test_a_local_model_costs_nothing_and_says_why():
    assert local_price_facts() == {
        "input_price_usd": Fact(0.0, "declared", "runs on this machine"),
        "output_price_usd": Fact(0.0, "declared", "runs on this machine"),
    }


@pytest.mark.parametrize(
    ("base_url", "kind", "said", "local"),
    [
        ("http://127.0.0.1:8000/v1", "vllm", None, True),
        ("http://localhost:11434/v1", "ollama", True, True),
        ("http://gpu-box:8000/v1", "vllm", None, True),
        ("http://localhost:11434/v1", "ollama", False, None),  # Ollama's cloud models run elsewhere
        ("http://localhost:11434/v1", "ollama", None, None),
        ("http://localhost:4000/v1", "litellm", None, None),  # a gateway may pass it on
        ("http://localhost:4000/v1", None, None, None),
        ("https://gpu.example.com/v1", "vllm", True, False),
        ("https://api.openai.com/v1", "openai", None, False),
    ],
)
def test_what_runs_here_is_told_by_address_kind_and_word(base_url, kind, said, local):
    declared = {} if said is None else {"runs_locally": Fact(said, "declared", "GET /api/tags")}
    facts = local_facts(base_url, kind, declared)
    if local is None:
        assert facts == {}
        return
    assert facts["runs_locally"].value is local
    assert ("input_price_usd" in facts) is local
    if local:
        assert facts["input_price_usd"].value == 0.0


def test_the_evidence_names_a_machine_of_the_network():
    assert local_facts("http://gpu-box:8000/v1", "vllm", {})["input_price_usd"].evidence == (
        "runs on gpu-box, in this network"
    )


def test_nothing_is_fetched(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a socket was opened")

    list_price.cache_clear()
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    assert get_profile("gpt-4o").input_price_usd == 2.5
