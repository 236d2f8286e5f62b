"""The comparison: what is refused, in which order servers are asked, and what survives a failure or a stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pandas as pd
import pytest

import mamba_nb as mb
from mamba_nb.backends import OpenAICompatibleBackend, create_ollama_backend
from mamba_nb.compare.engine import CellEnded, CellEvent
from mamba_nb.compare.plan import make_plan
from mamba_nb.errors import BackendClosed, BadInput, RunStopped
from mamba_nb.records import Comparison, TextDelta
from mamba_nb.testing import Script, ScriptedServer, closed_port

QUICK = Script(text=["Because ", "of ", "scattering."], prompt_tokens=5)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(QUICK, models=("alpha", "beta")) as running:
        yield running


@pytest.fixture
def backends(server: ScriptedServer) -> Iterator[dict[str, OpenAICompatibleBackend]]:
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(OpenAICompatibleBackend(name, server.base_url, max_retries=0))
            for name in server.models
        }


def asked(server: ScriptedServer) -> list[tuple[str | None, str]]:
    """The model and prompt of each completion the server saw, warm-ups left out."""
    return [(r.model, r.prompt) for r in server.requests if r.method == "POST" and r.prompt != "Hi"]


class TestGrid:
    def test_every_model_gets_every_prompt_every_time(self, server, backends):
        grid = mb.compare(backends.values(), ["why?", "how?"], repeats=2, live=False)
        assert [(c.label, c.prompt_id, c.repeat) for c in grid] == [
            ("alpha", 0, 0), ("beta", 0, 0), ("alpha", 0, 1), ("beta", 0, 1),
            ("alpha", 1, 0), ("beta", 1, 0), ("alpha", 1, 1), ("beta", 1, 1),
        ]  # fmt: skip
        assert {c.generation.text for c in grid} == {"Because of scattering."}
        assert sorted(asked(server)) == sorted(
            [(m, p) for m in ("alpha", "beta") for p in ("why?", "how?") for _ in range(2)]
        )
        assert grid.planned == 8 and grid.count("done") == 8

    def test_the_frame_has_one_row_a_generation(self, backends):
        frame = mb.compare(backends["alpha"], pd.Series({"a": "why?", "b": "how?"}), live=False).to_frame()
        assert list(frame["prompt_id"]) == ["a", "b"]
        assert list(frame["prompt"]) == ["why?", "how?"]
        assert list(frame["completion_tokens"]) == [3, 3]
        assert list(frame["prompt_tokens"]) == [5, 5]
        assert list(frame["status"]) == ["done", "done"]

    def test_a_failing_model_is_rows_not_a_lost_grid(self, server, backends):
        with OpenAICompatibleBackend("gamma", server.base_url, max_retries=0) as missing:
            grid = mb.compare([backends["alpha"], missing], ["why?", "how?"], live=False)
        frame = grid.to_frame()
        assert list(frame.loc[frame.label == "alpha", "status"]) == ["done", "done"]
        failed = frame[frame.label == "gamma"]
        assert list(failed["status"]) == ["failed", "failed"]
        assert set(failed["error_type"]) == {"ModelNotFound"}
        assert failed["error"].str.contains("It has: alpha, beta").all()
        assert "gamma" not in {model for model, _ in asked(server)}  # told once, by the warm-up

    def test_a_server_that_is_down_is_told_in_its_cells(self, backends):
        with closed_port() as place, OpenAICompatibleBackend("x", place.base_url, max_retries=0) as down:
            grid = mb.compare([down, backends["beta"]], "why?", live=False)
        assert [c.generation.status for c in grid] == ["failed", "done"]
        assert grid.cells[0].generation.error_type == "ServerUnreachable"

    def test_a_stream_that_breaks_off_keeps_its_text(self, server, backends):
        broken_off = Script(text=["one ", "two ", "three"], fault="cut", fault_after=2)
        server.enqueue(QUICK, broken_off, model="alpha")  # the warm-up comes first
        grid = mb.compare(backends.values(), "why?", live=False)
        broken = grid.cells[0].generation
        assert (broken.status, broken.error_type, broken.text) == ("failed", "StreamInterrupted", "one two ")
        assert grid.cells[1].generation.status == "done"

    def test_saved_and_loaded_it_is_the_same(self, backends, tmp_path):
        grid = mb.compare(backends.values(), ["why?"], live=False, temperature=0.5)
        assert Comparison.load(grid.save(tmp_path / "grid.jsonl")) == grid
        assert [path.name for path in tmp_path.iterdir()] == ["grid.jsonl"]


class TestWhatIsSent:
    def test_no_sampling_parameter_is_sent_that_was_not_given(self, server, backends):
        mb.compare(backends["alpha"], "why?", live=False)
        body = server.requests[-1].body
        assert set(body) == {"model", "messages", "stream", "stream_options"}

    def test_a_variant_wins_over_the_comparison_and_that_over_the_backend(self, server):
        with OpenAICompatibleBackend("alpha", server.base_url, temperature=0.1, top_p=0.9) as backend:
            mb.compare(
                [mb.variant(backend, temperature=1.0, system="Be brief."), mb.variant(backend)],
                "why?",
                system="Be kind.",
                temperature=0.5,
                seed=7,
                live=False,
                max_concurrency=1,
            )
        first, second = [r.body for r in server.requests if r.prompt == "why?"]
        assert (first["temperature"], first["top_p"], first["seed"]) == (1.0, 0.9, 7)
        assert first["messages"][0] == {"role": "system", "content": "Be brief."}
        assert [m["role"] for m in first["messages"]] == ["system", "user"]
        assert second["temperature"] == 0.5
        assert second["messages"][0] == {"role": "system", "content": "Be kind."}

    def test_a_name_takes_address_and_key_from_the_settings_and_no_temperature(self, server, monkeypatch):
        monkeypatch.setenv("MAMBA_MODEL_BACKEND__BASE_URL", server.base_url)
        monkeypatch.setenv("MAMBA_MODEL_BACKEND__API_KEY", "sk-from-settings")
        mb.compare("alpha", "why?", live=False)
        last = server.requests[-1]
        assert last.headers["authorization"] == "Bearer sk-from-settings"
        assert "temperature" not in last.body

    def test_a_conversation_is_sent_as_it_is(self, server, backends):
        talk = [
            {"role": "user", "content": "I am Ada."},
            {"role": "assistant", "content": "Hello Ada."},
            {"role": "user", "content": "Who am I?"},
        ]
        grid = mb.compare(backends["alpha"], [talk], live=False)
        assert server.requests[-1].body["messages"] == talk
        assert grid.cells[0].prompt == "Who am I?"

    def test_a_template_is_filled_from_the_columns_and_the_index_is_kept(self, server, backends):
        frame = pd.DataFrame({"text": ["a {b}", "c"], "n": [1, 2]}, index=["x", "y"])
        grid = mb.compare(backends["alpha"], frame, template="{n}: {text}", live=False, max_concurrency=1)
        assert [c.prompt_id for c in grid] == ["x", "y"]
        assert [prompt for _, prompt in asked(server)] == ["1: a {b}", "2: c"]


class TestRefused:
    @pytest.mark.parametrize(
        ("models", "prompts", "options", "says"),
        [
            ([], "why?", {}, "no model"),
            (["m"], [], {}, "no prompts"),
            (["m"], "  ", {}, "empty"),
            (["m"], 7, {}, "int"),
            (["m"], [None], {}, "Prompt 0"),
            (["m"], [float("nan")], {}, "Prompt 0"),
            (["m"], [{"role": "user", "content": "x"}], {}, "one conversation"),
            (["m"], {"a": "b"}, {}, "dict"),
            (["m"], "x", {"repeats": 0}, "repeats"),
            (["m"], "x", {"repeats": -1}, "repeats"),
            (["m"], "x", {"max_concurrency": 0}, "max_concurrency"),
            (["m"], "x", {"temprature": 1}, "'temperature'"),
            (["m"], "x", {"max_tokens": -5}, "max_tokens"),
            (["m"], "x", {"column": "text"}, "DataFrame"),
            ([3], "x", {}, "Model 0 is int"),
            ([""], "x", {}, "empty"),
            (["m"], pd.DataFrame({"a": ["x"], "b": ["y"]}), {}, "a, b"),
            (["m"], pd.DataFrame({"text": ["x"]}), {"column": "txt"}, "'text'"),
            (["m"], pd.DataFrame({"text": ["x"]}), {"template": "same"}, "names no column"),
            (["m"], pd.DataFrame({"text": ["x"]}), {"template": "{text"}, "broken"),
            (["m"], pd.Series({"row 3": None}), {}, "row 3"),
        ],
    )
    def test_what_cannot_be_meant_is_refused_before_anything_is_sent(self, models, prompts, options, says):
        with pytest.raises(BadInput, match=says):
            mb.compare(models, prompts, live=False, **options)

    def test_a_closed_backend_is_refused(self, server):
        backend = OpenAICompatibleBackend("alpha", server.base_url)
        backend.close()
        with pytest.raises(BackendClosed, match="closed"):
            mb.compare(backend, "why?", live=False)
        assert server.requests == []

    def test_two_columns_never_share_a_label(self, backends):
        alpha = backends["alpha"]
        plan = make_plan([alpha, alpha, mb.variant(alpha, seed=1), mb.variant(alpha, seed=1)], "x", params={})
        assert [c.label for c in plan.columns] == ["alpha", "alpha (2)", "seed=1", "seed=1 (2)"]


class TestSchedule:
    def test_a_server_that_holds_one_model_loads_each_once(self):
        with ScriptedServer(
            QUICK, models=("a", "b", "c"), style="ollama", load_s=0.02, one_model_at_a_time=True
        ) as server:
            models = [OpenAICompatibleBackend(name, server.base_url, server="ollama") for name in ("a", "b", "c")]
            grid = mb.compare(models, ["1", "2", "3", "4"], live=False)
            for model in models:
                model.close()
            assert grid.count("done") == 12
            assert server.loads == 3  # the naive order, prompt by prompt, would load 12 times

    def test_a_server_never_gets_more_at_once_than_allowed(self):
        with ScriptedServer(Script(text="a b c", itl_s=0.01), models=("m",)) as server:
            with OpenAICompatibleBackend("m", server.base_url) as backend:
                grid = mb.compare(backend, [str(n) for n in range(8)], max_concurrency=3, live=False)
            assert server.peak_active == 3
            assert max(c.generation.concurrency for c in grid) == 3
            assert any("shared a server" in note for note in grid.notes)

    def test_an_unknown_server_gets_one_at_a_time(self):
        with ScriptedServer(Script(text="a b c", itl_s=0.005), models=("m",)) as server:
            with OpenAICompatibleBackend("m", server.base_url) as backend:
                grid = mb.compare([backend, mb.variant(backend, seed=1)], ["1", "2"], live=False)
            assert server.peak_active == 1
            assert not any("shared a server" in note for note in grid.notes)

    def test_servers_work_side_by_side(self):
        slow = Script(text="a b c d e", ttft_s=0.1, itl_s=0.05)
        with ExitStack() as stack:
            servers = [stack.enter_context(ScriptedServer(slow, models=("m",))) for _ in range(3)]
            models = [stack.enter_context(OpenAICompatibleBackend("m", s.base_url)) for s in servers]
            grid = mb.compare(models, ["1", "2"], live=False)
            spans = [
                (min(r.received_at for r in s.requests if r.prompt != "Hi"), max(r.ended_at for r in s.requests))
                for s in servers
            ]
        assert grid.count("done") == 6
        assert max(begin for begin, _ in spans) < min(end for _, end in spans)  # all three overlap

    def test_the_warm_up_is_streamed_timed_and_in_no_figure(self, server, backends):
        grid = mb.compare(backends["alpha"], ["why?"], live=False)
        first = server.chats[0]
        assert first.prompt == "Hi" and first.streamed and first.body["max_tokens"] == 1
        assert grid.cells[0].generation.load_s is not None
        assert len(grid) == 1

    def test_variants_of_one_backend_are_warmed_up_once(self, server, backends):
        mb.compare([mb.variant(backends["alpha"], seed=n) for n in range(3)], "why?", live=False)
        assert sum(r.prompt == "Hi" for r in server.requests) == 1

    def test_a_name_that_llama_cpp_ignores_is_an_error_in_a_comparison(self, monkeypatch):
        with ScriptedServer(QUICK, models=("real",), style="llamacpp") as server:
            monkeypatch.setenv("MAMBA_MODEL_BACKEND__BASE_URL", server.base_url)
            grid = mb.compare("imagined", "why?", live=False)
        assert grid.cells[0].generation.error_type == "ModelNotFound"
        assert "real" in grid.cells[0].generation.error


class TestStop:
    def test_a_cancelled_run_keeps_what_finished_and_what_was_under_way(self):
        with ScriptedServer(Script(text=["never ", "ending ", "story"], itl_s=30), models=("m",)) as server:
            server.enqueue(QUICK, QUICK)  # the warm-up and the first prompt
            with OpenAICompatibleBackend("m", server.base_url) as backend:
                run = mb.start_compare(backend, ["1", "2", "3"], max_concurrency=1)
                for event in run:
                    if isinstance(event, CellEvent) and event.prompt_id == 1 and isinstance(event.event, TextDelta):
                        break  # leaving the loop cancels the work
                with pytest.raises(RunStopped) as stopped:
                    run.result()
                server.wait_idle()
            grid = stopped.value.partial
            assert [(c.prompt_id, c.generation.status) for c in grid] == [(0, "done"), (1, "stopped")]
            assert grid.cells[1].generation.text.startswith("never ")
            assert grid.planned == 3
            assert server.disconnects == 1

    def test_events_name_their_cell_and_end_with_the_cells(self, backends):
        run = mb.start_compare(backends.values(), "why?")
        events = list(run)
        ended = [e.cell for e in events if isinstance(e, CellEnded)]
        assert sorted(c.label for c in ended) == ["alpha", "beta"]
        text = "".join(e.event.text for e in events if isinstance(e, CellEvent) and e.label == "alpha"
                       and isinstance(e.event, TextDelta))  # fmt: skip
        assert text == "Because of scattering."
        assert run.result().count("done") == 2

    @pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a process")
    def test_twenty_interrupts_lose_no_finished_answer(self, tmp_path):
        """An interrupt at twenty different moments: what the server finished is done in `.partial`."""
        script = textwrap.dedent(
            """
            import json, sys, threading, _thread, time
            import mamba_nb as mb
            from mamba_nb.backends import OpenAICompatibleBackend
            from mamba_nb.testing import Script, ScriptedServer

            with ScriptedServer(Script(text="a b c d", itl_s=0.01), models=("m",)) as server:
                backend = OpenAICompatibleBackend("m", server.base_url)
                mb.compare(backend, "Hello", live=False)
                for number in range(20):
                    before = len(server.requests)
                    timer = threading.Timer(0.05 + 0.017 * number, _thread.interrupt_main)
                    timer.start()
                    began = None
                    try:
                        mb.compare(backend, [str(n) for n in range(50)], max_concurrency=2, live=False)
                        raise SystemExit("the comparison ended before the interrupt")
                    except KeyboardInterrupt as interrupt:
                        grid = interrupt.partial
                    server.wait_idle()
                    finished = {r.prompt for r in server.requests[before:]
                                if r.prompt not in ("", "Hi") and not r.disconnected and r.ended_at}
                    done = {c.prompt for c in grid if c.generation.status == "done"}
                    # The server ends an answer a moment before the client has read it.
                    assert done <= finished and len(finished - done) <= 2, (number, finished, done)
                    assert all(c.generation.text == "a b c d" for c in grid if c.generation.status == "done")
                    assert grid.planned == 50
                assert not mb.runs(), mb.runs()
                print("kept")
            """
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, cwd=tmp_path)
        assert done.stdout.strip() == "kept", done.stderr

    @pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to this process")
    def test_an_interrupt_ends_the_verb_soon_and_carries_run_and_partial(self):
        with ScriptedServer(Script(text=["x"], ttft_s=30), models=("m",)) as server:
            server.enqueue(QUICK, QUICK)  # the warm-up and the first prompt
            with OpenAICompatibleBackend("m", server.base_url) as backend:
                sent: list[float] = []

                def interrupt() -> None:
                    server.wait_for_requests(3, 10, chats_only=True)
                    sent.append(time.monotonic())
                    os.kill(os.getpid(), signal.SIGINT)

                thread = threading.Thread(target=interrupt)
                thread.start()
                with pytest.raises(KeyboardInterrupt) as stopped:
                    mb.compare(backend, ["1", "2"], max_concurrency=1, live=False)
                took_s = time.monotonic() - sent[0]
                thread.join()
                server.wait_idle()
            assert took_s < 10  # the answer would have come after 30
            assert [c.generation.status for c in stopped.value.partial] == ["done", "stopped"]
            assert stopped.value.run in mb.runs(ended=True)
            assert server.disconnects == 1


class TestShared:
    def test_the_verb_and_the_room_share_their_name(self):
        code = "import mamba_nb.compare.plan, mamba_nb; assert callable(mamba_nb.compare); print('ok')"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "ok\n"

    def test_notes_tell_of_answers_that_were_cut_and_of_different_sampling(self, server):
        with (
            OpenAICompatibleBackend("alpha", server.base_url, temperature=0.2, max_tokens=2) as one,
            OpenAICompatibleBackend("beta", server.base_url, max_tokens=2) as two,
        ):
            notes = mb.compare([one, two], "why?", live=False).notes
        assert "Stopped at the token limit, not at their end: alpha 1 of 1, beta 1 of 1." in notes
        assert "Different temperature: alpha: 0.2, beta: left to the server." in notes


def test_different_contexts_in_force_are_told_and_stand_in_the_frame():
    with (
        ScriptedServer(Script(text="a"), style="vllm", models=["short"], context_length=2048) as one,
        ScriptedServer(Script(text="b"), style="vllm", models=["long"], context_length=8192) as two,
        OpenAICompatibleBackend("short", one.base_url) as short,
        OpenAICompatibleBackend("long", two.base_url) as long,
    ):
        grid = mb.compare([short, long], "Hello", live=False)
    assert grid.to_frame()["context"].tolist() == [2048, 8192]
    assert "Different context in force: short 2,048, long 8,192." in grid.notes


def test_variants_that_are_loaded_with_another_context_are_each_warmed_up():
    about = {"llama3.2": {"context_max": 131_072}}
    with (
        ScriptedServer(Script(text="a"), style="ollama", models=["llama3.2"], about=about) as server,
        create_ollama_backend("llama3.2", base_url=server.base_url) as backend,
    ):
        grid = mb.compare(
            [mb.variant(backend, num_ctx=2048), mb.variant(backend, num_ctx=8192)], ["x", "y"], live=False
        )
        sent = [request.body["options"]["num_ctx"] for request in server.chats]
    assert [cell.generation.status for cell in grid] == ["done"] * 4
    assert sent == [2048, 2048, 2048, 8192, 8192, 8192]  # one warm-up and two prompts of each, one load each
