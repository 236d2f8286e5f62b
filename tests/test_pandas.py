"""`df.mamba`: rows in, columns out; order and index kept, failures as values, nothing lost."""

from __future__ import annotations

import enum
import json
import threading
from typing import Literal

import pandas as pd
import pytest
from pydantic import BaseModel, Field, create_model

import mamba_nb.pandas  # noqa: F401
from mamba_nb import variant
from mamba_nb._bridge import io
from mamba_nb.backends import OpenAICompatibleBackend
from mamba_nb.display.structured import columns_of, dtype_of
from mamba_nb.errors import BadInput
from mamba_nb.testing import LoggedRequest, Script, ScriptedServer


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Review(BaseModel):
    stars: int = Field(ge=1, le=5)
    score: float | None = None
    mood: Mood
    word: Literal["yes", "no"] = "no"
    tags: list[str] = []


def echo(request: LoggedRequest) -> Script:
    """The prompt back, but a failure where it says so."""
    if "fail" in request.prompt:
        return Script(status=400, error_body={"error": {"message": "not this one"}})
    return Script(text=f"<{request.prompt}>")


@pytest.fixture
def server():
    with ScriptedServer(echo, models=["one", "two"]) as running:
        yield running


@pytest.fixture
def backend(server):
    with OpenAICompatibleBackend("one", server.base_url, max_retries=0) as made:
        yield made


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"text": ["a", None, "fail", "d"], "n": [1, 2, 3, 4]}, index=["w", "x", "x", "z"])


def asked(server: ScriptedServer) -> list[str]:
    return [request.prompt for request in server.requests if request.path.endswith("/chat/completions")][1:]


class TestAsk:
    def test_answers_stand_beside_their_rows_and_failures_are_values(self, frame, backend, server):
        result = frame.mamba.ask("{n}: {text}", backend, progress=False)
        assert result.index.tolist() == ["w", "x", "x", "z"] and list(result.columns[:2]) == ["text", "n"]
        assert result["answer"].tolist()[0] == "<1: a>" and result["answer"].tolist()[3] == "<4: d>"
        assert result["answer"].isna().tolist() == [False, True, True, False]
        errors = result["answer_error"].tolist()
        assert "missing" in errors[1] and "not this one" in errors[2]
        assert result["answer_error"].isna().tolist() == [True, False, False, True]
        assert sorted(asked(server)) == ["1: a", "3: fail", "4: d"]
        assert "answer" not in frame

    def test_a_column_of_prompts_may_be_named(self, backend):
        result = pd.DataFrame({"question": ["Why?", "How?"]}).mamba.ask(
            "question", backend, column="reply", progress=False
        )
        assert result["reply"].tolist() == ["<Why?>", "<How?>"] and str(result["reply"].dtype) == "str"

    def test_without_a_model_the_configured_one_is_asked(self, server, monkeypatch):
        monkeypatch.setenv("MAMBA_MODEL_BACKEND__BASE_URL", server.base_url)
        monkeypatch.setenv("MAMBA_MODEL_BACKEND__MODEL", "two")
        result = pd.DataFrame({"text": ["a"]}).mamba.ask("Say {text}", progress=False)
        assert result["answer"].tolist() == ["<Say a>"]
        assert server.requests[-1].body["model"] == "two"

    def test_a_frame_without_rows_gets_its_columns_and_asks_nothing(self, backend, server):
        result = pd.DataFrame({"text": pd.Series([], dtype="str")}).mamba.ask("{text}", backend)
        assert list(result.columns) == ["text", "answer", "answer_error"] and len(result) == 0
        assert not server.requests

    def test_rows_without_values_alone_ask_nothing(self, backend, server):
        result = pd.DataFrame({"text": [None, None]}).mamba.ask("{text}", backend)
        assert result["answer"].isna().all() and not server.requests

    @pytest.mark.parametrize(
        ("prompt", "options", "words"),
        [
            ("Say {txt}", {}, "Did you mean 'text'"),
            ("no column", {}, "names no column"),
            ("{text", {}, "broken"),
            ("", {}, "columns in braces"),
            (7, {}, "columns in braces"),
            ("{text}", {"column": "n"}, "has a column 'n' already"),
            ("{text}", {"temperature": 9}, "temperature"),
            ("{text}", {"output": dict}, "pydantic model"),
        ],
    )
    def test_what_is_wrong_is_told_before_anything_is_sent(self, frame, backend, server, prompt, options, words):
        with pytest.raises(BadInput, match=words):
            frame.mamba.ask(prompt, backend, progress=False, **options)
        assert not server.requests

    def test_a_column_that_is_not_there_is_told_for_an_empty_frame_too(self, backend):
        with pytest.raises(BadInput, match="no column 'txt'"):
            pd.DataFrame({"text": []}).mamba.ask("{txt}", backend)

    def test_one_that_is_stopped_has_its_answers_in_partial(self, server):
        server.script = lambda request: Script(never="slow" in request.prompt, text="done")
        frame = pd.DataFrame({"text": ["quick", "slow"]}, index=[7, 9])
        with OpenAICompatibleBackend("one", server.base_url, timeout=60) as backend:
            main = threading.get_ident()

            def interrupt() -> None:
                import signal

                server.wait_for_requests(3, chats_only=True)  # the warm-up, and one for each row
                signal.pthread_kill(main, signal.SIGINT)

            thread = threading.Thread(target=interrupt)
            thread.start()
            with pytest.raises(KeyboardInterrupt) as caught:
                frame.mamba.ask("{text}", backend, progress=False)
            thread.join()
        partial = caught.value.partial
        assert partial["answer"].tolist()[0] == "done" and partial.index.tolist() == [7, 9]
        assert "Stopped" in partial["answer_error"].tolist()[1]

    def test_called_on_the_packages_own_loop_it_says_so(self, frame, backend):
        async def call():
            return frame.mamba.ask("{text}", backend)

        with pytest.raises(RuntimeError, match="run_in_background"):
            io.submit(call()).result(10)

    def test_the_bar_counts_every_answer(self, backend, capsys):
        pd.DataFrame({"text": ["a", "b"]}).mamba.ask("{text}", backend)
        assert "2/2" in capsys.readouterr().err


class TestTyped:
    ANSWERS = (
        {"stars": 4, "score": 0.5, "mood": "good", "word": "yes", "tags": ["a"]},
        {"stars": 9, "mood": "good"},
        "not JSON",
        {"stars": 1, "mood": "bad"},
    )

    @pytest.fixture
    def typed(self, server) -> pd.DataFrame:
        def answer(request: LoggedRequest) -> Script:
            place = request.prompt[-1]
            value = self.ANSWERS[int(place)] if place.isdigit() else "x"
            text = value if isinstance(value, str) else json.dumps(value)
            return Script(text=f"```json\n{text}\n```" if place == "3" else text)

        server.script = answer
        with OpenAICompatibleBackend("one", server.base_url) as backend:
            return pd.DataFrame({"n": range(4)}).mamba.ask("Rate {n}", backend, output=Review, progress=False)

    def test_fields_become_typed_columns(self, typed):
        kinds = {name: str(dtype) for name, dtype in typed.dtypes.items()}
        assert kinds == {
            "n": "int64",
            "stars": "Int64",
            "score": "Float64",
            "mood": "str",
            "word": "str",
            "tags": "object",
            "answer_error": "str",
        }
        assert typed["stars"].dropna().to_dict() == {0: 4, 3: 1}
        assert typed["mood"].tolist()[0] == "good" and typed["tags"].tolist()[0] == ["a"]

    def test_what_does_not_fit_is_an_error_with_its_reason(self, typed):
        errors = typed["answer_error"].tolist()
        assert "stars" in errors[1] and "less than or equal to 5" in errors[1]
        assert "no valid Review" in errors[2] and "'not JSON'" in errors[2]
        assert typed["answer_error"].isna().tolist() == [True, False, False, True]

    def test_an_answer_that_was_cut_says_so_first(self, server):
        server.script = Script(text='{"stars": 4, "mo', finish_reason="length")
        with OpenAICompatibleBackend("one", server.base_url) as backend:
            frame = pd.DataFrame({"n": [1]}).mamba.ask("Rate {n}", backend, output=Review, progress=False)
        said = "It was cut at max_tokens before it was whole: raise max_tokens. The answer is no valid Review"
        assert frame["answer_error"][0].startswith(said)

    def test_the_schema_is_sent(self, typed, server):
        assert server.requests[-1].body["response_format"]["json_schema"]["name"] == "Review"

    def test_a_prefix_keeps_the_names_apart(self):
        assert list(columns_of(Review, "r_"))[:2] == ["r_stars", "r_score"]

    @pytest.mark.parametrize(
        ("annotation", "dtype"),
        [
            (bool, "boolean"),
            (int | None, "Int64"),
            (int | str, "object"),
            (Literal[1, "a"], "object"),
            (dict, "object"),
        ],
    )
    def test_types_have_their_dtypes(self, annotation, dtype):
        assert dtype_of(annotation) == dtype


class TestCompare:
    def test_a_long_table_keeps_the_index(self, frame, backend, server):
        result = frame.mamba.compare("{text}", [backend, "two"], progress=False, settings=settings_of(server))
        assert result.index.tolist() == ["w", "w", "x", "x", "z", "z"]
        assert result["label"].tolist() == ["one", "two"] * 3 and "prompt_id" not in result
        assert result["text"].tolist()[:2] == ["<a>", "<a>"]
        assert (result["status"] == "failed").tolist() == [False, False, True, True, False, False]

    def test_a_wide_table_has_a_column_a_model(self, frame, backend, server):
        result = frame.mamba.compare(
            "{text}", [backend, "two"], wide=True, progress=False, settings=settings_of(server)
        )
        assert list(result.columns) == ["text", "n", "one", "one_error", "two", "two_error"]
        assert result["two"].tolist()[3] == "<d>" and "missing" in result["one_error"].tolist()[1]

    def test_repeats_do_not_fit_into_a_wide_table(self, frame, backend):
        with pytest.raises(BadInput, match="repeats must be 1"):
            frame.mamba.compare("{text}", [backend], repeats=2, wide=True)

    def test_a_column_that_is_there_is_not_hidden_and_nothing_is_sent(self, frame, backend, server):
        with pytest.raises(BadInput, match="has a column 'n' already"):
            frame.mamba.compare("{text}", [variant(backend, name="n")], wide=True, progress=False)
        assert not server.requests

    def test_a_frame_without_rows_has_the_columns_too(self, frame, backend, server):
        result = frame.iloc[:0].mamba.compare("{text}", [backend, "two"], wide=True, settings=settings_of(server))
        assert list(result.columns) == ["text", "n", "one", "one_error", "two", "two_error"]
        assert len(result) == 0 and not server.requests


class TestTypedCompare:
    """Two models, of which one gives a whole answer to the first row alone."""

    @pytest.fixture
    def models(self, server):
        def answer(request: LoggedRequest) -> Script:
            is_whole = request.body["model"] == "one" or request.prompt == "a"
            return Script(text='{"stars": 2, "mood": "good"}' if is_whole else "no idea")

        server.script = answer
        made = (OpenAICompatibleBackend(name, server.base_url) for name in ("one", "two"))
        with next(made) as one, next(made) as two:
            yield [one, two]

    def test_a_long_table_has_a_column_a_field(self, frame, models, server):
        table = frame.mamba.compare("{text}", models, output=Review, prefix="my_", progress=False)
        assert table.index.tolist() == ["w", "w", "x", "x", "z", "z"]
        assert table["my_stars"].dtype == "Int64" and table["my_stars"].tolist()[:3] == [2, 2, 2]
        assert table["my_stars"].isna().tolist() == [False, False, False, True, False, True]
        assert "no valid Review" in table["output_error"].iloc[3] and pd.isna(table["output_error"].iloc[0])
        assert set(table["status"]) == {"done"} and "response_format" in server.requests[-1].body

    def test_a_wide_table_has_them_a_model(self, frame, models):
        table = frame.mamba.compare("{text}", models, output=Review, wide=True, progress=False)
        fields = ["stars", "score", "mood", "word", "tags", "error"]
        assert list(table.columns) == ["text", "n", *(f"{name}_{field}" for name in ("one", "two") for field in fields)]
        assert table["two_mood"].dropna().tolist() == ["good"] and table["one_stars"].sum() == 6
        assert "missing" in table["one_error"].iloc[1] and "no valid Review" in table["two_error"].iloc[2]

    def test_a_field_that_the_long_table_has_is_told_first(self, frame, models, server):
        with pytest.raises(BadInput, match="The long table has a column 'text' already") as caught:
            frame.mamba.compare("{text}", models, output=create_model("Said", text=(str, ...)))
        assert "prefix=" in caught.value.hint and not server.requests

    def test_without_answers_the_columns_are_there(self, frame, models):
        empty = frame.iloc[:0].mamba.compare("{text}", models, output=Review)
        assert empty["stars"].dtype == "Int64" and empty["output_error"].dtype == "str" and len(empty) == 0


def settings_of(server: ScriptedServer):
    from mamba_nb.settings import AgentSettings

    return AgentSettings(model_backend={"base_url": server.base_url})
