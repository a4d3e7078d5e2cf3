# SPDX-License-Identifier: MIT
"""The tables of a count: a block per IOMMU, strategies down, fates across; and the claims."""

from __future__ import annotations

import io

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from testbed.count.against import QUANTITIES, REASONS, UNEXPLAINED, cell, compare
from testbed.count.claims import Judgement, claims
from testbed.count.results import FATES, CountResult, CountRow
from testbed.report.table import PIPE_WIDTH, report_console
from testbed.report.units import MISSING
from testbed.scenario import Iommu

_FATE = {
    "drop": "dropped by the driver",
    "deliver": "delivered to the stack",
    "forward": "forwarded",
}
_STYLE: dict[Judgement, str] = {"holds": "green", "in part": "yellow", "does not hold": "red"}
_COLUMNS = 4


def print_count(result: CountResult, console: Console | None = None) -> None:
    """Prints all tables."""
    console = console or report_console()
    for part in count_parts(result):
        console.print(part)


def count_parts(result: CountResult) -> list[RenderableType]:
    """What :func:`print_count` prints, part by part."""
    parts: list[RenderableType] = []
    for iommu in dict.fromkeys(row.iommu for row in result.rows):
        parts += [Text(f"\nPer packet, {iommu}", style="bold"), iommu_table(result, iommu)]
    parts.append(
        Text(
            f"frames of {result.frame_bytes} B, {result.cpus} CPUs, Linux {result.kernel_release};"
            " instr: instructions; at: atomic ones; map+un: DMA API maps + unmaps, transmission"
            " included; alloc: page allocator calls",
            style="dim",
        )
    )
    if result.twin:
        title = "\nPer packet, the twin: where the guest counts something else, both, and why"
        parts += [Text(title, style="bold"), twin_table(result), *_reasons(result)]
    return [*parts, Text("\nClaims of 2016", style="bold"), claims_table(result)]


def iommu_table(result: CountResult, iommu: Iommu) -> Table:
    """Strategies down, fates across."""
    rows = [row for row in result.rows if row.iommu == iommu]
    fates = [fate for fate in FATES if any(row.fate == fate for row in rows)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("strategy", no_wrap=True)
    for fate in fates:
        first, *rest = ("instr", "at", "map+un", "alloc")
        table.add_column(f"{_FATE[fate]}\n{first}", justify="right")
        for name in rest:
            table.add_column(f"\n{name}", justify="right", no_wrap=True)
    for mode in dict.fromkeys(row.mode for row in rows):
        cells: list[str] = []
        for fate in fates:
            cells += _cells(result.row(mode, iommu, fate))
        table.add_row(mode, *cells)
    return table


def _cells(row: CountRow | None) -> list[str]:
    if row is None:
        return [MISSING] * _COLUMNS
    return [
        f"{row.instructions:.0f}",
        f"{row.atomics:.2f}",
        f"{row.maps + row.unmaps:.2f}",
        f"{row.allocations:.2f}",
    ]


def twin_table(result: CountResult) -> Table:
    """Fates and strategies down, quantities across: one number where twin and guest agree."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in ("packets", "strategy"):
        table.add_column(name, no_wrap=True)
    for name in QUANTITIES:
        table.add_column(name, justify="right", no_wrap=True)
    for each in compare(result):
        cells = (cell(each.pairs[name]) for name in QUANTITIES)
        table.add_row(each.fate, each.mode, *cells)
    return table


def _reasons(result: CountResult) -> list[Text]:
    used = {key for each in compare(result) for key in each.reasons}
    lines = [f"{reason.key}: {reason.text}" for reason in REASONS if reason.key in used]
    if UNEXPLAINED in used:
        lines.append(f"{UNEXPLAINED}: not explained: the twin, the driver or this list is wrong")
    return [Text(line, style="dim") for line in lines]


def claims_table(result: CountResult) -> Table:
    """Number, who, what was claimed, what was counted, and the verdict."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("", no_wrap=True)
    for name in ("who", "claim", "counted, per packet"):
        table.add_column(name, overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for claim in claims(result):
        verdict = Text(claim.judgement, style=_STYLE[claim.judgement])
        table.add_row(claim.number, claim.who, claim.claim, claim.counted, verdict)
    return table


def count_text(result: CountResult) -> str:
    """The tables as plain text, without trailing blanks."""
    text = io.StringIO()
    print_count(result, report_console(text, PIPE_WIDTH))
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().strip("\n").split("\n"))
