# SPDX-License-Identifier: MIT
"""``scatterlist_cache``: sets of pages kept together with the list that describes them.

Whose: Sagi Grimberg, Bart Van Assche, Christoph Hellwig and Chuck Lever, for storage targets and
NFS (thread row T18): their unit is a command, not a packet, so keep whole page sets with their
scatterlist, their mapping and what the driver attached to it, such as a memory key.

How: a set has ``set_pages`` pages, mapped by one call, joined in one IOVA range where the DMA API
can. Its buffers carry the set's number in ``opaques``. A set is whole again when all its buffers
are back; up to ``pool_size`` pages' worth of whole sets are kept, and a command that finds one maps
nothing. The list is as long as the set, not ``SCSI_MAX_SG_SEGMENTS`` entries for every command.

Where it breaks: one buffer that is held keeps its whole set from use; commands of other sizes waste
the rest of a set; the data of one command stays in reach of the device while the next is served.
Without an IOMMU, or with a DMA API that cannot join, it is a map per page.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pool.buffers import PAGE_SIZE, BufferBatch, PfnArray
from pool.guarantees import Guarantees
from pool.interface import Context, DmaApi, PageAllocator, PoolConfig, PoolCounters
from pool.kept import KeptPages
from pool.ports import ScatterDma

SCSI_MAX_SG_SEGMENTS = 128
"""include/scsi/scsi.h of 2016: entries a command's first scatterlist chunk is allocated with."""
SCATTERLIST_BYTES = 32
"""sizeof(struct scatterlist) on x86-64."""
SET_PAGES = 16


@dataclass(slots=True)
class ScatterlistCacheCounters(PoolCounters):
    """Sets, that is commands."""

    set_hits: int = 0
    """Sets that came mapped from the cache."""
    set_misses: int = 0
    """Sets that had to be allocated and mapped."""


@dataclass(slots=True)
class PageSet:
    """One set. iova: of the joined range, None if each page has its own; away: buffers not home."""

    pfns: PfnArray
    iova: int | None
    serial: int
    away: int = 0


class ScatterlistCache(KeptPages):
    """set_pages: pages of a set."""

    name: ClassVar[str] = "scatterlist_cache"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True)
    counters: ScatterlistCacheCounters

    def __init__(
        self,
        allocator: PageAllocator,
        dma: DmaApi,
        config: PoolConfig,
        *,
        set_pages: int = SET_PAGES,
    ) -> None:
        super().__init__(allocator, dma, config)
        self.counters = ScatterlistCacheCounters()
        self._scatter = dma if isinstance(dma, ScatterDma) else None
        self._set_pages, self._keep = set_pages, max(1, config.pool_size // set_pages)
        self._sets: dict[int, PageSet] = {}
        self._whole: list[PageSet] = []
        self._fresh = np.zeros(0, np.int64)  # of sets that are partly handed out
        self._serial = np.zeros(0, np.int64)  # by frame: number of its set

    @property
    def table_bytes(self) -> int:
        """Bytes of the scatterlists of all sets there are."""
        return len(self._sets) * self._set_pages * SCATTERLIST_BYTES

    @property
    def table_bytes_at_maximum(self) -> int:
        """The same if every set had the list that a SCSI command gets."""
        return len(self._sets) * SCSI_MAX_SG_SEGMENTS * SCATTERLIST_BYTES

    def take(self, n: int) -> BufferBatch:
        """Buffers of whole sets, kept ones first; what is left of a set is next."""
        self._check_open()
        parts = [self._fresh]
        missing = n - len(self._fresh)
        while missing > 0 and (page_set := self._next_set()):
            page_set.away = self._set_pages
            parts.append(page_set.pfns)
            missing -= self._set_pages
        pfns = np.concatenate(parts)
        pfns, self._fresh = pfns[:n], pfns[n:]
        opaques = self._serial[pfns].astype(np.uint64)
        return replace(self._lend(pfns), opaques=opaques)

    def give(self, batch: BufferBatch, context: Context) -> None:
        """Sets that are whole again are kept, a lock each, or unmapped and freed."""
        del context
        self._pages.take_back(batch)
        self.counters.given += len(batch)
        if not self._closing:
            self._sync_for_device(batch.pfns)
        self._home(batch.pfns)

    def close(self) -> int:
        """Ends the sets that are whole. See :meth:`BufferPool.close`."""
        self._closing = True
        pfns, self._fresh = self._fresh, self._fresh[:0]
        self._home(pfns)
        while self._whole:
            self._end(self._whole.pop())
        return self.counters.inflight

    def _next_set(self) -> PageSet | None:
        if self._whole:
            self.counters.set_hits += 1
            self.counters.atomics += 1
            return self._whole.pop()
        return self._build()

    def _build(self) -> PageSet | None:
        """A new set, mapped; None if memory or address space is short."""
        self.counters.bulk_calls += 1
        pfns = self._allocator.alloc_pages(self._set_pages)
        if len(pfns) < self._set_pages:
            self._allocator.free_pages(pfns)
            return None
        mapped = self._map_set(pfns)
        if mapped is None:
            return None
        iova, iovas = mapped
        self.counters.set_misses += 1
        self.counters.allocations += len(pfns)
        self._pages.set_iovas(pfns, iovas)
        page_set = PageSet(pfns, iova, self.counters.set_misses)
        self._sets[page_set.serial] = page_set
        more = int(pfns.max()) + 1 - len(self._serial)
        if more > 0:
            self._serial = np.append(self._serial, np.zeros(more + len(self._serial), np.int64))
        self._serial[pfns] = page_set.serial
        self._sync_for_device(pfns)
        return page_set

    def _map_set(self, pfns: PfnArray) -> tuple[int | None, NDArray[np.uint64]] | None:
        """Range and addresses; None if refused, and then the pages are freed."""
        if self._scatter is None:
            kept, iovas = self._map(pfns)
            if len(kept) == len(pfns):
                return None, iovas
            self._unmap_iovas(iovas)
            self._allocator.free_pages(kept)
            return None
        iova = self._scatter.map_scattered(pfns, self._config.direction)
        if iova is None:
            self.counters.map_errors += 1
            self._allocator.free_pages(pfns)
            return None
        self.counters.maps += 1
        self.counters.mapped_pages += len(pfns)
        return iova, (np.arange(len(pfns)) * PAGE_SIZE + iova).astype(np.uint64)

    def _home(self, pfns: PfnArray) -> None:
        """Counts buffers home; sets that are whole are kept or ended."""
        serials, counts = np.unique(self._serial[pfns], return_counts=True)
        for serial, count in zip(serials.tolist(), counts.tolist(), strict=True):
            page_set = self._sets[serial]
            page_set.away -= count
            if page_set.away:
                continue
            self.counters.atomics += 1
            if self._closing or len(self._whole) >= self._keep:
                self._end(page_set)
            else:
                self.counters.recycled_ring += self._set_pages
                self._whole.append(page_set)

    def _end(self, page_set: PageSet) -> None:
        del self._sets[page_set.serial]
        iovas = self._pages.forget_iovas(page_set.pfns)
        if page_set.iova is None or self._scatter is None:
            self._unmap_iovas(iovas)
        else:
            self._scatter.unmap_scattered(page_set.iova, len(page_set.pfns))
            self.counters.unmaps += 1
            self.counters.unmapped_pages += len(page_set.pfns)
        self._free(page_set.pfns)
