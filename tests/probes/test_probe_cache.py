"""The store of what was verified: found by server, model and digest; whole or not there; without a key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mamba_nb.backends import verified
from mamba_nb.backends.verified import Place, Stored
from mamba_nb.servers.facts import Fact

URL = "http://127.0.0.1:11434/v1"
TOOLS = Fact(True, "verified", "probe: it called a tool", "2026-11-22T10:00:00+00:00")
CONTEXT = Fact(4096, "verified", "probe: refused more", "2026-11-22T10:00:00+00:00")


def result(field: str | None = None) -> dict[str, object]:
    return {"capability": "tools", "field": field, "verdict": "yes"}


def keep(place: Place, context: int | None = None) -> None:
    facts = {"supports_tools": TOOLS, "context_window": CONTEXT}
    verified.write(place, {"tools": result("supports_tools"), "context": result("context_window")}, facts, context)


def test_what_was_kept_is_found_again_by_address_model_and_digest():
    keep(verified.place_of(URL, "llama3.2", "abc"))
    assert verified.verified_facts(URL, "llama3.2", "abc") == {"supports_tools": TOOLS, "context_window": CONTEXT}
    assert verified.verified_facts(URL + "/", "llama3.2", "abc")["supports_tools"] == TOOLS
    for other in [
        (URL, "llama3.2", "abd"),
        (URL, "llama3.2", None),
        (URL, "llama3", "abc"),
        (URL[:-3], "llama3.2", "abc"),
    ]:
        assert verified.verified_facts(*other) == {}


def test_what_was_verified_of_the_context_holds_only_while_the_declared_one_is_the_same():
    keep(verified.place_of(URL, "m"), context=4096)
    same = verified.verified_facts(URL, "m", declared={"context_window": Fact(4096, "declared")})
    moved = verified.verified_facts(URL, "m", declared={"context_window": Fact(8192, "declared")})
    unsaid = verified.verified_facts(URL, "m", declared={})
    assert set(same) == set(unsaid) == {"supports_tools", "context_window"}
    assert set(moved) == {"supports_tools"}


def test_a_later_probe_is_laid_over_an_earlier_one():
    place = verified.place_of(URL, "m")
    keep(place)
    no = Fact(False, "verified", "probe: refused", "2026-11-23T10:00:00+00:00")
    verified.write(place, {"tools": {**result("supports_tools"), "verdict": "no"}}, {"supports_tools": no}, None)
    stored = verified.read(place)
    assert stored.facts == {"supports_tools": no, "context_window": CONTEXT}
    assert stored.results["tools"]["verdict"] == "no" and "context" in stored.results


def test_a_field_that_was_decided_and_has_no_value_any_more_is_gone():
    place = verified.place_of(URL, "m")
    keep(place)
    verified.write(place, {"context": result("context_window")}, {}, None)
    assert verified.read(place).facts == {"supports_tools": TOOLS}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": "mamba_nb.probes"}',
        '{"format": "mamba_nb.probes", "version": 999, "facts": {"supports_tools": {"value": true}}}',
        '{"format": "other", "version": 1}',
        "[" * 100_000,
        "\ud800".encode("utf-8", "surrogatepass"),
    ],
    ids=range(9),
)
def test_a_file_that_cannot_be_read_counts_as_none(text):
    place = verified.place_of(URL, "m")
    place.path.parent.mkdir(parents=True)
    place.path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert verified.read(place) == Stored()
    keep(place)
    assert verified.read(place).facts["supports_tools"] == TOOLS


def test_facts_of_the_wrong_type_are_left_out():
    place = verified.place_of(URL, "m")
    keep(place)
    data = json.loads(place.path.read_text())
    data["facts"]["supports_tools"]["value"] = "yes"
    data["facts"]["context_window"]["evidence"] = ["a", "list"]
    data["facts"]["supports_vision"] = 7
    data["results"]["tools"] = "yes"
    data["contexts"] = None
    place.path.write_text(json.dumps(data))
    stored = verified.read(place)
    assert stored.facts == {"context_window": Fact(4096, "verified", None, CONTEXT.as_of)}
    assert set(stored.results) == {"context"}


def test_a_file_of_another_place_is_not_taken_for_this_one():
    one, other = verified.place_of(URL, "m"), verified.place_of(URL, "n")
    keep(one)
    other.path.write_bytes(one.path.read_bytes())
    assert verified.read(other) == Stored()


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_memory(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MAMBA_PROBE_CACHE", str(tmp_path / "file"))
    keep(verified.place_of(URL, "m"))
    assert verified.verified_facts(URL, "m") == {}
    assert "could not be kept" in caplog.text


def test_nothing_is_left_beside_the_file(tmp_path: Path):
    keep(verified.place_of(URL, "m"))
    assert [path.suffix for path in (tmp_path / "probes").iterdir()] == [".json"]


def test_a_name_with_a_path_in_it_stays_in_the_folder(tmp_path: Path):
    for model in ("../../etc/passwd", "/m/a b.gguf", "..", "hf.co/x:Q4", "\x00", "ü" * 300):
        place = verified.place_of(URL, model)
        assert place.path.parent == tmp_path / "probes"
        keep(place)
        assert verified.read(place).facts


def test_a_user_name_and_a_query_in_the_address_are_not_kept(tmp_path: Path):
    place = verified.place_of("http://me:secret@gpu-box:8000/v1?key=secret", "m")
    keep(place)
    assert place.server == "http://gpu-box:8000/v1" and "secret" not in place.path.read_text()


def test_forgetting_takes_the_file_away():
    place = verified.place_of(URL, "m")
    keep(place)
    verified.forget(place)
    verified.forget(place)
    assert verified.read(place) == Stored() and not place.path.exists()


def test_without_a_chosen_folder_it_is_the_users_cache(monkeypatch):
    import platformdirs

    monkeypatch.delenv("MAMBA_PROBE_CACHE")
    assert verified.cache_folder() == Path(platformdirs.user_cache_dir("mamba_nb", appauthor=False)) / "probes"
