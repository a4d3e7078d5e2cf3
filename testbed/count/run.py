# SPDX-License-Identifier: MIT
"""Counts every cell: one guest per IOMMU, all strategies and fates in it."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from testbed.count.dump import Counts
from testbed.count.parts import PARTS, attribute
from testbed.count.results import (
    FATES,
    MODES,
    CountResult,
    CountRow,
    Fate,
    Mode,
    PartCount,
    TwinRow,
)
from testbed.count.session import CPUS, CountingGuest, Sample, counting_guest
from testbed.count.symbols import SymbolTable
from testbed.report.progress import RunProgress
from testbed.scenario import Iommu, frame_length_bytes
from vm.artifacts import Artifacts

#: Lazy and strict by the same IOMMU, so that only this differs; and the one of most servers.
COUNTED_IOMMUS: tuple[Iommu, ...] = ("none", "virtio-lazy", "virtio-strict", "intel-strict")


@dataclass(frozen=True, slots=True)
class CountPlan:
    """What to count; ``bursts`` of 512 frames are averaged for a row."""

    modes: Sequence[Mode] = MODES
    iommus: Sequence[Iommu] = COUNTED_IOMMUS
    fates: Sequence[Fate] = FATES
    bursts: int = 2
    frame_bytes: int = 64

    def __len__(self) -> int:
        """How many rows."""
        return len(self.modes) * len(self.iommus) * len(self.fates)


def row_of(sample: Sample, symbols: SymbolTable, mode: Mode, iommu: Iommu, fate: Fate) -> CountRow:
    """A sample, divided by its packets."""
    packets = sample.packets
    found = attribute(sample.dumps, symbols)
    total = sum((dump.total for dump in sample.dumps), Counts())
    parts = [
        PartCount(name, counts.instructions / packets, counts.atomics / packets)
        for name in PARTS
        if (counts := found.by_part.get(name))
    ]
    return CountRow(
        mode=mode,
        iommu=iommu,
        fate=fate,
        packets=packets,
        polls=sum(dump.polls for dump in sample.dumps),
        interrupts=sum(dump.interrupts for dump in sample.dumps),
        instructions=total.instructions / packets,
        atomics=total.atomics / packets,
        loads=total.loads / packets,
        stores=total.stores / packets,
        **{name: calls / packets for name, calls in found.calls.items()},
        device_maps=sample.device["map_pages"] / packets,
        device_unmaps=sample.device["unmap_pages"] / packets,
        parts=tuple(parts),
    )


async def count(
    artifacts: Artifacts, plan: CountPlan, folder: Path, progress: RunProgress
) -> CountResult:
    """Counts what ``plan`` says; logs and raw counts go to ``folder``.

    Raises:
        TestbedError, VmError: a guest did not do what counting needs.
    """
    twin = asyncio.get_running_loop().run_in_executor(None, _twin_rows, plan)
    rows: list[CountRow] = []
    for iommu in plan.iommus:
        progress.stage(f"boot {iommu}")
        async with counting_guest(artifacts, iommu, folder / iommu) as guest:
            rows += await _rows(guest, plan, iommu, progress)
    return CountResult(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=shlex.join(["dmabed", *sys.argv[1:]]),
        kernel_release=artifacts.kernel.release,
        qemu_version=".".join(map(str, artifacts.qemu.version)),
        cpus=CPUS,
        frame_bytes=plan.frame_bytes,
        rows=tuple(rows),
        twin=await twin,
    )


def _twin_rows(plan: CountPlan) -> tuple[TwinRow, ...]:
    from testbed.count.twin import twin_row  # takes a second, and needs nothing of a guest

    return tuple(
        twin_row(mode, iommu, fate)
        for iommu in plan.iommus
        for mode in plan.modes
        for fate in plan.fates
    )


async def _rows(
    guest: CountingGuest, plan: CountPlan, iommu: Iommu, progress: RunProgress
) -> list[CountRow]:
    rows = []
    symbols = await guest.symbols()
    frame = frame_length_bytes(plan.frame_bytes)
    for mode in plan.modes:
        for fate in plan.fates:
            progress.stage(f"{mode}, {iommu}, {fate}")
            await guest.choose(mode, fate)
            sample = await guest.measure(plan.bursts, frame=frame)
            rows.append(row_of(sample, symbols, mode, iommu, fate))
            progress.done(f"{rows[-1].instructions:.0f} instructions a packet")
    return rows
