# SPDX-License-Identifier: MIT
"""What a count found: one row per strategy, IOMMU and fate of the packets; JSON by strict_json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from testbed import strict_json
from testbed.scenario import RX_MODES, Iommu, RxMode

Mode = RxMode
Fate = Literal["drop", "deliver", "forward"]

MODES: tuple[Mode, ...] = RX_MODES
FATES: tuple[Fate, ...] = get_args(Fate)


@dataclass(frozen=True, slots=True)
class PartCount:
    """A part of the kernel: instructions and atomic instructions per packet."""

    part: str
    instructions: float
    atomics: float


@dataclass(frozen=True, slots=True)
class CountRow:
    """One cell. Everything is per packet but packets, polls and interrupts.

    maps, unmaps: calls of the DMA API that make or end a mapping, whatever its length, those for
    transmission included. allocations, frees: calls of the page allocator, of any order.
    device_maps, device_unmaps: pages, as the device saw them go by; 0 without an IOMMU.
    interrupts: taken between marks, and left out.
    """

    mode: Mode
    iommu: Iommu
    fate: Fate
    packets: int
    polls: int
    interrupts: int
    instructions: float
    atomics: float
    loads: float
    stores: float
    maps: float
    unmaps: float
    allocations: float
    frees: float
    device_maps: float
    device_unmaps: float
    parts: tuple[PartCount, ...]

    def part(self, name: str) -> PartCount:
        """The part of that name; zeros if nothing of it ran."""
        found = (part for part in self.parts if part.part == name)
        return next(found, PartCount(name, 0.0, 0.0))

    @property
    def buffer_atomics(self) -> float:
        """Those on references to pages and in the pool, without locks of the stack or allocator."""
        return sum(self.part(name).atomics for name in ("driver", "page_pool", "page allocator"))


@dataclass(frozen=True, slots=True)
class TwinRow:
    """What the twin counts in a cell, per packet: see :mod:`testbed.count.twin`.

    maps, unmaps: ranges of addresses that begin and end. allocations, frees: calls of the page
    allocator. atomics: on references to pages and in the strategy's own stores.
    """

    mode: Mode
    iommu: Iommu
    fate: Fate
    maps: float
    unmaps: float
    allocations: float
    frees: float
    atomics: float


@dataclass(frozen=True, slots=True)
class CountResult:
    """A whole run; rows in the order they were counted."""

    created: str
    command: str
    kernel_release: str
    qemu_version: str
    cpus: int
    frame_bytes: int
    rows: tuple[CountRow, ...]
    twin: tuple[TwinRow, ...]

    def row(self, mode: Mode, iommu: Iommu, fate: Fate) -> CountRow | None:
        """The row of that cell, if it was counted."""
        key = (mode, iommu, fate)
        return next((row for row in self.rows if (row.mode, row.iommu, row.fate) == key), None)

    def twin_row(self, row: CountRow) -> TwinRow | None:
        """What the twin counts where ``row`` was counted."""
        key = (row.mode, row.iommu, row.fate)
        return next((twin for twin in self.twin if (twin.mode, twin.iommu, twin.fate) == key), None)

    def to_json(self) -> str:
        """Indented JSON (ResultsError if a field holds what it must not)."""
        return strict_json.to_json(self)
