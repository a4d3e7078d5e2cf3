# SPDX-License-Identifier: MIT
"""The tables and the verdict of a run, for a terminal of any width and for a pipe.

Wide consoles get one table with every column; narrow ones the same rows grouped under their IOMMU
and frame size, without the ratio. Nothing is cut off.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import IO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from testbed.report.rivals import bench_cells, standings
from testbed.report.units import MISSING, compact, duration, latency, per_packet, ratio
from testbed.report.verdict import Level, curve_pairs, findings, headline
from testbed.results import CaseResult, CurvePoint, RunResult, baseline, rate_ratio

#: Columns of a report that is not written to a terminal.
PIPE_WIDTH = 160

_VERDICT_STYLE = {"clean": "green", "exposed": "yellow", "violated": "bold red"}
_LEVEL_STYLE: dict[Level, str] = {"good": "green", "info": "", "warn": "yellow", "bad": "bold red"}
_STILL_OPEN = "still open"


def report_console(file: IO[str] | None = None, width: int | None = None) -> Console:
    """A console for the report: colours on a terminal only, wide lines elsewhere.

    ``COLUMNS`` and ``NO_COLOR`` in the environment are obeyed, as :mod:`rich` does.
    """
    console = Console(file=file, width=width, highlight=False, emoji=False, markup=False)
    if width is None and not console.is_terminal and "COLUMNS" not in os.environ:
        target = file or sys.stdout
        console = Console(file=target, width=PIPE_WIDTH, highlight=False, emoji=False, markup=False)
    return console


def print_report(run: RunResult, console: Console | None = None) -> None:
    """Prints tables and verdict of ``run``."""
    console = console or report_console()
    for part in report_parts(run, console):
        console.print(part)


def report_parts(run: RunResult, console: Console) -> list[RenderableType]:
    """What :func:`print_report` prints, part by part, laid out for the width of ``console``."""
    parts: list[RenderableType] = []
    if run.cases:
        wide = wide_case_table(run)
        unlimited = console.options.update(max_width=1000)
        fits = Measurement.get(console, unlimited, wide).maximum <= console.width
        parts += [_title("Cases"), wide if fits else narrow_case_table(run), _legend()]
    if run.curve:
        parts += [_title(_curve_title(run)), curve_table(run)]
    for frame_bytes in dict.fromkeys(frame for frame, _ in bench_cells(run)):
        parts += [_title(f"Bench, {frame_bytes} B, kpps"), bench_table(run, frame_bytes)]
    return [*parts, _title("Verdict"), verdict_text(run)]


def stale_cell(case: CaseResult) -> str:
    """The longest stale window: ``-``, ``9.81 ms`` or ``still open > 9.81 ms``."""
    if case.stale_window_ns is None:
        return _STILL_OPEN if case.stale_open else MISSING
    text = duration(case.stale_window_ns)
    return f"{_STILL_OPEN} > {text}" if case.stale_open else text


def wide_case_table(run: RunResult) -> Table:
    """One row per case, every column, a rule between IOMMUs."""
    table = _table()
    for name in ("strategy", "IOMMU"):
        table.add_column(name, no_wrap=True)
    numbers = ("frame\nB", "packets", "maps/\npacket", "unmaps/\npacket", "kpps\nguest clock")
    for name in (
        *numbers,
        "vs pool,\nno IOMMU",
        "map\nus",
        "unmap\nus",
        "live after\nrelease",
        "stale\nat once",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("longest\nstale window", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for index, case in enumerate(run.cases):
        if index and case.iommu != run.cases[index - 1].iommu:
            table.add_section()
        share = rate_ratio(case, baseline(case, run.cases))
        rate = f"{case.packets_per_second / 1000:.2f}"
        table.add_row(
            case.strategy,
            case.iommu,
            str(case.frame_bytes),
            *_count_cells(case),
            rate,
            MISSING if share is None else ratio(share),
            _microseconds(case.map_ns, "{:.2f}".format),
            _microseconds(case.unmap_ns, "{:.2f}".format),
            str(case.live_after_release),
            str(case.stale_at_once),
            stale_cell(case),
            _verdict_cell(case),
        )
    return table


def narrow_case_table(run: RunResult) -> Group:
    """The same rows grouped by IOMMU and frame size; fits 80 columns."""
    names = "strategy,packets,maps/\npkt,unmaps/\npkt,kpps,map\nus,unmap\nus,live\nleft"
    heads = [*names.split(","), "stale\nwindow", "verdict"]
    groups: dict[str, list[list[str | Text]]] = {}
    for case in run.cases:
        rows = groups.setdefault(f"{case.iommu}, {case.frame_bytes} B", [])
        stale = stale_cell(case).removeprefix("still ").removeprefix("open ")
        rate = compact(case.packets_per_second / 1000)
        times = [_microseconds(ns, compact) for ns in (case.map_ns, case.unmap_ns)]
        cells = [case.strategy, *_count_cells(case), rate, *times, str(case.live_after_release)]
        rows.append([*cells, stale, _verdict_cell(case)])
    every: list[Sequence[str | Text]] = [heads, *(row for rows in groups.values() for row in rows)]
    widths = [max(_cell_width(row[i]) for row in every) for i in range(len(heads))]
    parts: list[RenderableType] = [_fixed_table(widths, heads, [])]
    for title, rows in groups.items():
        parts += [Text(title, style="bold"), _fixed_table(widths, None, rows)]
    return Group(*parts)


def curve_table(run: RunResult) -> Table:
    """One row per injected latency; per strategy the rate and its ratio to latency 0."""
    table = _table()
    table.add_column("added to each\nmap and unmap", justify="right", overflow="fold")
    for strategy in ("page_pool", "map_per_packet"):
        table.add_column(f"{strategy}\nkpps", justify="right", overflow="fold")
        table.add_column("of its\nrate at 0", justify="right", overflow="fold")
    table.add_column("page_pool /\nmap_per_packet", justify="right", overflow="fold")
    for us, pool, each in curve_pairs(run):
        quotient = MISSING
        if pool and each and each.packets_per_second:
            quotient = ratio(pool.packets_per_second / each.packets_per_second)
        table.add_row(latency(us), *_curve_cells(pool), *_curve_cells(each), quotient)
    return table


def bench_table(run: RunResult, frame_bytes: int) -> Table:
    """NICs down, IOMMUs across, thousand packets per second."""
    rows = [row for row in run.bench if row.frame_bytes == frame_bytes]
    rates = {(row.nic, row.iommu): row.packets_per_second for row in rows}
    names = list(dict.fromkeys(row.iommu for row in rows))
    table = _table()
    table.add_column("NIC", overflow="fold")
    for name in names:
        table.add_column(name.replace("-", "-\n"), justify="right", overflow="fold")
    for nic in dict.fromkeys(row.nic for row in rows):
        cells = [rates.get((nic, name)) for name in names]
        table.add_row(nic, *(MISSING if c is None else f"{c / 1000:.2f}" for c in cells))
    factors = [standings(run).get((frame_bytes, name)) for name in names]
    table.add_section()
    table.add_row(
        "ours / best of QEMU's", *(MISSING if f is None else ratio(f.factor) for f in factors)
    )
    return table


def verdict_text(run: RunResult) -> Group:
    """The headline, then every finding, wrapped to the console."""
    top = headline(run)
    parts: list[RenderableType] = [Text(top.text, style=f"bold {_LEVEL_STYLE[top.level]}".strip())]
    topic = ""
    for finding in findings(run):
        if finding.topic != topic:
            topic = finding.topic
            parts.append(Text(f"  {topic}", style="bold"))
        parts.append(_indented(Text(finding.text, style=_LEVEL_STYLE[finding.level])))
    parts.extend(_indented(Text(f"note: {note}")) for note in _notes(run))
    return Group(*parts)


def _indented(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 4), expand=False)


def _notes(run: RunResult) -> list[str]:
    return [*run.notes, *(f"{case.case}: {note}" for case in run.cases for note in case.notes)]


def _count_cells(case: CaseResult) -> list[str]:
    counts = (per_packet(case.maps_per_packet), per_packet(case.unmaps_per_packet))
    return [str(case.packets), *counts]


def _curve_cells(point: CurvePoint | None) -> tuple[str, str]:
    if point is None:
        return MISSING, MISSING
    return f"{point.packets_per_second / 1000:.2f}", f"{point.ratio:.3f}"


def _microseconds(ns: float | None, form: Callable[[float], str]) -> str:
    return MISSING if ns is None else form(ns / 1000)


def _verdict_cell(case: CaseResult) -> Text:
    return Text(case.verdict, style=_VERDICT_STYLE[case.verdict])


def _cell_width(cell: str | Text) -> int:
    return max(len(line) for line in str(cell).split("\n"))


def _fixed_table(
    widths: Sequence[int], heads: Sequence[str] | None, rows: Sequence[Sequence[str | Text]]
) -> Table:
    """A table of given column widths, so that several of them line up."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=heads is not None)
    for index, width in enumerate(widths):
        last = index in (0, len(widths) - 1)
        head = heads[index] if heads else ""
        table.add_column(head, width=width, justify="left" if last else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")


def _title(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _legend() -> Text:
    text = "maps and unmaps: the device's view; us: mean, as the guest felt it; "
    return Text(text + "stale window '>': still open when we stopped looking", style="dim")


def _curve_title(run: RunResult) -> str:
    names = list(dict.fromkeys(point.iommu for point in run.curve))
    return f"Latency curve, {', '.join(names)}"
