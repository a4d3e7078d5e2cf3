# SPDX-License-Identifier: MIT
"""The picture of a count: instructions per packet, stacked by part of the kernel."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from testbed.count.parts import PARTS
from testbed.count.results import FATES, CountResult, CountRow, Fate
from testbed.report.plots import Plot, render
from testbed.report.style import INK, MUTED, figure_style, titled_figure
from testbed.report.units import ratio
from testbed.scenario import Iommu

#: Mostly Okabe and Ito's colours; greys for what no strategy changes.
COLOUR = {
    "driver": "#0072b2",
    "page_pool": "#56b4e9",
    "DMA API": "#009e73",
    "IOVA": "#7fcdb5",
    "IOMMU driver": "#d55e00",
    "page allocator": "#e69f00",
    "slab": "#f0e442",
    "copies": "#cc79a7",
    "stack": "#a9b3be",
    "locks, lists, counters": "#6b7683",
    "consumer": "#dde2e8",
    "other": "#1b2430",
}
_FATE = {"drop": "dropped", "deliver": "delivered", "forward": "forwarded"}
_COLUMN_INCHES, _BAR_INCHES = 3.0, 0.2
#: Room for the totals, as a share of the longest bar.
_ROOM = 0.3


def draw_count(result: CountResult) -> Plot:
    """A column per IOMMU, a row per fate, a bar per strategy."""
    with figure_style():
        return render("count", count_title(result), count_figure(result))


def count_title(result: CountResult) -> str:
    """What mapping every packet costs, against a pool."""
    pairs = [
        (row.iommu, row.instructions / pool.instructions)
        for row in result.rows
        if row.mode == "map_per_packet" and row.fate == "deliver"
        if (pool := result.row("page_pool", row.iommu, "deliver"))
    ]
    if not pairs:
        return "Instructions per packet, by part of the kernel"
    iommu, most = max(pairs, key=lambda pair: pair[1])
    where = "without an IOMMU" if iommu == "none" else f"under {iommu}"
    return (
        f"To deliver a packet {where}, a map per packet takes {ratio(most)} the instructions"
        " that page_pool takes"
    )


def count_figure(result: CountResult) -> Figure:
    """The figure of :func:`draw_count`."""
    iommus = list(dict.fromkeys(row.iommu for row in result.rows))
    fates = [fate for fate in FATES if any(row.fate == fate for row in result.rows)]
    modes = len({row.mode for row in result.rows})
    height = 2.1 + len(fates) * (0.5 + modes * _BAR_INCHES)
    subtitle = (
        f"Instructions per packet of {result.frame_bytes} B in the driver's poll, counted by"
        f" emulation; behind each bar its total and, after the dot, its atomic instructions. Linux"
        f" {result.kernel_release}, QEMU {result.qemu_version}, {result.cpus} CPUs."
    )
    width = max(8.0, 1.4 + len(iommus) * _COLUMN_INCHES)
    figure = titled_figure(width, height, count_title(result), subtitle)
    grid = figure.subplots(len(fates), len(iommus), sharex="col", squeeze=False)
    for line, fate in zip(grid, fates, strict=True):
        for axes, iommu in zip(line, iommus, strict=True):
            _facet(axes, result, iommu, fate)
    for line in grid:
        for axes in line[1:]:
            axes.set_yticklabels([])
    _key(figure, result)
    return figure


def _facet(axes: Axes, result: CountResult, iommu: Iommu, fate: Fate) -> None:
    rows = [row for row in result.rows if (row.iommu, row.fate) == (iommu, fate)]
    for place, row in enumerate(rows):
        _bar(axes, place, row)
    axes.set_yticks(range(len(rows)), [row.mode for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.grid(axis="x")
    axes.margins(y=0.02)
    longest = max(row.instructions for row in result.rows if row.iommu == iommu)
    axes.set_xlim(0, longest * (1 + _ROOM))
    axes.set_title("no IOMMU" if iommu == "none" else iommu, size=9.5, weight="bold")
    axes.set_title(_FATE[fate], size=9, color=MUTED, loc="right")


def _bar(axes: Axes, place: int, row: CountRow) -> None:
    left = 0.0
    for name in PARTS:
        value = row.part(name).instructions
        if not value:
            continue
        axes.barh(place, value, left=left, height=0.72, color=COLOUR[name], linewidth=0)
        left += value
    text = f" {row.instructions:.0f} · {row.atomics:.1f}"
    axes.text(left, place, text, va="center", size=7.5, color=INK)


def _key(figure: Figure, result: CountResult) -> None:
    seen = {part.part for row in result.rows for part in row.parts}
    handles = [Patch(color=COLOUR[name], label=name) for name in PARTS if name in seen]
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=len(handles) if figure.get_figwidth() > 12 else 6,
        frameon=False,
        handlelength=1.0,
        handletextpad=0.4,
        columnspacing=1.1,
    )
