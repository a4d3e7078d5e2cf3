# SPDX-License-Identifier: MIT
"""Maps that guest and device both saw, paired: what ties their clocks together."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

from emulator.iommu.mapping import PAGE_SHIFT, Mapping
from emulator.ledger.guest_clock import MapSample
from emulator.ledger.traced import Traced, TraceEvent

PENDING_MAX = 1 << 16


class MapPairs:
    """Pairs by page, in order: the first map of a page there is the first map of it here.

    A map whose other half is missing would shift all later ones of its page, so a trace with a gap
    is not paired further; nor is one that leaves more than :data:`PENDING_MAX` halves alone.
    unmatched: maps of the guest's that the device never saw, or whose page table was not traced.
    """

    def __init__(self) -> None:
        self.unmatched = 0
        self._seen: defaultdict[int, deque[int]] = defaultdict(deque)
        self._seen_count = 0
        self._table: dict[int, int] = {}
        self._paired = True

    def device_mapped(self, now_ns: int, mapping: Mapping) -> None:
        """The device's half."""
        if self._paired:
            self._seen[mapping.iova >> PAGE_SHIFT].append(now_ns)
            self._seen_count += 1
            self._bound()

    def take(self, events: Sequence[TraceEvent]) -> list[MapSample]:
        """The guest's halves of a batch, in order; a sample of each map that has both."""
        if not self._paired:
            return []
        samples = []
        for event in events:
            page = event.iova >> PAGE_SHIFT
            if event.kind is Traced.TABLE:
                self._table[page] = event.time_ns
            elif event.kind in (Traced.MAPPED, Traced.ALLOCATED):
                table_ns, host_ns = self._table.pop(page, None), self._first_seen(page)
                if table_ns is None or host_ns is None:
                    self.unmatched += 1
                else:
                    samples.append(MapSample(table_ns, event.time_ns, host_ns))
        self._bound()
        return samples

    def give_up(self) -> None:
        """Nothing can be paired from here on."""
        self._paired = False
        self._seen.clear()
        self._table.clear()

    def _first_seen(self, page: int) -> int | None:
        waiting = self._seen.get(page)
        if not waiting:
            return None
        self._seen_count -= 1
        first = waiting.popleft()
        if not waiting:
            del self._seen[page]
        return first

    def _bound(self) -> None:
        if max(self._seen_count, len(self._table)) > PENDING_MAX:
            self.give_up()
