"""Blind votes without a widget: items, pairs, intervals, ratings, verdicts, and the file of votes."""

from __future__ import annotations

import json
import math
import sys

import pytest

from mamba_nb.compare.votes import longer_wins, more_votes, ratings, tallies, verdict, wilson
from mamba_nb.compare.votes_file import VotesFile, find_file
from mamba_nb.compare.votes_items import Ballot, Pair, items_of, pairs, shown_order
from mamba_nb.errors import BadInput, MissingExtra
from mamba_nb.records import Cell, Comparison, Generation, Request, ToolCall

AB = ("alpha", "beta")
ABC = ("alpha", "beta", "gamma")


def cell(label: str, text: str, prompt: str = "why?", prompt_id=0, repeat: int = 0, status="done", **more) -> Cell:
    request = Request(model=label, messages=({"role": "user", "content": prompt},))
    generation = Generation(
        request=request, base_url="http://127.0.0.1/v1", server="ollama", model=label, text=text, status=status, **more
    )
    return Cell(label=label, variant=None, prompt_id=prompt_id, prompt=prompt, repeat=repeat, generation=generation)


def grid(*cells: Cell, labels=AB, planned: int | None = None, started_at: str | None = None) -> Comparison:
    return Comparison(cells=cells, labels=labels, planned=planned or len(cells), started_at=started_at)


def ballot(number: int, winner: str | None = None, *, kind="win", order=AB, chars=None, prompt_id=None) -> Ballot:
    return Ballot(
        item=f"item{number}",
        prompt_id=number if prompt_id is None else prompt_id,
        prompt="why?",
        repeat=0,
        order=tuple(order),
        kind=kind,
        winner=winner,
        chars=chars or (10,) * len(order),
        seconds=2.5,
        voted_at="2026-01-02T03:04:05+00:00",
    )


def votes(alpha: int, beta: int, ties: int = 0, bad: int = 0) -> list[Ballot]:
    kinds = [("alpha", "win")] * alpha + [("beta", "win")] * beta + [(None, "tie")] * ties + [(None, "both_bad")] * bad
    return [ballot(number, winner, kind=kind) for number, (winner, kind) in enumerate(kinds)]


class TestItems:
    def test_an_item_is_one_prompt_with_all_its_answers(self):
        found = items_of(
            grid(
                cell("alpha", "1"),
                cell("beta", "2"),
                cell("alpha", "3", prompt="how?", prompt_id=1),
                cell("beta", "4", prompt="how?", prompt_id=1),
            )
        )
        assert [(item.prompt, item.prompt_id, [c.generation.text for c in item.cells]) for item in found] == [
            ("why?", 0, ["1", "2"]),
            ("how?", 1, ["3", "4"]),
        ]

    def test_its_key_is_the_same_whatever_was_measured_and_another_for_another_answer_or_prompt(self):
        def key(text="2", prompt="why?", **more):
            return items_of(grid(cell("alpha", "1", prompt), cell("beta", text, prompt, **more)))[0].key

        assert key() == key(latency_s=3.0)
        call = ToolCall(id="1", name="look", arguments="{}")
        assert len({key(), key("two"), key(prompt="how?"), key(tool_calls=(call,))}) == 4

    def test_half_a_character_in_an_answer_has_a_key_too(self):
        assert items_of(grid(cell("alpha", "\ud83d"), cell("beta", "2")))

    def test_repeats_with_the_same_answers_are_items_of_their_own(self):
        first, second = items_of(
            grid(cell("alpha", "1"), cell("beta", "2"), cell("alpha", "1", repeat=1), cell("beta", "2", repeat=1))
        )
        assert second.key == f"{first.key}-2"

    def test_two_rows_with_one_label_and_prompt_are_two_items(self):
        assert len(items_of(grid(cell("alpha", "1"), cell("beta", "2"), cell("alpha", "3"), cell("beta", "4")))) == 2

    def test_an_answer_that_failed_takes_no_part_and_one_answer_is_no_item(self):
        three = items_of(grid(cell("alpha", "1"), cell("beta", "", status="failed"), cell("gamma", "3"), labels=ABC))
        assert [c.label for c in three[0].cells] == ["alpha", "gamma"]
        assert items_of(grid(cell("alpha", "1"), cell("beta", "", status="stopped"))) == []

    def test_while_it_runs_an_item_needs_all_its_answers(self):
        under_way = grid(cell("alpha", "1"), cell("beta", "half", status="stopped"))
        assert items_of(grid(cell("alpha", "1")), running=True) == []
        assert items_of(under_way, running=True) == []
        assert len(items_of(grid(cell("alpha", "1"), cell("beta", "2")), running=True)) == 1

    def test_the_order_is_shuffled_by_item_and_seed_and_stays(self):
        found = items_of(grid(*(cell(label, label, str(n), n) for n in range(40) for label in AB)))
        first = [shown_order(item)[0].label for item in found]
        assert first == [shown_order(item)[0].label for item in found]
        assert 8 < first.count("alpha") < 32
        assert first != [shown_order(item, 1)[0].label for item in found]

    def test_of_six_models_each_item_shows_four(self):
        labels = tuple("abcdef")
        found = items_of(grid(*(cell(label, label, str(n), n) for n in range(30) for label in labels), labels=labels))
        shown = [{c.label for c in shown_order(item)} for item in found]
        assert {len(labels) for labels in shown} == {4}
        assert set.union(*shown) == set(labels)


class TestPairs:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (ballot(1, "beta"), [("alpha", "beta", "beta")]),
            (ballot(1, None, kind="tie"), [("alpha", "beta", None)]),
            (
                ballot(1, "gamma", order=("gamma", "alpha", "beta")),
                [("alpha", "gamma", "gamma"), ("beta", "gamma", "gamma")],
            ),
            (
                ballot(1, None, kind="tie", order=ABC),
                [("alpha", "beta", None), ("alpha", "gamma", None), ("beta", "gamma", None)],
            ),
            (ballot(1, None, kind="both_bad", order=("gamma", "alpha")), [("alpha", "gamma", None)]),
        ],
    )  # fmt: skip
    def test_one_choice_as_pairs(self, given, expected):
        assert pairs(given, ABC) == [Pair(a, b, winner, given.kind) for a, b, winner in expected]

    def test_tallies_count_ballots_and_both_bad_is_neither_won_nor_lost(self):
        counted = {t.model: (t.votes, t.wins, t.ties, t.losses) for t in tallies(votes(3, 1, ties=2, bad=4), AB)}
        assert counted == {"alpha": (10, 3, 2, 1), "beta": (10, 1, 2, 3)}


class TestWilson:
    @pytest.mark.parametrize(
        ("wins", "n", "low", "high"),
        [
            # By hand, z² = 3.8415: (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)
            (7, 10, 0.3968, 0.8922),
            (5, 10, 0.2366, 0.7634),
            (10, 10, 0.7225, 1.0),  # 1 / (1 + z²/n)
            (0, 10, 0.0, 0.2775),
            (60, 100, 0.5020, 0.6906),
            (6.5, 10, 0.3537, 0.8631),
        ],
    )
    def test_by_hand(self, wins, n, low, high):
        share = wilson(wins, n)
        assert (share.low, share.high) == (pytest.approx(low, abs=2e-4), pytest.approx(high, abs=2e-4))

    def test_without_a_vote_nothing_is_known(self):
        share = wilson(0, 0)
        assert (share.low, share.high, share.votes) == (0.0, 1.0, 0) and math.isnan(share.share)

    @pytest.mark.parametrize("wins", [6, 7, 8, 9, 3])
    def test_more_votes_is_where_the_interval_leaves_one_half_out(self, wins):
        """The formula against the interval itself: at that many votes even is out, at one fewer it is not."""
        more = more_votes(wins, 10)
        total = 10 + more

        def even_is_in(n):
            share = wilson(wins / 10 * n, n)
            return share.low <= 0.5 <= share.high

        assert not even_is_in(total)
        assert even_is_in(total - 1) or more == 0

    def test_more_votes_by_hand(self):
        # z² / (4 · 0.1²) = 96.04: 97 votes at 60 %, 10 of them there
        assert more_votes(6, 10) == 87
        assert more_votes(5, 10) is None
        assert more_votes(0, 0) is None


class TestVerdict:
    def test_fewer_than_six_votes_are_too_early_whatever_they_say(self):
        assert verdict(votes(5, 0), AB).state == "too early"
        assert verdict(votes(5, 0, bad=20), AB).state == "too early"
        assert verdict(votes(6, 0), AB).state == "decided"

    def test_ahead_but_not_decided_says_how_many_more(self):
        found = verdict(votes(5, 3, ties=2), AB)
        assert (found.state, found.leader, found.second, found.votes, found.more) == (
            "leading",
            "alpha",
            "beta",
            10,
            87,
        )
        assert found.share.share == pytest.approx(0.6)

    def test_even_is_even(self):
        found = verdict(votes(4, 4, ties=3), AB)
        assert (found.state, found.leader, found.more) == ("even", None, None)

    def test_three_models_without_ratings_are_told_apart_by_the_votes_between_the_first_two(self):
        ballots = [ballot(n, "alpha" if n < 12 else "beta", order=ABC) for n in range(20)]
        found = verdict(ballots, ABC)
        assert (found.leader, found.second, found.state, found.share.votes) == ("alpha", "beta", "leading", 20)
        assert found.share.share == pytest.approx(0.6)

    def test_three_models_with_ratings_are_told_apart_by_the_gap(self):
        ballots = [ballot(n, "alpha" if n < 30 else "beta", order=ABC) for n in range(40)]
        found = verdict(ballots, ABC, ratings(ballots, ABC, resamples=200))
        assert (found.leader, found.second, found.state) == ("alpha", "beta", "decided")
        assert found.share is None and found.gap.low > 0


class TestLength:
    def test_the_longer_answer_won_three_of_four(self):
        chars = [(10, 20), (10, 20), (10, 20), (20, 10)]
        share = longer_wins([ballot(n, "beta", chars=c) for n, c in enumerate(chars)])
        assert (share.share, share.votes) == (0.75, 4)

    def test_equal_lengths_are_half_and_of_three_answers_the_others_are_counted(self):
        assert longer_wins([ballot(1, "beta", chars=(10, 10))]).share == 0.5
        assert longer_wins([ballot(1, "beta", order=ABC, chars=(5, 10, 20))]).share == 0.5
        assert longer_wins([ballot(1, "gamma", order=ABC, chars=(5, 10, 20))]).share == 1.0

    def test_ties_say_nothing(self):
        assert longer_wins(votes(0, 0, ties=5, bad=2)) is None


class TestRatings:
    @pytest.mark.parametrize(
        ("given", "odds"),
        [
            # Two models: the odds are wins over losses, half a win more for each from the tie that both begin with.
            (votes(7, 3), 7.5 / 3.5),
            (votes(5, 3, ties=2, bad=9), 6.5 / 4.5),
            (votes(10, 0), 10.5 / 0.5),
        ],
    )
    def test_two_models_by_hand(self, given, odds):
        rated = ratings(given, AB, resamples=50)
        first, second = rated.rows
        assert first.model == "alpha"
        assert first.rating - second.rating == pytest.approx(400 * math.log10(odds), abs=0.01)
        assert first.rating + second.rating == pytest.approx(2000, abs=0.01)

    def test_the_same_seed_gives_the_same_intervals(self):
        assert ratings(votes(7, 3), AB, seed=1) == ratings(votes(7, 3), AB, seed=1)
        assert ratings(votes(7, 3), AB, seed=1) != ratings(votes(7, 3), AB, seed=2)

    def test_the_interval_holds_the_rating_and_shrinks_with_votes(self):
        few, many = (ratings(votes(7 * n, 3 * n), AB).rows[0] for n in (1, 10))
        assert few.low < few.rating < few.high
        assert many.high - many.low < (few.high - few.low) / 2

    def test_a_clean_sweep_has_an_interval(self):
        row = ratings(votes(10, 0), AB).rows[0]
        assert row.low < row.high and math.isfinite(row.high)

    def test_repeats_of_one_prompt_tell_less_than_as_many_prompts(self):
        apart = [ballot(n, "alpha" if n % 10 < 7 else "beta") for n in range(40)]
        together = [ballot(n, b.winner, prompt_id=n % 10) for n, b in enumerate(apart)]
        wide, narrow = (ratings(b, AB, seed=1).rows[0] for b in (together, apart))
        assert wide.rating == pytest.approx(narrow.rating)
        assert wide.high - wide.low > narrow.high - narrow.low

    def test_a_model_without_a_vote_has_no_rating(self):
        rated = ratings(votes(6, 2), ABC)
        assert [row.model for row in rated.rows] == ["alpha", "beta", "gamma"]
        assert rated.rows[2].rating is None
        assert ratings(votes(0, 0, bad=3), AB).gap is None

    def test_without_evalica_the_error_has_the_pip_line(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "evalica", None)
        with pytest.raises(MissingExtra, match=r'pip install "mamba_nb\[stats\]"'):
            ratings(votes(7, 3), AB)


class TestFile:
    def test_what_was_written_comes_back(self, tmp_path):
        given = [ballot(1, "alpha"), ballot(2, None, kind="tie"), ballot(3, None, kind="both_bad")]
        file = VotesFile(tmp_path / "v.jsonl", AB)
        for one in given:
            file.append(one)
        assert VotesFile(tmp_path / "v.jsonl", AB).news() == given
        assert len((tmp_path / "v.jsonl").read_text().splitlines()) == 4

    def test_two_writers_on_one_file_see_each_other(self, tmp_path):
        first, second = (VotesFile(tmp_path / "v.jsonl", AB) for _ in range(2))
        first.append(ballot(1, "alpha"))
        second.append(ballot(2, "beta"))
        assert [b.item for b in first.news()] == ["item1", "item2"]
        first.append(ballot(3, "beta"))
        assert [b.item for b in second.news()] == ["item1", "item2", "item3"]
        assert second.news() == []

    @pytest.mark.parametrize("torn", ['{"item": "item9", "promp', "\x00\x00", "[1, 2]", '{"item": 3}'])
    def test_a_line_cut_short_is_left_out_and_the_next_stands_alone(self, tmp_path, torn):
        path = tmp_path / "v.jsonl"
        VotesFile(path, AB).append(ballot(1, "alpha"))
        with path.open("a") as file:
            file.write(torn)
        resumed = VotesFile(path, AB)
        assert [b.item for b in resumed.news()] == ["item1"]
        resumed.append(ballot(2, "beta"))
        again = VotesFile(path, AB)
        assert [b.item for b in again.news()] == ["item1", "item2"]
        assert again.unread == 1

    def test_a_last_line_that_lacks_but_its_end_counts(self, tmp_path):
        path = tmp_path / "v.jsonl"
        VotesFile(path, AB).append(ballot(1, "alpha"))
        path.write_bytes(path.read_bytes().rstrip(b"\n"))
        resumed = VotesFile(path, AB)
        resumed.append(ballot(2, "beta"))
        assert [b.item for b in VotesFile(path, AB).news()] == ["item1", "item2"]

    @pytest.mark.parametrize(
        "change",
        [
            {"winner": "delta"}, {"kind": "maybe"}, {"order": ["alpha"]}, {"order": ["alpha", "delta"]},
            {"kind": "tie"}, {"chars": "no"}, {"seconds": None}, {"item": 7},
        ],
    )  # fmt: skip
    def test_a_line_that_cannot_be_a_vote_is_left_out(self, tmp_path, change):
        path = tmp_path / "v.jsonl"
        VotesFile(path, AB).append(ballot(1, "alpha"))
        head, line = path.read_text().splitlines()
        path.write_text("\n".join([head, json.dumps({**json.loads(line), **change}), ""]))
        file = VotesFile(path, AB)
        assert (file.news(), file.unread) == ([], 1)

    def test_a_file_of_other_models_or_of_something_else_is_refused_and_stays_as_it_is(self, tmp_path):
        path = tmp_path / "v.jsonl"
        VotesFile(path, ABC).append(ballot(1, "alpha"))
        before = path.read_bytes()
        with pytest.raises(BadInput, match="alpha, beta, gamma; here alpha, beta"):
            VotesFile(path, AB)
        assert path.read_bytes() == before
        saved = grid(cell("alpha", "1"), cell("beta", "2")).save(tmp_path / "grid.jsonl")
        with pytest.raises(BadInput, match="something else than votes"):
            VotesFile(saved, AB)
        later = tmp_path / "later.jsonl"
        later.write_text('{"format": "mamba_nb.votes", "version": 2, "labels": []}\n')
        with pytest.raises(BadInput, match="Update mamba_nb"):
            VotesFile(later, AB)

    def test_a_path_with_votes_on_other_answers_is_refused(self, tmp_path):
        comparison = grid(cell("alpha", "1"), cell("beta", "2"))
        keys = [item.key for item in items_of(comparison)]
        VotesFile(tmp_path / "v.jsonl", AB).append(ballot(1, "alpha"))
        with pytest.raises(BadInput, match="votes on another comparison"):
            find_file(comparison, tmp_path / "v.jsonl", keys)
        assert find_file(comparison, tmp_path / "v.jsonl", ["item1"]).news()
        assert find_file(comparison, tmp_path / "v.jsonl", keys, whole=False).news()

    def test_without_a_path_the_file_is_the_one_with_votes_on_these_answers(self, tmp_path):
        """Also when the comparison was run again with the same answers; a comparison's own name comes first."""
        before = grid(cell("alpha", "1"), cell("beta", "2"), started_at="2026-01-01")
        again = grid(cell("alpha", "1"), cell("beta", "2"), started_at="2026-01-02")
        other = grid(cell("alpha", "1"), cell("beta", "3"), started_at="2026-01-03")
        key = items_of(before)[0].key
        file = find_file(before, None, [key])
        assert not file.path.exists() and file.path.parent.resolve() == tmp_path
        file.append(Ballot(**{**{n: getattr(ballot(1, "alpha"), n) for n in Ballot.__slots__}, "item": key}))
        assert find_file(before, None, [key]).path == file.path
        assert find_file(again, None, [key]).path == file.path
        assert find_file(other, None, [items_of(other)[0].key]).path != file.path

    def test_a_file_in_the_way_of_the_name_is_not_touched(self):
        comparison = grid(cell("alpha", "1"), cell("beta", "2"), started_at="2026-01-01")
        first = find_file(comparison, None, ["k"])
        first.path.write_text("a shopping list\n")
        assert find_file(comparison, None, ["k"]).path.name == first.path.stem + "-2.jsonl"
