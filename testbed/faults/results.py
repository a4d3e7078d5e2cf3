# SPDX-License-Identifier: MIT
"""What came of a fault on a rung, and the matrix of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emulator.faults.fault import Outcome
from testbed.report.units import duration


@dataclass(frozen=True, slots=True)
class FaultResult:
    """One cell.

    number, name: of the fault. rung: where it was played; iommu: behind which IOMMU, in a guest.
    expected: outcomes that are right.
    recovered_ms: of RECOVERED, from the fault to the first frame after it (virtual time
    in-process). acts: times it struck. detail: what was seen, one line. trace: its last lines.
    """

    number: str
    name: str
    rung: str
    outcome: Outcome
    expected: frozenset[Outcome]
    recovered_ms: float | None = None
    acts: int = 0
    detail: str = ""
    trace: tuple[str, ...] = ()
    iommu: str = ""

    @property
    def column(self) -> str:
        """Where the matrix shows it: a guest's IOMMU says more than that it is a guest."""
        return self.iommu or self.rung

    @property
    def ok(self) -> bool:
        """Whether it came out as it should."""
        return self.outcome in self.expected

    @property
    def word(self) -> str:
        """As the matrix shows it."""
        if self.outcome is Outcome.RECOVERED and self.recovered_ms is not None:
            return f"recovered in {duration(self.recovered_ms * 1e6)}"
        return self.outcome.value


def matrix(results: Sequence[FaultResult]) -> str:
    """A table: one line a fault, one column a place; ``!`` before what should not be."""
    columns = list(dict.fromkeys(result.column for result in results))
    cells = {(r.name, r.column): r for r in results}
    names = dict.fromkeys((r.number, r.name) for r in results)
    rows = [("X", "fault", *columns)]
    for number, name in sorted(names, key=lambda key: int(key[0].partition("-")[2])):
        rows.append((number, name, *(_cell(cells.get((name, column))) for column in columns)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    bad = [result for result in results if not result.ok]
    lines.append(f"{len(results) - len(bad)} of {len(results)} as expected")
    for result in bad:
        wanted = ", ".join(sorted(outcome.value for outcome in result.expected))
        lines.append(f"! {result.column} {result.name}: {result.word}, expected {wanted}")
        lines.append(f"  {result.detail}")
        lines += [f"  {line}" for line in result.trace[-3:]]
    return "\n".join(lines)


def _cell(result: FaultResult | None) -> str:
    if result is None:
        return "-"
    return ("" if result.ok else "! ") + result.word
