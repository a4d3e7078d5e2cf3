# SPDX-License-Identifier: MIT
"""The attack's report: the histogram of window lengths as a picture, table and words as a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from testbed.attack.run import Outcome
from testbed.report.html import HtmlTable
from testbed.report.plots import Plot, render
from testbed.report.style import COLOUR, INK, MUTED, figure_style, titled_figure, typeset
from testbed.report.svg import inline_svg
from testbed.report.units import duration, plural, sentence_list
from testbed.report.verdict import Finding
from testbed.report.writer import write_atomically

_TEMPLATES = Path(__file__).parent.parent / "report" / "templates"
#: Bars in a decade of time.
_BINS = 10
_WIDTH = 7.6


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the figures depend on."""

    created: str
    command: str
    qemu: str
    kernels: tuple[str, ...]
    accel: str
    unmap_us: int

    def __str__(self) -> str:
        """For a subtitle."""
        kernels = sentence_list(self.kernels)
        return f"QEMU {self.qemu}, Linux {kernels}, {self.accel}"


def headline_of(outcomes: Sequence[Outcome]) -> Finding:
    """Where writes were accepted, in one sentence."""
    hit = [one for one in outcomes if one.attack.hit]
    if any(one.iommu.endswith("strict") for one in hit):
        names = sentence_list([one.iommu for one in hit if one.iommu.endswith("strict")])
        text = f"Memory that had been given back was written under {names}, which is strict."
        return Finding("verdict", "bad", text)
    if not hit:
        return Finding("verdict", "good", "No page could be written once it had been given back.")
    longest = max(one.attack.windows[-1] for one in hit)
    names = sentence_list([one.iommu for one in hit])
    text = f"Under {names} a device writes to memory that is somebody else's, for up to "
    strict = [one.iommu for one in outcomes if not one.attack.hit]
    rest = f"; under {sentence_list(strict)} never" if strict else ""
    return Finding("verdict", "warn", f"{text}{duration(longest)}{rest}.")


def findings_of(outcomes: Sequence[Outcome]) -> list[Finding]:
    """What came of each attack, in words."""
    found = []
    for one in outcomes:
        attack = one.attack
        tried = f"Of {plural(attack.targets, 'page')} that the driver had given back "
        if not attack.hit:
            text = f"{tried}not one took a write: the first canary was refused everywhere."
            found.append(Finding(one.iommu, "good", text))
            continue
        bad = one.iommu.endswith("strict")
        text = (
            f"{tried}{attack.hit} could still be written, {attack.writes:,} times in all; the last "
            f"write was accepted {duration(attack.windows[-1])} after the driver's note."
        )
        found.append(Finding(one.iommu, "bad" if bad else "warn", text))
        if one.arrived:
            taken = (
                f"A process that had meanwhile, within {duration(one.claimed_us * 1000)}, filled a "
                f"pipe found in {plural(one.arrived, 'page')} of it what it had not written there: "
                f"{one.first}."
            )
            found.append(Finding(one.iommu, "bad" if bad else "warn", taken))
    return found


def windows_title(outcomes: Sequence[Outcome]) -> str:
    """What the picture shows, in one line."""
    windows = [one.attack.windows[-1] for one in outcomes if one.attack.hit]
    if not windows:
        return "No page takes a write once its driver has given it back"
    where = (
        "behind a strict IOMMU" if any(one.broken for one in outcomes) else "behind a lazy IOMMU"
    )
    most = duration(max(windows))
    return f"Pages given back, {where}, still take a device's writes for up to {most}"


def windows_figure(outcomes: Sequence[Outcome], conditions: Conditions) -> Figure:
    """Pages by when their last write was accepted: a panel for each IOMMU, one axis of time."""
    subtitle = (
        f"Pages by the time from the driver's note to the last write accepted; "
        f"{conditions.unmap_us} us added to each unmap. {conditions}."
    )
    heights = [1.0 if one.attack.hit else 0.42 for one in outcomes]
    figure = titled_figure(_WIDTH, 1.5 + 0.95 * sum(heights), windows_title(outcomes), subtitle)
    grid = {"height_ratios": heights}
    panels = figure.subplots(len(outcomes), 1, sharex=True, squeeze=False, gridspec_kw=grid)[:, 0]
    edges = _edges([w for one in outcomes for w in one.attack.windows])
    for axes, one in zip(panels, outcomes, strict=True):
        _panel(axes, one, edges)
    _time_axis(panels[-1], edges)
    return figure


def _edges(windows: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Bin edges in ns, whole decades apart at both ends."""
    low = int(np.floor(np.log10(max(min(windows, default=10**6), 1))))
    high = max(int(np.ceil(np.log10(max([*windows, 10**6]) + 1))), low + 1)
    return np.logspace(low, high, (high - low) * _BINS + 1)


def _panel(axes: Axes, one: Outcome, edges: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    axes.set_xscale("log")
    axes.set_ylabel(one.iommu, rotation=0, ha="right", va="center", color=INK)
    axes.yaxis.set_label_coords(-0.06, 0.5)
    axes.tick_params(axis="x", length=0, labelbottom=False)
    if not one.attack.hit:
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        text = f"none of {plural(one.attack.targets, 'page')} took a write"
        axes.text(0.01, 0.5, text, transform=axes.transAxes, va="center", color=MUTED, size=9)
        return
    axes.hist(one.attack.windows, edges.tolist(), color=COLOUR["map_per_packet"], linewidth=0)
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.grid(axis="both")
    text = f"{one.attack.hit} of {one.attack.targets} pages"
    text += f", {one.arrived} seen by their new owner" if one.arrived else ""
    axes.text(0.01, 0.93, text, transform=axes.transAxes, va="top", color=INK, size=8.5)


def _time_axis(axes: Axes, edges: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    ticks = [float(edge) for edge in edges[::_BINS]]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ns, _: _tick(ns)))
    axes.set_xlim(edges[0], edges[-1])
    axes.tick_params(axis="x", length=3, labelbottom=True)
    axes.set_xlabel("last write accepted, after the note (log)")


def _tick(ns: float) -> str:
    for size, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if ns >= 0.99 * size:
            return typeset(f"{ns / size:.0f} {unit}")
    return f"{ns:.0f} ns"


def _table(outcomes: Sequence[Outcome]) -> HtmlTable:
    heads = (
        *("IOMMU", "strategy", "attacks", "pages attacked", "alive at release"),
        *("still written", "writes accepted", "median window", "longest window"),
        *("seen by their new owner", "memory claimed within"),
    )
    rows = []
    for one in outcomes:
        windows = one.attack.windows
        middle = duration(windows[len(windows) // 2]) if windows else "-"
        longest = duration(windows[-1]) if windows else "-"
        numbers = (one.rounds, one.attack.targets, one.live_at_release, one.attack.hit)
        claimed = duration(one.claimed_us * 1000)
        cells = (*map(str, numbers), f"{one.attack.writes:,}", middle, longest, str(one.arrived))
        rows.append((one.iommu, one.strategy, *map(typeset, (*cells, claimed))))
    note = (
        "The figures are of the last attack under each IOMMU; it is made again until a canary was "
        "seen by its new owner. Alive at release: by the ledger; all else by device and guest."
    )
    return HtmlTable("Attacks", note, heads, tuple(rows), text_columns=2)


def write_attack(outcomes: Sequence[Outcome], conditions: Conditions, folder: Path) -> Path:
    """Writes attack.json, windows.png, windows.svg and index.html; returns the page's path.

    Raises:
        ReportError: a file cannot be written; the error names it.
    """
    with figure_style():
        plot = render("windows", windows_title(outcomes), windows_figure(outcomes, conditions))
    tree = {**asdict(conditions), "attacks": [asdict(one) for one in outcomes]}
    write_atomically(folder / "attack.json", json.dumps(tree, indent=1).encode())
    write_atomically(folder / "windows.png", plot.png)
    write_atomically(folder / "windows.svg", plot.svg)
    page = folder / "index.html"
    write_atomically(page, _html(outcomes, conditions, plot).encode())
    return page


def _html(outcomes: Sequence[Outcome], conditions: Conditions, plot: Plot) -> str:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("attack.html.j2").render(
        style=Markup((_TEMPLATES / "report.css").read_text()),
        headline=headline_of(outcomes),
        findings=findings_of(outcomes),
        figure=Markup(inline_svg(plot.svg, plot.name, plot.alt)),
        table=_table(outcomes),
        conditions=conditions,
        typeset=typeset,
    )
