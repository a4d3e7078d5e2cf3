# SPDX-License-Identifier: MIT
"""The exposure figure's two panels: how many mappings stayed alive, and for how long.

Both axes are logarithmic with an explicit zero, because "none" is the finding for strict modes.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from testbed.report.style import COLOUR, INK, MARKER, MUTED, typeset
from testbed.report.units import duration
from testbed.results import CaseResult, RunResult, shown_strategies
from testbed.scenario import RxMode

#: The markers of a row share so much of it.
_SHARE = 0.72


def draw_exposure(live: Axes, window: Axes, run: RunResult) -> None:
    """Draws into two axes that share their rows: one row per IOMMU and frame size."""
    rows: list[tuple[str, int]] = list(
        dict.fromkeys((c.iommu, c.frame_bytes) for c in run.cases if c.iommu != "none")
    )
    strategies = shown_strategies(run)
    for place, strategy in enumerate(strategies):
        offset = _SHARE * ((place + 0.5) / len(strategies) - 0.5)
        cases = [c for c in run.cases if c.strategy == strategy and c.iommu != "none"]
        y = [rows.index((c.iommu, c.frame_bytes)) + offset for c in cases]
        counts = [float(case.live_after_release) for case in cases]
        _stems(live, strategy, y, counts, [f"{count:.0f}" for count in counts])
        times = [float(case.stale_window_ns or 0) for case in cases]
        _stems(window, strategy, y, times, [_window_text(case) for case in cases])
    _count_axis(live, max((case.live_after_release for case in run.cases), default=0))
    _time_axis(window, max((case.stale_window_ns or 0 for case in run.cases), default=0))
    live.set_yticks(range(len(rows)), [f"{iommu}, {frame} B" for iommu, frame in rows])
    live.set_ylim(len(rows) - 0.5, -0.5)
    for axes in (live, window):
        axes.tick_params(axis="y", length=0, pad=8)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")


def _window_text(case: CaseResult) -> str:
    if case.stale_window_ns is None:
        return "open" if case.stale_open else "none"
    return (
        f"> {duration(case.stale_window_ns)}" if case.stale_open else duration(case.stale_window_ns)
    )


def _stems(
    axes: Axes, strategy: RxMode, y: list[float], values: list[float], texts: list[str]
) -> None:
    """A line from zero and a marker at each value; hollow at zero."""
    colour = COLOUR[strategy]
    axes.hlines(y, 0, values, color=colour, linewidth=1.6)
    for filled in (True, False):
        chosen = [(v, at) for v, at in zip(values, y, strict=True) if (v > 0) is filled]
        axes.plot(
            [v for v, _ in chosen],
            [at for _, at in chosen],
            linestyle="",
            marker=MARKER[strategy],
            markersize=6,
            color=colour,
            markerfacecolor=colour if filled else "white",
            label=strategy if filled else None,
            clip_on=False,
            zorder=3,
        )
    for value, at, text in zip(values, y, texts, strict=True):
        axes.annotate(
            typeset(text),
            (value, at),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            size=8.5,
            color=INK if value > 0 else MUTED,
        )


def _count_axis(axes: Axes, largest: int) -> None:
    ticks = [0, 1, *_decades(10, max(largest, 10))]
    axes.set_xscale("symlog", linthresh=1, linscale=0.5)
    axes.set_xlabel("mappings still live (log, with 0)")
    _ticks(axes, [float(tick) for tick in ticks], [f"{tick:g}" for tick in ticks], largest)


def _time_axis(axes: Axes, largest_ns: int) -> None:
    start = 1_000 if largest_ns < 10_000_000 else 1_000_000
    ticks = _decades(start, max(largest_ns, start))
    labels = [typeset(duration(tick)).replace(".00", "").replace(".0 ", " ") for tick in ticks]
    axes.set_xscale("symlog", linthresh=start, linscale=1)
    axes.set_xlabel("longest stale window (log, with 0)")
    _ticks(axes, [0.0, *map(float, ticks)], ["0", *labels], largest_ns)


def _decades(first: int, last: int) -> list[int]:
    """Powers of ten from ``first`` to ``last``."""
    ticks = [first]
    while ticks[-1] * 10 <= last:
        ticks.append(ticks[-1] * 10)
    return ticks


def _ticks(axes: Axes, ticks: list[float], labels: list[str], largest: float) -> None:
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FixedFormatter(labels))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(0, max(largest, ticks[-1]) * 25)
