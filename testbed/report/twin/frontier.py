# SPDX-License-Identifier: MIT
"""The frontier: what a packet costs against what it exposes, a point for each strategy and IOMMU.

Both axes count downwards as better, so the Pareto front is the lower left edge of the cloud. Zero
exposure has a place of its own at the foot of the logarithmic axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, NullLocator

from testbed.report.style import GRID, INK, MUTED, titled_figure
from testbed.report.twin.looks import Label, place_labels, preset_look
from testbed.report.twin.rows import magnitude
from testbed.sweep.point import Point
from testbed.twin.scenario import TwinScenario

_LINEAR = 10.0
"""byte-us below which the axis is linear, so that 0 is on it."""
_NAMED = ("vtd-strict", "vtd-lazy", "passthrough")
"""Presets whose points are named besides those of the front, in this order."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A point of the plot: cycles and byte-us, each for a packet."""

    strategy: str
    preset: str
    cycles: float
    exposure: float
    broken: bool


def spots_of(points: Sequence[Point]) -> list[Spot]:
    """Those that ran. ``broken``: a rule was violated, so what it shows is not a choice."""
    found = []
    for point in points:
        if (result := point.result) is not None:
            spot = Spot(
                result.strategy,
                result.preset,
                result.cycles_per_packet,
                result.exposure_per_packet,
                bool(result.violations),
            )
            found.append(spot)
    return found


def pareto(spots: Sequence[Spot]) -> list[Spot]:
    """Those that no other beats in one of the two without losing in the other, cheapest first.

    Points that violated a rule are no choice. Of several that are equal in both, the first.
    """
    front: list[Spot] = []
    for spot in sorted(spots, key=lambda s: (s.cycles, s.exposure)):
        if not spot.broken and (not front or spot.exposure < front[-1].exposure):
            front.append(spot)
    return front


def frontier_figure(base: TwinScenario, points: Sequence[Point]) -> Figure:
    """All points in one plot; the front drawn and named, each strategy named once."""
    spots = spots_of(points)
    front = pareto(spots)
    figure = titled_figure(10.4, 7.4, frontier_title(points), _conditions(base))
    axes = figure.add_subplot()
    _axes_of(axes, spots)
    _budget_line(axes, points)
    _front_line(axes, front)
    for preset in dict.fromkeys(spot.preset for spot in spots):
        _scatter(axes, [spot for spot in spots if spot.preset == preset])
    presets = len(dict.fromkeys(spot.preset for spot in spots))
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=min(5, presets),
        frameon=False,
        borderaxespad=0.2,
        handletextpad=0.3,
        columnspacing=1.2,
        fontsize=8.5,
    )
    labels = _labels(spots, front)
    place_labels(axes, labels, [(s.cycles, s.exposure) for s in spots])
    return figure


def frontier_title(points: Sequence[Point]) -> str:
    """What the front says, in a sentence."""
    front = pareto(spots_of(points))
    if not front:
        return "No strategy ran"
    cheap, safe = front[0], front[-1]
    if cheap == safe:
        name = f"{cheap.strategy} under {cheap.preset}"
        return f"{name} is both the cheapest and exposes the least"
    return (
        f"From {cheap.cycles:.0f} cycles a packet ({cheap.strategy}, {cheap.preset}) to "
        f"{'no exposure' if safe.exposure == 0 else 'the least exposure'} at "
        f"{safe.cycles:.0f} ({safe.strategy}, {safe.preset})"
    )


def _conditions(base: TwinScenario) -> str:
    return (
        f"Twin, {base.about}; {base.packets:,} packets, host {base.host}. Exposure: bytes the "
        "device could reach although they were no longer its own, times how long. Black line: "
        "no point is both cheaper and safer. Hollow: a rule was violated."
    )


def _axes_of(axes: Axes, spots: Sequence[Spot]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=_LINEAR, linscale=0.5)
    axes.set_xlabel("cycles for each packet, all CPUs (log)")
    axes.set_ylabel("exposure for each packet, byte-µs (log, with 0)")
    low = min((s.cycles for s in spots), default=10.0)
    high = max((s.cycles for s in spots), default=1000.0)
    most = max((s.exposure for s in spots), default=1.0)
    axes.set_xlim(low / 1.35, high * 1.7)
    axes.set_ylim(-0.45 * _LINEAR, max(most, _LINEAR) * 6)
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: magnitude(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    ticks = [0.0]
    power = _LINEAR
    while power <= max(most, _LINEAR) * 6:
        ticks.append(power)
        power *= 10
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FixedFormatter([magnitude(tick) for tick in ticks]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(color=GRID)
    axes.axhline(0, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.annotate(
        "nothing exposed",
        (1.0, 0.0),
        xycoords=("axes fraction", "data"),
        xytext=(-4, -9),
        textcoords="offset points",
        ha="right",
        size=8,
        color=MUTED,
    )


def _budget_line(axes: Axes, points: Sequence[Point]) -> None:
    budget = next((p.result.budget_cycles for p in points if p.result), None)
    if budget is None:
        return
    gbps = points[0].scenario.traffic.line_gbps
    axes.axvline(budget, color=INK, linewidth=0.9, linestyle=(0, (5, 3)))
    axes.annotate(
        f"{budget:.0f} cycles: {gbps:g} Gb/s on one core",
        (budget, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(4, -4),
        textcoords="offset points",
        va="top",
        size=8,
        color=INK,
    )


def _front_line(axes: Axes, front: Sequence[Spot]) -> None:
    """As steps: what is up and right of them is beaten."""
    if front:
        x = [spot.cycles for spot in front]
        y = [spot.exposure for spot in front]
        axes.step(x, y, where="post", color=INK, linewidth=1.3, zorder=2)


def _scatter(axes: Axes, spots: Sequence[Spot]) -> None:
    colour, marker = preset_look(spots[0].preset)
    for broken in (False, True):
        chosen = [spot for spot in spots if spot.broken == broken]
        axes.scatter(
            [spot.cycles for spot in chosen],
            [spot.exposure for spot in chosen],
            s=34,
            marker=marker,
            facecolors="none" if broken else colour,
            edgecolors=colour if broken else "white",
            linewidths=1.1 if broken else 0.6,
            zorder=3,
            clip_on=False,
            label=spots[0].preset if broken == all(s.broken for s in spots) else None,
        )


def _near(spot: Spot, other: Spot) -> bool:
    """Whether one name is enough for both."""
    if spot.strategy != other.strategy:
        return False
    apart = abs(math.log((spot.cycles + 1) / (other.cycles + 1)))
    exposed = abs(math.log((spot.exposure + 1) / (other.exposure + 1)))
    return apart < 0.4 and exposed < 1.1


def _labels(spots: Sequence[Spot], front: Sequence[Spot]) -> list[Label]:
    """The front in bold, then the others where no point near by has the name already.

    Points of one IOMMU that lie on one another share a label.
    """
    named: list[Spot] = []
    groups: list[list[Spot]] = []
    order = [spot for name in _NAMED for spot in spots if spot.preset == name]
    for spot in [*front, *order]:
        if any(_near(spot, other) for other in named):
            continue
        named.append(spot)
        bold = spot in front
        home = None if bold else next((g for g in groups if _on(spot, g[0], front)), None)
        if home is None:
            groups.append([spot])
        else:
            home.append(spot)
    return [
        Label(
            "\n".join(spot.strategy for spot in group),
            (group[0].cycles, group[0].exposure),
            preset_look(group[0].preset)[0],
            bold=group[0] in front,
        )
        for group in groups
    ]


def _on(spot: Spot, other: Spot, front: Sequence[Spot]) -> bool:
    """Whether both are of one IOMMU and nearly on one place, which is not on the front."""
    if spot.preset != other.preset or other in front:
        return False
    exposed = abs(math.log((spot.exposure + 1) / (other.exposure + 1)))
    return abs(math.log(spot.cycles / other.cycles)) < 0.06 and exposed < 0.35
