"""SSIM against ratio, group by group, as a figure: lines for a few groups, a heat map for many."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

from compress.sensitivity import Curve, Sensitivity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW = 8
"""As many groups as colours and line ends can be told apart."""
LONGEST = 34
"""Letters of a name; the middle of a longer one is left out."""
DPI = 110
ROW = 0.23
"""Inches of a heat map's row."""
STYLE = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#444444", "#e69f00")
"""Okabe and Ito's, which colour-blind readers can tell apart."""
MARKS = "osD^vPX*"


def plot(found: Sensitivity) -> bytes:
    """The figure as a PNG."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = lines(found) if len(found.curves) <= FEW else heat_map(found)
        FigureCanvasAgg(figure)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.15)
    return buffer.getvalue()


def title_of(found: Sensitivity) -> str:
    """What the figure shows."""
    how = "each refitted in closed form" if found.recover == "closed-form" else "no recovery"
    return f"{found.name}: each group of channels cut alone, {how}"


def short(name: str) -> str:
    """A name that fits beside an axis."""
    if len(name) <= LONGEST:
        return name
    half = (LONGEST - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def lines(found: Sensitivity) -> Figure:
    """SSIM against the share of the group that is gone, and beside it against MACs saved."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for index, curve in enumerate(found.curves):
        style: dict[str, Any] = {
            "color": COLOURS[index],
            "marker": MARKS[index],
            "markersize": 5,
            "linewidth": 1.6,
            "label": f"{short(curve.group)}  ({curve.channels})",
        }
        quality = [found.ssim, *(p.ssim for p in curve.points)]
        gone = [0.0, *(p.removed / curve.channels for p in curve.points)]
        saved = [0.0, *(p.macs_saved for p in curve.points)]
        draw(left, gone, quality, style)
        draw(right, saved, quality, style)
    for axes, what in ((left, "channels of the group that are gone"), (right, "MACs saved in all")):
        axes.set_xlabel(what)
        axes.xaxis.set_major_formatter(percent)
        axes.grid(color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
    left.set_ylabel("SSIM to the original")
    figure.suptitle(title_of(found), x=0.01, ha="left", fontsize=10)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside right center", frameon=False, title="group (channels)"
    )
    return figure


def percent(value: float, _: object) -> str:
    """A tick's label."""
    return f"{100 * value:.4g}%"


def draw(axes: Axes, x: Sequence[float], y: Sequence[float], style: dict[str, Any]) -> None:
    """A line through points in the order of ``x``."""
    order = sorted(range(len(x)), key=lambda i: x[i])
    axes.plot([x[i] for i in order], [y[i] for i in order], **style)


def heat_map(found: Sensitivity) -> Figure:
    """A row a group, in the order of the network; a column a ratio; beside it MACs saved."""
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    curves, ratios = found.curves, found.ratios
    rows = len(curves)
    loss = np.array([[found.ssim - p.ssim for p in curve.points] for curve in curves])
    height = ROW * rows + 1.5
    figure = Figure(figsize=(3.6 + 0.95 * len(ratios) + 2.2, height), layout="constrained")
    map_axes, bar_axes = figure.subplots(1, 2, sharey=True, width_ratios=(0.95 * len(ratios), 2.2))
    # Few groups hurt most: the square root keeps small losses apart.
    scale = Normalize(0, max(0.02, float(np.sqrt(loss.clip(0).max()))))
    palette = colormaps["YlOrRd"]
    map_axes.imshow(
        np.sqrt(loss.clip(0)), cmap=palette, norm=scale, aspect="auto", interpolation="nearest"
    )
    for row, curve in enumerate(curves):
        for column, point in enumerate(curve.points):
            shade = scale(float(np.sqrt(max(0.0, loss[row, column]))))
            said = f"{point.ssim:.4f}" if point.removed else "–"
            colour = "white" if shade > 0.62 else "#222222"
            map_axes.text(column, row, said, ha="center", va="center", fontsize=7.5, color=colour)
    map_axes.set_xticks(range(len(ratios)), [f"{ratio:.3g}" for ratio in ratios])
    map_axes.xaxis.tick_top()
    map_axes.xaxis.set_label_position("top")
    map_axes.set_xlabel("SSIM with this share of the group gone")
    names = [f"{short(c.group)}  ({c.channels})" for c in curves]
    map_axes.set_yticks(range(rows), names, fontsize=8)
    map_axes.tick_params(length=0)
    for spine in map_axes.spines.values():
        spine.set_visible(False)
    saved_bars(bar_axes, curves, ratios)
    figure.suptitle(title_of(found), x=0.01, ha="left", fontsize=10)
    return figure


def saved_bars(axes: Axes, curves: Sequence[Curve], ratios: Sequence[float]) -> None:
    """How much of all MACs goes with each group, at the ratio nearest to a half."""
    middle = min(range(len(ratios)), key=lambda i: abs(ratios[i] - 0.5))
    saved = [curve.points[middle].macs_saved for curve in curves]
    axes.barh(range(len(curves)), saved, height=0.7, color="#7a9cc0")
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel(f"MACs saved at {ratios[middle]:.3g}")
    axes.xaxis.set_major_formatter(percent)
    axes.locator_params(axis="x", nbins=4)
    axes.grid(axis="x", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0, labelleft=False)
    axes.spines["bottom"].set_visible(False)
    axes.spines["top"].set_visible(True)
