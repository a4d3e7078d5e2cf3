# SPDX-License-Identifier: MIT
"""The figures of a report: the amortisation curve, the rates, and what stays exposed.

Each function takes a run and returns a figure; :func:`draw` gives all that a run has data for.
Nothing here depends on a display, on the time or on the user's settings, so the same results give
the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from testbed.report.exposure_plot import draw_exposure
from testbed.report.style import (
    COLOUR,
    GRID,
    INK,
    KEY_COLUMNS,
    MARKER,
    MUTED,
    figure_style,
    strategy_key,
    titled_figure,
    typeset,
)
from testbed.report.titles import curve_title, exposure_title, rates_title
from testbed.report.units import latency, ratio, significant
from testbed.report.verdict import curve_pairs, iommus
from testbed.results import CurvePoint, RunResult, find_case, shown_strategies
from testbed.scenario import STRATEGIES

IOMMU_LABEL = {"none": "no\nIOMMU"}


@dataclass(frozen=True, slots=True)
class Plot:
    """One finished figure. ``name`` is the stem of its files; ``alt`` says it in words."""

    name: str
    alt: str
    png: bytes
    svg: bytes


def draw(run: RunResult) -> tuple[Plot, ...]:
    """Every figure that ``run`` has data for."""
    plots = []
    with figure_style():
        if any(point.packets_per_second > 0 for point in run.curve):
            plots.append(render("amortisation", curve_title(run), amortisation_figure(run)))
        if run.cases:
            plots.append(render("rates", rates_title(run), rates_figure(run)))
        if any(case.iommu != "none" for case in run.cases):
            plots.append(render("exposure", exposure_title(run), exposure_figure(run)))
    return tuple(plots)


def render(name: str, alt: str, figure: Figure, opaque: bool = False) -> Plot:
    """``figure`` as PNG and SVG (on paper if ``opaque``), without dates or versions in them."""
    png, svg = BytesIO(), BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    bare = {"Date": None, "Creator": None}
    figure.savefig(svg, format="svg", transparent=not opaque, metadata=bare)
    return Plot(name, alt, png.getvalue(), svg.getvalue())


def conditions(run: RunResult) -> str:
    """Under what the figures of ``run`` were taken, for a subtitle."""
    accel = {"kvm": "KVM", "tcg": "software emulation"}[run.host.accel]
    return f"QEMU {run.qemu_version}, Linux {run.kernel_release}, {accel}"


def amortisation_figure(run: RunResult) -> Figure:
    """Packets per second against injected latency, both strategies, log-log with 0 shown."""
    names = ", ".join(dict.fromkeys(point.iommu for point in run.curve))
    subtitle = f"Received packets per second, {names}. {conditions(run)}."
    figure = titled_figure(7.4, 4.6, curve_title(run), subtitle)
    draw_amortisation(figure.add_subplot(), run)
    return figure


def draw_amortisation(axes: Axes, run: RunResult) -> None:
    """The curve itself, into ``axes``."""
    latencies = [us for us, _, _ in curve_pairs(run)]
    smallest = min((us for us in latencies if us > 0), default=1.0)
    axes.set_xscale("symlog", linthresh=smallest, linscale=0.6)
    axes.set_yscale("log")
    for index, strategy in enumerate(STRATEGIES):
        points = [p for p in run.curve if p.strategy == strategy and p.packets_per_second > 0]
        if points:
            _curve_line(axes, sorted(points, key=lambda p: p.latency_us), below=bool(index))
    axes.xaxis.set_major_locator(FixedLocator(latencies))
    axes.xaxis.set_major_formatter(FixedFormatter([typeset(latency(us)) for us in latencies]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(10))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y")
    axes.set_xlabel("latency added to each map and to each unmap")
    axes.set_ylabel("thousand packets per second (log)")
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.7, high * 2)
    axes.set_xlim(-0.2 * smallest, max(latencies[-1], smallest) * 1.25)
    _gap_label(axes, run)


def _curve_line(axes: Axes, points: list[CurvePoint], below: bool) -> None:
    strategy = points[0].strategy
    colour = COLOUR[strategy]
    x = np.array([point.latency_us for point in points])
    y = np.array([point.packets_per_second / 1000 for point in points])
    model = _predicted(points[0], x)
    if model is not None:
        axes.plot(*model, color=colour, linewidth=1, linestyle=(0, (2, 2)), alpha=0.75)
        axes.annotate(
            "dashed: predicted from the rate at 0 and the added latency alone",
            (model[0][0], model[1][-1]),
            xytext=(4, 2),
            textcoords="offset points",
            color=MUTED,
            size=8.5,
            ha="left",
            va="bottom",
        )
    axes.plot(
        x,
        y,
        color=colour,
        marker=MARKER[strategy],
        markersize=6,
        linewidth=1.8 if model is None else 0,
        markeredgecolor="white",
        markeredgewidth=0.8,
    )
    for index, (px, py) in enumerate(zip(x, y, strict=True)):
        _point_label(axes, significant(py), (px, py), colour, below, line=0)
        if index == 0:
            _point_label(axes, strategy, (px, py), colour, below, line=1)


def _point_label(
    axes: Axes, text: str, point: tuple[float, float], colour: str, below: bool, line: int
) -> None:
    """A label above or below a point; line 1, further away, is for the name of the series."""
    distance = 8 + 12 * line
    axes.annotate(
        text,
        point,
        xytext=(-7 if line else 0, -distance if below else distance),
        textcoords="offset points",
        color=colour,
        weight="bold" if line else "normal",
        ha="left" if line else "center",
        va="top" if below else "bottom",
    )


def _predicted(
    zero: CurvePoint, x: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Rate (kpps) if each packet took its time at 0 plus its maps and unmaps times the latency."""
    operations = (zero.maps_per_packet or 0) + (zero.unmaps_per_packet or 0)
    if zero.latency_us != 0 or operations < 0.005 or x[-1] == 0:
        return None
    dense = np.concatenate([np.linspace(0, x[1], 30), np.geomspace(x[1], x[-1], 120)])
    per_packet_us = 1e6 / zero.packets_per_second + operations * dense
    return dense, 1000 / per_packet_us


def _gap_label(axes: Axes, run: RunResult) -> None:
    """How far the strategies are apart at the longest latency, as an arrow between them."""
    us, pool, each = curve_pairs(run)[-1]
    if not (pool and each and pool.packets_per_second and each.packets_per_second and us):
        return
    high, low = pool.packets_per_second / 1000, each.packets_per_second / 1000
    if high < 2 * low:
        return
    style = {"arrowstyle": "<->", "color": MUTED, "linewidth": 0.9, "shrinkA": 9, "shrinkB": 9}
    axes.annotate("", (us, high), xytext=(us, low), arrowprops=style)
    middle = float(np.sqrt(high * low))
    axes.annotate(
        typeset(ratio(high / low)),
        (us, middle),
        xytext=(-6, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        weight="bold",
        size=12,
        color=INK,
    )


def rates_figure(run: RunResult) -> Figure:
    """Bars of thousand packets per second: a panel per frame size, a group per IOMMU."""
    frames = sorted({case.frame_bytes for case in run.cases})
    subtitle = f"Received packets per second, the guest's own clock. {conditions(run)}."
    more = len(shown_strategies(run)) - len(STRATEGIES)
    width = 0.3 + (3.6 + 0.9 * more) * len(frames)
    lines = -(-len(shown_strategies(run)) // KEY_COLUMNS)
    figure = titled_figure(width, 4.0, rates_title(run), subtitle)
    panels = figure.subplots(1, len(frames), sharey=True, squeeze=False)[0]
    for axes, frame_bytes in zip(panels, frames, strict=True):
        _rate_bars(axes, run, frame_bytes)
        axes.set_title(f"{frame_bytes} B frames", size=9.5, weight="bold", pad=6 + 14 * lines)
    panels[0].set_ylabel("thousand packets per second")
    panels[0].set_ylim(0, 1.1 * max(*(c.packets_per_second / 1000 for c in run.cases), 1e-3))
    strategy_key(panels[0])
    return figure


def _rate_bars(axes: Axes, run: RunResult, frame_bytes: int) -> None:
    names = iommus(run)
    strategies = shown_strategies(run)
    middle, width = (len(strategies) - 1) / 2, 0.76 / len(strategies)
    for place, strategy in enumerate(strategies):
        cases = [find_case(run.cases, strategy, name, frame_bytes) for name in names]
        rates = [case.packets_per_second / 1000 if case else 0.0 for case in cases]
        x = np.arange(len(names)) + (place - middle) * (width + 0.08 / len(strategies))
        axes.bar(x, rates, width, color=COLOUR[strategy], label=strategy)
        for px, case, rate in zip(x, cases, rates, strict=True):
            text = significant(rate) if case else "not run"
            axes.annotate(
                text,
                (px, rate),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                size=8,
                color=INK if case else MUTED,
            )
    axes.set_xticks(
        range(len(names)), [IOMMU_LABEL.get(name, name.replace("-", "\n")) for name in names]
    )
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y", color=GRID)


def exposure_figure(run: RunResult) -> Figure:
    """Mappings live after release, and the longest stale window, per IOMMU and frame size."""
    subtitle = "After the guest said it had given all memory back."
    if any(case.iommu == "none" for case in run.cases):
        subtitle += " Not shown: without an IOMMU, everything is reachable at any time."
    if any(case.stale_open for case in run.cases):
        subtitle += " >: still open when the run ended."
    subtitle = f"{subtitle} {conditions(run)}."
    rows = len({(c.iommu, c.frame_bytes) for c in run.cases if c.iommu != "none"})
    row = 0.21 * len(shown_strategies(run))
    figure = titled_figure(7.6, 2.0 + row * rows, exposure_title(run), subtitle)
    left, right = figure.subplots(1, 2, sharey=True)
    draw_exposure(left, right, run)
    strategy_key(left)
    return figure
