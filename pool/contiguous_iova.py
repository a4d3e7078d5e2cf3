# SPDX-License-Identifier: MIT
"""``contiguous_iova``: 64 pages of a descriptor in one IOVA range, ended by one invalidation.

Whose: Benny Rubin and others, "Fast & Safe IO Memory Protection" (SOSP 2024): neither recycling nor
deferring, but strict unmapping made cheap by batching what belongs together.

How: a multi-packet receive descriptor has 64 pages. They are allocated in bulk, may lie anywhere in
memory and are mapped one behind the other in one range, so their page-table entries share cache
lines and page-walk caches. When the device is done with the last of them the range is unmapped, and
one invalidation covers it. Pages given back before that wait, so that no page is freed while the
device reaches it.

Where it breaks: the unit of safety is the descriptor: a packet is read while the range is still
mapped unless it is the last (``read_while_mapped``). A slow queue leaves its range mapped, and
its pages pinned, until 64 buffers were filled. It needs a DMA API that joins scattered pages.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pool.buffers import NO_IOVA, PAGE_SIZE, BufferBatch, PfnArray
from pool.guarantees import Guarantees
from pool.interface import Context, DmaApi, PageAllocator, PoolConfig, PoolCounters
from pool.kept import KeptPages
from pool.ports import ScatterDma, missing_port

DESCRIPTOR_PAGES = 64
"""Pages of a descriptor, as in the paper's NIC."""


@dataclass(slots=True)
class ContiguousIovaCounters(PoolCounters):
    """How much the batching leaves open."""

    read_while_mapped: int = 0
    """Buffers that went to the stack while their descriptor's range was still mapped."""
    parked: int = 0
    """Pages given back before their descriptor was done: freed later, with the others."""


class ContiguousIova(KeptPages):
    """Descriptors of one queue.

    Raises:
        MissingPortError: the DMA API cannot join scattered pages.
    """

    name: ClassVar[str] = "contiguous_iova"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True)
    counters: ContiguousIovaCounters

    def __init__(self, allocator: PageAllocator, dma: DmaApi, config: PoolConfig) -> None:
        super().__init__(allocator, dma, config)
        self.counters = ContiguousIovaCounters()
        if not isinstance(dma, ScatterDma):
            raise missing_port(dma, ScatterDma, self.name)
        self._scatter: ScatterDma = dma
        self._fresh = np.zeros(0, np.int64)  # mapped and not handed out yet, in order
        self._base = np.zeros(0, np.int64)  # by frame: first frame of its descriptor
        self._away = np.zeros(0, np.int64)  # by first frame: buffers the device is not done with
        self._ranges: dict[int, tuple[int, int]] = {}  # by first frame: IOVA, pages
        self._parked: dict[int, list[PfnArray]] = {}

    def take(self, n: int) -> BufferBatch:
        """Goes on in the open descriptor, then in new ones."""
        self._check_open()
        while len(self._fresh) < n:
            pfns = self._new_descriptor()
            if not len(pfns):
                break
            self._fresh = np.concatenate((self._fresh, pfns))
        pfns, self._fresh = self._fresh[:n], self._fresh[n:]
        return self._lend(pfns)

    def receive(self, batch: BufferBatch, lengths: NDArray[np.int64]) -> BufferBatch:
        """Syncs for the CPU; ends the ranges of which this was the last."""
        batch = super().receive(batch, lengths)
        self._pages.set_received(batch)
        bases = self._base[batch.pfns]
        self._device_done(batch.pfns)
        mapped = self._away[bases] > 0
        self.counters.read_while_mapped += int(np.count_nonzero(mapped))
        return replace(batch, iovas=np.where(mapped, batch.iovas, np.uint64(NO_IOVA)))

    def give(self, batch: BufferBatch, context: Context) -> None:
        """Frees the pages of descriptors that are done; the others wait for theirs."""
        del context
        received = self._pages.take_back(batch)
        self.counters.given += len(batch)
        self._park(batch.pfns)
        self._device_done(batch.pfns[~received])

    def close(self) -> int:
        """Drops the open descriptor's pages that were never handed out."""
        self._closing = True
        pfns, self._fresh = self._fresh, self._fresh[:0]
        self._park(pfns)
        self._device_done(pfns)
        return self.counters.inflight

    def _new_descriptor(self) -> PfnArray:
        """Up to 64 pages in one range; none if memory or address space is short."""
        self.counters.bulk_calls += 1
        pfns = self._allocator.alloc_pages(DESCRIPTOR_PAGES)
        if not len(pfns):
            return pfns
        iova = self._scatter.map_scattered(pfns, self._config.direction)
        if iova is None:
            self.counters.map_errors += 1
            self._allocator.free_pages(pfns)
            return pfns[:0]
        self.counters.maps += 1
        self.counters.mapped_pages += len(pfns)
        self.counters.allocations += len(pfns)
        self._pages.set_iovas(pfns, (np.arange(len(pfns)) * PAGE_SIZE + iova).astype(np.uint64))
        self._record(pfns, iova)
        self._sync_for_device(pfns)
        return pfns

    def _record(self, pfns: PfnArray, iova: int) -> None:
        need, have = int(pfns.max()) + 1, len(self._base)
        if need > have:
            more = np.zeros(max(need, 2 * have) - have, np.int64)
            self._base, self._away = np.append(self._base, more), np.append(self._away, more)
        first = int(pfns[0])
        self._base[pfns] = first
        self._away[first] = len(pfns)
        self._ranges[first] = (iova, len(pfns))

    def _park(self, pfns: PfnArray) -> None:
        """Frees those whose range has ended, keeps the others until theirs has."""
        bases = self._base[pfns]
        waiting = self._away[bases] > 0
        self._free_some(pfns[~waiting])
        self.counters.parked += int(np.count_nonzero(waiting))
        for first in np.unique(bases[waiting]).tolist():
            self._parked.setdefault(first, []).append(pfns[bases == first])

    def _device_done(self, pfns: PfnArray) -> None:
        """The device will not touch ``pfns`` any more; ranges it is done with end here."""
        bases = self._base[pfns]
        np.subtract.at(self._away, bases, 1)
        for first in np.unique(bases[self._away[bases] == 0]).tolist():
            iova, pages = self._ranges.pop(first)
            self._scatter.unmap_scattered(iova, pages)
            self.counters.unmaps += 1
            self.counters.unmapped_pages += pages
            self._free_some(np.concatenate(self._parked.pop(first, [pfns[:0]])))

    def _free_some(self, pfns: PfnArray) -> None:
        if len(pfns):
            self._pages.forget_iovas(pfns)
            self._free(pfns)
