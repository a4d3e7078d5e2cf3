# SPDX-License-Identifier: MIT
"""Two curves: a packet's cost as more of them share a mapping, and rates as queues are added."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, NullLocator

from testbed.report.style import COLOUR, GRID, INK, MUTED, titled_figure
from testbed.report.twin.looks import Label, place_labels, preset_look
from testbed.report.twin.rows import magnitude
from testbed.report.units import ratio
from testbed.sweep.point import Point
from testbed.twin.result import TwinResult
from testbed.twin.scenario import TwinScenario

_LINE = {"map_per_packet": "s", "page_pool": "o"}


def amortisation_figure(
    base: TwinScenario, curve: Sequence[Point], grid: Sequence[Point]
) -> Figure:
    """Cycles a packet against packets for each mapping: the curve, and the grid's strategies."""
    note = (
        "Lines: page_pool whose store is too small for the 1024 buffers that come back at once, in "
        "steps; the first point is map_per_packet. Dashed: its cost at the right end plus one map "
        f"and unmap, shared. Small: the strategies as they are, vtd-strict. {base.host}."
    )
    figure = titled_figure(9.4, 5.8, amortisation_title(curve), note)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_yscale("log")
    points: list[tuple[float, float]] = []
    labels: list[Label] = []
    for preset in dict.fromkeys(p.scenario.preset for p in curve):
        rows = _rows(curve, preset)
        if rows:
            points += _curve(axes, preset, rows)
            labels.append(Label(preset, rows[0][:2], preset_look(preset)[0], bold=True))
    _others(axes, grid, points, labels)
    _log_axes(axes, points)
    axes.set_xlabel("packets for each mapping (log)")
    axes.set_ylabel("cycles for each packet (log)")
    _budget(axes, curve)
    place_labels(axes, labels, points)
    return figure


def amortisation_title(curve: Sequence[Point]) -> str:
    """From which number of packets on a mapping fits the budget."""
    parts = []
    for preset in dict.fromkeys(p.scenario.preset for p in curve):
        rows = _rows(curve, preset)
        fit = next((x for x, y, result in rows if y <= result.budget_cycles), None)
        if fit is not None:
            parts.append(f"{fit:.3g} under {preset}")
        elif rows:
            parts.append(f"more than {rows[-1][0]:.3g} under {preset}")
    if not parts:
        return "What sharing a mapping saves"
    return f"Packets that have to share a mapping to fit the budget: {', '.join(parts)}"


def _rows(curve: Sequence[Point], preset: str) -> list[tuple[float, float, TwinResult]]:
    """(packets for each mapping, cycles, result), ascending."""
    found = []
    for point in curve:
        result = point.result
        if result is not None and result.preset == preset and result.maps_per_packet:
            found.append((1 / result.maps_per_packet, result.cycles_per_packet, result))
    return sorted(found, key=lambda row: row[0])


def _curve(
    axes: Axes, preset: str, rows: Sequence[tuple[float, float, TwinResult]]
) -> list[tuple[float, float]]:
    colour, marker = preset_look(preset)
    x, y = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    axes.plot(x, y, color=colour, marker=marker, markersize=6, markeredgecolor="white")
    pool = [row for row in rows if row[2].strategy == "page_pool"]
    if len(pool) > 1:
        # Two unknowns from the ends: what a packet costs anyway, and one map with its unmap.
        (n0, c0, _), (n1, c1, _) = pool[0], pool[-1]
        pair = (c0 - c1) / (1 / n0 - 1 / n1)
        dense = np.geomspace(1, n1, 100)
        model = c1 - pair / n1 + pair / dense
        axes.plot(dense, model, color=colour, linewidth=1, linestyle=(0, (2, 2)), alpha=0.8)
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _others(
    axes: Axes, grid: Sequence[Point], points: list[tuple[float, float]], labels: list[Label]
) -> None:
    for point in grid:
        result = point.result
        if result is None or result.preset != "vtd-strict" or not result.maps_per_packet:
            continue
        spot = (1 / result.maps_per_packet, result.cycles_per_packet)
        axes.plot(*spot, marker="o", markersize=3.5, color=MUTED, linewidth=0)
        points.append(spot)
        labels.append(Label(result.strategy, spot, MUTED))


def _log_axes(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    right = max((x for x, _ in points), default=10.0)
    low = min((y for _, y in points), default=10.0)
    high = max((y for _, y in points), default=1000.0)
    axes.set_xlim(0.7, right * 4)
    axes.set_ylim(low / 2, high * 1.8)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(10))
        axis.set_major_formatter(FuncFormatter(lambda value, _: magnitude(value)))
        axis.set_minor_locator(NullLocator())
    axes.grid(color=GRID)


def _budget(axes: Axes, points: Sequence[Point]) -> None:
    budget = next((p.result.budget_cycles for p in points if p.result), None)
    if budget is not None:
        axes.axhline(budget, color=INK, linewidth=0.9, linestyle=(0, (5, 3)))
        axes.annotate(
            f"budget: {budget:.0f}",
            (0.0, budget),
            xycoords=("axes fraction", "data"),
            xytext=(4, 3),
            textcoords="offset points",
            size=8,
            color=INK,
        )


def queues_figure(base: TwinScenario, points: Sequence[Point]) -> Figure:
    """Packets per second of all queues together; a panel for each IOMMU."""
    presets = list(dict.fromkeys(p.scenario.preset for p in points))
    note = f"Twin, {base.traffic.frame_bytes} B, a core for each queue, dropped in the poll. "
    note += "Dotted: as many times the rate of one queue. What all queues share is the IOMMU."
    if any(bound for preset in presets for _, _, bound in _rates(points, preset, "page_pool")):
        note += " device: its translations are the bound, not the CPUs."
    width = 4.9 * max(len(presets), 1)
    figure = titled_figure(width, 4.8, queues_title(points), f"{note} Host {base.host}.")
    panels = figure.subplots(1, max(len(presets), 1), sharey=True, squeeze=False)[0]
    for axes, preset in zip(panels, presets, strict=False):
        _queue_panel(axes, preset, [p for p in points if p.scenario.preset == preset])
    panels[0].set_ylabel("million packets per second, all queues (log)")
    return figure


def queues_title(points: Sequence[Point]) -> str:
    """By how much the most queues beat one, when each packet is mapped."""
    parts = []
    for preset in dict.fromkeys(p.scenario.preset for p in points):
        rows = _rates(points, preset, "map_per_packet")
        if len(rows) > 1:
            gain = ratio(rows[-1][1] / rows[0][1])
            parts.append(f"{gain} under {preset}")
    if not parts:
        return "Packets per second against queues"
    most = max(p.scenario.driver.queues for p in points)
    return f"One map per packet, {most} queues instead of one: {', '.join(parts)}"


def _rates(points: Sequence[Point], preset: str, strategy: str) -> list[tuple[int, float, str]]:
    """(queues, packets per second, what bounds them), ascending."""
    found = []
    for point in points:
        result = point.result
        if result is not None and (result.preset, result.strategy) == (preset, strategy):
            bound = "device" if result.pps == result.device_pps else ""
            found.append((point.scenario.driver.queues, result.pps, bound))
    return sorted(found)


def _queue_panel(axes: Axes, preset: str, points: Sequence[Point]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    counts = sorted({p.scenario.driver.queues for p in points})
    for strategy, marker in _LINE.items():
        rows = _rates(points, preset, strategy)
        if not rows:
            continue
        colour = COLOUR[strategy]  # type: ignore[index]
        x, y = [row[0] for row in rows], [row[1] / 1e6 for row in rows]
        axes.plot(x, y, color=colour, marker=marker, markersize=6, markeredgecolor="white")
        ideal = [y[0] * count / x[0] for count in x]
        axes.plot(x, ideal, color=colour, linewidth=1, linestyle=(0, (1, 2)))
        for px, py, row in zip(x, y, rows, strict=True):
            axes.annotate(
                f"{py:.3g}\n{row[2]}".strip(),
                (px, py),
                xytext=(0, -6),
                textcoords="offset points",
                ha="center",
                va="top",
                size=8,
                color=colour,
            )
        axes.annotate(
            strategy,
            (x[0], y[0]),
            xytext=(-6, 9),
            textcoords="offset points",
            size=9,
            weight="bold",
            color=colour,
            path_effects=[withStroke(linewidth=2.5, foreground="#ffffff")],
        )
    axes.xaxis.set_major_locator(FixedLocator(counts))
    axes.xaxis.set_major_formatter(FixedFormatter([str(count) for count in counts]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(10))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    low, high = axes.get_ylim()
    axes.set_ylim(low / 2, high * 1.3)
    axes.set_xlim(counts[0] / 1.3, counts[-1] * 1.3)
    axes.set_xlabel("queues (log)")
    axes.set_title(preset, size=9.5, weight="bold")
    axes.grid(color=GRID)
