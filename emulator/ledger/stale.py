# SPDX-License-Identifier: MIT
"""Stale windows: from the moment a page was given up until its mapping is gone.

The moment is the guest's ``released`` mark, or better its own time for the page
(``guest_unmapped``), which may be told before or after the mapping went.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from emulator.iommu.mapping import PAGE_SHIFT, Mapping
from emulator.ledger.live import LiveSet, overlap

RECENT_MAX = 1 << 17


@dataclass
class Windows:
    """Stale windows of one device.

    histogram: k -> windows of less than 2^k ns and at least 2^(k-1). unmatched: times told by the
    guest for which no mapping was known.
    """

    count: int = 0
    longest_ns: int = 0
    total_ns: int = 0
    unmatched: int = 0
    histogram: Counter[int] = field(default_factory=Counter)

    def add(self, window_ns: int) -> None:
        """Counts one window; a negative one (clocks that differ) counts as 0."""
        window_ns = max(window_ns, 0)
        self.count += 1
        self.total_ns += window_ns
        self.longest_ns = max(self.longest_ns, window_ns)
        self.histogram[window_ns.bit_length()] += 1


class StaleTracker:
    """Finds the stale windows of one device; ``windows`` holds those that have ended."""

    def __init__(self, live: LiveSet) -> None:
        self.windows = Windows()
        self._live = live
        self._since: dict[int, int] = {}
        self._fresh: deque[tuple[Mapping, int]] = deque(maxlen=RECENT_MAX)
        self._recent: dict[int, list[tuple[Mapping, int]]] = {}
        self._recent_count = 0

    @property
    def open_since(self) -> dict[int, int]:
        """Generation -> ns since when it is stale, of mappings that are still alive."""
        return self._since

    def restart(self) -> None:
        """Counts from here on only: windows that are open have been reported as such."""
        self.windows = Windows()
        self._since.clear()

    def forget(self) -> None:
        """The client is gone: what is kept of its mappings would keep its memory mapped here."""
        self._fresh.clear()
        self._recent.clear()
        self._recent_count = 0

    def released(self, now_ns: int, baseline: set[int]) -> int:
        """Every live mapping outside the baseline is stale from now on; returns how many."""
        stale = [m for m in self._live.mappings() if m.generation not in baseline]
        for mapping in stale:
            self._since.setdefault(mapping.generation, now_ns)
        return len(stale)

    def unmapped(self, now_ns: int, mappings: Sequence[Mapping]) -> None:
        """Mappings are gone: ends their windows."""
        since = self._since
        for mapping in mappings:
            begin_ns = since.pop(mapping.generation, None) if since else None
            if begin_ns is None:
                self._fresh.append((mapping, now_ns))
            else:
                self.windows.add(now_ns - begin_ns)

    def guest_unmapped(self, guest_ns: int, iova: int, size: int) -> None:
        """The guest gave the range up at ``guest_ns``, on the clock of the ledger."""
        found = False
        for mapping in self._live.within(iova, size):
            if mapping.mapped_ns <= guest_ns:
                self._since.setdefault(mapping.generation, guest_ns)
                found = True
        if not found and not self._match_recent(guest_ns, iova, size):
            self.windows.unmatched += 1

    def _match_recent(self, guest_ns: int, iova: int, size: int) -> bool:
        """Mappings that went before their time was told: their windows have ended already."""
        self._index()
        found = False
        for page in overlap(self._recent, iova, size):
            gone = self._recent[page]
            for entry in gone:
                mapping, gone_ns = entry
                if mapping.mapped_ns <= guest_ns <= gone_ns:
                    self.windows.add(gone_ns - guest_ns)
                    gone.remove(entry)
                    found = True
                    break
        return found

    def _index(self) -> None:
        if self._recent_count > RECENT_MAX:
            self._recent.clear()
            self._recent_count = 0
        while self._fresh:
            entry = self._fresh.popleft()
            self._recent.setdefault(entry[0].iova >> PAGE_SHIFT, []).append(entry)
            self._recent_count += 1
