from __future__ import annotations

import copy
import inspect
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings

from mamba_nb.errors import MambaError, SettingsError
from mamba_nb.settings import AgentSettings, EmbeddedSettings, ModelBackendSettings, check_base_url

KEY = "sk-verysecret"
MODEL = "MAMBA_MODEL_BACKEND__MODEL"
TIMEOUT = "MAMBA_MODEL_BACKEND__TIMEOUT"
API_KEY = "MAMBA_MODEL_BACKEND__API_KEY"


@pytest.fixture(autouse=True)
def no_settings_around(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.upper().startswith("MAMBA_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def source_of(settings: AgentSettings, field: str) -> str:
    frame = settings.explain().set_index("field")
    return frame.loc[field, "source"]


# What the fields are


def test_the_defaults_are_the_documented_ones():
    backend = AgentSettings().model_backend
    assert backend.model_dump() == {
        "model": "llama3.2",
        "base_url": "http://localhost:11434/v1",
        "api_key": None,
        "temperature": 0.7,
        "max_tokens": None,
        "timeout": 30.0,
        "max_retries": 3,
    }
    assert AgentSettings().embedded.model_dump() == {
        "model_path": None,
        "n_ctx": 2048,
        "slots": 4,
        "threads": None,
        "cache_dir": None,
    }
    assert isinstance(AgentSettings(), BaseSettings)


def test_the_documented_snippet():
    settings = AgentSettings(
        model_backend={"base_url": "http://localhost:11434/v1", "model": "llama3.2", "temperature": 0.7}
    )
    assert settings.model_backend.model == "llama3.2"
    assert settings.model_backend.timeout == 30.0


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ({"temperature": 0}, "temperature", 0.0),
        ({"temperature": 2}, "temperature", 2.0),
        ({"temperature": "0.25"}, "temperature", 0.25),
        ({"max_tokens": 1}, "max_tokens", 1),
        ({"max_tokens": ""}, "max_tokens", None),
        ({"max_tokens": np.int64(7)}, "max_tokens", 7),
        ({"timeout": np.float32(0.5)}, "timeout", 0.5),
        ({"max_retries": 0}, "max_retries", 0),
        ({"model": " qwen3:8b\n"}, "model", "qwen3:8b"),
        ({"base_url": "http://localhost:8000/v1/"}, "base_url", "http://localhost:8000/v1"),
        ({"base_url": " https://api.example.com/v1// "}, "base_url", "https://api.example.com/v1"),
        ({"base_url": "HTTP://[::1]:8000/v1"}, "base_url", "HTTP://[::1]:8000/v1"),
        ({"base_url": "http://10.0.0.2"}, "base_url", "http://10.0.0.2"),
        ({"base_url": "http://proxy/one/two/v1"}, "base_url", "http://proxy/one/two/v1"),
        ({"api_key": ""}, "api_key", None),
        ({"api_key": SecretStr(" ")}, "api_key", None),
        ({"api_key": None}, "api_key", None),
    ],
)
def test_a_right_value_is_kept_as_its_type(options, field, value):
    kept = getattr(ModelBackendSettings(**options), field)
    assert kept == value and type(kept) is type(value)


@pytest.mark.parametrize("given", [KEY, f" {KEY}\n", SecretStr(KEY)])
def test_a_key_is_kept_without_the_line_break_it_was_pasted_with(given):
    assert ModelBackendSettings(api_key=given).api_key.get_secret_value() == KEY


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": ""}, "model_backend.model must be a model's name, not empty. What came: ''."),
        ({"model": None}, "model_backend.model must be a model's name, not empty. What came: None."),
        ({"model": 3}, "model_backend.model must be a model's name, not empty. What came: 3."),
        ({"temperature": -0.1}, "model_backend.temperature must be a number from 0.0 to 2.0. What came: -0.1."),
        ({"temperature": 2.1}, "model_backend.temperature must be a number from 0.0 to 2.0. What came: 2.1."),
        ({"temperature": float("nan")}, "model_backend.temperature must be a number from 0.0 to 2.0. What came: nan."),
        ({"temperature": None}, "model_backend.temperature must be a number from 0.0 to 2.0. What came: None."),
        ({"max_tokens": 0}, "model_backend.max_tokens must be a whole number of tokens greater than 0, or None."),
        ({"max_tokens": 1.5}, "model_backend.max_tokens must be a whole number of tokens greater than 0, or None."),
        ({"max_tokens": True}, "model_backend.max_tokens must be a whole number of tokens greater than 0, or None."),
        ({"timeout": 0}, "model_backend.timeout must be a number of seconds greater than 0. What came: 0."),
        ({"timeout": "soon"}, "model_backend.timeout must be a number of seconds greater than 0. What came: 'soon'."),
        ({"timeout": float("inf")}, "model_backend.timeout must be a number of seconds greater than 0."),
        ({"max_retries": -1}, "model_backend.max_retries must be a whole number, 0 or more. What came: -1."),
        ({"tiemout": 3}, "model_backend has no option 'tiemout'. Did you mean 'timeout'?"),
    ],
)
def test_a_wrong_value_names_the_field_the_rule_and_what_came(options, message):
    for make in (
        lambda: ModelBackendSettings(**options),
        lambda: AgentSettings(model_backend=options),
    ):
        with pytest.raises(SettingsError) as caught:
            make()
        assert message.removesuffix(".") in str(caught.value)
        assert isinstance(caught.value, (MambaError, ValueError))
        assert not isinstance(caught.value, ValidationError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slots": 0}, "embedded.slots must be a whole number from 1 to 64. What came: 0."),
        ({"slots": 65}, "embedded.slots must be a whole number from 1 to 64. What came: 65."),
        ({"n_ctx": 0}, "embedded.n_ctx must be a whole number of tokens greater than 0. What came: 0."),
        ({"threads": 0}, "embedded.threads must be a whole number greater than 0, or None. What came: 0."),
        ({"model_path": 3}, "embedded.model_path must be the path of a GGUF file, or None. What came: 3."),
        ({"model_pth": "x"}, "embedded has no option 'model_pth'. Did you mean 'model_path'?"),
    ],
)
def test_a_wrong_embedded_value_is_refused_likewise(options, message):
    with pytest.raises(SettingsError) as caught:
        EmbeddedSettings(**options)
    assert message in str(caught.value)


def test_all_wrong_values_are_named_at_once():
    with pytest.raises(SettingsError) as caught:
        AgentSettings(model_backend={"timeout": -1, "temperature": 9, "modle": "x"})
    text = str(caught.value)
    assert "model_backend.timeout" in text and "model_backend.temperature" in text and "'modle'" in text


def test_paths_lose_their_tilde_and_may_name_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    embedded = EmbeddedSettings(model_path="~/tiny.gguf", cache_dir="")
    assert embedded.model_path == tmp_path / "tiny.gguf"
    assert embedded.cache_dir is None


# Addresses


@pytest.mark.parametrize(
    ("address", "rule", "hint"),
    [
        ("localhost:1234/v1", "must start with http:// or https://", "Did you mean http://localhost:1234/v1?"),
        ("h:80/v1/chat/completions", "must start with http:// or https://", "Did you mean http://h:80/v1?"),
        ("192.168.1.5:8000", "must start with http:// or https://", "Did you mean http://192.168.1.5:8000?"),
        ("http:/localhost", "must start with http:// or https://", None),
        ("ftp://localhost/v1", "must start with http:// or https://", None),
        ("", "must start with http:// or https://", None),
        ("http://", "must start with http:// or https://", None),
        ("http:///v1", "must have a host", None),
        ("http://:8000/v1", "must have a host", None),
        ("http://localhost:99999/v1", "a port from 1 to 65535", None),
        ("http://localhost:port/v1", "a port from 1 to 65535", None),
        ("http://[::1/v1", "must have a host", None),
        ("http://local host/v1", "must have a host", None),
        ("http://h/v1?api-version=3", "must end with its path", "Use http://h/v1"),
        ("http://h/v1#top", "must end with its path", "Use http://h/v1"),
        ("http://h/v1/chat/completions", "must stop before /chat/completions", "Use http://h/v1"),
        ("http://h/v1/chat/completions/", "must stop before /chat/completions", "Use http://h/v1"),
        ("http://h/v1/Completions", "must stop before /completions", "Use http://h/v1"),
        ("http://h/v1/embeddings", "must stop before /embeddings", "Use http://h/v1"),
        ("https://h/v1/responses", "must stop before /responses", "Use https://h/v1"),
    ],
)
def test_an_address_that_cannot_be_a_servers_is_refused_with_what_to_use(address, rule, hint):
    with pytest.raises(SettingsError) as direct:
        check_base_url(address)
    with pytest.raises(SettingsError) as nested:
        AgentSettings(model_backend={"base_url": address})
    assert direct.value.message.startswith("base_url ")
    assert nested.value.message.startswith("model_backend.base_url ")
    for caught in (direct, nested):
        assert rule in caught.value.message
        assert caught.value.hint == hint


@pytest.mark.parametrize(
    "address",
    [
        "http://user:hush@host/v1",
        "http://user:hu@hush@host/v1",
        "user:hush@host/v1",
        "http://user:12/hush@host/v1",
        "http://user:12?hush@host/v1",
        "http://user:12#hush@host/v1",
        "http://host/v1?key=hush",
        "http://:hush@host/v1",
    ],
)
def test_a_password_in_an_address_is_refused_and_not_shown(address):
    for check in (check_base_url, lambda value: ModelBackendSettings(base_url=value)):
        with pytest.raises(SettingsError) as caught:
            check(address)
        assert "hush" not in str(caught.value) and "hush" not in repr(caught.value)


@pytest.mark.parametrize("address", [None, 8000, ["http://h/v1"]])
def test_an_address_that_is_no_text_is_refused(address):
    with pytest.raises(SettingsError, match=r"^base_url must be text such as http://localhost:11434/v1"):
        check_base_url(address)
    with pytest.raises(SettingsError, match=r"^model_backend.base_url must be an address such as"):
        ModelBackendSettings(base_url=address)


def test_check_base_url_returns_the_address_without_slashes_at_its_end():
    assert check_base_url(" http://localhost:8000/v1/ ") == "http://localhost:8000/v1"


# Where values come from


def test_each_source_ranks_above_the_next_field_by_field(monkeypatch, tmp_path):
    toml = tmp_path / "mamba.toml"
    toml.write_text(
        '[model_backend]\nmodel = "toml"\ntimeout = 1\ntemperature = 1\nmax_tokens = 1\n[embedded]\nslots = 8\n'
    )
    Path(".env").write_text(f"{MODEL}=dotenv\n{TIMEOUT}=2\nMAMBA_MODEL_BACKEND__TEMPERATURE=1.5\n")
    monkeypatch.setenv("MAMBA_CONFIG", str(toml))
    monkeypatch.setenv(MODEL, "environment")
    monkeypatch.setenv(TIMEOUT, "3")
    settings = AgentSettings(model_backend={"model": "constructor"})
    backend = settings.model_backend
    assert (backend.model, backend.timeout, backend.temperature, backend.max_tokens, backend.max_retries) == (
        "constructor",
        3.0,
        1.5,
        1,
        3,
    )
    assert settings.embedded.slots == 8
    frame = settings.explain()
    assert list(frame.columns) == ["field", "value", "source"]
    expected = {
        "model_backend.model": ("constructor", "constructor"),
        "model_backend.base_url": ("http://localhost:11434/v1", "default"),
        "model_backend.api_key": (None, "default"),
        "model_backend.temperature": (1.5, ".env"),
        "model_backend.max_tokens": (1, str(toml)),
        "model_backend.timeout": (3.0, f"environment {TIMEOUT}"),
        "model_backend.max_retries": (3, "default"),
        "embedded.model_path": (None, "default"),
        "embedded.n_ctx": (2048, "default"),
        "embedded.slots": (8, str(toml)),
        "embedded.threads": (None, "default"),
        "embedded.cache_dir": (None, "default"),
    }
    assert {row.field: (row.value, row.source) for row in frame.itertuples()} == expected


def test_a_partial_dict_keeps_the_environments_other_fields(monkeypatch):
    monkeypatch.setenv(MODEL, "qwen3:8b")
    backend = AgentSettings(model_backend={"timeout": 60.0}).model_backend
    assert (backend.model, backend.timeout) == ("qwen3:8b", 60.0)


def test_a_section_object_gives_only_the_fields_that_were_set(monkeypatch):
    monkeypatch.setenv(MODEL, "qwen3:8b")
    monkeypatch.setenv("MAMBA_MODEL_BACKEND__MAX_RETRIES", "7")
    given = ModelBackendSettings(timeout=60.0)
    given.max_retries = 3  # set by hand, though to the default
    backend = AgentSettings(model_backend=given).model_backend
    assert (backend.model, backend.timeout, backend.max_retries) == ("qwen3:8b", 60.0, 3)
    assert given.model_fields_set == {"timeout", "max_retries"}


def test_none_given_for_a_section_is_as_if_not_given(monkeypatch):
    monkeypatch.setenv(MODEL, "qwen3:8b")
    assert AgentSettings(model_backend=None).model_backend.model == "qwen3:8b"


def test_none_given_for_a_field_overrides_the_environment(monkeypatch):
    monkeypatch.setenv(API_KEY, KEY)
    settings = AgentSettings(model_backend={"api_key": None})
    assert settings.model_backend.api_key is None
    assert source_of(settings, "model_backend.api_key") == "constructor"


def test_a_section_made_alone_reads_nothing(monkeypatch):
    monkeypatch.setenv(MODEL, "qwen3:8b")
    monkeypatch.setenv("MODEL", "other")
    Path(".env").write_text(f"{MODEL}=dotenv\n")
    assert ModelBackendSettings().model == "llama3.2"
    assert ModelBackendSettings().model_fields_set == set()


def test_names_in_the_environment_may_be_in_any_case(monkeypatch):
    monkeypatch.setenv("mamba_model_backend__Model", "qwen3:8b")
    settings = AgentSettings()
    assert settings.model_backend.model == "qwen3:8b"
    assert source_of(settings, "model_backend.model") == f"environment {MODEL}"


def test_a_whole_section_may_be_json_and_single_variables_win(monkeypatch):
    monkeypatch.setenv("MAMBA_MODEL_BACKEND", '{"MODEL": "json", "timeout": 9, "unknown": 1}')
    monkeypatch.setenv(TIMEOUT, "3")
    settings = AgentSettings()
    assert (settings.model_backend.model, settings.model_backend.timeout) == ("json", 3.0)
    assert source_of(settings, "model_backend.model") == "environment MAMBA_MODEL_BACKEND"
    assert source_of(settings, "model_backend.timeout") == f"environment {TIMEOUT}"


def test_a_null_in_a_sections_json_is_none(monkeypatch):
    Path(".env").write_text(f"{API_KEY}={KEY}\n")
    monkeypatch.setenv("MAMBA_MODEL_BACKEND", '{"api_key": null}')
    settings = AgentSettings()
    assert settings.model_backend.api_key is None
    assert source_of(settings, "model_backend.api_key") == "environment MAMBA_MODEL_BACKEND"


@pytest.mark.parametrize("text", ["llama3.2", "[1]", "", f'{{"api_key": "{KEY}"'])
def test_a_section_variable_that_is_no_json_object_is_refused_unseen(monkeypatch, text):
    monkeypatch.setenv("MAMBA_MODEL_BACKEND", text)
    with pytest.raises(SettingsError, match="MAMBA_MODEL_BACKEND in the environment must hold a JSON object") as caught:
        AgentSettings()
    assert KEY not in str(caught.value) and caught.value.__context__ is None
    assert MODEL in caught.value.hint


def test_an_empty_variable_means_none_where_none_is_allowed(monkeypatch):
    Path(".env").write_text(f"{API_KEY}={KEY}\nMAMBA_MODEL_BACKEND__MAX_TOKENS=5\nMAMBA_EMBEDDED__MODEL_PATH=\n")
    monkeypatch.setenv(API_KEY, "")
    monkeypatch.setenv("MAMBA_MODEL_BACKEND__MAX_TOKENS", " ")
    settings = AgentSettings()
    assert settings.model_backend.api_key is None
    assert settings.model_backend.max_tokens is None
    assert settings.embedded.model_path is None
    assert source_of(settings, "model_backend.api_key") == f"environment {API_KEY}"


@pytest.mark.parametrize("field", ["model", "base_url", "temperature", "timeout", "max_retries"])
def test_an_empty_variable_is_an_error_where_none_is_not_allowed(monkeypatch, field):
    monkeypatch.setenv(f"MAMBA_MODEL_BACKEND__{field.upper()}", "")
    with pytest.raises(SettingsError, match=f"model_backend.{field} must ") as caught:
        AgentSettings()
    assert f"What came: '', from MAMBA_MODEL_BACKEND__{field.upper()} in the environment." in str(caught.value)


def test_a_wrong_value_says_which_source_it_came_from(monkeypatch, tmp_path):
    def message() -> str:
        with pytest.raises(SettingsError) as caught:
            AgentSettings()
        return caught.value.message

    rule = "model_backend.timeout must be a number of seconds greater than 0. What came: "
    monkeypatch.setenv("MAMBA_CONFIG", "mamba.toml")
    Path("mamba.toml").write_text("[model_backend]\ntimeout = 0\n")
    assert message() == f"{rule}0, from mamba.toml."
    Path(".env").write_text(f"{TIMEOUT}=never\n")
    assert message() == f"{rule}'never', from {TIMEOUT} in .env."
    monkeypatch.setenv(TIMEOUT, "-1")
    assert message() == f"{rule}'-1', from {TIMEOUT} in the environment."
    with pytest.raises(SettingsError) as caught:
        AgentSettings(model_backend={"timeout": -2})
    assert caught.value.message == f"{rule}-2, from the constructor."


def test_unknown_keys_are_ignored_outside_the_constructor(monkeypatch):
    monkeypatch.setenv("MAMBA_MODEL_BACKEND__TIEMOUT", "3")
    monkeypatch.setenv("MAMBA_NOTHING", "3")
    monkeypatch.setenv("MAMBA_MODEL_BACKEND__API_KEY__EXTRA", "3")
    monkeypatch.setenv("MAMBA_CONFIG", "mamba.toml")
    Path("mamba.toml").write_text('nothing = 1\n[model_backend]\ntiemout = 3\nmodel = "toml"\n[other]\nx = 1\n')
    Path(".env").write_text("OTHER=1\nMAMBA_FOO__BAR=2\nMAMBA_MODEL_BACKEND__TIEMOUT=3\nMODEL_BACKEND=x\nexport X=1\n")
    assert AgentSettings().model_backend == ModelBackendSettings(model="toml")


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ({"model_backnd": {}}, "no option 'model_backnd'. Did you mean 'model_backend'?", "model_backend, embedded"),
        ({"zzz": 1}, "AgentSettings has no option 'zzz'.", "model_backend, embedded"),
        ({"model": "x"}, "no option 'model'; model_backend has it", "AgentSettings(model_backend={'model': ...})"),
        ({"slots": 2}, "no option 'slots'; embedded has it", "AgentSettings(embedded={'slots': ...})"),
        ({"_env_fil": ".env"}, "Did you mean '_env_file'?", "model_backend, embedded"),
        ({"model_backend": {"modle": "x"}}, "model_backend has no option 'modle'. Did you mean 'model'?", "base_url"),
        ({"model_backend": {3: "x"}}, "model_backend has no option '3'.", "base_url"),
        ({"model_backend": "llama3.2"}, "What came: str.", "AgentSettings(model_backend={'model': ...})"),
        ({"model_backend": EmbeddedSettings()}, "What came: EmbeddedSettings.", "model_backend={'model': ...}"),
    ],
)
def test_an_unknown_constructor_key_is_refused_with_the_closest_name(arguments, message, hint):
    with pytest.raises(SettingsError) as caught:
        AgentSettings(**arguments)
    assert message in caught.value.message
    assert hint in caught.value.hint


# Files


def test_a_named_env_file_is_read_instead_of_dotenv():
    Path(".env").write_text(f"{MODEL}=dotenv\n{TIMEOUT}=9\n")
    Path(".env.prod").write_text(f"# production\nexport {MODEL}='gpt-4o'\n{API_KEY}={KEY}\n")
    settings = AgentSettings(_env_file=".env.prod")
    assert (settings.model_backend.model, settings.model_backend.timeout) == ("gpt-4o", 30.0)
    assert source_of(settings, "model_backend.model") == ".env.prod"
    assert AgentSettings(_env_file=None).model_backend.model == "llama3.2"
    assert AgentSettings(_env_file=Path(".env.prod").absolute()).model_backend.model == "gpt-4o"


def test_of_several_env_files_the_later_ones_win_and_missing_ones_are_skipped():
    Path("a.env").write_text(f"{MODEL}=a\n{TIMEOUT}=1\n")
    Path("b.env").write_text(f"{MODEL}=b\n")
    settings = AgentSettings(_env_file=("a.env", "b.env", "none.env"))
    assert (settings.model_backend.model, settings.model_backend.timeout) == ("b", 1.0)
    assert source_of(settings, "model_backend.model") == "b.env"
    assert source_of(settings, "model_backend.timeout") == "a.env"


def test_a_single_env_file_that_is_missing_is_an_error():
    with pytest.raises(SettingsError, match=r"\.env\.prd does not exist") as caught:
        AgentSettings(_env_file=".env.prd")
    assert "_env_file=None" in caught.value.hint


def test_an_env_file_with_a_byte_order_mark_is_read():
    Path(".env").write_bytes(b"\xef\xbb\xbf" + f"{MODEL}=qwen3:8b\n".encode())
    assert AgentSettings().model_backend.model == "qwen3:8b"


def test_an_env_file_in_another_encoding_is_read_if_it_is_named():
    Path(".env").write_bytes(f"{MODEL}=caf\xe9\n".encode("latin-1"))
    assert AgentSettings(_env_file_encoding="latin-1").model_backend.model == "café"
    with pytest.raises(SettingsError, match=r"\.env cannot be read as UTF-8 text"):
        AgentSettings()
    with pytest.raises(SettingsError, match="no-such-encoding"):
        AgentSettings(_env_file_encoding="no-such-encoding")


def test_a_name_without_a_value_in_an_env_file_counts_as_missing():
    Path(".env").write_text(f"{MODEL}\n{API_KEY}\n")
    assert AgentSettings().explain()["source"].eq("default").all()


def test_the_toml_file_may_be_named_in_dotenv_and_switched_off_in_the_environment(monkeypatch):
    Path("mamba.toml").write_text('[model_backend]\nmodel = "toml"\n')
    Path(".env").write_text("MAMBA_CONFIG=mamba.toml\n")
    assert AgentSettings().model_backend.model == "toml"
    monkeypatch.setenv("MAMBA_CONFIG", "")
    assert AgentSettings().model_backend.model == "llama3.2"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "settings.toml, named by MAMBA_CONFIG, does not exist"),
        (b"model = ", "settings.toml, named by MAMBA_CONFIG, is not TOML: "),
        (b"model = '\xff'", "settings.toml, named by MAMBA_CONFIG, is not TOML: "),
        (b'model_backend = "x"', "model_backend in settings.toml must be a table of options"),
    ],
)
def test_a_config_file_that_cannot_be_used_is_named(monkeypatch, content, message):
    if content is not None:
        Path("settings.toml").write_bytes(content)
    monkeypatch.setenv("MAMBA_CONFIG", "settings.toml")
    with pytest.raises(SettingsError) as caught:
        AgentSettings()
    assert message in str(caught.value)


def test_a_config_that_is_a_folder_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("MAMBA_CONFIG", str(tmp_path))
    with pytest.raises(SettingsError, match="named by MAMBA_CONFIG, cannot be read"):
        AgentSettings()


# Changing and copying


def test_a_later_assignment_is_checked_and_explained():
    settings = AgentSettings(model_backend={"timeout": 5})
    settings.model_backend.timeout = "6"
    settings.embedded = {"slots": 2}
    assert settings.model_backend.timeout == 6.0
    assert settings.embedded == EmbeddedSettings(slots=2)
    assert source_of(settings, "model_backend.timeout") == "assignment"
    assert source_of(settings, "embedded.slots") == "assignment"
    assert source_of(settings, "embedded.n_ctx") == "default"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: setattr(s.model_backend, "timeout", -1), "model_backend.timeout must be a number of seconds"),
        (lambda s: setattr(s.model_backend, "timeot", 1), "model_backend has no option 'timeot'"),
        (lambda s: setattr(s, "model_backend", {"timeout": -1}), "model_backend.timeout must be a number of seconds"),
        (lambda s: setattr(s, "model_backend", 3), "model_backend must be a table of options"),
        (lambda s: setattr(s, "model", "x"), "AgentSettings has no option 'model'; model_backend has it"),
    ],
)
def test_a_wrong_assignment_is_refused_and_changes_nothing(change, message):
    settings = AgentSettings()
    with pytest.raises(SettingsError) as caught:
        change(settings)
    assert message in caught.value.message
    assert settings == AgentSettings()


def test_settings_are_equal_by_value_and_survive_pickle_and_deepcopy(monkeypatch):
    monkeypatch.setenv(API_KEY, KEY)
    settings = AgentSettings(model_backend={"model": "qwen3:8b"}, embedded={"model_path": "tiny.gguf"})
    for twin in (pickle.loads(pickle.dumps(settings)), copy.deepcopy(settings)):
        assert twin == settings
        assert twin.model_backend.api_key.get_secret_value() == KEY
        pd.testing.assert_frame_equal(twin.explain(), settings.explain())
    twin.model_backend.model = "other"
    assert twin != settings and settings.model_backend.model == "qwen3:8b"
    assert AgentSettings(_env_file=None) == AgentSettings(model_backend={"api_key": KEY})
    assert AgentSettings() != 3


# Keys


def everything_that_is_printed(settings: AgentSettings) -> str:
    backend = settings.model_backend
    frame = settings.explain()
    shown = [repr(settings), str(settings), repr(backend), str(backend), repr(backend.api_key), str(backend.api_key)]
    dumped = [backend.model_dump_json(), str(settings.model_dump())]
    return " ".join([*shown, *dumped, frame.to_string(), frame.to_html(), frame.to_csv()])


def test_a_key_is_shown_nowhere(monkeypatch):
    monkeypatch.setenv(API_KEY, KEY)
    settings = AgentSettings()
    assert settings.model_backend.api_key.get_secret_value() == KEY
    assert KEY not in everything_that_is_printed(settings)
    frame = settings.explain().set_index("field")
    assert frame.loc["model_backend.api_key"].tolist() == ["***", f"environment {API_KEY}"]


@pytest.mark.parametrize("key", [f"{KEY} two", f"{KEY}\nX-Header: 1", f"{KEY}é", [KEY], KEY.encode() + b"\xff"])
def test_a_wrong_key_is_refused_without_showing_it(key):
    for make in (
        lambda: ModelBackendSettings(api_key=key),
        lambda: AgentSettings(model_backend={"api_key": key, "timeout": -1}),
        lambda: setattr(ModelBackendSettings(), "api_key", key),
    ):
        with pytest.raises(SettingsError, match="api_key must be a key of printable ASCII") as caught:
            make()
        error: BaseException | None = caught.value
        assert "not shown" in str(error)
        while error is not None:  # neither here nor in what is chained to it
            assert KEY not in f"{error} {error!r} {error.args}"
            error = error.__cause__ or error.__context__


def test_a_key_in_the_wrong_place_is_not_shown():
    with pytest.raises(SettingsError) as caught:
        AgentSettings(model_backend=[KEY])
    assert KEY not in str(caught.value)


# The package around it


def test_the_signature_shows_plain_types_and_defaults():
    parameters = inspect.signature(ModelBackendSettings).parameters
    assert list(parameters) == [
        "model",
        "base_url",
        "api_key",
        "temperature",
        "max_tokens",
        "timeout",
        "max_retries",
    ]
    assert parameters["timeout"].annotation is float and parameters["timeout"].default == 30.0
    assert str(parameters["max_tokens"]) == "max_tokens: int | None = None"
    assert "_env_file" in inspect.signature(AgentSettings).parameters


def test_importing_reads_no_environment_and_no_file(tmp_path):
    script = """
import os, sys
import pydantic_settings  # the library's own import is not the question
real = os.environ
class Watched(type(real)):
    def __getitem__(self, name): seen.append(name); return super().__getitem__(name)
    def items(self): seen.append("all"); return super().items()
seen = []
os.environ = Watched(real._data, real.encodekey, real.decodekey, real.encodevalue, real.decodevalue)
import mamba_nb.settings
print([name for name in seen if name == "all" or name.upper().startswith("MAMBA")])
print("pandas" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path, timeout=60
    )
    assert done.stdout.split("\n")[:2] == ["[]", "False"], done.stderr
