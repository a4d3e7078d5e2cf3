# SPDX-License-Identifier: MIT
"""Predicted and measured counts, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from testbed.predict import Prediction


def prediction_table(rows: Sequence[Prediction]) -> Group:
    """A row for each case, a rule between IOMMUs, then what it comes to."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in ("IOMMU", "strategy"):
        table.add_column(name, no_wrap=True)
    for name in ("frame\nB", "packets", "maps\npredicted", "maps\nmeasured"):
        table.add_column(name, justify="right")
    for name in ("unmaps\npredicted", "unmaps\nmeasured", "live after\npredicted"):
        table.add_column(name, justify="right")
    table.add_column("live after\nmeasured", justify="right")
    table.add_column("")
    last = None
    for row in rows:
        if last not in (None, row.iommu):
            table.add_section()
        last = row.iommu
        table.add_row(*_cells(row))
    return Group(table, *_summary(rows))


def _cells(row: Prediction) -> list[str | Text]:
    live = f"{row.live}"
    if row.lazy:
        live = f"{row.live_low} to {row.live_high}"
    word, style = ("equal", "green") if row.agrees else ("DIFFERENT", "bold red")
    if row.lazy and row.agrees:
        word = "in range"
    return [
        row.iommu,
        row.strategy,
        str(row.frame_bytes),
        f"{row.packets:,}",
        f"{row.maps:,}",
        f"{row.maps_measured:,}",
        f"{row.unmaps:,}",
        f"{row.unmaps_measured:,}",
        live,
        f"{row.live_measured:,}",
        Text(word, style=style),
    ]


def _summary(rows: Sequence[Prediction]) -> list[RenderableType]:
    exact = [row for row in rows if not row.lazy]
    equal = sum(row.agrees for row in exact)
    style = "green" if equal == len(exact) else "bold red"
    parts: list[RenderableType] = [
        Text(f"{equal} of {len(exact)} cases without lazy unmapping are equal to the last count.")
    ]
    parts[0] = Text(str(parts[0]), style=style)
    if any(row.lazy for row in rows):
        most = max(row.live_high for row in rows if row.lazy)
        parts.append(
            Text(
                "Lazy: maps and unmaps of the window must be equal too. How many mappings live on "
                f"when the driver is done is luck of timing: the flush queue holds up to {most}, "
                "and is emptied when it is full or 10 ms after the first came."
            )
        )
    return parts
