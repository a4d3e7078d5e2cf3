# SPDX-License-Identifier: MIT
"""Where the cycles of a packet go: a bar a strategy, stacked by category, a panel an IOMMU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from testbed.report.style import GRID, INK, MUTED, titled_figure
from testbed.report.twin.looks import CATEGORY_COLOUR
from testbed.report.twin.rows import magnitude
from testbed.report.units import percent
from testbed.sweep.point import Point
from testbed.twin.result import TwinResult
from testbed.twin.scenario import TwinScenario

PANELS = ("passthrough", "vtd-strict", "vtd-lazy", "power-tce")
"""Presets that get a panel, where the points have them."""
_BUDGETS = 4.0
"""Width of a panel, in budgets: longer bars are shortened to it as a whole and say their length."""


def stack_figure(base: TwinScenario, points: Sequence[Point]) -> Figure:
    """Cycles by category with the budget line."""
    ran = [p.result for p in points if p.result is not None]
    presets = [name for name in PANELS if any(r.preset == name for r in ran)]
    presets = presets or list(dict.fromkeys(result.preset for result in ran))[:4]
    strategies = _order(ran, presets)
    note = f"Twin, {base.about}; host {base.host}. Bars "
    note += f"beyond {_BUDGETS:g} budgets, with //, show shares only."
    height = 2.3 + 0.27 * len(strategies)
    figure = titled_figure(12.4, height, stack_title(points), note)
    panels = figure.subplots(1, len(presets), sharey=True, squeeze=False)[0]
    for axes, preset in zip(panels, presets, strict=True):
        _panel(axes, preset, strategies, {r.strategy: r for r in ran if r.preset == preset}, base)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=len(names),
        frameon=False,
        fontsize=8.5,
        handlelength=1.0,
        handletextpad=0.4,
        columnspacing=1.1,
    )
    return figure


def stack_title(points: Sequence[Point]) -> str:
    """How many strategies are within the budget, by IOMMU."""
    parts = []
    for preset in PANELS:
        ran = [p.result for p in points if p.result is not None and p.result.preset == preset]
        if ran:
            within = sum(r.cycles_per_packet <= r.budget_cycles for r in ran)
            parts.append(f"{within} of {len(ran)} under {preset}")
    return f"Within the budget: {', '.join(parts)}" if parts else "Cycles by category"


def _order(ran: Sequence[TwinResult], presets: Sequence[str]) -> list[str]:
    """Cheapest on top, by their mean over the panels."""
    cost: dict[str, list[float]] = {}
    for result in ran:
        if result.preset in presets:
            cost.setdefault(result.strategy, []).append(result.cycles_per_packet)
    return sorted(cost, key=lambda name: float(np.median(cost[name])), reverse=True)


def _panel(
    axes: Axes,
    preset: str,
    strategies: Sequence[str],
    results: dict[str, TwinResult],
    base: TwinScenario,
) -> None:
    budget = next((r.budget_cycles for r in results.values()), 1.0)
    limit = _BUDGETS * budget
    y = np.arange(len(strategies))
    left = np.zeros(len(strategies))
    totals = [results[s].cycles_per_packet if s in results else 0.0 for s in strategies]
    scale = np.array([limit / total if total > limit else 1.0 for total in totals])
    for name, colour in CATEGORY_COLOUR.items():
        width = np.array([results[s].cycles[name] if s in results else 0.0 for s in strategies])
        axes.barh(y, width * scale, 0.72, left, color=colour, label=name, linewidth=0)
        left += width * scale
    for row, strategy in enumerate(strategies):
        _length(axes, row, results.get(strategy), limit)
    axes.axvline(budget, color=INK, linewidth=0.9, linestyle=(0, (5, 3)))
    axes.annotate(
        f"{budget:.0f}",
        (budget, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 2),
        textcoords="offset points",
        ha="center",
        size=8,
        color=INK,
    )
    axes.set_xlim(0, limit * 1.22)
    axes.set_ylim(-0.6, len(strategies) - 0.4)
    axes.set_yticks(y, strategies)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"cycles a packet ({base.traffic.line_gbps:g} Gb/s: {budget:.0f})")
    axes.set_title(preset, size=9.5, weight="bold", pad=14)
    axes.grid(axis="x", color=GRID)


def _length(axes: Axes, row: int, result: TwinResult | None, limit: float) -> None:
    if result is None:
        text, x, colour = "not applicable", 0.0, MUTED
    else:
        share = result.cycles_per_packet / result.budget_cycles
        text, x = magnitude(result.cycles_per_packet), min(result.cycles_per_packet, limit)
        colour = INK if share <= 1 else MUTED
        text = f"{text} ({percent(share)})" if share < _BUDGETS else f"// {text}"
    axes.annotate(
        text,
        (x, row),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        size=7.5,
        color=colour,
        path_effects=[withStroke(linewidth=2, foreground="#ffffff")],
    )
