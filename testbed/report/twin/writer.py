# SPDX-License-Identifier: MIT
"""Puts a comparison into its folder: index.html, which is one file, and what it links to."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from testbed.comparison import Comparison
from testbed.report.html import HtmlTable, Row
from testbed.report.plots import Plot, render
from testbed.report.style import figure_style
from testbed.report.svg import inline_svg
from testbed.report.table import PIPE_WIDTH, report_console
from testbed.report.twin.curves import (
    amortisation_figure,
    amortisation_title,
    queues_figure,
    queues_title,
)
from testbed.report.twin.findings import findings_of, headline_of
from testbed.report.twin.frontier import frontier_figure, frontier_title
from testbed.report.twin.rows import (
    LINES_GBPS,
    budget_lines,
    csv_text,
    data_size,
    magnitude,
    violations_text,
)
from testbed.report.twin.stack import stack_figure, stack_title
from testbed.report.twin.table import points_table, print_parts
from testbed.report.units import percent
from testbed.report.writer import write_atomically
from testbed.sweep.point import Point
from testbed.twin.host import CATEGORIES
from testbed.twin.result import TwinResult

_TEMPLATES = Path(__file__).parent.parent / "templates"


def write_comparison(found: Comparison, folder: Path, siblings: Sequence[str] = ()) -> Path:
    """Writes comparison.json, three CSV files, table.txt, the figures and index.html.

    siblings: names of files that are in ``folder`` already. Returns the path of index.html.

    Raises:
        ReportError: a file cannot be written; the error names it.
    """
    files = {
        "comparison.json": found.to_json(),
        "grid.csv": csv_text(found.grid),
        "queues.csv": csv_text(found.queues, ("driver.queues",)),
        "amortisation.csv": csv_text(found.amortisation, ("driver.pool_size",)),
        "table.txt": table_text(found.grid),
    }
    for name, text in files.items():
        write_atomically(folder / name, text.encode())
    plots = draw_comparison(found)
    names = [*files, *siblings]
    for plot in plots:
        for suffix, data in (("png", plot.png), ("svg", plot.svg)):
            write_atomically(folder / f"{plot.name}.{suffix}", data)
            names.append(f"{plot.name}.{suffix}")
    page = folder / "index.html"
    write_atomically(page, _html(found, plots, names).encode())
    return page


def draw_comparison(found: Comparison) -> list[Plot]:
    """Every figure that it has data for."""
    plots = []
    base, grid = found.base, found.grid
    with figure_style():
        if _ran(grid):
            plots.append(render("frontier", frontier_title(grid), frontier_figure(base, grid)))
            plots.append(render("cycles", stack_title(grid), stack_figure(base, grid)))
        if _ran(found.amortisation):
            title = amortisation_title(found.amortisation)
            figure = amortisation_figure(base, found.amortisation, grid)
            plots.append(render("amortisation", title, figure))
        if _ran(found.queues):
            figure = queues_figure(base, found.queues)
            plots.append(render("queues", queues_title(found.queues), figure))
    return plots


def table_text(points: Sequence[Point], varied: Sequence[str] = ()) -> str:
    """The table as plain text, without trailing blanks."""
    text = io.StringIO()
    print_parts([points_table(points, varied)], report_console(text, PIPE_WIDTH + 40))
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().strip("\n").split("\n"))


def _ran(points: Sequence[Point]) -> bool:
    return any(point.result is not None for point in points)


def _html(found: Comparison, plots: Sequence[Plot], siblings: Sequence[str]) -> str:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("comparison.html.j2").render(
        title=frontier_title(found.grid),
        headline=headline_of(found),
        style=Markup((_TEMPLATES / "report.css").read_text()),
        findings=findings_of(found),
        figures=[(p, Markup(inline_svg(p.svg, p.name, p.alt))) for p in plots],
        tables=[_grid_table(found), _line_table(found)],
        left_out=[text for p in found.points if (text := p.not_applicable or p.failure)],
        command=found.command,
        facts=_facts(found),
        siblings=siblings,
    )


def _grid_table(found: Comparison) -> HtmlTable:
    first = ("IOMMU", "strategy", "violated", "cycles a packet", "of the budget", "kpps a core")
    more = ("maps", "unmaps", "invalidations", "IOTLB misses", "walk reads", "atomics")
    last = ("allocator calls", "copies", "pinned", "pinned a byte claimed", "exposure, byte-µs")
    heads = (*first, *more, *last, "longest stale, µs", "live after")
    rows = [_row(p.result) for p in found.grid if p.result is not None]
    note = "Counts, copies and exposure for each packet; filling the rings is part of the run."
    return HtmlTable("Every strategy under every IOMMU", note, heads, tuple(rows), 3)


def _row(r: TwinResult) -> Row:
    return (
        *(r.preset, r.strategy, violations_text(r), f"{r.cycles_per_packet:.1f}"),
        *(percent(r.cycles_per_packet / r.budget_cycles), f"{r.cpu_pps / 1000:.0f}"),
        *(f"{r.maps_per_packet:.4f}", f"{r.unmaps_per_packet:.4f}"),
        *(f"{r.invalidations_per_packet:.4f}", f"{r.iotlb_misses_per_packet:.3f}"),
        *(f"{r.walk_reads_per_packet:.3f}", f"{r.atomics_per_packet:.2f}"),
        *(f"{r.allocator_calls_per_packet:.4f}", f"{r.copies_per_packet:.2f}"),
        *(data_size(r.pinned_bytes), f"{r.pinned_per_claimed:.3g}"),
        *(magnitude(r.exposure_per_packet), f"{r.longest_stale_us:.3g}", f"{r.live_after:,}"),
    )


def _line_table(found: Comparison) -> HtmlTable:
    heads = ("IOMMU", "strategy", *(f"{gbps} Gb/s" for gbps in LINES_GBPS))
    rows = []
    first = next((p.result for p in found.grid if p.result), None)
    line = found.base.traffic.line_gbps
    for point in found.grid:
        if (r := point.result) is not None:
            shares = [percent(share) for _, _, share in budget_lines(r, line)]
            rows.append((r.preset, r.strategy, *shares))
    note = "Share of the cycles between two packets that one takes, by line rate"
    if first is not None:
        budgets = (f"{budget:.1f}" for _, budget, _ in budget_lines(first, line))
        note += f" (budgets: {', '.join(budgets)} cycles)"
    return HtmlTable("The same against faster lines", f"{note}.", heads, tuple(rows), 2)


def _facts(found: Comparison) -> list[tuple[str, str]]:
    base = found.base
    return [
        ("taken", found.created),
        ("scenario", f"{base.name or '-'}: {base.about}"),
        ("packets", f"{base.packets:,}"),
        ("seed", str(base.seed)),
        ("host costs", base.host),
        ("cycles by category", ", ".join(CATEGORIES)),
    ]
