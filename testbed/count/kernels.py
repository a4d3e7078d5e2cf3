# SPDX-License-Identifier: MIT
"""The same count on two kernels, side by side: what changed per packet, and in which part."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rich import box
from rich.table import Table

from testbed.count.parts import PARTS
from testbed.count.results import CountResult, CountRow

_SHOWN_PARTS = 3
#: Fewer instructions per packet than that are no change worth a word.
_NOISE = 5.0


@dataclass(frozen=True, slots=True)
class Change:
    """A cell that both kernels counted; parts: instructions more or less, the largest first."""

    old: CountRow
    new: CountRow
    parts: tuple[tuple[str, float], ...]


def release_key(release: str) -> tuple[int, ...]:
    """What releases are ordered by: the numbers in them, 6.1 before 6.12."""
    return tuple(int(number) for number in re.findall(r"\d+", release))


def changes(old: CountResult, new: CountResult) -> Iterator[Change]:
    """Every cell that both results have, in the order of ``new``."""
    for row in new.rows:
        before = old.row(row.mode, row.iommu, row.fate)
        if before is None:
            continue
        moved = [
            (name, row.part(name).instructions - before.part(name).instructions) for name in PARTS
        ]
        worth = [change for change in moved if abs(change[1]) >= _NOISE]
        yield Change(before, row, tuple(sorted(worth, key=lambda change: -abs(change[1]))))


def kernels_table(old: CountResult, new: CountResult) -> Table:
    """One row per cell: figures of the old and the new kernel, and the parts that changed most."""
    table = Table(
        title=f"From {old.kernel_release} to {new.kernel_release}, per packet",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )
    for name in ("strategy", "IOMMU", "fate"):
        table.add_column(name, no_wrap=True)
    for name in ("instructions\nold", "\nnew", "\n%", "atomics\nold", "\nnew"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("instructions more or less in")
    for change in changes(old, new):
        table.add_row(*_cells(change))
    return table


def _cells(change: Change) -> list[str]:
    old, new = change.old, change.new
    parts = ", ".join(f"{name} {delta:+.0f}" for name, delta in change.parts[:_SHOWN_PARTS])
    share = 100 * (new.instructions / old.instructions - 1) if old.instructions else 0.0
    return [
        *(new.mode, new.iommu, new.fate),
        *(f"{old.instructions:.0f}", f"{new.instructions:.0f}", f"{share:+.0f}"),
        *(f"{old.atomics:.2f}", f"{new.atomics:.2f}"),
        parts,
    ]
