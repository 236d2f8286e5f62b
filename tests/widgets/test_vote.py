"""VoteView without a browser: what it shows before and after a vote, what it keeps, and what it takes no notice of."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comm
import pandas as pd
import pytest

import mamba_nb as mb
from mamba_nb.backends import OpenAICompatibleBackend
from mamba_nb.errors import BadInput, MissingExtra
from mamba_nb.records import Cell, Comparison, Generation, Request, ToolCall, Usage
from mamba_nb.testing import Script, ScriptedServer
from mamba_nb.widgets.vote import VoteView

LABELS = ("alpha-model", "beta-model")
HOSTILE = '<img src=x onerror="window.harmed=1"><script>1</script> [x](javascript:1) \u202e\x1b[31m \ud83d'


def cell(label: str, text: str, number: int = 0, **more: Any) -> Cell:
    prompt = f"prompt {number}"
    values: dict[str, Any] = {
        "request": Request(model=label, messages=({"role": "user", "content": prompt},)),
        "base_url": "http://127.0.0.1:11434/v1",
        "server": "secret-server",
        "model": label,
        "text": text,
        "reasoning": "private thoughts",
        "text_at_s": (0.123, 0.5),
        "latency_s": 0.777,
        "usage": Usage(completion_tokens=4321),
    }
    generation = Generation(**{**values, **more})
    return Cell(label=label, variant=None, prompt_id=number, prompt=prompt, repeat=0, generation=generation)


def grid(prompts: int = 3, labels=LABELS, started_at: str | None = "2026-01-02T03:04:05") -> Comparison:
    cells = [cell(label, f"text {at} of {n}" + "!" * at, n) for n in range(prompts) for at, label in enumerate(labels)]
    return Comparison(cells=tuple(cells), labels=labels, planned=len(cells), started_at=started_at)


def do(view: VoteView, what: str, **more: Any) -> None:
    """As the front end says it."""
    view._take(None, {"do": what, "at": view.state["turn"], **more}, [])


def place_of(view: VoteView, label: str) -> int:
    """Where a model's answer stands, from 1; only the kernel knows."""
    return [c.label for c in view._session.shown].index(label) + 1


def vote(view: VoteView, choice: Any, *, go_on: bool = True) -> None:
    """Choose by a model's label, `tie` or `bad`, lock, and go on."""
    do(view, "choose", choice=place_of(view, choice) if choice in view._labels else choice)
    do(view, "lock")
    if go_on:
        do(view, "next")


def until(true: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Everything that goes to the front end, as JSON."""
    messages: list[str] = []

    def publish(self, msg_type, data=None, metadata=None, buffers=None, **keys):
        messages.append(json.dumps([msg_type, data, metadata, keys], default=str))

    monkeypatch.setattr(comm.DummyComm, "publish_msg", publish)
    return messages


class TestBlind:
    def test_nothing_that_is_sent_before_a_vote_says_whose_answers_these_are(self, sent):
        view = VoteView(grid())
        do(view, "choose", choice=1)
        do(view, "choose", choice="tie")
        do(view, "undo")
        do(view, "skip")
        do(view, "undo")
        view._take(None, {"do": "whole"}, [])
        do(view, "each", on=False)
        vote(view, 2, go_on=False)  # without a reveal: the next item is open
        assert any("text 0 of 0" in message for message in sent) and len(sent) > 8
        assert view.state["item"]["prompt"] == "prompt 1" and len(view.votes) == 1 and view.state["error"] is None
        secrets = (
            "alpha-model",
            "beta-model",
            "secret-server",
            "private thoughts",
            "123",
            "777",
            "4321",
            "4,321",
            "mn-c",
        )
        for message in [*sent, json.dumps(dict(view.state)), repr(view)]:
            if '"_esm"' in message:  # the widget's own script and style sheet, the same for all
                message = message.replace(json.dumps(view._esm), "").replace(json.dumps(view._css), "")
            assert [secret for secret in secrets if secret in message] == []

    def test_the_reveal_says_it_and_the_next_item_is_blind_again(self, sent):
        view = VoteView(grid())
        vote(view, "beta-model", go_on=False)
        who = view.state["reveal"]
        assert {one["label"] for one in who} == set(LABELS) and who[0]["server"] == "secret-server"
        assert who[place_of(view, "beta-model") - 1]["colour"] == "mn-c1"
        assert [f["value"] for f in who[0]["figures"]] == ["123 ms", "5,560 tok/s", "4,321 tokens", "777 ms"]
        assert "beta-model" in json.dumps(view.state["standings"])
        view._reckoning.result(60)
        sent.clear()
        do(view, "next")
        assert view.state["phase"] == "open" and sent
        assert "-model" not in "".join(sent) and "-model" not in json.dumps(dict(view.state))

    def test_ratings_that_come_late_do_not_end_the_blindness_of_the_next_item(self):
        view = VoteView(grid())
        vote(view, 1)
        view._reckoning.result(60)
        assert view.state["phase"] == "open" and view.state["standings"] is None
        assert "-model" not in json.dumps(dict(view.state)) and "-model" not in view._folded

    def test_the_order_is_the_same_in_another_view_and_another_by_another_seed(self):
        def orders(**more):
            view, found = VoteView(grid(20), path=False, **more), []
            for _ in range(20):
                found.append([c.label for c in view._session.shown])
                vote(view, "tie")
            return found

        assert orders() == orders()
        assert orders(seed=1) == orders(seed=1) != orders(seed=2)
        assert len({tuple(order) for order in orders()}) == 2

    def test_answers_that_are_the_same_are_said_to_be(self):
        cells = tuple(cell(label, text) for label, text in zip("abc", ["same", "other", "same"], strict=True))
        view = VoteView(Comparison(cells=cells, labels=tuple("abc"), planned=3), path=False)
        one, other = sorted([place_of(view, "a"), place_of(view, "c")])
        assert view.state["item"]["same"] == f"Answers {one} and {other} are word for word the same."


class TestVoting:
    def test_a_choice_may_change_until_it_is_locked(self):
        view = VoteView(grid())
        do(view, "lock")
        assert view.state["phase"] == "open", "nothing was chosen"
        do(view, "choose", choice=1)
        do(view, "choose", choice=2)
        assert view.state["choice"] == 2
        do(view, "undo")
        assert view.state["choice"] is None
        do(view, "choose", choice="bad")
        do(view, "lock")
        assert view.state["phase"] == "revealed"
        do(view, "undo")
        do(view, "choose", choice=1)
        assert view.votes["kind"].tolist() == ["both_bad"]

    @pytest.mark.parametrize("choice", [0, 3, -1, True, 1.0, "1", "win", None, [], {}])
    def test_what_is_no_choice_is_none(self, choice):
        view = VoteView(grid())
        do(view, "choose", choice=choice)
        assert view.state["choice"] is None

    def test_a_late_or_unknown_message_does_nothing(self):
        view = VoteView(grid())
        before = view.state["turn"]
        do(view, "choose", choice=1)
        do(view, "lock")
        view._take(None, {"do": "choose", "at": before, "choice": 2}, [])
        for what in ("lock", "skip", "undo", "next", "results", "resume", "seen"):
            view._take(None, {"do": what, "at": before}, [])
        assert view.state["phase"] == "revealed"
        for message in (None, "lock", {"do": "nonsense"}, {"do": None}, {"do": "look"}):
            view._take(None, message, [])
        assert view.state["error"] is None

    def test_a_skipped_item_comes_again_and_undo_brings_it_back_at_once(self):
        view = VoteView(grid())
        do(view, "skip")
        assert view.state["item"]["prompt"] == "prompt 1" and view.state["skipped"] == 1
        do(view, "undo")
        assert view.state["item"]["prompt"] == "prompt 0" and view.state["skipped"] == 0
        do(view, "skip")
        vote(view, "tie")
        vote(view, "tie")
        assert (view.state["phase"], view.state["left"], view.state["skipped"]) == ("results", 1, 1)
        do(view, "resume")
        assert view.state["item"]["prompt"] == "prompt 0"
        vote(view, "tie")
        assert (view.state["phase"], view.state["left"]) == ("results", 0)

    def test_progress_counts_votes(self):
        view = VoteView(grid())
        assert (view.state["voted"], view.state["total"]) == (0, 3)
        vote(view, "tie")
        assert (view.state["voted"], view.state["total"]) == (1, 3)
        assert repr(view) == "<VoteView 1 of 3 voted>"

    def test_the_result_can_be_looked_at_before_the_end_and_voting_go_on(self):
        view = VoteView(grid())
        vote(view, "tie")
        do(view, "results")
        view._reckoning.result(60)
        assert view.state["phase"] == "results" and "alpha-model" in view._folded
        do(view, "resume")
        assert view.state["phase"] == "open" and "alpha-model" not in view._folded

    def test_a_number_of_items_is_drawn_by_the_seed_and_prompt_ids_choose(self):
        def prompts(**more):
            view = VoteView(grid(20), path=False, **more)
            return [item.prompt_id for item in view._session.items]

        assert len(prompts(items=5)) == 5 and prompts(items=5) == sorted(prompts(items=5)) == prompts(items=5)
        assert prompts(items=5, seed=1) != prompts(items=5, seed=2)
        assert prompts(items=[7, 3, 99]) == [3, 7]
        assert len(prompts(items=50)) == 20


class TestFrames:
    def test_two_models_give_one_row_a_vote(self):
        view = VoteView(grid(4))
        for choice in ("beta-model", "tie", "bad"):
            vote(view, choice)
        votes = view.votes
        assert votes["model_a"].tolist() == ["alpha-model"] * 3
        assert votes["model_b"].tolist() == ["beta-model"] * 3
        assert votes["winner"].isna().tolist() == [False, True, True] and votes["winner"][0] == "beta-model"
        assert votes["kind"].tolist() == ["win", "tie", "both_bad"]
        assert votes["prompt"].tolist() == ["prompt 0", "prompt 1", "prompt 2"]
        assert set(votes["order"]) <= {"alpha-model | beta-model", "beta-model | alpha-model"}
        assert (votes["seconds"] >= 0).all() and votes["item"].is_unique
        assert pd.to_datetime(votes["voted_at"], utc=True).notna().all()

    def test_three_models_give_a_row_for_each_pair_that_the_choice_speaks_of(self):
        labels = ("a", "b", "c")
        view = VoteView(grid(2, labels))
        vote(view, "c")
        vote(view, "tie")
        votes = view.votes
        assert list(zip(votes["model_a"], votes["model_b"], strict=True)) == [
            ("a", "c"), ("b", "c"), ("a", "b"), ("a", "c"), ("b", "c"),
        ]  # fmt: skip
        assert votes["winner"].tolist()[:2] == ["c", "c"] and votes["winner"].isna().sum() == 3

    def test_an_empty_table_has_the_same_columns_and_a_full_one_survives_a_file(self, tmp_path):
        view = VoteView(grid())
        empty = view.votes
        vote(view, "tie")
        assert len(empty) == 0 and list(empty.columns) == list(view.votes.columns)
        view.votes.to_parquet(tmp_path / "v.parquet")
        assert pd.read_parquet(tmp_path / "v.parquet").equals(view.votes)

    def test_ratings_by_hand(self):
        view = VoteView(grid(5))
        for choice in ("beta-model", "beta-model", "alpha-model", "tie", "bad"):
            vote(view, choice)
        rated = view.ratings().set_index("model")
        # Wins and half the ties, and half a win for each to begin with: 3 against 2. 400 log10(1.5) = 70.44
        assert rated.loc["beta-model", "rating"] == pytest.approx(1035.22, abs=0.01)
        assert rated.loc["alpha-model", "rating"] == pytest.approx(964.78, abs=0.01)
        assert rated.loc["beta-model", ["votes", "wins", "ties", "losses"]].tolist() == [5, 2, 1, 1]
        assert rated.loc["beta-model", "low"] < 1035 < rated.loc["beta-model", "high"]
        assert view.ratings().equals(view.ratings())

    def test_without_evalica_votes_work_and_ratings_say_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "evalica", None)
        view = VoteView(grid(1))
        vote(view, "alpha-model")
        view._reckoning.result(60)
        assert 'pip install "mamba_nb[stats]"' in view.state["standings"]["note"]
        assert len(view.votes) == 1
        with pytest.raises(MissingExtra):
            view.ratings()


class TestResult:
    def test_the_words_for_a_lead_by_hand(self):
        view = VoteView(grid(10))
        for choice in ["alpha-model"] * 6 + ["beta-model"] * 4:
            vote(view, choice)
        view._reckoning.result(60)
        shown = view.state["standings"]
        # 6 of 10: Wilson 31 to 83 %; 97 votes at 60 % would leave one half out, 87 more, said in fives.
        assert shown["said"] == (
            "“alpha-model” leads with 60 % (31 to 83) of 10 votes, ties as halves (95 % interval in brackets). "
            "Not decided: about 90 more votes would decide it if all goes on like this; it may take more."
        )
        assert [(row["label"], row["wins"], row["losses"], row["share"]) for row in shown["rows"]] == [
            ("alpha-model", "6", "4", "60 % (31 to 83)"),
            ("beta-model", "4", "6", "40 % (17 to 69)"),
        ]
        # beta's answers are one character longer each
        assert shown["others"] == ["The longer answer was chosen in 40 % (17 to 69) of 10 votes: no clear pull."]
        assert "alpha-model" in view._folded and "10 blind votes" in view._folded

    def test_few_votes_are_too_early(self):
        view = VoteView(grid(3))
        for _ in range(3):
            vote(view, "alpha-model")
        assert view.state["standings"]["said"].startswith("3 votes: too early to say who wins.")

    def test_a_decided_vote_says_so_and_how_many_were_bad(self):
        view = VoteView(grid(12))
        for choice in ["alpha-model"] * 10 + ["bad"] * 2:
            vote(view, choice)
        shown = view.state["standings"]
        assert (
            shown["said"]
            == "“alpha-model” wins with 100 % (72 to 100) of 10 votes, ties as halves (95 % interval in brackets)."
        )
        assert "Both were bad 2 times; that counts for none." in shown["others"]
        assert any("length may be what was voted on" in text for text in shown["others"])


class TestSaved:
    def test_a_new_view_goes_on_where_the_last_one_stopped(self, tmp_path):
        first = VoteView(grid())
        vote(first, "beta-model")
        (file,) = Path().glob("votes-*.jsonl")
        assert file.name in first.state["saved"]
        second = VoteView(grid(started_at="2026-02-03"))  # run again, with the same answers
        assert second.state["item"]["prompt"] == "prompt 1" and "1 of them from before" in second.state["saved"]
        assert second.votes.equals(first.votes)
        vote(second, "tie")
        assert len(VoteView(grid()).votes) == 2
        assert list(Path().glob("votes-*.jsonl")) == [file]

    def test_a_path_is_where_it_goes_and_false_is_nowhere(self, tmp_path):
        vote(VoteView(grid(), path=tmp_path / "mine.jsonl"), "tie")
        assert len(VoteView(grid(), path=str(tmp_path / "mine.jsonl")).votes) == 1
        nowhere = VoteView(grid(), path=False)
        vote(nowhere, "tie")
        assert "not saved" in nowhere.state["saved"] and not list(Path().glob("votes-*"))

    def test_votes_on_another_comparison_are_refused(self, tmp_path):
        vote(VoteView(grid(), path=tmp_path / "v.jsonl"), "tie")
        before = (tmp_path / "v.jsonl").read_bytes()
        with pytest.raises(BadInput, match="another comparison"):
            VoteView(grid(labels=("alpha-model", "gamma")), path=tmp_path / "v.jsonl")
        other = Comparison(cells=tuple(cell(label, f"else {label}") for label in LABELS), labels=LABELS, planned=2)
        with pytest.raises(BadInput, match="another comparison"):
            VoteView(other, path=tmp_path / "v.jsonl")
        assert (tmp_path / "v.jsonl").read_bytes() == before

    def test_a_vote_given_in_another_widget_meanwhile_stays(self):
        first, second = VoteView(grid()), VoteView(grid())
        vote(first, "beta-model")
        do(second, "choose", choice="bad")
        do(second, "lock")
        assert second.state["item"]["prompt"] == "prompt 1" and second.state["phase"] == "open"
        assert second.votes["kind"].tolist() == ["win"]

    def test_a_file_that_cannot_be_written_is_said_and_the_votes_are_kept(self, tmp_path):
        folder = tmp_path / "gone"
        view = VoteView(grid(), path=folder / "v.jsonl")
        vote(view, "tie", go_on=False)
        assert "cannot be used" in view.state["error"]["message"] and "in this kernel: 1." in view.state["saved"]
        do(view, "next")
        folder.mkdir()
        vote(view, "tie", go_on=False)
        assert view.state["error"] is None
        assert len(VoteView(grid(), path=folder / "v.jsonl").votes) == 2

    def test_all_voted_before_shows_the_result_at_once(self):
        first = VoteView(grid(1))
        vote(first, "tie")
        second = VoteView(grid(1))
        assert second.state["phase"] == "results"
        second._reckoning.result(60)
        assert "alpha-model" in second._folded


class TestHostile:
    def test_what_a_model_wrote_is_harmless_in_the_state_and_in_the_copy(self):
        cells = []
        for number in range(2):
            call = ToolCall(id="1", name=HOSTILE, arguments=HOSTILE)
            cells += [
                cell(HOSTILE, HOSTILE, number, tool_calls=(call,)),
                cell("plain", "plain", number, server=HOSTILE),
            ]
        labels = (HOSTILE, "plain")
        view = VoteView(Comparison(cells=tuple(cells), labels=labels, planned=4))
        answer = next(a for a in view.state["item"]["answers"] if a["calls"])
        assert "<img" not in answer["html"] and "<script" not in answer["html"] and "href" not in answer["html"]
        for _ in range(2):
            do(view, "choose", choice=1)
            do(view, "lock")
            json.dumps(dict(view.state)).encode("ascii")
            dump = json.dumps(dict(view.state), ensure_ascii=False)
            assert "\u202e" not in dump and "\x1b" not in dump
            dump.encode("utf-8")
            do(view, "next")
        view._reckoning.result(60)
        assert "<img" not in view._folded and "<script>1" not in view._folded
        view.votes.to_csv()
        assert len(VoteView(Comparison(cells=tuple(cells), labels=labels, planned=4)).votes) == 2

    @pytest.mark.parametrize(
        ("text", "note"),
        [
            ("", "an empty answer"),
            ("  \n ", "an empty answer"),
            ("x" * 1_000_000, "the first 400,000 of 1,000,000 characters"),
        ],
        ids=["empty", "blank", "huge"],
    )
    def test_empty_and_huge_answers(self, text, note):
        cells = (cell("a", text), cell("b", "short"))
        view = VoteView(Comparison(cells=cells, labels=("a", "b"), planned=2), path=False)
        answer = view.state["item"]["answers"][place_of(view, "a") - 1]
        assert answer["note"] == note and len(answer["html"]) < 410_000


class TestInput:
    @pytest.mark.parametrize("given", [None, "x", [1], pd.DataFrame()])
    def test_only_a_comparison_or_its_run(self, given):
        with pytest.raises(BadInput, match="Comparison"):
            VoteView(given)

    @pytest.mark.parametrize("wrong", [{"items": 0}, {"items": True}, {"items": "x"}, {"items": 1.5}, {"seed": "x"}])
    def test_wrong_arguments(self, wrong):
        with pytest.raises(BadInput):
            VoteView(grid(), **wrong)

    def test_one_model_is_nothing_to_vote_on_and_no_answers_are_an_empty_state(self):
        with pytest.raises(BadInput, match="one model"):
            VoteView(grid(labels=("a",)))
        failed = Comparison(cells=(cell("a", "", status="failed"), cell("b", "x")), labels=("a", "b"), planned=2)
        view = VoteView(failed)
        assert (view.state["phase"], view.state["out"]) == ("empty", 1)
        assert not list(Path().glob("votes-*"))


class TestRunning:
    def test_an_item_opens_when_all_its_answers_are_there(self):
        slow = Script(text=["one ", "two ", "three"], itl_s=0.3)
        with ScriptedServer(slow, models=("alpha", "beta")) as server:
            backends = [OpenAICompatibleBackend(name, server.base_url, max_retries=0) for name in server.models]
            run = mb.start_compare(backends, ["first", "second", "third"], max_concurrency=1)
            view = VoteView(run)
            try:
                assert view.state["phase"] == "waiting" and view.state["total"] == 3
                until(lambda: view.state["phase"] == "open")
                assert not run.done() and view.state["item"]["prompt"] == "first"
                vote(view, "tie", go_on=False)
                keys = [item.key for item in view._session.items]
                result = run.result(60)
                until(lambda: not view._running)
                assert view.state["total"] == 3 and view.state["ready"] is None
                do(view, "next")
                assert view.state["item"]["prompt"] == "second"
                finished = VoteView(result)
                assert [item.key for item in finished._session.items][: len(keys)] == keys
                assert len(finished.votes) == 1, "the same file, by the comparison's own name"
            finally:
                run.cancel()
                for backend in backends:
                    backend.close()

    def test_a_run_that_was_stopped_leaves_what_can_be_voted_on(self):
        with ScriptedServer(Script(text=["never "] * 100, itl_s=0.2), models=("alpha", "beta")) as server:
            backends = [OpenAICompatibleBackend(name, server.base_url, max_retries=0) for name in server.models]
            run = mb.start_compare(backends, ["first"])
            view = VoteView(run)
            assert view.state["phase"] == "waiting"
            run.cancel()
            until(lambda: not view._running)
            assert (view.state["phase"], view.state["ready"]) == ("empty", None)
            view.close()
            for backend in backends:
                backend.close()


class TestVotingByAFunction:
    def test_it_gets_prompts_and_answers_without_names_and_its_votes_are_saved(self, tmp_path):
        path = tmp_path / "votes.jsonl"
        view = VoteView(grid(), path=path)
        asked = []

        def choose(prompt, answers):
            asked.append((prompt, answers))
            return answers.index(max(answers, key=len))  # the second model's, by the "!" at its end

        assert len(view.vote_by(choose, most=2)) == 2
        assert [prompt for prompt, _ in asked] == ["prompt 0", "prompt 1"]
        assert all(sorted(answers) == [f"text 0 of {n}", f"text 1 of {n}!"] for n, (_, answers) in enumerate(asked))
        assert view.votes["winner"].tolist() == ["beta-model"] * 2
        assert view.state["phase"] == "open"
        again = VoteView(grid(), path=path)
        assert repr(again) == "<VoteView 2 of 3 voted>"
        assert again.vote_by(lambda prompt, answers: "tie")["kind"].tolist() == ["win", "win", "tie"]
        assert again.state["phase"] == "results"
        assert again.vote_by(choose)["kind"].tolist() == ["win", "win", "tie"]  # nothing is left to vote on

    def test_none_says_that_all_are_bad(self):
        view = VoteView(grid(1), path=False)
        assert view.vote_by(lambda prompt, answers: None)["kind"].tolist() == ["both_bad"]

    @pytest.mark.parametrize("given", [2, -1, True, "alpha-model", 0.5])
    def test_what_is_no_vote_is_an_error_and_the_votes_before_it_are_kept(self, given):
        view = VoteView(grid(), path=False)
        said = iter([0, given])
        with pytest.raises(BadInput, match="is a place from 0 to 1"):
            view.vote_by(lambda prompt, answers: next(said))
        assert len(view.votes) == 1
