# SPDX-License-Identifier: MIT
"""How the figures look: colours that colour-blind readers tell apart, little ink, direct labels."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from testbed.scenario import RxMode

INK = "#1b2430"
MUTED = "#5d6875"
GRID = "#dde2e8"
#: Okabe and Ito's palette, blue and vermilion for the pair that most runs have; last a dark plum.
COLOUR: dict[RxMode, str] = {
    "page_pool": "#0072b2",
    "map_per_packet": "#d55e00",
    "array_cache": "#56b4e9",
    "half_page_flip": "#009e73",
    "order_fallback": "#e69f00",
    "order0_recycle": "#cc79a7",
    "shadow_copy": "#6b7480",
    "bulk_map": "#5b2a5e",
}
MARKER: dict[RxMode, str] = dict(zip(COLOUR, "osD^vPXh", strict=True))

#: Of a legend of strategies.
KEY_COLUMNS = 4

_RC: dict[str, object] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "svg.fonttype": "path",
    "svg.hashsalt": "dmabed",
    "figure.dpi": 100,
    "savefig.dpi": 200,
}

_TITLE_POINTS = 12.5
_SUBTITLE_POINTS = 9.5
_LEFT_INCHES = 0.12


@contextmanager
def figure_style() -> Iterator[None]:
    """Everything drawn or saved inside looks the same, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        for name, value in _RC.items():
            matplotlib.rcParams[name] = value  # type: ignore[index]
        yield


def titled_figure(width: float, height: float, title: str, subtitle: str) -> Figure:
    """A figure of the given size (inches), its finding on top and the conditions below it.

    Both texts wrap to the width; the axes get what is left.
    """
    figure = Figure(figsize=(width, height))
    lines = textwrap.wrap(typeset(title), int(width * 9.3)) or [""]
    notes = textwrap.wrap(typeset(subtitle), int(width * 14.6)) or [""]
    left = _LEFT_INCHES / width
    y = 1 - 0.1 / height
    figure.text(left, y, "\n".join(lines), size=_TITLE_POINTS, weight="bold", va="top")
    y -= (0.08 + 0.215 * len(lines)) / height
    figure.text(left, y, "\n".join(notes), size=_SUBTITLE_POINTS, color=MUTED, va="top")
    y -= (0.1 + 0.165 * len(notes)) / height
    figure.set_layout_engine("constrained", rect=(0, 0, 1, y), w_pad=0.1, h_pad=0.08)
    return figure


def typeset(text: str) -> str:
    """The report's ASCII text with the signs a figure can show."""
    return re.sub(r"(?<=\d) us\b", " µs", re.sub(r"(?<=\d)x\b", "×", text))


def strategy_key(axes: Axes) -> None:
    """A legend above the axes, at their left edge: lines of up to KEY_COLUMNS strategies."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=KEY_COLUMNS,
        frameon=False,
        borderaxespad=0.2,
        handlelength=1.0,
        handletextpad=0.5,
        columnspacing=1.4,
        borderpad=0.0,
    )
