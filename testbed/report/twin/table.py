# SPDX-License-Identifier: MIT
"""The twin's results as tables for a terminal of any width and for a pipe."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from testbed.report.twin.rows import (
    budget_lines,
    data_size,
    magnitude,
    violations_text,
)
from testbed.report.units import MISSING, per_packet, percent
from testbed.sweep.grid import value_at
from testbed.sweep.point import Point
from testbed.twin.host import CATEGORIES
from testbed.twin.result import TwinResult
from testbed.twin.scenario import TwinScenario

_BAR = 40
_COUNTS = (
    "maps",
    "unmaps",
    "invalidations",
    "iotlb_misses",
    "walk_reads",
    "atomics",
    "allocator_calls",
    "copies",
)


def run_parts(scenario: TwinScenario, result: TwinResult) -> list[RenderableType]:
    """All of one run: cycles against the lines, counts, memory, exposure, violations."""
    title = f"\n{result.strategy} under {result.preset}: {scenario.about}"
    return [
        Text(title, style="bold"),
        _facts(scenario, result),
        Text("\nCycles for each packet", style="bold"),
        _cycle_table(result),
        Text("\nThe same work at other line rates", style="bold"),
        _line_table(scenario, result),
        Text("\nFor each packet", style="bold"),
        _count_table(result),
        *_violation_parts(result),
    ]


def _facts(scenario: TwinScenario, result: TwinResult) -> Table:
    table = _table(show_header=False)
    table.add_column()
    table.add_column()
    exposure = ", ".join(
        f"{magnitude(value)} {kind}" for kind, value in result.exposure.items() if value
    )
    limit = min(
        (result.cpu_pps * scenario.driver.queues, "the CPUs"),
        (result.device_pps, "the device"),
        (result.wire_pps, f"the line of {scenario.traffic.line_gbps:g} Gb/s"),
    )[1]
    rows = (
        ("packets", f"{result.packets:,} in {result.seconds * 1e3:.3f} ms of virtual time"),
        ("lost", f"{result.lost:,}"),
        ("packets per second", f"{magnitude(result.pps)}, bounded by {limit}"),
        ("  of one core", magnitude(result.cpu_pps)),
        ("memory pinned", data_size(result.pinned_bytes)),
        ("  per byte claimed", f"{result.pinned_per_claimed:.3g}"),
        ("exposure", f"{magnitude(result.exposure_per_packet)} byte-us a packet"),
        ("", exposure or "nothing was reachable that was not the device's"),
        ("longest stale window", f"{result.longest_stale_us:.3g} us"),
        ("stale at once", f"{result.stale_peak:,} mappings at most"),
        ("after the drivers were gone", f"{result.live_after:,} mappings alive"),
    )
    for row in rows:
        table.add_row(*row)
    return table


def _cycle_table(result: TwinResult) -> Table:
    table = _table()
    table.add_column("what for")
    table.add_column("cycles", justify="right")
    table.add_column("share", justify="right")
    table.add_column("")
    most = max(*result.cycles.values(), 1e-9)
    for name in CATEGORIES:
        cycles = result.cycles[name]
        share = cycles / result.cycles_per_packet if result.cycles_per_packet else 0.0
        bar = "#" * round(_BAR * cycles / most)
        table.add_row(name, f"{cycles:.1f}", percent(share), Text(bar, style="cyan"))
    table.add_section()
    table.add_row("all", f"{result.cycles_per_packet:.1f}", "", "")
    table.add_row("budget", f"{result.budget_cycles:.1f}", "", "")
    return table


def _line_table(scenario: TwinScenario, result: TwinResult) -> Table:
    table = _table()
    for head in ("line\nGb/s", "budget\ncycles", "of it\nused", "cores for\nthe line"):
        table.add_column(head, justify="right")
    for gbps, budget, share in budget_lines(result, scenario.traffic.line_gbps):
        wire = result.wire_pps * gbps / scenario.traffic.line_gbps
        cores = wire / result.cpu_pps if result.cpu_pps else 0.0
        style = "green" if share <= 1 else "yellow"
        used = Text(percent(share), style=style)
        table.add_row(str(gbps), f"{budget:.1f}", used, f"{cores:.2f}")
    return table


def _count_table(result: TwinResult) -> Table:
    table = _table()
    for name in _COUNTS:
        table.add_column(name.replace("_", "\n"), justify="right")
    table.add_row(*(per_packet(getattr(result, f"{name}_per_packet")) for name in _COUNTS))
    return table


def _violation_parts(result: TwinResult) -> list[RenderableType]:
    if not result.violations:
        return [Text("\nNo rule was violated.", style="green")]
    text = Text(f"\nViolated: {violations_text(result)}", style="bold red")
    return [text, *(Text(f"  {line}") for line in result.first_violations)]


def points_table(points: Sequence[Point], varied: Sequence[str] = ()) -> Group:
    """A row for each point, a rule between presets; those that do not apply are listed below."""
    extra = [key for key in varied if key not in ("strategy", "preset")]
    table = _table()
    for name in ("strategy", "IOMMU"):
        table.add_column(name, no_wrap=True)
    for key in extra:
        table.add_column(key.replace(".", ".\n"), justify="right")
    heads = ("cycles", "of the\nbudget", "kpps\na core", "maps", "unmaps", "inval.")
    more = ("IOTLB\nmisses", "atomics", "copies", "pinned", "exposure\nbyte-us")
    for head in (*heads, *more, "longest\nstale us", "violations"):
        table.add_column(head, justify="right", no_wrap=True)
    last = None
    for point in points:
        if point.result is None:
            continue
        if last not in (None, point.scenario.preset):
            table.add_section()
        last = point.scenario.preset
        cells = [str(value_at(point.scenario, key)) for key in extra]
        table.add_row(point.scenario.strategy, last, *cells, *_cells(point.result))
    return Group(table, *_left_out(points, varied))


def _cells(result: TwinResult) -> list[str | Text]:
    share = result.cycles_per_packet / result.budget_cycles
    exposed = magnitude(result.exposure_per_packet)
    broken = violations_text(result)
    return [
        f"{result.cycles_per_packet:.1f}",
        Text(percent(share), style="green" if share <= 1 else "yellow"),
        f"{result.cpu_pps / 1000:.0f}",
        f"{result.maps_per_packet:.4f}",
        f"{result.unmaps_per_packet:.4f}",
        f"{result.invalidations_per_packet:.4f}",
        f"{result.iotlb_misses_per_packet:.3f}",
        f"{result.atomics_per_packet:.2f}",
        f"{result.copies_per_packet:.2f}",
        data_size(result.pinned_bytes),
        Text(exposed, style="green" if exposed == "0" else "yellow"),
        f"{result.longest_stale_us:.3g}" if result.longest_stale_us else MISSING,
        Text(broken, style="bold red") if result.violations else Text(broken),
    ]


def _left_out(points: Sequence[Point], varied: Sequence[str]) -> list[Text]:
    lines = []
    for point in points:
        where = ", ".join(str(value_at(point.scenario, key)) for key in varied)
        if point.not_applicable is not None:
            lines.append(Text(f"not applicable: {point.not_applicable}", style="dim"))
        elif point.failure is not None:
            what = f"failed: {where or point.scenario.strategy}: {point.failure}"
            lines.append(Text(what, style="bold red"))
    return lines


def print_parts(parts: Sequence[RenderableType], console: Console) -> None:
    """Prints them, one after the other."""
    for part in parts:
        console.print(part)


def _table(show_header: bool = True) -> Table:
    return Table(
        box=box.SIMPLE_HEAD if show_header else None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
        show_header=show_header,
    )
