"""One plot: how fast the models answered, drawn by altair.

It shows without a network wherever the front end brings Vega (JupyterLab, Notebook 7, VS Code); with
`vl-convert-python` installed a drawn picture goes along for all others (nbconvert, GitHub, Voila), and
`chart.save("plot.html", inline=True)` writes a page that needs no network either.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mamba_nb.display import style
from mamba_nb.display.columns import Group, Read, groups
from mamba_nb.display.text import one_line
from mamba_nb.errors import BadInput, MissingExtra
from mamba_nb.metrics import percentile
from mamba_nb.records import Comparison

if TYPE_CHECKING:
    import altair as alt

__all__ = ["latency"]

# Altair 6 labels its charts with Vega-Lite 6, which no notebook front end draws yet; these charts use nothing
# that Vega-Lite 5 does not have.
_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
_MIME = "application/vnd.vegalite.v5+json"

_FIGURES: tuple[tuple[str, Read], ...] = (
    ("time to first token, ms", lambda generation: generation.ttft_ms),
    ("output, tokens per second", lambda generation: generation.output_tokens_per_s),
)

LABEL_CHARS = 48


def latency(comparison: Comparison) -> alt.HConcatChart:
    """Time to first token and output rate, one row a model, one mark an answer, a bar at the median.

    Args:
        comparison: The grid; only its done answers are drawn.

    Returns:
        An altair chart; a figure that no answer has is left out.

    Raises:
        MissingExtra: If altair is not installed.
        BadInput: If no answer has either figure.
    """
    if find_spec("altair") is None:
        raise MissingExtra("The plot", package="altair", extra="plots")
    rows = groups(comparison)
    charts: list[Any] = []
    for title, read in _FIGURES:
        if any(row.values(read) for row in rows):
            charts.append(_strip(rows, title, read, names=not charts))
    if not charts:
        raise BadInput(
            "There is nothing to draw: no answer was done with a figure to it.",
            hint="Look at comparison.to_frame() for what went wrong.",
        )
    chart: alt.HConcatChart = _drawn(charts)
    return chart


def _strip(rows: list[Group], title: str, read: Read, *, names: bool) -> Any:
    import altair as alt

    labels = _labels(rows)
    colours = [light for light, _ in style.model_colours()]
    values = {label: row.values(read) for label, row in zip(labels, rows, strict=True)}
    answers = [(label, value) for label, of in values.items() for value in of]
    medians = [(label, percentile(of, 50)) for label, of in values.items() if of]
    how = {
        "x": alt.X("value:Q", title=title, scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=4)),
        "y": alt.Y(
            "label:N",
            title=None,
            scale=alt.Scale(domain=labels),
            axis=alt.Axis(labelLimit=320, labelPadding=8, ticks=False, domain=False) if names else None,
        ),
        "color": alt.Color(
            "label:N",
            legend=None,
            scale=alt.Scale(domain=labels, range=[colours[i % len(colours)] for i in range(len(labels))]),
        ),
        "tooltip": [alt.Tooltip("label:N"), alt.Tooltip("value:Q", format=",.3~r", title=title)],
    }
    marks = alt.Chart(_values(answers)).mark_circle(size=60, opacity=0.5).encode(**how)
    bars = alt.Chart(_values(medians)).mark_tick(thickness=3, size=18).encode(**how)
    return alt.layer(marks, bars).properties(width=260, height=alt.Step(28))


def _labels(rows: list[Group]) -> list[str]:
    """A name for each row, no two the same: what has one name would be one row."""
    labels: list[str] = []
    for row in rows:
        # Charts are also saved as pages, where altair writes them into a script as they are. A word joiner is not seen,
        # and behind it nothing ends that script.
        label = named = one_line(row.label, LABEL_CHARS).replace("<", "<\N{WORD JOINER}")
        number = 1
        while named in labels:
            number += 1
            named = f"{label} ({number})"
        labels.append(named)
    return labels


def _values(points: list[tuple[str, Any]]) -> alt.InlineData:
    import altair as alt

    return alt.InlineData(values=[{"label": label, "value": value} for label, value in points])


def _drawn(charts: list[Any]) -> Any:
    import altair as alt

    class Chart(alt.HConcatChart):
        """A chart that needs no network to be seen."""

        def _repr_mimebundle_(self, *args: Any, **kwargs: Any) -> Any:
            if alt.renderers.active != "default":  # the user has chosen how charts are shown
                return super()._repr_mimebundle_(*args, **kwargs)
            spec = self.to_dict()
            bundle = {_MIME: spec | {"$schema": _SCHEMA}, "text/plain": "A plot: how fast the models answered."}
            if find_spec("vl_convert") is not None:
                import vl_convert  # type: ignore[import-not-found, unused-ignore]

                # Measured with another font than the reader's: room for labels that come out wider.
                roomy = spec["config"] | {"padding": {"left": 40, "right": 16, "top": 8, "bottom": 8}}
                bundle["image/svg+xml"] = vl_convert.vegalite_to_svg(spec | {"config": roomy})
            return bundle

    # A picture travels to places whose theme nobody knows, so it brings its surface and its ink along.
    surface, text, quiet, line = (style.token(name)[0] for name in ("surface", "text", "quiet", "line"))
    return (
        Chart(hconcat=charts, spacing=24)
        .configure(background=surface, font="system-ui, sans-serif", padding=8)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=text,
            titleColor=quiet,
            titleFontWeight="normal",
            labelFontSize=12,
            titleFontSize=12,
            gridColor=line,
            domainColor=line,
            tickColor=line,
        )
    )
