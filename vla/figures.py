"""The pictures of a report: curves and histograms as inline SVG, rollouts as strips of frames, intervals as bars.

Drawn off screen; nothing here opens a window or keeps a figure.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image

from vla.evaluate.statistics import Rate

Curve = Sequence[tuple[float, float]]
"""(step, value) pairs."""

INK, SOFT, COLOURS = "#1f2328", "#59636e", ("#2f6f9f", "#d9822b", "#6b4fa0", "#2ea043", "#cf3636")


def curves_svg(curves: Mapping[str, Curve]) -> str:
    """Losses over training steps, on a logarithmic scale where all are positive."""
    figure, axes = _axes("training step", "loss")
    for colour, (name, curve) in zip(COLOURS, curves.items(), strict=False):
        steps, values = np.array(curve, float).T
        axes.plot(steps, values, color=colour, linewidth=1.6, label=name, marker="o" if len(steps) < 30 else None, markersize=3)
    if all(value > 0 for curve in curves.values() for _, value in curve):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=9)
    return _svg(figure)


def histogram_svg(samples: Mapping[str, np.ndarray], label: str) -> str:
    """Distributions over each other; the highest 0.5 % is left out of the picture so that the rest can be seen."""
    figure, axes = _axes(label, "predictions")
    top = max(float(np.quantile(values, 0.995)) for values in samples.values())
    bins = np.linspace(0, top * 1.05, 50)
    for colour, (name, values) in zip(COLOURS, samples.items(), strict=False):
        axes.hist(values, bins=bins, color=colour, alpha=0.6, label=name)
    if len(samples) > 1:
        axes.legend(frameon=False, fontsize=9)
    return _svg(figure)


def bar_svg(rate: Rate, good: bool = True) -> str:
    """A share in [0, 1] as a dot with its interval, on a scale from 0 to 100 %."""
    low, mean, high = (4 + 182 * value for value in (rate.low, rate.mean, rate.high))
    colour = COLOURS[0] if good else COLOURS[4]
    return (
        '<svg class="bar" viewBox="0 0 190 16"><path d="M4 12H186M4 9v6M95 9v6M186 9v6" stroke="#d8dee4" fill="none"/>'
        f'<path d="M{low:.1f} 7H{high:.1f}" stroke="{colour}" stroke-width="5" stroke-opacity=".35"/>'
        f'<circle cx="{mean:.1f}" cy="7" r="4.5" fill="{colour}"/></svg>'
    )


def strip_jpeg(film: UInt8[np.ndarray, "t h w 3"], pictures: int = 9, views: int = 2) -> str:
    """A film's frames at equal times from first to last, its camera views stacked; base64 of a JPEG."""
    times = np.linspace(0, len(film) - 1, pictures).round().astype(int)
    columns = [np.concatenate(np.split(film[t], views, axis=1), axis=0) for t in times]
    columns = [np.pad(column, [(0, 0), (0, 2), (0, 0)], constant_values=255) for column in columns]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(columns, axis=1)).save(buffer, "JPEG", quality=86)
    return base64.b64encode(buffer.getvalue()).decode()


def _axes(x: str, y: str):
    figure = Figure(figsize=(5.4, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x, color=SOFT)
    axes.set_ylabel(y, color=SOFT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#d8dee4")
    axes.tick_params(colors=SOFT, labelsize=9)
    axes.grid(alpha=0.4, linewidth=0.5)
    return figure, axes


def heat_map_svg(shares: Float[np.ndarray, "r c"], rows: Sequence[str], columns: Sequence[str]) -> str:
    """Shares in [0, 1] as a table of shades with their per cents; NaN stays empty."""
    figure = Figure(figsize=(2.6 + 1.3 * len(columns), 1.1 + 0.5 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelcolor=SOFT)
    for (row, column), share in np.ndenumerate(shares):
        if not np.isnan(share):
            axes.text(column, row, f"{100 * share:.0f} %", ha="center", va="center", color="white" if share > 0.55 else INK)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()[buffer.getvalue().index("<svg"):]
