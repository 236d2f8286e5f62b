"""The plot: what is drawn, in which colours, and how it travels without a network."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mamba_nb.display.plots import latency
from mamba_nb.errors import BadInput
from mamba_nb.records import Cell, Comparison, Generation, Request, Usage


def cell(label: str, ttft_s: float, latency_s: float, tokens: int | None, status: str = "done") -> Cell:
    generation = Generation(
        request=Request(model=label, messages=()),
        base_url="http://127.0.0.1/v1",
        server="ollama",
        model=label,
        text_at_s=(ttft_s, latency_s),
        finish_at_s=latency_s,
        latency_s=latency_s,
        usage=None if tokens is None else Usage(completion_tokens=tokens),
        status=status,
    )
    return Cell(label=label, variant=None, prompt_id=0, prompt="p", repeat=0, generation=generation)


def grid(*cells: Cell) -> Comparison:
    return Comparison(cells=cells, labels=tuple(dict.fromkeys(c.label for c in cells)), planned=len(cells))


GRID = grid(
    cell("qwen", 0.25, 2.0, 20),
    cell("llama", 0.5, 1.0, 30),
    cell("qwen", 0.75, 2.0, 40),
    cell("llama", 9.0, 9.0, 90, status="stopped"),
)


def test_the_marks_are_the_done_answers_and_the_bars_their_medians():
    spec = latency(GRID).to_dict()

    def points(figure: int, layer: int) -> list[tuple[str, float]]:
        name = spec["hconcat"][figure]["layer"][layer]["data"]["name"]
        return [(point["label"], point["value"]) for point in spec["datasets"][name]]

    assert points(0, 0) == [("qwen", 250.0), ("qwen", 750.0), ("llama", 500.0)]
    assert points(0, 1) == [("qwen", 500.0), ("llama", 500.0)]
    assert points(1, 0) == [("qwen", 10.0), ("qwen", 20.0), ("llama", 30.0)]
    assert points(1, 1) == [("qwen", 15.0), ("llama", 30.0)]


def test_models_have_their_colours_in_the_order_of_the_labels():
    scale = latency(GRID).to_dict()["hconcat"][0]["layer"][0]["encoding"]["color"]["scale"]
    assert scale == {"domain": ["qwen", "llama"], "range": ["#0072b2", "#d55e00"]}


def test_a_figure_that_nobody_counted_is_left_out():
    charts = latency(grid(cell("qwen", 0.25, 2.0, None))).to_dict()["hconcat"]
    assert len(charts) == 1
    assert charts[0]["layer"][0]["encoding"]["x"]["title"] == "time to first token, ms"


def test_without_a_done_answer_there_is_nothing_to_draw():
    with pytest.raises(BadInput, match="nothing to draw"):
        latency(grid(cell("qwen", 0.25, 2.0, 10, status="failed")))


def test_the_plot_travels_as_data_that_front_ends_draw_themselves():
    bundle = latency(GRID)._repr_mimebundle_()
    spec = bundle["application/vnd.vegalite.v5+json"]
    assert spec["$schema"] == "https://vega.github.io/schema/vega-lite/v5.json"
    assert "text/html" not in bundle  # it would fetch Vega from the network
    json.dumps(spec)


def test_a_renderer_that_the_user_chose_is_kept():
    import altair as alt

    with alt.renderers.enable("json"):
        assert "application/json" in latency(GRID)._repr_mimebundle_()[0]


def test_without_altair_the_error_gives_the_pip_line():
    code = (
        "import sys; sys.modules['altair'] = None\n"
        "from mamba_nb.display.plots import latency\n"
        "from mamba_nb.errors import MissingExtra\n"
        "from mamba_nb.records import Comparison\n"
        "try: latency(Comparison(cells=(), labels=(), planned=0))\n"
        "except MissingExtra as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert 'pip install "mamba_nb[plots]"' in said
