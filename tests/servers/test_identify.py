"""Every personality and every decoy is told as what it is, and asked no more than it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from mamba_nb._bridge import Run
from mamba_nb._look import Answer
from mamba_nb.errors import EndpointNotFound, MambaError
from mamba_nb.servers.asking import Asking
from mamba_nb.servers.discovery import server_at
from mamba_nb.servers.identify import identify, is_model_list, parent_of, speaks_of_keys, suspects
from mamba_nb.servers.kinds import Sighting
from mamba_nb.servers.server import Server
from mamba_nb.testing import ScriptedServer, styles
from mamba_nb.testing.decoys import NAMES as DECOYS
from mamba_nb.testing.decoys import decoy

KEY = "sk-a-key-of-nobody"
WITHOUT_OWN_KEY = {"ollama", "tgi", "mlxlm", "dockermodelrunner"}  # these ask for none, so no variant asks


@dataclass(frozen=True)
class Case:
    """One way a kind can look, and what it is to be told as."""

    style: str
    told: str
    options: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    certainties: tuple[str, ...] = ("certain", "likely")
    mode: str | None = None
    name: str = ""

    def __str__(self) -> str:
        return self.name or "-".join([self.style, *(f"{k}={v}" for k, v in self.options.items())])

    def server(self) -> ScriptedServer:
        return ScriptedServer(style=self.style, options=self.options, **{"models": ["one", "two"], **self.more})


def told(style: str, **options: Any) -> Case:
    return Case(style, style, options)


# OpenAI's own shapes on another host are nobody in particular, and so is a plain server.
GUESSES = {"mlxlm": ("guess",), "jan": ("likely", "guess")}
PLAIN = [
    Case(
        style,
        "compatible" if style in ("plain", "openai") else style,
        certainties=GUESSES.get(style, ("certain", "likely")),
    )
    for style in styles.NAMES
]
OTHER_FORMS = [
    Case("llamacpp", "llamacpp", {"mode": "router"}, mode="router"),
    Case("llamacpp", "llamacpp", {"mode": "router", "loaded_info": False}, mode="router"),
    told("llamacpp", build="b0-unknown", input_tokens=False, template=False),
    told("ollama", version="0.30.0"),
    told("ollama", version="0.13.5"),
    told("ollama", hides_root=True),
    told("lmstudio", version="0.3"),
    told("lmstudio", version="0.2"),
    told("lmstudio", greeting=False),
    told("lmstudio", version="0.2", greeting=False),
    told("localai", ollama_root=True),
    told("localai", old=True),
    told("sglang", ollama_root=True),
    told("sglang", old=True),
    told("sglang", metrics=False),
    told("tgi", old=True),
    told("vllm", task="embed"),
    told("vllm", metrics="old"),
    told("llamaswap", old=True),
    told("litellm", docs=True, info_needs_admin=True),
    told("litellm", version_header=True),
    told("koboldcpp", old=True),
    told("koboldcpp", inactive=True),
    told("textgenwebui", loaded=None),
    told("dockermodelrunner", old=True),
    told("lemonade", server_header=True),
    told("jan", open=True),
    told("jan", old=True),
]
NO_MODELS = [
    Case(style, style, more={"models": []}, name=f"{style} without models", certainties=("certain", "likely", "guess"))
    for style in ("ollama", "lmstudio", "localai", "llamaswap", "litellm", "lemonade", "dockermodelrunner")
]
NAMESPACED = [
    Case(
        "ollama",
        "ollama",
        more={"models": ["mannix/llama3:8b", "hf.co/bartowski/x:Q4"], "owned_by": "mannix"},
        name="ollama with models of a namespace alone",
    ),
]
# What shows nothing of its own without a key is a guess until it gets one.
SILENT_WITHOUT_KEY = ("plain", "openai", "lemonade")
GUESSED_WITHOUT_KEY = (*SILENT_WITHOUT_KEY, "sglang")
WITH_KEY = [
    Case(
        style,
        "compatible" if style in ("plain", "openai") else style,
        more={"api_key": KEY},
        name=f"{style} that asks for a key",
    )
    for style in styles.NAMES
    if style not in WITHOUT_OWN_KEY
]
CASES = [*PLAIN, *OTHER_FORMS, *NO_MODELS, *NAMESPACED]

# A refusal in JSON at an address that somebody named is a model server as far as anybody can tell without a key.
REFUSALS = ("json_401", "json_403")


def at(url: str, **options: Any) -> Server:
    async def look(_run: Run[Any, Server]) -> Server:
        return await server_at(url, **options)

    return Run(look, name="look").result()


def sighted(root: str, key: str | None = None) -> Sighting | None:
    async def look(_run: Run[Any, Sighting | None]) -> Sighting | None:
        return await identify(Asking(root=root, base_url=f"{root}/v1", key=key, read_s=3.0))

    return Run(look, name="identify").result()


@contextmanager
def asked(case: Case) -> Iterator[ScriptedServer]:
    with case.server() as server:
        yield server


class TestConfusionMatrix:
    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_each_personality_is_told_as_itself(self, case):
        with case.server() as server:
            found = at(server.root)
        assert (found.kind, found.mode) == (case.told, case.mode), found.sighting
        assert found.certainty in case.certainties, found.sighting
        assert found.evidence
        if case.style != "jan" or case.options.get("open"):
            assert found.needs_key is False

    @pytest.mark.parametrize("case", WITH_KEY, ids=str)
    def test_a_server_that_asks_for_a_key_is_told_without_it_and_says_so(self, case):
        with case.server() as server:
            found = at(server.root)
            assert found.kind == ("compatible" if case.style in SILENT_WITHOUT_KEY else case.told), found.sighting
            assert (found.certainty == "guess") is (case.style in GUESSED_WITHOUT_KEY)
            if case.style != "koboldcpp":  # its password guards what generates, not its list
                assert found.needs_key and not found.usable
                assert any("asks for a key" in problem for problem in found.problems)

    @pytest.mark.parametrize("case", WITH_KEY, ids=str)
    def test_with_its_key_it_is_told_just_the_same_and_lists_its_models(self, case):
        with case.server() as server:
            found = at(server.root, key=KEY)
            assert found.kind == case.told, found.sighting
            assert found.models and not found.problems
            assert KEY not in repr(found) + str(found.sighting) + found.to_frame().to_string()

    @pytest.mark.parametrize("name", [name for name in DECOYS if name not in REFUSALS])
    def test_no_decoy_is_told_as_a_server(self, name):
        with decoy(name) as place, pytest.raises(MambaError) as raised:
            at(place.root, key=KEY, connect_s=1, read_s=0.3)
        assert KEY not in str(raised.value)
        assert len(str(raised.value)) < 500

    @pytest.mark.parametrize("name", REFUSALS)
    def test_a_refusal_in_json_at_a_named_address_is_a_guess_and_nothing_more(self, name):
        with decoy(name) as place:
            found = at(place.root)
        assert (found.kind, found.certainty, found.needs_key, found.usable) == ("compatible", "guess", True, False)

    def test_a_gateway_counts_for_more_than_the_header_of_what_stands_behind_it(self):
        for style in ("llamaswap", "lemonade", "dockermodelrunner"):
            with ScriptedServer(style=style, models=["m"], headers={"Server": "llama.cpp"}) as server:
                assert at(server.root).kind == style

    def test_a_list_that_copies_another_kinds_owner_is_not_that_kind(self):
        for owner in ("vllm", "sglang", "library", "llamacpp", "organization_owner", "koboldcpp", "user"):
            with ScriptedServer(style="plain", models=["m"], owned_by=owner) as server:
                found = at(server.root)
            assert found.certainty != "certain", (owner, found.sighting)

    def test_a_server_that_is_loading_is_told_by_what_it_says(self):
        with ScriptedServer(style="llamacpp", models=["m"], loading_s=60) as server:
            found = at(server.root)
        assert (found.kind, found.models) == ("llamacpp", ())
        assert any("loading" in problem for problem in found.problems)


class TestPoliteness:
    """How many requests it takes to tell a kind; what comes after, to read its models, is not counted."""

    @pytest.mark.parametrize(
        ("style", "most"),
        [
            ("lmstudio", 2),
            ("ollama", 4),
            ("vllm", 2),
            ("llamacpp", 2),
            ("sglang", 3),
            ("llamaswap", 2),
            ("lemonade", 2),
            ("dockermodelrunner", 2),
            ("koboldcpp", 2),
            ("textgenwebui", 2),
            ("localai", 4),
            ("litellm", 5),
            ("tgi", 4),
            ("mlxlm", 5),
            ("plain", 5),
        ],
    )
    def test_few_requests_tell_a_kind(self, style, most):
        with ScriptedServer(style=style, models=["m"]) as server:
            assert sighted(server.root) is not None
            paths = [request.path for request in server.requests]
        assert paths[0] == "/v1/models"
        assert len(paths) == len(set(paths)), "a path is asked once"
        assert len(paths) <= most, paths
        assert {request.method for request in server.requests} == {"GET"}

    @pytest.mark.parametrize("version", ["0.4", "0.3"])
    def test_lm_studio_is_asked_for_no_path_that_it_would_log_as_an_error(self, version):
        with ScriptedServer(style="lmstudio", models=["m"], options={"version": version}) as server:
            at(server.root)
            wrong = [request.path for request in server.requests if request.path not in KNOWN_TO_LM_STUDIO[version]]
        assert wrong == ([] if version == "0.4" else ["/api/v1/models"])

    @pytest.mark.parametrize("name", [name for name in DECOYS if name not in ("silent", "drip", "drip_head")])
    def test_what_is_no_model_server_is_soon_left_alone(self, name):
        with decoy(name) as place:
            sighted(place.root)
            assert len(place.seen) <= 6, [seen.path for seen in place.seen]


KNOWN_TO_LM_STUDIO = {
    "0.4": {"/v1/models", "/lmstudio-greeting", "/api/v1/models", "/api/v0/models"},
    "0.3": {"/v1/models", "/lmstudio-greeting", "/api/v0/models"},
}


class TestUnreasonableAnswers:
    @pytest.mark.parametrize(
        "entry",
        [None, 7, [], {"id": 7}, {"id": None, "owned_by": "vllm"}, {"owned_by": ["vllm"]}, {"id": "a", "owned_by": {}}],
        ids=str,
    )
    def test_odd_entries_raise_nothing(self, entry):
        listing = {"object": "list", "data": [entry, {"id": "m", "object": "model", "owned_by": 7}]}
        with ScriptedServer(style="plain", models=["m"]) as server:
            server.scripts["/v1/models"] = _raw(listing)
            assert at(server.root).kind == "compatible"

    def test_data_may_be_null(self):
        with ScriptedServer(style="ollama", models=[]) as server:
            found = at(server.root)
        assert (found.kind, found.models) == ("ollama", ())
        assert any("no models" in problem for problem in found.problems)

    def test_nothing_listening_is_said_so(self):
        from mamba_nb.errors import ServerUnreachable
        from mamba_nb.testing import closed_port

        with closed_port() as place, pytest.raises(ServerUnreachable, match="Nothing is listening"):
            at(place.root)

    def test_a_page_is_named_by_its_title(self):
        with decoy("web_page") as place, pytest.raises(EndpointNotFound, match="Grafana"):
            at(place.root)


def _raw(body: Any) -> Any:
    from mamba_nb.testing import Script

    return Script(error_body=body)


def answer(body: bytes, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(url="http://x/v1/models", status=status, headers=named, body=body, latency_ms=1.0)


class TestSuspects:
    """Who is asked, and in which order, by hand from the rules."""

    def names(self, answer: Answer, root: str = "http://127.0.0.1:9") -> list[str]:
        return [kind.name for kind in suspects(answer, root)]

    def test_an_owner_puts_its_kind_first(self):
        listing = answer(b'{"object":"list","data":[{"id":"m","owned_by":"sglang"}]}')
        assert self.names(listing)[0] == "sglang"
        assert "vllm" not in self.names(listing)

    def test_the_header_of_llama_cpp_gives_way_to_a_gateways_owner(self):
        listing = answer(b'{"object":"list","data":[{"id":"m","owned_by":"docker"}]}', server="llama.cpp")
        assert self.names(listing)[:2] == ["dockermodelrunner", "llamacpp"]

    def test_the_port_moves_a_kind_to_the_front_of_those_that_are_possible(self):
        empty = answer(b'{"object":"list","data":[]}')
        assert self.names(empty, "http://127.0.0.1:11434")[0] == "ollama"
        assert self.names(empty, "http://127.0.0.1:1234")[0] == "lmstudio"
        vllm = answer(b'{"object":"list","data":[{"id":"m","owned_by":"vllm"}]}')
        assert self.names(vllm, "http://127.0.0.1:11434")[0] == "vllm"

    def test_a_page_leaves_nobody(self):
        assert self.names(answer(b"<html></html>"), "http://127.0.0.1:8080") == []
        assert self.names(answer(b"<html></html>", 404), "http://127.0.0.1:8080") == []

    def test_openai_is_a_host_and_nothing_else(self):
        listing = answer(b'{"object":"list","data":[{"id":"gpt-4o","owned_by":"system"}]}')
        assert self.names(listing, "https://api.openai.com")[0] == "openai"
        assert "openai" not in self.names(listing)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"object":"list","data":[{"id":"m"}]}', True),
        (b'{"data":[{"id":"m","object":"model"}]}', True),
        (b'{"object":"list","data":[]}', True),
        (b'{"object":"list","data":null}', True),
        (b'{"data":[]}', False),
        (b'{"data":[{"id":"golf","type":"car"}]}', False),
        (b'{"object":"list","data":{}}', False),
        (b'{"object":"list"}', False),
        (b"[]", False),
        (b"null", False),
        (b"<html>", False),
    ],
)
def test_what_a_list_of_models_looks_like(body, expected):
    assert is_model_list(answer(body)) is expected


def test_only_json_with_an_error_in_it_speaks_of_keys():
    assert speaks_of_keys(answer(b'{"error":"Unauthorized"}', 401))
    assert not speaks_of_keys(answer(b"<html>Sign in", 401))
    assert not speaks_of_keys(answer(b'{"error":"Unauthorized"}', 200))
    assert not speaks_of_keys(None)


@pytest.mark.parametrize(
    ("path", "parent"),
    [
        (
            "/usr/share/ollama/.ollama/models/blobs/sha256-dde5aa3fc5ffc17176b5e8bdc82f587b24b2678c6c66101bf7da",
            "ollama",
        ),
        (r"C:\Users\me\.ollama\models\blobs\sha256-dde5aa3f", "ollama"),
        ("/home/me/.local/share/Jan/data/llamacpp/models/qwen3/model.gguf", "jan"),
        ("/models/bundles/sha256/abc/model/model.gguf", "dockermodelrunner"),
        ("/home/me/.lmstudio/models/lmstudio-community/x.gguf", "lmstudio"),
        ("/data/smollm2.gguf", None),
        ("none", None),
        (None, None),
        (7, None),
    ],
)
def test_whose_store_a_model_file_lies_in(path, parent):
    assert parent_of(path) == parent
