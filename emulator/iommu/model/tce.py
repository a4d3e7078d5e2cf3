# SPDX-License-Identifier: MIT
"""Power's translation tables (TCEs), which a guest changes by calls to the hypervisor.

A mapping of one page is one H_PUT_TCE; of more, H_PUT_TCE_INDIRECT with up to 512 entries for each
call. An unmap is H_STUFF_TCE, up to 512 entries; there is no lazy queue, nothing is stale. What
a call costs is published nowhere: the numbers are parameters, to be swept (0.3 to 3 us a call).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.model.contention import SerialServer
from emulator.iommu.model.errors import ModelError

LIST_ENTRIES = 512  # 8-byte entries in the 4 KiB page that carries the list

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TceCosts:
    """ns of each kind of call, and ``entry_ns`` more for each entry of a multi-entry call.

    ``entries_per_call``: 512; 1 makes every entry a call, as before multi-entry calls.
    ``ceiling_per_s``: calls a second that the hypervisor performs for all CPUs together, so
    the ceiling on updates a second where each is a call; 0: CPUs do not limit one another.
    """

    put_ns: int
    indirect_ns: int
    stuff_ns: int
    entry_ns: int
    entries_per_call: int = LIST_ENTRIES
    ceiling_per_s: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.entries_per_call <= LIST_ENTRIES:
            raise ModelError(
                f"{self.entries_per_call} entries per call: the list has 1 to {LIST_ENTRIES}"
            )


@dataclass(slots=True)
class TceCounts:
    """Calls by kind and table entries changed so far."""

    put_calls: int = 0
    indirect_calls: int = 0
    stuff_calls: int = 0
    entries: int = 0

    @property
    def calls(self) -> int:
        """Of all kinds."""
        return self.put_calls + self.indirect_calls + self.stuff_calls


@dataclass(slots=True)
class TceTable:
    """Prices maps and unmaps, in the order they are made. ``hypervisor`` is shared by all CPUs."""

    costs: TceCosts
    hypervisor: SerialServer = field(default_factory=SerialServer)
    counts: TceCounts = field(default_factory=TceCounts)

    def map(self, now_ns: int, pages: Counts) -> int:
        """When a CPU that begins at ``now_ns`` has made maps of ``pages`` (shape (n,)) each."""
        costs = self.costs
        _check(pages)
        several = self._calls(pages[pages > 1])
        single = int(np.count_nonzero(pages == 1))
        entries = int(pages.sum())
        listed = entries - single
        if costs.entries_per_call == 1:
            single, several, listed = entries, 0, 0
        self.counts.put_calls += single
        self.counts.indirect_calls += several
        self.counts.entries += entries
        own_ns = single * costs.put_ns + several * costs.indirect_ns
        return self._spend(now_ns, own_ns, single + several, listed)

    def unmap(self, now_ns: int, pages: Counts) -> int:
        """When a CPU that begins at ``now_ns`` has undone maps of ``pages`` (shape (n,)) each."""
        _check(pages)
        calls = self._calls(pages)
        entries = int(pages.sum())
        self.counts.stuff_calls += calls
        self.counts.entries += entries
        return self._spend(now_ns, calls * self.costs.stuff_ns, calls, entries)

    def _calls(self, pages: Counts) -> int:
        return int((-(-pages // self.costs.entries_per_call)).sum())

    def _spend(self, now_ns: int, calls_ns: int, calls: int, listed: int) -> int:
        """A CPU is done when its own work is done, and the hypervisor's share of it."""
        listed_ns = listed * self.costs.entry_ns
        own_ns = now_ns + calls_ns + listed_ns
        if not self.costs.ceiling_per_s:
            return own_ns
        shared_ns = calls * 1_000_000_000 // self.costs.ceiling_per_s + listed_ns
        return max(own_ns, self.hypervisor.serve_one(now_ns, shared_ns))


def _check(pages: Counts) -> None:
    if pages.size and int(pages.min()) < 1:
        raise ModelError(f"a mapping of {int(pages.min())} pages: must be at least 1")
