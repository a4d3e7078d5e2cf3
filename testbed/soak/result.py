# SPDX-License-Identifier: MIT
"""What a soak saw: packets, operations, events, verdict, and what could not be judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.table import Table

from testbed.report.units import duration

#: Events worth a column; the others are in soak.json.
_EVENTS = ("MAP", "UNMAP", "RING_STARTED", "RESET", "GUEST_SAID", "INTERRUPT")


@dataclass(frozen=True, slots=True)
class SoakResult:
    """A soak on one rung, under one IOMMU.

    rx, tx: packets by the device's completions. damaged: frames that arrived other than they were
    sent. late: frames that were looked at again after the stack had had them for a while.
    longest_ns: by operation, in the guest's own time. events: of the ledger, by kind.
    not_judged: rule to what was not judged, and why.
    """

    rung: str
    iommu: str
    seed: int
    rx: int
    tx: int
    legs: int
    operations: dict[str, int]
    late: int
    damaged: int
    longest_ns: dict[str, int]
    events: dict[str, int]
    word: str
    violations: list[str]
    not_judged: dict[str, list[str]]
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """No rule was broken, no frame damaged."""
        return not self.word.startswith("violated") and not self.damaged and not self.notes


def soak_tables(results: Sequence[SoakResult]) -> list[Table]:
    """Packets and verdicts; operations; events: a row for each result in each table."""
    first = _table(
        "IOMMU", "packets in", "out", "legs", "looked at late", "damaged", "time", "verdict"
    )
    for one in results:
        numbers = (f"{one.rx:,}", f"{one.tx:,}", str(one.legs), f"{one.late:,}", str(one.damaged))
        first.add_row(_name(one), *numbers, duration(one.seconds * 1e9), one.word)
    kinds = list(dict.fromkeys(kind for one in results for kind in one.operations))
    second = _table("operations", *kinds)
    third = _table("events", *(kind.lower() for kind in _EVENTS), "all")
    for one in results:
        second.add_row(_name(one), *(str(one.operations.get(kind, 0)) for kind in kinds))
        counts = (f"{one.events.get(kind, 0):,}" for kind in _EVENTS)
        third.add_row(_name(one), *counts, f"{sum(one.events.values()):,}")
    return [first, second, third]


def soak_lines(results: Sequence[SoakResult]) -> list[str]:
    """The longest operations, rules that could not be judged and why, and what was wrong."""
    lines = []
    for one in results:
        took = ", ".join(f"{what} {duration(ns)}" for what, ns in sorted(one.longest_ns.items()))
        lines.append(f"{_name(one)}: longest: {took or 'nothing was timed'}")
        for rule, why in one.not_judged.items():
            lines.append(f"{_name(one)}: not judged: {rule} {'; '.join(why)}")
        lines += [f"{_name(one)}: {text}" for text in (*one.violations, *one.notes)]
    total = sum(one.rx + one.tx for one in results)
    verdict = "no rule was broken" if all(one.ok for one in results) else "NOT CLEAN"
    return [*lines, f"{total:,} packets, {verdict}"]


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _name(one: SoakResult) -> str:
    return one.iommu if one.rung == "vm" else f"{one.rung} {one.iommu}".rstrip()
