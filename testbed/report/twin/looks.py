# SPDX-License-Identifier: MIT
"""Colours and markers of the twin's figures, and labels that keep out of each other's way."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import FontProperties
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from testbed.report.style import MUTED

PRESET_LOOK: dict[str, tuple[str, str]] = {
    "passthrough": ("#6b7480", "X"),
    "power-direct-window": ("#9a6700", "P"),
    "vtd-lazy": ("#cc79a7", "v"),
    "vtd-lazy-fast-iova": ("#8e3b76", "^"),
    "smmu-like": ("#009e73", "D"),
    "power-tce": ("#d55e00", "s"),
    "vtd-strict": ("#0072b2", "o"),
    "vtd-strict-fast-iova": ("#2a9fd8", "h"),
    "vtd-strict-fs": ("#3b3f8f", "p"),
}
"""Colour and marker of each preset: Okabe and Ito's palette and darker mates of it."""

CATEGORY_COLOUR: dict[str, str] = {
    "stack": "#c9ced6",
    "driver": "#9aa3ae",
    "page allocator": "#56b4e9",
    "pool": "#0072b2",
    "atomics": "#1b3a6b",
    "sync": "#b7e0c8",
    "copy": "#009e73",
    "IOVA": "#f0e442",
    "page table": "#e69f00",
    "invalidation": "#d55e00",
    "waiting": "#8c1c13",
}
"""Colour of each category of cycles, in the order in which they are stacked: greys for what is paid
whatever the strategy, blue for memory, green for bytes, yellow to red for the IOMMU."""

_OTHER = ("#444444", "o")


def preset_look(preset: str) -> tuple[str, str]:
    """(colour, marker) of a preset."""
    return PRESET_LOOK.get(preset, _OTHER)


@dataclass(frozen=True, slots=True)
class Label:
    """A text that belongs to the point ``at`` (data coordinates)."""

    text: str
    at: tuple[float, float]
    colour: str
    bold: bool = False


_SIZE = 7.8
_RADII = (7, 12, 18, 26, 36, 48, 62, 78, 96, 116)
_ANGLES = (0, 180, 40, -40, 140, -140, 90, -90, 20, -20, 160, -160, 65, -65, 115, -115)
_FREE = 9
"""Points from its point beyond which a label gets a line to it."""


def place_labels(axes: Axes, labels: Sequence[Label], points: Sequence[tuple[float, float]]) -> int:
    """Writes the labels where they cover neither each other nor ``points``, as near as they can.

    A label that found no such place is left out; returns how many were.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]  # settles the layout, so that sizes in pixels are final
    scale = figure.dpi / 72
    room = axes.get_window_extent()
    places = [axes.transData.transform(point).tolist() for point in points]
    taken = [_around(place, 4 * scale) for place in places]
    taken += [text.get_window_extent() for text in axes.texts]
    lost = 0
    for label in labels:
        x, y = axes.transData.transform(label.at)
        width, height = _extent(canvas, label, scale)
        for dx, dy, box in _candidates(x, y, width, height, scale):
            inside = room.x0 <= box.x0 and box.x1 <= room.x1 and room.y0 <= box.y0
            if inside and box.y1 <= room.y1 and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                _write(axes, label, dx, dy, _distance(x, y, box) > _FREE * scale)
                break
        else:
            lost += 1
    return lost


def _around(centre: Sequence[float], radius: float) -> Bbox:
    x, y = centre
    return Bbox.from_extents(x - radius, y - radius, x + radius, y + radius)


def _extent(canvas: FigureCanvasAgg, label: Label, scale: float) -> tuple[float, float]:
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    font = FontProperties(size=_SIZE, weight="bold" if label.bold else "normal")
    lines = label.text.split("\n")
    sizes = [renderer.get_text_width_height_descent(line, font, ismath=False) for line in lines]
    height = _SIZE * 1.25 * scale * len(lines)
    return max(size[0] for size in sizes) + 3 * scale, height + 2 * scale


def _candidates(
    x: float, y: float, width: float, height: float, scale: float
) -> Iterator[tuple[float, float, Bbox]]:
    """(dx, dy) in points of the label's middle, and its box in pixels, from near to far."""
    for radius in _RADII:
        for angle in _ANGLES:
            dx = radius * math.cos(math.radians(angle)) * scale
            dy = radius * math.sin(math.radians(angle)) * scale
            # The nearest edge of the text, not its middle, is ``radius`` away.
            dx += math.copysign(width / 2, dx) if abs(dx) > 1e-6 * scale else 0.0
            dy += math.copysign(height / 2 - _SIZE / 2 * scale, dy) if abs(dy) > abs(dx) / 2 else 0
            box = Bbox.from_extents(
                x + dx - width / 2, y + dy - height / 2, x + dx + width / 2, y + dy + height / 2
            )
            yield dx / scale, dy / scale, box


def _distance(x: float, y: float, box: Bbox) -> float:
    """From a point to the nearest edge of ``box``, which it is outside of."""
    return math.hypot(max(box.x0 - x, 0, x - box.x1), max(box.y0 - y, 0, y - box.y1))


def _write(axes: Axes, label: Label, dx: float, dy: float, far: bool) -> None:
    place = {"xytext": (dx, dy), "textcoords": "offset points", "annotation_clip": False}
    if far:
        arrow = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 2}
        axes.annotate("", label.at, **place, arrowprops=arrow, zorder=2.5)  # type: ignore[arg-type]
    axes.annotate(
        label.text,
        label.at,
        **place,  # type: ignore[arg-type]
        ha="center",
        va="center",
        linespacing=1.05,
        size=_SIZE,
        weight="bold" if label.bold else "normal",
        color=label.colour,
        path_effects=[withStroke(linewidth=2.2, foreground="#ffffff")],
        zorder=5,
    )
