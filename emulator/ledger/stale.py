# SPDX-License-Identifier: MIT
"""Stale windows: from the moment a page was given up until its mapping is gone.

The moment is the guest's ``released`` mark, or better its own time for the page
(``guest_unmapped``), which may be told before or after the mapping went.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from emulator.iommu.mapping import PAGE_SHIFT, Mapping
from emulator.ledger.live import LiveSet

RECENT_MAX = 1 << 17


@dataclass
class Windows:
    """Stale windows of one device.

    histogram: k -> windows of less than 2^k ns and at least 2^(k-1). unmatched: times told by the
    guest for which no mapping was known. prompt: mappings that were gone when the guest said so, or
    so soon afterwards that it may be the clocks' doing.
    """

    count: int = 0
    longest_ns: int = 0
    total_ns: int = 0
    unmatched: int = 0
    histogram: Counter[int] = field(default_factory=Counter)
    prompt: int = 0

    def add(self, window_ns: int) -> None:
        """Counts one window; a negative one (clocks that differ) counts as 0."""
        window_ns = max(window_ns, 0)
        self.count += 1
        self.total_ns += window_ns
        self.longest_ns = max(self.longest_ns, window_ns)
        self.histogram[window_ns.bit_length()] += 1

    def take_back(self, window_ns: int) -> None:
        """Forgets a window that is going to be added again with a better beginning."""
        self.count -= 1
        self.total_ns -= window_ns
        self.histogram[window_ns.bit_length()] -= 1


Gone = tuple[Mapping, int, int | None]
"""A mapping, when it went, and since when it was counted as stale (None: it was not)."""
Ended = Callable[[Mapping, int, int], None]
"""(mapping, since, until) of a window that began by the guest's own unmap, in ns."""


class StaleTracker:
    """Finds the stale windows of one device; ``windows`` holds those that have ended.

    ``slack_ns``: how far the guest's times may be off. missed: mappings that went without a word of
    the guest's, more than can be kept: whoever reads it takes them for a gap of the trace.
    """

    def __init__(self, live: LiveSet, ended: Ended | None = None, slack_ns: int = 0) -> None:
        self.windows = Windows()
        self.slack_ns = slack_ns
        self.missed = 0
        self._live = live
        self._ended = ended
        self._since: dict[int, int] = {}
        self._own: set[int] = set()
        self._fresh: deque[Gone] = deque(maxlen=RECENT_MAX)
        self._recent: dict[int, list[Gone]] = {}
        self._recent_count = 0

    @property
    def open_since(self) -> dict[int, int]:
        """Generation -> ns since when it is stale, of mappings that are still alive."""
        return self._since

    def restart(self) -> None:
        """Counts from here on only: windows that are open have been reported as such."""
        self.windows = Windows()
        self._since.clear()
        self._own.clear()

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
            if mapping.generation not in self._own:
                self._fresh.append((mapping, now_ns, begin_ns))
            if begin_ns is not None:
                self._end(mapping, begin_ns, now_ns)

    def _end(self, mapping: Mapping, since_ns: int, until_ns: int) -> None:
        own = mapping.generation in self._own
        self._own.discard(mapping.generation)
        if own and until_ns - since_ns <= self.slack_ns:
            self.windows.prompt += 1
            return
        self.windows.add(until_ns - since_ns)
        if own and self._ended is not None:
            self._ended(mapping, since_ns, until_ns)

    def guest_unmapped(self, guest_ns: int, iova: int, size: int) -> None:
        """The guest gave the range up at ``guest_ns``, on the clock of the ledger.

        Each page's unmaps are paired with its mappings in order, oldest first, since the clocks
        agree only within ``slack_ns`` and an IOVA is reused at once.
        """
        self._index()
        page, last = iova >> PAGE_SHIFT, (iova + size - 1) >> PAGE_SHIFT
        found = False
        while page <= last:
            mapping = self._give_up(page, guest_ns)
            found |= mapping is not None
            # A mapping is paired once, at its first page that was given up.
            page = page + 1 if mapping is None else mapping.end >> PAGE_SHIFT
        self.windows.unmatched += not found

    def _give_up(self, page: int, guest_ns: int) -> Mapping | None:
        """The mapping that the page is paired with, if there is one."""
        latest_ns = guest_ns + self.slack_ns
        gone = self._recent.get(page, ())
        entry = next((entry for entry in gone if entry[0].mapped_ns <= latest_ns), None)
        if entry is not None:
            self._pair(page, entry)
            self._gone_before_told(*entry, guest_ns)
            return entry[0]
        mapping = self._live.owners.get(page)
        if mapping is None or mapping.mapped_ns > latest_ns or mapping.generation in self._own:
            return None
        since_ns = self._since.get(mapping.generation, guest_ns)
        self._since[mapping.generation] = min(guest_ns, since_ns)
        self._own.add(mapping.generation)
        return mapping

    def _pair(self, page: int, entry: Gone) -> None:
        """``entry`` has met its word, and waits for none any more."""
        waiting = self._recent[page]
        waiting.remove(entry)
        if not waiting:
            del self._recent[page]
        self._recent_count -= 1

    def _gone_before_told(
        self, mapping: Mapping, gone_ns: int, since_ns: int | None, guest_ns: int
    ) -> None:
        if since_ns is not None:
            self.windows.take_back(max(gone_ns - since_ns, 0))
            guest_ns = min(guest_ns, since_ns)
        self._own.add(mapping.generation)
        self._end(mapping, guest_ns, gone_ns)

    def trace_begins(self) -> None:
        """Unmaps of the guest are told from here on: what went before has no pair to come."""
        self._fresh.clear()
        self._recent.clear()
        self._recent_count = 0

    def _index(self) -> None:
        while self._fresh:
            entry = self._fresh.popleft()
            self._recent.setdefault(entry[0].iova >> PAGE_SHIFT, []).append(entry)
            self._recent_count += 1
        if self._recent_count > RECENT_MAX:
            self.missed += self._recent_count
            self.trace_begins()
