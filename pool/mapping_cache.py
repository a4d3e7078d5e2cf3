# SPDX-License-Identifier: MIT
"""``mapping_cache``: unmapped pages stay mapped for a while, in case they are mapped again.

Whose: Matthew Wilcox (thread row T7): not a recycler of pages but a cache of recent mappings, below
the DMA API, so that every driver gains without a change.

How: the driver allocates, maps, unmaps and frees per packet. :class:`MappingCache` keeps the last
``capacity`` mappings that were unmapped; the page allocator likes to hand out what was freed last,
so the next map is often of a page whose old mapping is still there: a hit costs no page-table
update and no invalidation. The least recently unmapped are ended when there are more.

Where it breaks: that is the security of the IOMMU that is traded. A page in the cache was
unmapped and freed, may be anybody's by now, and the device still reaches it: see
:meth:`MappingCache.stale_pages` and the counter ``stale_peak``. The window has no end in time,
only one in number. The hit ratio falls with the distance between free and reuse.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from pool.buffers import NO_IOVA, IovaArray, PfnArray
from pool.guarantees import Guarantees
from pool.interface import Direction, DmaApi, PageAllocator, PoolConfig, PoolCounters
from pool.map_per_packet import MapPerPacket

QUEUE_SLACK = 4096
"""Outdated entries the queue of idle mappings may hold beyond those that count."""


class MappingCache:
    """Keeps up to ``capacity`` idle mappings of one device; order-0 pages, one direction.

    hits, misses: maps served from the cache and not; evictions: idle mappings ended;
    stale_peak: most idle mappings at one time.
    """

    def __init__(self, dma: DmaApi, capacity: int, direction: Direction) -> None:
        self._dma, self._capacity, self._direction = dma, capacity, direction
        self._iova = np.zeros(0, np.uint64)
        self._stamp = np.zeros(0, np.int64)  # when it became idle; 0: it is not
        self._queue = np.zeros((2, 0), np.int64)  # frames and stamps, oldest first
        self._now = self._idle = 0
        self.hits = self.misses = self.evictions = self.stale_peak = 0

    def stale_pages(self) -> PfnArray:
        """int64[m]: frames that were unmapped by the driver and are still mapped, ascending."""
        return np.flatnonzero(self._stamp)

    def map_pages(self, pfns: PfnArray) -> IovaArray:
        """uint64[n]: as :meth:`DmaApi.map_pages`, from the cache where it can."""
        self._reach(pfns)
        hit = self._stamp[pfns] > 0
        self._stamp[pfns[hit]] = 0
        found = int(np.count_nonzero(hit))
        self._idle -= found
        self.hits += found
        if found < len(pfns):
            missing = pfns[~hit]
            self._iova[missing] = self._dma.map_pages(missing, self._direction)
            self.misses += len(missing)
        return self._iova[pfns]

    def unmap_pages(self, pfns: PfnArray) -> int:
        """The driver's unmap: the mappings become idle. Returns how many others were ended."""
        stamps = np.arange(self._now + 1, self._now + 1 + len(pfns))
        self._now += len(pfns)
        self._stamp[pfns] = stamps
        self._queue = np.hstack((self._queue, np.stack((pfns, stamps))))
        self._idle += len(pfns)
        ended = self._evict(self._idle - self._capacity)
        self.evictions += ended
        self.stale_peak = max(self.stale_peak, self._idle)
        if self._queue.shape[1] > 2 * self._capacity + QUEUE_SLACK:
            self._queue = self._queue[:, self._current()]
        return ended

    def flush(self) -> int:
        """Ends every idle mapping: what removing the device does. Returns how many."""
        return self._evict(self._idle)

    def _evict(self, count: int) -> int:
        if count <= 0:
            return 0
        rows = np.flatnonzero(self._current())[:count]
        pfns = self._queue[0, rows]
        self._queue = self._queue[:, rows[-1] + 1 :]
        self._dma.unmap_pages(self._iova[pfns])
        self._stamp[pfns] = 0
        self._idle -= count
        return count

    def _current(self) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """bool[m]: the queue's entry speaks of a mapping that has been idle since."""
        pfns, stamps = self._queue
        current: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = self._stamp[pfns] == stamps
        return current

    def _reach(self, pfns: PfnArray) -> None:
        need = int(pfns.max(initial=-1)) + 1
        have = len(self._stamp)
        if need > have:
            more = max(need, 2 * have) - have
            self._iova = np.append(self._iova, np.full(more, NO_IOVA, np.uint64))
            self._stamp = np.append(self._stamp, np.zeros(more, np.int64))


@dataclass(slots=True)
class MappingCacheCounters(PoolCounters):
    """``maps`` and ``unmaps`` are those that reached the IOMMU; the driver's calls are here."""

    hits: int = 0
    """Maps that found their page still mapped."""
    evictions: int = 0
    """Idle mappings of the cache ended to make room, by whichever pool."""
    stale_peak: int = 0
    """Most pages of the cache at one time that the device reached after their unmap."""

    @property
    def hit_ratio(self) -> float:
        """Share of the driver's maps that cost nothing; 0 before the first."""
        calls = self.hits + self.maps + self.map_errors
        return self.hits / calls if calls else 0.0


class MappingCachePool(MapPerPacket):
    """``map_per_packet`` above a cache of ``pool_size`` mappings.

    cache: of the device, shared by its queues, flushed by its owner; without one the pool makes
    its own, and flushes it when nothing is out any more.
    """

    name: ClassVar[str] = "mapping_cache"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True, mapped_when_free=True)
    counters: MappingCacheCounters

    def __init__(
        self,
        allocator: PageAllocator,
        dma: DmaApi,
        config: PoolConfig,
        *,
        cache: MappingCache | None = None,
    ) -> None:
        super().__init__(allocator, dma, config)
        self.counters = MappingCacheCounters()
        self.cache = cache or MappingCache(dma, config.pool_size, config.direction)
        self._shared = cache is not None
        self.guarantees = replace(self.guarantees, mapped_after_close=self._shared)

    def close(self) -> int:
        """Flushes the pool's own cache. See :meth:`BufferPool.close`."""
        super().close()
        if not self._shared:
            self._count_ended(self.cache.flush())
        return self.counters.inflight

    def _map(self, pfns: PfnArray, order: int = 0) -> tuple[PfnArray, IovaArray]:
        """Through the cache."""
        counters, hits = self.counters, self.cache.hits
        iovas = self.cache.map_pages(pfns)
        mapped = iovas != np.uint64(NO_IOVA)
        refused = pfns[~mapped]
        hits = self.cache.hits - hits
        counters.hits += hits
        counters.maps += len(pfns) - len(refused) - hits
        counters.mapped_pages += len(pfns) - len(refused) - hits
        counters.map_errors += len(refused)
        if len(refused):
            self._allocator.free_pages(refused)
        return pfns[mapped], iovas[mapped]

    def _unmap(self, pfns: PfnArray) -> None:
        """To the driver it is an unmap; to the device nothing changes."""
        live = pfns[self._pages.iovas(pfns) != np.uint64(NO_IOVA)]
        self._pages.forget_iovas(live)
        ended = self.cache.unmap_pages(live)
        if self._closing and not self._shared:
            ended += self.cache.flush()
        self.counters.evictions = self.cache.evictions
        self._count_ended(ended)
        self.counters.stale_peak = self.cache.stale_peak

    def _count_ended(self, ended: int) -> None:
        self.counters.unmaps += ended
        self.counters.unmapped_pages += ended
