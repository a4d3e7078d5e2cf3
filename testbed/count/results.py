# SPDX-License-Identifier: MIT
"""What a count found: one row per strategy, IOMMU and fate of the packets; JSON by strict_json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from testbed import strict_json
from testbed.scenario import Iommu

Mode = Literal[
    "page_pool",
    "map_per_packet",
    "array_cache",
    "half_page_flip",
    "order_fallback",
    "order0_recycle",
    "shadow_copy",
    "bulk_map",
]
Fate = Literal["drop", "deliver", "forward"]

MODES: tuple[Mode, ...] = get_args(Mode)
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

    def row(self, mode: Mode, iommu: Iommu, fate: Fate) -> CountRow | None:
        """The row of that cell, if it was counted."""
        key = (mode, iommu, fate)
        return next((row for row in self.rows if (row.mode, row.iommu, row.fate) == key), None)

    def to_json(self) -> str:
        """Indented JSON (ResultsError if a field holds what it must not)."""
        return strict_json.to_json(self)
