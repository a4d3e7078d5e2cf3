# SPDX-License-Identifier: MIT
"""Our NIC beside QEMU's own, cell by cell: who is best, and by what factor."""

from __future__ import annotations

from dataclasses import dataclass

from testbed.results import BenchRow, RunResult

_POOL = "dmabed page_pool"


@dataclass(frozen=True, slots=True)
class Standing:
    """One frame size behind one IOMMU: our best row and the best of QEMU's NICs."""

    frame_bytes: int
    iommu: str
    ours: BenchRow
    rival: BenchRow

    @property
    def factor(self) -> float:
        """Our rate over theirs."""
        return self.ours.packets_per_second / self.rival.packets_per_second


def bench_cells(run: RunResult) -> list[tuple[int, str]]:
    """(frame_bytes, IOMMU) of the bench rows, each once."""
    return list(dict.fromkeys((row.frame_bytes, row.iommu) for row in run.bench))


def standings(run: RunResult) -> dict[tuple[int, str], Standing]:
    """By cell; those without a rate of both sides are left out."""
    found = {}
    for cell in bench_cells(run):
        rows = [row for row in run.bench if (row.frame_bytes, row.iommu) == cell]
        rows = sorted((r for r in rows if r.packets_per_second), key=lambda r: r.packets_per_second)
        ours = [row for row in rows if row.nic.startswith("dmabed")]
        others = [row for row in rows if not row.nic.startswith("dmabed")]
        if ours and others:
            found[cell] = Standing(*cell, ours[-1], others[-1])
    return found


def kept_of_no_iommu(run: RunResult) -> dict[tuple[int, str], float]:
    """By cell with an IOMMU: the rate of page_pool over its rate without one."""
    pool = {(r.frame_bytes, r.iommu): r.packets_per_second for r in run.bench if r.nic == _POOL}
    return {
        (frame_bytes, iommu): rate / bare
        for (frame_bytes, iommu), rate in pool.items()
        if iommu != "none" and (bare := pool.get((frame_bytes, "none")))
    }
