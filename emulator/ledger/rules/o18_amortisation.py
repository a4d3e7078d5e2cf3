# SPDX-License-Identifier: MIT
"""O-18: how many maps and unmaps each packet costs. It counts; it never blames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from emulator.iommu.mapping import PAGE_SHIFT, Mapping
from emulator.ledger.rules.base import Commons, Rule
from emulator.ledger.signals import Signal
from emulator.ledger.state import DeviceState
from emulator.ports import RingKind


@dataclass(slots=True)
class Amortisation:
    """Exact counts within a window.

    maps, unmaps: mappings made and removed. map_pages, unmap_pages: their 4 KiB pages.
    unmap_requests: messages; unmaps_by_sweep: mappings removed by a request that covered more
    than one; empty_unmaps: requests that covered none. packets: rx_packets + tx_packets.
    """

    begin_ns: int = 0
    end_ns: int = 0
    maps: int = 0
    unmaps: int = 0
    map_pages: int = 0
    unmap_pages: int = 0
    unmap_requests: int = 0
    unmaps_by_sweep: int = 0
    empty_unmaps: int = 0
    rx_packets: int = 0
    tx_packets: int = 0

    @property
    def packets(self) -> int:
        """Frames received and sent."""
        return self.rx_packets + self.tx_packets

    @property
    def maps_per_packet(self) -> float:
        """Maps for each packet; 0 without packets."""
        return self.maps / self.packets if self.packets else 0.0

    @property
    def unmaps_per_packet(self) -> float:
        """Unmaps for each packet; 0 without packets."""
        return self.unmaps / self.packets if self.packets else 0.0

    def minus(self, earlier: Amortisation, now_ns: int) -> Amortisation:
        """What was counted since the snapshot ``earlier``."""
        return Amortisation(
            earlier.end_ns,
            now_ns,
            *(getattr(self, f.name) - getattr(earlier, f.name) for f in fields(self)[2:]),
        )

    @classmethod
    def total(cls, parts: Sequence[Amortisation]) -> Amortisation:
        """The sum of several devices' counts over the same window."""
        counts = (sum(getattr(part, f.name) for part in parts) for f in fields(cls)[2:])
        begin_ns = min((part.begin_ns for part in parts), default=0)
        return cls(begin_ns, max((part.end_ns for part in parts), default=0), *counts)

    def to_json(self) -> dict[str, Any]:
        """Plain values, the ratios included."""
        return {
            **asdict(self),
            "packets": self.packets,
            "maps_per_packet": self.maps_per_packet,
            "unmaps_per_packet": self.unmaps_per_packet,
        }


class AmortisationRule(Rule):
    """Counts of one device since it joined the ledger, in ``total``."""

    number = "O-18"
    title = "maps and unmaps per packet"
    needs = frozenset({Signal.MAP, Signal.RING})
    speaks = "never; it answers window_end"

    def __init__(self, state: DeviceState, commons: Commons) -> None:
        super().__init__(state, commons)
        self.total = Amortisation()

    def mapped(self, now_ns: int, mapping: Mapping) -> None:
        """Counts a map."""
        self.total.maps += 1
        self.total.map_pages += mapping.size >> PAGE_SHIFT

    def unmap_requested(self, now_ns: int, iova: int, size: int) -> None:
        """Counts a message."""
        self.total.unmap_requests += 1

    def unmapped(self, now_ns: int, mappings: Sequence[Mapping]) -> None:
        """Counts what one request removed."""
        total, count = self.total, len(mappings)
        total.unmaps += count
        if count == 1:
            total.unmap_pages += mappings[0].size >> PAGE_SHIFT
            return
        total.unmap_pages += sum(mapping.size for mapping in mappings) >> PAGE_SHIFT
        total.unmaps_by_sweep += count
        total.empty_unmaps += not count

    def packets(self, now_ns: int, queue: int, kind: RingKind, count: int) -> None:
        """Counts frames."""
        if kind is RingKind.RX_CQ:
            self.total.rx_packets += count
        else:
            self.total.tx_packets += count
